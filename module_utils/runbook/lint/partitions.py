# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the rows of a table are known to fit into a partition."""

from __future__ import annotations

from typing import Optional

from ansible.module_utils.runbook.lint.nodes import Node, column_of, conjuncts, text_of
from ansible.module_utils.runbook.lint.opinions import proven
from ansible.module_utils.runbook.lint.series import Relation
from pglast import ast
from pglast.enums import A_Expr_Kind

_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def bounds_proven(parent: Optional[Relation], partition: Optional[Relation], bound: Node) -> bool:
    """Whether valid constraints of a table say what the bounds of a partition say, as PostgreSQL asks for.

    Read are partitions by range and by list of one column; where the key is more than that, a valid CHECK is believed.

    Parameters:
        parent: the partitioned table, None when the files don't say what it is.
        partition: the table that is attached.
        bound: FOR VALUES …
    """
    if partition is None or not partition.valid_checks():
        return False
    wanted = _wanted(bound)
    if not wanted or (parent is not None and len(parent.key) != 1):
        return True
    facts = {fact for check in partition.valid_checks() for part in conjuncts(check) for fact in _facts(part)}
    keys = {parent.key[0]} if parent and parent.key[0] else {column for column, _, _ in facts}
    return any(_proves(key, wanted, facts, partition, known=parent is not None) for key in keys)


def partition_check(parent: Optional[Relation], bound: Node) -> str:
    """The condition that proves it, for the rewrite."""
    key = parent.key[0] if parent and len(parent.key) == 1 and parent.key[0] else "KEY"
    parts = [f"{key} IS NOT NULL"]
    for operator, values in _wanted(bound):
        shown = [value if value.lstrip("-").replace(".", "", 1).isdigit() else f"'{value}'" for value in sorted(values)]
        parts.append(f"{key} IN ({', '.join(shown)})" if operator == "=" else f"{key} {operator} {shown[0]}")
    return " AND ".join(parts) if len(parts) > 1 else "…"


_Wanted = list[tuple[str, frozenset[str]]]


def _wanted(bound: Node) -> _Wanted:
    """(operator, values) that the bounds stand for; empty for hash partitions and for keys of several columns."""
    if bound.listdatums:
        values = [text_of(item) for item in bound.listdatums]
        return [] if None in values else [("=", frozenset(str(value) for value in values))]
    if not bound.lowerdatums or len(bound.lowerdatums) != 1:
        return []
    ends = [(">=", bound.lowerdatums[0]), ("<", bound.upperdatums[0])]
    # MINVALUE and MAXVALUE come as names, and ask for nothing.
    return [(operator, frozenset((str(text_of(end)),))) for operator, end in ends if text_of(end) is not None]


def _facts(part: Node) -> list[tuple[str, str, frozenset[str]]]:
    """(column, operator, values) that a part of a CHECK says."""
    if not isinstance(part, ast.A_Expr):
        return []
    operator = part.name[-1].sval
    column, right = column_of(part.lexpr), part.rexpr
    if column is None:
        column, right, operator = column_of(part.rexpr), part.lexpr, _TURNED.get(operator, "")
    if column is None:
        return []
    if part.kind == A_Expr_Kind.AEXPR_BETWEEN:
        low, high = (text_of(item) for item in part.rexpr)
        return [(column, ">=", frozenset((str(low),))), (column, "<=", frozenset((str(high),)))]
    items = _values(right)
    values = [text_of(item) for item in items]
    return [] if None in values else [(column, operator, frozenset(str(value) for value in values))]


def _values(right: Node) -> list[Node]:
    """The values behind ``=``, ``IN`` and ``= ANY (ARRAY[…])``."""
    if isinstance(right, tuple):
        return list(right)
    if isinstance(right, ast.TypeCast) and isinstance(right.arg, ast.A_ArrayExpr):
        right = right.arg
    return list(right.elements or ()) if isinstance(right, ast.A_ArrayExpr) else [right]


def _proves(
    key: str, wanted: _Wanted, facts: set[tuple[str, str, frozenset[str]]], partition: Relation, known: bool
) -> bool:
    if known and not proven(partition, key):
        return False
    return all(
        any(column == key and _implies(said, values, operator, needed) for column, said, values in facts)
        for operator, needed in wanted
    )


def _implies(said: str, values: frozenset[str], operator: str, needed: frozenset[str]) -> bool:
    if operator == "=":
        return said == "=" and values <= needed
    return said == operator and values == needed
