# SPDX-License-Identifier: GPL-3.0-or-later
"""Production gets what staging has proven, and a migration that makes a check red does not stay."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine import ask, do, versions, write
from project import ROOT, Project, Run, poll, short_folder

FILES = {
    "001_actor.sql": "CREATE TABLE public.actor (id bigint PRIMARY KEY);\n"
    "COMMENT ON TABLE public.actor IS 'Who acts.';\nCOMMENT ON COLUMN public.actor.id IS 'Its number.';\n",
}
MODEL = {
    "002_model.sql": "ALTER TABLE public.actor ADD COLUMN name text;\n"
    "COMMENT ON COLUMN public.actor.name IS 'Its name.';\n",
}
UNDO_MODEL = {"002_model.sql": "ALTER TABLE public.actor DROP COLUMN name;\n"}
NO_NAME = "-- check: nobody is without a name\nSELECT id FROM public.actor WHERE to_jsonb(actor) ->> 'name' IS NULL\n"


class Promotion(Project):
    """Two environments on one server, with the migrations, scripts and checks that a test writes."""

    def __init__(self, folder: Path, staging: Any, production: Any, **options: Any) -> None:
        super().__init__(folder, production, **options)
        self.databases = {"staging": staging, "production": production}
        self.variables |= self.own_files()
        for phase in ("migrate_lint", "migrate_promote_from", "migrate_validate"):
            del self.variables[phase]
        write(self.init, dict(FILES))
        write(self.rollback, {"001_actor.sql": "DROP TABLE public.actor;\n"})

    def migrate(self, environment: str, *arguments: str, code: int = 0, **variables: Any) -> Run:
        """Migrate one of the environments."""
        name = self.databases[environment].database
        return self.run("migrate.yml", *arguments, code=code, limit=environment, db_name=name, **variables)

    def check(self, **files: str) -> None:
        """Write checks, by name without the ending."""
        write(self.checks, {f"{name}.sql": text for name, text in files.items()})


class WithoutRunsVariable(Promotion):
    """A copy of the project whose run records are where they are when nobody says where."""

    def __init__(self, folder: Path, staging: Any, production: Any, root: Path) -> None:
        super().__init__(folder, staging, production, root=root, runs=root / ".runs")

    def environment(self) -> dict[str, str]:
        """The environment of a run."""
        inherited = super().environment()
        del inherited["SCHEMA_RUNBOOK_RUNS"]
        return inherited


@pytest.fixture
def project(database: Any, another_database: Any) -> Iterator[Promotion]:
    """Staging and production, both empty."""
    with short_folder() as folder, closing(Promotion(folder, another_database, database)) as project:
        yield project


def test_production_gets_what_staging_has_proven_and_nothing_else(project: Promotion, database: Any) -> None:
    refused = project.migrate("production", code=2)
    assert refused.error["code"] == "promotion" and "No run record says" in refused.error["message"]
    assert refused.host["gate"]["decision"] == "refused" and refused.host["backup"] is None
    assert ask(database, "SELECT 1 FROM pg_class WHERE relname = 'actor'") == []

    proof = project.migrate("staging")
    assert proof.host["validation"]["outcome"] == "green"
    assert [one["version"] for one in proof.host["validation"]["versions"]] == [1]
    assert "would" in project.migrate("production", "--check").text
    promoted = project.migrate("production")
    assert promoted.host["gate"] == {
        "decision": "passed",
        "environment": "staging",
        "proof": proof.record["id"],
        "reason": "",
        "excused": [],
        "problems": [],
    }
    assert versions(database) == [1] and promoted.host["validation"]["outcome"] == "green"
    assert promoted.host["backup"]["set"]
    assert project.migrate("production").host["gate"] is None, "nothing was pending"


def test_the_gate_is_not_passed_by_editing_renaming_or_an_empty_staging(project: Promotion, database: Any) -> None:
    project.migrate("staging")
    project.migrate("production")
    write(project.init, dict(MODEL))
    write(project.rollback, dict(UNDO_MODEL))
    project.migrate("staging")
    (text,) = MODEL.values()
    file = project.init / "002_model.sql"

    file.write_text(text + "-- one more thing\n")
    assert "002_model.sql is not the file that staging has proven" in project.migrate("production", code=2).text
    file.rename(project.init / "002_other.sql").write_text(text)
    assert "was proven in staging as 002_model.sql" in project.migrate("production", code=2).text
    (project.init / "002_other.sql").rename(file)

    do(database, "INSERT INTO public.actor VALUES (1)")
    emptied = ("INSERT INTO public.actor VALUES (7)", "DELETE FROM public.actor")
    do(project.databases["staging"], *emptied)
    validated = project.run("validate.yml", limit="staging", db_name=project.databases["staging"].database)
    assert validated.host["validation"]["empty"] == ["public.actor"], "its file is not, and it has no row"
    assert "staging had no rows in public.actor, where" in project.migrate("production", code=2).text
    assert versions(database) == [1]
    done = project.migrate("production", migrate_staging_may_lack=["*.actor"])
    assert done.changed == 2 and done.host["gate"]["excused"] == ["public.actor"]


def test_the_proof_is_found_where_run_records_are_by_default(database: Any, another_database: Any) -> None:
    with short_folder() as folder:
        root = folder / "clone"
        left = (".git", ".venv", ".embedded", ".runs", ".backups", ".*_cache", ".ansible", "__pycache__", "tests")
        shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(*left))
        with closing(WithoutRunsVariable(folder / "own", another_database, database, root=root)) as project:
            project.migrate("staging")
            assert project.migrate("production").host["gate"]["decision"] == "passed"


def test_what_comes_in_after_the_plan_is_not_applied_with_it(project: Promotion, database: Any) -> None:
    project.migrate("staging")
    project.migrate("production")
    write(project.init, dict(MODEL))
    write(project.rollback, dict(UNDO_MODEL))
    project.migrate("staging")
    with database.connect() as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE public.actor")
        name = project.databases["production"].database
        process = project.start("migrate.yml", limit="production", db_name=name, backup_lock_wait="1min")
        waiting = f"SELECT 1 FROM pg_stat_activity WHERE datname = '{name}' AND wait_event_type = 'Lock'"
        poll(lambda: [row for row in ask(project.databases["staging"], f"{waiting} AND query LIKE 'LOCK TABLE%'")])
        write(project.init, {"003_sneak.sql": "CREATE TABLE public.sneak (id int);"})
    run = project.finish(process, 2)
    assert run.error["code"] == "changed-since-plan" and "003_sneak.sql" in run.error["message"]
    assert versions(database) == [1]


def test_nothing_is_applied_that_cannot_be_validated_afterwards(project: Promotion) -> None:
    (project.checks / "typo.yml").write_text("- name: rows\n  no_rowz: SELECT 1\n")
    assert "no_rowz" in project.migrate("staging", "--check", code=2).error["message"]
    run = project.migrate("staging", code=2)
    assert "typo.yml:1, check" in run.error["message"] and "no_rowz" in run.error["message"]
    assert ask(project.databases["staging"], "SELECT 1 FROM pg_class WHERE relname = 'actor'") == []


def test_an_override_stays_in_the_history(project: Promotion, database: Any) -> None:
    run = project.migrate("production", migrate_override="the shop is down")
    assert "NOT PROVEN in staging, and applied all the same because: the shop is down" in run.text
    assert run.host["gate"]["decision"] == "overridden" and run.host["gate"]["reason"] == "the shop is down"
    found = ask(database, "SELECT event, version, detail FROM cm.schema_version_history")
    assert found == [("applied", 1, "not proven before: the shop is down")]


def test_a_gate_that_is_switched_off_leaves_the_same_trace(project: Promotion, database: Any) -> None:
    done = project.migrate("production", migrate_promote_from="")
    assert "NOT PROVEN anywhere: no proof was asked for, because migrate_promote_from is empty." in done.text
    assert done.host["gate"]["decision"] == "off" and "is empty" in done.host["gate"]["reason"]
    history = ask(database, "SELECT detail FROM cm.schema_version_history WHERE detail LIKE 'not proven before:%'")
    assert history == [("not proven before: no proof was asked for, because migrate_promote_from is empty",)]


def test_what_a_run_has_not_validated_the_next_one_does(project: Promotion) -> None:
    project.migrate("staging")
    write(project.init, {"009_later.sql": "CREATE TABLE public.later (id int);\n"})
    project.migrate("staging", migrate_validate=False)
    again = project.migrate("staging", migrate_validate=False)
    assert again.changed == 0 and "The checks have not been green at this version. Run:" in again.text
    screen = project.run("status.yml", db_name=again.host["database"]).output
    assert ", at version 1" in screen, screen
    assert "Run: ansible-playbook validate.yml -l staging" in project.migrate("production", code=2).text

    project.check(never="SELECT 1\n")
    red = project.migrate("staging", code=2)
    assert red.host["validation"]["outcome"] == "red" and "never" in red.error["message"]
    assert "never" in project.migrate("staging", code=2).error["message"], "repeating it does not hide that"
    (project.checks / "never.sql").unlink()
    assert project.migrate("staging").host["validation"]["outcome"] == "green"
    assert project.migrate("staging").host["validation"] is None, "nothing is left to be validated"


def test_the_next_run_validates_what_stayed_before_a_file_that_failed(project: Promotion) -> None:
    project.migrate("staging")
    write(project.init, {"008_good.sql": "CREATE TABLE public.good (id int);\n", "009_bad.sql": "SELECT 1/0;\n"})
    failed = project.migrate("staging", code=2)
    assert [one["version"] for one in failed.host["applied"]] == [8]
    (project.init / "009_bad.sql").unlink()
    again = project.migrate("staging")
    assert again.changed == 0 and [one["version"] for one in again.host["validation"]["versions"]] == [1, 8]
    assert again.host["validation"]["outcome"] == "green"


def test_phases_cannot_be_left_out_by_tags(project: Promotion, database: Any) -> None:
    run = project.migrate("production", "--tags", "apply", code=2)
    assert "With --tags apply nothing but this check would run" in run.text
    assert "its db_environment is qa" in project.migrate("production", code=2, db_environment="qa").text
    run = project.migrate("production", "--skip-tags", "always", code=2, db_environment="staging")
    assert "The guard may have been left out by --skip-tags always" in run.text
    assert ask(database, "SELECT 1 FROM pg_class WHERE relname = 'actor'") == []


@pytest.mark.parametrize("phase", ["GATE: ask", "BACKUP: have"])
def test_nothing_is_applied_when_a_phase_is_stepped_over(project: Promotion, database: Any, phase: str) -> None:
    project.migrate("staging")
    name = project.databases["production"].database
    process = project.start("migrate.yml", "--step", limit="production", db_name=name)
    assert process.stdin and process.stdout
    said, asked = "", []
    while character := process.stdout.read(1):
        said += character
        if said.endswith("(N)o/(y)es/(c)ontinue: "):
            asked.append(said.rpartition("Perform task: ")[2])
            if len(asked) % 2:  # Ansible repeats each question as a heading once it is answered
                process.stdin.write("n\n" if phase in asked[-1] else "y\n")
                process.stdin.flush()
    run = project.finish(process, code=2)
    assert "Nothing was applied: phase GATE or BACKUP was left out" in run.error["message"], said
    assert ask(database, "SELECT 1 FROM pg_class WHERE relname = 'actor'") == []


def test_a_database_of_production_is_not_migrated_as_staging(project: Promotion, database: Any) -> None:
    project.migrate("staging")
    project.migrate("production")
    write(project.init, dict(MODEL))
    project.databases["staging"] = database
    run = project.migrate("staging", code=2)
    assert run.error["code"] == "promotion" and "production is this very database (run " in run.error["message"]
    assert versions(database) == [1]


def test_another_folder_of_checks_proves_nothing(project: Promotion) -> None:
    project.check(nobody=NO_NAME)
    other = project.checks.parent / "other"
    other.mkdir()
    write(other, {"fine.sql": "SELECT 1 WHERE false\n"})
    project.migrate("staging", validate_directory=str(other))
    run = project.migrate("production", code=2)
    assert "has not made the checks nobody is without a name. Run:" in run.error["message"]


def test_what_makes_a_check_red_is_rolled_back_when_that_is_proven(project: Promotion, database: Any) -> None:
    project.migrate("staging")
    project.migrate("production")
    do(database, "INSERT INTO public.actor VALUES (1)")
    write(project.init, dict(MODEL))
    write(project.rollback, dict(UNDO_MODEL))
    project.check(names=f"-- since: 2\n{NO_NAME}")
    project.migrate("staging")
    lack = {"migrate_staging_may_lack": ["*"]}

    run = project.migrate("production", code=2, **lack)
    assert "nobody is without a name" in run.error["message"] and "Rolled back: 002_model.sql" in run.error["message"]
    assert versions(database) == [1]
    assert ask(database, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'actor'") == [(1,)]
    story = run.host
    assert story["validation"]["outcome"] == "red" and story["rollbacks"]["proven"][0]["version"] == 2
    assert [[one["version"] for one in story[kind]] for kind in ("applied", "rolled_back")] == [[2], [2]]
    assert (story["previous_version"], story["version"]) == (1, 1) and story["backup"]["set"]
    history = ask(database, "SELECT detail FROM cm.schema_version_history WHERE event = 'rolled back'")
    assert history == [("red after it was applied: nobody is without a name",)]
    assert run.record["outcome"] == "failed"

    (project.rollback / "002_model.sql").write_text("SELECT 1;\n")
    stopped = project.migrate("production", code=2, **lack)
    assert "was not rolled back, since a scratch database does not prove that" in stopped.error["message"]
    assert "column public.actor.name" in stopped.error["message"], "what the script forgets"
    assert f"restore_backup={stopped.host['backup']['set']}" in stopped.error["message"]
    assert versions(database) == [1, 2] and stopped.host["rollbacks"]["unproven"][0]["version"] == 2


def test_a_red_validation_can_be_left_to_somebody(project: Promotion, database: Any) -> None:
    project.check(never=NO_NAME.replace("WHERE", "RIGHT JOIN (VALUES (7)) AS v (n) ON true WHERE"))
    run = project.migrate("staging", code=2, migrate_on_red="stop")
    assert "What was applied stays, for somebody to look at." in run.error["message"]
    assert versions(project.databases["staging"]) == [1]
    assert run.host["validation"]["outcome"] == "red" and run.host["rollbacks"] is None
    again = project.migrate("production", code=2)
    assert "was red: nobody is without a name" in again.error["message"]
    assert "nobody is without a name" in again.host["gate"]["problems"][0]
