# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``database_check`` without Ansible around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import engine
from ansible.module_utils.runbook import checks
from ansible.module_utils.runbook.check_file import handed_over, read_checks

ROOT = Path(__file__).resolve().parent.parent


def options(**given: Any) -> dict[str, Any]:
    """Every option of ``database_check``, defaults filled in; without health checks unless they are asked for."""
    defaults = {name: argument.get("default") for name, argument in checks.CHECK_ARGUMENTS.items()}
    return {**defaults, "health": False, "timeout": "10s", **given}


def made(database: Any, *entries: Mapping[str, Any], check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Make checks that are written as in a file; returns the module's result, after its way to the target and back."""
    travelled = checks.received(checks.shipped(handed_over(entries)))
    return checks.run(engine.login(database), travelled, options(**given), check_mode)


def one(database: Any, check_mode: bool = False, name: str = "it", **entry: Any) -> dict[str, Any]:
    """Make a single check; what belongs to it is given as keywords. Returns its outcome."""
    (outcome,) = made(database, {"name": name, **entry}, check_mode=check_mode)["checks"]
    return dict(outcome)


def shipped_ones(folder: Path = ROOT / "db/checks") -> list[Any]:
    """The checks that come with the project."""
    return read_checks(folder, "db/checks")
