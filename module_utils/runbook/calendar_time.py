# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of systemd's calendar expressions that cron can express, too: days of the week, hours, minutes.

``Mon..Fri *-*-* 08..18/2:15:00`` is one of them (systemd.time(7), "CALENDAR EVENTS").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SHORTHANDS = {"hourly": "*:00", "daily": "00:00", "weekly": "Mon 00:00"}
_EXPRESSION = re.compile(r"(?:([A-Za-z.,]+) +)?(?:\*-\*-\* +)?([\d*/.,]+):([\d*/.,]+)(?::00)?")
_NUMBERS = re.compile(r"(?:(\*)|(\d\d?)(?:\.\.(\d\d?))?)(?:/(\d\d?))?")


@dataclass(frozen=True)
class CalendarTime:
    """Times that come again every week, in no particular zone.

    Parameters:
        days: 0 is Monday.
    """

    days: tuple[int, ...]
    hours: tuple[int, ...]
    minutes: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> CalendarTime | None:
        """Read an expression; None for one that cron cannot express, and for what is no expression."""
        match = _EXPRESSION.fullmatch(_SHORTHANDS.get(text.strip().lower(), text.strip()))
        if match is None:
            return None
        days = _named(match[1]) if match[1] else tuple(range(7))
        hours, minutes = _numbers(match[2], 24), _numbers(match[3], 60)
        return cls(days, hours, minutes) if days and hours and minutes else None

    def cron(self) -> str:
        """The five fields of a crontab."""
        days = "*" if len(self.days) == 7 else ",".join(str((day + 1) % 7) for day in self.days)
        hours = "*" if len(self.hours) == 24 else ",".join(map(str, self.hours))
        return f"{','.join(map(str, self.minutes))} {hours} * * {days}"

    def after(self, moment: datetime) -> Iterator[datetime]:
        """The times after a moment, in the moment's own zone."""
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        while True:
            if midnight.weekday() in self.days:
                times = (midnight.replace(hour=hour, minute=minute) for hour in self.hours for minute in self.minutes)
                yield from (time for time in times if time > moment)
            midnight += timedelta(days=1)


def _named(text: str) -> tuple[int, ...]:
    """Days of the week; empty when one of them is none."""
    found: set[int] = set()
    for part in text.split(","):
        first, dots, last = part.partition("..")
        begin, end = _day(first), _day(last if dots else first)
        if begin is None or end is None or begin > end:
            return ()
        found.update(range(begin, end + 1))
    return tuple(sorted(found))


def _day(name: str) -> int | None:
    fitting = [number for number, day in enumerate(_DAYS) if name.lower()[:3] == day]
    return fitting[0] if fitting else None


def _numbers(text: str, limit: int) -> tuple[int, ...]:
    """Hours or minutes below a limit; empty when one of them is none."""
    found: set[int] = set()
    for part in text.split(","):
        match = _NUMBERS.fullmatch(part)
        if match is None:
            return ()
        begin = int(match[2] or 0)
        alone = not match[1] and not match[3] and not match[4]
        end = begin if alone else int(match[3] or limit - 1)
        step = int(match[4] or 1)
        if begin > end or end >= limit or step < 1:
            return ()
        found.update(range(begin, end + 1, step))
    return tuple(sorted(found))
