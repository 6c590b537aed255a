# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying migrations out: an empty database beside the live one, for as long as it takes to run them in it.

The live database is not written to, nor is its run lock held. Trials of a database have a lock of their own, as drills
have, and databases of their own: a drill can be at work for hours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.runbook import facts, journal, properties, side_database, snapshot
from ansible.module_utils.runbook.bundle import BundleReader, Order, Shipped, Task
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.journal import Journal
from ansible.module_utils.runbook.ledger import Ledger, identifier
from ansible.module_utils.runbook.manifest import DatabaseProperties, Grant
from ansible.module_utils.runbook.runlock import RunLock
from ansible.module_utils.runbook.runner import Runner, Settings
from ansible.module_utils.runbook.session import (
    INSUFFICIENT_PRIVILEGE,
    Session,
    SqlError,
    application_name,
    connect,
    refuse_transaction_pooling,
    refuse_unusable,
)
from ansible.module_utils.runbook.snapshot import Snapshot
from ansible.module_utils.runbook.time_limit import TimeIsUp, TimeLimit

OPERATION = "trial"

SCRATCH_ARGUMENTS: dict[str, dict[str, Any]] = {
    "maintenance_db": {"type": "str", "default": "postgres"},
    "schema": {"type": "str", "default": "cm"},
    "run_lock_wait": {"type": "str", "default": "1min"},
    "timeout": {"type": "str", "default": "10min"},
}

# Nobody needs what is in there after a crash; and that the live database may be read-only is no reason for this one.
_OWN_SETTINGS = ("synchronous_commit = off", "default_transaction_read_only = off")

# What everybody may do in a database whose privileges nobody has ever changed, besides connecting to it.
_DEFAULT_GRANTS = (Grant("", "TEMPORARY"),)

OUT_OF_TIME = "out-of-time"

# Ends of a run that no file is to blame for.
_STOPPED = ("connection-lost", "lock-lost", OUT_OF_TIME)


class Refused(RunbookError):
    """A file that cannot be run in a scratch database, for the reason the message gives."""


class OutOfTime(RunbookError):
    """Files that took longer than they were allowed to."""


class Scratch:
    """An empty database in which files are run one by one.

    Parameters:
        session: one in that database.
        lock: the lock of trials, held.
        schema: schema of the ledger.
        limit: the time that all the work in scratch databases may take.
    """

    def __init__(self, session: Session, lock: RunLock, schema: str, limit: TimeLimit) -> None:
        self._session = session
        self._lock = lock
        self._ledger = Ledger(schema)
        self._limit = limit
        self._at = "the first file"

    def run(self, bundle: BundleReader, task: Task, place: int) -> None:
        """Run one file of a bundle, as a migration of the live database would.

        Raises:
            Refused: why it cannot be run. Of a file outside a transaction, something may have been done.
            OutOfTime: when the time for all files is up.
            RunbookError: when the server is gone.
        """
        self._at = f"the rollback script of {task.entry.name}" if task.rollback else task.entry.name
        try:
            with self._in_time():
                step = _Step(bundle, task, place, self._digest())
                Runner(self._session, self._lock, self._ledger, Settings()).run(step)
        except RunbookError as error:
            if error.code in _STOPPED:
                raise
            raise Refused(error.message, error.code, **error.details) from error

    def snapshot(self) -> Snapshot:
        """What the database consists of now, the ledger left out.

        Raises:
            OutOfTime: when the time for all files is up.
        """
        with self._in_time():
            # Limits of the user's own, which come back after each file, are meant for other work.
            self._session.stay()
            self._session.query("SET statement_timeout = 0")
            return snapshot.take(self._session, self._ledger.schema)

    def ledger_schema(self) -> str:
        """What a snapshot calls the schema that holds the ledger."""
        return f"schema {self._session.query('SELECT pg_catalog.quote_ident(%s)', self._ledger.schema)[0][0]}"

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[None]:
        try:
            with self._limit.over(self._session):
                yield
        except TimeIsUp as error:
            raise OutOfTime(
                f"The scratch run was stopped at {self._at}, after the {self._limit.seconds:g} s that it had, and its "
                "database is gone. See what takes so long there, or allow more time: validate_drift_timeout for drift, "
                "prove_timeout for a proof.",
                code=OUT_OF_TIME,
            ) from error

    def _digest(self) -> str:
        return self._ledger.state(self._session, self._ledger.tables(self._session)).digest()


class Workshop:
    """Makes scratch databases, one after the other.

    Parameters:
        lock: the lock of trials, held; its session makes and removes the databases.
        login: to the live database.
        schema: schema of the ledger.
        limit: the time that all the work in them may take.
    """

    def __init__(self, lock: RunLock, login: Login, schema: str, limit: TimeLimit) -> None:
        self._lock = lock
        self._session = lock.session
        self._login = login
        self._schema = schema
        self._limit = limit

    @contextlib.contextmanager
    def database(self) -> Iterator[Scratch]:
        """An empty database like the live one, which is removed in any case."""
        with self._created() as name, connect(self._login.to(name), application_name(OPERATION)) as session:
            yield Scratch(session, self._lock, self._schema, self._limit)

    @contextlib.contextmanager
    def _created(self) -> Iterator[str]:
        databases = journal.read(self._session, self._login.database)
        for leftover in databases.trial:
            self._drop(leftover.name)
        now = datetime.now(timezone.utc)
        name, live = journal.free_name(databases, OPERATION, now), self._live()
        self._create(name, live)
        try:
            self._furnish(name, live, journal.rfc3339(now))
            yield name
        finally:
            if self._session.alive:
                self._drop(name)

    def _create(self, name: str, live: DatabaseProperties) -> None:
        try:
            self._session.query(properties.create(name, live, same_locale=True))
        except SqlError as error:
            raise self._refused(error) from error

    def _furnish(self, name: str, live: DatabaseProperties, since: str) -> None:
        """Say what the database is, and give it the privileges and settings of the live one."""
        note = Journal(journal.TRIAL, journal.RESTORING, live.name, set="", since=since)
        self._session.query(journal.comment_on(name, note.text()))
        for statement in _privileges(name, live):
            self._session.query(statement)
        self._session.query("BEGIN")
        properties.make_settings(self._session, name, live)  # those that are refused are for superusers
        for setting in _OWN_SETTINGS:
            self._session.query(f"ALTER DATABASE {identifier(name)} SET {setting}")
        self._session.query("COMMIT")

    def _drop(self, name: str) -> None:
        """Remove a scratch database.

        Our session in there may not be quite gone. A session role may not end it, but PostgreSQL waits for it as well.
        """
        try:
            side_database.drop(self._session, name)
        except SqlError as error:
            if error.sqlstate != INSUFFICIENT_PRIVILEGE:
                raise
            self._session.query(f"DROP DATABASE IF EXISTS {identifier(name)}")

    def _live(self) -> DatabaseProperties:
        found = facts.properties(self._session, self._login.database)
        if found is None:
            raise RunbookError(
                f"There is no {self._login}, so nothing says what a scratch database has to be like. "
                "See that db_name is right.",
                code="scratch",
            )
        return found

    def _refused(self, error: SqlError) -> RunbookError:
        if error.sqlstate != INSUFFICIENT_PRIVILEGE:
            return explain(error, f"Creating a scratch database beside {self._login}", "")
        role = self._session.query("SELECT current_user::text")[0][0]
        return RunbookError(
            f"Migrations are tried out in a scratch database, and role {role} may not create one beside {self._login}. "
            f"Let a superuser allow it: ALTER ROLE {identifier(role)} CREATEDB.",
            code="scratch",
        )


@contextlib.contextmanager
def workshop(login: Login, params: Mapping[str, Any]) -> Iterator[Workshop]:
    """The right to try migrations of a database out, which one run at a time has.

    Parameters:
        login: to the live database.
        params: options of ``SCRATCH_ARGUMENTS``.

    Raises:
        RunbookError: ``locked``, naming who is at it; what keeps the server from being used.
    """
    maintenance, allowed = login.to(params["maintenance_db"]), seconds("timeout", params)
    with connect(maintenance, application_name(f"lock {OPERATION}")) as session:
        refuse_unusable(session, maintenance)
        refuse_transaction_pooling(session, maintenance)
        session.stay()
        session.query("SET statement_timeout = 0")
        lock = RunLock(session, f"{login.database} ({OPERATION})")
        lock.acquire(seconds("run_lock_wait", params))
        yield Workshop(lock, login, params["schema"], TimeLimit(allowed))


def _privileges(name: str, live: DatabaseProperties) -> Iterator[str]:
    """Who may do what in a scratch database: the same as in the live one, except that nobody else comes in."""
    database = identifier(name)
    yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {database} TO SESSION_USER"
    for grant in _DEFAULT_GRANTS if live.grants is None else live.grants:
        if grant.privilege != "CONNECT":
            grantee = identifier(grant.grantee) if grant.grantee else "PUBLIC"
            yield f"GRANT {grant.privilege} ON DATABASE {database} TO {grantee}"


class _Step(BundleReader):
    """One file of a bundle, as a bundle of its own.

    Parameters:
        expected: digest of the ledger as it is now.
    """

    def __init__(self, whole: BundleReader, task: Task, place: int, expected: str) -> None:
        self.order = Order(expected)
        self._whole = whole
        self._only = task, place

    def tasks(self) -> Iterator[tuple[Task, int]]:
        """The one task there is."""
        yield self._only

    def statements(self, task: Task, place: int) -> Iterator[Shipped]:
        """Its statements, one at a time."""
        return self._whole.statements(task, place)
