# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``schema_drift``: read the ledger, ship the files it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook.bundle import Order, Task
from ansible.module_utils.runbook.drift import DRIFT_ARGUMENTS, applied_files, unknown
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import Entry, State, from_result
from ansible.module_utils.runbook.migration import Migration, Prepared, prepare, read_folder
from ansible.module_utils.runbook.outward import kept_inside
from ansible.module_utils.runbook.project import project_directory

# It knows how bundles travel, and how modules are called.
SchemaMigration: Any = action_loader.get("schema_migration", class_only=True)

# A run may change the ledger between our look at it and that at the database: then the files are chosen again.
LOOKS = 3


class ActionModule(SchemaMigration):  # type: ignore[misc] # ansible-core ships no type information
    """One look at the ledger, then one module call with the files."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether the database has drifted, and in what."""
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        _, params = self.validate_argument_spec(DRIFT_ARGUMENTS)
        result.update(changed=False, database=params["login_db"])
        try:
            result.update(self._judge({**params, "require_primary": False}, task_vars or {}))
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code)
        return result

    def _judge(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        for _ in range(LOOKS):
            answer: dict[str, Any] = self._inspect(params, 0, task_vars)
            if not answer.get("failed"):
                answer = self._compare(params, answer["server_version"], from_result(answer["ledger"]), task_vars)
            if not answer.pop("stale", False):
                return answer
        raise RunbookError(
            f"The ledger of {params['login_db']} changed each time while it was looked at. "
            "Find out who migrates it, then run this again.",
            code="busy",
        )

    def _compare(
        self, params: dict[str, Any], server_version: int, state: State, task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        folder = read_folder(project_directory(C.CONFIG_FILE) / params["directory"])
        migrations, reasons = applied_files(folder, state)
        if reasons:
            return unknown(params["login_db"], reasons)
        try:
            tasks, notes = _tasks(migrations, folder.path, params["directory"], server_version)
        except RunbookError as error:
            return unknown(params["login_db"], [error.message])
        bundle = self._ship(Order(state.digest()), tasks, task_vars["inventory_hostname"])
        own = {name: value for name, value in params.items() if name in DRIFT_ARGUMENTS}
        answer: dict[str, Any] = self._call("schema_drift", {**own, "_bundle": bundle}, task_vars)
        if "notes" in answer:
            answer["notes"] += notes
        if answer.get("drifted"):
            answer["msg"] = "\n".join([answer["msg"], *notes])  # one of them may be the reason
        return answer


def _tasks(
    migrations: list[Migration], folder: Path, shown: str, server_version: int
) -> tuple[list[tuple[Task, Prepared]], list[str]]:
    """What is run in the scratch database, and what of the files is not."""
    tasks: list[tuple[Task, Prepared]] = []
    notes: list[str] = []
    foreign: set[str] = set()
    for migration in migrations:
        prepared, left_out = kept_inside(prepare(migration, folder, server_version), shown, foreign)
        tasks.append((Task.of(Entry.of(migration, ""), prepared, rollback=False), prepared))
        notes += left_out
    return tasks, notes
