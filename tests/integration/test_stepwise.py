# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that cannot run in one transaction: durable progress, and concurrent indexes that are really there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import engine
import psycopg
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from engine import ask, do, refused, run, versions


def progress(database: Any) -> list[tuple]:
    """Files under way: version, statements done, statement begun."""
    return ask(database, "SELECT version, done, started FROM cm.schema_version_progress")


def invalid_indexes(database: Any) -> list[tuple]:
    """Indexes that are maintained and never used."""
    return ask(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")


def put_progress(database: Any, version: int, name: str, text: str, before: Sequence[int] = ()) -> None:
    """What a run leaves that was killed while its first statement, ``text``, was under way."""
    oids = "{" + ",".join(str(oid) for oid in before) + "}"
    with database.connect() as session:
        session.execute(
            "INSERT INTO cm.schema_version_progress (version, name, checksum, done, started, starting, before) "
            "VALUES (%s, %s, '', 0, 1, %s, %s)",
            (version, name, hashlib.sha256(text.encode()).hexdigest(), oids),
        )


# --- going on where it stopped ----------------------------------------------------------------------------------------

SIX_STEPS = """
CREATE TABLE public.steps (n int, path text);
SET search_path = public;
INSERT INTO steps VALUES (1, current_setting('search_path'));
VACUUM steps;
INSERT INTO steps VALUES (2, current_setting('search_path')){broken};
INSERT INTO steps VALUES (3, current_setting('search_path'));
"""


def test_a_mended_file_goes_on_at_the_statement_that_failed(database: Any, tmp_path: Path) -> None:
    error = refused(database, tmp_path, {"001_a.sql": SIX_STEPS.format(broken=", (1/0, '')")})
    assert error.message == (
        "001_a.sql:6: division by zero. Statements before this one are done: "
        "run it again after mending the file, it goes on from here."
    )
    assert progress(database) == [(1, 4, 4)]
    assert versions(database) == []
    outcome = run(database, tmp_path, {"001_a.sql": SIX_STEPS.format(broken="")})
    (done,) = outcome.applied
    assert (done.resumed_after, done.statements, done.transaction) == (4, 6, False)
    # SET search_path was run again, the INSERT before it was not.
    assert ask(database, "SELECT n, path FROM steps ORDER BY n") == [(1, "public"), (2, "public"), (3, "public")]
    assert progress(database) == []
    assert ask(database, "SELECT event FROM cm.schema_version_history ORDER BY id") == [("failed",), ("applied",)]
    assert not run(database, tmp_path, {}).changed


def test_a_statement_that_ran_may_not_be_edited_afterwards(database: Any, tmp_path: Path) -> None:
    broken = SIX_STEPS.format(broken=", (1/0, '')")
    refused(database, tmp_path, {"001_a.sql": broken})
    edited = SIX_STEPS.format(broken="").replace("(1, current", "(7, current")
    error = refused(database, tmp_path, {"001_a.sql": edited})
    assert error.code == "interrupted"
    assert error.message == (
        "001_a.sql was interrupted after statement 4, and one of the statements 1 to 4 has been edited since. "
        "They have run already: restore them. From statement 5 on the file may be changed."
    )
    assert progress(database) == [(1, 4, 4)]
    # Another line ending is no edit.
    run(database, tmp_path, {"001_a.sql": SIX_STEPS.format(broken="").replace("\n", "\r\n")})
    assert versions(database) == [1]


def test_a_file_cut_short_of_what_already_ran_is_refused(database: Any, tmp_path: Path) -> None:
    refused(database, tmp_path, {"001_a.sql": SIX_STEPS.format(broken=", (1/0, '')")})
    error = refused(database, tmp_path, {"001_a.sql": "VACUUM;"})
    assert error.code == "interrupted"
    assert versions(database) == []


def test_a_file_mended_into_a_transactional_one_still_goes_on_where_it_stopped(database: Any, tmp_path: Path) -> None:
    begin = "CREATE TABLE a (i int);\nINSERT INTO a VALUES (1), (1);\n"
    refused(database, tmp_path, {"001_a.sql": begin + "CREATE UNIQUE INDEX CONCURRENTLY ai ON a (i);"})
    outcome = run(database, tmp_path, {"001_a.sql": begin + "CREATE INDEX ai ON a (i);"})
    assert outcome.applied[0].resumed_after == 2
    assert ask(database, "SELECT count(*) FROM a") == [(2,)]
    assert progress(database) == []


def test_a_file_that_records_itself_and_fails_later_is_not_taken_as_applied(database: Any, tmp_path: Path) -> None:
    own = "INSERT INTO cm.schema_version (version, description) VALUES (1, 'own');\n"
    files: dict[str, str | bytes] = {"001_a.sql": f"-- transaction: none\n{own}SELECT 1/0;", "002_b.sql": "SELECT 1;"}
    refused(database, tmp_path, files)
    files["001_a.sql"] = f"-- transaction: none\n{own}SELECT 1;"
    assert [done.version for done in run(database, tmp_path, files).applied] == [1, 2]
    assert ask(database, "SELECT version, description FROM cm.schema_version ORDER BY 1") == [(1, "own"), (2, "b")]


def test_an_interrupted_file_is_finished_before_others(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"005_e.sql": "SELECT 1;"})
    refused(database, tmp_path, {"006_f.sql": "VACUUM;\nSELECT 1/0;"})
    files: dict[str, str | bytes] = {"006_f.sql": "VACUUM;\nSELECT 1;", "007_g.sql": "SELECT 1;"}
    assert [done.version for done in run(database, tmp_path, files).applied] == [6, 7]


def test_execution_time_of_a_stepwise_file_is_recorded(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": "VACUUM;\nSELECT pg_sleep(0.2);"})
    ((milliseconds,),) = ask(database, "SELECT execution_ms FROM cm.schema_version")
    assert 200 <= milliseconds < 10_000


# --- transactions of the file's own -----------------------------------------------------------------------------------


def test_a_files_own_transactions_are_committed_with_their_progress(database: Any, tmp_path: Path) -> None:
    begin = """-- transaction: none
CREATE TABLE a (i int);
BEGIN;
INSERT INTO a VALUES (1);
SAVEPOINT s; INSERT INTO a VALUES (99); ROLLBACK TO s;
COPY a FROM stdin;
2
\\.
COMMIT;
BEGIN;
INSERT INTO a VALUES (3);
"""
    refused(database, tmp_path, {"001_a.sql": begin + "SELECT 1/0;\nEND;"})
    # The failed transaction is gone, and runs again from its BEGIN.
    assert progress(database) == [(1, 8, 8)]
    assert ask(database, "SELECT i FROM a ORDER BY i") == [(1,), (2,)]
    outcome = run(database, tmp_path, {"001_a.sql": begin + "END;\nSTART TRANSACTION; DROP TABLE a; ROLLBACK WORK;"})
    assert outcome.applied[0].resumed_after == 8
    assert ask(database, "SELECT i FROM a ORDER BY i") == [(1,), (2,), (3,)]


def test_a_transaction_left_open_is_refused_and_rolled_back(database: Any, tmp_path: Path) -> None:
    error = refused(database, tmp_path, {"001_a.sql": "-- transaction: none\nBEGIN;\nCREATE TABLE a ();"})
    assert error.code == "transaction-control"
    assert error.message == "001_a.sql begins a transaction that it does not end. Add COMMIT to the file."
    assert ask(database, "SELECT to_regclass('a')") == [(None,)]
    assert versions(database) == []


def test_procedures_and_do_blocks_that_commit_work_with_the_directive(database: Any, tmp_path: Path) -> None:
    sql = """-- transaction: none
CREATE TABLE a (i int);
CREATE PROCEDURE fill() LANGUAGE plpgsql AS $$
BEGIN FOR n IN 1..3 LOOP INSERT INTO a VALUES (n); COMMIT; END LOOP; END $$;
CALL fill();
DO $$ BEGIN INSERT INTO a VALUES (10); COMMIT; INSERT INTO a VALUES (11); ROLLBACK; END $$;
COPY a FROM stdin;
20
\\.
"""
    run(database, tmp_path, {"001_a.sql": sql})
    assert ask(database, "SELECT array_agg(i ORDER BY i) FROM a") == [([1, 2, 3, 10, 20],)]
    assert versions(database) == [1]


def test_an_enum_value_can_be_used_where_it_is_added_with_the_directive(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": "CREATE TYPE e AS ENUM ('a'); CREATE TABLE t (e e);"})
    sql = "ALTER TYPE e ADD VALUE 'b';\nINSERT INTO t VALUES ('b');\n"
    error = refused(database, tmp_path, {"002_b.sql": sql})
    assert error.details["sqlstate"] == "55P04"
    assert 'or put "-- transaction: none" in the first line of this one' in error.message
    run(database, tmp_path, {"002_b.sql": f"-- transaction: none\n{sql}"})
    assert ask(database, "SELECT e::text FROM t") == [("b",)]


# --- concurrent indexes -----------------------------------------------------------------------------------------------

TABLE = (
    'CREATE SCHEMA "Odd; ""Schema"; CREATE TABLE "Odd; ""Schema"."T" (i int, t text); CREATE TABLE a (i int, t text);'
)

INDEXES = [
    ("ai", "a", "CREATE UNIQUE INDEX CONCURRENTLY {} ai ON a (i);"),
    ("AI", "a", "create unique index concurrently {} AI on only a using btree (i);"),
    (
        '"Odd; ""Name"',
        '"Odd; ""Schema"."T"',
        'CREATE UNIQUE INDEX CONCURRENTLY {} "Odd; ""Name" ON "Odd; ""Schema"."T" (i);',
    ),
    ("x" * 70, "a", f"CREATE UNIQUE INDEX CONCURRENTLY {{}} {'x' * 70} ON a (i);"),
]


def leave_invalid(database: Any, name: str, table: str) -> None:
    """An INVALID index, made the way they come about: by a unique violation."""
    do(database, f"INSERT INTO {table} VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        do(database, f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} (i)")
    do(database, f"DELETE FROM {table}")
    assert len(invalid_indexes(database)) == 1


@pytest.mark.parametrize("if_not_exists", ["", "IF NOT EXISTS"])
@pytest.mark.parametrize(("name", "table", "create"), INDEXES)
def test_an_invalid_index_of_that_name_is_dropped_and_built_anew(
    database: Any, tmp_path: Path, name: str, table: str, create: str, if_not_exists: str
) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE})
    leave_invalid(database, name, table)
    before = ask(database, "SELECT indexrelid FROM pg_index WHERE NOT indisvalid")
    run(database, tmp_path, {"002_b.sql": create.format(if_not_exists)})
    assert invalid_indexes(database) == []
    assert ask(database, f"SELECT indisvalid FROM pg_index WHERE indrelid = '{table}'::regclass") == [(True,)]
    assert before != ask(database, f"SELECT indexrelid FROM pg_index WHERE indrelid = '{table}'::regclass")
    assert versions(database) == [1, 2]


def test_a_valid_index_of_that_name_is_kept_where_the_statement_says_so(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE + "CREATE INDEX ai ON a (i);"})
    before = ask(database, "SELECT 'ai'::regclass::oid")
    error = refused(database, tmp_path, {"002_b.sql": "CREATE INDEX CONCURRENTLY ai ON a (i);"})
    assert 'relation "ai" already exists' in error.message
    run(database, tmp_path, {"002_b.sql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS ai ON a (i);"})
    assert ask(database, "SELECT 'ai'::regclass::oid") == before


@pytest.mark.parametrize("name", ["ai", "IF NOT EXISTS ai", ""])
def test_a_unique_violation_leaves_no_index_and_no_record(database: Any, tmp_path: Path, name: str) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE + "INSERT INTO a VALUES (1), (1); CREATE INDEX other ON a (t);"})
    files: dict[str, str | bytes] = {"002_b.sql": f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON a (i);"}
    error = refused(database, tmp_path, files)
    assert error.details["sqlstate"] == "23505"
    assert "Detail: Key (i)=(1) is duplicated." in error.message
    assert ask(database, "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'a'::regclass") == [
        ("other",)
    ]
    assert versions(database) == [1]
    do(database, "DELETE FROM a")
    run(database, tmp_path, files)
    assert versions(database) == [1, 2]
    assert ask(database, "SELECT count(*) FROM pg_index WHERE indisvalid AND indrelid = 'a'::regclass") == [(2,)]


@pytest.mark.parametrize("name", ["ai", ""])
def test_a_killed_runs_index_is_recognised_whether_it_came_through_or_not(
    database: Any, tmp_path: Path, name: str
) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE, "002_b.sql": "VACUUM a;"})
    # Came through, but nobody could note it any more: it is not built twice.
    text = f"CREATE INDEX CONCURRENTLY {name} ON a (i);"
    put_progress(database, 3, "003_c.sql", text)
    do(database, "CREATE INDEX ai ON a (i)")
    built = ask(database, "SELECT 'ai'::regclass::oid")
    run(database, tmp_path, {"003_c.sql": text})
    assert ask(database, "SELECT indexrelid FROM pg_index WHERE indrelid = 'a'::regclass") == built
    # Did not come through: the rest is dropped, what was there before stays.
    do(database, "DROP INDEX ai", "CREATE INDEX other ON a (t)")
    leave_invalid(database, name or "a_i_rest", "a")
    text = f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON a (i);"
    put_progress(database, 4, "004_d.sql", text, before=[ask(database, "SELECT 'other'::regclass::oid")[0][0]])
    run(database, tmp_path, {"004_d.sql": text})
    assert invalid_indexes(database) == []
    assert ask(database, "SELECT count(*) FROM pg_index WHERE indrelid = 'a'::regclass") == [(2,)]
    assert versions(database) == [1, 2, 3, 4]


def test_an_index_that_somebody_is_building_is_left_alone(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE})
    with database.connect() as reader, database.connect() as builder:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("LOCK TABLE a IN ROW EXCLUSIVE MODE")
        builder.pgconn.send_query(b"CREATE INDEX CONCURRENTLY ai ON a (i)")
        while not invalid_indexes(database):
            assert builder.pgconn.status == psycopg.pq.ConnStatus.OK
        error = refused(database, tmp_path, {"002_b.sql": "CREATE INDEX CONCURRENTLY ai ON a (i);"})
        assert error.code == "index-in-progress"
        assert "002_b.sql:1: the index " in error.message and f"by pid {builder.info.backend_pid}." in error.message
        reader.execute("ROLLBACK")
        while builder.pgconn.get_result() is not None:
            pass
    assert invalid_indexes(database) == []


def test_indexes_are_dropped_concurrently_also_when_a_killed_run_already_had(database: Any, tmp_path: Path) -> None:
    run(
        database,
        tmp_path,
        {"001_a.sql": TABLE + "CREATE INDEX ai ON a (i);", "002_b.sql": "DROP INDEX CONCURRENTLY ai;"},
    )
    put_progress(database, 3, "003_c.sql", "DROP INDEX CONCURRENTLY ai;")
    run(database, tmp_path, {"003_c.sql": "DROP INDEX CONCURRENTLY ai;"})
    assert versions(database) == [1, 2, 3]
    error = refused(database, tmp_path, {"004_d.sql": "DROP INDEX CONCURRENTLY ai;"})
    assert 'index "ai" does not exist' in error.message


def test_reindex_drops_what_a_killed_run_left_and_nothing_else(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE + "CREATE INDEX ai ON a (i);", "002_b.sql": "VACUUM;"})
    leave_invalid(database, "ai_ccnew", "a")
    leave_invalid_of_others(database)
    others = ask(database, "SELECT 'b_ccnew'::regclass::oid")[0][0]
    put_progress(database, 3, "003_c.sql", "REINDEX INDEX CONCURRENTLY ai;", before=[others])
    before = ask(database, "SELECT pg_relation_filenode('ai')")
    run(database, tmp_path, {"003_c.sql": "REINDEX INDEX CONCURRENTLY ai;"})
    assert invalid_indexes(database) == [("b_ccnew",)]
    assert ask(database, "SELECT pg_relation_filenode('ai')") != before
    assert ask(database, "SELECT count(*) FROM pg_index WHERE indrelid = 'a'::regclass") == [(1,)]


def leave_invalid_of_others(database: Any) -> None:
    """An INVALID index on a table the migration has nothing to do with."""
    do(database, "CREATE TABLE b (i int)", "INSERT INTO b VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        do(database, "CREATE UNIQUE INDEX CONCURRENTLY b_ccnew ON b (i)")


PARTITIONS = """
CREATE TABLE p (i int) PARTITION BY RANGE (i);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (10);
"""
ATTACHED = "SELECT count(*) FROM pg_inherits WHERE inhrelid = 'p1'::regclass"
DETACH: dict[str, str | bytes] = {"003_c.sql": "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY;"}


def test_a_partition_is_detached_concurrently(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": PARTITIONS, **DETACH})
    assert ask(database, ATTACHED) == [(0,)]


def test_a_pending_detach_of_a_killed_run_is_finished(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": PARTITIONS, "002_b.sql": "VACUUM p1;"})
    with database.connect() as reader, database.connect() as killed:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM p")
        killed.execute("SET statement_timeout = '500ms'")
        # It waits for the reader between its two transactions; ended there, the detach stays pending.
        with pytest.raises(psycopg.errors.QueryCanceled):
            killed.execute("ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY")
    assert ask(database, "SELECT inhdetachpending FROM pg_inherits") == [(True,)]
    put_progress(database, 3, "003_c.sql", str(DETACH["003_c.sql"]))
    run(database, tmp_path, DETACH)
    assert ask(database, ATTACHED) == [(0,)]
    assert versions(database) == [1, 2, 3]


def test_a_detach_that_a_killed_run_finished_is_recorded(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": PARTITIONS, "002_b.sql": "VACUUM p1;"})
    do(database, "ALTER TABLE p DETACH PARTITION p1")
    put_progress(database, 3, "003_c.sql", str(DETACH["003_c.sql"]))
    run(database, tmp_path, DETACH)
    assert versions(database) == [1, 2, 3]


def test_an_index_build_ends_after_its_own_time_budget_and_leaves_nothing(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": TABLE})
    files: dict[str, str | bytes] = {"002_b.sql": "CREATE INDEX CONCURRENTLY ai ON a (i);"}
    with database.connect() as writer:
        writer.execute("BEGIN")
        writer.execute("LOCK TABLE a IN ROW EXCLUSIVE MODE")
        error = refused(
            database, tmp_path, files, concurrent_timeout="300ms", lock_timeout="10ms", lock_timeout_max="10ms"
        )
    assert error.details["sqlstate"] == "57014"
    assert versions(database) == [1]
    run(database, tmp_path, files)
    assert invalid_indexes(database) == []
    assert versions(database) == [1, 2]


# --- rolling back -----------------------------------------------------------------------------------------------------


def test_a_stepwise_rollback_that_drops_the_ledger_itself_ends_with_nothing(database: Any, tmp_path: Path) -> None:
    up: dict[str, str | bytes] = {
        "001_a.sql": "CREATE SCHEMA cm; CREATE TABLE cm.a (i int); CREATE INDEX ai ON cm.a (i);"
    }
    down = "DROP INDEX CONCURRENTLY cm.ai;\nDROP SCHEMA cm CASCADE;\nVACUUM;\n"
    undo = engine.write(tmp_path / "undo", {"001_a.sql": down})
    run(database, tmp_path / "init", up)
    outcome = run(database, tmp_path / "init", {}, version="0", allow_rollback=True, rollback_directory=str(undo))
    assert [done.version for done in outcome.rolled_back] == [1]
    assert ask(database, "SELECT to_regnamespace('cm')") == [(None,)]
    assert run(database, tmp_path / "init", up).version == 1


def test_a_rollback_that_failed_half_way_can_be_finished(database: Any, tmp_path: Path) -> None:
    directory = engine.write(
        tmp_path / "init",
        {"001_a.sql": "CREATE TABLE a (i int); CREATE INDEX ai ON a (i);", "002_b.sql": "CREATE INDEX ai2 ON a (i);"},
    )
    back = {"version": "1", "allow_rollback": True, "rollback_directory": str(tmp_path / "undo")}
    down = "DROP INDEX CONCURRENTLY ai2;\nDELETE FROM cm.schema_version WHERE version = 2;\nSELECT 1{};"
    engine.write(tmp_path / "undo", {"002_b.sql": down.format("/0")})
    engine.migrated(database, directory)
    error = refused(database, directory, {}, **back)
    assert error.code == "sql"
    assert versions(database) == [1]
    with pytest.raises(RunbookError) as refusal:
        engine.migrate(database, directory)
    assert refusal.value.code == "interrupted"
    assert refusal.value.message.startswith(
        "The rollback of 002_b.sql was interrupted after statement 2. Finish it first"
    )
    engine.write(tmp_path / "undo", {"002_b.sql": down.format("")})
    outcome = run(database, directory, {}, **back)
    assert [(done.version, done.resumed_after) for done in outcome.rolled_back] == [(2, 2)]
    assert progress(database) == []
    assert [done.version for done in engine.migrated(database, directory).applied] == [2]
