# SPDX-License-Identifier: GPL-3.0-or-later
"""Room on disks, and sizes for people."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError


def free_bytes(path: Path) -> int:
    """What is free for ordinary users on the disk that ``path`` is on, or will be on once it exists."""
    return shutil.disk_usage(existing(path)).free


def existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def readable(size: float) -> str:
    """A number of bytes for a sentence, such as ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def require(path: Path, needed: int, what: str) -> None:
    """See that there is room before anything is begun.

    Raises:
        RunbookError: ``disk-full``.
    """
    free = free_bytes(path)
    if free < needed:
        raise RunbookError(
            f"There is not enough room for {what} in {path}: {readable(free)} are free, about {readable(needed)} are "
            "needed. Nothing was begun. Make room there, or name another place.",
            code="disk-full",
        )


def sync(folder: Path) -> None:
    """Have everything in a folder, and the folder's own entries, on the disk and not only in memory."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_symlink():
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_entry(folder: Path) -> None:
    """Have a folder's list of entries on the disk, after a rename in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
