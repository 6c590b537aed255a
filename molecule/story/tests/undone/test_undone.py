# SPDX-License-Identifier: GPL-3.0-or-later
"""The restore was undone: the database is the one from before it, and nothing was left or given away."""

from __future__ import annotations

import promises


def test_the_former_database_is_live_again(query: promises.Query) -> None:
    assert promises.ledger(query)[-1] == [6, "006_lost.sql", "lost"]
    assert query("SELECT to_regclass('cm.audit_log') IS NULL") == "true"


def test_nothing_is_left_in_temporary_folders() -> None:
    assert promises.leftovers() == []


def test_no_password_was_in_the_process_list(password: str) -> None:
    assert any("pg_dump" in line for line in promises.command_lines())
    assert promises.showing([password]) == []
