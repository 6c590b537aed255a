# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at a database without touching it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.ledger import LEDGER_TABLES, TABLE, Ledger, as_result, identifier
from ansible.module_utils.runbook.session import (
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    Session,
    SqlError,
    application_name,
    connect,
    refuse_transaction_pooling,
    refuse_unusable,
)

INFO_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    "schema": {"type": "str", "default": "cm"},
    "limit": {"type": "int", "default": 0},
    "require_primary": {"type": "bool", "default": False},
    "tables": {"type": "bool", "default": False},
}

SERVER_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    "databases": {"type": "list", "elements": "str", "default": []},
}

_SERVER = """
SELECT pg_catalog.pg_is_in_recovery(),
       pg_catalog.pg_postmaster_start_time()::text,
       (SELECT coalesce(sender_host || ':' || sender_port, '') FROM pg_catalog.pg_stat_wal_receiver)
"""
_SYSTEM = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"

_DATABASE = """
SELECT d.oid::bigint, pg_catalog.current_database()::text,
       extract(epoch FROM pg_catalog.pg_postmaster_start_time())::bigint,
       pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()
"""

# A partitioned table is as large as its partitions together, which do not count by themselves: their names come and go.
# A main file without a byte has no rows; what is beside it, such as TOAST, is never quite empty.
_TABLES = """
SELECT n.nspname::text, c.relname::text,
       (SELECT coalesce(pg_catalog.sum(CASE WHEN {main} > 0 THEN {whole} END), 0)::bigint
          FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaf.oids)),
       (SELECT CASE WHEN bool_and(l.reltuples >= 0 AND (l.reltuples > 0 OR l.relpages > 0))
                    THEN pg_catalog.sum(l.reltuples)::bigint END
          FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaf.oids) AND {main} > 0),
       pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
       SELECT CASE WHEN c.relkind = 'p'
                   THEN ARRAY(SELECT relid::oid FROM pg_catalog.pg_partition_tree(c.oid) WHERE isleaf)
                   ELSE ARRAY[c.oid] END AS oids) AS leaf
 WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
   AND NOT (n.nspname = %s AND c.relname = ANY (%s))
 ORDER BY 1, 2
"""
_MEASURED = {"main": "pg_catalog.pg_relation_size(l.oid)", "whole": "pg_catalog.pg_table_size(l.oid)"}
_ESTIMATED = {
    "main": "greatest(l.relpages, (pg_catalog.pg_stat_get_live_tuples(l.oid) > 0)::int)",
    "whole": "greatest(l.relpages, 1)::bigint * pg_catalog.current_setting('block_size')::bigint",
}
"""How large a table is: measured, which waits for whoever has it locked, or as statistics have it."""

_LOCK_TIMEOUT = "5s"
_SIZE_LOCK_TIMEOUT = "500ms"

# Finding the first row of a table that was emptied takes reading what is left of it.
_ROW_TIMEOUT = "2s"
_ROW_TABLES = 100
_HOLDERS = """
SELECT a.pid, a.usename, a.application_name, a.state
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
   AND l.relation = pg_catalog.to_regclass(%s)
"""


def inspect(login: Login, schema: str, limit: int, require_primary: bool, tables: bool = False) -> dict[str, Any]:
    """Read the ledger in one read-only transaction.

    Parameters:
        limit: leave out a ledger with more rows than this; 0 is no limit.
        require_primary: refuse servers on which nothing could be changed.
        tables: also say how large the tables are, and which database of which cluster this is.

    Returns:
        the result of the module ``schema_info``.

    Raises:
        RunbookError: what keeps the database from being read, or from being changed later.
    """
    with connect(login, application_name("info")) as session:
        try:
            if require_primary:
                refuse_unusable(session, login)
                refuse_transaction_pooling(session, login)
            found = {"database": login.database, **_read(session, Ledger(schema), limit)}
            return {**found, **_look_at_tables(session, schema)} if tables else found
        except SqlError as error:
            if error.sqlstate == LOCK_NOT_AVAILABLE:
                raise _locked(session, login, schema) from error
            raise explain(error, f"Reading the ledger of {login}", "") from error


def identify(login: Login, databases: Sequence[str]) -> dict[str, Any]:
    """Read which server this is, and of which cluster.

    PostgreSQL lets everybody call pg_control_system(); where a provider does not, the identifier stays empty. Where a
    standby replays from is shown to members of pg_read_all_stats only (as pg_monitor is).

    Parameters:
        databases: what the caller wants to do there; returned as it is, so that one result has it all.

    Returns:
        the result of the module ``server_info``.

    Raises:
        RunbookError: what keeps the server from being asked.
    """
    with connect(login, application_name("info")) as session:
        try:
            session.query("SET TimeZone = 'UTC'")
            in_recovery, started_at, upstream = session.query(_SERVER)[0]
            system = _system_identifier(session)
        except SqlError as error:
            raise explain(error, f"Looking at the server of {login}", "") from error
    return {
        "system_identifier": system,
        "started_at": started_at,
        "in_recovery": in_recovery,
        "upstream": upstream or "",
        "databases": list(databases),
        "server_version": session.server_version,
    }


def _system_identifier(session: Session) -> str:
    try:
        return str(session.query(_SYSTEM)[0][0])
    except SqlError as error:
        if error.sqlstate == INSUFFICIENT_PRIVILEGE:
            return ""
        raise


def _read(session: Session, ledger: Ledger, limit: int) -> dict[str, Any]:
    session.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.query(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    session.query("SET LOCAL TimeZone = 'UTC'")
    tables = ledger.tables(session)
    summary = ledger.summary(session, tables)
    result: dict[str, Any] = {
        "version": summary.version,
        "count": summary.count,
        "digest": summary.digest,
        "interrupted": summary.interrupted,
        "server_version": session.server_version,
        "in_recovery": summary.in_recovery,
    }
    if not limit or summary.count <= limit:
        result["ledger"] = as_result(ledger.state(session, tables))
    session.query("ROLLBACK")
    return result


def _look_at_tables(session: Session, schema: str) -> dict[str, Any]:
    ((oid, name, started, now),) = session.query(_DATABASE)
    sizes = _sizes(session, schema)
    in_doubt = [(schema, table) for schema, table, size, _, readable in sizes if size and readable]
    empty = {(schema, table) for schema, table, size, _, _ in sizes if not size} | _empty(session, in_doubt)
    how = Ledger(schema).origins(session)
    return {
        "now": now,
        "how": {str(version): event for version, event in how},
        # A server that was copied with its files has the same identifier; it was not started in the same second.
        "identity": f"{_system_identifier(session)}/{oid}/{name}@{started}",
        "tables": {
            f"{table_schema}.{table}": {
                "bytes": size,
                "rows": 0 if (table_schema, table) in empty else _at_least_one(number),
            }
            for table_schema, table, size, number, _ in sizes
        },
    }


def _at_least_one(estimate: int | None) -> int | None:
    """Statistics may be from before the first row came."""
    return None if estimate is None else max(estimate, 1)


def _empty(session: Session, tables: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those of the tables that have no row, however large what was deleted has left them.

    One that does not say so in time, or to whoever asks, is taken to have some.
    """
    groups = [tables[start : start + _ROW_TABLES] for start in range(0, len(tables), _ROW_TABLES)]
    return set().union(*(_empty_of(session, group) for group in groups))


def _empty_of(session: Session, tables: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    asked = ", ".join(f"EXISTS (SELECT FROM {identifier(schema)}.{identifier(name)})" for schema, name in tables)
    session.query("BEGIN READ ONLY")
    session.query(
        f"SET LOCAL lock_timeout = '{_SIZE_LOCK_TIMEOUT}'; SET LOCAL statement_timeout = '{_ROW_TIMEOUT}'; "
        "SET LOCAL row_security = off"  # policies would hide rows; this makes them an error
    )
    try:
        (filled,) = session.query(f"SELECT {asked}")
        return {table for table, has_rows in zip(tables, filled) if not has_rows}
    except SqlError as error:
        if error.lost:
            raise
        if len(tables) == 1:
            return set()
    finally:
        if session.in_transaction:
            session.query("ROLLBACK")
    half = len(tables) // 2
    return _empty_of(session, tables[:half]) | _empty_of(session, tables[half:])


def _sizes(session: Session, schema: str) -> list[tuple[Any, ...]]:
    """Of each table schema, name, bytes, rows by statistics, and whether it may be read.

    Bytes are estimated when somebody has one of them locked.
    """
    session.query("BEGIN READ ONLY")
    session.query(f"SET LOCAL lock_timeout = '{_SIZE_LOCK_TIMEOUT}'")
    try:
        return session.query(_TABLES.format(**_MEASURED), schema, list(LEDGER_TABLES))
    except SqlError as error:
        if error.sqlstate != LOCK_NOT_AVAILABLE:
            raise
        session.query("ROLLBACK")
        return session.query(_TABLES.format(**_ESTIMATED), schema, list(LEDGER_TABLES))
    finally:
        if session.in_transaction:
            session.query("ROLLBACK")


def _locked(session: Session, login: Login, schema: str) -> RunbookError:
    session.query("ROLLBACK")
    holders = session.query(_HOLDERS, f"{identifier(schema)}.{TABLE}")
    named = "; ".join(f'pid {pid} (user {user}, application "{name}", {state})' for pid, user, name, state in holders)
    return RunbookError(
        f"The ledger {schema}.{TABLE} of {login} could not be read within {_LOCK_TIMEOUT}, because it is locked. "
        f"In the way: {named or 'somebody who has just gone'}. Let that session finish, or end it with "
        "SELECT pg_terminate_backend(pid), and run this again.",
        code="lock-timeout",
    )
