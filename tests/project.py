# SPDX-License-Identifier: GPL-3.0-or-later
"""Real ``ansible-playbook`` runs of the project's own playbooks, and what every one of them has to keep to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 99
"""Exit status of an ansible-playbook that was stopped with Ctrl-C."""

_RECAP = re.compile(r"^\S+ +: ok=\d+ +changed=(\d+) ", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        code: exit status of ansible-playbook.
        output: everything it printed, standard error included.
        record: the run record it left, empty when it left none.
    """

    code: int
    output: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The output with every run of white space made one space, and no quote doubled, as YAML on the screen is."""
        return " ".join(self.output.split()).replace("''", "'")

    @property
    def changed(self) -> int:
        """The number of changed tasks in Ansible's recap, over all hosts."""
        return sum(int(number) for number in _RECAP.findall(self.output))

    @property
    def host(self) -> dict[str, Any]:
        """What the run record says about the only host."""
        (entry,) = self.record["hosts"].values()
        return dict(entry)

    @property
    def error(self) -> dict[str, Any]:
        """Why the only host failed, according to the run record."""
        return dict(self.host["error"])


class Project:
    """The project's playbooks, pointed at a database of the ``database`` fixture.

    Everything a run may leave behind goes below ``folder``: run records, temporary files of the controller and of
    the modules. Each run is checked for what no run may do: show the password, a traceback or a deprecation, or
    leave a file behind.

    Parameters:
        folder: an empty folder of the test's own.
        database: a database of the ``database`` fixture; without one the inventory decides where to go.
        root: the project, or a copy of it.
        runs: folder of the run records, by default one below ``folder``.

    Attributes:
        variables: extra variables of every run.
        secrets: what no run may print or record.
    """

    def __init__(self, folder: Path, database: Any = None, root: Path = ROOT, runs: Path | None = None) -> None:
        self.root = root
        self.folder = folder
        self.database = database
        self.runs = runs or folder / "runs"
        self.init = folder / "init"
        self.rollback = folder / "rollback"
        self.checks = folder / "checks"
        self.variables = {"backup_directory": str(folder / "sets"), **(_connection(database) if database else {})}
        self.secrets = [database.password] if database else []
        self._known: set[Path] = set()
        self._started: list[subprocess.Popen[str]] = []
        self._temporary = [folder / name for name in ("local", "remote", "tmp")]
        for path in (self.init, self.rollback, self.checks, *self._temporary):
            path.mkdir(parents=True)

    def own_files(self) -> dict[str, Any]:
        """The variables that replace the project's migrations and checks by the ones a test writes.

        They are not written to be an example to others, nor does anybody prove them.
        """
        return {
            "migrate_directory": str(self.init),
            "migrate_rollback_directory": str(self.rollback),
            "validate_directory": str(self.checks),
            "migrate_lint": "skip",
            "migrate_promote_from": "",
            "migrate_validate": False,
        }

    def start(self, door: str, *arguments: str, limit: str = "staging", **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook without waiting for it; ``variables`` are handed over in a file, as secrets should be."""
        file = self.folder / "variables.json"
        file.write_text(json.dumps({**self.variables, **variables}))
        process = subprocess.Popen(
            [sys.executable, "-m", "ansible", "playbook", door, "-l", limit, "-e", f"@{file}", *arguments],
            cwd=self.root,
            env=self.environment(),
            stdin=subprocess.PIPE if "--step" in arguments else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """End the runs that a failed test left going."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout:
                process.stdout.close()

    def run(self, door: str, *arguments: str, code: int = 0, limit: str = "staging", **variables: Any) -> Run:
        """Run a playbook to its end; the exit status is part of what is promised."""
        return self.finish(self.start(door, *arguments, limit=limit, **variables), code)

    def finish(self, process: subprocess.Popen[str], code: int = 0) -> Run:
        """Wait for a playbook that was started, and check what no run may do."""
        output, _ = process.communicate(timeout=120)
        assert process.returncode == code, output
        for unwanted in ("Traceback (most recent call last)", "DEPRECATION", "Callback dispatch", *self.secrets):
            assert unwanted not in output, output
        if code == INTERRUPTED:
            # The module ends a moment after the controller, and nobody is left to remove its empty folder.
            with contextlib.suppress(AssertionError):  # what is left is said below
                poll(lambda: not self._files(self.leftovers() - self._known))
        left = self.leftovers() - self._known
        assert (self._files(left) if code == INTERRUPTED else left) == set(), (left, output)
        new = set(self.runs.glob("*/*.json")) - self._known
        self._known |= new | left
        texts = [path.read_text() for path in sorted(new)]
        assert not any(secret in text for text in texts for secret in self.secrets)
        return Run(process.returncode, output, json.loads(texts[-1]) if texts else {})

    def tool(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another of Ansible's commands in the project."""
        command = [str(Path(sys.executable).with_name(name)), *arguments]
        return subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )

    def interrupt(self, process: subprocess.Popen[str]) -> None:
        """Press Ctrl-C: the signal reaches every process of the terminal's foreground."""
        os.killpg(process.pid, signal.SIGINT)

    @staticmethod
    def _files(paths: set[Path]) -> set[Path]:
        """What an interrupted run must not leave: a copy of the code stays when SIGTERM cuts Ansible's clean-up."""
        return {
            path for path in paths if not path.is_dir() and not re.search(r"/ansible_\w+_payload\w*\.zip$", str(path))
        }

    def leftovers(self) -> set[Path]:
        """What is still there of temporary files and folders."""
        return {path for folder in self._temporary for path in folder.rglob("*")}

    def environment(self) -> dict[str, str]:
        """The environment of a run, free of the settings of whoever runs the tests."""
        local, remote, temporary = map(str, self._temporary)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "PG"))}
        return {
            **inherited,
            "ANSIBLE_DEPRECATION_WARNINGS": "true",
            "ANSIBLE_LOCAL_TEMP": local,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_REMOTE_TEMP": remote,
            "HOME": str(self.folder),
            "SCHEMA_RUNBOOK_RUNS": str(self.runs),
            "TMPDIR": temporary,
        }


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder with a short path: ansible-core puts a socket below it, whose path is limited."""
    with tempfile.TemporaryDirectory(prefix="rb-", dir="/tmp") as name:
        Path(name).chmod(0o755)  # an embedded server may run as another account
        yield Path(name)


def poll(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until ``condition`` returns something true, and return it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("It did not come true in time.")


def _connection(database: Any) -> dict[str, Any]:
    return {
        "db_runtime": "managed",
        "db_host": database.host,
        "db_port": database.port,
        "db_user": database.user,
        "db_name": database.database,
        "db_password": database.password,
    }
