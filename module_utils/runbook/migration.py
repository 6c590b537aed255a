# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration files: their names, versions, checksums and directives."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.runbook.duration import is_duration, milliseconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.script import Script, Statement, read_script
from ansible.module_utils.runbook.statement import refused_in_transaction, transaction_control

_NAME = re.compile(r"(\d+)_(.+)\.sql", re.DOTALL)
_LARGEST_VERSION = 2**63 - 1
_BOM = b"\xef\xbb\xbf"
_INCLUDE = re.compile(rb"\\i(?:r|nclude|nclude_relative)?[ \t]")

# -- name: value, in the comment lines before the first statement
_DIRECTIVE = re.compile(rb"--\s*([A-Za-z][A-Za-z_ -]*?)\s*:\s*(.*?)\s*$")
_DIRECTIVES = ("transaction", "lock_timeout", "statement_timeout")
_NO_WAY_BACK = re.compile(r"none\b[\s,:;-]*(.*)", re.IGNORECASE)


@dataclass(frozen=True)
class Migration:
    """A file of the migrations folder, known by name and content but not yet read as SQL.

    Attributes:
        version: the number at the start of the name.
        name: the file's name.
        checksum: SHA-256 of the content, blind to CRLF and to a byte order mark, in hex.
    """

    version: int
    name: str
    checksum: str

    @property
    def description(self) -> str:
        """The words of the file name: ``004_add_audit_log.sql`` → ``add audit log``."""
        match = _NAME.fullmatch(self.name)
        return match.group(2).replace("_", " ") if match else self.name


@dataclass(frozen=True)
class Directives:
    """What the header comment of a file asks for; None means the run's own setting.

    Attributes:
        rollback_none: why no script can undo the file; empty where one has to.
    """

    transaction: bool = True
    lock_timeout_ms: int | None = None
    statement_timeout_ms: int | None = None
    warnings: tuple[str, ...] = ()
    rollback_none: str = ""


@dataclass(frozen=True)
class Prepared:
    """A migration ready to be shipped: its statements, and how they have to run.

    Attributes:
        outside: what in the file PostgreSQL refuses inside a transaction (or the directive's name);
            empty when the file runs in one transaction.
    """

    migration: Migration
    script: Script
    directives: Directives
    outside: str = ""

    @property
    def transactional(self) -> bool:
        """Whether the whole file runs in one transaction."""
        return not self.outside


@dataclass(frozen=True)
class Folder:
    """The migrations folder as it is on disk, by version."""

    path: Path
    migrations: dict[int, Migration] = field(default_factory=dict)

    @property
    def latest(self) -> int | None:
        """The highest version there is a file for."""
        return max(self.migrations, default=None)


def read_folder(path: Path) -> Folder:
    """List and checksum the migrations of a folder. Subfolders hold included files and are not searched.

    Raises:
        RunbookError: ``no-folder``, ``file-name``, ``duplicate``, ``unreadable``.
    """
    try:
        files = sorted((entry.name, entry.path) for entry in os.scandir(path) if entry.name.lower().endswith(".sql"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunbookError(
            f"The migrations folder {path} does not exist. Create it, or set migrate_directory to where the files are.",
            code="no-folder",
        ) from error
    folder = Folder(path)
    for name, file in files:
        migration = Migration(version_of(name, path), name, checksum(file, path))
        other = folder.migrations.get(migration.version)
        if other is not None:
            raise RunbookError(
                f"Two files in {path} have the number {migration.version}: {other.name} and {name}. "
                "Each version belongs to one file; give the newer one the next free number.",
                code="duplicate",
                version=migration.version,
            )
        folder.migrations[migration.version] = migration
    return folder


def version_of(name: str, folder: Path) -> int:
    """The version in a file name.

    Raises:
        RunbookError: ``file-name`` when the name does not say it.
    """
    match = _NAME.fullmatch(name)
    if match is None or not name.isprintable() or int(match.group(1)) > _LARGEST_VERSION:
        raise RunbookError(
            f"The file name {name!r} in {folder} is not of the form NNN_description.sql, "
            "such as 004_add_audit_log.sql. Rename it; a file that others include with \\ir belongs in a subfolder.",
            code="file-name",
        )
    return int(match.group(1))


def checksum(file: str, folder: Path) -> str:
    """SHA-256 of a migration file and of everything it includes, in hex.

    Line endings and a byte order mark do not count: editors and Git change them without changing any SQL.
    """
    content = _read(file)
    if not _INCLUDE.search(content):
        return hashlib.sha256(_normal(content)).hexdigest()
    try:
        return _checksum(read_script(Path(file), folder).sources)
    except RunbookError as error:
        if error.code == "include":
            raise
        # Not a script that could be applied here; but psql may have done so, and then only its content counts.
        return hashlib.sha256(_normal(content)).hexdigest()


def prepare(migration: Migration, folder: Path, server_version: int) -> Prepared:
    """Read a migration as SQL and decide how it has to run on a server of this version.

    Raises:
        RunbookError: for everything a script must not contain (see ``script``), ``directive``, ``transaction-control``.
    """
    path = folder / migration.name
    script = read_script(path, folder)
    if _checksum(script.sources) != migration.checksum:
        raise RunbookError(
            f"{migration.name} was changed while this run was reading it. "
            "Let whoever writes it finish, and run this again.",
            code="unreadable",
        )
    directives = read_directives(script.sources[0][1], migration.name)
    if not directives.transaction:
        return Prepared(migration, script, directives, "-- transaction: none")
    _refuse_transaction_control(script.statements)
    return Prepared(migration, script, directives, _first_refused(script.statements, server_version))


def read_directives(content: bytes, name: str) -> Directives:
    """Read the header: ``-- transaction: none``, ``-- lock_timeout: 5s``, ``-- rollback: none, reason`` and so on.

    Raises:
        RunbookError: ``directive`` for a value that cannot be meant.
    """
    found: dict[str, str] = {}
    warnings = []
    no_way_back = ""
    for number, key, value in _header(content):
        no_way_back = no_way_back or _reason_for_no_rollback(key, value, f"{name}:{number}")
        if key in _DIRECTIVES:
            _check_directive(key, value, f"{name}:{number}")
            found[key] = value
        elif _meant(key, value):
            warnings.append(
                f'{name}:{number} says "{key}: {value}"; did you mean the directive "{_meant(key, value)}"?'
            )
    return Directives(
        transaction=found.get("transaction") != "none",
        lock_timeout_ms=milliseconds(found.get("lock_timeout")),
        statement_timeout_ms=milliseconds(found.get("statement_timeout")),
        warnings=tuple(warnings),
        rollback_none=no_way_back,
    )


def _reason_for_no_rollback(key: str, value: str, where: str) -> str:
    """Why there is no rollback, if this line says so. ``-- rollback: see the script`` is a remark like any other."""
    declared = _NO_WAY_BACK.fullmatch(value) if key == "rollback" else None
    if declared and not declared.group(1):
        raise RunbookError(
            f'{where}: "rollback: {value}" does not say why no script can undo this file. Whoever wants to go back has '
            "to know: write -- rollback: none, and the reason.",
            code="directive",
        )
    return declared.group(1) if declared else ""


def _checksum(sources: Sequence[tuple[str, bytes]]) -> str:
    digest = hashlib.sha256(_normal(sources[0][1]))
    for name, included in sources[1:]:
        content = _normal(included)
        # Name and length keep the parts apart: text cannot move from one file to the next unseen.
        digest.update(b"\0%s\0%d\0" % (name.encode(), len(content)) + content)
    return digest.hexdigest()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise RunbookError(f"Cannot read the migration {path}: {error.strerror}.", code="unreadable") from error


def _normal(content: bytes) -> bytes:
    if content.startswith(_BOM):
        content = content[len(_BOM) :]
    return content.replace(b"\r\n", b"\n") if b"\r" in content else content


def _header(content: bytes) -> list[tuple[int, str, str]]:
    """(line, key, value) of each ``-- key: value`` before the first line that is neither comment nor blank."""
    found = []
    for number, line in enumerate(_normal(content[:65536]).split(b"\n"), start=1):
        text = line.strip()
        if text and not text.startswith(b"--"):
            break
        match = _DIRECTIVE.fullmatch(text)
        if match:
            found.append((number, match.group(1).decode().lower(), match.group(2).decode("utf-8", "replace")))
    return found


def _meant(key: str, value: str) -> str:
    """The directive a header line was probably meant to be: near in name, with a value of its kind."""
    near = difflib.get_close_matches(key.replace(" ", "_").replace("-", "_"), _DIRECTIVES, n=1, cutoff=0.75)
    value_fits = value == "none" or is_duration(value)
    return near[0] if near and value_fits else ""


def _check_directive(key: str, value: str, where: str) -> None:
    if key == "transaction":
        if value != "none":
            raise RunbookError(
                f'{where}: the directive "transaction: {value}" is not known. '
                'Write "-- transaction: none", or leave the line out: one transaction for the file is the rule.',
                code="directive",
            )
        return
    try:
        milliseconds(value)
    except ValueError as error:
        raise RunbookError(
            f'{where}: "{value}" is no duration for {key}. '
            "Write a whole number and a unit: 500ms, 5s, 10min, 4h, or 0 for none.",
            code="directive",
        ) from error
    if key == "lock_timeout" and milliseconds(value) == 0:
        raise RunbookError(
            f"{where}: lock_timeout: 0 would wait for a lock for ever, and everybody else behind it. "
            "Write a limit such as 10s.",
            code="directive",
        )


def _refuse_transaction_control(statements: Sequence[Statement]) -> None:
    for statement in statements:
        verb = transaction_control(statement.text)
        if verb:
            raise RunbookError(
                f"{statement.file}:{statement.line}: the file controls transactions itself ({verb}). "
                "Each file already runs in one transaction together with its ledger row: remove the line. "
                'If the file really needs transactions of its own, put "-- transaction: none" in its first line.',
                code="transaction-control",
                file=statement.file,
                line=statement.line,
            )


def _first_refused(statements: Sequence[Statement], server_version: int) -> str:
    for statement in statements:
        construct = refused_in_transaction(statement.text, server_version)
        if construct:
            return construct
    return ""
