# SPDX-License-Identifier: GPL-3.0-or-later
"""Which conditions let every row through, and what the rules about whole tables and keys say."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.runbook.lint.conditions import outcome
from ansible.module_utils.runbook.lint.finding import Finding
from ansible.module_utils.runbook.lint.lint import Wanted, lint
from ansible.module_utils.runbook.lint.nodes import Node, column_of
from pglast import parse_sql

TABLE = (
    "CREATE TABLE cm.t (id bigint PRIMARY KEY, v text);\nCOMMENT ON TABLE cm.t IS 'T.';\n"
    "COMMENT ON COLUMN cm.t.id IS 'Key.';\nCOMMENT ON COLUMN cm.t.v IS 'Value.';\n"
)


def said(condition: str) -> bool | None:
    """The outcome of a condition where ``id`` is without NULL, ``v`` may have some, and nobody knows about others."""
    (statement,) = parse_sql(f"SELECT WHERE {condition}")

    def filled(reference: Node) -> bool | None:
        return {"id": True, "v": False}.get(str(column_of(reference)))

    return outcome(statement.stmt.whereClause, filled)


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "'yes'",
        "'t'::boolean",
        "1 = 1",
        "1 = 1.0",
        "1 <> 2",
        "2 > 1",
        "'a' = 'a'",
        "'a' <> 'b'",
        "NOT false",
        "NOT (1 = 2)",
        "v = 'x' OR true",
        "true AND 1 = 1",
        "true IS TRUE",
        "1 = 2 IS FALSE",
        "false IS NOT TRUE",
        "id IS NOT NULL",
        "NOT id IS NULL",
        "t.id IS NOT NULL OR v = ''",
        "id = id",
        "id >= id",
        "other = other",
        "v IS NOT DISTINCT FROM v",
        "v IS NULL OR v IS NOT NULL",
        "id LIKE '%'",
    ],
)
def test_a_condition_that_every_row_meets(condition: str) -> None:
    assert said(condition) is True


@pytest.mark.parametrize(
    "condition",
    [
        "false",
        "1 = 2",
        "1 <> 1",
        "NOT true",
        "v = 'x' AND false",
        "id IS NULL",
        "id <> id",
        "v IS DISTINCT FROM v",
        "true IS FALSE",
    ],
)
def test_a_condition_that_no_row_meets(condition: str) -> None:
    assert said(condition) is False


@pytest.mark.parametrize(
    "condition",
    [
        "id = 1",
        "id = 1 OR id = 2",
        "v IS NOT NULL",
        "other IS NOT NULL",
        "v = v",
        "id = parent_id",
        "a.id = b.id",
        "v IS NULL OR id = 1",
        "v LIKE '%'",
        "id NOT LIKE '%'",
        "v LIKE '%x%'",
        "'a' < 'b'",
        "NULL",
        "1 = NULL",
        "flag IS UNKNOWN",
        "flag IS TRUE",
        "id BETWEEN 1 AND 100",
        "id IN (1, 2)",
        "EXISTS (SELECT FROM u)",
        "t.* IS NOT NULL",
        "1 OPERATOR(pg_catalog.+) 1 = 2",
    ],
)
def test_a_condition_that_depends_on_the_row_or_on_more_than_is_known(condition: str) -> None:
    assert said(condition) is None


def only(folder: Path, *files: str) -> Finding:
    """The one finding about files of which the first makes a table."""
    for number, text in enumerate((TABLE, *files), start=1):
        (folder / f"{number:03}_x.sql").write_text(text)
    (finding,) = lint(Wanted(folder)).findings
    return finding


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM cm.t;", "DELETE without WHERE changes every row of cm.t."),
        (
            "UPDATE cm.t AS x SET v = '' WHERE x.id IS NOT NULL;",
            "UPDATE whose WHERE is always true (x.id IS NOT NULL) changes every row of cm.t.",
        ),
        (
            "MERGE INTO cm.t USING cm.u ON false WHEN NOT MATCHED BY SOURCE THEN DELETE;",
            "MERGE whose ON is always false (FALSE) changes every row of cm.t.",
        ),
    ],
)
def test_the_condition_is_shown(tmp_path: Path, statement: str, message: str) -> None:
    assert only(tmp_path, statement).message == message


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE cm.t SET v = '' WHERE ctid IS NOT NULL;",
        "UPDATE cm.t SET v = '' FROM cm.u WHERE t.id IS NOT NULL;",
        "DELETE FROM ONLY cm.t WHERE cm.t.id = cm.t.id;",
        "MERGE INTO cm.t USING cm.u ON t.id IS NOT NULL WHEN MATCHED AND u.id > 1 THEN UPDATE SET v = '' "
        "WHEN MATCHED THEN DELETE;",
    ],
)
def test_columns_of_the_table_itself_are_known(tmp_path: Path, statement: str) -> None:
    assert only(tmp_path, statement).rule == "missing-where"


def test_a_proof_that_was_dropped_is_named(tmp_path: Path) -> None:
    proof = "ALTER TABLE cm.t ADD CONSTRAINT v_filled CHECK (v IS NOT NULL) NOT VALID;"
    validated = "ALTER TABLE cm.t VALIDATE CONSTRAINT v_filled;"
    swapped = "ALTER TABLE cm.t\n  ALTER COLUMN v SET NOT NULL,\n  DROP CONSTRAINT v_filled;"
    finding = only(tmp_path, proof, validated, swapped)
    assert (finding.rule, finding.line) == ("adding-not-nullable-field", 2)
    assert finding.message.endswith(": CHECK v_filled proved v, but is dropped before (line 3).")
    finding = only(tmp_path, proof, validated, "ALTER TABLE cm.t DROP CONSTRAINT v_filled;", swapped.split(",")[0])
    assert "dropped before (004_x.sql, line 1)" in finding.message


def test_a_function_in_a_block_is_a_function(tmp_path: Path) -> None:
    block = (
        "DO $a$ BEGIN EXECUTE $b$CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE plpgsql AS $c$ BEGIN "
        "ALTER TABLE cm.t DISABLE TRIGGER x; END $c$$b$; END $a$;"
    )
    for number, text in enumerate((TABLE, block), start=1):
        (tmp_path / f"{number:03}_x.sql").write_text(text)
    found = {finding.rule: finding.message for finding in lint(Wanted(tmp_path)).findings}
    assert "Function pg_temp.f changes the schema" in found["ddl-in-function"]
    assert "triggers-left-disabled" not in found
