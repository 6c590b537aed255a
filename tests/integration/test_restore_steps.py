# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps of a restore against a real server: what each promises, and what is left when it is killed or hindered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import backups
import engine
import psycopg
import pytest
from ansible.module_utils.runbook import embedded, restoration
from ansible.module_utils.runbook.backup_set import EVIDENCE
from ansible.module_utils.runbook.client import find_program
from ansible.module_utils.runbook.errors import RunbookError
from conftest import QUICK, Database, maintenance, read_password
from engine import ask, do
from project import ROOT, poll

# What a table of some size is made of: a restore that takes long enough to be killed.
FILL = "CREATE TABLE t AS SELECT g AS id, repeat(md5(g::text), 10) AS v FROM generate_series(1, {}) g"

_MODULE = """
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1] + "/module_utils")
from ansible.module_utils.runbook import embedded, restoration
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
login, params = json.load(sys.stdin)
try:
    print(restoration.run(Login(**login), params, False)["msg"])
except RunbookError as error:
    sys.exit(error.message)
"""


@pytest.fixture
def live(database: Database) -> Iterator[Database]:
    """A database whose side and kept databases are removed after the test."""
    yield database
    with maintenance(database) as session:
        for name in others(database):
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the sets are."""
    return tmp_path / "backups"


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Every option of ``database_restore``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in restoration.RESTORE_ARGUMENTS.items()}
    return {**defaults, "directory": str(folder), "run_lock_wait": "1s", **given}


def step(live: Database, folder: Path, state: str, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """Carry out one step; returns the module's result."""
    return restoration.run(engine.login(live), options(folder, state=state, **given), check_mode)


def restore(live: Database, folder: Path, **given: Any) -> dict[str, Any]:
    """Restore and swap; returns what the swap said."""
    step(live, folder, "prepared", **given)
    return step(live, folder, "swapped")


def refused(live: Database, folder: Path, state: str, **given: Any) -> RunbookError:
    """The error of a step that has to fail."""
    with pytest.raises(RunbookError) as caught:
        step(live, folder, state, **given)
    return caught.value


def start(live: Database, folder: Path, state: str, **given: Any) -> subprocess.Popen[str]:
    """Start a step in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MODULE, str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdin is not None
    login = {name: getattr(live, name) for name in ("host", "port", "user", "database", "password")}
    with process.stdin as stdin:
        json.dump([login, options(folder, state=state, **given)], stdin)
    process.stdin = None
    return process


def others(live: Database) -> dict[str, bool]:
    """The side and kept databases there are, and whether they take sessions."""
    with maintenance(live) as session:
        return dict(
            session.execute(
                "SELECT datname, datallowconn FROM pg_database WHERE starts_with(datname, %s)", [live.database + "_"]
            ).fetchall()
        )


def is_open(live: Database) -> bool:
    """Whether the live database takes sessions."""
    with maintenance(live) as session:
        row = session.execute("SELECT datallowconn FROM pg_database WHERE datname = %s", [live.database]).fetchone()
        return bool(row and row[0])


def side(live: Database) -> str:
    """The side database, waited for."""
    found: str = poll(lambda: next((name for name in others(live) if "_restore_" in name), ""))
    return found


def rows(live: Database) -> int:
    """How many rows the live table has."""
    return int(ask(live, "SELECT count(*) FROM t")[0][0])


# --- what is promised ------------------------------------------------------------------------------------------------


def test_undo_of_an_undo_goes_forward_again(live: Database, folder: Path) -> None:
    do(live, FILL.format(10))
    backups.take(live, folder)
    do(live, "DELETE FROM t WHERE id > 3")
    restore(live, folder)
    seen = [rows(live)]
    for _ in range(2):  # within one second, so that names have to differ by more than the time
        step(live, folder, "undone")
        seen.append(rows(live))
    assert seen == [10, 3, 10]
    assert list(others(live).values()) == [False]


def test_what_hangs_on_the_database_comes_along(live: Database, folder: Path) -> None:
    name = live.database
    do(live, FILL.format(1))
    with maintenance(live) as session:
        session.execute(f"COMMENT ON DATABASE {name} IS 'the shop''s'")
        session.execute(f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
        session.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 7")
        session.execute(f'ALTER DATABASE {name} SET search_path = "$user", "two words"')
        session.execute(f"ALTER DATABASE {name} SET my.setting = 'it''s'")
    question = (
        "SELECT datconnlimit, datacl::text, shobj_description(d.oid, 'pg_database'),"
        " (SELECT array_agg(one ORDER BY one)::text FROM unnest(setconfig) one)"
        " FROM pg_database d JOIN pg_db_role_setting ON setdatabase = d.oid WHERE datname = current_database()"
    )
    before = ask(live, question)
    backups.take(live, folder)
    restore(live, folder)
    assert ask(live, question) == before


def test_clients_that_reconnect_in_a_loop_wait_less_than_two_seconds(live: Database, folder: Path) -> None:
    do(live, FILL.format(100))
    backups.take(live, folder)
    step(live, folder, "prepared")
    stop = threading.Event()

    def client() -> None:
        while not stop.is_set():
            try:
                with live.connect() as session:
                    while not stop.is_set():
                        session.execute("INSERT INTO t VALUES (0, 'x')")
            except psycopg.Error:
                pass

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    try:
        poll(lambda: rows(live) > 120)
        swapped = step(live, folder, "swapped")
        undone = step(live, folder, "undone")
    finally:
        stop.set()
        for one in clients:
            one.join()
    assert swapped["downtime_ms"] < 2000 and undone["downtime_ms"] < 2000
    assert swapped["sessions_ended"] >= 1


def test_check_mode_of_a_set_that_is_restored_already_still_predicts_the_swap(live: Database, folder: Path) -> None:
    do(live, FILL.format(1))
    backups.take(live, folder)
    step(live, folder, "prepared")
    assert step(live, folder, "prepared", check_mode=True)["changed"] is True
    with live.connect() as session:
        session.execute("SELECT pg_advisory_lock(1)")
        assert step(live, folder, "prepared")["changed"] is False  # and nobody was in its way


def test_latest_is_the_proven_set_and_says_that_there_is_a_newer_one(live: Database, folder: Path) -> None:
    do(live, FILL.format(1))
    proven = backups.take(live, folder)["set"]
    restore(live, folder)
    step(live, folder, "confirmed")
    newer = _another(live, folder, proven)
    result = step(live, folder, "prepared", check_mode=True)
    assert result["set"] == proven
    assert f"restore_backup={newer}" in result["msg"]


def test_a_swap_that_nobody_confirmed_does_not_answer_for_another_set(live: Database, folder: Path) -> None:
    do(live, FILL.format(5))
    first = backups.take(live, folder)["set"]
    restore(live, folder)  # and the run dies here
    assert step(live, folder, "prepared", backup=first)["phase"] == "swapped"
    do(live, "DELETE FROM t WHERE id = 1")
    second = _another(live, folder, first)
    (folder / live.database / first / EVIDENCE).unlink()  # else the proven one would be the latest
    assert step(live, folder, "prepared")["set"] == second
    assert "no former database had to come back" in step(live, folder, "reversed")["msg"]


def test_only_a_swap_that_nobody_confirmed_is_reversed(live: Database, folder: Path) -> None:
    do(live, FILL.format(5))
    backups.take(live, folder)
    do(live, "DELETE FROM t")
    restore(live, folder)
    assert step(live, folder, "reversed")["changed"] is True
    assert rows(live) == 0
    restore(live, folder)
    step(live, folder, "confirmed")
    assert step(live, folder, "reversed")["changed"] is False
    assert rows(live) == 5


# --- killed and hindered ---------------------------------------------------------------------------------------------


def test_a_restore_that_is_killed_leaves_the_live_database_alone(live: Database, folder: Path) -> None:
    do(live, FILL.format(60_000), "CREATE INDEX ON t (v)")
    backups.take(live, folder)
    process = start(live, folder, "prepared")
    left = side(live)
    process.kill()
    process.communicate()
    assert rows(live) == 60_000 and is_open(live)

    assert step(live, folder, "prepared")["changed"] is True
    assert list(others(live).values()) == [False]
    assert side(live) != left or not others(live)[left]


def test_a_pg_restore_that_is_killed_leaves_nothing(live: Database, folder: Path) -> None:
    do(live, FILL.format(60_000), "CREATE INDEX ON t (v)")
    backups.take(live, folder)
    process = start(live, folder, "prepared")
    side(live)
    children = ["pgrep", "--parent", str(process.pid), "--full", "exit-on-error"]
    pid = poll(lambda: subprocess.run(children, capture_output=True, text=True, check=False).stdout.split())[0]
    os.kill(int(pid), signal.SIGKILL)
    output, _ = process.communicate()
    assert "pg_restore failed with exit status -9" in output
    assert others(live) == {} and is_open(live)


def test_a_kill_between_closing_and_renaming_is_taken_back_or_seen_through(live: Database, folder: Path) -> None:
    do(live, FILL.format(5))
    backups.take(live, folder)
    do(live, "DELETE FROM t")
    restore(live, folder)
    step(live, folder, "confirmed")  # an older kept database that nobody wants back
    for state, left in (("undone", 5), ("swapped", 5)):
        step(live, folder, "prepared")
        with live.connect() as stubborn:
            os.kill(stubborn.info.backend_pid, signal.SIGSTOP)
            process = start(live, folder, "swapped")
            poll(lambda: not is_open(live))
            process.kill()
            process.communicate()
            os.kill(stubborn.info.backend_pid, signal.SIGCONT)
        assert not is_open(live)
        assert step(live, folder, state)["changed"] is True
        assert is_open(live) and rows(live) == left


def test_what_would_keep_the_live_database_from_being_renamed_is_said_before(home: Path, folder: Path) -> None:
    settings = {**QUICK, "max_prepared_transactions": "2", "wal_level": "logical"}
    server, _ = embedded.start(embedded.Wanted(home=str(home), settings=settings))
    live = Database(server.host, server.port, server.user, "cm", server.passfile, read_password(server.passfile))
    do(live, FILL.format(1))
    backups.take(live, folder)
    do(live, "SELECT pg_create_logical_replication_slot('feed', 'pgoutput')")
    with live.connect() as session:
        session.execute("BEGIN")
        session.execute("INSERT INTO t VALUES (2, 'x')")
        session.execute("PREPARE TRANSACTION 'gid 1'")
    error = refused(live, folder, "prepared")
    assert error.code == "preflight" and '"gid 1"' in error.message and "feed" in error.message
    assert others(live) == {}

    do(live, "ROLLBACK PREPARED 'gid 1'")
    assert "feed" in step(live, folder, "prepared", slots="leave")["msg"]
    assert "feed" in refused(live, folder, "prepared").message  # restored already, and still in the way
    kept = step(live, folder, "swapped")["kept"]
    step(live, folder, "confirmed")
    assert "feed" in refused(live, folder, "dropped", kept=kept).message
    do(live, "SELECT pg_drop_replication_slot('feed')")
    assert step(live, folder, "dropped", kept=kept)["dropped"] == [kept]


def test_two_restores_at_once_are_one(live: Database, folder: Path) -> None:
    do(live, FILL.format(60_000), "CREATE INDEX ON t (v)")
    backups.take(live, folder)
    process = start(live, folder, "prepared")
    side(live)
    error = refused(live, folder, "prepared", run_lock_wait="0")
    assert error.code == "locked" and "lock restore" in error.message
    assert backups.refused(live, folder, run_lock_wait="0").code == "locked"
    output, _ = process.communicate()
    assert "verified" in output


# --- users who are no superuser --------------------------------------------------------------------------------------


@pytest.fixture
def owned(live: Database) -> Iterator[Database]:
    """The same database, owned by somebody who may create databases and nothing else."""
    owner = live.database + "_owner"
    with maintenance(live) as session:
        session.execute(f"CREATE ROLE {owner} LOGIN CREATEDB PASSWORD 'secret'")
        session.execute(f"ALTER DATABASE {live.database} OWNER TO {owner}")
    yield replace(live, user=owner, password="secret")
    with maintenance(live) as session:
        for name in [*others(live), live.database]:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        session.execute(f"DROP ROLE {owner}")


def test_an_owner_is_told_what_only_a_superuser_may_do(live: Database, owned: Database, folder: Path) -> None:
    do(owned, FILL.format(3))
    with maintenance(live) as session:
        session.execute(f"ALTER DATABASE {live.database} SET log_statement = 'all'")
    backups.take(owned, folder)
    made = step(owned, folder, "prepared")
    assert f'ALTER DATABASE "{live.database}" SET "log_statement" TO \'all\'' in made["msg"]
    with live.connect() as superuser:
        error = refused(owned, folder, "swapped", swap_timeout="1s")
        assert error.code == "in-use" and f"pid {superuser.info.backend_pid}" in error.message
    assert is_open(live)
    assert step(owned, folder, "swapped")["changed"] is True
    assert rows(owned) == 3


# --- plain files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(live: Database, tmp_path: Path) -> Path:
    """A file as the old ``ops/backup.sh`` wrote it, of a table with three rows."""
    do(live, FILL.format(3))
    address = ["--host", live.host, "--port", str(live.port), "--username", live.user, live.database]
    path = tmp_path / "cm_2026-11-01_120000.sql"
    with path.open("wb") as file:
        subprocess.run(
            [str(find_program("pg_dump", 18)), *address],
            env={**os.environ, "PGPASSWORD": live.password},
            stdout=file,
            check=True,
        )
    return path


def test_a_plain_file_is_restored_and_says_what_it_could_not_compare(live: Database, folder: Path, plain: Path) -> None:
    do(live, "DELETE FROM t")
    result = step(live, folder, "prepared", backup=str(plain))
    assert "nothing to compare rows with" in result["msg"]
    plain.write_text(plain.read_text().replace("3\t", "4\t"))  # the same path, another content
    assert step(live, folder, "prepared", backup=str(plain))["changed"] is True
    step(live, folder, "swapped")
    assert ask(live, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (4,)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("SET row_security", "\\! touch {witness}\nSET row_security", "backslash commands are restricted"),
        ("SET row_security", "\\connect postgres\nSET row_security", "backslash commands are restricted"),
        ("SET row_security", "\\unrestrict a\n\\! touch {witness}\nSET row_security", "wrong key"),
        ("CREATE TABLE public.t", "CREATE TABLE nowhere.t", 'schema "nowhere" does not exist'),
        ("-- PostgreSQL database dump complete", "-- PostgreSQL database dump com", "was cut off"),
    ],
)
def test_a_plain_file_with_something_wrong_in_it_changes_nothing(
    live: Database, folder: Path, plain: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    witness = tmp_path / "witness"
    plain.write_text(plain.read_text().replace(old, new.format(witness=witness)))
    assert said in refused(live, folder, "prepared", backup=str(plain)).message
    assert not witness.exists() and others(live) == {} and rows(live) == 3


def _another(live: Database, folder: Path, previous: str) -> str:
    """A further set, with a name of its own; names have whole seconds."""
    poll(lambda: ask(live, "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD\"T\"HH24MISS')")[0][0] > previous[:15])
    return str(backups.take(live, folder)["set"])
