# SPDX-License-Identifier: GPL-3.0-or-later
"""The run lock: at most one run works on a database at a time.

It is an advisory lock on an idle autocommit session in the maintenance database. Three reasons:
the server releases it by itself when the run dies, a session without a snapshot never delays
CREATE INDEX CONCURRENTLY, and a restore can rename the database while the lock is held.
It is polled with pg_try_advisory_lock: a session *waiting* in pg_advisory_lock holds a snapshot,
which deadlocks with the holder's CREATE INDEX CONCURRENTLY (golang-migrate/migrate#960).
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import (
    APPLICATION_PREFIX,
    Session,
    SqlError,
    application_name,
    connect,
    refuse_transaction_pooling,
)

# First half of the two-part advisory key; the second is made of the database's name.
LOCK_CLASS = 0x52554E42  # "RUNB"
POLL_SECONDS = 0.5

AT_WORK = ("migrate", "backup", "restore")
"""The operations whose sessions in a database are only there while its run lock is held."""

_HOLDER = """
SELECT a.pid, a.application_name, a.backend_start::timestamptz(0)::text
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
   AND l.classid = %s::bigint::oid AND l.objid = (%s::bigint & 4294967295)::oid
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""


class RunLock:
    """Held from ``acquire`` until ``session`` ends.

    Parameters:
        session: a session of its own in the maintenance database.
        database: name of the database that is protected.
    """

    def __init__(self, session: Session, database: str) -> None:
        self.session = session
        self.database = database
        self._key = _signed(zlib.crc32(database.encode()))

    def acquire(self, wait_seconds: float) -> None:
        """Take the lock, polling for at most ``wait_seconds``.

        Raises:
            RunbookError: ``locked``, naming the holder.
        """
        deadline = time.monotonic() + wait_seconds
        while not self._try():
            if time.monotonic() >= deadline:
                raise RunbookError(
                    f"Another run is working on database {self.database}: {self._holder()}. "
                    f"Waited {wait_seconds:g} s for it. Let it finish and start this run again.",
                    code="locked",
                )
            time.sleep(POLL_SECONDS)

    def regain(self, wait_seconds: float) -> None:
        """Log in again after the session was ended, and take the lock again.

        Raises:
            SqlError: when the server cannot be reached.
            RunbookError: ``locked`` when another run has it by now.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                self.session.renew()
                break
            except SqlError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_SECONDS)
        self.session.query("SET ROLE NONE")
        self.session.stay()
        self.acquire(wait_seconds)

    def assure(self) -> None:
        """Raise when the session that holds the lock is gone: another run may have started since.

        Raises:
            RunbookError: ``lock-lost``.
        """
        if not self.session.alive:
            raise RunbookError(
                f"The session that holds the run lock of database {self.database} was ended from outside, "
                "so this run stopped before its next change. "
                "Everything recorded so far is complete; start the run again.",
                code="lock-lost",
            )

    def _try(self) -> bool:
        return bool(self.session.query("SELECT pg_catalog.pg_try_advisory_lock(%s, %s)", LOCK_CLASS, self._key)[0][0])

    def _holder(self) -> str:
        rows = self.session.query(_HOLDER, LOCK_CLASS, self._key)
        if not rows:
            return "it ended just now"
        pid, application, since = rows[0]
        return f'pid {pid}, application "{application}", since {since}'


@contextmanager
def held(login: Login, params: Mapping[str, Any], operation: str, requested_by: str = "") -> Iterator[RunLock]:
    """Hold the run lock of a database, with nothing left at work there of runs that died.

    Parameters:
        params: options ``maintenance_db`` and ``run_lock_wait``.
        operation: its verb, such as ``migrate``; whoever finds the lock taken reads it.
        requested_by: who asked for the run, where that is known.

    Raises:
        RunbookError: ``locked``, naming the holder; why the maintenance database cannot be used.
    """
    maintenance = login.to(params["maintenance_db"])
    with _connect(maintenance, application_name(f"lock {operation}", requested_by)) as session:
        refuse_transaction_pooling(session, maintenance)
        session.query("SET ROLE NONE")  # a session role could neither see nor end the user's own sessions
        session.stay()
        lock = RunLock(session, login.database)
        lock.acquire(seconds("run_lock_wait", params))
        end_orphans(lock)
        yield lock


def _connect(maintenance: Login, name: str) -> Session:
    """The session that holds the run lock; the database of the run itself has been reached before."""
    try:
        return connect(maintenance, name)
    except RunbookError as error:
        raise RunbookError(
            f"{error.message} The run lock is held in that database. If {maintenance.user} has no business there, name "
            "another one of the same server in db_maintenance, the same for everybody who works on this database.",
            code=error.code,
        ) from error


def end_orphans(lock: RunLock, operations: Sequence[str] = AT_WORK, patience: float = 5.0) -> list[int]:
    """End sessions that earlier runs left at work; returns the pids that had to be ended.

    The run lock is held and this run not at work yet, so whoever carries a working session's name is the rest of a run
    that died: its server process may still be building an index for it.

    Parameters:
        operations: whose sessions.
        patience: seconds they get to end by themselves.

    Raises:
        RunbookError: ``orphans`` when one of them does not end within a minute of being told to.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + patience
    while True:
        orphans = [
            pid
            for (pid,) in lock.session.query(
                "SELECT pid FROM pg_catalog.pg_stat_activity "
                "WHERE datname = %s AND pg_catalog.split_part(application_name, ' ', 1) = %s "
                "AND pg_catalog.split_part(application_name, ' ', 2) = ANY(%s)",
                lock.database,
                APPLICATION_PREFIX,
                list(operations),
            )
        ]
        if not orphans:
            return sorted(ended)
        if time.monotonic() >= deadline:
            for pid in orphans:
                lock.session.query("SELECT pg_catalog.pg_terminate_backend(%s)", pid)
            ended.update(orphans)
        if time.monotonic() >= deadline + 60:
            raise RunbookError(
                f"Sessions of an earlier run are still at work and do not end: pid {', '.join(map(str, orphans))}. "
                "Look at them in pg_stat_activity; when they are gone, run this again.",
                code="orphans",
            )
        time.sleep(0.1)


def _signed(key: int) -> int:
    return key - 2**32 if key >= 2**31 else key
