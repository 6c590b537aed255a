# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new migration owes besides SQL: a way back, and comments on what it makes."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.series import (
    FOREIGN,
    MATVIEW,
    VIEW,
    Column,
    Made,
    Relation,
    Series,
    Thing,
)
from ansible.module_utils.runbook.lint.units import Action, SourceFile
from ansible.module_utils.runbook.migration import read_directives

_KINDS = {"function": "Function", "type": "Type", "schema": "Schema", "sequence": "Sequence"}
_WORDS = {VIEW: "VIEW", MATVIEW: "MATERIALIZED VIEW", FOREIGN: "FOREIGN TABLE"}


def _declared(source: SourceFile) -> str:
    """Why no script can undo a file, as its header says; a header that cannot be read is a finding by itself."""
    try:
        return read_directives(source.sources[0][1], source.migration.name).rollback_none if source.sources else ""
    except RunbookError:
        return ""


def missing_rollback(source: SourceFile, scripts: Collection[int]) -> Iterator[Hit]:
    """A migration without a rollback script, and without a word about why.

    Parameters:
        source: the migration.
        scripts: the versions that have a rollback script with at least one statement.
    """
    declared = _declared(source)
    there = source.migration.version in scripts
    reason = ""
    if not declared and not there:
        reason = "There is no rollback script for this migration."
    elif declared and there:
        reason = "The file declares that there is no way back, but there is a rollback script."
    if reason:
        yield Hit("missing-rollback", _first_line(source), None, {"reason": reason})


def _first_line(source: SourceFile) -> Action:
    return Action("", None, source.migration.name, 1, 1)


def missing_comments(series: Series, version: int) -> Iterator[Hit]:
    """What a version has made and nobody has commented, at the end of the series: one hit for each statement."""
    owed: dict[tuple[str, int, int], list[Made]] = {}
    for made in series.made:
        if made.version == version and not made.gone and _lacks_comment(made):
            owed.setdefault((made.action.file, made.action.statement, id(made.of or made.what)), []).append(made)
    for several in owed.values():
        yield Hit("missing-comment", several[0].action, None, _sentence(several), ageless=True)


def _lacks_comment(made: Made) -> bool:
    if isinstance(made.what, Relation) and not made.what.commented:
        return True
    return bool(_bare_columns(made.what)) if isinstance(made.what, Relation) else not made.what.commented


def _bare_columns(relation: Relation) -> list[str]:
    """The columns that came with the table and have no comment; those that came later have entries of their own."""
    return [
        column.name
        for column in relation.columns.values()
        if not column.commented and column.version == relation.version
    ]


def _sentence(several: list[Made]) -> dict[str, str]:
    what, of = several[0].what, several[0].of
    if isinstance(what, Relation):
        bare = _bare_columns(what)
        subject = f"{what.kind.capitalize()} {what.name}"
        columns = f"{len(bare)} of its columns: {_listed(bare)}" if bare else ""
        if what.commented:
            return {"reason": f"{subject} has no comments on {columns}.", "rewrite": _column_rewrite(what, bare[0])}
        reason = f"{subject} has no comment{f', nor have {columns}' if columns else ''}."
        return {"reason": reason, "rewrite": f"COMMENT ON {_WORDS.get(what.kind, 'TABLE')} {what.name} IS '…';"}
    if isinstance(what, Thing):
        return {
            "reason": f"{_KINDS[what.kind]} {what.name} has no comment.",
            "rewrite": f"COMMENT ON {what.kind.upper()} {what.name} IS '…';",
        }
    names = [made.what.name for made in several if isinstance(made.what, Column)]
    assert of is not None  # noqa: S101 # only columns are of something
    return {
        "reason": f"No comment on the new column{'s' if len(names) > 1 else ''} {_listed(names)} of {of.name}.",
        "rewrite": _column_rewrite(of, names[0]),
    }


def _column_rewrite(relation: Relation, column: str) -> str:
    return f"COMMENT ON COLUMN {relation.name}.{column} IS '…';"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown}, …"
