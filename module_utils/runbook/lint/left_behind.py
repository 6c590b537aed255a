# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about what a file takes away and has to give back before it ends, such as a primary key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.nodes import Name, Node, listed_name, text_of, walk
from ansible.module_utils.runbook.lint.opinions import added_constraints, command_of, table_of
from ansible.module_utils.runbook.lint.series import Series
from ansible.module_utils.runbook.lint.units import Action
from pglast import ast
from pglast.enums import AlterTableType, ConstrType, DiscardMode, DropBehavior, ObjectType, VariableSetKind

_TRIGGERS_OFF = {
    AlterTableType.AT_DisableTrigAll: "ALL",
    AlterTableType.AT_DisableTrigUser: "USER",
    AlterTableType.AT_DisableTrig: "",
}
_ROLE = "session_replication_role"


def _later(action: Action, series: Series) -> list[Action]:
    """What the file does after an action."""
    everything = list(_done(series.source.actions))
    place = next(number for number, other in enumerate(everything) if other is action)
    return everything[place + 1 :]


def _done(actions: Sequence[Action]) -> Iterator[Action]:
    """The actions with those inside of blocks; what a function does is done when somebody calls it."""
    for action in actions:
        yield action
        yield from _done(action.inner if isinstance(action.node, ast.DoStmt) else ())


def _same_table(series: Series, one: Name, other: Name) -> bool:
    return not set(series.candidates(one)).isdisjoint(series.candidates(other))


# Primary keys


def dropped_primary_key(action: Action, series: Series) -> Iterator[Hit]:
    """DROP CONSTRAINT of a primary key, unless the file adds a new one."""
    command = command_of(action, AlterTableType.AT_DropConstraint)
    if command is None or not _is_primary_key(series, table_of(action), command.name):
        return
    if any(_replaces_key(later, action, series) for later in _later(action, series)):
        return
    table, name = table_of(action), command.name
    cascades = command.behavior == DropBehavior.DROP_CASCADE
    facts = {
        "name": name,
        "reason": ", and drops the foreign keys that refer to it" if cascades else "",
        "rewrite": f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} PRIMARY KEY USING INDEX …;",
    }
    yield Hit("dropping-primary-key", action, table, facts)


def _is_primary_key(series: Series, table: Name, name: str) -> bool:
    """Whether the files say so; where they don't know the constraint, its name does."""
    relation = series.relation(table)
    known = relation.constraints.get(name) if relation else None
    return known.kind == "primary key" if known else name.endswith("_pkey")


def _replaces_key(later: Action, drop: Action, series: Series) -> bool:
    """Whether an action adds a primary key before anybody can see that the old one is gone."""
    if not added_constraints(later, ConstrType.CONSTR_PRIMARY):
        return False
    # The subcommands of one ALTER TABLE share their RangeVar.
    together = series.source.transactional or later.node.relation is drop.node.relation
    return together and _same_table(series, table_of(drop), table_of(later))


# Triggers


def triggers_left_disabled(action: Action, series: Series) -> Iterator[Hit]:
    """DISABLE TRIGGER and the session_replication_role ``replica`` that nothing takes back later in the file."""
    command = command_of(action, *_TRIGGERS_OFF)
    if command is not None:
        yield from _disabled(action, command, series)
    elif _sets_role(action.node) == "replica" and not any(
        type(later.node) in (type(action.node), *_ENDS_ROLE) and _sets_role(later.node) not in ("", "replica")
        for later in _later(action, series)
    ):
        facts = {"name": f"{_ROLE} = replica", "table": "every table", "rewrite": f"SET {_ROLE} = origin;"}
        yield Hit("triggers-left-disabled", action, None, facts)


def _disabled(action: Action, command: Node, series: Series) -> Iterator[Hit]:
    table, which = table_of(action), _TRIGGERS_OFF[command.subtype] or command.name
    if not any(_ends_disabling(later, table, command, series) for later in _later(action, series)):
        facts = {"name": f"DISABLE TRIGGER {which}", "rewrite": f"ALTER TABLE {table} ENABLE TRIGGER {which};"}
        yield Hit("triggers-left-disabled", action, table, facts, ageless=True)


def _ends_disabling(later: Action, table: Name, disabled: Node, series: Series) -> bool:
    """Whether an action enables the triggers again, or drops what was disabled."""
    command = command_of(later)
    if command is not None:
        return _same_table(series, table, table_of(later)) and _enables(command, disabled)
    if not isinstance(later.node, ast.DropStmt):
        return False
    if later.node.removeType == ObjectType.OBJECT_TABLE:
        return any(_same_table(series, table, listed_name(item)) for item in later.node.objects)
    if later.node.removeType == ObjectType.OBJECT_TRIGGER:
        return any(
            item[-1].sval == disabled.name and _same_table(series, table, listed_name(item[:-1]))
            for item in later.node.objects
        )
    return False


def _enables(command: Node, disabled: Node) -> bool:
    """Whether a subcommand enables all that another one has disabled; ALL is more than USER: foreign keys, too."""
    if command.subtype == AlterTableType.AT_EnableTrigAll:
        return True
    if command.subtype == AlterTableType.AT_EnableTrigUser:
        return bool(disabled.subtype != AlterTableType.AT_DisableTrigAll)
    named = (AlterTableType.AT_EnableTrig, AlterTableType.AT_EnableAlwaysTrig)
    return command.subtype in named and disabled.name is not None and command.name == disabled.name


_ENDS_ROLE = (ast.VariableSetStmt, ast.DiscardStmt, ast.SelectStmt)
"""The statements that end what SET or set_config() has begun."""


def _sets_role(node: Node) -> str:
    """What a statement sets session_replication_role to, beyond its transaction; empty if it does not."""
    if isinstance(node, ast.DiscardStmt):
        return "origin" if node.target == DiscardMode.DISCARD_ALL else ""
    if isinstance(node, ast.SelectStmt):
        return next((value for call in walk(node) for value in [_configured(call)] if value), "")
    setting = getattr(node, "setstmt", node)  # of ALTER ROLE and ALTER DATABASE
    if not isinstance(setting, ast.VariableSetStmt) or setting.is_local:
        return ""
    if setting.kind == VariableSetKind.VAR_RESET_ALL:
        return "origin"
    if (setting.name or "").lower() != _ROLE:
        return ""
    return _lower(setting.args[0]) if setting.args else "origin"


def _configured(call: Node) -> str:
    """The same for set_config()."""
    if not isinstance(call, ast.FuncCall) or listed_name(call.funcname).name != "set_config" or len(call.args) != 3:
        return ""
    name, value, local = (_lower(argument) for argument in call.args)
    return value if name == _ROLE and local in ("false", "f") else ""


def _lower(value: Optional[Node]) -> str:
    return (text_of(value) or "").lower()
