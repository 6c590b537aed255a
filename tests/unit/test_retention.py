# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sets are kept: tiers, the two that always stay, wrong clocks, and laws that hold for any policy."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from ansible.module_utils.runbook.backup_set import SetName
from ansible.module_utils.runbook.retention import Policy, kept, removable

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOTHING = Policy(last=0, daily=0, weekly=0, monthly=0, min_age=timedelta())


def policy(**given: object) -> Policy:
    """A policy that keeps nothing but what is said."""
    return Policy(**{**NOTHING.__dict__, **given})  # type: ignore[arg-type]


def at(text: str, version: int = 1) -> SetName:
    """A set of some time in UTC."""
    return SetName(datetime.fromisoformat(text).replace(tzinfo=UTC), version)


def days(count: int, step: timedelta = timedelta(days=1)) -> list[SetName]:
    """One set a day, newest first, the newest an hour old."""
    return [SetName(NOW - timedelta(hours=1) - step * number, 1) for number in range(count)]


def test_the_last_so_many_are_kept() -> None:
    sets = days(5)
    assert removable(sets, [], policy(last=3), NOW) == sorted(sets[3:])
    assert removable(sets[:3], [], policy(last=3), NOW) == []


def test_the_newest_of_each_day_is_kept_for_days_that_have_one() -> None:
    morning, evening = at("2026-11-20T06:00:00"), at("2026-11-20T18:00:00")
    long_ago = at("2026-10-01T06:00:00")  # no backups for weeks: it is the second day that has one
    assert removable([morning, evening, long_ago], [], policy(daily=2), NOW) == [morning]


def test_weeks_begin_on_monday_and_belong_to_one_year() -> None:
    # 2026-12-31 and 2027-01-01 are in the same week of the ISO calendar, though not in the same year.
    sunday, thursday, friday = at("2026-12-27T23:59:59"), at("2026-12-31T12:00:00"), at("2027-01-01T00:00:00")
    later = datetime(2027, 1, 2, tzinfo=UTC)
    assert removable([sunday, thursday, friday], [], policy(weekly=2), later) == [thursday]


def test_months_are_those_of_utc() -> None:
    october, november = at("2026-10-31T23:59:59"), at("2026-11-01T00:00:00")
    assert removable([october, november], [], policy(monthly=2), NOW) == []
    assert removable([october, november], [], policy(monthly=1), NOW) == [october]


def test_young_sets_are_kept_however_many_there_are() -> None:
    sets = days(48, step=timedelta(minutes=10))
    assert removable(sets, [], policy(last=1, min_age=timedelta(days=1)), NOW) == []


def test_the_newest_and_the_newest_verified_are_kept_whatever_the_policy_says() -> None:
    sets = days(6)
    verified = [sets[3], sets[5]]
    assert removable(sets, verified, NOTHING, NOW) == sorted({*sets[1:]} - {sets[3]})
    assert kept(sets, verified, NOTHING, NOW) == {sets[0]: "newest", sets[3]: "newest verified"}


def test_a_set_from_the_future_is_kept_and_takes_nobodys_place() -> None:
    future = [at("2031-01-01T00:00:00"), at("2099-01-01T00:00:00")]
    sets = days(3)
    assert removable([*sets, *future], [], policy(last=2), NOW) == [sets[2]]


def test_a_clock_that_was_set_back_removes_nothing() -> None:
    sets = days(30)
    assert removable(sets, [], policy(last=1), NOW - timedelta(days=400)) == []


def test_a_clock_that_runs_ahead_removes_no_more_than_the_policy_does_anyway() -> None:
    sets = days(10)
    tiers = policy(last=3, daily=5)
    assert removable(sets, [], tiers, NOW + timedelta(days=4000)) == removable(sets, [], tiers, NOW)


def test_sets_of_one_second_are_told_apart_by_their_version() -> None:
    older, newer = at("2026-11-20T06:00:00", 3), at("2026-11-20T06:00:00", 4)
    assert removable([newer, older], [], policy(last=1), NOW) == [older]


@pytest.mark.parametrize("seed", range(50))
def test_laws(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311
    sets = [SetName(NOW + timedelta(hours=dice.randint(-4000, 50)), dice.randint(0, 3)) for _ in range(60)]
    verified = dice.sample(sets, 5)
    given = Policy(*(dice.randint(0, 6) for _ in range(4)), timedelta(hours=dice.randint(0, 100)))
    going = removable(sets, verified, given, NOW)
    staying = set(sets) - set(going)
    past = sorted(one for one in set(sets) if one.taken_at <= NOW)
    assert not past or past[-1] in staying
    assert len([one for one in past if one in staying]) >= min(given.last, len(past))
    proven = [one for one in past if one in verified]
    assert not proven or proven[-1] in staying
    # Whoever asks twice gets nothing new.
    assert removable(staying, verified, given, NOW) == []
    # A failed run leaves no set, so it removes none: one set fewer at the end never lets an older one go.
    assert set(removable(past[:-1], verified, given, NOW)) <= {*going, *past[-1:]}
