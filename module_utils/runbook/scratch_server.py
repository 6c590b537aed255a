# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that lives as long as a drill: a container of the very image that production runs.

It has no network. This host reaches it through its socket, in a folder that only this account can enter, and its client
programs through the network that it shares with nobody else; so it needs no password.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible.module_utils.runbook.client import Sidecar
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError

LABEL = "schema-runbook.drill"
"""The label of such a container; its value says which drills it belongs to."""

_FOLDER = f"{LABEL}.folder"
_PREFIX = "schema-runbook-drill-"
_USER = "postgres"
_PATIENCE = 120
_PAUSE = 0.2
_LINES_SHOWN = 3
_SERIOUS = ("FATAL:", "ERROR:", "PANIC:")


@contextlib.contextmanager
def running(client: Sidecar, database: str, preload: Sequence[str]) -> Iterator[tuple[Login, Sidecar]]:
    """Start a server like the one that ``client`` is for, and remove it in any case.

    Parameters:
        database: whose drill it is. Of that there is one at a time, so what is there of it already was left behind.
        preload: shared_preload_libraries.

    Yields:
        how to log in, as a superuser, and the programs for it.

    Raises:
        RunbookError: ``scratch-server`` when it does not come up.
    """
    # The server's name outlives its container, so that what was left is found after an upgrade, too.
    drill = f"{_docker('inspect', '--format={{.Name}}', client.container)}/{database}"
    remove_leftovers(drill)
    # Short, since the path of a socket has to fit into 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))  # noqa: S108
    sockets = folder / "s"
    sockets.mkdir()
    sockets.chmod(0o777)  # the image's own account writes there; nobody else gets through the folder above
    name = f"{_PREFIX}{secrets.token_hex(4)}"
    labels = [f"--label={LABEL}={drill}", f"--label={_FOLDER}={folder}"]
    try:
        _docker(*_run(name, labels, client.image, sockets, preload))
        _wait(name)
        environment = {"PGHOST": "127.0.0.1", "PGPORT": "5432", "PGUSER": _USER, "PGDATABASE": "postgres"}
        yield Login(str(sockets), 5432, _USER, "postgres"), Sidecar(client.major, name, client.image, environment)
    finally:
        _remove(name, folder, client.image)


def remove_leftovers(drill: str) -> None:
    """Remove what drills that were killed have left: container, data and folder."""
    for one in _docker("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={LABEL}={drill}").split():
        shown = _docker("inspect", f'--format={{{{.Image}}}} {{{{index .Config.Labels "{_FOLDER}"}}}}', one)
        image, _, folder = shown.partition(" ")
        _remove(one, Path(folder), image)


def _remove(container: str, folder: Path, image: str) -> None:
    """The socket belongs to the image's account: where that is not ours to remove, the image has to do it."""
    subprocess.run(["docker", "rm", "--force", "--volumes", container], capture_output=True, check=False)
    if not folder.name.startswith(_PREFIX):
        return  # no label can make us remove something else
    with contextlib.suppress(PermissionError, FileNotFoundError):
        shutil.rmtree(folder)
    if folder.exists():
        emptying = ["docker", "run", "--rm", "--pull=never", "--network=none", "--user=0", "--entrypoint=rm"]
        emptying += [f"--mount=type=bind,source={folder},target=/drill", image, "-rf", "/drill/s"]
        subprocess.run(emptying, capture_output=True, check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _run(name: str, labels: Sequence[str], image: str, sockets: Path, preload: Sequence[str]) -> list[str]:
    """As durable as any server is, since the time it takes is measured."""
    command = ["run", "--detach", "--pull=never", "--network=none", f"--name={name}", *labels]
    command += ["--env=POSTGRES_HOST_AUTH_METHOD=trust"]
    command += [f"--mount=type=bind,source={sockets},target=/var/run/postgresql", image, "postgres"]
    settings = ["listen_addresses=127.0.0.1", f"shared_preload_libraries={','.join(preload)}"]
    return [*command, *(word for setting in settings for word in ("-c", setting))]


def _wait(name: str) -> None:
    """Until it takes sessions over TCP: while it is being set up it does so through its socket only."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        ready = ["docker", "exec", name, "pg_isready", "--quiet", "--host=127.0.0.1"]
        if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
            return
        if _docker("inspect", "--format={{.State.Running}}", name) != "true":
            break
        time.sleep(_PAUSE)
    said = subprocess.run(["docker", "logs", "--tail=50", name], capture_output=True, text=True, check=False)
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    lines = [line for line in lines if any(sign in line for sign in _SERIOUS)] or lines
    raise RunbookError(
        "The scratch server for the drill, a container of production's image, did not come up: "
        f"{' / '.join(lines[-_LINES_SHOWN:]) or 'it did not say why'}.",
        code="scratch-server",
    )


def _docker(*arguments: str) -> str:
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RunbookError(
            "There is no docker command on this host, which a drill needs: it restores into a container of the "
            "server's own image. Install the engine's client there (docker-cli or docker-ce-cli).",
            code="client-missing",
        ) from None
    if done.returncode:
        raise RunbookError(
            f"The scratch server for the drill could not be handled: docker {arguments[0]}: {done.stderr.strip()}",
            code="scratch-server",
        )
    return done.stdout.strip()
