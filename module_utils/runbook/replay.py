# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a standby has what its primary committed, and waiting until it does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import inspect
from ansible.module_utils.runbook.session import Session, SqlError, application_name, connect
from ansible.module_utils.runbook.wal import lsn_of, position, replayable

REPLAY_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    "lsn": {"type": "str", "required": True},
    "lag": {"type": "str", "default": "5min"},
    "schema": {"type": "str", "default": "cm"},
    "versions": {"type": "dict", "default": {}},
    "standby": {"type": "str", "required": True},
    "primary": {"type": "str", "required": True},
}

# How often a standby is asked, in seconds: often at first, since most have it at once.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0

_END = """
SELECT pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn,
       pg_catalog.current_setting('wal_block_size')::int
"""

# From PostgreSQL 14 on there is also the state "pause requested", in which replay goes on.
_PAUSED = {True: "pg_catalog.pg_get_wal_replay_pause_state() = 'paused'", False: "pg_catalog.pg_is_wal_replay_paused()"}

_STATE = """
SELECT pg_catalog.pg_is_in_recovery(),
       coalesce(pg_catalog.pg_last_wal_replay_lsn() - '0/0'::pg_catalog.pg_lsn, 0),
       CASE WHEN pg_catalog.pg_is_in_recovery() THEN {paused} ELSE false END,
       EXISTS (SELECT 1 FROM pg_catalog.pg_stat_wal_receiver),
       pg_catalog.to_char(pg_catalog.pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
"""


def end_of_wal(session: Session) -> str:
    """The position that a standby reports when it has replayed all that has been written so far.

    Not the one that was flushed last: that leaves out commits that do not wait for the disk (``synchronous_commit``).
    """
    inserted, page = (int(value) for value in session.query(_END)[0])
    return lsn_of(replayable(inserted, page))


@dataclass(frozen=True)
class Replay:
    """How far a standby is.

    Attributes:
        in_recovery: whether it still is a standby.
        replayed: position it has replayed up to, in bytes.
        paused: whether somebody has paused the replay.
        receiving: whether it has a connection to receive WAL over.
        newest: commit time (UTC) of the newest transaction it has replayed, None when there was none yet.
    """

    in_recovery: bool
    replayed: int
    paused: bool
    receiving: bool
    newest: str | None

    @classmethod
    def of(cls, session: Session) -> Replay:
        """Ask the standby; any user may."""
        paused = _PAUSED[session.server_version >= 140000]
        in_recovery, replayed, *rest = session.query(_STATE.format(paused=paused))[0]
        return cls(in_recovery, int(replayed), *rest)


@dataclass(frozen=True)
class Waited:
    """How waiting for a standby ended.

    Attributes:
        seconds: how long it took.
        lag_bytes: how much WAL was missing in the end; 0 when the standby has it all.
        replay: what the standby said last.
    """

    seconds: float
    lag_bytes: int
    replay: Replay

    def as_result(self) -> dict[str, Any]:
        """JSON-serialisable form for module results."""
        return {
            "seconds": self.seconds,
            "lag_bytes": self.lag_bytes,
            "paused": self.replay.paused,
            "receiving": self.replay.receiving,
        }


@dataclass(frozen=True)
class Pair:
    """A standby and its primary by their inventory names, and the sentences about them."""

    standby: str
    primary: str

    def reached(self, waited: Waited) -> str:
        """Say what is there now, be it all or not."""
        if waited.lag_bytes:
            return f"{self.standby} lags {_size(waited.lag_bytes)} of WAL behind {self.primary}; nobody waited for it."
        return f"{self.standby} has it, too: replayed within {waited.seconds:.1f} s."

    def late(self, waited: Waited) -> RunbookError:
        """Say that time is up."""
        replay = waited.replay
        newest = f"The newest transaction it has is from {replay.newest} UTC. " if replay.newest else ""
        return self._error(
            f"has not replayed it after {waited.seconds:.1f} s (migrate_standby_lag): "
            f"{_size(waited.lag_bytes)} of WAL are missing. {newest}{_obstacle(replay)} To see what holds it up: "
            f"SELECT * FROM pg_stat_replication on {self.primary}, SELECT * FROM pg_stat_wal_receiver on "
            f"{self.standby}, and its log. status.yml shows when it has caught up",
            "standby-lag",
            waited,
        )

    def promoted(self, waited: Waited) -> RunbookError:
        """Say that there is nothing to wait for any more."""
        return self._error(
            f"was promoted before it had replayed it: {_size(waited.lag_bytes)} of WAL are missing there. Find out "
            "which of the two the application uses, and stop the other, before anything else is changed",
            "standby-promoted",
            waited,
        )

    def diverged(self, database: str, version: int | None, found: int | None) -> RunbookError:
        """Say that the standby is as far as that, but somewhere else."""
        return self._error(
            f"does not have it: its ledger of {database} says version {_known(found)}, not {_known(version)}, although "
            "it is as far in its log. It replays another history, as a standby does that was ahead when another one "
            "was promoted. Keep the application off it and make it a standby anew (pg_rewind or pg_basebackup)",
            "standby-diverged",
        )

    def lost(self, reason: str) -> RunbookError:
        """Say that the standby does not answer."""
        return self._error(
            f"could not be asked whether it has it, too. {reason.rstrip('.')}. Bring it back and look with status.yml",
            "standby-lost",
        )

    def unknown_budget(self, error: RunbookError) -> RunbookError:
        """Say that the time to wait makes no sense."""
        return self._error(f"was not waited for. {error.message.rstrip('.')}", error.code)

    def _error(self, what: str, code: str, waited: Waited | None = None) -> RunbookError:
        details = waited.as_result() if waited else {}
        done = f"The change is applied and recorded on {self.primary}, so there is nothing to run again"
        return RunbookError(f"{done}, but standby {self.standby} {what}.", code, **details)


def wait(login: Login, params: Mapping[str, Any]) -> dict[str, Any]:
    """Wait until a standby has replayed the WAL up to a position.

    Parameters:
        params: ``lsn``, the position, from ``end_of_wal`` on the primary; ``lag``, how long it may take, where 0 takes
            one look and takes what it sees for granted; ``versions``, what the ledger in ``schema`` of each database
            has to say then; ``standby`` and ``primary``, the hosts' inventory names.

    Returns:
        the result of the module ``standby_replay``.

    Raises:
        RunbookError: ``standby-lag`` when it takes longer, ``standby-promoted`` when it stopped following before it was
            there, ``standby-diverged`` when its ledger says something else then, ``standby-lost`` when it cannot be
            asked, ``option`` when ``lag`` is no duration.
    """
    pair = Pair(params["standby"], params["primary"])
    try:
        budget = seconds("lag", params)
    except RunbookError as error:
        raise pair.unknown_budget(error) from error
    try:
        with connect(login, application_name("standby")) as session:
            waited = _poll(session, position(params["lsn"]), budget)
        wrong = None if waited.lag_bytes else _unexpected(login, params["schema"], params["versions"])
    except SqlError as error:
        raise pair.lost(error.message) from error
    except RunbookError as error:
        raise pair.lost(error.message) from error
    if waited.lag_bytes and budget:
        raise pair.late(waited) if waited.replay.in_recovery else pair.promoted(waited)
    if wrong:
        raise pair.diverged(*wrong)
    return {**waited.as_result(), "msg": pair.reached(waited)}


def _unexpected(
    login: Login, schema: str, versions: Mapping[str, int | None]
) -> tuple[str, int | None, int | None] | None:
    """The first database whose ledger has another version than it should, with the two versions.

    Positions can be compared within one timeline only (PostgreSQL documentation, "Timelines"). Any user may read the
    ledger; the timeline that a standby follows is not shown to all.
    """
    for database, version in versions.items():
        found = inspect(login.to(database), schema, limit=1, require_primary=False)["version"]
        if found != version:
            return database, version, found
    return None


def _poll(session: Session, wanted: int, budget: float) -> Waited:
    """Ask until the standby is there, is none any more, or time is up."""
    began = time.monotonic()
    pause = _FIRST_PAUSE
    while True:
        replay = Replay.of(session)
        waited = Waited(round(time.monotonic() - began, 3), max(0, wanted - replay.replayed), replay)
        if not waited.lag_bytes or not replay.in_recovery or waited.seconds >= budget:
            return waited
        time.sleep(min(pause, budget - waited.seconds))
        pause = min(pause * 2, _LONGEST_PAUSE)


def _obstacle(replay: Replay) -> str:
    if replay.paused:
        return "Its replay is paused; SELECT pg_wal_replay_resume() there lets it go on."
    if not replay.receiving:
        return "It has no connection to receive WAL over (no WAL receiver)."
    return "It is connected, and its replay is not paused."


def _known(version: int | None) -> str:
    return "none" if version is None else str(version)


def _size(number: int) -> str:
    """A number of bytes as people say it."""
    if number < 10_000:
        return f"{number} bytes"
    return f"{number / 1000:.0f} kB" if number < 10_000_000 else f"{number / 1_000_000:.0f} MB"
