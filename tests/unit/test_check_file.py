# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading checks: what is written wrong is refused with file, line and name, and nothing is overlooked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook import check_kind, checks
from ansible.module_utils.runbook.check import Check
from ansible.module_utils.runbook.check_file import handed_over, read_checks
from ansible.module_utils.runbook.errors import RunbookError

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path, **files: str) -> list[Check]:
    """Write files, named with ``_`` for the dot, and read them."""
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return read_checks(folder, "db/checks")


def refused(folder: Path, **files: str) -> str:
    """The message of files that cannot be read."""
    with pytest.raises(RunbookError) as caught:
        read(folder, **files)
    assert caught.value.code == "check-file"
    return caught.value.message


def one(**entry: Any) -> Check:
    """Read one entry."""
    (check,) = handed_over([{"name": "it", **entry}])
    return check


def test_a_file_of_each_kind_is_read_in_order(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        b_yml="- name: two\n  tables: cm.t\n\n- name: three\n  sql: SELECT true\n  severity: warning\n  timeout: 5s\n",
        a_sql="-- check: one\n-- since: 4\n-- a comment: that is none\nSELECT 1;\n",
        notes_txt="not a check",
        empty_yml="# nothing yet\n",
    )
    assert [(check.name, check.where) for check in found] == [
        ("one", "db/checks/a.sql"),
        ("two", "db/checks/b.yml:1"),
        ("three", "db/checks/b.yml:4"),
    ]
    one, two, three = found
    assert (one.kind, one.since, one.options["query"]) == ("no_rows", 4, "SELECT 1")
    assert two.options == {"names": [["cm", "t"]]}
    assert (three.severity, three.timeout) == ("warning", 5000)


def test_the_name_of_an_sql_file_stands_in_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "no_orphans_left.sql").write_text("TABLE cm.t")
    (check,) = read_checks(tmp_path, "db/checks")
    assert check.name == "no orphans left"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checks: []", "db/checks/a.yml: the file has to be a list of checks"),
        (
            "- name: a\n  tables: cm.t\n  tables: cm.u\n",
            "db/checks/a.yml:3: this is no usable YAML: the key 'tables' is",
        ),
        ("- name: a\n  tables: [cm.t\n", "db/checks/a.yml:3: this is no usable YAML"),
        ("- name: a\n\ttables: cm.t\n", "db/checks/a.yml:2: this is no usable YAML"),
        ("- name: a\n  tables: !!python/object:os.system x\n", "db/checks/a.yml:2: this is no usable YAML"),
        ("- tables: cm.t", "db/checks/a.yml:1: a check has no name."),
        ("- name: 5\n  tables: cm.t", "db/checks/a.yml:1: a check has no name."),
        ("- 'tables'", "db/checks/a.yml:1: 'tables' is no check"),
        ("- name: a\n\n- name: b\n", "db/checks/a.yml:1, check 'a': it has no kind."),
        ("- name: a\n  tables: cm.t\n  views: cm.v\n", "it is of several kinds, tables and views"),
        (
            "- name: a\n  tabels: cm.t\n",
            "check 'a': 'tabels' is no kind and no option of a check; did you mean tables?",
        ),
        (
            "- name: a\n  tables: cm.t\n  severty: error\n",
            "'severty' is no kind and no option of a check; did you mean",
        ),
        ("- name: a\n  tables: t\n", "tables.names is 't', and has to be a name with its schema such as cm.audit_log"),
        ("- name: a\n  tables: {name: cm.t}\n", "'name' is no option of tables; did you mean names?"),
        ("- name: a\n  columns: {table: cm.t}\n", "columns lacks have."),
        ("- name: a\n  columns: cm.t\n", "columns is 'cm.t', and has to be a mapping of table, have, only"),
        ("- name: a\n  explain: SELECT 1\n", "explain lacks one of max_ms, max_buffers, no_seq_scan_over."),
        ("- name: a\n  tables: cm.t\n  severity: fatal\n", "severity is 'fatal', and has to be one of error, warning"),
        ("- name: a\n  tables: cm.t\n  timeout: 5\n", "timeout is 5, and has to be a time limit"),
        ("- name: a\n  tables: cm.t\n  timeout: 0s\n", "timeout is '0s', and has to be a time limit"),
        ("- name: a\n  tables: cm.t\n  since: '4'\n", "since is '4', and has to be a whole number"),
        ("- name: a\n  tables: cm.t\n  since: 4\n  until: 3\n", "until 3 is before since 4"),
        ("- name: a\n  command: rm -rf /\n", "has to be a list of a program and its arguments"),
        ("- name: a\n  http: file:///etc/passwd\n", "has to be an address such as https://app.example.com/health"),
        ("- name: a\n  tcp: db.example.com\n", "has to be a host and a port"),
        ("- name: a\n  log: {pattern: '('}\n", "has to be a regular expression"),
        ("- name: a\n  no_rows: DELETE FROM cm.t\n", "has to be one SQL query"),
        ("- name: a\n  no_rows: SELECT 1; COMMIT\n", "this is 2 of them"),
        ("- name: a\n  count: {table: cm.t, where: '1=1); DELETE FROM t; --', equals: 1}\n", "what may stand behind"),
        (
            "- name: a\n  references: {table: cm.t, columns: [a, b], to: cm.u, to_columns: id}\n",
            "columns and to_columns differ in number",
        ),
        (
            "- name: a\n  tables: cm.t\n- name: a\n  views: cm.v\n",
            "db/checks/a.yml:3, check 'a': db/checks/a.yml:1 has",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    message = refused(tmp_path, a_yml=text)
    assert said in message and message.endswith("docs/checks.md lists what a check can say.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "db/checks/a.sql: the file is empty."),
        ("-- check: a\n", "no_rows.query is '-- check: a\\n', and has to be one SQL query"),
        ("-- severty: error\nSELECT 1", "db/checks/a.sql:1: 'severty' is no directive; did you mean severity?"),
        ("-- check: a\n-- check: b\nSELECT 1", "db/checks/a.sql:2: the directive check is there twice."),
        ("-- since: four\nSELECT 1", "db/checks/a.sql:1: since is 'four', and has to be a schema version"),
        ("-- timeout: 5\nSELECT 1", "timeout is '5', and has to be a time limit"),
        ("SELECT 1; SELECT 2", "this is 2 of them"),
    ],
)
def test_sql_that_cannot_be_meant_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, a_sql=text)


def test_other_encodings_and_missing_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_bytes("- name: Prüfung".encode("latin-1"))
    assert "db/checks/a.yml: the file is not UTF-8 text." in refused(tmp_path)
    with pytest.raises(RunbookError, match="folder of checks db/nowhere does not exist"):
        read_checks(tmp_path / "nowhere", "db/nowhere")


def test_names_are_read_as_sql_reads_them() -> None:
    assert one(tables="CM.Audit_Log").options["names"] == [["cm", "audit_log"]]
    assert one(tables='"My ""Schema"".x"."T.1"').options["names"] == [['My "Schema".x', "T.1"]]


def test_yaml_knows_dates_and_they_stay_what_was_written(tmp_path: Path) -> None:
    (check,) = read(tmp_path, a_yml="- name: a\n  range: {table: cm.t, column: c, at_least: 2020-01-01}\n")
    assert check.options["at_least"] == "2020-01-01" and check.options["nulls"] is True


def test_checks_come_back_from_their_way_to_the_target() -> None:
    found = [one(http={"url": "https://x/y", "headers": {"A": "b"}}, timeout="2s", since=3), one(log={})]
    assert checks.received(checks.shipped(found)) == found


def test_the_projects_own_checks_cover_the_runbooks_validation_steps() -> None:
    found = read_checks(ROOT / "db/checks", "db/checks")
    about = yaml.safe_dump([check.as_dict() for check in found])
    assert {"columns", "indexes", "constraints", "value", "explain", "sql", "log"} <= {check.kind for check in found}
    for words in ("count(DISTINCT user_id)", "min(ts)", "max(ts)", "interval '1 day'", "idx_audit_log_action"):
        assert words in about


def test_every_kind_and_option_is_documented() -> None:
    text = (ROOT / "docs/checks.md").read_text()
    for name, kind in check_kind.KINDS.items():
        assert f"`{name}`" in text, name
        assert [option for option in kind.options if f"`{option}" not in text] == [], name
