# SPDX-License-Identifier: GPL-3.0-or-later
"""A set that was taken of one kind of server is restored on the others, of the same or a newer major version."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import engine as sql
import lab
import pytest
from project import Project, poll, short_folder
from test_docker_runtime import PASSWORD, ask, is_ready, psql, start
from test_native_runtime import Remote
from test_native_runtime import ask as ask_native
from test_native_runtime import psql as psql_native

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("sidecars")]

CONTENT = "SELECT count(*)::text || md5(string_agg(photo::text, ',' ORDER BY n)) FROM part"
FILL = "CREATE TABLE part AS SELECT n, sha256(n::text::bytea) AS photo FROM generate_series(1, {}) AS n"


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """PostgreSQL 17 in a container, with the names of the first user and 700 rows."""
    stack = lab.unique_name()
    name = start(stack, POSTGRES_USER="cm", POSTGRES_DB="cm", POSTGRES_PASSWORD=PASSWORD)
    poll(lambda: is_ready(name))
    psql(name, FILL.format(700))
    yield name
    lab.down(stack)


@pytest.fixture
def docker(container: str) -> Iterator[Project]:
    """The project with that container."""
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables |= {"db_runtime": "docker", "db_container": container}
        project.secrets = [PASSWORD]
        yield project


@pytest.fixture
def embedded(database: Any) -> Iterator[Project]:
    """The project with the embedded server, PostgreSQL 18."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        yield project


@pytest.fixture
def native() -> Iterator[Remote]:
    """The project with PostgreSQL 17 on another host."""
    with lab.running(["db"]) as (host,), short_folder() as folder:
        host.run("pg_createcluster", "17", "main", "--start", "--", "--locale=C.UTF-8")
        host.run("useradd", "--system", "--no-create-home", "--shell=/usr/sbin/nologin", "cm")
        psql_native(host, "CREATE ROLE cm LOGIN CREATEDB")
        psql_native(host, "CREATE DATABASE cm OWNER cm")
        with closing(Remote(folder, host)) as project:
            project.run("prepare.yml")
            yield project


def take(project: Project, **variables: str) -> str:
    """Have a set of the project's database taken; returns its folder, on the host that modules run on."""
    done = project.run("backup.yml", **variables)
    place = re.search(r"is sealed in (\S+):", done.text)
    assert place is not None, done.text
    return f"{place[1]}/{done.host['backup']['set']}"


def test_a_newer_server_takes_it_and_an_older_one_refuses(docker: Project, embedded: Project) -> None:
    database = embedded.database
    # The embedded server knows no other locale than C, and its programs no zstd.
    wanted = {"restore_confirm": database.database, "restore_locale": "server"}
    run = embedded.run("restore.yml", restore_backup=take(docker), **wanted, code=2)
    assert "have a set taken with -e backup_compression=gzip" in run.error["message"]
    embedded.run("restore.yml", restore_backup=take(docker, backup_compression="gzip"), **wanted)
    assert sql.ask(database, CONTENT) == ask(docker.variables["db_container"], CONTENT)
    run = docker.run("restore.yml", restore_backup=take(embedded), restore_confirm="cm", code=2)
    assert "The set is from PostgreSQL 18, and this server is 17" in run.error["message"]
    assert len(ask(docker.variables["db_container"], "SELECT FROM pg_database WHERE datname LIKE 'cm%'")) == 1


def test_a_container_and_a_host_change_sets(docker: Project, native: Remote) -> None:
    container, host = docker.variables["db_container"], native.host
    place, there = Path(take(docker)), "/var/backups/schema-runbook/brought"
    host.run("mkdir", "--mode=700", there)
    lab.docker("cp", str(place), f"{host.container}:{there}/{place.name}")
    host.run("chown", "--recursive", "cm:", there)
    brought = {"restore_backup": f"{there}/{place.name}", "restore_confirm": "cm"}
    run = native.run("restore.yml", code=2, **brought)
    assert "does not know the locale en_US.utf8" in run.error["message"]
    native.run("restore.yml", **brought, restore_locale="server")
    assert ask_native(native, CONTENT) == [ask(container, CONTENT)[0][0]]

    psql_native(host, "SET ROLE cm; INSERT INTO part SELECT n, 'more' FROM generate_series(701, 720) AS n", "cm")
    back = Path(take(native))
    lab.docker("cp", f"{host.container}:{back}", str(docker.folder))
    docker.run("restore.yml", restore_backup=str(docker.folder / back.name), restore_confirm="cm")
    assert [ask(container, CONTENT)[0][0]] == ask_native(native, CONTENT)
    assert ask(container, CONTENT)[0][0].startswith("720")
