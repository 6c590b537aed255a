# SPDX-License-Identifier: GPL-3.0-or-later
"""The promotion gate, on the controller: pending files against the run records of the environment before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook import promotion
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.migration import read_folder
from ansible.module_utils.runbook.project import project_directory, runs_directory


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """Reads files on the controller only; there is no module."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the decision, or fail with everything that is missing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(
            {
                "database": {"type": "str", "required": True},
                "pending": {"type": "list", "elements": "str", "required": True},
                "identity": {"type": "str", "required": True},
                "tables": {"type": "dict", "required": True},
                "directory": {"type": "path", "required": True},
                "environment": {"type": "str", "default": "staging"},
                "records": {"type": "path", "default": ""},
                "may_lack": {"type": "list", "elements": "str", "default": []},
                "override": {"type": "str", "default": ""},
            }
        )
        result.update(changed=False, database=params["database"], environment=params["environment"])
        try:
            result.update(_decide(params) if params["environment"] else _without_gate(params["database"]))
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code, decision="refused")
        return result


def _decide(params: Mapping[str, Any]) -> dict[str, Any]:
    environment, records = params["environment"], Path(params["records"] or runs_directory(C.CONFIG_FILE))
    proof = promotion.newest_proof(records / environment, params["database"])
    filled = frozenset(table for table, size in params["tables"].items() if size["bytes"])
    target = promotion.Target(params["database"], params["identity"], filled)
    problems = promotion.missing(environment, proof, _candidates(params), target, params["may_lack"])
    decision = promotion.decide(problems, environment, params["override"].strip())
    names = ", ".join(params["pending"])
    said = {
        promotion.PASSED: f"{environment} has proven {names} (run {proof.run if proof else ''}).",
        promotion.OVERRIDDEN: f"NOT PROVEN in {environment}, and applied all the same because: {params['override']}. "
        + " ".join(problems),
    }
    return {
        "decision": decision,
        "proof": proof.run if proof else "",
        "problems": problems,
        "reason": params["override"] if decision == promotion.OVERRIDDEN else "",
        "msg": f"{params['database']}: {said[decision]}",
    }


def _without_gate(database: str) -> dict[str, Any]:
    """What is said, and kept, of migrations that no other environment has to prove."""
    reason = "no proof was asked for, because migrate_promote_from is empty"
    return {
        "decision": promotion.OFF,
        "proof": "",
        "problems": [],
        "reason": reason,
        "msg": f"{database}: NOT PROVEN anywhere: {reason}. The ledger's history will say so.",
    }


def _candidates(params: Mapping[str, Any]) -> list[promotion.Candidate]:
    folder = read_folder(project_directory(C.CONFIG_FILE) / params["directory"])
    wanted = set(params["pending"])
    return [
        promotion.Candidate(one.version, one.name, one.checksum)
        for one in folder.migrations.values()
        if one.name in wanted
    ]
