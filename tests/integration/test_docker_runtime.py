# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases in containers: somebody else's, found by name alone, and the project's own from ``deploy/compose.yml``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lab
import psycopg
import pytest
from ansible.module_utils.runbook import client, container
from ansible.module_utils.runbook.client import Sidecar
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from engine import write
from process_list import command_lines
from project import ROOT, Project, Run, poll, short_folder
from promises import LEDGER, expected_checksums, history, ledger

# What shells, YAML, Jinja and URLs each see something in.
PASSWORD = "s3cret {{ 1 + 1 }} %41$HOME'\":\\@/"
LEDGER_ROWS = "SELECT version, applied_at, description FROM cm.schema_version ORDER BY version"

pytestmark = pytest.mark.usefixtures("engine")
# Tests that look for the sidecar they have started must not see those of others.
one_at_a_time = pytest.mark.xdist_group("sidecars")


@pytest.fixture(scope="module")
def stack() -> Iterator[str]:
    """The name of a lab; what belongs to it goes when the module's tests have ended."""
    name = lab.unique_name()
    yield name
    lab.down(name)


@pytest.fixture
def project() -> Iterator[Project]:
    """The project without a database: the container says which."""
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables = {"db_runtime": "docker"}
        project.secrets = [PASSWORD]
        yield project


@pytest.fixture
def shop(stack: str, project: Project) -> str:
    """Somebody else's container: names and password of its own, its port not published, no health check."""
    name = start(stack, POSTGRES_USER="app", POSTGRES_DB="shop", POSTGRES_PASSWORD=PASSWORD)
    project.variables["db_container"] = name
    return name


@pytest.fixture(scope="module")
def migrated(stack: str) -> str:
    """Such a container with something in it, which nobody changes."""
    name = start(stack, POSTGRES_USER="app", POSTGRES_DB="shop", POSTGRES_PASSWORD=PASSWORD)
    poll(lambda: is_ready(name))
    psql(name, "CREATE TABLE part (id int, photo bytea)")
    psql(name, "INSERT INTO part SELECT n, sha256(n::text::bytea) FROM generate_series(1, 1000) AS n")
    return name


def start(stack: str, *options: str, command: str = "postgres", **environment: str) -> str:
    """Start a container and return its name."""
    name = f"{stack}-{os.urandom(3).hex()}"
    given = [*options, *(f"--env={variable}={value}" for variable, value in environment.items())]
    lab.docker("run", "--detach", f"--name={name}", *lab.labels(stack), *given, lab.POSTGRES_IMAGE, *command.split())
    return name


def inspected(name: str) -> dict[str, Any]:
    """What the engine says about a container."""
    return dict(json.loads(lab.docker("inspect", name))[0])


def connect(name: str) -> psycopg.Connection[tuple]:
    """A session on the server in a container, the way a playbook gets there."""
    server = container.server(inspected(name))
    password = server.password or Path(server.password_file).read_text().strip()
    address = {"host": server.host, "port": server.port, "dbname": server.database, "user": server.user}
    return psycopg.connect(**address, password=password, autocommit=True)  # type: ignore[arg-type]


def ask(name: str, question: str) -> list[tuple[Any, ...]]:
    """The answer of the database in a container."""
    with connect(name) as session:
        return session.execute(question).fetchall()  # type: ignore[call-overload,no-any-return]


def value(name: str) -> Any:
    """Ask for a single value as text, as ``promises`` wants it."""
    return lambda statement: ask(name, f"SELECT ({statement})::text")[0][0]


def psql(name: str, statement: str) -> str:
    """Run a statement within a container, over its socket."""
    server = container.server(inspected(name))
    login = ("--username", server.user, "--dbname", server.database)
    return lab.docker("exec", name, "psql", "-XAt", *login, "--set=ON_ERROR_STOP=1", "--command", statement)


def is_ready(name: str) -> bool:
    """Whether the server in a container takes sessions."""
    try:
        lab.docker("exec", name, "pg_isready", "--host=127.0.0.1")
    except lab.LabError:
        return False
    return True


# --- somebody else's container ----------------------------------------------------------------------------------------


def test_a_container_somebody_else_started_is_found_by_its_name(project: Project, shop: str) -> None:
    predicted = project.run("migrate.yml", "--check")
    assert predicted.changed == 1 and len(predicted.host["pending"]) == 4
    done = project.run("migrate.yml", "-vvv")  # -vvv shows whatever is not kept back
    assert "4 applied" in done.text
    assert done.host["database"] == "shop"
    assert "shop 4 none" in project.run("status.yml").text
    again = project.run("migrate.yml")
    assert again.changed == 0
    assert ledger(value(shop)) == LEDGER
    assert dict(ask(shop, "SELECT name, checksum FROM cm.schema_version")) == expected_checksums()
    assert {owner for (owner,) in ask(shop, "SELECT tableowner FROM pg_tables WHERE schemaname = 'cm'")} == {"app"}


def test_a_container_that_has_run_the_files_itself_is_adopted_as_it_is(stack: str, project: Project) -> None:
    name = start(
        stack,
        f"--volume={ROOT}/db/init:/docker-entrypoint-initdb.d:ro",
        POSTGRES_USER="cm",
        POSTGRES_PASSWORD=PASSWORD,
    )
    poll(lambda: is_ready(name))
    before = ask(name, LEDGER_ROWS)
    assert [version for version, *_ in before] == [1, 2, 3, 4]
    done = project.run("migrate.yml", db_container=name)
    assert "4 adopted" in done.text and done.host["applied"] == []
    assert ask(name, LEDGER_ROWS) == before
    assert ledger(value(name)) == LEDGER
    assert history(value(name)) == [["adopted", version] for version in (1, 2, 3, 4)]
    assert project.run("migrate.yml", db_container=name).changed == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--publish=127.0.0.1::5432"],
        # A health check that is fooled: during the first boot the server is there, for its own socket only.
        ["--health-cmd=pg_isready --username=cm", "--health-interval=1s"],
    ],
    ids=["published", "healthy too soon"],
)
def test_a_container_on_its_first_boot_is_waited_for(stack: str, project: Project, options: list[str]) -> None:
    write(project.folder / "boot", {"000_slow.sql": "SELECT pg_sleep(8);"})  # type: ignore[arg-type]
    (project.folder / "boot").chmod(0o755)
    boot = f"--volume={project.folder}/boot:/docker-entrypoint-initdb.d:ro"
    name = start(stack, boot, *options, POSTGRES_USER="cm", POSTGRES_PASSWORD=PASSWORD)
    done = project.run("migrate.yml", db_container=name)
    assert "4 applied" in done.text
    log = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    assert "000_slow.sql" in log.stdout + log.stderr


def test_waiting_has_an_end(stack: str, project: Project) -> None:
    name = start(stack, command="sleep infinity", POSTGRES_PASSWORD=PASSWORD)  # in place of the server
    began = time.monotonic()
    failed = project.run("migrate.yml", code=2, db_container=name, db_connect_wait="2s")
    assert "Cannot connect to database" in failed.text and failed.error["code"] == "connection"
    assert time.monotonic() - began < 30


def test_a_login_that_is_refused_is_not_waited_for(project: Project, shop: str) -> None:
    poll(lambda: is_ready(shop))
    began = time.monotonic()
    failed = project.run("migrate.yml", code=2, db_password="wrong")
    assert "password authentication failed" in failed.text
    assert time.monotonic() - began < 30


def test_secrets_and_names_may_come_from_files(stack: str, project: Project) -> None:
    secrets = project.folder / "secrets"
    write(secrets, {"user": "app\n", "database": "shop\n", "password": f"{PASSWORD}\n"})  # type: ignore[arg-type]
    for secret in secrets.iterdir():
        secret.chmod(0o600)
    files = {
        "POSTGRES_USER_FILE": "/run/secrets/user",
        "POSTGRES_DB_FILE": "/run/secrets/database",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/password",
    }
    name = start(stack, f"--volume={secrets}:/run/secrets:ro", **files)
    done = project.run("migrate.yml", db_container=name)
    assert (done.host["database"], done.host["version"]) == ("shop", 4)
    owner = "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'cm'"
    login = ("--username=app", "--dbname=shop")
    assert lab.docker("exec", name, "psql", "-XAt", *login, "--command", owner) == "app"


def test_what_the_inventory_says_goes_before_what_the_container_says(project: Project, shop: str) -> None:
    poll(lambda: is_ready(shop))
    psql(shop, "CREATE ROLE deployer LOGIN PASSWORD 'of the deployer'")
    psql(shop, "CREATE DATABASE warehouse OWNER deployer")
    passfile, password_file = project.folder / "pgpass", project.folder / "password"
    passfile.write_text("*:*:*:deployer:of the deployer\n")
    password_file.write_text("of the deployer\n")
    for file in (passfile, password_file):
        file.chmod(0o600)
    own = {"db_user": "deployer", "db_name": "warehouse"}
    done = project.run("migrate.yml", **own, db_password_file=str(password_file))
    assert done.host["database"] == "warehouse"
    assert project.run("migrate.yml", **own, db_passfile=str(passfile)).host["version"] == 4
    # The container's password is that of its own user, and is not tried for others.
    refused = project.run("migrate.yml", **own, code=2)
    assert "no password supplied" in refused.text


def test_a_rollback_is_confirmed_with_the_containers_database(project: Project, shop: str) -> None:
    poll(lambda: is_ready(shop))
    project.run("migrate.yml")
    refused = project.run("rollback.yml", code=2, rollback_version=3, rollback_confirm="cm")
    assert "shop" in refused.text and ledger(value(shop)) == LEDGER
    done = project.run("rollback.yml", rollback_version=3, rollback_confirm="shop")
    assert done.host["version"] == 3
    assert ledger(value(shop)) == LEDGER[:3]


def test_the_engine_may_be_on_another_host(
    stack: str, project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A host over SSH with this machine's engine for its own, and a container that only that host can reach."""
    monkeypatch.setattr(lab, "_SYSTEMD", [*lab._SYSTEMD, "--volume=/var/run/docker.sock:/var/run/docker.sock"])
    with lab.running(["engine"]) as (host,):
        group = "groupadd --gid $(stat --format %g /var/run/docker.sock) containers && usermod --append --groups"
        host.run("sh", "-c", f"{group} containers {host.user}")
        lab.docker("cp", "--follow-link", str(shutil.which("docker")), f"{host.container}:/usr/local/bin/docker")
        network = lab.docker(
            "inspect", "--format", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}}{{end}}", host.container
        )
        name = start(stack, f"--network={network}", POSTGRES_USER="app", POSTGRES_PASSWORD=PASSWORD)
        known = {**host.variables, "ansible_remote_tmp": "/var/tmp", "db_container": name}
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"staging": {"hosts": {host.name: known}}}))

        lacking = project.run("migrate.yml", "-i", str(inventory), code=2)
        assert f"ansible-playbook prepare.yml -l {host.name}" in lacking.text
        project.run("prepare.yml", "-i", str(inventory))
        assert "4 applied" in project.run("migrate.yml", "-i", str(inventory)).text
        assert project.run("migrate.yml", "-i", str(inventory)).changed == 0
        assert "app 4 none" in project.run("status.yml", "-i", str(inventory)).text
        assert host.run("find", "/tmp", "/var/tmp", f"/home/{host.user}", "-name", "*ansible*") == ""
        lab.docker("rm", "--force", "--volumes", name)


# --- containers that cannot be used -----------------------------------------------------------------------------------


def test_a_container_that_is_not_there_or_not_running_is_a_sentence(
    stack: str, project: Project, migrated: str
) -> None:
    missing = project.run("migrate.yml", code=2, db_container=f"{stack}-nobody")
    assert f"There is no container {stack}-nobody on cm-staging." in missing.text
    assert missing.error["message"].startswith("There is no container")
    stopped = start(stack, POSTGRES_PASSWORD=PASSWORD)
    lab.docker("stop", "--time=0", stopped)
    said = project.run("migrate.yml", code=2, db_container=stopped).text
    assert f"is stopped (exit code 137). Start it: docker start {stopped}" in said
    screen = project.run("status.yml", db_container=stopped).text
    assert "unknown" in screen and f"docker start {stopped}" in screen


def test_an_engine_that_does_not_answer_is_a_sentence(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.folder}/no.sock")
    failed = project.run("migrate.yml", code=2)
    assert "Container cm-postgres could not be looked at on cm-staging" in failed.text
    assert "sudo systemctl start docker" in failed.error["message"]


# --- interruptions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_container_that_goes_away_during_a_run_leaves_nothing_half_done(
    project: Project, shop: str, how: str
) -> None:
    write(project.init, {"001_slow.sql": "CREATE TABLE public.one (id int); SELECT pg_sleep(20);"})  # type: ignore[arg-type]
    project.variables |= project.own_files()
    poll(lambda: is_ready(shop))
    running = project.start("migrate.yml")
    poll(lambda: psql(shop, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%'") == "2")
    lab.docker(how, shop)
    began = time.monotonic()
    failed = project.finish(running, code=2)
    assert time.monotonic() - began < 30
    assert failed.record["outcome"] == "failed" and "001_slow.sql" in failed.error["message"]
    lab.docker("start", shop)
    poll(lambda: is_ready(shop))
    assert ask(shop, "SELECT to_regclass('public.one'), to_regclass('cm.schema_version')") == [(None, None)]
    write(project.init, {"001_slow.sql": "CREATE TABLE public.one (id int);"})  # type: ignore[arg-type]
    assert "1 applied" in project.run("migrate.yml").text


# --- the project's own container --------------------------------------------------------------------------------------


@pytest.fixture
def own(stack: str, project: Project) -> Iterator[str]:
    """The project's own container, from a copy of ``deploy/``, with whatever port is free; not started yet."""
    name = f"{stack}-own"
    shutil.copytree(ROOT / "deploy", project.folder / "deploy", ignore=shutil.ignore_patterns("secrets"))
    shutil.copytree(ROOT / "db", project.folder / "db")
    project.secrets = []
    project.variables |= {
        "db_container": name,
        "db_image": lab.POSTGRES_IMAGE,
        "db_port": 0,
        "db_compose_directory": str(project.folder / "deploy"),
    }
    yield name
    subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, check=False)
    subprocess.run(["docker", "network", "rm", f"schema-runbook-{name}_default"], capture_output=True, check=False)
    subprocess.run(["docker", "volume", "rm", name], capture_output=True, check=False)


def exists(kind: str, name: str) -> bool:
    """Whether the engine has a container or volume of this name."""
    done = subprocess.run(["docker", kind, "inspect", name], capture_output=True, check=False)
    return done.returncode == 0


def take_down(project: Project, name: str) -> Run:
    """Stop the container, and remove the empty volume that images before 18 leave behind each time."""
    nameless = [mount["Name"] for mount in inspected(name)["Mounts"] if len(mount.get("Name", "")) == 64]
    done = project.run("down.yml")
    lab.docker("volume", "rm", *nameless)
    return done


def test_up_and_down_again(project: Project, own: str) -> None:
    secret = project.folder / "deploy" / "secrets" / own
    predicted = project.run("up.yml", "--check", "--diff")
    assert predicted.changed == 3
    assert not secret.parent.exists() and not exists("container", own) and not exists("volume", own)

    assert project.run("up.yml", "-vvv").changed == 3
    password = secret.read_text()
    assert len(password) == 32
    project.secrets = [password]
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert inspected(own)["State"]["Health"]["Status"] == "healthy"
    assert password not in json.dumps(inspected(own))
    assert {place["HostIp"] for place in inspected(own)["NetworkSettings"]["Ports"]["5432/tcp"]} == {"127.0.0.1"}

    # Its first boot ran db/init, so there is nothing to apply.
    before = ask(own, LEDGER_ROWS)
    inventory = f"@{project.folder}/variables.json"  # of the run before
    deployed = project.tool("ansible-playbook", "up.yml", "migrate.yml", "-l", "staging", "-e", inventory)  # make prod
    assert deployed.returncode == 0 and "4 adopted" in deployed.stdout
    assert Run(0, deployed.stdout).changed == 1  # the adoption; the container was up
    assert ask(own, LEDGER_ROWS) == before and len(before) == 4
    psql(own, "CREATE TABLE public.kept AS SELECT 1 AS one")

    predicted = project.run("down.yml", "--check")
    assert predicted.changed == 1 and inspected(own)["State"]["Status"] == "running"
    assert take_down(project, own).changed == 1
    assert not exists("container", own) and exists("volume", own)
    assert project.run("down.yml").changed == 0

    project.run("up.yml")
    assert secret.read_text() == password
    assert ask(own, "SELECT one FROM public.kept") == [(1,)]

    # Another password would be that of no database.
    take_down(project, own)
    secret.unlink()
    refused = project.run("up.yml", code=2)
    assert f"The password file {secret} of cm-staging is gone" in refused.text
    assert not secret.exists()


@pytest.mark.parametrize("compose", [False, True], ids=["docker run", "docker compose"])
def test_a_container_that_others_have_started_stays_as_it_is(
    stack: str, project: Project, own: str, compose: bool
) -> None:
    if compose:  # with names by which Compose would take it for the project's own
        theirs = project.folder / own
        service = {"container_name": own, "image": lab.POSTGRES_IMAGE, "environment": {"POSTGRES_PASSWORD": PASSWORD}}
        write(theirs, {"compose.yml": json.dumps({"name": own, "services": {"postgres": service}})})  # type: ignore[arg-type]
        lab.docker("compose", "--file", f"{theirs}/compose.yml", "up", "--detach")
    else:
        lab.docker(
            "run",
            "--detach",
            f"--name={own}",
            *lab.labels(stack),
            f"--env=POSTGRES_PASSWORD={PASSWORD}",
            lab.POSTGRES_IMAGE,
        )
    try:
        before = inspected(own)["Id"]
        assert project.run("up.yml", "--check").changed == 0
        done = project.run("up.yml")
        assert done.changed == 0 and f"Container {own} on cm-staging was started by others; it is up." in done.text
        assert not (project.folder / "deploy/secrets").exists() and not exists("volume", own)
        assert not exists("network", f"schema-runbook-{own}_default")
        inventory = f"@{project.folder}/variables.json"  # of the run before
        deployed = project.tool(
            "ansible-playbook", "up.yml", "migrate.yml", "-l", "staging", "-e", inventory
        )  # make prod
        assert deployed.returncode == 0 and "4 applied" in deployed.stdout
        refused = project.run("down.yml", code=2)
        assert f"Stop it: docker stop {own}." in refused.error["message"]
        assert inspected(own)["Id"] == before and inspected(own)["State"]["Status"] == "running"

        lab.docker("stop", own)
        assert project.run("down.yml").changed == 0
        refused = project.run("up.yml", code=2)
        assert f"Start it: docker start {own}" in refused.error["message"]
        assert inspected(own)["Id"] == before and not exists("volume", own)
    finally:
        lab.docker("rm", "--force", "--volumes", own)
        if compose:
            lab.docker("network", "rm", f"{own}_default")


def test_a_first_boot_that_failed_is_never_served(project: Project, own: str) -> None:
    write(project.folder / "db/init", {"003_human_review.sql": "CREATE TABLE public.half (); SELECT 1/0;"})  # type: ignore[arg-type]
    remedy = f"make down, docker volume rm {own}, make up"
    for _ in range(2):  # also with the container that is there already
        failed = project.run("up.yml", code=2)
        assert f"docker logs {own}" in failed.error["message"] and remedy in failed.error["message"]
    log = subprocess.run(["docker", "logs", own], capture_output=True, text=True, check=True).stderr
    assert "division by zero" in log and "The first boot of this database failed" in log
    take_down(project, own)
    # and with the next container on that volume
    assert remedy in project.run("up.yml", code=2).error["message"]
    take_down(project, own)
    lab.docker("volume", "rm", own)
    shutil.copy(ROOT / "db/init/003_human_review.sql", project.folder / "db/init")
    project.run("up.yml")
    assert ask(own, "SELECT max(version) FROM cm.schema_version") == [(4,)]
    # A server that was killed has not failed its first boot.
    lab.docker("kill", own)
    lab.docker("start", own)
    poll(lambda: is_ready(own))


def test_migrations_that_the_server_cannot_read_are_not_an_empty_folder(project: Project, own: str) -> None:
    (project.folder / "db/init").chmod(0o700)  # a clone made with umask 077
    failed = project.run("up.yml", code=2)
    assert f"docker logs {own}" in failed.error["message"]
    log = subprocess.run(["docker", "logs", own], capture_output=True, text=True, check=True).stderr
    assert "Permission denied" in log
    (project.folder / "db/init").chmod(0o755)
    project.run("up.yml")  # nothing has to be removed
    assert ask(own, "SELECT max(version) FROM cm.schema_version") == [(4,)]


def test_a_container_that_cannot_start_says_where_to_look(project: Project, own: str) -> None:
    compose = project.folder / "deploy" / "compose.yml"
    compose.write_text(compose.read_text().replace("command: [postgres]", "command: [postgres, -c, nonsense=1]"))
    failed = project.run("up.yml", code=2)
    assert f"Container {own} on cm-staging could not be started: " in failed.error["message"]
    assert f"docker logs {own}" in failed.error["message"]


def test_a_name_that_compose_does_not_allow_is_refused_before_anything_is_made(project: Project, own: str) -> None:
    refused = project.run("up.yml", code=2, db_container=f"{own}.A")
    assert f"db_container is {own}.A; Compose starts only" in refused.error["message"]
    assert not (project.folder / "deploy/secrets").exists()


@pytest.mark.parametrize("playbook", ["up.yml", "down.yml"])
def test_a_folder_that_is_not_there_is_named(project: Project, own: str, playbook: str) -> None:
    refused = project.run(playbook, code=2, db_compose_directory="/no/such/folder")
    assert "There is no folder /no/such/folder on cm-staging (db_compose_directory)." in refused.text
    assert not Path("/no").exists()


# --- client programs --------------------------------------------------------------------------------------------------


def sidecar(name: str, **changes: str) -> Sidecar:
    """The client programs for a container, as role ``db`` describes them."""
    server = container.server(inspected(name))
    login = Login(server.host, server.port, server.user, server.database, server.password)
    described = {"client_container": server.container, "client_image": server.image, "client_port": server.inner_port}
    found = client.client_for(login, {**described, **changes}, "Schema Runbook test")
    assert isinstance(found, Sidecar)
    return found


def sidecars() -> list[str]:
    """The sidecars there are, of whatever test."""
    return lab.docker("ps", "--all", "--quiet", "--no-trunc", "--filter", "name=^schema-runbook-").split()


@one_at_a_time
def test_a_dump_is_made_listed_and_restored_by_the_servers_own_image(migrated: str, tmp_path: Path) -> None:
    programs = sidecar(migrated)
    dump = tmp_path / "dump"
    with dump.open("wb") as stdout:
        assert programs.run("pg_dump", ["--format=custom"], stdout=stdout) == b""
    with dump.open("rb") as stdin:
        assert b"TABLE DATA public part app" in programs.run("pg_restore", ["--list"], stdin=stdin)
    programs.run("psql", ["-X", "--command=CREATE DATABASE restored"])
    with dump.open("rb") as stdin:
        programs.run("pg_restore", ["--dbname=restored", "--exit-on-error"], stdin=stdin)
    digest = "-XAtc", "SELECT count(*), md5(string_agg(photo::text, '' ORDER BY id)) FROM part"
    original = programs.run("psql", [*digest])
    assert original.startswith(b"1000|")
    assert programs.run("psql", [*digest, "--dbname=restored"]) == original
    assert b"PostgreSQL 17" in programs.run("psql", ["-XAtc", "SELECT version()"])


@one_at_a_time
def test_streams_of_a_sidecar_are_bytes(migrated: str) -> None:
    everything = bytes(range(256)) * 40_000
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(everything)
        stdin.seek(0)
        sidecar(migrated).run("cat", [], stdin, stdout)
        stdout.seek(0)
        assert stdout.read() == everything


@one_at_a_time
def test_a_failing_program_says_why_without_the_password(migrated: str) -> None:
    with pytest.raises(RunbookError) as caught:
        sidecar(migrated).run("psql", ["-X", "--command=SELECT 1/0"])
    assert caught.value.message == "psql failed with exit status 1: ERROR:  division by zero."
    with pytest.raises(RunbookError) as caught:
        sidecar(migrated).run("psql", ["-X", f"--dbname={PASSWORD}"])
    assert PASSWORD not in caught.value.message


@one_at_a_time
def test_the_password_is_nowhere_to_be_seen_while_a_program_runs(migrated: str) -> None:
    programs = sidecar(migrated)
    known = set(sidecars())
    run = threading.Thread(target=programs.run, args=("psql", ["-X", "--command=SELECT pg_sleep(3)"]))
    run.start()
    (mine,) = poll(lambda: set(sidecars()) - known)
    poll(lambda: inspected(mine)["State"]["Status"] == "running")
    shown = json.dumps(inspected(mine)) + lab.docker("top", mine, "-eo", "pid,args")
    shown += "\n".join(command_lines())
    assert "pg_sleep(3)" in shown and json.dumps(PASSWORD)[1:-1] not in shown and PASSWORD not in shown
    run.join()
    assert mine not in sidecars()


@one_at_a_time
def test_an_image_with_a_user_of_its_own_will_do(stack: str, migrated: str) -> None:
    tag = f"{stack}:other-user"
    recipe = f'FROM {lab.POSTGRES_IMAGE}\nUSER 12345:12345\nENTRYPOINT ["false"]\n'
    subprocess.run(["docker", "build", "--quiet", "--tag", tag, "-"], input=recipe, text=True, check=True)
    try:
        printed = sidecar(migrated, client_image=tag).run("psql", ["-XAtc", "SELECT current_user"])
    finally:
        lab.docker("image", "rm", tag)
    assert printed == b"app\n"


@one_at_a_time
def test_an_interrupted_program_takes_its_sidecar_with_it(migrated: str) -> None:
    server = container.server(inspected(migrated))
    described = {"major": 17, "container": server.container, "image": server.image}
    environment = {"PGHOST": "127.0.0.1", "PGUSER": "app", "PGDATABASE": "shop"}
    code = (
        "import sys, json, ansible.module_utils\n"
        f"ansible.module_utils.__path__.append({str(ROOT / 'module_utils')!r})\n"
        "from ansible.module_utils.runbook.client import Sidecar\n"
        "Sidecar(**json.load(sys.stdin)).run('psql', ['-X', '--command=SELECT pg_sleep(600)'])\n"
    )
    known = set(sidecars())
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdin
    process.stdin.write(json.dumps({**described, "environment": environment, "password": PASSWORD}))
    process.stdin.close()
    (mine,) = poll(lambda: set(sidecars()) - known)
    poll(lambda: psql(migrated, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%'") == "2")
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert mine not in sidecars()
    assert process.stderr and "KeyboardInterrupt" in process.stderr.read()
    process.stderr.close()


# --- what must not be guessed -----------------------------------------------------------------------------------------


def test_a_name_that_cannot_be_read_is_asked_for_and_not_guessed(stack: str, project: Project) -> None:
    """There is a database cm, too, which would be migrated in place of the one that is meant."""
    write(project.folder / "boot", {"000_cm.sql": "CREATE DATABASE cm;"})  # type: ignore[arg-type]
    (project.folder / "boot").chmod(0o755)
    boot = f"--volume={project.folder}/boot:/docker-entrypoint-initdb.d:ro"
    # The file is the container's own, on no mount.
    script = "mkdir -p /run/own && printf shop > /run/own/name && exec docker-entrypoint.sh postgres"
    given = {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB_FILE": "/run/own/name"}
    name = f"{stack}-{os.urandom(3).hex()}"
    options = [boot, *(f"--env={variable}={value}" for variable, value in given.items())]
    lab.docker(
        *("run", "--detach", f"--name={name}", *lab.labels(stack), *options, "--entrypoint=sh"),
        *(lab.POSTGRES_IMAGE, "-c", script),
    )
    poll(lambda: is_ready(name))
    refused = project.run("migrate.yml", code=2, db_container=name)
    sentence = f"The name of the database is in /run/own/name of container {name}, which cannot be read from cm-staging"
    assert f"{sentence} (it is not on a mount): set db_name" in refused.text
    assert sentence in project.run("status.yml", db_container=name).text
    ledgers = "SELECT count(*) FROM pg_namespace WHERE nspname = 'cm'"
    login = ("--username=app", "--dbname=cm")
    assert lab.docker("exec", name, "psql", "-XAt", *login, "--command", ledgers) == "0"
    assert project.run("migrate.yml", db_container=name, db_name="shop").host["database"] == "shop"


@pytest.mark.parametrize("door", ["migrate.yml", "up.yml", "down.yml"])
def test_an_engine_that_is_not_this_machines_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    refused = project.run(door, code=2)
    assert (
        "The engine tcp://127.0.0.1:1 (DOCKER_HOST, or db_docker_host) is not known to be on cm-staging" in refused.text
    )
    assert "Make the engine's machine the inventory's host" in refused.text
