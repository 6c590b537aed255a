# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking a backup: from the run lock to a sealed set, its copy elsewhere, and the sets that go in return.

A set counts from one moment on, when its folder gets its final name. Before that, everything that could still go wrong
has been tried: the table of contents was read, every file checksummed and brought to the disk, the off-site copy read
back. Sets are only removed after that moment.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import backup_set, facts, retention, space
from ansible.module_utils.runbook.backup_set import BackupSet, SetName
from ansible.module_utils.runbook.client import CLIENT_ARGUMENTS, client_for
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login, account
from ansible.module_utils.runbook.dump import AUTO, GZIP, NONE, ZSTD, Dump, DumpOptions, Stopwatch
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.encryption import check_recipients
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.instructions import instructions
from ansible.module_utils.runbook.manifest import Manifest
from ansible.module_utils.runbook.runlock import RunLock
from ansible.module_utils.runbook.runner import end_orphans
from ansible.module_utils.runbook.session import (
    Session,
    SqlError,
    application_name,
    connect,
    refuse_transaction_pooling,
)
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
    "requested_by": {"type": "str", "default": ""},
}

# Without an older set to go by: a dump is compressed, and has no indexes.
_SHARE_OF_DATABASE = 0.5
_MORE_THAN_LAST = 1.2

_PREPARED = """
SELECT gid FROM pg_catalog.pg_prepared_xacts p
  JOIN pg_catalog.pg_locks l ON l.virtualtransaction = '-1/' || p.transaction::text
 WHERE p.database = %s AND l.mode = 'AccessExclusiveLock' ORDER BY prepared
"""


def take(login: Login, params: Mapping[str, Any], requested_by: str, check_mode: bool) -> dict[str, Any]:
    """Have a sealed set of the database: one that is young enough, or a new one.

    Parameters:
        params: options of ``BACKUP_ARGUMENTS``.
        check_mode: only say what would be done.

    Returns:
        the result of the module ``database_backup``.

    Raises:
        RunbookError: why there is no new set; those that were there still are.
    """
    store = Store.of(params, login.database)
    try:
        return _take(login, params, store, requested_by, check_mode)
    except SqlError as error:
        raise explain(error, f"The backup of {login}", "There is no new set.") from error
    except OSError as error:
        raise RunbookError(
            f"The backup of {login} failed at {error.filename or store.folder}: {error.strerror}. There is no new set; "
            f"the others are as they were. Modules run as account {account()} on this host.",
            code="disk-full" if error.errno == 28 else "file",
        ) from error


def _take(login: Login, params: Mapping[str, Any], store: Store, requested_by: str, check_mode: bool) -> dict[str, Any]:
    policy, now = _policy(params), datetime.now(timezone.utc)
    max_age = timedelta(seconds=seconds("max_age", params))
    name = application_name(OPERATION, requested_by)
    maintenance = login.to(params["maintenance_db"])
    _check_tools(params, store)
    with connect(login, name) as session:
        _refuse_standby(session, login)
        version = facts.schema_version(session, params["schema"])
        fresh = _fresh(store.sealed(), version, now, max_age)
        if fresh is not None:
            return _relied_on(fresh, login, now)
        _require_space(store, session, login)
        if check_mode:
            return _predicted(store, policy, SetName(now.replace(microsecond=0), version), login)
    with connect(maintenance, application_name("lock", requested_by)) as lock_session:
        lock = RunLock(lock_session, login.database)
        refuse_transaction_pooling(lock_session, maintenance)
        lock.acquire(seconds("run_lock_wait", params))
        end_orphans(lock, application_name(OPERATION))
        _prepare_folder(store.folder)
        clock = Stopwatch()
        try:
            with clock.phase("total"), connect(login, name) as session:
                made = _make(session, login, params, store, name, clock)
        except (RunbookError, SqlError) as error:
            raise _with_reason(error, lock_session, login) from error
        removed = _remove(store, policy, params)
    return _taken(made, store, login, removed, clock)


def _make(
    session: Session, login: Login, params: Mapping[str, Any], store: Store, name: str, clock: Stopwatch
) -> BackupSet:
    """Dump, describe, seal."""
    dump = Dump(session, client_for(login, params, name), _dump_options(params), clock)
    with _partial(store.folder, dump.name) as folder:
        manifest = dump.write(folder, login.database)
        session.close()  # the snapshot holds back VACUUM, and is not needed any more
        with clock.phase("seal"):
            _describe(folder, manifest, clock)
        if store.offsite is not None:
            with clock.phase("offsite"):
                store.offsite.upload(folder, store.folder.name, dump.name)
        final = store.folder / str(dump.name)
        folder.rename(final)
        space.sync_entry(store.folder)
    return BackupSet(final, dump.name)


def _describe(folder: Path, manifest: Manifest, clock: Stopwatch) -> None:
    """Everything that makes a dump a set; afterwards it is on the disk and not only in memory."""
    described = replace(manifest, dump_bytes=space.folder_bytes(folder), seconds=dict(clock.seconds))
    (folder / backup_set.INSTRUCTIONS).write_text(instructions(described), encoding="utf-8")
    (folder / backup_set.MANIFEST).write_text(described.to_json(), encoding="utf-8")
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    backup_set.write_checksums(folder)
    space.sync(folder)


@contextmanager
def _partial(parent: Path, name: SetName) -> Iterator[Path]:
    """A folder that does not count yet, and is gone when it is never going to."""
    folder = parent / f"{name}{backup_set.PARTIAL}"
    if (parent / str(name)).exists():
        raise RunbookError(
            f"There is a set {parent / str(name)} already, taken in this very second. Run this again.", code="file"
        )
    folder.mkdir(mode=0o700)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _prepare_folder(folder: Path) -> None:
    """Have the folder, and nothing in it of runs that died: the run lock is held, so nobody is at work there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in folder.glob(f"*{backup_set.PARTIAL}"):
        shutil.rmtree(path)


# --- before it starts ------------------------------------------------------------------------------------------------


def _check_tools(params: Mapping[str, Any], store: Store) -> None:
    if params["encrypt_to"]:
        check_recipients(params["encrypt_to"])
    if store.offsite is not None:
        store.offsite.check()


def _refuse_standby(session: Session, login: Login) -> None:
    if session.query("SELECT pg_catalog.pg_is_in_recovery()")[0][0]:
        raise RunbookError(
            f"The {login} is a standby. Its queries are ended when they are in the way of replay, and it has no rows "
            "of unlogged tables: a backup is taken from the primary. Name that in db_host, or add it to the run.",
            code="standby",
        )


def _require_space(store: Store, session: Session, login: Login) -> None:
    sets = store.sealed()
    if sets:
        needed = space.folder_bytes(sets[-1].path) * _MORE_THAN_LAST
    else:
        needed = _SHARE_OF_DATABASE * int(session.query("SELECT pg_catalog.pg_database_size(%s)", login.database)[0][0])
    space.require(store.folder, round(needed), f"a backup of database {login.database}")


def _fresh(sets: list[BackupSet], version: int, now: datetime, max_age: timedelta) -> BackupSet | None:
    """The newest set, if it is young enough and of the schema that the database has now."""
    past = [one for one in sets if one.name.taken_at <= now]
    if not max_age or not past:
        return None
    newest = past[-1]
    return newest if newest.name.schema_version == version and now - newest.name.taken_at <= max_age else None


def _with_reason(error: RunbookError | SqlError, session: Session, login: Login) -> RunbookError:
    """Name what no session shows: a prepared transaction that keeps a table locked."""
    said = error if isinstance(error, RunbookError) else explain(error, f"The backup of {login}", "")
    if "lock" not in said.message or not session.alive:
        return said
    gids = [gid for (gid,) in session.query(_PREPARED, login.database)]
    if not gids:
        return said
    return RunbookError(
        f'{said.message} A table is locked by the prepared transaction "{gids[0]}", behind which there is no session: '
        "whoever manages transactions there has to COMMIT PREPARED or ROLLBACK PREPARED it.",
        code="prepared-transaction",
    )


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


def _remove(store: Store, policy: retention.Policy, params: Mapping[str, Any]) -> list[str]:
    """Remove what the policy does not keep. A set loses its name first: half a set never counts."""
    going = _removable(store.sealed(), policy)
    for name in going:
        condemned = store.folder / f"{name}{backup_set.PARTIAL}"
        (store.folder / str(name)).rename(condemned)
        shutil.rmtree(condemned)
        if store.offsite is not None and params["offsite_prune"]:
            store.offsite.remove(store.folder.name, name)
    return [str(name) for name in going]


# --- results ---------------------------------------------------------------------------------------------------------


def _described(made: BackupSet, login: Login, now: datetime) -> dict[str, Any]:
    return {
        "database": login.database,
        "set": str(made.name),
        "path": str(made.path),
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
        lock_wait=seconds("lock_wait", params),
        recipients=tuple(params["encrypt_to"]),
        ledger_schema=params["schema"],
        roles_database=params["maintenance_db"],
    )
