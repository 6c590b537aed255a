# SPDX-License-Identifier: GPL-3.0-or-later
"""What is written about findings, the task that does it, and the documentation of the rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint import report
from ansible.module_utils.runbook.lint.lint import SMALL, Verdict, Wanted, lint
from ansible.module_utils.runbook.lint.opinions import OPINIONS
from ansible.module_utils.runbook.lint.rulebook import NEVER, ROWS, RULES, TIME

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTATION = (ROOT / "docs/lint.md").read_text()
WEIGHS = {TIME: "time", ROWS: "rows", NEVER: ""}

# What SARIF 2.1.0 demands of the parts that are written here (sarif-schema-2.1.0.json of OASIS, cut down to them).
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "required": ["tool", "results"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {
                                                "shortDescription": {"required": ["text"]},
                                                "defaultConfiguration": {
                                                    "properties": {
                                                        "level": {"enum": ["none", "note", "warning", "error"]}
                                                    }
                                                },
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "required": ["message", "ruleId", "ruleIndex", "level", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"], "properties": {"text": {"type": "string"}}},
                                "locations": {
                                    "items": {
                                        "properties": {
                                            "physicalLocation": {
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "artifactLocation": {
                                                        "properties": {"uri": {"type": "string", "pattern": "^[^/]"}}
                                                    },
                                                    "region": {
                                                        "properties": {"startLine": {"type": "integer", "minimum": 1}}
                                                    },
                                                },
                                            }
                                        }
                                    }
                                },
                                "suppressions": {
                                    "items": {
                                        "required": ["kind", "justification"],
                                        "properties": {"kind": {"enum": ["inSource", "external"]}},
                                    }
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    """One error on a table of known size, one note, and one finding that is suppressed."""
    (tmp_path / "001_x.sql").write_text(
        "CREATE INDEX i ON cm.t (v);\nALTER TABLE cm.t ADD COLUMN c char(3);\nCOMMENT ON COLUMN cm.t.c IS 'C.';\n"
        "-- lint: ignore missing-where reason: few rows\nDELETE FROM cm.u;\n"
    )
    tables = {"cm.t": {"bytes": 5 * 1024**3, "rows": 7}}
    return lint(Wanted(tmp_path, tables=tables, shown="db/init"))


def test_the_text_says_where_what_why_and_what_instead(verdict: Verdict) -> None:
    assert report.text(verdict).splitlines() == [
        "1 migration: 1 error, 1 note; 1 suppressed.",
        "db/init/001_x.sql:1: error require-concurrent-index-creation",
        "    CREATE INDEX keeps everybody from writing to cm.t (5.0 GB, 7 rows) until the index is built.",
        f"    Why: {RULES['require-concurrent-index-creation'].why}",
        "    Instead: Build it concurrently, in a file of its own: CREATE INDEX CONCURRENTLY i ON cm.t (v);",
        "db/init/001_x.sql:2: note ban-char-field",
        "    The type char(n) pads values with blanks.",
        "    Instead: Use text, with a CHECK on the length where it matters.",
    ]
    assert report.text(Verdict([], [], 3)) == "3 migrations: nothing to object to."


def test_json_has_everything(verdict: Verdict, tmp_path: Path) -> None:
    report.write(verdict, tmp_path / "new/folder/lint.json")
    data = json.loads((tmp_path / "new/folder/lint.json").read_text())
    assert data["findings"] == [finding.as_dict() for finding in verdict.findings]
    assert data["findings"][0]["table_bytes"] == 5 * 1024**3
    assert data["suppressed"][0]["reason"] == "few rows"
    assert data["summary"] == report.summary(verdict)


def test_sarif_is_what_code_hosts_take(verdict: Verdict, tmp_path: Path) -> None:
    report.write(verdict, tmp_path / "lint.sarif")
    data = json.loads((tmp_path / "lint.sarif").read_text())
    jsonschema.validate(data, SARIF)
    (run,) = data["runs"]
    listed = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in listed] == list(RULES)
    for result in run["results"]:
        assert listed[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [result["level"] for result in run["results"]] == ["error", "note", "error"]
    assert run["results"][0]["locations"] == [
        {"physicalLocation": {"artifactLocation": {"uri": "db/init/001_x.sql"}, "region": {"startLine": 1}}}
    ]
    assert [result.get("suppressions") for result in run["results"]] == [
        None,
        None,
        [{"kind": "inSource", "justification": "few rows"}],
    ]


def test_a_report_of_another_kind_is_refused(verdict: Verdict, tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="neither .json nor .sarif") as caught:
        report.write(verdict, tmp_path / "lint.xml")
    assert caught.value.code == "lint-report"


def test_a_report_that_cannot_be_written_is_named(verdict: Verdict, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunbookError, match="cannot be written"):
        report.write(verdict, tmp_path / "file/lint.json")


# the task


def task(folder: Path, **options: Any) -> dict[str, Any]:
    """The result of schema_lint as a task, run by Ansible itself."""
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", "schema_lint", "-a", json.dumps(options)],
        cwd=folder,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"=> (\{.*\})", done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    result = json.loads(found.group(1))
    assert isinstance(result, dict)
    return {**result, "failed": "| FAILED!" in done.stdout}


def test_the_task_fails_as_told(tmp_path: Path) -> None:
    (tmp_path / "001_x.sql").write_text("DELETE FROM cm.t;\n")
    result = task(tmp_path, directory=str(tmp_path), report=str(tmp_path / "lint.sarif"))
    assert result["failed"] and result["code"] == "lint" and result["changed"] is False
    assert result["msg"].startswith("1 migration: 1 error.\n")
    assert [finding["rule"] for finding in result["findings"]] == ["missing-where"]
    assert json.loads((tmp_path / "lint.sarif").read_text())["version"] == "2.1.0"
    result = task(tmp_path, directory=str(tmp_path), fail_on="never")
    assert not result["failed"] and result["suppressed"] == 0
    small = {"cm.t": {"bytes": 8192, "rows": 2}}
    assert not task(tmp_path, directory=str(tmp_path), tables=small)["failed"]
    assert task(tmp_path, directory=str(tmp_path), tables=small, fail_on="warning")["failed"]


def test_the_task_says_why_it_could_not_judge(tmp_path: Path) -> None:
    result = task(tmp_path, directory=str(tmp_path / "nowhere"))
    assert result["failed"] and result["code"] == "no-folder"


def test_paths_start_at_the_project(tmp_path: Path) -> None:
    result = task(tmp_path, directory="db/init", rollback_directory="db/rollback", versions=[4])
    assert not result["failed"]
    assert {finding["file"] for finding in result["findings"]} <= {"db/init/004_add_audit_log.sql"}


# the documentation


def test_the_table_of_the_documentation_is_the_rule_book() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (error|warning|note) \| (time|rows|) *\|", DOCUMENTATION, re.MULTILINE)
    assert rows == [(rule.name, rule.severity, WEIGHS[rule.weighs]) for rule in RULES.values()]


def test_the_rules_of_squawk_are_those_that_are_pinned() -> None:
    pinned = set(OPINIONS) - {"prefer-bigint-over-smallint"}  # the same rule to us as prefer-bigint-over-int
    assert {rule.name for rule in RULES.values() if rule.squawk} == pinned


def test_squawk_knows_the_rules_that_are_pinned() -> None:
    for name in OPINIONS:
        command = [str(Path(sys.executable).parent / "squawk"), "--exclude", name, "--stdin-filepath", "x.sql"]
        done = subprocess.run(command, input="SELECT 1;", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_documentation_names_the_limit_of_small_tables() -> None:
    assert SMALL == 10 * 1024**2
    assert "10 MB" in DOCUMENTATION
