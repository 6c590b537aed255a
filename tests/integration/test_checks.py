# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks against a real server: each kind passes and fails, none writes, hides another one, or takes too long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import engine
import pytest
from ansible.module_utils.runbook import health
from ansible.module_utils.runbook.check_report import table
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import Session, SqlError
from checking import ROOT, made, one, options, shipped_ones
from engine import ask, do

SHOP = (
    "CREATE SCHEMA shop",
    "CREATE TABLE shop.customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, "
    "born date, code varchar(20), rate numeric(5, 4), seen timestamptz, tags text[])",
    'CREATE TABLE shop."Order" (id serial PRIMARY KEY, customer bigint NOT NULL, total integer)',
    'CREATE INDEX order_customer ON shop."Order" (customer)',
    "CREATE VIEW shop.rich AS SELECT * FROM shop.customer",
    "COMMENT ON TABLE shop.customer IS 'who buys'",
    "ALTER TABLE shop.customer ADD CONSTRAINT customer_born CHECK (born > '1900-01-01') NOT VALID",
    "INSERT INTO shop.customer (name, born) SELECT 'c' || n, '2000-01-01' FROM generate_series(1, 20) AS n",
    'INSERT INTO shop."Order" (customer, total) SELECT n, n FROM generate_series(1, 20) AS n',
)


@pytest.fixture
def shop(database: Any) -> Any:
    """A database with something in it to look at."""
    do(database, *SHOP)
    return database


# --- each kind --------------------------------------------------------------------------------------------------------

COLUMNS = {
    "id": "bigint not null",
    "name": "text NOT NULL",
    "born": "date null",
    "code": "varchar(20)",
    "rate": "decimal(5, 4)",
    "seen": "timestamptz",
    "tags": "text[]",
}

PASSES: list[tuple[str, Any]] = [
    ("tables", ["shop.customer", 'shop."Order"']),
    ("views", "shop.rich"),
    ("columns", {"table": "shop.customer", "have": COLUMNS, "only": True}),
    ("indexes", {"names": ["shop.order_customer"], "table": 'shop."Order"'}),
    ("indexes", {"names": "shop.customer_pkey", "unique": True}),
    ("constraints", {"table": "shop.customer", "have": {"customer_pkey": "primary key (id)"}}),
    ("comments", {"tables": "shop.customer", "of": ["tables"]}),
    ("owner", "shop"),
    ("grants", {"tables": "shop.customer", "role": "public", "may_not": ["select", "delete"]}),
    ("no_rows", 'SELECT * FROM shop."Order" WHERE total < 0 -- none;'),
    ("value", {"query": "SELECT count(*) FROM shop.customer", "at_least": 20, "at_most": 20.5}),
    ("value", {"query": "SELECT '100 %'", "equals": "100 %"}),
    ("value", "SELECT 'only shown'"),
    ("count", {"table": "shop.customer", "where": "name LIKE 'c1%'", "equals": 11}),
    ("range", {"table": "shop.customer", "column": "born", "at_least": "1990-01-01", "at_most": "now"}),
    ("references", {"table": 'shop."Order"', "columns": "customer", "to": "shop.customer", "to_columns": "id"}),
    ("sequences", "shop"),
    (
        "explain",
        {"query": "SELECT * FROM shop.customer", "max_ms": 5000, "max_buffers": 100, "no_seq_scan_over": "1MB"},
    ),
    ("sql", "SELECT count(*) > 5 FROM shop.customer"),
]


@pytest.mark.parametrize(("kind", "options"), PASSES, ids=lambda value: value if isinstance(value, str) else "")
def test_each_kind_passes(shop: Any, kind: str, options: Any) -> None:
    outcome = one(shop, **{kind: options})
    assert outcome["status"] == "passed", outcome
    assert outcome["message"].endswith(".")


FAILS: list[tuple[str, Any, str]] = [
    ("tables", ["shop.customer", "shop.nobody"], "Table shop.nobody is missing."),
    ("tables", "shop.rich", "Table shop.rich is missing."),
    ("tables", "shop.Order", "Table shop.order is missing."),
    ("views", "shop.customer", "View shop.customer is missing."),
    ("columns", {"table": "shop.customer", "have": {"id": "int4"}}, "Column id is bigint instead of integer."),
    ("columns", {"table": "shop.customer", "have": {"born": "date not null"}}, "Column born allows NULL."),
    ("columns", {"table": "shop.customer", "have": {"age": "integer"}}, "Column age is missing."),
    ("columns", {"table": "shop.customer", "have": {"id": "bigint"}, "only": True}, "column tags is one too many"),
    ("columns", {"table": "shop.nobody", "have": {"id": "bigint"}}, "Table shop.nobody is missing."),
    ("indexes", "shop.nothing", "Index shop.nothing is missing."),
    ("indexes", {"names": "shop.order_customer", "unique": True}, "Index shop.order_customer is not unique."),
    ("indexes", {"names": "shop.order_customer", "table": "shop.customer"}, "is one of shop.Order"),
    ("constraints", {"table": "shop.customer", "have": ["customer_born"]}, "customer_born is not validated"),
    ("constraints", {"table": "shop.customer", "have": ["customer_age"]}, "Constraint customer_age is missing."),
    ("constraints", {"table": "shop.customer", "have": {"customer_pkey": "UNIQUE (id)"}}, "is PRIMARY KEY (id)"),
    ("comments", "shop", "Table shop.Order has no comment"),
    ("comments", {"tables": "shop.customer"}, "Column shop.customer.id has no comment"),
    ("owner", {"tables": "shop.customer", "role": "nobody"}, "Table shop.customer belongs to cm instead of nobody."),
    (
        "grants",
        {"tables": "shop.customer", "role": "public", "may": "select"},
        "Role public may not SELECT shop.customer.",
    ),
    ("grants", {"tables": "shop.customer", "role": "no_such", "may": "select"}, "Role no_such does not exist."),
    ("grants", {"tables": "shop.customer", "role": "cm", "may_not": "update"}, "Role cm may UPDATE shop.customer."),
    ("no_rows", 'SELECT id FROM shop."Order" WHERE id < 3', '2 rows: {"id":1}; {"id":2}.'),
    ("no_rows", 'SELECT id FROM shop."Order"', "More than 5 rows: "),
    ("value", {"query": "SELECT count(*) FROM shop.customer", "at_most": 19}, "It is 20, and has to be at most 19."),
    ("value", {"query": "SELECT NULL::int", "equals": 1}, "It is NULL, and has to be 1."),
    ("value", {"query": "SELECT true", "equals": False}, "It is true, and has to be false."),
    ("count", {"table": "shop.customer", "at_least": 21}, "It is 20, and has to be at least 21."),
    ("range", {"table": "shop.customer", "column": "born", "at_least": "2001-01-01"}, "More than 5 rows out of range"),
    ("range", {"table": "shop.customer", "column": "seen", "at_most": "now", "nulls": False}, "out of range"),
    ("explain", {"query": "SELECT pg_sleep(0.02)", "max_ms": 10}, "It is slower than 10 ms. It took 2"),
    ("explain", {"query": "SELECT * FROM shop.customer", "max_buffers": 0}, "It touches more than 0 buffers."),
    ("explain", {"query": "SELECT * FROM shop.customer", "no_seq_scan_over": "1kB"}, "It reads all of shop.customer ("),
    ("sql", "SELECT count(*) > 50 FROM shop.customer", "The answer is false, and has to be true."),
    ("sql", "SELECT NULL::boolean", "The answer is NULL, and has to be true."),
    ("tcp", "127.0.0.1:1", "127.0.0.1:1 cannot be reached: Connection refused."),
]


@pytest.mark.parametrize(("kind", "options", "said"), FAILS, ids=lambda value: value if isinstance(value, str) else "")
def test_each_kind_fails(shop: Any, kind: str, options: Any, said: str) -> None:
    outcome = one(shop, **{kind: options})
    assert outcome["status"] == "failed", outcome
    assert said in outcome["message"]


def test_orphans_and_late_sequences_are_found(shop: Any) -> None:
    do(
        shop,
        "DELETE FROM shop.customer WHERE id = 7",
        "SELECT setval('shop.\"Order_id_seq\"', 5)",
        "ALTER TABLE shop.customer ALTER COLUMN id SET INCREMENT BY -1",
    )
    orphans = one(
        shop, references={"table": 'shop."Order"', "columns": ["customer"], "to": "shop.customer", "to_columns": ["id"]}
    )
    assert orphans["message"] == '1 orphaned row: {"id":7,"customer":7,"total":7}.'
    late = one(shop, sequences="shop")
    # One that counts downwards has to be below its column.
    assert late["found"]["problems"] == [
        "shop.Order_id_seq stands at 5, and shop.Order.id at 20",
        "shop.customer_id_seq stands at 20, and shop.customer.id at 1",
    ]


def test_an_invalid_index_is_found(shop: Any) -> None:
    do(shop, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.order_customer'::regclass")
    assert "is invalid, so that no query uses it" in one(shop, indexes="shop.order_customer")["message"]


# --- what they cannot do ----------------------------------------------------------------------------------------------

WRITES = [
    {"no_rows": "SELECT setval('shop.\"Order_id_seq\"', 1)"},
    {"sql": "SELECT (SELECT id FROM shop.customer LIMIT 1 FOR UPDATE) > 0"},
    {"value": {"query": "SELECT nextval('shop.\"Order_id_seq\"')", "at_least": 0}},
    {"count": {"table": "shop.customer", "where": "nextval('shop.\"Order_id_seq\"') > 0", "at_least": 0}},
    {"explain": {"query": "WITH gone AS (DELETE FROM shop.customer RETURNING *) SELECT * FROM gone", "max_ms": 9999}},
    {"explain": {"query": "SELECT set_config('transaction_read_only', 'off', false)", "max_ms": 9999}},
    {"sql": "SELECT set_config('transaction_read_only', 'off', false) = 'off'"},
    {"no_rows": "WITH gone AS (DELETE FROM shop.customer RETURNING *) SELECT * FROM gone"},
]


@pytest.mark.parametrize("entry", WRITES, ids=lambda entry: next(iter(entry)))
def test_what_would_write_is_refused_by_the_server(shop: Any, entry: dict[str, Any]) -> None:
    before = ask(shop, 'SELECT count(*) FROM shop.customer UNION ALL SELECT last_value FROM shop."Order_id_seq"')
    outcome = one(shop, **entry)
    assert outcome["status"] == "errored" and "The server refused it: " in outcome["message"], outcome
    after = ask(shop, 'SELECT count(*) FROM shop.customer UNION ALL SELECT last_value FROM shop."Order_id_seq"')
    assert after == before


def test_what_older_servers_let_through_is_rolled_back(shop: Any) -> None:
    one(shop, sql="SELECT lo_create(4711) > 0")  # refused from PostgreSQL 16 on
    assert ask(shop, "SELECT 1 FROM pg_largeobject_metadata WHERE oid = 4711") == []


@pytest.mark.parametrize(
    "query", ["SELECT 1; COMMIT", "COMMIT", "SELECT 1) AS q; DROP TABLE shop.customer; SELECT (1", "DELETE FROM t"]
)
@pytest.mark.parametrize("kind", ["no_rows", "sql", "value", "explain"])
def test_more_than_one_query_is_refused(shop: Any, kind: str, query: str) -> None:
    entry = {kind: {"query": query, **({"max_ms": 1} if kind == "explain" else {})}}
    try:
        outcome = one(shop, **entry)
    except RunbookError as error:
        assert error.code == "check-file" and "has to be one SQL query" in error.message
    else:  # a parenthesis too many is for the server to find
        assert outcome["status"] == "errored"
    assert ask(shop, "SELECT to_regclass('shop.customer') IS NOT NULL") == [(True,)]


def test_one_that_errs_hides_no_other(shop: Any) -> None:
    result = made(
        shop,
        {"name": "a", "sql": "SELECT true"},
        {"name": "no such table", "no_rows": "SELECT * FROM shop.nowhere"},
        {"name": "b", "tables": "shop.customer"},
        {"name": "no such function", "explain": {"query": "SELECT shop.nothing()", "max_ms": 1}},
        {"name": "ends its own session", "sql": "SELECT pg_terminate_backend(pg_backend_pid())"},
        {"name": "c", "sql": "SELECT true"},
        {"name": "two values", "value": {"query": "SELECT 1, 2", "at_least": 1}},
        {"name": "d", "count": {"table": "shop.customer", "equals": 20}},
    )
    assert {outcome["name"]: outcome["status"] for outcome in result["checks"]} == {
        "a": "passed",
        "no such table": "errored",
        "b": "passed",
        "no such function": "errored",
        "ends its own session": "errored",
        "c": "passed",
        "two values": "errored",
        "d": "passed",
    }
    said = {outcome["name"]: outcome["message"] for outcome in result["checks"]}
    assert said["no such table"] == 'The server refused it: relation "shop.nowhere" does not exist.'
    assert said["ends its own session"].startswith("The connection was lost: ")
    assert result["red"] and result["counts"] == {"failed": 0, "errored": 4, "skipped": 0, "passed": 4}


def test_a_server_that_is_gone_is_not_waited_for_by_each_check(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def renew(session: Session) -> None:
        attempts.append(session)
        raise SqlError("", "connection timeout expired")

    monkeypatch.setattr(Session, "renew", renew)
    result = made(
        shop,
        {"name": "ends its own session", "sql": "SELECT pg_terminate_backend(pg_backend_pid())"},
        {"name": "a", "sql": "SELECT true"},
        {"name": "b", "no_rows": "SELECT 1"},
        {"name": "c", "tcp": f"127.0.0.1:{shop.port}"},
    )
    assert [outcome["status"] for outcome in result["checks"]] == ["errored", "errored", "errored", "passed"]
    assert result["checks"][1]["message"] == "The connection was lost: connection timeout expired."
    assert len(attempts) == 1


def test_each_has_a_time_limit(shop: Any) -> None:
    began = time.monotonic()
    result = made(
        shop,
        {"name": "its own", "sql": "SELECT pg_sleep(60) IS NULL", "timeout": "200ms"},
        {"name": "the common one", "no_rows": "SELECT pg_sleep(60)"},
        {"name": "explained", "explain": {"query": "SELECT pg_sleep(60)", "max_ms": 1}, "timeout": "100ms"},
        {"name": "quick", "sql": "SELECT true"},
        timeout="300ms",
    )
    assert time.monotonic() - began < 5
    assert [outcome["status"] for outcome in result["checks"]] == ["errored", "errored", "errored", "passed"]
    assert "was not done within its time limit of 0.2 s" in result["checks"][0]["message"]


def test_a_lock_is_not_waited_for_longer_than_the_limit(shop: Any) -> None:
    with shop.connect() as session:
        session.execute("BEGIN; LOCK TABLE shop.customer IN ACCESS EXCLUSIVE MODE")
        outcome = one(shop, no_rows="SELECT * FROM shop.customer", timeout="300ms")
    assert outcome["status"] == "errored" and "waited for a lock" in outcome["message"]


def test_rows_that_a_policy_hides_are_not_missed(shop: Any) -> None:
    do(
        shop,
        "ALTER TABLE shop.customer ENABLE ROW LEVEL SECURITY",
        "CREATE ROLE reader_of_checks LOGIN",
        "GRANT USAGE ON SCHEMA shop TO reader_of_checks",
        "GRANT SELECT ON shop.customer TO reader_of_checks",
        "GRANT reader_of_checks TO cm",
    )
    try:
        from dataclasses import replace

        from ansible.module_utils.runbook import checks
        from ansible.module_utils.runbook.check_file import handed_over

        login = replace(engine.login(shop), session_role="reader_of_checks")
        entries = handed_over([{"name": "it", "no_rows": "SELECT * FROM shop.customer"}])
        (outcome,) = checks.run(login, entries, options(), False)["checks"]
        assert outcome["status"] == "errored" and "row-level security" in outcome["message"]
    finally:
        do(shop, "DROP OWNED BY reader_of_checks", "DROP ROLE reader_of_checks")


def test_hostile_names_and_data_reach_no_terminal(database: Any) -> None:
    evil = 'x"; DROP TABLE y; --\x1b[31m'
    quoted = evil.replace('"', '""')
    do(database, f'CREATE TABLE public."{quoted}" (id int)', f'INSERT INTO public."{quoted}" VALUES (1)')
    name = f'public."{quoted}"'
    counted = one(database, count={"table": name, "equals": 2})
    assert counted["message"] == "It is 1, and has to be 2."
    bare = one(database, comments={"tables": name, "of": ["tables"]})
    assert bare["status"] == "failed" and "\x1b" not in bare["message"] and "\\x1b[31m" in bare["message"]
    result = made(database, health=True)
    assert "\x1b" not in str(result) + table(result) and "\\x1b[31m" in table(result)


def test_long_values_are_cut_and_passwords_hidden(database: Any) -> None:
    long = one(database, no_rows="SELECT repeat('x', 1000000) AS text FROM generate_series(1, 100)")
    assert len(long["message"]) <= 2000 and len(str(long["found"])) < 5000
    said = one(database, no_rows=f"SELECT 'postgres://cm:topsecret@db/cm' AS a, '{database.password}' AS b")
    assert "topsecret" not in str(said) and database.password not in str(said) and "***" in said["message"]
    assert made(database, {"name": "a", "no_rows": "SELECT 4711"}, rows=0)["checks"][0]["message"] == "There are rows."


# --- what decides -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "fail_on", "red"),
    [
        ("error", "error", True),
        ("warning", "error", False),
        ("info", "error", False),
        ("warning", "warning", True),
        ("info", "warning", False),
        ("error", "never", False),
    ],
)
def test_severity_decides(database: Any, severity: str, fail_on: str, red: bool) -> None:
    failed = made(database, {"name": "a", "sql": "SELECT false", "severity": severity}, fail_on=fail_on)
    errored = made(database, {"name": "a", "sql": "SELECT 1 / 0 > 1", "severity": severity}, fail_on=fail_on)
    assert (failed["red"], errored["red"]) == (red, red)


def test_a_check_of_another_version_is_skipped_with_a_sentence(database: Any, tmp_path: Path) -> None:
    entries = [
        {"name": "later", "tables": "cm.audit_log", "since": 4},
        {"name": "now", "tables": "cm.schema_version", "since": 2, "until": 2},
        {"name": "before", "tables": "cm.gone", "until": 1},
    ]
    empty = made(database, *entries)
    assert [outcome["status"] for outcome in empty["checks"]] == ["skipped", "skipped", "failed"]
    assert "has no version yet" in empty["checks"][0]["message"] and empty["schema_version"] is None
    engine.migrated(database, ROOT / "db/init", version="2")
    result = made(database, *entries)
    assert [outcome["status"] for outcome in result["checks"]] == ["skipped", "passed", "skipped"]
    later, _, before = [outcome["message"] for outcome in result["checks"]]
    assert later == "The database is at version 2, and this check is for version 4 and later."
    assert before == "The database is at version 2, and this check is for versions up to 1."


def test_only_some_groups(database: Any) -> None:
    entries = [{"name": "a", "tables": "cm.nowhere"}, {"name": "b", "sql": "SELECT true"}]
    result = made(database, *entries, only=["smoke"], health=True)
    assert [outcome["name"] for outcome in result["checks"]] == ["b"] and not result["red"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": "5"}, "option timeout"),
        ({"timeout": "0"}, "every check has to have a time limit"),
        ({"started_at": "yesterday"}, 'started_at is "yesterday"'),
        ({"started_at": "2026-11-22T14:30:00"}, "with its zone"),
        ({"health": True, "health_severity": {"bloat": "error"}}, "bloat: error"),
        ({"rows": -1}, "option rows"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(database: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(RunbookError, match=said):
        made(database, {"name": "a", "sql": "SELECT true"}, **given)


# --- health -----------------------------------------------------------------------------------------------------------

AILING = {
    "invalid_indexes": (
        [
            "CREATE TABLE a (id int PRIMARY KEY)",
            "UPDATE pg_index SET indisvalid = false WHERE indrelid = 'a'::regclass",
        ],
        "1 invalid index: public.a_pkey.",
    ),
    "not_valid_constraints": (
        ["CREATE TABLE a (id int PRIMARY KEY)", "ALTER TABLE a ADD CONSTRAINT odd CHECK (id > 0) NOT VALID"],
        "1 constraint that is NOT VALID: odd of public.a.",
    ),
    "foreign_keys_without_index": (
        [
            "CREATE TABLE a (id int, part int, PRIMARY KEY (id, part))",
            "CREATE TABLE bare (id int PRIMARY KEY, a int, p int, CONSTRAINT f FOREIGN KEY (a, p) REFERENCES a)",
            "CREATE INDEX ON bare (a)",
            "CREATE TABLE good (id int PRIMARY KEY, a int, p int, CONSTRAINT g FOREIGN KEY (a, p) REFERENCES a)",
            "CREATE INDEX ON good (p, a, id)",
            "CREATE TABLE part (id int PRIMARY KEY, a int REFERENCES good)",
            "CREATE INDEX ON part (a) WHERE a IS NOT NULL",
        ],
        "1 foreign key without an index: f of public.bare.",
    ),
    "duplicate_indexes": (
        [
            "CREATE TABLE a (id int PRIMARY KEY, v int)",
            "CREATE INDEX one ON a (id)",
            "CREATE INDEX two ON a (v)",
            "CREATE INDEX three ON a (v DESC)",
            "CREATE INDEX four ON a (v) WHERE v > 0",
        ],
        "1 index that is there twice: public.a_pkey = one.",
    ),
    "sequences_near_end": (
        [
            "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
            "CREATE SEQUENCE owned AS bigint",
            "CREATE TABLE b (id int PRIMARY KEY DEFAULT nextval('owned'))",
            "ALTER SEQUENCE owned OWNED BY b.id",
            "SELECT setval('a_id_seq', 2000000000), setval('owned', 1900000000)",
            "CREATE TABLE c (id bigserial PRIMARY KEY)",
            "SELECT setval('c_id_seq', 2000000000)",
            "CREATE SEQUENCE round MAXVALUE 10 CYCLE",
            "SELECT setval('round', 10)",
        ],
        "2 sequences near their end: public.a_id_seq of a.id at 93 %, public.owned of b.id at 88 %.",
    ),
    "missing_primary_keys": (
        [
            "CREATE TABLE a (id int)",
            "CREATE TABLE b (id int PRIMARY KEY) PARTITION BY RANGE (id)",
            "CREATE TABLE b1 PARTITION OF b FOR VALUES FROM (1) TO (9)",
        ],
        "1 table without a primary key: public.a.",
    ),
}


@pytest.mark.parametrize("name", AILING)
def test_an_ailment_is_found_and_nothing_else_is(database: Any, name: str) -> None:
    commands, said = AILING[name]
    healthy = made(database, health=True)
    assert {outcome["status"] for outcome in healthy["checks"]} <= {"passed", "skipped"} and not healthy["red"]
    do(database, *commands)
    found = [outcome for outcome in made(database, health=True)["checks"] if outcome["status"] == "failed"]
    assert [outcome["name"] for outcome in found] == [health.AILMENTS[name].name]
    assert found[0]["message"].startswith(said), found
    grave = made(database, health=True, health_severity={name: "error"})
    assert grave["red"] and not made(database, health=True, health_severity={name: "off"}, fail_on="warning")["red"]


def test_unused_indexes_are_told_once_the_statistics_are_old_enough(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, v int, o int REFERENCES a)",
        "CREATE INDEX lonely ON a (v)",
        "CREATE INDEX serves_the_key ON a (o)",
    )
    name = health.AILMENTS["unused_indexes"].name
    (young,) = [outcome for outcome in made(database, health=True)["checks"] if outcome["name"] == name]
    assert young["status"] == "skipped" and "Statistics are 0 days old" in young["message"]
    monkeypatch.setattr(health, "STATISTICS_DAYS", 0)
    (old,) = [outcome for outcome in made(database, health=True)["checks"] if outcome["name"] == name]
    assert old["message"].startswith("1 index that was never used: public.lonely (8192 bytes).")
    assert old["severity"] == "info"


# --- what comes with the project --------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "1", "2", "3", "4"])
def test_the_projects_own_checks_pass_at_every_version(database: Any, version: str) -> None:
    from ansible.module_utils.runbook import checks

    if version != "0":
        engine.migrated(database, ROOT / "db/init", version=version)
    # In the log of this server are the errors of other tests.
    wanted = options(health=True, fail_on="warning", log_source="none")
    result = checks.run(engine.login(database), shipped_ones(), wanted, False)
    wrong = [outcome for outcome in result["checks"] if outcome["status"] not in ("passed", "skipped")]
    assert wrong == [] and len(result["checks"]) > 25


# --- how fast they are ------------------------------------------------------------------------------------------------

TABLES = 500
MANY = """
DO $$ BEGIN FOR n IN 1..500 LOOP
  EXECUTE format('CREATE TABLE many.t%s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, parent bigint,
                  name text NOT NULL, at timestamptz DEFAULT now(), a int, b int, d jsonb, e numeric(10, 2))', n);
  EXECUTE format('CREATE INDEX i%s ON many.t%s (parent)', n, n);
  EXECUTE format('ALTER TABLE many.t%s ADD CONSTRAINT k%s CHECK (a > 0)', n, n);
  EXECUTE format('INSERT INTO many.t%s (parent, name, a) SELECT g, g::text, g FROM generate_series(1, 100) AS g', n);
END LOOP; END $$
"""


def many_checks() -> list[dict[str, Any]]:
    """Two hundred checks of all kinds that need a database."""
    entries: list[dict[str, Any]] = []
    for n in range(1, 21):
        t = f"many.t{n}"
        kinds: list[dict[str, Any]] = [
            {"tables": [f"many.t{m}" for m in range(n, TABLES, 20)]},
            {"columns": {"table": t, "have": {"id": "bigint not null", "at": "timestamptz", "e": "numeric(10,2)"}}},
            {"indexes": [f"many.i{m}" for m in range(n, TABLES, 20)]},
            {"constraints": {"table": t, "have": [f"k{n}"]}},
            {"no_rows": f"SELECT * FROM {t} WHERE a <= 0"},
            {"count": {"table": t, "equals": 100}},
            {"range": {"table": t, "column": "at", "at_most": "now"}},
            {"references": {"table": t, "columns": "parent", "to": f"many.t{n + 20}", "to_columns": "id"}},
            {"sequences": {"tables": t}},
            {"explain": {"query": f"SELECT * FROM {t} WHERE id = 5", "max_buffers": 100, "no_seq_scan_over": "1MB"}},
        ]
        entries += [{"name": f"{n} {next(iter(kind))}", **kind} for kind in kinds]
    return entries


def test_two_hundred_checks_of_five_hundred_tables_take_no_five_seconds(database: Any) -> None:
    do(database, "CREATE SCHEMA many", MANY)
    entries = many_checks()
    assert len(entries) == 200
    result = made(database, *entries, health=True)
    assert [outcome for outcome in result["checks"] if outcome["status"] not in ("passed", "skipped")] == []
    print(f"{TABLES} tables, {len(entries)} checks and health: {result['seconds']} s")
    assert result["seconds"] < 5
