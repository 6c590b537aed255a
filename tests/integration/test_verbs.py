# SPDX-License-Identifier: GPL-3.0-or-later
"""``up.yml`` and ``down.yml`` where no engine is needed: for embedded servers, and for those that others start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import embedded
from project import Project, short_folder


@pytest.fixture
def project(home: Path) -> Iterator[Project]:
    """The project with an embedded server of the test's own, not started yet."""
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables = {"db_embedded_home": str(home)}
        yield project


def state(home: Path) -> str:
    """Whether the embedded server is started, stopped or absent."""
    return embedded.inspect(embedded.Wanted(home=str(home))).state


def test_an_embedded_server_is_started_and_stopped(project: Project, home: Path) -> None:
    assert project.run("up.yml", "--check").changed == 1 and state(home) == "absent"
    assert project.run("up.yml").changed == 1 and state(home) == "started"
    assert project.run("up.yml").changed == 0
    assert project.run("down.yml", "--check").changed == 1 and state(home) == "started"
    stopped = project.run("down.yml")
    assert stopped.changed == 1 and state(home) == "stopped"
    assert (stopped.record["operation"], stopped.record["outcome"]) == ("down", "succeeded")
    assert project.run("down.yml").changed == 0
    project.run("up.yml")
    project.run("migrate.yml", code=2, migrate_directory="/nowhere")
    project.run("up.yml")
    # What was done to the server hides nothing that was done to the database.
    assert "migrate failed" in project.run("status.yml").text


@pytest.mark.parametrize(("runtime", "remedy"), [("native", "sudo systemctl stop postgresql"), ("managed", "provided")])
def test_a_server_that_others_stop_is_left_alone(project: Project, runtime: str, remedy: str) -> None:
    refused = project.run("down.yml", code=2, db_runtime=runtime, db_os_user="")
    assert f"db_runtime is {runtime}" in refused.text and remedy in refused.error["message"]


def test_a_server_that_others_start_has_to_answer(database: Any) -> None:
    with short_folder() as folder, closing(Project(folder, database)) as project:
        assert project.run("up.yml").changed == 0
        down = project.run("up.yml", code=2, db_port=1)
        assert "Connection refused" in down.text and down.error["code"] == "connection"
        project.run("status.yml")
        variables = folder / "variables.json"  # of the run before
        # make prod, on a server of whatever kind
        deployed = project.tool("ansible-playbook", "up.yml", "migrate.yml", "-l", "staging", "-e", f"@{variables}")
        assert deployed.returncode == 0 and "4 applied" in deployed.stdout, deployed.stdout


def test_a_run_reaches_one_environment(project: Project) -> None:
    refused = project.run("down.yml", code=2, limit="staging,production")
    assert "2 environments at once" in refused.text
