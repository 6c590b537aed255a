# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said about standbys; the waiting itself is an integration test."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.runbook import replay
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.replay import Pair, Replay, Waited

PAIR = Pair(standby="db2", primary="db1")


def waited(lag: int, **state: Any) -> Waited:
    """A wait of 1.5 seconds after which so many bytes were missing."""
    given = {"in_recovery": True, "replayed": 0, "paused": False, "receiving": True, "newest": None, **state}
    return Waited(1.5, lag, Replay(**given))


def test_what_is_said_when_the_standby_has_it() -> None:
    assert PAIR.reached(waited(0)) == "db2 has it, too: replayed within 1.5 s."
    assert PAIR.reached(waited(12_000)) == "db2 lags 12 kB of WAL behind db1; nobody waited for it."


@pytest.mark.parametrize(
    ("state", "obstacle"),
    [
        ({"paused": True, "receiving": False}, "Its replay is paused; SELECT pg_wal_replay_resume() there"),
        ({"receiving": False}, "It has no connection to receive WAL over (no WAL receiver)."),
        ({}, "It is connected, and its replay is not paused."),
        ({"newest": "2026-11-22 14:15:30"}, "The newest transaction it has is from 2026-11-22 14:15:30 UTC. It is"),
    ],
)
def test_a_late_standby_says_that_the_change_is_applied_and_what_is_in_the_way(
    state: dict[str, Any], obstacle: str
) -> None:
    error = PAIR.late(waited(20_000_000, **state))
    assert error.code == "standby-lag"
    assert error.message.startswith("The change is applied and recorded on db1, so there is nothing to run again, but ")
    assert "standby db2 has not replayed it after 1.5 s (migrate_standby_lag): 20 MB of WAL are" in error.message
    assert obstacle in error.message
    assert error.details == {
        "seconds": 1.5,
        "lag_bytes": 20_000_000,
        "paused": state.get("paused", False),
        "receiving": state.get("receiving", True),
    }


def test_a_standby_that_was_promoted_and_one_that_is_gone() -> None:
    promoted = PAIR.promoted(waited(500, in_recovery=False))
    assert promoted.code == "standby-promoted"
    assert "but standby db2 was promoted before it had replayed it: 500 bytes of WAL are missing" in promoted.message
    lost = PAIR.lost("the connection broke.")
    assert lost.code == "standby-lost"
    assert "could not be asked whether it has it, too. the connection broke. Bring it back" in lost.message


def test_a_time_that_is_none_says_that_nobody_waited() -> None:
    with pytest.raises(RunbookError) as refusal:
        params = {"lag": "soon", "lsn": "0/1", "standby": "db2", "primary": "db1"}
        replay.wait(None, params)  # type: ignore[arg-type] # it never comes to that
    assert refusal.value.code == "option"
    assert 'standby db2 was not waited for. The option lag is "soon", which is no duration.' in refusal.value.message
