# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that are small enough to be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A disk of its own, mounted at a folder that is made for it.

    Where nobody may mount anything the test is skipped; continuous integration may, so there it is a failure.

    Parameters:
        size: as tmpfs takes it, such as ``3m``.
    """
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "runbook", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode and os.environ.get("CI", "") in ("", "false"):
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path, left: int) -> Path:
    """Write a file that leaves so many bytes on a disk; returns it."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    ballast = place / "ballast"
    with ballast.open("wb") as file:
        for _ in range((free - left) // 65536):
            file.write(bytes(65536))
    return ballast
