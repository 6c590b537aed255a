# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rule reports: the place and the facts, before anybody asked how much it matters."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Optional

from ansible.module_utils.runbook.lint.nodes import Name
from ansible.module_utils.runbook.lint.units import Action


@dataclass(frozen=True)
class Hit:
    """A rule that applies to an action.

    Attributes:
        rule: its name.
        action: where.
        table: the table that is touched, whose age and size count; None if there is none.
        facts: what the sentences of the rule have places for.
        ageless: whether it matters on a table that nobody uses yet, too.
        severity: another severity than the rule's.
    """

    rule: str
    action: Action
    table: Optional[Name] = None
    facts: dict[str, str] = field(default_factory=dict)
    ageless: bool = False
    severity: str = ""


def one_line(text: str, longest: int = 300) -> str:
    """SQL in one line without its comments' line breaks doing harm, shortened if it is long."""
    line = re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", text)).strip().rstrip(";").strip()
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def with_word(text: str, word: str, addition: str) -> str:
    """A statement with a word added behind the first ``word``, such as CONCURRENTLY behind INDEX."""
    return re.sub(rf"(?i)\b{word}\b", f"{word} {addition}", one_line(text), count=1) + ";"
