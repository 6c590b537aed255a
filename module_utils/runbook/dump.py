# SPDX-License-Identifier: GPL-3.0-or-later
"""The logical engine: a database's content by pg_dump, the server's roles by pg_dumpall, rows counted beside it.

One transaction exports its snapshot. pg_dump works under it, and so do the counts that a restore is compared with:
both see the very same rows, whatever is written meanwhile. Nobody else here knows pg_dump; an engine that copies files
and write-ahead log would stand beside this one, and fill the same folder and the same manifest.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timezone
from pathlib import Path
from typing import IO

from ansible.module_utils.runbook import backup_set, facts
from ansible.module_utils.runbook.client import Client, database_argument
from ansible.module_utils.runbook.encryption import encrypting
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import CUSTOM, DIRECTORY, Manifest, Table
from ansible.module_utils.runbook.session import UNDEFINED_TABLE, Session, SqlError
from ansible.module_utils.runbook.stopwatch import Stopwatch

AUTO, ZSTD, GZIP, NONE = "auto", "zstd", "gzip", "none"

# The first pg_dump that takes an algorithm in --compress (PostgreSQL 16 release notes).
_ALGORITHMS_SINCE = 16

# A table can be dropped between being listed and being locked.
_ATTEMPTS = 10

_TRANSACTION = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_IMPORTED = ("pg_catalog.pg_export_snapshot()", "pg_catalog.statement_timestamp()")
_CHUNK = 1024 * 1024
_ROWS = " TABLE DATA "
_DUMPED_BY = re.compile(r"^;\s+Dumped by pg_dump version: (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class DumpOptions:
    """How to dump.

    Parameters:
        jobs: processes of pg_dump, where it can work in parallel.
        compression: ``auto`` (zstd where the client has it, else gzip), ``zstd``, ``gzip`` or ``none``.
        lock_wait: seconds to wait for a table that somebody has locked, a millisecond or more.
        recipients: public keys to encrypt for; none for a plain set.
        ledger_schema: where the ledger is.
        roles_database: which database pg_dumpall logs in to.
    """

    jobs: int
    compression: str
    lock_wait: float
    recipients: Sequence[str]
    ledger_schema: str
    roles_database: str


class Dump:
    """One dump of one database.

    Parameters:
        session: a session of its own in the database; it holds the snapshot.
        client: the programs for that database.
        options: how to dump.
        clock: takes the times.
    """

    def __init__(self, session: Session, client: Client, options: DumpOptions, clock: Stopwatch) -> None:
        self.session = session
        self.client = client
        self.options = options
        self.clock = clock
        session.query("SET TimeZone = 'UTC'")
        session.query("SET row_security = off")
        session.stay()
        session.run(session.limits("SET", options.lock_wait, statement=0))
        self._begin()
        self._snapshot, self.taken_at = session.query(f"SELECT {', '.join(_IMPORTED)}")[0]
        self.schema_version = facts.schema_version(session, options.ledger_schema)
        self.taken_at = self.taken_at.astimezone(timezone.utc)

    def _begin(self) -> None:
        """Open the transaction, with all tables locked before it takes its snapshot: nothing can come between."""
        for attempts_left in reversed(range(_ATTEMPTS)):
            names = facts.table_names(self.session)
            self.session.query(_TRANSACTION)
            try:
                facts.lock_tables(self.session, names)
                return
            except SqlError as error:
                if error.sqlstate != UNDEFINED_TABLE or not attempts_left:
                    raise
                self.session.query("ROLLBACK")

    @property
    def name(self) -> backup_set.SetName:
        """What the set is going to be called."""
        return backup_set.SetName(self.taken_at.replace(microsecond=0), self.schema_version)

    def write(self, folder: Path, database: str) -> Manifest:
        """Fill a set's folder with dump and roles, and describe them.

        Raises:
            RunbookError: whatever keeps the dump from being whole.
        """
        properties = facts.properties(self.session, database)
        if properties is None:
            raise AssertionError("the session is in that database")
        sequences = facts.sequences(self.session)  # before the dump, which may only find them further on
        extensions, roles = facts.extensions(self.session), facts.roles(self.session, database)
        large_objects = facts.large_objects(self.session)
        compression, tables, has_passwords, listed = self._dump(folder)
        _require_whole(listed, tables)
        version = _DUMPED_BY.search(listed)
        return Manifest(
            name=str(self.name),
            taken_at=f"{self.taken_at:%Y-%m-%dT%H:%M:%S.%fZ}",
            database=properties,
            server=facts.server(self.session),
            client_version=version[1] if version else str(self.client.major),
            schema_version=self.schema_version,
            ledger_schema=self.options.ledger_schema,
            format=CUSTOM if self.options.recipients else DIRECTORY,
            compression=compression,
            recipients=tuple(self.options.recipients),
            extensions=extensions,
            roles=roles,
            roles_have_passwords=has_passwords,
            tables=tables,
            sequences=sequences,
            large_objects=large_objects,
        )

    def _dump(self, folder: Path) -> tuple[str, tuple[Table, ...], bool, str]:
        """Dump; count, and write the roles, meanwhile. There is no use in counting on when the dump has failed.

        Returns:
            the compression, what was counted, whether the roles have their passwords, the table of contents.
        """
        with ThreadPoolExecutor(max_workers=1) as beside:
            counting, writing = beside.submit(self._count), beside.submit(self._roles, folder)
            try:
                with self.clock.phase("dump"):
                    compression, listed = self._compressed(folder)
            except BaseException:
                writing.cancel()
                if not counting.done():
                    self.session.hang_up()
                raise
            return compression, counting.result(), writing.result(), listed

    def _count(self) -> tuple[Table, ...]:
        with self.clock.phase("count"):
            return facts.tables(self.session)

    def _compressed(self, folder: Path) -> tuple[str, str]:
        """Dump as asked for.

        Returns:
            the compression that was taken, and the table of contents.
        """
        if self.options.compression != AUTO:
            return self.options.compression, self._run_pg_dump(folder, self.options.compression)
        if self.client.major >= _ALGORITHMS_SINCE:
            try:
                return ZSTD, self._run_pg_dump(folder, ZSTD)
            except RunbookError as error:
                # It says so before it connects: not every build has zstd, and only trying tells.
                if "does not support compression" not in error.message:
                    raise
        return GZIP, self._run_pg_dump(folder, GZIP)

    def _run_pg_dump(self, folder: Path, compression: str) -> str:
        """Dump, and have pg_restore read the table of contents.

        The database is named in the environment only: an argument could be taken for a connection string."""
        options = self.options
        arguments = [f"--snapshot={self._snapshot}", f"--lock-wait-timeout={round(options.lock_wait * 1000)}"]
        arguments += ["--no-password", "--no-sync", f"--compress={self._compress(compression)}"]
        if options.recipients:
            target = folder / backup_set.ENCRYPTED_DUMP
            target.unlink(missing_ok=True)  # of an attempt with another compression
            with encrypting(target, options.recipients) as plain:
                return _passed_on(self.client, ["--format=custom", *arguments], plain)
        parallel = ["--format=directory", f"--jobs={options.jobs}", f"--file={folder / backup_set.DUMP}"]
        self.client.run("pg_dump", [*arguments, *parallel], folder=folder)
        return contents(self.client, folder)

    def _compress(self, compression: str) -> str:
        if self.client.major >= _ALGORITHMS_SINCE:
            return compression
        return {GZIP: "6", NONE: "0"}.get(compression, compression)

    def _roles(self, folder: Path) -> bool:
        """Write the server's roles and tablespaces; only a superuser can read the passwords' hashes."""
        has_passwords = bool(
            self.session.query("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")[0][0]
        )
        database = database_argument(self.options.roles_database)
        arguments = ["--globals-only", "--no-password", f"--database={database}"]
        arguments += [] if has_passwords else ["--no-role-passwords"]
        with self.clock.phase("roles"), self._roles_file(folder) as file:
            self.client.run("pg_dumpall", arguments, stdout=file)
        return has_passwords

    def _roles_file(self, folder: Path) -> contextlib.AbstractContextManager[IO[bytes]]:
        if self.options.recipients:
            return encrypting(folder / backup_set.ENCRYPTED_GLOBALS, self.options.recipients)
        return (folder / backup_set.GLOBALS).open("xb")


def _require_whole(listed: str, tables: Sequence[Table]) -> None:
    absent = missing(listed, tables)
    if absent:
        raise RunbookError(
            f"The dump has no rows of {', '.join(absent)}, which the database had in the same snapshot. It is not "
            "whole and was given up. Run it again; if this happens again, it is an error of this program.",
            code="incomplete",
        )


def _passed_on(client: Client, arguments: Sequence[str], target: IO[bytes]) -> str:
    """Dump into ``target``, and list on the way what will not be readable there: the key is not here, on purpose.

    In pg_dump's custom format the table of contents comes first (pg_backup_custom.c), so pg_restore has read it when
    it hangs up, and the rest only goes to the target.

    Returns:
        the table of contents.
    """
    dumped, dump = _pipe()
    listed, to_list = _pipe()
    with ThreadPoolExecutor(max_workers=2) as beside:
        listing = beside.submit(_list, client, listed)
        passing = beside.submit(_tee, dumped, target, to_list)
        with _passed_to_the_end(passing), dump:
            client.run("pg_dump", arguments, stdout=dump)
        return listing.result()


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    return os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)


def _list(client: Client, dump: IO[bytes]) -> str:
    with dump:
        return client.run("pg_restore", ["--list", "--format=custom"], stdin=dump).decode("utf-8", "replace")


def _tee(source: IO[bytes], target: IO[bytes], other: IO[bytes]) -> None:
    """Copy to both; ``other`` may have had enough before the end."""
    with source, other:
        with contextlib.suppress(BrokenPipeError):
            while chunk := source.read(_CHUNK):
                target.write(chunk)
                other.write(chunk)
        shutil.copyfileobj(source, target, _CHUNK)


@contextlib.contextmanager
def _passed_to_the_end(passing: Future[None]) -> Iterator[None]:
    """See all of it passed on. Where that failed, pg_dump did only because nobody read any more."""
    try:
        yield
    except RunbookError:
        passing.result()
        raise
    passing.result()


def contents(client: Client, folder: Path) -> str:
    """The table of contents of a plain set's dump, as ``pg_restore --list`` prints it."""
    return client.run("pg_restore", ["--list", str(folder / backup_set.DUMP)], folder=folder).decode("utf-8", "replace")


def missing(listed: str, tables: Sequence[Table]) -> list[str]:
    """The tables whose rows a table of contents does not name.

    An entry is ``schema name owner``, with nothing to tell where each ends: so the entries are looked through for one
    that begins like the table. Line breaks in names are made spaces there.
    """
    entries = sorted(line.partition(_ROWS)[2] for line in listed.split("\n") if _ROWS in line)
    absent = []
    for table in tables:
        wanted = re.sub(r"[\r\n]", " ", f"{table.schema} {table.name} ")
        at = bisect_left(entries, wanted)
        if at == len(entries) or not entries[at].startswith(wanted):
            absent.append(f"{table.schema}.{table.name}")
    return absent
