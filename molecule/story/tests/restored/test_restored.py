# SPDX-License-Identifier: GPL-3.0-or-later
"""Version 6 has dropped a table; the backup from before it is live again, and the former database is kept."""

from __future__ import annotations

import promises

KEPT = "SELECT count(*) FROM pg_database WHERE datname LIKE 'cm\\_before\\_%' AND NOT datallowconn"


def test_what_was_lost_is_back(query: promises.Query) -> None:
    assert promises.ledger(query)[-1][0] == 5
    assert query("SELECT count(*) FROM cm.audit_log WHERE action = 'approvers named'") == "1"


def test_the_former_database_is_kept_and_closed(query: promises.Query) -> None:
    assert query(KEPT) == "1"


def test_the_records_tell_the_whole_story() -> None:
    backup, drill, migrate, restore = (record["hosts"]["cm-staging"] for record in promises.records()[-4:])
    name = backup["backup"]["set"]
    assert name.endswith("_v5")
    assert drill["drill"]["set"] == name and drill["drill"]["rows"] == backup["backup"]["rows"]
    assert migrate["backup"]["set"] == name and [file["version"] for file in migrate["applied"]] == [6]
    assert migrate["backup"]["state"] == "verified"
    assert restore["restore"]["set"] == name and restore["restore"]["downtime_ms"] < 2000
