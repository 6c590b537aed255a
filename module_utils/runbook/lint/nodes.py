# SPDX-License-Identifier: GPL-3.0-or-later
"""Small questions to PostgreSQL's parse trees, as pglast shows them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional

from pglast import ast
from pglast.enums import BoolExprType, ConstrType, NullTestType
from pglast.stream import RawStream

Node = Any
"""A node of a parse tree; pglast has one class for each of PostgreSQL's several hundred."""


_ATTRIBUTES = (
    ConstrType.CONSTR_ATTR_DEFERRABLE,
    ConstrType.CONSTR_ATTR_NOT_DEFERRABLE,
    ConstrType.CONSTR_ATTR_DEFERRED,
    ConstrType.CONSTR_ATTR_IMMEDIATE,
    ConstrType.CONSTR_ATTR_ENFORCED,
    ConstrType.CONSTR_ATTR_NOT_ENFORCED,
)


class Name(NamedTuple):
    """A possibly qualified name; ``schema`` is empty where the SQL leaves it out."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True)
class Type:
    """A column's type: its name without ``pg_catalog``, its modifiers such as a length, and whether it is an array."""

    name: str
    modifiers: tuple[int, ...] = ()
    array: bool = False

    def __str__(self) -> str:
        modifiers = f"({', '.join(map(str, self.modifiers))})" if self.modifiers else ""
        return f"{self.name}{modifiers}{'[]' if self.array else ''}"


def walk(tree: Node) -> Iterator[Node]:
    """Every node of a tree, parents first."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Node):
            yield node
            waiting.extend(getattr(node, slot) for slot in reversed(node.__slots__))
        elif isinstance(node, tuple):
            waiting.extend(reversed(node))


def relation_name(relation: Node) -> Name:
    """The name of a RangeVar."""
    return Name(relation.schemaname or "", relation.relname)


def is_temporary(relation: Node) -> bool:
    """Whether a RangeVar is that of a temporary table that is made."""
    return bool(relation.relpersistence == "t" or relation.schemaname == "pg_temp")


def listed_name(names: Node) -> Name:
    """The name in a list of strings, such as that of a function; a type's name comes with its TypeName."""
    if isinstance(names, ast.TypeName):
        names = names.names
    elif isinstance(names, ast.ObjectWithArgs):
        names = names.objname
    strings = [names] if isinstance(names, ast.String) else [part for part in names if isinstance(part, ast.String)]
    parts = [part.sval for part in strings] or ["it"]  # a cast, for one, is named by two types
    return Name(parts[-2] if len(parts) > 1 else "", parts[-1])


def type_of(type_name: Node) -> Type:
    """What a TypeName says; a column of a typed table has none, and gets a type without a name."""
    if type_name is None:
        return Type("")
    names = [part.sval for part in type_name.names]
    name = names[-1] if len(names) == 1 or names[0] == "pg_catalog" else ".".join(names)
    modifiers = tuple(
        item.val.ival
        for item in type_name.typmods or ()
        if isinstance(item, ast.A_Const) and isinstance(item.val, ast.Integer)
    )
    return Type(name, modifiers, bool(type_name.arrayBounds))


def constraints(column: Node, *kinds: ConstrType) -> list[Node]:
    """The constraints of a ColumnDef that are of one of these kinds, but for those NOT ENFORCED: nobody checks them."""
    items = column.constraints or ()
    return [item for at, item in enumerate(items, start=1) if item.contype in kinds and _is_enforced(items[at:])]


def _is_enforced(following: tuple[Node, ...]) -> bool:
    """Whether a column's constraint is enforced, by what follows it: its attributes are items of their own."""
    attributes = itertools.takewhile(lambda item: item.contype in _ATTRIBUTES, following)
    return all(item.contype != ConstrType.CONSTR_ATTR_NOT_ENFORCED for item in attributes)


def has_option(options: Node, name: str) -> bool:
    """Whether a list of options such as ``(FULL, ANALYZE off)`` switches one on, the way ``defGetBoolean`` reads it."""
    found = False
    for option in options or ():
        if option.defname == name:
            found = option.arg is None or str(text_of(option.arg)).lower() not in ("false", "off", "0", "no")
    return found


def text_of(value: Node) -> Optional[str]:
    """The text of a constant, casts removed; None for everything that is computed."""
    if isinstance(value, ast.TypeCast):
        return text_of(value.arg)
    if isinstance(value, ast.A_Const):
        return None if value.isnull else text_of(value.val)
    if isinstance(value, ast.String):
        return str(value.sval)
    if isinstance(value, ast.Integer):
        return str(value.ival)
    if isinstance(value, ast.Float):
        return str(value.fval)
    if isinstance(value, ast.Boolean):
        return "true" if value.boolval else "false"
    return None


def is_null(value: Node) -> bool:
    """Whether a value is the constant NULL, casts removed."""
    return is_null(value.arg) if isinstance(value, ast.TypeCast) else isinstance(value, ast.A_Const) and value.isnull


def column_of(expression: Node) -> Optional[str]:
    """The column that an expression is nothing but, casts removed; None for every other expression."""
    if isinstance(expression, ast.TypeCast):
        return column_of(expression.arg)
    if isinstance(expression, ast.ColumnRef) and isinstance(expression.fields[-1], ast.String):
        return str(expression.fields[-1].sval)
    return None


def conjuncts(expression: Node) -> list[Node]:
    """The parts of ``a AND b AND c``."""
    if isinstance(expression, ast.BoolExpr) and expression.boolop == BoolExprType.AND_EXPR:
        return [part for argument in expression.args for part in conjuncts(argument)]
    return [expression]


def not_null_columns(expression: Node) -> set[str]:
    """The columns that a CHECK proves to be without NULL."""
    tests = [_null_test(part) for part in conjuncts(expression)]
    return {str(column_of(test.arg)) for test in tests if test is not None and column_of(test.arg)}


def _null_test(part: Node) -> Node:
    """The test of ``x IS NOT NULL`` and of ``NOT (x IS NULL)``, None for everything else."""
    wanted = NullTestType.IS_NOT_NULL
    if isinstance(part, ast.BoolExpr) and part.boolop == BoolExprType.NOT_EXPR:
        part, wanted = part.args[0], NullTestType.IS_NULL
    return part if isinstance(part, ast.NullTest) and part.nulltesttype == wanted else None


def configured(call: Node) -> Optional[tuple[str, str]]:
    """The setting and the value of a call of set_config(), None for everything else."""
    if not isinstance(call, ast.FuncCall) or listed_name(call.funcname).name != "set_config":
        return None
    given = [text_of(argument) for argument in (call.args or ())[:2]]
    return None if None in given or len(given) < 2 else (str(given[0]).lower(), str(given[1]))


def sql(node: Node) -> str:
    """A node as SQL again, in one line."""
    return re.sub(r"\s+", " ", str(RawStream()(node)))
