# SPDX-License-Identifier: GPL-3.0-or-later
"""Queries of the snapshot: tables, views, sequences, and what is part of them."""

from __future__ import annotations

from collections.abc import Iterator

from ansible.module_utils.runbook.snapshot_sql import (
    OWN_SCHEMA,
    SCHEMA,
    Query,
    comment,
    hidden,
    listed,
    not_member,
    privileges,
    qualified,
    relation,
    relation_kind,
    words,
)

_NAME = "format('%I.%I', n.nspname, c.relname)"
_OWNER = "pg_get_userbyid(c.relowner)"
_COMMENT = comment("pg_class", "c.oid")
_TABLESPACE = "(SELECT x.spcname FROM pg_tablespace x WHERE x.oid = c.reltablespace)"
_PERSISTENCE = words("c.relpersistence", u="unlogged")
_METHOD = "(SELECT x.amname FROM pg_am x WHERE x.oid = c.relam)"

_ALL_OPTIONS = """(SELECT jsonb_agg(o.option ORDER BY o.option COLLATE "C") FROM (
    SELECT unnest(c.reloptions) UNION ALL
    SELECT 'toast.' || unnest(t.reloptions) FROM pg_class t WHERE t.oid = c.reltoastrelid) AS o (option))"""

# Of a dropped column the catalogs keep the number, which nobody can see otherwise.
_COLUMN_ORDER = """(SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)"""

_REPLICA_IDENTITY = f"""coalesce({words("c.relreplident", n="nothing", f="full")}, (SELECT 'index ' || i.indexrelid::regclass::text
    FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'))"""  # noqa: E501

_PARENTS = """(SELECT jsonb_agg(i.inhparent::regclass::text ORDER BY i.inhseqno) FROM pg_inherits i
    WHERE i.inhrelid = c.oid AND {}c.relispartition)"""

# The relation that a relation inherits from first, which is the only one for a partition.
_PARENT = "(SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhseqno = 1)"


def queries(version: int) -> Iterator[Query]:
    """The queries for a server of this version, such as 150004."""
    yield _tables()
    yield _views()
    yield _columns(version)
    yield _view_columns(version)
    yield _indexes(version)
    yield _constraints()
    yield _triggers()
    yield _rules()
    yield _policies()
    yield _sequences()


def _relations(kinds: str) -> str:
    return (
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ({kinds}) AND {OWN_SCHEMA} AND {not_member('pg_class', 'c.oid')}"
    )


def _parts(catalog: str, column: str, kinds: str = "'r', 'p', 'f', 'v', 'm'") -> str:
    """FROM and WHERE for what is part of a relation; ``o`` is the part, ``c`` the relation."""
    return (
        f"FROM {catalog} o JOIN pg_class c ON c.oid = o.{column} JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ({kinds}) AND {OWN_SCHEMA} AND {not_member('pg_class', 'c.oid')}"
    )


def _part(kind: str, name: str) -> str:
    return f"'{kind} ' || {_NAME} || '.' || quote_ident({name})"


def _of() -> str:
    return f"{relation_kind('c.relkind')} || ' ' || {_NAME}"


def _tables() -> Query:
    return Query(
        _of(),
        SCHEMA,
        _relations("'r', 'p', 'f'"),
        {
            "owner": _OWNER,
            "persistence": _PERSISTENCE,
            "access method": _METHOD,
            "tablespace": _TABLESPACE,
            "reloptions": _ALL_OPTIONS,
            "of type": "CASE WHEN c.reloftype <> 0 THEN c.reloftype::regtype::text END",
            "inherits": _PARENTS.format("NOT "),
            "partition key": "pg_get_partkeydef(c.oid)",
            "partition of": _PARENTS.format(""),
            "partition bound": "pg_get_expr(c.relpartbound, c.oid)",
            "row security": "c.relrowsecurity",
            "row security forced": "c.relforcerowsecurity",
            "replica identity": _REPLICA_IDENTITY,
            "server": "(SELECT quote_ident(s.srvname) FROM pg_foreign_table f"
            " JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = c.oid)",
            "foreign options": f"(SELECT {hidden('f.ftoptions')} FROM pg_foreign_table f WHERE f.ftrelid = c.oid)",
            "column order": _COLUMN_ORDER,
            **privileges("c.relacl", "'r'", "c.relowner"),
            "comment": _COMMENT,
            "inherited from": f"CASE WHEN c.relispartition THEN {relation(_PARENT)} END",
        },
    )


def _views() -> Query:
    return Query(
        _of(),
        SCHEMA,
        _relations("'v', 'm'"),
        {
            "owner": _OWNER,
            "definition": "pg_get_viewdef(c.oid)",
            "reloptions": _ALL_OPTIONS,
            "access method": _METHOD,
            "tablespace": _TABLESPACE,
            "state": "CASE WHEN NOT c.relispopulated THEN 'not populated' END",
            **privileges("c.relacl", "'r'", "c.relowner"),
            "comment": _COMMENT,
        },
    )


_COLLATION = qualified("pg_collation", "coll", "o.attcollation")
_STORAGE = words("o.attstorage", p="plain", e="external", m="main", x="extended")


def _column_details(version: int) -> dict[str, str]:
    """What columns of views may have as well."""
    compression = words("o.attcompression", p="pglz", l="lz4")
    return {
        "default": "CASE WHEN o.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END",
        "storage": f"CASE WHEN o.attstorage <> t.typstorage THEN {_STORAGE} END",
        "compression": compression if version >= 140000 else "NULL",
        # -1 until PostgreSQL 16, NULL from 17 on, both for the default.
        "statistics": "nullif(o.attstattarget, -1)",
        "options": listed("o.attoptions"),
        **privileges("o.attacl", "'c'", "c.relowner"),
        "comment": comment("pg_class", "c.oid", "o.attnum"),
    }


_COLUMN_SOURCE = f"""FROM pg_attribute o JOIN pg_class c ON c.oid = o.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = o.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = o.attrelid AND d.adnum = o.attnum {{join}}
   WHERE o.attnum > 0 AND NOT o.attisdropped AND c.relkind IN ({{kinds}}) AND {OWN_SCHEMA}
     AND {not_member("pg_class", "c.oid")}"""


def _columns(version: int) -> Query:
    named = version >= 180000
    join = "LEFT JOIN pg_constraint k ON k.conrelid = o.attrelid AND k.contype = 'n' AND k.conkey[1] = o.attnum"
    return Query(
        _part("column", "o.attname"),
        _of(),
        _COLUMN_SOURCE.format(kinds="'r', 'p', 'f'", join=join if named else ""),
        {
            "type": "format_type(o.atttypid, o.atttypmod)",
            "collation": f"CASE WHEN o.attcollation <> t.typcollation THEN {_COLLATION} END",
            "not null": "o.attnotnull",
            **(_not_null_constraint() if named else {}),
            "identity": words("o.attidentity", a="always", d="by default"),
            "generated": "CASE WHEN o.attgenerated <> '' THEN pg_get_expr(d.adbin, d.adrelid)"
            " || CASE o.attgenerated WHEN 's' THEN ' stored' ELSE ' virtual' END END",
            "foreign options": hidden("o.attfdwoptions"),
            **_column_details(version),
            "inherited from": "CASE WHEN o.attinhcount > 0 THEN (SELECT 'column ' || "
            "format('%I.%I.%I', pn.nspname, p.relname, o.attname)"
            f" FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE p.oid = {_PARENT}) END",
        },
    )


def _not_null_constraint() -> dict[str, str]:
    """What PostgreSQL 18 knows of a NOT NULL constraint, apart from a name that nobody has chosen.

    Older ones keep no such constraint. The name is made of that of the table at that time, so that of a constraint
    which was dropped and made again after the table was renamed is another one.
    """
    return {
        "not null constraint": """nullif(concat_ws(' ', CASE WHEN k.conname !~ '_not_null[0-9]*$' THEN quote_ident(k.conname) END,
            CASE WHEN NOT k.convalidated THEN 'NOT VALID' END, CASE WHEN k.connoinherit THEN 'NO INHERIT' END), '')""",  # noqa: E501
        "not null comment": f"CASE WHEN k.oid IS NOT NULL THEN {comment('pg_constraint', 'k.oid')} END",
    }


def _view_columns(version: int) -> Query:
    """Names and types of a view's columns are in its definition; what else a column has is not."""
    details = _column_details(version)
    some = " OR ".join(f"{expression} IS NOT NULL" for expression in details.values())
    return Query(
        _part("column", "o.attname"),
        _of(),
        _COLUMN_SOURCE.format(kinds="'v', 'm'", join="") + f" AND ({some})",
        details,
    )


def _indexes(version: int) -> Query:
    """An index that a constraint brings along is that constraint's, which also defines it."""
    definition = "CASE WHEN k.oid IS NULL THEN pg_get_indexdef(o.indexrelid) END"
    # A partitioned index becomes valid with the last of its parts, and is no use for writing to.
    state = """nullif(concat_ws(', ', CASE WHEN NOT o.indisvalid THEN 'invalid' END,
        CASE WHEN NOT o.indisready THEN 'not ready' END, CASE WHEN NOT o.indislive THEN 'being dropped' END), '')"""
    table = "(SELECT format('%I.%I', tn.nspname, t.relname) FROM pg_class t"
    table += " JOIN pg_namespace tn ON tn.oid = t.relnamespace WHERE t.oid = o.indrelid)"
    target = """(SELECT jsonb_agg(format('%s: %s', a.attnum, a.attstattarget) ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attstattarget >= 0)"""
    return Query(
        _of(),
        f"CASE WHEN k.oid IS NOT NULL THEN 'constraint ' || {table} || '.' || quote_ident(k.conname)"
        f" ELSE {relation('o.indrelid')} END",
        "FROM pg_index o JOIN pg_class c ON c.oid = o.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
        " LEFT JOIN pg_constraint k ON k.conindid = o.indexrelid AND k.contype IN ('p', 'u', 'x')"
        f" WHERE {OWN_SCHEMA} AND {not_member('pg_class', 'o.indrelid')} AND {not_member('pg_class', 'c.oid')}",
        {
            "definition": definition,
            "reloptions": f"CASE WHEN k.oid IS NOT NULL THEN {listed('c.reloptions')} END",
            "state": state,
            "clustered": "CASE WHEN o.indisclustered THEN true END",
            "tablespace": _TABLESPACE,
            "statistics": target,
            "comment": _COMMENT,
            "inherited from": relation(_PARENT),
        },
    )


def _constraints() -> Query:
    """NOT NULL is told with the column, a constraint trigger with the triggers.

    A foreign key to a partitioned table has one more for each partition, of which nobody sees anything.
    """
    of_parent = f"""coalesce((SELECT 'constraint ' || format('%I.%I.%I', pn.nspname, p.relname, u.conname)
        FROM pg_constraint u JOIN pg_class p ON p.oid = u.conrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE u.oid = o.conparentid), CASE WHEN o.coninhcount > 0 THEN
        (SELECT 'constraint ' || format('%I.%I.%I', pn.nspname, p.relname, o.conname)
        FROM pg_class p JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE p.oid = {_PARENT}) END)"""
    unwatched = """CASE WHEN EXISTS (SELECT FROM pg_trigger g
        WHERE g.tgconstraint = o.oid AND g.tgisinternal AND g.tgenabled = 'D') THEN 'disabled' END"""
    return Query(
        _part("constraint", "o.conname"),
        _of(),
        _parts("pg_constraint", "conrelid") + " AND o.contype NOT IN ('n', 't') AND NOT EXISTS"
        " (SELECT FROM pg_constraint u WHERE u.oid = o.conparentid AND u.conrelid = o.conrelid)",
        {
            "definition": "pg_get_constraintdef(o.oid)",
            "triggers": unwatched,
            "comment": comment("pg_constraint", "o.oid"),
            "inherited from": of_parent,
        },
    )


_FIRING = {"D": "disabled", "R": "replica", "A": "always"}


def _triggers() -> Query:
    of_parent = """(SELECT 'trigger ' || format('%I.%I.%I', pn.nspname, p.relname, u.tgname) FROM pg_trigger u
        JOIN pg_class p ON p.oid = u.tgrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE u.oid = o.tgparentid)"""
    return Query(
        _part("trigger", "o.tgname"),
        _of(),
        _parts("pg_trigger", "tgrelid") + " AND NOT o.tgisinternal",
        {
            "definition": "pg_get_triggerdef(o.oid)",
            "fires": words("o.tgenabled", **_FIRING),
            "comment": comment("pg_trigger", "o.oid"),
            "inherited from": of_parent,
        },
    )


def _rules() -> Query:
    """The rule that makes a view is its definition."""
    return Query(
        _part("rule", "o.rulename"),
        _of(),
        _parts("pg_rewrite", "ev_class") + " AND o.rulename <> '_RETURN'",
        {
            "definition": "pg_get_ruledef(o.oid)",
            "fires": words("o.ev_enabled", **_FIRING),
            "comment": comment("pg_rewrite", "o.oid"),
        },
    )


def _policies() -> Query:
    roles = """(SELECT jsonb_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END
        ORDER BY CASE r WHEN 0 THEN '' ELSE pg_get_userbyid(r) END COLLATE "C") FROM unnest(o.polroles) AS r)"""
    return Query(
        _part("policy", "o.polname"),
        _of(),
        _parts("pg_policy", "polrelid"),
        {
            "command": words("o.polcmd", r="SELECT", a="INSERT", w="UPDATE", d="DELETE", **{"*": "ALL"}),
            "kind": "CASE WHEN o.polpermissive THEN 'permissive' ELSE 'restrictive' END",
            "roles": roles,
            "using": "pg_get_expr(o.polqual, o.polrelid)",
            "with check": "pg_get_expr(o.polwithcheck, o.polrelid)",
            "comment": comment("pg_policy", "o.oid"),
        },
    )


def _sequences() -> Query:
    """Not where a sequence stands: that is data."""
    owner = """(SELECT format('%I.%I.%I', tn.nspname, t.relname, a.attname) FROM pg_depend p
        JOIN pg_class t ON t.oid = p.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = p.refobjsubid
        WHERE p.classid = 'pg_class'::regclass AND p.objid = c.oid AND p.refclassid = 'pg_class'::regclass
          AND p.objsubid = 0 AND p.refobjsubid > 0 AND p.deptype IN ('a', 'i'))"""
    return Query(
        _of(),
        f"coalesce('column ' || {owner}, {SCHEMA})",
        _parts("pg_sequence", "seqrelid", "'S'"),
        {
            "owner": _OWNER,
            "owned by": owner,
            "type": "format_type(o.seqtypid, NULL)",
            "start": "o.seqstart",
            "minimum": "o.seqmin",
            "maximum": "o.seqmax",
            "increment": "o.seqincrement",
            "cache": "o.seqcache",
            "cycle": "o.seqcycle",
            "persistence": _PERSISTENCE,
            **privileges("c.relacl", "'s'", "c.relowner"),
            "comment": _COMMENT,
        },
    )
