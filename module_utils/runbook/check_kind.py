# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of checks that can be written, the options of each, and how one entry is read.

An entry is what stands in ``db/checks/*.yml`` or in ``validate_checks``: a mapping with a name, one kind and what is
common to all of them. ``read`` refuses whatever it does not understand, since a check that is silently not made looks
like one that is passed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ansible.module_utils.runbook import check_value as value
from ansible.module_utils.runbook.check import DATA, ERROR, LOGS, PERFORMANCE, SCHEMA, SEVERITIES, SMOKE, Check
from ansible.module_utils.runbook.check_value import Reader
from ansible.module_utils.runbook.errors import RunbookError

CODE = "check-file"


@dataclass(frozen=True)
class Option:
    """One option of a kind.

    Parameters:
        read: turns what is written into what is used; raises ``ValueError`` with what is wanted instead.
        default: what it is when it is not written.
        required: whether it has to be.
    """

    read: Reader
    default: Any = None
    required: bool = False


@dataclass(frozen=True)
class Kind:
    """A kind of checks.

    Parameters:
        group: what it looks at.
        options: by name.
        main: the option that is meant when a value is written instead of options; empty when there is none.
        one_of: options of which at least one has to be given.
        rule: what is wrong with the options together; empty when nothing is.
    """

    group: str
    options: Mapping[str, Option]
    main: str = ""
    one_of: tuple[str, ...] = ()
    rule: Callable[[Mapping[str, Any]], str] = lambda options: ""


def _same_length(options: Mapping[str, Any]) -> str:
    """A reference has as many columns on both sides."""
    return "" if len(options["columns"]) == len(options["to_columns"]) else "columns and to_columns differ in number"


def _needed(read: Reader) -> Option:
    return Option(read, required=True)


_LIMITS = {"equals": Option(value.scalar), "at_least": Option(value.scalar), "at_most": Option(value.scalar)}

KINDS: dict[str, Kind] = {
    "tables": Kind(SCHEMA, {"names": _needed(value.relations)}, main="names"),
    "views": Kind(SCHEMA, {"names": _needed(value.relations)}, main="names"),
    "columns": Kind(
        SCHEMA,
        {"table": _needed(value.relation), "have": _needed(value.texts_by_name), "only": Option(value.flag, False)},
    ),
    "indexes": Kind(
        SCHEMA,
        {
            "names": _needed(value.relations),
            "table": Option(value.relation),
            "unique": Option(value.flag, False),
        },
        main="names",
    ),
    "constraints": Kind(SCHEMA, {"table": _needed(value.relation), "have": _needed(value.definitions)}),
    "comments": Kind(
        SCHEMA,
        {
            "schema": Option(value.name),
            "tables": Option(value.relations, []),
            "of": Option(
                value.choices("tables", "columns", "indexes", "constraints", "functions"), ["tables", "columns"]
            ),
            "except": Option(value.relations, []),
        },
        main="schema",
        one_of=("schema", "tables"),
    ),
    "owner": Kind(
        SCHEMA,
        {"schema": Option(value.name), "tables": Option(value.relations, []), "role": Option(value.name)},
        main="schema",
        one_of=("schema", "tables"),
    ),
    "grants": Kind(
        SCHEMA,
        {
            "tables": _needed(value.relations),
            "role": _needed(value.name),
            "may": Option(value.privileges, []),
            "may_not": Option(value.privileges, []),
        },
        one_of=("may", "may_not"),
    ),
    "no_rows": Kind(DATA, {"query": _needed(value.query)}, main="query"),
    "value": Kind(DATA, {"query": _needed(value.query), **_LIMITS}, main="query"),
    "count": Kind(
        DATA, {"table": _needed(value.relation), "where": Option(value.condition), **_LIMITS}, one_of=tuple(_LIMITS)
    ),
    "range": Kind(
        DATA,
        {
            "table": _needed(value.relation),
            "column": _needed(value.name),
            "at_least": Option(value.scalar),
            "at_most": Option(value.scalar),
            "nulls": Option(value.flag, True),
        },
        one_of=("at_least", "at_most"),
    ),
    "references": Kind(
        DATA,
        {
            "table": _needed(value.relation),
            "columns": _needed(value.names),
            "to": _needed(value.relation),
            "to_columns": _needed(value.names),
        },
        rule=_same_length,
    ),
    "sequences": Kind(
        DATA,
        {"schema": Option(value.name), "tables": Option(value.relations, [])},
        main="schema",
        one_of=("schema", "tables"),
    ),
    "explain": Kind(
        PERFORMANCE,
        {
            "query": _needed(value.query),
            "max_ms": Option(value.number),
            "max_buffers": Option(value.natural),
            "no_seq_scan_over": Option(value.size),
        },
        main="query",
        one_of=("max_ms", "max_buffers", "no_seq_scan_over"),
    ),
    "sql": Kind(SMOKE, {"query": _needed(value.query)}, main="query"),
    "http": Kind(
        SMOKE,
        {
            "url": _needed(value.url),
            "status": Option(value.statuses, [200]),
            "contains": Option(value.text),
            "matches": Option(value.pattern),
            "headers": Option(value.texts_by_name, {}),
            "ca_cert": Option(value.text),
        },
        main="url",
    ),
    "tcp": Kind(SMOKE, {"address": _needed(value.address)}, main="address"),
    "command": Kind(
        SMOKE,
        {
            "argv": _needed(value.arguments),
            "status": Option(value.natural, 0),
            "contains": Option(value.text),
        },
        main="argv",
    ),
    "log": Kind(
        LOGS,
        {
            "pattern": Option(value.pattern),
            "except": Option(value.patterns, []),
            "at_most": Option(value.natural, 0),
        },
    ),
}

_COMMON: dict[str, Reader] = {
    "name": value.text,
    "severity": value.choice(*SEVERITIES),
    "timeout": value.limit,
    "since": value.natural,
    "until": value.natural,
}


def read(entry: object, where: str) -> Check:
    """Read one entry.

    Parameters:
        entry: what stands there.
        where: file and line, for the message and for the outcome.

    Raises:
        RunbookError: ``check-file`` for anything that cannot be meant, naming the place and the offending value.
    """
    if not isinstance(entry, Mapping):
        raise refusal(where, "", f"{entry!r} is no check: it has to be a mapping with a name and one kind")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip():
        raise refusal(where, "", "a check has no name. Say in a few words what has to be true")
    kind = _kind_of(entry, where, name)
    common = {key: _value(_COMMON[key], key, entry[key], where, name) for key in _COMMON if key in entry}
    if common.get("until") is not None and common["until"] < common.get("since", 0):
        raise refusal(where, name, f"until {common['until']} is before since {common['since']}: it would never be made")
    return Check(
        name=common["name"],
        kind=kind,
        options=_options(kind, entry[kind], where, name),
        severity=common.get("severity", ERROR),
        timeout=common.get("timeout"),
        since=common.get("since"),
        until=common.get("until"),
        where=where,
    )


def refuse_twins(checks: Iterable[Check]) -> None:
    """See that each name is used once: reports tell checks apart by it.

    Raises:
        RunbookError: ``check-file``, naming both places.
    """
    seen: dict[str, Check] = {}
    for check in checks:
        first = seen.setdefault(check.name, check)
        if first is not check:
            raise refusal(
                check.where, check.name, f"{first.where} has a check of that name already. Rename one of them"
            )


def refusal(where: str, name: str, sentence: str) -> RunbookError:
    """A check that cannot be meant, as an error; ``sentence`` goes without its full stop."""
    about = f"{where}, check {name!r}: " if name else f"{where}: "
    end = "" if sentence.endswith("?") else "."
    return RunbookError(f"{about}{sentence}{end} docs/checks.md lists what a check can say.", code=CODE, where=where)


def _kind_of(entry: Mapping[Any, Any], where: str, name: str) -> str:
    kinds = [key for key in entry if key in KINDS]
    unknown = [str(key) for key in entry if key not in KINDS and key not in _COMMON]
    if unknown:
        raise refusal(
            where, name, f"{unknown[0]!r} is no kind and no option of a check{_meant(unknown[0], [*KINDS, *_COMMON])}"
        )
    if len(kinds) != 1:
        said = f"it is of several kinds, {' and '.join(kinds)}; make it one check each" if kinds else "it has no kind"
        raise refusal(where, name, said)
    return str(kinds[0])


def _options(kind: str, given: object, where: str, name: str) -> dict[str, Any]:
    known = KINDS[kind]
    options = _spelled_out(known, given)
    if options is None:
        raise refusal(where, name, f"{kind} is {given!r}, and has to be a mapping of {', '.join(known.options)}")
    for key in options:
        if key not in known.options:
            raise refusal(where, name, f"{key!r} is no option of {kind}{_meant(str(key), known.options)}")
    missing = [key for key, option in known.options.items() if option.required and key not in options]
    if missing:
        raise refusal(where, name, f"{kind} lacks {' and '.join(missing)}")
    if known.one_of and not any(key in options for key in known.one_of):
        raise refusal(where, name, f"{kind} lacks one of {', '.join(known.one_of)}")
    complete = {
        key: _value(option.read, f"{kind}.{key}", options[key], where, name) if key in options else option.default
        for key, option in known.options.items()
    }
    problem = known.rule(complete)
    if problem:
        raise refusal(where, name, f"{kind}: {problem}")
    return complete


def _spelled_out(kind: Kind, given: object) -> Mapping[Any, Any] | None:
    if isinstance(given, Mapping):
        return given
    if kind.main and given is not None:
        return {kind.main: given}
    return {} if given is None and not any(option.required for option in kind.options.values()) else None


def _value(read: Reader, key: str, given: object, where: str, name: str) -> Any:
    try:
        return read(given)
    except ValueError as error:
        raise refusal(where, name, f"{key} is {given!r}, and has to be {error}") from error


def _meant(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
