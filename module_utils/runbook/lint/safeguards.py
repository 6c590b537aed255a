# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules about what guards the data: keys, triggers, and rewrite rules, which quietly replace what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ansible.module_utils.runbook.lint.hit import Hit
from ansible.module_utils.runbook.lint.nodes import Name, Node, configured, listed_name, relation_name, text_of, walk
from ansible.module_utils.runbook.lint.opinions import added_constraints, command_of, table_of
from ansible.module_utils.runbook.lint.series import VIEW, Series
from ansible.module_utils.runbook.lint.units import Action
from pglast import ast
from pglast.enums import AlterTableType, ConstrType, ObjectType, VariableSetKind

_DISABLED = (AlterTableType.AT_DisableTrig, AlterTableType.AT_DisableTrigUser, AlterTableType.AT_DisableTrigAll)
_ENABLED = (AlterTableType.AT_EnableTrig, AlterTableType.AT_EnableAlwaysTrig)
_ROLE = "session_replication_role"


def _later(action: Action, series: Series) -> list[Action]:
    """What the file does after an action."""
    everything = list(_done(series.source.actions))
    place = next(at for at, other in enumerate(everything) if other is action)
    return everything[place + 1 :]


def _done(actions: Sequence[Action]) -> Iterator[Action]:
    """The actions with those inside of blocks; what is inside of a function is done when somebody calls it."""
    for action in actions:
        yield action
        yield from _done(action.inner if isinstance(action.node, ast.DoStmt) else ())


def _same_table(one: Name, other: Name, series: Series) -> bool:
    return not set(series.candidates(one)).isdisjoint(series.candidates(other))


def dropped_primary_key(action: Action, series: Series) -> Iterator[Hit]:
    """DROP CONSTRAINT of a primary key in a file that gives the table no other one."""
    command = command_of(action, AlterTableType.AT_DropConstraint)
    if command is None or not _is_primary_key(command.name, action, series):
        return
    if not any(_replaces_key(later, action, series) for later in _later(action, series)):
        table = table_of(action)
        change = f"DROP CONSTRAINT {command.name}, ADD CONSTRAINT {command.name} PRIMARY KEY USING INDEX …"
        facts = {"name": command.name, "rewrite": f"ALTER TABLE {table} {change};"}
        yield Hit("dropping-primary-key", action, table, facts)


def _is_primary_key(name: str, action: Action, series: Series) -> bool:
    """Whether a constraint is one, as far as the files say; else PostgreSQL's own name for it tells."""
    relation = series.relation(table_of(action))
    known = relation.constraints.get(name) if relation else None
    return known.kind == "primary key" if known else name.endswith("_pkey")


def _replaces_key(later: Action, drop: Action, series: Series) -> bool:
    """Whether a later action adds a primary key before anybody can see the table without one."""
    if not added_constraints(later, ConstrType.CONSTR_PRIMARY):
        return False
    # The subcommands of one ALTER TABLE share their RangeVar.
    at_once = series.source.transactional or later.node.relation is drop.node.relation
    return at_once and _same_table(table_of(later), table_of(drop), series)


def left_disabled(action: Action, series: Series) -> Iterator[Hit]:
    """DISABLE TRIGGER that nothing later in the file takes back."""
    command = command_of(action, *_DISABLED)
    if command is None or any(_ends_disabling(later, action, command, series) for later in _later(action, series)):
        return
    table = table_of(action)
    which = command.name or ("USER" if command.subtype == AlterTableType.AT_DisableTrigUser else "ALL")
    facts = {
        "name": f"trigger {which}" if command.name else f"triggers ({which})",
        "rewrite": f"ALTER TABLE {table} ENABLE TRIGGER {which};",
    }
    yield Hit("triggers-left-disabled", action, table, facts)


def _ends_disabling(later: Action, action: Action, disabled: Node, series: Series) -> bool:
    """Whether a later action enables what was disabled, or drops it."""
    command = command_of(later)
    if command is not None:
        return _enables(command, disabled) and _same_table(table_of(later), table_of(action), series)
    if not isinstance(later.node, ast.DropStmt) or later.node.removeType != ObjectType.OBJECT_TRIGGER:
        return False
    return any(
        name[-1].sval == disabled.name and _same_table(listed_name(name[:-1]), table_of(action), series)
        for name in later.node.objects
    )


def _enables(command: Node, disabled: Node) -> bool:
    """Whether a subcommand enables all that another one disabled; USER leaves out the triggers of foreign keys."""
    if command.subtype == AlterTableType.AT_EnableTrigUser:
        return bool(disabled.subtype != AlterTableType.AT_DisableTrigAll)
    if command.subtype in _ENABLED:
        return bool(command.name == disabled.name)
    return bool(command.subtype == AlterTableType.AT_EnableTrigAll)


def bypassed_foreign_keys(action: Action, _series: Series) -> Iterator[Hit]:
    """DISABLE TRIGGER ALL and session_replication_role = replica, in whatever way it is set."""
    if command_of(action, AlterTableType.AT_DisableTrigAll):
        yield Hit("foreign-keys-bypassed", action, table_of(action), {"reason": "DISABLE TRIGGER ALL"})
    elif _is_set_to_replica(action):
        facts = {"reason": f"{_ROLE} = replica", "table": "every table"}
        yield Hit("foreign-keys-bypassed", action, None, facts)


def _is_set_to_replica(action: Action) -> bool:
    if _ROLE not in action.text.lower():  # a look at each node takes time
        return False
    for node in walk(action.node):
        setting, value = configured(node) or ("", "")
        if isinstance(node, ast.VariableSetStmt) and node.kind == VariableSetKind.VAR_SET_VALUE:
            setting, value = node.name.lower(), text_of(node.args[0]) or ""
        if setting == _ROLE and value.lower() == "replica":
            return True
    return False


def rewrite_rule(action: Action, series: Series) -> Iterator[Hit]:
    """CREATE RULE on anything but a view of the files."""
    if isinstance(action.node, ast.RuleStmt):
        table = relation_name(action.node.relation)
        relation = series.relation(table)
        if relation is None or relation.kind != VIEW:
            yield Hit("create-rule", action, table, {"name": action.node.rulename})


SAFEGUARDS = (dropped_primary_key, left_disabled, bypassed_foreign_keys, rewrite_rule)
"""All rules of this module."""
