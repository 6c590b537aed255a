# SPDX-License-Identifier: GPL-3.0-or-later
"""``migrate.yml`` and backups: what is pending in production is applied with a sealed set behind it, or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backups import names
from engine import ask, do, versions, write
from project import Project, Run, short_folder

FILES = {
    "001_actor.sql": "CREATE TABLE public.actor (id int);",
    "002_model.sql": "CREATE TABLE public.model (id int);",
}
BROKEN = {"003_broken.sql": "CREATE TABLE public.broken (id int);\nSELECT 1 / 0;\n"}
CONTACTS = [{"role": "on call", "name": "Ana Perić", "phone": "+49 30 1234"}]


class Production(Project):
    """The project's playbooks on production, whose database is the test's and whose migrations are two small ones."""

    def __init__(self, folder: Path, database: Any) -> None:
        super().__init__(folder, database)
        self.variables |= self.own_files()
        write(self.init, FILES)  # type: ignore[arg-type]

    def start(self, door: str, *arguments: str, limit: str = "production", **variables: Any) -> Any:
        """Start a playbook on production unless told otherwise."""
        return super().start(door, *arguments, limit=limit, **variables)

    def run(self, door: str, *arguments: str, code: int = 0, limit: str = "production", **variables: Any) -> Run:
        """Run a playbook on production unless told otherwise."""
        return super().run(door, *arguments, code=code, limit=limit, **variables)

    def sets(self, database: Any = None) -> list[str]:
        """The names of a database's sets, of the test's own unless another one is given."""
        return names(database or self.database, Path(self.variables["backup_directory"]))


@pytest.fixture
def project(database: Any) -> Iterator[Production]:
    """Production, empty."""
    with short_folder() as folder, closing(Production(folder, database)) as project:
        yield project


def test_production_has_a_set_before_anything_is_applied(project: Production, database: Any) -> None:
    predicted = project.run("migrate.yml", "--check")
    assert predicted.changed == 2 and "a set would be taken" in predicted.text
    assert project.sets() == [] and ask(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'cm'") == []

    first = project.run("migrate.yml")
    (empty,) = project.sets()
    assert first.changed == 2 and versions(database) == [1, 2]
    assert empty.endswith("_v0") and first.host["backup"]["set"] == empty
    assert (first.host["previous_version"], first.host["version"]) == (None, 2)

    again = project.run("migrate.yml")
    assert again.changed == 0 and again.host["backup"] is None and project.sets() == [empty]


def test_a_set_that_is_young_enough_is_good_enough(project: Production, database: Any) -> None:
    project.run("migrate.yml", migrate_version=1)
    write(project.init, BROKEN)  # type: ignore[arg-type]
    failed = project.run("migrate.yml", code=2)
    _, behind = project.sets()
    assert behind.endswith("_v1") and failed.host["backup"]["set"] == behind

    # The file before it was applied, so the set of version 1 is no way back any more.
    assert versions(database) == [1, 2]
    write(project.init, {"003_broken.sql": "SELECT 1;"})
    project.run("backup.yml")
    fresh = project.sets()[-1]
    looked = project.run("migrate.yml", "--check")
    assert looked.changed == 1 and f"set {fresh} is" in looked.text and "present schema version" in looked.text
    repaired = project.run("migrate.yml")
    assert repaired.changed == 1 and project.sets()[-1] == fresh
    assert repaired.host["backup"]["set"] == fresh and repaired.host["backup"]["age_seconds"] < 60


def test_nothing_is_applied_when_the_backup_fails(project: Production, database: Any) -> None:
    do(database, "CREATE TABLE public.locked (id int)")
    with database.connect() as session, session.transaction():
        session.execute("LOCK TABLE public.locked")
        failed = project.run("migrate.yml", code=2, backup_lock_wait="200ms")
    assert failed.error["code"] == "lock-timeout" and "There is no new set" in failed.error["message"]
    assert failed.host["applied"] == [] and failed.host["version"] is None
    assert [file["name"] for file in failed.host["pending"]] == list(FILES)
    assert ask(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'cm'") == [] and project.sets() == []


def test_a_failure_says_how_to_get_back_and_that_command_works(project: Production, database: Any) -> None:
    write(project.init, {"003_far.sql": "DROP TABLE public.actor;", "004_broken.sql": "SELECT 1 / 0;"})
    project.run("migrate.yml", migrate_version=2)
    failed = project.run("migrate.yml", code=2)
    name = project.sets()[-1]
    command = (
        f"ansible-playbook restore.yml -l cm-production -e restore_backup={name} -e restore_confirm={database.database}"
    )
    assert command in failed.error["message"] and command in failed.text
    assert versions(database) == [1, 2, 3]

    _, door, *arguments = shlex.split(command)
    back = project.run(door, *arguments)
    assert versions(database) == [1, 2] and ask(database, "SELECT count(*) FROM public.actor") == [(0,)]
    assert back.host["restore"]["set"] == name and back.host["restore"]["downtime_ms"] is not None


def test_of_several_databases_only_those_with_something_to_do_are_backed_up(project: Production, database: Any) -> None:
    other = replace(database, database=f"{database.database}_other")
    do(database, f"CREATE DATABASE {other.database}")
    both = [database.database, other.database]
    project.run("migrate.yml")
    second = project.run("migrate.yml", db_name=both)
    assert second.changed == 2 and versions(other) == [1, 2]
    assert (len(project.sets()), len(project.sets(other))) == (1, 1)
    assert [entry["backup"] is not None for entry in second.record["hosts"].values()] == [False, True]

    write(project.init, BROKEN)  # type: ignore[arg-type]
    failed = project.run("migrate.yml", code=2, db_name=both)
    ours = failed.record["hosts"]["cm-production"]
    confirmed = f"-e restore_confirm={database.database} -e db_name={database.database}"
    assert ours["error"]["message"].endswith(f"-e restore_backup={ours['backup']['set']} {confirmed}")
    assert len(project.sets(other)) == 2  # every set is sealed before the first file is run


def test_elsewhere_the_gate_is_open_unless_asked_for(project: Production, database: Any) -> None:
    open_gate = project.run("migrate.yml", limit="staging", migrate_version=1)
    assert open_gate.changed == 1 and open_gate.host["backup"] is None and project.sets() == []
    project.run("migrate.yml", limit="staging", migrate_backup_max_age="1h")
    assert len(project.sets()) == 1
    write(project.init, {"003_more.sql": "SELECT 1;"})
    project.run("migrate.yml", limit="staging", migrate_backup_max_age="0")
    assert len(project.sets()) == 1 and versions(database) == [1, 2, 3]


def test_whom_to_call_is_said_when_a_run_fails_and_not_otherwise(project: Production) -> None:
    assert "Whom to call" not in project.run("migrate.yml", "--check", db_contacts=CONTACTS).output
    refused = project.run("migrate.yml", code=2, db_contacts=CONTACTS, migrate_lock_budget="40")
    assert "which is no duration" in refused.text and "Whom to call" not in refused.output
    write(project.init, BROKEN)  # type: ignore[arg-type]
    failed = project.run("migrate.yml", code=2, db_contacts=CONTACTS)
    assert "Whom to call:\n  on call: Ana Perić, phone +49 30 1234\n" in failed.output
    assert "Whom to call" not in project.run("migrate.yml", code=2).output


def test_a_rollback_has_a_set_behind_it_too(project: Production, database: Any) -> None:
    write(project.rollback, {"002_model.sql": "DROP TABLE public.model;"})
    project.run("migrate.yml")
    asked = {"rollback_version": 1, "rollback_confirm": database.database}
    done = project.run("rollback.yml", **asked)
    assert versions(database) == [1] and done.host["backup"]["set"].endswith("_v2")
    before = project.sets()
    assert project.run("rollback.yml", **asked).changed == 0 and project.sets() == before
