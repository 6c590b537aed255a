# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger against the files: each disagreement is refused in words, and each way out that the words name works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import engine
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from engine import ask, do, versions

Files = dict[str, "str | bytes"]

INIT: Files = {
    "001_first.sql": "CREATE TABLE one ();",
    "002_second.sql": "CREATE TABLE two ();",
    "003_third.sql": "CREATE TABLE three ();",
}
OWN_LEDGER = """CREATE SCHEMA IF NOT EXISTS cm;
CREATE TABLE IF NOT EXISTS cm.schema_version (
  version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ DEFAULT now(), description TEXT);
"""


def error_of(database: Any, directory: Path, **given: Any) -> RunbookError:
    """What a run is refused with, or fails with."""
    try:
        report = engine.migrate(database, directory, **given)
    except RunbookError as error:
        return error
    assert report.error is not None
    return report.error


def ledger(database: Any) -> list[tuple]:
    """The whole ledger, history included."""
    return rows(database) + ask(database, "SELECT id, event, version, name FROM cm.schema_version_history ORDER BY id")


def rows(database: Any) -> list[tuple]:
    """What is recorded about each version."""
    return ask(database, "SELECT version, description, name, checksum, applied_at FROM cm.schema_version ORDER BY 1")


def history(database: Any) -> list[tuple]:
    """What happened, in order."""
    return ask(database, "SELECT event, version, name FROM cm.schema_version_history ORDER BY id")


# --- files and ledger disagree ----------------------------------------------------------------------------------------


@dataclass
class Case:
    """A database at 001–003, something that goes wrong then, what is said, and the way out that works.

    ``spoil`` changes the folder; ``options`` are those of the run that is refused, ``way_out`` those that help.
    """

    code: str
    message: str
    spoil: Callable[[Path], object] = lambda folder: None
    options: dict[str, Any] = field(default_factory=dict)
    way_out: dict[str, Any] | None = None
    versions: list[int] = field(default_factory=lambda: [1, 2, 3])


def _rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def _write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


CASES = {
    "edited": Case(
        "edited",
        "1 file changed after being applied: 002_second.sql. An applied migration is history: restore the file "
        "(git checkout) and put the change into a new one. If database and file are known to agree, accept the file "
        "with -e '{\"migrate_repair\": true}'.",
        _write("002_second.sql", "CREATE TABLE two (i int);"),
        way_out={"repair": True},
    ),
    "renamed": Case(
        "renamed",
        "1 applied file renamed: 002_second.sql is now 002_other_words.sql. Give the old name back, or accept the new "
        "one with -e '{\"migrate_repair\": true}'.",
        _rename("002_second.sql", "002_other_words.sql"),
        way_out={"repair": True},
    ),
    "missing": Case(
        "missing",
        "The database has 1 version that {folder} has no file for: 002_second.sql. This checkout is probably older "
        "than the database: update it. If the files were removed on purpose, say "
        "-e '{\"migrate_allow_missing\": true}'.",
        lambda folder: (folder / "002_second.sql").unlink(),
        way_out={"allow_missing": True},
    ),
    "out of order": Case(
        "out-of-order",
        "000_late.sql came after version 3 was applied. Give it the next free number, so that every database runs the "
        "files in the same order. If the order does not matter here, say -e '{\"migrate_allow_out_of_order\": true}'. "
        "If the database has them already, record that with baseline.yml.",
        _write("000_late.sql", "CREATE TABLE late ();"),
        way_out={"allow_out_of_order": True},
        versions=[0, 1, 2, 3],
    ),
    "duplicate": Case(
        "duplicate",
        "Two files in {folder} have the number 3: 003_third.sql and 3_again.sql. Each version belongs to one file; "
        "give the newer one the next free number.",
        _write("3_again.sql", "SELECT 1;"),
    ),
    "file name": Case(
        "file-name",
        "The file name 'four.sql' in {folder} is not of the form NNN_description.sql, such as 004_add_audit_log.sql. "
        "Rename it; a file that others include with \\ir belongs in a subfolder.",
        _write("four.sql", "SELECT 1;"),
    ),
    "unknown version": Case(
        "unknown-version",
        "There is no migration with the number 9 in {folder}; the newest is 3. Name a version that exists, or latest.",
        options={"version": "9"},
        way_out={"version": "latest"},
    ),
    "rollback not allowed": Case(
        "rollback-not-allowed",
        "The database is at version 3, above the wanted 1. Going down changes or drops data, so it is an operation of "
        "its own: ansible-playbook rollback.yml -e rollback_version=1 -e rollback_confirm=<database>.",
        options={"version": "1"},
        way_out={"version": "1", "allow_rollback": True},
        versions=[1],
    ),
    "apply not allowed": Case(
        "apply-not-allowed",
        "The database is at version 3; rolling back to 4 would have to go up. Name a lower version. "
        "To go up, run migrate.yml.",
        _write("004_d.sql", "SELECT 1;"),
        options={"version": "4", "allow_apply": False},
        way_out={"version": "4"},
        versions=[1, 2, 3, 4],
    ),
    "self-recorded": Case(
        "self-recorded",
        "004_d.sql records version 5 in cm.schema_version, but its name says 4. "
        "Make the INSERT and the file name agree.",
        _write("004_d.sql", "INSERT INTO cm.schema_version (version) VALUES (5);"),
    ),
    "self-recorded beside its own": Case(
        "self-recorded",
        "004_d.sql records version 44 in cm.schema_version, but its name says 4. "
        "Make the INSERT and the file name agree.",
        _write("004_d.sql", "-- transaction: none\nINSERT INTO cm.schema_version (version) VALUES (4), (44);"),
    ),
    "takes a row": Case(
        "ledger-damaged",
        "004_d.sql changes or removes rows of other migrations in cm.schema_version. "
        "The ledger is not a migration's to change: take that out of the file.",
        _write("004_d.sql", "DELETE FROM cm.schema_version WHERE version = 2;"),
    ),
    "takes a row statement by statement": Case(
        "ledger-damaged",
        "004_d.sql changes or removes rows of other migrations in cm.schema_version. "
        "The ledger is not a migration's to change: take that out of the file.",
        _write("004_d.sql", "-- transaction: none\nBEGIN;\nDELETE FROM cm.schema_version WHERE version = 2;\nEND;"),
    ),
    "takes all rows": Case(
        "ledger-damaged",
        "004_d.sql changes or removes rows of other migrations in cm.schema_version. "
        "The ledger is not a migration's to change: take that out of the file.",
        _write("004_d.sql", "DELETE FROM cm.schema_version;"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_disagreement_is_refused_in_words_and_the_way_out_works(database: Any, tmp_path: Path, case: Case) -> None:
    folder = engine.write(tmp_path / "init", INIT)
    undo = engine.write(tmp_path / "undo", {"003_x.sql": "DROP TABLE three;", "002_x.sql": "DROP TABLE two;"})
    engine.migrated(database, folder)
    before = rows(database)
    case.spoil(folder)
    error = error_of(database, folder, **case.options)
    assert (error.code, error.message) == (case.code, case.message.replace("{folder}", str(folder)))
    assert rows(database) == before
    if case.way_out is not None:
        engine.migrated(database, folder, rollback_directory=str(undo), **case.way_out)
        assert versions(database) == case.versions
        again = {name: value for name, value in case.way_out.items() if name == "allow_missing" or name == "version"}
        assert not engine.migrated(database, folder, **again).changed


def test_a_foreign_table_in_place_of_the_ledger_is_left_alone(database: Any, tmp_path: Path) -> None:
    do(database, "CREATE SCHEMA cm", "CREATE TABLE cm.schema_version (id int, installed_rank int)")
    error = error_of(database, engine.write(tmp_path, INIT))
    assert (error.code, error.message) == (
        "foreign-ledger",
        "The table cm.schema_version has no column version, so it belongs to something else. "
        "Choose another schema for the ledger with db_schema.",
    )
    assert ask(database, "SELECT to_regclass('cm.schema_version_history'), to_regclass('one')") == [(None, None)]
    engine.migrated(database, tmp_path, schema="ops")
    assert ask(database, "SELECT count(*) FROM ops.schema_version") == [(3,)]


def test_an_interrupted_file_that_is_gone_has_to_come_back(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path, {**INIT, "004_d.sql": "VACUUM;\nSELECT 1/0;"})
    assert error_of(database, folder).code == "sql"
    (folder / "004_d.sql").unlink()
    engine.write(folder, {"005_e.sql": "SELECT 1;"})
    error = error_of(database, folder)
    assert (error.code, error.message) == (
        "interrupted",
        "004_d.sql was interrupted after statement 1 and is not among the files to apply. "
        "Bring the file back (its next run goes on where it stopped), or name a version that includes it. "
        "If what it did has been undone by hand, forget it: "
        "DELETE FROM schema_version_progress in the ledger's schema.",
    )
    engine.write(folder, {"004_d.sql": "VACUUM;\nSELECT 1;"})
    engine.migrated(database, folder)
    assert versions(database) == [1, 2, 3, 4, 5]


def test_nothing_is_rolled_back_while_a_file_is_interrupted(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path / "init", {**INIT, "004_d.sql": "VACUUM;\nSELECT 1/0;"})
    undo = engine.write(tmp_path / "undo", {"003_x.sql": "DROP TABLE three;"})
    assert error_of(database, folder).code == "sql"
    error = error_of(database, folder, version="2", allow_rollback=True, rollback_directory=str(undo))
    assert (error.code, error.message) == (
        "interrupted",
        "004_d.sql was interrupted after statement 1. Finish it with migrate.yml before rolling anything back.",
    )


def test_a_missing_folder_is_named(database: Any, tmp_path: Path) -> None:
    error = error_of(database, tmp_path / "nowhere")
    assert error.code == "no-folder"
    assert error.message.startswith(f"The migrations folder {tmp_path / 'nowhere'} does not exist. Create it, or set")


# --- what counts as an edit -------------------------------------------------------------------------------------------


def test_line_endings_and_a_byte_order_mark_are_no_edit(database: Any, tmp_path: Path) -> None:
    text = "CREATE TABLE a (\n  i int\n);\n"
    folder = engine.write(
        tmp_path, {"001_a.sql": text, "002_b.sql": "\\ir parts/b.sql\n", "parts/b.sql": text.replace("a (", "b (")}
    )
    engine.migrated(database, folder)
    for name in ("001_a.sql", "002_b.sql", "parts/b.sql"):
        content = (folder / name).read_bytes()
        engine.write(folder, {name: b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")})
    assert not engine.migrated(database, folder).changed


def test_a_change_in_an_included_file_is_an_edit_of_the_migration(database: Any, tmp_path: Path) -> None:
    folder = engine.write(
        tmp_path, {"001_a.sql": "\\ir parts/a.sql\n", "parts/a.sql": "\\ir b.sql", "parts/b.sql": "SELECT 1;"}
    )
    engine.migrated(database, folder)
    engine.write(folder, {"parts/b.sql": "SELECT 2;"})
    error = error_of(database, folder)
    assert error.code == "edited" and "001_a.sql" in error.message
    outcome = engine.migrated(database, folder, repair=True)
    assert [entry.name for entry in outcome.repaired] == ["001_a.sql"]
    assert not engine.migrated(database, folder).changed


# --- repair -----------------------------------------------------------------------------------------------------------


def test_repair_realigns_names_and_checksums_and_runs_nothing_again(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path, INIT)
    engine.migrated(database, folder)
    applied = ask(database, "SELECT version, description, applied_at, applied_by, execution_ms FROM cm.schema_version")
    engine.write(folder, {"002_second.sql": "CREATE TABLE two (now_different int);"})
    (folder / "003_third.sql").rename(folder / "3_third.sql")
    engine.write(folder, {"004_new.sql": "CREATE TABLE four ();"})
    outcome = engine.migrated(database, folder, repair=True)
    assert [entry.name for entry in outcome.repaired] == ["002_second.sql", "3_third.sql"]
    assert [done.name for done in outcome.applied] == ["004_new.sql"]
    columns = "version, description, applied_at, applied_by, execution_ms"
    kept = ask(database, f"SELECT {columns} FROM cm.schema_version WHERE version < 4")
    assert sorted(kept) == sorted(applied)
    assert history(database)[3:] == [
        ("repaired", 2, "002_second.sql"),
        ("repaired", 3, "3_third.sql"),
        ("applied", 4, "004_new.sql"),
    ]
    assert not engine.migrated(database, folder).changed


# --- adoption ---------------------------------------------------------------------------------------------------------


def born_of_psql(database: Any, folder: Path, names: list[str]) -> None:
    """Run files as a container's first boot does: every statement, no module."""
    with database.connect() as session:
        for name in names:
            session.execute((folder / name).read_bytes())


def own(version: int, description: str, body: str) -> str:
    """A file in the runbook's style."""
    values = f"({version}, '{description}')"
    return f"{body}\nINSERT INTO cm.schema_version (version, description) VALUES {values};\n"


def test_a_database_born_of_psql_is_adopted_and_nothing_runs_again(database: Any, tmp_path: Path) -> None:
    files: Files = {
        "001_first.sql": own(1, "The first", OWN_LEDGER + "CREATE TABLE one ();"),
        "002_second.sql": own(2, "The second", "CREATE TABLE two ();"),
    }
    folder = engine.write(tmp_path, files)
    born_of_psql(database, folder, list(files))
    before = ask(database, "SELECT version, applied_at, description FROM cm.schema_version ORDER BY 1")
    outcome = engine.migrated(database, folder)
    assert [entry.version for entry in outcome.adopted] == [1, 2]
    assert (outcome.applied, outcome.version, outcome.changed) == ([], 2, True)
    assert ask(database, "SELECT version, applied_at, description FROM cm.schema_version ORDER BY 1") == before
    checksums = ask(database, "SELECT name, checksum FROM cm.schema_version ORDER BY 1")
    assert checksums == [(entry.name, entry.checksum) for entry in outcome.adopted]
    assert history(database) == [("adopted", 1, "001_first.sql"), ("adopted", 2, "002_second.sql")]
    after = ledger(database)
    assert not engine.migrated(database, folder).changed
    assert ledger(database) == after
    engine.write(folder, {"002_second.sql": "SELECT 'edited';"})
    assert error_of(database, folder).code == "edited"


def test_adoption_and_new_files_go_together(database: Any, tmp_path: Path) -> None:
    files: Files = {
        "001_first.sql": own(1, "The first", OWN_LEDGER),
        "002_second.sql": own(2, "Two", "CREATE TABLE two ();"),
    }
    folder = engine.write(tmp_path, files)
    born_of_psql(database, folder, ["001_first.sql"])
    outcome = engine.migrated(database, folder)
    assert [entry.version for entry in outcome.adopted] == [1]
    assert [done.version for done in outcome.applied] == [2]
    assert history(database) == [("adopted", 1, "001_first.sql"), ("applied", 2, "002_second.sql")]
    assert ask(database, "SELECT count(*) FROM cm.schema_version WHERE checksum IS NULL") == [(0,)]


def test_an_adopted_version_without_a_file_is_missing(database: Any, tmp_path: Path) -> None:
    do(database, OWN_LEDGER + "INSERT INTO cm.schema_version VALUES (7)")
    folder = engine.write(tmp_path, {"001_a.sql": "SELECT 1;"})
    error = error_of(database, folder)
    assert error.code == "missing" and "has no file for: 7." in error.message
    engine.migrated(database, folder, allow_missing=True, allow_out_of_order=True)
    assert versions(database) == [1, 7]
    # Nothing is known about 7, so nothing is made up about it; and later files are not blamed for it.
    assert ask(database, "SELECT name, checksum FROM cm.schema_version WHERE version = 7") == [(None, None)]
    engine.write(folder, {"008_h.sql": "SELECT 1;"})
    engine.migrated(database, folder, allow_missing=True)
    assert versions(database) == [1, 7, 8]


# --- baseline ---------------------------------------------------------------------------------------------------------


def test_a_baseline_marks_versions_as_there_and_runs_nothing(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path, INIT)
    do(database, "CREATE TABLE one ()", "CREATE TABLE two ()")
    outcome = engine.migrated(database, folder, state="baseline", version="2")
    assert [entry.version for entry in outcome.baselined] == [1, 2]
    assert (outcome.applied, outcome.version) == ([], 2)
    assert history(database) == [("baselined", 1, "001_first.sql"), ("baselined", 2, "002_second.sql")]
    assert ask(database, "SELECT version, description, execution_ms FROM cm.schema_version ORDER BY 1") == [
        (1, "first", None),
        (2, "second", None),
    ]
    assert not engine.migrated(database, folder, state="baseline", version="2").changed
    assert [done.version for done in engine.migrated(database, folder).applied] == [3]
    assert ask(database, "SELECT to_regclass('three')::text") == [("three",)]


def test_a_baseline_needs_a_version_there_is_a_file_for(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path, INIT)
    assert error_of(database, folder, state="baseline").code == "option"
    assert error_of(database, folder, state="baseline", version="9").code == "unknown-version"
    assert ask(database, "SELECT to_regnamespace('cm')") == [(None,)]


# --- going down -------------------------------------------------------------------------------------------------------


def test_rolling_back_removes_the_rows_and_keeps_the_history(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path / "init", INIT)
    undo: Files = {"003_third.sql": "DROP TABLE three;", "002_second.sql": "DROP TABLE two;\nSELECT 1/0;"}
    options = {"allow_rollback": True, "rollback_directory": str(engine.write(tmp_path / "undo", undo))}
    engine.migrated(database, folder)
    error = error_of(database, folder, version="1", **options)
    assert error.message == "002_second.sql:2: division by zero. Nothing of this file was kept."
    assert versions(database) == [1, 2]
    assert history(database)[3:] == [("rolled back", 3, "003_third.sql"), ("rollback failed", 2, "002_second.sql")]
    engine.write(tmp_path / "undo", {"002_second.sql": "DROP TABLE two;"})
    outcome = engine.migrated(database, folder, version="1", **options)
    assert ([done.version for done in outcome.rolled_back], outcome.version) == ([2], 1)
    assert [done.version for done in engine.migrated(database, folder).applied] == [2, 3]


def test_a_file_that_takes_a_row_is_caught_in_a_shared_transaction_too(database: Any, tmp_path: Path) -> None:
    files: Files = {**INIT, "004_d.sql": "DELETE FROM cm.schema_version WHERE version = 1;"}
    error = error_of(database, engine.write(tmp_path, files), transaction="all")
    assert error.code == "ledger-damaged" and error.message.startswith("004_d.sql changes or removes rows")
    assert ask(database, "SELECT to_regnamespace('cm')") == [(None,)]


def test_a_plan_made_for_another_ledger_does_nothing(database: Any, tmp_path: Path) -> None:
    folder = engine.write(tmp_path, INIT)
    plan, order, _tasks = engine.plan(database, folder)
    assert [migration.version for migration in plan.apply] == [1, 2, 3]
    engine.migrated(database, folder)
    _, now, _ = engine.plan(database, folder)
    assert now.expected != order.expected
