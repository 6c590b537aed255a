# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: a plan as one file that travels from the controller to the target.

The target reads it front to back, one statement at a time, so that its memory depends on the
largest statement and not on the size or number of files. Layout: one JSON line about the run,
then for each task one JSON line with the length of what follows, its statements; a statement is a
JSON line with lengths, then its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from ansible.module_utils.runbook.ledger import Entry
from ansible.module_utils.runbook.migration import Prepared
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.script import Statement

_CHUNK = 256 * 1024


@dataclass(frozen=True)
class Task:
    """One file to run.

    Attributes:
        entry: what the ledger records about it.
        rollback: whether the file undoes the migration instead of applying it.
        statements: how many statements it has.
        outside: why it cannot run in one transaction; empty when it can.
        autocommit: the author asked for it (``-- transaction: none``), so nothing is wrapped.
    """

    entry: Entry
    rollback: bool
    statements: int
    outside: str
    autocommit: bool
    lock_timeout_ms: int | None
    statement_timeout_ms: int | None

    @classmethod
    def of(cls, entry: Entry, prepared: Prepared, rollback: bool) -> Task:
        """The task of a prepared file."""
        return cls(
            entry=entry,
            rollback=rollback,
            statements=len(prepared.script.statements),
            outside=prepared.outside,
            autocommit=not prepared.directives.transaction,
            lock_timeout_ms=prepared.directives.lock_timeout_ms,
            statement_timeout_ms=prepared.directives.statement_timeout_ms,
        )

    @property
    def transactional(self) -> bool:
        """Whether the whole file runs in one transaction."""
        return not self.outside


@dataclass(frozen=True)
class Order:
    """What to do besides running files: ledger entries to write without running anything.

    Attributes:
        expected: digest of the ledger the plan was made for.
    """

    expected: str
    repair: tuple[Entry, ...] = ()
    adopt: tuple[Entry, ...] = ()
    baseline: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Shipped:
    """A statement as it arrives; ``data`` is what follows a COPY, None for other statements."""

    piece: Piece
    data: CopyData | None


class CopyData:
    """The data of a COPY, in chunks; can be iterated again when the statement has to be repeated."""

    def __init__(self, file: IO[bytes], position: int, size: int) -> None:
        self._file = file
        self._position = position
        self._size = size

    def __iter__(self) -> Iterator[bytes]:
        position, end = self._position, self._position + self._size
        while position < end:
            self._file.seek(position)
            chunk = self._file.read(min(end - position, _CHUNK))
            position += len(chunk)
            yield chunk


class BundleReader:
    """Reads a bundle (on the target). Tasks come in order; a task's statements can be read again."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        head = json.loads(file.readline())
        self.order = Order(
            expected=head["expected"],
            **{name: tuple(Entry(**entry) for entry in head[name]) for name in ("repair", "adopt", "baseline")},
        )
        self._count = head["tasks"]

    def tasks(self) -> Iterator[tuple[Task, int]]:
        """Each task and the place of its statements, for ``statements``."""
        position = self._file.tell()
        for _ in range(self._count):
            self._file.seek(position)
            fields = json.loads(self._file.readline())
            place = self._file.tell()
            position = place + fields.pop("length")
            yield Task(**{**fields, "entry": Entry(**fields["entry"])}), place

    def statements(self, task: Task, place: int) -> Iterator[Shipped]:
        """The statements of a task, one at a time."""
        position = place
        for _ in range(task.statements):
            self._file.seek(position)
            line, name, size, data_size = json.loads(self._file.readline())
            text = self._file.read(size)
            position = self._file.tell() + (data_size or 0)
            data = None if data_size is None else CopyData(self._file, self._file.tell(), data_size)
            yield Shipped(Piece(text, line, name), data)


def write_bundle(file: IO[bytes], order: Order, tasks: Sequence[tuple[Task, Prepared]]) -> None:
    """Write a bundle (on the controller)."""
    file.write(_line({**asdict(order), "tasks": len(tasks)}))
    for task, prepared in tasks:
        parts = [part for statement in prepared.script.statements for part in _parts(statement)]
        file.write(_line({**asdict(task), "length": sum(map(len, parts))}))
        file.writelines(parts)


def _parts(statement: Statement) -> tuple[bytes, bytes, bytes]:
    text, data = statement.text, statement.data
    return _line([statement.line, statement.file, len(text), None if data is None else len(data)]), text, data or b""


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
