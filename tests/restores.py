# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``database_restore`` without Ansible around it, in this process or in one that can be killed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import engine
import module
from ansible.module_utils.runbook import journal, restoration
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.journal import Databases
from ansible.module_utils.runbook.session import connect


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Every option of ``database_restore``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in restoration.RESTORE_ARGUMENTS.items()}
    return {**defaults, "directory": str(folder), "run_lock_wait": "1s", "swap_timeout": "5s", **given}


def step(database: Any, folder: Path, state: str, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """One step of a restore of a database of the ``database`` fixture; returns the module's result."""
    return restoration.run(engine.login(database), options(folder, state=state, **given), check_mode)


def restore(database: Any, folder: Path, **given: Any) -> dict[str, Any]:
    """All steps of a restore; returns the result of the swap."""
    step(database, folder, "prepared", **given)
    swapped = step(database, folder, "swapped", **given)
    step(database, folder, "confirmed", **given)
    return swapped


def refused(database: Any, folder: Path, state: str = "prepared", **given: Any) -> RunbookError:
    """The error of a step that has to fail."""
    try:
        done = step(database, folder, state, **given)
    except RunbookError as error:
        return error
    raise AssertionError(f"It should have failed, but: {done}")


def start(database: Any, folder: Path, state: str, **given: Any) -> subprocess.Popen[str]:
    """Start a step in a process of its own, which has its options and is about to begin when this returns."""
    return module.start(database, "restoration.run", options(folder, state=state, **given))


def databases(database: Any) -> Databases:
    """What there is for the name of a database."""
    login: Login = engine.login(database).to("postgres")
    with connect(login, "test") as session:
        return journal.read(session, database.database)
