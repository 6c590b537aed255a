# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a server in a container, by the client programs of its own image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import backups
import lab
import pytest
from ansible.module_utils.runbook import backup, backup_set, container
from ansible.module_utils.runbook.connection import Login
from backups import options
from conftest import Database
from project import Project, poll, short_folder
from test_docker_runtime import PASSWORD, connect, inspected, is_ready, psql, start

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("sidecars")]


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """Somebody's container with something in its database."""
    stack = lab.unique_name()
    name = start(stack, POSTGRES_USER="app", POSTGRES_DB="shop", POSTGRES_PASSWORD=PASSWORD)
    poll(lambda: is_ready(name))
    psql(name, "CREATE TABLE part AS SELECT n, sha256(n::text::bytea) AS photo FROM generate_series(1, 1000) AS n")
    psql(name, "CREATE TABLE kind (n int) PARTITION BY LIST (n)")
    yield name
    lab.down(stack)


@pytest.fixture
def project(shop: str) -> Iterator[Project]:
    """The project with that container, and a folder for its sets."""
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables = {"db_runtime": "docker", "db_container": shop, "backup_directory": str(folder / "sets")}
        project.secrets = [PASSWORD]
        yield project


def sealed(folder: Path) -> list[backup_set.BackupSet]:
    """The sets of the container's database, each of them whole."""
    found = backup_set.sealed_sets(folder / "sets" / "shop")
    for one in found:
        backup_set.check_checksums(one.path)
    return found


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Somebody who keeps pg_dump, and nobody else, from reading a table, as long as there is a server."""
    session = connect(name)
    session.execute("BEGIN")
    session.execute("LOCK TABLE ONLY kind")
    try:
        yield
    finally:
        session.close()


def waiting(name: str) -> bool:
    """Whether a pg_dump waits for a lock in a container's server."""
    question = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'LOCK TABLE%'"
    return psql(name, question) != "0"


def sidecars(name: str) -> list[str]:
    """The containers that client programs for a container's server are in; other tests may have theirs."""
    network = f"container:{inspected(name)['Id']}"
    found = lab.docker("ps", "--all", "--quiet", "--filter", "name=schema-runbook-pg_").split()
    return [one for one in found if network_of(one) == network]


def network_of(one: str) -> str:
    """A container's network; one of somebody else's may be gone by now."""
    try:
        return lab.docker("inspect", "--format", "{{.HostConfig.NetworkMode}}", one)
    except lab.LabError:
        return ""


def test_a_set_is_made_by_the_servers_own_programs_and_belongs_to_the_caller(project: Project, shop: str) -> None:
    project.run("backup.yml")
    (made,) = sealed(project.folder)
    manifest = made.manifest()
    assert manifest.compression == "zstd" and manifest.client_version.startswith("17.")
    assert [(table.name, table.rows) for table in manifest.tables] == [("part", 1000)]
    modes = {(path.is_dir(), path.stat().st_mode & 0o777, path.stat().st_uid) for path in made.path.rglob("*")}
    assert modes == {(True, 0o700, os.geteuid()), (False, 0o600, os.geteuid())}
    assert sidecars(shop) == []


def test_what_the_sidecar_writes_belongs_to_whoever_asked_for_it(
    shop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can pretend to be somebody else")
    nobody = 65534
    server = container.server(inspected(shop))
    login = Login(server.host, server.port, server.user, "shop", PASSWORD)
    (tmp_path / "shop").mkdir()
    made_by_root = Path.mkdir

    def mkdir(path: Path, *given: Any, **named: Any) -> None:
        made_by_root(path, *given, **named)
        os.chown(path, nobody, nobody)

    monkeypatch.setattr(os, "geteuid", lambda: nobody)
    monkeypatch.setattr(os, "getegid", lambda: nobody)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    params = options(tmp_path, client_container=server.container, client_image=server.image, client_port=5432)
    made = Path(backup.take(login, params, False)["folder"])
    assert {path.stat().st_uid for path in (made / "dump").rglob("*")} == {nobody}


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_container_that_goes_away_in_mid_dump_leaves_no_set(project: Project, shop: str, how: str) -> None:
    project.run("backup.yml")
    with locked(shop):
        running = project.start("backup.yml", backup_lock_wait="5min")
        poll(lambda: waiting(shop), seconds=60)
        lab.docker(*([how, "--time=5"] if how == "restart" else [how]), shop)
        failed = project.finish(running, code=2)
    assert "There is no new set" in failed.text
    assert len(sealed(project.folder)) == 1
    assert list((project.folder / "sets").glob("*/*.partial")) == []
    assert sidecars(shop) == []
    lab.docker("start", shop)
    poll(lambda: is_ready(shop))
    project.run("backup.yml")
    assert len(sealed(project.folder)) == 2


def test_a_sidecar_that_a_killed_run_left_at_work_is_ended(shop: str, tmp_path: Path) -> None:
    server = container.server(inspected(shop))
    database = Database(server.host, server.port, server.user, "shop", Path(), PASSWORD)
    client = {"client_container": server.container, "client_image": server.image}
    with locked(shop):
        process = backups.start(database, tmp_path, **client, lock_wait="5min")
        poll(lambda: waiting(shop), seconds=60)
        process.kill()
        process.communicate()
        assert sidecars(shop) != [] and backups.leftovers(tmp_path) != []
        backups.refused(database, tmp_path, **client, lock_wait="200ms", run_lock_wait="10s")
        poll(lambda: sidecars(shop) == [])
    assert backups.take(database, tmp_path, **client)["changed"]
    assert backups.leftovers(tmp_path) == [] and len(backups.sealed(database, tmp_path)) == 1
