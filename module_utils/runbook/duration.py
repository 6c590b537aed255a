# SPDX-License-Identifier: GPL-3.0-or-later
"""Durations as people write them: ``500ms``, ``5s``, ``10min``, ``4h``, ``7d``, or ``0`` for none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError

_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h|d)")
_MILLISECONDS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def is_duration(text: str) -> bool:
    """Whether this is a number with a unit, or 0."""
    return text == "0" or _DURATION.fullmatch(text) is not None


def milliseconds(duration: str | None) -> int | None:
    """A duration in milliseconds; None stays None.

    Raises:
        ValueError: for anything else.
    """
    if duration is None:
        return None
    if duration == "0":
        return 0
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(duration)
    return int(match.group(1)) * _MILLISECONDS[match.group(2)]


def seconds(name: str, params: Mapping[str, Any]) -> float:
    """An option's duration in seconds.

    Raises:
        RunbookError: ``option`` when it is none.
    """
    try:
        return (milliseconds(params[name]) or 0) / 1000
    except ValueError as error:
        raise RunbookError(
            f'The option {name} is "{params[name]}", which is no duration. '
            "Write a whole number and a unit: 500ms, 5s, 10min, 4h, 7d, or 0 for none.",
            code="option",
        ) from error
