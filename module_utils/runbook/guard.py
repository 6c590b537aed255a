# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be refused before a run touches a host: ansible-core, inventory, variables, consent.

Pure functions over plain data. The action plugin ``runbook_guard`` gathers the data, :func:`check` judges it, and
:func:`refusal` renders every problem at once, so that nobody has to fix five mistakes in five runs.
``docs/guard.md`` explains each message.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Callable

from ansible.module_utils.runbook.duration import is_duration
from ansible.module_utils.runbook.environment import DEFAULT_ENVIRONMENTS, environment_of

OLDEST_CORE = (2, 19)
"""The first ansible-core that is tested."""

FIRST_UNTESTED_CORE = (2, 22)
"""The first ansible-core that is not tested any more."""

RENAMED = {
    "db_database": "db_name",
    "db_dbname": "db_name",
    "db_names": "db_name",
    "db_databases": "db_name",
    "db_username": "db_user",
    "db_pass": "db_password",
    "db_passwd": "db_password",
    "db_hostname": "db_host",
    "db_env": "db_environment",
    "environment_name": "db_environment",
    "migrate_target": "migrate_version",
    "migrate_target_version": "migrate_version",
    "migrate_dir": "migrate_directory",
    "migrate_path": "migrate_directory",
}
"""What people coming from elsewhere type, and what it is called here."""

DEFAULT_DATABASE = "cm"
"""The database's name when neither the inventory nor role ``db`` says another."""

DISCOVERING_RUNTIMES = ("docker",)
"""Runtimes that find out the database's name themselves when the inventory does not say it."""

_ENVIRONMENT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SECRET_NAME = re.compile(r"passw|passphrase|secret|token|credential", re.IGNORECASE)
_DURATION_NAMES = ("_timeout", "_timeout_max", "_budget", "_wait", "_lag", "_age", "_keep")
_TRUE = ("true", "yes", "on", "y", "t", "1")
_HOSTS_SHOWN = 5


@dataclass(frozen=True)
class Option:
    """One variable that a role (or a playbook) understands."""

    name: str
    type: str = "str"
    choices: tuple[object, ...] = ()
    default: object = None
    secret: bool = False


PLAYBOOK_OPTIONS = (
    Option("guard_operation"),
    Option("guard_confirm"),
    Option("guard_confirm_database"),
    Option("guard_span_environments", type="bool"),
    Option("guard_one_database", type="bool"),
    Option("guard_ignore_variables", type="list"),
    Option("rollback_version"),
    Option("rollback_confirm"),
    Option("baseline_version"),
)
"""Variables that belong to playbooks rather than to a role."""


@dataclass(frozen=True)
class Vocabulary:
    """Every variable the project knows, and the prefixes it claims for itself."""

    options: Mapping[str, Option]
    prefixes: tuple[str, ...]

    @classmethod
    def of_roles(cls, argument_specs: Mapping[str, Mapping[str, object]]) -> Vocabulary:
        """Read the vocabulary out of ``{role name: content of its meta/argument_specs.yml}``."""
        options = {option.name: option for option in PLAYBOOK_OPTIONS}
        for specs in argument_specs.values():
            options.update({option.name: option for option in _declared(specs)})
        names = {"rollback", "baseline", "guard", *argument_specs}
        return cls(options, tuple(sorted(name.replace("-", "_") + "_" for name in names)))

    def claims(self, name: str) -> bool:
        """Whether a variable of this name could only be meant for the project."""
        return name.startswith(self.prefixes)

    def concerns(self, name: str) -> bool:
        """Whether the guard has anything to say about a variable of this name."""
        return name in self.options or name in RENAMED or self.claims(name)

    def defaults(self) -> dict[str, object]:
        """What the options are when nobody sets them, as far as the roles declare it."""
        return {name: option.default for name, option in self.options.items() if option.default is not None}

    def closest(self, name: str) -> str | None:
        """The known variable that looks most like this one."""
        matches = difflib.get_close_matches(name, self.options, n=1, cutoff=0.75)
        return matches[0] if matches else None


@dataclass(frozen=True)
class Controller:
    """The ansible-core that runs the project, and whether it runs with the project's settings.

    Parameters:
        core_version: the version of ansible-core.
        project: the project's directory.
        config_file: the ansible.cfg that was read, if any.
        astray: settings that do not point into the project, so its modules or roles would not be found.
    """

    core_version: str
    project: str = ""
    config_file: str | None = None
    astray: Sequence[str] = ()


@dataclass(frozen=True)
class Host:
    """One host of the play as its inventory and the command line describe it.

    Parameters:
        name: its inventory name.
        groups: the groups it is in.
        variables: raw and untemplated, so strings may hold ``{{``, except those in :data:`RESOLVED`.
        origins: where a variable was set (``inventories/staging/hosts.yml:4``), as far as that is known.
        encrypted: names of variables that come out of a vault; their values are never shown.
    """

    name: str
    groups: Sequence[str] = ()
    variables: Mapping[str, object] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)
    encrypted: frozenset[str] = frozenset()


RESOLVED = ("db_environment", "db_name", "db_runtime", "guard_ignore_variables")
"""Variables whose value the guard has to know. The caller resolves these and the one ``confirm`` names, if it can."""


@dataclass(frozen=True)
class Intent:
    """What the run is about to do.

    Parameters:
        operation: its verb, for messages.
        confirm: the variable that has to name the database; empty for operations that destroy nothing.
        confirm_database: the variable that says which database that is, where it is not db_name's.
        span_environments: whether one run may reach several environments.
        one_database: whether it works on one database of a host only, as whatever needs a confirmation does.
    """

    operation: str = "run"
    confirm: str = ""
    confirm_database: str = ""
    span_environments: bool = False
    one_database: bool = False


@dataclass(frozen=True)
class Tags:
    """Which tasks the command line chooses.

    Parameters:
        run: ``--tags``.
        skip: ``--skip-tags``.
        own: the tags of the guard itself: ``always``, and those of an import of the whole playbook.
    """

    run: Sequence[str] = ("all",)
    skip: Sequence[str] = ()
    own: Sequence[str] = ("always",)


@dataclass(frozen=True)
class _Finding:
    """Something wrong about one variable of one host; equal texts of several hosts become one problem."""

    text: str
    host: Host
    variable: str = ""


def check(
    controller: Controller,
    argument_specs: Mapping[str, Mapping[str, object]],
    hosts: Sequence[Host],
    intent: Intent,
    tags: Tags = Tags(),
) -> list[str]:
    """Return every problem of the run as sentences, or an empty list when it may go on.

    Parameters:
        controller: the ansible-core and the settings that run it.
        argument_specs: ``{role name: content of its meta/argument_specs.yml}``.
        hosts: all hosts of the play.
        intent: what the run is about to do.
        tags: which of its tasks are chosen.
    """
    problems = [*_core_problems(controller), *_settings_problems(controller), *_tag_problems(tags)]
    if controller.astray:
        return problems  # Without the project's settings the roles, and so the variables known, are somebody else's.
    vocabulary = Vocabulary.of_roles(argument_specs)
    findings = [finding for host in hosts for finding in _findings(host, vocabulary, intent)]
    return [*problems, *_merged(findings), *_span_problems(hosts, intent)]


def refusal(problems: Sequence[str]) -> str:
    """One message for all problems, numbered."""
    count = "1 problem has" if len(problems) == 1 else f"{len(problems)} problems have"
    lines = [f"{number}. {problem}" for number, problem in enumerate(problems, start=1)]
    return "\n".join([f"Nothing was done. {count} to be solved first:", *lines])


def approval(core_version: str, hosts: Sequence[Host]) -> str:
    """Say what was checked."""
    described = "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"
    return f"ansible-core {core_version} and the variables of {described} are in order."


# --- ansible-core and its settings -----------------------------------------------------------------------------------


def _core_problems(controller: Controller) -> Iterator[str]:
    found = tuple(int(number) for number in re.findall(r"\d+", controller.core_version)[:2])
    if not OLDEST_CORE <= found < FIRST_UNTESTED_CORE:
        oldest, untested = (".".join(map(str, version)) for version in (OLDEST_CORE, FIRST_UNTESTED_CORE))
        yield (
            f"This is ansible-core {controller.core_version}, but the project is tested with {oldest} or newer "
            f"and older than {untested}. "
            "Install a tested one with `make setup` and run `.venv/bin/ansible-playbook`."
        )


def _settings_problems(controller: Controller) -> Iterator[str]:
    if controller.astray:
        read = f"{controller.config_file} was read" if controller.config_file else "no ansible.cfg was read"
        yield (
            f"The project's ansible.cfg is not in force: {read}, and nothing in {', '.join(controller.astray)} "
            f"points into {controller.project}. "
            f"Run from that directory, or set ANSIBLE_CONFIG={controller.project}/ansible.cfg."
        )


def _tag_problems(tags: Tags) -> Iterator[str]:
    """No task but the guard has a tag, unless it is that of an import; choosing by tags leaves out all the rest."""
    meant = {*tags.own} - {"always"}
    if {"all", "untagged"}.isdisjoint(tags.run) and meant.isdisjoint(tags.run):
        yield (
            f"With --tags {','.join(tags.run)} nothing but this check would run: the tasks have no tags, so that no "
            "phase is left out by accident. Leave --tags out."
        )
    elif not {"all", "untagged"}.isdisjoint(tags.skip):
        yield f"With --skip-tags {','.join(tags.skip)} nothing but this check would run. Leave --skip-tags out."


# --- variables -------------------------------------------------------------------------------------------------------


def _findings(host: Host, vocabulary: Vocabulary, intent: Intent) -> Iterator[_Finding]:
    ignored = _ignored(host)
    for name in sorted(host.variables):
        if name not in ignored and name != intent.confirm:
            for text in _variable_problems(name, host, vocabulary):
                yield _Finding(text, host, name)
    for text in _environment_problems(host):
        yield _Finding(text, host, "db_environment")
    for text in _database_problems(host, intent):
        yield _Finding(text, host, "db_name")
    for text in _confirmation_problems(host, vocabulary, intent):
        yield _Finding(text, host, intent.confirm)


def _variable_problems(name: str, host: Host, vocabulary: Vocabulary) -> Iterator[str]:
    option = vocabulary.options.get(name)
    if option is not None:
        yield from _value_problems(option, host)
    elif name in RENAMED:
        yield (
            f"Variable {name} is called {RENAMED[name]} here. "
            "Rename it; if it serves something else, list it in guard_ignore_variables."
        )
    elif vocabulary.claims(name):
        closest = vocabulary.closest(name)
        yield (
            f"Variable {name} is unknown: no role declares it. {f'Did you mean {closest}? ' if closest else ''}"
            "If your own inventory needs this name, list it in guard_ignore_variables."
        )


def _value_problems(option: Option, host: Host) -> Iterator[str]:
    name, value = option.name, host.variables[option.name]
    if option.type == "bool" and isinstance(value, str) and not _is_template(value):
        # key=value on the command line always makes strings, and the string 'false' is true to many a condition.
        meant = json.dumps(value.strip().lower() in _TRUE)
        yield (
            f"Variable {name} has to be true or false, not the string {_shown(name, value, host, option)}. "
            f"On the command line write -e '{{\"{name}\": {meant}}}', in YAML {name}: {meant} without quotes."
        )
    if name.endswith(_DURATION_NAMES) and any(not is_duration(str(item)) for item in _items(value)):
        yield (
            f"Variable {name} is {_shown(name, value, host, option)}, which is no duration. "
            "Write a whole number and a unit: 500ms, 5s, 10min, 4h, 7d, or 0 for none."
        )
    for item in _items(value) if option.choices else ():
        if str(item) not in map(str, option.choices):
            yield (
                f"Variable {name} is {_shown(name, item, host, option)}, which is not one of its choices. "
                f"Choose from: {', '.join(map(str, option.choices))}."
            )


def _items(value: object) -> list[object]:
    """The plain values to compare with choices; templates, vaulted and missing values are left to the role."""
    candidates = value if isinstance(value, (list, tuple)) else [value]
    return [item for item in candidates if isinstance(item, (str, int, float)) and not _is_template(item)]


# --- environments ----------------------------------------------------------------------------------------------------


def _environment_problems(host: Host) -> Iterator[str]:
    groups = [group for group in DEFAULT_ENVIRONMENTS if group in host.groups]
    said = host.variables.get("db_environment")
    if len(groups) > 1:
        yield f"A host is in both groups {' and '.join(groups)}. Leave it in one of them."
    elif _is_template(said):
        yield (
            "Variable db_environment cannot be resolved before the roles are loaded. "
            "Write the environment's name itself."
        )
    elif said not in (None, "") and not _is_environment_name(said):
        yield (
            f"The environment {_shown('db_environment', said, host)} cannot be the name of a directory. "
            "Use a string of lower-case letters, digits, - and _, beginning with a letter or digit."
        )
    elif environment_of(host.variables, host.groups) is None:
        yield (
            f"A host belongs to no environment. Put it in group {' or '.join(DEFAULT_ENVIRONMENTS)}, "
            "or set db_environment for its group."
        )
    elif groups and said not in (None, "", groups[0]):
        # Limited to that group, the run would reach another environment, or leave out what this one demands.
        yield (
            f"A host is in group {groups[0]}, but its db_environment is {said}. "
            "Move it to the other group, or remove db_environment."
        )


def _is_environment_name(value: object) -> bool:
    return isinstance(value, str) and _ENVIRONMENT_NAME.fullmatch(value) is not None


def _span_problems(hosts: Sequence[Host], intent: Intent) -> Iterator[str]:
    """Refuse a run over several environments; one name for all (``-e db_environment=…``) does not hide the groups."""
    by_environment = _partition(hosts, lambda host: environment_of(host.variables, host.groups))
    by_group = _partition(hosts, lambda host: environment_of({}, host.groups))
    parts = by_environment if len(by_environment) > 1 else by_group
    if len(parts) > 1 and not intent.span_environments:
        listed = "; ".join(f"{name}: {_listed(host.name for host in members)}" for name, members in parts.items())
        limits = " or ".join(f"-l {_limit(name, members)}" for name, members in parts.items())
        yield (
            f"This run would reach {len(parts)} environments at once ({listed}). Limit it with {limits}. "
            "If you mean all of them, add -e '{\"guard_span_environments\": true}'."
        )


def _partition(hosts: Sequence[Host], key: Callable[[Host], str | None]) -> dict[str, list[Host]]:
    parts: dict[str, list[Host]] = {}
    for host in hosts:
        name = key(host)
        if name is not None:
            parts.setdefault(name, []).append(host)
    return parts


def _limit(environment: str, hosts: Sequence[Host]) -> str:
    """What to pass to ``-l``: the environment's name where it is also the hosts' group, their names where it is not."""
    if all(environment in host.groups for host in hosts):
        return environment
    return ",".join(host.name for host in hosts)


# --- databases and confirmation --------------------------------------------------------------------------------------


def _database_problems(host: Host, intent: Intent) -> Iterator[str]:
    names = host.variables.get("db_name")
    if isinstance(names, (list, tuple)) and not names:
        yield "Variable db_name is an empty list. Name a database, or several."
    elif (intent.one_database or intent.confirm) and isinstance(names, (list, tuple)) and len(names) > 1:
        yield (
            f"This {intent.operation} works on one database, and db_name lists {len(names)}: "
            f"{', '.join(map(str, names))}. Choose one on the command line: -e db_name={names[0]}."
        )


def _confirmation_problems(host: Host, vocabulary: Vocabulary, intent: Intent) -> Iterator[str]:
    named = host.variables.get(intent.confirm_database)
    databases = [str(named)] if named else _databases(host, vocabulary)
    if not intent.confirm or len(databases) > 1:
        return
    database, given = databases[0] if databases else None, host.variables.get(intent.confirm)
    said = "nothing confirms it" if given is None else f"{intent.confirm} is {_shown(intent.confirm, given, host)}"
    if _is_template(database):
        variable = intent.confirm_database if named else "db_name"
        yield f"Variable {variable} cannot be resolved before the roles are loaded. Write the database's name itself."
    elif given is not None and database in (None, str(given)):
        return
    elif database is None or "db_name" in host.encrypted:
        yield f"This {intent.operation} needs a confirmation, and {said}. Name the database in {intent.confirm}."
    else:
        yield (
            f"This {intent.operation} changes what is in database {database}, and {said}. "
            f"If you mean it, add -e {intent.confirm}={database} to the command."
        )


def _databases(host: Host, vocabulary: Vocabulary) -> list[str]:
    """The databases a host's variables name; none where that is found out later, and compared then."""
    names = host.variables.get("db_name")
    if not names and host.variables.get("db_runtime") in DISCOVERING_RUNTIMES:
        return []
    declared = vocabulary.options.get("db_name")
    names = names or (declared and declared.default) or DEFAULT_DATABASE
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else [str(names)]


# --- helpers ---------------------------------------------------------------------------------------------------------


def _declared(specs: Mapping[str, object]) -> Iterator[Option]:
    """The options of all entry points of one role, aliases included."""
    entry_points = specs.get("argument_specs") or {}
    for entry_point in entry_points.values() if isinstance(entry_points, dict) else ():
        for name, details in (entry_point.get("options") or {}).items():
            for known_as in (name, *details.get("aliases", ())):
                yield Option(
                    name=known_as,
                    type=str(details.get("type", "str")),
                    choices=tuple(details.get("choices") or ()),
                    default=details.get("default"),
                    secret=bool(details.get("no_log")),
                )


def _ignored(host: Host) -> frozenset[str]:
    """The names of ``guard_ignore_variables``, also when they come comma-separated from the command line."""
    names = host.variables.get("guard_ignore_variables") or ()
    if isinstance(names, str):
        names = names.split(",")
    return frozenset(str(name).strip() for name in names) if isinstance(names, Iterable) else frozenset()


def _is_template(value: object) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _shown(name: str, value: object, host: Host, option: Option | None = None) -> str:
    """A value fit for a message: quoted, unless it could be a secret."""
    if name in host.encrypted or _SECRET_NAME.search(name) or (option is not None and option.secret):
        return "(not shown)"
    return repr(str(value)) if isinstance(value, str) else repr(value)


def _merged(findings: Iterable[_Finding]) -> Iterator[str]:
    """One sentence per kind of problem, followed by the hosts and the places it was found in."""
    same: dict[str, list[_Finding]] = {}
    for finding in findings:
        same.setdefault(finding.text, []).append(finding)
    for text, group in same.items():
        origins = dict.fromkeys(finding.host.origins.get(finding.variable, "") for finding in group)
        places = ", ".join(origin for origin in origins if origin)
        yield f"{text} Seen on {_listed(finding.host.name for finding in group)}{places and f', set in {places}'}."


def _listed(names: Iterable[str]) -> str:
    """Host names for a message, shortened when there are many."""
    known = list(names)
    rest = len(known) - _HOSTS_SHOWN
    return ", ".join(known) if rest <= 0 else f"{', '.join(known[:_HOSTS_SHOWN])} and {rest} more"
