# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts for people and for programs: text, JSON, and SARIF for code hosts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint.finding import NOTE, SEVERITIES, Finding
from ansible.module_utils.runbook.lint.lint import Verdict
from ansible.module_utils.runbook.lint.rulebook import RULES

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"

_DOCUMENTATION = "docs/lint.md"


def text(verdict: Verdict) -> str:
    """The verdict as people read it: the summary, then each finding with its place, reason and rewrite."""
    return "\n".join([summary(verdict), *(_paragraph(finding) for finding in verdict.findings)])


def summary(verdict: Verdict) -> str:
    """The verdict in one line."""
    counted = Counter(finding.severity for finding in verdict.findings)
    parts = [_counted(counted[severity], severity) for severity in SEVERITIES if counted[severity]]
    said = ", ".join(parts) if parts else "nothing to object to"
    suppressed = f"; {len(verdict.suppressed)} suppressed" if verdict.suppressed else ""
    return f"{_counted(verdict.files, 'migration')}: {said}{suppressed}."


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _paragraph(finding: Finding) -> str:
    lines = [f"{finding.file}:{finding.line}: {finding.severity} {finding.rule}", f"    {finding.message}"]
    if finding.severity != NOTE:
        lines.append(f"    Why: {finding.why}")
    return "\n".join([*lines, f"    Instead: {finding.rewrite}"])


def as_data(verdict: Verdict) -> dict[str, Any]:
    """The verdict as plain data: ``summary``, ``files``, ``findings`` and ``suppressed``, each of these with "
    "its reason."""
    return {
        "summary": summary(verdict),
        "files": verdict.files,
        "findings": [finding.as_dict() for finding in verdict.findings],
        "suppressed": [{**item.finding.as_dict(), "reason": item.reason} for item in verdict.suppressed],
    }


def sarif(verdict: Verdict) -> dict[str, Any]:
    """The verdict as SARIF 2.1.0, which GitHub, GitLab and editors show beside the lines.

    Suppressed findings are in it, too, marked with the reason that the file gives.
    """
    results = [_result(finding) for finding in verdict.findings]
    for item in verdict.suppressed:
        suppression = {"kind": "inSource", "justification": item.reason}
        results.append({**_result(item.finding), "suppressions": [suppression]})
    driver = {"name": "schema-runbook-lint", "rules": [_rule(name) for name in RULES]}
    return {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}],
    }


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.why},
        "help": {"text": f"{rule.why} See {_DOCUMENTATION}."},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(finding: Finding) -> dict[str, Any]:
    place = {"artifactLocation": {"uri": finding.file}, "region": {"startLine": finding.line}}
    known = {"table": finding.table, "tableBytes": finding.table_bytes, "tableRows": finding.table_rows}
    return {
        "ruleId": finding.rule,
        "ruleIndex": list(RULES).index(finding.rule),
        "level": finding.severity,
        "message": {"text": f"{finding.message} {finding.rewrite}"},
        "locations": [{"physicalLocation": place}],
        "properties": {name: value for name, value in known.items() if value not in (None, "")},
    }


def write(verdict: Verdict, path: Path) -> None:
    """Write a report; the ending of the file's name says which.

    Raises:
        RunbookError: ``lint-report`` for another ending than ``.json`` and ``.sarif``, or when it cannot be written.
    """
    makers = {".json": as_data, ".sarif": sarif}
    maker = makers.get(path.suffix.lower())
    if maker is None:
        raise RunbookError(
            f"The report {path} ends in neither .json nor .sarif. Name it after what it should be.", code="lint-report"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(maker(verdict), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunbookError(
            f"The report {path} cannot be written: {error.strerror}. Name a place that can be written to.",
            code="lint-report",
        ) from error
