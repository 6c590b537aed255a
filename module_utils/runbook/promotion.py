# SPDX-License-Identifier: GPL-3.0-or-later
"""The promotion gate: production gets what staging has proven, and nothing else.

The proof is in staging's run records on the controller: the newest look at its database after a validation that was
green, with the checksum of every migration it had then, and with the tables that held rows. A proof on a database
without data says nothing about one with data, so staging has to have rows wherever production has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import record
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.host_entry import GREEN, RED

PASSED, OVERRIDDEN, OFF = "passed", "overridden", "off"

APPLIED = "applied"
"""How a migration has come into the ledger if its file was run; others were taken over as they are."""

_SHOWN = 5
_NO_REASONS = ("true", "false", "yes", "no", "none", "null")


@dataclass(frozen=True)
class Candidate:
    """A migration that is to be applied."""

    version: int
    name: str
    checksum: str


@dataclass(frozen=True)
class Target:
    """The database that is to be changed.

    Parameters:
        database: its name.
        identity: what tells it from every other database.
        filled: its tables that have rows.
    """

    database: str
    identity: str
    filled: frozenset[str]


@dataclass(frozen=True)
class Proof:
    """What the environment before has last shown.

    Parameters:
        run: id of the run record.
        red: the checks that failed; none for a green validation.
        versions: name and checksum of each migration in the ledger then, and how it came there.
        empty: the tables without rows then.
        empty_before: the tables without rows when a version was applied, as far as a record says.
        rolled_back: what a later run has taken back, with its id.
        applied_since: the versions that a later run has applied.
    """

    run: str
    red: tuple[str, ...]
    identity: str
    versions: Mapping[int, tuple[str, str, str]]
    empty: frozenset[str]
    empty_before: Mapping[int, frozenset[str]] = field(default_factory=dict)
    rolled_back: Mapping[int, str] = field(default_factory=dict)
    applied_since: frozenset[int] = frozenset()


def newest_proof(folder: Path, database: str) -> Proof | None:
    """The newest validation among the run records of an environment.

    Parameters:
        folder: of the environment's run records.
        database: the one that is to be changed. Its namesake counts; without one, the environment's only database.
    """
    runs = [run for run in record.newest_first(folder) if not run.get("check")]
    names = {entry["database"] for run in runs for entry in _entries(run)}
    meant = database if database in names or len(names) != 1 else names.pop()
    proof: Proof | None = None
    rolled_back: dict[int, str] = {}
    applied: dict[int, frozenset[str]] = {}
    for run in runs:
        # Of several hosts with that database all have to be green.
        entry = max((one for one in _entries(run) if one["database"] == meant), key=_how_bad, default={})
        validation = entry.get("validation") or {}
        if proof is None:
            for migration in entry.get("rolled_back") or ():
                rolled_back.setdefault(migration.get("version"), run["id"])
            if validation.get("outcome"):
                proof = replace(_proof(run["id"], validation, rolled_back), applied_since=frozenset(applied))
        for migration in entry.get("applied") or ():
            applied.setdefault(migration.get("version"), frozenset(validation.get("empty") or ()))
    return replace(proof, empty_before=applied) if proof else None


def missing(
    environment: str, proof: Proof | None, candidates: Sequence[Candidate], target: Target, may_lack: Collection[str]
) -> list[str]:
    """What keeps migrations from being promoted, each with the command that supplies it; empty when nothing does.

    Parameters:
        environment: the one before.
        may_lack: patterns of tables that may be without rows there.
    """
    if proof is None:
        return [
            f"No run record says that {environment} has validated anything. {_command(environment, 'migrate')}, or, if "
            f"it has the migrations already: {_command(environment, 'validate', start=False)}."
        ]
    if proof.identity and proof.identity == target.identity:
        return [f"{environment} is this very database: look at db_host and db_name in the inventory of {environment}."]
    if proof.red:
        failed = ", ".join(proof.red[:_SHOWN])
        return [
            f"The newest validation of {environment} (run {proof.run}) was red: {failed}. Mend that, then: "
            f"{_command(environment, 'validate', start=False)}."
        ]
    return [
        *_unproven(environment, proof, candidates),
        *_without_rows(environment, proof, candidates, target, may_lack),
    ]


def decide(problems: Sequence[str], environment: str, override: str) -> str:
    """Let migrations through or refuse them.

    Returns:
        ``PASSED`` or ``OVERRIDDEN``.

    Raises:
        RunbookError: ``promotion``, with everything that is missing; ``option`` for an override that is no reason.
    """
    if not problems:
        return PASSED
    if override.strip().lower() in _NO_REASONS:
        raise RunbookError(
            f'migrate_override is "{override}", and has to be the reason, in words. Nothing was changed.', code="option"
        )
    if override:
        return OVERRIDDEN
    raise RunbookError(
        f"This environment gets only what {environment} has applied and validated. {' '.join(problems)} Nothing was "
        "changed. In an emergency give the reason, which stays in the ledger's history: "
        '-e \'{"migrate_override": "why"}\'.',
        code="promotion",
        problems=list(problems),
    )


def _entries(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a record says about each database."""
    return [entry for entry in run.get("hosts", {}).values() if isinstance(entry, Mapping) and entry.get("database")]


def _how_bad(entry: Mapping[str, Any]) -> int:
    outcome = (entry.get("validation") or {}).get("outcome")
    return 2 if outcome == RED else 1 if outcome is None else 0


def _proof(run: str, validation: Mapping[str, Any], rolled_back: Mapping[int, str]) -> Proof:
    checks = validation.get("checks") or ()
    bad = [check for check in checks if check.get("status") in ("failed", "errored")]
    failed = [str(check.get("name")) for check in bad if check.get("severity") == "error"] or [
        str(check.get("name")) for check in bad
    ]
    return Proof(
        run=run,
        red=() if validation["outcome"] == GREEN else tuple(failed) or ("it did not come to its end",),
        identity=str(validation.get("identity") or ""),
        versions={
            one["version"]: (str(one.get("name")), str(one.get("checksum")), str(one.get("how")))
            for one in validation.get("versions") or ()
        },
        empty=frozenset(validation.get("empty") or ()),
        rolled_back=dict(rolled_back),
    )


def _unproven(environment: str, proof: Proof, candidates: Sequence[Candidate]) -> Iterator[str]:
    absent = []
    for candidate in candidates:
        known = proof.versions.get(candidate.version)
        if candidate.version in proof.rolled_back:
            yield (
                f"{candidate.name} was rolled back in {environment} by run {proof.rolled_back[candidate.version]}. "
                f"{_command(environment, 'migrate')}."
            )
        elif known is None:
            absent.append(candidate.name)
        elif known[1] != candidate.checksum:
            yield (
                f"{candidate.name} is not the file that {environment} has proven: it has been edited since "
                f"(SHA-256 {candidate.checksum[:12]}, there {known[1][:12]}). Get the proven one back with git, and "
                "put the change into a new file."
            )
        elif known[0] != candidate.name:
            yield (
                f"{candidate.name} was proven in {environment} as {known[0]}: it has been renamed since. Give the old "
                "name back."
            )
        elif known[2] != APPLIED:
            yield (
                f"{candidate.name} has never been run in {environment}: its ledger says {known[2]}. Roll it back there "
                f"and apply it. {_command(environment, 'migrate')}."
            )
    if absent:
        # A run that was killed has applied them, and there is nothing for another migrate to do.
        there = {one.name for one in candidates if one.version in proof.applied_since}
        yield (
            f"{environment} has not proven {', '.join(absent)} (its newest validation is run {proof.run}). "
            f"{_command(environment, 'validate' if there.issuperset(absent) else 'migrate')}."
        )


def _without_rows(
    environment: str, proof: Proof, candidates: Sequence[Candidate], target: Target, may_lack: Collection[str]
) -> Iterator[str]:
    """What was applied to empty tables is not proven by rows that came later."""
    tables = proof.empty.union(*(proof.empty_before.get(candidate.version, ()) for candidate in candidates))
    empty = [
        table
        for table in sorted(target.filled & tables)
        if not any(fnmatchcase(table, pattern) for pattern in may_lack)
    ]
    if empty:
        more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
        yield (
            f"{environment} had no rows in {', '.join(empty[:_SHOWN])}{more}, where this database has: what it proved "
            "says nothing about those. Bring this database's data there, at the version from before, and then: "
            f"{_command(environment, 'migrate', start=False)} (docs/promotion.md has the commands). Or list tables "
            "that may stay empty there in migrate_staging_may_lack."
        )


def _command(environment: str, playbook: str, start: bool = True) -> str:
    return f"{'Run: ' if start else ''}ansible-playbook {playbook}.yml -l {environment}"
