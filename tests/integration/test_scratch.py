# SPDX-License-Identifier: GPL-3.0-or-later
"""Migrations tried out in a scratch database: drift and proofs of rollback scripts, and what they leave behind."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
import pytest
import test_snapshot
from ansible.module_utils.runbook import backup_info, drift, proof
from ansible.module_utils.runbook.bundle import Order, Task, write_bundle
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import inspect
from ansible.module_utils.runbook.ledger import Entry, digest, from_result
from ansible.module_utils.runbook.migration import Migration, prepare, read_folder
from ansible.module_utils.runbook.outward import kept_inside
from ansible.module_utils.runbook.proof import Script, Verdict
from ansible.module_utils.runbook.runlock import RunLock, held
from ansible.module_utils.runbook.session import connect
from conftest import maintenance
from engine import ask, do, login, write
from project import ROOT, poll
from test_snapshot import NEWER, RICH, Place, created

place = test_snapshot.place
"""A server of each version, for the tests that ask for it."""

TABLES = """
CREATE SCHEMA IF NOT EXISTS cm;
CREATE TABLE cm.part (id int PRIMARY KEY, name text);
CREATE FUNCTION cm.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2';
COMMENT ON TABLE cm.part IS 'Parts.';
"""
INTERRUPTION = """
INSERT INTO cm.schema_version_progress (version, name, checksum, done, started) VALUES (3, '003_x.sql', '', 0, 1)
"""
UNDO_TABLES = "DROP FUNCTION cm.twice(int); DROP TABLE cm.part;"


def options(arguments: dict[str, dict[str, Any]], **given: Any) -> dict[str, Any]:
    """Every option of a module, defaults filled in; impatient where users are patient."""
    return {**{name: argument.get("default") for name, argument in arguments.items()}, "run_lock_wait": "0", **given}


def scratches(database: Any) -> list[str]:
    """The scratch databases that there are on the server for a database."""
    pattern = f"{database.database}_trial_%"
    with maintenance(database) as session:
        return [name for (name,) in session.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [pattern])]


def server_version(database: Any) -> int:
    """The server's version as a number."""
    return int(ask(database, "SELECT current_setting('server_version_num')")[0][0])


def ship(database: Any, expected: str, files: list[tuple[Migration, Migration, Path]]) -> io.BytesIO:
    """A bundle of files, each with the migration that it applies, or undoes when it is another one."""
    tasks = []
    foreign: set[str] = set()
    for migration, script, folder in files:
        prepared, _ = kept_inside(prepare(script, folder, server_version(database)), folder.name, foreign)
        tasks.append((Task.of(Entry.of(migration, ""), prepared, rollback=script is not migration), prepared))
    bundle = io.BytesIO()
    write_bundle(bundle, Order(expected), tasks)
    bundle.seek(0)
    return bundle


def look(database: Any, folder: Path, ignore: tuple[str, ...] = (), **given: Any) -> dict[str, Any]:
    """What ``schema_drift`` says about a database and a folder of migrations."""
    answer = inspect(login(database), given.get("schema", "cm"), limit=0, require_primary=False)
    state = from_result(answer["ledger"])
    migrations, reasons = drift.applied_files(read_folder(folder), state)
    if reasons:
        return drift.unknown(database.database, reasons)
    bundle = ship(database, state.digest(), [(one, one, folder) for one in migrations])
    return drift.look(bundle, login(database), options(drift.DRIFT_ARGUMENTS, ignore=list(ignore), **given))


def files_of(database: Any, folder: Path, only: set[int] | None = None) -> tuple[io.BytesIO, dict[int, Script]]:
    """A bundle of the folders ``init`` and ``rollback`` in a folder, and the scripts that are to be proven."""
    migrations, scripts = read_folder(folder / "init"), read_folder(folder / "rollback")
    files = []
    for version, migration in sorted(migrations.migrations.items()):
        files.append((migration, migration, migrations.path))
        if version in scripts.migrations and (only is None or version in only):
            files.append((migration, scripts.migrations[version], scripts.path))
    known = {version: Script(f"rollback/{one.name}", one.checksum) for version, one in scripts.migrations.items()}
    return ship(database, digest(()), files), known


def prove(database: Any, folder: Path, only: set[int] | None = None, **given: Any) -> Verdict:
    """What ``rollback_proof`` finds out about the folders ``init`` and ``rollback`` in a folder."""
    bundle, scripts = files_of(database, folder, only)
    return proof.prove(bundle, login(database), options(proof.PROOF_ARGUMENTS, **given), scripts)


def pairs(folder: Path, **files: tuple[str, str]) -> Path:
    """Write migrations with their rollback scripts: ``_002_index=(up, down)``."""
    for name, (up, down) in {"_001_tables": (TABLES, UNDO_TABLES), **files}.items():
        write(folder, {f"init/{name[1:]}.sql": up, f"rollback/{name[1:]}.sql": down})
    return folder


def texts(verdict: Verdict) -> dict[int, tuple[str, str]]:
    """Why versions are not proven."""
    return {one.version: (one.reason, one.text) for one in verdict.unproven}


@pytest.fixture
def role(database: Any) -> Iterator[str]:
    """A role of the test's own, which may log in and may not create databases."""
    name = f"{database.database}_app"
    do(database, f"CREATE ROLE {name} LOGIN PASSWORD '{database.password}'")
    yield name
    with maintenance(database) as session:
        for (leftover,) in session.execute(
            "SELECT datname FROM pg_database d JOIN pg_roles r ON r.oid = datdba WHERE rolname = %s", [name]
        ).fetchall():
            session.execute(f'DROP DATABASE "{leftover}" WITH (FORCE)')  # type: ignore[call-overload]
    do(database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# --- proofs -----------------------------------------------------------------------------------------------------------


def test_the_shipped_scripts_are_proven(database: Any) -> None:
    verdict = prove(database, ROOT / "db")
    assert verdict.unproven == [] and [one.version for one in verdict.proven] == [1, 2, 3, 4]
    assert all(len(one.checksum) == len(one.rollback_checksum) == 64 for one in verdict.proven)
    assert ask(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'cm'") == [] and scratches(database) == []


@pytest.mark.parametrize(
    ("up", "down", "said"),
    [
        (
            "CREATE INDEX part_name ON cm.part (name)",
            "SELECT 1",
            ["forgets: index cm.part_name.", "CREATE INDEX part_name ON cm.part"],
        ),
        ("GRANT SELECT ON cm.part TO pg_monitor", "SELECT 1", ["does not restore: table cm.part.", "pg_monitor"]),
        ("COMMENT ON TABLE cm.part IS 'New.'", "SELECT 1", ["does not restore: table cm.part.", "New.", "Parts."]),
        ("ALTER TABLE cm.part SET (fillfactor = 70)", "SELECT 1", ["table cm.part.", "fillfactor=70"]),
        (
            "CREATE OR REPLACE FUNCTION cm.twice(n int) RETURNS int LANGUAGE sql AS 'SELECT n + n'",
            "SELECT 1",
            ["does not restore: function cm.twice(", "- SELECT n * 2", "+ SELECT n + n"],
        ),
        (
            "ALTER TABLE cm.part ADD note text",
            "ALTER TABLE cm.part DROP note, DROP name",
            ["takes away what it should not: column cm.part.name."],
        ),
        ("CREATE TABLE cm.box (id int)", "SELECT 1", ["forgets: table cm.box."]),
        ("ALTER TABLE cm.part ALTER name SET STATISTICS 500", "SELECT 1", ["column cm.part.name", "500"]),
    ],
)
def test_what_a_script_forgets_is_named(database: Any, tmp_path: Path, up: str, down: str, said: list[str]) -> None:
    verdict = prove(database, pairs(tmp_path, _002_more=(up, down)))
    assert [one.version for one in verdict.proven] == [1]
    reason, text = texts(verdict)[2]
    assert reason == "not-undone" and text.startswith("rollback/002_more.sql ")
    for part in said:
        assert part in text
    outcome = verdict.outcome("cm")
    assert outcome["code"] == "rollback-unproven" and "1 NOT PROVEN, 1 proven" in outcome["msg"]
    assert scratches(database) == []


def test_each_script_is_judged_on_its_own(database: Any, tmp_path: Path) -> None:
    folder = pairs(
        tmp_path,
        _002_index=("CREATE INDEX part_name ON cm.part (name)", "SELECT 1"),
        _003_column=("ALTER TABLE cm.part ADD note text", "ALTER TABLE cm.part DROP note"),
        _004_type=("CREATE TYPE cm.kind AS ENUM ('a')", "DROP TYPE cm.knd"),
        _005_view=("CREATE VIEW cm.parts AS TABLE cm.part", "DROP VIEW cm.parts"),
    )
    verdict = prove(database, folder)
    assert [one.version for one in verdict.proven] == [1, 3, 5]
    found = texts(verdict)
    assert found[2][0] == "not-undone" and found[4][0] == "script-failed" and set(found) == {2, 4}
    assert found[4][1].startswith('rollback/004_type.sql fails. 004_type.sql:1: type "cm.knd" does not exist')


def test_files_that_refuse_a_transaction_are_tried_out_as_well(database: Any, tmp_path: Path) -> None:
    folder = pairs(
        tmp_path,
        _002_index=("CREATE INDEX CONCURRENTLY part_name ON cm.part (name)", "DROP INDEX CONCURRENTLY cm.part_name"),
        _003_vacuum=("VACUUM cm.part", "VACUUM cm.part"),
        _004_forgets=("CREATE INDEX CONCURRENTLY part_id ON cm.part (id)", "REINDEX TABLE CONCURRENTLY cm.part"),
    )
    verdict = prove(database, folder)
    assert [one.version for one in verdict.proven] == [1, 2, 3]
    assert "forgets: index cm.part_id." in texts(verdict)[4][1]


def test_a_migration_that_does_not_go_up_again_is_not_proven(database: Any, tmp_path: Path) -> None:
    once = "CREATE SCHEMA once; CREATE TABLE once.t (id int)"
    again = "SELECT set_config('search_path', 'cm', false); CREATE SEQUENCE IF NOT EXISTS seen; DROP SEQUENCE seen"
    verdict = prove(database, pairs(tmp_path, _002_once=(f"{again}; {once}", "DROP SCHEMA once CASCADE")))
    assert verdict.unproven == []
    # The schema that holds the ledger stays after the first version's rollback, so this cannot be applied again.
    write(tmp_path, {"init/001_tables.sql": TABLES.replace("IF NOT EXISTS ", "")})
    verdict = prove(database, tmp_path)
    reason, text = texts(verdict)[1]
    assert reason == "not-again" and 'schema "cm" already exists' in text and [o.version for o in verdict.proven] == [2]


def test_a_migration_that_cannot_be_applied_leaves_the_later_ones_unproven(database: Any, tmp_path: Path) -> None:
    folder = pairs(
        tmp_path,
        _002_wrong=("ALTER TABLE cm.prt ADD note text", "SELECT 1"),
        _003_column=("ALTER TABLE cm.part ADD note text", "ALTER TABLE cm.part DROP note"),
    )
    verdict = prove(database, folder)
    assert [one.version for one in verdict.proven] == [1]
    assert {version: reason for version, (reason, _) in texts(verdict).items()} == {2: "not-applied", 3: "not-applied"}
    assert '002_wrong.sql:1: relation "cm.prt" does not exist' in texts(verdict)[3][1]


def test_what_has_no_turn_in_time_is_not_proven(database: Any, tmp_path: Path) -> None:
    folder = pairs(
        tmp_path,
        _002_slow=("CREATE TABLE cm.box (id int)", "DROP TABLE cm.box; SELECT pg_sleep(30)"),
        _003_view=("CREATE VIEW cm.parts AS TABLE cm.part", "DROP VIEW cm.parts"),
    )
    verdict = prove(database, folder, timeout="2s")
    assert [one.version for one in verdict.proven] == [1] and verdict.seconds < 20 and scratches(database) == []
    found = texts(verdict)
    assert {version: reason for version, (reason, _) in found.items()} == {2: "out-of-time", 3: "out-of-time"}
    assert found[2][1].startswith("The scratch run was stopped at the rollback script of 002_slow.sql, after the 2 s ")
    assert verdict.outcome("cm")["code"] == "rollback-unproven"


def test_only_the_wanted_versions_are_proven(database: Any, tmp_path: Path) -> None:
    folder = pairs(tmp_path, _002_index=("CREATE INDEX part_name ON cm.part (name)", "DROP INDEX cm.part_name"))
    write(folder, {"rollback/001_tables.sql": "SELECT broken"})
    verdict = prove(database, folder, only={2})
    assert [one.version for one in verdict.proven] == [2] and verdict.unproven == []


def test_the_script_that_undoes_everything_may_drop_the_schema_of_the_ledger(database: Any, tmp_path: Path) -> None:
    folder = pairs(tmp_path, _002_index=("CREATE INDEX part_name ON cm.part (name)", "DROP INDEX cm.part_name"))
    write(folder, {"rollback/001_tables.sql": "DROP SCHEMA cm CASCADE"})
    assert [one.version for one in prove(database, folder).proven] == [1, 2]


def test_a_table_left_in_the_schema_of_the_ledger_is_seen(database: Any, tmp_path: Path) -> None:
    folder = pairs(tmp_path)
    write(folder, {"rollback/001_tables.sql": "DROP FUNCTION cm.twice(int)"})
    assert "rollback/001_tables.sql forgets: table cm.part." in texts(prove(database, folder))[1][1]


def test_another_order_of_columns_does_not_count(database: Any, tmp_path: Path) -> None:
    swap = ("ALTER TABLE cm.part DROP name", "ALTER TABLE cm.part ADD name text")
    more = ("ALTER TABLE cm.part ADD note text", "ALTER TABLE cm.part DROP note")
    back = ("ALTER TABLE cm.part DROP id", "ALTER TABLE cm.part ADD id int PRIMARY KEY")
    verdict = prove(database, pairs(tmp_path, _002_more=more, _003_swap=swap, _004_back=back))
    assert verdict.unproven == []


# --- drift ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A few migrations, among them one that refuses a transaction."""
    index = "CREATE INDEX CONCURRENTLY part_name ON cm.part (name);"
    return write(tmp_path / "init", {"001_tables.sql": TABLES, "002_index.sql": index})


def test_an_unchanged_database_has_not_drifted(database: Any, files: Path) -> None:
    engine.migrated(database, files)
    found = look(database, files)
    assert (found["known"], found["drifted"], found["differences"], found["text"]) == (True, False, [], "")
    assert "is what its files make of an empty database" in found["msg"] and scratches(database) == []


def test_the_shipped_migrations_have_not_drifted(database: Any) -> None:
    engine.migrated(database, ROOT / "db/init")
    assert look(database, ROOT / "db/init")["drifted"] is False


@pytest.mark.parametrize(
    ("change", "name", "kind", "said"),
    [
        ("ALTER TABLE cm.part SET (fillfactor = 70)", "table cm.part", "changed", "fillfactor=70"),
        ("CREATE INDEX extra ON cm.part (name)", "index cm.extra", "extra", "CREATE INDEX extra"),
        ("DROP INDEX cm.part_name", "index cm.part_name", "missing", "is missing"),
        ("REVOKE ALL ON cm.part FROM CURRENT_USER", "table cm.part", "changed", "privileges"),
    ],
)
def test_a_drift_is_named(database: Any, files: Path, change: str, name: str, kind: str, said: str) -> None:
    engine.migrated(database, files)
    do(database, change)
    found = look(database, files)
    assert found["drifted"] is True and "1 object of" in found["msg"] and said in found["text"]
    assert [(one["object"], one["kind"]) for one in found["differences"]] == [(name, kind)]
    assert look(database, files, ignore=(f"{name[:-1]}?",))["drifted"] is False


@pytest.mark.xdist_group("trial-versions")
def test_an_unchanged_database_with_everything_has_not_drifted(place: Place, tmp_path: Path) -> None:
    sql = RICH + (NEWER if place.major >= 18 else "")
    with created(place) as database:
        engine.run(database, tmp_path, {"001_rich.sql": sql})
        found = look(database, tmp_path)
        assert (found["drifted"], found["text"]) == (False, "")
        do(database, "ALTER TABLE cm.scratch SET (fillfactor = 70)")
        assert [one["object"] for one in look(database, tmp_path)["differences"]] == ["table cm.scratch"]


def test_looking_changes_nothing_in_the_live_database(database: Any, files: Path) -> None:
    engine.migrated(database, files)
    before = ask(database, "SELECT id, at FROM cm.schema_version_history")
    do(database, f"ALTER DATABASE {database.database} SET default_transaction_read_only = on")
    with connect(login(database).to("postgres"), "test") as session:
        RunLock(session, database.database).acquire(0)  # somebody migrates it
        assert look(database, files)["drifted"] is False
    assert ask(database, "SELECT id, at FROM cm.schema_version_history") == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _, folder: write(folder, {"001_tables.sql": TABLES + "-- more\n"}), "001_tables.sql has changed"),
        (lambda _, folder: (folder / "002_index.sql").unlink(), "002_index.sql is applied, and "),
        (
            lambda live, _: do(live, "UPDATE cm.schema_version SET checksum = NULL"),
            "001_tables.sql is recorded without",
        ),
        (lambda live, _: do(live, INTERRUPTION), "003_x.sql was interrupted while it was applied. Finish that first."),
    ],
    ids=["edited", "missing", "no checksum", "interrupted"],
)
def test_without_the_files_that_were_applied_nothing_is_known(
    database: Any, files: Path, change: Callable[[Any, Path], Any], said: str
) -> None:
    engine.migrated(database, files)
    change(database, files)
    found = look(database, files)
    assert (found["known"], found["drifted"], found["differences"]) == (False, None, [])
    assert said in found["notes"][0] and said in found["msg"]


def test_without_anything_applied_nothing_is_known(database: Any, files: Path) -> None:
    assert look(database, files)["notes"] == ["Nothing is applied yet, so no file says what the database should be."]


def test_files_that_cannot_be_run_again_leave_drift_unknown(database: Any, files: Path) -> None:
    do(database, "CREATE TABLE public.old (id int)")
    engine.run(database, files, {"003_old.sql": "ALTER TABLE public.old ADD note text"})
    found = look(database, files)
    assert found["drifted"] is None and 'relation "public.old" does not exist' in found["notes"][0]


def test_a_ledger_that_changes_meanwhile_is_noticed(database: Any, files: Path) -> None:
    engine.migrated(database, files)
    bundle = ship(database, digest(()), [])
    with pytest.raises(drift.Stale):
        drift.look(bundle, login(database), options(drift.DRIFT_ARGUMENTS))


def test_statements_that_reach_out_are_left_out(database: Any, files: Path, role: str) -> None:
    name = database.database
    outward = f"""
    GRANT CREATE ON DATABASE {name} TO {role};
    ALTER DATABASE {name} SET search_path = cm, public;
    DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'x') THEN EXECUTE 'ALTER ROLE {role} CREATEROLE';
    END IF; END $$;
    """
    engine.run(database, files, {"003_outward.sql": outward, "004_unqualified.sql": "CREATE TABLE box (id int)"})
    do(database, f"ALTER ROLE {role} NOCREATEROLE", f"REVOKE CREATE ON DATABASE {name} FROM {role}")
    # The settings of the live database hold in the scratch database, too: unqualified names mean the same there.
    assert look(database, files)["drifted"] is False
    assert ask(database, f"SELECT rolcreaterole FROM pg_roles WHERE rolname = '{role}'") == [(False,)]
    assert ask(database, f"SELECT has_database_privilege('{role}', '{name}', 'CREATE')") == [(False,)]


FOREIGN = """
CREATE EXTENSION postgres_fdw; CREATE EXTENSION dblink SCHEMA public;
CREATE TABLE cm.seen (what text);
CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{database}');
CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user '{user}', password '{password}');
CREATE FOREIGN TABLE cm.far (what text) SERVER self OPTIONS (schema_name 'cm', table_name 'seen');
"""
REACHING = """
INSERT INTO cm.far VALUES ('once');
CREATE TABLE cm.copied AS SELECT what FROM cm.far WITH NO DATA;
SELECT public."dblink_exec"('self', 'INSERT INTO cm.seen VALUES (''once'')');
"""
HIDDEN = """
CREATE FUNCTION cm.tell() RETURNS void LANGUAGE sql AS $$ INSERT INTO cm.far VALUES ('once') $$;
SELECT cm.tell();
"""


def test_no_scratch_run_gets_through_to_another_server(database: Any, files: Path) -> None:
    engine.run(database, files, {"003_far.sql": FOREIGN.format(**vars(database)), "004_reaching.sql": REACHING})
    assert ask(database, "SELECT * FROM cm.seen") == [("once",), ("once",)]
    assert look(database, files)["drifted"] is False
    engine.run(database, files, {"005_hidden.sql": HIDDEN})
    found = look(database, files)
    assert found["drifted"] is None and "005_hidden.sql:3: user mapping not found" in found["notes"][0]
    assert len(ask(database, "SELECT * FROM cm.seen")) == 3


def test_files_that_take_too_long_leave_drift_unknown_and_no_database(database: Any, files: Path) -> None:
    engine.run(database, files, {"003_slow.sql": "SET statement_timeout = 0; SELECT pg_sleep(2)"})
    found = look(database, files, timeout="800ms")
    assert (found["known"], found["drifted"]) == (False, None) and scratches(database) == []
    assert found["notes"][0].startswith("The scratch run was stopped at 003_slow.sql, after the 0.8 s that it had, ")
    assert "whether it has drifted cannot be known. The scratch run" in found["msg"]
    assert "validate_drift_timeout" in found["msg"] and found["seconds"] < 2
    assert look(database, files, timeout="0")["drifted"] is False


# --- scratch databases ------------------------------------------------------------------------------------------------


def test_without_createdb_the_refusal_says_what_to_grant(database: Any, tmp_path: Path, role: str) -> None:
    do(database, f"GRANT CREATE ON DATABASE {database.database} TO {role}")
    folder = pairs(tmp_path)
    with pytest.raises(RunbookError) as refused:
        prove(as_user(database, role), folder)
    assert refused.value.code == "scratch" and f'ALTER ROLE "{role}" CREATEDB.' in refused.value.message
    do(database, f"ALTER ROLE {role} CREATEDB")
    verdict = prove(as_user(database, role), folder)
    assert [one.version for one in verdict.proven] == [1] and scratches(database) == []


def as_user(database: Any, user: str) -> Any:
    """The same database for another user, with the same password."""
    return type(database)(**{**vars(database), "user": user})


def test_a_session_role_makes_the_scratch_database_and_limits_of_the_user_do_not_count(
    database: Any, tmp_path: Path, role: str
) -> None:
    do(database, f"ALTER ROLE {role} NOINHERIT", f"ALTER ROLE {role} SET statement_timeout = '50ms'")
    do(database, f"CREATE ROLE {role}_owner CREATEDB", f"GRANT {role}_owner TO {role}")
    folder = pairs(tmp_path, _002_slow=("CREATE TEMP TABLE t AS SELECT 1 AS one FROM pg_sleep(0.1)", "SELECT 1"))
    try:
        acting = replace(login(as_user(database, role)), session_role=f"{role}_owner")
        bundle, scripts = files_of(database, folder)
        verdict = proof.prove(bundle, acting, options(proof.PROOF_ARGUMENTS), scripts)
        assert verdict.unproven == [] and scratches(database) == []
        write(folder, {"init/002_slow.sql": "SELECT pg_sleep(30)"})
        bundle, scripts = files_of(database, folder)
        verdict = proof.prove(bundle, acting, options(proof.PROOF_ARGUMENTS, timeout="2s"), scripts)
        assert texts(verdict)[2][0] == "out-of-time" and scratches(database) == []
    finally:
        do(database, f"DROP ROLE {role}_owner")


def test_one_trial_at_a_time(database: Any, tmp_path: Path) -> None:
    folder = pairs(tmp_path)
    with connect(login(database).to("postgres"), "schema-runbook lock trial") as session:
        RunLock(session, f"{database.database} (trial)").acquire(0)
        with pytest.raises(RunbookError) as refused:
            prove(database, folder)
    assert refused.value.code == "locked" and "schema-runbook lock trial" in refused.value.message


def test_a_trial_does_not_hold_the_run_lock(database: Any, tmp_path: Path) -> None:
    params = {"maintenance_db": "postgres", "run_lock_wait": "0"}
    with held(login(database), params, "migrate"):
        assert prove(database, pairs(tmp_path)).unproven == []


def test_what_a_trial_that_was_killed_leaves_the_next_one_removes(database: Any, tmp_path: Path) -> None:
    slow = pairs(tmp_path / "slow", _002_sleep=("SELECT pg_sleep(30)", "SELECT 1"))
    process = multiprocessing.get_context("fork").Process(target=prove, args=(database, slow))
    process.start()
    (left,) = poll(lambda: sleeping(database))
    process.kill()
    process.join()
    assert scratches(database) == [left] and left.startswith(f"{database.database}_trial_")
    with maintenance(database) as session:
        said = session.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [left]
        )
        assert f"migrations of database {database.database} on trial" in said.fetchall()[0][0]
    info = {name: argument.get("default") for name, argument in backup_info.INFO_ARGUMENTS.items()}
    assert backup_info.look(login(database), {**info, "directory": str(tmp_path)})["trials"] == [left]
    assert prove(database, pairs(tmp_path / "quick"), run_lock_wait="10s").unproven == []
    assert scratches(database) == []


def sleeping(database: Any) -> list[str]:
    """The scratch databases in which a migration sleeps."""
    names = scratches(database)
    with maintenance(database) as session:
        rows = session.execute("SELECT datname FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchall()
    return [name for (name,) in rows if name in names]


def test_databases_of_others_are_left_alone(database: Any, tmp_path: Path) -> None:
    name = f"{database.database}_trial_20260101T000000Z"
    with maintenance(database) as session:
        session.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        try:
            assert prove(database, pairs(tmp_path)).unproven == [] and scratches(database) == [name]
        finally:
            session.execute(f'DROP DATABASE "{name}"')  # type: ignore[call-overload]
