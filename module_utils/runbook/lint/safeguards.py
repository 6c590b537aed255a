# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules about what guards the data: keys, triggers, and rewrite rules, which quietly replace what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.nodes import Name, listed_name, relation_name, text_of, walk
from ansible.module_utils.runbook.lint.opinions import added_constraints, command_of, table_of
from ansible.module_utils.runbook.lint.series import VIEW, Series
from ansible.module_utils.runbook.lint.units import Action
from pglast import ast
from pglast.enums import AlterTableType, ConstrType, VariableSetKind

_DISABLED = (AlterTableType.AT_DisableTrig, AlterTableType.AT_DisableTrigUser)
_ENABLED = (
    AlterTableType.AT_EnableTrig,
    AlterTableType.AT_EnableTrigAll,
    AlterTableType.AT_EnableTrigUser,
    AlterTableType.AT_EnableAlwaysTrig,
    AlterTableType.AT_EnableReplicaTrig,
)
_ROLE = "session_replication_role"


def dropped_primary_key(action: Action, series: Series) -> Iterator[Hit]:
    """DROP CONSTRAINT of a primary key in a file that gives the table no other one."""
    command = command_of(action, AlterTableType.AT_DropConstraint)
    if command and _is_primary_key(command.name, action, series) and not _has_another(action, series):
        yield Hit("dropping-primary-key", action, table_of(action), {"name": command.name})


def _is_primary_key(name: str, action: Action, series: Series) -> bool:
    """Whether a constraint is one, as far as the files say; else PostgreSQL's own name for it tells."""
    relation = series.relation(table_of(action))
    known = relation.constraints.get(name) if relation else None
    return known.kind == "primary key" if known else name.endswith("_pkey")


def _has_another(action: Action, series: Series) -> bool:
    """Whether the file adds a primary key to the same table."""
    table = series.full_name(table_of(action))
    return any(
        series.full_name(table_of(other)) == table
        for other in series.source.actions
        for _ in added_constraints(other, ConstrType.CONSTR_PRIMARY)
    )


def left_disabled(action: Action, series: Series) -> Iterator[Hit]:
    """DISABLE TRIGGER that nothing later in the file takes back."""
    command = command_of(action, *_DISABLED)
    if command and not any(_enables(other, action, command.name, series) for other in _later(action, series)):
        name = f"trigger {command.name}" if command.name else "its triggers"
        yield Hit("triggers-left-disabled", action, table_of(action), {"name": name})


def _later(action: Action, series: Series) -> Iterator[Action]:
    """The actions of the file, those in blocks included, from this one's line on."""
    waiting = list(series.source.actions)
    while waiting:
        other = waiting.pop(0)
        waiting[:0] = other.inner
        if (other.file, other.line) >= (action.file, action.line) or other.file != action.file:
            yield other


def _enables(other: Action, action: Action, name: Optional[str], series: Series) -> bool:
    command = command_of(other, *_ENABLED)
    if command is None or series.full_name(table_of(other)) != series.full_name(table_of(action)):
        return False
    return not command.name or command.name == name


def bypassed_foreign_keys(action: Action, _series: Series) -> Iterator[Hit]:
    """DISABLE TRIGGER ALL and session_replication_role = replica, in whatever way it is set."""
    if command_of(action, AlterTableType.AT_DisableTrigAll):
        yield Hit("foreign-keys-bypassed", action, table_of(action), {"reason": "DISABLE TRIGGER ALL"})
    elif _is_set_to_replica(action):
        facts = {"reason": f"{_ROLE} = replica", "table": "every table"}
        yield Hit("foreign-keys-bypassed", action, None, facts)


def _is_set_to_replica(action: Action) -> bool:
    for node in walk(action.node):
        if isinstance(node, ast.VariableSetStmt) and node.kind == VariableSetKind.VAR_SET_VALUE:
            given = [node.name, *(text_of(value) for value in node.args or ())]
        elif isinstance(node, ast.FuncCall) and listed_name(node.funcname).name == "set_config":
            given = [text_of(value) for value in node.args or ()]
        else:
            continue
        if [str(value).lower() for value in given[:2]] == [_ROLE, "replica"]:
            return True
    return False


def rewrite_rule(action: Action, series: Series) -> Iterator[Hit]:
    """CREATE RULE on anything but a view of the files."""
    if isinstance(action.node, ast.RuleStmt):
        table: Name = relation_name(action.node.relation)
        relation = series.relation(table)
        if relation is None or relation.kind != VIEW:
            yield Hit("create-rule", action, table, {"name": action.node.rulename})


SAFEGUARDS = (dropped_primary_key, left_disabled, bypassed_foreign_keys, rewrite_rule)
"""All rules of this module."""
