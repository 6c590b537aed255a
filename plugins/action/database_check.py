# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``database_check``: read the files, hand the checks over, write reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook.check_file import handed_over, read_checks
from ansible.module_utils.runbook.check_report import as_json, as_junit, table
from ansible.module_utils.runbook.checks import CHECK_ARGUMENTS, shipped
from ansible.module_utils.runbook.errors import RunbookError, failure_of
from ansible.module_utils.runbook.project import project_directory


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """One module call; the files stay here."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module, with a table as its message."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(CHECK_ARGUMENTS)
        result.update(changed=False, database=params["login_db"])
        try:
            self._check(params, task_vars or {}, result)
        except RunbookError as error:
            result.update(failed=True, msg=error.message, code=error.code)
        result.setdefault("summary", result.get("msg", ""))
        result.setdefault("red", bool(result.get("failed")))
        return result

    def _check(self, params: dict[str, Any], task_vars: dict[str, Any], result: dict[str, Any]) -> None:
        project = project_directory(C.CONFIG_FILE)
        folder, entries = params["directory"], params["checks"]
        checks = read_checks(project / folder, folder, entries) if folder else handed_over(entries)
        arguments = {**params, "checks": [], "_checks": shipped(checks)}
        answer: dict[str, Any] = self._execute_module(
            module_name="database_check", module_args=arguments, task_vars=task_vars, wrap_async=False
        )
        answer.pop("invocation", None)
        if answer.get("module_stderr"):
            answer["msg"] = failure_of(answer)
        result.update(answer)
        if "checks" not in answer:
            return
        result["msg"] = f"{answer['summary']}\n{table(answer)}"
        if params["report_directory"]:
            directory = project / params["report_directory"]
            result["reports"] = _report(directory, answer, task_vars["inventory_hostname"], params["fail_on"])


def _report(directory: Path, answer: dict[str, Any], host: str, fail_on: str) -> list[str]:
    """Write both reports, for nobody else to read: they may show rows of the database."""
    stem = quote(f"{host}-{answer['database']}", safe="")
    reports = {
        directory / f"{stem}.json": as_json(answer, host),
        directory / f"{stem}.xml": as_junit(answer, host, fail_on),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file, content in reports.items():
            file.touch(mode=0o600)
            file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise RunbookError(
            f"The report {error.filename} cannot be written: {error.strerror}. Name another folder in "
            "validate_report_directory.",
            code="report",
        ) from error
    return [str(file) for file in reports]
