# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the schema: what has to be there, of which type, valid, commented, whose, and open to whom."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Callable

from ansible.module_utils.runbook.check import Check, Finding, counted, listed
from ansible.module_utils.runbook.check_catalog import TABLE_KINDS, VIEW_KINDS, Catalog, Column, Name, Relation

# How types may be written, and how the server writes them (PostgreSQL documentation, "Data Types").
_ALIASES = {
    "int": "integer",
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "smallserial": "smallint",
    "serial": "integer",
    "bigserial": "bigint",
    "bool": "boolean",
    "float": "double precision",
    "float4": "real",
    "float8": "double precision",
    "decimal": "numeric",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "varbit": "bit varying",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
}
_TYPE = re.compile(
    r"(?P<name>[^(\[]+?)\s*(?P<modifier>\([\d,\s-]+\))?\s*(?P<zone>with(?:out)? time zone)?\s*(?P<array>(?:\[\])*)"
)
_NULLS = re.compile(r"^(?P<type>.*?)(?:\s+(?P<not>not\s+)?null)?$", re.IGNORECASE | re.DOTALL)

# As in pg_class.relkind.
_KINDS = {
    "r": "table",
    "p": "table",
    "f": "foreign table",
    "v": "view",
    "m": "materialized view",
    "S": "sequence",
}

Runner = Callable[[Catalog, Check], Finding]


def schemas_of(check: Check) -> Iterator[str]:
    """The schemas that a check is about."""
    options = check.options
    for key in ("names", "tables"):
        yield from (schema for schema, _ in options.get(key) or ())
    if options.get("table"):
        yield options["table"][0]
    if options.get("schema"):
        yield options["schema"]


def _tables(catalog: Catalog, check: Check) -> Finding:
    return _there(catalog, check, TABLE_KINDS, "table")


def _views(catalog: Catalog, check: Check) -> Finding:
    return _there(catalog, check, VIEW_KINDS, "view")


def _there(catalog: Catalog, check: Check, kinds: frozenset[str], word: str) -> Finding:
    wanted = _names(check.options["names"])
    there = catalog.relations()
    missing = [name for name in wanted if name not in there or there[name].kind not in kinds]
    if missing:
        return _wrong([f"{word} {dotted(name)} is missing" for name in missing])
    return Finding(True, f"{counted(len(wanted), word)}.", {"count": len(wanted)})


def _columns(catalog: Catalog, check: Check) -> Finding:
    table = _name(check.options["table"])
    there = catalog.columns().get(table)
    if there is None:
        return _wrong([f"table {dotted(table)} is missing"])
    wanted = {_folded(name): written for name, written in check.options["have"].items()}
    problems = [problem for name, written in wanted.items() for problem in _column(name, written, there.get(name))]
    if check.options["only"]:
        problems += [f"column {name} is one too many" for name in there if name not in wanted]
    if problems:
        return _wrong(problems)
    return Finding(True, f"{counted(len(wanted), 'column')} of {dotted(table)}.", {"count": len(wanted)})


def _column(name: str, written: str, column: Column | None) -> Iterator[str]:
    if column is None:
        yield f"column {name} is missing"
        return
    match = _NULLS.match(written.strip())
    wanted = normal_type(match["type"]) if match else written
    if wanted != column.type:
        yield f"column {name} is {column.type} instead of {wanted}"
    says_null = match is not None and match["type"].strip() != written.strip()
    not_null = bool(match and match["not"])
    if says_null and not_null != column.not_null:
        yield f"column {name} {'allows' if not_null else 'refuses'} NULL"


def normal_type(written: str) -> str:
    """A type as the server writes it: ``varchar(20)`` is ``character varying(20)``, ``TIMESTAMPTZ`` its long name."""
    match = _TYPE.fullmatch(" ".join(written.split()))
    if match is None:
        return written
    name = match["name"] if '"' in match["name"] else match["name"].lower()
    full = _ALIASES.get(name, name) if not match["zone"] else f"{name} {match['zone'].lower()}"
    modifier = re.sub(r"\s", "", match["modifier"] or "")
    array = "[]" if match["array"] else ""  # the server keeps no number of dimensions
    first, separator, zone = full.partition(" with")
    if first in ("timestamp", "time") and separator:  # timestamp(3) with time zone
        return f"{first}{modifier}{separator}{zone}{array}"
    return f"{full}{modifier}{array}"


def _indexes(catalog: Catalog, check: Check) -> Finding:
    wanted, options = _names(check.options["names"]), check.options
    there = catalog.indexes()
    problems = []
    for name in wanted:
        index = there.get(name)
        if index is None:
            problems.append(f"index {dotted(name)} is missing")
            continue
        if not (index.valid and index.ready):
            problems.append(f"index {dotted(name)} is invalid, so that no query uses it: drop it and build it again")
        if options["table"] and index.table != _name(options["table"]):
            problems.append(f"index {dotted(name)} is one of {dotted(index.table)}")
        if options["unique"] and not index.unique:
            problems.append(f"index {dotted(name)} is not unique")
    return (
        _wrong(problems)
        if problems
        else Finding(True, f"{counted(len(wanted), 'index', 'indexes')}, all valid.", {"count": len(wanted)})
    )


def _constraints(catalog: Catalog, check: Check) -> Finding:
    table = _name(check.options["table"])
    if table not in catalog.relations():
        return _wrong([f"table {dotted(table)} is missing"])
    there = catalog.constraints().get(table, {})
    problems = []
    for written, definition in check.options["have"].items():
        name = _folded(written)
        constraint = there.get(name)
        if constraint is None:
            problems.append(f"constraint {name} is missing")
            continue
        if not constraint.validated:
            problems.append(f"constraint {name} is not validated: ALTER TABLE … VALIDATE CONSTRAINT looks at the rows")
        if definition and _plain(definition) != _plain(constraint.definition):
            problems.append(f"constraint {name} is {constraint.definition}")
    if problems:
        return _wrong(problems)
    number = len(check.options["have"])
    return Finding(True, f"{counted(number, 'constraint')} of {dotted(table)}, all validated.", {"count": number})


def _comments(catalog: Catalog, check: Check) -> Finding:
    excepted = set(_names(check.options["except"]))
    chosen = {name: one for name, one in _chosen(catalog, check, TABLE_KINDS | VIEW_KINDS) if name not in excepted}
    bare: list[str] = []
    looked_at = 0
    for what, name, commented in _commentable(catalog, check, chosen):
        looked_at += 1
        if not commented:
            bare.append(f"{what} {name}")
    missing = _missing(catalog, check)
    if bare or missing:
        return _wrong([*missing, *(f"{one} has no comment" for one in bare)])
    return Finding(True, f"{counted(looked_at, 'object')}, all with a comment.", {"count": looked_at})


def _commentable(catalog: Catalog, check: Check, chosen: Mapping[Name, Relation]) -> Iterator[tuple[str, str, bool]]:
    """What, name, and whether it has a comment, of everything that a check asks about."""
    of, schema = check.options["of"], check.options["schema"]
    if "tables" in of:
        for name, one in chosen.items():
            yield "view" if one.kind in VIEW_KINDS else "table", dotted(name), one.commented
    if "columns" in of:
        columns = catalog.columns()
        for name in chosen:
            for column, its in columns.get(name, {}).items():
                yield "column", f"{dotted(name)}.{column}", its.commented
    if "indexes" in of:
        for name, index in catalog.indexes().items():
            if index.table in chosen:
                yield "index", dotted(name), index.commented
    if "constraints" in of:
        for name in chosen:
            for label, constraint in catalog.constraints().get(name, {}).items():
                if constraint.type in "cfx":  # those that are an index or a column's NOT NULL are told by these
                    yield "constraint", f"{label} of {dotted(name)}", constraint.commented
    if "functions" in of:
        yield from (
            ("function", name, commented) for of_schema, name, commented in catalog.functions() if of_schema == schema
        )


def _owner(catalog: Catalog, check: Check) -> Finding:
    role, schemas = check.options["role"], catalog.schemas()
    problems = _missing(catalog, check)
    looked_at = 0
    for name, one in _chosen(catalog, check, TABLE_KINDS | VIEW_KINDS | {"S"}):
        looked_at += 1
        wanted = role or schemas.get(name[0], "")
        if one.owner != wanted:
            problems.append(f"{_KINDS[one.kind]} {dotted(name)} belongs to {one.owner} instead of {wanted}")
    if problems:
        return _wrong(problems)
    return Finding(True, f"{counted(looked_at, 'object')}, all of the right owner.", {"count": looked_at})


def _grants(catalog: Catalog, check: Check) -> Finding:
    role, there = check.options["role"], catalog.relations()
    if role != "public" and role not in catalog.roles():
        return _wrong([f"role {role} does not exist"])
    wanted = _names(check.options["tables"])
    problems = [f"table {dotted(name)} is missing" for name in wanted if name not in there]
    asked = [
        (there[name].oid, privilege, name, may)
        for name in wanted
        if name in there
        for may, privileges in ((True, check.options["may"]), (False, check.options["may_not"]))
        for privilege in privileges
    ]
    answers = _privileges(catalog, role, [(oid, privilege) for oid, privilege, _, _ in asked])
    for (_, privilege, name, may), has in zip(asked, answers):
        if has != may:
            problems.append(f"role {role} {'may not' if may else 'may'} {privilege} {dotted(name)}")
    if problems:
        return _wrong(problems)
    return Finding(True, f"{counted(len(asked), 'privilege')} of {role} as they should be.", {"count": len(asked)})


def _privileges(catalog: Catalog, role: str, asked: Sequence[tuple[int, str]]) -> list[bool]:
    """Whether a role may do each of these, in one question; what it may through other roles counts."""
    rows = catalog.ask(
        "SELECT pg_catalog.has_table_privilege(%s, oid::oid, privilege) "
        "FROM ROWS FROM (pg_catalog.unnest(%s::bigint[]), pg_catalog.unnest(%s::text[])) WITH ORDINALITY "
        "AS asked (oid, privilege, place) ORDER BY place",
        role,
        [oid for oid, _ in asked],
        [privilege for _, privilege in asked],
    )
    return [has for (has,) in rows]


# --- what they share ----------------------------------------------------------------------------------------------


def _chosen(catalog: Catalog, check: Check, kinds: frozenset[str]) -> Iterator[tuple[Name, Relation]]:
    """The relations of a check's schema, or those that it names."""
    named = set(_names(check.options["tables"]))
    for name, one in sorted(catalog.relations().items()):
        if one.kind in kinds and (name in named or name[0] == check.options["schema"]):
            yield name, one


def _missing(catalog: Catalog, check: Check) -> list[str]:
    """What a check is about and is not there."""
    there, schema = catalog.relations(), check.options["schema"]
    missing = [f"table {dotted(name)} is missing" for name in _names(check.options["tables"]) if name not in there]
    if schema and schema not in catalog.schemas():
        missing.append(f"schema {schema} is missing")
    return missing


def _wrong(problems: Sequence[str]) -> Finding:
    said = listed(problems, "; ")
    return Finding(False, f"{said[:1].upper()}{said[1:]}.", {"problems": list(problems[:100]), "count": len(problems)})


def dotted(name: Sequence[str]) -> str:
    """A relation's name for people."""
    return ".".join(name)


def _name(parts: Sequence[str]) -> Name:
    schema, relation = parts
    return schema, relation


def _names(every: Iterable[Sequence[str]]) -> list[Name]:
    return [_name(parts) for parts in every]


def _folded(written: str) -> str:
    """A name as SQL reads it; whatever SQL would not read as one is taken as it stands."""
    if len(written) > 1 and written.startswith('"') and written.endswith('"'):
        return written[1:-1].replace('""', '"')
    return written.lower()


def _plain(definition: str) -> str:
    """A definition without what makes no difference: blanks, parentheses around it all, upper case outside strings."""
    pieces = re.split(r"('(?:[^']|'')*')", definition)
    plain = [piece if number % 2 else re.sub(r"[\s()]", "", piece).lower() for number, piece in enumerate(pieces)]
    return "".join(plain)


RUNNERS: dict[str, Runner] = {
    "tables": _tables,
    "views": _views,
    "columns": _columns,
    "indexes": _indexes,
    "constraints": _constraints,
    "comments": _comments,
    "owner": _owner,
    "grants": _grants,
}
"""How each kind of this group is carried out."""
