# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries of the snapshot: types, and what they are converted, compared and sorted by."""

from __future__ import annotations

from collections.abc import Iterator

from ansible.module_utils.runbook.snapshot_sql import (
    FIRST_OID,
    SCHEMA,
    Query,
    comment,
    in_schema,
    named,
    not_member,
    owned,
    owner,
    qualified,
    reference,
    words,
)


def queries(version: int) -> Iterator[Query]:
    """The queries for a server of this version, such as 150004."""
    yield from _types(version)
    yield _casts()
    yield _operators()
    yield from _operator_classes()
    yield _collations(version)


def _types(version: int) -> Iterator[Query]:
    """Types that tables, arrays and ranges bring along are told with these."""
    source = in_schema("pg_type", "typ")
    common = {**owned("typ", "T"), "comment": comment("pg_type", "o.oid")}
    collation = qualified("pg_collation", "coll", "o.typcollation")
    labels = """(SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = o.oid)"""
    yield Query(named("enum", "typ"), SCHEMA, source + " AND o.typtype = 'e'", {"labels": labels, **common})
    yield _domains(source, collation, common)
    yield _composite_types(source, common)
    yield Query(
        named("range type", "typ"),
        SCHEMA,
        source.replace("pg_type o", "pg_type o JOIN pg_range r ON r.rngtypid = o.oid", 1),
        {
            "subtype": reference("r.rngsubtype", "regtype"),
            "operator class": qualified("pg_opclass", "opc", "r.rngsubopc"),
            "collation": qualified("pg_collation", "coll", "r.rngcollation"),
            "canonical function": reference("r.rngcanonical", "regprocedure"),
            "difference function": reference("r.rngsubdiff", "regprocedure"),
            "multirange type": reference("r.rngmultitypid", "regtype") if version >= 140000 else "NULL",
            **common,
        },
    )
    # A shell type is a pseudo-type without a definition.
    array = "EXISTS (SELECT FROM pg_type e WHERE e.typarray = o.oid)"
    functions = {"input": "typinput", "output": "typoutput", "receive": "typreceive", "send": "typsend"}
    yield Query(
        named("type", "typ"),
        SCHEMA,
        source + f" AND (o.typtype = 'b' AND NOT {array} OR o.typtype = 'p')",
        {
            "state": "CASE WHEN NOT o.typisdefined THEN 'a shell only' END",
            **{name: reference(f"o.{column}::oid", "regprocedure") for name, column in functions.items()},
            "length": "o.typlen",
            "by value": "o.typbyval",
            "alignment": words("o.typalign", c="char", s="int2", i="int4", d="double"),
            "storage": words("o.typstorage", p="plain", e="external", m="main", x="extended"),
            "category": "o.typcategory",
            "preferred": "o.typispreferred",
            "default": "o.typdefault",
            "element": reference("o.typelem", "regtype"),
            "collation": collation,
            **common,
        },
    )


def _domains(source: str, collation: str, common: dict[str, str]) -> Query:
    checks = """(SELECT jsonb_agg({} ORDER BY k.conname COLLATE "C") FROM pg_constraint k
        WHERE k.contypid = o.oid AND k.contype = 'c' {})"""
    spoken = f"format('%I: %s', k.conname, {comment('pg_constraint', 'k.oid')})"
    some = f"AND {comment('pg_constraint', 'k.oid')} IS NOT NULL"
    base = "(SELECT b.typcollation FROM pg_type b WHERE b.oid = o.typbasetype)"
    return Query(
        named("domain", "typ"),
        SCHEMA,
        source + " AND o.typtype = 'd'",
        {
            "type": "format_type(o.typbasetype, o.typtypmod)",
            "collation": f"CASE WHEN o.typcollation <> {base} THEN {collation} END",
            "default": "o.typdefault",
            "not null": "o.typnotnull",
            "constraints": checks.format("format('%I %s', k.conname, pg_get_constraintdef(k.oid))", ""),
            "constraint comments": checks.format(spoken, some),
            **common,
        },
    )


def _composite_types(source: str, common: dict[str, str]) -> Query:
    fields = """(SELECT jsonb_agg({} ORDER BY a.attnum) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = o.typrelid AND a.attnum > 0 AND NOT a.attisdropped {})"""
    collation = qualified("pg_collation", "coll", "a.attcollation")
    definition = f"""format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod))
        || CASE WHEN a.attcollation <> t.typcollation THEN ' COLLATE ' || {collation} ELSE '' END"""
    said = comment("pg_class", "a.attrelid", "a.attnum")
    return Query(
        named("composite type", "typ"),
        SCHEMA,
        source + " AND o.typtype = 'c' AND EXISTS"
        " (SELECT FROM pg_class c WHERE c.oid = o.typrelid AND c.relkind = 'c')",
        {
            "attributes": fields.format(definition, ""),
            "attribute comments": fields.format(f"format('%I: %s', a.attname, {said})", f"AND {said} IS NOT NULL"),
            **common,
        },
    )


def _casts() -> Query:
    return Query(
        "format('cast (%s AS %s)', format_type(o.castsource, NULL), format_type(o.casttarget, NULL))",
        "NULL",
        f"FROM pg_cast o WHERE o.oid >= {FIRST_OID} AND {not_member('pg_cast', 'o.oid', 'i')}",
        {
            "function": reference("o.castfunc", "regprocedure"),
            "method": words("o.castmethod", f="function", i="input and output", b="binary"),
            "context": words("o.castcontext", e="explicit", a="assignment", i="implicit"),
            "comment": comment("pg_cast", "o.oid"),
        },
    )


def _operators() -> Query:
    functions = {"function": "oprcode", "restriction": "oprrest", "join": "oprjoin"}
    return Query(
        "'operator ' || o.oid::regoperator::text",
        SCHEMA,
        in_schema("pg_operator", "opr"),
        {
            **{name: reference(f"o.{column}::oid", "regprocedure") for name, column in functions.items()},
            "result": reference("o.oprresult", "regtype"),
            "commutator": reference("o.oprcom", "regoperator"),
            "negator": reference("o.oprnegate", "regoperator"),
            "merges": "o.oprcanmerge",
            "hashes": "o.oprcanhash",
            **owner("opr"),
            "comment": comment("pg_operator", "o.oid"),
        },
    )


def _operator_classes() -> Iterator[Query]:
    using = "(SELECT x.amname FROM pg_am x WHERE x.oid = o.{}method)"
    yield Query(
        f"{named('operator class', 'opc')} || ' using ' || {using.format('opc')}",
        SCHEMA,
        in_schema("pg_opclass", "opc"),
        {
            "type": reference("o.opcintype", "regtype"),
            "default": "o.opcdefault",
            "family": qualified("pg_opfamily", "opf", "o.opcfamily"),
            "storage": reference("o.opckeytype", "regtype"),
            **owner("opc"),
            "comment": comment("pg_opclass", "o.oid"),
        },
    )
    members = """(SELECT jsonb_agg(m.member ORDER BY m.member COLLATE "C") FROM (
        SELECT format('operator %s %s', p.amopstrategy, p.amopopr::regoperator)
               || coalesce(' for order by ' || (SELECT f.opfname FROM pg_opfamily f WHERE f.oid = p.amopsortfamily), '')
          FROM pg_amop p WHERE p.amopfamily = o.oid
        UNION ALL
        SELECT format('function %s (%s, %s) %s', p.amprocnum, format_type(p.amproclefttype, NULL),
               format_type(p.amprocrighttype, NULL), p.amproc::oid::regprocedure)
          FROM pg_amproc p WHERE p.amprocfamily = o.oid) AS m (member))"""
    yield Query(
        f"{named('operator family', 'opf')} || ' using ' || {using.format('opf')}",
        SCHEMA,
        in_schema("pg_opfamily", "opf"),
        {"members": members, **owner("opf"), "comment": comment("pg_opfamily", "o.oid")},
    )


def _collations(version: int) -> Query:
    """Not its version, which belongs to the operating system."""
    locale = "o.colllocale" if version >= 170000 else "o.colliculocale" if version >= 150000 else "NULL"
    return Query(
        named("collation", "coll"),
        SCHEMA,
        in_schema("pg_collation", "coll"),
        {
            "provider": words("o.collprovider", c="libc", i="icu", b="builtin", d="default"),
            "locale": locale,
            "collate": "o.collcollate",
            "ctype": "o.collctype",
            "rules": "o.collicurules" if version >= 160000 else "NULL",
            "deterministic": "o.collisdeterministic",
            "encoding": "CASE WHEN o.collencoding >= 0 THEN pg_encoding_to_char(o.collencoding) END",
            **owner("coll"),
            "comment": comment("pg_collation", "o.oid"),
        },
    )
