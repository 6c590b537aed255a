# SPDX-License-Identifier: GPL-3.0-or-later
"""What a check is, and what came of it: the words that all modules named ``check_…`` share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible.module_utils.runbook.record import MASK, scrub
from ansible.module_utils.runbook.statement import redact_passwords

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
"""How much a check matters, the most important first."""

PASSED, FAILED, ERRORED, SKIPPED = "passed", "failed", "errored", "skipped"
STATUSES = (FAILED, ERRORED, SKIPPED, PASSED)
"""How a check ends, in the order people want to read. Errored: it could not be carried out."""

SCHEMA, DATA, PERFORMANCE, SMOKE, LOGS, HEALTH = "schema", "data", "performance", "smoke", "logs", "health"
GROUPS = (SCHEMA, DATA, PERFORMANCE, SMOKE, LOGS, HEALTH)
"""What a check looks at."""

NEVER = "never"
FAIL_ON = (ERROR, WARNING, NEVER)
"""From which severity on a check that is not passed makes the whole validation fail."""

# What programs print of their environment, such as PGPASSWORD=….
_NAMED_SECRET = re.compile(r"(\w*(?:passw|passphrase|secret|token)\w*=)[^\s&;]+", re.IGNORECASE)

# Whatever comes out of a database may be long; so much of a value is shown, and so much of a sentence, in characters.
_VALUE_SHOWN = 200
_MESSAGE_SHOWN = 2000
_NAMED = 10


@dataclass(frozen=True)
class Check:
    """One question about a database, and how much its answer matters.

    Parameters:
        name: what people call it; unique in a validation.
        kind: one of ``check_kind.KINDS``, or ``health``.
        options: of that kind, read and completed.
        severity: one of ``SEVERITIES``.
        timeout: time limit in milliseconds; None for the validation's own.
        since, until: first and last schema version that it is meant for; None for no bound.
        where: file and line it stands in, for messages; empty when it stands in none.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    severity: str = ERROR
    timeout: int | None = None
    since: int | None = None
    until: int | None = None
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable, for the way to the target; ``Check(**it)`` takes it back."""
        return asdict(self)


@dataclass(frozen=True)
class Finding:
    """What a check saw.

    Parameters:
        passed: whether that is as it should be; None when there was a reason not to look.
        message: a sentence for people.
        found: the same as data, for reports.
    """

    passed: bool | None
    message: str
    found: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a check; the fields of a report.

    Parameters:
        name, kind, severity, where: those of the check.
        group: one of ``GROUPS``.
        status: one of ``STATUSES``.
        message: a sentence for people.
        found: what was seen, as data that depends on the kind.
        seconds: how long it took.
    """

    name: str
    kind: str
    group: str
    severity: str
    status: str
    message: str
    found: Mapping[str, Any]
    seconds: float
    where: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For results and reports."""
        return asdict(self)


def is_red(outcome: Mapping[str, Any], fail_on: str) -> bool:
    """Whether this outcome makes the validation fail.

    Parameters:
        outcome: as ``Outcome.as_dict`` gives it.
        fail_on: one of ``FAIL_ON``.
    """
    if fail_on == NEVER or outcome["status"] not in (FAILED, ERRORED):
        return False
    return SEVERITIES.index(outcome["severity"]) <= SEVERITIES.index(fail_on)


def shown(value: object, limit: int = _VALUE_SHOWN) -> str:
    """A value of somebody else's for people: on one line, without control characters, and not too long.

    Names and data of a database can hold anything, a terminal's control sequences included.
    """
    text = "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in str(value)[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def sentence(text: str, secrets: Iterable[str] = ()) -> str:
    """A message as it may leave the engine: printable, of moderate length, and without passwords."""
    named = _NAMED_SECRET.sub(rf"\g<1>{MASK}", redact_passwords(text))
    return shown(scrub(named, secrets), _MESSAGE_SHOWN)


def cleaned(found: Any, secrets: Iterable[str] = ()) -> Any:
    """The same for what was found as data, whatever it is made of."""
    known = tuple(secrets)
    if isinstance(found, Mapping):
        return {shown(name): cleaned(value, known) for name, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [cleaned(value, known) for value in found]
    if found is None or isinstance(found, (bool, int, float)):
        return found
    return sentence(str(found), known)


def listed(things: Iterable[str], separator: str = ", ") -> str:
    """Some of them by name, the rest as a number."""
    every = [shown(one) for one in things]
    more = len(every) - _NAMED
    return separator.join(every[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def counted(number: int, one: str, many: str = "") -> str:
    """``1 index``, ``2 indexes``."""
    return f"{number} {one if number == 1 else many or one + 's'}"
