# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock safety on a real server: whoever holds a lock, the application behind it is never frozen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import drive
import engine
import psycopg
import pytest
from ansible.module_utils.runbook import embedded
from conftest import QUICK, Database, read_password
from project import poll

# What a wait may take longer than the timeout that ends it, on a busy machine.
TOLERANCE = 0.4
WORKER = "application_name LIKE 'schema-runbook migrate%' AND datname = current_database()"
ASLEEP = f"SELECT 1 FROM pg_stat_activity WHERE {WORKER} AND wait_event = 'PgSleep'"


@pytest.fixture
def folder(database: Database, tmp_path: Path) -> Path:
    """A folder whose first migration is applied: three tables to fight over."""
    path = engine.write(
        tmp_path / "init", {"001_tables.sql": "CREATE TABLE t (); CREATE TABLE u (); CREATE TABLE v ();"}
    )
    engine.migrated(database, path)
    return path


@contextlib.contextmanager
def holding(database: Database, *statements: str, **parameters: str) -> Iterator[psycopg.Connection[tuple]]:
    """A transaction of the application that stays open."""
    with database.connect(**{"application_name": "billing", **parameters}) as session:
        session.execute("BEGIN")
        for statement in statements:
            session.execute(statement)
        yield session


@contextlib.contextmanager
def probing(database: Database, table: str) -> Iterator[list[float]]:
    """Other readers: one query after the other; yields how long each took, which is complete afterwards."""
    stop, times = threading.Event(), []

    def read() -> None:
        # A frozen reader is given up after 5 s, so that a broken promise fails the test instead of hanging it.
        with database.connect(application_name="reader", options="-c statement_timeout=5s") as session:
            while not stop.is_set():
                started = time.monotonic()
                with contextlib.suppress(psycopg.errors.QueryCanceled):
                    session.execute(f"SELECT count(*) FROM {table}")
                times.append(time.monotonic() - started)
                stop.wait(0.005)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield times
    finally:
        stop.set()
        thread.join()


def waiting(session: psycopg.Connection[tuple]) -> bool:
    """Whether the migration waits for a lock right now."""
    return bool(
        session.execute(f"SELECT 1 FROM pg_stat_activity WHERE {WORKER} AND wait_event_type = 'Lock'").fetchall()
    )


def waits_for(session: psycopg.Connection[tuple], table: str) -> bool:
    """Whether the migration waits for a lock on this table right now."""
    locks = "pg_locks JOIN pg_stat_activity USING (pid)"
    question = f"SELECT 1 FROM {locks} WHERE {WORKER} AND NOT granted AND relation = '{table}'::regclass"
    return bool(session.execute(question).fetchall())


def history(database: Database, version: int) -> list[tuple[Any, ...]]:
    with database.connect() as session:
        return session.execute(
            "SELECT event, detail FROM cm.schema_version_history WHERE version = %s ORDER BY id", [version]
        ).fetchall()


def columns(database: Database, table: str = "t") -> list[str]:
    with database.connect() as session:
        return [
            name
            for (name,) in session.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum", [table]
            )
        ]


def test_other_readers_never_wait_longer_than_the_timeout_of_the_moment_and_the_migration_gets_through(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_alter.sql": "ALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT * FROM t") as reader, database.connect() as look, probing(database, "t") as times:
        process = drive.start(database, folder, lock_budget="60s")
        for _ in range(2):  # two attempts queue behind the reader, and give up
            poll(lambda: waiting(look))
            poll(lambda: not waiting(look))
        pid = reader.info.backend_pid
        reader.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert columns(database) == ["a"]
    assert 0.3 < max(times) < 1.125 + TOLERANCE  # 500 ms, 750 ms, 1125 ms are the first steps
    (done,) = answer["outcome"]["applied"]
    assert done["retries"] == len(done["lock_waits"]) >= 2
    for wait in done["lock_waits"]:
        assert 300 < wait["waited_ms"] < 1500
        (blocker,) = wait["blockers"]
        assert blocker["pid"] == pid
        assert blocker["user"] == database.user
        assert blocker["application"] == "billing"
        assert blocker["state"] == "idle in transaction"
        assert 0 <= blocker["age_seconds"] < 60
        assert blocker["query"] is None


def test_a_used_up_budget_names_the_blocker_keeps_nothing_and_is_in_the_history(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_alter.sql": "CREATE TABLE n (); ALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT 'secret text' FROM t") as reader:
        report = engine.migrate(database, folder, lock_budget="1s")
        pid = reader.info.backend_pid
    assert report.error is not None
    assert report.error.code == "lock-timeout"
    assert f'pid {pid} (user {database.user}, application "billing", idle in transaction' in report.error.message
    assert "secret text" not in report.error.message
    assert report.error.details["lock_waits"][-1]["blockers"][0]["pid"] == pid
    assert report.outcome.applied == []
    assert report.outcome.version == 1
    (event,) = history(database, 2)
    assert event[0] == "failed"
    assert f"pid {pid}" in event[1]
    with database.connect() as session:
        assert session.execute("SELECT to_regclass('n'), count(*) FROM cm.schema_version").fetchone() == (None, 1)


def test_the_text_of_blocking_queries_is_shown_only_on_request(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_alter.sql": "ALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT 'asked for' FROM t"):
        report = engine.migrate(database, folder, lock_budget="0s", show_blocking_queries=True)
    assert report.error is not None
    assert "running: SELECT 'asked for' FROM t" in report.error.message
    assert len(report.error.details["lock_waits"]) == 1  # a budget of nothing is one attempt, with its timeout


@pytest.mark.parametrize("first_line", ["", "SET lock_timeout = 0;", "SELECT set_config('lock_timeout', '0', true);"])
def test_waits_for_several_locks_add_up_to_no_more_than_one_timeout(
    database: Database, folder: Path, first_line: str
) -> None:
    """Each lock comes free just before its own timeout; the first table would stay closed for the sum of them."""
    engine.write(
        folder,
        {"002_many.sql": f"{first_line} LOCK TABLE t; LOCK TABLE u; LOCK TABLE v; ALTER TABLE t ADD COLUMN a int;"},
    )
    with contextlib.ExitStack() as stack:
        blockers = {table: stack.enter_context(holding(database, f"SELECT * FROM {table}")) for table in "uv"}
        look = stack.enter_context(database.connect())
        times = stack.enter_context(probing(database, "t"))
        process = drive.start(database, folder, lock_timeout="600ms", lock_timeout_max="600ms", lock_budget="60s")
        poll(lambda: waiting(look))
        started = time.monotonic()
        poll(lambda: not waiting(look) or time.monotonic() - started > 0.4)
        blockers["u"].execute("COMMIT")
        poll(lambda: not waiting(look))
        poll(lambda: not waiting(look) and time.monotonic() - started > 1.5)
        blockers["v"].execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert answer["outcome"]["applied"][0]["retries"] >= 1
    assert max(times) < 0.6 + TOLERANCE
    assert columns(database) == ["a"]


def test_a_file_that_swallows_cancellations_cannot_wait_for_ever_either(database: Database, folder: Path) -> None:
    engine.write(
        folder,
        {
            "002_stubborn.sql": "SET lock_timeout = 0; DO $$ BEGIN LOCK TABLE t; "
            "EXCEPTION WHEN query_canceled THEN LOCK TABLE t; END $$;"
        },
    )
    with holding(database, "SELECT * FROM t"), probing(database, "t") as times:
        report = engine.migrate(database, folder, lock_budget="0s")
    assert report.error is not None
    assert report.error.code == "lock-timeout"
    assert max(times) < 0.5 + TOLERANCE


def test_the_directive_of_a_file_replaces_the_ladder(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_alter.sql": "-- lock_timeout: 100ms\nALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT * FROM t"), probing(database, "t") as times:
        report = engine.migrate(database, folder, lock_timeout="2s", lock_timeout_max="2s", lock_budget="3s")
    assert report.error is not None
    assert report.error.code == "lock-timeout"
    assert max(times) < 0.1 + TOLERANCE


def test_a_directive_allows_more_patience_than_the_ladder(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_alter.sql": "-- lock_timeout: 20s\nALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT * FROM t") as reader, database.connect() as look:
        process = drive.start(database, folder, lock_timeout="100ms", lock_timeout_max="100ms")
        poll(lambda: waiting(look))
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            assert waiting(look)
        reader.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert answer["outcome"]["applied"][0]["retries"] == 0


def test_a_deadlock_is_tried_again(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_deadlock.sql": "LOCK TABLE t; SELECT pg_sleep(0.3); LOCK TABLE u;"})
    with database.connect() as session:
        # The migration is the one that looks for deadlocks, and so the one that is sacrificed.
        session.execute(f"ALTER DATABASE \"{database.database}\" SET deadlock_timeout = '50ms'")
    with holding(database, "LOCK TABLE u", options="-c deadlock_timeout=60s") as other, database.connect() as look:
        process = drive.start(database, folder, lock_timeout="20s", lock_timeout_max="20s", lock_budget="60s")
        poll(lambda: look.execute(ASLEEP).fetchall())
        other.execute("LOCK TABLE t")  # waits for the migration, until that is sacrificed
        other.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert answer["outcome"]["applied"][0]["retries"] == 1


def test_a_statement_timeout_is_not_tried_again_and_the_message_says_what_to_write(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_slow.sql": "-- statement_timeout: 200ms\nCREATE TABLE n ();\nSELECT pg_sleep(60);"})
    started = time.monotonic()
    report = engine.migrate(database, folder)
    assert time.monotonic() - started < 5
    assert report.error is not None
    assert report.error.code == "sql"
    assert report.error.details["sqlstate"] == "57014"
    assert report.error.message.startswith("002_slow.sql:3: ")
    assert "statement_timeout: 30min" in report.error.message
    assert [event for event, _ in history(database, 2)] == ["failed"]


def test_a_statement_timeout_while_waiting_for_a_lock_is_not_taken_for_a_lock_timeout(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_alter.sql": "-- statement_timeout: 150ms\nALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT * FROM t"):
        report = engine.migrate(database, folder, lock_timeout="5s", lock_timeout_max="5s")
    assert report.error is not None
    assert report.error.details["sqlstate"] == "57014"


def test_a_busy_ledger_stops_a_run_with_a_sentence_instead_of_holding_it_up_for_ever(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_more.sql": "CREATE TABLE n ();"})
    with holding(database, "LOCK TABLE cm.schema_version") as blocker:
        answer = drive.run(database, folder, lock_budget="1s")
        pid = blocker.info.backend_pid
    assert answer["code"] == "lock-timeout"
    assert f"pid {pid}" in answer["message"]
    with database.connect() as session:
        assert session.execute("SELECT to_regclass('n')").fetchone() == (None,)


@pytest.mark.parametrize(
    "statement", ["VACUUM FULL t;", "DO $$ BEGIN LOCK TABLE t; COMMIT; END $$;", "CALL public.locks_t();"]
)
def test_statements_outside_a_transaction_do_not_freeze_readers_either(
    database: Database, folder: Path, statement: str
) -> None:
    engine.write(folder, {"002_none.sql": f"-- transaction: none\n{statement}"})
    with database.connect() as session:
        session.execute(
            "CREATE PROCEDURE public.locks_t() LANGUAGE plpgsql AS 'BEGIN ALTER TABLE t ADD a int; COMMIT; END'"
        )
    with holding(database, "SELECT * FROM t"), probing(database, "t") as times:
        answer = drive.run(database, folder, lock_budget="2s")
    assert answer["code"] == "lock-timeout", answer["message"]
    assert "billing" in answer["message"]
    assert max(times) < 2.0 + TOLERANCE
    drive.succeed(database, folder)


def test_the_steps_of_a_file_without_transaction_climb_the_ladder_too(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_steps.sql": "CREATE INDEX CONCURRENTLY i ON u ((1)); ALTER TABLE t ADD COLUMN a int;"})
    with holding(database, "SELECT * FROM t") as reader, probing(database, "t") as times, database.connect() as look:
        process = drive.start(database, folder, lock_budget="60s")
        # The index takes its time; the second statement has to wait for the reader and give up once.
        poll(lambda: waits_for(look, "t"))
        poll(lambda: not waits_for(look, "t"))
        reader.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert answer["outcome"]["applied"][0]["retries"] >= 1
    assert max(times) < 1.2 + TOLERANCE
    assert columns(database) == ["a"]


def test_a_concurrent_index_waits_longer_than_any_lock_timeout(database: Database, folder: Path) -> None:
    engine.write(folder, {"002_index.sql": "CREATE INDEX CONCURRENTLY i ON t ((1));"})
    with holding(database, "INSERT INTO t DEFAULT VALUES") as writer, database.connect() as look:
        process = drive.start(database, folder, lock_timeout="100ms", lock_timeout_max="100ms")
        poll(lambda: waiting(look))
        started = time.monotonic()
        while time.monotonic() - started < 1.0:
            assert waiting(look)
        writer.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert answer["outcome"]["applied"][0]["retries"] == 0


def test_the_time_budget_of_concurrent_statements_ends_them_and_the_next_run_builds_anew(
    database: Database, folder: Path
) -> None:
    engine.write(folder, {"002_index.sql": "CREATE INDEX CONCURRENTLY i ON t ((1));"})
    with holding(database, "INSERT INTO t DEFAULT VALUES"), database.connect() as look:
        process = drive.start(database, folder, concurrent_timeout="300ms")
        poll(lambda: look.execute("SELECT to_regclass('i')").fetchone() != (None,))
        answer = drive.finish(process)
    assert answer["code"] == "sql"
    assert answer["details"]["sqlstate"] == "57014"
    assert answer["message"].startswith("002_index.sql:1: ")
    drive.succeed(database, folder)
    with database.connect() as session:
        assert session.execute("SELECT indisvalid FROM pg_index WHERE indrelid = 't'::regclass").fetchall() == [(True,)]


def test_a_prepared_transaction_in_the_way_is_named(home: Path, tmp_path: Path) -> None:
    server, _ = embedded.start(embedded.Wanted(home=str(home), settings={**QUICK, "max_prepared_transactions": "2"}))
    database = Database(
        server.host, server.port, server.user, server.database, server.passfile, read_password(server.passfile)
    )
    folder = engine.write(tmp_path / "init", {"001_t.sql": "CREATE TABLE t ();"})
    engine.migrated(database, folder)
    with holding(database, "SELECT * FROM t", "PREPARE TRANSACTION 'left behind'"):
        pass
    engine.write(folder, {"002_alter.sql": "ALTER TABLE t ADD COLUMN a int;"})
    report = engine.migrate(database, folder, lock_budget="1s")
    assert report.error is not None
    assert report.error.code == "lock-timeout"
    assert "left behind" in report.error.message
    assert "ROLLBACK PREPARED" in report.error.message
    with database.connect() as session:
        session.execute("ROLLBACK PREPARED 'left behind'")
    engine.migrated(database, folder)
    assert columns(database) == ["a"]
