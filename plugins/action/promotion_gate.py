# SPDX-License-Identifier: GPL-3.0-or-later
"""The promotion gate, on the controller: pending files against the run records of the environment before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook import health, promotion
from ansible.module_utils.runbook.check_file import read_checks
from ansible.module_utils.runbook.environment import NAME, PRODUCTION
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.project import project_directory, runs_directory

_UNASKED = "no proof was asked for, because migrate_promote_from is empty"


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """Reads files on the controller only; there is no module."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the decision, or fail with everything that is missing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(
            {
                "database": {"type": "str", "required": True},
                "pending": {"type": "dict", "required": True},
                "identity": {"type": "str", "required": True},
                "tables": {"type": "dict", "required": True},
                "checks": {"type": "path", "default": ""},
                "health": {"type": "bool", "default": False},
                "health_severity": {"type": "dict", "default": {}},
                "environment": {"type": "str", "required": True},
                "promote_from": {"type": "str", "default": ""},
                "records": {"type": "path", "default": ""},
                "may_lack": {"type": "list", "elements": "str", "default": []},
                "copies": {"type": "list", "elements": "str", "default": []},
                "override": {"type": "str", "default": ""},
            }
        )
        result.update(changed=False, database=params["database"], environment=params["promote_from"].strip())
        try:
            result.update(_decide(params))
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code, decision="refused")
        except OSError as error:
            said = f"The run records in {error.filename} cannot be read: {error.strerror}. Nothing was changed. "
            said += "Make them readable, or name another folder in migrate_records_directory."
            result.update(failed=True, msg=said, code="records", decision="refused")
        return result


def _decide(params: Mapping[str, Any]) -> dict[str, Any]:
    records, before = Path(params["records"] or runs_directory(C.CONFIG_FILE)), params["promote_from"].strip()
    _refuse_paths(before)
    target = _target(params)
    others = promotion.environments_with(records, params["environment"], params["identity"])
    problems = promotion.twins(others, params["copies"], target)
    proof = None
    if before and not problems:
        versions = [candidate.version for candidate in target.candidates]
        proof = promotion.newest_proof(records / before, params["database"], versions)
        validated = [] if proof else promotion.databases_validated(records / before)
        problems = promotion.missing(before, proof, target, validated)
    override = params["override"].strip()
    decision = promotion.decide(problems, before, override)
    unasked = decision == promotion.OFF and params["environment"] == PRODUCTION
    reason = override if decision == promotion.OVERRIDDEN else _UNASKED if unasked else ""
    unproven = frozenset().union(*(problem.versions for problem in problems))
    return {
        "decision": decision,
        "proof": proof.run if proof else "",
        "excused": _excused(params, proof) if proof else [],
        "problems": [problem.text for problem in problems],
        "reason": reason,
        "notes": {
            str(one.version): f"not proven before: {reason}"
            for one in target.candidates
            if unasked or one.version in unproven
        },
        "msg": f"{params['database']}: {_said(decision, before, target, proof, reason)}{_texts(problems)}",
    }


def _excused(params: Mapping[str, Any], proof: promotion.Proof) -> list[str]:
    """The tables that lack rows there, and are allowed to."""
    tables = params["tables"]
    allowed = promotion.filled(tables, ()) - promotion.filled(tables, params["may_lack"])
    return sorted(allowed & proof.tables - proof.filled)


def _target(params: Mapping[str, Any]) -> promotion.Target:
    pending = params["pending"]
    return promotion.Target(
        database=params["database"],
        candidates=[
            promotion.Candidate(version, name, pending["checksums"][str(version)])
            for version, name in zip(pending["pending_versions"], pending["pending"], strict=True)
        ],
        filled=promotion.filled(params["tables"], params["may_lack"]),
        checks=_checks(params["checks"], params["health"], params["health_severity"]),
    )


def _checks(folder: str, with_health: bool, severity: Mapping[str, str]) -> frozenset[str]:
    project = project_directory(C.CONFIG_FILE)
    ours = read_checks(project / folder, folder) if folder else []
    return frozenset(check.name for check in [*ours, *(health.checks(severity) if with_health else ())])


def _refuse_paths(environment: str) -> None:
    if environment and not NAME.fullmatch(environment):
        raise RunbookError(
            f'migrate_promote_from is "{environment}", and has to be the name of an environment, such as staging. '
            "Nothing was changed.",
            code="option",
        )


def _said(decision: str, before: str, target: promotion.Target, proof: promotion.Proof | None, reason: str) -> str:
    names = ", ".join(candidate.name for candidate in target.candidates)
    return {
        promotion.PASSED: f"{before} has proven {names} (run {proof.run if proof else ''}).",
        promotion.OVERRIDDEN: f"NOT PROVEN{f' in {before}' if before else ''}, and applied all the same because: "
        f"{reason}.",
        promotion.OFF: f"NOT PROVEN anywhere: {reason}. The ledger's history will say so."
        if reason
        else f"{names}: no other environment has to prove it.",
    }[decision]


def _texts(problems: Sequence[promotion.Problem]) -> str:
    return "".join(f" {problem.text}" for problem in problems)
