# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypted sets: nothing readable on any disk, nothing that looks whole and is not, and the way back by hand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import backups
import disk
import pytest
import vault
from ansible.module_utils.runbook import backup_set, client, facts, restoration
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import Table
from ansible.module_utils.runbook.restoration import RESTORE_ARGUMENTS
from backups import leftovers, names, refused, sealed, take
from engine import ask, do, login
from project import poll
from vault import Key

SECRET = "the colour of the vault is 4711"


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """A pair of keys of the test's own."""
    return vault.new_key(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the sets are."""
    return tmp_path / "backups"


@pytest.fixture
def filled(database: Any) -> Any:
    """A database with something to hide, a role's password included."""
    do(
        database,
        "CREATE TABLE a (id int PRIMARY KEY, t text)",
        "CREATE TABLE of_pg_dump (n int) PARTITION BY LIST (n)",
        f"INSERT INTO a SELECT n, '{SECRET} ' || n FROM generate_series(1, 20000) AS n",
    )
    return database


def restore(database: Any, folder: Path, **given: Any) -> dict[str, Any]:
    """Restore the newest set beside the live database, and swap."""
    defaults = {name: argument.get("default") for name, argument in RESTORE_ARGUMENTS.items()}
    params = {**defaults, "directory": str(folder), "confirmation": database.database, "run_lock_wait": "1s", **given}
    restoration.run(login(database), params, False)
    restoration.run(login(database), {**params, "state": restoration.SWAPPED}, False)
    return restoration.run(login(database), {**params, "state": restoration.CONFIRMED}, False)


@pytest.fixture
def dropping(database: Any) -> Iterator[None]:
    """Remove the databases that a restore keeps."""
    yield
    with database.connect(dbname="postgres") as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [f"{database.database}_"]
        ).fetchall()
        for (name,) in rows:
            session.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


# --- there and back --------------------------------------------------------------------------------------------------


def test_nothing_on_the_disk_can_be_read_without_the_key(filled: Any, folder: Path, key: Key) -> None:
    result = take(filled, folder, encrypt_to=[key.recipient])
    assert result["encrypted"]
    (made,) = sealed(filled, folder)
    files = {path.name: path.read_bytes() for path in made.path.rglob("*") if path.is_file()}
    assert set(files) == {
        "dump.pgc.age",
        "globals.sql.age",
        "manifest.json",
        "README.txt",
        "database.sql",
        "SHA256SUMS",
    }
    for content in files.values():
        assert b"colour of the vault" not in content and b"SCRAM-SHA-256" not in content
    assert made.manifest().recipients == (key.recipient,) and made.manifest().format == "custom"
    assert key.recipient in files["README.txt"].decode()
    done = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=made.path, check=False)
    assert done.returncode == 0


def test_a_table_that_is_not_in_the_dump_is_missed_though_nobody_here_could_read_it(
    filled: Any, folder: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = facts.tables
    monkeypatch.setattr(facts, "tables", lambda session: (*counted(session), Table("public", "ghost", 3)))
    error = refused(filled, folder, encrypt_to=[key.recipient])
    assert error.code == "incomplete" and "no rows of public.ghost," in error.message
    assert names(filled, folder) == [] and leftovers(folder) == []


@pytest.mark.usefixtures("dropping")
def test_it_is_restored_with_the_key(filled: Any, folder: Path, key: Key) -> None:
    take(filled, folder, encrypt_to=[key.recipient])
    do(filled, "DROP TABLE a")
    restore(filled, folder, decrypt_with=str(key.identity))
    assert ask(filled, "SELECT count(*), min(t) FROM a") == [(20000, f"{SECRET} 1")]
    (made,) = sealed(filled, folder)
    assert made.state == backup_set.VERIFIED


def test_the_wrong_key_is_refused_before_anything_is_created(
    filled: Any, folder: Path, key: Key, tmp_path: Path
) -> None:
    other = vault.new_key(tmp_path, "other")
    take(filled, folder, encrypt_to=[key.recipient])
    for identity, said in ((str(other.identity), "no identity matched"), ("", "name the file with the secret key")):
        with pytest.raises(RunbookError) as caught:
            restore(filled, folder, decrypt_with=identity)
        assert caught.value.code == "preflight" and said in caught.value.message
        assert ask(filled, "SELECT count(*) FROM pg_database WHERE starts_with(datname, current_database())") == [(1,)]


def test_a_changed_byte_is_found_by_the_checksums_and_by_age_itself(
    filled: Any, folder: Path, key: Key, tmp_path: Path
) -> None:
    """Whoever can change the dump may change its checksum as well."""
    made = Path(take(filled, folder, encrypt_to=[key.recipient])["folder"])
    vault.flip(made / backup_set.ENCRYPTED_DUMP, -5000)
    with pytest.raises(RunbookError, match="has other content"):
        restore(filled, folder, decrypt_with=str(key.identity))
    backup_set.write_checksums(made)
    with pytest.raises(RunbookError, match="failed to decrypt and authenticate"):
        restore(filled, folder, decrypt_with=str(key.identity))
    assert ask(filled, "SELECT count(*) FROM pg_database WHERE starts_with(datname, current_database())") == [(1,)]
    assert ask(filled, "SELECT count(*) FROM a") == [(20000,)]


# --- a dump that fails -----------------------------------------------------------------------------------------------


@contextmanager
def dumping(database: Any, folder: Path, key: Key) -> Iterator[subprocess.Popen[str]]:
    """A backup whose pg_dump is at work: it waits for a table that is in nobody's way but its own."""
    with database.connect() as session, session.transaction():
        session.execute("LOCK TABLE ONLY of_pg_dump")
        process = backups.start(database, folder, encrypt_to=[key.recipient], lock_wait="1min")
        poll(lambda: ask(database, "SELECT FROM pg_locks WHERE NOT granted AND relation = 'of_pg_dump'::regclass"))
        yield process


def programs(process: subprocess.Popen[str], name: str) -> list[str]:
    """The pids of a program below a process."""
    found = subprocess.run(["pgrep", "-P", str(process.pid), name], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_a_dump_that_dies_leaves_no_set(filled: Any, folder: Path, key: Key) -> None:
    """age would make a proper end of the half that it was given."""
    with dumping(filled, folder, key) as process:
        subprocess.run(["kill", "-KILL", *programs(process, "pg_dump")], check=True)
        _, complaint = process.communicate(timeout=30)
    assert process.returncode == 1 and "pg_dump failed with exit status -9" in complaint
    assert names(filled, folder) == [] and leftovers(folder) == []


def test_when_age_dies_that_is_the_reason(filled: Any, folder: Path, key: Key) -> None:
    with dumping(filled, folder, key) as process:
        subprocess.run(["kill", "-TERM", *programs(process, "age")], check=True)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 1 and "age could not write" in complaint and "exit status" not in complaint
    assert names(filled, folder) == [] and leftovers(folder) == []


def test_a_run_that_dies_leaves_nothing_that_counts(filled: Any, folder: Path, key: Key) -> None:
    with dumping(filled, folder, key) as process:
        process.kill()
        process.communicate()
    assert names(filled, folder) == [] and len(leftovers(folder)) == 1
    assert take(filled, folder, encrypt_to=[key.recipient], run_lock_wait="10s")["changed"]
    assert len(names(filled, folder)) == 1 and leftovers(folder) == []


def test_a_full_disk_is_the_reason_and_not_a_broken_pipe(
    filled: Any, tmp_path: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(filled, "CREATE TABLE b AS SELECT gen_random_uuid() AS u FROM generate_series(1, 50000)", "DROP TABLE a")
    monkeypatch.setattr("ansible.module_utils.runbook.backup.space.require", lambda *_: None)
    with disk.small_disk(tmp_path / "disk", "200k") as place:
        error = refused(filled, place, encrypt_to=[key.recipient])
    assert error.code == "disk-full" and "age could not write" in error.message


def test_without_age_there_is_no_backup_at_all(
    filled: Any, folder: Path, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder))
    error = refused(filled, folder, encrypt_to=[key.recipient])
    assert error.code == "encryption" and not folder.exists()


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_the_readme_is_all_it_takes_beside_the_key(filled: Any, folder: Path, key: Key, tmp_path: Path) -> None:
    """Its commands, typed as they are, the key where it says KEY."""
    made = Path(take(filled, folder, encrypt_to=[key.recipient])["folder"])
    elsewhere = tmp_path / "elsewhere"
    shutil.move(made, elsewhere)
    do(replace(filled, database="postgres"), f'DROP DATABASE "{filled.database}" WITH (FORCE)')
    lines = (elsewhere / "README.txt").read_text().splitlines()
    commands = [line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("age1")]
    (version,) = ask(replace(filled, database="postgres"), "SELECT current_setting('server_version_num')::int / 10000")
    environment = {
        "PATH": f"{client.find_program('pg_restore', *version).parent}:/usr/bin:/bin",
        "PGHOST": filled.host,
        "PGPORT": str(filled.port),
        "PGUSER": filled.user,
        "PGPASSWORD": filled.password,
    }
    script = "\n".join(command.replace("KEY", str(key.identity)) for command in commands)
    done = subprocess.run(
        ["sh", "-ec", script], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ask(filled, "SELECT count(*), min(t) FROM a") == [(20000, f"{SECRET} 1")]
