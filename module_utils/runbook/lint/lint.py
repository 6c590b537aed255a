# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a folder of migrations and says what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint.documentation import missing_comments, missing_rollback
from ansible.module_utils.runbook.lint.finding import SEVERITIES, Finding, Size
from ansible.module_utils.runbook.lint.history import note
from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.judge import finding_of
from ansible.module_utils.runbook.lint.opinions import OPINIONS
from ansible.module_utils.runbook.lint.rules import own_rules
from ansible.module_utils.runbook.lint.series import NEW_HERE, NEW_PENDING, Series
from ansible.module_utils.runbook.lint.squawk import ask_squawk
from ansible.module_utils.runbook.lint.suppression import Suppression, complaints, read_suppressions
from ansible.module_utils.runbook.lint.units import (
    NEWEST_SERVER,
    ROUTINE,
    Action,
    Mistake,
    SourceFile,
    read_source,
    with_inner,
)
from ansible.module_utils.runbook.migration import Folder, read_folder
from pglast import ast

OLDEST_SERVER = 130000
"""The ``server_version_num`` to think of where nobody says which server it will be."""

SMALL = 10 * 1024 * 1024
"""Tables of at most so many bytes are small: to read or write one takes a tenth of a second or so."""

# What squawk has nothing to say about; a migration can hold a great many of these.
_NOT_FOR_SQUAWK = re.compile(r"\s*(?:INSERT|SELECT|COPY|COMMENT|DO|GRANT|DELETE)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """What to judge, and what is known about the database.

    Attributes:
        directory: the migrations folder.
        rollback_directory: that of the rollback scripts; None leaves them out.
        schema: where unqualified names are looked for, before ``public``.
        versions: the versions to judge, which are also those that are not applied yet; empty for all, and then
            nobody says what is applied.
        tables: by ``schema.table``, how many ``bytes`` and ``rows`` it has.
        server_version: the server's ``server_version_num``; None when it is unknown.
        small: tables of at most so many bytes are small.
        shown: the folder as it is shown to people; None shows ``directory``.
        shown_rollback: the same for the rollback scripts.
    """

    directory: Path
    rollback_directory: Optional[Path] = None
    schema: str = "cm"
    versions: frozenset[int] = frozenset()
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    server_version: Optional[int] = None
    small: int = SMALL
    shown: Optional[str] = None
    shown_rollback: Optional[str] = None


@dataclass(frozen=True)
class Suppressed:
    """A finding that the file declares to be harmless."""

    finding: Finding
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What came out: findings by file and line, what was suppressed, and how many files were judged."""

    findings: list[Finding]
    suppressed: list[Suppressed]
    files: int

    def worst(self) -> str:
        """The worst severity there is; empty without findings."""
        return next((level for level in SEVERITIES if any(item.severity == level for item in self.findings)), "")


def lint(wanted: Wanted) -> Verdict:
    """Judge migrations.

    Raises:
        RunbookError: ``no-folder``, ``file-name``, ``duplicate``, ``unreadable`` as for :func:`migration.read_folder`;
            ``unknown-version``; ``lint-tool`` when squawk cannot be run.
    """
    return _Linter(wanted).verdict()


class _Linter:
    """One pass over a folder."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._server = wanted.server_version or OLDEST_SERVER
        folder = read_folder(wanted.directory)
        self._refuse_unknown(folder)
        self._sources = [
            read_source(folder.migrations[version], wanted.directory, self._server)
            for version in sorted(folder.migrations)
        ]
        self._judged = [
            source for source in self._sources if not wanted.versions or source.migration.version in wanted.versions
        ]
        self._suppressions = [item for source in self._judged for item in read_suppressions(source)]
        sizes = {name: Size.of(facts) for name, facts in wanted.tables.items()}
        self._series = Series(wanted.schema, sizes, wanted.versions or None)
        self._findings: list[Finding] = []
        self._suppressed: list[Suppressed] = []

    def _refuse_unknown(self, folder: Folder) -> None:
        unknown = sorted(self._wanted.versions - set(folder.migrations))
        if unknown:
            raise RunbookError(
                f"There is no migration with the number {', '.join(map(str, unknown))} in {self._wanted.directory}. "
                "Name versions that exist, or none for all.",
                code="unknown-version",
            )

    def verdict(self) -> Verdict:
        """Judge, and return what came out."""
        rollbacks = self._rollbacks()
        squawk = self._ask_squawk()
        judged = {id(source) for source in self._judged}
        for source in self._sources:
            self._series.begin(source)
            if id(source) in judged:
                self._judge_file(source, squawk, rollbacks)
            else:
                for action in source.actions:
                    note(self._series, action)
        for source in self._judged:
            self._series.begin(source)
            self._report(missing_comments(self._series, source.migration.version))
        self._complain()
        order = {severity: number for number, severity in enumerate(SEVERITIES)}
        unique = dict.fromkeys(sorted(self._findings, key=lambda item: (item.file, item.line, order[item.severity])))
        return Verdict(list(unique), self._suppressed, len(self._judged))

    def _ask_squawk(self) -> dict[int, set[str]]:
        """By the identity of each action that is judged, which of squawk's rules apply to it."""
        actions = [action for source in self._judged for action in with_inner(source.actions) if _for_squawk(action)]
        answers = ask_squawk([action.text for action in actions], self._server)
        return {id(action): answer for action, answer in zip(actions, answers)}

    def _judge_file(
        self, source: SourceFile, squawk: Mapping[int, set[str]], rollbacks: Optional[Collection[int]]
    ) -> None:
        for mistake in source.mistakes:
            self._report_mistake(mistake)
        if rollbacks is not None:
            self._report(missing_rollback(source, rollbacks))
        for action in source.actions:
            self._judge(action, squawk)

    def _judge(self, action: Action, squawk: Mapping[int, set[str]]) -> None:
        """Judge an action and what is inside of it, each before its effect is noted."""
        self._report(own_rules(action, self._series))
        # In the order of the rule book: a set has none.
        for rule in OPINIONS:
            if rule in squawk.get(id(action), ()):
                self._report(OPINIONS[rule](action, self._series))
        # What a block does is noted piece by piece below; what a function would do belongs to the function.
        note(self._series, replace(action, inner=()) if isinstance(action.node, ast.DoStmt) else action)
        for inner in action.inner:
            self._judge(inner, squawk)

    def _report(self, hits: Iterator[Hit]) -> None:
        for hit in hits:
            age = self._series.age(hit.table) if hit.table and not hit.ageless else ""
            if age == NEW_HERE:
                continue
            finding = finding_of(hit, self._series, self._shown(hit.action.file), self._wanted.small)
            suppression = self._suppression(hit)
            if age == NEW_PENDING:
                continue  # it does count as suppressed: where the table is applied already, it would be reported
            if suppression:
                self._suppressed.append(Suppressed(finding, suppression.reason))
            else:
                self._findings.append(finding)

    def _suppression(self, hit: Hit) -> Optional[Suppression]:
        """The directive that covers a hit; it is noted to be of use."""
        for item in self._suppressions:
            if item.covers(hit.rule, hit.action.file, hit.action.line, hit.action.statement):
                item.used.add(hit.rule)
                return item
        return None

    def _report_mistake(self, mistake: Mistake) -> None:
        newer = mistake.rule == "syntax" and self._server >= NEWEST_SERVER + 10000
        reason = mistake.message
        if newer:
            reason += f" It knows PostgreSQL {NEWEST_SERVER // 10000}, and the server is newer."
        action = Action("", None, mistake.file, mistake.line, mistake.line)
        self._report(iter([Hit(mistake.rule, action, None, {"reason": reason}, severity="warning" if newer else "")]))

    def _rollbacks(self) -> Optional[set[int]]:
        """The versions with a rollback script that does something; what is no SQL in one is reported."""
        folder = self._wanted.rollback_directory
        if folder is None:
            return None
        scripts = read_folder(folder).migrations if folder.is_dir() else {}
        found = set()
        for source in self._judged:
            version = source.migration.version
            if version not in scripts:
                continue
            script = read_source(scripts[version], folder, self._server)
            if script.actions or script.mistakes:
                found.add(version)
            for mistake in script.mistakes:
                self._report_rollback_mistake(mistake)
        return found

    def _report_rollback_mistake(self, mistake: Mistake) -> None:
        action = Action("", None, mistake.file, mistake.line, mistake.line)
        hit = Hit(mistake.rule, action, None, {"reason": mistake.message})
        shown = self._wanted.shown_rollback or str(self._wanted.rollback_directory)
        self._findings.append(finding_of(hit, self._series, f"{shown}/{mistake.file}", self._wanted.small))

    def _complain(self) -> None:
        """Report the suppressions that are of no use."""
        for item, rule, facts in complaints(self._suppressions):
            action = Action("", None, item.file, item.line, item.line)
            hit = Hit(rule, action, None, facts)
            self._findings.append(finding_of(hit, self._series, self._shown(item.file), self._wanted.small))

    def _shown(self, file: str) -> str:
        folder = self._wanted.shown if self._wanted.shown is not None else str(self._wanted.directory)
        return f"{folder}/{file}"


def _for_squawk(action: Action) -> bool:
    if action.node is None or action.place == ROUTINE or action.data:
        return False
    return not _NOT_FOR_SQUAWK.match(action.text)
