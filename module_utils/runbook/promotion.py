# SPDX-License-Identifier: GPL-3.0-or-later
"""The promotion gate: production gets what staging has proven, and nothing else.

The proof is in staging's run records on the controller: the newest look at its database after a validation that was
green, with the checks that were made, the checksum of every migration it had then, and with the tables that held rows.
A proof on a database without data says nothing about one with data, so staging has to have rows wherever production
has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
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

# How many validations of another environment are looked through for this very database.
_REMEMBERED = 20

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A migration that is to be applied."""

    version: int
    name: str
    checksum: str


@dataclass(frozen=True)
class Target:
    """The database that is to be changed, and what has to be proven for it.

    Parameters:
        database: its name.
        candidates: what is to be applied to it.
        filled: its tables that have rows, but for those that may lack them where they are proven.
        checks: names of the project's checks.
    """

    database: str
    candidates: Sequence[Candidate]
    filled: frozenset[str] = frozenset()
    checks: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Problem:
    """Something that is missing, with the command that supplies it.

    Parameters:
        text: for people.
        versions: the candidates that are not proven because of it.
    """

    text: str
    versions: frozenset[int]


@dataclass(frozen=True)
class Proof:
    """What the environment before has last shown, on all of its hosts with that database.

    Parameters:
        run: id of the run record.
        database: its name there.
        red: the checks that failed; none for a green validation.
        checks: names of all that were made, or that were not due at that version.
        versions: name and checksum of each migration in the ledger then, and how it came there.
        empty: the tables without rows then.
        empty_before: the tables without rows when a version was applied, as far as a record says.
        rolled_back: what a later run has taken back, with its id.
        applied_since: the versions that a later run has applied.
    """

    run: str
    database: str
    red: tuple[str, ...]
    checks: frozenset[str]
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
    runs = [run for run in record.newest_first(folder, record.ROUTINE) if not run.get("check")]
    names = {entry["database"] for run in runs for entry in _entries(run)}
    meant = database if database in names or len(names) != 1 else names.pop()
    proof: Proof | None = None
    rolled_back: dict[int, str] = {}
    applied: dict[int, frozenset[str]] = {}
    for run in runs:
        entries = [entry for entry in _entries(run) if entry["database"] == meant]
        if proof is None:
            for migration in _each(entries, "rolled_back"):
                rolled_back.setdefault(migration["version"], run["id"])
            proof = _proof(run, entries)
            if proof:
                proof = replace(proof, applied_since=frozenset(applied), rolled_back=rolled_back)
        for migration in _each(entries, "applied"):
            applied.setdefault(migration["version"], _empty(entries))
    return replace(proof, empty_before=applied) if proof else None


def environments_with(records: Path, own: str, identity: str) -> dict[str, str]:
    """The other environments that were this very database when they last looked, each with the run that says so.

    Parameters:
        records: folder with a folder of run records for each environment.
        own: the environment that the database is said to belong to.
        identity: what tells it from every other database.
    """
    folders = sorted(folder for folder in records.iterdir() if folder.is_dir()) if records.is_dir() else []
    found: dict[str, str] = {}
    for folder in folders:
        runs = record.newest_first(folder, record.ROUTINE) if folder.name != own else iter(())
        known = ((run["id"], _identities(run)) for run in runs)
        for run, identities in islice((one for one in known if one[1]), _REMEMBERED):
            if identity in identities:
                found.setdefault(folder.name, str(run))
    return found


def twins(others: Mapping[str, str], target: Target) -> list[Problem]:
    """What keeps a database from being changed that belongs to another environment, as ``environments_with`` says."""
    return [
        _problem(
            f"{other} is this very database (run {run}): look at db_host and db_name in both inventories.",
            target.candidates,
        )
        for other, run in others.items()
    ]


def missing(environment: str, proof: Proof | None, target: Target) -> list[Problem]:
    """What keeps migrations from being promoted; empty when nothing does.

    Parameters:
        environment: the one before.
    """
    everything = target.candidates
    if proof is None:
        said = (
            f"No run record says that {environment} has validated anything. {_command(environment, 'migrate')}, or, if "
            f"it has the migrations already: {_command(environment, 'validate', start=False)}."
        )
        return [_problem(said, everything)]
    if proof.red:
        said = (
            f"The newest validation of {environment} (run {proof.run}) was red: {_few(proof.red)}. Mend that, then: "
            f"{_command(environment, 'validate', start=False)}."
        )
        return [_problem(said, everything)]
    unmade = sorted(target.checks - proof.checks)
    if unmade:
        said = (
            f"The newest validation of {environment} (run {proof.run}) has not made the checks {_few(unmade)}. "
            f"{_command(environment, 'validate')}."
        )
        return [_problem(said, everything)]
    return [*_unproven(environment, proof, everything), *_without_rows(environment, proof, target)]


def decide(problems: Sequence[Problem], environment: str, override: str) -> str:
    """Let migrations through or refuse them.

    Returns:
        ``PASSED``, ``OVERRIDDEN``, or ``OFF`` when there is no environment that had to prove anything.

    Raises:
        RunbookError: ``promotion``, with everything that is missing; ``option`` for an override that is no reason.
    """
    if not problems:
        return PASSED if environment else OFF
    if override.strip().lower() in _NO_REASONS:
        raise RunbookError(
            f'migrate_override is "{override}", and has to be the reason, in words. Nothing was changed.', code="option"
        )
    if override:
        return OVERRIDDEN
    rule = f"This environment gets only what {environment} has applied and validated. " if environment else ""
    raise RunbookError(
        f"{rule}{' '.join(problem.text for problem in problems)} Nothing was changed. In an emergency give the reason, "
        'which stays in the ledger\'s history: -e \'{"migrate_override": "why"}\'.',
        code="promotion",
        problems=[problem.text for problem in problems],
    )


def filled(tables: Mapping[str, Mapping[str, Any]], may_lack: Collection[str]) -> frozenset[str]:
    """The tables with rows, as ``schema_info`` says, without those that patterns excuse."""
    return frozenset(
        table
        for table, size in tables.items()
        if size["rows"] != 0 and not any(fnmatchcase(table, pattern) for pattern in may_lack)
    )


def _problem(text: str, candidates: Iterable[Candidate]) -> Problem:
    return Problem(text, frozenset(candidate.version for candidate in candidates))


def _entries(run: Entry) -> list[Entry]:
    """What a record says about each database."""
    return [entry for entry in run.get("hosts", {}).values() if isinstance(entry, Mapping) and entry.get("database")]


def _identities(run: Entry) -> set[str]:
    validations = [entry.get("validation") or {} for entry in _entries(run)]
    return {str(validation["identity"]) for validation in validations if validation.get("identity")}


def _each(entries: Iterable[Entry], kind: str) -> list[Entry]:
    """The migrations that something has happened to; not all are known to the last detail."""
    return [migration for entry in entries for migration in entry.get(kind) or () if "version" in migration]


def _proof(run: Entry, entries: Sequence[Entry]) -> Proof | None:
    """What a run has shown: of several hosts with the database all have to be green, and have what is proven."""
    validations = [entry.get("validation") or {} for entry in entries]
    outcomes = {validation.get("outcome") for validation in validations}
    if not outcomes or (None in outcomes and RED not in outcomes):
        return None
    return Proof(
        run=str(run["id"]),
        database=str(entries[0]["database"]),
        red=_failures(run, str(entries[0]["database"])) if outcomes == {GREEN} else tuple(_failed_checks(validations)),
        checks=frozenset.intersection(*(frozenset(_names(one.get("checks"))) for one in validations)),
        versions=_common([_versions(validation) for validation in validations]),
        empty=_empty(entries),
    )


def _failures(run: Entry, database: str) -> tuple[str, ...]:
    """Why a run failed on hosts with a database though its checks were green: drift that must not be, for instance."""
    entries = {name: entry for name, entry in run["hosts"].items() if isinstance(entry, Mapping)}
    hosts = {name.partition("/")[0] for name, entry in entries.items() if entry.get("database") == database}
    errors = [entry.get("error") for name, entry in entries.items() if name.partition("/")[0] in hosts]
    return tuple(str(error.get("message")).rstrip(".") for error in errors if isinstance(error, Mapping))


def _failed_checks(validations: Iterable[Entry]) -> list[str]:
    checks = [check for one in validations if one.get("outcome") == RED for check in one.get("checks") or ()]
    bad = [check for check in checks if check.get("status") in ("failed", "errored")]
    grave = [check for check in bad if check.get("severity") == "error"]
    return sorted({*_names(grave or bad)}) or ["it did not come to its end"]


def _names(checks: Iterable[Entry] | None) -> list[str]:
    return [str(check.get("name")) for check in checks or ()]


def _versions(validation: Entry) -> dict[int, tuple[str, str, str]]:
    return {
        one["version"]: (str(one.get("name")), str(one.get("checksum")), str(one.get("how")))
        for one in validation.get("versions") or ()
    }


def _common(ledgers: Sequence[Mapping[int, tuple[str, str, str]]]) -> dict[int, tuple[str, str, str]]:
    first, *others = ledgers
    return {version: row for version, row in first.items() if all(one.get(version) == row for one in others)}


def _empty(entries: Iterable[Entry]) -> frozenset[str]:
    """The tables that no host has rows in."""
    known = [frozenset((entry.get("validation") or {}).get("empty") or ()) for entry in entries]
    return frozenset.intersection(*known) if known else frozenset()


def _unproven(environment: str, proof: Proof, candidates: Sequence[Candidate]) -> Iterator[Problem]:
    absent = []
    for candidate in candidates:
        known = proof.versions.get(candidate.version)
        if candidate.version in proof.rolled_back:
            yield _problem(
                f"{candidate.name} was rolled back in {environment} by run {proof.rolled_back[candidate.version]}. "
                f"{_command(environment, 'migrate')}.",
                [candidate],
            )
        elif known is None:
            absent.append(candidate)
        elif known[1] != candidate.checksum:
            yield _problem(
                f"{candidate.name} is not the file that {environment} has proven: it has been edited since "
                f"(SHA-256 {candidate.checksum[:12]}, there {known[1][:12]}). Get the proven one back with git, and "
                "put the change into a new file.",
                [candidate],
            )
        elif known[0] != candidate.name:
            yield _problem(
                f"{candidate.name} was proven in {environment} as {known[0]}: it has been renamed since. Give the old "
                "name back.",
                [candidate],
            )
        elif known[2] != APPLIED:
            yield _problem(
                f"{candidate.name} has never been run in {environment}: its ledger says {known[2]}. Roll it back there "
                f"and apply it. Run: ansible-playbook rollback.yml -l {environment} -e rollback_version="
                f"{_before(candidate, proof)} -e rollback_confirm={proof.database}, then: "
                f"{_command(environment, 'migrate', start=False)}.",
                [candidate],
            )
    if absent:
        # A run that was killed has applied them, and there is nothing for another migrate to do.
        there = proof.applied_since.issuperset(candidate.version for candidate in absent)
        yield _problem(
            f"{environment} has not proven {', '.join(one.name for one in absent)} (its newest validation is run "
            f"{proof.run}). {_command(environment, 'validate' if there else 'migrate')}.",
            absent,
        )


def _before(candidate: Candidate, proof: Proof) -> int:
    """The version that a ledger is at without this candidate and those after it."""
    return max((version for version in proof.versions if version < candidate.version), default=0)


def _without_rows(environment: str, proof: Proof, target: Target) -> Iterator[Problem]:
    """What was applied to empty tables is not proven by rows that came later."""
    concerned: dict[str, set[int]] = {table: set() for table in target.filled & proof.empty}
    for candidate in target.candidates:
        for table in target.filled & (proof.empty | proof.empty_before.get(candidate.version, frozenset())):
            concerned.setdefault(table, set()).add(candidate.version)
    if concerned:
        yield Problem(
            f"{environment} had no rows in {_few(sorted(concerned))}, where this database has: what it proved "
            "says nothing about those. Bring this database's data there, at the version from before, and then: "
            f"{_command(environment, 'migrate', start=False)} (docs/promotion.md has the commands). Or list tables "
            "that may stay empty there in migrate_staging_may_lack.",
            frozenset().union(*concerned.values()),
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _command(environment: str, playbook: str, start: bool = True) -> str:
    return f"{'Run: ' if start else ''}ansible-playbook {playbook}.yml -l {environment}"
