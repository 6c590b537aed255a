# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``database_backup`` without Ansible around it, in this process or in one that can be killed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import engine
import module
from ansible.module_utils.runbook import backup, backup_set
from ansible.module_utils.runbook.backup_set import BackupSet
from ansible.module_utils.runbook.errors import RunbookError


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Every option of ``database_backup``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in backup.BACKUP_ARGUMENTS.items()}
    return {**defaults, "directory": str(folder), "run_lock_wait": "1s", "lock_wait": "1s", **given}


def take(database: Any, folder: Path, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Have a set of a database of the ``database`` fixture in a folder; returns the module's result."""
    return backup.take(engine.login(database), options(folder, **given), check_mode)


def refused(database: Any, folder: Path, **given: Any) -> RunbookError:
    """The error of a backup that has to fail."""
    try:
        made = take(database, folder, **given)
    except RunbookError as error:
        return error
    raise AssertionError(f"It should have failed, but there is {made}")


def start(database: Any, folder: Path, **given: Any) -> subprocess.Popen[str]:
    """Start a backup in a process of its own, which has its options and is about to begin when this returns."""
    return module.start(database, "backup.take", options(folder, **given))


def sealed(database: Any, folder: Path) -> list[BackupSet]:
    """The sets of a database that count, each of them whole."""
    found = backup_set.sealed_sets(backup_set.database_folder(folder, database.database))
    for one in found:
        backup_set.check_checksums(one.path)
        one.manifest()
    return found


def names(database: Any, folder: Path) -> list[str]:
    """The names of the sets that count, oldest first."""
    return [str(one.name) for one in sealed(database, folder)]


def leftovers(folder: Path) -> list[Path]:
    """What is there of sets that do not count."""
    return list(folder.glob(f"*/*{backup_set.PARTIAL}"))
