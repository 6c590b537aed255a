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


@pytest.mark.parametrize("arguments", [["-p5433"], ["--port=5433"], ["-c", "port=5433"], ["-cport=5433"]])
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
