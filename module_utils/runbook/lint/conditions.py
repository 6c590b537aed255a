# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions that hold for every row, or for none, whatever the rows are."""

from __future__ import annotations

import operator
from decimal import Decimal, InvalidOperation
from typing import Any, Callable, Optional

from ansible.module_utils.runbook.lint.nodes import Node, sql, text_of
from pglast import ast
from pglast.enums import A_Expr_Kind, BoolExprType, BoolTestType, NullTestType

Filled = Callable[[Node], Optional[bool]]
"""Whether a column, given as its ColumnRef, is without NULL; None where nobody knows."""

_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WITH_ITSELF = {"=": True, "<=": True, ">=": True, "<>": False, "<": False, ">": False}
_OF_TEXT = ("=", "<>")  # the order of texts depends on the collation
_TESTS = {
    BoolTestType.IS_TRUE: True,
    BoolTestType.IS_NOT_FALSE: True,
    BoolTestType.IS_FALSE: False,
    BoolTestType.IS_NOT_TRUE: False,
}


def outcome(condition: Node, filled: Filled) -> Optional[bool]:
    """What a condition says about every row alike; None where it depends on the row, or on more than is known.

    Parameters:
        condition: the expression.
        filled: which columns are without NULL. A column that nobody knows anything of counts as filled where it is
            compared with itself, which is no way to ask for NULL, but not in ``IS NOT NULL``.
    """
    if isinstance(condition, ast.BoolExpr):
        return _combined(condition, filled)
    if isinstance(condition, ast.NullTest):
        return _tested_for_null(condition, filled)
    if isinstance(condition, ast.BooleanTest):
        inner = outcome(condition.arg, filled)
        wanted = _TESTS.get(condition.booltesttype)
        return None if inner is None or wanted is None else inner is wanted
    if isinstance(condition, ast.A_Expr):
        return _compared(condition, filled)
    return _BOOLEANS.get((text_of(condition) or "").strip().lower())


def _combined(condition: Node, filled: Filled) -> Optional[bool]:
    """AND, OR and NOT."""
    parts = [outcome(part, filled) for part in condition.args]
    if condition.boolop == BoolExprType.NOT_EXPR:
        return None if parts[0] is None else not parts[0]
    # One part that is true decides OR, one that is false AND.
    decides = bool(condition.boolop == BoolExprType.OR_EXPR)
    if decides in parts or (decides and _tests_both_ways(condition.args)):
        return decides
    return None if None in parts else not decides


def _tests_both_ways(parts: tuple[Node, ...]) -> bool:
    """Whether ``x IS NULL`` stands beside ``x IS NOT NULL``."""
    tests = {(sql(part.arg), part.nulltesttype) for part in parts if isinstance(part, ast.NullTest)}
    return len({tested for tested, _ in tests}) < len(tests)


def _tested_for_null(condition: Node, filled: Filled) -> Optional[bool]:
    known = isinstance(condition.arg, ast.ColumnRef) and filled(condition.arg)
    return bool(condition.nulltesttype == NullTestType.IS_NOT_NULL) if known else None


def _compared(condition: Node, filled: Filled) -> Optional[bool]:
    """A comparison of two constants, or of a column with itself."""
    left, right, sign = condition.lexpr, condition.rexpr, condition.name[-1].sval
    if condition.kind == A_Expr_Kind.AEXPR_LIKE:
        matches_all = sign == "~~" and text_of(right) in ("%", "%%")
        return True if matches_all and isinstance(left, ast.ColumnRef) and filled(left) else None
    if condition.kind == A_Expr_Kind.AEXPR_DISTINCT:
        sign = "<>"
    elif condition.kind not in (A_Expr_Kind.AEXPR_OP, A_Expr_Kind.AEXPR_NOT_DISTINCT):
        return None
    if isinstance(left, ast.ColumnRef) and isinstance(right, ast.ColumnRef):
        knows_null = condition.kind != A_Expr_Kind.AEXPR_OP
        same = sql(left) == sql(right) and (knows_null or filled(left) is not False)
        return _WITH_ITSELF.get(sign) if same else None
    return _constants(sign, text_of(left), text_of(right))


def _constants(sign: str, left: Optional[str], right: Optional[str]) -> Optional[bool]:
    compare = _OPERATORS.get(sign)
    if left is None or right is None or compare is None:
        return None
    try:
        return bool(compare(Decimal(left), Decimal(right)))
    except InvalidOperation:
        return bool(compare(left, right)) if sign in _OF_TEXT else None
