# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that squawk does not have, on PostgreSQL's own parse tree."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible.module_utils.runbook.lint import opinions
from ansible.module_utils.runbook.lint.all_rows import without_where
from ansible.module_utils.runbook.lint.hit import Hit, one_line, with_word
from ansible.module_utils.runbook.lint.nodes import (
    Name,
    Node,
    constraints,
    has_option,
    is_temporary,
    listed_name,
    relation_name,
    text_of,
    type_of,
    walk,
)
from ansible.module_utils.runbook.lint.opinions import added_constraints, command_of, new_columns, proven, table_of
from ansible.module_utils.runbook.lint.partitions import bounds_proven, partition_check
from ansible.module_utils.runbook.lint.plpgsql import changes_schema
from ansible.module_utils.runbook.lint.safeguards import SAFEGUARDS
from ansible.module_utils.runbook.lint.series import Relation, Series
from ansible.module_utils.runbook.lint.units import BLOCK, ROUTINE, Action, with_inner
from pglast import ast
from pglast.enums import AlterTableType, ConstrType

_LOCK_MODES = {5: "SHARE", 6: "SHARE ROW EXCLUSIVE", 7: "EXCLUSIVE", 8: "ACCESS EXCLUSIVE"}
"""The modes that keep others from writing or reading, by their numbers in ``lockdefs.h``."""

_REWRITES = {
    AlterTableType.AT_SetLogged: "SET LOGGED",
    AlterTableType.AT_SetUnLogged: "SET UNLOGGED",
    AlterTableType.AT_SetTableSpace: "SET TABLESPACE",
    AlterTableType.AT_SetAccessMethod: "SET ACCESS METHOD",
    AlterTableType.AT_SetExpression: "SET EXPRESSION",
}

_HARMLESS_IN_A_BLOCK = (
    (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt, ast.CallStmt, ast.DoStmt)
    + (ast.VariableSetStmt, ast.VariableShowStmt, ast.LockStmt, ast.CopyStmt, ast.ExplainStmt, ast.NotifyStmt)
    + (ast.TransactionStmt, ast.TruncateStmt, ast.VacuumStmt, ast.ConstraintsSetStmt, ast.DiscardStmt, ast.ReturnStmt)
    + (ast.ListenStmt, ast.UnlistenStmt, ast.PrepareStmt, ast.ExecuteStmt, ast.DeallocateStmt, ast.CheckPointStmt)
    # Names of the database and of the role may be known at run time only.
    + (ast.AlterDatabaseSetStmt, ast.AlterDefaultPrivilegesStmt)
    # Roles belong to the server, and no CREATE ROLE knows IF NOT EXISTS: a block is the only way.
    + (ast.CreateRoleStmt, ast.AlterRoleStmt, ast.AlterRoleSetStmt, ast.GrantRoleStmt, ast.GrantStmt, ast.DropRoleStmt)
)

_MANY_ROWS = 1000
"""An INSERT or COPY of fewer rows is no load that an index would slow down."""

_TEXTS = ("text", "varchar", "bpchar")

_NO_DATA = re.compile(r"\s+WITH\s+NO\s+DATA\b", re.IGNORECASE)


def own_rules(action: Action, series: Series) -> Iterator[Hit]:
    """What the rules of this module say about one action."""
    rules = _IN_FUNCTIONS if action.place == ROUTINE else _EVERYWHERE
    for rule in rules:
        if action.node is not None or rule is ddl_in_block:
            yield from rule(action, series)


# Locks


def missed_by_squawk(action: Action, series: Series) -> Iterator[Hit]:
    """Cases of squawk's rules that it doesn't find: serial columns, constraints that come with a column, and others."""
    node = action.node
    if command_of(action, AlterTableType.AT_AddColumn):
        yield from opinions.default(action, series)
        yield from opinions.check(action, series)
        yield from opinions.required(action, series)
    elif isinstance(node, ast.ReindexStmt) and not has_option(node.params, "concurrently"):
        yield from opinions.reindex(action, series)
    elif isinstance(node, ast.AlterDomainStmt) and node.subtype == "O":  # SET NOT NULL
        yield from opinions.domain_constraint(action, series)


def primary_key_on_nullable_columns(action: Action, series: Series) -> Iterator[Hit]:
    """ADD PRIMARY KEY USING INDEX is quick, but for columns that still have to be set NOT NULL."""
    table = table_of(action) if isinstance(action.node, ast.AlterTableStmt) else Name("", "")
    for item in added_constraints(action, ConstrType.CONSTR_PRIMARY):
        index = series.index(Name(table.schema, item.indexname)) if item.indexname else None
        relation = series.relation(table)
        for column in index.columns if index and relation else ():
            if column and column in (relation.columns if relation else ()) and not proven(relation, column):
                yield opinions.unproven(action, column, series)


def exclusion(action: Action, _series: Series) -> Iterator[Hit]:
    """ADD CONSTRAINT … EXCLUDE."""
    for _ in added_constraints(action, ConstrType.CONSTR_EXCLUSION):
        yield Hit("adding-exclusion-constraint", action, table_of(action))


def validated_too_early(action: Action, series: Series) -> Iterator[Hit]:
    """VALIDATE CONSTRAINT in the transaction that adds the constraint."""
    command = command_of(action, AlterTableType.AT_ValidateConstraint)
    relation = series.relation(table_of(action)) if command else None
    constraint = relation.constraints.get(command.name) if relation and command else None
    if constraint and constraint.version == series.version and series.source.transactional and not constraint.valid:
        yield Hit("validate-in-same-transaction", action, table_of(action), {"name": constraint.name})


def attached_unchecked(action: Action, series: Series) -> Iterator[Hit]:
    """ATTACH PARTITION of a table whose rows nothing proves to fit."""
    command = command_of(action, AlterTableType.AT_AttachPartition)
    if command is None or command.def_.bound is None or command.def_.bound.is_default:
        return
    parent, partition = table_of(action), relation_name(command.def_.name)
    if not bounds_proven(series.relation(parent), series.relation(partition), command.def_.bound):
        condition = partition_check(series.relation(parent), command.def_.bound)
        rewrite = (
            f"ALTER TABLE {partition} ADD CONSTRAINT {partition.name}_fits CHECK ({condition}) NOT VALID; "
            f"ALTER TABLE {partition} VALIDATE CONSTRAINT {partition.name}_fits; then ATTACH PARTITION."
        )
        yield Hit("attach-partition-without-check", action, partition, {"rewrite": rewrite})


def rewriting(action: Action, series: Series) -> Iterator[Hit]:
    """SET LOGGED, UNLOGGED, TABLESPACE and ACCESS METHOD, and SET EXPRESSION of a column that is stored."""
    if isinstance(action.node, ast.AlterTableMoveAllStmt):
        yield Hit(
            "rewriting-table", action, None, {"reason": "SET TABLESPACE", "table": "every table of the tablespace"}
        )
    elif isinstance(action.node, ast.AlterTableStmt):
        (command,) = action.node.cmds[:1]
        relation = series.relation(table_of(action))
        column = relation.columns.get(command.name) if relation else None
        if command.subtype in _REWRITES and not (column and column.virtual):
            yield Hit("rewriting-table", action, table_of(action), {"reason": _REWRITES[command.subtype]})


def vacuum_full(action: Action, _series: Series) -> Iterator[Hit]:
    """VACUUM FULL, of one table, several or all."""
    node = action.node
    if isinstance(node, ast.VacuumStmt) and node.is_vacuumcmd and has_option(node.options, "full"):
        for item in node.rels or ():
            yield Hit("vacuum-full", action, relation_name(item.relation))
        if not node.rels:
            yield Hit("vacuum-full", action, None, {"table": "every table"})


def clustered(action: Action, _series: Series) -> Iterator[Hit]:
    """CLUSTER."""
    if isinstance(action.node, ast.ClusterStmt):
        table = relation_name(action.node.relation) if action.node.relation else None
        yield Hit("cluster", action, table, {} if table else {"table": "every clustered table"})


def refreshed(action: Action, series: Series) -> Iterator[Hit]:
    """REFRESH MATERIALIZED VIEW; the first one, of a view made WITH NO DATA, cannot be concurrent.

    One WITH NO DATA takes no time, and from then on the server refuses to read the view.
    """
    node = action.node
    if isinstance(node, ast.RefreshMatViewStmt) and not node.concurrent:
        view = series.relation(table_of(action))
        if view is None or view.populated:
            rewrite = _NO_DATA.sub("", with_word(action.text, "VIEW", "CONCURRENTLY"))
            yield Hit("refresh-not-concurrent", action, table_of(action), {"rewrite": rewrite})


def locked(action: Action, _series: Series) -> Iterator[Hit]:
    """LOCK TABLE in a mode that keeps others out."""
    node = action.node
    if isinstance(node, ast.LockStmt) and node.mode in _LOCK_MODES:
        for item in node.relations:
            yield Hit("lock-table", action, relation_name(item), {"reason": _LOCK_MODES[node.mode]})


def concurrently_if_not_exists(action: Action, _series: Series) -> Iterator[Hit]:
    """CREATE INDEX CONCURRENTLY IF NOT EXISTS."""
    node = action.node
    if isinstance(node, ast.IndexStmt) and node.concurrent and node.if_not_exists:
        words = one_line(action.text)
        position = words.upper().find("IF NOT EXISTS ")
        facts = {"name": node.idxname or "", "rewrite": f"{words[:position]}{words[position + 14 :]};"}
        yield Hit("concurrently-if-not-exists", action, table_of(action), facts, ageless=True)


# Data


def truncated(action: Action, _series: Series) -> Iterator[Hit]:
    """TRUNCATE."""
    node = action.node
    if isinstance(node, ast.TruncateStmt):
        reason = ", and of every table that refers to it" if "cascade" in node.behavior.name.lower() else ""
        for item in node.relations:
            yield Hit("truncate-table", action, relation_name(item), {"reason": reason})


def early_enum_value(action: Action, series: Series) -> Iterator[Hit]:
    """A value of an enum that the same transaction has added."""
    if not series.enum_values or not series.source.transactional or isinstance(action.node, ast.AlterEnumStmt):
        return
    if isinstance(action.node, (ast.CommentStmt, ast.DoStmt, ast.CreateFunctionStmt)):
        return
    plain = {id(node) for node in _plain_texts(action, series)}
    for node in walk(action.node):
        value = text_of(node) if isinstance(node, ast.A_Const) and id(node) not in plain else None
        if value in series.enum_values:
            yield Hit("enum-value-used-too-early", action, None, {"name": repr(value)})
            return


def _plain_texts(action: Action, series: Series) -> Iterator[Node]:
    """The values that a statement puts into columns of text, where the same word is no value of an enum."""
    node = action.node
    for definition in new_columns(action):
        if type_of(definition.typeName).name in _TEXTS:
            yield from (item.raw_expr for item in constraints(definition, ConstrType.CONSTR_DEFAULT))
    if isinstance(node, (ast.InsertStmt, ast.UpdateStmt)):
        relation = series.relation(relation_name(node.relation))
        if relation is None:
            return
        for name, value in _given(node, relation):
            column = relation.columns.get(name)
            if column and column.type and column.type.name in _TEXTS:
                yield value


def _given(node: Node, relation: Relation) -> Iterator[tuple[str, Node]]:
    """The columns that an INSERT … VALUES or an UPDATE names, each with a value."""
    if isinstance(node, ast.UpdateStmt):
        yield from ((target.name, target.val) for target in node.targetList)
        return
    names = [target.name for target in node.cols] if node.cols else list(relation.columns)
    for row in (node.selectStmt and node.selectStmt.valuesLists) or ():
        yield from zip(names, row)


def indexed_before_load(action: Action, series: Series) -> Iterator[Hit]:
    """A load into a table of this series step that already has indexes; reported at the index."""
    if not _loads_many(action) or action.node.relation is None:
        return
    relation = series.relation(table_of(action))
    if relation is None or not series.is_pending(relation.version) or relation.temporary:
        return
    conflict = getattr(action.node, "onConflictClause", None) is not None
    for index in {id(index): index for index in series.indexes.values()}.values():
        if index.table is relation and series.is_pending(index.version) and not (conflict and index.unique):
            where = str(action.line) if index.action.file == action.file else f"{action.line} of {action.file}"
            facts = {"name": str(index.name), "reason": where}
            yield Hit("index-before-load", index.action, relation.name, facts, ageless=True)


def _loads_many(action: Action) -> bool:
    node = action.node
    if isinstance(node, ast.CopyStmt):
        return bool(node.is_from) and (action.data >= _MANY_ROWS or node.filename is not None)
    if not isinstance(node, ast.InsertStmt) or node.selectStmt is None:
        return False
    return _returns_many(node.selectStmt)


def _returns_many(select: Node) -> bool:
    """Whether a query may well return many rows: those of a table, or of a long list."""
    if select.larg:
        return _returns_many(select.larg) or _returns_many(select.rarg)
    if select.valuesLists:
        return len(select.valuesLists) >= _MANY_ROWS
    limit = text_of(select.limitCount) or ""
    if limit.isdecimal() and int(limit) < _MANY_ROWS:
        return False
    return any(map(_has_many, select.fromClause or ()))


def _has_many(source: Node) -> bool:
    """Whether a part of FROM may well have many rows; what a function makes of constants has not."""
    if isinstance(source, ast.JoinExpr):
        return _has_many(source.larg) or _has_many(source.rarg)
    if isinstance(source, ast.RangeSubselect):
        return _returns_many(source.subquery)
    if isinstance(source, ast.RangeFunction):
        return _counts_far(source.functions[0][0])
    return True


def _counts_far(call: Node) -> bool:
    """Whether a function in FROM is generate_series() with many numbers, or with bounds that nobody knows."""
    if not isinstance(call, ast.FuncCall) or call.funcname[-1].sval != "generate_series":
        return False
    bounds = [text_of(argument) or "" for argument in call.args[:2]]
    numbers = [int(bound) for bound in bounds if bound.isdecimal()]
    return len(numbers) < 2 or numbers[1] - numbers[0] >= _MANY_ROWS


# What cannot be seen


def ddl_in_block(action: Action, series: Series) -> Iterator[Hit]:
    """A change of the schema inside a DO block, or in a function that the file calls."""
    yield from _called_functions(action, series)
    if action.place == BLOCK and _is_hidden_change(action, series):
        yield Hit("ddl-in-do-block", action, None, {"reason": _shown(action)})


def ddl_in_function(action: Action, series: Series) -> Iterator[Hit]:
    """A change of the schema in the body of a function."""
    if action.place == ROUTINE and _is_hidden_change(action, series):
        facts = {"name": str(_owner(action, series)), "reason": _shown(action)}
        yield Hit("ddl-in-function", action, None, facts)


def _owner(action: Action, series: Series) -> Name:
    """The function that an action is inside of."""
    return next(
        listed_name(outer.node.funcname)
        for outer in with_inner(series.source.actions)
        if isinstance(outer.node, ast.CreateFunctionStmt) and any(each is action for each in with_inner(outer.inner))
    )


def _called_functions(action: Action, series: Series) -> Iterator[Hit]:
    """The functions that a statement calls and that change the schema."""
    node = action.node
    if not isinstance(node, (ast.SelectStmt, ast.CallStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)):
        return
    if not any(kind == "function" for kind, _ in series.things):  # a look at each node takes time
        return
    for call in walk(node):
        function = series.thing("function", listed_name(call.funcname)) if isinstance(call, ast.FuncCall) else None
        for inner in function.inner if function else ():
            if _is_hidden_change(inner, series):
                facts = {"reason": f"{one_line(action.text, 80)} runs {_shown(inner)}"}
                yield Hit("ddl-in-do-block", action, None, facts)


def _is_hidden_change(action: Action, series: Series) -> bool:
    node = action.node
    if node is None:
        return changes_schema(action.text)
    if isinstance(node, ast.SelectStmt):
        return bool(node.intoClause) and not is_temporary(node.intoClause.rel)
    if isinstance(node, ast.RefreshMatViewStmt) and node.concurrent:
        return False
    return not isinstance(node, _HARMLESS_IN_A_BLOCK) and not _is_temporary(node, series)


def _is_temporary(node: Node, series: Series) -> bool:
    """Whether only temporary tables are concerned, which nobody else sees."""
    if isinstance(node, ast.CreateTableAsStmt):
        return is_temporary(node.into.rel)
    if isinstance(node, ast.DropStmt):
        names = [listed_name(item) for item in node.objects if not isinstance(item, ast.ObjectWithArgs)]
        return bool(names) and all(_known_temporary(name, series) for name in names)
    target = getattr(node, "relation", None) or getattr(node, "view", None)
    if not isinstance(target, ast.RangeVar):
        return False
    return is_temporary(target) or _known_temporary(relation_name(target), series)


def _known_temporary(name: Name, series: Series) -> bool:
    relation = series.relation(name)
    return name.schema == "pg_temp" or series.is_temporary(name) or (relation is not None and relation.temporary)


def _shown(action: Action) -> str:
    text = one_line(action.text, 100)
    return f"EXECUTE of {text}" if action.dynamic else text


# Types


def json_column(action: Action, _series: Series) -> Iterator[Hit]:
    """New columns of type json, and columns that become json."""
    for column in new_columns(action):
        if type_of(column.typeName).name == "json":
            yield Hit("json-column", action, table_of(action), {"column": column.colname}, ageless=True)
    command = command_of(action, AlterTableType.AT_AlterColumnType)
    if command and type_of(command.def_.typeName).name == "json":
        yield Hit("json-column", action, table_of(action), {"column": command.name}, ageless=True)


_IN_FUNCTIONS = (without_where, ddl_in_function)
_EVERYWHERE = (
    missed_by_squawk,
    primary_key_on_nullable_columns,
    exclusion,
    validated_too_early,
    attached_unchecked,
    rewriting,
    vacuum_full,
    clustered,
    refreshed,
    locked,
    concurrently_if_not_exists,
    without_where,
    truncated,
    early_enum_value,
    indexed_before_load,
    *SAFEGUARDS,
    ddl_in_block,
    json_column,
)
