# SPDX-License-Identifier: GPL-3.0-or-later
"""The run record, as real ``ansible-playbook`` runs leave it behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECRET = "tr0ub4dor&3"

ANSIBLE_CFG = f"""
[defaults]
inventory = hosts.ini
library = library
module_utils = {ROOT / "module_utils"}
callback_plugins = {ROOT / "plugins/callback"}
filter_plugins = {ROOT / "plugins/filter"}
callbacks_enabled = run_record
retry_files_enabled = false
"""

INVENTORY = f"""
[staging]
cm-staging
[production]
cm-production
[all:vars]
ansible_connection=local
ansible_python_interpreter={sys.executable}
"""

# Stands in for the real module: gives back what the playbook tells it to, after a while if so told.
FAKE_MODULE = """
import time
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({"result": {"type": "dict"}, "seconds": {"type": "float"}}, supports_check_mode=True)
time.sleep(module.params["seconds"] or 0)
result = module.params["result"]
(module.fail_json if result.pop("failed", False) else module.exit_json)(**result)
"""

GUARD = """
- name: Guard
  hosts: all
  gather_facts: false
  tasks: []
"""

APPLIED = {
    "version": 4,
    "name": "004_add_audit_log.sql",
    "description": "Audit log",
    "checksum": "c0ffee",
    "milliseconds": 12.5,
    "statements": 3,
    "lock_waits": [
        {"waited_ms": 500, "query": "select 1", "blockers": [{"pid": 7, "user": "cm", "query": "select secret"}]}
    ],
    "retries": 1,
    "transaction": True,
    "sql": "CREATE TABLE never_recorded ();",
}
SUCCESS = {
    "changed": True,
    "msg": "Applied 1 migration.",
    "database": "cm",
    "schema": "cm",
    "server_version": "18.0",
    "previous_version": 3,
    "version": 4,
    "applied": [APPLIED],
    "pending": [],
    "environment_of_process": {"PGPASSWORD": SECRET},
}
FAILURE = {
    "failed": True,
    "msg": f"The server refused the password {SECRET} of postgresql://cm:hunter2@db/cm.",
    "code": "connect",
    "file": "db/init/004_add_audit_log.sql",
    "line": 12,
}


class Project:
    """A small project of its own, with playbooks that a test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / ".runs"
        (folder / "library").mkdir(parents=True)
        (folder / "ansible.cfg").write_text(ANSIBLE_CFG)
        (folder / "hosts.ini").write_text(INVENTORY)
        (folder / "guard.yml").write_text(GUARD)
        (folder / "library/schema_migration.py").write_text(FAKE_MODULE)

    def playbook(self, *tasks: dict[str, Any], operation: str | None = "migrate", **play: Any) -> None:
        """Write ``migrate.yml``: the guard, if an operation is given, and one play with these tasks."""
        plays: list[dict[str, Any]] = [{"hosts": "all", "gather_facts": False, "tasks": list(tasks), **play}]
        if operation:
            plays.insert(0, {"import_playbook": "guard.yml", "vars": {"guard_operation": operation}})
        (self.folder / "migrate.yml").write_text(json.dumps(plays))

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the playbook without waiting for it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return subprocess.Popen(
            [sys.executable, "-m", "ansible", "playbook", "migrate.yml", *arguments],
            cwd=self.folder,
            env={**inherited, "ANSIBLE_DEPRECATION_WARNINGS": "true", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run the playbook to its end; the exit code is part of what is tested."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code, output
        assert "DEPRECATION" not in output and "Callback dispatch" not in output, output
        return output

    def records(self, environment: str) -> list[dict[str, Any]]:
        """Return all records of an environment, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.runs / environment).glob("*.json"))]

    def record(self, environment: str = "staging") -> dict[str, Any]:
        """Return the only record of an environment."""
        (record,) = self.records(environment)
        return record

    def wait_for_record(self) -> dict[str, Any]:
        """Wait until a started run has written its first record."""
        for _ in range(200):
            if list(self.runs.glob("*/*.json")) and list(self.runs.glob("*/.running-*")):
                time.sleep(0.5)  # Into the slow task.
                return self.record()
            time.sleep(0.1)
        raise AssertionError("The run has left no record.")


def migrate(result: dict[str, Any], seconds: float = 0, **task: Any) -> dict[str, Any]:
    """Return a task that calls the fake module."""
    return {"name": "Migrate", "schema_migration": {"result": result, "seconds": seconds}, **task}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh project."""
    return Project(tmp_path / "project")


def test_success(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging")

    record = project.record()
    entry = record["hosts"].pop("cm-staging")
    assert record["record"] == 1
    assert record["hosts"] == {}
    assert (record["operation"], record["environment"], record["outcome"]) == ("migrate", "staging", "succeeded")
    assert record["check"] is False
    assert 0 < record["seconds"] < 60
    assert record["started_at"] < record["ended_at"]
    assert record["ansible"] == {"core": record["ansible"]["core"], "playbook": "migrate.yml", "limit": "staging"}
    assert (entry["database"], entry["previous_version"], entry["version"]) == ("cm", 3, 4)
    assert entry["message"] == "Applied 1 migration."
    (applied,) = entry["applied"]
    assert set(applied) == set(APPLIED) - {"sql"}
    (wait,) = applied["lock_waits"]
    assert wait["waited_ms"] == 500 and wait["blockers"][0]["pid"] == 7
    assert entry["error"] is None

    text = next(project.runs.glob("staging/*.json")).read_text()
    assert SECRET not in text and "never_recorded" not in text and "select" not in text


def test_files_are_private_and_nothing_else_is_left(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging")
    folder = project.runs / "staging"
    (path,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE(project.runs.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("password", [SECRET, "{{ from_vault }}"], ids=["plain", "template"])
def test_failure_without_secrets(project: Project, password: str) -> None:
    project.playbook(migrate(FAILURE))
    variables = json.dumps({"db_password": password, "from_vault": SECRET})
    project.run("-l", "staging", "-e", variables, code=2)

    record = project.record()
    assert record["outcome"] == "failed"
    assert record["hosts"]["cm-staging"]["error"] == {
        "message": "The server refused the password *** of postgresql://cm:***@db/cm.",
        "task": "Migrate",
        "code": "connect",
        "file": "db/init/004_add_audit_log.sql",
        "line": 12,
    }


def test_failure_of_another_task(project: Project) -> None:
    project.playbook({"name": "Stop here", "ansible.builtin.fail": {"msg": "No."}})
    project.run("-l", "staging", code=2)
    assert project.record()["hosts"]["cm-staging"]["error"] == {
        "message": "No.",
        "task": "Stop here",
        "code": None,
        "file": None,
        "line": None,
    }


def test_ignored_and_rescued_failures_are_none(project: Project) -> None:
    rescued = {"block": [migrate(FAILURE)], "rescue": [migrate(SUCCESS)]}
    project.playbook(migrate(FAILURE, ignore_errors=True), rescued)
    project.run("-l", "staging")
    record = project.record()
    assert record["outcome"] == "succeeded"
    assert record["hosts"]["cm-staging"]["error"] is None
    assert record["hosts"]["cm-staging"]["version"] == 4


def test_items_of_a_loop_are_merged(project: Project) -> None:
    steps = [{**SUCCESS, "previous_version": step - 1, "version": step} for step in (3, 4)]
    task = {**migrate({}), "schema_migration": {"result": "{{ item }}"}, "loop": [*steps, FAILURE]}
    project.playbook(task)
    project.run("-l", "staging", "-e", json.dumps({"db_password": SECRET}), code=2)
    entry = project.record()["hosts"]["cm-staging"]
    assert (entry["previous_version"], entry["version"], len(entry["applied"])) == (2, 4, 2)
    assert entry["error"]["code"] == "connect"


def test_no_log_is_respected(project: Project) -> None:
    project.playbook(migrate(FAILURE, no_log=True))
    project.run("-l", "staging", code=2)
    assert "hidden" in project.record()["hosts"]["cm-staging"]["error"]["message"]


def test_unreachable(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    unreachable = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1", "ansible_ssh_executable": "/bin/false"}
    project.run("-l", "staging", "-e", json.dumps(unreachable), code=4)
    record = project.record()
    assert record["outcome"] == "failed"
    assert record["hosts"]["cm-staging"]["error"]["message"]


def test_check_mode(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging", "--check")
    record = project.record()
    assert record["check"] is True
    assert record["outcome"] == "succeeded"


def test_two_environments_leave_two_records(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run()
    assert list(project.record("staging")["hosts"]) == ["cm-staging"]
    assert list(project.record("production")["hosts"]) == ["cm-production"]


def test_a_run_fails_as_a_whole(project: Project) -> None:
    failing = migrate(FAILURE, when="inventory_hostname == 'cm-staging'")
    project.playbook(failing, migrate(SUCCESS), any_errors_fatal=True)
    project.run(code=2)
    assert project.record("staging")["outcome"] == "failed"
    assert project.record("staging")["hosts"]["cm-staging"]["error"]["code"] == "connect"
    # The other environment never had its turn.
    assert project.record("production")["outcome"] == "failed"
    assert project.record("production")["hosts"]["cm-production"]["error"] is None


def test_db_environment_names_the_folder(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging", "-e", json.dumps({"db_environment": "{{ 'q' ~ 'a' }}"}))
    assert project.record("qa")["environment"] == "qa"
    project.run("-l", "staging", "-e", "db_environment=../elsewhere")
    assert project.record("unknown")["environment"] == "unknown"


def test_playbook_without_operation_leaves_nothing(project: Project) -> None:
    project.playbook(migrate(SUCCESS), operation=None)
    project.run()
    assert not project.runs.exists()


def test_directory_option(project: Project, tmp_path: Path) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging", SCHEMA_RUNBOOK_RUNS=str(tmp_path / "elsewhere"))
    assert list((tmp_path / "elsewhere/staging").glob("*-migrate.json"))
    assert not project.runs.exists()


def test_keyboard_interrupt(project: Project) -> None:
    project.playbook(migrate(SUCCESS, seconds=30))
    process = project.start("-l", "staging")
    assert project.wait_for_record()["outcome"] == "running"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=30)
    record = project.record()
    assert record["outcome"] == "interrupted"
    assert record["ended_at"] and record["seconds"]
    assert not list(project.runs.glob("staging/.running-*"))


@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_is_swept_by_the_next_one(project: Project, killer: signal.Signals) -> None:
    project.playbook(migrate(SUCCESS, seconds=5))
    process = project.start("-l", "staging")
    project.wait_for_record()
    os.kill(process.pid, killer)
    # The module lives in a session of its own and ends by itself; it holds the pipe, so nothing is read from that.
    process.wait(timeout=30)
    assert process.stdout
    process.stdout.close()
    assert project.record()["outcome"] == "running"

    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging")
    assert [record["outcome"] for record in project.records("staging")] == ["interrupted", "succeeded"]
    assert not list(project.runs.glob("staging/.*"))


def test_unwritable_directory_only_warns(project: Project) -> None:
    (project.folder / "file").write_text("")  # Not even root can make a folder inside a file.
    project.playbook(migrate(SUCCESS))
    output = project.run(SCHEMA_RUNBOOK_RUNS=str(project.folder / "file"))
    warning = " ".join(output.split())
    assert warning.count("could not be written") == 1
    assert "file/staging" in warning


def test_status_screen_and_last_run(project: Project) -> None:
    project.playbook(migrate(SUCCESS))
    project.run("-l", "staging")
    row = "{'environment': item, 'host': item, 'database': 'cm', 'last_run': item | last_run(runs), 'version': 4}"
    rows = f"[{row.replace('item', repr('staging'))}, {row.replace('item', repr('production'))}]"
    screen = {"ansible.builtin.debug": {"msg": "{{ (" + rows + " | status_screen).splitlines() }}"}}
    project.playbook(screen, operation=None, vars={"runs": str(project.runs)})
    output = project.run("-l", "staging")
    assert "migrate succeeded 20" in output and "1 applied" in output
    assert "never" in output
