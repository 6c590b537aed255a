# SPDX-License-Identifier: GPL-3.0-or-later
"""The promotion gate: production gets what staging has proven, and nothing else.

The proof is in staging's run records on the controller: the newest look at its database after a validation that was
green, with the checks that were made, the checksum of every migration it had then, and with the tables that held rows.
A proof on a database without data says nothing about one with data, so staging has to have rows wherever production
has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import record
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.host_entry import GREEN

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
    """What the environment before has last shown, on all of its hosts that matter.

    Parameters:
        run: id of the newest run record that says so.
        database: its name there.
        red: the checks that failed; none for a green validation.
        checks: names of all that were made, or that were not due at that version.
        versions: name and checksum of each migration in the ledger then, and how it came there.
        tables: the tables there were.
        filled: those that had rows.
        filled_before: those that had rows when a version was applied, as far as a record says.
        rolled_back: what a later run has taken back, with its id.
        applied_since: the versions that a later run has applied.
    """

    run: str
    database: str
    red: tuple[str, ...]
    checks: frozenset[str]
    versions: Mapping[int, tuple[str, str, str]]
    tables: frozenset[str]
    filled: frozenset[str]
    filled_before: Mapping[int, frozenset[str]]
    rolled_back: Mapping[int, str]
    applied_since: frozenset[int]


@dataclass
class _Host:
    """What run records say about the database on one host; they are taken in the newest first.

    Attributes:
        run: id of the run with its newest validation, empty for none.
        validation: what that has said.
        failures: why that run failed although its checks may have been green.
        applied: the tables that had rows when a version was last applied.
        applied_since: the versions applied in newer runs than ``run``.
        rolled_back: what newer runs have taken back, with their ids.
    """

    run: str = ""
    validation: Entry = field(default_factory=dict)
    failures: tuple[str, ...] = ()
    applied: dict[int, frozenset[str]] = field(default_factory=dict)
    applied_since: frozenset[int] = frozenset()
    rolled_back: dict[int, str] = field(default_factory=dict)

    def take(self, run: str, entry: Entry, failures: tuple[str, ...]) -> None:
        """Take in what an older run says."""
        validation = entry.get("validation") or {}
        if not self.run:
            for version in _versions_of(entry, "rolled_back"):
                self.rolled_back.setdefault(version, run)
        if not self.run and validation.get("outcome"):
            self.run, self.validation, self.failures = run, validation, failures
            self.applied_since = frozenset(self.applied)
        for version in _versions_of(entry, "applied"):
            self.applied.setdefault(version, frozenset(validation.get("filled") or ()))


def newest_proof(folder: Path, database: str, candidates: Collection[int]) -> Proof | None:
    """What an environment's run records prove, None when it never made all checks.

    The hosts that matter are those of the newest validation, and those on which a candidate was applied: a red one is
    not hidden by a later run on another one.

    Parameters:
        folder: of the environment's run records.
        database: the one that is to be changed. Its namesake counts; without one, the environment's only database.
        candidates: versions that are to be applied.
    """
    runs = _runs(folder)
    names = _validated(runs)
    meant = database if database in names or len(names) != 1 else names.pop()
    hosts: dict[str, _Host] = {}
    newest: frozenset[str] = frozenset()
    for run in runs:
        entries = {name.partition("/")[0]: entry for name, entry in _entries(run) if entry["database"] == meant}
        for name, entry in entries.items():
            hosts.setdefault(name, _Host()).take(run["id"], entry, _failures(run, name))
        if not newest and any(host.run for host in hosts.values()):
            newest = frozenset(entries)
    concerned = [
        host for name, host in hosts.items() if name in newest or not host.applied.keys().isdisjoint(candidates)
    ]
    return _together(meant, concerned) if newest else None


def databases_validated(folder: Path) -> list[str]:
    """The databases of an environment that its run records know a validation of."""
    return sorted(_validated(_runs(folder)))


def environments_with(records: Path, own: str, identity: str) -> dict[str, tuple[str, bool]]:
    """The other environments whose database is this very one, or a copy with all its files.

    Parameters:
        records: folder with a folder of run records for each environment.
        own: the environment that the database is said to belong to.
        identity: what tells it from every other database, as ``schema_info`` has it.

    Returns:
        by environment the run that says so, and whether the server had been started at the same moment: if not, one
        may be a copy of the other.
    """
    folders = records.iterdir() if records.is_dir() else ()
    found: dict[str, tuple[str, bool]] = {}
    for folder in sorted(one for one in folders if one.is_dir() and one.name != own):
        known = ((run["id"], _identities(run)) for run in record.newest_first(folder, record.ROUTINE))
        for run, identities in islice((one for one in known if one[1]), _REMEMBERED):
            if any(_same_files(identity, other) for other in identities):
                found.setdefault(folder.name, (str(run), identity in identities))
    return found


def twins(others: Mapping[str, tuple[str, bool]], copies: Collection[str], target: Target) -> list[Problem]:
    """What keeps a database from being changed that belongs to another environment, as ``environments_with`` says.

    Parameters:
        copies: environments whose servers are known to be physical copies of this one, or the other way round.
    """
    return [
        _problem(_same(other, run) if started else _same_or_copy(other, run), target.candidates)
        for other, (run, started) in others.items()
        if started or other not in copies
    ]


def _same(other: str, run: str) -> str:
    return (
        f"{other} is this very database (run {run}): look at db_host and db_name in both inventories. If there is no "
        f"{other} any more, move the folder with its run records away."
    )


def _same_or_copy(other: str, run: str) -> str:
    return (
        f"{other} is this very database, or one is a physical copy of the other (run {run}; the server has been "
        "started since): look at db_host and db_name in both inventories. If it is a copy, say so: "
        f"migrate_copies: [{other}]. If there is no {other} any more, move the folder with its run records away."
    )


def _same_files(one: str, other: str) -> bool:
    """Whether two identities differ in nothing but when the server was started; one without a cluster says little."""
    files = one.rpartition("@")[0]
    return one == other or (files == other.rpartition("@")[0] and not files.startswith("/"))


def missing(environment: str, proof: Proof | None, target: Target, validated: Sequence[str] = ()) -> list[Problem]:
    """What keeps migrations from being promoted; empty when nothing does.

    Parameters:
        environment: the one before.
        validated: the databases of that environment that records know a validation of, where none is a proof.
    """
    everything = target.candidates
    if proof is None:
        others = f", only {_few(validated)}: it has to have the same name, or be the only one" if validated else ""
        said = (
            f"No run record says that {environment} has made all checks of {target.database}{others}. "
            f"{_command(environment, 'migrate')}, or, if it has the migrations already: "
            f"{_command(environment, 'validate', start=False)}."
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
            f"{_command(environment, 'validate')}. What it makes is said by validate_directory, validate_health and "
            "validate_health_severity."
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


def _runs(folder: Path) -> list[Entry]:
    return [run for run in record.newest_first(folder, record.ROUTINE) if not run.get("check")]


def _entries(run: Entry) -> list[tuple[str, Entry]]:
    """What a record says about each database, with the name of its entry."""
    return [(name, entry) for name, entry in run["hosts"].items() if entry.get("database")]


def _validated(runs: Iterable[Entry]) -> set[str]:
    entries = [entry for run in runs for _, entry in _entries(run)]
    return {entry["database"] for entry in entries if (entry.get("validation") or {}).get("outcome")}


def _identities(run: Entry) -> set[str]:
    validations = [entry.get("validation") or {} for _, entry in _entries(run)]
    return {str(validation["identity"]) for validation in validations if validation.get("identity")}


def _versions_of(entry: Entry, kind: str) -> list[int]:
    """The migrations that something has happened to; not all are known to the last detail."""
    return [migration["version"] for migration in entry.get(kind) or () if "version" in migration]


def _failures(run: Entry, host: str) -> tuple[str, ...]:
    """Why a run failed on a host, whatever its checks said: drift that must not be, for instance."""
    errors = [entry.get("error") for name, entry in run["hosts"].items() if name.partition("/")[0] == host]
    return tuple(str(error.get("message")).rstrip(".") for error in errors if error)


def _together(database: str, hosts: Sequence[_Host]) -> Proof:
    """All hosts have to be green, and to have what is proven; rows on one of them are enough."""
    validations = [host.validation for host in hosts if host.run]
    known = {table for one in validations for table in (*(one.get("filled") or ()), *(one.get("empty") or ()))}
    rolled_back: dict[int, str] = {}
    filled_before: dict[int, frozenset[str]] = {}
    for host in hosts:
        rolled_back = {**host.rolled_back, **rolled_back}
        for version, tables in host.applied.items():
            filled_before[version] = filled_before.get(version, frozenset()) | tables
    return Proof(
        run=max(host.run for host in hosts),
        database=database,
        red=tuple(sorted({reason for host in hosts if host.run for reason in _reds(host)})),
        checks=frozenset.intersection(*(frozenset(_names(one.get("checks"))) for one in validations)),
        versions=_common([_versions(host.validation) for host in hosts]),
        tables=frozenset(known),
        filled=frozenset().union(*(one.get("filled") or () for one in validations)),
        filled_before=filled_before,
        rolled_back=rolled_back,
        applied_since=frozenset().union(*(host.applied_since for host in hosts if host.run)),
    )


def _reds(host: _Host) -> tuple[str, ...]:
    if host.validation.get("outcome") == GREEN:
        return host.failures
    bad = [check for check in host.validation.get("checks") or () if check.get("status") in ("failed", "errored")]
    grave = [check for check in bad if check.get("severity") == "error"]
    return tuple(_names(grave or bad)) or ("it did not come to its end",)


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


def _unproven(environment: str, proof: Proof, candidates: Sequence[Candidate]) -> Iterator[Problem]:
    absent = []
    for candidate in candidates:
        known = proof.versions.get(candidate.version)
        if candidate.version in proof.rolled_back and candidate.version not in proof.applied_since:
            yield _problem(
                f"{candidate.name} was rolled back in {environment} by run {proof.rolled_back[candidate.version]}. "
                f"{_command(environment, 'migrate')}.",
                [candidate],
            )
        elif known is None or candidate.version in proof.rolled_back:
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
    wanted = target.filled & proof.tables
    lacking = {
        candidate.version: wanted - (proof.filled & proof.filled_before.get(candidate.version, wanted))
        for candidate in target.candidates
    }
    empty = sorted(frozenset().union(*lacking.values()))
    if empty:
        yield Problem(
            f"{environment} had no rows in {_few(empty)}, where this database has: what it proved "
            "says nothing about those. Bring this database's data there, at the version from before, and then: "
            f"{_command(environment, 'migrate', start=False)} (docs/promotion.md has the commands). Or list tables "
            "that may stay empty there in migrate_staging_may_lack.",
            frozenset(version for version, tables in lacking.items() if tables),
        )


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"


def _command(environment: str, playbook: str, start: bool = True) -> str:
    return f"{'Run: ' if start else ''}ansible-playbook {playbook}.yml -l {environment}"
