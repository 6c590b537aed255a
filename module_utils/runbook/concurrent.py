# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements with CONCURRENTLY: what they leave behind when they fail, and whether they really finished.

A failed CREATE INDEX CONCURRENTLY leaves an INVALID index that is maintained but never used, and
that IF NOT EXISTS takes for the real one (PostgreSQL documentation, "Building Indexes Concurrently";
sbdchd/squawk#1230). Here such a rest is dropped before and after, and done means ``indisvalid``.
"""

from __future__ import annotations

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.session import Session, SqlError
from ansible.module_utils.runbook.statement import ConcurrentStatement, concurrent_statement, finalize_detach

# (oid, schema-qualified name as SQL, valid) of indexes
_Index = tuple[int, str, bool]

_INDEXES = """
SELECT i.indexrelid::bigint, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), i.indisvalid
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
_ON_TABLE = _INDEXES + " WHERE i.indrelid = pg_catalog.to_regclass(%s)"
_REINDEX_RESTS = _INDEXES + r" WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)\d*$'"
_NAMED = (
    _INDEXES
    + """ WHERE c.relname = (pg_catalog.parse_ident(%s))[1]::name
   AND c.relnamespace = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s))"""
)

# SQLSTATEs that, on a second try, say that the first one had done the work.
_DONE_BEFORE = {
    "42704",  # undefined_object: dropped already
    "42710",  # duplicate_object: created already
    "3D000",  # invalid_catalog_name: the database is dropped already
    "42P04",  # duplicate_database
}
_DETACH_PENDING = "55000"
_NOT_A_PARTITION = "42P01"


class ConcurrentWork:
    """One statement that PostgreSQL runs outside a transaction.

    Parameters:
        before: oids noted by ``indexes_before`` when the statement was first started.
        again: whether it was started by an earlier run that did not live to see its end.

    Attributes:
        left_rests: whether something is left of a failed attempt, for the next run to drop.
    """

    def __init__(self, session: Session, piece: Piece, again: bool, before: tuple[int, ...]) -> None:
        self._session = session
        self._piece = piece
        self._again = again
        self._statement: ConcurrentStatement | None = concurrent_statement(piece.text)
        self.before = before if again else self._indexes_before()
        self.left_rests = False

    def run(self) -> None:
        """Run the statement, cleaning up before and after.

        Raises:
            SqlError: as the server said it about this statement.
            RunbookError: ``invalid-index``, ``index-in-progress``.
        """
        self._drop_rests()
        if self._finished_by_earlier_run():
            return
        try:
            self._session.run([self._piece])
        except SqlError as error:
            if error.lost:
                raise
            if not self._settled(error):
                try:
                    self._drop_rests()
                except SqlError:  # what keeps the index from being built can keep its rest from being dropped
                    self.left_rests = True
                raise
        self._refuse_invalid()

    def _indexes_before(self) -> tuple[int, ...]:
        return tuple(oid for oid, _, _ in self._own_indexes())

    def _own_indexes(self) -> list[_Index]:
        """The indexes among which this statement's result or rest can be found."""
        statement = self._statement
        if statement is None:
            return []
        if statement.verb == "create index":
            return [_index(row) for row in self._session.query(_ON_TABLE, statement.table)]
        if statement.verb == "reindex":
            return [_index(row) for row in self._session.query(_REINDEX_RESTS)]
        return []

    def _new_indexes(self) -> list[_Index]:
        """The index by its name, whoever made it; without a name, those that came since the statement began."""
        statement = self._statement
        if statement is not None and statement.verb == "create index" and statement.names:
            return [_index(row) for row in self._session.query(_NAMED, statement.names[0], statement.table)]
        return [index for index in self._own_indexes() if index[0] not in self.before]

    def _drop_rests(self) -> None:
        for oid, name, valid in self._new_indexes():
            if not valid:
                self._refuse_index_in_progress(oid, name)
                self._session.run([Piece(f"DROP INDEX CONCURRENTLY {name}".encode())])

    def _refuse_index_in_progress(self, oid: int, name: str) -> None:
        builders = self._session.query(
            "SELECT pid FROM pg_catalog.pg_stat_progress_create_index WHERE index_relid = %s", oid
        )
        if builders:
            raise RunbookError(
                f"{self._piece.file}:{self._piece.line}: the index {name} is being built right now, "
                f"by pid {builders[0][0]}. Let that finish or end it, then run this again.",
                code="index-in-progress",
            )

    def _finished_by_earlier_run(self) -> bool:
        """Whether the killed run's CREATE INDEX came through although nobody could note it any more."""
        statement = self._statement
        if not self._again or statement is None or statement.verb != "create index":
            return False
        return any(valid and oid not in self.before for oid, _, valid in self._new_indexes())

    def _settled(self, error: SqlError) -> bool:
        """Whether an error only says that an earlier, interrupted try had got there already."""
        if not self._again:
            return False
        if self._statement is not None and self._statement.verb == "detach partition":
            if error.sqlstate == _DETACH_PENDING:
                self._session.run([Piece(finalize_detach(self._piece.text), self._piece.line, self._piece.file)])
                return True
            return error.sqlstate == _NOT_A_PARTITION
        return error.sqlstate in _DONE_BEFORE

    def _refuse_invalid(self) -> None:
        statement = self._statement
        if statement is None or statement.verb not in ("create index", "reindex"):
            return
        invalid = [name for _, name, valid in self._new_indexes() if not valid]
        if invalid:
            raise RunbookError(
                f"{self._piece.file}:{self._piece.line}: the server reported success, but the index {invalid[0]} is "
                "INVALID. It is not recorded. Run this again: the index is dropped and built anew.",
                code="invalid-index",
            )


def _index(row: tuple[object, ...]) -> _Index:
    oid, name, valid = row
    return int(str(oid)), str(name), bool(valid)
