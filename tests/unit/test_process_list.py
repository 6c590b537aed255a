# SPDX-License-Identifier: GPL-3.0-or-later
"""The watcher of the process list sees what the scenarios rely on it to see."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import ROOT, poll

WATCHER = ROOT / "molecule/shared/process_list.py"


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Path]:
    """The file that a watcher in the background writes to."""
    file = tmp_path / "process_list"
    # It returns at once although it goes on: nobody waits for its output.
    subprocess.run([sys.executable, WATCHER, file], check=True, capture_output=True, timeout=10)
    poll(file.exists)
    yield file
    file.unlink(missing_ok=True)
    poll(lambda: not watchers(file))


def watchers(file: Path) -> list[str]:
    """The command lines of the processes that watch for this file."""
    found = []
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # it has just ended
        found += [line] if WATCHER.name in line and str(file) in line else []
    return found


def test_a_password_on_a_command_line_is_noticed(notes: Path) -> None:
    # About as long as the shortest interpreter, and the password only in the child.
    subprocess.run(["sh", "-c", 'secret=open; sh -c "sleep 0.2; exit 0" name "${secret}sesame"'], check=True)
    line = poll(lambda: [line for line in notes.read_text().splitlines() if line.endswith("name opensesame")])
    assert len(line) == 1  # noted once, however often it was seen
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600


def test_it_ends_with_its_file(notes: Path) -> None:
    assert len(watchers(notes)) == 1
    notes.unlink()
    poll(lambda: not watchers(notes))
