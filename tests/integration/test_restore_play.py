# SPDX-License-Identifier: GPL-3.0-or-later
"""``restore.yml`` in real runs: what is live afterwards, what services saw, and whether the run tells the truth."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import backups
import lab
import pytest
from conftest import maintenance
from engine import ask, do
from project import Project, poll, short_folder


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, with a backup of a table of ten rows that has five more by now."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        project.variables |= {"backup_directory": str(folder / "backups"), "restore_confirm": database.database}
        do(database, "CREATE TABLE t AS SELECT a FROM generate_series(1, 10) a")
        backups.take(database, folder / "backups")
        do(database, "INSERT INTO t SELECT a FROM generate_series(11, 15) a")
        yield project
        with maintenance(database) as session:
            for name in others(database):
                session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def others(database: Any) -> list[str]:
    """The side and kept databases there are."""
    with maintenance(database) as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s) ORDER BY 1", [database.database + "_"]
        )
        return [name for (name,) in rows]


def rows(database: Any) -> int:
    """How many rows the live table has."""
    return int(ask(database, "SELECT count(*) FROM t")[0][0])


def test_check_looks_and_a_run_restores_what_undo_takes_back(project: Project, database: Any) -> None:
    checked = project.run("restore.yml", "--check", "--diff")
    assert "would be restored beside the live one" in checked.text
    assert checked.changed == 1 and rows(database) == 15 and others(database) == []

    restored = project.run("restore.yml")
    assert "nobody could write for" in restored.text
    assert rows(database) == 10

    undone = project.run("restore.yml", restore_action="undo")
    assert "is back; nobody could write for" in undone.text
    assert rows(database) == 15


def test_a_red_smoke_test_brings_the_former_database_back(project: Project, database: Any) -> None:
    run = project.run("restore.yml", restore_smoke_command=["sh", "-c", "echo the shop is dark >&2; exit 3"], code=2)
    assert "the shop is dark" in run.text and "is back; nobody could write for" in run.error["message"]
    assert rows(database) == 15


def test_a_red_smoke_test_without_a_former_database_says_what_is_live(project: Project, database: Any) -> None:
    with maintenance(database) as session:
        session.execute(f'DROP DATABASE "{database.database}"')
    run = project.run("restore.yml", restore_smoke_command=["false"], code=2)
    assert "no former database had to come back. The live database is open." in run.error["message"]
    assert rows(database) == 10


def test_a_swap_that_fails_leaves_the_live_database_open_and_older_kept_ones_where_they_are(
    project: Project, database: Any
) -> None:
    project.run("restore.yml")  # leaves a kept database that a mistaken undo would bring back
    kept = others(database)
    do(database, "DELETE FROM t")
    with database.connect() as stubborn:
        pid = stubborn.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            run = project.run("restore.yml", restore_swap_timeout="1s", code=2)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert f"pid {pid}" in run.error["message"] and "The live database is open." in run.error["message"]
    assert rows(database) == 0
    assert [name for name in others(database) if "_before_" in name] == kept


def test_a_session_that_is_ended_in_the_swap_does_not_leave_the_database_closed(
    project: Project, database: Any
) -> None:
    def end_the_run() -> None:
        poll(lambda: not _is_open(database), 60)
        with maintenance(database) as session:
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'schema-runbook lock restore%'"
            )

    with database.connect() as stubborn:  # keeps the swap waiting until its session was ended
        os.kill(stubborn.info.backend_pid, signal.SIGSTOP)
        ending = threading.Thread(target=end_the_run)
        ending.start()
        try:
            run = project.run("restore.yml", code=2)
        finally:
            os.kill(stubborn.info.backend_pid, signal.SIGCONT)
            ending.join()
    assert "The live database is open." in run.error["message"]
    assert rows(database) == 15


def test_a_copy_under_another_name_leaves_live_database_and_services_alone(project: Project, database: Any) -> None:
    copy = database.database + "_copy"
    run = project.run(
        "restore.yml",
        restore_database=copy,
        restore_confirm=copy,
        restore_backup_database=database.database,
        db_services=[{"name": "no-such.service"}],
    )
    assert "no-such.service" not in run.output
    assert rows(database) == 15
    with database.connect(dbname=copy) as session:
        assert session.execute("SELECT count(*) FROM t").fetchone() == (10,)


def test_undo_without_anything_to_undo_stops_no_service(project: Project) -> None:
    run = project.run("restore.yml", restore_action="undo", db_services=[{"name": "no-such.service"}], code=2)
    assert "There is nothing to undo" in run.error["message"]
    assert "no-such.service" not in run.output


@pytest.mark.usefixtures("engine")
def test_services_rest_during_the_swap_and_run_again_on_the_former_database(project: Project, database: Any) -> None:
    name = lab.unique_name()
    lab.docker(
        "run",
        "--detach",
        f"--name={name}",
        "--network=none",
        "--stop-signal=SIGKILL",
        lab.POSTGRES_IMAGE,
        "sleep",
        "600",
    )
    try:
        started = lab.docker("inspect", "--format={{.State.StartedAt}}", name)
        services = [{"name": name, "kind": "container"}]
        smoke = ["sh", "-c", f"docker inspect {name} | grep Status >&2; exit 1"]
        run = project.run("restore.yml", db_services=services, restore_smoke_command=smoke, code=2)
        state = lab.docker("inspect", "--format={{.State.Status}} {{.State.StartedAt}}", name).split()
    finally:
        lab.docker("rm", "--force", name)
    assert '"Status": "running"' in run.error["message"]
    assert state[0] == "running" and state[1] != started.strip()
    assert rows(database) == 15


def _is_open(database: Any) -> bool:
    with maintenance(database) as session:
        row = session.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [database.database]).fetchone()
        return bool(row and row[0])
