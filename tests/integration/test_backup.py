# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets that are taken: what is in them, restoring them by hand as they say, which are kept, what is looked at first."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import backups
import pytest
from ansible.module_utils.runbook import backup_set, client
from ansible.module_utils.runbook.backup_set import SetName
from ansible.module_utils.runbook.connection import account
from backups import leftovers, names, refused, sealed, take
from engine import ask, do
from psycopg import sql

LEDGER = (
    "CREATE SCHEMA cm",
    "CREATE TABLE cm.schema_version (version int PRIMARY KEY, applied_at timestamptz, description text)",
    "INSERT INTO cm.schema_version VALUES (1), (7)",
)


@contextmanager
def another(database: Any, name: str) -> Iterator[Any]:
    """A further database on the same server, by any name."""
    with database.connect(dbname="postgres") as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield replace(database, database=name)
    finally:
        with database.connect(dbname="postgres") as session:
            session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def by_hand(database: Any, made: Path, commands: list[str]) -> str:
    """Type the commands of a set's README.txt in its folder; returns what they print."""
    (version,) = ask(
        replace(database, database="postgres"), "SELECT current_setting('server_version_num')::int / 10000"
    )
    bin_folder = client.find_program("pg_restore", *version).parent
    environment = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGUSER": database.user,
        "PGPASSWORD": database.password,
    }
    done = subprocess.run(
        ["sh", "-ec", "\n".join(commands)], cwd=made, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def commands_of(made: Path) -> list[str]:
    """The commands in a set's README.txt: the lines that are set in."""
    return [line.strip() for line in (made / "README.txt").read_text().splitlines() if line.startswith("    ")]


# --- what is in a set ------------------------------------------------------------------------------------------------


def test_a_set_describes_itself(database: Any, tmp_path: Path) -> None:
    do(
        database,
        *LEDGER,
        "CREATE EXTENSION citext",
        "CREATE TABLE cm.a (id bigserial PRIMARY KEY, t citext)",
        "INSERT INTO cm.a (t) SELECT repeat('x', n % 50) FROM generate_series(1, 1000) AS n",
        'CREATE UNLOGGED TABLE public."Odd one" (x int)',
        'INSERT INTO public."Odd one" VALUES (1), (2)',
        "CREATE TABLE public.p (n int) PARTITION BY LIST (n)",
        "CREATE TABLE public.p1 PARTITION OF public.p FOR VALUES IN (1)",
        "INSERT INTO public.p VALUES (1)",
        "SELECT lo_create(0), lo_create(0)",
        f"COMMENT ON DATABASE \"{database.database}\" IS 'ours'",
    )
    result = take(database, tmp_path)
    (made,) = sealed(database, tmp_path)
    assert result["changed"] and (result["set"], result["folder"]) == (str(made.name), str(made.path))
    assert made.name.schema_version == result["schema_version"] == 7
    assert abs(datetime.now(UTC) - made.name.taken_at) < timedelta(seconds=60)

    manifest = made.manifest()
    counts = {f"{table.schema}.{table.name}": table.rows for table in manifest.tables}
    assert counts == {"cm.schema_version": 2, "cm.a": 1000, "public.Odd one": 2, "public.p1": 1}
    assert [(one.name, one.last_value) for one in manifest.sequences] == [("a_id_seq", 1000)]
    assert [one.name for one in manifest.extensions] == ["citext"]
    assert manifest.large_objects == 2
    assert manifest.database.name == database.database and manifest.database.comment == "ours"
    assert manifest.roles == (database.user,)
    assert manifest.server.version // 10000 == int(manifest.client_version.split(".")[0])
    assert manifest.engine == "logical" and manifest.compression in ("zstd", "gzip")
    assert {"dump", "count", "roles"} <= set(manifest.seconds)
    assert result["rows"] == sum(counts.values()) and result["bytes"] == manifest.dump_bytes > 0
    assert "CREATE ROLE" in (made.path / "globals.sql").read_text()


def test_a_set_is_for_its_owner_alone(database: Any, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "backups"
    take(database, folder)
    paths = [folder.parent, folder, *folder.rglob("*")]
    modes = {(path.is_dir(), path.stat().st_mode & 0o777, path.stat().st_uid) for path in paths}
    assert modes == {(True, 0o700, os.geteuid()), (False, 0o600, os.geteuid())}


def test_rows_are_counted_in_the_snapshot_of_the_dump(database: Any, tmp_path: Path) -> None:
    do(database, "CREATE TABLE a (n int)", "CREATE TABLE b (n int)")
    stop = threading.Event()

    def write() -> None:
        with database.connect() as session:
            while not stop.is_set():
                session.execute("WITH x AS (INSERT INTO a VALUES (1)) INSERT INTO b VALUES (1)")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = Path(take(database, tmp_path)["folder"])
    finally:
        stop.set()
        writer.join()
    rows = {table.name: table.rows for table in sealed(database, tmp_path)[0].manifest().tables}
    assert rows["a"] == rows["b"] < ask(database, "SELECT count(*) FROM a")[0][0]
    listed = by_hand(database, made, ["pg_restore --data-only --table=a --file=- dump"])
    assert len(re.findall(r"^1$", listed, re.MULTILINE)) == rows["a"]


@pytest.mark.parametrize(
    "name",
    ["Quo\"te's", "UPPER-dash and space", "ünïcode ☃", "dbname=postgres", "postgresql://other/x", "a/b..%41", "-rf"],
)
def test_any_name_is_backed_up_and_restored_by_hand(name: str, database: Any, tmp_path: Path) -> None:
    owner = f"owner {database.database}"
    with another(database, name) as odd:
        do(
            odd,
            *LEDGER,
            f'CREATE ROLE "{owner}"',
            "CREATE TABLE cm.part (id int PRIMARY KEY, t text)",
            "INSERT INTO cm.part SELECT n, 'é' FROM generate_series(1, 500) AS n",
            f'ALTER TABLE cm.part OWNER TO "{owner}"',
        )
        quoted = sql.Identifier(name).as_string()
        do(
            odd,
            f'ALTER DATABASE {quoted} OWNER TO "{owner}"',
            f"ALTER DATABASE {quoted} SET search_path = cm, \"$user\", 'Od d'",
            f"ALTER ROLE \"{owner}\" IN DATABASE {quoted} SET work_mem = '8MB'",
            f"REVOKE CONNECT ON DATABASE {quoted} FROM PUBLIC",
            f"COMMENT ON DATABASE {quoted} IS 'it''s'",
        )
        try:
            before = description(odd)
            made = Path(take(odd, tmp_path)["folder"])
            with odd.connect(dbname="postgres") as session:
                session.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            printed = by_hand(odd, made, commands_of(made))
            assert "already exists" in printed
            assert description(odd) == before
            assert ask(odd, "SELECT count(*), min(t) FROM part") == [(500, "é")]  # found by the search_path it had
        finally:
            with odd.connect(dbname="postgres") as session:
                for command in ("ALTER DATABASE {} OWNER TO cm", "DROP DATABASE {} WITH (FORCE)"):
                    session.execute(sql.SQL(command).format(sql.Identifier(name)))
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


def description(database: Any) -> list[Any]:
    """What hangs on a database, its owner, privileges, settings and comment, in PostgreSQL's own words."""
    return ask(
        database,
        "SELECT pg_get_userbyid(datdba), datacl::text, shobj_description(d.oid, 'pg_database'), datcollate, encoding, "
        "(SELECT array_agg(setrole::regrole::text || array_to_string(setconfig, ' ') ORDER BY 1) "
        "   FROM pg_db_role_setting WHERE setdatabase = d.oid) "
        "FROM pg_database d WHERE datname = current_database()",
    )


def test_an_empty_database_without_a_ledger_has_a_set_too(database: Any, tmp_path: Path) -> None:
    assert take(database, tmp_path)["schema_version"] == 0
    (made,) = sealed(database, tmp_path)
    assert made.manifest().tables == () and str(made.name).endswith("_v0")


def test_compression_is_as_asked_for(database: Any, tmp_path: Path) -> None:
    do(database, "CREATE TABLE a AS SELECT n FROM generate_series(1, 100) AS n")
    for compression, suffix in (("none", ".dat"), ("gzip", ".dat.gz")):
        made = Path(take(database, tmp_path / compression, compression=compression)["folder"])
        assert [path.name for path in (made / "dump").glob("[0-9]*")][0].endswith(suffix)


def test_the_role_of_the_login_is_the_one_that_dumps(database: Any, tmp_path: Path) -> None:
    role = f"r{database.database}"
    do(
        database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x' NOBYPASSRLS",
        "CREATE TABLE a (n int)",
        "INSERT INTO a VALUES (1)",
    )
    do(database, f"GRANT SELECT ON a TO {role}")
    try:
        made = Path(take(replace(database, user=role, password="x"), tmp_path)["folder"])
        assert "PASSWORD" not in (made / "globals.sql").read_text()  # which only a superuser can read
        assert not sealed(database, tmp_path)[0].manifest().roles_have_passwords
    finally:
        do(database, f"REVOKE ALL ON a FROM {role}", f"DROP ROLE {role}")


# --- what is looked at before ----------------------------------------------------------------------------------------


def test_rows_that_may_not_be_read_are_named_before_anything_is_begun(database: Any, tmp_path: Path) -> None:
    role = f"r{database.database}"
    do(
        database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        "CREATE TABLE open (n int)",
        f"GRANT SELECT ON open TO {role}",
        'CREATE TABLE "se cret" (n int)',
    )
    reader = replace(database, user=role, password="x")
    try:
        error = refused(reader, tmp_path)
        assert error.code == "unreadable" and 'public."se cret"' in error.message and "open" not in error.message
        do(database, f'GRANT SELECT ON "se cret" TO {role}', 'ALTER TABLE "se cret" ENABLE ROW LEVEL SECURITY')
        error = refused(reader, tmp_path)
        assert error.code == "unreadable" and "BYPASSRLS" in error.message
        assert list(tmp_path.iterdir()) == []
        do(database, f"ALTER ROLE {role} BYPASSRLS")
        assert take(reader, tmp_path)["changed"]
    finally:
        do(database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"directory": "backups"}, "depends on where the module happens to run"),
        ({"jobs": 0}, "jobs is 0"),
        ({"keep_daily": -1}, "keep_daily is -1"),
        ({"max_age": "1 week"}, "max_age"),
        ({"encrypt_to": ["age1nonsense"]}, "no backup without the encryption"),
        ({"offsite": ":sftp,pass=x:path"}, "names no place"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    given: dict[str, Any], said: str, database: Any, tmp_path: Path
) -> None:
    error = refused(database, tmp_path, **given)
    assert said in error.message
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_may_not_be_written_to_is_named_with_what_to_do(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    error = refused(database, tmp_path / "of" / "others")
    assert error.code == "file" and f"must not write to {tmp_path}" in error.message
    assert f"install -d -m 0700 -o {account()} {tmp_path}/of/others" in error.message


# --- a set that is young enough --------------------------------------------------------------------------------------


def test_a_young_set_of_the_present_version_is_good_enough(database: Any, tmp_path: Path) -> None:
    do(database, *LEDGER)
    first = take(database, tmp_path, max_age="1h")
    assert first["changed"]
    again = take(database, tmp_path, max_age="1h")
    assert not again["changed"] and again["set"] == first["set"] and again["folder"] == first["folder"]
    assert names(database, tmp_path) == [first["set"]]


def test_a_young_set_of_another_version_is_not(database: Any, tmp_path: Path) -> None:
    do(database, *LEDGER)
    take(database, tmp_path)
    do(database, "INSERT INTO cm.schema_version VALUES (8)")
    assert take(database, tmp_path, max_age="1h")["changed"]
    assert [name.rpartition("_")[2] for name in names(database, tmp_path)] == ["v7", "v8"]


def test_an_old_set_is_not_and_neither_is_one_from_the_future(database: Any, tmp_path: Path) -> None:
    made = Path(take(database, tmp_path)["folder"])
    for age in (timedelta(hours=2), -timedelta(hours=2)):
        moved = made.with_name(str(SetName((datetime.now(UTC) - age).replace(microsecond=0), 0)))
        made.rename(moved)
        made = moved
        assert take(database, tmp_path, check_mode=True, max_age="1h")["changed"]


# --- check mode and retention ----------------------------------------------------------------------------------------


def earlier(made: Path, *ages: timedelta) -> list[str]:
    """Copies of a set, as if they had been taken so long ago; their names, oldest first."""
    found = []
    for age in sorted(ages, reverse=True):
        name = str(SetName((datetime.now(UTC) - age).replace(microsecond=0), 0))
        shutil.copytree(made, made.with_name(name))
        found.append(name)
    return found


def test_check_mode_predicts_and_touches_nothing(database: Any, tmp_path: Path) -> None:
    predicted = take(database, tmp_path, check_mode=True)
    assert predicted["changed"] and predicted["removed"] == [] and "would be taken" in predicted["msg"]
    assert list(tmp_path.iterdir()) == []
    made = Path(take(database, tmp_path)["folder"])
    old = earlier(made, timedelta(days=3), timedelta(days=2), timedelta(days=1))
    before = sorted(tmp_path.rglob("*"))
    policy = {"keep_last": 2, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_min_age": "0"}
    predicted = take(database, tmp_path, check_mode=True, **policy)
    assert predicted["removed"] == old
    lines = [set(predicted["diff"][side].splitlines()) for side in ("before", "after")]
    assert lines[0] - lines[1] == set(old) and lines[1] - lines[0] == {"(a new set)"}
    assert sorted(tmp_path.rglob("*")) == before
    with database.connect() as holder:  # it takes no run lock, and changes nothing in the server
        holder.execute("SELECT 1")


def test_old_sets_go_after_a_success_and_never_the_newest_verified_one(database: Any, tmp_path: Path) -> None:
    made = Path(take(database, tmp_path)["folder"])
    old = earlier(made, *(timedelta(days=number) for number in range(1, 6)))
    (made.with_name(old[1]) / backup_set.EVIDENCE).write_text("{}")
    policy = {"keep_last": 2, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_min_age": "0"}
    result = take(database, tmp_path, **policy)
    assert result["removed"] == [old[0], *old[2:]]
    assert names(database, tmp_path) == [old[1], made.name, result["set"]] and result["kept"] == 3
    assert leftovers(tmp_path) == []


def test_failing_runs_remove_nothing_however_many(database: Any, tmp_path: Path) -> None:
    made = Path(take(database, tmp_path)["folder"])
    old = earlier(made, *(timedelta(days=number) for number in range(1, 4)))
    policy = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_min_age": "0"}
    do(database, "CREATE TABLE a (n int)")
    with database.connect() as session, session.transaction():
        session.execute("LOCK TABLE a")
        for _ in range(3):
            refused(database, tmp_path, lock_wait="100ms", **policy)
    assert names(database, tmp_path) == [*old, made.name]


def test_a_set_that_cannot_be_removed_does_not_hide_the_new_one(
    database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Path(take(database, tmp_path)["folder"])
    (old,) = earlier(made, timedelta(days=9))

    def fail(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr("ansible.module_utils.runbook.backup.shutil.rmtree", fail)
    policy = {"keep_last": 2, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_min_age": "0"}
    error = refused(database, tmp_path, **policy)
    assert error.code == "retention" and error.details["set"] == names(database, tmp_path)[-1]
    assert "sealed and counts" in error.message and old not in names(database, tmp_path)


def test_everything_is_asked_under_the_name_of_the_operation(database: Any, tmp_path: Path) -> None:
    do(database, "CREATE TABLE a (n int)")
    with database.connect() as session:
        with session.transaction():
            session.execute("LOCK TABLE a")
            process = backups.start(database, tmp_path, lock_wait="30s")
            seen = engine_sessions(database)
        assert process.wait(timeout=30) == 0
    assert {name.split()[1] for name in seen} == {"backup"}


def engine_sessions(database: Any) -> set[str]:
    """The names of a backup's sessions in the database, once one of them waits for a lock."""
    from project import poll

    def waiting() -> set[str]:
        rows = ask(
            database,
            "SELECT application_name, wait_event_type FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> ''",
        )
        return {name for name, _ in rows} if any(event == "Lock" for _, event in rows) else set()

    return set(poll(waiting))


def test_a_young_set_that_is_not_what_would_be_taken_is_not_good_enough(database: Any, tmp_path: Path) -> None:
    first = take(database, tmp_path)["set"]
    assert not take(database, tmp_path, max_age="1h")["changed"]
    dump = next((sealed(database, tmp_path)[0].path / "dump").iterdir())
    content = dump.read_bytes()
    dump.write_bytes(b"")
    again = take(database, tmp_path, max_age="1h")
    assert again["changed"] and again["set"] != first
    dump.write_bytes(content)
