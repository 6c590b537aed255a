# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a restored database with the manifest of its set, and with what any sound database has to be."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible.module_utils.runbook import facts
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.manifest import Manifest
from ansible.module_utils.runbook.session import Session, SqlError, connect

_SHOWN = 5

# That of a partitioned table is only valid once each partition has one, which nobody is obliged to.
_INVALID_INDEXES = """
SELECT c.oid::regclass::text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
 WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive) ORDER BY 1
"""

_DESCENDING = "SELECT schemaname::text, sequencename::text FROM pg_catalog.pg_sequences WHERE increment_by < 0"

_BTREES = """
SELECT c.oid::bigint, c.oid::regclass::text
  FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_am a ON a.oid = c.relam
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND c.oid >= 16384
 ORDER BY 1
"""


@dataclass
class Evidence:
    """What a verified restore has shown; becomes ``verified.json`` of the set.

    Parameters:
        tables, rows: how many there were, all compared with the manifest.
        compared: whether there was a manifest to compare with.
        checks: what was looked at, with what was seen.
        seconds: how long it took.
        facts: what the caller adds: times, server, measured recovery time.
    """

    tables: int = 0
    rows: int = 0
    compared: bool = False
    checks: dict[str, str] = field(default_factory=dict)
    seconds: float = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """One flat mapping."""
        data = asdict(self)
        return {**data.pop("facts"), **data}


def prove(login: Login, application: str, manifest: Manifest | None, smoke: Sequence[str]) -> Evidence:
    """Verify a restored database, and meanwhile give it the statistics that no dump holds.

    Parameters:
        login: to that database.
        application: what the sessions call themselves.
        manifest, smoke: as for ``verify``.

    Raises:
        RunbookError: ``not-verified``.
    """
    with ThreadPoolExecutor(max_workers=1) as beside, connect(login, application) as session:
        analyzing = beside.submit(_analyze, login, application)
        evidence = verify(session, manifest, smoke)
        analyzing.result()
        return evidence


def _analyze(login: Login, application: str) -> None:
    with connect(login, application) as session:
        session.query("SET statement_timeout = 0")
        session.query("ANALYZE")


def verify(session: Session, manifest: Manifest | None, smoke: Sequence[str]) -> Evidence:
    """Look at a restored database.

    Parameters:
        session: one in it.
        manifest: of the set it was restored from; None for a plain file, which has none.
        smoke: questions that have to be answered with true.

    Raises:
        RunbookError: ``not-verified``, with everything that is wrong.
    """
    began = time.monotonic()
    evidence = Evidence(compared=manifest is not None)
    session.query("SET statement_timeout = 0")
    session.query("SET row_security = off")
    problems = list(_compare(session, manifest, evidence)) if manifest else list(_look(session, evidence))
    problems += _invalid_indexes(session, evidence)
    problems += _sequences(session, manifest, evidence)
    problems += _structure(session, evidence)
    problems += _smoke(session, smoke, evidence)
    evidence.seconds = round(time.monotonic() - began, 3)
    if problems:
        raise RunbookError(
            f"What was restored is not what was backed up: {_listed(problems)}. It was not put to use.",
            code="not-verified",
            problems=problems,
        )
    return evidence


def _look(session: Session, evidence: Evidence) -> Iterator[str]:
    """There is nothing to compare with; an empty result is still no restore."""
    found = facts.tables(session)
    evidence.tables, evidence.rows = len(found), sum(table.rows for table in found)
    if not found:
        yield "there is not a single table in it"


def _compare(session: Session, manifest: Manifest, evidence: Evidence) -> Iterator[str]:
    found = {(table.schema, table.name): table.rows for table in facts.tables(session)}
    expected = {(table.schema, table.name): table.rows for table in manifest.tables}
    evidence.tables, evidence.rows = len(found), sum(found.values())
    for key, rows in expected.items():
        name = ".".join(key)
        if key not in found:
            yield f"table {name} is missing"
        elif found[key] != rows:
            yield f"table {name} has {found[key]} rows instead of {rows}"
    yield from (f"table {'.'.join(key)} is one too many" for key in found if key not in expected)
    objects = facts.large_objects(session)
    evidence.checks["large objects"] = str(objects)
    if objects != manifest.large_objects:
        yield f"there are {objects} large objects instead of {manifest.large_objects}"
    version = facts.schema_version(session, manifest.ledger_schema)
    evidence.checks["schema version"] = str(version)
    if version != manifest.schema_version:
        yield f"the schema version is {version} instead of {manifest.schema_version}"
    installed = {extension.name for extension in facts.extensions(session)}
    evidence.checks["extensions"] = str(len(installed))
    missing = [extension.name for extension in manifest.extensions if extension.name not in installed]
    yield from (f"extension {name} is missing" for name in missing)


def _invalid_indexes(session: Session, evidence: Evidence) -> Iterator[str]:
    invalid = [name for (name,) in session.query(_INVALID_INDEXES)]
    evidence.checks["invalid indexes"] = str(len(invalid))
    yield from (f"index {name} is invalid" for name in invalid)


def _sequences(session: Session, manifest: Manifest | None, evidence: Evidence) -> Iterator[str]:
    """None may stand before where it was. One behind its own column is worth a word: it may have been so before."""
    found = {(one.schema, one.name): one.last_value for one in facts.sequences(session)}
    descending = {(schema, name) for schema, name in session.query(_DESCENDING)}
    for was in manifest.sequences if manifest else ():
        key, name = (was.schema, was.name), f"{was.schema}.{was.name}"
        if key not in found:
            yield f"sequence {name} is missing"
        elif _behind(found[key], was.last_value, key in descending):
            yield f"sequence {name} stands at {found[key]} instead of {was.last_value} or further"
    late = []
    for schema, name, table_schema, table, column, falls in facts.owned_sequences(session):
        place = f"{identifier(table_schema)}.{identifier(table)}"
        (most,) = session.query(f"SELECT pg_catalog.{'min' if falls else 'max'}({identifier(column)}) FROM {place}")[0]
        if isinstance(most, int) and _behind(found.get((schema, name)), most, falls):
            late.append(f"{schema}.{name}")
    evidence.checks["sequences"] = str(len(found)) + (f", behind their column: {', '.join(late)}" if late else "")


def _behind(stands: int | None, expected: int | None, descending: bool) -> bool:
    if expected is None:
        return False
    if stands is None:
        return True
    return stands > expected if descending else stands < expected


def _structure(session: Session, evidence: Evidence) -> Iterator[str]:
    """Let amcheck look at every B-tree, where the server has it and the user may use it; it is not left behind."""
    try:
        session.query("BEGIN")
        session.query("SET LOCAL client_min_messages = warning")
        session.query("CREATE EXTENSION IF NOT EXISTS amcheck")
        (schema,) = session.query(
            "SELECT nspname::text FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace "
            "WHERE extname = 'amcheck'"
        )[0]
    except SqlError as error:
        if error.lost:
            raise
        session.query("ROLLBACK")
        evidence.checks["amcheck"] = f"not available: {error.message}"
        return
    indexes = session.query(_BTREES)
    bad = []
    for oid, name in indexes:
        session.query("SAVEPOINT one")
        try:
            session.query(f"SELECT {identifier(schema)}.bt_index_check(%s::bigint::oid::regclass)", oid)
        except SqlError as error:
            if error.lost:
                raise
            session.query("ROLLBACK TO one")
            bad.append(f"index {name} is damaged: {error.message}")
    session.query("ROLLBACK")
    evidence.checks["amcheck"] = f"{len(indexes)} indexes"
    yield from bad


def _smoke(session: Session, questions: Sequence[str], evidence: Evidence) -> Iterator[str]:
    """Each in a transaction that can change nothing."""
    for question in questions:
        session.query("BEGIN READ ONLY")
        try:
            rows = session.query(question)
            if not rows or rows[0][0] is not True:
                answer = repr(rows[0][0]) if rows else "no row"
                yield f"the smoke check {question!r} was answered with {answer} and not with true"
        except SqlError as error:
            if error.lost:
                raise
            yield f"the smoke check {question!r} failed: {error.message}"
        session.query("ROLLBACK")
    evidence.checks["smoke checks"] = str(len(questions))


def _listed(problems: Sequence[str]) -> str:
    more = len(problems) - _SHOWN
    return "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
