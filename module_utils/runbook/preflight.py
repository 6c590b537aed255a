# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that can be known about a restore before it is begun. It only looks; ``--check`` is this and no more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.runbook import backup_set, facts, space
from ansible.module_utils.runbook.client import Client
from ansible.module_utils.runbook.dump import contents
from ansible.module_utils.runbook.encryption import check_identity
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.journal import Databases
from ansible.module_utils.runbook.manifest import DatabaseProperties, Manifest
from ansible.module_utils.runbook.session import Session, SqlError
from ansible.module_utils.runbook.source import Source, reaches_out

EXACT, SERVER = "exact", "server"
REFUSE, LEAVE = "refuse", "leave"

# What a restore needs beyond the database's own size: sorts of index builds, and the write-ahead log of all of it.
_SHARE = 1.2

_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = %s"
_SLOTS = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE database = %s ORDER BY 1"
_MISSING_ROLES = """
SELECT wanted FROM pg_catalog.unnest(%s::text[]) AS wanted
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) ORDER BY 1
"""
_MISSING_EXTENSIONS = """
SELECT wanted FROM pg_catalog.unnest(%s::text[]) AS wanted
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = wanted) ORDER BY 1
"""
_LOCALES = """
SELECT datcollate::text FROM pg_catalog.pg_database UNION SELECT datctype::text FROM pg_catalog.pg_database
UNION SELECT collcollate::text FROM pg_catalog.pg_collation WHERE collprovider = 'c' AND collcollate IS NOT NULL
"""
_ICU = "SELECT EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collprovider = 'i')"
_MAY_CREATE = "SELECT rolsuper OR rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user"
_WAL = "SELECT pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))"


@dataclass(frozen=True)
class Target:
    """Where to restore to, and what is there.

    Parameters:
        session: in the maintenance database.
        client: the server's programs.
        databases: what there is for the target's name.
    """

    session: Session
    client: Client
    databases: Databases


@dataclass
class Findings:
    """What a preflight found.

    Parameters:
        problems: sentences; one is enough to refuse.
        notes: what is worth knowing and refuses nothing.
        missing_roles: roles of the set that the server does not have.
    """

    problems: list[str]
    notes: list[str]
    missing_roles: tuple[str, ...] = ()


def look(source: Source, target: Target, params: Mapping[str, Any]) -> Findings:
    """Look at set, server and live database; find everything at once.

    Parameters:
        params: options of ``restoration.RESTORE_ARGUMENTS``.
    """
    findings = look_at_live(target, params)
    findings.problems += _of_rights(target.session)
    if source.manifest is not None:
        findings.problems += _of_set(source, target.client, params)
        findings.problems += _of_server(source.manifest, target.session, params, findings)
        findings.problems += _of_disk(source.manifest.database.bytes, target, findings)
    else:
        findings.problems += _of_file(source)
        findings.problems += _of_disk(source.path.stat().st_size, target, findings)
    return findings


def look_at_live(target: Target, params: Mapping[str, Any]) -> Findings:
    """Look at the live database alone, for a set that was restored beside it already."""
    findings = Findings([], [])
    if target.databases.live:
        findings.problems += _of_live(target.session, target.databases, params, findings)
    return findings


def refuse(findings: Findings, source: Source) -> None:
    """Stop when something was found.

    Raises:
        RunbookError: ``preflight``, with all of it.
    """
    if findings.problems:
        raise RunbookError(
            f"Restoring {source.name} would not work; nothing was changed. " + " ".join(findings.problems),
            code="preflight",
            problems=findings.problems,
        )


def _of_rights(session: Session) -> Iterator[str]:
    if not session.query(_MAY_CREATE)[0][0]:
        yield "The user may not create databases: grant it, ALTER ROLE … CREATEDB."


def _of_set(source: Source, client: Client, params: Mapping[str, Any]) -> Iterator[str]:
    try:
        backup_set.check_checksums(source.path)
        if source.encrypted:
            check_identity(source.path / backup_set.ENCRYPTED_DUMP, params["decrypt_with"])
        else:
            contents(client, source.path)
    except RunbookError as error:
        yield error.message


def _of_server(manifest: Manifest, session: Session, params: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    major, wanted = session.server_version // 10000, manifest.server.version // 10000
    if major < wanted:
        yield (
            f"The set is from PostgreSQL {wanted}, and this server is {major}: a dump is restored into the same or a "
            "newer major version."
        )
    names = [extension.name for extension in manifest.extensions]
    for (name,) in session.query(_MISSING_EXTENSIONS, names):
        yield f'The server has no extension "{name}", which the set needs: install its package there.'
    findings.missing_roles = tuple(name for (name,) in session.query(_MISSING_ROLES, list(manifest.roles)))
    if findings.missing_roles and not params["create_roles"]:
        listed = ", ".join(f'"{name}"' for name in findings.missing_roles)
        yield (
            f"The server has no role {listed}, which things in the set belong to. Create what is missing, or have it "
            "created from the set with -e '{\"restore_create_roles\": true}'."
        )
    if params["locale"] == EXACT:
        yield from _of_locale(manifest.database, session)
    known = facts.server(session).preload_libraries
    absent = [name for name in manifest.server.preload_libraries if name not in known]
    if absent:
        findings.notes.append(f"The server does not preload {', '.join(absent)}, as the one of the set did.")


def _of_locale(properties: DatabaseProperties, session: Session) -> Iterator[str]:
    wanted = {properties.collate, properties.ctype} - {"C", "POSIX"}
    known = {_plain(name) for (name,) in session.query(_LOCALES)}
    missing = sorted(name for name in wanted if _plain(name) not in known)
    if properties.locale_provider == "b":
        missing = [] if session.server_version >= 170000 else ["builtin"]
    if properties.locale_provider == "i" and not session.query(_ICU)[0][0]:
        missing.append(f"ICU ({properties.locale})")
    if missing:
        yield (
            f"The server does not know the locale {', '.join(missing)}, which the set has. Install it there, or take "
            "the server's own, which may sort text differently, with -e restore_locale=server."
        )


def _plain(locale: str) -> str:
    """en_US.UTF-8 and en_US.utf8 are one."""
    return locale.lower().replace("-", "")


def _of_file(source: Source) -> Iterator[str]:
    found = reaches_out(source.path)
    if found:
        yield (
            f"The file is not about the content of one database: {found}. It was made with pg_dump --create; make one "
            "without, or take such lines out: they would hit the live database."
        )


def _of_disk(size: int, target: Target, findings: Findings) -> Iterator[str]:
    free = _free_bytes(target)
    if free is None:
        findings.notes.append("How much room the server's disk has cannot be seen from here.")
        return
    needed = round(size * _SHARE) + int(target.session.query(_WAL)[0][0])
    if free < needed:
        yield (
            f"The disk of the server has {space.readable(free)} left, and about {space.readable(needed)} are needed: "
            "for the database beside the present one, and for its write-ahead log. Make room there."
        )


def _free_bytes(target: Target) -> Optional[int]:
    try:
        directory = Path(target.session.query("SHOW data_directory")[0][0])
    except SqlError as error:  # not for everybody to see
        if error.lost:
            raise
        return None
    return target.client.free_bytes(directory)


def _of_live(session: Session, databases: Databases, params: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    for (gid,) in session.query(_PREPARED, databases.name):
        yield (
            f'The live database has the prepared transaction "{gid}", which would keep it from being renamed: whoever '
            "manages transactions there has to COMMIT PREPARED or ROLLBACK PREPARED it."
        )
    slots = [name for (name,) in session.query(_SLOTS, databases.name)]
    if not slots:
        return
    sentence = (
        f"Logical replication slots belong to the live database: {', '.join(slots)}. They stay with it when it is put "
        "aside: their consumers would get nothing of the restored one, and the slots would go on holding back "
        "write-ahead log."
    )
    if params["slots"] == LEAVE:
        findings.notes.append(sentence)
    else:
        yield f"{sentence} Stop the consumers and drop the slots, or accept that with -e restore_slots=leave."
