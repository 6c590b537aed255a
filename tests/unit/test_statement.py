# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of statement it is: tables of statements, each with what PostgreSQL 18 says about it."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook import statement
from ansible.module_utils.runbook.statement import ConcurrentStatement


def spellings(sql: str) -> list[bytes]:
    """The statement as is, and with everything around and inside it that must not matter."""
    return [sql.encode(), f"-- BEGIN\n/* VACUUM /* x */ */ {sql.replace(' ', ' /* ; */ ', 1)} -- c\n;".encode()]


# --- transactions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN", "BEGIN"),
        ("begin work", "BEGIN"),
        ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY", "BEGIN"),
        ("START TRANSACTION READ WRITE", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("Commit Work AND NO CHAIN", "COMMIT"),
        ("END", "COMMIT"),
        ("END TRANSACTION AND CHAIN", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK WORK AND CHAIN", "ROLLBACK"),
        ("ABORT TRANSACTION", "ROLLBACK"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("PREPARE transaction AS SELECT 1", None),
        ("PREPARE p AS SELECT 1", None),
        ("SAVEPOINT a", None),
        ("RELEASE SAVEPOINT a", None),
        ("ROLLBACK TO a", None),
        ("ROLLBACK TO SAVEPOINT a", None),
        ("ROLLBACK WORK TO SAVEPOINT a", None),
        ("ROLLBACK TRANSACTION TO a", None),
        ("COMMIT PREPARED 'x'", None),
        ("ROLLBACK PREPARED 'x'", None),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", None),
        ("DO 'BEGIN COMMIT; END'", None),
        ("SELECT 1", None),
        ('"begin" x', None),
    ],
)
def test_transaction_control(sql: str, expected: str | None) -> None:
    assert [statement.transaction_control(text) for text in spellings(sql)] == [expected, expected]


@pytest.mark.parametrize("text", [b"", b";", b"-- c", b"/* c", b"'", b"$$", b"CREATE", b"ALTER TABLE", b"REINDEX ("])
def test_fragments_are_nothing_special(text: bytes) -> None:
    assert statement.transaction_control(text) is None
    assert statement.concurrent_statement(text) is None
    assert statement.refused_in_transaction(text, 180000) is None
    assert not statement.sets_session(text)
    assert not statement.may_commit(text)
    assert statement.finalize_detach(text) == text


# --- refused in a transaction block -----------------------------------------------------------------------------------

DETACH = "ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY"
REFUSED = [
    ("CREATE INDEX CONCURRENTLY ON t (a)", "CREATE INDEX CONCURRENTLY"),
    ("create unique index concurrently if not exists i on only t (a)", "CREATE INDEX CONCURRENTLY"),
    ("DROP INDEX CONCURRENTLY IF EXISTS i, j CASCADE", "DROP INDEX CONCURRENTLY"),
    ("REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "REINDEX CONCURRENTLY"),
    ("REINDEX (CONCURRENTLY on) INDEX i", "REINDEX CONCURRENTLY"),
    ("REINDEX (CONCURRENTLY false, CONCURRENTLY true) INDEX i", "REINDEX CONCURRENTLY"),
    ("REINDEX INDEX CONCURRENTLY i", "REINDEX CONCURRENTLY"),
    ("REINDEX SCHEMA CONCURRENTLY s", "REINDEX CONCURRENTLY"),
    ("REINDEX DATABASE d", "REINDEX DATABASE"),
    ("REINDEX (VERBOSE) SYSTEM d", "REINDEX SYSTEM"),
    ("REINDEX (TABLESPACE x) SCHEMA s", "REINDEX SCHEMA"),
    ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", DETACH),
    ('ALTER TABLE IF EXISTS "a b".t DETACH PARTITION "x".p CONCURRENTLY', DETACH),
    ("VACUUM t", "VACUUM"),
    ("VACUUM (FULL, ANALYZE) t", "VACUUM"),
    ("CLUSTER VERBOSE", "CLUSTER"),
    ("CLUSTER (VERBOSE)", "CLUSTER"),
    ("REPACK (CONCURRENTLY) t", "REPACK (CONCURRENTLY)"),
    ("REPACK (VERBOSE)", "REPACK"),
    ("REPACK USING INDEX", "REPACK"),
    ("CREATE DATABASE d", "CREATE DATABASE"),
    ("DROP DATABASE IF EXISTS d", "DROP DATABASE"),
    ("ALTER DATABASE d SET TABLESPACE x", "ALTER DATABASE ... SET TABLESPACE"),
    ("CREATE TABLESPACE x LOCATION '/x'", "CREATE TABLESPACE"),
    ("DROP TABLESPACE x", "DROP TABLESPACE"),
    ("ALTER SYSTEM SET work_mem = '4MB'", "ALTER SYSTEM"),
    ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "CREATE SUBSCRIPTION"),
    ("CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (create_slot, enabled=false)", "CREATE SUBSCRIPTION"),
    ("DROP SUBSCRIPTION s", "DROP SUBSCRIPTION"),
    ("ALTER SUBSCRIPTION s REFRESH PUBLICATION", "ALTER SUBSCRIPTION ... REFRESH PUBLICATION"),
    ("ALTER SUBSCRIPTION s REFRESH SEQUENCES", "ALTER SUBSCRIPTION ... REFRESH SEQUENCES"),
    ("ALTER SUBSCRIPTION s SET PUBLICATION p, q", "ALTER SUBSCRIPTION ... SET PUBLICATION"),
    ("ALTER SUBSCRIPTION s ADD PUBLICATION p WITH (refresh)", "ALTER SUBSCRIPTION ... ADD PUBLICATION"),
    ("ALTER SUBSCRIPTION s DROP PUBLICATION p", "ALTER SUBSCRIPTION ... DROP PUBLICATION"),
    ("ALTER SUBSCRIPTION s SET (failover = true)", "ALTER SUBSCRIPTION ... SET (failover)"),
    ("ALTER SUBSCRIPTION s SET (two_phase = off)", "ALTER SUBSCRIPTION ... SET (two_phase = false)"),
    ("COMMIT PREPARED 'x'", "COMMIT PREPARED"),
    ("ROLLBACK PREPARED 'x'", "ROLLBACK PREPARED"),
    ("DISCARD ALL", "DISCARD ALL"),
]
ALLOWED = [
    "CREATE INDEX i ON t (concurrently)",
    'CREATE INDEX "concurrently" ON t (a)',
    "CREATE INDEX i ON t (a) WHERE b = 'CONCURRENTLY'",
    "CREATE TABLE t (a int)",
    "CREATE SCHEMA vacuum",
    "DROP INDEX i",
    "DROP TABLE t",
    "REINDEX (CONCURRENTLY false) TABLE t",
    "REINDEX (CONCURRENTLY 0) TABLE t",
    "REINDEX TABLE concurrently_x",
    "REINDEX INDEX i",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY m",
    "ALTER TABLE t DETACH PARTITION p",
    "ALTER TABLE t DETACH PARTITION p FINALIZE",
    'ALTER TABLE t RENAME TO "CONCURRENTLY"',
    "ANALYZE t",
    "SELECT 1 AS vacuum",
    "CLUSTER t USING i",
    "CLUSTER (VERBOSE) t",
    "CLUSTER VERBOSE t",
    "REPACK t",
    "REPACK (CONCURRENTLY off) t USING INDEX i",
    "ALTER DATABASE d SET work_mem = '4MB'",
    "ALTER DATABASE d OWNER TO r",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (connect = false)",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p WITH (enabled, create_slot = 'off')",
    "ALTER SUBSCRIPTION s SET PUBLICATION p WITH (copy_data, refresh = false)",
    "ALTER SUBSCRIPTION s SET (streaming = on, two_phase = true)",
    "ALTER SUBSCRIPTION s DISABLE",
    "ALTER TYPE e ADD VALUE 'x'",
    "COMMIT",
    "ROLLBACK",
    "DISCARD PLANS",
    "DO 'VACUUM'",
]


@pytest.mark.parametrize(("sql", "expected"), REFUSED)
def test_refused_in_transaction(sql: str, expected: str) -> None:
    assert [statement.refused_in_transaction(text, 190000) for text in spellings(sql)] == [expected, expected]


@pytest.mark.parametrize("sql", ALLOWED)
def test_allowed_in_transaction(sql: str) -> None:
    assert [statement.refused_in_transaction(text, 190000) for text in spellings(sql)] == [None, None]


@pytest.mark.parametrize("text", [b"VACUUM", b"vacuum;", b"CLUSTER", b"CLUSTER;", b"REPACK;"])
def test_refused_one_word_statements(text: bytes) -> None:
    assert statement.refused_in_transaction(text, 190000) == text.decode().upper().rstrip(";")


@pytest.mark.parametrize(
    ("sql", "before", "since"),
    [
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", (130000, None), (140000, DETACH)),
        ("ALTER SUBSCRIPTION s SET (failover)", (160000, None), (170000, "ALTER SUBSCRIPTION ... SET (failover)")),
        (
            "ALTER SUBSCRIPTION s SET (two_phase = false)",
            (170000, None),
            (180000, "ALTER SUBSCRIPTION ... SET (two_phase = false)"),
        ),
        ("ALTER TYPE e ADD VALUE 'x'", (110022, "ALTER TYPE ... ADD VALUE"), (120000, None)),
    ],
)
def test_refusal_depends_on_the_version(sql: str, before: tuple[int, object], since: tuple[int, object]) -> None:
    for version, expected in (before, since):
        assert statement.refused_in_transaction(sql.encode(), version) == expected


# --- sessions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET search_path = cm", True),
        ("SET SESSION work_mem TO '4MB'", True),
        ("SET TIME ZONE LOCAL", True),
        ("SET ROLE cm", True),
        ("SET SESSION AUTHORIZATION cm", True),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", True),
        ("RESET ALL", True),
        ("RESET SESSION AUTHORIZATION", True),
        ("SELECT pg_catalog.set_config('search_path', '', false)", True),
        ("SELECT set_config('a.b', 'c' || 'd', 'f') AS x", True),
        ("SET LOCAL work_mem = '4MB'", False),
        ("SET CONSTRAINTS ALL DEFERRED", False),
        ("SET TRANSACTION READ ONLY", False),
        ("SET transaction_read_only = on", False),
        ("SELECT set_config('search_path', '', true)", False),
        ("SELECT set_config('a.b', nextval('s')::text, false)", False),
        ("SELECT set_config('a.b', x, false) FROM t", False),
        ("SELECT other.set_config('a', 'b', false)", False),
        ("SELECT 1", False),
        ("INSERT INTO t VALUES (1)", False),
        ("DISCARD ALL", False),
    ],
)
def test_sets_session(sql: str, expected: bool) -> None:
    assert [statement.sets_session(text) for text in spellings(sql)] == [expected, expected]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("CALL p()", True), ("DO $$ BEGIN END $$", True), ("SELECT f()", False), ("INSERT INTO do_it VALUES (1)", False)],
)
def test_may_commit(sql: str, expected: bool) -> None:
    assert [statement.may_commit(text) for text in spellings(sql)] == [expected, expected]


# --- CONCURRENTLY -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE INDEX CONCURRENTLY idx_a ON t (a)", ConcurrentStatement("create index", ("idx_a",), "t")),
        (
            'CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "Idx" ON ONLY s . "T;" USING btree (a)',
            ConcurrentStatement("create index", ('"Idx"',), 's."T;"'),
        ),
        ("CREATE INDEX CONCURRENTLY ON s.t(a)", ConcurrentStatement("create index", (), "s.t")),
        ("CREATE INDEX CONCURRENTLY i ON ONLY (t) (a)", ConcurrentStatement("create index", ("i",), "t")),
        (
            'DROP INDEX CONCURRENTLY IF EXISTS s.a, "B" RESTRICT',
            ConcurrentStatement("drop index", ("s.a", '"B"')),
        ),
        ("REINDEX INDEX CONCURRENTLY s.i", ConcurrentStatement("reindex", ("s.i",))),
        ("REINDEX (CONCURRENTLY, VERBOSE) TABLE t", ConcurrentStatement("reindex", (), "t")),
        ("REINDEX SCHEMA CONCURRENTLY s", ConcurrentStatement("reindex")),
        (
            'ALTER TABLE IF EXISTS s.t * DETACH PARTITION "P" CONCURRENTLY',
            ConcurrentStatement("detach partition", ('"P"',), "s.t"),
        ),
        ("CREATE INDEX i ON t (a)", None),
        ("DROP INDEX i", None),
        ("REINDEX TABLE t", None),
        ("ALTER TABLE t DETACH PARTITION p", None),
        ("ALTER TABLE t ADD COLUMN concurrently int", None),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", None),
        ("SELECT 1", None),
    ],
)
def test_concurrent_statement(sql: str, expected: ConcurrentStatement | None) -> None:
    assert [statement.concurrent_statement(text) for text in spellings(sql)] == [expected, expected]


def test_finalize_detach_replaces_only_the_keyword() -> None:
    text = b'/* CONCURRENTLY */ ALTER TABLE "CONCURRENTLY" DETACH PARTITION p -- CONCURRENTLY\n concurrently /* x */;'
    assert statement.finalize_detach(text) == (
        b'/* CONCURRENTLY */ ALTER TABLE "CONCURRENTLY" DETACH PARTITION p -- CONCURRENTLY\n FINALIZE /* x */;'
    )


@pytest.mark.parametrize("text", [b"ALTER TABLE t DETACH PARTITION p;", b"DROP INDEX CONCURRENTLY i;"])
def test_finalize_detach_leaves_others_alone(text: bytes) -> None:
    assert statement.finalize_detach(text) == text


# --- passwords --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE ROLE a LOGIN PASSWORD 's3' VALID UNTIL 'x'", "CREATE ROLE a LOGIN PASSWORD '***' VALID UNTIL 'x'"),
        ("alter user a with encrypted password 's3''s3';", "alter user a with encrypted password '***';"),
        (r"ALTER ROLE a PASSWORD E's\'3'", "ALTER ROLE a PASSWORD '***'"),
        ("ALTER ROLE a PASSWORD $x$s3$x$", "ALTER ROLE a PASSWORD '***'"),
        ("ALTER ROLE a PASSWORD /* c */ 's3'\n  's4'", "ALTER ROLE a PASSWORD /* c */ '***'\n  '***'"),
        ("ALTER ROLE a PASSWORD NULL", "ALTER ROLE a PASSWORD NULL"),
        ("ALTER ROLE a PASSWORD 's3", "ALTER ROLE a PASSWORD '***'"),
        ("CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', password 's3')", None),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=h password=s3 dbname=d' PUBLICATION p", None),
        ("CREATE SUBSCRIPTION s CONNECTION 'host=h password = ''s3 s3'' dbname=d' PUBLICATION p", None),
        (r"ALTER SUBSCRIPTION s CONNECTION E'host=h password=\'s3 s3\' dbname=d'", None),
        ("ALTER SUBSCRIPTION s CONNECTION 'postgresql://u:s3@h/d'", None),
        ("SELECT dblink_connect($$host=h PASSWORD=s3 dbname=d$$)", None),
        ("DO $$ BEGIN CREATE ROLE a PASSWORD 's3'; END $$", "DO $$ BEGIN CREATE ROLE a PASSWORD '***'; END $$"),
        ("DO $$ BEGIN EXECUTE 'CREATE ROLE a PASSWORD ''s3'''; END $$", None),
        ("SELECT 1; ALTER ROLE ä PASSWORD 's3'; SELECT 2", "SELECT 1; ALTER ROLE ä PASSWORD '***'; SELECT 2"),
        (
            "INSERT INTO t VALUES ('secret', 'https://example.org/')",
            "INSERT INTO t VALUES ('secret', 'https://example.org/')",
        ),
        ("COMMENT ON COLUMN u.password IS 'hashed'", "COMMENT ON COLUMN u.password IS 'hashed'"),
        ("CREATE TABLE u (password text DEFAULT 'x')", "CREATE TABLE u (password text DEFAULT 'x')"),
    ],
)
def test_redact_passwords(sql: str, expected: str | None) -> None:
    redacted = statement.redact_passwords(sql)
    assert "s3" not in redacted
    assert expected is None or redacted == expected
    assert expected is not None or "***" in redacted
    assert statement.redact_passwords(redacted) == redacted


def test_redact_passwords_keeps_what_surrounds_them() -> None:
    sql = "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''a b'' dbname=d' PUBLICATION p;"
    assert (
        statement.redact_passwords(sql)
        == "CREATE SUBSCRIPTION s CONNECTION 'host=h password=*** dbname=d' PUBLICATION p;"
    )
