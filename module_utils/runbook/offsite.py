# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of backup sets on another machine, carried there and back by rclone.

A folder over there counts as a set once it holds a manifest. That comes last, after everything else was read back and
found equal, and goes first when a set is removed: so a copy that was broken off, in either direction, is no set. It
needs no renaming of folders, which object stores do not have.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.runbook.backup_set import EVIDENCE, MANIFEST, SetName
from ansible.module_utils.runbook.errors import RunbookError

# "name:path" or a folder of this host, such as a mounted share. rclone would also take a whole configuration in place
# of the name (":sftp,pass=…:path"): secrets belong into its configuration file, where no process list shows them.
_REMOTE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]*:[^\n]*|/[^\n]*")

# A copy takes as long as it takes; a server that says nothing any more does not.
_PATIENCE = ["--contimeout=15s", "--timeout=2m", "--retries=2", "--low-level-retries=3"]
_QUIET = ["--quiet", "--ask-password=false"]

_DIRECTORY_NOT_FOUND = 3
"""Exit status of rclone (its documentation, "List of exit codes")."""

_LINES_SHOWN = 2
_TIMESTAMP = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:ERROR : )?(?:: )?")
_ATTEMPT = re.compile(r"Attempt \d+/\d+ (?:failed|succeeded)")

# What rclone 1.60 says, and what to do about it; the first that fits.
_ADVICE = {
    "didn't find section in config": "No remote of that name is in rclone's configuration, {config}.",
    "knownhosts:": "The server's host key is not the one that is known, or none is: see known_hosts_file in {config}.",
    "unable to authenticate": "The server does not accept the key or password in {config}.",
    "permission denied": "The account there has no right to do that, or the one here cannot read {config}.",
    "differ": "What is there is not what was sent: find out what the place does to files, or the way there.",
    "no space left|disk space|quota": "Make room there, or have fewer sets kept with backup_keep_*.",
}
_UNREACHABLE = "See that the place can be reached from this host."


@dataclass(frozen=True)
class Offsite:
    """A place for copies.

    Parameters:
        remote: as rclone writes it, ``name:path``.
        config: rclone's configuration file on this host; empty for that of the account.
    """

    remote: str
    config: str = ""

    def check(self) -> None:
        """See that rclone is there and the place can be named, before anything is begun.

        Raises:
            RunbookError: ``offsite``.
        """
        if _REMOTE.fullmatch(self.remote) is None:
            raise RunbookError(
                f'backup_offsite is "{self.remote}", which names no place. Write the name of a remote in rclone\'s '
                "configuration, a colon and a path: vault:backups/postgresql.",
                code="offsite",
            )
        if shutil.which("rclone") is None:
            raise RunbookError(
                "There is no program rclone on this host, which the off-site copy needs (backup_offsite is "
                f'"{self.remote}"). Install the package rclone there, or run ansible-playbook prepare.yml.',
                code="offsite",
            )
        if self.config and not os.access(self.config, os.R_OK):
            raise RunbookError(
                f"rclone's configuration {self.config} (backup_offsite_config) cannot be read on this host.",
                code="offsite",
            )

    def names(self, database: str) -> list[SetName]:
        """The sets of a database that are there, oldest first.

        Parameters:
            database: the name of its folder, as ``backup_set.database_folder`` makes it.
        """
        place = self._path(database)
        done = self._run("lsf", "--recursive", "--files-only", "--max-depth=2", f"--include=/*/{MANIFEST}", place)
        if done.returncode == _DIRECTORY_NOT_FOUND:
            return []
        self._check(done, f"listing {place}")
        names = (SetName.parse(line.split("/")[0]) for line in done.stdout.decode("utf-8", "replace").splitlines())
        return sorted(name for name in names if name is not None)

    @contextlib.contextmanager
    def copied(self, folder: Path, database: str, name: SetName) -> Iterator[None]:
        """A copy of a set there, read back before it counts. It goes again when what follows here fails.

        Raises:
            RunbookError: ``offsite`` when it could not be copied, or came back different.
        """
        try:
            self._upload(folder, self._path(database, str(name)))
            yield
        except BaseException:
            with contextlib.suppress(RunbookError):  # the reason is worth more; without manifest it does not count
                self.remove(database, name)
            raise

    def _upload(self, folder: Path, place: str) -> None:
        """The manifest last: until then this is no set."""
        for choice in (f"--exclude=/{MANIFEST}", f"--include=/{MANIFEST}"):
            self._do("copying to", place, "copy", choice, str(folder), place)
            self._read_back(folder, place, choice)

    def _read_back(self, folder: Path, place: str, choice: str) -> None:
        done = self._run("check", "--download", "--one-way", "--differ=-", choice, str(folder), place)
        different = done.stdout.decode("utf-8", "replace").split("\n")[:_LINES_SHOWN]
        self._check(done, " ".join(["reading back", place, *different]).rstrip())

    def fetch(self, database: str, name: SetName, target: Path) -> None:
        """Copy a set from there into a folder, whose content the caller checks."""
        place = self._path(database, str(name))
        self._do("copying from", place, "copy", place, str(target))

    def upload_evidence(self, folder: Path, database: str, name: SetName) -> None:
        """Note there, too, that a restore has proven the set."""
        place = self._path(database, str(name), EVIDENCE)
        self._do("copying to", place, "copyto", str(folder / EVIDENCE), place)

    def remove(self, database: str, name: SetName) -> None:
        """Remove a set, its manifest first. One that is not there is removed already."""
        place = self._path(database, str(name))
        for command in (["delete", f"--include=/{MANIFEST}"], ["purge"]):
            done = self._run(*command, place)
            if done.returncode != _DIRECTORY_NOT_FOUND:
                self._check(done, f"removing {place}")

    def _path(self, *parts: str) -> str:
        separator = "" if self.remote.endswith((":", "/")) else "/"
        return self.remote + separator + "/".join(parts)

    def _do(self, what: str, place: str, command: str, *arguments: str) -> None:
        self._check(self._run(command, *arguments), f"{what} {place}")

    def _run(self, command: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")}
        config = [f"--config={self.config}"] if self.config else []
        return subprocess.run(
            ["rclone", command, *config, *_PATIENCE, *_QUIET, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            check=False,
        )

    def _check(self, done: subprocess.CompletedProcess[bytes], what: str) -> None:
        if done.returncode == 0:
            return
        complaints = [_TIMESTAMP.sub("", line.strip()) for line in done.stderr.decode("utf-8", "replace").splitlines()]
        lines = list(dict.fromkeys(line for line in complaints if line and not _ATTEMPT.match(line)))
        said = " / ".join(lines[-_LINES_SHOWN:]) or "nothing"
        config = self.config or "the one of the account that modules run as"
        fitting = (advice for signs, advice in _ADVICE.items() if re.search(signs, said, re.IGNORECASE))
        advice = next(fitting, _UNREACHABLE).format(config=config)
        raise RunbookError(
            f"The off-site copy failed at {what}. rclone says: {said}. {advice} To go on without an off-site copy for "
            "once, add -e backup_offsite= to the command.",
            code="offsite",
        )
