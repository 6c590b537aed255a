# SPDX-License-Identifier: GPL-3.0-or-later
"""Version 5 has failed in its last statement: nothing of it is there, and everybody can see why."""

from __future__ import annotations

import json
import re

import promises

STATEMENT = "COMMENT ON COLUMN cm.model.aprover_id"


def test_the_message_says_where_and_why() -> None:
    said = " ".join((promises.folder() / "said").read_text().split())
    migration = promises.folder() / "db/init/005_name_approvers.sql"
    line = [STATEMENT in text for text in migration.read_text().splitlines()].index(True) + 1
    assert f"005_name_approvers.sql:{line}" in said
    assert "of relation" in said and "does not exist" in said


def test_nothing_of_it_is_in_the_database(query: promises.Query) -> None:
    columns = "SELECT json_agg(attname) FROM pg_attribute WHERE attrelid = 'cm.model'::regclass AND attnum > 0"
    assert "owner_id" in json.loads(query(columns))
    assert "approver_id" not in json.loads(query(columns))
    assert query("SELECT count(*) FROM cm.audit_log") == "0"


def test_the_versions_before_it_stay(query: promises.Query) -> None:
    assert promises.ledger(query) == promises.LEDGER
    assert promises.history(query)[-1] == ["failed", 5]


def test_status_shows_it_as_pending() -> None:
    screen = promises.play("status.yml")
    assert re.search(r"staging +cm-staging +cm +4 +1 \(005_name_approvers\.sql\) +migrate failed", screen), screen


def test_the_run_record_says_failed() -> None:
    record = promises.records()[-1]
    assert record["outcome"] == "failed"
    entry = record["hosts"]["cm-staging"]
    assert (entry["version"], entry["applied"]) == (4, [])
    assert entry["error"]["file"].endswith("005_name_approvers.sql")
    assert 'column "aprover_id" of relation "cm.model" does not exist' in entry["error"]["message"]
