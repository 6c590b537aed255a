# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard play in real ``ansible-playbook`` runs, in a project of its own that borrows this one's plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REACHED = "the operation was reached"

CONFIG = f"""\
[defaults]
inventory = inventories/staging,inventories/production
roles_path = ./roles
library = {ROOT}/library
module_utils = {ROOT}/module_utils
action_plugins = {ROOT}/plugins/action
callback_plugins = {ROOT}/plugins/callback
"""

ROLES = {
    "db": """\
argument_specs:
  main:
    options:
      db_name: {type: str, default: cm}
      db_user: {type: str, default: cm}
      db_password: {type: str, no_log: true}
      db_environment: {type: str}
      db_runtime: {type: str, choices: [embedded, managed], default: embedded}
""",
    "migrate": """\
argument_specs:
  main:
    options:
      migrate_directory: {type: path}
      migrate_allow_edited: {type: bool, default: false}
""",
}

OPERATION = f"""\
- name: Check
  import_playbook: {ROOT}/playbooks/guard.yml
  vars: {{variables}}

- name: Operate
  hosts: all
  gather_facts: false
  tasks:
    - name: Show that nothing stopped the run
      ansible.builtin.debug:
        msg: {REACHED}
"""

DOORS: dict[str, dict[str, object]] = {
    "migrate.yml": {"guard_operation": "migrate"},
    "status.yml": {"guard_operation": "status", "guard_span_environments": True},
    "rollback.yml": {"guard_operation": "rollback", "guard_confirm": "rollback_confirm"},
}


@dataclass(frozen=True)
class Outcome:
    """What a run printed, and how it ended."""

    code: int
    text: str

    @property
    def reached(self) -> bool:
        """Whether the operation behind the guard ran."""
        return REACHED in self.text


@dataclass(frozen=True)
class Project:
    """A small project with two environments."""

    root: Path

    def write(self, path: str, text: str) -> None:
        """Create a file and the folders above it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def add_environment(self, name: str, variables: str = "") -> None:
        """An environment is one folder: a group with a host, and the variables of the group."""
        self.write(f"inventories/{name}/hosts.yml", f"{name}:\n  hosts:\n    {name}-db:\n")
        if variables:
            self.write(f"inventories/{name}/group_vars/{name}.yml", variables)

    def tool(self, name: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of Ansible's commands, untouched by the settings of whoever runs the tests."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        environment |= {"HOME": str(self.root), "ANSIBLE_NOCOLOR": "1"}
        command = [str(Path(sys.executable).parent / name), *arguments]
        return subprocess.run(
            command, cwd=cwd or self.root, env=environment, capture_output=True, text=True, check=False
        )

    def play(self, door: str, *arguments: str, cwd: Path | None = None) -> Outcome:
        """Run one door of the project."""
        done = self.tool("ansible-playbook", str(self.root / door), *arguments, cwd=cwd)
        assert "[DEPRECATION WARNING]" not in done.stdout + done.stderr
        return Outcome(done.returncode, done.stdout + done.stderr)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose inventories and roles are in order."""
    project = Project(tmp_path)
    project.write("ansible.cfg", CONFIG)
    for role, specs in ROLES.items():
        project.write(f"roles/{role}/meta/argument_specs.yml", specs)
    for environment in ("staging", "production"):
        project.add_environment(environment)
    for door, variables in DOORS.items():
        project.write(door, OPERATION.replace("{variables}", json.dumps(variables)))
    return project


def test_one_environment_passes_and_nothing_changes(project: Project) -> None:
    for mode in ((), ("--check", "--diff")):
        outcome = project.play("migrate.yml", "-l", "staging", "-v", *mode)
        assert outcome.code == 0, outcome.text
        assert outcome.reached
        assert "the variables of 1 host are in order" in outcome.text
        assert "changed=0" in outcome.text


def test_both_environments_are_refused_unless_meant(project: Project) -> None:
    refused = project.play("migrate.yml")
    assert refused.code != 0
    assert not refused.reached
    assert "(staging: staging-db; production: production-db). Limit it with -l staging or -l prod" in refused.text
    assert '"code": "guard"' in refused.text

    assert project.play("migrate.yml", "-e", '{"guard_span_environments": true}').reached
    assert project.play("status.yml").reached


def test_everything_wrong_is_said_at_once_with_its_place(project: Project) -> None:
    project.add_environment("staging", "migrate_directroy: db/init\ndb_runtime: podman\ndb_passwd: hunter2\n")
    outcome = project.play("migrate.yml", "-l", "staging", "-e", "migrate_allow_edited=yes", "--check")
    assert outcome.code != 0
    assert not outcome.reached
    assert "4 problems have to be solved first" in outcome.text
    for text in (
        "Did you mean migrate_directory?",
        "set in inventories/staging/group_vars/staging.yml:1",
        "db_runtime is 'podman'",
        "set in inventories/staging/group_vars/staging.yml:2",
        "db_passwd is called db_password here",
        """-e '{"migrate_allow_edited": true}'""",
        "set in CLI option '-e'",
    ):
        assert text in outcome.text
    assert "hunter2" not in outcome.text


def test_names_of_the_users_own_are_tolerated_on_request(project: Project) -> None:
    project.add_environment("staging", "db_rack: b12\nguard_ignore_variables:\n  - db_rack\n")
    # One environment's exceptions are no other environment's.
    project.add_environment("production", "db_rack: c7\n")
    assert project.play("migrate.yml", "-l", "staging").reached
    outcome = project.play("status.yml")
    assert "db_rack is unknown" in outcome.text
    assert "Seen on production-db, set in" in outcome.text


def test_vaulted_variables_neither_break_the_guard_nor_show(project: Project) -> None:
    project.write("vault-password", "open sesame\n")
    password = ("--vault-password-file", "vault-password")
    secret = project.tool("ansible-vault", "encrypt_string", *password, "--name", "db_password", "hunter2")
    project.add_environment("staging", secret.stdout)
    assert project.play("migrate.yml", "-l", "staging", *password).reached

    # A file that is encrypted as a whole looks like plain values once it is loaded.
    project.write("inventories/staging/group_vars/all.yml", "db_runtime: hunter3\n")
    project.tool("ansible-vault", "encrypt", *password, "inventories/staging/group_vars/all.yml")
    outcome = project.play("migrate.yml", "-l", "staging", *password)
    assert "db_runtime is (not shown)" in outcome.text
    assert not outcome.reached
    assert "hunter" not in outcome.text


def test_a_rollback_needs_the_name_of_the_database(project: Project) -> None:
    # The name may be a template, even over a default that only role db knows.
    project.add_environment("staging", 'db_name: "{{ db_user }}_{{ suffix }}"\nsuffix: staging\n')
    refused = project.play("rollback.yml", "-l", "staging", "-e", "rollback_confirm=cm")
    assert not refused.reached
    assert "rollback_confirm is 'cm'. If you mean it, add -e rollback_confirm=cm_staging" in refused.text
    assert project.play("rollback.yml", "-l", "staging", "-e", "rollback_confirm=cm_staging").reached


def test_a_further_environment_is_one_more_folder(project: Project) -> None:
    project.add_environment("qa", "db_environment: qa\n")
    assert project.play("migrate.yml", "-i", "inventories/qa").reached

    everything = [part for name in ("staging", "qa") for part in ("-i", f"inventories/{name}")]
    assert "-l staging or -l qa" in project.play("migrate.yml", *everything).text
    assert project.play("migrate.yml", *everything, "-l", "qa").reached


def test_a_host_without_an_environment_is_refused(project: Project) -> None:
    project.add_environment("qa")
    outcome = project.play("migrate.yml", "-i", "inventories/qa")
    assert "A host belongs to no environment." in outcome.text
    assert not outcome.reached


def test_from_elsewhere_the_error_says_where_to_run(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    outcome = project.play("migrate.yml", "-i", f"{project.root}/inventories/staging", cwd=elsewhere)
    assert outcome.code != 0
    assert "this project's ansible.cfg was not read" in outcome.text
    assert "set ANSIBLE_CONFIG to it" in outcome.text


def test_settings_of_another_project_are_refused(project: Project) -> None:
    project.write("ansible.cfg", CONFIG.replace(f"{ROOT}/library", "./library"))
    outcome = project.play("migrate.yml", "-l", "staging")
    assert "The project's ansible.cfg is not in force" in outcome.text
    assert f"nothing in library points into {ROOT}" in outcome.text
    assert not outcome.reached
