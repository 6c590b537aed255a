# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases still have to be validated, as far as run records know.

A run that was ended, or that failed, between APPLY and VALIDATE has left a version that nobody has seen green.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import record
from ansible.module_utils.runbook.host_entry import RED

# How far to go back.
_RECORDS_READ = 100


def outstanding(folder: Path, host: str, versions: Mapping[str, int]) -> list[str]:
    """The databases whose newest validation was red, or is older than what was done to them last.

    One that no record knows anything about is none of them: another machine may have seen to it.

    Parameters:
        folder: of the environment's run records.
        host: the inventory host that the databases are on.
        versions: the version that each of them is at.
    """
    left, found = dict(versions), set()
    for run in islice(record.newest_first(folder, record.ROUTINE), _RECORDS_READ):
        for name, entry in run["hosts"].items():
            database = entry.get("database")
            if run.get("check") or database not in left or name.partition("/")[0] != host:
                continue
            verdict = _is_outstanding(entry, left[database])
            if verdict is not None:
                del left[database]
            if verdict:
                found.add(database)
        if not left:
            break
    return [database for database in versions if database in found]


def _is_outstanding(entry: Mapping[str, Any], version: int) -> bool | None:
    """What one record says; None when it says nothing about that."""
    validation = entry.get("validation") or {}
    seen = [one["version"] for one in validation.get("versions") or ()]
    if validation.get("outcome") and seen:
        return bool(validation["outcome"] == RED or max(seen) != version)
    return True if entry.get("applied") or entry.get("rolled_back") else None
