# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: what a database is, compared with what its applied files make of an empty one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from ansible.module_utils.runbook import scratch, snapshot
from ansible.module_utils.runbook.bundle import BundleReader
from ansible.module_utils.runbook.comparison import Difference, compare, readable
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.ledger import Ledger, Progress, Row, State
from ansible.module_utils.runbook.session import SqlError, application_name, connect
from ansible.module_utils.runbook.snapshot import Snapshot

if TYPE_CHECKING:  # reading SQL files is the controller's work
    from ansible.module_utils.runbook.migration import Folder, Migration

OPERATION = "drift"

DRIFT_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **scratch.SCRATCH_ARGUMENTS,
    "directory": {"type": "path", "required": True},
    "ignore": {"type": "list", "elements": "str", "default": []},
}

_LOCK_TIMEOUT = "5s"
_STATEMENT_TIMEOUT = "2min"


class Stale(Exception):
    """The ledger is not the one that the files were chosen for: a run has changed it since."""


# --- on the controller ------------------------------------------------------------------------------------------------


def applied_files(folder: Folder, state: State) -> tuple[list[Migration], list[str]]:
    """The files that have made a database what it is, in order; and all that keeps it from being judged by them."""
    reasons = [*_under_way(state.progress), *(reason for row in state.rows for reason in _unknown(folder, row))]
    if not state.rows:
        reasons.append("Nothing is applied yet, so no file says what the database should be.")
    return [folder.migrations[row.version] for row in state.rows if row.version in folder.migrations], reasons


def _under_way(progress: Progress | None) -> Iterator[str]:
    if progress is not None:
        verb = "rolled back" if progress.rollback else "applied"
        yield f"{progress.name} was interrupted while it was {verb}. Finish that first."


def _unknown(folder: Folder, row: Row) -> Iterator[str]:
    migration = folder.migrations.get(row.version)
    if migration is None:
        yield (
            f"{row.name or f'Version {row.version}'} is applied, and {folder.path} has no such file. "
            "This checkout is probably older than the database: update it."
        )
    elif row.checksum is None:
        yield f"{migration.name} is recorded without a checksum, so it may be another one. migrate.yml records it."
    elif row.checksum != migration.checksum:
        yield f"{migration.name} has changed since it was applied, so what it did then is not known any more."


def unknown(database: str, reasons: Sequence[str]) -> dict[str, Any]:
    """The result for a database that cannot be judged."""
    said = " ".join([f"{database}: whether it has drifted cannot be known.", *reasons])
    return {
        "known": False, "drifted": None, "differences": [], "text": "", "notes": list(reasons), "seconds": 0.0,
        "msg": said,
    }  # fmt: skip


# --- on the target ----------------------------------------------------------------------------------------------------


def look(file: IO[bytes], login: Login, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run the files of a bundle in a scratch database, and compare that with the live one.

    Parameters:
        file: the bundle; its digest is that of the ledger the files were chosen for.
        login: to the live database, which is only read.
        params: options of ``DRIFT_ARGUMENTS``.

    Returns:
        the result of the module ``schema_drift``.

    Raises:
        Stale: when the ledger has changed since.
        RunbookError: what keeps the databases from being looked at.
    """
    began = time.monotonic()
    bundle = BundleReader(file)
    try:
        live = _live(login, params["schema"], bundle.order.expected)
        with scratch.workshop(login, params) as workshop, workshop.database() as database:
            expected = _made(bundle, database)
    except scratch.Refused as error:
        reason = f"Its files cannot be run in an empty database: {error.message}"
        return {**unknown(login.database, [reason]), "seconds": _since(began)}
    except scratch.OutOfTime as error:
        return {**unknown(login.database, [error.message]), "seconds": _since(began)}
    except SqlError as error:
        raise explain(error, f"Looking for drift in {login}", "") from error
    return _judged(login.database, compare(expected, live, params["ignore"]), len(live.objects), _since(began))


def _live(login: Login, schema: str, digest: str) -> Snapshot:
    """The live database and its ledger, as they are at one moment."""
    with connect(login, application_name(OPERATION)) as session:
        session.query(f"SET lock_timeout = '{_LOCK_TIMEOUT}'")
        session.query(f"SET statement_timeout = '{_STATEMENT_TIMEOUT}'")
        session.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        ledger = Ledger(schema)
        if ledger.state(session, ledger.tables(session)).digest() != digest:
            raise Stale
        return snapshot.read(session, schema)


def _made(bundle: BundleReader, database: scratch.Scratch) -> Snapshot:
    """What the files make of an empty database."""
    for task, place in bundle.tasks():
        database.run(bundle, task, place)
    return database.snapshot()


def _judged(database: str, differences: Sequence[Difference], objects: int, seconds: float) -> dict[str, Any]:
    text = readable(differences, "in the files", "in the database")
    drifted = any(not one.note for one in differences)
    said = f"{database} is what its files make of an empty database: {objects} objects compared."
    if drifted:
        number = sum(not one.note for one in differences)
        said = f"{database} has drifted from its files: {number} object{'s' if number > 1 else ''} of {objects}."
    return {
        "known": True, "drifted": drifted, "differences": [one.as_dict() for one in differences], "text": text,
        "notes": [], "seconds": seconds, "msg": f"{said}\n{text}".strip(),
    }  # fmt: skip


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
