# SPDX-License-Identifier: GPL-3.0-or-later
"""The status screen: every environment's version, pending migrations and last run at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ansible.module_utils.runbook.errors import failure_of

HEADINGS = ("ENVIRONMENT", "HOST", "DATABASE", "VERSION", "PENDING", "LAST RUN")
LEDGER_HEADINGS = ("VERSION", "APPLIED AT (UTC)", "DESCRIPTION")
NAMES_SHOWN = 2

# Operations that leave databases alone: starting a server must not hide that the migration before it has failed.
ABOUT_SERVERS = ("up", "down")

VERSIONS_SHOWN = 5
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
    """What the screen says about one database of a host; ``label`` names both where a host has several."""

    environment: str = ""
    host: str = ""
    database: str = ""
    version: int | str | None = None
    pending: list[str] = field(default_factory=list)
    error: str | None = None
    last_run: dict[str, Any] = field(default_factory=dict)
    applied: list[Sequence[Any]] = field(default_factory=list)
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

    def notes(self) -> Sequence[str]:
        """Return what needs a sentence instead of a cell."""
        return [] if self.error is None else [f"{self.label}: {self.error}"]


def rows(
    host: Mapping[str, Any],
    databases: Sequence[str],
    ledgers: Mapping[str, Any],
    comparisons: Mapping[str, Any],
    error: str = "",
) -> list[dict[str, Any]]:
    """What was seen on one host: a row for each of its databases.

    Parameters:
        host: what all of its rows have in common: ``host``, ``environment`` and ``last_run``.
        ledgers: result of a loop over the module ``schema_info`` for these databases; empty when there was none.
        comparisons: result of a loop over ``schema_migration`` that only looked; empty when there was none.
        error: why there was none.
    """
    seen, compared = (dict(zip(databases, loop.get("results", ()))) for loop in (ledgers, comparisons))
    return [
        {
            **host,
            "label": f"{host['host']}, {name}" if len(databases) > 1 else host["host"],
            **_row(name, seen.get(name, {}), compared.get(name, {}), error),
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


def screen(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the whole screen as text: a table of all hosts, their newest versions, and what went wrong."""
    parsed = [Row.from_mapping(row) for row in rows]
    if not parsed:
        return "No host matches."
    notes = [note for row in parsed for note in row.notes()]
    lines = _table([HEADINGS, *(row.cells() for row in parsed)])
    ledgers = [line for row in parsed for line in row.ledger()]
    return "\n".join([*lines, *ledgers, *(["", *notes] if notes else [])])


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
