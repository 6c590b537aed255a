# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of ``schema_migration``, shared by the module and its action plugin."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS

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
    "confirmation": {"type": "str"},
    "require_primary": {"type": "bool", "default": True},
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
    "backup_set": {"type": "str", "default": ""},
    "notes": {"type": "dict", "default": {}},
    "expected": {"type": "dict"},
}
