# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge migrations on the controller, before anything is connected to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.project import project_directory

# From best to worst, as far as a run is willing to go.
REACHED = {"error": ("error",), "warning": ("error", "warning"), "never": ()}


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """Read the folder, judge the versions that are wanted, say what was found."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the findings; fail when one is as bad as ``fail_on`` says."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "rollback_directory": {"type": "path", "default": ""},
                "schema": {"type": "str", "default": "cm"},
                "versions": {"type": "list", "elements": "int", "default": []},
                "tables": {"type": "dict", "default": {}},
                "small_table": {"type": "int", "default": 10485760},
                "fail_on": {"type": "str", "default": "error", "choices": ["error", "warning", "never"]},
                "report": {"type": "path", "default": ""},
                "server_version": {"type": "int"},
            }
        )
        result["changed"] = False
        try:
            result.update(_judged(params))
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code)
        return result


def _judged(params: dict[str, Any]) -> dict[str, Any]:
    try:
        # pglast is on the controller alone, and takes a moment to load: only who lints needs it.
        from ansible.module_utils.runbook.lint import report
        from ansible.module_utils.runbook.lint.lint import Wanted, lint
    except ImportError as error:
        raise RunbookError(
            f"The linter needs the Python package pglast, which cannot be loaded: {error}. "
            "Run make setup, or install what requirements.lock names.",
            code="lint-tool",
        ) from error
    project = project_directory(C.CONFIG_FILE)
    directory, rollback = (project / params[name] for name in ("directory", "rollback_directory"))
    verdict = lint(
        Wanted(
            directory=directory,
            rollback_directory=rollback if params["rollback_directory"] else None,
            schema=params["schema"],
            versions=frozenset(params["versions"]),
            tables=params["tables"],
            server_version=params["server_version"],
            small=params["small_table"],
            shown=_shown(directory, project),
            shown_rollback=_shown(rollback, project),
        )
    )
    if params["report"]:
        report.write(verdict, project / params["report"])
    data = report.as_data(verdict)
    result = {
        "msg": report.text(verdict),
        "summary": data["summary"],
        "findings": data["findings"],
        "suppressed": len(verdict.suppressed),
    }
    if verdict.worst() in REACHED[params["fail_on"]]:
        result.update(failed=True, code="lint")
    return result


def _shown(folder: Path, project: Path) -> str:
    """The folder as people name it: relative to the project where it is inside of it."""
    return folder.relative_to(project).as_posix() if folder.is_relative_to(project) else str(folder)
