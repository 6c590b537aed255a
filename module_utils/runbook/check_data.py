# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the data: queries that must return no rows, values, counts, ranges, orphans, sequences behind their data.

A check's own SQL is never sent alone. It stands in parentheses inside a question of ours that has a bound parameter:
with one, the server takes a single statement only (PostgreSQL documentation, "Extended Query"), so that nothing in
there can end the transaction that it has to stay in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Callable

from ansible.module_utils.runbook import facts
from ansible.module_utils.runbook.check import Check, Finding, counted, listed, shown
from ansible.module_utils.runbook.check_schema import dotted
from ansible.module_utils.runbook.ledger import identifier, literal
from ansible.module_utils.runbook.session import Session

# A row is for recognising it; more of it does not leave the server, in characters.
_ROW = 500

# What a query's rows are called; a column of that name would be taken for the row.
_ALIAS = '"row of the check"'

_COMPARISONS = {"equals": "IS NOT DISTINCT FROM", "at_least": ">=", "at_most": "<="}
_WORDS = {"equals": "", "at_least": "at least ", "at_most": "at most "}

Runner = Callable[[Session, Check, int], Finding]


def escaped(sql: str) -> str:
    """SQL for a message with bound parameters, where the driver takes ``%`` for one of them."""
    return sql.replace("%", "%%")


def _no_rows(session: Session, check: Check, rows: int) -> Finding:
    return _none(session, check.options["query"], rows, "row")


def _value(session: Session, check: Check, rows: int) -> Finding:
    return _compared(session, check.options["query"], check.options)


def _count(session: Session, check: Check, rows: int) -> Finding:
    where = f" WHERE ({check.options['where']}\n)" if check.options["where"] else ""
    return _compared(
        session, f"SELECT pg_catalog.count(*) FROM {_quoted(check.options['table'])}{where}", check.options
    )


def _compared(session: Session, query: str, options: Mapping[str, Any]) -> Finding:
    """Let the server compare: it knows the type of the value, and reads what was written as one of that type."""
    limits = {name: options[name] for name in _COMPARISONS if options[name] is not None}
    # The first condition is there for the bound parameter, since there may be no limit: then the value is only shown.
    conditions = ", ".join(["%s::boolean", *(f"v {_COMPARISONS[name]} %s" for name in limits)])
    limits = {name: str(limit).lower() if isinstance(limit, bool) else limit for name, limit in limits.items()}
    (row,) = session.query(
        f"SELECT v::text, {conditions} FROM (SELECT ({escaped(query)}\n)) AS q(v)", True, *limits.values()
    )
    found = None if row[0] is None else shown(row[0])
    wanted = " and ".join(f"{_WORDS[name]}{shown(limit)}" for name, limit in limits.items())
    if all(met is True for met in row[1:]):
        return Finding(True, f"{_said(found)}{f', {wanted} wanted' if wanted else ''}.", {"value": found})
    return Finding(False, f"It is {_said(found)}, and has to be {wanted}.", {"value": found})


def _said(value: str | None) -> str:
    return "NULL" if value is None else value


def _range(session: Session, check: Check, rows: int) -> Finding:
    """Rows that are out of range; NULL is neither less nor more, and counts only where none is allowed."""
    options, column = check.options, identifier(check.options["column"])
    wrong = [
        f"{column} {sign} {_literal(options[name])}"
        for name, sign in (("at_least", "<"), ("at_most", ">"))
        if options[name] is not None
    ]
    if not options["nulls"]:
        wrong.append(f"{column} IS NULL")
    query = f"SELECT * FROM {_quoted(options['table'])} WHERE {' OR '.join(wrong)}"
    return _none(session, query, rows, "row out of range", "rows out of range")


def _references(session: Session, check: Check, rows: int) -> Finding:
    """Rows whose columns name a row that is not there; as with a foreign key, none of them may be NULL to count."""
    options = check.options
    pairs = list(zip(options["columns"], options["to_columns"]))
    match = " AND ".join(f"t.{identifier(there)} = f.{identifier(here)}" for here, there in pairs)
    given = " AND ".join(f"f.{identifier(here)} IS NOT NULL" for here, _ in pairs)
    query = (
        f"SELECT f.* FROM {_quoted(options['table'])} AS f "
        f"WHERE {given} AND NOT EXISTS (SELECT FROM {_quoted(options['to'])} AS t WHERE {match})"
    )
    return _none(session, query, rows, "orphaned row")


def _sequences(session: Session, check: Check, rows: int) -> Finding:
    schema, tables = check.options["schema"], [dotted(name) for name in check.options["tables"]]
    every = [one for one in facts.owned_sequences(session) if one[2] == schema or f"{one[2]}.{one[3]}" in tables]
    late = list(_late(session, every))
    if late:
        said = listed(late, "; ")
        return Finding(
            False, f"Sequence {said}: inserting will fail or repeat a number. Use setval().", {"problems": late}
        )
    return Finding(True, f"{counted(len(every), 'sequence')}, all ahead of the data.", {"count": len(every)})


def _late(session: Session, every: list[tuple[Any, ...]]) -> Iterator[str]:
    for schema, sequence, table_schema, table, column, falls in every:
        edge, beyond = ("min", ">") if falls else ("max", "<")
        place = _quoted((table_schema, table))
        # Before its first number is_called is false: then last_value is the number that comes next.
        behind, stands, most = session.query(
            f"SELECT CASE WHEN s.is_called THEN s.last_value {beyond} m.v ELSE s.last_value {beyond}= m.v END, "
            f"s.last_value, m.v FROM {_quoted((schema, sequence))} AS s, "
            f"(SELECT pg_catalog.{edge}({identifier(column)})::bigint AS v FROM {place}) AS m"
        )[0]
        if behind:
            yield f"{schema}.{sequence} stands at {stands}, and {dotted((table_schema, table))}.{column} at {most}"


def _none(session: Session, query: str, rows: int, one: str, many: str = "") -> Finding:
    """Look for rows that must not be there, as many as are shown and one more."""
    found = [
        shown(text, _ROW)
        for (text,) in session.query(
            f"SELECT pg_catalog.left(pg_catalog.to_json({_ALIAS})::text, {_ROW}) "
            f"FROM ({escaped(query)}\n) AS {_ALIAS} LIMIT %s",
            rows + 1,
        )
    ]
    if not found:
        return Finding(True, f"No {one}.", {"rows": [], "more": False})
    more = len(found) > rows
    number = f"More than {counted(rows, one, many)}" if more and rows else counted(len(found), one, many)
    if more and not rows:
        number = f"There are {many or one + 's'}"
    examples = f": {'; '.join(found[:rows])}" if rows else ""
    return Finding(False, f"{number}{examples}.", {"rows": found[:rows], "more": more})


def _literal(value: Any) -> str:
    """A limit as an untyped constant, which the server reads as one of the column's type; ``now`` is one of time."""
    return literal(str(value).lower() if isinstance(value, bool) else str(value))


def _quoted(name: Any) -> str:
    return ".".join(identifier(part) for part in name)


RUNNERS: dict[str, Runner] = {
    "no_rows": _no_rows,
    "value": _value,
    "count": _count,
    "range": _range,
    "references": _references,
    "sequences": _sequences,
}
"""How each kind of this group is carried out, on a session in a read-only transaction with a time limit."""
