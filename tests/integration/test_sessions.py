# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers a run refuses, how runs keep out of each other's way, and what poolers make of it."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import drive
import engine
import psycopg
import pytest
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.application import apply_bundle
from ansible.module_utils.runbook.bundle import write_bundle
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.runlock import RunLock
from ansible.module_utils.runbook.session import connect
from conftest import QUICK, Database, maintenance, read_password
from project import poll
from psycopg import sql

FILES = {
    "001_first.sql": "CREATE TABLE first (); SELECT pg_sleep(0.2);",
    "002_second.sql": "CREATE TABLE second (); SELECT pg_sleep(0.2);",
    "003_third.sql": "CREATE INDEX CONCURRENTLY i ON first ((1)); SELECT pg_sleep(0.2);",
}

ASLEEP = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = %s"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return engine.write(tmp_path / "init", FILES)


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    """A second database of the same server."""
    name = f"{database.database}_other"
    with maintenance(database) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        yield replace(database, database=name)
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def ask(database: Database, question: str) -> Any:
    with database.connect() as session:
        row = session.execute(question).fetchone()
    assert row is not None
    return row[0]


def applied(database: Database) -> list[int]:
    with database.connect() as session:
        found = session.execute("SELECT version FROM cm.schema_version_history WHERE event = 'applied' ORDER BY id")
        return [version for (version,) in found]


def refusal(database: Any, folder: Path) -> RunbookError:
    """The error a run ends with before it changes anything."""
    with pytest.raises(RunbookError) as caught:
        engine.migrate(database, folder)
    assert database.password not in caught.value.message
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message
    return caught.value


# ---- two runs


def test_two_runs_at_once_apply_each_version_once_and_both_end_well(database: Database, folder: Path) -> None:
    answers = [drive.start(database, folder, run_lock_wait="60s") for _ in range(2)]
    codes = [drive.finish(process) for process in answers]
    assert [answer["code"] for answer in codes] == [None, None], codes
    assert applied(database) == [1, 2, 3]
    assert sorted(len(answer["outcome"]["applied"]) for answer in codes) == [0, 3]


def test_a_run_that_does_not_want_to_wait_is_refused_and_told_who_holds_the_lock(
    database: Database, folder: Path
) -> None:
    with connect(engine.login(database).to("postgres"), "schema-runbook lock ann@laptop") as session:
        RunLock(session, database.database).acquire(0)
        report = engine.migrate(database, folder, run_lock_wait="0s")
        pid = session.pid
    assert report.error is not None
    assert report.error.code == "locked"
    assert f'pid {pid}, application "schema-runbook lock ann@laptop", since 20' in report.error.message
    assert database.database in report.error.message
    assert ask(database, "SELECT to_regclass('first')") is None
    assert engine.migrated(database, folder).version == 3


def test_a_run_waits_as_long_as_it_was_told_for_the_run_lock(database: Database, folder: Path) -> None:
    with connect(engine.login(database).to("postgres"), "holder") as session:
        RunLock(session, database.database).acquire(0)
        process = drive.start(database, folder, run_lock_wait="60s")
        with maintenance(database) as look:
            poll(
                lambda: look.execute(
                    "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'schema-runbook lock%' "
                    "AND query LIKE '%pg_try_advisory_lock%' AND state = 'idle'"
                ).fetchall()
            )
    assert drive.finish(process)["code"] is None
    assert applied(database) == [1, 2, 3]


def test_whoever_waits_for_the_run_lock_holds_up_no_concurrent_index(database: Database, folder: Path) -> None:
    with connect(engine.login(database).to("postgres"), "holder") as session:
        RunLock(session, database.database).acquire(0)
        process = drive.start(database, folder, run_lock_wait="60s")
        with database.connect() as worker:
            worker.execute("CREATE TABLE t (); SET statement_timeout = '20s'")
            for number in range(3):
                worker.execute(f"CREATE INDEX CONCURRENTLY i{number} ON t ((1))")
            assert process.poll() is None
    assert drive.finish(process)["code"] is None


def test_the_run_lock_of_one_database_is_not_that_of_another(database: Database, other: Database, folder: Path) -> None:
    with connect(engine.login(database).to("postgres"), "holder") as session:
        RunLock(session, database.database).acquire(0)
        assert engine.migrated(other, folder, run_lock_wait="0s").version == 3


@pytest.mark.parametrize("culprit", ["from outside", "by the file itself"])
def test_a_lost_run_lock_stops_the_run_before_its_next_file(database: Database, tmp_path: Path, culprit: str) -> None:
    end = (
        "SELECT pg_terminate_backend(a.pid, 10000) FROM pg_stat_activity a JOIN pg_locks l USING (pid) "
        "WHERE l.locktype = 'advisory' AND a.application_name LIKE 'schema-runbook lock%' AND l.objid = "
        f"(SELECT crc::bigint::oid FROM (VALUES ({_crc(database.database)})) AS v (crc))"
    )
    second = (
        f"CREATE TABLE second (); {end};" if "itself" in culprit else "CREATE TABLE second (); SELECT pg_sleep(0.5);"
    )
    folder = engine.write(
        tmp_path / "init",
        {"001_a.sql": "CREATE TABLE first ();", "002_b.sql": second, "003_c.sql": "CREATE TABLE third ();"},
    )
    process = drive.start(database, folder)
    if "outside" in culprit:
        with maintenance(database) as session:
            poll(lambda: session.execute(ASLEEP, [database.database]).fetchall())
            assert session.execute(end).fetchall() == [(True,)]
    answer = drive.finish(process)
    assert answer["code"] == "lock-lost", answer
    assert [file["version"] for file in answer["outcome"]["applied"]] == [1, 2]
    assert applied(database) == [1, 2]
    assert ask(database, "SELECT to_regclass('third')") is None
    assert [file["version"] for file in drive.succeed(database, folder)["outcome"]["applied"]] == [3]


def test_a_ledger_that_changed_after_the_plan_makes_the_plan_stale_and_nothing_is_done(
    database: Database, folder: Path, tmp_path: Path
) -> None:
    _made, order, tasks = engine.plan(database, folder)
    bundle = tmp_path / "bundle"
    with bundle.open("wb") as file:
        write_bundle(file, order, tasks)
    engine.migrated(database, folder, version="1")
    with bundle.open("rb") as file:
        report = apply_bundle(file, engine.login(database), engine.options(directory=str(folder)), engine.REQUESTER)
    assert report.stale
    assert report.error is None
    assert not report.outcome.changed
    assert applied(database) == [1]
    assert engine.migrated(database, folder).version == 3


def _crc(name: str) -> int:
    return zlib.crc32(name.encode())


# ---- servers that cannot be used


def test_a_standby_is_refused(home: Path, folder: Path) -> None:
    primary, _ = embedded.start(embedded.Wanted(home=str(home), settings=QUICK))
    standby_data = home.parent / "standby"
    account = embedded._owner(primary.data)
    binaries = embedded.find_binaries(account)
    # A stopped primary's data, told to follow somebody who never comes: a hot standby in recovery.
    embedded.stop(embedded.Wanted(home=str(home)))
    shutil.copytree(primary.data, standby_data)
    (standby_data / "standby.signal").touch()
    for path in (standby_data, *standby_data.rglob("*")):
        account.own(path)
    port = _free_port()
    started = account.run(
        [
            *(str(binaries / "pg_ctl"), "start", "-w", "-t30", f"-D{standby_data}", f"-l{standby_data}/standby.log"),
            *("-o", f"-p {port}"),
        ]
    )
    assert started.returncode == 0, started.stderr
    try:
        database = Database(
            primary.host, port, primary.user, primary.database, primary.passfile, read_password(primary.passfile)
        )
        error = refusal(database, folder)
        assert error.code == "standby"
        assert "Point db_host at the primary" in error.message
    finally:
        account.run([str(binaries / "pg_ctl"), "stop", "-w", "-m", "immediate", f"-D{standby_data}"])


@pytest.mark.parametrize("scope", ["DATABASE", "ROLE"])
def test_a_read_only_database_or_role_is_refused(database: Database, folder: Path, scope: str) -> None:
    role = f"{database.database}_role"
    with maintenance(database) as session:
        session.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'of-the-role'")
        name = database.database if scope == "DATABASE" else role
        session.execute(f"ALTER {scope} {name} SET default_transaction_read_only = on")
        try:
            error = refusal(replace(database, user=role, password="of-the-role"), folder)
        finally:
            session.execute(f"DROP ROLE {role}")
    assert error.code == "read-only"
    assert "default_transaction_read_only" in error.message


def test_servers_that_cannot_be_reached_or_entered_are_refused_in_one_sentence_each(
    database: Database, folder: Path
) -> None:
    for bad, said in (
        (replace(database, port=_free_port()), "Connection refused"),
        (replace(database, password="wrong-and-secret"), "password authentication failed"),
        (replace(database, database="no_such_database"), 'database "no_such_database" does not exist'),
        (replace(database, user="nobody_of_that_name"), "authentication failed"),
        (replace(database, host="no-such-host.invalid"), "no-such-host.invalid"),
    ):
        error = refusal(bad, folder)
        assert error.code == "connection"
        assert error.message.startswith(f"Cannot connect to database {bad.database} at {bad.host}:{bad.port} as user ")
        assert said in error.message


# ---- poolers


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def pgbouncer() -> str:
    """The pooler; continuous integration installs it, so there its absence is a failure."""
    found = shutil.which("pgbouncer", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/local/sbin")
    if found is None and os.environ.get("CI", "") in ("", "false"):
        pytest.skip("pgbouncer is not installed, so pooled connections were not tested (apt-get install pgbouncer)")
    assert found is not None, "pgbouncer is missing: .ci/run installs it"
    return found


@contextlib.contextmanager
def pooled(pgbouncer: str, database: Database, mode: str, size: int, maintenance_mode: str = "") -> Iterator[Database]:
    """The same database through a pooler."""
    account = embedded._caller_account("nobody")  # pgbouncer refuses to run as root, just like PostgreSQL
    folder = database.passfile.parent.parent / f"pooler-{database.database}"
    folder.mkdir()
    port = _free_port()
    target = f"host={database.host} port={database.port} pool_size={size}"
    files = {
        "users": f'"{database.user}" "{database.password}"\n',
        "ini": f"[databases]\n* = {target} pool_mode={mode}\n"
        f"postgres = {target} pool_mode={maintenance_mode or mode}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = plain\nauth_file = {folder}/users\nlogfile = {folder}/log\n",
    }
    for name, content in files.items():
        (folder / name).write_text(content)
    for path in (folder, *folder.iterdir()):
        account.own(path)
    command = [pgbouncer, str(folder / "ini")]
    as_account: dict[str, Any] = {}
    if os.geteuid() == 0:
        as_account = {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **as_account)
    through = replace(database, port=port)
    try:
        poll(lambda: _answers(through))
        yield through
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _answers(database: Database) -> bool:
    try:
        database.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def _lock_is_free(database: Database) -> bool:
    with connect(engine.login(database).to("postgres"), "checks") as session:
        try:
            RunLock(session, database.database).acquire(0)
        except RunbookError:
            return False
    return True


@pytest.mark.parametrize("size", [1, 5])
def test_a_pooler_in_transaction_mode_is_refused_and_keeps_no_lock(
    pgbouncer: str, database: Database, folder: Path, size: int
) -> None:
    with pooled(pgbouncer, database, "transaction", size) as through:
        error = refusal(through, folder)
        assert error.code == "transaction-pooling"
        assert "session mode" in error.message
        assert _lock_is_free(database)
    assert ask(database, "SELECT to_regclass('first')") is None


def test_a_pooler_in_statement_mode_is_refused(pgbouncer: str, database: Database, folder: Path) -> None:
    with pooled(pgbouncer, database, "statement", 5) as through:
        assert refusal(through, folder).code == "transaction-pooling"


def test_a_busy_pooler_in_transaction_mode_is_refused(pgbouncer: str, database: Database, folder: Path) -> None:
    """Application traffic through the same pool does not hide what it is."""
    with pooled(pgbouncer, database, "transaction", 3) as through, contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(through.connect()).execute("BEGIN")
        assert refusal(through, folder).code == "transaction-pooling"


@pytest.mark.parametrize("size", [1, 5])
def test_a_pooler_in_session_mode_is_as_good_as_none(
    pgbouncer: str, database: Database, folder: Path, size: int
) -> None:
    with pooled(pgbouncer, database, "session", size) as through:
        first = drive.succeed(through, folder)
        assert [file["version"] for file in first["outcome"]["applied"]] == [1, 2, 3]
        engine.write(folder, {"004_more.sql": "CREATE TABLE more ();"})
        # What the first run left in the pool must not look like the rest of a dead run, which would be waited for.
        named = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'schema-runbook migrate%' "
        poll(lambda: ask(database, named + "AND datname = current_database()") == 0)
        assert [file["version"] for file in drive.succeed(through, folder)["outcome"]["applied"]] == [4]
        assert _lock_is_free(database)
    assert applied(database) == [1, 2, 3, 4]


def test_behind_a_pooler_in_session_mode_blockers_are_named_and_waits_are_bounded(
    pgbouncer: str, database: Database, tmp_path: Path
) -> None:
    folder = engine.write(tmp_path / "init", {"001_t.sql": "CREATE TABLE t ();"})
    with pooled(pgbouncer, database, "session", 5) as through, database.connect(application_name="billing") as reader:
        drive.succeed(through, folder)
        engine.write(folder, {"002_t.sql": "SET lock_timeout = 0; ALTER TABLE t ADD COLUMN a int;"})
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t")
        answer = drive.run(through, folder, lock_budget="0s")
        pid = reader.info.backend_pid
    assert answer["code"] == "lock-timeout", answer
    assert f'pid {pid} (user {database.user}, application "billing"' in answer["message"]


def test_a_run_lock_behind_a_pooler_in_transaction_mode_is_refused_and_keeps_no_lock(
    pgbouncer: str, database: Database, folder: Path
) -> None:
    """The maintenance database can be in another pool than the one that is migrated."""
    with pooled(pgbouncer, database, "session", 5, maintenance_mode="transaction") as through:
        report = engine.migrate(through, folder)
        assert report.error is not None
        assert report.error.code == "transaction-pooling"
        assert "database postgres" in report.error.message
        assert _lock_is_free(database)
    assert ask(database, "SELECT to_regclass('first')") is None


def test_a_run_killed_behind_a_pooler_frees_its_lock(pgbouncer: str, database: Database, folder: Path) -> None:
    with pooled(pgbouncer, database, "session", 5) as through:
        process = drive.start(through, folder)
        with database.connect() as look:
            poll(lambda: look.execute(ASLEEP, [database.database]).fetchall())
        drive.kill(process)
        drive.succeed(through, folder, run_lock_wait="20s")
    assert applied(database) == [1, 2, 3]
