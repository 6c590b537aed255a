# SPDX-License-Identifier: GPL-3.0-or-later
"""Version 5 is applied again, and nothing was left or given away on the whole way."""

from __future__ import annotations

import promises


def test_version_5_is_back(query: promises.Query) -> None:
    assert promises.ledger(query)[-1] == [5, "005_name_approvers.sql", "name approvers"]
    assert promises.history(query)[-3:] == [["applied", 5], ["rolled back", 5], ["applied", 5]]
    assert query("SELECT count(*) FROM cm.audit_log WHERE action = 'approvers named'") == "1"


def test_nothing_is_left_in_temporary_folders() -> None:
    assert promises.leftovers() == []


def test_no_password_was_in_the_process_list(password: str) -> None:
    assert any("ansible-playbook" in line and "rollback.yml" in line for line in promises.command_lines())
    assert promises.showing([password]) == []
