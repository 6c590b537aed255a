# SPDX-License-Identifier: GPL-3.0-or-later
"""The status screen: every environment's version, pending migrations and last run at a glance."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePath
from typing import Any

from ansible.module_utils.runbook import record
from ansible.module_utils.runbook.errors import failure_of
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.schedule import Machine, look
from ansible.module_utils.runbook.space import readable

HEADINGS = ("ENVIRONMENT", "HOST", "DATABASE", "VERSION", "PENDING", "LAST RUN")
BACKUP_HEADINGS = ("BACKUPS OF", "NEWEST SET", "AGE", "SIZE", "LAST PROVEN BY RESTORING")
CHECK_HEADINGS = ("CHECKS OF", "LAST VALIDATION", "RESULT", "DRIFT")
LEDGER_HEADINGS = ("VERSION", "APPLIED AT (UTC)", "DESCRIPTION")
NAMES_SHOWN = 2

# Operations that leave databases alone: starting a server must not hide that the migration before it has failed.
ABOUT_SERVERS = ("up", "down")

# How much later than its schedule allows for a set may be before that is worth a sentence.
LENIENCY_SECONDS = 2 * 60 * 60

VERSIONS_SHOWN = 5
CHECKS_SHOWN = 3

# How far to go back for the last validation of a database.
RECORDS_READ = 100

GAP = "  "

# What a run did to migrations, and how the screen says it.
COUNTED = {
    "applied": "applied",
    "rolled_back": "rolled back",
    "adopted": "adopted",
    "baselined": "baselined",
    "repaired": "repaired",
}


@dataclass
class Row:
    """What the screen says about one database of a host; ``label`` names both where a host has several.

    ``drift`` is what was seen now, empty when nobody looked; what was seen at the last validation is in ``validation``.
    """

    environment: str = ""
    host: str = ""
    database: str = ""
    version: int | str | None = None
    pending: list[str] = field(default_factory=list)
    error: str | None = None
    last_run: dict[str, Any] = field(default_factory=dict)
    applied: list[Sequence[Any]] = field(default_factory=list)
    backups: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    drift: dict[str, Any] = field(default_factory=dict)
    standby: bool = False
    label: str = ""

    @classmethod
    def from_mapping(cls, source: Mapping[str, Any]) -> Row:
        """Build a row from a playbook's data; with an ``error`` it is not known what is pending.

        Without ``version`` that is not known, either; None is an empty ledger.
        """
        return cls(
            environment=str(source.get("environment") or "unknown"),
            host=str(source.get("host") or ""),
            database=str(source.get("database") or ""),
            version=source.get("version", "unknown"),
            pending=[str(name) for name in source.get("pending") or []],
            error=source.get("error") or None,
            last_run=dict(source.get("last_run") or {}),
            applied=list(source.get("applied") or []),
            backups=dict(source.get("backups") or {}),
            validation=dict(source.get("validation") or {}),
            drift=dict(source.get("drift") or {}),
            standby=bool(source.get("standby")),
            label=str(source.get("label") or source.get("host") or ""),
        )

    def cells(self) -> Sequence[str]:
        """Return the row's texts, in the order of the headings."""
        return (
            self.environment,
            f"{self.host} (standby)" if self.standby else self.host,
            self.database or "unknown",
            "none" if self.version is None else str(self.version),
            "unknown" if self.error is not None else pending_text(self.pending),
            last_run_text(self.last_run),
        )

    def ledger(self) -> Sequence[str]:
        """Return the newest versions of the ledger as lines, newest first; the runbook's own query."""
        if not self.applied:
            return []
        newest = self.applied[: -VERSIONS_SHOWN - 1 : -1]
        cells = [(str(version), str(at)[:19], text or "") for version, text, at, *_ in newest]
        lines = _table([LEDGER_HEADINGS, *cells])
        more = len(self.applied) - len(newest)
        return ["", f"{self.label}:", *lines, *([f"… and {more} earlier"] if more else [])]

    def backup_cells(self) -> Sequence[str]:
        """Return the row's texts about backups, in the order of the headings."""
        newest, verified = self.backups.get("newest") or {}, self.backups.get("verified") or {}
        size = readable(newest["bytes"]) if newest else ""
        age = span(newest["age_seconds"]) if newest else ""
        return self.label, newest.get("set", "none"), age, size, proof_text(verified, newest)

    def check_cells(self) -> Sequence[str]:
        """Return the row's texts about its last validation and its drift, in the order of the headings."""
        found = self.validation
        drift = drift_text(self._drift()) + (", now" if self.drift else "")
        if not found:
            return self.label, "never", "", drift
        other = found.get("version") not in (None, self.version)
        result = result_text(found) + (f", at version {found['version']}" if other else "")
        return self.label, f"{span(since(found['at']))} ago", result, drift

    def _drift(self) -> Mapping[str, Any]:
        """What was seen now, else what the last validation has seen."""
        return self.drift or self.validation.get("drift") or {}

    def notes(self, schedules: Sequence[Mapping[str, Any]] = ()) -> Sequence[str]:
        """Return what needs a sentence instead of a cell.

        Parameters:
            schedules: those of the row's environment.
        """
        return [f"{self.label}: {note}" for note in self._notes(schedules)]

    def _notes(self, schedules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        if self.error is not None:
            yield self.error
        elif self.backups.get("problem"):
            yield self.backups["problem"]
        for kept in self.backups.get("kept", ()):
            yield (
                f"{kept['name']} is {self.database} as it was until {_moment(kept['since'])}, kept until "
                f"{_moment(kept['until'])}; restore_action=undo brings it back, drop removes it."
            )
        for name in self.backups.get("unfinished", ()):
            yield f"{name} is being worked on, or was left by a run that died; the next restore or drill removes it."
        for name in self.backups.get("trials", ()):
            yield (
                f"Migrations are being tried out in {name}, or a run that died has left it; the next look for drift or "
                f"proof of rollback scripts removes it, and so does DROP DATABASE {identifier(name)}."
            )
        if not self.standby and "newest" in self.backups:
            yield from self._late(schedules)
        yield from self._unhealthy()
        drift = self._drift()
        if drift.get("problem") and not self.standby:
            yield f"Whether the database has drifted is not known: {drift['problem']}"
        drifted = drift.get("objects") or ()
        if drifted:
            more = len(drifted) - NAMES_SHOWN
            shown = ", ".join(drifted[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
            yield f"The database is not what its files produce: {shown}. validate.yml shows the difference."

    def _unhealthy(self) -> Iterator[str]:
        """The checks that were not passed, those that matter most first."""
        bad = [one for one in self.validation.get("checks", ()) if one["status"] in ("failed", "errored")]
        bad.sort(key=lambda one: ("error", "warning", "info").index(one.get("severity") or "info"))
        for one in bad[:CHECKS_SHOWN]:
            yield f"{one['severity']}: {one['name']}: {one['message']}"
        if len(bad) > CHECKS_SHOWN:
            yield f"… and {len(bad) - CHECKS_SHOWN} more checks that were not passed; validate.yml shows them."

    def _late(self, schedules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
        """What should have been there by now."""
        newest, verified = self.backups["newest"], self.backups["verified"]
        ages = {
            "backup": newest["age_seconds"] if newest else None,
            "drill": since(verified["verified_at"]) if verified else None,
        }
        said = {"backup": "newest set is", "drill": "last proof by restoring is"}
        for one in schedules:
            age = ages.get(one["operation"])
            if age is not None and age > one["pause"] + LENIENCY_SECONDS:
                yield (
                    f"The {said[one['operation']]} {span(age)} old, and there should be one every {span(one['pause'])}:"
                    f" see why {one['operation']}.yml did not succeed, then run it."
                )


def rows(
    host: Mapping[str, Any],
    databases: Sequence[str],
    ledgers: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    backups: Mapping[str, Any],
    error: str = "",
    validations: Mapping[str, Any] | None = None,
    drifts: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """What was seen on one host: a row for each of its databases.

    Parameters:
        host: what all of its rows have in common: ``host``, ``environment`` and ``last_run``.
        ledgers: result of a loop over the module ``schema_info`` for these databases; empty when there was none.
        comparisons: result of a loop over ``schema_migration`` that only looked; empty when there was none.
        backups: result of a loop over ``backup_info`` for these databases; empty when there was none.
        validations: what ``last_validations`` says of the environment.
        drifts: result of a loop over ``schema_drift`` for these databases; None or empty when there was none.
        error: why there was none.
    """
    loops = (ledgers, comparisons, backups, drifts or {})
    seen, compared, backed_up, drifted = (dict(zip(databases, loop.get("results", ()))) for loop in loops)
    return [
        {
            **host,
            "label": f"{host['host']}, {name}" if len(databases) > 1 else host["host"],
            **_row(name, seen.get(name, {}), compared.get(name, {}), error),
            "backups": _backups(backed_up.get(name, {})),
            "validation": (validations or {}).get(name, {}),
            "drift": _seen_drift(drifted.get(name, {})),
        }
        for name in databases
    ]


def _row(database: str, ledger: Mapping[str, Any], comparison: Mapping[str, Any], error: str) -> dict[str, Any]:
    read, fits = "version" in ledger, "pending" in comparison and not comparison.get("failed")
    problem = None if fits else (not read and failure_of(ledger)) or comparison.get("msg") or error
    return {
        "database": database,
        **({"version": ledger["version"]} if read else {}),
        "standby": ledger.get("in_recovery", False),
        "pending": comparison.get("pending", []),
        "applied": ledger.get("ledger", {}).get("rows", []),
        "error": problem,
    }


def _backups(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the screen needs of a result of ``backup_info``, or why there is none."""
    if "newest" in found:
        return {key: found[key] for key in ("newest", "verified", "kept", "unfinished", "trials", "problem")}
    reason = failure_of(found)
    return {"problem": f"Its backups could not be looked at: {reason}"} if reason else {}


def _seen_drift(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the screen needs of a result of ``schema_drift``; empty when there is none."""
    if not found:
        return {}
    if "drifted" not in found:
        return {"drifted": None, "objects": [], "problem": failure_of(found)}
    objects = [one["object"] for one in found["differences"] if not one["note"]]
    problem = "" if found["known"] else " ".join(found["notes"])
    return {"drifted": found["drifted"], "objects": objects, "problem": problem}


def screen(rows: Sequence[Mapping[str, Any]], schedules: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the whole screen as text.

    A table of all hosts, one of their backups, their newest versions, what runs by itself, and what went wrong.

    Parameters:
        schedules: for each environment, what ``schedules`` says.
    """
    parsed = [Row.from_mapping(row) for row in rows]
    if not parsed:
        return "No host matches."
    notes = [note for row in parsed for note in row.notes(schedules.get(row.environment, ()))]
    lines = _table([HEADINGS, *(row.cells() for row in parsed)])
    backed_up = [row.backup_cells() for row in parsed if "newest" in row.backups and not row.standby]
    backups = ["", *_table([BACKUP_HEADINGS, *backed_up])] if backed_up else []
    checked = [row.check_cells() for row in parsed if (row.validation or row.drift) and not row.standby]
    checks = ["", *_table([CHECK_HEADINGS, *checked])] if checked else []
    ledgers = [line for row in parsed for line in row.ledger()]
    planned = [schedule_text(environment, schedule) for environment, schedule in schedules.items() if schedule]
    notes += [note for environment, schedule in schedules.items() for note in _failures(environment, schedule)]
    return "\n".join(
        [*lines, *backups, *checks, *ledgers, *(["", *planned] if planned else []), *(["", *notes] if notes else [])]
    )


def proof_text(verified: Mapping[str, Any], newest: Mapping[str, Any]) -> str:
    """Return when a restore has last proven a set, how long it took, and which one that was if it is not the newest."""
    if not verified:
        return "never"
    facts = [f"{span(since(verified['verified_at']))} ago" if verified.get("verified_at") else "at an unknown time"]
    if verified.get("recovery_seconds") is not None:
        facts.append(f"in {verified['recovery_seconds']:.1f} s")
    if verified["set"] != newest.get("set"):
        facts.append(f"set {verified['set']}")
    return ", ".join(facts)


def result_text(validation: Mapping[str, Any]) -> str:
    """Return the outcome of a validation and how many checks ended how."""
    statuses = [one["status"] for one in validation["checks"]]
    counts = [f"{statuses.count(status)} {status}" for status in ("failed", "errored", "passed", "skipped")]
    return (
        f"{validation['outcome']}: {', '.join(count for count in counts if not count.startswith('0 ')) or 'no checks'}"
    )


def drift_text(drift: Mapping[str, Any] | None) -> str:
    """Return what is known about the difference between a database and its files."""
    if not drift or drift.get("drifted") is None:
        return "not known"
    number = len(drift.get("objects") or ())
    return f"{number} object{'s' if number != 1 else ''}" if drift["drifted"] else "none"


def schedule_text(environment: str, schedule: Sequence[Mapping[str, Any]]) -> str:
    """Return one line about what runs by itself in an environment."""
    return f"{environment} runs by itself: {'; '.join(map(_planned, schedule))}."


def _planned(one: Mapping[str, Any]) -> str:
    if one["result"] == "running":
        return f"{one['operation']} running since {_moment(one['last'])}"
    last = f"{one['result']} {_moment(one['last'])}".rstrip() if one["result"] else "not seen yet"
    return f"{one['operation']} next {_moment(one['next']) or 'never'}, last {last}"


def _failures(environment: str, schedule: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in schedule:
        name = f"{environment}: The scheduled {one['operation']}"
        if not one["active"]:
            yield f"{name} does not run any more, since its timer {one['unit']}.timer was stopped: run schedule.yml."
        if one["result"] == "failed":
            yield f"{name} failed {_moment(one['last'])}; its run record says why, and so does {one['log']}."


def last_run(folder: Path) -> dict[str, Any]:
    """Return what the newest run of an environment did, check mode and routine that went well aside; empty for none.

    Parameters:
        folder: of the environment's run records.
    """
    newest = record.latest(folder, include_check=False, without=ABOUT_SERVERS)
    if newest and newest["operation"] in record.ROUTINE and newest["outcome"] == "succeeded":
        newest = record.latest(folder, include_check=False, without=(*ABOUT_SERVERS, *record.ROUTINE))
    return summary(newest)


def last_validations(folder: Path, hosts: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the newest validation of each database of these hosts, by host and database.

    Parameters:
        folder: of the environment's run records.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {host: {} for host in hosts}
    for run in itertools.islice(record.newest_first(folder, record.ROUTINE), RECORDS_READ):
        for name, entry in run.get("hosts", {}).items():
            host, database = name.split("/")[0], entry.get("database")
            validation = entry.get("validation") or {}
            if host in found and database and validation.get("outcome") and not run.get("check"):
                known = {key: validation.get(key) for key in ("outcome", "checks", "drift")}
                known["version"] = max((one["version"] for one in validation.get("versions") or ()), default=None)
                moment = run.get("ended_at") or run.get("started_at")
                newest = found[host].setdefault(database, {**known, "at": moment, "run": run["id"]})
                # A migrate makes the checks and does not look for drift.
                newest["drift"] = newest["drift"] or known["drift"]
    return found


def schedules(folders: Mapping[str, Path], machine: Machine) -> dict[str, list[dict[str, Any]]]:
    """Return what runs by itself on a machine, as ``schedule.look`` says, for each environment.

    Parameters:
        folders: of each environment's run records.
    """
    return {
        environment: [_with_record(one, folder) for one in look(environment, machine)]
        for environment, folder in folders.items()
    }


def _with_record(one: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Complete what is known of a scheduled operation by its run record, where the machine knows no result."""
    found = None if one["result"] else record.latest(folder, one["operation"], include_check=False)
    if not found:
        return dict(one)
    result = {"succeeded": "succeeded", "running": "running"}.get(found["outcome"], "failed")
    return {**one, "result": result, "last": found.get("started_at")}


def span(seconds: float) -> str:
    """Return a duration for people: ``41 s``, ``12 min``, ``3 h``, ``2 d``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} s"


def since(timestamp: str) -> float:
    """Return how many seconds ago a time in RFC 3339 was."""
    return (datetime.now(timezone.utc) - datetime.fromisoformat(timestamp.replace("Z", "+00:00"))).total_seconds()


def pending_text(names: Sequence[str]) -> str:
    """Return how many files are pending and the names of the first ones."""
    if not names:
        return "none"
    shown = [PurePath(name).name for name in names[:NAMES_SHOWN]]
    more = len(names) - len(shown)
    return f"{len(names)} ({', '.join(shown)}{f', … and {more} more' if more else ''})"


def last_run_text(run: Mapping[str, Any]) -> str:
    """Return one line about a run as ``summary`` describes it."""
    if not run:
        return "never"
    facts = [f"{run['operation']} {run['outcome']} {_moment(run.get('started_at'))}".rstrip()]
    if run.get("seconds") is not None:
        facts.append(f"{run['seconds']:.1f} s")
    facts += [f"{run[key]} {words}" for key, words in COUNTED.items() if run.get(key)]
    return ", ".join(facts)


def summary(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the screen needs of a run record: its kind, outcome, time and how many files it touched."""
    if not record:
        return {}
    hosts = list(record.get("hosts", {}).values())
    facts = {key: record.get(key) for key in ("id", "operation", "outcome", "started_at", "ended_at", "seconds")}
    counts = {key: sum(len(host.get(key) or []) for host in hosts) for key in COUNTED}
    return {**facts, **counts}


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [GAP.join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]


def _moment(timestamp: str | None) -> str:
    """Turn ``2026-11-22T14:15:30.123Z`` into ``2026-11-22 14:15:30Z``."""
    return f"{timestamp[:10]} {timestamp[11:19]}Z" if timestamp else ""
