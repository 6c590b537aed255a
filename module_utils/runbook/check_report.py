# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and machines get to see of a validation: one sentence, a table, JSON, JUnit."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from ansible.module_utils.runbook.check import (
    ERRORED,
    FAILED,
    INFO,
    PASSED,
    SKIPPED,
    STATUSES,
    WARNING,
    counted,
    is_red,
)

GAP = "  "
# A table of so many lines is still read; of more, what is as it should be is only counted.
_LINES = 40
_WIDTH = 100
_NAMES = 3
_ORDER = (PASSED, FAILED, ERRORED, SKIPPED)

# What XML 1.0 cannot hold, not even as a reference.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def headline(result: Mapping[str, Any], fail_on: str) -> str:
    """One sentence about a validation."""
    version = result["schema_version"]
    at = "without a version" if version is None else f"at version {version}"
    outcomes = result["checks"]
    red = [one for one in outcomes if is_red(one, fail_on)]
    parts = [f"{result['counts'][status]} {status}" for status in _ORDER if result["counts"][status]]
    said = f"{result['database']} {at}: {counted(len(outcomes), 'check')}"
    said += f", {', '.join(parts)}" if parts else ""
    said += f", in {result['seconds']:.2f} s."
    if not red:
        return said
    more = len(red) - _NAMES
    names = "; ".join(one["name"] for one in red[:_NAMES]) + (f"; and {more} more" if more > 0 else "")
    return f"{said} Not as it should be: {names}."


def table(result: Mapping[str, Any]) -> str:
    """The outcomes as a table, what needs attention first; below it, in full, what was seen there."""
    order = {status: place for place, status in enumerate(STATUSES)}
    outcomes = sorted(result["checks"], key=lambda one: order[one["status"]])
    if len(outcomes) > _LINES:
        outcomes = [one for one in outcomes if one["status"] != PASSED]
    lines = [("RESULT", "GROUP", "CHECK", "SEEN")]
    lines += [(_word(one), one["group"], one["name"], _short(one)) for one in outcomes]
    widths = [max(map(len, column)) for column in zip(*lines)]
    shown = [GAP.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    left = len(result["checks"]) - len(outcomes)
    if left:
        shown.append(f"… and {left} that passed")
    return "\n".join([*(shown if outcomes or left else []), *_attention(outcomes)])


def _word(outcome: Mapping[str, Any]) -> str:
    """How it ended, in the word that says whether to worry."""
    if outcome["status"] == FAILED:
        return {WARNING: "warning", INFO: "info"}.get(outcome["severity"], "FAILED")
    if outcome["status"] == ERRORED:
        return "ERRORED"
    return str(outcome["status"])


def _short(outcome: Mapping[str, Any]) -> str:
    return "see below" if outcome["status"] in (FAILED, ERRORED) else str(outcome["message"])


def _attention(outcomes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in outcomes:
        if one["status"] not in (FAILED, ERRORED):
            continue
        yield ""
        place = f" ({one['where']})" if one["where"] else ""
        yield f"{_word(one)}, severity {one['severity']}: {one['name']}{place}"
        yield from textwrap.wrap(
            one["message"],
            _WIDTH,
            initial_indent="    ",
            subsequent_indent="    ",
            break_on_hyphens=False,
            break_long_words=False,
        )


def as_json(result: Mapping[str, Any], host: str) -> str:
    """A report for machines: the result of the module and the host, described in ``docs/checks.md``."""
    known = ("database", "schema_version", "server_version", "only", "red", "counts", "seconds", "summary", "checks")
    return json.dumps({"host": host, **{name: result[name] for name in known}}, indent=2, ensure_ascii=False) + "\n"


def as_junit(result: Mapping[str, Any], host: str, fail_on: str) -> str:
    """A report in the form of JUnit, which continuous integration shows. What does not make the validation fail is a
    test that passed, with what was seen as its output.
    """
    outcomes = result["checks"]
    red = [one for one in outcomes if is_red(one, fail_on)]
    suite = ElementTree.Element(
        "testsuite",
        name=_xml(f"{result['database']} on {host}"),
        tests=str(len(outcomes)),
        failures=str(sum(one["status"] == FAILED for one in red)),
        errors=str(sum(one["status"] == ERRORED for one in red)),
        skipped=str(result["counts"][SKIPPED]),
        time=f"{result['seconds']:.3f}",
    )
    for one in outcomes:
        _add_case(suite, one, one in red)
    root = ElementTree.Element("testsuites", name="Schema Runbook")
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _add_case(suite: ElementTree.Element, outcome: Mapping[str, Any], red: bool) -> None:
    case = ElementTree.SubElement(
        suite,
        "testcase",
        name=_xml(outcome["name"]),
        classname=_xml(f"{outcome['group']}.{outcome['kind']}"),
        time=f"{outcome['seconds']:.3f}",
    )
    message = _xml(outcome["message"])
    if outcome["status"] == SKIPPED:
        ElementTree.SubElement(case, "skipped", message=message)
    elif red:
        word = "failure" if outcome["status"] == FAILED else "error"
        ElementTree.SubElement(case, word, message=message, type=outcome["severity"])
    else:
        ElementTree.SubElement(case, "system-out").text = f"{_word(outcome)}: {message}"


def _xml(text: object) -> str:
    return _NOT_XML.sub("\ufffd", str(text))
