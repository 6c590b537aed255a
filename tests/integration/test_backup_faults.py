# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups that do not come to their end: killed, without room, in each other's way, in the way of locks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import backups
import disk
import engine
import psycopg
import pytest
from ansible.module_utils.runbook import backup, embedded
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.runlock import LOCK_CLASS, RunLock
from ansible.module_utils.runbook.session import connect
from backups import leftovers, names, refused, sealed, take
from conftest import QUICK, Database, read_password
from engine import ask, do
from project import poll


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own, with room for 3 MB."""
    with disk.small_disk(tmp_path / "disk", "3m") as place:
        yield place


@contextmanager
def locked(database: Any, table: str = "ONLY parent") -> Iterator[psycopg.Connection[tuple]]:
    """Somebody who keeps a table from being read, until they roll back.

    A partitioned table without its partitions is in nobody's way but pg_dump's.
    """
    with database.connect(application_name="nightly job") as session:
        session.execute("BEGIN")
        session.execute(f"LOCK TABLE {table}")
        yield session


def waiting(database: Any) -> list[int]:
    """The pids of pg_dump's sessions that wait for a lock."""
    rows = ask(
        database,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND application_name LIKE 'schema-runbook backup%' AND query LIKE 'LOCK TABLE%'",
    )
    return [pid for (pid,) in rows]


def dumping(process: subprocess.Popen[str]) -> list[int]:
    """The pids of pg_dump below a process."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), "pg_dump"], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def fill(database: Any) -> None:
    """Something that takes a moment to dump."""
    do(
        database,
        "CREATE TABLE a (n int, t text)",
        "INSERT INTO a SELECT n, sha512(n::text::bytea)::text FROM generate_series(1, 20000) AS n",
        "CREATE TABLE b AS TABLE a",
        "CREATE TABLE parent (n int) PARTITION BY LIST (n)",
    )


# --- killed ----------------------------------------------------------------------------------------------------------


def test_killed_at_any_moment_it_leaves_whole_sets_only(database: Any, tmp_path: Path) -> None:
    fill(database)
    began = time.monotonic()
    take(database, tmp_path)
    usual = time.monotonic() - began
    ended = 0
    for moment in (0.2, 0.4, 0.6, 0.8, 0.9, 1.0):
        process = backups.start(database, tmp_path)
        time.sleep(moment * usual)
        process.kill()
        process.communicate()
        ended += process.returncode == 0
        whole = sealed(database, tmp_path)  # each of them is checked
        assert all(one.manifest().tables for one in whole)
    assert ended < 6, "none was killed at work"
    assert take(database, tmp_path, run_lock_wait="10s")["changed"]
    assert leftovers(tmp_path) == []


def test_what_a_killed_run_left_at_work_is_ended(database: Any, tmp_path: Path) -> None:
    fill(database)
    with locked(database):
        process = backups.start(database, tmp_path, lock_wait="5min")
        poll(lambda: waiting(database))
        orphans = dumping(process)
        process.kill()
        process.communicate()
        assert orphans and all(Path(f"/proc/{pid}").exists() for pid in orphans)  # pg_dump goes on without it
        assert leftovers(tmp_path) != [] and names(database, tmp_path) == []
        refused(database, tmp_path, lock_wait="100ms", run_lock_wait="10s")
        poll(lambda: not any(is_running(pid) for pid in orphans), seconds=5)
    assert leftovers(tmp_path) == []
    assert take(database, tmp_path)["changed"]


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_killed_pg_dump_fails_the_run(database: Any, tmp_path: Path) -> None:
    fill(database)
    with locked(database) as holder:
        process = backups.start(database, tmp_path, lock_wait="5min")
        poll(lambda: waiting(database))
        (pid,) = poll(lambda: dumping(process))
        os.kill(pid, signal.SIGKILL)
        _, said = process.communicate(timeout=30)
        holder.execute("ROLLBACK")
    assert process.returncode == 1 and "pg_dump" in said and "There is no new set" in said
    assert sealed(database, tmp_path) == [] and leftovers(tmp_path) == []


def test_a_server_that_ends_its_sessions_fails_the_run(database: Any, tmp_path: Path) -> None:
    fill(database)
    take(database, tmp_path)
    with locked(database) as holder:
        process = backups.start(database, tmp_path, lock_wait="5min")
        poll(lambda: waiting(database))
        holder.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'schema-runbook%'"
        )
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1 and "There is no new set" in said and "Traceback" not in said
    assert len(sealed(database, tmp_path)) == 1 and leftovers(tmp_path) == []


# --- no room ---------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_leaves_the_old_sets_and_no_new_one(
    database: Any, small_disk: Path, tmp_path: Path
) -> None:
    first = Path(take(database, tmp_path)["folder"])
    shutil.copytree(first.parent, small_disk / first.parent.name)  # the room is reckoned by this one
    do(
        database,
        "CREATE TABLE a (t bytea)",
        "INSERT INTO a SELECT decode(string_agg(md5(random()::text), ''), 'hex') FROM generate_series(1, 250000)",
    )
    error = refused(database, small_disk)
    assert error.code == "disk-full"
    for part in ("No space left on device", "Make room on that disk", "There is no new set"):
        assert part in error.message
    assert names(database, small_disk) == [first.name] and leftovers(small_disk) == []


def test_too_little_room_is_refused_before_anything_is_begun(database: Any, small_disk: Path) -> None:
    for check_mode in (True, False):
        with pytest.raises(
            RunbookError, match="not enough room for a backup of database .*Nothing was begun"
        ) as caught:
            take(database, small_disk, check_mode=check_mode)
        assert caught.value.code == "disk-full"
    assert list(small_disk.iterdir()) == []


# --- in the way of locks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["a", "ONLY parent"])
def test_whoever_has_a_table_locked_is_named(table: str, database: Any, tmp_path: Path) -> None:
    fill(database)
    with locked(database, table) as holder:
        error = refused(database, tmp_path, lock_wait="0")
        pid = holder.info.backend_pid
    assert error.code == "lock-timeout"
    assert f"pid {pid}" in error.message and 'application "nightly job"' in error.message
    assert f"pg_terminate_backend({pid})" in error.message
    assert sealed(database, tmp_path) == [] and leftovers(tmp_path) == []


def test_a_locked_ledger_is_waited_for_no_longer_than_a_table(database: Any, tmp_path: Path) -> None:
    do(database, "CREATE SCHEMA cm", "CREATE TABLE cm.schema_version (version int)")
    with locked(database, "cm.schema_version"):
        error = refused(database, tmp_path, lock_wait="200ms")
    assert error.code == "lock-timeout" and 'application "nightly job"' in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_prepared_transaction_that_has_a_table_locked_is_named(home: Path, tmp_path: Path) -> None:
    server, _ = embedded.start(embedded.Wanted(home=str(home), settings={**QUICK, "max_prepared_transactions": "2"}))
    password = read_password(server.passfile)
    database = Database(server.host, server.port, server.user, "postgres", server.passfile, password)
    do(database, "CREATE DATABASE shop")
    shop = replace(database, database="shop")
    fill(shop)
    with shop.connect() as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE a")
        session.execute("PREPARE TRANSACTION 'order 66'")
    error = refused(shop, tmp_path, lock_wait="200ms")
    assert error.code == "lock-timeout" and 'prepared transaction "order 66"' in error.message
    assert "ROLLBACK PREPARED" in error.message
    do(shop, "ROLLBACK PREPARED 'order 66'")
    with shop.connect() as session:  # one that keeps nobody from reading is in nobody's way
        session.execute("BEGIN")
        session.execute("DELETE FROM a WHERE n = 1")
        session.execute("PREPARE TRANSACTION 'harmless'")
    assert take(shop, tmp_path)["rows"] == 40000


# --- in each other's way ---------------------------------------------------------------------------------------------


def test_a_backup_during_a_backup_is_refused_and_names_it(database: Any, tmp_path: Path) -> None:
    fill(database)
    with locked(database) as holder:
        first = backups.start(database, tmp_path, lock_wait="1min")
        poll(lambda: waiting(database))
        error = refused(database, tmp_path, run_lock_wait="0")
        holder.execute("ROLLBACK")
    assert error.code == "locked" and 'application "schema-runbook lock backup"' in error.message
    printed, said = first.communicate(timeout=30)
    assert first.returncode == 0, said
    assert names(database, tmp_path) == [json.loads(printed)["set"]]


def test_a_backup_during_a_migration_is_refused_and_names_it(database: Any, tmp_path: Path) -> None:
    with connect(engine.login(database).to("postgres"), "schema-runbook lock migrate ann@laptop") as session:
        RunLock(session, database.database).acquire(0)
        error = refused(database, tmp_path, run_lock_wait="0")
        assert take(database, tmp_path, check_mode=True)["changed"]  # looking needs no lock
    assert error.code == "locked" and "schema-runbook lock migrate ann@laptop" in error.message
    assert take(database, tmp_path)["changed"]


def test_a_migration_during_a_backup_is_refused_and_names_it(database: Any, tmp_path: Path) -> None:
    fill(database)
    with locked(database) as holder:
        process = backups.start(database, tmp_path / "sets", lock_wait="1min")
        poll(lambda: waiting(database))
        error = engine.refused(database, tmp_path / "init", {"001_a.sql": "CREATE TABLE c ();"}, run_lock_wait="0")
        holder.execute("ROLLBACK")
    assert error.code == "locked" and "schema-runbook lock backup" in error.message
    assert process.wait(timeout=30) == 0


def test_a_backup_of_another_database_is_in_nobodys_way(database: Any, tmp_path: Path) -> None:
    with connect(engine.login(database).to("postgres"), "schema-runbook lock backup") as session:
        RunLock(session, "another").acquire(0)
        assert take(database, tmp_path, run_lock_wait="0")["changed"]


def test_without_the_run_lock_nothing_is_sealed(database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = backup._describe

    def cut_off(*arguments: Any) -> None:
        described(*arguments)
        do(
            database,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'schema-runbook lock%' AND pid IN (SELECT pid FROM pg_locks "
            f"WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} "
            f"AND objid::bigint = {zlib.crc32(database.database.encode())})",
        )

    monkeypatch.setattr(backup, "_describe", cut_off)
    error = refused(database, tmp_path)
    assert error.code == "lock-lost"
    assert sealed(database, tmp_path) == [] and leftovers(tmp_path) == []
