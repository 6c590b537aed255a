# SPDX-License-Identifier: GPL-3.0-or-later
"""The ledger: which migrations a database has, kept in the database itself.

Three tables in the application's schema:

* ``schema_version``, the runbook's own table, one row per applied migration. Our columns are
  nullable, so that files which insert ``(version, description)`` themselves go on working.
* ``schema_version_history``: every apply, rollback, adoption, repair and failure; rows are only ever added.
* ``schema_version_progress``: how far a file that cannot run in one transaction has come;
  empty except while such a file is under way.

They come into being with the first change that is recorded, inside its transaction: a file may
create the schema and even ``schema_version`` itself, and a failed first file leaves nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.piece import Piece

if TYPE_CHECKING:  # reading SQL files is the controller's work: a target need not load what that takes
    from ansible.module_utils.runbook.migration import Migration
    from ansible.module_utils.runbook.session import Session

TABLE = "schema_version"
HISTORY = "schema_version_history"
PROGRESS = "schema_version_progress"
LEDGER_TABLES = (TABLE, HISTORY, PROGRESS)

_COLUMNS = {"name": "text", "checksum": "text", "execution_ms": "bigint", "applied_by": "text"}
_LARGEST_INTEGER = 2**31 - 1
_OUR_SCHEMA = "Holds the ledger of Schema Runbook; created for nothing else."
_SINCE_BEGIN = (
    "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000)::bigint"
)


@dataclass(frozen=True)
class Row:
    """A migration the database says it has. ``checksum`` is None for rows a file inserted by itself."""

    version: int
    description: str | None
    applied_at: str | None
    name: str | None
    checksum: str | None


@dataclass(frozen=True)
class Progress:
    """A non-transactional migration that was begun and not finished.

    Attributes:
        done: number of its statements that are complete.
        started: number of the statement that was begun last; equal to ``done`` when none is open.
        starting: digest of the statements up to that one.
        before: oids of the indexes that were there when that statement began (see ``concurrent``).
        checksum: digest of the statements that are complete: only the rest may be edited.
    """

    version: int
    name: str
    checksum: str
    done: int
    started: int
    before: tuple[int, ...]
    rollback: bool
    starting: str = ""


@dataclass(frozen=True)
class State:
    """What the ledger of a database says."""

    rows: tuple[Row, ...]
    progress: Progress | None = None

    @property
    def version(self) -> int | None:
        """The highest version applied."""
        return max((row.version for row in self.rows), default=None)

    def digest(self) -> str:
        """Digest of everything a plan depends on: the rows, and what is under way."""
        rows = digest((row.version, row.checksum, row.name) for row in self.rows)
        begun = self.progress
        return f"{rows} {begun.version} {begun.done} {begun.rollback}" if begun else rows


@dataclass(frozen=True)
class Summary:
    """A ledger in one row: what a run with nothing to do has to know."""

    version: int | None
    count: int
    digest: str
    interrupted: bool
    in_recovery: bool


@dataclass(frozen=True)
class Tables:
    """Which parts of the ledger exist."""

    schema: bool
    columns: frozenset[str]
    wide: bool
    history: bool
    progress: bool
    own_schema: bool

    @property
    def exists(self) -> bool:
        """Whether there is a ``schema_version`` table at all."""
        return bool(self.columns)

    @property
    def complete(self) -> bool:
        """Whether nothing has to be created or added."""
        return self.history and self.progress and self.columns.issuperset(_COLUMNS)


@dataclass(frozen=True)
class Entry:
    """What the ledger and its history record about one migration; ``note`` is for the history alone."""

    version: int
    name: str
    checksum: str
    description: str
    applied_by: str
    note: str = ""

    @classmethod
    def of(cls, migration: Migration, applied_by: str, note: str = "") -> Entry:
        """The entry of a migration file."""
        return cls(migration.version, migration.name, migration.checksum, migration.description, applied_by, note)


def digest(rows: Iterable[tuple[int, str | None, str | None]]) -> str:
    """Digest of (version, checksum, name) in order of version; equal digests mean equal ledgers."""
    lines = "\n".join(f"{version}\t{checksum or ''}\t{name or ''}" for version, checksum, name in sorted(rows))
    return hashlib.sha256(lines.encode()).hexdigest()


def identifier(name: str) -> str:
    """Quote a name as an SQL identifier (PostgreSQL documentation, "Identifiers and Key Words")."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A value as an SQL literal that reads the same whatever standard_conforming_strings says."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    text = str(value).replace("'", "''")
    return "E'" + text.replace("\\", "\\\\") + "'" if "\\" in text else f"'{text}'"


class Ledger:
    """Reads and writes the ledger of one schema.

    Writing methods return statements instead of running them: they travel in the same message, and
    in the same transaction, as the migration they belong to.
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._table = f"{identifier(schema)}.{TABLE}"
        self._history = f"{identifier(schema)}.{HISTORY}"
        self._progress = f"{identifier(schema)}.{PROGRESS}"

    # ---- reading

    def tables(self, session: Session) -> Tables:
        """Find out which parts exist; one query on the catalog, nothing is locked."""
        schema, columns, history, progress, own_schema = session.query(
            """
            SELECT pg_catalog.to_regnamespace(%s) IS NOT NULL,
                   ARRAY(SELECT attname::text || CASE WHEN atttypid = 'int8'::regtype THEN ':wide' ELSE '' END
                           FROM pg_catalog.pg_attribute
                          WHERE attrelid = pg_catalog.to_regclass(%s) AND attnum > 0 AND NOT attisdropped),
                   pg_catalog.to_regclass(%s) IS NOT NULL,
                   pg_catalog.to_regclass(%s) IS NOT NULL,
                   coalesce(pg_catalog.obj_description(pg_catalog.to_regnamespace(%s), 'pg_namespace') = %s, false)
            """,
            identifier(self.schema),
            self._table,
            self._history,
            self._progress,
            identifier(self.schema),
            _OUR_SCHEMA,
        )[0]
        _refuse_foreign(columns, f"{self.schema}.{TABLE}")
        return Tables(
            schema=schema,
            columns=frozenset(column.split(":")[0] for column in columns),
            wide="version:wide" in columns,
            history=history,
            progress=progress,
            own_schema=own_schema,
        )

    def path_without(self, session: Session) -> str | None:
        """The session's search_path, for SET, without "$user" where that leads to the ledger's schema; else None.

        A schema that exists for the ledger alone must not attract the tables that files create without saying where.
        """
        path, user = session.query("SELECT pg_catalog.current_setting('search_path'), current_user::text")[0]
        entries = re.findall(r'"(?:[^"]|"")*"|[^,\s]+', path)
        if user != self.schema or '"$user"' not in entries:
            return None
        others = [entry for entry in entries if entry != '"$user"']
        return ", ".join(entry if entry.startswith('"') else literal(entry.lower()) for entry in others) or "''"

    def summary(self, session: Session, tables: Tables) -> Summary:
        """Version, count and digest, computed by the server: one row, however many migrations there are."""

        def text(column: str) -> str:
            return f"coalesce({column}, '')" if column in tables.columns else "''"

        ledger = (
            "SELECT max(version)::bigint, count(*), coalesce(pg_catalog.string_agg("
            f"version::text || chr(9) || {text('checksum')} || chr(9) || {text('name')}, chr(10) ORDER BY version), '')"
            f" FROM {self._table}"
            if tables.exists
            else "SELECT NULL::bigint, 0, ''::text"
        )
        interrupted = f"EXISTS (SELECT 1 FROM {self._progress})" if tables.progress else "false"
        row = session.query(
            "SELECT l.version, l.count, "
            "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(l.lines, 'UTF8')), 'hex'), "
            f"{interrupted}, pg_catalog.pg_is_in_recovery() FROM ({ledger}) AS l (version, count, lines)"
        )[0]
        return Summary(*row)

    def state(self, session: Session, tables: Tables) -> State:
        """Read the whole ledger."""
        rows = self._rows(session, tables) if tables.exists else []
        progress = self._read_progress(session) if tables.progress else None
        return State(tuple(rows), progress)

    def _rows(self, session: Session, tables: Tables) -> list[Row]:
        def column(name: str) -> str:
            return name if name in tables.columns else "NULL"

        return [
            Row(*row)
            for row in session.query(
                f"SELECT version, {column('description')}::text, {column('applied_at')}::text, "
                f"{column('name')}, {column('checksum')} FROM {self._table} ORDER BY version"
            )
        ]

    def origins(self, session: Session) -> list[tuple[Any, ...]]:
        """Version and last event of each migration: ``applied``, or what it was taken over by without being run."""
        if not self.tables(session).history:
            return []
        return session.query(
            f"SELECT DISTINCT ON (version) version, event FROM {self._history} "
            "WHERE event IN ('applied', 'adopted', 'baselined', 'repaired') ORDER BY version, id DESC"
        )

    def _read_progress(self, session: Session) -> Progress | None:
        rows = session.query(
            f"SELECT version, name, checksum, done, started, before::bigint[], rollback, starting FROM {self._progress}"
        )
        if not rows:
            return None
        version, name, checksum, done, started, before, rollback, starting = rows[0]
        return Progress(version, name, checksum, done, started, tuple(before), rollback, starting)

    # ---- writing

    def ensure(self, tables: Tables, highest: int) -> list[Piece]:
        """Statements that create what is missing; none when the ledger is complete and wide enough for ``highest``."""
        wanted = "bigint" if highest > _LARGEST_INTEGER else "integer"
        statements = []
        if not tables.schema:
            statements.append(f"CREATE SCHEMA {identifier(self.schema)}")
            statements.append(f"COMMENT ON SCHEMA {identifier(self.schema)} IS {literal(_OUR_SCHEMA)}")
        if not tables.exists:
            statements.append(
                f"CREATE TABLE {self._table} (version {wanted} PRIMARY KEY, "
                "applied_at timestamptz DEFAULT now(), description text)"
            )
        elif wanted == "bigint" and not tables.wide:
            statements.append(f"ALTER TABLE {self._table} ALTER COLUMN version TYPE bigint")
        missing = [f"ADD COLUMN {name} {kind}" for name, kind in _COLUMNS.items() if name not in tables.columns]
        if missing:
            statements.append(f"ALTER TABLE {self._table} {', '.join(missing)}")
        if not tables.history:
            statements.append(
                f"CREATE TABLE {self._history} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), event text NOT NULL, "
                "version bigint NOT NULL, name text, checksum text, execution_ms bigint, done_by text, detail text)"
            )
        if not tables.progress:
            statements.append(
                f"CREATE TABLE {self._progress} (version bigint PRIMARY KEY, "
                "name text NOT NULL, checksum text NOT NULL, "
                "done integer NOT NULL, started integer NOT NULL, before oid[] NOT NULL DEFAULT '{}', "
                "rollback boolean NOT NULL DEFAULT false, starting text NOT NULL DEFAULT '', "
                "since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp())"
            )
        return [Piece(statement.encode()) for statement in statements]

    def applied(self, entry: Entry, milliseconds: int | None = None) -> list[Piece]:
        """Record that a migration was applied. A row the file inserted itself is completed, its description kept.

        Parameters:
            milliseconds: duration; None takes the time since the transaction began.
        """
        duration = str(milliseconds) if milliseconds is not None else _SINCE_BEGIN
        values = f"{literal(entry.name)}, {literal(entry.checksum)}, {duration}, {literal(entry.applied_by)}"
        return [
            Piece(
                (
                    f"INSERT INTO {self._table} AS l (version, description, name, checksum, execution_ms, applied_by) "
                    f"VALUES ({entry.version}, {literal(entry.description)}, {values}) ON CONFLICT (version) DO UPDATE "
                    "SET description = coalesce(l.description, excluded.description), name = excluded.name, "
                    "checksum = excluded.checksum, execution_ms = excluded.execution_ms, "
                    "applied_by = excluded.applied_by"
                ).encode()
            ),
            Piece(
                (
                    f"INSERT INTO {self._history} (event, version, name, checksum, execution_ms, done_by, detail) "
                    f"VALUES ('applied', {entry.version}, {values}, {literal(entry.note or None)})"
                ).encode()
            ),
        ]

    def marked(self, event: str, entries: Sequence[Entry]) -> list[Piece]:
        """Record migrations that are there without having been run: ``adopted``, ``baselined``, ``repaired``."""
        pieces = []
        for entry in entries:
            pieces.append(
                Piece(
                    (
                        f"INSERT INTO {self._table} AS l (version, description, name, checksum, applied_by) VALUES "
                        f"({entry.version}, {literal(entry.description)}, {literal(entry.name)}, "
                        f"{literal(entry.checksum)}, {literal(entry.applied_by)}) ON CONFLICT (version) DO UPDATE "
                        "SET name = excluded.name, checksum = excluded.checksum"
                    ).encode()
                )
            )
            pieces.append(self.event(event, entry))
        return pieces

    def removed(self, entry: Entry, milliseconds: int | None = None) -> list[Piece]:
        """Record that a migration was rolled back."""
        return [
            Piece(f"DELETE FROM {self._table} WHERE version = {entry.version}".encode()),
            self.event("rolled back", entry, entry.note or None, milliseconds),
        ]

    def event(self, event: str, entry: Entry, detail: str | None = None, milliseconds: int | None = None) -> Piece:
        """A line of history."""
        return Piece(
            (
                f"INSERT INTO {self._history} (event, version, name, checksum, execution_ms, done_by, detail) VALUES "
                f"({literal(event)}, {entry.version}, {literal(entry.name)}, {literal(entry.checksum)}, "
                f"{literal(milliseconds)}, {literal(entry.applied_by)}, {literal(detail)})"
            ).encode()
        )

    def strangers(self, version: int, own: Mapping[int, str]) -> Piece:
        """Ask for a row that this transaction wrote although it may not, and for the number of rows of other versions.

        A row was written here when its xmin is not older than the transaction (subtransactions have younger ones).

        Parameters:
            version: the version at work.
            own: checksums of the versions that this transaction has recorded before.
        """
        here = "pg_catalog.age(xmin) <= pg_catalog.age(pg_catalog.pg_current_xact_id()::xid)"
        recorded = ",".join(f"{number}:{checksum}" for number, checksum in own.items())
        # A ledger that this transaction has not recorded anything in may not have the column yet.
        known = f"version::text || ':' || checksum = ANY ('{{{recorded}}}'::text[])" if own else "false"
        return Piece(
            f"SELECT min(version::bigint) FILTER (WHERE {here} AND NOT {known}), count(*) "
            f"FROM {self._table} WHERE version <> {version}".encode()
        )

    def set_aside(self) -> list[Piece]:
        """Take our own tables out of the schema for the script that undoes everything: it may drop the schema."""
        return [
            Piece(f"CREATE TEMPORARY TABLE {HISTORY}_aside AS TABLE {self._history}".encode()),
            Piece(f"DROP TABLE {self._history}, {self._progress}".encode()),
        ]

    def bring_back(self) -> list[Piece]:
        """Put the history back where ``ensure`` has made its table anew."""
        sequence = f"pg_catalog.pg_get_serial_sequence({literal(self._history)}, 'id')"
        return [
            Piece(
                f"INSERT INTO {self._history} OVERRIDING SYSTEM VALUE SELECT * FROM pg_temp.{HISTORY}_aside".encode()
            ),
            Piece(f"SELECT pg_catalog.setval({sequence}, max(id)) FROM {self._history}".encode()),
        ]

    # ---- progress of files that cannot run in one transaction

    def begin_progress(self, entry: Entry, rollback: bool) -> Piece:
        """Note that a file is under way."""
        return Piece(
            (
                f"INSERT INTO {self._progress} (version, name, checksum, done, started, rollback) "
                f"VALUES ({entry.version}, {literal(entry.name)}, '', 0, 0, {literal(rollback)})"
            ).encode()
        )

    def start_statement(self, version: int, number: int, starting: str, before: Iterable[int]) -> Piece:
        """Note which statement is about to run, and the indexes that are there before it."""
        oids = ",".join(str(oid) for oid in before)
        return Piece(
            (
                f"UPDATE {self._progress} SET started = {number}, starting = {literal(starting)}, "
                f"before = '{{{oids}}}' WHERE version = {version}"
            ).encode()
        )

    def refused_statement(self, version: int) -> Piece:
        """Note that the statement that was started did nothing: the server refused it."""
        return Piece(f"UPDATE {self._progress} SET started = done WHERE version = {version}".encode())

    def finish_statement(self, version: int, number: int, checksum: str) -> Piece:
        """Note that the statements up to ``number`` are complete."""
        return Piece(
            (
                f"UPDATE {self._progress} SET done = {number}, started = {number}, checksum = {literal(checksum)} "
                f"WHERE version = {version}"
            ).encode()
        )

    def end_progress(self, version: int) -> Piece:
        """The file is complete."""
        return Piece(f"DELETE FROM {self._progress} WHERE version = {version}".encode())


def as_result(state: State) -> dict[str, Any]:
    """A state as JSON-serialisable data, for module results."""
    return {
        "rows": [list(asdict(row).values()) for row in state.rows],
        "progress": state.progress and asdict(state.progress),
    }


def from_result(result: dict[str, Any]) -> State:
    """The reverse of ``as_result``."""
    progress = result["progress"]
    return State(
        tuple(Row(*row) for row in result["rows"]),
        Progress(**{**progress, "before": tuple(progress["before"])}) if progress else None,
    )


def _refuse_foreign(columns: Sequence[str], table: str) -> None:
    if columns and not any(column.split(":")[0] == "version" for column in columns):
        raise RunbookError(
            f"The table {table} has no column version, so it belongs to something else. "
            "Choose another schema for the ledger with db_schema.",
            code="foreign-ledger",
        )
