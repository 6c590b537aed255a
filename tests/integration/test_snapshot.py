# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of real databases: equal where the databases are, and otherwise different in what was changed only.

Everything runs on each major version there is: the embedded server's, Debian's packages and the lab's container.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lab
import psycopg
import pytest
from ansible.module_utils.runbook import comparison, embedded, snapshot
from ansible.module_utils.runbook.session import Session, SqlError, connect
from ansible.module_utils.runbook.snapshot import Snapshot
from conftest import reachable_directory, read_password
from engine import ask, do, login, run
from test_docker_runtime import is_ready, poll, start

# One server of each version is enough.
pytestmark = pytest.mark.xdist_group("snapshot")

ROLES = ("snap_app", "snap_owner")

# Where Debian and Ubuntu put the binaries of a major version.
DEBIAN = "/usr/lib/postgresql/{}/bin"


@dataclass(frozen=True)
class Place:
    """A database on a server of some version, and the way to that version's client programs."""

    host: str
    port: int
    user: str
    password: str
    programs: tuple[str, ...]
    major: int = 0
    database: str = "postgres"

    def connect(self) -> psycopg.Connection[tuple]:
        """Open an autocommit session."""
        return psycopg.connect(self.url, autocommit=True)

    @property
    def url(self) -> str:
        """For libpq and its programs."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}"

    def to(self, database: str) -> Place:
        """Another database on the same server."""
        return replace(self, database=database)

    def client(self, program: str, *arguments: str, stdin: bytes = b"") -> bytes:
        """Run a client program of the server's own version."""
        command = [*self.programs[:-1], self.programs[-1] + program, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    def take(self, **given: Any) -> Snapshot:
        """A snapshot of the database."""
        with connect(login(self), "test") as session:
            return snapshot.take(session, **given)


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[15, 17, 18])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The server of each version, with the roles that the tests mention."""
    with contextlib.ExitStack() as stack:
        if request.param == 18:
            found = of_embedded(request.getfixturevalue("server"))
        elif Path(DEBIAN.format(request.param)).is_dir():
            found = stack.enter_context(of_packages(request.param))
        elif request.param == 17:
            request.getfixturevalue("engine")
            found = stack.enter_context(of_container())
        else:
            pytest.skip(f"There are no binaries of PostgreSQL {request.param} in {DEBIAN.format(request.param)}.")
        with found.connect() as session:
            found = replace(found, major=session.info.server_version // 10000)
            for role in ROLES:
                session.execute(f"CREATE ROLE {role}")  # type: ignore[call-overload]
        assert found.major == request.param
        yield found
        with found.connect() as session:
            for role in ROLES:
                session.execute(f"DROP ROLE {role}")  # type: ignore[call-overload]


def of_embedded(server: embedded.Server) -> Place:
    binaries = embedded.find_binaries(embedded._account_of(os.geteuid(), os.getegid()))
    return Place(server.host, server.port, server.user, read_password(server.passfile), (f"{binaries}/",))


@contextlib.contextmanager
def of_packages(major: int) -> Iterator[Place]:
    binaries = DEBIAN.format(major)
    account = "nobody" if os.geteuid() == 0 else None
    port = str(embedded._free_port())
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -c unix_socket_directories=''"
    with reachable_directory() as folder:
        data = folder / "data"
        data.mkdir()
        if account:
            os.chown(data, pwd.getpwnam(account).pw_uid, -1)

        def control(program: str, *arguments: str) -> None:
            command = [f"{binaries}/{program}", f"--pgdata={data}", *arguments]
            subprocess.run(command, user=account, cwd="/", check=True, stdout=subprocess.DEVNULL)

        control("initdb", "--auth=trust", "--username=cm", "--no-sync", "--locale=C.UTF-8", "--encoding=UTF8")
        control("pg_ctl", "--wait", f"--log={data}/log", f"--options={options}", "start")
        try:
            yield Place("127.0.0.1", int(port), "cm", "", (f"{binaries}/",))
        finally:
            control("pg_ctl", "--mode=immediate", "stop")


@contextlib.contextmanager
def of_container() -> Iterator[Place]:
    stack = lab.unique_name()
    try:
        name = start(stack, POSTGRES_USER="cm", POSTGRES_DB="cm", POSTGRES_PASSWORD="open")
        poll(lambda: is_ready(name))
        address = lab.docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        yield Place(address, 5432, "cm", "open", ("docker", "exec", "--interactive", name, ""))
    finally:
        lab.down(stack)


_names = (f"snap{os.getpid()}_{number}" for number in itertools.count(1))


@contextlib.contextmanager
def created(place: Place, template: str = "template1") -> Iterator[Place]:
    """A database that is dropped at the end."""
    name = next(_names)
    do(place, f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        yield place.to(name)
    finally:
        do(place, f"DROP DATABASE {name} WITH (FORCE)")


# --- a database with some of everything -------------------------------------------------------------------------------

RICH = """
CREATE SCHEMA cm; COMMENT ON SCHEMA cm IS 'The shop.'; CREATE SCHEMA other;
CREATE EXTENSION pg_trgm SCHEMA other; CREATE EXTENSION citext SCHEMA other;
CREATE TYPE cm.mood AS ENUM ('sad', 'ok', 'happy'); CREATE TYPE cm.pair AS (a int, b text COLLATE "C");
CREATE DOMAIN cm.age AS int DEFAULT 1 NOT NULL CONSTRAINT positive CHECK (VALUE > 0);
CREATE TYPE cm.span AS RANGE (subtype = float8, subtype_diff = float8mi); CREATE TYPE cm.shell;
CREATE COLLATION cm.plain (locale = 'C');
CREATE SEQUENCE cm.tickets AS int INCREMENT 5 CACHE 10;
CREATE FUNCTION cm.touch() RETURNS trigger LANGUAGE plpgsql SET work_mem = '1MB' AS $$
BEGIN
  -- keeps the row
  RETURN NEW;
END $$;
CREATE FUNCTION cm.twice(n int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';
CREATE FUNCTION cm.twice(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT n * 2; END;
CREATE FUNCTION cm.same(one int, other int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT one = other';
CREATE PROCEDURE cm.clean(INOUT n int) LANGUAGE plpgsql AS 'BEGIN n := 1; END';
CREATE FUNCTION cm.numbers() RETURNS SETOF int LANGUAGE sql ROWS 7 AS 'SELECT 1';
CREATE AGGREGATE cm.total(int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE OPERATOR cm.=== (function = cm.same, leftarg = int, rightarg = int);
CREATE CAST (cm.mood AS int) WITH INOUT AS ASSIGNMENT;
CREATE TEXT SEARCH DICTIONARY cm.plain_words (TEMPLATE = simple, accept = false);
CREATE TEXT SEARCH CONFIGURATION cm.words (COPY = simple);

CREATE TABLE cm.account (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(80) NOT NULL,
  status varchar DEFAULT 'new' CHECK (status IN ('new', 'old', 'it''s, [gone]')),
  price numeric(10, 2) DEFAULT 0 CONSTRAINT sane CHECK (price >= 0), code text COLLATE "C", mood cm.mood DEFAULT 'ok',
  gross numeric GENERATED ALWAYS AS (price * 1.2) STORED, seen timestamptz DEFAULT '2024-01-01 00:00+01', age cm.age,
  vanished int, pair cm.pair, tag other.citext
);
ALTER TABLE cm.account DROP COLUMN vanished;
COMMENT ON TABLE cm.account IS 'Who buys.'; COMMENT ON COLUMN cm.account.name IS 'As they wish.';
CREATE INDEX account_name ON cm.account (lower(name), price DESC) WHERE price > 1;
CREATE INDEX account_expression ON cm.account ((price * 2)); CREATE INDEX account_code ON cm.account (code);
CREATE UNIQUE INDEX account_key ON cm.account (name);
CREATE STATISTICS cm.account_stats (ndistinct, dependencies) ON name, price FROM cm.account;
CREATE TABLE cm.purchase (
  id serial PRIMARY KEY, account bigint NOT NULL CONSTRAINT bought_by REFERENCES cm.account ON DELETE CASCADE,
  ticket int DEFAULT nextval('cm.tickets'), number int, note text DEFAULT 'x' || now(),
  during tsrange, CONSTRAINT numbered UNIQUE (account, number), EXCLUDE USING gist (during WITH &&)
);
CREATE INDEX purchase_note ON cm.purchase USING gin (note other.gin_trgm_ops);
CREATE TRIGGER touched BEFORE UPDATE OF note ON cm.purchase FOR EACH ROW WHEN (OLD.note <> NEW.note)
  EXECUTE FUNCTION cm.touch();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON cm.purchase DEFERRABLE FOR EACH ROW EXECUTE FUNCTION cm.touch();
CREATE RULE quiet AS ON DELETE TO cm.purchase WHERE OLD.number = 0 DO INSTEAD NOTHING;
ALTER TABLE cm.purchase ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON cm.purchase FOR SELECT TO snap_app USING (account > 0 AND note IN ('a', 'b'));

CREATE TABLE cm.event (at timestamptz NOT NULL, kind text, account bigint REFERENCES cm.account, CHECK (kind <> ''))
  PARTITION BY RANGE (at);
CREATE INDEX event_kind ON cm.event (kind);
CREATE TRIGGER touched BEFORE INSERT ON cm.event FOR EACH ROW EXECUTE FUNCTION cm.touch();
CREATE TABLE cm.event_1 PARTITION OF cm.event FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE cm.event_2 (kind text, at timestamptz NOT NULL, account bigint, CHECK (kind <> ''));
ALTER TABLE cm.event_2 RENAME CONSTRAINT event_2_kind_check TO event_kind_check;
ALTER TABLE cm.event ATTACH PARTITION cm.event_2 FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
CREATE TABLE cm.event_rest PARTITION OF cm.event DEFAULT;
CREATE TABLE cm.hall (id int PRIMARY KEY) PARTITION BY HASH (id);
CREATE TABLE cm.hall_0 PARTITION OF cm.hall FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE cm.seat (id int, hall int REFERENCES cm.hall, PRIMARY KEY (hall, id)) PARTITION BY LIST (hall);
CREATE TABLE cm.seat_1 PARTITION OF cm.seat FOR VALUES IN (1) PARTITION BY LIST (id);
CREATE TABLE cm.seat_1_1 PARTITION OF cm.seat_1 FOR VALUES IN (1);
CREATE TABLE cm.animal (name text NOT NULL, legs int DEFAULT 4 CHECK (legs > 0));
CREATE TABLE cm.dog (loud bool) INHERITS (cm.animal);
CREATE UNLOGGED TABLE cm.scratch (id int, at date, place text); CREATE TABLE cm.typed OF cm.pair;
CREATE TABLE cm.empty ();
CREATE TABLE cm."Odd ""name.x" ("a.b" int PRIMARY KEY, "Straße" text);

CREATE VIEW cm.rich AS SELECT a.*, count(*) FILTER (WHERE p.number > 0) AS bought
  FROM cm.account a LEFT JOIN cm.purchase p ON p.account = a.id WHERE a.status IN ('new', 'old') GROUP BY a.id;
CREATE VIEW cm.names WITH (security_barrier) AS SELECT id, name FROM cm.account WHERE mood = 'ok';
CREATE VIEW cm.joined AS SELECT * FROM cm.animal JOIN cm.dog USING (name, legs);
CREATE VIEW cm.counted AS
  WITH RECURSIVE steps (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM steps WHERE n < 5) TABLE steps;
CREATE MATERIALIZED VIEW cm.summary AS SELECT mood, avg(price) AS price FROM cm.account GROUP BY mood;
CREATE UNIQUE INDEX summary_mood ON cm.summary (mood);
CREATE FOREIGN DATA WRAPPER dummy OPTIONS (debug 'true');
CREATE SERVER far FOREIGN DATA WRAPPER dummy OPTIONS (host 'far.example', password 'secret-word');
CREATE FOREIGN TABLE cm.there (id int OPTIONS (column_name 'nr')) SERVER far OPTIONS (table_name 't');
CREATE FUNCTION cm.watch() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watched ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION cm.watch();
CREATE PUBLICATION news FOR TABLE cm.account (id, name) WHERE (id > 0), cm.animal;
CREATE PUBLICATION everything FOR TABLES IN SCHEMA other;
ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT SELECT ON TABLES TO snap_app;
GRANT USAGE ON SCHEMA cm TO snap_app; GRANT SELECT ON cm.account TO snap_app;
"""

NEWER = """
ALTER TABLE cm.scratch ADD twofold int GENERATED ALWAYS AS (id * 2) VIRTUAL;
ALTER TABLE cm.account ADD CONSTRAINT believed CHECK (price < 1000) NOT ENFORCED;
ALTER TABLE cm.purchase ADD CONSTRAINT ticket_known NOT NULL ticket NOT VALID;
"""
"""What PostgreSQL 18 brought."""


def build(place: Place) -> None:
    """Everything, by the same statements each time."""
    do(place, RICH)
    if place.major >= 18:
        do(place, NEWER)


@pytest.fixture(scope="module")
def rich(place: Place) -> Iterator[Place]:
    """The database with everything, which tests copy and do not change."""
    with created(place) as built:
        build(built)
        yield built


@pytest.fixture(scope="module")
def before(rich: Place) -> Snapshot:
    """Its snapshot."""
    return rich.take()


@pytest.fixture(scope="module")
def session(rich: Place) -> Iterator[Session]:
    """A session in it, for changes that are rolled back."""
    with connect(login(rich), "test") as opened:
        yield opened


def said(differences: list[comparison.Difference]) -> list[str]:
    """In short: ``+`` extra, ``-`` missing, otherwise what has changed."""
    signs = {comparison.MISSING: "-", comparison.EXTRA: "+"}
    return [
        f"{signs[one.kind]} {one.object}"
        if one.kind in signs
        else f"{one.object}: {', '.join(change.property for change in one.changes)}"
        for one in differences
    ]


# --- equal databases --------------------------------------------------------------------------------------------------


def test_databases_that_were_built_alike_do_not_differ(place: Place, before: Snapshot) -> None:
    with created(place) as again:
        build(again)
        assert comparison.readable(comparison.compare(before, again.take())) == ""


def test_a_restored_dump_does_not_differ_from_its_source(place: Place, rich: Place, before: Snapshot) -> None:
    with created(place) as restored:
        dump = rich.client("pg_dump", "--format=custom", f"--dbname={rich.url}")
        restored.client("pg_restore", "--exit-on-error", f"--dbname={restored.url}", stdin=dump)
        assert comparison.readable(comparison.compare(before, restored.take())) == ""


# --- one change, one difference ---------------------------------------------------------------------------------------

# A statement, and the differences it makes: what is extra (+), missing (-) or otherwise which properties changed.
CHANGES: list[tuple[str, *tuple[str, ...]]] = [
    # tables
    ("ALTER TABLE cm.account SET (fillfactor = 70)", "table cm.account: reloptions"),
    ("ALTER TABLE cm.account SET (toast.autovacuum_enabled = off)", "table cm.account: reloptions"),
    ("ALTER TABLE cm.account OWNER TO snap_owner", "sequence cm.account_id_seq: owner", "table cm.account: owner"),
    ("ALTER TABLE cm.scratch SET LOGGED", "table cm.scratch: persistence"),
    ("ALTER TABLE cm.account REPLICA IDENTITY FULL", "table cm.account: replica identity"),
    ("ALTER TABLE cm.account REPLICA IDENTITY USING INDEX account_key", "table cm.account: replica identity"),
    ("ALTER TABLE cm.purchase FORCE ROW LEVEL SECURITY", "table cm.purchase: row security forced"),
    ("ALTER TABLE cm.purchase DISABLE ROW LEVEL SECURITY", "table cm.purchase: row security"),
    ("ALTER TABLE cm.dog NO INHERIT cm.animal", "table cm.dog: inherits"),
    ("COMMENT ON TABLE cm.account IS 'Who pays.'", "table cm.account: comment"),
    ("COMMENT ON TABLE cm.account IS NULL", "table cm.account: comment"),
    ("CREATE TABLE cm.further (id serial PRIMARY KEY, at date UNIQUE)", "+ table cm.further"),
    ("DROP TABLE cm.scratch", "- table cm.scratch"),
    ("ALTER TABLE cm.scratch RENAME TO draft", "+ table cm.draft", "- table cm.scratch"),
    ("ALTER TABLE cm.scratch SET SCHEMA other", "- table cm.scratch", "+ table other.scratch"),
    ("DROP TABLE cm.scratch; CREATE VIEW cm.scratch AS SELECT 1 AS id", "- table cm.scratch", "+ view cm.scratch"),
    ("ALTER TABLE cm.typed NOT OF", "table cm.typed: of type"),
    # columns
    ("ALTER TABLE cm.scratch ADD note text DEFAULT '' NOT NULL", "+ column cm.scratch.note"),
    ("ALTER TABLE cm.purchase DROP COLUMN note CASCADE", "- column cm.purchase.note", "- index cm.purchase_note",
     "- policy cm.purchase.own", "- trigger cm.purchase.touched"),
    ("ALTER TABLE cm.purchase ALTER ticket TYPE bigint", "column cm.purchase.ticket: type"),
    ("ALTER TABLE cm.purchase ALTER number SET NOT NULL", "column cm.purchase.number: not null"),
    ("ALTER TABLE cm.account ALTER name DROP NOT NULL", "column cm.account.name: not null"),
    ("ALTER TABLE cm.account ALTER price SET DEFAULT 1", "column cm.account.price: default"),
    ("ALTER TABLE cm.account ALTER mood DROP DEFAULT", "column cm.account.mood: default"),
    ("ALTER TABLE cm.account ALTER id SET GENERATED BY DEFAULT", "column cm.account.id: identity"),
    ("ALTER TABLE cm.account ALTER id DROP IDENTITY", "column cm.account.id: identity", "- sequence cm.account_id_seq"),
    ("ALTER TABLE cm.account ALTER gross DROP EXPRESSION", "column cm.account.gross: generated"),
    ("ALTER TABLE cm.scratch DROP at; ALTER TABLE cm.scratch ADD at date", "table cm.scratch: column order"),
    ("ALTER TABLE cm.account ADD later int; ALTER TABLE cm.account DROP later",),
    ("ALTER TABLE cm.scratch ALTER place TYPE text COLLATE cm.plain", "column cm.scratch.place: collation"),
    ("ALTER TABLE cm.account ALTER code SET STATISTICS 500", "column cm.account.code: statistics"),
    ("ALTER TABLE cm.account ALTER code SET STATISTICS 0", "column cm.account.code: statistics"),
    ("ALTER TABLE cm.account ALTER code SET STORAGE EXTERNAL", "column cm.account.code: storage"),
    ("ALTER TABLE cm.account ALTER code SET COMPRESSION pglz", "column cm.account.code: compression"),
    ("ALTER TABLE cm.account ALTER code SET (n_distinct = 7)", "column cm.account.code: options"),
    ("COMMENT ON COLUMN cm.account.code IS 'Secret.'", "column cm.account.code: comment"),
    ("GRANT UPDATE (code) ON cm.account TO snap_app", "column cm.account.code: privileges"),
    ("COMMENT ON COLUMN cm.names.name IS 'Of a view.'", "+ column cm.names.name"),
    # indexes
    ("DROP INDEX cm.account_code", "- index cm.account_code"),
    ("CREATE INDEX account_seen ON cm.account (seen)", "+ index cm.account_seen"),
    ("DROP INDEX cm.account_name; CREATE INDEX account_name ON cm.account (lower(name), price DESC) WHERE price > 2",
     "index cm.account_name: definition"),
    ("DROP INDEX cm.account_code; CREATE INDEX account_code ON cm.account USING hash (code)",
     "index cm.account_code: definition"),
    ("ALTER INDEX cm.account_code SET (fillfactor = 60)", "index cm.account_code: definition"),
    ("ALTER INDEX cm.account_pkey SET (fillfactor = 60)", "index cm.account_pkey: reloptions"),
    ("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'cm.account_code'::regclass",
     "index cm.account_code: state"),
    ("ALTER TABLE cm.account CLUSTER ON account_code", "index cm.account_code: clustered"),
    ("ALTER INDEX cm.account_expression ALTER COLUMN 1 SET STATISTICS 300", "index cm.account_expression: statistics"),
    ("COMMENT ON INDEX cm.account_code IS 'Quick.'", "index cm.account_code: comment"),
    # constraints
    ("ALTER TABLE cm.account DROP CONSTRAINT sane", "- constraint cm.account.sane"),
    ("ALTER TABLE cm.account DROP CONSTRAINT sane, ADD CONSTRAINT sane CHECK (price >= 0) NOT VALID",
     "constraint cm.account.sane: definition"),
    ("ALTER TABLE cm.account DROP CONSTRAINT sane, ADD CONSTRAINT sane CHECK (price >= 0) NO INHERIT",
     "constraint cm.account.sane: definition"),
    ("ALTER TABLE cm.purchase ALTER CONSTRAINT bought_by DEFERRABLE", "constraint cm.purchase.bought_by: definition"),
    ("ALTER TABLE cm.purchase DROP CONSTRAINT numbered", "- constraint cm.purchase.numbered"),
    ("ALTER TABLE cm.purchase DROP CONSTRAINT numbered, ADD CONSTRAINT numbered UNIQUE (number, account)",
     "constraint cm.purchase.numbered: definition"),
    ("ALTER TABLE cm.purchase DISABLE TRIGGER ALL", "constraint cm.purchase.bought_by: triggers",
     "trigger cm.purchase.later: fires", "trigger cm.purchase.touched: fires"),
    ("COMMENT ON CONSTRAINT sane ON cm.account IS 'Since 2019.'", "constraint cm.account.sane: comment"),
    # triggers, rules, policies
    ("ALTER TABLE cm.purchase DISABLE TRIGGER touched", "trigger cm.purchase.touched: fires"),
    ("ALTER TABLE cm.purchase ENABLE ALWAYS TRIGGER touched", "trigger cm.purchase.touched: fires"),
    ("CREATE OR REPLACE TRIGGER touched BEFORE UPDATE ON cm.purchase FOR EACH ROW EXECUTE FUNCTION cm.touch()",
     "trigger cm.purchase.touched: definition"),
    ("DROP TRIGGER later ON cm.purchase", "- trigger cm.purchase.later"),
    ("COMMENT ON TRIGGER touched ON cm.purchase IS 'Keeps.'", "trigger cm.purchase.touched: comment"),
    ("ALTER EVENT TRIGGER watched DISABLE", "event trigger watched: fires"),
    ("DROP EVENT TRIGGER watched", "- event trigger watched"),
    ("CREATE OR REPLACE RULE quiet AS ON DELETE TO cm.purchase DO INSTEAD NOTHING",
     "rule cm.purchase.quiet: definition"),
    ("ALTER TABLE cm.purchase DISABLE RULE quiet", "rule cm.purchase.quiet: fires"),
    ("COMMENT ON RULE quiet ON cm.purchase IS 'Keeps.'", "rule cm.purchase.quiet: comment"),
    ("ALTER POLICY own ON cm.purchase TO PUBLIC", "policy cm.purchase.own: roles"),
    ("ALTER POLICY own ON cm.purchase USING (account > 1)", "policy cm.purchase.own: using"),
    ("DROP POLICY own ON cm.purchase;"
     "CREATE POLICY own ON cm.purchase AS RESTRICTIVE TO snap_app USING (account > 0 AND note IN ('a', 'b'))",
     "policy cm.purchase.own: command, kind"),
    ("DROP POLICY own ON cm.purchase", "- policy cm.purchase.own"),
    # views
    ("CREATE OR REPLACE VIEW cm.names AS SELECT id, name FROM cm.account WHERE mood = 'sad'",
     "view cm.names: definition, reloptions"),
    ("ALTER VIEW cm.names RESET (security_barrier)", "view cm.names: reloptions"),
    ("ALTER VIEW cm.names SET (check_option = local)", "view cm.names: reloptions"),
    ("ALTER VIEW cm.names OWNER TO snap_owner", "view cm.names: owner"),
    ("REVOKE ALL ON cm.names FROM CURRENT_USER", "view cm.names: revoked privileges"),
    ("REFRESH MATERIALIZED VIEW cm.summary WITH NO DATA", "materialized view cm.summary: state"),
    ("DROP MATERIALIZED VIEW cm.summary", "- materialized view cm.summary"),
    # partitions
    ("ALTER TABLE cm.event DETACH PARTITION cm.event_1;"
     "ALTER TABLE cm.event ATTACH PARTITION cm.event_1 FOR VALUES FROM ('2024-01-02') TO ('2024-02-01')",
     "table cm.event_1: partition bound"),
    ("ALTER TABLE cm.event DETACH PARTITION cm.event_1", "table cm.event_1: partition of, partition bound",
     "- trigger cm.event_1.touched"),
    ("ALTER TABLE cm.event ADD note text", "+ column cm.event.note"),
    ("DROP INDEX cm.event_kind", "- index cm.event_kind"),
    ("ALTER TABLE cm.event ALTER kind SET NOT NULL", "column cm.event.kind: not null"),
    ("ALTER TABLE cm.event_1 ALTER kind SET NOT NULL", "column cm.event_1.kind: not null"),
    ("DROP TRIGGER touched ON cm.event", "- trigger cm.event.touched"),
    ("ALTER TABLE cm.event DROP CONSTRAINT event_account_fkey", "- constraint cm.event.event_account_fkey"),
    ("CREATE TABLE cm.event_3 PARTITION OF cm.event FOR VALUES FROM ('2024-03-01') TO ('2024-04-01')",
     "+ table cm.event_3"),
    ("CREATE TABLE cm.hall_1 PARTITION OF cm.hall FOR VALUES WITH (MODULUS 2, REMAINDER 1)", "+ table cm.hall_1"),
    ("ALTER TABLE cm.seat ADD note text", "+ column cm.seat.note"),
    ("ALTER TABLE cm.seat DROP CONSTRAINT seat_hall_fkey", "- constraint cm.seat.seat_hall_fkey"),
    ("ALTER TABLE cm.seat DROP CONSTRAINT seat_pkey", "- constraint cm.seat.seat_pkey"),
    ("DROP TABLE cm.seat", "- table cm.seat"),
    # sequences
    ("ALTER SEQUENCE cm.tickets INCREMENT 1", "sequence cm.tickets: increment"),
    ("ALTER SEQUENCE cm.tickets CACHE 1 CYCLE", "sequence cm.tickets: cache, cycle"),
    ("ALTER SEQUENCE cm.tickets AS bigint", "sequence cm.tickets: type, maximum"),
    ("ALTER SEQUENCE cm.tickets OWNED BY cm.purchase.ticket", "sequence cm.tickets: owned by"),
    ("ALTER SEQUENCE cm.purchase_id_seq OWNED BY NONE", "sequence cm.purchase_id_seq: owned by"),
    ("GRANT USAGE ON SEQUENCE cm.tickets TO snap_app", "sequence cm.tickets: privileges"),
    ("COMMENT ON SEQUENCE cm.tickets IS 'Drawn.'", "sequence cm.tickets: comment"),
    ("SELECT nextval('cm.tickets')",),
    # functions
    ("CREATE OR REPLACE FUNCTION cm.touch() RETURNS trigger LANGUAGE plpgsql SET work_mem = '1MB' AS $$\nBEGIN\n"
     "  -- keeps the row\n  RETURN OLD;\nEND $$", "function cm.touch(): source"),
    ("ALTER FUNCTION cm.twice(int) VOLATILE", "function cm.twice(integer): volatility"),
    ("ALTER FUNCTION cm.twice(int) PARALLEL SAFE", "function cm.twice(integer): parallel"),
    ("ALTER FUNCTION cm.twice(int) SECURITY DEFINER", "function cm.twice(integer): security"),
    ("ALTER FUNCTION cm.twice(int) STRICT LEAKPROOF COST 3",
     "function cm.twice(integer): on null input, leakproof, cost"),
    ("ALTER FUNCTION cm.numbers() ROWS 8", "function cm.numbers(): rows"),
    ("ALTER FUNCTION cm.twice(int) SET search_path = pg_catalog", "function cm.twice(integer): config"),
    ("CREATE OR REPLACE FUNCTION cm.twice(n int DEFAULT 3) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2'",
     "function cm.twice(integer): arguments"),
    ("CREATE OR REPLACE FUNCTION cm.twice(n numeric) RETURNS numeric LANGUAGE sql IMMUTABLE"
     " BEGIN ATOMIC SELECT n * 3; END",
     "function cm.twice(numeric): body"),
    ("REVOKE EXECUTE ON FUNCTION cm.twice(int) FROM PUBLIC", "function cm.twice(integer): revoked privileges"),
    ("GRANT EXECUTE ON FUNCTION cm.twice(int) TO snap_app", "function cm.twice(integer): privileges"),
    ("COMMENT ON FUNCTION cm.twice(int) IS 'Two times.'", "function cm.twice(integer): comment"),
    ("ALTER FUNCTION cm.twice(int) OWNER TO snap_owner", "function cm.twice(integer): owner"),
    ("DROP PROCEDURE cm.clean", "- procedure cm.clean(integer)"),
    ("DROP AGGREGATE cm.total(int); CREATE AGGREGATE cm.total(int) (sfunc = int4pl, stype = int, initcond = '1')",
     "aggregate cm.total(integer): initial value"),
    ("DROP OPERATOR cm.=== (int, int)", "- operator cm.===(integer,integer)"),
    ("ALTER OPERATOR cm.=== (int, int) SET (restrict = eqsel)", "operator cm.===(integer,integer): restriction"),
    ("DROP CAST (cm.mood AS int)", "- cast (cm.mood AS integer)"),
    # types
    ("ALTER TYPE cm.mood ADD VALUE 'calm' BEFORE 'ok'", "enum cm.mood: labels"),
    ("UPDATE pg_enum SET enumsortorder = 9 WHERE enumlabel = 'sad'", "enum cm.mood: labels"),
    ("ALTER TYPE cm.pair ADD ATTRIBUTE c date CASCADE", "+ column cm.typed.c", "composite type cm.pair: attributes"),
    ("COMMENT ON COLUMN cm.pair.a IS 'First.'", "composite type cm.pair: attribute comments"),
    ("ALTER DOMAIN cm.age DROP CONSTRAINT positive; ALTER DOMAIN cm.age ADD CONSTRAINT positive CHECK (VALUE > 1)",
     "domain cm.age: constraints"),
    ("ALTER DOMAIN cm.age DROP NOT NULL", "domain cm.age: not null"),
    ("ALTER DOMAIN cm.age SET DEFAULT 2", "domain cm.age: default"),
    ("COMMENT ON CONSTRAINT positive ON DOMAIN cm.age IS 'Born.'", "domain cm.age: constraint comments"),
    ("GRANT USAGE ON TYPE cm.mood TO snap_app", "enum cm.mood: privileges"),
    ("REVOKE USAGE ON TYPE cm.mood FROM PUBLIC", "enum cm.mood: revoked privileges"),
    ("COMMENT ON TYPE cm.mood IS 'How.'", "enum cm.mood: comment"),
    ("DROP TYPE cm.span CASCADE", "- range type cm.span"),
    ("DROP COLLATION cm.plain", "- collation cm.plain"),
    # statistics objects, text search
    ("DROP STATISTICS cm.account_stats; CREATE STATISTICS cm.account_stats (mcv) ON name, price FROM cm.account",
     "statistics cm.account_stats: definition"),
    ("ALTER STATISTICS cm.account_stats SET STATISTICS 50", "statistics cm.account_stats: statistics"),
    ("ALTER TEXT SEARCH CONFIGURATION cm.words ALTER MAPPING FOR word WITH cm.plain_words",
     "text search configuration cm.words: mappings"),
    ("ALTER TEXT SEARCH DICTIONARY cm.plain_words (accept = true)", "text search dictionary cm.plain_words: options"),
    # schemas, extensions, privileges for what is to come
    ("CREATE SCHEMA further CREATE TABLE one (id int PRIMARY KEY) CREATE VIEW two AS SELECT 1 AS one",
     "+ schema further"),
    ("GRANT CREATE ON SCHEMA cm TO snap_app WITH GRANT OPTION", "schema cm: privileges"),
    ("COMMENT ON SCHEMA cm IS 'Closed.'", "schema cm: comment"),
    ("ALTER SCHEMA cm OWNER TO snap_owner", "schema cm: owner"),
    ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "schema public: privileges"),
    ("DROP EXTENSION pg_trgm CASCADE", "- extension pg_trgm", "- index cm.purchase_note"),
    ("CREATE EXTENSION hstore", "+ extension hstore"),
    ("ALTER EXTENSION pg_trgm SET SCHEMA cm", "extension pg_trgm: schema", "index cm.purchase_note: definition"),
    ("GRANT SELECT ON cm.animal TO snap_app", "table cm.animal: privileges"),
    ("GRANT SELECT ON cm.animal TO snap_app; REVOKE SELECT ON cm.animal FROM snap_app",),
    ("REVOKE SELECT ON cm.account FROM snap_app", "table cm.account: privileges"),
    ("REVOKE INSERT ON cm.account FROM CURRENT_USER", "table cm.account: revoked privileges"),
    ("ALTER DEFAULT PRIVILEGES IN SCHEMA other GRANT INSERT ON TABLES TO snap_app",
     "default privileges of cm in other for tables: privileges"),
    ("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC", "+ default privileges of cm for functions"),
    # publications, foreign data
    ("ALTER PUBLICATION news DROP TABLE cm.animal", "publication news: tables"),
    ("ALTER PUBLICATION news SET TABLE cm.account (id, name) WHERE (id > 1), cm.animal", "publication news: tables"),
    ("ALTER PUBLICATION news SET (publish = 'insert')", "publication news: publishes"),
    ("ALTER PUBLICATION everything ADD TABLES IN SCHEMA cm", "publication everything: schemas"),
    ("ALTER SERVER far OPTIONS (SET host 'near.example')", "server far: options"),
    ("GRANT USAGE ON FOREIGN SERVER far TO snap_app", "server far: privileges"),
    ("ALTER FOREIGN DATA WRAPPER dummy OPTIONS (DROP debug)", "foreign data wrapper dummy: options"),
    ("ALTER FOREIGN TABLE cm.there OPTIONS (SET table_name 'u')", "foreign table cm.there: foreign options"),
    ("ALTER FOREIGN TABLE cm.there ALTER id OPTIONS (SET column_name 'n')", "column cm.there.id: foreign options"),
]  # fmt: skip

CHANGES_OF_18: list[tuple[str, *tuple[str, ...]]] = [
    ("ALTER TABLE cm.purchase ALTER CONSTRAINT bought_by NOT ENFORCED", "constraint cm.purchase.bought_by: definition"),
    ("ALTER TABLE cm.scratch ALTER twofold SET EXPRESSION AS (id * 3)", "column cm.scratch.twofold: generated"),
    ("ALTER TABLE cm.purchase VALIDATE CONSTRAINT ticket_known", "column cm.purchase.ticket: not null constraint"),
    ("ALTER TABLE cm.purchase RENAME CONSTRAINT ticket_known TO t", "column cm.purchase.ticket: not null constraint"),
    ("ALTER TABLE cm.account RENAME CONSTRAINT account_name_not_null TO old_name_not_null",),
]


@pytest.mark.parametrize("change", CHANGES + CHANGES_OF_18, ids=lambda change: change[0][:80])
def test_a_change_is_seen_and_nothing_else(
    place: Place, session: Session, before: Snapshot, change: tuple[str, ...]
) -> None:
    if change in CHANGES_OF_18 and place.major < 18:
        pytest.skip("PostgreSQL 18 brought it.")
    statement, *expected = change
    session.query("BEGIN")
    try:
        session.query(statement)
        after = snapshot.read(session)
    finally:
        session.query("ROLLBACK")
    assert said(comparison.compare(before, after)) == sorted(expected, key=lambda line: line.lstrip("+- "))


# --- who asks, and what for -------------------------------------------------------------------------------------------


def test_any_role_sees_the_same(rich: Place, before: Snapshot) -> None:
    with connect(login(rich), "test") as session:
        session.query("SET ROLE snap_app")
        session.query("SET search_path = cm; SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL, DMY'")
        assert snapshot.take(session) == before
        assert not session.in_transaction
        assert session.query("SHOW search_path") == [("cm",)]


def test_a_snapshot_is_plain_data_in_order_without_oids_and_secrets(rich: Place, before: Snapshot) -> None:
    text = json.dumps(before.as_dict(), ensure_ascii=False)
    assert Snapshot.from_dict(json.loads(text)) == before
    assert list(before.objects) == sorted(before.objects)
    assert "secret-word" not in text
    catalogs = ("pg_class", "pg_proc", "pg_type", "pg_constraint", "pg_namespace", "pg_collation", "pg_operator")
    oids = {str(oid) for name in catalogs for (oid,) in ask(rich, f"SELECT oid FROM {name} WHERE oid >= 16384")}
    assert oids.isdisjoint(re.findall("[0-9]+", text))


def test_what_is_temporary_is_left_out(rich: Place, before: Snapshot) -> None:
    with connect(login(rich), "test") as session:
        session.query("CREATE TEMP TABLE account (id serial PRIMARY KEY, at cm.mood)")
        assert snapshot.take(session) == before


def test_an_index_that_was_not_finished_is_seen(place: Place) -> None:
    with created(place) as database:
        do(database, "CREATE TABLE animal AS SELECT 'cat' AS name FROM generate_series(1, 2)")
        before = database.take()
        with pytest.raises(psycopg.errors.UniqueViolation):
            do(database, "CREATE UNIQUE INDEX CONCURRENTLY animal_name ON animal (name)")
        after = database.take()
    assert said(comparison.compare(before, after)) == ["+ index public.animal_name"]
    assert after.objects["index public.animal_name"]["state"] == "invalid, not ready"


def test_a_session_that_cannot_read_is_left_without_a_transaction(database: Any) -> None:
    with connect(login(database), "test") as session, database.connect() as other:
        do(database, "CREATE VIEW locked AS SELECT 1 AS one")
        with other.transaction():
            other.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
            session.query("SET lock_timeout = '50ms'")
            with pytest.raises(SqlError, match="lock timeout"):
                snapshot.take(session)
        assert not session.in_transaction
        assert "view public.locked" in snapshot.take(session).objects


def test_an_object_that_is_dropped_meanwhile_makes_it_look_again(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(database, "CREATE VIEW fleeting AS SELECT 1 AS one", "CREATE VIEW lasting AS SELECT 1 AS one")

    def read_late(session: Session, *given: Any) -> Snapshot:
        session.query("SELECT count(*) FROM pg_class")  # from now on the transaction sees what there was
        do(database, "DROP VIEW IF EXISTS fleeting")
        return read(session, *given)

    read = snapshot.read
    monkeypatch.setattr(snapshot, "read", read_late)
    with connect(login(database), "test") as session:
        objects = snapshot.take(session).objects
    assert "view public.lasting" in objects and "view public.fleeting" not in objects


# --- the ledger -------------------------------------------------------------------------------------------------------

TABLE = "CREATE SCHEMA app; CREATE TABLE app.part (id int PRIMARY KEY);"


def test_the_ledger_and_a_schema_made_for_it_are_left_out(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_part.sql": TABLE})
    with connect(login(database), "test") as session:
        everything, rest = snapshot.take(session), snapshot.take(session, ledger_schema="cm")
    left_out = comparison.compare(everything, rest)
    assert said(left_out) == ["- schema cm"]
    assert "sequence cm.schema_version_history_id_seq" in left_out[0].includes
    assert {"schema app", "schema public", "table app.part", "column app.part.id"} < set(rest.objects)


def test_in_a_schema_of_the_application_only_the_ledger_is_left_out(database: Any, tmp_path: Path) -> None:
    run(database, tmp_path, {"001_part.sql": TABLE.replace("app", "cm")})
    with connect(login(database), "test") as session:
        everything, rest = snapshot.take(session), snapshot.take(session, ledger_schema="cm")
    assert said(comparison.compare(everything, rest)) == [
        "- table cm.schema_version",
        "- table cm.schema_version_history",
        "- table cm.schema_version_progress",
    ]


# --- how fast ---------------------------------------------------------------------------------------------------------

MANY = """
DO $$ BEGIN
  FOR n IN 1..500 LOOP
    EXECUTE format('CREATE TABLE t%s (id bigint PRIMARY KEY, %s)', n,
      (SELECT string_agg(format('c%s text NOT NULL DEFAULT %L', c, 'x'), ', ') FROM generate_series(2, 20) AS c));
    EXECUTE format('CREATE INDEX ON t%s (c2); CREATE INDEX ON t%s (lower(c3)) WHERE c4 <> %L', n, n, '');
  END LOOP;
END $$;
"""


def test_500_tables_are_read_and_compared_within_two_seconds(database: Any) -> None:
    do(database, MANY)
    with connect(login(database), "test") as session:
        began = time.monotonic()
        taken = snapshot.take(session, ledger_schema="cm")
        differences = comparison.compare(taken, Snapshot({}))
        seconds = time.monotonic() - began
    assert len(taken.objects) > 500 * (1 + 20 + 3 + 1)
    assert said(differences) == ["- extension plpgsql", "- schema public"]
    assert seconds < 2
