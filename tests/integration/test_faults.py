# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults: the runner, its sessions and the server are killed in the middle; running again always ends the same way."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drive
import engine
import psycopg
import pytest
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.bundle import write_bundle
from conftest import QUICK, Database, maintenance, read_password
from project import poll
from psycopg import sql

WORKER = "application_name LIKE 'schema-runbook migrate%' AND datname = current_database()"

SOMEBODY = "schema-runbook migrate somebody@gone"

# What a server that crashes may not go without, as opposed to a machine that does.
DURABLE = {**QUICK, "synchronous_commit": "on"}

# Nothing in them may happen twice or not at all without being seen in cm.step. About 1.5 s in all.
FILES = {
    "001_begin.sql": """
        CREATE SCHEMA IF NOT EXISTS cm;
        CREATE TABLE cm.step (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
        CREATE TABLE cm.big (id int, word text);
        INSERT INTO cm.big SELECT n, 'w' || n FROM generate_series(1, 3000) n;
        SELECT pg_sleep(0.1);
        INSERT INTO cm.step (name) VALUES ('001');
    """,
    "002_slow_commit.sql": """
        CREATE FUNCTION cm.dawdle() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN PERFORM pg_sleep(0.15); RETURN NULL; END';
        CREATE TABLE cm.deferred (id int);
        CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON cm.deferred DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION cm.dawdle();
        INSERT INTO cm.deferred VALUES (1);
        INSERT INTO cm.step (name) VALUES ('002');
    """,
    "003_indexes.sql": """
        INSERT INTO cm.step (name) VALUES ('003 before');
        CREATE INDEX CONCURRENTLY big_id ON cm.big (id);
        SET search_path TO cm;
        CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS big_unique ON big (id, word);
        CREATE INDEX CONCURRENTLY ON big ((lower(word)));
        INSERT INTO step (name) SELECT '003 slept' FROM (SELECT pg_sleep(0.15)) s;
        DROP INDEX CONCURRENTLY big_id;
        REINDEX INDEX CONCURRENTLY big_unique;
        INSERT INTO step (name) VALUES ('003 after');
    """,
    "004_none.sql": """-- transaction: none
        BEGIN;
        INSERT INTO cm.step (name) VALUES ('004 first');
        SELECT pg_sleep(0.1) AS inside;
        INSERT INTO cm.step (name) VALUES ('004 second');
        COMMIT;
        VACUUM cm.big;
        INSERT INTO cm.step (name) SELECT '004 slept' FROM (SELECT pg_sleep(0.1)) s;
        INSERT INTO cm.schema_version (version, description) VALUES (4, 'recorded by itself');
        INSERT INTO cm.step (name) VALUES ('004 after');
        SELECT pg_sleep(0.1);
    """,
    "005_copy.sql": "COPY cm.step (name) FROM stdin;\n"
    + "".join(f"005 line {number}\n" for number in range(200))
    + "\\.\nSELECT pg_sleep(0.1);\n",
    "006_end.sql": "ALTER TABLE cm.big ADD COLUMN note text DEFAULT 'none'; SELECT pg_sleep(0.15);",
}


@dataclass(frozen=True)
class Result:
    """All that two databases are compared by."""

    schema: str
    steps: list[str]
    ledger: list[tuple[Any, ...]]
    applied: list[int]
    progress: int
    invalid: list[str]


def result(database: Database) -> Result:
    binaries = Path(embedded.find_binaries(embedded._caller_account("nobody")))
    dump = subprocess.run(
        [
            *(str(binaries / "pg_dump"), "--schema-only", "-h", database.host, "-p", str(database.port)),
            *("-U", database.user, database.database),
        ],
        env={**os.environ, "PGPASSFILE": str(database.passfile)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    with database.connect() as session:

        def column(question: str) -> list[Any]:
            return [value for (value,) in session.execute(question)]

        return Result(
            schema="".join(line for line in dump.splitlines(keepends=True) if not line.startswith("\\")),
            steps=column("SELECT name FROM cm.step ORDER BY name"),
            ledger=session.execute(
                "SELECT version, description, name, checksum, applied_by FROM cm.schema_version ORDER BY version"
            ).fetchall(),
            applied=column("SELECT version FROM cm.schema_version_history WHERE event = 'applied' ORDER BY id"),
            progress=column("SELECT count(*) FROM cm.schema_version_progress")[0],
            invalid=column("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"),
        )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engine.write(tmp_path_factory.mktemp("faults") / "init", FILES)


@pytest.fixture(scope="module")
def undisturbed(server: embedded.Server, folder: Path) -> Result:
    """What the files come to when nobody disturbs them."""
    name = f"undisturbed_{os.getpid()}"
    database = Database(server.host, server.port, server.user, name, server.passfile, read_password(server.passfile))
    with maintenance(database) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    drive.succeed(database, folder)
    found = result(database)
    assert found.applied == [1, 2, 3, 4, 5, 6]
    assert (found.progress, found.invalid) == (0, [])
    assert len(found.steps) == 209
    return found


@pytest.fixture
def own(home: Path) -> Database:
    """A database on a server of the test's own, to be killed."""
    server, _ = embedded.start(embedded.Wanted(home=str(home), settings=DURABLE))
    return Database(
        server.host, server.port, server.user, server.database, server.passfile, read_password(server.passfile)
    )


@contextlib.contextmanager
def doomed(database: Database) -> Iterator[psycopg.Connection[tuple]]:
    """A session that may be dead at its end."""
    session = database.connect()
    try:
        yield session
    finally:
        session.close()


def worker(session: psycopg.Connection[tuple], condition: str = "true") -> int | None:
    """The pid of the working session, when it is as ``condition`` says."""
    row = session.execute(f"SELECT pid FROM pg_stat_activity WHERE {WORKER} AND {condition}").fetchone()
    return int(row[0]) if row else None


def has_the_lock(session: psycopg.Connection[tuple]) -> bool:
    """Whether a run of ours holds its run lock, which it does before it looks for the rest of others."""
    holders = "SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted"
    return bool(ask(session, f"SELECT EXISTS ({holders} AND application_name LIKE '%lock migrate tester@here')"))


def events(database: Database) -> list[tuple[Any, ...]]:
    with database.connect() as session:
        return session.execute("SELECT event, version FROM cm.schema_version_history ORDER BY id").fetchall()


def ask(session: psycopg.Connection[tuple], question: str) -> Any:
    row = session.execute(question).fetchone()
    assert row is not None
    return row[0]


# ---- the runner


@pytest.mark.parametrize("number", range(12))
def test_a_run_killed_twice_at_any_moment_ends_like_an_undisturbed_one(
    database: Database, folder: Path, undisturbed: Result, number: int
) -> None:
    dice = random.Random(number)  # noqa: S311 - the same moments in every run of the tests
    delays = (number * 0.13 + dice.uniform(0, 0.13), dice.uniform(0, 0.8))
    with database.connect() as look:
        for delay in delays:
            process = drive.start(database, folder)
            poll(lambda process=process: worker(look) or process.poll() is not None)
            time.sleep(delay)  # the moment is what varies here
            drive.kill(process)
    drive.succeed(database, folder)
    assert result(database) == undisturbed
    assert drive.succeed(database, folder)["outcome"]["applied"] == []


MOMENTS = {
    "inside a transactional file": "query LIKE '%pg_sleep(0.1)%INSERT INTO cm.step (name) VALUES (''001'')%'",
    "in deferred work at the end of a file": "query LIKE '%SET CONSTRAINTS ALL IMMEDIATE%' AND wait_event = 'PgSleep'",
    "during CREATE INDEX CONCURRENTLY": "query LIKE 'CREATE UNIQUE INDEX%' AND wait_event_type = 'Lock'",
    "between statements of a stepwise file": "query LIKE '%003 slept%'",
    "inside a transaction of the file's own": "query LIKE '%AS inside%'",
    "after a file recorded itself": "query LIKE '%pg_sleep(0.1)%' AND EXISTS "
    "(SELECT 1 FROM cm.schema_version WHERE version = 4)",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed(database: Database, folder: Path, undisturbed: Result, moment: str) -> None:
    """At a moment that is looked for, not guessed; the server finishes or undoes what it was at."""
    with database.connect() as look, database.connect() as old:
        if "CONCURRENTLY" in moment:
            drive.succeed(database, folder, version="2")
            old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            old.execute("INSERT INTO cm.big VALUES (0, 'old')")
            # Dead rows of a rolled back transaction are in no result.
        process = drive.start(database, folder)

        def struck() -> bool:
            try:
                return worker(look, MOMENTS[moment]) is not None
            except psycopg.errors.UndefinedTable:
                return False

        if "CONCURRENTLY" in moment:
            pid = poll(lambda: worker(look, "wait_event_type = 'Lock'"))
            drive.kill(process)
            assert ask(look, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == 1
            assert worker(look) == pid  # the server still builds for a runner that is dead
            old.execute("ROLLBACK")
        else:
            deadline = time.monotonic() + 20
            while not struck():
                assert time.monotonic() < deadline and process.poll() is None
            drive.kill(process)
    drive.succeed(database, folder)
    assert result(database) == undisturbed


def test_the_rest_of_a_dead_run_is_waited_for_and_then_ended(database: Database, tmp_path: Path) -> None:
    """A session with the name of a run, which no lock of its own protects any more, is nobody's."""
    folder = engine.write(tmp_path / "init", {"001_t.sql": "CREATE TABLE t ();"})
    with (
        database.connect(application_name=SOMEBODY) as orphan,
        database.connect() as look,
    ):
        orphan.execute("BEGIN")
        process = drive.start(database, folder)
        poll(lambda: has_the_lock(look))
        assert ask(look, "SELECT to_regclass('t')") is None
        answer = drive.finish(process)
        with pytest.raises(psycopg.OperationalError):
            orphan.execute("SELECT 1")
    assert answer["code"] is None, answer["message"]


def test_an_orphan_that_ends_by_itself_is_not_ended(database: Database, tmp_path: Path) -> None:
    folder = engine.write(tmp_path / "init", {"001_t.sql": "CREATE TABLE t ();"})
    with database.connect(application_name=SOMEBODY) as orphan:
        process = drive.start(database, folder)
        with database.connect() as look:
            poll(lambda: has_the_lock(look))
        orphan.execute("SET application_name TO 'alive'")
        assert drive.finish(process)["code"] is None
        assert orphan.execute("SELECT 1").fetchone() == (1,)


# ---- the server's end of the session


def _terminate(session: psycopg.Connection[tuple], pid: int) -> None:
    session.execute("SELECT pg_terminate_backend(%s)", [pid])


def _kill_backend(_session: psycopg.Connection[tuple], pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


TWO = {
    "001_first.sql": "CREATE TABLE first ();",
    "002_second.sql": "CREATE TABLE second ();\nSELECT pg_sleep(0.5);",
    "003_third.sql": "CREATE INDEX CONCURRENTLY i ON first ((1)); CREATE TABLE third ();",
}


@pytest.mark.parametrize(("end", "word"), [(_terminate, "terminating connection"), (_kill_backend, "connection")])
def test_a_lost_session_in_a_transactional_file_is_reported_as_that_and_leaves_no_half(
    own: Database, tmp_path: Path, end: Any, word: str
) -> None:
    folder = engine.write(tmp_path / "init", TWO)
    process = drive.start(own, folder)
    with doomed(own) as look:
        end(look, poll(lambda: worker(look, "query LIKE '%pg_sleep(0.5)%'")))
    answer = drive.finish(process)
    assert answer["code"] == "connection-lost", answer
    assert answer["message"].startswith("002_second.sql")
    assert word in answer["message"]
    assert [file["version"] for file in answer["outcome"]["applied"]] == [1]
    assert answer["outcome"]["version"] == 1
    poll(lambda: _accepts(own))
    assert events(own) == [("applied", 1)]
    with own.connect() as look:
        assert ask(look, "SELECT to_regclass('second')") is None
    drive.succeed(own, folder)
    assert events(own) == [("applied", 1), ("applied", 2), ("applied", 3)]


@pytest.mark.parametrize("end", [_terminate, _kill_backend])
def test_a_lost_session_in_a_concurrent_index_is_reported_and_the_index_built_anew(
    own: Database, tmp_path: Path, end: Any
) -> None:
    folder = engine.write(tmp_path / "init", TWO)
    drive.succeed(own, folder, version="2")
    with doomed(own) as writer, doomed(own) as look:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO first DEFAULT VALUES")
        process = drive.start(own, folder)
        end(look, poll(lambda: worker(look, "query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'")))
        answer = drive.finish(process)
    assert answer["code"] == "connection-lost", answer
    poll(lambda: _accepts(own))
    with own.connect() as look:
        assert ask(look, "SELECT max(version) FROM cm.schema_version") == 2
        assert ask(look, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") is False
    drive.succeed(own, folder)
    with own.connect() as look:
        assert ask(look, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") is True
        assert ask(look, "SELECT count(*) FROM pg_index WHERE indrelid = 'first'::regclass") == 1


def test_a_time_limit_that_ends_the_session_is_told_as_the_server_told_it(database: Database, tmp_path: Path) -> None:
    slow = "SET transaction_timeout = '300ms';\nSELECT pg_sleep(30);"
    answer = drive.run(database, engine.write(tmp_path / "init", {"001_slow.sql": slow}))
    assert answer["code"] == "connection-lost"
    assert "transaction timeout" in answer["message"]


# ---- the server


@pytest.mark.parametrize("place", ["transaction", "concurrent"])
def test_a_killed_server_is_reported_and_the_next_run_completes(
    home: Path, own: Database, tmp_path: Path, place: str
) -> None:
    folder = engine.write(tmp_path / "init", TWO)
    wanted = embedded.Wanted(home=str(home), settings=DURABLE)
    drive.succeed(own, folder, version="1" if place == "transaction" else "2")
    with doomed(own) as look, doomed(own) as writer:
        writer.execute("BEGIN")
        writer.execute("INSERT INTO first DEFAULT VALUES")
        process = drive.start(own, folder)
        poll(lambda: worker(look, "query LIKE '%pg_sleep(0.5)%' OR query LIKE 'CREATE INDEX%'"))
        postmaster = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        answer = drive.finish(process)
    assert answer["code"] == "connection-lost", answer
    assert answer["outcome"]["applied"] == []
    refused = drive.run(own, folder)
    assert refused["code"] == "connection"
    assert refused["message"].startswith("Cannot connect to database")
    server, _ = embedded.start(wanted)
    again = Database(server.host, server.port, own.user, own.database, own.passfile, own.password)
    done = [("applied", 1)] if place == "transaction" else [("applied", 1), ("applied", 2)]
    assert events(again) == done
    drive.succeed(again, folder)
    assert events(again) == [("applied", 1), ("applied", 2), ("applied", 3)]
    with again.connect() as look:
        assert ask(look, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass") is True


def test_a_server_that_shuts_down_orderly_is_reported_too(home: Path, own: Database, tmp_path: Path) -> None:
    folder = engine.write(tmp_path / "init", TWO)
    process = drive.start(own, folder)
    with doomed(own) as look:
        poll(lambda: worker(look, "query LIKE '%pg_sleep(0.5)%'"))
    embedded.stop(embedded.Wanted(home=str(home)))
    answer = drive.finish(process)
    assert answer["code"] == "connection-lost"
    assert "administrator" in answer["message"]


def _accepts(database: Database) -> bool:
    try:
        database.connect().close()
    except psycopg.OperationalError:
        return False
    return True


# ---- memory


def test_the_memory_of_a_run_depends_on_no_file_s_size_beyond_the_largest_statement(
    database: Database, tmp_path: Path
) -> None:
    line = "x" * 999
    files = {
        "001_copy.sql": "CREATE TABLE big (t text); COPY big FROM stdin;\n" + f"{line}\n" * 60_000 + "\\.\n",
        "002_inserts.sql": "CREATE TABLE rows (t text);\n" + f"INSERT INTO rows VALUES ('{line[:470]}');\n" * 60_000,
        **{f"{number:03}_small.sql": f"CREATE TABLE small{number} ();" for number in range(3, 303)},
    }
    folder = engine.write(tmp_path / "init", files)
    script = tmp_path / "bundle"
    _made, order, tasks = engine.plan(database, folder)
    with script.open("wb") as file:
        write_bundle(file, order, tasks)
    answer = drive.finish(drive.start_bundle(database, script, directory=str(folder)))
    assert answer["code"] is None, answer["message"]
    assert len(answer["outcome"]["applied"]) == 302
    with database.connect() as session:
        assert ask(session, "SELECT count(*) FROM big") == 60_000
        assert ask(session, "SELECT count(*) FROM rows") == 60_000
    # Promised is 64 MB plus the largest file. The files are not kept in memory at all, so they are not allowed for.
    assert answer["peak_kb"] < 64 * 1024


def test_the_driver_weighs_only_the_module_s_half() -> None:
    """Else the memory above would be another program's."""
    seen = subprocess.run(
        [sys.executable, "-c", "import drive, sys; print('engine' in sys.modules)"],
        cwd=Path(drive.__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert seen.stdout == "False\n"
