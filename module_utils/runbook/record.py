# SPDX-License-Identifier: GPL-3.0-or-later
"""The run record: one JSON file per run and environment, described field by field in ``docs/run-record.md``.

A record is written when a run starts, rewritten when something is known, and finished when the run ends.
A small marker file names the record of a live process, so that ``sweep`` finds the runs that were killed
without reading old records.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible.module_utils.runbook.host_entry import HostEntry

RECORD_VERSION = 1
_PARTS = ("validation", "error", "gate", "lint", "backup", "restore", "drill")
RUNNING, SUCCEEDED, FAILED, INTERRUPTED = "running", "succeeded", "failed", "interrupted"
UNKNOWN_ENVIRONMENT = "unknown"

# Operations that come every night, and leave the schema alone.
ROUTINE = ("backup", "drill")

MASK = "***"
SHORTEST_SECRET = 4

OPERATION = re.compile(r"[a-z]+(?:[-_][a-z]+)*")
_FILE_NAME = re.compile(r"(\d{8}T\d{6}Z)-(" + OPERATION.pattern + r")(?:-(\d+))?\.json")
_MARKER_NAME = re.compile(r"\.running-(\d+)")
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")

# --- what a record contains -----------------------------------------------------------------------------------


@dataclass
class Controller:
    """Who started the run, on which machine, from which state of the project."""

    user: str
    host: str
    pid: int
    revision: str | None = None

    @classmethod
    def current(cls, project: Path) -> Controller:
        """Describe this process and the project it runs."""
        return cls(user=_user(), host=socket.gethostname(), pid=os.getpid(), revision=revision_of(project))


@dataclass
class Invocation:
    """How Ansible was called."""

    core: str
    playbook: str
    limit: str | None = None


@dataclass
class Record:
    """One run in one environment."""

    operation: str
    environment: str
    controller: Controller
    ansible: Invocation
    hosts: dict[str, HostEntry]
    check: bool = False
    id: str = ""
    outcome: str = RUNNING
    started_at: str = ""
    ended_at: str | None = None
    seconds: float | None = None

    def entry(self, host: str, database: object) -> HostEntry:
        """Return the entry of a host's database: the host's own, and for further databases one of their own.

        Parameters:
            database: its name, or anything else when the host as a whole is meant.
        """
        own = self.hosts[host]
        if not isinstance(database, str) or own.database in (None, database):
            return own
        return self.hosts.setdefault(f"{host}/{database}", HostEntry())

    def entries(self, host: str) -> list[HostEntry]:
        """Return the host's own entry and those of its further databases."""
        return [entry for name, entry in self.hosts.items() if name == host or name.startswith(f"{host}/")]

    def as_dict(self) -> dict[str, Any]:
        """Return the record as it is written, in the order of the documentation."""
        return {
            "record": RECORD_VERSION,
            "id": self.id,
            "operation": self.operation,
            "environment": self.environment,
            "outcome": self.outcome,
            "check": self.check,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "seconds": self.seconds,
            "controller": asdict(self.controller),
            "ansible": asdict(self.ansible),
            "hosts": {name: asdict(entry) for name, entry in self.hosts.items()},
        }


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with every secret of four or more characters, and every password in a URL, masked."""
    # The longest first: a secret that contains another one must not leave its rest behind.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, MASK).replace(quote(secret, safe=""), MASK)
    return _URL_PASSWORD.sub(rf"\g<1>{MASK}@", text)


# --- writing --------------------------------------------------------------------------------------------------


class RecordFile:
    """The file of a record whose run is going on in this process."""

    def __init__(self, record: Record, path: Path) -> None:
        self.record = record
        self.path = path
        self._began = time.monotonic()

    @classmethod
    def begin(cls, environment_directory: Path, record: Record) -> RecordFile:
        """Give the record its start time, id and file, and write it with the outcome ``running``."""
        now = datetime.now(timezone.utc)
        record.started_at = _rfc3339(now)
        _make_private(environment_directory)
        path = _reserve(environment_directory, f"{now:%Y%m%dT%H%M%SZ}-{record.operation}")
        record.id = path.stem
        this = cls(record, path)
        try:
            _write_json(_marker_path(environment_directory), asdict(_Marker.of_this_process(path.name)))
            this.write()
        except OSError:
            path.unlink(missing_ok=True)
            _marker_path(environment_directory).unlink(missing_ok=True)
            raise
        return this

    def write(self) -> None:
        """Replace the file by the record's current state."""
        _write_json(self.path, self.record.as_dict())

    def finish(self, outcome: str) -> None:
        """Write the final state; the run no longer counts as going on."""
        self.record.outcome = outcome
        self.record.ended_at = _rfc3339(datetime.now(timezone.utc))
        self.record.seconds = round(time.monotonic() - self._began, 3)
        self.write()
        _marker_path(self.path.parent).unlink(missing_ok=True)


def sweep(environment_directory: Path) -> list[str]:
    """Mark the runs of this machine whose process is gone as interrupted; return their ids.

    Runs of other machines that share the folder are left alone: their processes cannot be seen from here.
    """
    swept = []
    for path, pid in _markers(environment_directory):
        marker = _Marker.read(path, pid)
        if marker.host != socket.gethostname() or marker.is_alive():
            continue
        record_path = environment_directory / marker.record
        data = load(record_path)
        if data and data.get("outcome") == RUNNING:
            _write_json(record_path, {**data, "outcome": INTERRUPTED})
            swept.append(record_path.stem)
        path.unlink(missing_ok=True)
        _temporary_path(environment_directory, pid).unlink(missing_ok=True)
    return swept


# --- reading --------------------------------------------------------------------------------------------------


def latest(
    environment_directory: Path, operation: str | None = None, include_check: bool = True, without: Iterable[str] = ()
) -> dict[str, Any] | None:
    """Return the newest readable record, of one operation if named; None when there is none.

    Parameters:
        without: operations that are passed over.

    File names tell order and operation, so no older record is opened than needed.
    """
    for name in _names(environment_directory):
        if operation in (None, name[2]) and name[2] not in without:
            data = load(environment_directory / name[0])
            if data and (include_check or not data.get("check")):
                return data
    return None


def newest_first(environment_directory: Path, without: Iterable[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield every readable record, the newest first, opening one at a time.

    Parameters:
        without: operations that are passed over.
    """
    for name in _names(environment_directory):
        data = load(environment_directory / name[0]) if name[2] not in without else None
        if data:
            yield data


def _names(environment_directory: Path) -> list[re.Match[str]]:
    names = [match for match in map(_FILE_NAME.fullmatch, _listing(environment_directory)) if match]
    return sorted(names, key=_age_order, reverse=True)


def load(path: Path) -> dict[str, Any] | None:
    """Return the record in ``path``, or None when it is no record this version can read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if _is_record(data) else None


def _is_record(data: Any) -> bool:
    """Whether what others read of a record has the form they rely on; people edit files, and disks lose parts."""
    if not isinstance(data, dict) or data.get("record") != RECORD_VERSION or not isinstance(data.get("id"), str):
        return False
    hosts = data.get("hosts")
    return isinstance(hosts, dict) and all(
        isinstance(entry, dict) and all(isinstance(entry.get(part), (dict, type(None))) for part in _PARTS)
        for entry in hosts.values()
    )


def revision_of(project: Path) -> str | None:
    """Return the commit that ``project`` has checked out, read from its ``.git`` without running git."""
    git = project / ".git"
    try:
        if git.is_file():  # A linked worktree: the file names the real folder.
            git = project / git.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        head = (git / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        return _resolve(git, head[len("ref: ") :])
    except (OSError, ValueError):
        return None


# --- details --------------------------------------------------------------------------------------------------


@dataclass
class _Marker:
    """Names the record that a process is writing; the start time tells a reused pid from the original."""

    record: str
    host: str
    pid: int
    process_start: int | None = None

    @classmethod
    def of_this_process(cls, record: str) -> _Marker:
        """Describe this process as the writer of ``record``."""
        return cls(record, socket.gethostname(), os.getpid(), _process(os.getpid())[1])

    @classmethod
    def read(cls, path: Path, pid: int) -> _Marker:
        """Read a marker; one that says nothing useful belongs to this machine and to no record."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            # Only the last part of the name: a marker can never point out of its own folder.
            return cls(Path(data["record"]).name, data["host"], pid, data["process_start"])
        except (OSError, ValueError, KeyError, TypeError):
            return cls("", socket.gethostname(), pid)

    def is_alive(self) -> bool:
        """Tell whether the very process that wrote the marker still runs."""
        state, start = _process(self.pid)
        if state is None or state in "ZX":
            return False
        return start is None or self.process_start is None or start == self.process_start


def _process(pid: int) -> tuple[str | None, int | None]:
    """Return state and start time of a process; without /proc only whether it exists (``?``)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        # The second field, the program's name, may contain anything, a closing parenthesis included.
        fields = status.rpartition(")")[2].split()
        return fields[0], int(fields[19])
    except OSError:
        return ("?" if _exists(pid) else None), None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # It exists and belongs to somebody else.
        return True
    return True


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # Containers run as users that have no name.
        return str(os.getuid())


def _resolve(git: Path, ref: str) -> str | None:
    common = git / "commondir"
    base = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
    if (base / ref).is_file():
        return (base / ref).read_text(encoding="utf-8").strip()
    for line in (base / "packed-refs").read_text(encoding="utf-8").splitlines():
        if line.endswith(" " + ref):
            return line.split()[0]
    return None


def _make_private(directory: Path) -> None:
    for folder in (directory.parent, directory):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _reserve(directory: Path, stem: str) -> Path:
    """Create the first free name as an empty file, so that two runs in one second never share a record."""
    number = 1
    while True:
        path = directory / (f"{stem}.json" if number == 1 else f"{stem}-{number}.json")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            number += 1
        else:
            return path


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Replace ``path`` in one step: readers and crashes see the old content or the new one, never a part."""
    temporary = _temporary_path(path.parent, os.getpid())
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        # Undecodable bytes of file names arrive as lone surrogates; a backslash escape is how JSON spells those.
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _marker_path(directory: Path) -> Path:
    return directory / f".running-{os.getpid()}"


def _temporary_path(directory: Path, pid: int) -> Path:
    return directory / f".writing-{pid}"


def _markers(directory: Path) -> Iterator[tuple[Path, int]]:
    for match in map(_MARKER_NAME.fullmatch, _listing(directory)):
        if match:
            yield directory / match[0], int(match[1])


def _listing(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _age_order(name: re.Match[str]) -> tuple[str, int, str]:
    return name[1], int(name[3] or 1), name[0]


def _rfc3339(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"
