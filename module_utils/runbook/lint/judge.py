# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what rules report into findings: weighs the size of the table, and fills in the sentences."""

from __future__ import annotations

from collections import defaultdict
from typing import Optional

from ansible.module_utils.runbook.lint.finding import ERROR, NOTE, WARNING, Finding, Size
from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.nodes import Name
from ansible.module_utils.runbook.lint.plpgsql import UNKNOWN
from ansible.module_utils.runbook.lint.rulebook import RULES, TIME, Rule
from ansible.module_utils.runbook.lint.series import Series
from ansible.module_utils.runbook.statement import redact_passwords

_LOWER = {ERROR: WARNING, WARNING: NOTE, NOTE: NOTE}


def finding_of(hit: Hit, series: Series, file: str, small: int) -> Finding:
    """The finding that a hit is.

    Parameters:
        hit: what a rule reported.
        series: what is known at this point.
        file: the file as it is shown.
        small: tables of at most so many bytes are small.
    """
    rule = RULES[hit.rule]
    size = series.size(hit.table) if hit.table else None
    table = _shown(series, hit.table)
    facts = defaultdict(lambda: "…", {"table": _with_size(table, size), **hit.facts})
    return Finding(
        rule=rule.name,
        severity=_severity(rule, hit.severity or rule.severity, size, small),
        file=file,
        line=hit.action.line,
        message=_sentence(rule.message, facts),
        why=rule.why,
        rewrite=_sentence(rule.rewrite, facts),
        table=table,
        table_bytes=size.bytes if size else None,
        table_rows=size.rows if size else None,
    )


def _severity(rule: Rule, severity: str, size: Optional[Size], small: int) -> str:
    """How bad it is on a table of this size; one of unknown size may be large."""
    if not rule.weighs or size is None:
        return severity
    if size.empty:
        return NOTE
    if rule.weighs == TIME and size.bytes is not None and size.bytes <= small:
        return _LOWER[severity]
    return severity


def _shown(series: Series, table: Optional[Name]) -> str:
    if table is None:
        return ""
    return "a table named at run time" if UNKNOWN in table else str(series.full_name(table))


def _with_size(table: str, size: Optional[Size]) -> str:
    return f"{table} ({size})" if size and str(size) else table


def _sentence(template: str, facts: defaultdict[str, str]) -> str:
    shown = defaultdict(lambda: "…", {name: redact_passwords(fact) for name, fact in facts.items()})
    text = template.format_map(shown).replace(UNKNOWN, "…")
    return text[:1].upper() + text[1:]
