# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup sets are kept, and why. Pure: names and times in, names out.

Only sealed sets are looked at, so failed runs neither count nor push anything out. The order is that of the sets'
names, not of files' times. A set that claims to be from the future (a clock was wrong) is kept, and takes nobody's
place. The newest sealed set and the newest verified one stay, whatever the policy says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from ansible.module_utils.runbook.backup_set import SetName

_DAY = "%Y-%m-%d"
_WEEK = "%G-W%V"
_MONTH = "%Y-%m"


@dataclass(frozen=True)
class Policy:
    """How many sets are kept. Days, weeks and months are those of UTC; the newest set of each stands for it.

    Parameters:
        last: this many of the newest.
        daily, weekly, monthly: one for each of so many days, weeks and months that have one.
        min_age: a set younger than this stays in any case.
    """

    last: int
    daily: int
    weekly: int
    monthly: int
    min_age: timedelta


def kept(sets: Collection[SetName], verified: Collection[SetName], policy: Policy, now: datetime) -> dict[SetName, str]:
    """The sets that stay, each with the reason.

    Parameters:
        sets: all sealed sets, the verified ones among them.
        verified: those that a restore has proven.
        now: with a time zone.
    """
    reasons: dict[SetName, str] = {}
    newest_first = sorted(sets, reverse=True)
    past = [one for one in newest_first if one.taken_at <= now]
    for one in newest_first:
        if one.taken_at > now:
            reasons[one] = "dated in the future"
    _note(reasons, past[:1], "newest")
    _note(reasons, sorted(set(verified) & set(past), reverse=True)[:1], "newest verified")
    _note(reasons, past[: policy.last], f"one of the last {policy.last}")
    _note(reasons, _one_for_each(past, _DAY, policy.daily), "daily")
    _note(reasons, _one_for_each(past, _WEEK, policy.weekly), "weekly")
    _note(reasons, _one_for_each(past, _MONTH, policy.monthly), "monthly")
    _note(reasons, (one for one in past if now - one.taken_at < policy.min_age), "younger than the minimum age")
    return reasons


def removable(sets: Collection[SetName], verified: Collection[SetName], policy: Policy, now: datetime) -> list[SetName]:
    """The sets that go, oldest first."""
    staying = kept(sets, verified, policy, now)
    return sorted(one for one in sets if one not in staying)


def _note(reasons: dict[SetName, str], sets: Iterable[SetName], reason: str) -> None:
    for one in sets:
        reasons.setdefault(one, reason)


def _one_for_each(newest_first: list[SetName], period: str, count: int) -> list[SetName]:
    """The newest set of each of the last so many days, weeks or months that have one."""
    found: dict[str, SetName] = {}
    for one in newest_first:
        found.setdefault(one.taken_at.astimezone(timezone.utc).strftime(period), one)
    return list(found.values())[:count]
