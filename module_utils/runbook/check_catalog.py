# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalog says, asked once for all checks of a validation.

Two hundred checks about five hundred tables are no more questions than one: each part of the catalog is read when the
first check needs it, for the schemas that the checks are about, and then looked up. All parts are of one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Callable, TypeVar

from ansible.module_utils.runbook.session import Session, SqlError

Part = TypeVar("Part")

Name = tuple[str, str]
"""Schema and name of a relation."""

# Tables of all kinds: plain, partitioned, foreign.
TABLE_KINDS = frozenset("rpf")
VIEW_KINDS = frozenset("vm")

_RELATIONS = """
SELECT n.nspname::text, c.relname::text, c.relkind::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
       pg_catalog.obj_description(c.oid, 'pg_class') IS NOT NULL, c.oid::bigint,
       pg_catalog.pg_get_userbyid(n.nspowner)::text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
"""

_COLUMNS = """
SELECT n.nspname::text, c.relname::text, a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_catalog.col_description(c.oid, a.attnum) IS NOT NULL
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%s) AND c.relkind IN ('r', 'p', 'f', 'v', 'm') AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY c.oid, a.attnum
"""

# An index of a partitioned table is valid once each partition has a valid one.
_INDEXES = """
SELECT n.nspname::text, c.relname::text, tn.nspname::text, t.relname::text, i.indisvalid, i.indisready AND i.indislive,
       i.indisunique, pg_catalog.obj_description(c.oid, 'pg_class') IS NOT NULL
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
 WHERE n.nspname = ANY (%s)
"""

# NOT NULL has been a constraint with a name since PostgreSQL 18; a column's type is where it is asked for.
_CONSTRAINTS = """
SELECT n.nspname::text, t.relname::text, o.conname::text, o.convalidated, pg_catalog.pg_get_constraintdef(o.oid),
       pg_catalog.obj_description(o.oid, 'pg_constraint') IS NOT NULL, o.contype::text
  FROM pg_catalog.pg_constraint o
  JOIN pg_catalog.pg_class t ON t.oid = o.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
 WHERE n.nspname = ANY (%s)
"""

_FUNCTIONS = """
SELECT n.nspname::text, p.oid::regprocedure::text, pg_catalog.obj_description(p.oid, 'pg_proc') IS NOT NULL
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = ANY (%s)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                                                        AND d.objid = p.oid AND d.deptype = 'e')
 ORDER BY 1, 2
"""

_SCHEMAS = "SELECT nspname::text, pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace"
_ROLES = "SELECT rolname::text FROM pg_catalog.pg_roles"


@dataclass(frozen=True)
class Relation:
    """A table, view or sequence; ``oid`` is what privileges are asked by."""

    kind: str
    owner: str
    commented: bool
    oid: int


@dataclass(frozen=True)
class Column:
    """A column: its type as the server writes it, whether it refuses NULL, whether it has a comment."""

    type: str
    not_null: bool
    commented: bool


@dataclass(frozen=True)
class Index:
    """An index, and the table it belongs to."""

    table: Name
    valid: bool
    ready: bool
    unique: bool
    commented: bool


@dataclass(frozen=True)
class Constraint:
    """A constraint, its definition as the server writes it, and its kind as in ``pg_constraint.contype``."""

    validated: bool
    definition: str
    commented: bool
    type: str


class Catalog:
    """The parts of the catalog that were asked for, of one snapshot.

    A part that could not be read is not asked for again: each check that needs it gets the same error, at once.

    Parameters:
        session: one in a transaction of the catalog's own, with a time limit; ``search_path`` is ``pg_catalog``, so
            that the server writes all other names with their schema.
        schemas: those that the checks are about.
    """

    def __init__(self, session: Session, schemas: Iterable[str]) -> None:
        self._session = session
        self._schemas = sorted(set(schemas))
        self._parts: dict[str, Any] = {}

    def relations(self) -> dict[Name, Relation]:
        """Tables, views and sequences."""
        return self._part(
            "relations", lambda: {(row[0], row[1]): Relation(*row[2:6]) for row in self._rows(_RELATIONS)}
        )

    def columns(self) -> dict[Name, dict[str, Column]]:
        """The columns of each table and view, in their order."""
        return self._part("columns", lambda: _grouped(self._rows(_COLUMNS), Column))

    def indexes(self) -> dict[Name, Index]:
        """Indexes by their own name."""
        return self._part(
            "indexes",
            lambda: {(row[0], row[1]): Index((row[2], row[3]), *row[4:]) for row in self._rows(_INDEXES)},
        )

    def constraints(self) -> dict[Name, dict[str, Constraint]]:
        """The constraints of each table."""
        return self._part("constraints", lambda: _grouped(self._rows(_CONSTRAINTS), Constraint))

    def functions(self) -> list[tuple[str, str, bool]]:
        """Schema, signature, and whether there is a comment; without those of extensions."""
        return self._part("functions", lambda: self._rows(_FUNCTIONS))

    def schemas(self) -> dict[str, str]:
        """All schemas, with their owners."""
        return self._part("schemas", lambda: dict(self.ask(_SCHEMAS)))

    def roles(self) -> set[str]:
        """All roles."""
        return self._part("roles", lambda: {name for (name,) in self.ask(_ROLES)})

    def ask(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """A question of one check's own, within the same snapshot; an error of it leaves the snapshot in use."""
        self._session.query("SAVEPOINT question")
        try:
            return self._session.query(sql, *params)
        except SqlError as error:
            if not error.lost:
                self._session.query("ROLLBACK TO question")
            raise

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.ask(sql, self._schemas)

    def _part(self, name: str, read: Callable[[], Part]) -> Part:
        if name not in self._parts:
            try:
                self._parts[name] = read()
            except SqlError as error:
                self._parts[name] = error
        found = self._parts[name]
        if isinstance(found, SqlError):
            raise found
        part: Part = found
        return part


def _grouped(rows: Iterable[tuple[Any, ...]], kind: Callable[..., Any]) -> dict[Name, dict[str, Any]]:
    """Rows of schema, relation, name and the fields of ``kind``, by relation and name."""
    found: dict[Name, dict[str, Any]] = {}
    for schema, relation, name, *fields in rows:
        found.setdefault((schema, relation), {})[name] = kind(*fields)
    return found
