# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the status playbook."""

from __future__ import annotations

DOCUMENTATION = """
name: status_screen
short_description: Show the state of every environment on one screen
version_added: "1.0.0"
author: Schema Runbook contributors
description:
  - Renders one line per host and database with its version, its pending migrations and its last run, one with its
    backups, and what runs by itself on this machine.
options:
  _input:
    description:
      - One dictionary per host and database, as the filter C(status_rows) makes them, with C(environment), C(host),
        C(database), C(version) (left out when it is not known), C(pending) (file names), C(error) (why the database
        could not be read or does not go with the files, if so), C(last_run) (the value of the filter C(last_run)),
        C(applied) (C(ledger.rows) of the module C(schema_info)), C(backups) (what the module C(backup_info) found),
        C(validation) (its newest validation, of the value of the filter C(last_validations)),
        C(drift) (what the module C(schema_drift) has found now, if it was asked),
        C(standby) (whether the server is one) and C(label) (what to call the database below the table, if not by its
        host).
    type: list
    elements: dict
    required: true
  directory:
    description: Folder of the run records, by default the project's.
    type: path
"""

EXAMPLES = """
- name: Show the state of every environment
  ansible.builtin.debug:
    msg: "{{ (rows | status_screen).splitlines() }}"
"""

RETURN = """
_value:
  description: The screen, lines separated by newlines.
  type: str
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleFilterError

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(constants.DEFAULT_MODULE_UTILS_PATH)

# Imported by the filters themselves: ansible-core loads every filter file again in the process of almost every task.


def status_screen(rows: Sequence[Mapping[str, Any]], directory: str | None = None) -> str:
    """Return the status screen for the given hosts."""
    from ansible.module_utils.runbook import status
    from ansible.module_utils.runbook.schedule import Machine

    folders = {
        environment: _folder(environment, directory) for environment in (str(row["environment"]) for row in rows)
    }
    return str(status.screen(rows, status.schedules(folders, Machine())))


def status_rows(
    host: Mapping[str, Any],
    databases: Sequence[str],
    ledgers: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    backups: Mapping[str, Any],
    error: str = "",
    validations: Mapping[str, Any] | None = None,
    drifts: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return what was seen on one host as rows for ``status_screen``, one for each database."""
    from ansible.module_utils.runbook import status

    return list(status.rows(host, databases, ledgers, comparisons, backups, error, validations, drifts))


def last_run(environment: str, directory: str | None = None) -> dict[str, Any]:
    """Return what the newest run of an environment did that is worth a look; empty when there was none."""
    from ansible.module_utils.runbook import record, status

    folder = _folder(environment, directory)
    try:
        record.sweep(folder)
        return dict(status.last_run(folder))
    except OSError as error:
        raise AnsibleFilterError(f"The run records in {folder} cannot be read: {error.strerror}.") from error


def last_validations(environment: str, host: str, directory: str | None = None) -> dict[str, Any]:
    """Return the newest validation of each database of a host, by database."""
    from ansible.module_utils.runbook import status

    return dict(status.last_validations(_folder(environment, directory), [host])[host])


def unvalidated(results: Sequence[Mapping[str, Any]], environment: str, host: str, directory: str) -> list[str]:
    """Return the databases in which nothing is pending, and that still have to be validated.

    Parameters:
        results: results of ``schema_migration``.
    """
    from ansible.module_utils.runbook.outstanding import outstanding

    versions = {
        result["database"]: result["version"]
        for result in results
        if not result.get("has_changes") and result.get("version") is not None
    }
    try:
        return outstanding(_folder(environment, directory), host, versions)
    except OSError:  # A record never decides about a run.
        return []


def _folder(environment: str, directory: str | None) -> Path:
    from ansible.module_utils.runbook.project import runs_directory

    return Path(directory or runs_directory(constants.CONFIG_FILE)) / environment


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "status_screen": status_screen,
            "status_rows": status_rows,
            "last_run": last_run,
            "last_validations": last_validations,
            "unvalidated": unvalidated,
        }
