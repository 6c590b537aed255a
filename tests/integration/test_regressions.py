# SPDX-License-Identifier: GPL-3.0-or-later
"""Promises that were broken once, each in the smallest case that broke it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import drive
import engine
import pytest
from ansible.module_utils.runbook.application import Report, apply_bundle
from ansible.module_utils.runbook.bundle import write_bundle
from ansible.module_utils.runbook.errors import RunbookError
from conftest import Database
from project import poll
from test_locks import TOLERANCE, holding, probing, waiting

OWN_LEDGER = """CREATE SCHEMA cm;
CREATE TABLE cm.schema_version (
  version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ DEFAULT now(), description TEXT);
"""
TABLE = {"001_t.sql": "CREATE TABLE public.t (i int);"}


def ask(database: Database, question: str) -> list[tuple[Any, ...]]:
    """Rows of a question put from outside."""
    with database.connect() as session:
        return session.execute(question).fetchall()


def do(database: Database, *commands: str) -> None:
    """Commands from outside, each on its own."""
    with database.connect() as session:
        for command in commands:
            session.execute(command)


def refused(
    database: Database, folder: Path, files: dict[str, str | bytes] | None = None, **given: Any
) -> RunbookError:
    """Write the files and apply them; the run has to fail, and its error is returned."""
    report = engine.migrate(database, engine.write(folder, files or {}), **given)
    assert report.error is not None, report.outcome
    return report.error


def roll_back(database: Database, folder: Path, scripts: dict[str, str | bytes], version: str) -> Report:
    """Go down to a version with these scripts."""
    undo = engine.write(folder.parent / "undo", scripts)
    options = {"version": version, "allow_rollback": True, "allow_apply": False, "confirm": database.database}
    return engine.migrate(database, folder, rollback_directory=str(undo), **options)


def ledger(database: Database) -> list[tuple[Any, ...]]:
    """What is recorded about each version."""
    return ask(database, "SELECT version, description, name, checksum FROM cm.schema_version ORDER BY version")


def versions(database: Database) -> list[int]:
    """What is recorded as applied."""
    return [row[0] for row in ledger(database)]


def history(database: Database, version: int) -> list[str]:
    """What happened to a version, in order."""
    found = ask(database, f"SELECT event FROM cm.schema_version_history WHERE version = {version} ORDER BY id")
    return [event for (event,) in found]


def exists(database: Database, relation: str) -> bool:
    """Whether there is a table or index of this name."""
    return ask(database, f"SELECT to_regclass('{relation}') IS NOT NULL") == [(True,)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for migrations; rollback scripts go beside it."""
    return engine.write(tmp_path / "init", {"README.md": ""})


# --- statements outside a transaction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("DROP INDEX CONCURRENTLY public.no_such_index", 'index "no_such_index" does not exist'),
        ("CREATE DATABASE {database}", 'database "{database}" already exists'),
        ("ALTER TABLE public.p DETACH PARTITION public.t CONCURRENTLY", 'relation "t" is not a partition of'),
    ],
)
def test_a_statement_that_the_server_refuses_fails_in_every_run_and_is_never_recorded(
    database: Database, folder: Path, statement: str, sentence: str
) -> None:
    files = {
        "001_t.sql": "CREATE TABLE public.t (i int); CREATE TABLE public.p (i int) PARTITION BY LIST (i);",
        "002_refused.sql": statement.format(database=database.database) + ";",
    }
    for _ in range(2):
        error = refused(database, folder, dict(files))
        assert error.code == "sql"
        assert sentence.format(database=database.database) in error.message
        assert versions(database) == [1]
    assert history(database, 2) == ["failed", "failed"]


def test_an_index_made_by_hand_under_the_name_of_a_failed_unique_one_is_not_taken_for_it(
    database: Database, folder: Path
) -> None:
    files = {
        "001_t.sql": "CREATE TABLE public.t (i int); INSERT INTO public.t VALUES (1), (1);",
        "002_u.sql": "CREATE UNIQUE INDEX CONCURRENTLY u ON public.t (i);",
    }
    assert "could not create unique index" in refused(database, folder, dict(files)).message
    do(database, "CREATE INDEX u ON public.t (i)")
    assert 'relation "u" already exists' in refused(database, folder).message
    assert versions(database) == [1]
    assert ask(database, "SELECT indisunique, indisvalid FROM pg_index WHERE indexrelid = 'public.u'::regclass") == [
        (False, True)
    ]


# --- rollback scripts and the ledger ----------------------------------------------------------------------------------

TWO_TABLES = {"001_a.sql": "CREATE TABLE public.a ();", "002_b.sql": "CREATE TABLE public.b ();"}


@pytest.mark.parametrize("first_line", ["", "-- transaction: none\n"], ids=["one transaction", "no transaction"])
def test_a_rollback_script_that_empties_the_ledger_is_refused_and_the_ledger_is_kept(
    database: Database, folder: Path, first_line: str
) -> None:
    engine.migrated(database, engine.write(folder, dict(TWO_TABLES)))
    before = ledger(database)
    script = f"{first_line}DELETE FROM cm.schema_version;\nDROP TABLE public.b;"
    report = roll_back(database, folder, {"002_b.sql": script}, "1")
    assert report.error is not None
    assert report.error.code == "ledger-damaged"
    assert ledger(database) == before
    assert exists(database, "public.b")
    assert history(database, 2) == ["applied", "rollback failed"]


@pytest.mark.parametrize("first_line", ["", "-- transaction: none\n"], ids=["one transaction", "no transaction"])
def test_a_rollback_script_may_delete_its_own_row(database: Database, folder: Path, first_line: str) -> None:
    engine.migrated(database, engine.write(folder, dict(TWO_TABLES)))
    script = f"{first_line}DROP TABLE public.b;\nDELETE FROM cm.schema_version WHERE version = 2;"
    report = roll_back(database, folder, {"002_b.sql": script}, "1")
    assert report.error is None, report.error.message
    assert versions(database) == [1]
    assert not exists(database, "public.b")


def test_a_rollback_of_everything_may_drop_the_schema_of_the_ledger(database: Database, folder: Path) -> None:
    engine.migrated(database, engine.write(folder, dict(TWO_TABLES)))
    scripts = {"001_a.sql": "DROP TABLE public.a; DROP SCHEMA cm CASCADE;", "002_b.sql": "DROP TABLE public.b;"}
    report = roll_back(database, folder, dict(scripts), "0")
    assert report.error is None, report.error.message
    assert user_objects(database) == []


def test_a_rollback_of_everything_with_plain_drops_of_what_the_first_file_created_leaves_an_empty_database(
    database: Database, folder: Path
) -> None:
    up = f"{OWN_LEDGER}CREATE TABLE cm.t (i int);\nINSERT INTO cm.schema_version VALUES (1, now(), 'first');"
    engine.migrated(database, engine.write(folder, {"001_first.sql": up, "002_b.sql": "CREATE TABLE public.b ();"}))
    scripts = {
        "001_first.sql": "DROP TABLE cm.t;\nDROP TABLE cm.schema_version;\nDROP SCHEMA cm;",
        "002_b.sql": "DROP TABLE public.b;",
    }
    report = roll_back(database, folder, dict(scripts), "0")
    assert report.error is None, report.error.message
    assert user_objects(database) == []


def user_objects(database: Database) -> list[str]:
    """Schemas and relations that a fresh database does not have."""
    found = ask(
        database,
        "SELECT nspname FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_' "
        "UNION ALL SELECT relname FROM pg_class WHERE oid >= 16384",
    )
    return [name for (name,) in found]


# --- migrations and the ledger ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("transaction", ["each", "all"])
@pytest.mark.parametrize("together", [False, True], ids=["applied before", "in the same run"])
@pytest.mark.parametrize(
    ("statement", "codes"),
    [
        ("UPDATE cm.schema_version SET checksum = 'x' WHERE version = 1", {"ledger-damaged"}),
        ("DELETE FROM cm.schema_version WHERE version = 1", {"ledger-damaged"}),
        ("INSERT INTO cm.schema_version (version, checksum) VALUES (9, 'x')", {"self-recorded", "ledger-damaged"}),
    ],
    ids=["update", "delete", "insert"],
)
def test_a_file_that_touches_the_row_of_another_version_is_refused(
    database: Database, folder: Path, statement: str, codes: set[str], together: bool, transaction: str
) -> None:
    engine.write(folder, dict(TABLE))
    if not together:
        engine.migrated(database, folder)
    error = refused(
        database,
        folder,
        {"002_good.sql": "CREATE TABLE public.good ();", "003_bad.sql": f"CREATE TABLE public.bad (); {statement};"},
        transaction=transaction,
    )
    assert error.code in codes, error.message
    assert "003_bad.sql" in error.message
    assert not exists(database, "public.bad")
    expected = [1, 2] if transaction == "each" else [] if together else [1]
    recorded = ledger(database) if exists(database, "cm.schema_version") else []
    assert [row[0] for row in recorded] == expected
    assert not any(checksum == "x" for *_, checksum in recorded)


# --- files that stopped half way --------------------------------------------------------------------------------------

HALF_WAY = "CREATE TABLE public.half ();\nVACUUM public.half;\nSELECT 1/0;"


def test_a_file_that_stopped_half_way_and_was_removed_is_asked_for(database: Database, folder: Path) -> None:
    refused(database, folder, {**TABLE, "002_half.sql": HALF_WAY})
    (folder / "002_half.sql").unlink()
    with pytest.raises(RunbookError, match="002_half.sql was interrupted after statement 2") as caught:
        engine.migrate(database, folder)
    assert caught.value.code == "interrupted"


def test_a_plan_from_before_another_run_stopped_half_way_is_stale(
    database: Database, folder: Path, tmp_path: Path
) -> None:
    engine.migrated(database, engine.write(folder, dict(TABLE)))
    other = engine.write(tmp_path / "other", {**TABLE, "002_half.sql": HALF_WAY})
    _made, order, tasks = engine.plan(database, engine.write(folder, {"002_b.sql": "CREATE TABLE public.b ();"}))
    bundle = tmp_path / "bundle"
    with bundle.open("wb") as file:
        write_bundle(file, order, tasks)
    refused(database, other)
    with bundle.open("rb") as file:
        report = apply_bundle(file, engine.login(database), engine.options(directory=str(folder)), engine.REQUESTER)
    assert report.stale
    assert not report.outcome.changed
    assert not exists(database, "public.b")
    assert versions(database) == [1]


def test_a_run_that_stopped_half_way_has_changed_the_database(database: Database, folder: Path) -> None:
    report = engine.migrate(database, engine.write(folder, {"001_half.sql": HALF_WAY}))
    assert report.error is not None
    assert exists(database, "public.half")
    assert report.outcome.applied == []
    assert report.outcome.changed


# --- a file's own settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "whose", ["DATABASE {database}", "ROLE {user}", "ROLE {user} IN DATABASE {database}", "ROLE CURRENT_USER"]
)
def test_a_lasting_search_path_reaches_the_next_file_of_the_same_run(
    database: Database, folder: Path, whose: str
) -> None:
    whose = whose.format(database=database.database, user=database.user)
    files = {
        "001_path.sql": f"CREATE SCHEMA app; ALTER {whose} SET search_path = app, public;",
        "002_b.sql": "CREATE TABLE b ();",
        "003_c.sql": "CREATE TABLE c (i int); CREATE INDEX CONCURRENTLY c_i ON c (i);",
    }
    try:
        engine.migrated(database, engine.write(folder, dict(files)))
    finally:
        do(database, f"ALTER {whose} RESET search_path")
    assert [exists(database, f"app.{name}") for name in ("b", "c", "c_i")] == [True, True, True]


DEFERRED = """CREATE SCHEMA app;
SET search_path = app;
CREATE TABLE t (i int);
CREATE TABLE log (i int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {action}; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER note AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO t VALUES (1);
"""


DEFERRED_LAST = {"002_b.sql": "CREATE TABLE public.b ();"}


@pytest.mark.parametrize("transaction", ["each", "all"])
def test_a_deferred_trigger_finds_the_tables_that_its_file_finds(
    database: Database, folder: Path, transaction: str
) -> None:
    sql = DEFERRED.format(action="INSERT INTO log VALUES (NEW.i)")
    engine.migrated(database, engine.write(folder, {"001_a.sql": sql, **DEFERRED_LAST}), transaction=transaction)
    assert ask(database, "SELECT i FROM app.log") == [(1,)]


@pytest.mark.parametrize("transaction", ["each", "all"])
def test_an_error_in_a_deferred_trigger_names_its_file(database: Database, folder: Path, transaction: str) -> None:
    sql = DEFERRED.format(action="RAISE EXCEPTION 'not this way'")
    error = refused(database, folder, {"001_a.sql": sql, **DEFERRED_LAST}, transaction=transaction)
    assert error.message.startswith("001_a.sql")
    assert "not this way" in error.message
    assert not exists(database, "app.t")


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_password_in_a_statement_that_a_function_ran_is_neither_said_nor_recorded(
    database: Database, folder: Path
) -> None:
    sql = "DO $$ BEGIN EXECUTE 'ALTER ROLE nope PASSWORD ''hunter2'''; END $$;"
    error = refused(database, folder, {**TABLE, "002_role.sql": sql})
    assert 'role "nope" does not exist' in error.message
    assert "hunter2" not in error.message + repr(error.details)
    ((detail,),) = ask(database, "SELECT detail FROM cm.schema_version_history WHERE version = 2")
    assert 'role "nope" does not exist' in detail
    assert "hunter2" not in detail


# --- locks and time limits --------------------------------------------------------------------------------------------


def test_readers_never_wait_longer_than_the_timeout_when_a_file_sets_its_own_to_for_ever(
    database: Database, folder: Path
) -> None:
    engine.migrated(database, engine.write(folder, dict(TABLE)))
    engine.write(folder, {"002_a.sql": "SET lock_timeout = 0;\nALTER TABLE public.t ADD COLUMN a int;"})
    longest = []
    for _ in range(3):
        with holding(database, "SELECT * FROM public.t"), probing(database, "public.t") as times:
            error = refused(database, folder, lock_budget="0s")
        assert error.code == "lock-timeout"
        longest.append(max(times))
    # A busy machine adds to a wait now and then; a limit that is not kept adds to each of them.
    assert 0.3 < min(longest) < 0.5 + 0.1


def test_the_lock_timeout_of_a_later_file_holds_in_a_shared_transaction(database: Database, folder: Path) -> None:
    engine.migrated(database, engine.write(folder, dict(TABLE)))
    files = {
        "002_a.sql": "CREATE TABLE public.a ();",
        "003_b.sql": "-- lock_timeout: 100ms\nALTER TABLE public.t ADD COLUMN b int;",
    }
    options = {"transaction": "all", "lock_timeout": "2s", "lock_timeout_max": "2s", "lock_budget": "0s"}
    with holding(database, "SELECT * FROM public.t"), probing(database, "public.t") as times:
        error = refused(database, folder, dict(files), **options)
    assert error.code == "lock-timeout"
    assert max(times) < 0.1 + TOLERANCE
    assert not exists(database, "public.a")


def test_a_later_file_may_have_more_patience_in_a_shared_transaction(database: Database, folder: Path) -> None:
    engine.migrated(database, engine.write(folder, dict(TABLE)))
    files = {
        "002_a.sql": "CREATE TABLE public.a ();",
        "003_b.sql": "-- lock_timeout: 20s\nALTER TABLE public.t ADD COLUMN b int;",
    }
    engine.write(folder, dict(files))
    with holding(database, "SELECT * FROM public.t") as reader, database.connect() as look:
        process = drive.start(database, folder, transaction="all", lock_timeout="100ms", lock_timeout_max="100ms")
        poll(lambda: waiting(look))
        started = time.monotonic()
        while time.monotonic() - started < 0.5:
            assert waiting(look)
        reader.execute("COMMIT")
        answer = drive.finish(process)
    assert answer["code"] is None, answer["message"]
    assert [done["retries"] for done in answer["outcome"]["applied"]] == [0, 0]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT pg_sleep(0.5);",
        "-- transaction: none\nSELECT pg_sleep(0.5);",
        "-- transaction: none\nBEGIN;\nSELECT pg_sleep(0.5);\nCOMMIT;",
    ],
    ids=["one transaction", "no transaction", "own transaction"],
)
def test_a_transaction_timeout_of_the_server_does_not_end_a_migration(
    database: Database, folder: Path, sql: str
) -> None:
    do(database, f"ALTER DATABASE {database.database} SET transaction_timeout = '300ms'")
    engine.migrated(database, engine.write(folder, {"001_slow.sql": sql}))
    assert versions(database) == [1]


# --- psql commands in files that are applied --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [r"SELECT '\if';", r"SELECT 'a' LIKE '\include b';", "SELECT $$\n\\if :x\n$$;"],
    ids=["if", "pattern", "lines"],
)
def test_text_that_only_looks_like_a_psql_command_disturbs_no_later_run(
    database: Database, folder: Path, sql: str
) -> None:
    engine.migrated(database, engine.write(folder, {"001_text.sql": sql}))
    assert not engine.migrated(database, folder).changed
    assert engine.migrated(database, engine.write(folder, {"002_b.sql": "CREATE TABLE public.b ();"})).version == 2


@pytest.mark.parametrize("text", ["SELECT 1;", r"SELECT '\include b';"], ids=["plain", "pattern"])
def test_an_applied_file_with_psql_conditions_is_adopted_without_being_understood(
    database: Database, folder: Path, text: str
) -> None:
    do(database, OWN_LEDGER, "INSERT INTO cm.schema_version VALUES (1, now(), 'born by psql')")
    engine.write(folder, {"001_born.sql": f"\\set x 1\n\\if :x\nCREATE TABLE public.born ();\n\\endif\n{text}\n"})
    outcome = engine.migrated(database, engine.write(folder, {"002_b.sql": "CREATE TABLE public.b ();"}))
    assert [entry.version for entry in outcome.adopted] == [1]
    assert [done.version for done in outcome.applied] == [2]
    assert all(checksum for *_, checksum in ledger(database))
    assert not exists(database, "public.born")
    assert not engine.migrated(database, folder).changed
