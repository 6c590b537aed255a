# SPDX-License-Identifier: GPL-3.0-or-later
"""Note every command line that /proc shows, in the background, each once.

    python process_list.py FILE

Everybody on a machine can read these, which is why no password may ever be in one. It ends when FILE is removed, at the
latest after an hour.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

INTERVAL = 0.03
"""Seconds between two looks: a process that is gone sooner may be missed, an interpreter takes longer to start."""

LIMIT = 60 * 60
"""Seconds after which it ends, should the file never be removed."""


def command_lines() -> set[str]:
    """What every process shows at the moment. Kept plain: it runs many times a second."""
    found = set()
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{process}/cmdline", "rb", buffering=0) as file:
                found.add(file.read())
        except OSError:
            continue  # it has just ended
    return {b" ".join(words.split(b"\0")).replace(b"\n", b" ").decode(errors="replace").strip() for words in found}


def watch(file: Path) -> None:
    """Write each command line to ``file`` when it is seen for the first time."""
    known: set[str] = set()
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as notes:
        end = time.monotonic() + LIMIT
        while file.exists() and time.monotonic() < end:
            new = command_lines() - known
            notes.writelines(f"{line}\n" for line in sorted(new))
            notes.flush()
            known |= new
            time.sleep(INTERVAL)


def go_on_in_background() -> None:
    """Let the caller go on at once: a process of its own, with nothing open that the caller waits for."""
    if os.fork():
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


if __name__ == "__main__":
    go_on_in_background()
    watch(Path(sys.argv[1]))
