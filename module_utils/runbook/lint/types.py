# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes of a column make PostgreSQL write the table anew."""

from __future__ import annotations

from typing import Optional

from ansible.module_utils.runbook.lint.nodes import Node, Type, constraints, listed_name, type_of, walk
from ansible.module_utils.runbook.lint.series import Series
from pglast import ast
from pglast.enums import ConstrType

_SERIAL = ("smallserial", "serial2", "serial", "serial4", "bigserial", "serial8")
_STRINGS = ("text", "varchar")
_LENGTH_IS_A_LIMIT = ("varchar", "varbit")
_PRECISION_IS_A_LIMIT = ("timestamp", "timestamptz", "time", "timetz")

# Functions that give one value within a statement (provolatile i or s in pg_proc): those that defaults use.
# What is missing here is taken for volatile, as CREATE FUNCTION does.
_STEADY = frozenset(
    """
    abs age array_append array_cat array_fill array_length array_prepend array_to_string bit_length btrim
    cardinality ceil ceiling char_length character_length chr concat concat_ws convert_from convert_to
    current_database current_schema current_setting current_user date date_part date_trunc daterange decode div
    encode exp extract floor format inet_client_addr inet_server_addr initcap int4range int8range interval
    json_build_array json_build_object json_object jsonb_build_array jsonb_build_object jsonb_object justify_days
    justify_hours justify_interval left length ln log lower lpad ltrim make_date make_interval make_time
    make_timestamp make_timestamptz md5 mod now numrange octet_length overlay pg_backend_pid pg_current_xact_id
    position power quote_ident quote_literal regexp_replace repeat replace reverse right round row_to_json rpad
    rtrim session_user sha224 sha256 sha384 sha512 sign split_part sqrt statement_timestamp string_to_array strpos
    substr substring text timezone to_char to_date to_json to_jsonb to_number to_timestamp transaction_timestamp
    translate trunc tsrange tstzrange txid_current upper version width_bucket xpath
    """.split()  # noqa: SIM905 # a list of a hundred strings is no easier to read
)


def same_on_disk(old: Type, new: Type) -> bool:
    """Whether values of the old type are values of the new one, byte for byte, without a look at them.

    What ``ATColumnChangeRequiresRewrite`` (``tablecmds.c``) and the support functions of the types find out:
    ``varchar_support``, ``numeric_support``, ``varbit_support``, ``TemporalSimplify``, ``interval_support``.
    """
    if old == new:
        return True
    if old.array or new.array:
        return False
    if old.name in _STRINGS and new.name in _STRINGS:
        return not new.modifiers or (old.name == new.name and _within(old, new))
    if old.name != new.name:
        return (old.name, new.name) == ("cidr", "inet")
    if old.name in _LENGTH_IS_A_LIMIT:
        return _within(old, new)
    if old.name in _PRECISION_IS_A_LIMIT:
        return (old.modifiers or (6,))[0] <= (new.modifiers or (6,))[0]
    if old.name == "numeric":
        return not new.modifiers or _same_scale(old, new)
    return old.name == "interval" and not new.modifiers


def _within(old: Type, new: Type) -> bool:
    return not new.modifiers or (bool(old.modifiers) and old.modifiers[0] <= new.modifiers[0])


def _same_scale(old: Type, new: Type) -> bool:
    if not old.modifiers:
        return False
    (old_precision, old_scale), (new_precision, new_scale) = (*old.modifiers, 0)[:2], (*new.modifiers, 0)[:2]
    return old_scale == new_scale and old_precision <= new_precision


def rewrite_reason(column: Node, series: Series) -> str:
    """Why adding a column rewrites the table, as a half sentence; empty when it does not.

    Since PostgreSQL 11 a default that is the same for all rows is stored once, in the catalog.
    """
    kind = type_of(column.typeName)
    if kind.name in _SERIAL:
        return f"{kind} takes a number for each row"
    if constraints(column, ConstrType.CONSTR_IDENTITY):
        return "an identity column takes a number for each row"
    for item in constraints(column, ConstrType.CONSTR_GENERATED):
        # generated_kind is 's' or, from PostgreSQL 18 on, 'v' for virtual columns, which are never stored.
        return "" if item.generated_kind == "v" else "a stored generated column is computed for each row"
    domain = series.thing("type", listed_name(column.typeName))
    if domain and domain.constrained and not kind.array:
        return f"domain {kind} has a constraint that is checked for each row"
    for item in constraints(column, ConstrType.CONSTR_DEFAULT):
        function = _volatile_function(item.raw_expr, series)
        return f"its default calls {function}(), which may give another value for each row" if function else ""
    return ""


def _volatile_function(expression: Node, series: Series) -> Optional[str]:
    for node in walk(expression):
        if isinstance(node, ast.FuncCall):
            name = listed_name(node.funcname)
            made = series.thing("function", name)
            steady = made.volatility in ("immutable", "stable") if made else name.name in _STEADY
            if not steady:
                return str(name)
    return None
