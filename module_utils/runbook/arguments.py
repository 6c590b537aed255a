# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of ``schema_migration``, shared by the module and its action plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.migration import milliseconds

MIGRATION_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    "maintenance_db": {"type": "str", "default": "postgres"},
    "schema": {"type": "str", "default": "cm"},
    "directory": {"type": "path", "required": True},
    "rollback_directory": {"type": "path", "default": ""},
    "version": {"type": "str", "default": "latest"},
    "state": {"type": "str", "default": "present", "choices": ["present", "baseline"]},
    "repair": {"type": "bool", "default": False},
    "allow_apply": {"type": "bool", "default": True},
    "allow_rollback": {"type": "bool", "default": False},
    "allow_missing": {"type": "bool", "default": False},
    "allow_out_of_order": {"type": "bool", "default": False},
    "transaction": {"type": "str", "default": "each", "choices": ["each", "all"]},
    "run_lock_wait": {"type": "str", "default": "10s"},
    "lock_timeout": {"type": "str", "default": "500ms"},
    "lock_timeout_max": {"type": "str", "default": "2s"},
    "lock_budget": {"type": "str", "default": "40min"},
    "statement_timeout": {"type": "str", "default": "0"},
    "concurrent_timeout": {"type": "str", "default": "4h"},
    "show_blocking_queries": {"type": "bool", "default": False},
}


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
            "Write a whole number and a unit: 500ms, 5s, 10min, 4h, or 0 for none.",
            code="option",
        ) from error
