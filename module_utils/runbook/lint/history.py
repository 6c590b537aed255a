# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes into the catalog of :mod:`series` what a statement does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Callable, Optional

from ansible.module_utils.runbook.lint.nodes import (
    Name,
    Node,
    column_of,
    configured,
    constraints,
    is_temporary,
    listed_name,
    not_null_columns,
    relation_name,
    text_of,
    type_of,
)
from ansible.module_utils.runbook.lint.series import (
    FOREIGN,
    MATVIEW,
    PARTITIONED,
    TABLE,
    VIEW,
    Column,
    Constraint,
    Index,
    Made,
    Relation,
    Series,
    Thing,
)
from ansible.module_utils.runbook.lint.units import ROUTINE, Action
from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType

_SERIAL = ("smallserial", "serial2", "serial", "serial4", "bigserial", "serial8")
_KINDS = {
    ConstrType.CONSTR_CHECK: "check",
    ConstrType.CONSTR_FOREIGN: "foreign key",
    ConstrType.CONSTR_NOTNULL: "not null",
    ConstrType.CONSTR_PRIMARY: "primary key",
    ConstrType.CONSTR_UNIQUE: "unique",
    ConstrType.CONSTR_EXCLUSION: "exclude",
}
_WITH_INDEX = ("primary key", "unique", "exclude")
_THINGS = {
    ObjectType.OBJECT_FUNCTION: "function",
    ObjectType.OBJECT_PROCEDURE: "function",
    ObjectType.OBJECT_ROUTINE: "function",
    ObjectType.OBJECT_TYPE: "type",
    ObjectType.OBJECT_DOMAIN: "type",
    ObjectType.OBJECT_SCHEMA: "schema",
    ObjectType.OBJECT_SEQUENCE: "sequence",
}
_RELATIONS = (
    ObjectType.OBJECT_TABLE,
    ObjectType.OBJECT_VIEW,
    ObjectType.OBJECT_MATVIEW,
    ObjectType.OBJECT_FOREIGN_TABLE,
)


def note(series: Series, action: Action) -> None:
    """Note what an action changes. What a function would do when it is called changes nothing yet."""
    if action.place == ROUTINE or action.node is None:
        return
    noted = _NOTED.get(type(action.node))
    if noted:
        noted(series, action, action.node)
    for inner in action.inner:
        note(series, inner)


# tables


def _create_table(series: Series, action: Action, node: Node) -> None:
    name = relation_name(node.relation)
    known = series.relation(name)
    if node.if_not_exists and (known or (series.applies_now() and series.size(name) is not None)):
        return
    kind = FOREIGN if isinstance(node, ast.CreateForeignTableStmt) else PARTITIONED if node.partspec else TABLE
    relation = Relation(name, kind, series.version, temporary=is_temporary(node.relation))
    if node.partspec:
        relation.strategy = str(node.partspec.strategy.value)
        relation.key = tuple(part.name or "" for part in node.partspec.partParams)
    for element in node.tableElts or ():
        if isinstance(element, ast.ColumnDef):
            _add_column(series, relation, element)
        elif isinstance(element, ast.Constraint):
            _add_constraint(series, relation, element, valid=True)
        elif isinstance(element, ast.TableLikeClause):
            _copy_columns(series, relation, relation_name(element.relation))
    for parent in node.inhRelations or ():
        _copy_columns(series, relation, relation_name(parent))
    _register(series, relation, action, owes=not node.inhRelations)


def _add_column(series: Series, relation: Relation, node: Node) -> Column:
    column = Column(node.colname, type_of(node.typeName) if node.typeName else None, version=series.version)
    if constraints(node, ConstrType.CONSTR_NOTNULL, ConstrType.CONSTR_PRIMARY, ConstrType.CONSTR_IDENTITY):
        column.not_null = True
    if column.type and column.type.name in _SERIAL:
        column.not_null = True
    column.virtual = any(item.generated_kind == "v" for item in constraints(node, ConstrType.CONSTR_GENERATED))
    relation.columns[column.name] = column
    for item in constraints(node, *_KINDS):
        _add_constraint(series, relation, item, valid=True, column=column.name)
    return column


def _add_constraint(series: Series, relation: Relation, node: Node, valid: bool, column: str = "") -> None:
    kind = _KINDS.get(node.contype)
    if kind is None:
        return
    columns = tuple(key.sval for key in node.keys or ()) or ((column,) if column else ())
    valid = valid and (kind != "check" or bool(node.is_enforced))
    name = node.conname or node.indexname or _generated_name(relation, kind, columns, node)
    relation.constraints[name] = Constraint(name, kind, valid, series.version, node.raw_expr, columns)
    if kind == "primary key" or (kind == "not null" and valid):
        for each in columns:
            if each in relation.columns:
                relation.columns[each].not_null = True


def _generated_name(relation: Relation, kind: str, columns: tuple[str, ...], node: Node) -> str:
    """The name PostgreSQL gives to a constraint without one (``ChooseConstraintName`` in ``pg_constraint.c``)."""
    ending = {"check": "check", "foreign key": "fkey", "not null": "not_null", "primary key": "pkey", "unique": "key"}
    used = columns or tuple(key.sval for key in node.fk_attrs or ()) or tuple(_mentioned(node.raw_expr))
    middle = [] if kind == "primary key" else list(used) if kind != "check" or len(used) == 1 else []
    return "_".join([relation.name.name, *middle, ending.get(kind, "excl")])


def _mentioned(expression: Node) -> list[str]:
    columns = sorted(not_null_columns(expression)) if expression is not None else []
    found = column_of(getattr(expression, "lexpr", None))
    return columns or ([found] if found else [])


def _copy_columns(series: Series, relation: Relation, name: Name) -> None:
    """The columns of LIKE and INHERITS; whoever commented them did so there."""
    other = series.relation(name)
    for column in other.columns.values() if other else ():
        relation.columns.setdefault(
            column.name,
            Column(column.name, column.type, column.not_null, column.virtual, series.version, commented=True),
        )


def _create_as(series: Series, action: Action, node: Node) -> None:
    kind = MATVIEW if node.objtype == ObjectType.OBJECT_MATVIEW else TABLE
    _create_into(series, action, node.into, kind, node.if_not_exists)


def _selected(series: Series, action: Action, node: Node) -> None:
    """SELECT INTO, and set_config(), as dumps of pg_dump begin."""
    if node.intoClause:
        _create_into(series, action, node.intoClause, TABLE, False)
    for target in node.targetList or () if not node.fromClause else ():
        setting, path = configured(target.val) or ("", "")
        if setting == "search_path":
            series.path = _path([path])


def _create_into(series: Series, action: Action, into: Node, kind: str, if_not_exists: bool) -> None:
    name = relation_name(into.rel)
    if if_not_exists and series.relation(name):
        return
    relation = Relation(name, kind, series.version, temporary=is_temporary(into.rel))
    relation.populated = not into.skipData
    relation.loaded = None if into.skipData else action
    _register(series, relation, action)


def _create_view(series: Series, action: Action, node: Node) -> None:
    name = relation_name(node.view)
    if not (node.replace and series.relation(name)):
        _register(series, Relation(name, VIEW, series.version, is_temporary(node.view)), action)


def _register(series: Series, relation: Relation, action: Action, owes: bool = True) -> None:
    # An unqualified name may end in any schema of the path: it is found under each of them.
    name = Name("", relation.name.name) if relation.temporary else relation.name
    for candidate in series.candidates(name):
        series.relations[candidate] = relation
    if relation.temporary:
        series.relations[Name("pg_temp", relation.name.name)] = relation
    elif owes:
        series.made.append(Made(relation, None, action, series.version))


def _create_index(series: Series, action: Action, node: Node) -> None:
    table = relation_name(node.relation)
    columns = tuple(part.name or "" for part in node.indexParams)
    words = [part or "expr" for part in columns]
    name = Name(table.schema, node.idxname or "_".join([table.name, *words, "idx"]))
    index = Index(name, series.relation(table), columns, series.version, node.unique, action)
    for candidate in series.candidates(name):
        series.indexes[candidate] = index


# ALTER TABLE


def _alter_table(series: Series, action: Action, node: Node) -> None:
    relation = series.relation(relation_name(node.relation))
    command = node.cmds[0]
    altered = _ALTERED.get(command.subtype)
    if altered and relation:
        altered(series, action, relation, command)


def _added_column(series: Series, action: Action, relation: Relation, command: Node) -> None:
    if command.missing_ok and command.def_.colname in relation.columns:
        return
    column = _add_column(series, relation, command.def_)
    if not relation.temporary:
        series.made.append(Made(column, relation, action, series.version))


def _dropped_column(series: Series, _action: Action, relation: Relation, command: Node) -> None:
    column = relation.columns.pop(command.name, None)
    _forget(series, column)


def _added_constraint(series: Series, _action: Action, relation: Relation, command: Node) -> None:
    node = command.def_
    _add_constraint(series, relation, node, valid=not node.skip_validation)
    if node.contype == ConstrType.CONSTR_PRIMARY and node.indexname:
        index = series.index(Name(relation.name.schema, node.indexname))
        for name in index.columns if index else ():
            if name in relation.columns:
                relation.columns[name].not_null = True


def _validated(series: Series, _action: Action, relation: Relation, command: Node) -> None:
    constraint = relation.constraints.get(command.name)
    if constraint:
        constraint.valid = True
        if constraint.kind == "not null":
            for name in constraint.columns:
                if name in relation.columns:
                    relation.columns[name].not_null = True


def _dropped_constraint(_series: Series, action: Action, relation: Relation, command: Node) -> None:
    constraint = relation.constraints.pop(command.name, None)
    if constraint is None:
        return
    relation.dropped.append((constraint, action))
    if constraint.kind == "not null":
        for name in constraint.columns:
            if name in relation.columns:
                relation.columns[name].not_null = False


def _set_type(_series: Series, _action: Action, relation: Relation, command: Node) -> None:
    if command.name in relation.columns:
        relation.columns[command.name].type = type_of(command.def_.typeName)


def _set_not_null(_series: Series, _action: Action, relation: Relation, command: Node) -> None:
    if command.name in relation.columns:
        relation.columns[command.name].not_null = command.subtype == AlterTableType.AT_SetNotNull


def _attached(series: Series, _action: Action, _relation: Relation, command: Node) -> None:
    partition = series.relation(relation_name(command.def_.name))
    if partition is None:
        return
    # A partition is documented by the table it is a part of.
    for made in series.made:
        if made.what is partition or made.of is partition:
            made.gone = True


_ALTERED: dict[AlterTableType, Callable[[Series, Action, Relation, Node], None]] = {
    AlterTableType.AT_AddColumn: _added_column,
    AlterTableType.AT_DropColumn: _dropped_column,
    AlterTableType.AT_AddConstraint: _added_constraint,
    AlterTableType.AT_ValidateConstraint: _validated,
    AlterTableType.AT_DropConstraint: _dropped_constraint,
    AlterTableType.AT_AlterColumnType: _set_type,
    AlterTableType.AT_SetNotNull: _set_not_null,
    AlterTableType.AT_DropNotNull: _set_not_null,
    AlterTableType.AT_AttachPartition: _attached,
}

# names that change or go


def _renamed(series: Series, _action: Action, node: Node) -> None:
    if node.renameType == ObjectType.OBJECT_COLUMN and node.relation:
        relation = series.relation(relation_name(node.relation))
        column = relation.columns.pop(node.subname, None) if relation else None
        if relation and column:
            column.name = node.newname
            relation.columns[column.name] = column
    elif node.renameType == ObjectType.OBJECT_TABCONSTRAINT:
        _rename_constraint(series.relation(relation_name(node.relation)), node.subname, node.newname)
    elif node.renameType == ObjectType.OBJECT_INDEX:
        _rename_index(series, relation_name(node.relation), node.newname)
    elif node.renameType in _RELATIONS:
        _move(series, relation_name(node.relation), name=node.newname)
    elif node.renameType in _THINGS and node.object is not None:
        _move_thing(series, _THINGS[node.renameType], listed_name(node.object), name=node.newname)


def _rename_constraint(relation: Optional[Relation], old: str, new: str) -> None:
    constraint = relation.constraints.pop(old, None) if relation else None
    if relation and constraint:
        constraint.name = new
        relation.constraints[new] = constraint


def _rename_index(series: Series, old: Name, new: str) -> None:
    """An index, and the constraint that it stands behind: the two have one name."""
    index = series.index(old)
    for known in [key for key, value in series.indexes.items() if index and value is index]:
        series.indexes[Name(known.schema, new)] = series.indexes.pop(known)
    schemas = {name.schema for name in series.candidates(old)}
    for name, relation in series.relations.items():
        constraint = relation.constraints.get(old.name) if name.schema in schemas else None
        if constraint and constraint.kind in _WITH_INDEX:
            _rename_constraint(relation, old.name, new)


def _moved(series: Series, _action: Action, node: Node) -> None:
    if node.objectType in _RELATIONS:
        _move(series, relation_name(node.relation), schema=node.newschema)
    elif node.objectType in _THINGS and node.object is not None:
        _move_thing(series, _THINGS[node.objectType], listed_name(node.object), schema=node.newschema)


def _move(series: Series, old: Name, name: str = "", schema: str = "") -> None:
    relation = series.relation(old)
    if relation is None:
        return
    for known in [key for key, value in series.relations.items() if value is relation]:
        del series.relations[known]
        series.relations[Name(schema or known.schema, name or known.name)] = relation
    relation.name = Name(schema or relation.name.schema, name or relation.name.name)


def _move_thing(series: Series, kind: str, old: Name, name: str = "", schema: str = "") -> None:
    thing = series.thing(kind, old)
    if thing is None:
        return
    for known in [key for key, value in series.things.items() if value is thing]:
        del series.things[known]
        series.things[(kind, Name(schema or known[1].schema, name or known[1].name))] = thing
    thing.name = Name(schema or thing.name.schema, name or thing.name.name)


def _dropped(series: Series, _action: Action, node: Node) -> None:
    for item in node.objects:
        name = listed_name(item)
        if node.removeType in _RELATIONS:
            relation = series.relation(name)
            for known in [key for key, value in series.relations.items() if relation and value is relation]:
                del series.relations[known]
            _forget(series, relation)
        elif node.removeType == ObjectType.OBJECT_INDEX:
            index = series.index(name)
            for known in [key for key, value in series.indexes.items() if index and value is index]:
                del series.indexes[known]
        elif node.removeType in _THINGS:
            thing = series.thing(_THINGS[node.removeType], name)
            _forget(series, thing)
            for key in [key for key, value in series.things.items() if thing and value is thing]:
                del series.things[key]
            if node.removeType == ObjectType.OBJECT_SCHEMA:
                _empty_schema(series, name.name)


def _empty_schema(series: Series, schema: str) -> None:
    """What is in a schema goes with it."""
    for made in series.made:
        what = made.of or made.what
        if not isinstance(what, Column) and what.name.schema == schema:
            made.gone = True
    for key in [key for key in series.relations if key.schema == schema]:
        del series.relations[key]


def _forget(series: Series, what: object) -> None:
    """Nobody owes a comment for what is gone."""
    for made in series.made:
        if what is not None and (made.what is what or made.of is what):
            made.gone = True


# everything else


def _create_function(series: Series, action: Action, node: Node) -> None:
    name = listed_name(node.funcname)
    known = series.thing("function", name)
    options = {option.defname: option.arg for option in node.options or ()}
    volatility = (text_of(options.get("volatility")) or "volatile").lower()
    if known and node.replace:
        known.volatility, known.inner = volatility, action.inner
        return
    thing = Thing("function", name, series.version, volatility=volatility, inner=action.inner)
    thing.overloads = known.overloads if known else []
    thing.overloads.append(thing)
    _register_thing(series, thing, action)


def _create_type(series: Series, action: Action, node: Node) -> None:
    if isinstance(node, ast.CompositeTypeStmt):
        name = relation_name(node.typevar)
    elif isinstance(node, ast.CreateDomainStmt):
        name = listed_name(node.domainname)
    else:
        name = listed_name(node.typeName)
    thing = Thing("type", name, series.version)
    if isinstance(node, ast.CreateDomainStmt):
        kinds = (ConstrType.CONSTR_CHECK, ConstrType.CONSTR_NOTNULL)
        thing.constrained = any(item.contype in kinds for item in node.constraints or ())
    _register_thing(series, thing, action)


def _alter_domain(series: Series, _action: Action, node: Node) -> None:
    thing = series.thing("type", listed_name(node.typeName))
    if thing and node.subtype in ("C", "O"):  # ADD CONSTRAINT, SET NOT NULL
        thing.constrained = True


def _create_schema(series: Series, action: Action, node: Node) -> None:
    if node.schemaname and not (node.if_not_exists and ("schema", Name("", node.schemaname)) in series.things):
        thing = Thing("schema", Name("", node.schemaname), series.version)
        series.things[("schema", thing.name)] = thing
        series.made.append(Made(thing, None, action, series.version))


def _create_sequence(series: Series, action: Action, node: Node) -> None:
    name = relation_name(node.sequence)
    if not (node.if_not_exists and series.thing("sequence", name)) and not is_temporary(node.sequence):
        _register_thing(series, Thing("sequence", name, series.version), action)


def _register_thing(series: Series, thing: Thing, action: Action) -> None:
    for candidate in series.candidates(thing.name):
        series.things[(thing.kind, candidate)] = thing
    series.made.append(Made(thing, None, action, series.version))


def _comment(series: Series, _action: Action, node: Node) -> None:
    given = bool(node.comment)
    if node.objtype == ObjectType.OBJECT_COLUMN:
        *table, column = [part.sval for part in node.object]
        relation = series.relation(Name(table[-2] if len(table) > 1 else "", table[-1]))
        if relation and column in relation.columns:
            relation.columns[column].commented = given
    elif node.objtype in _RELATIONS:
        relation = series.relation(listed_name(node.object))
        if relation:
            relation.commented = given
    elif node.objtype in _THINGS:
        thing = series.thing(_THINGS[node.objtype], listed_name(node.object))
        for each in thing.overloads or [thing] if thing else ():
            each.commented = given


def _loaded(series: Series, action: Action, node: Node) -> None:
    if isinstance(node, ast.CopyStmt) and not node.is_from:
        return
    relation = series.relation(relation_name(node.relation)) if node.relation else None
    if relation and relation.loaded is None:
        relation.loaded = action


def _refreshed(series: Series, _action: Action, node: Node) -> None:
    relation = series.relation(relation_name(node.relation))
    if relation:
        relation.populated = not node.skipData


def _set_variable(series: Series, _action: Action, node: Node) -> None:
    if node.name == "search_path":
        names = [text_of(argument) or "" for argument in node.args or ()]
        series.path = _path(names) if names else None


def _path(names: Iterable[str]) -> Optional[list[str]]:
    """The schemas of a search_path; both ``a, b`` and ``'a, b'`` are written."""
    found = [part.strip().strip('"') for name in names for part in name.split(",")]
    return [name for name in found if name and name not in ("$user", "pg_catalog")]


def _added_enum_value(series: Series, _action: Action, node: Node) -> None:
    thing = series.thing("type", listed_name(node.typeName))
    if node.newVal and not node.oldVal and not (thing and thing.version == series.version):
        series.enum_values[node.newVal] = series.version


_NOTED: dict[type, Callable[[Series, Action, Node], None]] = {
    ast.CreateStmt: _create_table,
    ast.CreateForeignTableStmt: lambda series, action, node: _create_table(series, action, node.base),
    ast.CreateTableAsStmt: _create_as,
    ast.SelectStmt: _selected,
    ast.ViewStmt: _create_view,
    ast.IndexStmt: _create_index,
    ast.AlterTableStmt: _alter_table,
    ast.RenameStmt: _renamed,
    ast.AlterObjectSchemaStmt: _moved,
    ast.DropStmt: _dropped,
    ast.CreateFunctionStmt: _create_function,
    ast.CreateEnumStmt: _create_type,
    ast.CreateRangeStmt: _create_type,
    ast.CompositeTypeStmt: _create_type,
    ast.CreateDomainStmt: _create_type,
    ast.AlterDomainStmt: _alter_domain,
    ast.CreateSchemaStmt: _create_schema,
    ast.CreateSeqStmt: _create_sequence,
    ast.CommentStmt: _comment,
    ast.InsertStmt: _loaded,
    ast.CopyStmt: _loaded,
    ast.RefreshMatViewStmt: _refreshed,
    ast.VariableSetStmt: _set_variable,
    ast.AlterEnumStmt: _added_enum_value,
}
