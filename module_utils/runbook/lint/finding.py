# SPDX-License-Identifier: GPL-3.0-or-later
"""One thing the linter has to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Optional

ERROR, WARNING, NOTE = "error", "warning", "note"

SEVERITIES = (ERROR, WARNING, NOTE)
"""From worst to least."""


@dataclass(frozen=True)
class Size:
    """How large a table is in the database that the migration is for.

    Attributes:
        bytes: the table with its TOAST, without indexes; None when unknown.
        rows: how many rows it has or is estimated to have; None when unknown.
    """

    bytes: Optional[int] = None
    rows: Optional[int] = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Size:
        """Read what the caller says; a negative number is PostgreSQL's way of not knowing (``reltuples``)."""
        known = {name: int(facts[name]) for name in ("bytes", "rows") if facts.get(name) is not None}
        return cls(**{name: number for name, number in known.items() if number >= 0})

    @property
    def empty(self) -> bool:
        """Whether the table is known to have no rows."""
        return self.rows == 0 or self.bytes == 0

    def __str__(self) -> str:
        parts = [] if self.bytes is None else [readable_bytes(self.bytes)]
        parts += [] if self.rows is None else [f"{self.rows:,} row{'' if self.rows == 1 else 's'}"]
        return ", ".join(parts)


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, why it matters and what to write instead.

    Attributes:
        rule: name of the rule, as in the documentation and in suppressions.
        severity: ``error``, ``warning`` or ``note``, after the size of the table was weighed.
        file: the file, as people open it from the project's directory.
        line: line in that file, counted from 1.
        message: a sentence about this very statement.
        why: what happens if it is run as it is.
        rewrite: the safe way.
        table: the table it is about, empty if none.
        table_bytes, table_rows: its size, where the caller knows.
    """

    rule: str
    severity: str
    file: str
    line: int
    message: str
    why: str
    rewrite: str
    table: str = ""
    table_bytes: Optional[int] = None
    table_rows: Optional[int] = None

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for results and reports."""
        return asdict(self)


def readable_bytes(number: int) -> str:
    """A size for people: ``1.2 GB``."""
    size = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1024:
            return f"{number} byte{'' if number == 1 else 's'}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
