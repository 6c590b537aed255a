# SPDX-License-Identifier: GPL-3.0-or-later
"""Gather what the guard judges: the controller, the roles' vocabulary and the variables of every host of the play."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.errors import AnsibleTemplateError
from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.vault import is_encrypted_file
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import callback_loader
from ansible.release import __version__ as core_version

try:
    # Where a variable was set is worth telling, but ansible-core has no public way to ask for it.
    from ansible._internal._datatag._tags import Origin
    from ansible.parsing.vault import EncryptedString
except ImportError:  # an ansible-core outside the window, which is about to be refused
    Origin = EncryptedString = None

PROJECT = Path(__file__).resolve().parents[2]

# ansible-core shows configured module_utils to modules only. The path is this project's own, not the configured one:
# the guard has to load even where the project's ansible.cfg is not in force, to be able to say so.
if str(PROJECT / "module_utils") not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(str(PROJECT / "module_utils"))

from ansible.module_utils.runbook import guard


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """Judge the whole play in one execution, on the controller."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a short message, or fail with every problem at once."""
        task_vars = task_vars or {}
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            {
                "operation": {"type": "str", "default": "run"},
                "confirm": {"type": "str", "default": ""},
                "confirm_database": {"type": "str", "default": ""},
                "span_environments": {"type": "bool", "default": False},
                "one_database": {"type": "bool", "default": False},
            }
        )
        if self._task.check_mode and arguments["confirm"]:
            arguments.update(confirm="", one_database=True)  # nothing is touched, so there is nothing to confirm
        intent = guard.Intent(**arguments)
        specs = _argument_specs(_roles())
        vocabulary = guard.Vocabulary.of_roles(specs)
        raw_get = task_vars["hostvars"].raw_get
        hosts = [
            self._host(name, raw_get(name), vocabulary, (intent.confirm, intent.confirm_database))
            for name in task_vars["ansible_play_hosts_all"]
        ]
        tags = guard.Tags(task_vars["ansible_run_tags"], task_vars["ansible_skip_tags"], self._task.tags)
        problems = guard.check(_controller(), specs, hosts, intent, tags)
        if problems:
            return result | {"failed": True, "code": "guard", "msg": guard.refusal(problems)}
        return result | {"changed": False, "msg": guard.approval(core_version, hosts)}

    def _host(
        self, name: str, raw: Mapping[str, Any], vocabulary: guard.Vocabulary, confirming: Sequence[str]
    ) -> guard.Host:
        """Describe one host; only the few values that the guard must know are templated."""
        concerned = {key: value for key, value in raw.items() if vocabulary.concerns(key) or key in confirming}
        # What a role provided in an earlier play of the same run, such as db_server, was not set by anybody.
        concerned = {key: value for key, value in concerned.items() if not _is_of_a_role(key, value)}
        origins = _origins(concerned)
        templar = self._templar.copy_with_new_env(available_variables={**vocabulary.defaults(), **raw})
        must_know = {
            key: _resolved(concerned[key], templar) for key in (*guard.RESOLVED, *confirming) if key in concerned
        }
        return guard.Host(
            name=name,
            groups=tuple(raw["group_names"]),
            variables={**concerned, **must_know},
            origins={key: _place(origin) for key, origin in origins.items()},
            encrypted=frozenset(key for key in concerned if _is_encrypted(concerned[key], origins.get(key))),
        )


def _controller() -> guard.Controller:
    """Describe the running ansible-core by what its settings leave out of the project."""
    needed = {
        "library": (C.DEFAULT_MODULE_PATH, "library"),
        "module_utils": (C.DEFAULT_MODULE_UTILS_PATH, "module_utils"),
    }
    astray = [
        setting
        for setting, (configured, folder) in needed.items()
        if PROJECT / folder not in [Path(path).resolve() for path in configured]
    ]
    # Controllers replace the configured callbacks by their own; ours is found beside the playbooks, too.
    record = callback_loader.find_plugin("run_record")
    if record is None or not Path(record).resolve().is_relative_to(PROJECT):
        astray.append("callback_plugins")
    return guard.Controller(core_version, str(PROJECT), C.CONFIG_FILE, astray)


def _roles() -> Path:
    """The folder that the roles come from; controllers put folders of their own before the configured one."""
    folders = [Path(folder) for folder in C.DEFAULT_ROLES_PATH]
    return next((folder for folder in folders if (folder / "db").is_dir()), PROJECT / "roles")


def _argument_specs(roles: Path) -> dict[str, Mapping[str, object]]:
    """Read what each role of the project declares.

    The plain YAML loader is ten times faster than the one that remembers lines, and no message needs those lines.
    """
    files = sorted(roles.glob("*/meta/argument_specs.yml"))
    return {file.parents[1].name: yaml_load(file.read_text(encoding="utf-8")) or {} for file in files}


def _resolved(value: object, templar: Any) -> object:
    """Return the value behind a template, or the template itself where it needs something that only a role defines."""
    try:
        resolved: object = templar.template(value)
    except AnsibleTemplateError:
        return value
    return resolved


def _origins(variables: Mapping[str, object]) -> dict[str, Any]:
    """Where each variable was set; booleans carry no origin, so the name's has to do."""
    if Origin is None:
        return {}
    found = {name: Origin.get_tag(value) or Origin.get_tag(name) for name, value in variables.items()}
    return {name: origin for name, origin in found.items() if origin is not None}


def _is_of_a_role(name: str, value: object) -> bool:
    """Whether a task of one of the project's roles set this variable."""
    origin = _origins({name: value}).get(name)
    return origin is not None and bool(origin.path) and Path(origin.path).is_relative_to(_roles())


def _place(origin: Any) -> str:
    """Render an origin the way people look it up: ``inventories/staging/hosts.yml:4``."""
    if not origin.path:
        return str(origin.description).strip("<>")
    path = Path(origin.path)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{shown}:{origin.line_num}" if origin.line_num else str(shown)


def _is_encrypted(value: object, origin: Any) -> bool:
    """Whether a value comes out of a vault, be it encrypted by itself or together with its whole file."""
    alone = EncryptedString is not None and isinstance(value, EncryptedString)
    return alone or (origin is not None and bool(origin.path) and _is_vault(Path(origin.path)))


@lru_cache
def _is_vault(path: Path) -> bool:
    """Whether a file is encrypted as a whole."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return bool(is_encrypted_file(file))
