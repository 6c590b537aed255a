# SPDX-License-Identifier: GPL-3.0-or-later
"""What the migrations before a statement have made.

A small catalog, kept by reading the files in their order. It knows what it was told by the files and by the caller (the
sizes of tables) and nothing else: an object it never heard of is one that exists, and may be large.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Optional, Union

from ansible.module_utils.runbook.lint.finding import Size
from ansible.module_utils.runbook.lint.nodes import Name, Node, Type, is_temporary
from ansible.module_utils.runbook.lint.units import ROUTINE, Action, SourceFile
from ansible.module_utils.runbook.migration import Migration
from pglast import ast

NEW_HERE, NEW_PENDING, THERE = "new here", "new and pending", "there"

TABLE, PARTITIONED, VIEW, MATVIEW, FOREIGN = "table", "partitioned table", "view", "materialized view", "foreign table"


@dataclass
class Column:
    """A column: its type, None where that is not known; whether it can be NULL, or is computed when it is read."""

    name: str
    type: Optional[Type] = None
    not_null: bool = False
    virtual: bool = False
    version: int = 0
    commented: bool = False


@dataclass
class Constraint:
    """A constraint of a table.

    Attributes:
        kind: ``check``, ``foreign key``, ``not null`` or another word.
        expression: of a CHECK, its parse tree.
        valid: whether all rows are known to satisfy it.
        version: the migration that added it.
        columns: of NOT NULL, the column.
    """

    name: str
    kind: str
    valid: bool
    version: int
    expression: Node = None
    columns: tuple[str, ...] = ()


@dataclass
class Index:
    """An index: the table it is on and its plain columns, and where it was made."""

    name: Name
    table: Optional[Relation]
    columns: tuple[str, ...]
    version: int
    unique: bool
    action: Action


@dataclass
class Relation:
    """A table, view or the like that the files have made.

    Attributes:
        version: the migration that made it.
        loaded: the action that filled it; None while it is empty.
        key: of a partitioned table, the columns of its partition key.
        strategy: of a partitioned table, ``r``, ``l`` or ``h``.
        populated: of a materialized view, whether it was computed yet.
        dropped: the constraints that it had once, each with what dropped it.
    """

    name: Name
    kind: str
    version: int
    temporary: bool = False
    loaded: Optional[Action] = None
    columns: dict[str, Column] = field(default_factory=dict)
    constraints: dict[str, Constraint] = field(default_factory=dict)
    key: tuple[str, ...] = ()
    strategy: str = ""
    populated: bool = True
    commented: bool = False
    dropped: list[tuple[Constraint, Action]] = field(default_factory=list)

    def valid_checks(self) -> list[Node]:
        """The expressions of its CHECKs that all rows are known to satisfy."""
        return [item.expression for item in self.constraints.values() if item.kind == "check" and item.valid]


@dataclass
class Thing:
    """Anything else that can have a comment: a function, type, domain, schema or sequence.

    Attributes:
        overloads: of a function, all that have its name, itself included; a comment on one is believed to be on all.
        constrained: of a domain, whether it has a constraint.
        volatility: of a function, ``immutable``, ``stable`` or ``volatile``.
        inner: of a function, what its body does.
    """

    kind: str
    name: Name
    version: int
    commented: bool = False
    constrained: bool = False
    volatility: str = "volatile"
    inner: tuple[Action, ...] = ()
    overloads: list[Thing] = field(default_factory=list)


@dataclass
class Made:
    """Something a file makes, for which it owes a comment."""

    what: Union[Relation, Thing, Column]
    of: Optional[Relation]
    action: Action
    version: int
    gone: bool = False


class Series:
    """The catalog.

    Parameters:
        schema: where unqualified names are looked for, before ``public``.
        sizes: sizes of the tables that exist in the database, by ``schema.table``.
        pending: the versions that are not applied yet; None when nobody says, and then every file but the present one
            counts as applied.
    """

    def __init__(self, schema: str, sizes: Mapping[str, Size], pending: Optional[Collection[int]]) -> None:
        self.schema = schema
        self.sizes = sizes
        self.pending = pending
        self.relations: dict[Name, Relation] = {}
        self.things: dict[tuple[str, Name], Thing] = {}
        self.indexes: dict[Name, Index] = {}
        self.made: list[Made] = []
        self.enum_values: dict[str, int] = {}
        self.temporaries: set[str] = set()
        self.migration = Migration(0, "", "")
        self.source = SourceFile(self.migration)
        self.path: Optional[list[str]] = None

    def begin(self, source: SourceFile) -> None:
        """Go on to the next file."""
        self.migration = source.migration
        self.source = source
        self.path = None
        self.enum_values = {}
        self.temporaries = {name for action in source.actions for name in _temporary_tables(action)}

    @property
    def version(self) -> int:
        """The version of the present file."""
        return self.migration.version

    # names

    def candidates(self, name: Name) -> list[Name]:
        """What a name may mean, first choice first."""
        if name.schema:
            return [name]
        path = [self.schema, "public"] if self.path is None else self.path
        return [Name(schema, name.name) for schema in path] or [name]

    def relation(self, name: Name) -> Optional[Relation]:
        """The relation of this name, if the files have made it."""
        return next((self.relations[found] for found in self.candidates(name) if found in self.relations), None)

    def thing(self, kind: str, name: Name) -> Optional[Thing]:
        """The function, type or other thing of this name, if the files have made it."""
        candidates = [name] if kind == "schema" else self.candidates(name)
        found = (self.things.get((kind, candidate)) for candidate in candidates)
        return next((thing for thing in found if thing), None)

    def index(self, name: Name) -> Optional[Index]:
        """The index of this name, if the files have made it."""
        return next((self.indexes[found] for found in self.candidates(name) if found in self.indexes), None)

    def size(self, name: Name) -> Optional[Size]:
        """The size of a table in the database, if the caller knows it."""
        found = (self.sizes.get(str(candidate)) for candidate in self.candidates(name))
        return next((size for size in found if size), None)

    def full_name(self, name: Name) -> Name:
        """The name with its schema, as far as it is known."""
        if name.schema:
            return name
        candidates = self.candidates(name)
        known = [item for item in candidates if item in self.relations or str(item) in self.sizes]
        return known[0] if len(known) == 1 else name

    # age

    def age(self, name: Name) -> str:
        """Whether nobody uses a table yet: this file makes it, or one that runs before it does and leaves it empty.

        A table the files know nothing of is there.
        """
        if self.is_temporary(name):
            return NEW_HERE
        relation = self.relation(name)
        return self.age_of(relation) if relation else THERE

    def is_temporary(self, name: Name) -> bool:
        """Whether a function of the present file makes a temporary table of this name for itself."""
        return not name.schema and name.name in self.temporaries

    def age_of(self, relation: Relation) -> str:
        """The same for a relation."""
        if relation.temporary or relation.version == self.version:
            return NEW_HERE
        if self.pending is not None and relation.version in self.pending and relation.loaded is None:
            return NEW_PENDING
        return THERE

    def applies_now(self) -> bool:
        """Whether somebody said that the present file is not applied yet."""
        return self.pending is not None and self.version in self.pending

    def is_pending(self, version: int) -> bool:
        """Whether a version runs together with the present file, as far as anybody said."""
        return version == self.version or (self.pending is not None and version in self.pending)


def _temporary_tables(action: Action) -> Iterator[str]:
    """The temporary tables that a function makes, wherever in its body."""
    for inner in action.inner:
        node = inner.node.into.rel if isinstance(inner.node, ast.CreateTableAsStmt) else None
        target = inner.node.relation if isinstance(inner.node, ast.CreateStmt) else node
        if target is not None and is_temporary(target) and inner.place == ROUTINE:
            yield str(target.relname)
        yield from _temporary_tables(inner)
