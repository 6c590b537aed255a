# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that do not come to their end, or must not begin: nothing is lost, and the next run finds its way."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import backups
import disk
import psycopg
import pytest
from ansible.module_utils.runbook import backup_set, embedded, restoration, side_database
from conftest import QUICK, Database, maintenance, reachable_directory, read_password
from drills import SLOW
from engine import ask, do
from project import poll
from psycopg import sql
from restores import databases, refused, restore, start, step


@pytest.fixture(scope="module")
def demanding() -> Iterator[embedded.Server]:
    """A server that knows prepared transactions and logical slots."""
    with reachable_directory() as parent:
        settings = {**QUICK, "max_prepared_transactions": "5", "wal_level": "logical"}
        wanted = embedded.Wanted(home=str(parent / "server"), settings=settings)
        running, _ = embedded.start(wanted)
        yield running
        embedded.remove(wanted)


@contextmanager
def on_a_small_disk(size: str, log_elsewhere: bool = False, **settings: str) -> Iterator[tuple[Database, Path]]:
    """A server whose data are on a disk of their own: the login to database shop, which is not there yet, and the disk.

    Parameters:
        log_elsewhere: whether its write-ahead log is on another disk. Without room for that PostgreSQL ends altogether.
    """
    with reachable_directory() as parent, disk.small_disk(parent / "disk", size) as place:
        wanted = embedded.Wanted(home=str(place / "server"), settings={**QUICK, **settings})
        server, _ = embedded.start(wanted)
        if log_elsewhere:
            embedded.stop(wanted)
            (inside,) = (place / "server").rglob("pg_wal")
            subprocess.run(["mv", str(inside), str(parent / "log")], check=True)  # and its owner with it
            inside.symlink_to(parent / "log")
            server, _ = embedded.start(wanted)
        try:
            password = read_password(server.passfile)
            yield Database(server.host, server.port, server.user, "shop", server.passfile, password), place
        finally:
            embedded.remove(wanted)


@pytest.fixture
def live(demanding: embedded.Server) -> Iterator[Database]:
    """A database with a set's worth of content; whatever is made beside it is removed afterwards."""
    password = read_password(demanding.passfile)
    made = Database(demanding.host, demanding.port, demanding.user, "shop", demanding.passfile, password)
    with maintenance(made) as session:
        session.execute("CREATE DATABASE shop")
    do(
        made,
        "CREATE TABLE item (id bigserial PRIMARY KEY, name text)",
        "INSERT INTO item (name) SELECT md5(n::text) FROM generate_series(1, 1000) AS n",
    )
    yield made
    with maintenance(made) as session:
        for (slot,) in session.execute("SELECT slot_name FROM pg_replication_slots").fetchall():
            session.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        rows = session.execute("SELECT datname FROM pg_database WHERE starts_with(datname, 'shop')").fetchall()
        for (name,) in rows:
            session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def items(database: Any) -> int:
    return int(ask(database, "SELECT count(*) FROM item")[0][0])


def names(database: Database) -> list[str]:
    """Every database about the live one's name."""
    with maintenance(database) as session:
        rows = session.execute("SELECT datname::text FROM pg_database WHERE starts_with(datname, 'shop') ORDER BY 1")
        return [name for (name,) in rows]


def is_open(database: Database, name: str = "shop") -> bool:
    with maintenance(database) as session:
        return bool(session.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [name]).fetchall()[0][0])


def wait_for_a_waiting_session(database: Database, query: str) -> None:
    def waits() -> bool:
        with maintenance(database) as session:
            found = session.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ %s", [query]
            ).fetchall()
            return bool(found[0][0])

    poll(waits)


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)


# --- killed ----------------------------------------------------------------------------------------------------------


def test_a_killed_pg_restore_is_a_failed_restore(live: Database, tmp_path: Path) -> None:
    do(live, SLOW.format(3))
    backups.take(live, tmp_path)
    process = start(live, tmp_path, "prepared")

    def restoring() -> list[str]:
        at_work = ["pgrep", "--parent", str(process.pid), "--full", "exit-on-error"]
        return subprocess.run(at_work, capture_output=True, text=True, check=False).stdout.split()

    poll(lambda: databases(live).side)
    pid = poll(restoring)[0]
    os.kill(int(pid), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and "pg_restore failed" in said
    assert names(live) == ["shop"] and items(live) == 1000
    (made,) = backups.sealed(live, tmp_path)
    assert made.state == "sealed"


def test_a_restore_that_was_killed_is_begun_again(live: Database, tmp_path: Path) -> None:
    do(live, SLOW.format(3))
    backups.take(live, tmp_path)
    process = start(live, tmp_path, "prepared")
    poll(lambda: databases(live).side)
    kill(process)
    (left,) = databases(live).side
    assert left.journal.phase == "restoring" and items(live) == 1000
    assert step(live, tmp_path, "prepared", run_lock_wait="10s")["changed"]
    (side,) = databases(live).side
    assert side.journal.phase == "verified" and side.oid != left.oid
    assert not is_open(live, side.name)


def test_a_verified_side_database_is_taken_over_by_the_next_run(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    first = step(live, tmp_path, "prepared")
    again = step(live, tmp_path, "prepared")
    assert (again["changed"], again["side"]) == (False, first["side"])
    assert "by an earlier run" in again["msg"]
    step(live, tmp_path, "swapped")
    assert items(live) == 1000


def test_killed_between_the_renames_neither_has_happened(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    do(live, "DELETE FROM item WHERE id > 10")
    side = step(live, tmp_path, "prepared")["side"]
    # The journal on the side database is written first; the way is barred after that.
    with maintenance(live) as bar:
        bar.execute("BEGIN")
        bar.execute("SELECT oid FROM pg_database WHERE datname = %s FOR UPDATE", [side])
        process = start(live, tmp_path, "swapped", swap_timeout="60s")
        wait_for_a_waiting_session(live, 'RENAME TO "shop"')
        kill(process)
        assert names(live) == ["shop", side], "nobody sees half of it"
        assert not is_open(live)
        bar.execute("ROLLBACK")
    # The session that died still waits for its lock, and lets go of the run lock when it finds out.
    swapped = step(live, tmp_path, "swapped", run_lock_wait="15s")
    assert items(live) == 1000 and is_open(live)
    assert names(live) == ["shop", swapped["kept"]]
    step(live, tmp_path, "undone")
    assert items(live) == 10


def test_killed_with_the_live_database_closed_the_next_run_opens_it(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    side = step(live, tmp_path, "prepared")["side"]
    with maintenance(live) as bar:
        bar.execute("BEGIN")
        bar.execute("SELECT oid FROM pg_database WHERE datname = %s FOR UPDATE", [side])
        process = start(live, tmp_path, "swapped", swap_timeout="60s")
        poll(lambda: not is_open(live))
        wait_for_a_waiting_session(live, "RENAME TO")
        kill(process)
        bar.execute("ROLLBACK")
    undone = step(live, tmp_path, "undone", run_lock_wait="15s")
    assert "taken back" in undone["msg"] and is_open(live) and items(live) == 1000


def test_a_swap_that_was_done_is_not_done_again(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    restore_once = step(live, tmp_path, "prepared"), step(live, tmp_path, "swapped")
    # The run dies here: services are down, nothing is confirmed.
    again = step(live, tmp_path, "prepared")
    assert (again["changed"], again["phase"]) == (False, "swapped")
    assert not step(live, tmp_path, "swapped")["changed"]
    assert [one.name for one in databases(live).kept] == [restore_once[1]["kept"]]
    step(live, tmp_path, "confirmed")
    assert step(live, tmp_path, "prepared")["changed"], "from now on it is a new restore"


# --- in each other's way ---------------------------------------------------------------------------------------------


def test_one_at_a_time(live: Database, tmp_path: Path) -> None:
    do(live, SLOW.format(3))
    backups.take(live, tmp_path)
    process = start(live, tmp_path, "prepared")
    poll(lambda: databases(live).side)
    for error in (refused(live, tmp_path, run_lock_wait="0"), backups.refused(live, tmp_path, run_lock_wait="0")):
        assert error.code == "locked" and "lock restore" in error.message
    output, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def test_clients_that_come_back_all_the_time(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    do(live, "DELETE FROM item")
    stop = threading.Event()

    def pester() -> None:
        while not stop.is_set():
            try:
                with live.connect() as session:
                    session.execute("BEGIN")
                    session.execute("SELECT count(*) FROM item")
                    stop.wait(0.05)
            except psycopg.OperationalError:
                pass

    clients = [threading.Thread(target=pester) for _ in range(8)]
    for client in clients:
        client.start()
    try:
        step(live, tmp_path, "prepared")
        swapped = step(live, tmp_path, "swapped", swap_timeout="10s")
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert swapped["downtime_ms"] <= 2000 and items(live) == 1000


def test_somebody_who_cannot_be_got_rid_of_is_named_and_the_database_opened_again(
    live: Database, tmp_path: Path
) -> None:
    with maintenance(live) as session:
        session.execute("CREATE ROLE keeper LOGIN CREATEDB PASSWORD 'x'")
        session.execute("ALTER DATABASE shop OWNER TO keeper")
        session.execute("GRANT pg_read_all_data, pg_monitor TO keeper")
        session.execute("ALTER DATABASE shop SET log_statement = 'all'")
    keeper = replace(live, user="keeper", password="x")
    try:
        do(live, "ALTER TABLE item OWNER TO keeper", "ALTER SCHEMA public OWNER TO keeper")
        backups.take(live, tmp_path)
        made = step(keeper, tmp_path, "prepared")
        assert 'ALTER DATABASE "shop" SET "log_statement" TO \'all\'' in made["msg"], "only a superuser may do that"
        with live.connect(application_name="the boss"):
            error = refused(keeper, tmp_path, "swapped", swap_timeout="1s")
            assert error.code == "in-use" and "the boss" in error.message
            assert is_open(live) and items(live) == 1000
        assert step(keeper, tmp_path, "swapped")["changed"]
    finally:
        with maintenance(live) as session:
            for name in names(live):
                session.execute(sql.SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(sql.Identifier(name)))
                session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
        for name in names(live):
            do(replace(live, database=name), "REASSIGN OWNED BY keeper TO CURRENT_USER", "DROP OWNED BY keeper")
        with maintenance(live) as session:
            session.execute("DROP OWNED BY keeper")
            session.execute("DROP ROLE keeper")


# --- what must not begin ---------------------------------------------------------------------------------------------


def test_a_prepared_transaction_is_named(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    with live.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO item (name) VALUES ('in doubt')")
        session.execute("PREPARE TRANSACTION 'two phases'")
    try:
        error = refused(live, tmp_path)
        assert error.code == "preflight" and '"two phases"' in error.message and names(live) == ["shop"]
    finally:
        do(live, "ROLLBACK PREPARED 'two phases'")
    step(live, tmp_path, "prepared")
    with live.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO item (name) VALUES ('in doubt')")
        session.execute("PREPARE TRANSACTION 'later'")
    try:
        error = refused(live, tmp_path, "swapped")
        assert error.code == "prepared-transaction" and "later" in error.message and is_open(live)
    finally:
        do(live, "ROLLBACK PREPARED 'later'")


def test_a_logical_slot_is_named(live: Database, tmp_path: Path) -> None:
    do(live, "SELECT pg_create_logical_replication_slot('warehouse', 'pgoutput')")
    backups.take(live, tmp_path)
    error = refused(live, tmp_path)
    assert error.code == "preflight" and "warehouse" in error.message and "restore_slots=leave" in error.message
    assert "warehouse" in step(live, tmp_path, "prepared", slots="leave")["msg"]
    assert "warehouse" in refused(live, tmp_path).message, "restored already, and still in the way"
    kept = step(live, tmp_path, "swapped")["kept"]
    error = refused(live, tmp_path, "dropped", kept=kept)
    assert error.code == "slots" and "warehouse" in error.message
    with maintenance(live) as session:
        session.execute("SELECT pg_drop_replication_slot('warehouse')")
    assert step(live, tmp_path, "dropped", kept=kept)["dropped"] == [kept]


def test_everything_that_is_missing_is_said_at_once_and_roles_can_be_made(live: Database, tmp_path: Path) -> None:
    with maintenance(live) as session:
        session.execute("CREATE ROLE \"some Body\" LOGIN PASSWORD 'secret' CONNECTION LIMIT 3")
        session.execute('CREATE ROLE readers; GRANT readers TO "some Body"')
    do(live, 'GRANT SELECT ON item TO "some Body"', "ALTER TABLE item OWNER TO readers", "CREATE EXTENSION hstore")
    backups.take(live, tmp_path)
    do(live, "ALTER TABLE item OWNER TO CURRENT_USER", 'REVOKE ALL ON item FROM "some Body"')
    with maintenance(live) as session:
        session.execute('DROP ROLE readers; DROP ROLE "some Body"')
    (made,) = backups.sealed(live, tmp_path)
    manifest = made.path / backup_set.MANIFEST
    text = manifest.read_text()
    manifest.write_text(text.replace('"name": "hstore"', '"name": "a_rare_one"'))
    backup_set.write_checksums(made.path)
    error = refused(live, tmp_path)
    assert error.code == "preflight" and len(error.details["problems"]) == 2
    for said in ('"a_rare_one"', '"readers"', '"some Body"', "restore_create_roles"):
        assert said in error.message
    manifest.write_text(text)
    backup_set.write_checksums(made.path)
    try:
        restore(live, tmp_path, create_roles=True)
        found = ask(
            live, "SELECT rolname, rolcanlogin, rolconnlimit FROM pg_roles WHERE rolname IN ('readers', 'some Body')"
        )
        assert sorted(found) == [("readers", False, -1), ("some Body", True, 3)]
        assert ask(live, "SELECT tableowner FROM pg_tables WHERE tablename = 'item'") == [("readers",)]
        assert ask(live, "SELECT pg_has_role('some Body', 'readers', 'member')") == [(True,)]
    finally:
        for name in names(live):
            with maintenance(live) as session:
                session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
            do(replace(live, database=name), 'DROP OWNED BY readers, "some Body" CASCADE')
        with maintenance(live) as session:
            session.execute('DROP ROLE readers; DROP ROLE "some Body"')


def damage_truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def damage_flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [damage_truncate, damage_flip, damage_empty, damage_remove])
@pytest.mark.parametrize("file", ["dump/toc.dat", "dump/*.dat.gz", "manifest.json", "SHA256SUMS"])
def test_a_damaged_set_is_not_restored_from(live: Database, tmp_path: Path, file: str, damage: Any) -> None:
    backups.take(live, tmp_path)
    (made,) = backups.sealed(live, tmp_path)
    damage(sorted(made.path.glob(file))[0])
    error = refused(live, tmp_path)
    assert error.code in ("preflight", "set-damaged", "no-set") and names(live) == ["shop"] and items(live) == 1000


def test_a_set_that_does_not_hold_what_its_manifest_says_is_not_put_to_use(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    (made,) = backups.sealed(live, tmp_path)
    manifest = made.path / backup_set.MANIFEST
    manifest.write_text(manifest.read_text().replace('"rows": 1000', '"rows": 1001'))
    backup_set.write_checksums(made.path)
    error = refused(live, tmp_path)
    assert error.code == "not-verified" and "has 1000 rows instead of 1001" in error.message
    assert names(live) == ["shop"] and made.state == "sealed"


# --- disks -----------------------------------------------------------------------------------------------------------


def test_a_data_volume_without_room_is_seen_before(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    (made,) = backups.sealed(live, tmp_path)
    with on_a_small_disk("200m") as (other, _):
        error = refused(other, tmp_path, backup=str(made.path))
        assert error.code == "preflight" and "disk of the server" in error.message
        assert "shop" not in names(other)


def test_a_data_volume_that_fills_up_in_the_middle_costs_nothing_but_the_restore(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restoring = side_database.restore_into
    with on_a_small_disk("400m", log_elsewhere=True, max_wal_size="64MB") as (live, place):
        with maintenance(live) as session:
            session.execute("CREATE DATABASE shop")
        do(live, "CREATE TABLE item AS SELECT n, repeat(md5(n::text), 20) AS t FROM generate_series(1, 40000) AS n")
        backups.take(live, tmp_path)

        def while_somebody_fills_it(*arguments: Any, **named: Any) -> None:
            disk.fill(place, left=5_000_000)
            restoring(*arguments, **named)

        monkeypatch.setattr(side_database, "restore_into", while_somebody_fills_it)
        error = refused(live, tmp_path)
        assert error.code == "disk-full" and "No space left on device" in error.message
        assert names(live) == ["shop"] and items(live) == 40_000 and is_open(live)
        monkeypatch.undo()
        (place / "ballast").unlink()
        restore(live, tmp_path)
        assert items(live) == 40_000


# --- what is not to be believed --------------------------------------------------------------------------------------


def test_a_plain_file_that_is_about_databases_is_refused(live: Database, tmp_path: Path) -> None:
    file = tmp_path / "cm.sql"
    file.write_text("SET x.y = 1;\nDROP DATABASE shop;\n-- PostgreSQL database dump complete\n")
    error = refused(live, tmp_path, backup=str(file))
    assert error.code == "preflight" and f"{file}:2: DROP DATABASE shop" in error.message
    file.write_text(
        "CREATE TABLE t (a text);\nCOPY t FROM stdin;\nDROP DATABASE shop;\n\\.\n-- PostgreSQL database dump complete\n"
    )
    assert step(live, tmp_path, "prepared", backup=str(file))["changed"], "rows are only data"
    assert items(live) == 1000


def test_a_plain_file_that_cannot_be_read_to_its_end_is_no_restore(
    live: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cm.sql"
    rows = "".join(f"{number}\n" for number in range(400_000))
    file.write_text(f"CREATE TABLE t (a int);\nCOPY t FROM stdin;\n{rows}\\.\n-- PostgreSQL database dump complete\n")

    def broken(source: Any, *rest: Any) -> Any:
        source.read(1024)
        raise OSError(5, "Input/output error", str(file))

    monkeypatch.setattr(side_database, "_header", broken)
    error = refused(live, tmp_path, backup=str(file))
    assert "Input/output error" in error.message and names(live) == ["shop"]


def test_a_journal_that_somebody_else_has_written_is_not_believed(live: Database, tmp_path: Path) -> None:
    backups.take(live, tmp_path)
    first = step(live, tmp_path, "prepared")["side"]
    ((comment,),) = ask(
        replace(live, database="postgres"),
        f"SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '{first}'",
    )
    with maintenance(live) as session:
        session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(first)))
        session.execute("CREATE ROLE tenant LOGIN CREATEDB")
        for name in ("shop_tenant", "shop_restore_20200101T000000Z"):
            session.execute(sql.SQL("CREATE DATABASE {} OWNER tenant").format(sql.Identifier(name)))
            session.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))
            session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
    try:
        assert not databases(live).side
        assert step(live, tmp_path, "prepared")["changed"]
        assert "shop_tenant" in names(live), "it is not removed either"
    finally:
        with maintenance(live) as session:
            for name in ("shop_tenant", "shop_restore_20200101T000000Z"):
                session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
            session.execute("DROP ROLE tenant")


def test_a_set_from_the_future_is_not_newer_than_others(live: Database, tmp_path: Path) -> None:
    real = backups.take(live, tmp_path)["set"]
    (made,) = backups.sealed(live, tmp_path)
    made.path.rename(made.path.with_name("20990101T000000Z_v0"))
    assert step(live, tmp_path, "prepared", check_mode=True, backup="newest")["set"] == "20990101T000000Z_v0"
    while (second := backups.take(live, tmp_path)["set"]) == real:
        pass
    for wanted in ("newest", "latest"):
        assert step(live, tmp_path, "prepared", check_mode=True, backup=wanted)["set"] == second


def test_a_server_that_ends_idle_sessions_does_not_end_this(live: Database, tmp_path: Path) -> None:
    do(live, "CREATE TABLE big AS SELECT n, repeat(md5(n::text), 20) AS t FROM generate_series(1, 40000) AS n")
    with maintenance(live) as session:
        session.execute("ALTER SYSTEM SET idle_session_timeout = '300ms'")
        session.execute("SELECT pg_reload_conf()")
    try:
        backups.take(live, tmp_path)
        assert step(live, tmp_path, "prepared")["phases"]["restore"] > 0.3
        step(live, tmp_path, "swapped")
    finally:
        with maintenance(live) as session:
            session.execute("ALTER SYSTEM RESET idle_session_timeout")
            session.execute("SELECT pg_reload_conf()")


def test_a_setting_that_the_server_does_not_know_is_a_note(live: Database, tmp_path: Path) -> None:
    with maintenance(live) as session:
        session.execute("ALTER DATABASE shop SET work_mem = '7MB'")
    backups.take(live, tmp_path)
    (made,) = backups.sealed(live, tmp_path)
    manifest = made.path / backup_set.MANIFEST
    manifest.write_text(manifest.read_text().replace('"name": "work_mem"', '"name": "gone_since_long"'))
    backup_set.write_checksums(made.path)
    assert "gone_since_long" in step(live, tmp_path, "prepared")["msg"]


def test_a_set_that_cannot_be_marked_is_restored_all_the_same(
    live: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backups.take(live, tmp_path)

    def full(folder: Path, evidence: Any) -> None:
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(restoration, "write_evidence", full)
    assert "could not be marked" in step(live, tmp_path, "prepared")["msg"]
    step(live, tmp_path, "swapped")


def test_a_member_of_a_missing_role_need_not_be_there(live: Database, tmp_path: Path) -> None:
    with maintenance(live) as session:
        session.execute("CREATE ROLE writers; CREATE ROLE app LOGIN; GRANT writers TO app")
        session.execute("ALTER ROLE writers SET work_mem = '9MB'")
    do(live, "GRANT INSERT ON item TO writers")
    backups.take(live, tmp_path)
    do(live, "REVOKE ALL ON item FROM writers")
    with maintenance(live) as session:
        session.execute("DROP ROLE app; DROP ROLE writers")
    try:
        step(live, tmp_path, "prepared", create_roles=True)
        found = ask(live, "SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'writers'::regrole")
        assert found == [(["work_mem=9MB"],)]
    finally:
        for side in databases(live).side:
            with maintenance(live) as session:
                session.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(side.name)))
        with maintenance(live) as session:
            session.execute("DROP ROLE writers")
