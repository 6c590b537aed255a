# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets with a copy elsewhere: on a real SFTP server, where nothing but the key is left of the first machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import backups
import lab
import psycopg
import pytest
import vault
from ansible.module_utils.runbook import backup_set, client, embedded, source
from ansible.module_utils.runbook.backup_set import SetName, database_folder
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.offsite import Offsite
from ansible.module_utils.runbook.store import Store
from backups import leftovers, names, refused, sealed, take
from conftest import QUICK, Database, reachable_directory, read_password
from engine import ask, do
from lab import Host
from project import Project, poll, short_folder

KEEP_ONE = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_min_age": "0"}

# The lab's host and the second server are started once.
one_worker = pytest.mark.xdist_group("offsite")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the sets are."""
    return tmp_path / "backups"


@pytest.fixture
def far(tmp_path: Path) -> dict[str, str]:
    """Options for copies in another folder of this machine."""
    config = vault.remote(tmp_path, vault={"type": "alias", "remote": tmp_path / "far"})
    return {"offsite": "vault:sets", "offsite_config": str(config)}


@pytest.fixture(scope="module")
def sftp(engine: None) -> Iterator[Host]:
    """A host of the lab; its sshd is an SFTP server, as most are."""
    vault.require("rclone")
    with lab.running(["vault"]) as hosts:
        # sshd keeps out for a while whoever tried with a wrong key; other tests come from the same address.
        settings = "/etc/ssh/sshd_config.d/00-tests.conf"
        hosts[0].run("sh", "-c", f"echo PerSourcePenalties no > {settings} && systemctl reload ssh")
        yield hosts[0]


@pytest.fixture(scope="module")
def new_server() -> Iterator[embedded.Server]:
    """A server of another machine, which knows nothing of the first."""
    with reachable_directory() as parent:
        wanted = embedded.Wanted(home=str(parent / "server"), settings=QUICK)
        running, _reason = embedded.start(wanted)
        yield running
        embedded.remove(wanted)


def remote(folder: Path, host: Host, **different: Any) -> Path:
    """rclone's configuration for a host of the lab, whose key it knows."""
    options = {
        "type": "sftp",
        "host": host.address,
        "port": host.port,
        "user": host.user,
        "key_file": host.key,
        "known_hosts_file": host.known_hosts,
    }
    return vault.remote(folder, vault={**options, **different})


def elsewhere(options: dict[str, str], database: Any) -> list[str]:
    """The names of the sets that count at the other place."""
    place = Offsite(options["offsite"], options["offsite_config"])
    return [str(name) for name in place.names(database_folder(Path("/"), database.database).name)]


def on(server: embedded.Server, name: str) -> Database:
    """A database of the new server, which need not be there yet."""
    return Database(server.host, server.port, server.user, name, server.passfile, read_password(server.passfile))


def fill(database: Any, role: str) -> None:
    """A database that belongs to somebody, with a ledger."""
    do(
        database,
        f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'sesame'",
        "CREATE SCHEMA cm",
        "CREATE TABLE cm.schema_version (version int PRIMARY KEY, applied_at timestamptz, description text)",
        "INSERT INTO cm.schema_version VALUES (4)",
        "CREATE TABLE cm.orders (id bigserial PRIMARY KEY, customer text)",
        "INSERT INTO cm.orders (customer) SELECT 'customer ' || n FROM generate_series(1, 5000) AS n",
        f'ALTER TABLE cm.orders OWNER TO "{role}"',
        f'ALTER DATABASE "{database.database}" OWNER TO "{role}"',
    )


CONTENT = (
    "SELECT count(*), min(customer), pg_get_userbyid(max(c.relowner)) "
    "FROM cm.orders, pg_class c WHERE oid = 'cm.orders'::regclass"
)


@pytest.fixture
def role(database: Any, new_server: embedded.Server) -> Iterator[str]:
    """A role of the first server; the new one gets it from the set."""
    name = f"owner_{database.database}"
    yield name
    for server in (database, on(new_server, database.database)):
        with server.connect(dbname="postgres") as session:
            session.execute(f'DROP DATABASE IF EXISTS "{database.database}" WITH (FORCE)')
            session.execute(f'DROP ROLE IF EXISTS "{name}"')


# --- a new machine ---------------------------------------------------------------------------------------------------


@one_worker
def test_a_new_machine_restores_with_the_key_alone(
    database: Any, role: str, sftp: Host, new_server: embedded.Server, tmp_path: Path
) -> None:
    """What is left of the first machine is the project, the key and the way to the copies."""
    key = vault.new_key(tmp_path)
    fill(database, role)
    before = ask(database, CONTENT)
    place = {"backup_offsite": "vault:copies", "backup_offsite_config": str(remote(tmp_path, sftp))}
    with short_folder() as home, closing(Project(home, database)) as first:
        first.secrets.append(key.secret)
        run = first.run(
            "backup.yml", backup_directory=str(home / "backups"), backup_encrypt_to=[key.recipient], **place
        )
        assert "is sealed" in run.text and "vault:copies" in run.text
        (name,) = names(database, home / "backups")
    here = on(new_server, database.database)
    with short_folder() as home, closing(Project(home, here)) as second:
        second.secrets.append(key.secret)
        second.variables.update(
            place,
            backup_directory=str(home / "backups"),
            backup_decrypt_with=str(key.identity),
            restore_confirm=here.database,
            restore_create_roles=True,
        )
        predicted = second.run("restore.yml", "--check")
        assert f"{name} is only off-site" in predicted.text and not (home / "backups").exists()
        run = second.run("restore.yml")
        assert f"{name} is restored" in run.text
        assert ask(here, CONTENT) == before and before[0][2] == role
        (fetched,) = sealed(here, home / "backups")
        assert str(fetched.name) == name and fetched.state == backup_set.VERIFIED
        assert {path.stat().st_mode & 0o077 for path in fetched.path.rglob("*")} == {0}
    with psycopg.connect(host=here.host, port=here.port, user=role, password="sesame", dbname=here.database):
        pass  # the role came with its password


@one_worker
def test_a_new_machine_needs_nothing_of_this_project(
    database: Any, role: str, sftp: Host, new_server: embedded.Server, tmp_path: Path
) -> None:
    """rclone, age and PostgreSQL's own programs do, with the commands that the set brings along."""
    key, config = vault.new_key(tmp_path), remote(tmp_path, sftp)
    fill(database, role)
    before = ask(database, CONTENT)
    place = {"offsite": "vault:by hand", "offsite_config": str(config)}
    name = take(database, tmp_path / "backups", encrypt_to=[key.recipient], **place)["set"]
    shutil.rmtree(tmp_path / "backups")

    here, fetched = on(new_server, database.database), tmp_path / "fetched"
    folder = f"vault:by hand/{here.database}/{name}"
    subprocess.run(["rclone", f"--config={config}", "copy", folder, str(fetched)], check=True)
    lines = (fetched / "README.txt").read_text().splitlines()
    commands = [line.strip() for line in lines if line.startswith("    ") and not line.strip().startswith("age1")]
    programs = client.find_program("pg_restore", 18).parent
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PGHOST": here.host,
        "PGPORT": str(here.port),
        "PGUSER": here.user,
    }
    try:
        for command, password in zip(commands, [here.password] * 2 + [database.password] * 9, strict=False):
            typed = ["sh", "-c", command.replace("KEY", str(key.identity))]
            known = {**environment, "PGPASSWORD": password}  # from the second on it is the one that the roles had
            done = subprocess.run(typed, cwd=fetched, env=known, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
        with replace(here, password=database.password).connect() as session:
            assert session.execute(CONTENT).fetchall() == before
    finally:
        with replace(here, password=database.password).connect(dbname="postgres") as session:
            session.execute(f"ALTER ROLE {here.user} PASSWORD '{here.password}'")


# --- the way there ---------------------------------------------------------------------------------------------------


@one_worker
def test_a_server_that_is_not_the_known_one_gets_nothing(
    database: Any, sftp: Host, folder: Path, tmp_path: Path
) -> None:
    """Somebody else's key for that address, and nobody's."""
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    kind, public, *_ = other.with_suffix(".pub").read_text().split()
    for known in (f"{sftp.address} {kind} {public}\n", ""):
        (tmp_path / "known").write_text(known)
        config = remote(tmp_path, sftp, known_hosts_file=tmp_path / "known")
        error = refused(database, folder, offsite="vault:copies", offsite_config=str(config))
        assert error.code == "offsite" and "The server's host key is not the one that is known" in error.message
    config = remote(tmp_path, sftp, key_file=other)
    error = refused(database, folder, offsite="vault:copies", offsite_config=str(config))
    assert f"does not accept the key or password in {config}" in error.message
    assert names(database, folder) == [] and leftovers(folder) == []


@one_worker
def test_a_full_place_keeps_the_run_from_sealing(database: Any, sftp: Host, folder: Path, tmp_path: Path) -> None:
    do(database, "CREATE TABLE a AS SELECT gen_random_uuid() AS u FROM generate_series(1, 20000)")
    sftp.run("install", "--directory", "--owner=deploy", "/full")
    sftp.run("mount", "-t", "tmpfs", "-o", "size=100k,mode=777", "full", "/full")
    place = {"offsite": "vault:/full", "offsite_config": str(remote(tmp_path, sftp))}
    error = refused(database, folder, **place)
    assert error.code == "offsite" and "copying to vault:/full/" in error.message
    assert "There is no new set" in error.message
    assert names(database, folder) == [] and elsewhere(place, database) == []
    assert sftp.run("find", "/full", "-type", "f") == ""


@one_worker
def test_a_run_that_dies_while_it_copies_leaves_nothing_that_counts(
    database: Any, sftp: Host, folder: Path, tmp_path: Path
) -> None:
    do(database, "CREATE TABLE a AS SELECT n FROM generate_series(1, 1000) AS n")
    place = {"offsite": "vault:dying", "offsite_config": str(remote(tmp_path, sftp))}
    lab.docker("pause", sftp.container)
    try:
        process = backups.start(database, folder, **place)
        copying = poll(lambda: programs(process.pid, "rclone"))
        process.kill()
        process.communicate()
    finally:
        lab.docker("unpause", sftp.container)
    poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid in copying))  # rclone goes on without it
    assert names(database, folder) == [] and elsewhere(place, database) == []
    made = take(database, folder, run_lock_wait="10s", **place)["set"]
    assert names(database, folder) == [made] == elsewhere(place, database)


def programs(pid: int, name: str) -> list[int]:
    """The pids of a program below a process."""
    found = subprocess.run(["pgrep", "-P", str(pid), name], capture_output=True, text=True, check=False)
    return [int(one) for one in found.stdout.split()]


# --- sets come and go ------------------------------------------------------------------------------------------------


def test_sets_are_removed_at_both_places_or_at_one(database: Any, folder: Path, far: dict[str, str]) -> None:
    """Those from before there were copies, too."""
    names_of = [made["set"] for made in (take(database, folder, **more) for more in ({}, far, far))]
    assert names(database, folder) == names_of and elsewhere(far, database) == names_of[1:]
    result = take(database, folder, **far, **KEEP_ONE)
    assert result["removed"] == names_of
    assert names(database, folder) == [result["set"]] == elsewhere(far, database)
    last = take(database, folder, **far, **KEEP_ONE, offsite_prune=False)["set"]
    assert names(database, folder) == [last] and elsewhere(far, database) == [result["set"], last]


def test_a_copy_that_was_changed_there_is_not_taken_for_the_set(
    database: Any, folder: Path, far: dict[str, str], tmp_path: Path
) -> None:
    do(database, "CREATE TABLE a AS SELECT n FROM generate_series(1, 1000) AS n")
    made = Path(take(database, folder, **far)["folder"])
    shutil.rmtree(made)
    store = Store.of({"directory": str(folder), **far}, database.database)
    name = source.choose(store, "latest", [])
    assert isinstance(name, SetName) and str(name) == made.name
    (copied,) = (tmp_path / "far").rglob("toc.dat")
    vault.flip(copied, 50)
    with pytest.raises(RunbookError) as caught:
        source.fetch(store, name)
    assert caught.value.code == "set-damaged" and "dump/toc.dat" in caught.value.message
    assert list(store.folder.iterdir()) == []
    vault.flip(copied, 50)
    assert source.fetch(store, name).path == made
    assert names(database, folder) == [made.name]


def test_the_newest_of_both_places_is_chosen_and_a_name_finds_it_in_either(
    database: Any, folder: Path, far: dict[str, str]
) -> None:
    made = Path(take(database, folder, **far)["folder"])
    store = Store.of({"directory": str(folder), **far}, database.database)
    older = made.with_name(str(SetName((datetime.now(UTC) - timedelta(days=1)).replace(microsecond=0), 0)))
    made.rename(older)
    newest = source.choose(store, "latest", [])
    assert str(newest) == made.name
    found = source.choose(store, older.name, [])
    assert isinstance(found, source.Source) and found.path == older
    assert str(source.choose(store, made.name, [])) == made.name


def test_in_an_emergency_the_sets_here_will_do_and_it_is_said_that_there_may_be_newer_ones(
    database: Any, folder: Path, far: dict[str, str]
) -> None:
    made = Path(take(database, folder, **far)["folder"])
    gone = {**far, "offsite": "gone:sets"}
    store, notes = Store.of({"directory": str(folder), **gone}, database.database), []
    chosen = source.choose(store, "latest", notes)
    assert isinstance(chosen, source.Source) and chosen.path == made
    assert len(notes) == 1 and "off-site there may be newer ones" in notes[0]


def test_what_a_fetch_that_died_has_left_is_removed_by_the_next(
    database: Any, folder: Path, far: dict[str, str]
) -> None:
    made = Path(take(database, folder, **far)["folder"])
    left = made.rename(made.with_name("20200101T000000Z_v0.fetching"))
    store = Store.of({"directory": str(folder), **far}, database.database)
    name = SetName.parse(made.name)
    assert name is not None and source.fetch(store, name).path == made
    assert not left.exists()


def test_there_is_no_backup_without_the_copy_that_was_asked_for(
    database: Any, folder: Path, far: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(shutil.which("sh") or "") + "/nowhere")
    error = refused(database, folder, **far)
    assert error.code == "offsite" and "Install the package rclone" in error.message
    assert not folder.exists()


def test_a_name_is_a_folder_of_its_own_there_whatever_it_is(
    database: Any, folder: Path, far: dict[str, str], tmp_path: Path
) -> None:
    name = "../x/%2e{*}'\"\u2603"
    with database.connect(dbname="postgres") as session:
        session.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    odd = replace(database, database=name)
    try:
        made = take(odd, folder, **far)["set"]
        assert elsewhere(far, odd) == [made]
        (database_place,) = (tmp_path / "far" / "sets").iterdir()
        assert [path.name for path in database_place.iterdir()] == [made]
    finally:
        with database.connect(dbname="postgres") as session:
            session.execute(psycopg.sql.SQL("DROP DATABASE {}").format(psycopg.sql.Identifier(name)))
