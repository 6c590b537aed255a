# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database is and holds, read from the server's catalogs.

A backup writes it into its manifest, and a restore reads it again to compare: both ask the same questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import TABLE, identifier
from ansible.module_utils.runbook.manifest import (
    DatabaseProperties,
    Extension,
    Grant,
    SequenceState,
    Server,
    Setting,
    Table,
)
from ansible.module_utils.runbook.session import Session

TableName = tuple[str, str]

# Tables are locked and counted so many at a time: few round trips, and no statement of unbounded length.
_BATCH = 100

# PostgreSQL 15 brought ICU for whole databases, 17 the provider "builtin" and a new name for the column.
_LOCALE_COLUMNS = {
    13: "'c', '', '', ''",
    15: "datlocprovider::text, coalesce(daticulocale, ''), '', coalesce(datcollversion, '')",
    16: "datlocprovider::text, coalesce(daticulocale, ''), coalesce(daticurules, ''), coalesce(datcollversion, '')",
    17: "datlocprovider::text, coalesce(datlocale, ''), coalesce(daticurules, ''), coalesce(datcollversion, '')",
}

_PROPERTIES = """
SELECT datname::text, pg_catalog.pg_get_userbyid(datdba)::text, pg_catalog.pg_encoding_to_char(encoding)::text,
       {locale}, datcollate::text, datctype::text,
       (SELECT spcname::text FROM pg_catalog.pg_tablespace t WHERE t.oid = dattablespace),
       datconnlimit, coalesce(pg_catalog.shobj_description(d.oid, 'pg_database'), ''), datacl IS NULL,
       pg_catalog.pg_database_size(d.oid)
  FROM pg_catalog.pg_database d WHERE datname = %s
"""
_GRANTS = """
SELECT CASE grantee WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(grantee)::text END, privilege_type, is_grantable
  FROM pg_catalog.pg_database d, LATERAL pg_catalog.aclexplode(datacl) WHERE datname = %s ORDER BY 1, 2
"""
_SETTINGS = """
SELECT pg_catalog.split_part(setting, '=', 1), pg_catalog.substr(setting, pg_catalog.strpos(setting, '=') + 1),
       CASE setrole WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(setrole)::text END
  FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase,
       LATERAL pg_catalog.unnest(setconfig) AS setting
 WHERE datname = %s ORDER BY 3, 1
"""

# Roles that have to exist for the dump to be restored: those that its objects and the database itself depend on
# (PostgreSQL documentation, "pg_shdepend"; pinned roles such as pg_monitor are not in there, nor the bootstrap user).
_ROLES = """
WITH RECURSIVE used AS (
    SELECT refobjid FROM pg_catalog.pg_shdepend s
     WHERE refclassid = 'pg_catalog.pg_authid'::regclass AND deptype IN ('o', 'a', 'r')
       AND dbid IN (0, (SELECT oid FROM pg_catalog.pg_database WHERE datname = %s))
       AND (dbid <> 0 OR (classid = 'pg_catalog.pg_database'::regclass
                          AND objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = %s)))
    UNION SELECT datdba FROM pg_catalog.pg_database WHERE datname = %s
    UNION SELECT setrole FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
           WHERE datname = %s AND setrole <> 0
    {owners}
), needed (oid) AS (
    SELECT refobjid FROM used
    UNION SELECT m.roleid FROM needed JOIN pg_catalog.pg_auth_members m ON m.member = needed.oid
)
SELECT DISTINCT rolname::text FROM needed JOIN pg_catalog.pg_roles USING (oid)
 WHERE rolname !~ '^pg_' ORDER BY 1
"""

# The bootstrap user's own objects, which are not written down there; an extension's are not in a dump.
_OWNED = {
    "pg_class": "relowner",
    "pg_namespace": "nspowner",
    "pg_proc": "proowner",
    "pg_type": "typowner",
    "pg_operator": "oprowner",
    "pg_collation": "collowner",
    "pg_publication": "pubowner",
    "pg_foreign_data_wrapper": "fdwowner",
    "pg_foreign_server": "srvowner",
    "pg_event_trigger": "evtowner",
    "pg_largeobject_metadata": "lomowner",
}
_OWNER = """UNION SELECT {column} FROM pg_catalog.{catalog} o WHERE oid >= 16384 AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend
         WHERE classid = 'pg_catalog.{catalog}'::regclass AND objid = o.oid AND deptype = 'e')"""

_EXTENSIONS = """
SELECT extname::text, extversion, nspname::text
  FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace
 WHERE extname <> 'plpgsql' ORDER BY 1
"""

# What pg_dump writes rows of, apart from the configuration tables of extensions.
_TABLES = """
SELECT nspname::text, relname::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
 WHERE relkind = 'r' AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND deptype = 'e')
 ORDER BY 1, 2
"""

# LOCK TABLE, which pg_dump begins with, takes SELECT on the table and USAGE on its schema.
_UNREADABLE = """
SELECT pg_catalog.format('%I.%I', nspname, relname), pg_catalog.row_security_active(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
 WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname !~ '^pg_' AND nspname <> 'information_schema'
   AND (NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
        OR pg_catalog.row_security_active(c.oid))
 ORDER BY 1
"""
_SHOWN = 5

# By identity or by serial (PostgreSQL documentation, "pg_depend", "pg_sequence"). One that cycles is never behind.
_OWNED_SEQUENCES = """
SELECT sn.nspname::text, s.relname::text, tn.nspname::text, t.relname::text, a.attname::text, q.seqincrement < 0
  FROM pg_catalog.pg_class s
  JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_catalog.pg_namespace sn ON sn.oid = s.relnamespace
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = s.oid
                             AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
  JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
 WHERE s.relkind = 'S' AND t.relkind IN ('r', 'p') AND NOT q.seqcycle
 ORDER BY 1, 2
"""

_SEQUENCES = """
SELECT schemaname::text, sequencename::text, last_value
  FROM pg_catalog.pg_sequences s
 WHERE schemaname !~ '^pg_'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.objid
                    WHERE d.classid = 'pg_catalog.pg_class'::regclass AND deptype = 'e' AND relkind = 'S'
                      AND c.oid = pg_catalog.format('%I.%I', schemaname, sequencename)::regclass)
 ORDER BY 1, 2
"""


def server(session: Session) -> Server:
    """The server that a session is with. Some of it not everybody may read; asking for it would end a transaction."""
    system = ""
    if session.query("SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')")[0][0]:
        system = session.query("SELECT system_identifier::text FROM pg_catalog.pg_control_system()")[0][0]
    rows = session.query("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'shared_preload_libraries'")
    names = (name.strip().strip('"') for (setting,) in rows for name in setting.split(","))
    return Server(session.server_version, system, tuple(name for name in names if name))


def properties(session: Session, database: str) -> DatabaseProperties | None:
    """What hangs on a database, from any session with its server; None when there is no such database."""
    major = session.server_version // 10000
    locale = _LOCALE_COLUMNS[max(version for version in _LOCALE_COLUMNS if version <= major)]
    rows = session.query(_PROPERTIES.format(locale=locale), database)
    if not rows:
        return None
    name, owner, encoding, provider, its_locale, rules, collation_version, collate, ctype = rows[0][:9]
    tablespace, limit, comment, default_grants, size = rows[0][9:]
    return DatabaseProperties(
        name=name,
        owner=owner,
        encoding=encoding,
        locale_provider=provider,
        collate=collate,
        ctype=ctype,
        locale=its_locale if provider != "c" else "",
        icu_rules=rules,
        collation_version=collation_version,
        tablespace=tablespace,
        connection_limit=limit,
        comment=comment,
        grants=None if default_grants else tuple(Grant(*row) for row in session.query(_GRANTS, database)),
        settings=tuple(Setting(*row) for row in session.query(_SETTINGS, database)),
        bytes=size,
    )


def roles(session: Session, database: str) -> tuple[str, ...]:
    """Every role that the database, or something in it, belongs to or mentions in its privileges.

    Parameters:
        session: one in that very database.
    """
    owners = "\n    ".join(_OWNER.format(catalog=catalog, column=column) for catalog, column in _OWNED.items())
    return tuple(name for (name,) in session.query(_ROLES.format(owners=owners), *[database] * 4))


def extensions(session: Session) -> tuple[Extension, ...]:
    """The extensions installed in the session's database, apart from plpgsql, which every database has."""
    return tuple(Extension(*row) for row in session.query(_EXTENSIONS))


def require_readable(session: Session, login: Login) -> None:
    """See that the user may read every row, before anything is begun.

    Raises:
        RunbookError: ``unreadable``, naming the tables.
    """
    rows = session.query(_UNREADABLE)
    if not rows:
        return
    names = [name for name, _ in rows]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    needed = (
        "BYPASSRLS"
        if all(hidden for _, hidden in rows)
        else "membership in pg_read_all_data (BYPASSRLS for row security)"
    )
    raise RunbookError(
        f"The {login} does not show every row: {', '.join(names[:_SHOWN])}{rest}. A backup without them would not be "
        f"one. Give the user {needed}, or name another one in db_user, such as the tables' owner.",
        code="unreadable",
    )


def lock_tables(session: Session, names: Sequence[TableName]) -> None:
    """Keep tables from being changed in a way that snapshots do not shield from, until the transaction ends.

    TRUNCATE and a rewriting ALTER TABLE change what older snapshots see (PostgreSQL documentation, "Caveats" of MVCC).

    Raises:
        SqlError: when somebody has one locked for longer than ``lock_timeout``, or it is gone.
    """
    for batch in _batches(names):
        listed = ", ".join(f"ONLY {identifier(schema)}.{identifier(table)}" for schema, table in batch)
        session.query(f"LOCK TABLE {listed} IN ACCESS SHARE MODE")


def table_names(session: Session) -> list[TableName]:
    """Every table with rows of its own, as schema and name, in order."""
    return [(schema, table) for schema, table in session.query(_TABLES)]


def tables(session: Session) -> tuple[Table, ...]:
    """Every table with rows of its own, and how many it has as far as the session's transaction can see.

    Raises:
        SqlError: what keeps one from being counted, such as a lock.
    """
    counted: list[Table] = []
    for batch in _batches(table_names(session)):
        counts = [f"(SELECT pg_catalog.count(*) FROM ONLY {identifier(s)}.{identifier(t)})" for s, t in batch]
        row = session.query("SELECT " + ", ".join(counts))[0]
        counted += [Table(schema, name, rows) for (schema, name), rows in zip(batch, row)]
    return tuple(counted)


def _batches(names: Sequence[TableName]) -> Iterator[Sequence[TableName]]:
    return (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))


def sequences(session: Session) -> tuple[SequenceState, ...]:
    """Where each sequence stands. Sequences know no snapshot: a later question may find them further on."""
    return tuple(SequenceState(*row) for row in session.query(_SEQUENCES))


def owned_sequences(session: Session) -> list[tuple[Any, ...]]:
    """The sequences that fill a column: schema and name of each, schema, name and column, whether it counts down."""
    return session.query(_OWNED_SEQUENCES)


def large_objects(session: Session) -> int:
    """How many large objects the database has."""
    return int(session.query("SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata")[0][0])


def schema_version(session: Session, schema: str) -> int:
    """The highest version in the ledger; 0 when there is none."""
    table = f"{identifier(schema)}.{identifier(TABLE)}"
    if session.query("SELECT pg_catalog.to_regclass(%s) IS NULL", table)[0][0]:
        return 0
    return int(session.query(f"SELECT coalesce(pg_catalog.max(version), 0) FROM {table}")[0][0])
