# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills for a server in a container: in a server of their own, from production's image, which is gone afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import drills
import lab
import pytest
from ansible.module_utils.runbook import backup_set, scratch_server
from project import Project, poll, short_folder
from test_docker_runtime import PASSWORD, connect, inspected, is_ready, psql, start

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("sidecars")]


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """Somebody's container with something in its database that belongs to a role of its own."""
    stack = lab.unique_name()
    preloading = "postgres -c shared_preload_libraries=auto_explain"
    environment = {"POSTGRES_USER": "app", "POSTGRES_DB": "shop", "POSTGRES_PASSWORD": PASSWORD}
    name = start(stack, command=preloading, **environment)
    poll(lambda: is_ready(name))
    psql(name, "CREATE ROLE clerk")
    psql(name, "CREATE TABLE part AS SELECT n FROM generate_series(1, 1000) AS n")
    psql(name, "ALTER TABLE part OWNER TO clerk")
    psql(name, drills.SLOW.format(4))
    yield name
    lab.down(stack)


@contextmanager
def playing(shop: str) -> Iterator[Project]:
    """The project with that container, and a folder for sets."""
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables = {"db_runtime": "docker", "db_container": shop, "backup_directory": str(folder / "sets")}
        project.secrets = [PASSWORD]
        yield project


@pytest.fixture(scope="module")
def taken(shop: str) -> Iterator[Path]:
    """A folder with a set of its database."""
    with playing(shop) as project:
        project.run("backup.yml")
        yield project.folder / "sets"


@pytest.fixture
def project(shop: str, taken: Path) -> Iterator[Project]:
    """The project with that container and a copy of the set."""
    with playing(shop) as project:
        shutil.copytree(taken, project.folder / "sets")
        yield project


def newest(project: Project) -> backup_set.BackupSet:
    """The newest set that counts."""
    return backup_set.sealed_sets(project.folder / "sets" / "shop")[-1]


def servers(shop: str) -> list[str]:
    """The scratch servers that there are for a container."""
    label = f"label={scratch_server.LABEL}=/{shop}/shop"
    return lab.docker("ps", "--all", "--quiet", "--filter", label).split()


def mounted(server: str) -> Path:
    """The folder of this machine that a scratch server has its socket in."""
    (mount,) = [one for one in inspected(server)["Mounts"] if one["Type"] == "bind"]
    return Path(mount["Source"])


def restoring(server: str) -> bool:
    """Whether the restore has come to what takes its time."""
    question = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    command = ["exec", server, "psql", "--no-psqlrc", "-U", "postgres", "-Atc", question]
    try:
        return lab.docker(*command) != "0"
    except lab.LabError:
        return False


def test_a_set_is_proven_in_a_server_of_its_own_that_nobody_else_reaches(project: Project, shop: str) -> None:
    process = project.start("drill.yml")
    (server,) = poll(lambda: servers(shop))
    poll(lambda: restoring(server))
    seen = inspected(server)
    folder = mounted(server)
    assert seen["Image"] == inspected(shop)["Image"]
    assert list(seen["NetworkSettings"]["Networks"]) == ["none"] and not seen["NetworkSettings"]["Ports"].get("x")
    assert folder.parent.stat().st_mode & 0o777 == 0o700 and PASSWORD not in json.dumps(seen)
    assert (
        lab.docker("exec", server, "psql", "-U", "postgres", "-Atc", "SHOW shared_preload_libraries") == "auto_explain"
    )
    login = "SELECT rolcanlogin FROM pg_roles WHERE rolname IN ('app', 'clerk')"
    assert lab.docker("exec", server, "psql", "-U", "postgres", "-Atc", login).split() == ["f", "f"]
    done = project.finish(process)

    assert done.changed == 1 and f"set {newest(project).name} is verified" in done.text
    found: Any = newest(project).evidence()
    assert found["image"] == seen["Image"] and found["server_version"] == 17 and found["phases"]["restore"] >= 4
    assert servers(shop) == [] and not folder.parent.exists()
    with connect(shop) as session:
        assert session.execute("SELECT count(*) FROM pg_database WHERE datname LIKE '%drill%'").fetchone() == (0,)
    assert lab.docker("volume", "ls", "--quiet", "--filter", f"name={seen['Mounts'][0].get('Name') or 'none'}") == ""


def test_what_a_drill_that_was_killed_leaves_the_next_one_removes(project: Project, shop: str) -> None:
    process = project.start("drill.yml")
    (left,) = poll(lambda: servers(shop))
    poll(lambda: restoring(left))
    folder = mounted(left)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    project._known |= project.leftovers()
    assert servers(shop) == [left] and newest(project).state == backup_set.SEALED
    assert project.run("drill.yml").changed == 1
    assert servers(shop) == [] and not folder.parent.exists()
    assert newest(project).state == backup_set.VERIFIED


def test_an_image_that_does_not_come_up_is_no_proof(project: Project, shop: str) -> None:
    one = newest(project)
    manifest = json.loads((one.path / backup_set.MANIFEST).read_text())
    manifest["server"]["preload_libraries"] = ["no_such_library"]
    (one.path / backup_set.MANIFEST).write_text(json.dumps(manifest))
    backup_set.write_checksums(one.path)
    failed = project.run("drill.yml", code=2)
    assert failed.error["code"] == "scratch-server" and "no_such_library" in failed.text
    assert f"{one.path} is not proven" in failed.text.replace("/ ", "/")
    assert servers(shop) == [] and newest(project).state == backup_set.SEALED


def test_a_socket_that_is_not_ours_to_remove_is_removed_by_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(tempfile.mkdtemp(prefix="schema-runbook-drill-", dir="/tmp"))
    (folder / "s").mkdir()
    (folder / "s" / ".s.PGSQL.5432").touch()
    ours, remove = iter([False, True]), shutil.rmtree

    def rmtree(path: Path, **options: Any) -> None:
        if not next(ours):
            raise PermissionError(path)
        assert list(path.iterdir()) == []
        remove(path, **options)

    monkeypatch.setattr(scratch_server.shutil, "rmtree", rmtree)
    scratch_server._remove("schema-runbook-none", folder, lab.POSTGRES_IMAGE)
    assert not folder.exists()
