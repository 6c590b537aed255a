# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception the engine raises for a condition it understands, and what is left of a module without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RunbookError(Exception):
    """A sentence for the operator: what happened, where, and what to do next.

    Parameters:
        message: one or more complete sentences, ready to be printed.
        code: a stable, machine-readable name of the condition (``edited``, ``lock-timeout``, …),
            written into results and run records so that nobody has to match on prose.
        details: further facts for results, JSON-serialisable, never a secret.
    """

    def __init__(self, message: str, code: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.details = details


def failure_of(result: Mapping[str, Any]) -> str:
    """Why a module failed, from its result; empty when the result does not say.

    A module that did not come to run has no message of its own: whatever kept it from running, sudo most likely, has
    left its words in ``module_stderr``.
    """
    said = str(result.get("module_stderr") or "").split("\n")[0].strip()
    if not said:
        return str(result.get("msg") or "")
    return (
        f"The module did not come to run: {said.rstrip('.')}. Modules run as the account in db_os_user, through "
        "become: see that the account exists and that Ansible's may become it, or name another one."
    )
