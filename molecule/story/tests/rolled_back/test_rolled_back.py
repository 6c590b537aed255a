# SPDX-License-Identifier: GPL-3.0-or-later
"""Back at version 4, as if version 5 had never been there; only the history remembers."""

from __future__ import annotations

import promises


def test_version_5_is_gone(query: promises.Query) -> None:
    assert promises.ledger(query) == promises.LEDGER
    assert promises.history(query)[-1] == ["rolled back", 5]
    assert query("SELECT count(*) FROM pg_attribute WHERE attname = 'approver_id'") == "0"
    assert query("SELECT count(*) FROM cm.audit_log") == "0"


def test_the_run_record_names_it() -> None:
    record = promises.records()[-1]
    assert (record["operation"], record["outcome"]) == ("rollback", "succeeded")
    assert [migration["version"] for migration in record["hosts"]["cm-staging"]["rolled_back"]] == [5]
