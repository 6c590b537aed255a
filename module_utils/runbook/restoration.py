# SPDX-License-Identifier: GPL-3.0-or-later
"""An emergency restore, in steps that services can be stopped and started between.

*prepared*: the set is restored beside the live database, which nobody notices, and verified. *swapped*: it takes the
live database's place, and its name. *confirmed*: services and smoke test were content. *reversed*: they were not, and
the kept database comes back. *undone*: it comes back because somebody says so. *dropped*: kept databases are removed.

Each step holds the run lock, first takes back what a dead run has left half done, and can be repeated: what has been
done already is seen by the journal and not done again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.runbook import facts, journal, preflight, properties, roles_file, side_database, source, swap
from ansible.module_utils.runbook.backup_set import SetName, write_evidence
from ansible.module_utils.runbook.client import CLIENT_ARGUMENTS, client_for
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.journal import Databases, Journal, Noted
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.manifest import DatabaseProperties
from ansible.module_utils.runbook.runlock import RunLock, held
from ansible.module_utils.runbook.session import Session, SqlError, application_name, connect
from ansible.module_utils.runbook.source import LATEST, PLAIN, Source
from ansible.module_utils.runbook.stopwatch import Stopwatch
from ansible.module_utils.runbook.store import PLACE_ARGUMENTS, Store
from ansible.module_utils.runbook.verification import Evidence, prove

OPERATION = "restore"

PREPARED, SWAPPED, CONFIRMED, REVERSED = "prepared", "swapped", "confirmed", "reversed"
UNDONE, DROPPED = "undone", "dropped"
STATES = [PREPARED, SWAPPED, CONFIRMED, REVERSED, UNDONE, DROPPED]

RESTORE_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **CLIENT_ARGUMENTS,
    **PLACE_ARGUMENTS,
    "state": {"type": "str", "default": PREPARED, "choices": STATES},
    "maintenance_db": {"type": "str", "default": "postgres"},
    "backup": {"type": "str", "default": LATEST},
    "backup_database": {"type": "str", "default": ""},
    "confirmation": {"type": "str"},
    "decrypt_with": {"type": "path", "default": ""},
    "jobs": {"type": "int", "default": 2},
    "create_roles": {"type": "bool", "default": False},
    "locale": {"type": "str", "default": preflight.EXACT, "choices": [preflight.EXACT, preflight.SERVER]},
    "slots": {"type": "str", "default": preflight.REFUSE, "choices": [preflight.REFUSE, preflight.LEAVE]},
    "smoke_sql": {"type": "list", "elements": "str", "default": []},
    "keep": {"type": "str", "default": "7d"},
    "kept": {"type": "str", "default": ""},
    "run_lock_wait": {"type": "str", "default": "10s"},
    "swap_timeout": {"type": "str", "default": "20s"},
}


_TABLESPACE = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = 'template0' AND dattablespace = t.oid)
  FROM pg_catalog.pg_tablespace t WHERE spcname = %s
"""


@dataclass(frozen=True)
class Work:
    """A step at work: the lock is held, and what a dead run left half done was taken back.

    Parameters:
        login: to the database that is restored, which may not be there.
        lock: held by a session in the maintenance database.
        databases: what there is now.
        taken_back: whether a swap had been begun by a run that died.
    """

    login: Login
    params: Mapping[str, Any]
    lock: RunLock
    databases: Databases
    application: str
    taken_back: bool

    @property
    def maintenance(self) -> Login:
        """To the database that is never renamed."""
        return self.login.to(self.params["maintenance_db"])

    def store(self) -> Store:
        """The sets to choose from: those of the restored database, or of another one that was named."""
        return Store.of(self.params, self.params["backup_database"] or self.login.database)


def run(login: Login, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Carry out one step.

    Parameters:
        login: to the database that is restored.
        params: options of ``RESTORE_ARGUMENTS``.
        check_mode: only look and say what would be done.

    Returns:
        the result of the module ``database_restore``.

    Raises:
        RunbookError: why the step was not done; the live database is there, under its name.
    """
    steps = dict(zip(STATES, (_prepare, _swap, _confirm, _reverse, _undo, _drop)))
    state = params["state"]
    if not check_mode and state in (PREPARED, UNDONE, DROPPED):
        _refuse_unconfirmed(login, params)
    began = time.monotonic()
    try:
        with _at_work(login, params, check_mode) as work:
            result = steps[state](work, check_mode)
    except SqlError as error:
        raise explain(error, f"Restoring database {login.database}", "The journal knows how far it came.") from error
    except OSError as error:
        raise RunbookError(
            f"Restoring database {login.database} failed at {error.filename}: {error.strerror}.", code="file"
        ) from error
    return {"database": login.database, "seconds": round(time.monotonic() - began, 3), **result}


@contextmanager
def _at_work(login: Login, params: Mapping[str, Any], check_mode: bool) -> Iterator[Work]:
    """Alone, and with nothing half done; whoever only looks needs neither."""
    name = application_name(OPERATION)
    if check_mode:
        with connect(login.to(params["maintenance_db"]), name) as session:
            databases = journal.read(session, login.database)
            yield Work(login, params, RunLock(session, login.database), databases, name, False)
        return
    with held(login, params, OPERATION) as lock:
        databases = journal.read(lock.session, login.database)
        taken_back = swap.take_back(lock.session, databases)
        if taken_back:
            databases = journal.read(lock.session, login.database)
        yield Work(login, params, lock, databases, name, taken_back)


# --- prepared --------------------------------------------------------------------------------------------------------


def _prepare(work: Work, check_mode: bool) -> dict[str, Any]:
    notes: list[str] = []
    chosen = source.choose(work.store(), work.params["backup"], notes)
    replaced = work.databases.replaced
    if replaced is not None and _is_unconfirmed(replaced, chosen):
        return _already_swapped(work, replaced)
    if isinstance(chosen, SetName):
        if check_mode:
            fetched = f"The set {chosen} is only off-site and would be fetched first."
            return _predicted(work, str(chosen), [*notes, fetched])
        chosen = source.fetch(work.store(), chosen)
    ready = _ready_side(work, chosen)
    client = client_for(work.maintenance, work.params, work.application)
    target = preflight.Target(work.lock.session, client, work.databases)
    # What was restored already needs no room a second time; who is in the way of the swap may have come since.
    findings = preflight.look_at_live(target, work.params) if ready else preflight.look(chosen, target, work.params)
    findings.notes += [*notes, *_unproven(work, chosen)]
    preflight.refuse(findings, chosen)
    if check_mode:
        return _predicted(work, chosen.name, findings.notes)
    if replaced is not None and replaced.journal.phase == journal.SWAPPED:
        # Another set is wanted than the one that a run which died had put in place: nobody is to reverse that any more.
        work.lock.session.query(replaced.note(phase=journal.DONE))
    if ready is not None:
        return _prepared(work, chosen, ready, {}, findings.notes, Evidence())
    return _restore_beside(work, chosen, client, findings)


def _restore_beside(work: Work, chosen: Source, client: Any, findings: preflight.Findings) -> dict[str, Any]:
    session, clock = work.lock.session, Stopwatch()
    now = datetime.now(timezone.utc)
    _drop_leftovers(work)
    if findings.missing_roles:
        roles_file.create(session, chosen, findings.missing_roles, work.params["decrypt_with"])
    described = _properties(work, chosen)
    note = Journal(
        role=journal.SIDE,
        phase=journal.RESTORING,
        database=work.login.database,
        set=chosen.name,
        comment=described.comment,
        counterpart=work.databases.live_oid,
        since=journal.rfc3339(now),
    )
    name = journal.free_name(work.databases, "restore", now)
    try:
        with clock.phase("restore"):
            tablespace = _tablespace(session, described, findings.notes)
            session.query(properties.create(name, described, work.params["locale"] == preflight.EXACT, tablespace))
            session.query(journal.comment_on(name, note.text()))
            jobs, identity = work.params["jobs"], work.params["decrypt_with"]
            side_database.restore_into(client, name, chosen, jobs, identity)
        with clock.phase("verify"):
            evidence = prove(work.login.to(name), work.application, chosen.manifest, work.params["smoke_sql"])
        work.lock.assure()
        _assure_live(work)
        findings.notes += _finish(work, name, described, note)
    except BaseException:
        if session.alive:
            side_database.drop(session, name)
        raise
    if chosen.state != PLAIN:
        findings.notes += _note_evidence(work, chosen, evidence, clock)
    (side,) = journal.read(session, work.login.database).side
    return _prepared(work, chosen, side, dict(clock.seconds), findings.notes, evidence)


def _tablespace(session: Session, described: DatabaseProperties, notes: list[str]) -> str:
    """Where the database was, if this server has such a place.

    To name even the default one needs a right that few have (PostgreSQL documentation, "CREATE DATABASE"), so that is
    left to the server.
    """
    found = session.query(_TABLESPACE, described.tablespace)
    if found:
        return "" if found[0][0] else described.tablespace
    notes.append(
        f'The server has no tablespace "{described.tablespace}", where the database was: its default is taken.'
    )
    return ""


def _finish(work: Work, name: str, described: DatabaseProperties, note: Journal) -> list[str]:
    """Give it what hangs on a database, and close it: from here on it stays as it was verified.

    Returns:
        what is worth knowing: the settings that this user may not make.
    """
    session = work.lock.session
    session.query("BEGIN")
    refused = properties.make_settings(session, name, described)
    for statement in properties.apply(name, described):
        session.query(statement)
    session.query(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS false")
    session.query(journal.comment_on(name, replace(note, phase=journal.VERIFIED).text()))
    session.query("COMMIT")
    if not refused:
        return []
    live = (one.replace(identifier(name), identifier(work.login.database)) for one in refused)
    return [
        "The server does not take these settings from this user, or does not know them any more; what is still wanted "
        f"a superuser can set after the swap: {'; '.join(live)}."
    ]


def _properties(work: Work, chosen: Source) -> DatabaseProperties:
    """Those of the set. A plain file has none: then those of the live database, or of any new one of this user."""
    if chosen.manifest is not None:
        return chosen.manifest.database
    session = work.lock.session
    found = facts.properties(session, work.login.database)
    if found is None:
        (user,) = session.query("SELECT current_user::text")[0]
        found = facts.properties(session, "template0")
        if found is None:
            raise AssertionError("every server has template0")
        found = replace(found, owner=user, comment="", grants=None, settings=(), connection_limit=-1)
    return found


def _ready_side(work: Work, chosen: Source) -> Noted | None:
    """A side database of the very same set that an earlier run left whole."""
    fitting = [one for one in work.databases.side if one.journal.phase == journal.VERIFIED and not one.open]
    return next((one for one in fitting if one.journal.set == chosen.name), None)


def _drop_leftovers(work: Work) -> None:
    """The run lock is held: nobody is at work on the side databases of this name."""
    for one in work.databases.side:
        side_database.drop(work.lock.session, one.name)


def _note_evidence(work: Work, chosen: Source, evidence: Evidence, clock: Stopwatch) -> list[str]:
    """Mark the set as verified. What is restored is as good without the mark, which a full disk may prevent."""
    evidence.facts = {
        "verified_at": journal.rfc3339(datetime.now(timezone.utc)),
        "by": OPERATION,
        "server_version": work.lock.session.server_version,
        "recovery_seconds": round(sum(clock.seconds.values()), 3),
    }
    try:
        write_evidence(chosen.path, evidence.as_dict())
    except OSError as error:
        return [f"The set could not be marked as verified: {error.filename}: {error.strerror}."]
    return []


def _assure_live(work: Work) -> None:
    """What was run to restore must not have touched the live database; a plain file may say anything."""
    present = journal.read(work.lock.session, work.login.database)
    if present.live_oid != work.databases.live_oid:
        raise RunbookError(
            f"While {work.params['backup']} was restored beside it, database {work.login.database} was dropped, made "
            "or renamed. What was restored is not put in its place. Find out who did that, then run this again.",
            code="live-changed",
        )


def _is_unconfirmed(replaced: Noted, chosen: Source | SetName) -> bool:
    """Whether this very set is live already, and a run that died was to see whether all is well."""
    name = chosen.name if isinstance(chosen, Source) else str(chosen)
    return replaced.journal.phase == journal.SWAPPED and replaced.journal.set == name


def _unproven(work: Work, chosen: Source) -> list[str]:
    """Whoever asks for the latest gets a proven set, and has to know that there are newer ones."""
    if work.params["backup"] != LATEST:
        return []
    now = datetime.now(timezone.utc)
    newer = [str(one.name) for one in work.store().sealed() if str(one.name) > chosen.name and one.name.taken_at <= now]
    if not newer:
        return []
    return [
        f"Newer sealed sets that no restore has proven yet: {len(newer)}. The newest is {newer[-1]}; for that say "
        f"-e restore_backup={newer[-1]}."
    ]


# --- swapped, confirmed ----------------------------------------------------------------------------------------------


def _swap(work: Work, check_mode: bool) -> dict[str, Any]:
    replaced = work.databases.replaced
    ready = [one for one in work.databases.side if one.journal.phase == journal.VERIFIED and not one.open]
    if not ready:
        if replaced is not None and replaced.journal.phase == journal.SWAPPED:
            return _already_swapped(work, replaced)
        raise RunbookError(
            f"There is no restored database to take the place of {work.login.database}: another run has removed it. "
            "Run restore.yml again.",
            code="no-side",
        )
    if check_mode:
        return _would(work, f"{ready[-1].name} would take its place.")
    keep = timedelta(seconds=seconds("keep", work.params))
    now, timeout = datetime.now(timezone.utc), seconds("swap_timeout", work.params)
    done = swap.swap(work.lock, work.databases, ready[-1], journal.SWAPPED, keep, now, timeout)
    return _exchanged(work, done, ready[-1].journal.set, "is restored")


def _confirm(work: Work, check_mode: bool) -> dict[str, Any]:
    replaced = work.databases.replaced
    if replaced is None or replaced.journal.phase != journal.SWAPPED:
        return {"changed": False, "msg": f"{work.login.database}: there is nothing to confirm."}
    if check_mode:
        return {**_would(work, f"{replaced.name} would be kept, and the restore be final."), "changed": False}
    work.lock.session.query(replaced.note(phase=journal.DONE))
    until = replaced.journal.until
    return {
        "changed": False,
        "kept": replaced.name,
        "msg": f"{work.login.database}: confirmed. The former database is kept as {replaced.name} until {until}; "
        "-e restore_action=undo brings it back.",
    }


# --- undone, dropped -------------------------------------------------------------------------------------------------


def _undo(work: Work, check_mode: bool) -> dict[str, Any]:
    back, name = work.databases.replaced, work.login.database
    if work.taken_back or swap.begun(work.databases):
        said = "would be taken back, and the database opened" if check_mode else "was taken back; the database is open"
        return {"changed": True, "kept": "", "msg": f"{name}: a swap that had begun {said}."}
    if back is None:
        kept = ", ".join(one.name for one in work.databases.kept)
        raise RunbookError(
            f"There is nothing to undo: no kept database was replaced by the present {name}"
            + (f" (kept are {kept}; rename by hand what you need). " if kept else ". ")
            + "Restore a set instead: restore.yml -e restore_backup=NAME.",
            code="nothing-to-undo",
        )
    if check_mode:
        return {**_would(work, f"{back.name} would come back."), "kept": back.name}
    return _bring_back(work, back)


def _bring_back(work: Work, back: Noted) -> dict[str, Any]:
    keep = timedelta(seconds=seconds("keep", work.params))
    now, timeout = datetime.now(timezone.utc), seconds("swap_timeout", work.params)
    done = swap.swap(work.lock, work.databases, back, journal.DONE, keep, now, timeout)
    return _exchanged(work, done, back.name, "is back")


def _reverse(work: Work, check_mode: bool) -> dict[str, Any]:
    """Undo a swap that nobody has confirmed; without one there is nothing to do but to say what is live."""
    databases, name = work.databases, work.login.database
    if databases.replaced is not None and databases.replaced.journal.phase == journal.SWAPPED:
        if check_mode:
            return _would(work, f"{databases.replaced.name} would come back.")
        return _bring_back(work, databases.replaced)
    if not databases.live:
        live = "There is no live database of that name"
    elif not databases.live_open:
        live = "The live database is closed to everybody, as it was before"
    else:
        live = "The live database is open"
    return {
        "changed": work.taken_back,
        "kept": "",
        "msg": f"{name}: no former database had to come back. {live}.",
    }


def _drop(work: Work, check_mode: bool) -> dict[str, Any]:
    going = _to_drop(work)
    names = [one.name for one in going]
    if not check_mode:
        for one in going:
            _drop_one(work, one)
    listed = ", ".join(names)
    said = f"{listed} {'would be' if check_mode else 'was'} dropped" if names else "no kept database is due"
    later = [f"{one.name} until {one.journal.until}" for one in work.databases.kept if one not in going]
    rest = f" Still kept: {', '.join(later)}; -e restore_kept=NAME drops one before its time." if later else ""
    return {"changed": bool(names), "dropped": names, "msg": f"{work.login.database}: {said}.{rest}"}


def _to_drop(work: Work) -> list[Noted]:
    wanted = work.params["kept"]
    if not wanted:
        now = journal.rfc3339(datetime.now(timezone.utc))
        return [one for one in work.databases.kept if one.journal.until <= now]
    found = [one for one in work.databases.kept if one.name == wanted]
    if not found:
        known = ", ".join(one.name for one in work.databases.kept) or "none"
        raise RunbookError(
            f'restore_kept is "{wanted}", which is no database kept for {work.login.database}. Kept are: {known}.',
            code="option",
        )
    return found


def _drop_one(work: Work, kept: Noted) -> None:
    session = work.lock.session
    slots = session.query("SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = %s", kept.name)
    if slots:
        raise RunbookError(
            f"{kept.name} still has replication slots: {', '.join(name for (name,) in slots)}. Stop their consumers, "
            "drop them with SELECT pg_drop_replication_slot('NAME'), then run this again.",
            code="slots",
        )
    session.query(f"DROP DATABASE {identifier(kept.name)}")


# --- results ---------------------------------------------------------------------------------------------------------


def _refuse_unconfirmed(login: Login, params: Mapping[str, Any]) -> None:
    given = params["confirmation"]
    if given is not None and given != login.database:
        raise RunbookError(
            f'This restore is about database {login.database}, and the confirmation says "{given}". '
            f"If you mean it, add -e restore_confirm={login.database} to the command.",
            code="unconfirmed",
        )


def _would(work: Work, what: str) -> dict[str, Any]:
    return {"changed": True, "msg": f"{work.login.database}: {what}"}


def _already_swapped(work: Work, replaced: Noted) -> dict[str, Any]:
    return {
        "changed": False,
        "phase": journal.SWAPPED,
        "set": replaced.journal.set,
        "kept": replaced.name,
        "live": work.databases.live,
        "msg": f"{work.login.database}: an earlier run has restored {replaced.journal.set} already; what is left is to "
        "start services and to look whether all is well.",
    }


def _predicted(work: Work, name: str, notes: list[str]) -> dict[str, Any]:
    place = "beside the live one and swapped" if work.databases.live else "and named so"
    return {
        "changed": True,
        "set": name,
        "live": work.databases.live,
        "notes": notes,
        "msg": " ".join(
            [f"{work.login.database}: {name} would be restored {place}. The preflight found no problem.", *notes]
        ),
    }


def _prepared(
    work: Work, chosen: Source, side: Noted, phases: dict[str, float], notes: list[str], evidence: Evidence
) -> dict[str, Any]:
    said = (
        f"restored beside the live database as {side.name} and verified: {evidence.tables} tables, {evidence.rows} rows"
        if phases
        else f"there already: {side.name} was restored and verified by an earlier run"
    )
    uncompared = (
        "" if evidence.compared or not phases else " A plain file has no manifest: nothing to compare rows with."
    )
    return {
        "changed": bool(phases),
        "phase": journal.VERIFIED,
        "set": chosen.name,
        "side": side.name,
        "live": work.databases.live,
        "phases": phases,
        "notes": notes,
        "evidence": evidence.as_dict() if phases else {},
        "msg": " ".join([f"{work.login.database}: {chosen.name} is {said}.{uncompared}", *notes]),
    }


def _exchanged(work: Work, done: swap.Swapped, what: str, how: str) -> dict[str, Any]:
    kept = f" The former one is kept as {done.kept}, closed." if done.kept else ""
    return {
        "changed": True,
        "phase": journal.SWAPPED,
        "set": what,
        "kept": done.kept,
        "downtime_ms": done.milliseconds,
        "sessions_ended": done.ended,
        "msg": f"{work.login.database}: {what} {how}; nobody could write for {done.milliseconds} ms, {done.ended} "
        f"sessions were ended.{kept}",
    }
