# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for locks without freezing the application.

A migration that waits for a lock makes everybody who comes after it wait too, so the lock timeout
*is* the outage budget. Hence: short timeouts that grow a little, a pause between attempts so
that traffic can flow, a total budget, and never a last attempt without a timeout.
``LockWatch`` looks on from a second session: it names the blockers, and it ends an attempt whose
lock waits *add up* to the timeout, which PostgreSQL's own lock_timeout (per lock) would allow.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.session import (
    DEADLOCK_DETECTED,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    Session,
    SqlError,
)

_WATCH_SECONDS = 0.05
# Let the server's own timeout speak first where both would end the same wait.
_GRACE_SECONDS = 0.05

_BLOCKERS = """
SELECT a.pid, a.usename, a.application_name, a.state,
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - coalesce(a.xact_start, a.backend_start))::int,
       a.query
  FROM pg_catalog.pg_stat_activity a
 WHERE a.pid = ANY (pg_catalog.pg_blocking_pids(%s))
 ORDER BY a.xact_start NULLS LAST
"""


# A prepared transaction has no process; its locks are found through the one on its own transaction id.
_PREPARED = """
SELECT 0, p.owner, p.gid, 'prepared',
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - p.prepared)::int, NULL
  FROM pg_catalog.pg_prepared_xacts p
 WHERE EXISTS (
       SELECT 1 FROM pg_catalog.pg_locks own JOIN pg_catalog.pg_locks held USING (virtualtransaction)
         JOIN pg_catalog.pg_locks wanted ON wanted.locktype = held.locktype
        WHERE own.locktype = 'transactionid' AND own.transactionid = p.transaction
          AND own.pid IS NULL AND held.pid IS NULL AND held.granted
          AND wanted.pid = %s AND NOT wanted.granted
          AND held.database IS NOT DISTINCT FROM wanted.database
          AND held.relation IS NOT DISTINCT FROM wanted.relation
          AND held.transactionid IS NOT DISTINCT FROM wanted.transactionid)
 ORDER BY p.prepared
"""


@dataclass(frozen=True)
class LockPolicy:
    """How long to wait for locks. All times in seconds.

    ``first`` to ``longest`` is the ladder of lock timeouts, one step per attempt; the pause after an
    attempt is random between 0 and a bound that doubles up to ``longest_pause`` (full jitter);
    no attempt starts when it would end after ``budget``.
    """

    first: float = 0.5
    longest: float = 2.0
    budget: float = 2400.0
    longest_pause: float = 60.0

    def timeout(self, attempt: int) -> float:
        """Lock timeout of the ``attempt``-th try, counted from 0."""
        return float(min(self.first * 1.5 ** min(attempt, 60), self.longest))

    def pause(self, attempt: int) -> float:
        """Random pause after the ``attempt``-th try failed."""
        return random.uniform(0, min(2.0 ** min(attempt, 60), self.longest_pause))  # noqa: S311 - jitter, no secret


@dataclass(frozen=True)
class Blocker:
    """Who held a lock we waited for; ``query`` only when it was asked for.

    A prepared transaction has the pid 0, and its name as ``application``.
    """

    pid: int
    user: str
    application: str
    state: str
    age_seconds: int
    query: str | None = None

    def __str__(self) -> str:
        if not self.pid:
            return (
                f'the prepared transaction "{self.application}" (user {self.user}, open for {self.age_seconds} s; '
                "end it with COMMIT PREPARED or ROLLBACK PREPARED)"
            )
        query = f", running: {' '.join(self.query.split())[:200]}" if self.query else ""
        return (
            f'pid {self.pid} (user {self.user}, application "{self.application}", {self.state}, '
            f"transaction open for {self.age_seconds} s{query})"
        )


@dataclass(frozen=True)
class LockWait:
    """One attempt that ended because a lock was not to be had in time."""

    waited_ms: int
    blockers: tuple[Blocker, ...]


class LockWatch:
    """Watches one working session from another session in a thread of its own.

    The thread ticks by itself and looks at a shared note, so that the fast path pays nothing.
    """

    def __init__(self, observer: Session, worker: Session, show_queries: bool) -> None:
        self._observer = observer
        self._worker = worker
        self._show_queries = show_queries
        self._mutex = threading.Lock()
        self._attempt: _Attempt | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock-watch", daemon=True)
        self._thread.start()

    def begin(self, limit: float) -> None:
        """An attempt starts that may wait for locks for at most ``limit`` seconds in all (0: no limit)."""
        with self._mutex:
            self._attempt = _Attempt(time.monotonic(), limit)

    def allow(self, limit: float) -> None:
        """From here on, the attempt may wait for so many seconds in all."""
        with self._mutex:
            if self._attempt is not None:
                self._attempt.limit = limit

    def end(self) -> _Attempt:
        """The attempt is over; returns what was seen."""
        with self._mutex:
            attempt, self._attempt = self._attempt, None
        if attempt is None:
            raise ValueError("end() without begin()")
        return attempt

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(_WATCH_SECONDS):
            with self._mutex:
                if self._attempt is not None and time.monotonic() - self._attempt.started >= _WATCH_SECONDS:
                    try:
                        self._look(self._attempt)
                    except SqlError:
                        return  # the observer's session is gone: the run lock went with it and its owner will say so

    def _look(self, attempt: _Attempt) -> None:
        rows = self._observer.query(_BLOCKERS, self._worker.pid)
        now = time.monotonic()
        if not rows:
            if not self._waits():
                attempt.waiting_since = None
                return
            rows = self._observer.query(_PREPARED, self._worker.pid)
        if rows:
            attempt.blockers = tuple(self._blocker(row) for row in rows)
        if attempt.waiting_since is not None:
            attempt.waited += now - attempt.waiting_since
        attempt.waiting_since = now
        if attempt.limit and attempt.waited >= attempt.limit + _GRACE_SECONDS:
            # At every look while it still waits: a file can catch a cancellation and wait again.
            attempt.cancelled = True
            self._observer.query("SELECT pg_catalog.pg_cancel_backend(%s)", self._worker.pid)

    def _waits(self) -> bool:
        """Whether the worker waits for a lock nobody in pg_stat_activity holds: a prepared transaction does that."""
        return bool(
            self._observer.query(
                "SELECT 1 FROM pg_catalog.pg_locks WHERE pid = %s AND NOT granted LIMIT 1", self._worker.pid
            )
        )

    def _blocker(self, row: tuple[Any, ...]) -> Blocker:
        pid, user, application, state, age, query = row
        return Blocker(
            pid=pid,
            user=user or "unknown",
            application=application or "",
            state=state or "state hidden from this user",
            age_seconds=age or 0,
            query=query if self._show_queries else None,
        )


@dataclass
class _Attempt:
    started: float
    limit: float
    waited: float = 0.0
    waiting_since: float | None = None
    blockers: tuple[Blocker, ...] = ()
    cancelled: bool = False

    def lock_wait(self) -> LockWait:
        """The attempt as a finding, for one that failed on a lock."""
        return LockWait(round(max(self.waited, 0.0) * 1000), self.blockers)

    def failed_on_lock(self, error: SqlError) -> bool:
        """Whether ``error`` means that a lock was not to be had: worth another attempt."""
        return error.sqlstate in (LOCK_NOT_AVAILABLE, DEADLOCK_DETECTED) or (
            error.sqlstate == QUERY_CANCELED and self.cancelled
        )
