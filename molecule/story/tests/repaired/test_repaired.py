# SPDX-License-Identifier: GPL-3.0-or-later
"""The file is repaired, and the next run has applied exactly it."""

from __future__ import annotations

from typing import Any

import promises


def test_exactly_version_5_was_applied(query: promises.Query) -> None:
    assert promises.ledger(query) == [*promises.LEDGER, [5, "005_name_approvers.sql", "name approvers"]]
    assert promises.checksums(query) == promises.expected_checksums(promises.folder() / "db/init")
    assert promises.history(query)[-2:] == [["failed", 5], ["applied", 5]]


def test_the_file_ran_once_and_wholly(query: promises.Query) -> None:
    assert query("SELECT count(*) FROM cm.audit_log WHERE action = 'approvers named'") == "1"
    comment = "SELECT col_description(attrelid, attnum) FROM pg_attribute WHERE attname = 'approver_id'"
    assert query(comment) == "Who approves the versions of the model."


def test_the_run_records_tell_the_story() -> None:
    first, failed, repaired, again = promises.records()
    outcomes = [record["outcome"] for record in (first, failed, repaired, again)]
    assert outcomes == ["succeeded", "failed", "succeeded", "succeeded"]
    assert [applied(record) for record in (first, failed, repaired, again)] == [[1, 2, 3, 4], [], [5], []]
    assert not again["hosts"]["cm-staging"]["changed"]


def applied(record: dict[str, Any]) -> list[int]:
    """The versions that a run has applied."""
    return [migration["version"] for migration in record["hosts"]["cm-staging"]["applied"]]
