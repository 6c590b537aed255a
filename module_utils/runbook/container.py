# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine says about a container, read as an operator reads it: which server is in there, and how to reach it.

The containers are those of the official image and of all that understand its variables (POSTGRES_USER, POSTGRES_DB,
POSTGRES_PASSWORD, each also with _FILE; PGPORT). Nothing is asked of anybody here: the playbook looks at the container,
``problem`` says what keeps it from being used, ``server`` says where it is.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

DEFAULT_PORT = 5432
DEFAULT_USER = "postgres"

# An address to listen on, and where it is reached from the same machine. Some engines leave "all addresses" empty.
_LOCALLY = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 # read, not listened on

_PORT_OPTION = re.compile(r"(?:^|\s)(?:-p\s*|--port[= ]|-c\s*port=)(\d+)")

# What deploy/compose.yml puts before the container's name for the name of its project, and what Compose allows in one.
_PROJECT_PREFIX = "schema-runbook-"
_PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")

# What community.docker says when it does not get as far as looking at the container, and what to do about it.
_ENGINE_ADVICE = {
    r"Python library|No module named": "Have it installed there: ansible-playbook prepare.yml -l {host}",
    r"Permission ?denied": "The account that the modules run as may not talk to the engine. Add it to the group "
    "docker, or set ansible_become: true for {host}",
    r"No such file|Connection ?refused|timed out": "Start the engine there (sudo systemctl start docker), or name its "
    "socket in db_docker_host",
}

_STATE_ADVICE = {
    "created": "was never started. Start it: docker start {name}",
    "exited": "is stopped (exit code {code}). Start it: docker start {name}, or make up for the project's own. Why it "
    "stopped is in docker logs {name}",
    "paused": "is paused. Let it go on: docker unpause {name}",
    "restarting": "does not stay up (exit code {code}), and the engine restarts it again and again. Why is in "
    "docker logs {name}",
    "removing": "is being removed. Start a new one: make up",
    "dead": "could not be removed completely. Remove what is left, docker rm --force {name}, and start a new one",
}


@dataclass(frozen=True)
class Address:
    """Where a server is reached from the machine its engine runs on."""

    host: str
    port: int


@dataclass(frozen=True)
class Server:
    """A server in a container.

    Attributes:
        host, port: where it is reached from the engine's machine.
        user, database: what the container was made with; empty when that is in a file nobody could read.
        password: that user's, if it is in the container's environment.
        password_file: a file on the engine's machine with that password, if the container has it from a file.
        container, image: their ids, which no later container or image takes over.
        inner_port: the port the server listens on within the container.
        passfile: a password file in libpq's format, if the inventory names one.
        socket_dir: empty, since a container's socket is its own.
    """

    host: str
    port: int
    user: str
    database: str
    password: str = field(repr=False)
    password_file: str
    container: str
    image: str
    inner_port: int
    passfile: str = ""
    socket_dir: str = ""

    def with_files(self, password_file: str, passfile: str) -> Server:
        """The same with the password files that the inventory names instead of what the container says, if any."""
        return replace(
            self,
            password="" if password_file or passfile else self.password,
            password_file="" if passfile else password_file or self.password_file,
            passfile=passfile,
        )


def engine_problem(engine: str, host: str) -> str:
    """What keeps an engine from being asked, with what to do about it; empty when nothing does.

    An engine of another machine speaks of that machine's addresses and files, and 127.0.0.1 would be taken for ours.

    Parameters:
        engine: its address, as in ``DOCKER_HOST``.
        host: the inventory's name of the host it is asked from.
    """
    if engine.startswith("unix://"):
        return ""
    return (
        f"The engine {engine} (DOCKER_HOST, or db_docker_host) is not known to be on {host}, so where its containers "
        f"are reached is not either. Make the engine's machine the inventory's host, over SSH; or name a socket of "
        f"{host} in db_docker_host: unix:///var/run/docker.sock."
    )


def problem(answer: Mapping[str, Any], name: str, host: str) -> str:
    """What keeps a container from being used, with what to do about it; empty when nothing does.

    Parameters:
        answer: the result of ``community.docker.docker_container_info``, failed ones included.
        name: the container's name, as the inventory says it.
        host: the inventory's name of the host the engine runs on.
    """
    if answer.get("unreachable"):
        return f"{host} cannot be reached: {_sentence(answer['msg'])}"
    if "container" not in answer:
        return _engine_problem(str(answer.get("msg", "")), name, host)
    container = answer["container"]
    if not container:
        return (
            f"There is no container {name} on {host}. See docker ps --all for the ones there are, and set "
            "db_container; the project's own is started by make up."
        )
    state = container["State"]
    if state["Status"] in _STATE_ADVICE:
        advice = _STATE_ADVICE[state["Status"]].format(name=name, code=state["ExitCode"])
        return f"Container {name} on {host} {advice}."
    if address(container) is None:
        return (
            f"Container {name} on {host} cannot be reached over the network: its port {inner_port(container)} is not "
            f"published, and its network ({container['HostConfig']['NetworkMode']}) gives it no address. Publish the "
            "port: docker run --publish 127.0.0.1:5432:5432 …"
        )
    return ""


def is_own(container: Mapping[str, Any] | None, name: str, folder: str) -> bool:
    """Whether a container was started from this project's Compose file; so will be one that is not there yet.

    Parameters:
        container: what the engine says about it; None when there is none.
        name: its name.
        folder: the folder of the Compose file, as Compose was told it.
    """
    if not container:
        return True
    labels = container["Config"].get("Labels") or {}
    # https://docs.docker.com/reference/compose-file/services/#labels: Compose itself sets these.
    project, started_from = (labels.get(f"com.docker.compose.{label}") for label in ("project", "project.working_dir"))
    return (project, started_from) == (f"{_PROJECT_PREFIX}{name}", folder.rstrip("/"))


def start_problem(answer: Mapping[str, Any], name: str, host: str, folder: str) -> str:
    """What keeps ``up`` from having a container started, with what to do about it; empty when nothing does.

    The parameters are those of ``problem`` and ``is_own``. Somebody else's container is not started, so it has to run.
    """
    if "container" not in answer:
        return problem(answer, name, host)
    container = answer["container"]
    if is_own(container, name, folder):
        return _name_problem(name)
    status = container["State"]["Status"]
    if status == "running":
        return ""
    command = "docker unpause" if status == "paused" else "docker start"
    return (
        f"Container {name} on {host} was not started from {folder}, so it is not this project's to start, and it is "
        f"{status}. Start it: {command} {name}; or set db_container to a name that is free."
    )


def stop_problem(answer: Mapping[str, Any], name: str, host: str, folder: str) -> str:
    """What keeps ``down`` from having a container stopped, with what to do about it; empty when nothing does.

    The parameters are those of ``problem`` and ``is_own``. Somebody else's container that has stopped is no problem.
    """
    if "container" not in answer:
        return problem(answer, name, host)
    container = answer["container"]
    if is_own(container, name, folder):
        return _name_problem(name)
    status = container["State"]["Status"]
    if status in ("exited", "created", "dead"):
        return ""
    return (
        f"Container {name} on {host} was not started from {folder}, so it is not this project's to stop, and it is "
        f"{status}. Stop it: docker stop {name}."
    )


def name_files(container: Mapping[str, Any]) -> list[str]:
    """The files on the engine's machine that hold the names of user and database, where the container keeps them so."""
    found = (_file(container, variable) for variable in ("POSTGRES_USER", "POSTGRES_DB"))
    return [path for path in found if path]


def server(container: Mapping[str, Any], files: Iterable[Mapping[str, Any]] = ()) -> Server:
    """The server in a container that has no ``problem``.

    Parameters:
        container: what the engine says about it.
        files: for each of ``name_files`` a result of ``ansible.builtin.slurp``, failed ones included.
    """
    place = address(container)
    if place is None:
        raise ValueError(f"container {container['Id']} has no address")
    contents = {file["__db_file"]: _text(file["content"]) for file in files if "content" in file}
    user = _name(container, "POSTGRES_USER", contents, DEFAULT_USER)
    return Server(
        host=place.host,
        port=place.port,
        user=user,
        database=_name(container, "POSTGRES_DB", contents, user),
        password=environment(container).get("POSTGRES_PASSWORD", ""),
        password_file=_file(container, "POSTGRES_PASSWORD"),
        container=container["Id"],
        image=container["Image"],
        inner_port=inner_port(container),
    )


def names_problem(
    container: Mapping[str, Any],
    files: Iterable[Mapping[str, Any]],
    user: str,
    database: str | list[str],
    name: str,
    host: str,
) -> str:
    """Why it is not known as which user or on which database to work, with what to do about it; empty when it is known.

    Parameters:
        container, files: those of ``server``.
        user, database: what the inventory sets, else what ``server`` has found.
        name, host: those of ``problem``.
    """
    reasons = {file["__db_file"]: str(file.get("msg") or "there is nothing in it") for file in files}
    sentences = []
    for variable, wanted, what, setting in (
        ("POSTGRES_USER", user, "user", "db_user"),
        ("POSTGRES_DB", database, "database", "db_name"),
    ):
        if wanted:
            continue
        # Without a name of its own the database is called like the user.
        source = variable if environment(container).get(f"{variable}_FILE") else "POSTGRES_USER"
        path = environment(container).get(f"{source}_FILE")
        reason = reasons.get(_file(container, source), "it is not on a mount")
        sentences.append(
            f"The name of the {what} is in {path} of container {name}, which cannot be read from {host} ({reason}): "
            f"set {setting}, or let the account that the modules run as read it."
        )
    return " ".join(sentences)


def address(container: Mapping[str, Any]) -> Address | None:
    """Where a running container is reached: its published port, else its own address; None when it has neither."""
    port = inner_port(container)
    if container["HostConfig"]["NetworkMode"] == "host":
        return Address("127.0.0.1", port)
    settings = container["NetworkSettings"]
    published = (settings.get("Ports") or {}).get(f"{port}/tcp") or []
    places = [Address(_LOCALLY.get(one["HostIp"], one["HostIp"]), int(one["HostPort"])) for one in published]
    networks = (settings.get("Networks") or {}).values()
    places += [Address(network["IPAddress"], port) for network in networks if network.get("IPAddress")]
    places += [Address(network["GlobalIPv6Address"], port) for network in networks if network.get("GlobalIPv6Address")]
    # A port can be published on several addresses; this machine's own is the one no firewall is in front of.
    return min(places, key=lambda place: place.host != "127.0.0.1", default=None)


def inner_port(container: Mapping[str, Any]) -> int:
    """The port the server listens on within the container: an option of its command, else PGPORT, else 5432.

    Of several options PostgreSQL takes the last.
    """
    options = _PORT_OPTION.findall(" ".join(container.get("Args") or []))
    return int(options[-1] if options else environment(container).get("PGPORT") or DEFAULT_PORT)


def environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables a container was made with."""
    pairs = (line.partition("=") for line in container["Config"].get("Env") or [])
    return {name: value for name, _, value in pairs}


def _engine_problem(said: str, name: str, host: str) -> str:
    advice = next((text for words, text in _ENGINE_ADVICE.items() if re.search(words, said, re.IGNORECASE)), "")
    reason, _, _ = said.partition(". ")  # what follows is general advice
    looked = f"Container {name} could not be looked at on {host}: {_sentence(reason)}"
    return f"{looked} {advice.format(host=host)}." if advice else looked


def _name_problem(name: str) -> str:
    if _PROJECT_NAME.fullmatch(name):
        return ""
    return (
        f"db_container is {name}; Compose starts only what is named with lower-case letters, digits, - and _, "
        "beginning with a letter or digit. Set db_container to such a name."
    )


def _sentence(said: str) -> str:
    return " ".join(said.split()).rstrip(".") + "."


def _name(container: Mapping[str, Any], variable: str, contents: Mapping[str, str], default: str) -> str:
    """A name from a variable, or from the file the variable names; empty when that file could not be read."""
    given = environment(container)
    if given.get(f"{variable}_FILE"):
        return contents.get(_file(container, variable), "")
    return given.get(variable) or default


def _file(container: Mapping[str, Any], variable: str) -> str:
    """Where the file a variable names is on the engine's machine; empty when it is not on a mount, or there is none.

    Mounts can be nested, so the longest that fits is the one it is on.
    """
    path = environment(container).get(f"{variable}_FILE", "")
    mounts = [
        (mount["Destination"].rstrip("/"), mount["Source"])
        for mount in container.get("Mounts") or []
        if mount.get("Source") and path and f"{path}/".startswith(mount["Destination"].rstrip("/") + "/")
    ]
    if not mounts:
        return ""
    inside, outside = max(mounts, key=lambda mount: len(mount[0]))
    return f"{outside}{path[len(inside) :]}"


def _text(content: str) -> str:
    """A file as ``slurp`` hands it over; the shell that reads it in the container drops its newlines, too."""
    return base64.b64decode(content).decode("utf-8", "replace").rstrip("\n")
