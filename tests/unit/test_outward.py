# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that reach out of their database are recognised, and those that look like it are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.runbook.migration import prepare, read_folder
from ansible.module_utils.runbook.outward import kept_inside, reaches_out


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("CREATE DATABASE other", "CREATE DATABASE"),
        ("create role app login;", "CREATE ROLE"),
        ("-- who\nCREATE USER app", "CREATE USER"),
        ("CREATE GROUP staff", "CREATE GROUP"),
        ("CREATE TABLESPACE fast LOCATION '/fast'", "CREATE TABLESPACE"),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p", "CREATE SUBSCRIPTION"),
        ("ALTER DATABASE cm SET search_path = cm", "ALTER DATABASE"),
        ("ALTER USER app SET statement_timeout = '1s'", "ALTER USER"),
        ("ALTER SYSTEM SET work_mem = '1MB'", "ALTER SYSTEM"),
        ("ALTER SUBSCRIPTION s DISABLE", "ALTER SUBSCRIPTION"),
        ("DROP ROLE IF EXISTS app", "DROP ROLE"),
        ("DROP OWNED BY app", "DROP OWNED"),
        ("REASSIGN OWNED BY app TO cm", "REASSIGN OWNED"),
        ("GRANT reader TO app WITH ADMIN OPTION", "GRANT of a role"),
        ('GRANT "on" TO app', "GRANT of a role"),
        ("REVOKE ADMIN OPTION FOR reader FROM app", "REVOKE of a role"),
        ("GRANT CONNECT, TEMPORARY ON DATABASE cm TO app", "GRANT ON DATABASE"),
        ("REVOKE ALL ON TABLESPACE fast FROM app", "REVOKE ON TABLESPACE"),
        ("GRANT SET ON PARAMETER work_mem TO app", "GRANT ON PARAMETER"),
        ("COMMENT ON DATABASE cm IS 'x'", "COMMENT ON DATABASE"),
        ("COMMENT ON ROLE app IS NULL", "COMMENT ON ROLE"),
        ("COMMENT ON SUBSCRIPTION s IS 'x'", "COMMENT ON SUBSCRIPTION"),
        ("SECURITY LABEL FOR anon ON ROLE app IS 'MASKED'", "SECURITY LABEL ON ROLE"),
        ("COPY cm.part (id, name) FROM '/tmp/parts.csv'", "COPY FROM a file"),
        ("COPY (SELECT id FROM cm.part) TO E'/tmp/x'", "COPY TO a file"),
        ("COPY cm.part FROM PROGRAM 'curl x'", "COPY FROM PROGRAM"),
        ("REINDEX DATABASE cm", "REINDEX DATABASE"),
        ("REINDEX (VERBOSE) SYSTEM CONCURRENTLY cm", "REINDEX SYSTEM"),
        ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity", "pg_terminate_backend()"),
        ("SELECT pg_catalog.pg_reload_conf ()", "pg_reload_conf()"),
        ("SELECT * FROM dblink('dbname=x', 'SELECT 1') AS t (a int)", "dblink()"),
        ("INSERT INTO t SELECT lo_import('/etc/passwd')", "lo_import()"),
        ("SELECT pg_create_logical_replication_slot('s', 'pgoutput')", "pg_create_logical_replication_slot()"),
        ("CREATE USER MAPPING IF NOT EXISTS FOR app SERVER s", "CREATE USER MAPPING"),
        ("ALTER USER MAPPING FOR app SERVER s OPTIONS (SET user 'x')", "ALTER USER MAPPING"),
        ("DROP USER MAPPING FOR app SERVER s", "DROP USER MAPPING"),
        ("""SELECT public."dblink_exec" ('c', 'DELETE FROM t')""", "dblink_exec()"),
        ("SELECT dblink_disconnect('c')", "dblink_disconnect()"),
        ("INSERT INTO t SELECT * FROM dblink('c', 'SELECT 1') AS r (a int)", "dblink()"),
        ("WITH r AS (SELECT dblink_exec('c', 'x')) INSERT INTO t SELECT * FROM r", "dblink_exec()"),
        ("CREATE TABLE t AS SELECT * FROM dblink('c', 'SELECT 1') AS r (a int)", "dblink()"),
        ("CREATE UNLOGGED TABLE IF NOT EXISTS t (a) AS SELECT lo_import('/x') WITH DATA;", "lo_import()"),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM public.dblink('c', 'x') AS r (a int)", "dblink()"),
        ("SELECT a INTO t FROM dblink('c', 'SELECT 1') AS r (a int)", "dblink()"),
    ],
)
def test_what_reaches_out_is_named(text: str, construct: str) -> None:
    assert reaches_out(text.encode()) == construct


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE cm.role (id int)",
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE TABLE t AS SELECT * FROM dblink('c', 'x') AS r (a int) WITH NO DATA;",
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM dblink('c', 'x') AS r (a int) WITH NO DATA",
        "CREATE TABLE t (a int DEFAULT dblink_exec('c', 'x'), b int GENERATED ALWAYS AS (a) STORED)",
        "SELECT dblink_build_sql_insert('t', '1', 1, '{a}', '{b}')",
        "NOTIFY migrated",
        "DROP TABLE cm.database",
        'CREATE TABLE "database" (id int)',
        "ALTER TABLE cm.part SET TABLESPACE fast",
        "GRANT SELECT (on_hand, name) ON cm.part TO app",
        "GRANT SELECT ON database TO app",
        "GRANT SELECT ON database.part, tablespace TO app",
        "GRANT SELECT ON ALL TABLES IN SCHEMA cm TO app",
        "REVOKE GRANT OPTION FOR SELECT ON cm.part FROM app",
        "ALTER DEFAULT PRIVILEGES FOR ROLE cm GRANT SELECT ON TABLES TO app",
        "COMMENT ON TABLE cm.part IS 'x'",
        "SECURITY LABEL ON TABLE cm.part IS 'x'",
        "COPY cm.part FROM stdin",
        "COPY (SELECT 'a' FROM t) TO STDOUT",
        "REINDEX TABLE cm.part",
        "REINDEX (VERBOSE) DATABASE",
        "REINDEX DATABASE CONCURRENTLY;",
        "SELECT 'CREATE ROLE app'",
        "SELECT dblink FROM t",
        "CREATE VIEW v AS SELECT * FROM dblink('x', 'y') AS t (a int)",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE ROLE app; END $$",
        "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO app",
        "CREATE SCHEMA s AUTHORIZATION app",
        "SET ROLE app",
        "",
        "DO",
    ],
)
def test_what_stays_inside_is_not_named(text: str) -> None:
    assert reaches_out(text.encode()) == ""


@pytest.mark.parametrize(
    ("body", "construct"),
    [
        ("BEGIN CREATE ROLE app; END", "CREATE ROLE"),
        ("BEGIN IF NOT EXISTS (SELECT FROM pg_roles) THEN CREATE ROLE app; END IF; END", "CREATE ROLE"),
        ("BEGIN IF a THEN NULL; ELSE DROP OWNED BY app; END IF; END", "DROP OWNED"),
        ("BEGIN EXECUTE 'GRANT reader TO app'; END", "GRANT of a role"),
        ("BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO app', current_database()); END", "GRANT ON DATABASE"),
        ("BEGIN EXECUTE $e$ALTER SYSTEM SET work_mem = 1$e$; END", "ALTER SYSTEM"),
        ("DECLARE s text := 'ALTER ROLE app CONNECTION LIMIT 7'; BEGIN EXECUTE s; END", "ALTER ROLE"),
        ("BEGIN FOREACH s IN ARRAY ARRAY['DROP ROLE x'] LOOP EXECUTE s; END LOOP; END", "DROP ROLE"),
        ("BEGIN PERFORM pg_reload_conf(); END", "pg_reload_conf()"),
        ("BEGIN n := 1; x := dblink_exec('a', 'b'); END", "dblink_exec()"),
        ("BEGIN FOR r IN SELECT 1 LOOP COMMENT ON ROLE app IS 'x'; END LOOP; END", "COMMENT ON ROLE"),
    ],
)
def test_do_blocks_are_looked_into(body: str, construct: str) -> None:
    quoted = body.replace("'", "''")
    for block in (f"DO $$ {body} $$", f"DO LANGUAGE plpgsql $x$\n{body}\n$x$;", f"DO '{quoted}'"):
        assert reaches_out(block.encode()) == f"{construct} in a DO block"


@pytest.mark.parametrize(
    "body",
    [
        "BEGIN RAISE NOTICE 'create role app'; END",
        "BEGIN EXECUTE 'CREATE TABLE t (a int)'; RAISE NOTICE 'DROP ROLE x'; END",
        "DECLARE role text; BEGIN role := 'a role'; GRANT SELECT ON t TO app; END",
    ],
)
def test_do_blocks_that_stay_inside_are_kept(body: str) -> None:
    assert reaches_out(f"DO $$ {body} $$".encode()) == ""


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO cm.far (id) VALUES (1)",
        """UPDATE cm."far" SET id = 2""",
        "DELETE FROM ONLY far",
        "TRUNCATE cm.part, cm.far",
        "COPY cm.far FROM stdin",
        "MERGE INTO far USING part ON far.id = part.id WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM cm.far RETURNING id) INSERT INTO cm.part SELECT id FROM gone",
        "INSERT INTO cm.part SELECT id FROM cm.far",
        "CREATE TABLE cm.copied AS TABLE cm.far",
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM cm.far",
    ],
)
def test_what_touches_a_foreign_table_reaches_out(text: str) -> None:
    assert reaches_out(text.encode(), {"far"}) == "the foreign table far" and reaches_out(text.encode()) == ""
    assert reaches_out(f"DO $$ BEGIN {text}; END $$".encode(), {"far"}) == "the foreign table far in a DO block"


@pytest.mark.parametrize(
    "text",
    [
        "ALTER FOREIGN TABLE cm.far OPTIONS (ADD updatable 'false')",
        "CREATE VIEW v AS SELECT * FROM cm.far",
        "CREATE TABLE cm.copied AS TABLE cm.far WITH NO DATA",
        "GRANT SELECT ON cm.far TO app",
        "DROP FOREIGN TABLE far",
        "INSERT INTO cm.part (name) VALUES ('far')",
    ],
)
def test_what_only_defines_something_with_a_foreign_table_stays_inside(text: str) -> None:
    assert reaches_out(text.encode(), {"far"}) == ""


def test_foreign_tables_are_known_to_the_files_behind_the_one_that_makes_them(tmp_path: Path) -> None:
    made = """CREATE FOREIGN TABLE IF NOT EXISTS cm."far" (id int) SERVER s; INSERT INTO far VALUES (1);"""
    (tmp_path / "001_a.sql").write_text(made)
    (tmp_path / "002_b.sql").write_text("DELETE FROM cm.far;")
    foreign: set[str] = set()
    kept = [
        kept_inside(prepare(one, tmp_path, 180000), "i", foreign) for one in read_folder(tmp_path).migrations.values()
    ]
    assert [len(inside.script.statements) for inside, _ in kept] == [1, 0] and foreign == {"far"}
    assert kept[1][1] == ["i/002_b.sql:1: left out, because the foreign table far reaches out of the database."]


def test_a_file_keeps_the_rest_and_a_note_says_where(tmp_path: Path) -> None:
    (tmp_path / "001_a.sql").write_text("CREATE TABLE a (id int);\nCREATE ROLE app;\n\nGRANT SELECT ON a TO app;\n")
    prepared = prepare(read_folder(tmp_path).migrations[1], tmp_path, 180000)
    inside, notes = kept_inside(prepared, "db/init", set())
    assert [statement.line for statement in inside.script.statements] == [1, 4]
    assert notes == ["db/init/001_a.sql:2: left out, because CREATE ROLE reaches out of the database."]
