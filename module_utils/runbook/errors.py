# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception the engine raises for a condition it understands."""

from __future__ import annotations


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
