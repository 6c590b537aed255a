# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner: carries out a bundle on the database, under the run lock.

A transactional file runs as BEGIN · its statements · its ledger row · COMMIT, so it is applied and
recorded or neither. A file that cannot run in one transaction is left to ``stepwise``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Callable

from ansible.module_utils.runbook.bundle import BundleReader, Task
from ansible.module_utils.runbook.contention import LockPolicy, LockWait, LockWatch
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.ledger import Entry, Ledger, State, Tables
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.runlock import RunLock
from ansible.module_utils.runbook.session import Outbox, Session, SqlError
from ansible.module_utils.runbook.stepwise import AS_RUNNER, Stepwise

_BEGIN = Piece(b"BEGIN")
_COMMIT = Piece(b"COMMIT")

# ALTER DATABASE and ALTER ROLE … SET
_SETS_DEFAULTS = re.compile(rb"\balter\s+(?:database|role|user)\b", re.IGNORECASE)
# Between files that share a transaction: what DISCARD ALL does, which cannot run inside one.
_RESET = tuple(
    Piece(command)
    for command in (
        b"CLOSE ALL",
        b"RESET SESSION AUTHORIZATION",
        b"RESET ROLE",
        b"RESET ALL",
        b"DEALLOCATE ALL",
        b"UNLISTEN *",
        b"SELECT pg_catalog.pg_advisory_unlock_all()",
        b"DISCARD PLANS",
        b"DISCARD TEMP",
        b"DISCARD SEQUENCES",
    )
)


@dataclass(frozen=True)
class Settings:
    """How to run. Times in seconds; ``statement_timeout`` and ``concurrent_timeout`` 0 mean none."""

    locks: LockPolicy = LockPolicy()
    statement_timeout: float = 0
    concurrent_timeout: float = 14400.0
    one_transaction: bool = False
    show_blocking_queries: bool = False


@dataclass
class Done:
    """What happened to one file."""

    version: int
    name: str
    description: str
    checksum: str
    milliseconds: int
    statements: int
    transaction: bool
    retries: int = 0
    resumed_after: int = 0
    lock_waits: list[LockWait] = field(default_factory=list)


@dataclass
class Outcome:
    """What a run has done so far; filled as it goes, so that a failure can report it.

    ``wal_lsn`` is the position that a standby has replayed when it has everything; None when nothing was changed.
    """

    applied: list[Done] = field(default_factory=list)
    rolled_back: list[Done] = field(default_factory=list)
    repaired: list[Entry] = field(default_factory=list)
    adopted: list[Entry] = field(default_factory=list)
    baselined: list[Entry] = field(default_factory=list)
    version: int | None = None
    wal_lsn: str | None = None
    begun: bool = False

    @property
    def changed(self) -> bool:
        """Whether the database is not what it was."""
        done = self.applied or self.rolled_back or self.repaired or self.adopted or self.baselined
        return bool(done) or self.begun

    def as_result(self) -> dict[str, Any]:
        """JSON-serialisable form for module results."""
        result = asdict(self)
        del result["begun"]
        return result


class Stale(Exception):
    """The ledger is not the one the plan was made for: another run was faster. Nothing has been done."""


class Runner:
    """One run on one database.

    Parameters:
        session: the working session.
        lock: the run lock, held.
        ledger: the ledger of the schema.
        settings: how to run.
    """

    tables: Tables

    def __init__(self, session: Session, lock: RunLock, ledger: Ledger, settings: Settings) -> None:
        self.session = session
        self.lock = lock
        self.ledger = ledger
        self.settings = settings
        self.outcome = Outcome()
        self._state = State(())
        self._recorded: set[int] = set()
        self._look_again = False
        self._renew = False
        self._open: dict[int, str] = {}
        self._at: Task | None = None
        self._path: str | None = None
        self._lock_timeout = settings.locks.first
        self._watch = LockWatch(lock.session, session, settings.show_blocking_queries)

    def run(self, bundle: BundleReader) -> Outcome:
        """Carry out the whole bundle.

        Raises:
            Stale: when the ledger changed since the plan.
            RunbookError: when something stopped the run; ``outcome`` says how far it came.
        """
        try:
            self._read_ledger()
            if self._state.digest() != bundle.order.expected:
                raise Stale
            self._mark(bundle)
            for group in self._groups(bundle):
                self.lock.assure()
                self._run_group(bundle, group)
        finally:
            self._watch.close()
        return self.outcome

    def _read_ledger(self) -> None:
        def work() -> None:
            self.session.run(self.opening(None))
            self.look_at_tables()
            self._state = self.ledger.state(self.session, self.tables)
            self.session.run([_COMMIT])

        self.attempts(work, None)
        self._path = self.ledger.path_without(self.session)
        self._recorded = {row.version for row in self._state.rows}
        self.outcome.version = self._state.version

    def _mark(self, bundle: BundleReader) -> None:
        """Write the entries for which no file has to run."""
        order = bundle.order
        marks = (("repaired", order.repair), ("adopted", order.adopt), ("baselined", order.baseline))
        versions = [entry.version for _, entries in marks for entry in entries]
        if not versions:
            return

        def work() -> None:
            self.session.run([*self.opening(None), *self.ledger.ensure(self.tables, max(versions))])
            outbox = Outbox(self.session)
            for event, entries in marks:
                for piece in self.ledger.marked(event, entries):
                    outbox.add(piece)
            outbox.send()
            self.session.run([_COMMIT])

        self.attempts(work, None)
        self.look_at_tables()
        self.outcome.repaired, self.outcome.adopted = list(order.repair), list(order.adopt)
        self.outcome.baselined = list(order.baseline)
        self._recorded.update(versions)
        self._reached(entry.version for entry in order.baseline)

    def _groups(self, bundle: BundleReader) -> Iterator[list[tuple[Task, int]]]:
        """Files that share a transaction: one each, or every run of consecutive transactional ones."""
        group: list[tuple[Task, int]] = []
        for task, place in self._tasks(bundle):
            if group and not (self.settings.one_transaction and task.transactional and group[-1][0].transactional):
                yield group
                group = []
            group.append((task, place))
        if group:
            yield group

    def _tasks(self, bundle: BundleReader) -> Iterator[tuple[Task, int]]:
        """A file that was interrupted between two statements goes on there, whatever it has been edited to since."""
        begun = self._state.progress
        for task, place in bundle.tasks():
            if begun is not None and task.entry.version == begun.version and task.transactional:
                task = replace(task, outside="its interrupted run")
            yield task, place

    def _run_group(self, bundle: BundleReader, group: Sequence[tuple[Task, int]]) -> None:
        task, place = group[0]
        if task.transactional:
            done = self._in_one_transaction(bundle, group)
        else:
            done = [Stepwise(self, task, self._state.progress).run(lambda: bundle.statements(task, place))]
            self._state = replace(self._state, progress=None)
        for (finished, _), result in zip(group, done):
            self._finished(finished, result)
        self._leave_nothing()
        if self._look_again:
            self._look_again = False
            self.look_at_tables()

    def _leave_nothing(self) -> None:
        """Each file finds the session that psql would give it."""
        if self._renew:
            self._renew = False
            self.session.renew()
            self._path = self.ledger.path_without(self.session)
        else:
            self.session.reset()

    def _in_one_transaction(self, bundle: BundleReader, group: Sequence[tuple[Task, int]]) -> list[Done]:
        done: list[Done] = []

        def work() -> None:
            done.clear()
            for task, place in group:
                done.append(self._run_file(bundle, task, place, first=not done))
            self.session.run([_COMMIT])

        waits = self.attempts(work, group[0][0])
        done[0].lock_waits, done[0].retries = waits, len(waits)
        return done

    def _run_file(self, bundle: BundleReader, task: Task, place: int, first: bool) -> Done:
        self._at = task
        self._watch.allow(self._limit(task))
        started = time.monotonic()
        begin, lock_limit, *limits = [*self.opening(task), *self.search_path(local=True)]
        outbox = Outbox(self.session, [begin] if first else _RESET)
        for piece in [lock_limit, *limits, *(self.ledger.set_aside() if self._undoes_everything(task) else [])]:
            outbox.add(piece)
        for shipped in bundle.statements(task, place):
            self.note_defaults(shipped.piece.text)
            if shipped.data is None:
                outbox.add(shipped.piece)
            else:
                outbox.send()
                self.session.copy_in(shipped.piece, shipped.data)
            if b"lock_timeout" in shipped.piece.text.lower():
                outbox.add(lock_limit)  # only the directive changes how long others may have to wait
        for piece in AS_RUNNER:
            outbox.add(piece)
        if task.rollback:
            self._record_rollback(task, outbox)
        else:
            self._record(task, outbox, None if first else started)
        self._open[task.entry.version] = task.entry.checksum
        return self.result(task, started)

    def _record(self, task: Task, outbox: Outbox, started: float | None) -> None:
        """Write the ledger row inside the open transaction.

        Parameters:
            started: when the file began; None when the transaction began with it, so that the server knows.
        """
        if not self.tables.complete:
            # The file itself may have created or completed the ledger.
            self._look_again = True
            outbox.send()
            self.look_at_tables()
        missing = self.ledger.ensure(self.tables, task.entry.version)
        if missing and self.tables.exists:
            self.refuse_foreign_rows(task, outbox)  # before a wider key rewrites every row
        for piece in [*missing, *self.ledger.applied(task.entry, self._milliseconds(outbox, started))]:
            outbox.add(piece)
        if not missing:
            self.refuse_foreign_rows(task, outbox)
            return
        outbox.send()
        self._look_again = True
        if self.settings.one_transaction:
            self.look_at_tables()

    def _record_rollback(self, task: Task, outbox: Outbox) -> None:
        """Take the ledger row away inside the open transaction, if the script left a ledger at all."""
        set_aside = self._undoes_everything(task)
        self._look_again = True
        outbox.send()
        self.look_at_tables()
        self.refuse_foreign_rows(task, outbox)
        if not self.tables.exists:
            return
        if set_aside:
            self.session.run([*self.ledger.ensure(self.tables, task.entry.version), *self.ledger.bring_back()])
            self.look_at_tables()
        if self.tables.history:
            self.session.run(self.ledger.removed(task.entry))

    def _undoes_everything(self, task: Task) -> bool:
        """Whether nothing is left after this rollback: its script may drop the schema, with nothing of ours in it."""
        return task.rollback and self.tables.complete and self._recorded - set(self._open) == {task.entry.version}

    def _milliseconds(self, outbox: Outbox, started: float | None) -> int | None:
        if started is None:
            return None
        outbox.send()
        return milliseconds_since(started)

    def _finished(self, task: Task, done: Done) -> None:
        if task.rollback:
            self.outcome.rolled_back.append(done)
            self._recorded.discard(done.version)
            gone = {item.version for item in self.outcome.rolled_back}
            self.outcome.version = max((r.version for r in self._state.rows if r.version not in gone), default=None)
        else:
            self.outcome.applied.append(done)
            self._recorded.add(done.version)
            self._reached([done.version])

    def _reached(self, versions: Iterable[int]) -> None:
        reached = [version for version in (self.outcome.version, *versions) if version is not None]
        self.outcome.version = max(reached, default=None)

    # ---- shared with stepwise

    def opening(self, task: Task | None) -> list[Piece]:
        """BEGIN and the limits of a transaction; they end with it."""
        lock_ms = task.lock_timeout_ms if task else None
        statement_ms = task.statement_timeout_ms if task else None
        return [
            _BEGIN,
            *self.session.limits(
                "SET LOCAL",
                self._lock_timeout if lock_ms is None else lock_ms / 1000,
                self.settings.statement_timeout if statement_ms is None else statement_ms / 1000,
            ),
        ]

    def search_path(self, local: bool) -> list[Piece]:
        """What makes a file find the names it would find if there were no ledger; mostly nothing."""
        if self._path is None or not self.tables.own_schema:
            return []
        # Not set_config(): SET TRANSACTION has to come before any query, and it may be the file's first statement.
        return [Piece(f"SET {'LOCAL' if local else 'SESSION'} search_path TO {self._path}".encode())]

    def look_at_tables(self) -> None:
        """Find out again which parts of the ledger exist."""
        self.tables = self.ledger.tables(self.session)

    def note_defaults(self, text: bytes) -> None:
        """Take note of a statement that may set defaults of a database or role: they hold from the next login on."""
        self._renew = self._renew or _SETS_DEFAULTS.search(text) is not None

    def refuse_foreign_rows(self, task: Task, outbox: Outbox) -> None:
        """Refuse a file that writes or removes rows of the ledger that belong to other versions.

        What is queued in ``outbox`` goes out first, in the same message.
        """
        name, version = task.entry.name, task.entry.version
        expected = self._recorded - set(self._open) if task.rollback else self._recorded | set(self._open)
        question = self.ledger.strangers(version, self._open)
        stranger, others = outbox.send(question) if self.tables.exists else (None, None)
        if stranger is not None and int(stranger) not in self._recorded | set(self._open):
            raise RunbookError(
                f"{name} records version {int(stranger)} in {self.ledger.schema}.schema_version, but its name says "
                f"{version}. Make the INSERT and the file name agree.",
                code="self-recorded",
                version=version,
            )
        if stranger is not None or int(others or 0) < len(expected - {version}):
            raise RunbookError(
                f"{name} changes or removes rows of other migrations in {self.ledger.schema}.schema_version. "
                "The ledger is not a migration's to change: take that out of the file.",
                code="ledger-damaged",
                version=version,
            )

    def attempts(
        self,
        work: Callable[[], None],
        task: Task | None,
        keep_session: bool = False,
        watch_limit: float | None = None,
        most: int | None = None,
    ) -> list[LockWait]:
        """Do ``work``, again and again while locks are not to be had; returns the attempts that failed on them.

        Parameters:
            keep_session: the file's own SETs have to survive a failed attempt.
            watch_limit: seconds of lock waits in all that an attempt may take; None: its lock timeout.
            most: at most this many attempts; None: as many as the budget allows.

        Raises:
            RunbookError: ``lock-timeout`` when the budget is used up; ``sql`` and others for errors of the file.
        """
        waits: list[LockWait] = []
        deadline = time.monotonic() + self.settings.locks.budget
        while True:
            self._lock_timeout = self.settings.locks.timeout(len(waits))
            self._watch.begin(self._limit(task) if watch_limit is None else watch_limit)
            self._at = task
            self._open.clear()
            failed = None
            try:
                work()
            except SqlError as error:
                failed = error
            except RunbookError as error:
                raise self.failure_of(error, self._at) from error
            finally:
                seen = self._watch.end()
            if failed is None:
                return waits
            if not seen.failed_on_lock(failed):
                raise self.failure(failed, self._at) from failed
            waits.append(seen.lock_wait())
            self._roll_back(keep_session)
            if self._look_again and not keep_session:
                self.look_at_tables()
            self._pause(waits, deadline, most, task)

    def _limit(self, task: Task | None) -> float:
        if task is not None and task.lock_timeout_ms is not None:
            return task.lock_timeout_ms / 1000
        return self._lock_timeout

    def _pause(self, waits: Sequence[LockWait], deadline: float, most: int | None, task: Task | None) -> None:
        pause = self.settings.locks.pause(len(waits) - 1)
        self._lock_timeout = self.settings.locks.timeout(len(waits))
        if len(waits) == most or time.monotonic() + pause + self._limit(task) > deadline:
            raise self.failure_of(_out_of_patience(waits, task), task)
        time.sleep(pause)
        self.lock.assure()

    def failure(self, error: SqlError, task: Task | None) -> RunbookError:
        """Roll back, note the failure in the history, and say it in a sentence."""
        if task is None or task.transactional:
            shared = self.settings.one_transaction
            kept = f"Nothing of {'the files in this transaction' if shared else 'this file'} was kept."
        else:
            kept = "Statements before this one are done: run it again after mending the file, it goes on from here."
        explained = explain(error, task.entry.name if task else "the ledger", kept)
        return explained if error.lost else self.failure_of(explained, task)

    def failure_of(self, error: RunbookError, task: Task | None) -> RunbookError:
        """Roll back and note the failure in the history; returns ``error``.

        Best effort: the run fails with ``error`` in any case, and a ledger is not created for this.
        """
        try:
            self._roll_back(keep_session=False)
            self.look_at_tables()
            if task is not None and self.tables.history:
                event = "rollback failed" if task.rollback else "failed"
                note = self.ledger.event(event, task.entry, detail=error.message[:2000])
                self.session.run([*self.opening(None), *AS_RUNNER, note, _COMMIT])
        except SqlError:
            self.session.close()
        return error

    def _roll_back(self, keep_session: bool) -> None:
        if self.session.in_transaction:
            self.session.run([Piece(b"ROLLBACK")])
        if not keep_session:
            self.session.reset()

    def result(self, task: Task, started: float) -> Done:
        """What to report about a file that ran since ``started`` (``time.monotonic``)."""
        entry = task.entry
        return Done(
            version=entry.version,
            name=entry.name,
            description=entry.description,
            checksum=entry.checksum,
            milliseconds=milliseconds_since(started),
            statements=task.statements,
            transaction=task.transactional,
        )


def milliseconds_since(started: float) -> int:
    """Whole milliseconds since a moment of ``time.monotonic``."""
    return round((time.monotonic() - started) * 1000)


def _out_of_patience(waits: Sequence[LockWait], task: Task | None) -> RunbookError:
    blockers = "; ".join(str(blocker) for blocker in waits[-1].blockers) or "nobody who could be named"
    name = task.entry.name if task else "The ledger"
    times = "one attempt" if len(waits) == 1 else f"{len(waits)} attempts"
    return RunbookError(
        f"{name} did not get its locks in {times}, each of them short so that nobody queued behind it. "
        f"Last seen in the way: {blockers}. Let that session finish, or end it with "
        "SELECT pg_terminate_backend(pid), and run this again.",
        code="lock-timeout",
        lock_waits=[asdict(wait) for wait in waits],
    )
