# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-playbook backup.yml``: what operators type, see and rely on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from backups import leftovers, names
from engine import do
from project import Project, Run, short_folder


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, with the database and a folder for its sets."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        project.variables["backup_directory"] = str(sets(project))
        yield project


def sets(project: Project) -> Path:
    """Where a project's sets go."""
    return project.folder / "sets"


def said(run: Run) -> str:
    """What the role said at the end."""
    return run.text.rpartition("TASK [backup : Say what there is now]")[2].partition("PLAY RECAP")[0]


def test_a_backup_is_a_change_unless_a_young_set_is_good_enough(project: Project, database: Any) -> None:
    predicted = project.run("backup.yml", "--check", "--diff")
    assert predicted.changed == 1 and "+(a new set)" in predicted.output and not sets(project).exists()
    done = project.run("backup.yml", "-vvv")  # -vvv shows whatever is not kept back
    (name,) = names(database, sets(project))
    assert done.changed == 1 and f"set {name} is sealed in" in said(done)
    again = project.run("backup.yml", backup_max_age="1h")
    assert again.changed == 0 and f"set {name} is" in said(again) and "present schema version" in said(again)
    assert names(database, sets(project)) == [name]


def test_check_and_diff_list_the_sets_that_would_go(project: Project, database: Any) -> None:
    keep = {f"backup_keep_{tier}": 0 for tier in ("daily", "weekly", "monthly", "min_age")} | {"backup_keep_last": 1}
    project.run("backup.yml")
    (name,) = names(database, sets(project))
    predicted = project.run("backup.yml", "--check", "--diff", **keep)
    assert f"-{name}" in predicted.output and "1 older would be removed" in said(predicted)
    assert names(database, sets(project)) == [name]


def test_what_is_wrong_with_one_database_does_not_keep_the_others_from_being_backed_up(
    project: Project, database: Any
) -> None:
    failed = project.run("backup.yml", code=2, db_name=[f"{database.database}_none", database.database])
    assert f'database "{database.database}_none" does not exist' in failed.text
    assert len(names(database, sets(project))) == 1


def test_a_failure_is_a_sentence_and_leaves_nothing(project: Project, database: Any) -> None:
    do(database, "CREATE TABLE a (n int)")
    with database.connect() as session, session.transaction():
        session.execute("LOCK TABLE a")
        failed = project.run("backup.yml", code=2, backup_lock_wait="200ms")
    assert failed.error["code"] == "lock-timeout", failed.error
    assert "There is no new set" in failed.error["message"] and "pg_terminate_backend" in failed.error["message"]
    assert names(database, sets(project)) == [] and leftovers(sets(project)) == []
