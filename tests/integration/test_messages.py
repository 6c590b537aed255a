# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, as operators see it: each mistake has its sentence, on the screen and in the run record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from engine import migrated, write
from project import Project, poll, short_folder

GOOD = {"001_actor.sql": "CREATE TABLE public.actor (id int);"}


@dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
        code: the machine-readable name in the run record, None for what Ansible itself refuses.
        sentence: what the message has to say; ``{database}``, ``{init}`` and ``{rollback}`` are filled in.
        files: migrations, besides a good first one.
        applied: migrations that the database has already.
        sql: what else was done to the database before.
        place: file and line in the run record.
        variables: extra variables, filled in like the sentence.
        arguments: further arguments of ansible-playbook.
        lost: names of migrations that are deleted after they were applied.
    """

    code: str | None
    sentence: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    applied: dict[str, str | bytes] = field(default_factory=dict)
    sql: str = ""
    place: tuple[str, int] | None = None
    door: str = "migrate.yml"
    variables: dict[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    limit: str = "staging"
    lost: tuple[str, ...] = ()


FILES = {
    "a name without a number": Case(
        "file-name",
        "The file name 'audit_log.sql' in {init} is not of the form NNN_description.sql",
        files={"audit_log.sql": "SELECT 1;"},
    ),
    "two files with one number": Case(
        "duplicate",
        "Two files in {init} have the number 7: 007_a.sql and 7_b.sql.",
        files={"7_b.sql": "SELECT 1;", "007_a.sql": "SELECT 1;"},
    ),
    "a folder that is not there": Case(
        "no-folder",
        "The migrations folder {init}/typo does not exist. Create it, or set migrate_directory",
        variables={"migrate_directory": "{init}/typo"},
    ),
    "a syntax error": Case(
        "sql",
        '002_b.sql:3: syntax error at or near "TABEL". Nothing of this file was kept.',
        files={"002_b.sql": "SELECT 1;\n\nCREATE TABEL b ();"},
        place=("002_b.sql", 3),
    ),
    "data that do not fit": Case(
        "sql",
        "002_b.sql:1: invalid input syntax for type integer",
        files={"002_b.sql": "COPY public.actor FROM stdin;\n1\nnumber two\n\\.\n"},
        place=("002_b.sql", 1),
    ),
    "a psql command": Case(
        "meta-command",
        "002_b.sql:2: \\connect is a psql command that migrations cannot use.",
        files={"002_b.sql": "SELECT 1;\n\\connect other\n"},
        place=("002_b.sql", 2),
    ),
    "an include from outside the folder": Case(
        "include",
        "002_b.sql:1: the included file '../secret.sql' lies outside the migrations folder.",
        files={"002_b.sql": "\\ir ../secret.sql\n"},
        place=("002_b.sql", 1),
    ),
    "a string without an end": Case(
        "syntax",
        "002_b.sql:2: the string that starts here is still open at the end of the file.",
        files={"002_b.sql": "SELECT 1;\nSELECT 'open;\n"},
        place=("002_b.sql", 2),
    ),
    "text that is not UTF-8": Case(
        "encoding",
        "002_b.sql:2: byte 0xe9 is not valid UTF-8.",
        files={"002_b.sql": b"SELECT 1;\nSELECT 'caf\xe9';\n"},
        place=("002_b.sql", 2),
    ),
    "BEGIN in a file": Case(
        "transaction-control",
        "002_b.sql:2: the file controls transactions itself (BEGIN). Each file already runs in one transaction",
        files={"002_b.sql": "SELECT 1;\nBEGIN;\nSELECT 2;\nCOMMIT;\n"},
        place=("002_b.sql", 2),
    ),
    "an unknown directive": Case(
        "directive",
        '002_b.sql:1: the directive "transaction: maybe" is not known.',
        files={"002_b.sql": "-- transaction: maybe\nSELECT 1;"},
    ),
    "an enum value used at once": Case(
        "sql",
        "A new enum value cannot be used in the transaction that adds it",
        applied={"001_actor.sql": "CREATE TYPE public.mood AS ENUM ('ok');"},
        files={"002_b.sql": "ALTER TYPE public.mood ADD VALUE 'fine';\nSELECT 'fine'::public.mood;"},
    ),
    "a procedure that commits": Case(
        "sql",
        'put "-- transaction: none" in the first line of the file',
        files={"002_b.sql": "DO $$ BEGIN COMMIT; END $$;"},
    ),
    "a file that records another version": Case(
        "self-recorded",
        "002_b.sql records version 3 in cm.schema_version, but its name says 2.",
        applied=GOOD,
        files={"002_b.sql": "INSERT INTO cm.schema_version (version) VALUES (3);"},
    ),
    "a file that empties the ledger": Case(
        "ledger-damaged",
        "002_b.sql changes or removes rows of other migrations in cm.schema_version.",
        applied=GOOD,
        files={"002_b.sql": "DELETE FROM cm.schema_version;"},
    ),
}

LEDGER = {
    "a file edited after it was applied": Case(
        "edited",
        "1 file changed after being applied: 001_actor.sql. An applied migration is history: restore the file",
        applied=GOOD,
        files={"001_actor.sql": "CREATE TABLE public.actor (id bigint);"},
    ),
    "a renamed file": Case(
        "renamed",
        "1 applied file renamed: 001_actor.sql is now 001_person.sql.",
        applied=GOOD,
        files={"001_person.sql": GOOD["001_actor.sql"]},
        lost=("001_actor.sql",),
    ),
    "an applied file that is gone": Case(
        "missing",
        "The database has 1 version that {init} has no file for: 002_b.sql. This checkout is probably older",
        applied={**GOOD, "002_b.sql": "SELECT 1;"},
        lost=("002_b.sql",),
    ),
    "a file that comes late": Case(
        "out-of-order",
        "002_late.sql came after version 3 was applied. Give it the next free number",
        applied={**GOOD, "003_b.sql": "SELECT 1;"},
        files={"002_late.sql": "SELECT 2;"},
    ),
    "a version there is no file for": Case(
        "unknown-version",
        "There is no migration with the number 9 in {init}; the newest is 1.",
        variables={"migrate_version": 9},
    ),
    "a version there is no file for on a database that is up to date": Case(
        "unknown-version",
        "There is no migration with the number 99 in {init}; the newest is 1.",
        applied=GOOD,
        variables={"migrate_version": 99},
    ),
    "a version that is no number": Case(
        "option",
        'The version to go to is "newest". Write a number such as 4, or latest.',
        variables={"migrate_version": "newest"},
    ),
    "going down by migrate": Case(
        "rollback-not-allowed",
        "The database is at version 2, above the wanted 1.",
        applied={**GOOD, "002_b.sql": "SELECT 1;"},
        variables={"migrate_version": 1},
    ),
    "going up by rollback": Case(
        "apply-not-allowed",
        "rolling back to 2 would have to go up. Name a lower version. To go up, run migrate.yml.",
        door="rollback.yml",
        applied=GOOD,
        files={"002_b.sql": "SELECT 1;"},
        variables={"rollback_version": 2, "rollback_confirm": "{database}"},
    ),
    "a rollback without a script": Case(
        "no-rollback-script",
        "There is no rollback script for 001_actor.sql in {rollback}. Nothing was rolled back.",
        door="rollback.yml",
        applied=GOOD,
        variables={"rollback_version": 0, "rollback_confirm": "{database}"},
    ),
    "a rollback without a folder of scripts": Case(
        "no-folder",
        "The rollback folder {rollback}/typo does not exist.",
        door="rollback.yml",
        applied=GOOD,
        variables={
            "rollback_version": 0,
            "rollback_confirm": "{database}",
            "migrate_rollback_directory": "{rollback}/typo",
        },
    ),
    "a table of somebody else's where the ledger goes": Case(
        "foreign-ledger",
        "The table cm.schema_version has no column version, so it belongs to something else.",
        sql="CREATE SCHEMA cm; CREATE TABLE cm.schema_version (release text);",
    ),
}

SERVER = {
    "a wrong password": Case(
        "connection",
        'password authentication failed for user "cm"',
        variables={"db_password": "not the right one"},
    ),
    "a port where nobody listens": Case(
        "connection",
        "Cannot connect to database {database} at 127.0.0.1:1 as user cm:",
        variables={"db_port": 1},
    ),
    "a database that is not there": Case(
        "connection",
        'database "nowhere" does not exist',
        variables={"db_name": "nowhere"},
    ),
    "a read-only database": Case(
        "read-only",
        "is read-only (default_transaction_read_only is on).",
        sql="ALTER DATABASE {database} SET default_transaction_read_only = on;",
    ),
    "a user without privileges": Case(
        "sql",
        "The user of the run lacks a privilege: grant it, or act as the owner (db_user, db_session_role).",
        sql="CREATE SCHEMA locked_away; CREATE TABLE locked_away.secret (); CREATE ROLE stranger_{database};",
        files={"002_b.sql": "SET ROLE stranger_{database};\nSELECT FROM locked_away.secret;"},
    ),
}

OPTIONS = {
    "an unknown variable": Case(
        "guard",
        "Variable migrate_directroy is unknown: no role declares it. Did you mean migrate_directory?",
        variables={"migrate_directroy": "db/init"},
    ),
    "a boolean given as a string": Case(
        "guard",
        """On the command line write -e '{{"migrate_repair": true}}'""",
        arguments=("-e", "migrate_repair=yes"),
    ),
    "a value that is not among the choices": Case(
        "guard",
        "migrate_transaction is 'some', which is not one of its choices. Choose from: each, all.",
        variables={"migrate_transaction": "some"},
    ),
    "both environments at once": Case(
        "guard",
        "This run would reach 2 environments at once (staging: cm-staging; production: cm-production).",
        limit="all",
    ),
    "a duration without a unit": Case(
        "guard",
        "Variable migrate_lock_budget is '40', which is no duration. Write a whole number and a unit: 500ms, 5s, 10min",
        variables={"migrate_lock_budget": "40"},
    ),
    "a lock timeout that waits for ever": Case(
        "option",
        "The option lock_timeout is 0: a migration would wait for a lock for ever",
        variables={"migrate_lock_timeout": "0"},
    ),
    "a port that is no number": Case(None, "db_port", variables={"db_port": "the usual"}),
    "a baseline of nothing in particular": Case(None, "baseline_version", door="baseline.yml"),
    "a rollback to nothing in particular": Case(
        None, "rollback_version", door="rollback.yml", variables={"rollback_confirm": "{database}"}
    ),
}

CASES = {**FILES, **LEDGER, **SERVER, **OPTIONS}


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project with a folder of migrations of the test's own."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        project.variables |= project.own_files()
        yield project


def filled_in(text: str, project: Project) -> str:
    """A text with the names of this test's database and folders."""
    return text.format(database=project.database.database, init=project.init, rollback=project.rollback)


def prepare(case: Case, project: Project) -> dict[str, Any]:
    """Bring about the situation before the mistake, and return the run's variables."""
    if case.applied:
        migrated(project.database, write(project.init, case.applied))
    with project.database.connect() as session:
        session.execute(filled_in(case.sql, project))
    for name in case.lost:
        (project.init / name).unlink()
    files = {
        name: filled_in(sql, project) if isinstance(sql, str) and "{database}" in sql else sql
        for name, sql in ({} if case.applied else GOOD).items() | case.files.items()
    }
    write(project.init, files)
    return dict(json.loads(json.dumps(case.variables), object_hook=lambda given: fill(given, project)))


def fill(variables: dict[str, Any], project: Project) -> dict[str, Any]:
    """Variables with the names of this test's database and folders."""
    return {name: filled_in(value, project) if isinstance(value, str) else value for name, value in variables.items()}


def contents(project: Project) -> list[Any]:
    """What a refused run has to leave as it was: every relation, and the ledger row by row."""
    relations = "SELECT oid::text || relname || relfilenode FROM pg_class WHERE oid >= 16384 ORDER BY 1"
    with project.database.connect() as session:
        found = session.execute(relations).fetchall()
        if session.execute("SELECT to_regclass('cm.schema_version')").fetchone() != (None,):
            found += session.execute("SELECT l::text FROM cm.schema_version AS l ORDER BY 1").fetchall()
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_mistake_has_its_sentence(case: Case, project: Project) -> None:
    variables = prepare(case, project)
    before = contents(project)
    failed = project.run(case.door, "-vvv", *case.arguments, limit=case.limit, code=2, **variables)
    sentence = filled_in(case.sentence, project)
    assert sentence in failed.text, failed.output
    assert failed.record["outcome"] == "failed"
    error = next(entry["error"] for entry in failed.record["hosts"].values() if entry["error"])
    assert error["code"] == case.code
    assert sentence in error["message"]
    if case.place:
        assert (error["file"], error["line"]) == case.place
    # What came before the mistake stays; a mistake that was found beforehand leaves everything as it was.
    assert failed.changed == 0
    if case.code not in ("sql", "self-recorded", "ledger-damaged"):
        assert contents(project) == before
    else:
        assert [file["name"] for file in failed.host["applied"]] == ([] if case.applied else ["001_actor.sql"])
        assert [file["name"] for file in failed.host["pending"]] == ["002_b.sql"]


def test_a_second_run_names_the_first_one(project: Project) -> None:
    gate = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'gate') LOOP END LOOP; END $$;"
    write(project.init, {"001_slow.sql": gate.replace("LOOP END", "LOOP PERFORM pg_sleep(0.05); END")})
    first = project.start("migrate.yml")
    with project.database.connect() as session:
        working = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%''gate''%'"
        poll(lambda: session.execute(f"{working} AND pid <> pg_backend_pid()").fetchall())
        # Both are in flight: the record of the first one is not there yet for the helper to mistake for its own.
        second = project.start("migrate.yml", migrate_run_lock_wait="0")
        output, _ = second.communicate()
        session.execute("CREATE TABLE public.gate ()")
    assert second.returncode == 2, output
    text = " ".join(output.split())
    assert f"Another run is working on database {project.database.database}: pid " in text
    assert 'application "schema-runbook lock' in text and "Let it finish and start this run again." in text
    assert project.finish(first).code == 0


def test_who_is_in_the_way_of_a_lock_is_named(project: Project) -> None:
    migrated(project.database, write(project.init, dict(GOOD)))
    write(project.init, {"002_b.sql": "ALTER TABLE public.actor ADD COLUMN name text;"})
    with project.database.connect(application_name="the report") as reader, reader.transaction():
        reader.execute("SELECT FROM public.actor")
        failed = project.run("migrate.yml", migrate_lock_timeout="300ms", migrate_lock_budget="500ms", code=2)
    assert failed.error["code"] == "lock-timeout"
    assert "002_b.sql did not get its locks in" in failed.text
    assert "the report" in failed.text and "SELECT pg_terminate_backend(pid)" in failed.text
    assert project.run("migrate.yml").changed == 1


@pytest.mark.parametrize("way_round", [("--start-at-task", "*__migrate_task.name*"), ("--skip-tags", "always")])
def test_nothing_is_rolled_back_when_the_guard_is_left_out(project: Project, way_round: tuple[str, str]) -> None:
    migrated(project.database, write(project.init, dict(GOOD)))
    write(project.rollback, {"001_actor.sql": "DROP TABLE public.actor;"})
    before = contents(project)
    for wrong in ({}, {"rollback_confirm": "cm"}):
        failed = project.run("rollback.yml", *way_round, rollback_version=0, code=2, **wrong)
        assert contents(project) == before
        assert failed.error["code"] == "confirmation"
        assert f"add -e rollback_confirm={project.database.database} to the command" in failed.error["message"]
    right = {"rollback_version": 0, "rollback_confirm": project.database.database}
    refused = project.run("rollback.yml", *way_round, code=2, **right)
    assert refused.error["code"] == "option" and f"left out by {' '.join(way_round)}" in refused.error["message"]
    assert contents(project) == before
