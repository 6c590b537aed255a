# SPDX-License-Identifier: GPL-3.0-or-later
"""Restoring a set into a database of its own, beside whatever is live."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import IO

from ansible.module_utils.runbook import backup_set
from ansible.module_utils.runbook.client import Client, database_argument
from ansible.module_utils.runbook.encryption import check_identity, decrypting
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.session import Session
from ansible.module_utils.runbook.source import Source

# For the sessions that restore: nobody else reads there, and what a crash loses is restored again. Enough memory for an
# index of a table of some million rows to be sorted without a file.
_QUICK = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c max_parallel_maintenance_workers=2"

# What newer pg_dumps put around a plain file; the key has to be ours, see ``_restricted``.
_RESTRICT = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\r?\n")
_CHUNK = 1024 * 1024


def drop(session: Session, name: str) -> None:
    """Remove a side database, with whoever is still in it. A transaction that has failed before ends first."""
    if session.in_transaction:
        session.query("ROLLBACK")
    session.query(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)")


def restore_into(
    client: Client, name: str, source: Source, jobs: int, identity: str, skipped: tuple[str, ...] = ()
) -> None:
    """Restore, stopping at the first error.

    Parameters:
        client: programs for the server; which database they log in to does not matter.
        name: of the empty database.
        jobs: processes, where the set allows for more than one.
        identity: file with the key, for an encrypted set.
        skipped: further options of pg_restore that leave something out.

    Raises:
        RunbookError: ``client-failed`` with what the program said; ``decryption``.
    """
    quick = replace(client, environment={**client.environment, **_options(client), "PGDATABASE": name})
    if source.manifest is None:
        with source.path.open("rb") as file, _restricted(file) as script:
            psql = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-password", "--output=/dev/null"]
            quick.run("psql", psql, stdin=script)
        return
    options = ["--exit-on-error", "--no-password", f"--dbname={database_argument(name)}", *skipped]
    if source.encrypted:
        encrypted = source.path / backup_set.ENCRYPTED_DUMP
        with decrypting(encrypted, check_identity(encrypted, identity)) as dump:
            quick.run("pg_restore", [*options, "--format=custom"], stdin=dump)
        return
    dump_folder = source.path / backup_set.DUMP
    quick.run("pg_restore", [*options, f"--jobs={jobs}", str(dump_folder)], folder=source.path)


def _options(client: Client) -> dict[str, str]:
    return {"PGOPTIONS": f"{client.environment.get('PGOPTIONS', '')} {_QUICK}".strip()}


@contextlib.contextmanager
def _restricted(file: IO[bytes]) -> Iterator[IO[bytes]]:
    """A plain file for psql in restricted mode: SQL works, and commands of psql that reach out of the database do not.

    A file of somebody else could run programs with them (CVE-2025-8714; psql documentation, "\\restrict"). The file's
    own bracket around itself goes, since its key is in the file. psql without that command refuses the file.
    """
    key = secrets.token_hex(16)
    reading, writing = os.pipe()
    with ThreadPoolExecutor(max_workers=1) as beside:
        with os.fdopen(reading, "rb") as script:
            feeding = beside.submit(_feed, file, writing, key)
            yield script
        # A file that could not be read to its end looks like a shorter one to psql.
        feeding.result()


def _feed(file: IO[bytes], pipe: int, key: str) -> None:
    """Hand the file over; a psql that has ended before says itself why."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "wb") as script:
        script.write(f"\\restrict {key}\n".encode())
        for line in _header(file):
            script.write(line)
        held = b""
        while chunk := file.read(_CHUNK):
            text = held + chunk
            script.write(text[:-_CHUNK])
            held = text[-_CHUNK:]
        ending, _, rest = held.rpartition(b"\n\\unrestrict ")
        script.write(held if not ending or b"\n" in rest.strip() else ending + b"\n")
        script.write(f"\n\\unrestrict {key}\n".encode())


def _header(file: IO[bytes]) -> Iterator[bytes]:
    """The lines before the first statement, without the command that begins a restricted passage."""
    for line in iter(file.readline, b""):
        if _RESTRICT.fullmatch(line) is None:
            yield line
        if line.strip() and not line.startswith((b"--", b"\\restrict")):
            return
