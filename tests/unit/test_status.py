# SPDX-License-Identifier: GPL-3.0-or-later
"""The status screen."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.runbook import status

FILES = ["001_a.sql", "002_b.sql", "003_c.sql", "004_d.sql"]
RUN = {
    "operation": "migrate",
    "outcome": "succeeded",
    "started_at": "2026-11-22T14:15:30.123Z",
    "seconds": 0.412,
    "applied": 4,
}


def row(**values: Any) -> dict[str, Any]:
    """Return a row about staging."""
    return {"environment": "staging", "host": "cm-staging", "database": "cm", "pending": [], **values}


def test_screen() -> None:
    rows = [
        row(version=4, last_run=RUN),
        row(environment="production", host="cm-production", version=None, pending=FILES, last_run={}),
    ]
    assert status.screen(rows).splitlines() == [
        "ENVIRONMENT  HOST           DATABASE  VERSION  PENDING                                 LAST RUN",
        "staging      cm-staging     cm        4        none                                    "
        "migrate succeeded 2026-11-22 14:15:30Z, 0.4 s, 4 applied",
        "production   cm-production  cm        none     4 (001_a.sql, 002_b.sql, … and 2 more)  never",
    ]


def test_long_lists_are_shortened() -> None:
    names = [f"db/init/{number:03d}_x.sql" for number in range(1, 400)]
    assert status.pending_text(names) == "399 (001_x.sql, 002_x.sql, … and 397 more)"


def test_a_database_that_cannot_be_read() -> None:
    lines = status.screen([row(error="The server does not answer.", last_run=RUN)]).splitlines()
    assert "unknown  unknown  migrate succeeded" in lines[1]
    assert lines[2:] == ["", "cm-staging: The server does not answer."]


def test_files_that_do_not_go_with_the_ledger_hide_only_what_is_pending() -> None:
    applied = [[7, "step 7", "2026-11-22 14:15:30.1+00", "7_x.sql", "…"]]
    lines = status.screen([row(version=7, error="7_x.sql was edited.", applied=applied)]).splitlines()
    assert lines[1].split() == ["staging", "cm-staging", "cm", "7", "unknown", "never"]
    assert lines[-3:] == ["7        2026-11-22 14:15:30  step 7", "", "cm-staging: 7_x.sql was edited."]


def test_an_empty_ledger_is_not_an_unknown_one() -> None:
    assert status.screen([row(version=None, error="No files.")]).splitlines()[1].split()[3:5] == ["none", "unknown"]


def test_nothing_to_show() -> None:
    assert status.screen([]) == "No host matches."


def test_a_running_or_swept_run_has_no_duration() -> None:
    text = status.last_run_text({**RUN, "outcome": "interrupted", "seconds": None, "applied": 0})
    assert text == "migrate interrupted 2026-11-22 14:15:30Z"


def test_summary_counts_over_all_hosts() -> None:
    hosts = {"a": {"applied": [{}, {}], "rolled_back": []}, "b": {"applied": [{}], "adopted": [{}]}}
    summary = status.summary({**RUN, "hosts": hosts, "controller": {}})
    assert (summary["applied"], summary["adopted"], summary["rolled_back"]) == (3, 1, 0)
    assert "controller" not in summary
    assert status.summary(None) == {}


def test_the_newest_versions_of_the_ledger_are_shown_under_the_table() -> None:
    applied = [[number, f"step {number}", "2026-11-22 14:15:30.1+00", f"{number}_x.sql", "…"] for number in range(1, 8)]
    lines = status.screen([row(applied=applied)]).splitlines()
    assert lines[3:] == [
        f"{row()['host']}:",
        "VERSION  APPLIED AT (UTC)     DESCRIPTION",
        *(f"{number}        2026-11-22 14:15:30  step {number}" for number in (7, 6, 5, 4, 3)),
        "… and 2 earlier",
    ]


HOST = {"host": "cm-staging", "environment": "staging", "last_run": {}}
LEDGER = {"version": 4, "in_recovery": False, "ledger": {"rows": [[4, "d", "2026-11-22 14:15:30", "4_x.sql", "…"]]}}


def test_a_standby_is_marked() -> None:
    (seen,) = status.rows(HOST, ["cm"], {"results": [{**LEDGER, "in_recovery": True}]}, {"results": [{"pending": []}]})
    line = status.screen([seen]).splitlines()[1]
    assert line == "staging      cm-staging (standby)  cm        4        none     never"


def test_each_database_of_a_host_has_a_row_and_what_went_wrong_is_its_own() -> None:
    ledgers = {"results": [LEDGER, {"msg": "Cannot connect.", "failed": False}, {**LEDGER, "version": None}]}
    comparisons = {
        "results": [
            {"pending": ["5_x.sql"], "msg": "Version 4: 1 to apply."},
            {"failed": True, "msg": "Cannot connect again."},
            {"failed": True, "msg": "4_x.sql was edited.", "pending": []},
        ]
    }
    seen = status.rows(HOST, ["cm", "billing", "audit"], ledgers, comparisons, "One or more items failed")
    assert [(row["database"], row.get("version", "?"), row["pending"], row["error"]) for row in seen] == [
        ("cm", 4, ["5_x.sql"], None),
        ("billing", "?", [], "Cannot connect."),
        ("audit", None, [], "4_x.sql was edited."),
    ]
    lines = status.screen(seen).splitlines()
    assert "cm-staging, cm:" in lines
    assert lines[-2:] == ["cm-staging, billing: Cannot connect.", "cm-staging, audit: 4_x.sql was edited."]


def test_a_host_that_was_not_looked_at_has_a_row_with_the_reason() -> None:
    (seen,) = status.rows(HOST, ["cm"], {}, {}, "no route to host")
    assert seen["error"] == "no route to host" and "version" not in seen
    (unreachable,) = status.rows(HOST, ["cm"], {"results": [{"unreachable": True, "msg": "gone"}]}, {})
    assert unreachable["error"] == "gone"
