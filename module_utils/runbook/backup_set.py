# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup sets: folders that hold one backup each and describe themselves.

``<backup_directory>/<database>/<UTC>_v<schema version>/`` holds the dump, the server's roles, a manifest, checksums,
and a text that says how to restore it by hand. There is no catalogue beside the sets: what a folder's name and files
say is all there is to know, so a copy of the folder is a copy of the backup.

A set is *taken* while its name ends in ``.partial``, *sealed* when it has been checked and given its final name, and
*verified* when a restore has proven it. Only sealed and verified sets count.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import Manifest

TAKEN, SEALED, VERIFIED = "taken", "sealed", "verified"

PARTIAL = ".partial"
"""What the name of a folder ends in until the set in it is sealed."""

FETCHING = ".fetching"
"""The same for a copy on its way back from off-site: whoever fetches it need not hold the database's run lock."""

MANIFEST = "manifest.json"
CHECKSUMS = "SHA256SUMS"
EVIDENCE = "verified.json"
"""Written by whoever restored the set and found it right; not covered by the checksums, since it comes later."""

INSTRUCTIONS = "README.txt"
PROPERTIES = "database.sql"
"""What gives a restored database its name, owner, privileges and settings, for people who restore by hand."""

DUMP = "dump"
"""The folder that ``pg_dump --format=directory`` has written."""

ENCRYPTED_DUMP = "dump.pgc.age"
"""What ``pg_dump --format=custom`` has written, encrypted."""

GLOBALS = "globals.sql"
ENCRYPTED_GLOBALS = "globals.sql.age"

_UNCOVERED = (CHECKSUMS, EVIDENCE, f"{EVIDENCE}{PARTIAL}")
_NAME = re.compile(r"(\d{8}T\d{6}Z)_v(\d+)")
_TIME = "%Y%m%dT%H%M%SZ"
_CHECKSUM_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_CHUNK = 1024 * 1024
_THREADS = 2


@dataclass(frozen=True, order=True)
class SetName:
    """The name of a set: when its snapshot was taken, and the schema version in it; 0 without a ledger.

    Parameters:
        taken_at: in UTC, to the second.
    """

    taken_at: datetime
    schema_version: int

    @classmethod
    def parse(cls, text: str) -> SetName | None:
        """Read a folder's name; None for everything that is no set's final name."""
        match = _NAME.fullmatch(text)
        if match is None:
            return None
        try:
            taken_at = datetime.strptime(match[1], _TIME).replace(tzinfo=timezone.utc)
        except ValueError:  # the 31st of February
            return None
        return cls(taken_at, int(match[2]))

    def __str__(self) -> str:
        return f"{self.taken_at.astimezone(timezone.utc):{_TIME}}_v{self.schema_version}"


@dataclass(frozen=True)
class BackupSet:
    """A sealed set on this host's disk.

    Parameters:
        path: its folder.
        name: what the folder's name says.
    """

    path: Path
    name: SetName

    @property
    def state(self) -> str:
        """``sealed`` or ``verified``."""
        return VERIFIED if (self.path / EVIDENCE).is_file() else SEALED

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            RunbookError: ``set-damaged`` when it is no manifest this version can read.
        """
        path = self.path / MANIFEST
        try:
            return Manifest.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise _damaged(path, f"cannot be read as a manifest: {error or type(error).__name__}") from error

    def evidence(self) -> dict[str, Any] | None:
        """What the last proof by restoring said; None when there was none, or it cannot be read."""
        try:
            found = json.loads((self.path / EVIDENCE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def database_folder(directory: Path, database: str) -> Path:
    """The folder of a database's sets. Any name PostgreSQL allows makes a plain folder name."""
    return directory / quote(database, safe=" ").replace(".", "%2E")


def sealed_sets(folder: Path) -> list[BackupSet]:
    """The sets that count, oldest first; a folder that is not there has none.

    A folder with a set's name but without a manifest is none: nobody gives it that name before the manifest is in it.
    """
    return sorted(_sealed_sets(folder), key=lambda found: found.name)


def _sealed_sets(folder: Path) -> Iterator[BackupSet]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        name = SetName.parse(entry.name)
        if name is not None and entry.is_dir(follow_symlinks=False) and (Path(entry.path) / MANIFEST).is_file():
            yield BackupSet(Path(entry.path), name)


@contextlib.contextmanager
def unfinished(parent: Path, name: SetName, ending: str) -> Iterator[Path]:
    """A folder for a set that does not count yet. Inside it is renamed, or it is gone afterwards.

    Parameters:
        ending: ``PARTIAL`` or ``FETCHING``.
    """
    folder = parent / f"{name}{ending}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)


def write_evidence(folder: Path, evidence: dict[str, Any]) -> None:
    """Note what a restore has proven; from now on the set is verified."""
    partial = folder / f"{EVIDENCE}{PARTIAL}"
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(json.dumps(evidence, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / EVIDENCE)


# --- checksums -------------------------------------------------------------------------------------------------------


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file in a set, in the form that ``sha256sum --check`` reads."""
    files = _covered(folder)
    with ThreadPoolExecutor(_THREADS) as threads:  # they do work at once: hashing needs no interpreter
        digests = list(threads.map(sha256, files))
    lines = [f"{digest}  {path.relative_to(folder)}\n" for digest, path in zip(digests, files)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def check_checksums(folder: Path) -> None:
    """See that a set holds exactly what it held when it was sealed.

    Raises:
        RunbookError: ``set-damaged``, naming each file that is missing, changed, or one too many.
    """
    known = _read_checksums(folder / CHECKSUMS)
    present = {str(path.relative_to(folder)): path for path in _covered(folder)}
    problems = [f"{name} is missing" for name in known if name not in present]
    problems += [f"{name} is not part of it" for name in present if name not in known]
    common = [name for name in known if name in present]
    with ThreadPoolExecutor(_THREADS) as threads:
        digests = list(threads.map(sha256, (present[name] for name in common)))
    for name, digest in zip(common, digests):
        if digest != known[name]:
            problems.append(f"{name} has other content (its SHA-256 is not the one in {CHECKSUMS})")
    if problems:
        raise _damaged(folder, "is not what was sealed: " + "; ".join(problems))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _covered(folder: Path) -> list[Path]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return [path for path in files if path.relative_to(folder).as_posix() not in _UNCOVERED]


def _read_checksums(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(path, f"cannot be read: {error}") from error
    matches = [_CHECKSUM_LINE.fullmatch(line) for line in lines]
    if not matches or not all(matches):
        raise _damaged(path, "is empty or no list of checksums")
    return {match[2]: match[1] for match in matches if match}


def _damaged(path: Path, reason: str) -> RunbookError:
    return RunbookError(
        f"The backup set {path} {reason}. It cannot be restored from safely: use another set, and find out what "
        "happened to the disk or to whoever changes files there.",
        code="set-damaged",
        folder=str(path),
    )
