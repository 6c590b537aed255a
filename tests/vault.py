# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys to encrypt backups with, and places to copy them to: what the tests of both need."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Key:
    """A pair of keys.

    Attributes:
        identity: the file with the secret one.
        recipient: the public one.
    """

    identity: Path
    recipient: str

    @property
    def secret(self) -> str:
        """The secret key itself, which nothing may ever show."""
        return self.identity.read_text().split()[-1]


def new_key(folder: Path, name: str = "key") -> Key:
    """Make a pair of keys."""
    require("age")
    identity = folder / name
    subprocess.run(["age-keygen", "-o", str(identity)], capture_output=True, check=True)
    printed = subprocess.run(["age-keygen", "-y", str(identity)], capture_output=True, text=True, check=True)
    return Key(identity, printed.stdout.strip())


def remote(folder: Path, **remotes: dict[str, Any]) -> Path:
    """A configuration for rclone with these remotes."""
    require("rclone")
    file = folder / "rclone.conf"
    sections = [
        f"[{name}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
        for name, options in remotes.items()
    ]
    file.write_text("\n".join(sections))
    file.chmod(0o600)
    return file


def require(program: str) -> None:
    """Skip the test where a program is missing; continuous integration installs it, so there it is a failure."""
    if shutil.which(program) is None and os.environ.get("CI", "") in ("", "false"):
        pytest.skip(f"{program} is not installed, so what needs it was not tested (apt-get install {program})")
    assert shutil.which(program), f"{program} is missing: .ci/run installs it"


def flip(file: Path, at: int) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
