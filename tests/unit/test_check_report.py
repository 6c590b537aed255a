# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and machines get to see of a validation."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from ansible.module_utils.runbook.check import STATUSES, cleaned, is_red, sentence, shown
from ansible.module_utils.runbook.check_report import as_json, as_junit, headline, table


def outcome(name: str, status: str = "passed", severity: str = "error", message: str = "Seen.") -> dict[str, Any]:
    """An outcome as the module returns it."""
    return {
        "name": name,
        "kind": "sql",
        "group": "smoke",
        "severity": severity,
        "status": status,
        "message": message,
        "found": {"value": "1"},
        "seconds": 0.25,
        "where": "db/checks/a.yml:3",
    }


def result(*outcomes: dict[str, Any], fail_on: str = "error") -> dict[str, Any]:
    """The result of a validation with these outcomes."""
    made: dict[str, Any] = {
        "database": "cm",
        "schema_version": 4,
        "server_version": 180006,
        "only": [],
        "checks": list(outcomes),
        "counts": {status: sum(one["status"] == status for one in outcomes) for status in STATUSES},
        "red": any(is_red(one, fail_on) for one in outcomes),
        "seconds": 1.5,
    }
    return {**made, "summary": headline(made, fail_on)}


def parsed(report: str) -> ElementTree.Element:
    """The only suite of a report in the form of JUnit."""
    (suite,) = ElementTree.fromstring(report)  # noqa: S314 - it is our own
    return suite


def test_one_sentence_names_what_is_wrong() -> None:
    assert result(outcome("a"))["summary"] == "cm at version 4: 1 check, 1 passed, in 1.50 s."
    many = [outcome(name, "failed") for name in "abcde"]
    assert result(*many, outcome("w", "failed", "warning"))["summary"] == (
        "cm at version 4: 6 checks, 6 failed, in 1.50 s. Not as it should be: a; b; c; and 2 more."
    )


def test_the_table_begins_with_what_needs_attention() -> None:
    shown = table(
        result(
            outcome("fine"),
            outcome("other version", "skipped", message="Not for this one."),
            outcome("broken", "errored", message="The server refused it."),
            outcome("odd", "failed", "warning", "Three rows."),
        )
    )
    assert shown == (
        "RESULT   GROUP  CHECK          SEEN\n"
        "warning  smoke  odd            see below\n"
        "ERRORED  smoke  broken         see below\n"
        "skipped  smoke  other version  Not for this one.\n"
        "passed   smoke  fine           Seen.\n"
        "\n"
        "warning, severity warning: odd (db/checks/a.yml:3)\n"
        "    Three rows.\n"
        "\n"
        "ERRORED, severity error: broken (db/checks/a.yml:3)\n"
        "    The server refused it."
    )


def test_of_many_only_the_number_of_those_that_passed_is_shown() -> None:
    lines = table(result(*(outcome(str(number)) for number in range(200)), outcome("bad", "failed"))).splitlines()
    assert lines[1].startswith("FAILED") and lines[2] == "… and 200 that passed" and len(lines) < 10
    assert table(result(*(outcome(str(number)) for number in range(200)))).splitlines()[1] == "… and 200 that passed"


def test_junit_is_xml_whatever_the_database_says() -> None:
    hostile = 'x <b> & "q" \x00\x1b[31m\ud800'
    found = result(
        outcome(hostile, "failed", message=hostile),
        outcome("errs", "errored"),
        outcome("warns", "failed", "warning", "Odd."),
        outcome("skipped", "skipped", message="Not now."),
        outcome("fine"),
    )
    suite = parsed(as_junit(found, "host", "error"))
    assert {name: suite.get(name) for name in ("name", "tests", "failures", "errors", "skipped", "time")} == {
        "name": "cm on host",
        "tests": "5",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "1.500",
    }
    assert [case[0].tag for case in suite] == ["failure", "error", "system-out", "skipped", "system-out"]
    assert suite[2][0].text == "warning: Odd." and suite[0].get("name") == 'x <b> & "q" \ufffd\ufffd[31m\ufffd'
    assert len(parsed(as_junit(found, "host", "warning")).findall("*/failure")) == 2


def test_json_is_what_the_module_returns_and_the_host() -> None:
    found = result(outcome("a"))
    assert json.loads(as_json(found, "cm-staging")) == {"host": "cm-staging", **found}


def test_values_are_cut_and_made_printable() -> None:
    assert shown("a\nb\x1b[0m") == "a\\x0ab\\x1b[0m"
    assert len(shown("x" * 10_000_000)) == 200 and shown("x" * 300).endswith("…")
    assert sentence("PGPASSWORD=geheim api_token=abc&x=1 failed") == "PGPASSWORD=*** api_token=***&x=1 failed"
    assert cleaned({"rows": ["postgres://cm:secret@db", 5, None, ["topsecret"]]}, ["topsecret"]) == {
        "rows": ["postgres://cm:***@db", 5, None, ["***"]]
    }
