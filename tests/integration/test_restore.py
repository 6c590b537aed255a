# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that go well: beside the live database, swapped, undone, under another name, from plain files."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import backups
import psycopg
import pytest
from ansible.module_utils.runbook import client
from conftest import Database, maintenance
from engine import ask, do
from project import poll
from psycopg import sql
from restores import databases, refused, restore, step


@pytest.fixture
def filled(database: Database) -> Iterator[Database]:
    """A database with some of everything; whatever restores have left of it is removed afterwards."""
    do(
        database,
        "CREATE SCHEMA cm",
        "CREATE TABLE cm.model (id bigserial PRIMARY KEY, name text UNIQUE)",
        "INSERT INTO cm.model (name) SELECT 'model ' || n FROM generate_series(1, 500) AS n",
        "CREATE TABLE cm.event (id int GENERATED ALWAYS AS IDENTITY, at date) PARTITION BY RANGE (at)",
        "CREATE TABLE cm.event_2026 PARTITION OF cm.event FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "INSERT INTO cm.event (at) SELECT '2026-01-01'::date + n FROM generate_series(1, 50) AS n",
        "CREATE UNLOGGED TABLE cm.cache (id int)",
        "INSERT INTO cm.cache VALUES (1)",
        "SELECT lo_from_bytea(0, 'a large object')",
        "CREATE VIEW cm.names AS SELECT name FROM cm.model",
    )
    yield database
    with maintenance(database) as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE shobj_description(oid, 'pg_database') LIKE 'Schema Runbook: %%' "
            "AND starts_with(datname, %s)",
            [database.database],
        ).fetchall()
        for (name,) in rows:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def content(database: Any) -> list[tuple]:
    """What somebody who uses the database sees."""
    return ask(database, "SELECT count(*), min(name), max(id) FROM cm.model")


def on_the_server(database: Database, question: str, *values: Any) -> list[tuple]:
    """Rows of a question put in the maintenance database."""
    with maintenance(database) as session:
        return session.execute(question, values).fetchall()


def test_what_was_lost_comes_back_and_the_former_database_is_kept(filled: Database, tmp_path: Path) -> None:
    before = content(filled)
    made = backups.take(filled, tmp_path)
    do(filled, "DELETE FROM cm.model WHERE id > 10", "DROP TABLE cm.event CASCADE")
    prepared = step(filled, tmp_path, "prepared")
    assert prepared["evidence"]["tables"] == 3 and prepared["evidence"]["rows"] == 551
    assert ask(filled, "SELECT count(*) FROM cm.model") == [(10,)], "the live database is as it was"
    swapped = step(filled, tmp_path, "swapped")
    assert content(filled) == before and ask(filled, "SELECT count(*) FROM cm.event") == [(50,)]
    assert ask(filled, "SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata") == [("a large object",)]
    (kept,) = databases(filled).kept
    assert (kept.name, kept.open, swapped["kept"]) == (swapped["kept"], False, kept.name)
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        filled.connect(dbname=kept.name)
    assert made["set"] == swapped["set"]


def test_a_restored_set_is_verified(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    (made,) = backups.sealed(filled, tmp_path)
    assert made.state == "sealed"
    step(filled, tmp_path, "prepared")
    (made,) = backups.sealed(filled, tmp_path)
    evidence = made.evidence() or {}
    assert made.state == "verified" and evidence["by"] == "restore" and evidence["rows"] == 551


def test_an_undo_brings_the_former_database_back_and_another_one_the_restored_one(
    filled: Database, tmp_path: Path
) -> None:
    backups.take(filled, tmp_path)
    do(filled, "UPDATE cm.model SET name = 'changed' WHERE id = 1")
    restore(filled, tmp_path)
    changed = "SELECT name FROM cm.model WHERE id = 1"
    assert ask(filled, changed) == [("model 1",)]
    assert step(filled, tmp_path, "undone")["changed"]
    assert ask(filled, changed) == [("changed",)]
    assert step(filled, tmp_path, "undone")["changed"]
    assert ask(filled, changed) == [("model 1",)]
    assert len(databases(filled).kept) == 1


def test_without_anything_to_undo_nothing_is_done(filled: Database, tmp_path: Path) -> None:
    error = refused(filled, tmp_path, "undone")
    assert error.code == "nothing-to-undo" and "restore_backup=NAME" in error.message


def test_check_mode_is_the_preflight_and_leaves_no_trace(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    before = on_the_server(filled, "SELECT oid, datname FROM pg_database ORDER BY 1")
    found = step(filled, tmp_path, "prepared", check_mode=True)
    assert found["changed"] and "would be restored beside the live one" in found["msg"]
    assert on_the_server(filled, "SELECT oid, datname FROM pg_database ORDER BY 1") == before
    (made,) = backups.sealed(filled, tmp_path)
    assert made.state == "sealed"


def test_what_hangs_on_the_database_comes_with_it(filled: Database, tmp_path: Path) -> None:
    name = sql.Identifier(filled.database)
    role = sql.Identifier(f"role of {filled.database}")
    with maintenance(filled) as session:
        session.execute(sql.SQL("CREATE ROLE {}").format(role))
        for command in (
            'ALTER DATABASE {0} SET search_path = cm, "$user", \'odd " name\'',
            "ALTER DATABASE {0} SET work_mem = '7MB'",
            "ALTER ROLE {1} IN DATABASE {0} SET statement_timeout = '3s'",
            "ALTER DATABASE {0} CONNECTION LIMIT 17",
            "COMMENT ON DATABASE {0} IS 'what the team says'",
            "REVOKE ALL ON DATABASE {0} FROM PUBLIC",
            "GRANT CONNECT, TEMPORARY ON DATABASE {0} TO {1} WITH GRANT OPTION",
        ):
            session.execute(sql.SQL(command).format(name, role))
    described = """
        SELECT datconnlimit, shobj_description(d.oid, 'pg_database'), datdba, datcollate, datlocprovider,
               (SELECT array_agg(a::text ORDER BY 1) FROM aclexplode(datacl) a),
               (SELECT array_agg(setrole::text || setconfig::text ORDER BY 1) FROM pg_db_role_setting
                 WHERE setdatabase = d.oid)
          FROM pg_database d WHERE datname = %s
    """
    try:
        before = on_the_server(filled, described, filled.database)
        backups.take(filled, tmp_path)
        restore(filled, tmp_path)
        assert on_the_server(filled, described, filled.database) == before
        assert ask(filled, "SHOW search_path") == [('cm, "$user", "odd "" name"',)]
        step(filled, tmp_path, "undone")
        assert on_the_server(filled, described, filled.database) == before
    finally:
        with maintenance(filled) as session:
            for one in [filled.database, *(kept.name for kept in databases(filled).kept)]:
                session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))
            session.execute(sql.SQL("DROP ROLE {}").format(role))


def test_a_database_that_is_gone_is_made_again(filled: Database, tmp_path: Path) -> None:
    before = content(filled)
    backups.take(filled, tmp_path)
    with maintenance(filled) as session:
        session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(filled.database)))
    swapped = restore(filled, tmp_path)
    assert content(filled) == before and swapped["kept"] == ""


def test_a_copy_under_another_name_leaves_the_original_alone(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    do(filled, "DELETE FROM cm.model")
    copy = replace(filled, database=f"{filled.database} copy")
    try:
        restore(copy, tmp_path, backup_database=filled.database)
        assert ask(copy, "SELECT count(*) FROM cm.model") == [(500,)]
        assert ask(filled, "SELECT count(*) FROM cm.model") == [(0,)]
    finally:
        with maintenance(filled) as session:
            session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(copy.database)))


def test_names_that_look_like_something_else(filled: Database, tmp_path: Path) -> None:
    for name in ("postgres://x", "dbname=postgres", "Mi\"xed 'Ñame'", "x" * 63):
        odd = replace(filled, database=name)
        with maintenance(filled) as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        do(odd, "CREATE TABLE t AS SELECT 1 AS n")
        try:
            backups.take(odd, tmp_path)
            do(odd, "DROP TABLE t")
            restore(odd, tmp_path)
            assert ask(odd, "SELECT n FROM t") == [(1,)]
        finally:
            with maintenance(filled) as session:
                for one in [name, *(kept.name for kept in databases(odd).kept)]:
                    session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(one)))


def test_sets_are_chosen_by_name_and_by_time(filled: Database, tmp_path: Path) -> None:
    first = backups.take(filled, tmp_path)["set"]
    do(filled, "DELETE FROM cm.model WHERE id > 1")
    while (second := backups.take(filled, tmp_path)["set"]) == first:
        pass

    def chosen(wanted: str) -> str:
        return str(step(filled, tmp_path, "prepared", check_mode=True, backup=wanted)["set"])

    assert chosen("latest") == chosen("newest") == second
    assert chosen(first) == first
    moment = f"{first[:4]}-{first[4:6]}-{first[6:8]}T{first[9:11]}:{first[11:13]}:{first[13:15]}Z"
    assert chosen(moment) == first
    assert chosen(str(backups.sealed(filled, tmp_path)[0].path)) == first
    for wanted, said in (
        ("20010101T000000Z_v1", "There is no set"),
        ("2001-01-01T00:00:00Z", "or before"),
        ("2026-11-22T14:30", "looks like a time"),
        (str(tmp_path / "nowhere"), "neither a backup set nor a file"),
    ):
        assert said in refused(filled, tmp_path, backup=wanted).message
    step(filled, tmp_path, "prepared", backup=first)
    assert chosen("latest") == first, "the newest that is proven"
    assert chosen("newest") == second


def test_smoke_checks_are_asked_of_the_restored_database(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    step(filled, tmp_path, "prepared", smoke_sql=["SELECT count(*) = 500 FROM cm.model"])
    do(filled, "DELETE FROM cm.model")
    backups.take(filled, tmp_path)
    error = refused(filled, tmp_path, backup="newest", smoke_sql=["SELECT count(*) = 500 FROM cm.model", "SELECT 1/0"])
    assert error.code == "not-verified"
    assert "answered with False" in error.message and "division by zero" in error.message
    assert content(filled)[0][0] == 0, "the live database is as it was"


def test_kept_databases_go_when_somebody_says_so(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    kept = restore(filled, tmp_path)["kept"]
    waiting = step(filled, tmp_path, "dropped")
    assert not waiting["changed"] and kept in waiting["msg"]
    assert "Kept are" in refused(filled, tmp_path, "dropped", kept="postgres").message
    assert step(filled, tmp_path, "dropped", check_mode=True, kept=kept)["dropped"] == [kept]
    assert databases(filled).kept
    assert step(filled, tmp_path, "dropped", kept=kept)["dropped"] == [kept]
    assert not databases(filled).kept
    restore(filled, tmp_path, keep="0")
    assert step(filled, tmp_path, "dropped")["changed"]


def test_the_wrong_name_confirms_nothing(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    for given in ("", "postgres"):
        error = refused(filled, tmp_path, confirmation=given)
        assert error.code == "unconfirmed" and f"restore_confirm={filled.database}" in error.message


def test_the_live_database_is_written_to_until_the_swap(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    failures, stop = [], threading.Event()

    def write() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            try:
                with filled.connect() as session:
                    session.execute("INSERT INTO cm.cache VALUES (%s)", [number])
            except psycopg.OperationalError as error:
                failures.append(str(error))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        step(filled, tmp_path, "prepared")
        assert failures == []
        swapped = step(filled, tmp_path, "swapped")
    finally:
        stop.set()
        writer.join()
    assert swapped["downtime_ms"] <= 2000
    assert step(filled, tmp_path, "undone")["downtime_ms"] <= 2000


# --- plain files -----------------------------------------------------------------------------------------------------


def plain(database: Database, path: Path, *arguments: str) -> Path:
    """What the old script wrote."""
    program = str(client.find_program("pg_dump", 18))
    address = [f"--host={database.host}", f"--port={database.port}", f"--username={database.user}"]
    with path.open("wb") as file:
        subprocess.run(
            [program, *address, *arguments, database.database],
            stdout=file,
            check=True,
            env={"PGPASSWORD": database.password},
        )
    return path


def test_a_plain_file_of_the_old_script_is_restored(filled: Database, tmp_path: Path) -> None:
    before = content(filled)
    do(filled, "INSERT INTO cm.model (name) VALUES (E'a\\rline\\nbreak'), (E'\\\\restrict abc')")
    file = plain(filled, tmp_path / "cm_2026-11-22_143000.sql")
    do(filled, "DROP TABLE cm.model CASCADE")
    prepared = step(filled, tmp_path, "prepared", backup=str(file))
    assert "nothing to compare rows with" in prepared["msg"]
    step(filled, tmp_path, "swapped")
    assert content(filled)[0][0] == before[0][0] + 2
    assert ask(filled, "SELECT count(*) FROM cm.model WHERE name = E'\\\\restrict abc'") == [(1,)]


def test_a_plain_file_that_was_cut_off_is_refused(filled: Database, tmp_path: Path) -> None:
    file = plain(filled, tmp_path / "cm.sql")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    error = refused(filled, tmp_path, backup=str(file))
    assert error.code == "set-damaged" and "cut off" in error.message


def test_an_error_in_a_plain_file_stops_it(filled: Database, tmp_path: Path) -> None:
    file = plain(filled, tmp_path / "cm.sql")
    text = file.read_text()
    file.write_text(text.replace("CREATE TABLE cm.model", "CREATE TABLE cm.other", 1))
    error = refused(filled, tmp_path, backup=str(file))
    assert error.code == "client-failed" and "cm.model" in error.message
    assert not databases(filled).side and content(filled)[0][0] == 500


@pytest.mark.parametrize(
    "command",
    ["\\! touch {}", "\\copy cm.model TO PROGRAM 'touch {}'", "\\o |touch {}", "\\unrestrict a\n\\! touch {}"],
)
def test_a_plain_file_cannot_run_programs(filled: Database, tmp_path: Path, command: str) -> None:
    witness = tmp_path / "witness"
    file = plain(filled, tmp_path / "cm.sql")
    lines = file.read_text().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith("SET "))
    file.write_text("".join([*lines[:at], command.format(witness) + "\n", *lines[at:]]))
    assert refused(filled, tmp_path, backup=str(file)).code == "client-failed"
    assert not witness.exists() and not databases(filled).side


def test_a_plain_file_that_has_changed_is_restored_anew(filled: Database, tmp_path: Path) -> None:
    file = plain(filled, tmp_path / "cm.sql")
    step(filled, tmp_path, "prepared", backup=str(file))
    assert step(filled, tmp_path, "prepared", backup=str(file))["changed"] is False
    file.write_text(file.read_text().replace("\tmodel 7\n", "\tseventh\n"))
    assert step(filled, tmp_path, "prepared", backup=str(file))["changed"] is True
    step(filled, tmp_path, "swapped")
    assert ask(filled, "SELECT name FROM cm.model WHERE id = 7") == [("seventh",)]


def another(database: Database, folder: Path, previous: str) -> str:
    """A further set, with a name of its own; names have whole seconds."""
    now = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD\"T\"HH24MISS')"
    poll(lambda: ask(database, now)[0][0] > previous[:15])
    return str(backups.take(database, folder)["set"])


def test_check_mode_of_every_step_only_looks(filled: Database, tmp_path: Path) -> None:
    def seen() -> list[tuple]:
        return on_the_server(
            filled,
            "SELECT oid, datname, datallowconn, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY 1",
        )

    def look(*states: str) -> list[bool]:
        before = seen()
        predicted = [step(filled, tmp_path, state, check_mode=True)["changed"] for state in states]
        assert seen() == before
        return predicted

    backups.take(filled, tmp_path)
    step(filled, tmp_path, "prepared")
    with filled.connect() as session:
        assert look("prepared", "swapped", "confirmed", "reversed") == [True, True, False, False]
        assert session.execute("SELECT 1").fetchall() == [(1,)], "nobody was in its way"
    step(filled, tmp_path, "swapped")
    assert look("swapped", "confirmed", "reversed", "undone") == [False, False, True, True]
    step(filled, tmp_path, "confirmed")
    assert look("confirmed", "reversed", "undone", "dropped") == [False, False, True, False]


def test_latest_is_the_proven_set_and_says_that_there_is_a_newer_one(filled: Database, tmp_path: Path) -> None:
    proven = backups.take(filled, tmp_path)["set"]
    restore(filled, tmp_path)
    newer = another(filled, tmp_path, proven)
    result = step(filled, tmp_path, "prepared", check_mode=True)
    assert result["set"] == proven
    assert f"restore_backup={newer}" in result["msg"]


def test_a_swap_that_nobody_confirmed_does_not_answer_for_another_set(filled: Database, tmp_path: Path) -> None:
    first = backups.take(filled, tmp_path)["set"]
    step(filled, tmp_path, "prepared")
    step(filled, tmp_path, "swapped")  # and the run dies here
    assert step(filled, tmp_path, "prepared", backup=first)["phase"] == "swapped"
    second = another(filled, tmp_path, first)
    assert step(filled, tmp_path, "prepared", backup=second)["set"] == second
    assert "no former database had to come back" in step(filled, tmp_path, "reversed")["msg"]


def test_only_a_swap_that_nobody_confirmed_is_reversed(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    do(filled, "DELETE FROM cm.model")
    step(filled, tmp_path, "prepared")
    step(filled, tmp_path, "swapped")
    assert step(filled, tmp_path, "reversed")["changed"] is True
    assert content(filled)[0][0] == 0
    restore(filled, tmp_path)
    assert step(filled, tmp_path, "reversed")["changed"] is False
    assert content(filled)[0][0] == 500


def test_an_index_that_waits_for_its_partitions_is_no_damage(filled: Database, tmp_path: Path) -> None:
    do(filled, "CREATE INDEX waiting ON ONLY cm.event (at)")
    backups.take(filled, tmp_path)
    restore(filled, tmp_path)
    assert ask(filled, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'cm.waiting'::regclass") == [(False,)]


def test_the_journal_is_there_for_people(filled: Database, tmp_path: Path) -> None:
    backups.take(filled, tmp_path)
    kept = restore(filled, tmp_path)["kept"]
    ((comment,),) = on_the_server(
        filled, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", kept
    )
    sentence, _, data = comment.partition("\n")
    assert filled.database in sentence and "restore_action=undo" in sentence
    assert json.loads(data)["phase"] == "done"
