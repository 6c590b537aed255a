# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries of the snapshot: what is no relation, no part of one and no type."""

from __future__ import annotations

from collections.abc import Iterator

from ansible.module_utils.runbook.snapshot_sql import (
    OWN_SCHEMA,
    SCHEMA,
    Query,
    comment,
    hidden,
    in_schema,
    listed,
    named,
    not_member,
    owned,
    owner,
    privileges,
    qualified,
    reference,
    relation,
    words,
)


def queries(version: int) -> Iterator[Query]:
    """The queries for a server of this version, such as 150004."""
    yield _schemas()
    yield _extensions()
    yield _functions(version)
    yield _aggregates()
    yield _statistics()
    yield from _text_search()
    yield _event_triggers()
    yield _publications(version)
    yield from _foreign_servers()
    yield _default_privileges()


def _schemas() -> Query:
    return Query(
        SCHEMA,
        "NULL",
        f"FROM pg_namespace n WHERE {OWN_SCHEMA} AND {not_member('pg_namespace', 'n.oid')}",
        {
            "owner": "pg_get_userbyid(n.nspowner)",
            **privileges("n.nspacl", "'n'", "n.nspowner"),
            "comment": comment("pg_namespace", "n.oid"),
        },
    )


def _extensions() -> Query:
    """Whoever restores a dump becomes the owner, so that says nothing."""
    return Query(
        "'extension ' || quote_ident(o.extname)",
        "NULL",
        "FROM pg_extension o JOIN pg_namespace n ON n.oid = o.extnamespace",
        {
            "schema": "n.nspname",
            "version": "o.extversion",
            "comment": comment("pg_extension", "o.oid"),
        },
    )


_ROUTINES = words("o.prokind", f="function", p="procedure", w="window function", a="aggregate")
_ROUTINE = _ROUTINES + " || ' ' || format('%I.%I(%s)', n.nspname, o.proname, oidvectortypes(o.proargtypes))"


def _functions(version: int) -> Query:
    body = "pg_get_function_sqlbody(o.oid)" if version >= 140000 else "NULL"
    types = '(SELECT jsonb_agg(x::regtype::text ORDER BY x::regtype::text COLLATE "C") FROM unnest(o.protrftypes) AS x)'
    return Query(
        _ROUTINE,
        SCHEMA,
        in_schema("pg_proc", "pro") + " AND o.prokind <> 'a'",
        {
            "arguments": "nullif(pg_get_function_arguments(o.oid), '')",
            "returns": "pg_get_function_result(o.oid)",
            "language": "(SELECT x.lanname FROM pg_language x WHERE x.oid = o.prolang)",
            "body": body,
            "source": "nullif(o.prosrc, '')",
            "library": "o.probin",
            "volatility": words("o.provolatile", i="immutable", s="stable", v="volatile"),
            "parallel": words("o.proparallel", s="safe", r="restricted", u="unsafe"),
            "security": "CASE WHEN o.prosecdef THEN 'definer' ELSE 'invoker' END",
            "on null input": "CASE WHEN o.proisstrict THEN 'returns null' ELSE 'called' END",
            "leakproof": "o.proleakproof",
            "cost": "o.procost",
            "rows": "nullif(o.prorows, 0)",
            "config": listed("o.proconfig"),
            "support function": reference("o.prosupport", "regprocedure"),
            "transforms": types,
            **owned("pro", "f"),
            "comment": comment("pg_proc", "o.oid"),
        },
    )


def _aggregates() -> Query:
    functions = {
        "transition function": "aggtransfn", "final function": "aggfinalfn", "combine function": "aggcombinefn",
        "serial function": "aggserialfn", "deserial function": "aggdeserialfn",
        "moving transition function": "aggmtransfn", "moving inverse function": "aggminvtransfn",
        "moving final function": "aggmfinalfn",
    }  # fmt: skip
    return Query(
        _ROUTINE,
        SCHEMA,
        in_schema("pg_proc", "pro").replace("pg_proc o", "pg_proc o JOIN pg_aggregate a ON a.aggfnoid = o.oid", 1),
        {
            "arguments": "nullif(pg_get_function_arguments(o.oid), '')",
            "returns": "pg_get_function_result(o.oid)",
            **{name: reference(f"a.{column}", "regprocedure") for name, column in functions.items()},
            "kind": words("a.aggkind", n="normal", o="ordered set", h="hypothetical set"),
            "direct arguments": "nullif(a.aggnumdirectargs, 0)",
            "final function modifies": words("a.aggfinalmodify", r="read only", s="shareable", w="read write"),
            "moving final function modifies": words("a.aggmfinalmodify", r="read only", s="shareable", w="read write"),
            "final function takes extra arguments": "a.aggfinalextra",
            "moving final function takes extra arguments": "a.aggmfinalextra",
            "state type": reference("a.aggtranstype", "regtype"),
            "state space": "nullif(a.aggtransspace, 0)",
            "initial value": "a.agginitval",
            "moving state type": reference("a.aggmtranstype", "regtype"),
            "moving state space": "nullif(a.aggmtransspace, 0)",
            "moving initial value": "a.aggminitval",
            "sort operator": reference("a.aggsortop", "regoperator"),
            "parallel": words("o.proparallel", s="safe", r="restricted", u="unsafe"),
            **owned("pro", "f"),
            "comment": comment("pg_proc", "o.oid"),
        },
    )


def _statistics() -> Query:
    return Query(
        named("statistics", "stx"),
        relation("o.stxrelid"),
        in_schema("pg_statistic_ext", "stx") + f" AND {not_member('pg_class', 'o.stxrelid')}",
        {
            "definition": "pg_get_statisticsobjdef(o.oid)",
            # -1 until PostgreSQL 16, NULL from 17 on, both for the default.
            "statistics": "nullif(o.stxstattarget, -1)",
            **owner("stx"),
            "comment": comment("pg_statistic_ext", "o.oid"),
        },
    )


def _text_search() -> Iterator[Query]:
    dictionaries = """(SELECT jsonb_agg(m.line ORDER BY m.line COLLATE "C") FROM (
        SELECT t.alias || ': ' || string_agg(k.mapdict::regdictionary::text, ', ' ORDER BY k.mapseqno)
          FROM pg_ts_config_map k JOIN ts_token_type(o.cfgparser) t ON t.tokid = k.maptokentype
         WHERE k.mapcfg = o.oid GROUP BY t.alias) AS m (line))"""
    yield Query(
        named("text search configuration", "cfg"),
        SCHEMA,
        in_schema("pg_ts_config", "cfg"),
        {
            "parser": qualified("pg_ts_parser", "prs", "o.cfgparser"),
            "mappings": dictionaries,
            **owner("cfg"),
            "comment": comment("pg_ts_config", "o.oid"),
        },
    )
    yield Query(
        named("text search dictionary", "dict"),
        SCHEMA,
        in_schema("pg_ts_dict", "dict"),
        {
            "template": qualified("pg_ts_template", "tmpl", "o.dicttemplate"),
            "options": "o.dictinitoption",
            **owner("dict"),
            "comment": comment("pg_ts_dict", "o.oid"),
        },
    )


def _event_triggers() -> Query:
    return Query(
        "'event trigger ' || quote_ident(o.evtname)",
        "NULL",
        f"FROM pg_event_trigger o WHERE {not_member('pg_event_trigger', 'o.oid')}",
        {
            "event": "o.evtevent",
            "function": reference("o.evtfoid", "regprocedure"),
            "tags": listed("o.evttags"),
            "fires": words("o.evtenabled", D="disabled", R="replica", A="always"),
            **owner("evt"),
            "comment": comment("pg_event_trigger", "o.oid"),
        },
    )


def _publications(version: int) -> Query:
    """Column lists, row filters and whole schemas are there since PostgreSQL 15, generated columns since 18."""
    columns = """coalesce((SELECT ' (' || string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) || ')'
        FROM pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)), '')
        || coalesce(' WHERE ' || pg_get_expr(r.prqual, r.prrelid), '')"""
    details = columns if version >= 150000 else "''"
    schemas = """(SELECT jsonb_agg(quote_ident(q.nspname) ORDER BY q.nspname COLLATE "C")
        FROM pg_publication_namespace x JOIN pg_namespace q ON q.oid = x.pnnspid WHERE x.pnpubid = o.oid)"""
    return Query(
        "'publication ' || quote_ident(o.pubname)",
        "NULL",
        f"FROM pg_publication o WHERE {not_member('pg_publication', 'o.oid')}",
        {
            "publishes": "concat_ws(', ', CASE WHEN o.pubinsert THEN 'insert' END, CASE WHEN o.pubupdate"
            " THEN 'update' END, CASE WHEN o.pubdelete THEN 'delete' END, CASE WHEN o.pubtruncate THEN 'truncate' END)",
            "all tables": "o.puballtables",
            "via partition root": "o.pubviaroot",
            "generated columns": words("o.pubgencols", s="stored") if version >= 180000 else "NULL",
            "tables": f"""(SELECT jsonb_agg(t.line ORDER BY t.line COLLATE "C") FROM (
                SELECT r.prrelid::regclass::text || {details}
                  FROM pg_publication_rel r WHERE r.prpubid = o.oid) AS t (line))""",
            "schemas": schemas if version >= 150000 else "NULL",
            **owner("pub"),
            "comment": comment("pg_publication", "o.oid"),
        },
    )


def _foreign_servers() -> Iterator[Query]:
    """Not the user mappings: those are full of passwords."""
    wrapper = "foreign data wrapper"
    yield Query(
        f"'{wrapper} ' || quote_ident(o.fdwname)",
        "NULL",
        f"FROM pg_foreign_data_wrapper o WHERE {not_member('pg_foreign_data_wrapper', 'o.oid')}",
        {
            "handler": reference("o.fdwhandler", "regprocedure"),
            "validator": reference("o.fdwvalidator", "regprocedure"),
            "options": hidden("o.fdwoptions"),
            **owned("fdw", "F"),
            "comment": comment("pg_foreign_data_wrapper", "o.oid"),
        },
    )
    yield Query(
        "'server ' || quote_ident(o.srvname)",
        "NULL",
        f"FROM pg_foreign_server o WHERE {not_member('pg_foreign_server', 'o.oid')}",
        {
            wrapper: "(SELECT x.fdwname FROM pg_foreign_data_wrapper x WHERE x.oid = o.srvfdw)",
            "type": "o.srvtype",
            "version": "o.srvversion",
            "options": hidden("o.srvoptions"),
            **owned("srv", "S"),
            "comment": comment("pg_foreign_server", "o.oid"),
        },
    )


def _default_privileges() -> Query:
    """Those for a whole database replace the built-in ones, those for a schema add to them.

    ``acldefault`` knows sequences by another letter than pg_default_acl does.
    """
    kind = "CASE o.defaclobjtype WHEN 'S' THEN 's'::\"char\" ELSE o.defaclobjtype END"
    whole = privileges("o.defaclacl", kind, "o.defaclrole")
    part = privileges("o.defaclacl", "'c'", "o.defaclrole")  # by itself, nothing holds for a column
    kinds = words(
        "o.defaclobjtype", r="tables", S="sequences", f="functions", T="types", n="schemas", L="large objects"
    )
    return Query(
        "format('default privileges of %I%s for ', pg_get_userbyid(o.defaclrole), coalesce(' in '"
        f" || quote_ident(n.nspname), '')) || {kinds}",
        f"CASE WHEN n.oid IS NOT NULL THEN {SCHEMA} END",
        "FROM pg_default_acl o LEFT JOIN pg_namespace n ON n.oid = o.defaclnamespace",
        {
            name: f"CASE WHEN n.oid IS NULL THEN {whole[name]} ELSE {part[name]} END"
            for name in ("privileges", "revoked privileges")
        },
    )
