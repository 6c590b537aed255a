# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a backup: from the run lock to a sealed set, its copy elsewhere, and the sets that go in return.

A set counts from one moment on, when its folder gets its final name. Before that, everything that could still go wrong
has been tried: the table of contents was read, every file checksummed and brought to the disk, the off-site copy read
back. Sets are only removed after that moment.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import backup_set, facts, retention, space
from ansible.module_utils.runbook.backup_set import BackupSet, SetName
from ansible.module_utils.runbook.client import CLIENT_ARGUMENTS, Client, client_for
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login, account
from ansible.module_utils.runbook.dump import AUTO, GZIP, NONE, ZSTD, Dump, DumpOptions
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.encryption import check_recipients
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.instructions import instructions, statements
from ansible.module_utils.runbook.manifest import Manifest
from ansible.module_utils.runbook.runlock import RunLock, held
from ansible.module_utils.runbook.session import (
    Session,
    SqlError,
    application_name,
    connect,
    refuse_old,
    refuse_transaction_pooling,
)
from ansible.module_utils.runbook.stopwatch import Stopwatch
from ansible.module_utils.runbook.store import PLACE_ARGUMENTS, Store

OPERATION = "backup"

BACKUP_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **CLIENT_ARGUMENTS,
    **PLACE_ARGUMENTS,
    "maintenance_db": {"type": "str", "default": "postgres"},
    "schema": {"type": "str", "default": "cm"},
    "max_age": {"type": "str", "default": "0"},
    "jobs": {"type": "int", "default": 2},
    "compression": {"type": "str", "default": AUTO, "choices": [AUTO, ZSTD, GZIP, NONE]},
    "run_lock_wait": {"type": "str", "default": "10s"},
    "lock_wait": {"type": "str", "default": "1min"},
    "encrypt_to": {"type": "list", "elements": "str", "default": []},
    "offsite_prune": {"type": "bool", "default": True},
    "keep_last": {"type": "int", "default": 7},
    "keep_daily": {"type": "int", "default": 7},
    "keep_weekly": {"type": "int", "default": 4},
    "keep_monthly": {"type": "int", "default": 6},
    "keep_min_age": {"type": "str", "default": "1d"},
}

# Without an older set to go by: a dump is compressed, and has no indexes.
_SHARE_OF_DATABASE = 0.5
_MORE_THAN_LAST = 1.2

# Between two looks at the server's clock, in seconds.
_PAUSE = 0.2

_NO_SPACE = "no space left on device"
_LOCKED = ("lock timeout", "LOCK TABLE")
_NOTHING_NEW = "There is no new set; those that were there are as they were."

# Who keeps a table from being read: nothing but ACCESS EXCLUSIVE does. Behind a prepared transaction is no session.
_PREPARED = """
SELECT DISTINCT p.gid FROM pg_catalog.pg_prepared_xacts p
  JOIN pg_catalog.pg_locks own ON own.locktype = 'transactionid' AND own.transactionid = p.transaction
  JOIN pg_catalog.pg_locks l ON l.virtualtransaction = own.virtualtransaction
 WHERE p.database = %s AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND l.granted ORDER BY 1
"""
_HOLDERS = """
SELECT DISTINCT a.pid, a.usename, coalesce(a.application_name, ''), coalesce(a.state, 'state not shown')
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock' AND a.datname = %s ORDER BY 1
"""


@dataclass(frozen=True)
class _Look:
    """What has to be known about the database before anything is begun."""

    schema_version: int
    database_bytes: int


def take(login: Login, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Have a sealed set of the database: one that is young enough, or a new one.

    Parameters:
        params: options of ``BACKUP_ARGUMENTS``.
        check_mode: only say what would be done.

    Returns:
        the result of the module ``database_backup``.

    Raises:
        RunbookError: why there is no new set; those that were there still are. ``retention`` when there is a new one,
            and an older one could not be removed.
    """
    store = Store.of(params, login.database)
    policy, options, now = _policy(params), _dump_options(params), datetime.now(timezone.utc)
    max_age = timedelta(seconds=seconds("max_age", params))
    with _given_up(login, params, store):
        _check_place(params, store)
        look = _look(login, params)
        fresh = _fresh(store, params, look.schema_version, now, max_age)
        if fresh is not None:
            return _relied_on(fresh, login, now)
        _require_space(store, look, login)
        if check_mode:
            return _predicted(store, policy, SetName(now, look.schema_version), login)
    clock = Stopwatch()
    try:
        with held(login, params, OPERATION) as lock:
            with clock.phase("total"), _given_up(login, params, store):
                made = _make(lock, login, params, options, store, clock)
            removed = _remove(store, policy, made, params)
    except SqlError as error:
        raise _explained(_as_sentence(error, login), login, params) from error
    return _taken(made, store, login, removed, clock)


def _make(
    lock: RunLock, login: Login, params: Mapping[str, Any], options: DumpOptions, store: Store, clock: Stopwatch
) -> BackupSet:
    """Dump, describe, copy, seal."""
    name = application_name(OPERATION)
    _prepare_folder(store.folder)
    client = client_for(login, params, name)
    with connect(login, name) as session:
        dump = _begun(session, client, options, store, clock)
        with backup_set.unfinished(store.folder, dump.name, backup_set.PARTIAL) as folder:
            manifest = dump.write(folder, login.database)
            session.close()  # the snapshot holds back VACUUM, and is not needed any more
            with clock.phase("seal"):
                _describe(folder, manifest, clock)
            with _copied(store, folder, dump.name, clock):
                lock.assure()  # without the lock somebody else may have taken the folder for a dead run's
                folder.rename(store.folder / str(dump.name))
                space.sync_entry(store.folder)
    return BackupSet(store.folder / str(dump.name), dump.name)


def _begun(session: Session, client: Client, options: DumpOptions, store: Store, clock: Stopwatch) -> Dump:
    """A dump whose name is free: names are to the second, and the last run may have ended in this one."""
    while True:
        dump = Dump(session, client, options, clock)
        if not (store.folder / str(dump.name)).exists():
            return dump
        session.query("ROLLBACK")
        time.sleep(_PAUSE)


def _describe(folder: Path, manifest: Manifest, clock: Stopwatch) -> None:
    """Everything that makes a dump a set; afterwards it is on the disk and not only in memory."""
    described = replace(manifest, dump_bytes=space.folder_bytes(folder), seconds=dict(clock.seconds))
    texts = {
        backup_set.INSTRUCTIONS: instructions(described),
        backup_set.PROPERTIES: statements(described),
        backup_set.MANIFEST: described.to_json(),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    backup_set.write_checksums(folder)
    (folder / backup_set.CHECKSUMS).chmod(0o600)
    space.sync(folder)


@contextmanager
def _copied(store: Store, folder: Path, name: SetName, clock: Stopwatch) -> Iterator[None]:
    """The off-site copy, if there is to be one."""
    with ExitStack() as copy:
        if store.offsite is not None:
            with clock.phase("offsite"):
                copy.enter_context(store.offsite.copied(folder, store.folder.name, name))
        yield


def _prepare_folder(folder: Path) -> None:
    """Have the folder, and nothing in it of runs that died: the run lock is held, so nobody is at work there."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)
    for path in folder.glob(f"*{backup_set.PARTIAL}"):
        shutil.rmtree(path)


# --- before it starts ------------------------------------------------------------------------------------------------


def _check_place(params: Mapping[str, Any], store: Store) -> None:
    """See that sets can be put where they belong, and be encrypted and copied as asked for."""
    if not store.folder.is_absolute():
        raise RunbookError(
            f'The option directory is "{params["directory"]}", which depends on where the module happens to run. '
            "Name the whole path.",
            code="option",
        )
    nearest = space.existing(store.folder)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunbookError(
            f"Account {account()}, which modules run as on this host, must not write to {nearest}, so there is no "
            f"place for {store.folder}. Make one as root: install -d -m 0700 -o {account()} {params['directory']}; "
            "or name another folder in backup_directory.",
            code="file",
        )
    if params["encrypt_to"]:
        check_recipients(params["encrypt_to"])
    if store.offsite is not None:
        store.offsite.check()


def _look(login: Login, params: Mapping[str, Any]) -> _Look:
    """Look at the database, without the run lock and without changing anything.

    Raises:
        RunbookError: what will keep it from being dumped.
    """
    with connect(login, application_name("info")) as session:
        refuse_old(session, login)
        refuse_transaction_pooling(session, login)
        _refuse_standby(session, login)
        session.query("BEGIN READ ONLY")
        session.query(f"SET LOCAL lock_timeout = '{round(_lock_wait(params) * 1000)}ms'")
        facts.require_readable(session, login)
        version = facts.schema_version(session, params["schema"])
        size = session.query("SELECT pg_catalog.pg_database_size(pg_catalog.current_database())")[0][0]
        return _Look(version, int(size))


def _refuse_standby(session: Session, login: Login) -> None:
    if session.query("SELECT pg_catalog.pg_is_in_recovery()")[0][0]:
        raise RunbookError(
            f"The {login} is a standby. Its queries are ended when they are in the way of replay, and it has no rows "
            "of unlogged tables: a backup is taken from the primary. Name that in db_host, or add it to the run.",
            code="standby",
        )


def _require_space(store: Store, look: _Look, login: Login) -> None:
    sets = store.sealed()
    needed = _SHARE_OF_DATABASE * look.database_bytes
    if sets:
        needed = _MORE_THAN_LAST * space.folder_bytes(sets[-1].path)
    space.require(store.folder, round(needed), f"a backup of database {login.database}")


def _fresh(
    store: Store, params: Mapping[str, Any], version: int, now: datetime, max_age: timedelta
) -> BackupSet | None:
    """The newest set, if it is young enough, of the database's present version, and all that is asked of a new one."""
    past = [one for one in store.sealed() if one.name.taken_at <= now]
    if not max_age or not past:
        return None
    newest = past[-1]
    if newest.name.schema_version != version or now - newest.name.taken_at > max_age:
        return None
    try:
        backup_set.check_checksums(newest.path)
        recipients = newest.manifest().recipients
    except RunbookError:  # damaged since: a new one is needed
        return None
    copied = store.offsite is None or newest.name in store.offsite.names(store.folder.name)
    return newest if copied and set(recipients) == set(params["encrypt_to"]) else None


# --- when it fails ---------------------------------------------------------------------------------------------------


@contextmanager
def _given_up(login: Login, params: Mapping[str, Any], store: Store) -> Iterator[None]:
    """Say what a failure means: where it happened, who was in the way, and that nothing counts that was begun."""
    try:
        yield
    except OSError as error:
        raise RunbookError(
            f"The backup of {login} failed at {error.filename or store.folder}: {error.strerror}. {_NOTHING_NEW} "
            f"Modules run as account {account()} on this host.",
            code="disk-full" if error.errno == errno.ENOSPC else "file",
        ) from error
    except SqlError as error:
        raise _explained(_as_sentence(error, login), login, params) from error
    except RunbookError as error:
        raise _explained(error, login, params) from error


def _as_sentence(error: SqlError, login: Login) -> RunbookError:
    said = " ".join(f"{part.rstrip('.')}." for part in (error.message, error.detail, error.hint) if part)
    if error.lost:
        said = f"the connection to the server was lost. {said} See that the server is up, and run this again."
    return RunbookError(f"The backup of {login} failed: {said}", code="connection-lost" if error.lost else "sql")


def _explained(error: RunbookError, login: Login, params: Mapping[str, Any]) -> RunbookError:
    code, more = error.code, ""
    if _NO_SPACE in error.message.lower():
        code, more = "disk-full", " Make room on that disk, or name another place in backup_directory."
    elif any(sign in error.message for sign in _LOCKED):
        code, more = "lock-timeout", _in_the_way(login, params)
    return RunbookError(f"{error.message}{more} {_NOTHING_NEW}", code=code, **error.details)


def _in_the_way(login: Login, params: Mapping[str, Any]) -> str:
    """Who has a table locked, with what to do about it."""
    try:
        maintenance = replace(login.to(params["maintenance_db"]), connect_wait=0)
        with connect(maintenance, application_name("info")) as session:
            gids = [gid for (gid,) in session.query(_PREPARED, login.database)]
            holders = session.query(_HOLDERS, login.database)
    except (RunbookError, SqlError):  # what is known is worth more than what is not
        return ""
    sentences = [
        f' A table is locked by the prepared transaction "{gid}", behind which there is no session: whoever manages '
        "transactions there has to COMMIT PREPARED or ROLLBACK PREPARED it."
        for gid in gids
    ]
    sentences += [
        f' A table is locked by pid {pid} (user {user}, application "{application}", {state}): let it finish, or end '
        f"it with SELECT pg_terminate_backend({pid})."
        for pid, user, application, state in holders
    ]
    return "".join(sentences)


# --- retention -------------------------------------------------------------------------------------------------------


def _policy(params: Mapping[str, Any]) -> retention.Policy:
    counts = {name: params[f"keep_{name}"] for name in ("last", "daily", "weekly", "monthly")}
    for name, count in counts.items():
        if count < 0:
            raise RunbookError(f"The option keep_{name} is {count}. Give a number of sets, 0 for none.", code="option")
    return retention.Policy(**counts, min_age=timedelta(seconds=seconds("keep_min_age", params)))


def _removable(sets: list[BackupSet], policy: retention.Policy, also: SetName | None = None) -> list[SetName]:
    names = {one.name for one in sets} | ({also} if also else set())
    verified = {one.name for one in sets if one.state == backup_set.VERIFIED}
    return retention.removable(names, verified, policy, datetime.now(timezone.utc))


def _remove(store: Store, policy: retention.Policy, made: BackupSet, params: Mapping[str, Any]) -> list[str]:
    """Remove what the policy does not keep. A set loses its name first: half a set never counts."""
    try:
        going = _removable(store.sealed(), policy)
        for name in going:
            if store.offsite is not None and params["offsite_prune"]:
                store.offsite.remove(store.folder.name, name)
            condemned = store.folder / f"{name}{backup_set.PARTIAL}"
            (store.folder / str(name)).rename(condemned)
            shutil.rmtree(condemned)
    except (OSError, RunbookError) as error:
        raise RunbookError(
            f"The new set {made.name} is sealed and counts, but an older one could not be removed: "
            f"{str(error).rstrip('.')}. The next run tries again.",
            code="retention",
            set=str(made.name),
            folder=str(made.path),
        ) from error
    return [str(name) for name in going]


# --- results ---------------------------------------------------------------------------------------------------------


def _described(made: BackupSet, login: Login, now: datetime) -> dict[str, Any]:
    return {
        "database": login.database,
        "set": str(made.name),
        "folder": str(made.path),
        "state": made.state,
        "schema_version": made.name.schema_version,
        "taken_at": f"{made.name.taken_at:%Y-%m-%dT%H:%M:%SZ}",
        "age_seconds": round((now - made.name.taken_at).total_seconds()),
    }


def _relied_on(made: BackupSet, login: Login, now: datetime) -> dict[str, Any]:
    described = _described(made, login, now)
    msg = f"{login.database}: set {made.name} is {described['age_seconds']} s old and has the present schema version."
    return {**described, "changed": False, "removed": [], "msg": msg}


def _predicted(store: Store, policy: retention.Policy, name: SetName, login: Login) -> dict[str, Any]:
    sets = store.sealed()
    going = [str(one) for one in _removable(sets, policy, also=name)]
    before = [str(one.name) for one in sets]
    after = [one for one in before if one not in going] + ["(a new set)"]
    gone = f", and {len(going)} older would be removed" if going else ""
    return {
        "database": login.database,
        "changed": True,
        "removed": going,
        "schema_version": name.schema_version,
        "diff": _diff(store, before, after),
        "msg": f"{login.database}: a set would be taken{gone}.",
    }


def _taken(made: BackupSet, store: Store, login: Login, removed: list[str], clock: Stopwatch) -> dict[str, Any]:
    manifest = made.manifest()
    after = [str(one.name) for one in store.sealed()]
    size, rows = space.readable(manifest.dump_bytes), sum(table.rows for table in manifest.tables)
    where = f" and {store.offsite.remote}" if store.offsite else ""
    gone = f" {len(removed)} older removed." if removed else ""
    return {
        **_described(made, login, datetime.now(timezone.utc)),
        "changed": True,
        "removed": removed,
        "kept": len(after),
        "bytes": manifest.dump_bytes,
        "rows": rows,
        "encrypted": bool(manifest.recipients),
        "offsite": store.offsite.remote if store.offsite else "",
        "seconds": dict(clock.seconds),
        "diff": _diff(store, sorted([*removed, *after[:-1]]), after),
        "msg": f"{login.database}: set {made.name} is sealed in {made.path.parent}{where}: "
        f"{len(manifest.tables)} tables, {rows} rows, {size}, {clock.seconds['total']:.1f} s.{gone}",
    }


def _diff(store: Store, before: list[str], after: list[str]) -> dict[str, str]:
    header = f"sets in {store.folder}"
    texts = ["".join(f"{line}\n" for line in lines) for lines in (before, after)]
    return {"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}


def _dump_options(params: Mapping[str, Any]) -> DumpOptions:
    if params["jobs"] < 1:
        raise RunbookError(
            f"The option jobs is {params['jobs']}. Give a number of processes, 1 or more.", code="option"
        )
    return DumpOptions(
        jobs=params["jobs"],
        compression=params["compression"],
        lock_wait=_lock_wait(params),
        recipients=tuple(params["encrypt_to"]),
        ledger_schema=params["schema"],
        roles_database=params["maintenance_db"],
    )


def _lock_wait(params: Mapping[str, Any]) -> float:
    """Not to wait at all is said with a millisecond: to PostgreSQL, 0 is no limit."""
    return max(seconds("lock_wait", params), 0.001)
