# SPDX-License-Identifier: GPL-3.0-or-later
"""The old primary is a standby now; the run against both acts on the new primary."""

from __future__ import annotations

import promises


def test_who_is_who_has_changed(query: promises.Query, name: str) -> None:
    assert query("SELECT pg_is_in_recovery()") == ("t" if name == "cm-db1" else "f")


def test_each_version_was_applied_once_whoever_was_the_primary(query: promises.Query) -> None:
    assert [version for version, *_ in promises.ledger(query)] == [1, 2, 3, 4, 5, 6, 7]
    applied = [version for event, version in promises.history(query) if event == "applied"]
    assert applied == [1, 2, 3, 4, 5, 6, 7]
    assert promises.checksums(query) == promises.expected_checksums(promises.folder() / "db/init")


def test_the_run_said_where_it_acted() -> None:
    said = " ".join((promises.folder() / "said-007_after_the_return.sql").read_text().split())
    assert "cm-db2 is the primary of cm-db1; the run acts here." in said
    assert "cm-db1 is a standby of cm-db2; nothing to do here." in said
    assert "cm-db1 has it, too" in said
    hosts = promises.records()[-1]["hosts"]
    assert [file["version"] for file in hosts["cm-db2"]["applied"]] == [7]
    assert hosts["cm-db1"]["applied"] == []


def test_nothing_is_left_on_this_machine() -> None:
    assert promises.leftovers() == []
