# SPDX-License-Identifier: GPL-3.0-or-later
"""What a message to the server is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """One statement of a message; ``line`` and ``file`` say where it stands, if it stands in a file."""

    text: bytes
    line: int = 0
    file: str = ""
