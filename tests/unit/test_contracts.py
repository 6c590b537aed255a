# SPDX-License-Identifier: GPL-3.0-or-later
"""What is documented is what there is: modules, roles and their READMEs agree with the code."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import runpy
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import role_readme
import yaml

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))
ROLES = role_readme.roles()
# What the contract says about an option, and what both sides mean by saying nothing.
FIELDS = {"type": "str", "default": None, "choices": None, "required": False, "elements": None, "aliases": None}


def documentation(module: str) -> dict[str, Any]:
    """What a module's DOCUMENTATION says, with the fragments it extends."""
    parsed = yaml.safe_load(importlib.import_module(module).DOCUMENTATION)
    assert isinstance(parsed, dict)
    for fragment in texts(parsed.get("extends_documentation_fragment", [])):
        shared = runpy.run_path(str(ROOT / f"plugins/doc_fragments/{fragment}.py"))["ModuleDocFragment"]
        parsed["options"] = {**yaml.safe_load(shared.DOCUMENTATION)["options"], **parsed["options"]}
    return parsed


def argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options a module accepts, caught on their way into ``AnsibleModule`` or into the action plugin's check."""
    code = importlib.import_module(module)
    if not hasattr(code, "main"):
        return action_argument_spec(module)
    caught: dict[str, Any] = {}

    class Caught(Exception):
        """Ends the module's main function."""

    def catch(argument_spec: dict[str, Any], **_: object) -> None:
        caught.update(argument_spec)
        raise Caught

    monkeypatch.setattr(code, "AnsibleModule", catch)
    with pytest.raises(Caught):
        code.main()
    return {name: option for name, option in caught.items() if not name.startswith("_")}


def action_argument_spec(module: str) -> dict[str, Any]:
    """The options of a module that is an action plugin only, read from its source."""
    tree = ast.parse((ROOT / f"plugins/action/{module}.py").read_text())
    (call,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "validate_argument_spec"
    )
    spec = ast.literal_eval(call.args[0])
    assert isinstance(spec, dict)
    return spec


def contract(option: dict[str, Any]) -> dict[str, Any]:
    """The part of an option that documentation and code have to agree on."""
    found = {field: option.get(field, silent) for field, silent in FIELDS.items()}
    return {**found, "choices": sorted(found["choices"]) if found["choices"] else None}


def defaults(role: Path) -> dict[str, Any]:
    """A role's defaults."""
    parsed = yaml.safe_load((role / "defaults/main.yml").read_text())
    assert isinstance(parsed, dict)
    return parsed


def options_of(role: Path) -> dict[str, dict[str, Any]]:
    """The options of all entry points of a role."""
    return {name: option for entry in role_readme.entry_points(role).values() for name, option in entry.items()}


def is_template(value: object) -> bool:
    """Whether a default is computed, so that no argument spec can say what it is."""
    return any("{{" in str(part) for part in (value.values() if isinstance(value, dict) else [value]))


def test_there_are_modules_and_roles_to_compare() -> None:
    assert {"embedded_server", "runbook_guard", "schema_info", "schema_migration"} <= set(MODULES)
    assert {"db", "migrate", "status"} <= {role.name for role in ROLES}


@pytest.mark.parametrize("module", MODULES)
def test_the_documented_options_are_the_accepted_ones(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documented = documentation(module)["options"]
    accepted = argument_spec(module, monkeypatch)
    assert {name: contract(option) for name, option in documented.items()} == {
        name: contract(option) for name, option in accepted.items()
    }


@pytest.mark.parametrize("module", MODULES)
def test_passwords_are_never_logged(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = argument_spec(module, monkeypatch)
    secret = {name: option for name, option in options.items() if "password" in name and option["type"] != "path"}
    assert all(option.get("no_log") for option in secret.values())
    assert "login_password" in secret or module in (
        "embedded_server",
        "promotion_gate",
        "requirements_info",
        "runbook_guard",
        "runbook_schedule",
        "schema_lint",
    )


@pytest.mark.parametrize("module", MODULES)
def test_documentation_says_what_every_module_has_to_say(module: str) -> None:
    said = documentation(module)
    assert said["module"] == module
    assert {"check_mode", "diff_mode", "idempotent"} <= set(said["attributes"])
    for text in (said["short_description"], *texts(said["description"])):
        assert isinstance(text, str) and text
    for option in said["options"].values():
        assert all(isinstance(text, str) and text.endswith(".") for text in texts(option["description"])), option


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_tasks_that_use_documented_options_only(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = yaml.safe_load(importlib.import_module(module).EXAMPLES)
    used = [task[module] or {} for task in tasks if module in task]
    assert used
    accepted = argument_spec(module, monkeypatch)
    required = {name for name, option in accepted.items() if option.get("required")}
    for options in used:
        assert required <= set(options) <= set(accepted)


@pytest.mark.parametrize("module", MODULES)
def test_return_values_say_type_and_when(module: str) -> None:
    returned = yaml.safe_load(importlib.import_module(module).RETURN)
    assert returned
    for name, value in returned.items():
        assert {"description", "returned", "type"} <= set(value), name


def test_ansible_doc_shows_every_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "doc", "-t", "module", "--json", *MODULES],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr and "WARNING" not in done.stderr
    assert sorted(json.loads(done.stdout)) == MODULES


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_defaults_are_those_of_its_argument_specs(role: Path) -> None:
    declared, given = options_of(role), defaults(role)
    optional = {name for name, option in declared.items() if not option.get("required")}
    assert set(given) == optional
    computed = {name for name, value in given.items() if is_template(value)}
    assert {name: given[name] for name in given.keys() - computed} == {
        name: option["default"] for name, option in declared.items() if "default" in option
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_roles_variables_carry_its_name(role: Path) -> None:
    # An entry point's own variables carry the entry point's: `rollback_version`, as operators type it.
    points = role_readme.entry_points(role)
    assert all(name.startswith((f"{role.name}_", f"{point}_")) for point, options in points.items() for name in options)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_default_is_explained_above_it(role: Path) -> None:
    lines = (role / "defaults/main.yml").read_text().splitlines()
    unexplained = [line for before, line in pairwise(lines) if re.match(r"\w+:", line) and not before.startswith("# ")]
    assert unexplained == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_readme_is_in_step_with_the_argument_specs(role: Path) -> None:
    text = (role / "README.md").read_text()
    assert text == role_readme.expected(role), "python tests/role_readme.py --write"
    for name in (*options_of(role), *role_readme.entry_points(role)):
        assert f"`{name}`" in text
    for promise in ("Idempotent", "Atomic", "Roll back"):
        assert promise.lower() in text.lower()


def test_a_readme_that_lags_behind_is_noticed(tmp_path: Path) -> None:
    role = tmp_path / "sample"
    (role / "meta").mkdir(parents=True)
    option = {"type": "bool", "default": False, "description": "Whether O(sample_on) counts."}
    specs = {"argument_specs": {"main": {"options": {"sample_on": option}}}}
    (role / "meta/argument_specs.yml").write_text(yaml.safe_dump(specs))
    (role / "README.md").write_text(f"Before.\n\n{role_readme.BEGIN}| old |\n{role_readme.END}\nAfter.\n")
    wanted = role_readme.expected(role)
    assert "| `sample_on` | bool | `false` | Whether `sample_on` counts. |\n" in wanted
    assert wanted.startswith("Before.\n") and wanted.endswith("\nAfter.\n") and "old" not in wanted


def test_role_and_module_agree_on_options_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = argument_spec("schema_migration", monkeypatch)
    migrate, db = (options_of(ROOT / "roles" / name) for name in ("migrate", "db"))
    shared = {name: migrate[f"migrate_{name}"] for name in accepted if f"migrate_{name}" in migrate}
    assert len(shared) > 10
    for name, option in shared.items():
        assert option["type"] == accepted[name]["type"], name
        assert sorted(option.get("choices", ())) == sorted(accepted[name].get("choices", ())), name
        if name not in ("directory", "rollback_directory"):  # the project's layout is the role's business
            assert option["default"] == accepted[name]["default"], name
    assert sorted(db["db_ssl_mode"]["choices"]) == sorted(accepted["ssl_mode"]["choices"])


def test_role_backup_and_its_module_agree_on_options_they_share(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted, options = argument_spec("database_backup", monkeypatch), options_of(ROOT / "roles/backup")
    shared = {name: option for name, option in accepted.items() if f"backup_{name}" in options}
    assert len(shared) > 12
    for name, option in shared.items():
        role = options[f"backup_{name}"]
        assert (role["type"], role.get("choices")) == (option["type"], option.get("choices")), name
        assert name == "directory" or role["default"] == option["default"], name


def texts(value: str | list[str]) -> list[str]:
    """What may be one text or several, such as a description's paragraphs."""
    return [value] if isinstance(value, str) else value
