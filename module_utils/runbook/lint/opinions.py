# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left of squawk's findings once the series is known.

squawk sees one statement. Here each of its rules is asked again with what the files before have made: the type that a
column has, the CHECK that proves it to be without NULL, the view that takes a renamed table's place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Callable, Optional

from ansible.module_utils.runbook.lint.hit import Hit, one_line, with_word
from ansible.module_utils.runbook.lint.nodes import (
    Name,
    Node,
    Type,
    column_of,
    constraints,
    is_null,
    is_temporary,
    listed_name,
    not_null_columns,
    relation_name,
    type_of,
)
from ansible.module_utils.runbook.lint.series import NEW_HERE, PARTITIONED, Relation, Series, Thing
from ansible.module_utils.runbook.lint.types import rewrite_reason, same_on_disk
from ansible.module_utils.runbook.lint.units import Action
from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType

Opinion = Callable[[Action, Series], Iterator[Hit]]

_SEQUENCES = {
    "serial": ("integer", "2,147,483,647"),
    "serial4": ("integer", "2,147,483,647"),
    "smallserial": ("smallint", "32,767"),
    "serial2": ("smallint", "32,767"),
}
_SMALL = {"int4": _SEQUENCES["serial"], "int2": _SEQUENCES["serial2"]}
_HARMLESS_RENAMES = (
    ObjectType.OBJECT_INDEX,
    ObjectType.OBJECT_TABCONSTRAINT,
    ObjectType.OBJECT_DOMCONSTRAINT,
    ObjectType.OBJECT_TRIGGER,
    ObjectType.OBJECT_POLICY,
    ObjectType.OBJECT_RULE,
    ObjectType.OBJECT_STATISTIC_EXT,
)


def command_of(action: Action, *kinds: AlterTableType) -> Optional[Node]:
    """The subcommand of an ALTER TABLE, if it is of one of these kinds."""
    if isinstance(action.node, ast.AlterTableStmt) and action.node.objtype in _TABLES:
        (command,) = action.node.cmds[:1]
        if not kinds or command.subtype in kinds:
            return command
    return None


_TABLES = (ObjectType.OBJECT_TABLE, ObjectType.OBJECT_FOREIGN_TABLE, ObjectType.OBJECT_MATVIEW)


def new_columns(action: Action) -> list[Node]:
    """The columns that CREATE TABLE or ADD COLUMN makes, but for temporary tables."""
    node = action.node
    if isinstance(node, ast.CreateStmt) and not is_temporary(node.relation):
        return [element for element in node.tableElts or () if isinstance(element, ast.ColumnDef)]
    command = command_of(action, AlterTableType.AT_AddColumn)
    return [command.def_] if command else []


def added_constraints(action: Action, *kinds: ConstrType) -> list[Node]:
    """The constraints of these kinds that ALTER TABLE adds, also together with a column."""
    command = command_of(action, AlterTableType.AT_AddConstraint, AlterTableType.AT_AddColumn)
    if command is None:
        return []
    if command.subtype == AlterTableType.AT_AddColumn:
        return constraints(command.def_, *kinds)
    return [command.def_] if command.def_.contype in kinds else []


def table_of(action: Action) -> Name:
    """The table that an action is about."""
    return relation_name(action.node.relation)


# indexes


def index_creation(action: Action, series: Series) -> Iterator[Hit]:
    """CREATE INDEX. ON ONLY a partitioned table builds nothing, and is the first step of the safe way there."""
    node, table = action.node, table_of(action)
    relation = series.relation(table)
    if node.concurrent or (not node.relation.inh and (relation is None or relation.kind == PARTITIONED)):
        return
    rewrite = with_word(re.sub(r"(?i)\bIF\s+NOT\s+EXISTS\b", "", action.text), "INDEX", "CONCURRENTLY")
    if relation and relation.kind == PARTITIONED:
        rewrite = (
            f"{with_word(action.text, 'ON', 'ONLY')} then CREATE INDEX CONCURRENTLY on each partition, and "
            "ALTER INDEX … ATTACH PARTITION."
        )
    yield Hit("require-concurrent-index-creation", action, table, {"rewrite": rewrite})


def index_deletion(action: Action, series: Series) -> Iterator[Hit]:
    """DROP INDEX of indexes that this file has not made; those of partitioned tables know no other way."""
    for item in action.node.objects:
        name = listed_name(item)
        index = series.index(name)
        partitioned = index is not None and index.table is not None and index.table.kind == PARTITIONED
        if partitioned or (index is not None and index.version == series.version):
            continue
        table = index.table.name if index and index.table else None
        facts = {"name": str(name), "rewrite": f"DROP INDEX CONCURRENTLY {name};"}
        yield Hit("require-concurrent-index-deletion", action, table, facts)


def reindex(action: Action, series: Series) -> Iterator[Hit]:
    """REINDEX without CONCURRENTLY."""
    node = action.node
    table = relation_name(node.relation) if node.relation else None
    index = series.index(table) if table else None
    if index and index.table:
        table = index.table.name
    rewrite = f"{one_line(action.text).replace('REINDEX', 'REINDEX (CONCURRENTLY)', 1)};"
    yield Hit("require-concurrent-reindex", action, table, {"table": str(table or "every table"), "rewrite": rewrite})


def detach(action: Action, _series: Series) -> Iterator[Hit]:
    """DETACH PARTITION without CONCURRENTLY."""
    rewrite = f"{one_line(action.text)} CONCURRENTLY;"
    yield Hit("require-concurrent-partition-detach", action, table_of(action), {"rewrite": rewrite})


# constraints


def check(action: Action, series: Series) -> Iterator[Hit]:
    """ADD CONSTRAINT … CHECK or NOT NULL that is not NOT VALID, also on a column that is added."""
    relation = series.relation(table_of(action))
    for item in added_constraints(action, ConstrType.CONSTR_CHECK, ConstrType.CONSTR_NOTNULL):
        inline = command_of(action, AlterTableType.AT_AddColumn) is not None
        if item.contype == ConstrType.CONSTR_NOTNULL:
            if inline or item.skip_validation or all(proven(relation, key.sval) for key in item.keys or ()):
                continue
        elif item.skip_validation or not item.is_enforced:
            continue
        yield Hit(
            "constraint-missing-not-valid", action, table_of(action), {"rewrite": _not_valid(action, item, inline)}
        )


def foreign_key(action: Action, series: Series) -> Iterator[Hit]:
    """ADD FOREIGN KEY that is not NOT VALID.

    With a new column that has no default PostgreSQL checks nothing, since there is nothing but NULL
    (``transformAlterTableStmt`` in ``parse_utilcmd.c``).
    """
    inline = command_of(action, AlterTableType.AT_AddColumn)
    for item in added_constraints(action, ConstrType.CONSTR_FOREIGN):
        if item.skip_validation or not item.is_enforced:
            continue
        if inline and not constraints(inline.def_, ConstrType.CONSTR_DEFAULT):
            continue
        other = series.full_name(relation_name(item.pktable))
        facts = {"other": str(other), "rewrite": _not_valid(action, item, inline is not None)}
        yield Hit("adding-foreign-key-constraint", action, table_of(action), facts)


def _not_valid(action: Action, item: Node, inline: bool) -> str:
    """The statement with NOT VALID, and the one that validates."""
    table, name = table_of(action), item.conname or "NAME"
    validate = f"ALTER TABLE {table} VALIDATE CONSTRAINT {name};"
    if inline:
        return f"ALTER TABLE {table} ADD CONSTRAINT {name} … NOT VALID; {validate}"
    return f"{one_line(action.text)} NOT VALID; {validate}"


def unique(action: Action, _series: Series) -> Iterator[Hit]:
    """ADD UNIQUE that builds its index itself."""
    yield from _with_index(action, "disallowed-unique-constraint", ConstrType.CONSTR_UNIQUE, "UNIQUE")


def primary_key(action: Action, _series: Series) -> Iterator[Hit]:
    """ADD PRIMARY KEY that builds its index itself."""
    yield from _with_index(action, "adding-serial-primary-key-field", ConstrType.CONSTR_PRIMARY, "PRIMARY KEY")


def _with_index(action: Action, rule: str, kind: ConstrType, words: str) -> Iterator[Hit]:
    for item in added_constraints(action, kind):
        if item.indexname:
            continue
        table = table_of(action)
        columns = ", ".join(key.sval for key in item.keys or ()) or "…"
        middle = "" if kind == ConstrType.CONSTR_PRIMARY else "_".join(key.sval for key in item.keys or ()) + "_"
        name = item.conname or f"{table.name}_{middle}{'pkey' if kind == ConstrType.CONSTR_PRIMARY else 'key'}"
        rewrite = (
            f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns}); "
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {words} USING INDEX {name};"
        )
        yield Hit(rule, action, table, {"rewrite": rewrite})


# columns


def default(action: Action, series: Series) -> Iterator[Hit]:
    """ADD COLUMN that rewrites the table."""
    command = command_of(action, AlterTableType.AT_AddColumn)
    if command is None:
        return
    reason = rewrite_reason(command.def_, series)
    if reason:
        table, column = table_of(action), command.def_.colname
        rewrite = f"ALTER TABLE {table} ADD COLUMN {column} …; ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT …;"
        yield Hit("adding-field-with-default", action, table, {"column": column, "reason": reason, "rewrite": rewrite})


def required(action: Action, series: Series) -> Iterator[Hit]:
    """ADD COLUMN … NOT NULL without a value for the rows that exist."""
    command = command_of(action, AlterTableType.AT_AddColumn)
    if command is None or not constraints(command.def_, ConstrType.CONSTR_NOTNULL):
        return
    filled = (ConstrType.CONSTR_DEFAULT, ConstrType.CONSTR_IDENTITY, ConstrType.CONSTR_GENERATED)
    if any(not is_null(item.raw_expr) for item in constraints(command.def_, *filled)):
        return
    if "serial" in type_of(command.def_.typeName).name:
        return
    table, column = table_of(action), command.def_.colname
    facts = {"column": column, "rewrite": prove_not_null(table, column)}
    yield Hit("adding-required-field", action, table, facts)


def not_null(action: Action, series: Series) -> Iterator[Hit]:
    """SET NOT NULL that nothing proves."""
    command = command_of(action, AlterTableType.AT_SetNotNull)
    if command and not proven(series.relation(table_of(action)), command.name):
        yield unproven(action, command.name, series)


def unproven(action: Action, column: str, series: Series) -> Hit:
    """A column becomes NOT NULL without a proof; where the proof was dropped, the hit says so."""
    table = table_of(action)
    relation = series.relation(table)
    facts = {"column": column, "reason": "", "rewrite": prove_not_null(table, column)}
    for constraint, drop in relation.dropped if relation else ():
        if constraint.kind == "check" and constraint.valid and column in not_null_columns(constraint.expression):
            where = f"line {drop.line}" if drop.file == action.file else f"{drop.file}, line {drop.line}"
            facts["reason"] = f": CHECK {constraint.name} proved {column}, but is dropped before ({where})"
    return Hit("adding-not-nullable-field", action, table, facts)


def proven(relation: Optional[Relation], column: str) -> bool:
    """Whether a column cannot hold NULL, or a valid CHECK says so, which PostgreSQL 12 and newer believes."""
    if relation is None:
        return False
    known = relation.columns.get(column)
    return (known is not None and known.not_null) or any(
        column in not_null_columns(expression) for expression in relation.valid_checks()
    )


def prove_not_null(table: Name, column: str) -> str:
    """The steps to NOT NULL. An ALTER TABLE drops first: in the same one, DROP CONSTRAINT would take the proof away."""
    return (
        f"ALTER TABLE {table} ADD CONSTRAINT {column}_filled CHECK ({column} IS NOT NULL) NOT VALID; "
        f"ALTER TABLE {table} VALIDATE CONSTRAINT {column}_filled; "
        f"ALTER TABLE {table} ALTER COLUMN {column} SET NOT NULL; "
        f"ALTER TABLE {table} DROP CONSTRAINT {column}_filled;"
    )


def column_type(action: Action, series: Series) -> Iterator[Hit]:
    """ALTER COLUMN … TYPE, unless what is on disk already fits."""
    command = command_of(action, AlterTableType.AT_AlterColumnType)
    if command is None or action.node.objtype == ObjectType.OBJECT_FOREIGN_TABLE:
        return
    table, new = table_of(action), type_of(command.def_.typeName)
    relation = series.relation(table)
    column = relation.columns.get(command.name) if relation else None
    old = column.type if column else None
    computed = command.def_.raw_default
    plain = computed is None or (column_of(computed) == command.name and _casts_to(computed, old, new))
    if old and plain and command.def_.collClause is None and same_on_disk(old, new):
        return
    facts = {
        "column": command.name,
        "reason": f" ({old} becomes {new})" if old else f" (to {new}; what it was is not in the files)",
        "rewrite": f"ALTER TABLE {table} ADD COLUMN {command.name}_new {new};",
    }
    yield Hit("changing-column-type", action, table, facts)


def _casts_to(expression: Node, old: Optional[Type], new: Type) -> bool:
    """Whether USING is the column itself, or cast to a type with the same bytes."""
    if not isinstance(expression, ast.TypeCast):
        return True
    target = type_of(expression.typeName)
    return isinstance(expression.arg, ast.ColumnRef) and old is not None and same_on_disk(old, target) and target == new


def identity(action: Action, series: Series) -> Iterator[Hit]:
    """Changes of an existing column's identity."""
    command = command_of(action)
    if command and not _added_here(series, table_of(action), command.name):
        yield Hit("ban-alter-identity", action, table_of(action), {"column": command.name or ""})


def generated(action: Action, series: Series) -> Iterator[Hit]:
    """DROP EXPRESSION."""
    command = command_of(action)
    if command and not _added_here(series, table_of(action), command.name):
        yield Hit("ban-drop-generated-expression", action, table_of(action), {"column": command.name or ""})


def _added_here(series: Series, table: Name, column: str) -> bool:
    relation = series.relation(table)
    known = relation.columns.get(column) if relation else None
    return known is not None and known.version == series.version


# names


def renamed_column(action: Action, series: Series) -> Iterator[Hit]:
    """RENAME COLUMN, also of views and composite types."""
    node = action.node
    table = relation_name(node.relation) if node.relation else Name("", "")
    if not _added_here(series, table, node.subname):
        yield Hit("renaming-column", action, table, {"column": f"{table}.{node.subname}"})


def renamed_table(action: Action, series: Series) -> Iterator[Hit]:
    """RENAME of a table, unless the same file leaves something else under its old name."""
    table = table_of(action)
    if _made_in_file(series, table) and series.source.transactional:
        return
    rewrite = f"CREATE VIEW {table} AS SELECT * FROM {Name(table.schema, action.node.newname)};"
    yield Hit("renaming-table", action, table, {"rewrite": rewrite})


def renamed_object(action: Action, series: Series) -> Iterator[Hit]:
    """RENAME of what queries use by name; indexes, constraints, triggers and the like are not."""
    node = action.node
    if isinstance(node, ast.AlterEnumStmt):
        yield Hit("renaming-object", action, None, {"name": f"value {node.oldVal} of {listed_name(node.typeName)}"})
        return
    if node.renameType in _HARMLESS_RENAMES:
        return
    name = relation_name(node.relation) if node.relation else listed_name(node.object) if node.object else None
    name = name or Name("", node.subname or "it")
    if not _new_thing(series, name):
        yield Hit("renaming-object", action, name, {"name": str(name)})


def set_schema(action: Action, series: Series) -> Iterator[Hit]:
    """SET SCHEMA."""
    node = action.node
    name = relation_name(node.relation) if node.relation else listed_name(node.object)
    if not _new_thing(series, name) and not _made_in_file(series, name):
        yield Hit("ban-set-schema", action, name, {"name": str(name)})


def dropped_column(action: Action, series: Series) -> Iterator[Hit]:
    """DROP COLUMN of a column that was there before this file."""
    command = command_of(action, AlterTableType.AT_DropColumn)
    if command and not _added_here(series, table_of(action), command.name):
        yield Hit("ban-drop-column", action, table_of(action), {"column": command.name})


def dropped(rule: str) -> Opinion:
    """DROP of anything, unless the file has made it, or makes anew what holds no data."""
    replaceable = rule in ("ban-drop-view", "ban-drop-function", "ban-drop-type", "ban-drop-domain")
    not_meant = (ObjectType.OBJECT_CAST, ObjectType.OBJECT_OPERATOR, ObjectType.OBJECT_TRANSFORM)

    def judged(action: Action, series: Series) -> Iterator[Hit]:
        node = action.node
        if getattr(node, "removeType", None) in not_meant:
            return  # to squawk, these are types
        objects = node.objects if isinstance(node, ast.DropStmt) else (ast.String(sval=getattr(node, "dbname", "it")),)
        for item in objects:
            name = listed_name(item)
            if not _new_thing(series, name) and not (replaceable and _made_in_file(series, name)):
                table = name if rule == "ban-drop-table" else None
                yield Hit(rule, action, table, {"name": str(name)})

    return judged


def _new_thing(series: Series, name: Name) -> bool:
    """Whether a name is one that this file has made."""
    relation = series.relation(name)
    if relation is not None:
        return series.age_of(relation) == NEW_HERE
    found: list[Optional[Thing]] = [series.thing(kind, name) for kind in ("function", "type", "sequence", "schema")]
    return any(thing is not None and thing.version == series.version for thing in found)


def _made_in_file(series: Series, name: Name) -> bool:
    """Whether the present file creates something of this name, anywhere in it."""
    wanted = set(series.candidates(name))
    return any(wanted & set(series.candidates(made)) for action in series.source.actions for made in _creates(action))


def _creates(action: Action) -> Iterator[Name]:
    node = action.node
    if isinstance(node, ast.ViewStmt):
        yield relation_name(node.view)
    elif isinstance(node, ast.CreateTableAsStmt):
        yield relation_name(node.into.rel)
    elif isinstance(node, ast.CreateStmt):
        yield relation_name(node.relation)
    elif isinstance(node, ast.CreateFunctionStmt):
        yield listed_name(node.funcname)
    elif isinstance(node, (ast.CreateEnumStmt, ast.CreateRangeStmt)):
        yield listed_name(node.typeName)
    elif isinstance(node, ast.CompositeTypeStmt):
        yield relation_name(node.typevar)
    elif isinstance(node, ast.CreateDomainStmt):
        yield listed_name(node.domainname)
    elif isinstance(node, ast.RenameStmt) and node.renameType in _TABLES and node.relation:
        yield Name(node.relation.schemaname or "", node.newname)
    for inner in action.inner if isinstance(node, ast.DoStmt) else ():
        yield from _creates(inner)


# types


def domain_constraint(action: Action, series: Series) -> Iterator[Hit]:
    """ALTER DOMAIN … ADD CONSTRAINT, unless NOT VALID or a domain of this file."""
    node = action.node
    name = listed_name(node.typeName)
    if not (node.def_ and node.def_.skip_validation) and not _new_thing(series, name):
        yield Hit("ban-alter-domain-with-add-constraint", action, None, {"name": str(name)})


def counting(action: Action, _series: Series) -> Iterator[Hit]:
    """Columns that count up in less than a bigint."""
    for column in new_columns(action):
        name = type_of(column.typeName).name
        found = _SEQUENCES.get(name)
        if constraints(column, ConstrType.CONSTR_IDENTITY):
            found = _SMALL.get(name)
        if found:
            facts = {"column": column.colname, "reason": found[0], "limit": found[1]}
            yield Hit("prefer-bigint-over-int", action, table_of(action), facts, ageless=True)


def style(rule: str) -> Opinion:
    """A rule about the types of new columns, and new types of columns, that needs no second look."""

    def judged(action: Action, _series: Series) -> Iterator[Hit]:
        if new_columns(action) or command_of(action, AlterTableType.AT_AlterColumnType):
            yield Hit(rule, action, table_of(action), ageless=True)

    return judged


def plain(rule: str) -> Opinion:
    """A rule that needs no second look."""

    def judged(action: Action, _series: Series) -> Iterator[Hit]:
        yield Hit(rule, action)

    return judged


OPINIONS: dict[str, Opinion] = {
    "require-concurrent-index-creation": index_creation,
    "require-concurrent-index-deletion": index_deletion,
    "require-concurrent-reindex": reindex,
    "require-concurrent-partition-detach": detach,
    "constraint-missing-not-valid": check,
    "adding-foreign-key-constraint": foreign_key,
    "disallowed-unique-constraint": unique,
    "adding-serial-primary-key-field": primary_key,
    "adding-field-with-default": default,
    "adding-required-field": required,
    "adding-not-nullable-field": not_null,
    "changing-column-type": column_type,
    "ban-alter-domain-with-add-constraint": domain_constraint,
    "ban-alter-identity": identity,
    "ban-drop-generated-expression": generated,
    "renaming-column": renamed_column,
    "renaming-table": renamed_table,
    "renaming-object": renamed_object,
    "ban-set-schema": set_schema,
    "ban-drop-column": dropped_column,
    **{
        f"ban-drop-{kind}": dropped(f"ban-drop-{kind}")
        for kind in ("table", "view", "function", "type", "sequence", "domain", "extension", "schema", "database")
    },
    "prefer-bigint-over-int": counting,
    "prefer-bigint-over-smallint": counting,
    "ban-char-field": style("ban-char-field"),
    "prefer-timestamp-tz": style("prefer-timestamp-tz"),
    "identifier-too-long": plain("identifier-too-long"),
    "ban-duplicate-column-assignments": plain("ban-duplicate-column-assignments"),
}
"""The rules of squawk that count, each with what is asked again. Its other rules don't fit; docs/lint.md says why."""
