# SPDX-License-Identifier: GPL-3.0-or-later
"""What a database consists of, read from its catalogs as plain data that can be stored and compared.

A snapshot knows each object by its kind and qualified name, and of each object what people can define: no oids, no
rows, no positions of sequences. Databases that were built by the same statements have equal snapshots, as have
a database and its restored dump.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook import snapshot_objects, snapshot_tables, snapshot_types
from ansible.module_utils.runbook.expression import settled
from ansible.module_utils.runbook.ledger import LEDGER_TABLES, Ledger
from ansible.module_utils.runbook.session import Session, SqlError

PART_OF = "of"
"""Property that says which object one is part of: a difference in that one explains any in this one."""

INHERITED_FROM = "inherited from"
"""Property that names the same thing on the parent of a partition or an inheriting table, or that parent itself."""

# What expressions and constants look like depends on these (cf. pg_dump, which sets them as well); times in bounds of
# partitions on the time zone. The planner has no idea how cheap the queries are, so it would compile them.
_SETTINGS = {
    "search_path": "",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "jit": "off",
}

# The functions that write definitions look at what there is now, not at what the transaction sees (PostgreSQL
# documentation, "Caveats" of MVCC), and fail like this when that was dropped in the meantime.
_INTERNAL_ERROR = "XX000"
_ATTEMPTS = 3

# Properties with SQL that the server has put together out of what it parsed.
_EXPRESSIONS = frozenset(
    {
        "arguments", "body", "constraints", "default", "definition", "generated", "partition key", "tables", "using",
        "with check",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """The objects of a database, in order.

    Parameters:
        objects: properties by identity, such as ``table cm.audit_log`` or ``column cm.audit_log.user_id``. Properties
            are texts, numbers, booleans and lists of texts; what an object does not have is not there.
    """

    objects: Mapping[str, Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable data."""
        return {"objects": {identity: dict(properties) for identity, properties in self.objects.items()}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """The reverse of ``as_dict``."""
        return cls({str(identity): dict(properties) for identity, properties in data["objects"].items()})

    def lineage(self, identity: str) -> Iterator[str]:
        """An object, and what it is part of: a column, its table, the schema of that."""
        known: str | None = identity
        while known is not None:
            yield known
            known = self.objects.get(known, {}).get(PART_OF)


def take(session: Session, ledger_schema: str | None = None) -> Snapshot:
    """Read the catalogs in one read-only transaction; any role may.

    Definitions of views and expressions take the lock of a reader for as long as that lasts, so the session's
    ``lock_timeout`` says how long somebody's ALTER TABLE is waited for.

    Parameters:
        session: one in that database, without an open transaction.
        ledger_schema: the schema of a ledger to be left out, with its three tables; with the schema itself where
            that was made for nothing else.

    Raises:
        SqlError: when the connection breaks, a limit is reached, or objects are being dropped each time it looks.
        RunbookError: ``foreign-ledger``, when ``schema_version`` is a table of somebody else's.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return _take(session, ledger_schema)
        except SqlError as error:
            if error.sqlstate != _INTERNAL_ERROR:
                raise
    return _take(session, ledger_schema)


def _take(session: Session, ledger_schema: str | None) -> Snapshot:
    session.query("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        return read(session, ledger_schema)
    finally:
        if session.alive:
            session.query("ROLLBACK")


def read(session: Session, ledger_schema: str | None = None) -> Snapshot:
    """As ``take``, in the transaction that is open, with what it has not committed yet.

    It has settings of its own from here to its end, such as an empty search_path.
    """
    ledger = _ledger(session, ledger_schema) if ledger_schema is not None else frozenset()
    return Snapshot(_without(ledger, _read(session)))


def _ledger(session: Session, schema: str) -> frozenset[str]:
    """Identities of what the engine has made for its ledger."""
    (quoted,) = session.query("SELECT pg_catalog.quote_ident(%s)", schema)[0]
    own_schema = Ledger(schema).tables(session).own_schema
    tables = {f"table {quoted}.{name}" for name in LEDGER_TABLES}
    return frozenset(tables | ({f"schema {quoted}"} if own_schema else set()))


def _read(session: Session) -> dict[str, dict[str, Any]]:
    local = ", ".join("set_config(%s, %s, true)" for _ in _SETTINGS)
    session.query(f"SELECT {local}", *itertools.chain.from_iterable(_SETTINGS.items()))
    version = session.server_version
    sources = (snapshot_objects, snapshot_types, snapshot_tables)
    asked = (query.text for source in sources for query in source.queries(version))
    rows = session.query("\nUNION ALL\n".join(asked))
    return {identity: _finished(parent, properties) for identity, parent, properties in rows}


def _finished(parent: str | None, properties: Mapping[str, Any]) -> dict[str, Any]:
    written = {name: _settled(value) if name in _EXPRESSIONS else value for name, value in properties.items()}
    return {PART_OF: parent, **written} if parent is not None else written


def _settled(value: Any) -> Any:
    return [settled(one) for one in value] if isinstance(value, list) else settled(value)


def _without(ledger: frozenset[str], objects: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Objects in order of their identities, the ledger and what is part of its tables left out.

    Others may live in its schema, even where that was made for the ledger.
    """
    whole = Snapshot(objects)
    tables = {identity for identity in ledger if identity.startswith("table ")}
    return {
        identity: objects[identity]
        for identity in sorted(objects)
        if identity not in ledger and tables.isdisjoint(whole.lineage(identity))
    }
