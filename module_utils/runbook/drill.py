# SPDX-License-Identifier: GPL-3.0-or-later
"""Proving a backup set by restoring it, where nobody depends on it.

For a server in a container that is a server of its own, from the same image; otherwise a scratch database on the same
server. The live database is never written to, nor is its run lock held, which would keep everybody from migrating for
as long as a restore takes; drills have a lock of their own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.runbook import journal, preflight, properties, roles_file, side_database, source
from ansible.module_utils.runbook.backup_set import SetName, write_evidence
from ansible.module_utils.runbook.client import CLIENT_ARGUMENTS, Client, Sidecar, client_for
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.journal import Databases, Journal
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.manifest import Manifest
from ansible.module_utils.runbook.runlock import RunLock, held
from ansible.module_utils.runbook.scratch_server import running
from ansible.module_utils.runbook.session import Session, SqlError, application_name, connect
from ansible.module_utils.runbook.source import NEWEST, PLAIN, Source
from ansible.module_utils.runbook.stopwatch import Stopwatch
from ansible.module_utils.runbook.store import PLACE_ARGUMENTS, Store
from ansible.module_utils.runbook.verification import Evidence, prove

OPERATION = "drill"

DRILL_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **CLIENT_ARGUMENTS,
    **PLACE_ARGUMENTS,
    "maintenance_db": {"type": "str", "default": "postgres"},
    "backup": {"type": "str", "default": NEWEST},
    "decrypt_with": {"type": "path", "default": ""},
    "jobs": {"type": "int", "default": 2},
    "smoke_sql": {"type": "list", "elements": "str", "default": []},
    "run_lock_wait": {"type": "str", "default": "10s"},
}

# A drill needs nothing to be received or sent by what it has restored.
_SKIPPED = ("--no-subscriptions", "--no-publications", "--no-tablespaces")


@dataclass(frozen=True)
class Place:
    """Where a drill restores to.

    Parameters:
        login: to the maintenance database there.
        client: programs for that server.
        separate: whether it is a server of the drill's own, where everything that is missing can be made.
    """

    login: Login
    client: Client
    separate: bool


def run(login: Login, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Restore a set, verify it, note that it is proven, and leave nothing else behind.

    Parameters:
        login: to the database whose sets are meant.
        params: options of ``DRILL_ARGUMENTS``.
        check_mode: only say which set it would be.

    Returns:
        the result of the module ``database_drill``.

    Raises:
        RunbookError: why the set is not proven.
    """
    store = Store.of(params, login.database)
    if check_mode:
        notes: list[str] = []
        name = _name(source.choose(store, params["backup"], notes))
        said = " ".join([f"{login.database}: set {name} would be restored and verified.", *notes])
        return {"changed": True, "set": name, "notes": notes, "msg": said}
    notes = []
    with _alone(login, params):
        began, clock = datetime.now(timezone.utc), Stopwatch()
        with clock.phase("recovery"):
            chosen = _at_hand(store, login, params, clock, notes)
            with _given_up(login, chosen), _place(login, params, chosen, clock) as place:
                evidence = _prove(place, login, chosen, params, clock, notes)
        evidence.facts = _facts(chosen, began, clock, place)
        _mark(store, chosen, evidence)
    return _proven(login, chosen, evidence, notes)


def _name(chosen: Source | SetName) -> str:
    return str(chosen) if isinstance(chosen, SetName) else chosen.name


@contextlib.contextmanager
def _alone(login: Login, params: Mapping[str, Any]) -> Iterator[None]:
    """One drill of a database at a time. The lock is another one than that of runs which change the database."""
    with connect(login.to(params["maintenance_db"]), application_name(f"lock {OPERATION}")) as session:
        session.stay()
        RunLock(session, f"{login.database} ({OPERATION})").acquire(seconds("run_lock_wait", params))
        yield


def _at_hand(store: Store, login: Login, params: Mapping[str, Any], clock: Stopwatch, notes: list[str]) -> Source:
    """The set, on this host.

    One that has to be fetched is fetched under the run lock: a backup takes what is not sealed for a dead run's.
    """
    chosen = source.choose(store, params["backup"], notes)
    if isinstance(chosen, SetName):
        with held(login, params, OPERATION), clock.phase("fetch"):
            chosen = source.fetch(store, chosen)
    if chosen.state == PLAIN:
        raise RunbookError(
            f"A drill proves backup sets, and {chosen.path} is a plain file. Name a set in drill_backup.", code="option"
        )
    return chosen


@contextlib.contextmanager
def _given_up(login: Login, chosen: Source) -> Iterator[None]:
    """Say which set it is that a failure leaves unproven, and what to do about it."""
    try:
        yield
    except SqlError as error:
        raise _unproven(chosen, explain(error, f"The drill of {login}", "")) from error
    except OSError as error:
        raise _unproven(chosen, RunbookError(f"{error.filename}: {error.strerror}.", code="file")) from error
    except RunbookError as error:
        raise _unproven(chosen, error) from error


def _unproven(chosen: Source, error: RunbookError) -> RunbookError:
    return RunbookError(
        f"The backup set {chosen.path} is not proven. {error.message} Nothing was marked, and what the drill had made "
        "is gone. Take a new set with backup.yml and prove that; if it fails alike, a restore would, too.",
        code=error.code,
        **{**error.details, "set": chosen.name},
    )


@contextlib.contextmanager
def _place(login: Login, params: Mapping[str, Any], chosen: Source, clock: Stopwatch) -> Iterator[Place]:
    maintenance = login.to(params["maintenance_db"])
    client = client_for(maintenance, params, application_name(OPERATION))
    if not isinstance(client, Sidecar):
        yield Place(maintenance, client, separate=False)
        return
    preload = chosen.manifest.server.preload_libraries if chosen.manifest else ()
    with contextlib.ExitStack() as stack:
        with clock.phase("start"):
            scratch, its_client = stack.enter_context(running(client, login.database, preload))
        yield Place(scratch, its_client, separate=True)


def _prove(
    place: Place, login: Login, chosen: Source, params: Mapping[str, Any], clock: Stopwatch, notes: list[str]
) -> Evidence:
    with connect(place.login, application_name(OPERATION)) as session:
        session.stay()
        databases = journal.read(session, login.database)
        for leftover in databases.scratch:
            side_database.drop(session, leftover.name)
        with clock.phase("preflight"):
            _prepare(place, session, databases, chosen, params)
        name = _create(session, databases, chosen)
        try:
            with clock.phase("restore"):
                jobs, identity = params["jobs"], params["decrypt_with"]
                side_database.restore_into(place.client, name, chosen, jobs, identity, skipped=_SKIPPED)
            with clock.phase("verify"):
                scratch = place.login.to(name)
                evidence = prove(scratch, application_name(OPERATION), chosen.manifest, params["smoke_sql"])
            notes += _try_properties(session, name, chosen)
            return evidence
        finally:
            if session.alive:
                side_database.drop(session, name)


def _prepare(place: Place, session: Session, databases: Databases, chosen: Source, params: Mapping[str, Any]) -> None:
    """Look first, and make the roles that only a server of the drill's own may be given."""
    nobody = replace(databases, live_oid=0)
    wanted = {**params, "create_roles": place.separate, "locale": preflight.EXACT, "slots": preflight.LEAVE}
    findings = preflight.look(chosen, preflight.Target(session, place.client, nobody), wanted)
    preflight.refuse(findings, chosen)
    roles_file.create_bare(session, findings.missing_roles)


def _try_properties(session: Session, name: str, chosen: Source) -> list[str]:
    """See that owner, privileges and settings can be given back, and leave the scratch database without them.

    Returns:
        what is worth knowing: the settings that a restore would leave to a superuser.
    """
    described = _manifest(chosen).database
    session.query("BEGIN")
    refused = properties.make_settings(session, name, described)
    for statement in properties.apply(name, described):
        session.query(statement)
    session.query("ROLLBACK")
    if not refused:
        return []
    live = (one.replace(identifier(name), identifier(described.name)) for one in refused)
    return [f"A restore could not make these settings, which are for a superuser or not known here: {'; '.join(live)}."]


def _create(session: Session, databases: Databases, chosen: Source) -> str:
    """An empty database that nobody but its owner may enter."""
    now = datetime.now(timezone.utc)
    name = journal.free_name(databases, OPERATION, now)
    note = Journal(journal.SCRATCH, journal.RESTORING, databases.name, chosen.name, since=journal.rfc3339(now))
    session.query(properties.create(name, _manifest(chosen).database, same_locale=True))
    session.query(journal.comment_on(name, note.text()))
    session.query(f"REVOKE ALL ON DATABASE {identifier(name)} FROM PUBLIC")
    return name


def _manifest(chosen: Source) -> Manifest:
    if chosen.manifest is None:
        raise AssertionError("only sets with a manifest are proven")
    return chosen.manifest


def _mark(store: Store, chosen: Source, evidence: Evidence) -> None:
    """Note that the set is proven, here and where its copy is."""
    write_evidence(chosen.path, evidence.as_dict())
    name = SetName.parse(chosen.name)
    if store.offsite is not None and name is not None and name in store.offsite.names(store.folder.name):
        store.offsite.upload_evidence(chosen.path, store.folder.name, name)


def _facts(chosen: Source, began: datetime, clock: Stopwatch, place: Place) -> dict[str, Any]:
    name = SetName.parse(chosen.name)
    return {
        "verified_at": journal.rfc3339(datetime.now(timezone.utc)),
        "by": OPERATION,
        "recovery_seconds": clock.seconds["recovery"],
        "phases": {name: taken for name, taken in clock.seconds.items() if name != "recovery"},
        "loss_seconds": round((began - name.taken_at).total_seconds()) if name else None,
        "server_version": place.client.major,
        "image": place.client.image if isinstance(place.client, Sidecar) else "",
    }


def _proven(login: Login, chosen: Source, evidence: Evidence, notes: list[str]) -> dict[str, Any]:
    found = evidence.as_dict()
    return {
        "changed": True,
        "database": login.database,
        "set": chosen.name,
        "evidence": found,
        "recovery_seconds": found["recovery_seconds"],
        "loss_seconds": found["loss_seconds"],
        "notes": notes,
        "msg": " ".join(
            [
                f"{login.database}: set {chosen.name} is verified: {evidence.tables} tables, {evidence.rows} rows. "
                f"A restore takes {found['recovery_seconds']:.1f} s (RTO) and would lose the last "
                f"{_span(found['loss_seconds'])} (RPO).",
                *notes,
            ]
        ),
    }


def _span(span: int) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if span >= 2 * length:
            return f"{span // length} {unit}"
    return f"{span} seconds"
