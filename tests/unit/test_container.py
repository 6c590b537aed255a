# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine said about real containers (``containers.json``), and what is made of it."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import container
from ansible.module_utils.runbook.container import Address

CONTAINERS = json.loads((Path(__file__).parent / "containers.json").read_text())
# The beginnings of what community.docker's module says when it fails, on ansible-core 2.19 and 2.21.
NO_LIBRARY = (
    "Failed to import the required Python library (requests) on vm's Python /usr/bin/python3. "
    "Please read the module documentation and install it in the appropriate location."
)
NO_ENGINE = (
    "Error connecting: Error while fetching server API version: ('Connection aborted.', "
    "FileNotFoundError(2, 'No such file or directory'))"
)
NOT_ALLOWED = NO_ENGINE.replace(
    "FileNotFoundError(2, 'No such file or directory')", "PermissionError(13, 'Permission denied')"
)


def problem(answer: dict[str, Any]) -> str:
    """What is wrong with container ``shop-db`` on host ``one``."""
    return container.problem(answer, "shop-db", "one")


def slurped(path: str, content: bytes) -> dict[str, Any]:
    """A result of ``slurp``, as role ``db`` loops over it."""
    return {"__db_file": path, "content": base64.b64encode(content).decode()}


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("published", "127.0.0.1", 32772),  # and on 0.0.0.0, which comes second
        ("everywhere", "127.0.0.1", 32771),  # on 0.0.0.0 and ::, at different ports
        ("six", "::1", 32768),
        ("compose", "127.0.0.1", 5499),
        ("unpublished", "172.17.0.4", 5432),
        ("option", "172.17.0.7", 5433),  # postgres -c shared_buffers=16MB -p 5433
        ("hostnet", "127.0.0.1", 5555),  # PGPORT=5555
    ],
)
def test_a_server_is_where_its_port_is_published_else_where_its_container_is(name: str, host: str, port: int) -> None:
    assert problem({"container": CONTAINERS[name]}) == ""
    assert container.address(CONTAINERS[name]) == Address(host, port)


def test_a_port_published_on_one_address_of_the_machine_is_used_there() -> None:
    one = copy.deepcopy(CONTAINERS["everywhere"])
    one["NetworkSettings"]["Ports"]["5432/tcp"] = [{"HostIp": "192.0.2.7", "HostPort": "5432"}]
    assert container.address(one) == Address("192.0.2.7", 5432)


def test_other_engines_leave_the_address_of_a_published_port_empty() -> None:
    one = copy.deepcopy(CONTAINERS["everywhere"])
    one["NetworkSettings"]["Ports"]["5432/tcp"] = [{"HostIp": "", "HostPort": "6000"}]
    assert container.address(one) == Address("127.0.0.1", 6000)


@pytest.mark.parametrize(
    "arguments", [["-p5433"], ["--port=5433"], ["-c", "port=5433"], ["-cport=5433"], ["-p", "5432", "-p", "5433"]]
)
def test_the_servers_port_can_be_an_option_of_its_command(arguments: list[str]) -> None:
    assert container.inner_port({**CONTAINERS["unpublished"], "Args": ["postgres", *arguments]}) == 5433


@pytest.mark.parametrize("name", ["nonet", "joined"])
def test_a_container_without_an_address_is_refused(name: str) -> None:
    said = problem({"container": CONTAINERS[name]})
    assert said.startswith("Container shop-db on one cannot be reached over the network")
    assert CONTAINERS[name]["HostConfig"]["NetworkMode"] in said and "--publish" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("exited", ["is stopped (exit code 1)", "docker start shop-db", "make up", "docker logs shop-db"]),
        ("created", ["was never started", "docker start shop-db"]),
        ("paused", ["is paused", "docker unpause shop-db"]),
        ("restarting", ["does not stay up (exit code 1)", "docker logs shop-db"]),
    ],
)
def test_a_container_that_does_not_run_is_refused_with_the_command_that_helps(name: str, words: list[str]) -> None:
    said = problem({"container": CONTAINERS[name]})
    assert said.startswith("Container shop-db on one ") and said.endswith(".")
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"container": None}, ["There is no container shop-db on one", "docker ps", "db_container", "make up"]),
        ({"failed": True, "msg": NO_LIBRARY}, ["requests", "ansible-playbook prepare.yml -l one"]),
        ({"failed": True, "msg": NO_ENGINE}, ["systemctl start docker", "No such file"]),
        ({"failed": True, "msg": NOT_ALLOWED}, ["group docker", "ansible_become: true for one"]),
        ({"failed": True, "msg": "Something\n else."}, ["shop-db could not be looked at on one: Something else."]),
        ({"unreachable": True, "msg": "ssh: Permission denied"}, ["one cannot be reached: ssh: Permission denied."]),
    ],
)
def test_an_engine_that_does_not_answer_is_a_sentence(answer: dict[str, Any], words: list[str]) -> None:
    said = problem(answer)
    assert said.endswith(".") and "\n" not in said
    assert all(word in said for word in words), said
    assert "group docker" not in said or "ssh" not in said


def test_user_database_and_password_come_from_the_environment() -> None:
    server = container.server(CONTAINERS["unpublished"])
    assert (server.user, server.database, server.password, server.password_file) == ("app", "shop", "a=b", "")
    assert server.container == CONTAINERS["unpublished"]["Id"] and server.image.startswith("sha256:")
    assert "a=b" not in repr(server)


def test_the_images_own_defaults_hold_where_nothing_is_said() -> None:
    server = container.server(CONTAINERS["published"])
    assert (server.user, server.database, server.password) == ("postgres", "postgres", "x")


def test_the_database_is_named_after_the_user_unless_it_is_said() -> None:
    one = copy.deepcopy(CONTAINERS["published"])
    one["Config"]["Env"].append("POSTGRES_USER=app")
    assert container.server(one).database == "app"


def test_a_secret_is_a_file_on_the_engines_machine() -> None:
    server = container.server(CONTAINERS["compose"])
    assert (server.user, server.password, server.password_file) == ("cm", "", "/srv/runbook/deploy/secrets/cm")


def test_the_longest_mount_holds_the_file() -> None:
    # /run/secrets and /run/secrets/deep are mounts, the latter with the password in it.
    server = container.server(CONTAINERS["files"])
    assert server.password_file == "/srv/shop/secrets/deep/password"


def test_a_mount_of_a_similar_name_is_another_one() -> None:
    one = copy.deepcopy(CONTAINERS["files"])
    one["Mounts"] = [{"Type": "bind", "Source": "/srv/wrong", "Destination": "/run/secrets/de"}]
    assert container.server(one).password_file == ""


def test_names_can_be_in_files() -> None:
    user, database = container.name_files(CONTAINERS["files"])
    assert (user, database) == ("/srv/shop/secrets/user", "/srv/shop/secrets/db")
    server = container.server(CONTAINERS["files"], [slurped(user, b"app\n"), slurped(database, b"shop\n")])
    assert (server.user, server.database) == ("app", "shop")
    assert container.name_files(CONTAINERS["compose"]) == []


def test_names_in_files_that_cannot_be_read_are_left_to_the_inventory() -> None:
    user, database = container.name_files(CONTAINERS["files"])
    unread = [{"__db_file": path, "msg": "Permission denied"} for path in (user, database)]
    server = container.server(CONTAINERS["files"], unread)
    assert (server.user, server.database) == ("", "")


def names_problem(one: dict[str, Any], files: list[dict[str, Any]], user: str, database: str | list[str]) -> str:
    """Why it is not known who to be or where to work, in container ``shop-db`` on host ``one``."""
    return container.names_problem(one, files, user, database, "shop-db", "one")


def test_a_name_that_cannot_be_read_is_for_the_inventory_to_set() -> None:
    one = copy.deepcopy(CONTAINERS["files"])
    inside = container.environment(one)
    files = [{"__db_file": path, "msg": f"file is not readable: {path}"} for path in container.name_files(one)]
    assert names_problem(one, files, "app", ["shop", "store"]) == ""
    assert names_problem(one, files, "app", "") == (
        f"The name of the database is in {inside['POSTGRES_DB_FILE']} of container shop-db, which cannot be read from "
        "one (file is not readable: /srv/shop/secrets/db): set db_name, or let the account that the modules run as "
        "read it."
    )
    assert "The name of the user is in" in names_problem(one, files, "", "shop")
    assert "set db_user" in names_problem(one, files, "", "") and "set db_name" in names_problem(one, files, "", "")
    one["Mounts"] = []
    assert "(it is not on a mount): set db_name" in names_problem(one, [], "app", "")


def test_a_database_called_like_a_user_that_cannot_be_read_is_for_the_inventory_to_set() -> None:
    one = copy.deepcopy(CONTAINERS["files"])
    one["Config"]["Env"] = ["POSTGRES_USER_FILE=/somewhere/user"]
    said = names_problem(one, [], "app", container.server(one).database)
    assert said.startswith("The name of the database is in /somewhere/user of container shop-db")


def test_only_an_engine_behind_a_socket_is_known_to_be_on_the_host() -> None:
    assert container.engine_problem("unix:///run/user/1000/docker.sock", "one") == ""
    for engine in ("tcp://127.0.0.1:2375", "ssh://elsewhere"):
        said = container.engine_problem(engine, "one")
        assert said.startswith(f"The engine {engine} ") and "Make the engine's machine the inventory's host" in said


def test_a_password_file_of_the_inventory_goes_before_the_containers_password() -> None:
    plain, secret = container.server(CONTAINERS["unpublished"]), container.server(CONTAINERS["compose"])
    assert plain.with_files("", "") == plain and secret.with_files("", "") == secret
    assert plain.with_files("/etc/password", "").password == ""
    assert secret.with_files("/etc/password", "").password_file == "/etc/password"
    for server in (plain, secret):
        given = server.with_files("", "/etc/pgpass")
        assert (given.password, given.password_file, given.passfile) == ("", "", "/etc/pgpass")


def test_a_second_look_says_the_same() -> None:
    """A play may reach the database twice; then the inventory's variables already hold what the first look found."""
    secret = container.server(CONTAINERS["compose"])
    assert secret.with_files(secret.password_file, secret.passfile) == secret


def labelled(project: str, folder: str, status: str = "running") -> dict[str, Any]:
    """A container that Compose has started from a folder, as a project of that name."""
    one = copy.deepcopy(CONTAINERS["compose"])
    one["Config"]["Labels"] = {
        "com.docker.compose.project": project,
        "com.docker.compose.project.working_dir": folder,
        "com.docker.compose.service": "postgres",
    }
    one["State"]["Status"] = status
    return one


def test_a_container_is_the_projects_own_when_its_compose_file_started_it() -> None:
    own = labelled("schema-runbook-shop-db", "/srv/runbook/deploy")
    assert container.is_own(None, "shop-db", "/srv/runbook/deploy")
    assert container.is_own(own, "shop-db", "/srv/runbook/deploy/")
    assert not container.is_own(own, "shop-db", "/home/other/runbook/deploy")
    assert not container.is_own(labelled("shop-db", "/srv/runbook/deploy"), "shop-db", "/srv/runbook/deploy")
    unlabelled = copy.deepcopy(own)
    unlabelled["Config"]["Labels"] = None
    assert not container.is_own(unlabelled, "shop-db", "/srv/runbook/deploy")


@pytest.mark.parametrize(
    ("status", "start", "stop"),
    [
        ("running", "", "docker stop shop-db"),
        ("exited", "docker start shop-db", ""),
        ("created", "docker start shop-db", ""),
        ("paused", "docker unpause shop-db", "docker stop shop-db"),
        ("restarting", "docker start shop-db", "docker stop shop-db"),
    ],
)
def test_somebody_elses_container_is_neither_started_nor_stopped(status: str, start: str, stop: str) -> None:
    place = ("shop-db", "one", "/srv/runbook/deploy")
    theirs = {"container": labelled("shop-db", "/srv/shop-db", status)}
    for said, command in (
        (container.start_problem(theirs, *place), start),
        (container.stop_problem(theirs, *place), stop),
    ):
        assert command in said and bool(command) == bool(said)
        assert not said or "not started from /srv/runbook/deploy" in said and status in said
    own = {"container": labelled("schema-runbook-shop-db", "/srv/runbook/deploy", status)}
    assert container.start_problem(own, *place) == container.stop_problem(own, *place) == ""


@pytest.mark.parametrize("ask", [container.start_problem, container.stop_problem])
def test_an_engine_that_cannot_be_asked_keeps_up_and_down_from_acting(ask: Any) -> None:
    assert "group docker" in ask({"failed": True, "msg": NOT_ALLOWED}, "shop-db", "one", "/deploy")


@pytest.mark.parametrize("name", ["Shop", "shop.db", "_shop"])
@pytest.mark.parametrize("ask", [container.start_problem, container.stop_problem])
def test_a_name_that_compose_does_not_allow_is_refused(ask: Any, name: str) -> None:
    assert f"db_container is {name};" in ask({"container": None}, name, "one", "/deploy")
    assert ask({"container": None}, "shop-db_1", "one", "/deploy") == ""
