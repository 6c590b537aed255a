# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for the results of migrations and of the checks that follow them."""

from __future__ import annotations

DOCUMENTATION = """
name: by_database
short_description: Results of a loop over databases, by database
version_added: "0.5.0"
author: Schema Runbook contributors
description:
  - Makes a dictionary of results that each name their C(database).
options:
  _input:
    description: Results of a loop.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = """
- name: Show what is pending in database cm
  ansible.builtin.debug:
    msg: "{{ (migrate_result.results | by_database).cm.pending }}"
"""

RETURN = """
_value:
  description: The results, by name of the database.
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ansible.module_utils
from ansible import constants, context

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(constants.DEFAULT_MODULE_UTILS_PATH)

# Imported by the filters themselves: ansible-core loads every filter file again in the process of almost every task.

Result = Mapping[str, Any]


def by_database(results: Sequence[Result]) -> dict[str, Result]:
    """Return results of a loop by the database they are about; a failure may not say which, but the loop does."""
    return {result.get("database") or result[result["ansible_loop_var"]]: result for result in results}


def reds(validations: Sequence[Result], before: Sequence[Result], runs: Sequence[Result]) -> list[dict[str, Any]]:
    """Return what can be undone: the databases in which a check is broken, with what was applied to each.

    A file that was applied below the version that there was before cannot be taken back by going back to that version.

    Parameters:
        validations: results of ``database_check``.
        before: the same from before the run; what was red then is not the fault of a migration.
        runs: results of ``schema_migration``.
    """
    from ansible.module_utils.runbook import presentation

    known = by_database(before)
    failed = {
        database: checks
        for database, one in by_database(validations).items()
        if one.get("red") and (checks := presentation.broken(one, known.get(database, {})))
    }
    return [
        {
            "database": run["database"],
            "checksums": {str(migration["version"]): migration["checksum"] for migration in run["applied"]},
            "notes": {
                str(migration["version"]): f"red after it was applied: {', '.join(failed[run['database']])}"
                for migration in run["applied"]
            },
            "back_to": run["previous_version"] or 0,
        }
        for run in runs
        if run["database"] in failed
        and run["applied"]
        and min(migration["version"] for migration in run["applied"]) > (run["previous_version"] or 0)
    ]


def proven(proofs: Sequence[Result]) -> list[str]:
    """Return the databases for which every version is proven to be undone by its script."""
    whole = [one for one in proofs if one.get("proven") and not one["unproven"] and not one["irreversible"]]
    return [one["database"] for one in whole if "code" not in one]


def red_validation(
    validations: Sequence[Result],
    before: Sequence[Result],
    proofs: Sequence[Result],
    rollbacks: Sequence[Result],
    sets: Mapping[str, str],
    host: str,
    several: bool,
) -> str:
    """Return what was red and what was done about it, with the command that restores where nothing else helped."""
    from ansible.module_utils.runbook import presentation

    given = context.CLIARGS.get("inventory") or ()
    inventories = () if list(given) == list(constants.DEFAULT_HOST_LIST) else given
    return presentation.red(
        {database: one for database, one in by_database(validations).items() if one.get("red")},
        by_database(before),
        by_database(proofs),
        by_database(rollbacks),
        {
            database: presentation.way_back(name, database, host=host, one_of_several=several, inventories=inventories)
            for database, name in sets.items()
        },
    )


def migrated(results: Sequence[Result], outstanding: Sequence[str], host: str) -> list[str]:
    """Return a line for each database about what was done, and about a version that nobody has seen green.

    Parameters:
        results: results of ``schema_migration``.
        outstanding: the databases that still have to be validated.
        host: the inventory host they are on.
    """
    from ansible.module_utils.runbook import presentation

    return [presentation.migrated(result, result["database"] in outstanding, host) for result in results]


class FilterModule:
    """Register the filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "by_database": by_database,
            "reds": reds,
            "proven": proven,
            "red_validation": red_validation,
            "migrated": migrated,
        }
