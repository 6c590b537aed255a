# SPDX-License-Identifier: GPL-3.0-or-later
"""Exchanging the live database for another one: the only moment in which a restore is in anybody's way.

The live database is closed, its sessions are ended, and one transaction renames both. Until it commits nothing has
happened that opening the live database again would not undo; afterwards the old one is there, closed, with a journal.
All of it is done from the maintenance database, since nobody can rename the database they are in.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.journal import (
    CLOSING,
    DONE,
    KEPT,
    SIDE,
    VERIFIED,
    Databases,
    Journal,
    Noted,
    comment_on,
    free_name,
    read,
    rfc3339,
)
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.runlock import RunLock
from ansible.module_utils.runbook.session import LOCK_NOT_AVAILABLE, QUERY_CANCELED, Session, SqlError

# Another session is in the database, a prepared transaction included (PostgreSQL documentation, Appendix A).
OBJECT_IN_USE = "55006"

_PAUSE = 0.05

# What a later attempt may find settled: somebody has come in, or is changing the same databases.
_PASSING = (OBJECT_IN_USE, LOCK_NOT_AVAILABLE, QUERY_CANCELED)

# To log in again, and to get the run lock back, in seconds. Whoever ended the session may have ended the server.
_REGAIN_SECONDS = 10.0

# For a change that nobody can be ended for: somebody else's on the same databases, in a transaction that is open.
_INSIST_SECONDS = 10.0

# The backend type of others' sessions is not for everybody to see.
_USERS = """
SELECT pid, coalesce(usename::text, backend_type), application_name::text, client_addr::text
  FROM pg_catalog.pg_stat_activity
 WHERE datid IN (%s, %s) AND pid <> pg_catalog.pg_backend_pid()
   AND backend_type IS DISTINCT FROM 'autovacuum worker'
"""
_PREPARED = """
SELECT gid FROM pg_catalog.pg_prepared_xacts p JOIN pg_catalog.pg_database d ON d.datname = p.database WHERE d.oid = %s
"""
_COMMENT = "SELECT coalesce(pg_catalog.shobj_description(%s::bigint::oid, 'pg_database'), '')"


@dataclass(frozen=True)
class Swapped:
    """What a swap did.

    Parameters:
        kept: the name that the former live database has now; empty when there was none.
        milliseconds: for how long nobody could connect.
        ended: how many sessions had to be ended.
    """

    kept: str
    milliseconds: int
    ended: int


def swap(
    lock: RunLock, databases: Databases, incoming: Noted, phase: str, keep: timedelta, now: datetime, timeout: float
) -> Swapped:
    """Put ``incoming`` in the place of the live database, which is kept.

    Parameters:
        lock: held, by a session in the maintenance database.
        databases: as they are.
        incoming: a side database that was verified, or a kept one that comes back.
        phase: what is noted on the database that is kept.
        keep: for how long it is kept.
        timeout: seconds to try; then everything is as it was before.

    Raises:
        RunbookError: ``in-use``, naming who could not be got rid of; ``prepared-transaction``.
        SqlError: whatever else the server refused.
    """
    session = lock.session
    refuse_prepared(session, databases.live_oid)
    kept = free_name(databases, "before", now) if databases.live else ""
    ended: set[int] = set()
    began = time.monotonic()
    _close(session, databases, incoming)
    try:
        statements = _exchange(session, databases, incoming, kept, phase, keep, now)
        _until_it_works(lock, databases, incoming, statements, began + timeout, ended)
    except BaseException:
        if not _came_about(lock, databases, incoming):
            raise
    return Swapped(kept, round((time.monotonic() - began) * 1000), len(ended))


def _came_about(lock: RunLock, databases: Databases, incoming: Noted) -> bool:
    """Whether a swap that seemed to fail has succeeded all the same; if not, it is taken back.

    The session may have been ended, even in the moment of the commit. Who is live now is known to the server alone.

    Raises:
        RunbookError: ``live-closed`` when the server cannot be asked.
    """
    try:
        if not lock.session.alive:
            lock.regain(_REGAIN_SECONDS)
        if lock.session.in_transaction:
            lock.session.query("ROLLBACK")
        present = read(lock.session, databases.name)
        if present.live_oid == incoming.oid:
            return True
        take_back(lock.session, present)
    except (RunbookError, SqlError) as error:
        raise RunbookError(
            f"The swap was broken off and could not be taken back ({error}). Database {databases.name} may be closed "
            "to everybody. When the server answers, run this again: it goes on where it stopped; with "
            "-e restore_action=undo it opens the database instead.",
            code="live-closed",
        ) from error
    return False


def begun(databases: Databases) -> list[Noted]:
    """What was about to take the live database's place when a run died."""
    return [one for one in (*databases.side, *databases.kept) if one.journal.phase == CLOSING]


def take_back(session: Session, databases: Databases) -> bool:
    """Open the live database again if a run died while it had it closed for a swap that did not come about.

    Returns:
        whether there was such a run.
    """
    incoming = begun(databases)
    if not incoming:
        return False
    statements = [one.note(phase=VERIFIED if one.journal.role == SIDE else DONE) for one in incoming]
    if databases.live and not databases.live_open:
        statements.append(f"ALTER DATABASE {identifier(databases.name)} ALLOW_CONNECTIONS true")
    _insist(session, statements)
    return True


def refuse_prepared(session: Session, oid: int) -> None:
    """Refuse when a prepared transaction is in the database: it cannot be renamed then, and no session is to blame.

    Raises:
        RunbookError: ``prepared-transaction``.
    """
    gids = [gid for (gid,) in session.query(_PREPARED, oid)]
    if gids:
        raise RunbookError(
            f"The live database has prepared transactions, which keep it from being renamed: {', '.join(gids)}. "
            "Whoever manages transactions there has to COMMIT PREPARED or ROLLBACK PREPARED them. Nothing was changed.",
            code="prepared-transaction",
        )


def _close(session: Session, databases: Databases, incoming: Noted) -> None:
    """From here on nobody gets in, superusers included; those who are in stay, for the moment.

    A database that somebody else has closed stays closed if the swap does not come about.
    """
    if databases.live and databases.live_open:
        closed = f"ALTER DATABASE {identifier(databases.name)} ALLOW_CONNECTIONS false"
        _insist(session, [closed, incoming.note(phase=CLOSING, counterpart=databases.live_oid)])


def _exchange(
    session: Session, databases: Databases, incoming: Noted, kept: str, phase: str, keep: timedelta, now: datetime
) -> list[str]:
    """The statements of the one transaction. Journals go with the databases they are about."""
    name = incoming.journal.database
    statements = []
    if kept:
        (own_comment,) = session.query(_COMMENT, databases.live_oid)[0]
        journal = Journal(
            role=KEPT,
            phase=phase,
            database=name,
            set=incoming.journal.set if incoming.journal.role != KEPT else "",
            comment=own_comment,
            counterpart=incoming.oid,
            since=rfc3339(now),
            until=rfc3339(now + keep),
        )
        statements.append(f"ALTER DATABASE {identifier(name)} RENAME TO {identifier(kept)}")
        statements.append(comment_on(kept, journal.text()))
    statements.append(f"ALTER DATABASE {identifier(incoming.name)} RENAME TO {identifier(name)}")
    statements.append(comment_on(name, incoming.journal.comment))
    statements.append(f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true")
    return statements


def _until_it_works(
    lock: RunLock,
    databases: Databases,
    incoming: Noted,
    statements: Sequence[str],
    deadline: float,
    ended: set[int],
) -> None:
    """End whoever is in either database, then rename, until that succeeds; notes in ``ended`` who had to go."""
    session = lock.session
    said = "nothing"
    while True:
        users = session.query(_USERS, databases.live_oid, incoming.oid)
        if not users:
            try:
                lock.assure()
                _together(session, statements)
                return
            except SqlError as error:
                if error.sqlstate not in _PASSING:
                    raise
                said = error.message
        if time.monotonic() > deadline:
            raise _in_use(databases.name, users, said)
        for pid, *_ in users:
            _terminate(session, pid)
            ended.add(pid)
        time.sleep(_PAUSE)


def _in_use(database: str, users: Sequence[tuple[Any, ...]], said: str) -> RunbookError:
    who = ", ".join(f"pid {pid} ({user or 'of a user unknown'}, {name or 'no name'})" for pid, user, name, _ in users)
    reason = f"these sessions did not end: {who}" if users else f"the server said: {said}"
    return RunbookError(
        f"Database {database} could not be exchanged in time; {reason}. It is open again and unchanged. Sessions of a "
        "superuser only a superuser can end: SELECT pg_terminate_backend(PID). Then run this again, or give it longer "
        "with -e restore_swap_timeout=60s.",
        code="in-use",
    )


def _terminate(session: Session, pid: int) -> None:
    """End a session if we may; one that we may not end is named when the time is over."""
    try:
        session.query("SELECT pg_catalog.pg_terminate_backend(%s)", pid)
    except SqlError as error:
        if error.lost:
            raise


def _insist(session: Session, statements: Sequence[str]) -> None:
    """One transaction, tried again for a while if another one is in the way."""
    deadline = time.monotonic() + _INSIST_SECONDS
    while True:
        try:
            _together(session, statements)
            return
        except SqlError as error:
            if error.sqlstate not in _PASSING or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE)


def _together(session: Session, statements: Sequence[str]) -> None:
    """One transaction, or nothing. A rename would wait five seconds by itself for somebody to leave."""
    session.query("BEGIN")
    try:
        session.query("SET LOCAL lock_timeout = '1s'")
        session.query("SET LOCAL statement_timeout = '1s'")
        for statement in statements:
            session.query(statement)
        session.query("COMMIT")
    except SqlError as error:
        if not error.lost:
            session.query("ROLLBACK")
        raise
