# SPDX-License-Identifier: GPL-3.0-or-later
"""The run lock: at most one run works on a database at a time.

It is an advisory lock on an idle autocommit session in the maintenance database. Three reasons:
the server releases it by itself when the run dies, a session without a snapshot never delays
CREATE INDEX CONCURRENTLY, and a restore can rename the database while the lock is held.
It is polled with pg_try_advisory_lock: a session *waiting* in pg_advisory_lock holds a snapshot,
which deadlocks with the holder's CREATE INDEX CONCURRENTLY (golang-migrate/migrate#960).
"""

from __future__ import annotations

import time
import zlib

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import Session

# First half of the two-part advisory key; the second is made of the database's name.
LOCK_CLASS = 0x52554E42  # "RUNB"
POLL_SECONDS = 0.5

_HOLDER = """
SELECT a.pid, a.application_name, a.backend_start::timestamptz(0)::text
  FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted
   AND l.classid = %s::bigint::oid AND l.objid = (%s::bigint & 4294967295)::oid
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""


class RunLock:
    """Held from ``acquire`` until ``session`` ends.

    Parameters:
        session: a session of its own in the maintenance database.
        database: name of the database that is protected.
    """

    def __init__(self, session: Session, database: str) -> None:
        self.session = session
        self.database = database
        self._key = _signed(zlib.crc32(database.encode()))

    def acquire(self, wait_seconds: float) -> None:
        """Take the lock, polling for at most ``wait_seconds``.

        Raises:
            RunbookError: ``locked``, naming the holder.
        """
        deadline = time.monotonic() + wait_seconds
        while not self._try():
            if time.monotonic() >= deadline:
                raise RunbookError(
                    f"Another run is working on database {self.database}: {self._holder()}. "
                    f"Waited {wait_seconds:g} s for it. Let it finish and start this run again.",
                    code="locked",
                )
            time.sleep(POLL_SECONDS)

    def assure(self) -> None:
        """Raise when the session that holds the lock is gone: another run may have started since.

        Raises:
            RunbookError: ``lock-lost``.
        """
        if not self.session.alive:
            raise RunbookError(
                f"The session that holds the run lock of database {self.database} was ended from outside, "
                "so this run stopped before its next change. "
                "Everything recorded so far is complete; start the run again.",
                code="lock-lost",
            )

    def _try(self) -> bool:
        return bool(self.session.query("SELECT pg_catalog.pg_try_advisory_lock(%s, %s)", LOCK_CLASS, self._key)[0][0])

    def _holder(self) -> str:
        rows = self.session.query(_HOLDER, LOCK_CLASS, self._key)
        if not rows:
            return "it ended just now"
        pid, application, since = rows[0]
        return f'pid {pid}, application "{application}", since {since}'


def _signed(key: int) -> int:
    return key - 2**32 if key >= 2**31 else key
