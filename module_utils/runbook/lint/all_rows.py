# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule about statements that change every row of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

from ansible.module_utils.runbook.lint.conditions import Filled, outcome
from ansible.module_utils.runbook.lint.finding import WARNING
from ansible.module_utils.runbook.lint.hit import Hit, one_line
from ansible.module_utils.runbook.lint.nodes import Name, Node, relation_name, sql, walk
from ansible.module_utils.runbook.lint.opinions import proven
from ansible.module_utils.runbook.lint.series import Relation, Series
from ansible.module_utils.runbook.lint.units import ROUTINE, Action
from pglast import ast
from pglast.enums import CmdType, MergeMatchKind

_NEVER_NULL = frozenset(("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"))
"""The columns that PostgreSQL itself gives to each row."""


def without_where(action: Action, series: Series) -> Iterator[Hit]:
    """UPDATE, DELETE and MERGE that change all rows, also inside WITH, blocks and functions."""
    if isinstance(action.node, ast.RuleStmt):
        return  # its action gets the condition of the query that it stands for
    for node in walk(action.node):
        if not isinstance(node, (ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)):
            continue
        table = relation_name(node.relation)
        filled = _knowledge(node, series.relation(table))
        reason = _merged(node, filled) if isinstance(node, ast.MergeStmt) else _unrestricted(node, filled)
        if reason and not _is_common_table(action.node, table):
            facts = {"reason": reason, "rewrite": _rewrite(node, table)}
            severity = WARNING if action.place == ROUTINE else ""
            yield Hit("missing-where", action, table, facts, severity=severity)


def _knowledge(node: Node, relation: Optional[Relation]) -> Filled:
    """What the files say about NULL in the columns of the table that a statement changes."""
    own = node.relation.alias.aliasname if node.relation.alias else node.relation.relname
    # With other tables beside it, a column without a qualifier may be one of theirs.
    beside = any(getattr(node, slot, None) for slot in ("fromClause", "usingClause", "sourceRelation"))

    def filled(reference: Node) -> Optional[bool]:
        if not all(isinstance(part, ast.String) for part in reference.fields):
            return None
        *qualifier, column = [part.sval for part in reference.fields]
        if qualifier[-1] != own if qualifier else beside:
            return None
        if column in _NEVER_NULL:
            return True
        return proven(relation, column) if relation and column in relation.columns else None

    return filled


def _unrestricted(node: Node, filled: Filled) -> str:
    """Why an UPDATE or DELETE changes all rows; empty if it does not."""
    verb = "UPDATE" if isinstance(node, ast.UpdateStmt) else "DELETE"
    if node.whereClause is None:
        return f"{verb} without WHERE"
    return _with_condition(f"{verb} whose WHERE", node.whereClause) if outcome(node.whereClause, filled) else ""


def _merged(node: Node, filled: Filled) -> str:
    """Why a MERGE changes all rows: they all match, or none of them does, and the branch for those asks no more."""
    matches = outcome(node.joinCondition, filled)
    if matches is None:
        return ""
    met = MergeMatchKind.MERGE_WHEN_MATCHED if matches else MergeMatchKind.MERGE_WHEN_NOT_MATCHED_BY_SOURCE
    for branch in node.mergeWhenClauses:
        if branch.matchKind != met:
            continue
        if branch.commandType == CmdType.CMD_NOTHING:
            return ""  # the rows that it takes stay as they are
        if branch.condition is None or outcome(branch.condition, filled):
            return _with_condition("MERGE whose ON", node.joinCondition, matches)
    return ""


def _with_condition(subject: str, condition: Node, value: bool = True) -> str:
    return f"{subject} is always {str(value).lower()} ({one_line(sql(condition), 60)})"


def _rewrite(node: Node, table: Name) -> str:
    """The statement as a safe one would look."""
    if isinstance(node, ast.MergeStmt):
        return f"MERGE INTO {table} USING … ON {table.name}.id = … WHEN MATCHED AND … THEN …;"
    update = isinstance(node, ast.UpdateStmt)
    head = re.split(" (?:WHERE|RETURNING) ", sql(node))[0] if update else f"DELETE FROM {table}"
    return f"{one_line(head, 120)} WHERE id BETWEEN … AND …;"


def _is_common_table(tree: Node, table: Name) -> bool:
    """Whether a name without a schema is one of a WITH clause."""
    names = {node.ctename for node in walk(tree) if isinstance(node, ast.CommonTableExpr)}
    return not table.schema and table.name in names
