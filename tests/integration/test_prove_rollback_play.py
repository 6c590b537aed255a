# SPDX-License-Identifier: GPL-3.0-or-later
"""``prove-rollback.yml``, and the modules ``rollback_proof`` and ``schema_drift``, as playbooks run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from engine import do, write
from project import INTERRUPTED, Project, poll, short_folder
from test_scratch import TABLES, UNDO_TABLES, scratches, sleeping

DRIFT = """
- hosts: all
  gather_facts: false
  roles:
    - role: db
  tasks:
    - schema_drift:
        login_db: "{{ db_name }}"
        directory: "{{ migrate_directory }}"
      module_defaults:
        schema_drift: "{{ db_login }}"
      register: found
    - debug:
        msg: "{{ found | dict2items | rejectattr('key', 'in', ['text', 'notes', 'seconds']) | items2dict }}"
    - debug:
        msg: "NOTES {{ found.notes }}"
"""


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, with the database."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        yield project


def pair(project: Project, name: str, up: str, down: str | None) -> None:
    """Write a migration and its rollback script."""
    write(project.init, {name: up})
    if down is not None:
        write(project.rollback, {name: down})


def test_the_shipped_scripts_are_proven_and_the_database_is_left_alone(project: Project, database: Any) -> None:
    done = project.run("prove-rollback.yml")
    assert done.changed == 0 and f"{database.database}: rollback scripts: 4 proven." in done.text
    assert [one["version"] for one in done.host["rollbacks"]["proven"]] == [1, 2, 3, 4]
    with database.connect() as session:
        assert session.execute("SELECT FROM pg_namespace WHERE nspname = 'cm'").rowcount == 0
    assert scratches(database) == []


def test_what_is_wrong_is_named_with_file_and_object_and_the_run_fails(project: Project, database: Any) -> None:
    pair(project, "001_tables.sql", TABLES, UNDO_TABLES)
    pair(project, "002_index.sql", "CREATE INDEX part_name ON cm.part (name)", "SELECT 1")
    pair(project, "003_role.sql", "GRANT pg_monitor TO CURRENT_USER", None)
    reason = "-- rollback: none, the old names are not kept\n"
    pair(project, "004_names.sql", f"{reason}UPDATE cm.part SET name = upper(name)", None)
    files = project.own_files()
    failed = project.run("prove-rollback.yml", code=2, **files)
    assert f"{project.rollback}/002_index.sql forgets: index cm.part_name." in failed.text
    assert f"There is no {project.rollback}/003_role.sql. Write it;" in failed.text
    assert "no way back: the old names are not kept" in failed.text
    assert "003_role.sql:1: left out, because GRANT of a role reaches out of the database" in failed.text
    assert failed.error["code"] == "rollback-unproven"
    kinds = {kind: [one["version"] for one in found] for kind, found in failed.host["rollbacks"].items()}
    assert kinds == {"proven": [1], "unproven": [2, 3], "irreversible": [4]}

    some = project.run("prove-rollback.yml", "--check", **files, prove_versions=[1, 4])
    assert "1 proven, 1 without a way back by script" in some.text and some.changed == 0
    late = project.run("prove-rollback.yml", code=2, **files, prove_versions=[1], prove_timeout="1ms")
    assert "The scratch run was stopped at " in late.text and late.host["rollbacks"]["unproven"][0]["version"] == 1
    strange = project.run("prove-rollback.yml", code=2, **files, prove_versions=[1, 9])
    assert "There is no migration with the number 9" in strange.text

    project.run("migrate.yml", **files)
    back = {"rollback_version": 1, "rollback_confirm": database.database}
    refused = project.run("rollback.yml", code=2, **files, **back)
    assert refused.error["code"] == "irreversible" and "the old names are not kept" in refused.text
    assert f"-e restore_confirm={database.database}" in refused.text and "Nothing was rolled back" in refused.text
    assert refused.host["version"] is None and refused.changed == 0


def test_drift_is_looked_for_in_a_play(project: Project, database: Any) -> None:
    files = project.own_files()
    play = str(write(project.folder, {"drift.yml": DRIFT}) / "drift.yml")
    pair(project, "001_tables.sql", TABLES, UNDO_TABLES)
    project.run("migrate.yml", **files)
    do(database, "ALTER TABLE cm.part SET (fillfactor = 70)")
    found = project.run(play, "--check", **files)
    assert "drifted: true" in found.text and "fillfactor=70" in found.text and found.changed == 0
    write(project.init, {"001_tables.sql": TABLES + "SELECT 1;"})
    unknown = project.run(play, **files)
    assert "drifted: null" in unknown.text and "known: false" in unknown.text
    assert "001_tables.sql has changed since it was applied" in unknown.text


def test_ctrl_c_ends_a_trial_and_leaves_nothing(project: Project, database: Any) -> None:
    pair(project, "001_sleep.sql", "SELECT pg_sleep(30)", "SELECT 1")
    process = project.start("prove-rollback.yml", **project.own_files())
    poll(lambda: sleeping(database))
    project.interrupt(process)
    assert project.finish(process, INTERRUPTED).record["outcome"] == "interrupted"
    poll(lambda: scratches(database) == [])
