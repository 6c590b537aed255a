# SPDX-License-Identifier: GPL-3.0-or-later
"""The standby was promoted while the old primary is down; the run without it acts on the new one."""

from __future__ import annotations

from typing import Any

import promises


def test_the_run_acted_on_the_new_primary(ask: Any) -> None:
    assert ask("cm-db2", "SELECT pg_is_in_recovery()") == "f"
    assert ask("cm-db2", "SELECT max(version) FROM cm.schema_version") == "6"
    record = promises.records()[-1]
    assert record["outcome"] == "succeeded" and list(record["hosts"]) == ["cm-db2"]
    assert [file["version"] for file in record["hosts"]["cm-db2"]["applied"]] == [6]


def test_a_run_that_includes_the_lost_server_does_nothing_and_says_how_to_leave_it_out(ask: Any) -> None:
    before = ask("cm-db2", "SELECT max(id) FROM cm.schema_version_history")
    said = " ".join(promises.play("migrate.yml", "--limit=staging", code=2).split())
    assert "No server listens there" in said
    assert "If cm-db1 is out of service, leave it out: -l 'staging:!cm-db1'." in said
    assert ask("cm-db2", "SELECT max(id) FROM cm.schema_version_history") == before
