# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``database_drill`` without Ansible around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import engine
from ansible.module_utils.runbook import drill
from ansible.module_utils.runbook.errors import RunbookError

SLOW = "CREATE MATERIALIZED VIEW slow AS SELECT 1 AS one FROM pg_sleep({})"
"""What makes a restore take so many seconds, and the taking of a set none."""


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Every option of ``database_drill``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in drill.DRILL_ARGUMENTS.items()}
    return {**defaults, "directory": str(folder), "run_lock_wait": "0", **given}


def prove(database: Any, folder: Path, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """A drill for a database of the ``database`` fixture; returns the module's result."""
    return drill.run(engine.login(database), options(folder, **given), check_mode)


def refused(database: Any, folder: Path, **given: Any) -> RunbookError:
    """The error of a drill that has to fail."""
    try:
        proven = prove(database, folder, **given)
    except RunbookError as error:
        return error
    raise AssertionError(f"It should have failed, but it says {proven}")


def scratches(database: Any) -> list[str]:
    """The scratch databases that there are on the server for a database."""
    pattern = f"{database.database}_drill_%"
    return [name for (name,) in engine.ask(database, f"SELECT datname FROM pg_database WHERE datname LIKE '{pattern}'")]
