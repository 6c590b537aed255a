# SPDX-License-Identifier: GPL-3.0-or-later
"""Transactional files on a real server: all or nothing, what is recorded, and sessions that do not leak."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import engine
import psycopg
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from engine import ask, refused, run, versions

LEDGER = """
CREATE SCHEMA cm;
CREATE TABLE cm.schema_version (version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ DEFAULT now(), description TEXT);
"""


# --- one transaction per file -----------------------------------------------------------------------------------------


def test_a_failure_in_the_last_statement_leaves_nothing_of_the_file_and_all_of_the_earlier_ones(
    database: Any, tmp_path: Path
) -> None:
    error = refused(
        database,
        tmp_path,
        {
            "001_a.sql": "CREATE TABLE a ();",
            "002_b.sql": "CREATE TABLE b ();\nINSERT INTO cm.schema_version VALUES (2);\n\n  SELECT 1/0;\n",
            "003_c.sql": "CREATE TABLE c ();",
        },
    )
    assert error.message == "002_b.sql:4: division by zero. Nothing of this file was kept."
    assert (error.code, error.details["line"], error.details["sqlstate"]) == ("sql", 4, "22012")
    assert ask(database, "SELECT to_regclass('a')::text, to_regclass('b'), to_regclass('c')") == [("a", None, None)]
    assert versions(database) == [1]
    assert ask(database, "SELECT event, version, detail FROM cm.schema_version_history ORDER BY id") == [
        ("applied", 1, None),
        ("failed", 2, error.message),
    ]


def test_a_first_file_that_fails_leaves_an_empty_database(database: Any, tmp_path: Path) -> None:
    refused(database, tmp_path, {"001_a.sql": "CREATE TABLE a ();\nSELECT 1/0;"})
    assert ask(database, "SELECT to_regnamespace('cm'), to_regclass('a')") == [(None, None)]


def test_the_ledger_row_says_what_ran_who_asked_and_how_long_it_took(database: Any, tmp_path: Path) -> None:
    outcome = run(database, tmp_path, {"004_add_audit_log.sql": "SELECT pg_sleep(0.2);"})
    (done,) = outcome.applied
    row = ask(
        database,
        "SELECT version, description, name, checksum, applied_by, execution_ms, applied_at > now() - interval '1 min' "
        "FROM cm.schema_version",
    )[0]
    assert row[:5] == (4, "add audit log", "004_add_audit_log.sql", done.checksum, engine.REQUESTER)
    assert 200 <= row[5] < 5000
    assert row[6]
    assert 200 <= done.milliseconds < 5000
    ((*event, milliseconds),) = ask(
        database, "SELECT event, version, name, checksum, done_by, execution_ms FROM cm.schema_version_history"
    )
    assert event == ["applied", 4, row[2], row[3], engine.REQUESTER]
    assert row[5] <= milliseconds < row[5] + 1000


def test_files_that_record_themselves_keep_their_description_and_others_get_it_from_their_name(
    database: Any, tmp_path: Path
) -> None:
    own = "INSERT INTO cm.schema_version (version, description) VALUES ({}, {});"
    run(
        database,
        tmp_path,
        {
            "001_first.sql": LEDGER + own.format(1, "'It''s the first'"),
            "002_second_one.sql": "SELECT 1;",
            "003_third.sql": own.format(3, "'Third'"),
            "004_no_words.sql": own.format(4, "NULL"),
        },
    )
    assert ask(database, "SELECT version, description FROM cm.schema_version ORDER BY 1") == [
        (1, "It's the first"),
        (2, "second one"),
        (3, "Third"),
        (4, "no words"),
    ]
    assert ask(database, "SELECT count(*) FROM cm.schema_version WHERE checksum IS NULL OR execution_ms IS NULL") == [
        (0,)
    ]
    # The runbook's own query goes on working.
    assert len(ask(database, "SELECT * FROM cm.schema_version ORDER BY applied_at DESC LIMIT 5")) == 4


def test_the_ledger_can_be_in_a_schema_no_file_creates(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": "CREATE TABLE public.a ();"}, schema="ops")
    assert versions(database, "ops") == [1]
    assert ask(database, "SELECT to_regnamespace('cm')") == [(None,)]


@pytest.mark.parametrize("schema", ['we"ird', "100%s", "back\\slash", "Upper case", "select"])
def test_the_ledger_schema_can_have_any_name(database: Any, tmp_path: Path, schema: str) -> None:
    quoted = '"' + schema.replace('"', '""') + '"'
    undo = engine.write(tmp_path / "undo", {"002_b.sql": "DROP TABLE b;"})
    directory = tmp_path / "init"
    files = {
        "001_a.sql": "CREATE TABLE a (i int); CREATE INDEX CONCURRENTLY ai ON a (i);",
        "002_b.sql": "CREATE TABLE b ();",
    }
    run(database, directory, files, schema=schema)
    assert not run(database, directory, {}, schema=schema).changed
    run(database, directory, {}, schema=schema, version="1", allow_rollback=True, rollback_directory=str(undo))
    assert versions(database, quoted) == [1]


def test_versions_can_be_timestamps_beyond_32_bits(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": LEDGER + "INSERT INTO cm.schema_version VALUES (1);"})
    run(database, tmp_path, {"20260101120000_x.sql": "SELECT 1;", "20260101120001_y.sql": "SELECT 1;"})
    assert versions(database) == [1, 20260101120000, 20260101120001]
    run(database, tmp_path, {"20260101120002_z.sql": "INSERT INTO cm.schema_version VALUES (20260101120002);"})
    assert versions(database)[-1] == 20260101120002
    assert not run(database, tmp_path, {}).changed


# --- all files in one transaction -------------------------------------------------------------------------------------


def test_one_transaction_for_all_files_is_all_or_nothing(database: Any, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "001_a.sql": LEDGER + "INSERT INTO cm.schema_version VALUES (1);",
        "002_b.sql": "CREATE TABLE b ();",
        "003_c.sql": "SELECT 1;\nSELECT 1/0;",
    }
    error = refused(database, tmp_path, files, transaction="all")
    assert error.message == "003_c.sql:2: division by zero. Nothing of the files in this transaction was kept."
    assert ask(database, "SELECT to_regnamespace('cm'), to_regclass('b')") == [(None, None)]
    outcome = run(database, tmp_path, {"003_c.sql": "SELECT pg_sleep(0.1);"}, transaction="all")
    assert [done.version for done in outcome.applied] == versions(database) == [1, 2, 3]
    times = dict(ask(database, "SELECT version, execution_ms FROM cm.schema_version"))
    assert times[3] >= 100 > times[2]
    assert ask(database, "SELECT count(DISTINCT applied_at) FROM cm.schema_version") == [(1,)]


def test_a_file_outside_transactions_divides_the_shared_one(database: Any, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "001_a.sql": "CREATE TABLE a (i int);",
        "002_b.sql": "CREATE TABLE b ();",
        "003_c.sql": "CREATE INDEX CONCURRENTLY ai ON a (i);",
        "004_d.sql": "CREATE TABLE d ();",
        "005_e.sql": "SELECT 1/0;",
    }
    error = refused(database, tmp_path, files, transaction="all")
    assert error.details["file"] == "005_e.sql"
    assert versions(database) == [1, 2, 3]
    assert ask(database, "SELECT event, version FROM cm.schema_version_history ORDER BY id")[-1] == ("failed", 5)
    assert ask(database, "SELECT to_regclass('ai')::text, to_regclass('d')") == [("ai", None)]


# --- sessions ---------------------------------------------------------------------------------------------------------

LEAK = """
CREATE ROLE {role};
SET search_path = pg_catalog;
SET work_mem = '1MB';
SET TIME ZONE 'Asia/Tokyo';
SET standard_conforming_strings = off;
SET client_encoding = 'LATIN1';
CREATE TEMP TABLE leak AS SELECT 1 AS i;
PREPARE leak AS SELECT 1;
DECLARE leak CURSOR WITH HOLD FOR SELECT 1;
LISTEN leak;
SELECT pg_advisory_lock(4711);
CREATE SEQUENCE public.leaked; SELECT nextval('public.leaked');
GRANT {role} TO CURRENT_USER;
SET {how} {role};
"""

NO_LEAK = """
CREATE TABLE public.seen AS SELECT current_user::text AS who, session_user::text AS login,
  current_setting('search_path') AS path, current_setting('work_mem') AS memory, current_setting('TimeZone') AS zone,
  current_setting('standard_conforming_strings') AS strings, current_setting('client_encoding') AS encoding,
  to_regclass('leak') AS temporary, (SELECT count(*) FROM pg_prepared_statements) AS prepared,
  (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors,
  (SELECT count(*) FROM pg_listening_channels()) AS channels,
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks;
"""


@pytest.mark.parametrize("how", ["ROLE", "SESSION AUTHORIZATION"])
@pytest.mark.parametrize("transaction", ["each", "all"])
@pytest.mark.parametrize("leaking", ["", "-- transaction: none\n"])
def test_nothing_of_a_session_reaches_the_next_file(
    database: Any, tmp_path: Path, transaction: str, leaking: str, how: str
) -> None:
    role = f"leak_{database.database}"
    with database.connect() as session:
        clean = session.execute(
            "SELECT current_setting('search_path'), current_setting('work_mem'), current_setting('TimeZone')"
        ).fetchone()
    try:
        leak = leaking + LEAK.format(role=role, how=how)
        files: dict[str, str | bytes] = {"001_a.sql": "CREATE SCHEMA cm;", "002_b.sql": leak, "003_c.sql": NO_LEAK}
        outcome = run(database, tmp_path, files, transaction=transaction)
        assert [done.version for done in outcome.applied] == [1, 2, 3]
        assert versions(database) == [1, 2, 3]
        user = database.user
        seen = ask(database, "SELECT * FROM public.seen")
        assert seen == [(user, user, *clean, "on", "UTF8", None, 0, 0, 0, 0)]
    finally:
        with database.connect() as session:
            session.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("sql", ["{}", "-- transaction: none\n{}"])
def test_a_file_that_ends_as_a_role_without_any_rights_is_recorded(database: Any, tmp_path: Path, sql: str) -> None:
    files: dict[str, str | bytes] = {
        "001_a.sql": sql.format("SET ROLE pg_monitor;\nSELECT 1;"),
        "002_b.sql": "CREATE TABLE b ();",
    }
    assert [done.version for done in run(database, tmp_path, files).applied] == [1, 2]
    assert ask(database, "SELECT tableowner FROM pg_tables WHERE tablename = 'b'") == [(database.user,)]


@pytest.mark.parametrize("header", ["", "-- transaction: none\n"])
def test_a_lock_timeout_of_0_in_a_dump_never_waits_for_ever(database: Any, tmp_path: Path, header: str) -> None:
    run(database, tmp_path, {"001_a.sql": "CREATE TABLE a ();"})
    dump = "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n"
    body = "BEGIN;\nALTER TABLE a ADD i int;\nCOMMIT;" if header else "ALTER TABLE a ADD i int;"
    with database.connect(application_name="reader") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM a")
        started = time.monotonic()
        error = refused(
            database,
            tmp_path,
            {"002_b.sql": header + dump + body},
            lock_timeout="200ms",
            lock_timeout_max="200ms",
            lock_budget="1s",
        )
        assert time.monotonic() - started < 20
        assert error.code == "lock-timeout"
        assert f"pid {reader.info.backend_pid} " in error.message and '"reader"' in error.message
    run(database, tmp_path, {})
    assert versions(database) == [1, 2]


def test_a_statement_timeout_of_the_run_ends_with_advice(database: Any, tmp_path: Path) -> None:
    error = refused(database, tmp_path, {"001_a.sql": "SELECT 1;\nSELECT pg_sleep(60);"}, statement_timeout="100ms")
    assert error.details["sqlstate"] == "57014"
    assert error.message.startswith("001_a.sql:2: canceling statement due to statement timeout. ")
    assert '"-- statement_timeout: 30min"' in error.message
    run(
        database, tmp_path, {"001_a.sql": "-- statement_timeout: 10s\nSELECT pg_sleep(0.3);"}, statement_timeout="100ms"
    )
    assert versions(database) == [1]


def test_working_sessions_say_who_they_are(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": "CREATE TABLE a AS SELECT current_setting('application_name') AS name;"})
    assert ask(database, "SELECT name FROM a") == [(f"schema-runbook migrate {engine.REQUESTER}",)]


# --- odd content ------------------------------------------------------------------------------------------------------


def test_text_that_looks_like_variables_or_templates_stays_as_it_is(database: Any, tmp_path: Path) -> None:
    text = "100% %s %(a)s %% :name :'x' :\"y\" {{ x }} {% if %} {# #} $1 ${HOME} \\1 <%= %> @x ?"
    quoted = "'" + text.replace("'", "''") + "'"
    sql = f"CREATE TABLE a (t text DEFAULT {quoted}); INSERT INTO a VALUES ({quoted}), (DEFAULT); -- {text}"
    run(database, tmp_path, {"001_a.sql": sql})
    assert ask(database, "SELECT t FROM a") == [(text,), (text,)]


@pytest.mark.parametrize("content", [b"", b"-- nothing\r\n/* at all */", b";;\n", b"\\echo hello\n"])
@pytest.mark.parametrize("header", [b"", b"-- transaction: none\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_file_without_statements_is_applied(
    database: Any, tmp_path: Path, mark: bytes, header: bytes, content: bytes
) -> None:
    outcome = run(database, tmp_path, {"001_nothing.sql": mark + header + content})
    assert [(done.version, done.statements) for done in outcome.applied] == [(1, 0)]
    assert ask(database, "SELECT version, description FROM cm.schema_version") == [(1, "nothing")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SELECT 1;\nSELECT '\xff';\n", "001_a.sql:2: byte 0xff is not valid UTF-8. Save the file as UTF-8."),
        (b"SELECT 1;\n\nSELECT '\0';", "001_a.sql:3: a NUL byte (0x00) cannot be part of SQL."),
        ("SELECT 1;".encode("utf-16"), "001_a.sql:1: byte 0xff is not valid UTF-8. It looks like UTF-16."),
    ],
)
def test_bytes_that_are_no_sql_are_refused_before_anything_runs(
    database: Any, tmp_path: Path, content: bytes, message: str
) -> None:
    directory = engine.write(tmp_path, {"000_ok.sql": "CREATE TABLE a ();", "001_a.sql": content})
    with pytest.raises(RunbookError, match="^" + message.replace("(", r"\(").replace(")", r"\)")) as refusal:
        engine.migrate(database, directory)
    assert refusal.value.code == "encoding"
    assert ask(database, "SELECT to_regnamespace('cm'), to_regclass('a')") == [(None, None)]


def test_20_megabytes_on_one_line_are_applied(database: Any, tmp_path: Path) -> None:
    size = 19 * 1024 * 1024
    statement = f"CREATE TABLE a AS SELECT '{'x' * size}'::text AS t; "
    many = "INSERT INTO b VALUES ('ééé;');" * 30_000
    run(database, tmp_path, {"001_a.sql": f"{statement}CREATE TABLE b (t text);{many}"})
    assert ask(database, "SELECT length(t) FROM a") == [(size,)]
    assert ask(database, "SELECT count(*), count(DISTINCT t) FROM b") == [(30_000, 1)]


def test_an_error_in_the_middle_of_a_long_message_names_its_own_line(database: Any, tmp_path: Path) -> None:
    lines = [f"SELECT 'é漢🐘', {number};" for number in range(1, 5001)]
    lines[4321] = "SELECT\n 'ü', nonsense;"
    error = refused(database, tmp_path, {"001_a.sql": "\n".join(lines)})
    assert error.message.startswith('001_a.sql:4323: column "nonsense" does not exist.')
    lines[4321] = "SELECT 1/(SELECT 0);"
    error = refused(database, tmp_path, {"001_a.sql": "\n".join(lines)})
    assert error.message.startswith("001_a.sql:4322: division by zero.")


def test_an_error_in_an_included_file_names_that_file(database: Any, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"001_a.sql": "SELECT 1;\n\\ir parts/x.sql\n", "parts/x.sql": "\n\nSELECT 1/0;"}
    assert refused(database, tmp_path, files).message.startswith("parts/x.sql:3: division by zero.")


def test_copy_data_that_does_not_fit_is_refused_with_the_servers_context(database: Any, tmp_path: Path) -> None:
    sql = "CREATE TABLE a (i int);\nCOPY a FROM stdin;\n1\nx\n\\.\n"
    error = refused(database, tmp_path, {"001_a.sql": sql})
    assert error.message.startswith('001_a.sql:2: invalid input syntax for type integer: "x". Where: COPY a, line 2,')


def test_a_transaction_command_is_refused_with_its_line(database: Any, tmp_path: Path) -> None:
    directory = engine.write(tmp_path, {"001_a.sql": "SELECT 1;\nSELECT 2;\n  COMMIT;"})
    with pytest.raises(RunbookError) as refusal:
        engine.migrate(database, directory)
    assert refusal.value.code == "transaction-control"
    assert refusal.value.message.startswith("001_a.sql:3: the file controls transactions itself (COMMIT). ")


def test_a_lost_connection_says_that_the_next_run_goes_on(database: Any, tmp_path: Path) -> None:
    error = refused(database, tmp_path, {"001_a.sql": "SELECT 1;\nSELECT pg_terminate_backend(pg_backend_pid());"})
    assert error.code == "connection-lost"
    assert "run this again: it goes on where it stopped" in error.message
    assert run(database, tmp_path, {"001_a.sql": "SELECT 1;"}).changed


# --- advice, provoked for real ----------------------------------------------------------------------------------------

PARTITIONED = "CREATE TABLE p (i int) PARTITION BY RANGE (i); CREATE INDEX ON p (i);\n"
COMMITS = "CREATE PROCEDURE c() LANGUAGE plpgsql AS 'BEGIN COMMIT; END';\n"
DEFERRED = """
CREATE TABLE a (i int PRIMARY KEY);
CREATE TABLE b (i int REFERENCES a DEFERRABLE INITIALLY DEFERRED);
INSERT INTO b VALUES (1); INSERT INTO a VALUES (1);
ALTER TABLE b ADD j int;
"""


@pytest.mark.parametrize(
    ("sqlstate", "sql", "advice"),
    [
        ("25001", PARTITIONED + "REINDEX TABLE p;", '"-- transaction: none" in the first line'),
        ("2D000", COMMITS + "CALL c();", '"-- transaction: none" in the first line'),
        ("2D000", "DO 'BEGIN COMMIT; END';", '"-- transaction: none" in the first line'),
        (
            "55P04",
            "CREATE TYPE e AS ENUM ('a');\\;ALTER TYPE e ADD VALUE 'b'; SELECT 'b'::e;",
            "move the use into the next file",
        ),
        ("55006", DEFERRED, "split the file in two"),
        ("42501", "SET ROLE pg_monitor; CREATE TABLE nobody.x ();", "grant it, or act as the owner"),
        ("42P06", "CREATE SCHEMA cm; CREATE SCHEMA cm;", "CREATE SCHEMA IF NOT EXISTS"),
    ],
)
def test_errors_say_what_to_do_next(database: Any, tmp_path: Path, sqlstate: str, sql: str, advice: str) -> None:
    with database.connect() as session:
        session.execute("CREATE SCHEMA nobody; CREATE TYPE e AS ENUM ('a')")
    sql = sql.replace("CREATE TYPE e AS ENUM ('a');\\;", "")
    error = refused(database, tmp_path, {"001_a.sql": sql})
    assert error.details["sqlstate"] == sqlstate
    assert advice in error.message
    assert error.message.startswith("001_a.sql:")


@pytest.mark.parametrize(
    "sql", [PARTITIONED + "REINDEX TABLE p;", COMMITS + "CALL c();", "DO 'BEGIN COMMIT; END';", DEFERRED]
)
def test_the_directive_that_the_advice_names_helps(database: Any, tmp_path: Path, sql: str) -> None:
    refused(database, tmp_path, {"001_a.sql": sql})
    sql = sql.replace("INSERT INTO b VALUES (1); INSERT INTO a VALUES (1);", "INSERT INTO a VALUES (1);")
    run(database, tmp_path, {"001_a.sql": f"-- transaction: none\n{sql}"})
    assert versions(database) == [1]


def test_a_serialisation_failure_is_advised_to_run_again(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_a.sql": "CREATE TABLE a (i int); INSERT INTO a VALUES (1); CREATE EXTENSION dblink;"})
    address = f"host={database.host} port={database.port} user={database.user} dbname={database.database}"
    sql = f"""SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT * FROM a;
SELECT dblink_exec('{address} password={database.password}', 'UPDATE a SET i = 2');
UPDATE a SET i = 3;"""
    error = refused(database, tmp_path, {"002_b.sql": sql})
    assert error.details["sqlstate"] == "40001"
    assert "run it again, or when the application is quiet" in error.message


def test_the_password_of_the_login_is_in_no_message(database: Any, tmp_path: Path) -> None:
    wrong = engine.login(database).to("no_such_database")
    assert database.password not in repr(wrong) + str(wrong)
    with pytest.raises(psycopg.OperationalError):
        database.connect(dbname="no_such_database")
