# SPDX-License-Identifier: GPL-3.0-or-later
"""The project under ``ansible-runner``, as AWX and its kind run it: a copy, an inventory of theirs, nobody to ask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, short_folder

# An inventory as AWX writes it: a script that prints everything at once.
INVENTORY = """#!{python}
print('''{content}''')
"""

# How AWX rewrites the search paths of the project's ansible.cfg.
AWX = {
    "ANSIBLE_ROLES_PATH": "/runner/requirements_roles:roles:~/.ansible/roles",
    "ANSIBLE_CALLBACK_PLUGINS": "/runner/plugins_path:plugins/callback:~/.ansible/plugins",
    "ANSIBLE_CALLBACKS_ENABLED": "run_record",
}


@dataclass(frozen=True)
class Job:
    """A job that has ended.

    Attributes:
        code: exit status of ``ansible-runner``, which is that of ansible-playbook.
        artifacts: the folder with all that the controller keeps of the job.
    """

    code: int
    artifacts: Path

    @property
    def status(self) -> str:
        """What the controller shows: ``successful``, ``failed``, ``timeout`` ..."""
        return (self.artifacts / "status").read_text()

    @property
    def output(self) -> str:
        """What the controller shows when asked for details."""
        return (self.artifacts / "stdout").read_text()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What happened, in order."""
        events = [json.loads(path.read_text()) for path in (self.artifacts / "job_events").glob("*.json")]
        return sorted(events, key=lambda event: int(event["counter"]))

    @property
    def changed(self) -> dict[str, int]:
        """The number of changed tasks of each host that has any."""
        (stats,) = (event["event_data"] for event in self.events if event["event"] == "playbook_on_stats")
        return dict(stats["changed"])


class Controller:
    """A controller with a copy of the project and a folder for its jobs.

    Parameters:
        folder: an empty folder with a short path.
        database: a database of the ``database`` fixture, which the jobs get as extra variables.
    """

    def __init__(self, folder: Path, database: Any) -> None:
        self.database = database
        self.folder = folder
        self.project = folder / "project"
        left_out = shutil.ignore_patterns(".*_cache", ".ansible", ".embedded", ".git", ".runs", ".venv", "__pycache__")
        shutil.copytree(ROOT, self.project, symlinks=True, ignore=left_out)
        self.variables = {
            "db_runtime": "managed",
            "db_host": database.host,
            "db_port": database.port,
            "db_user": database.user,
            "db_name": database.database,
            "db_password": database.password,
        }
        self.settings = {"job_timeout": 120}  # a question would wait for ever
        self.environment: dict[str, str] = {}

    def run(self, playbook: str, name: str, **variables: Any) -> Job:
        """Run a job to its end. No job may keep the password."""
        for file, content in {
            "extravars": {**self.variables, **variables},
            "envvars": {"HOME": str(self.folder), **self.environment},
            "settings": self.settings,
        }.items():
            (self.folder / "env").mkdir(mode=0o700, exist_ok=True)
            (self.folder / "env" / file).write_text(json.dumps(content))
        command = [
            "ansible-runner",
            "run",
            str(self.folder),
            "--playbook",
            playbook,
            "--ident",
            name,
            "--limit",
            "staging",
        ]
        tools = Path(sys.executable).parent
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PG"))}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**inherited, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        job = Job(done.returncode, self.folder / "artifacts" / name)
        kept = [path for path in job.artifacts.rglob("*") if path.is_file()]
        assert kept, done.stdout + done.stderr
        assert [path for path in kept if self.database.password in path.read_text()] == []
        return job

    def records(self, runs: Path) -> list[dict[str, Any]]:
        """The run records in a folder, oldest first."""
        return [json.loads(path.read_text()) for path in sorted(runs.glob("*/*.json"))]


@pytest.fixture
def controller(database: Any) -> Iterator[Controller]:
    """A controller that has just fetched the project."""
    with short_folder() as folder:
        yield Controller(folder, database)


def versions(controller: Controller) -> list[int]:
    """The versions in the ledger."""
    with controller.database.connect() as session:
        return [row[0] for row in session.execute("SELECT version FROM cm.schema_version ORDER BY version")]


def test_a_controller_runs_the_project_as_it_stands(controller: Controller) -> None:
    first, second = controller.run("migrate.yml", "first"), controller.run("migrate.yml", "second")

    assert (first.code, first.status) == (second.code, second.status) == (0, "successful"), first.output
    assert versions(controller) == [1, 2, 3, 4]
    assert first.changed == {"cm-staging": 1}
    assert second.changed == {}
    # The records land beside ansible.cfg, as on the command line; that copy of the project lasts as long as the job.
    assert [record["outcome"] for record in controller.records(controller.project / ".runs")] == ["succeeded"] * 2


def test_awx_brings_its_own_inventory_and_search_paths_and_the_records_go_elsewhere(controller: Controller) -> None:
    host = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    content = {"staging": {"hosts": ["db-1"]}, "_meta": {"hostvars": {"db-1": host}}}
    inventory = controller.folder / "inventory/hosts"
    inventory.parent.mkdir()
    inventory.write_text(INVENTORY.format(python=sys.executable, content=json.dumps(content)))
    inventory.chmod(0o700)
    controller.environment = {**AWX, "SCHEMA_RUNBOOK_RUNS": str(controller.folder / "kept")}
    before = contents(controller.project)
    migrate, status = controller.run("migrate.yml", "migrate"), controller.run("status.yml", "status")

    assert (migrate.code, migrate.changed, status.code, status.changed) == (0, {"db-1": 1}, 0, {}), migrate.output
    assert versions(controller) == [1, 2, 3, 4]
    assert "migrate succeeded" in status.output
    (record,) = controller.records(controller.folder / "kept")
    assert list(record["hosts"]) == ["db-1"]
    assert contents(controller.project) == before


@pytest.mark.parametrize(
    ("playbook", "variables", "reason"),
    [
        ("migrate.yml", {"db_password": "not-the-password"}, "password authentication failed"),
        ("migrate.yml", {"db_nmae": "cm"}, "Did you mean db_name?"),
        ("rollback.yml", {"rollback_version": 3}, "nothing confirms it"),
    ],
)
def test_a_job_that_cannot_go_on_fails_and_asks_nothing(
    controller: Controller, playbook: str, variables: dict[str, Any], reason: str
) -> None:
    controller.environment = AWX
    job = controller.run(playbook, "failing", **variables)
    assert (job.code, job.status) == (2, "failed")
    assert reason in job.output
    assert "not-the-password" not in job.output


def contents(folder: Path) -> set[str]:
    """Everything in a folder, but for what Python keeps for itself."""
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in path.parts}
