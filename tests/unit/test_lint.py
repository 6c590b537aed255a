# SPDX-License-Identifier: GPL-3.0-or-later
"""What the linter knows besides single statements: the series, sizes, suppressions, includes, odd files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint import squawk
from ansible.module_utils.runbook.lint.finding import Finding, Size
from ansible.module_utils.runbook.lint.lint import Verdict, Wanted, lint

ROOT = Path(__file__).resolve().parents[2]
TABLE = "CREATE TABLE cm.t (id bigint, v text);\n"
INDEX = "CREATE INDEX t_v_idx ON cm.t (v);\n"
COMMENTS = (
    "COMMENT ON TABLE cm.t IS 'T.';\nCOMMENT ON COLUMN cm.t.id IS 'Key.';\nCOMMENT ON COLUMN cm.t.v IS 'Value.';\n"
)
BIG = {"cm.t": {"bytes": 5 * 1024**3, "rows": 40_000_000}}


def judged(folder: Path, *files: str | bytes, **given: Any) -> Verdict:
    """The verdict on files that are numbered from 1."""
    for number, content in enumerate(files, start=1):
        data = content.encode() if isinstance(content, str) else content
        (folder / f"{number:03}_x.sql").write_bytes(data)
    return lint(Wanted(folder, shown="db/init", **given))


def rules(verdict: Verdict) -> list[str]:
    """The names of the rules, in order."""
    return [finding.rule for finding in verdict.findings]


def only(verdict: Verdict) -> Finding:
    """The one finding there is."""
    (finding,) = verdict.findings
    return finding


# the series


def test_a_table_of_an_earlier_file_exists_as_long_as_nobody_says_what_is_pending(tmp_path: Path) -> None:
    verdict = judged(tmp_path, TABLE + COMMENTS, INDEX)
    assert rules(verdict) == ["require-concurrent-index-creation"]
    assert (only(verdict).file, only(verdict).line) == ("db/init/002_x.sql", 1)


def test_a_table_of_an_earlier_pending_file_is_new(tmp_path: Path) -> None:
    assert rules(judged(tmp_path, TABLE + COMMENTS, INDEX, versions=frozenset((1, 2)))) == []


def test_a_table_of_an_applied_file_is_not(tmp_path: Path) -> None:
    verdict = judged(tmp_path, TABLE + COMMENTS, INDEX, versions=frozenset((2,)))
    assert rules(verdict) == ["require-concurrent-index-creation"]
    assert verdict.files == 1


def test_a_pending_table_with_rows_is_no_longer_new(tmp_path: Path) -> None:
    load = "INSERT INTO cm.t SELECT 1, 'a' FROM cm.u;\n"
    verdict = judged(tmp_path, TABLE + COMMENTS, load, INDEX, versions=frozenset((1, 2, 3)))
    assert rules(verdict) == ["require-concurrent-index-creation"]


def test_an_index_of_a_pending_file_is_in_the_way_of_a_later_load(tmp_path: Path) -> None:
    load = "\n\nINSERT INTO cm.t SELECT 1, 'a' FROM cm.u;\n"
    verdict = judged(tmp_path, TABLE + COMMENTS + INDEX, load, versions=frozenset((1, 2)))
    finding = only(verdict)
    assert (finding.rule, finding.file, finding.line) == ("index-before-load", "db/init/001_x.sql", 5)
    assert "line 3 of 002_x.sql" in finding.message


def test_an_index_that_decides_conflicts_has_to_be_there_before_the_load(tmp_path: Path) -> None:
    unique = "CREATE UNIQUE INDEX t_v_idx ON cm.t (v);\n"
    load = "INSERT INTO cm.t SELECT 1, 'a' FROM cm.u ON CONFLICT (v) DO NOTHING;\n"
    assert rules(judged(tmp_path, TABLE + COMMENTS + unique + load)) == []


def test_a_copy_of_many_rows_is_a_load(tmp_path: Path) -> None:
    data = "COPY cm.t FROM stdin;\n" + "1\tit's\n" * 1000 + "\\.\n"
    assert rules(judged(tmp_path, TABLE + COMMENTS + INDEX + data)) == ["index-before-load"]


def test_create_table_if_not_exists_makes_nothing_where_the_table_is_there(tmp_path: Path) -> None:
    table = TABLE.replace("TABLE", "TABLE IF NOT EXISTS")
    wanted = {"versions": frozenset((1,)), "tables": BIG}
    assert "require-concurrent-index-creation" in rules(judged(tmp_path, table + COMMENTS + INDEX, **wanted))
    assert rules(judged(tmp_path, table + COMMENTS + INDEX, versions=frozenset((1,)))) == []


def test_what_a_block_makes_is_known_afterwards(tmp_path: Path) -> None:
    block = f"DO $$ BEGIN {TABLE} END $$;\n"
    assert rules(judged(tmp_path, block + COMMENTS + INDEX)) == ["ddl-in-do-block"]


def test_names_without_a_schema_are_those_of_the_ledgers_schema_and_of_public(tmp_path: Path) -> None:
    verdict = judged(tmp_path, TABLE + COMMENTS, "CREATE INDEX ON t (v);", tables=BIG)
    assert (only(verdict).table, only(verdict).table_rows) == ("cm.t", 40_000_000)
    other = {"app.t": {"bytes": 0, "rows": 0}}
    verdict = judged(tmp_path, "SELECT 1", "CREATE INDEX ON t (v);", tables=other, schema="app")
    assert (only(verdict).table, only(verdict).severity) == ("app.t", "note")


# sizes


@pytest.mark.parametrize(
    ("size", "severity"),
    [
        (None, "error"),
        ({"bytes": 5 * 1024**3, "rows": 40_000_000}, "error"),
        ({"bytes": 5 * 1024**3, "rows": -1}, "error"),
        ({"rows": 3}, "error"),
        ({"bytes": 8192, "rows": 12}, "warning"),
        ({"bytes": 8192, "rows": 0}, "note"),
        ({"bytes": 0, "rows": -1}, "note"),
    ],
)
def test_what_lasts_as_long_as_a_table_is_large_weighs_by_its_size(
    tmp_path: Path, size: dict[str, int] | None, severity: str
) -> None:
    tables = {"cm.t": size} if size else {}
    assert only(judged(tmp_path, TABLE + COMMENTS, INDEX, tables=tables)).severity == severity


def test_the_size_is_named_and_the_limit_can_be_set(tmp_path: Path) -> None:
    finding = only(judged(tmp_path, TABLE + COMMENTS, INDEX, tables=BIG))
    assert "cm.t (5.0 GB, 40,000,000 rows)" in finding.message
    assert (finding.table_bytes, finding.table_rows) == (5 * 1024**3, 40_000_000)
    assert only(judged(tmp_path, TABLE + COMMENTS, INDEX, tables=BIG, small=6 * 1024**3)).severity == "warning"


def test_lost_data_and_broken_applications_are_as_bad_on_a_small_table(tmp_path: Path) -> None:
    small = {"cm.t": {"bytes": 8192, "rows": 12}}
    for statement in (
        "TRUNCATE cm.t;",
        "ALTER TABLE cm.t DROP COLUMN v;",
        "ALTER TABLE cm.t ADD COLUMN w int NOT NULL;",
    ):
        verdict = judged(tmp_path, TABLE + COMMENTS, statement, tables=small)
        assert "error" in {finding.severity for finding in verdict.findings}, statement


def test_sizes_as_people_read_them() -> None:
    assert str(Size(1, 1)) == "1 byte, 1 row"
    assert str(Size(1288490188, 8_000_000)) == "1.2 GB, 8,000,000 rows"
    assert str(Size.of({"bytes": 3 * 1024**4, "rows": -1})) == "3.0 TB"


# suppressions


def test_a_suppression_counts_for_the_statement_below_it_alone(tmp_path: Path) -> None:
    text = (
        "-- lint: ignore missing-where, truncate-table reason: few rows\n"
        "-- and another comment\n"
        "WITH a AS (DELETE FROM cm.t) DELETE FROM cm.u;\n"
        "DELETE FROM cm.t;\n"
    )
    verdict = judged(tmp_path, text)
    assert rules(verdict) == ["suppression-of-nothing", "missing-where"]
    assert [finding.line for finding in verdict.findings] == [1, 4]
    assert [item.reason for item in verdict.suppressed] == ["few rows"] * 2


def test_a_blank_line_parts_a_suppression_from_the_statement(tmp_path: Path) -> None:
    text = "-- lint: ignore missing-where reason: far away\n\nDELETE FROM cm.t;\n"
    assert rules(judged(tmp_path, text)) == ["suppression-of-nothing", "missing-where"]


def test_a_suppression_may_stand_inside_a_statement(tmp_path: Path) -> None:
    text = (
        "DO $$\nBEGIN\n  -- lint: ignore missing-where reason: few rows\n  DELETE FROM cm.t;\n  DELETE FROM cm.u;\n"
        "END $$;\n"
        "ALTER TABLE cm.t\n  -- lint: ignore ban-drop-column reason: unused\n  DROP COLUMN a,\n  DROP COLUMN b;\n"
    )
    verdict = judged(tmp_path, text)
    assert [(finding.rule, finding.line) for finding in verdict.findings] == [
        ("missing-where", 5),
        ("ban-drop-column", 10),
    ]


def test_text_that_looks_like_a_suppression_is_text(tmp_path: Path) -> None:
    text = (
        "COPY cm.t FROM stdin;\n-- lint: ignore nonsense reason: data\n\\.\n"
        "SELECT '\n-- lint: ignore nonsense reason: string\n';\n"
    )
    assert rules(judged(tmp_path, text)) == []


def test_a_suppression_of_a_file_counts_in_its_header_only(tmp_path: Path) -> None:
    line = "-- lint: ignore-file missing-where reason: few rows\n"
    assert rules(judged(tmp_path, line + "DELETE FROM cm.t;\nDELETE FROM cm.u;\n")) == []
    assert rules(judged(tmp_path, f"DELETE FROM cm.t;\n{line}DELETE FROM cm.u;\n")) == [
        "missing-where",
        "suppression-of-nothing",
        "missing-where",
    ]


def test_a_suppression_that_a_fresh_database_does_not_need_is_no_offence(tmp_path: Path) -> None:
    index = "-- lint: ignore require-concurrent-index-creation reason: nobody writes here\n" + INDEX
    assert rules(judged(tmp_path, TABLE + COMMENTS, index)) == []
    assert rules(judged(tmp_path, TABLE + COMMENTS, index, versions=frozenset((1, 2)))) == []


def test_squawks_own_suppressions_do_not_count(tmp_path: Path) -> None:
    text = "CREATE INDEX /* squawk-ignore require-concurrent-index-creation */ i ON cm.t (v);\n"
    text += "-- squawk-ignore-file\n"
    assert rules(judged(tmp_path, text)) == ["require-concurrent-index-creation"]


def test_a_misspelt_rule_is_told_apart(tmp_path: Path) -> None:
    verdict = judged(tmp_path, "-- lint: ignore missing-were reason: x\nSELECT 1;\n")
    assert only(verdict).rule == "suppression-of-unknown-rule"
    assert 'Did you mean "missing-where"?' in only(verdict).message


# files


def test_lines_are_those_of_the_file_on_disk(tmp_path: Path) -> None:
    included = tmp_path / "parts"
    included.mkdir()
    (included / "clean.sql").write_text("-- first\n\nDELETE FROM cm.t;\n")
    text = b"\xef\xbb\xbf-- note\r\n\\ir parts/clean.sql\r\nSELECT 1;\r\n\r\nTRUNCATE\r\n  cm.t;\r\n"
    verdict = judged(tmp_path, text)
    assert [(finding.rule, finding.file, finding.line) for finding in verdict.findings] == [
        ("truncate-table", "db/init/001_x.sql", 5),
        ("missing-where", "db/init/parts/clean.sql", 3),
    ]


def test_an_included_file_has_suppressions_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/clean.sql").write_text("-- lint: ignore missing-where reason: few rows\nDELETE FROM cm.t;\n")
    verdict = judged(tmp_path, "\\ir parts/clean.sql\nDELETE FROM cm.t;\n")
    assert [(finding.file, finding.line) for finding in verdict.findings] == [("db/init/001_x.sql", 2)]


def test_a_file_that_is_no_sql_does_not_hide_the_others(tmp_path: Path) -> None:
    verdict = judged(
        tmp_path, "SELECT 1;\nALTER TABEL x;\nDELETE FROM cm.t;", "\\gexec\n", b"\xff", "DELETE FROM cm.t;"
    )
    assert [(finding.rule, finding.file[-9:], finding.line) for finding in verdict.findings] == [
        ("syntax", "001_x.sql", 2),
        ("missing-where", "001_x.sql", 3),
        ("syntax", "002_x.sql", 1),
        ("syntax", "003_x.sql", 1),
        ("missing-where", "004_x.sql", 1),
    ]


def test_syntax_of_a_newer_server_is_a_warning(tmp_path: Path) -> None:
    finding = only(judged(tmp_path, "REPACK cm.t;", server_version=190000))
    assert (finding.rule, finding.severity) == ("syntax", "warning")
    assert only(judged(tmp_path, "REPACK cm.t;", server_version=180000)).severity == "error"


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    text = (
        "DO $$ BEGIN CREATE USER MAPPING FOR a SERVER b OPTIONS (password 'hunter2'); END $$;\n"
        "ALTER ROLE a PASSWORD 'hunter2' 'hunter3';\n"
        "ALTER ROLE a PASSWORD E'hunter2' $$hunter3$$;\n"
    )
    verdict = judged(tmp_path, text)
    assert rules(verdict) == ["ddl-in-do-block", "syntax", "syntax"]
    assert "hunter" not in repr(verdict)


def test_a_rollback_script_is_read_as_sql_and_has_to_do_something(tmp_path: Path) -> None:
    scripts = tmp_path / "rollback"
    scripts.mkdir()
    (scripts / "001_x.sql").write_text("-- nothing\n")
    (scripts / "002_x.sql").write_text("\nDROP TABEL cm.t;\n")
    (scripts / "003_x.sql").write_text("DROP TABLE cm.t;\n")
    verdict = judged(
        tmp_path, "SELECT 1", "SELECT 1", "SELECT 1", rollback_directory=scripts, shown_rollback="db/rollback"
    )
    assert [(finding.rule, finding.file, finding.line) for finding in verdict.findings] == [
        ("missing-rollback", "db/init/001_x.sql", 1),
        ("syntax", "db/rollback/002_x.sql", 2),
    ]


def test_a_version_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="no migration with the number 7") as caught:
        judged(tmp_path, "SELECT 1", versions=frozenset((1, 7)))
    assert caught.value.code == "unknown-version"


def test_a_missing_squawk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squawk.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunbookError, match="squawk is not installed") as caught:
        judged(tmp_path, "CREATE INDEX ON cm.t (v);")
    assert caught.value.code == "lint-tool"


def test_a_squawk_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "squawk"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 101\n")
    program.chmod(0o755)
    monkeypatch.setattr(squawk, "_program", lambda: str(program))
    with pytest.raises(RunbookError, match="failed with code 101: broken"):
        judged(tmp_path, "CREATE INDEX ON cm.t (v);")


def test_the_projects_own_migrations_have_no_errors() -> None:
    verdict = lint(Wanted(ROOT / "db/init", ROOT / "db/rollback"))
    assert verdict.files >= 4
    assert verdict.worst() in ("", "note", "warning"), verdict.findings


def test_a_large_insert_is_read_without_a_tree_of_it(tmp_path: Path) -> None:
    rows = ",\n".join(f"({number}, 'it''s {number}')" for number in range(20_000))
    begin = time.monotonic()
    verdict = judged(tmp_path, f"{TABLE}{COMMENTS}{INDEX}INSERT INTO cm.t (id, v) VALUES\n{rows};\n")
    assert rules(verdict) == ["index-before-load"]
    assert time.monotonic() - begin < 5


def test_five_hundred_files_take_seconds(tmp_path: Path) -> None:
    text = (
        "CREATE TABLE cm.t{n} (id bigint PRIMARY KEY, v text);\nCREATE INDEX ON cm.t{n} (v);\n"
        "COMMENT ON TABLE cm.t{n} IS 'T.';\nCOMMENT ON COLUMN cm.t{n}.id IS 'Key.';\n"
        "COMMENT ON COLUMN cm.t{n}.v IS 'Value.';\nCREATE INDEX ON cm.t0 (v);\n"
        "INSERT INTO cm.schema_version (version, description) VALUES ({n}, 'More');\n"
    )
    begin = time.monotonic()
    verdict = judged(tmp_path, *(text.format(n=number) for number in range(500)))
    assert rules(verdict) == ["require-concurrent-index-creation"] * 499
    assert time.monotonic() - begin < 15  # two or so; the machine may be busy
