# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings that a file declares to be harmless, each with its reason.

``-- lint: ignore rule, rule reason: text`` stands directly above the statement, or above a line inside of it;
``-- lint: ignore-file rule reason: text`` in the header of a file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ansible.module_utils.runbook.lint.rulebook import RULES
from ansible.module_utils.runbook.lint.units import SourceFile
from ansible.module_utils.runbook.script import Statement
from ansible.module_utils.runbook.statement import Token, tokens

_DIRECTIVE = re.compile(r"\s*--\s*lint\s*:\s*(ignore-file|ignore)\b\s*(.*?)\s*", re.IGNORECASE)
_REASON = re.compile(r"\breason\s*:\s*(.*)", re.IGNORECASE)
_COMMENT = re.compile(rb"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass
class Suppression:
    """One directive.

    Attributes:
        file, line: where it stands.
        rules: the rules it names.
        reason: why.
        whole_file: whether it counts for the whole file.
        target: the line it counts for: the first one below that is neither blank nor a comment.
        used: the rules of which it has suppressed something.
    """

    file: str
    line: int
    rules: tuple[str, ...]
    reason: str
    whole_file: bool
    target: int = 0
    used: set[str] = field(default_factory=set)

    def covers(self, rule: str, file: str, line: int, statement: int) -> bool:
        """Whether it counts for a finding of this rule at this place.

        Parameters:
            rule: the finding's rule.
            file: its file, relative to the migrations folder.
            line: its line.
            statement: the line in which its statement begins.
        """
        if not self.reason or rule not in self.rules or file != self.file:
            return False
        return self.whole_file or self.target in (line, statement)


def read_suppressions(source: SourceFile) -> list[Suppression]:
    """All directives of a migration and of the files it includes."""
    found: dict[tuple[str, int], Suppression] = {}
    for name, content in source.sources:
        if b"lint" not in content.lower():
            continue
        lines = content.decode("utf-8", "replace").splitlines()
        inside = [statement for statement in source.statements if statement.file == name]
        real = _comment_lines(inside)
        taken = {line for statement in inside for line in _span(statement)}
        header = _header_length(lines)
        for number, text in enumerate(lines, start=1):
            match = _DIRECTIVE.fullmatch(text)
            if match and (number not in taken or number in real):
                found[(name, number)] = _suppression(match, name, number, lines, header)
    return list(found.values())


def _suppression(match: re.Match[str], file: str, line: int, lines: Sequence[str], header: int) -> Suppression:
    whole, rest = match.group(1).lower() == "ignore-file", match.group(2)
    reason = _REASON.search(rest)
    names = rest[: reason.start()] if reason else rest
    rules = tuple(name.lower() for name in re.split(r"[,\s]+", names) if name)
    text = reason.group(1).strip() if reason else ""
    # Outside the header a whole file's directive is easily overlooked, so there it counts for nothing.
    return Suppression(file, line, rules, text, whole and line <= header, 0 if whole else _target(lines, line))


def _target(lines: Sequence[str], line: int) -> int:
    """The line below that a directive stands directly above: further comments may come between, blank lines may not."""
    for number in range(line + 1, len(lines) + 1):
        text = lines[number - 1].strip()
        if not text:
            return 0
        if not text.startswith("--"):
            return number
    return 0


def _header_length(lines: Sequence[str]) -> int:
    """How many lines there are before the first that is neither comment nor blank."""
    for number, text in enumerate(lines):
        stripped = text.strip().lstrip("\ufeff")
        if stripped and not stripped.startswith("--"):
            return number
    return len(lines)


def _span(statement: Statement) -> range:
    """The lines of a statement, with its data."""
    data = statement.data.count(b"\n") + 1 if statement.data is not None else 0
    return range(statement.line, statement.line + statement.text.count(b"\n") + data + 1)


def _comment_lines(statements: Sequence[Statement]) -> set[int]:
    """The lines inside of statements that are comments, not text in a string."""
    return {
        statement.line + statement.text.count(b"\n", 0, offset)
        for statement in statements
        if b"--" in statement.text
        for offset in _comments(statement.text)
    }


def _comments(text: bytes, base: int = 0) -> Iterator[int]:
    """The offsets of the comments, also of those in bodies in dollar quotes."""
    position = 0
    for token in [*tokens(text), Token("end", b"", len(text))]:
        for match in _COMMENT.finditer(text, position, token.start):
            if match.group().startswith(b"--"):
                yield base + match.start()
        position = token.start + len(token.text)
        opening = re.match(rb"\$\w*\$", token.text)
        if opening and token.kind == "string":
            begin = opening.end()
            yield from _comments(token.text[begin:-begin], base + token.start + begin)


def complaints(suppressions: Sequence[Suppression]) -> Iterator[tuple[Suppression, str, dict[str, str]]]:
    """What is wrong with the directives themselves: (directive, rule, facts)."""
    for item in suppressions:
        known = [name for name in item.rules if name in RULES]
        for name in item.rules:
            if name not in RULES:
                near = difflib.get_close_matches(name, RULES, n=1)
                facts = {"name": f'"{name}"', "reason": f' Did you mean "{near[0]}"?' if near else ""}
                yield item, "suppression-of-unknown-rule", facts
        if not item.rules:
            yield item, "suppression-of-unknown-rule", {"name": "no rule", "reason": " Name the rule."}
        elif not item.reason:
            yield item, "suppression-without-reason", {}
        else:
            for name in known:
                if name not in item.used:
                    yield item, "suppression-of-nothing", {"name": name}
