# SPDX-License-Identifier: GPL-3.0-or-later
"""The arithmetic of waiting: the ladder of timeouts, the jitter of pauses, and what counts as a lock failure."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from ansible.module_utils.runbook.contention import Blocker, LockPolicy, LockWatch, _Attempt
from ansible.module_utils.runbook.session import SqlError


def test_the_ladder_starts_at_the_first_timeout_climbs_and_stays_at_the_longest() -> None:
    policy = LockPolicy(first=0.5, longest=2.0)
    ladder = [policy.timeout(attempt) for attempt in range(8)]
    assert ladder[0] == 0.5
    assert ladder == sorted(ladder)
    assert ladder[-1] == 2.0


@pytest.mark.parametrize("attempt", [0, 1, 59, 60, 1_000, 10**9])
def test_no_attempt_however_late_goes_without_a_timeout_or_beyond_the_longest(attempt: int) -> None:
    policy = LockPolicy(first=0.3, longest=1.7)
    assert 0.3 <= policy.timeout(attempt) <= 1.7


def test_a_first_timeout_above_the_longest_is_cut_to_it() -> None:
    assert LockPolicy(first=9.0, longest=2.0).timeout(0) == 2.0


@pytest.mark.parametrize(("attempt", "bound"), [(0, 1.0), (1, 2.0), (3, 8.0), (6, 60.0), (10**6, 60.0)])
def test_pauses_are_spread_over_the_whole_range_from_zero_to_a_doubling_bound(attempt: int, bound: float) -> None:
    random.seed(7)
    pauses = [LockPolicy().pause(attempt) for _ in range(2_000)]
    assert all(0 <= pause <= bound for pause in pauses)
    # Full jitter: every tenth of the range is met, not only its end.
    assert {int(pause / bound * 10) for pause in pauses} >= set(range(10))


@pytest.mark.parametrize(
    ("sqlstate", "cancelled", "again"),
    [
        ("55P03", False, True),
        ("40P01", False, True),
        ("57014", True, True),  # cancelled by the watch, because the waits added up
        ("57014", False, False),  # cancelled by statement_timeout or a person
        ("40001", False, False),
        ("23505", True, False),
        ("", True, False),
    ],
)
def test_only_locks_that_were_not_to_be_had_are_worth_another_attempt(
    sqlstate: str, cancelled: bool, again: bool
) -> None:
    attempt = _Attempt(started=0.0, limit=1.0, cancelled=cancelled)
    assert attempt.failed_on_lock(SqlError(sqlstate, "message")) is again


def test_a_blocker_reads_as_a_phrase_and_shows_its_query_only_when_it_has_one() -> None:
    blocker = Blocker(42, "app", "billing", "idle in transaction", 17)
    assert str(blocker) == ('pid 42 (user app, application "billing", idle in transaction, transaction open for 17 s)')
    shown = Blocker(42, "app", "billing", "active", 17, "SELECT  *\n FROM t " + "x" * 500)
    assert "running: SELECT * FROM t xxx" in str(shown)
    assert len(str(shown)) < 350


class _Observer:
    """Answers the watch: ``waiting`` says whether the worker waits; notes every cancellation."""

    def __init__(self) -> None:
        self.cancels = 0

    def query(self, sql: str, *_params: object) -> list[tuple[object, ...]]:
        if "pg_cancel_backend" in sql:
            self.cancels += 1
        return [(True,)] if "NOT granted" in sql else []


def test_the_watch_cancels_again_when_the_worker_swallowed_the_first_cancellation() -> None:
    observer = _Observer()
    watch = LockWatch(observer, SimpleNamespace(pid=1), False)
    try:
        watch.begin(0.01)
        while observer.cancels < 2:
            assert watch._thread.is_alive()
    finally:
        watch.end()
        watch.close()
    assert observer.cancels >= 2


def test_ending_an_attempt_that_never_began_is_a_programming_error() -> None:
    watch = LockWatch(_Observer(), SimpleNamespace(pid=1), False)
    try:
        with pytest.raises(ValueError, match="without begin"):
            watch.end()
    finally:
        watch.close()
