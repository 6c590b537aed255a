# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that cannot run in one transaction: statement by statement, with durable progress.

A statement that PostgreSQL allows in a transaction shares one with the note that it is done, so it
happens exactly once. One that PostgreSQL refuses there is noted as started before and as done after;
if the run dies in between, the next one finds out what became of it (see ``concurrent``).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Callable

from ansible.module_utils.runbook.bundle import Shipped, Task
from ansible.module_utils.runbook.concurrent import ConcurrentWork
from ansible.module_utils.runbook.contention import LockWait
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import TABLE, Progress
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.session import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    Outbox,
    SqlError,
)
from ansible.module_utils.runbook.statement import (
    Cursor,
    concurrent_statement,
    may_commit,
    refused_in_transaction,
    sets_session,
    transaction_control,
)

if TYPE_CHECKING:
    from ansible.module_utils.runbook.runner import Done, Runner

# The engine's statements inside a file's own session: as whom the session was opened for, names in pg_catalog only,
# and back to whatever the file had set when the transaction ends.
AS_RUNNER = (
    Piece(b"SET CONSTRAINTS ALL IMMEDIATE"),  # what was deferred is the file's: it runs while the file's settings hold
    Piece(b"SET LOCAL SESSION AUTHORIZATION DEFAULT"),
    Piece(b"SET LOCAL role TO DEFAULT"),  # the login's role; SET ROLE NONE would leave that, too
    Piece(b"SET LOCAL search_path TO ''"),
)
_COMMIT = Piece(b"COMMIT")
_CONCURRENT_TRIES = 3

# Errors that can end a statement half way, between two of its own transactions.
_CUT_SHORT = (QUERY_CANCELED, LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED)


class Stepwise:
    """One non-transactional file on its way through the database."""

    def __init__(self, runner: Runner, task: Task, progress: Progress | None) -> None:
        self._runner = runner
        self._session = runner.session
        self._ledger = runner.ledger
        self._task = task
        self._progress = progress if progress and progress.version == task.entry.version else None
        self._done = self._progress.done if self._progress else 0
        self._checksum = ""
        self._waits: list[LockWait] = []
        self._started = time.monotonic()
        self._names_ledger = False
        self._again = False
        self._before: tuple[int, ...] = ()

    def run(self, statements: Callable[[], Iterator[Shipped]]) -> Done:
        """Run what is left of the file and record it.

        Raises:
            RunbookError: ``interrupted`` when statements that already ran were edited; errors of the SQL itself.
        """
        resumed_after = self._done
        if self._progress is None:
            self._begin()
        self._session_limits()
        self._session.run(self._runner.search_path(local=False))
        for number, shipped in enumerate(statements(), start=1):
            if number == self._done + 1:
                self._refuse_edited(number)
            self._checksum = _advance(self._checksum, shipped.piece.text)
            if number <= self._done:
                self._replay(shipped.piece)
            else:
                self._step(number, shipped)
        if self._task.statements <= self._done:
            self._refuse_edited(self._task.statements + 1)
        self._finish()
        done = self._runner.result(self._task, self._started)
        done.resumed_after = resumed_after
        done.lock_waits, done.retries = self._waits, len(self._waits)
        return done

    def _begin(self) -> None:
        runner = self._runner

        def work() -> None:
            self._session.run(
                [
                    *runner.opening(self._task),
                    *self._ledger.ensure(runner.tables, self._task.entry.version),
                    self._ledger.begin_progress(self._task.entry, self._task.rollback),
                    _COMMIT,
                ]
            )

        self._waits += runner.attempts(work, self._task)
        runner.outcome.begun = True
        runner.look_at_tables()

    def _session_limits(self) -> None:
        """For statements that run in no transaction of ours."""
        settings = self._runner.settings
        lock, statement_ms = self._lock_limit(), self._task.statement_timeout_ms
        statement = settings.statement_timeout if statement_ms is None else statement_ms / 1000
        self._session.run(self._session.limits("SET", lock, statement))

    def _refuse_edited(self, number: int) -> None:
        if self._progress is not None and self._done and self._checksum != self._progress.checksum:
            raise RunbookError(
                f"{self._task.entry.name} was interrupted after statement {self._done}, and one of the statements "
                f"1 to {self._done} has been edited since. They have run already: restore them. "
                f"From statement {number} on the file may be changed.",
                code="interrupted",
                version=self._task.entry.version,
            )

    def _replay(self, piece: Piece) -> None:
        """A statement an earlier run completed: only what it did to the session has to be done again."""
        if sets_session(piece.text):
            self._plain(piece)

    def _step(self, number: int, shipped: Shipped) -> None:
        text = shipped.piece.text
        self._runner.note_defaults(text)
        self._names_ledger = self._names_ledger or TABLE.encode() in text
        verb = transaction_control(text)
        if self._session.in_transaction:
            self._inside_own_transaction(number, shipped, verb)
        elif verb is not None:
            self._plain(shipped.piece)
        elif self._refused(text) or (self._task.autocommit and _wants_no_transaction(text)):
            self._bare(number, shipped.piece)
        else:
            self._transactional(number, shipped)

    def _refused(self, text: bytes) -> bool:
        return refused_in_transaction(text, self._session.server_version) is not None

    def _inside_own_transaction(self, number: int, shipped: Shipped, verb: str | None) -> None:
        """The file opened a transaction: progress is noted in it, just before its COMMIT."""
        if verb == "COMMIT":
            self._guarded([*AS_RUNNER])
            self._once(self._look_at_ledger)
            self._guarded([*self._done_note(number), shipped.piece])
        elif shipped.data is not None:
            self._copy(shipped)
        else:
            self._plain(shipped.piece)

    def _transactional(self, number: int, shipped: Shipped) -> None:
        def work() -> None:
            opening = self._runner.opening(self._task)
            if shipped.data is None:
                self._session.run([*opening, shipped.piece])
            else:
                self._session.run(opening)
                self._session.copy_in(shipped.piece, shipped.data)
            self._session.run(AS_RUNNER)
            self._look_at_ledger()
            self._session.run([*self._done_note(number), _COMMIT])

        self._waits += self._runner.attempts(work, self._task, keep_session=True)

    def _bare(self, number: int, piece: Piece) -> None:
        """A statement in no transaction, with a time budget of its own.

        One with CONCURRENTLY has no lock_timeout: nobody queues behind its locks, and waiting for old snapshots is
        part of its work. What commits by itself is never tried again: a part of it may have happened.
        """
        begun = self._progress
        self._again = begun is not None and begun.started == number and begun.starting == self._checksum
        self._before = begun.before if begun is not None else ()
        settings = self._runner.settings
        limit, most = self._lock_limit(), 1 if may_commit(piece.text) else None
        if concurrent_statement(piece.text):
            limit, most = 0.0, _CONCURRENT_TRIES

        def work() -> None:
            concurrent = ConcurrentWork(self._session, piece, self._again, self._before)
            self._before = concurrent.before
            self._note(self._start_note(number, concurrent.before))
            self._session.run(self._session.limits("SET", limit, settings.concurrent_timeout))
            try:
                concurrent.run()
            except SqlError as error:
                self._again = error.sqlstate in _CUT_SHORT
                if not (error.lost or self._again or concurrent.left_rests):
                    # The server said no: the next run must not take the traces of others for this statement's.
                    self._note(self._refused_note())
                raise

        self._waits += self._runner.attempts(work, self._task, keep_session=True, watch_limit=limit, most=most)
        self._session_limits()
        self._once(lambda: self._note(self._done_note(number)))

    def _note(self, pieces: list[Piece]) -> None:
        self._session.run([Piece(b"BEGIN"), *AS_RUNNER, *pieces, _COMMIT])

    def _finish(self) -> None:
        runner, task, entry = self._runner, self._task, self._task.entry
        if self._session.in_transaction:
            raise runner.failure_of(
                RunbookError(
                    f"{entry.name} begins a transaction that it does not end. Add COMMIT to the file.",
                    code="transaction-control",
                ),
                task,
            )

        def work() -> None:
            self._session.run([*runner.opening(task), *AS_RUNNER])
            runner.refuse_foreign_rows(task, Outbox(self._session))
            self._session.run(self._recorded())
            if runner.tables.progress:
                self._session.run([self._ledger.end_progress(entry.version)])
            self._session.run([_COMMIT])

        self._waits += runner.attempts(work, task)

    def _recorded(self) -> list[Piece]:
        if self._task.rollback:
            tables = self._runner.tables
            return self._ledger.removed(self._task.entry) if tables.exists and tables.history else []
        return self._ledger.applied(self._task.entry, round((time.monotonic() - self._started) * 1000))

    def _start_note(self, number: int, before: tuple[int, ...]) -> list[Piece]:
        if not self._runner.tables.progress:
            return []
        return [self._ledger.start_statement(self._task.entry.version, number, self._checksum, before)]

    def _refused_note(self) -> list[Piece]:
        if not self._runner.tables.progress:
            return []
        return [self._ledger.refused_statement(self._task.entry.version)]

    def _done_note(self, number: int) -> list[Piece]:
        if not self._runner.tables.progress:
            return []
        return [self._ledger.finish_statement(self._task.entry.version, number, self._checksum)]

    def _look_at_ledger(self) -> None:
        """Before a commit: what the statements did to the ledger, if they can have done something to it."""
        if self._task.rollback:
            # The script that undoes the first migration may drop the ledger's schema, and with it every note.
            self._runner.look_at_tables()
        if self._names_ledger:
            self._runner.refuse_foreign_rows(self._task, Outbox(self._session))

    def _plain(self, piece: Piece) -> None:
        self._guarded([piece])

    def _copy(self, shipped: Shipped) -> None:
        self._once(lambda: self._session.copy_in(shipped.piece, shipped.data or ()))

    def _guarded(self, pieces: list[Piece]) -> None:
        self._once(lambda: self._session.run(pieces))

    def _once(self, act: Callable[[], object]) -> None:
        """Do what cannot be tried again by itself; it waits for locks no longer than anything else."""

        def work() -> None:
            act()

        limit = self._lock_limit()
        self._waits += self._runner.attempts(work, self._task, keep_session=True, watch_limit=limit, most=1)

    def _lock_limit(self) -> float:
        own = self._task.lock_timeout_ms
        return self._runner.settings.locks.longest if own is None else own / 1000


def _wants_no_transaction(text: bytes) -> bool:
    """Whether only the server can know if this runs in a transaction: it may commit, or the table be partitioned."""
    return may_commit(text) or Cursor(text).at("REINDEX", "CLUSTER")


def _advance(checksum: str, text: bytes) -> str:
    """Digest of all statements so far and this one; line endings do not count."""
    return hashlib.sha256(checksum.encode() + text.replace(b"\r\n", b"\n")).hexdigest()
