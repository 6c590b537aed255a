# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of performance: a query under EXPLAIN, held against budgets on time, buffers and sequential scans."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.check import Check, Finding, listed, shown
from ansible.module_utils.runbook.session import Session

# VERBOSE for the schema of a scanned table. TIMING would measure each node, which makes what is measured slower; the
# total is there without it.
_EXPLAIN = "EXPLAIN (ANALYZE, VERBOSE, BUFFERS, TIMING OFF, SUMMARY ON, FORMAT JSON) "

# Blocks that a plan and all below it have touched; a block is 8 kB unless the server was built otherwise.
_BUFFERS = (
    "Shared Hit Blocks",
    "Shared Read Blocks",
    "Local Hit Blocks",
    "Local Read Blocks",
    "Temp Read Blocks",
    "Temp Written Blocks",
)

_SIZES = """
SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_size(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname || '.' || c.relname = ANY (%s)
"""


@dataclass(frozen=True)
class Measured:
    """What running a query took.

    Parameters:
        milliseconds: time of the execution, planning not included.
        buffers: blocks that were touched, in memory or on the disk.
        scanned: tables that were read from end to end, as schema.table.
    """

    milliseconds: float
    buffers: int
    scanned: tuple[str, ...]


def explain(session: Session, check: Check, rows: int) -> Finding:
    """Carry out a check of this group.

    A query that is over its time is run once more: the first time may have had to read from the disk what is in memory
    afterwards, and the better of both is what the application can count on.

    Parameters:
        session: in a read-only transaction with a time limit, and a savepoint behind which it cannot become another.
        check: of the kind ``explain``; its query was seen to be a single statement when it was read.
        rows: not used; all groups are called alike.
    """
    options = check.options
    measured = _measure(session, options["query"])
    if options["max_ms"] is not None and measured.milliseconds > options["max_ms"]:
        again = _measure(session, options["query"])
        measured = min(measured, again, key=lambda one: one.milliseconds)
    large = _large(session, measured.scanned, options["no_seq_scan_over"])
    problems = list(_problems(measured, large, options))
    took = f"{measured.milliseconds:.1f} ms, {measured.buffers} buffers"
    found = {
        "milliseconds": round(measured.milliseconds, 3),
        "buffers": measured.buffers,
        "sequential_scans": [shown(name) for name in measured.scanned],
    }
    if problems:
        return Finding(False, f"{'; '.join(problems)}. It took {took}.", found)
    return Finding(True, f"{took}.", found)


def _problems(measured: Measured, large: Mapping[str, int], options: Mapping[str, Any]) -> Iterator[str]:
    if options["max_ms"] is not None and measured.milliseconds > options["max_ms"]:
        yield f"It is slower than {options['max_ms']:g} ms"
    if options["max_buffers"] is not None and measured.buffers > options["max_buffers"]:
        yield f"It touches more than {options['max_buffers']} buffers"
    if large:
        yield f"It reads all of {listed(f'{name} ({size // 1024} kB)' for name, size in large.items())}"


def _measure(session: Session, query: str) -> Measured:
    ((plans,),) = session.query(_EXPLAIN + query)
    (explained,) = json.loads(plans) if isinstance(plans, str) else plans
    plan = explained["Plan"]
    return Measured(
        milliseconds=float(explained["Execution Time"]),
        buffers=sum(int(plan.get(name, 0)) for name in _BUFFERS),
        scanned=tuple(sorted(set(_scanned(plan)))),
    )


def _scanned(plan: Mapping[str, Any]) -> Iterator[str]:
    """Tables below a node that were read sequentially; a node that never came to run has read nothing."""
    if plan["Node Type"] == "Seq Scan" and plan.get("Actual Loops"):
        yield f"{plan['Schema']}.{plan['Relation Name']}"
    for below in plan.get("Plans", ()):
        yield from _scanned(below)


def _large(session: Session, scanned: tuple[str, ...], limit: int | None) -> dict[str, int]:
    """Those of the scanned tables that are larger than a check allows, with their sizes in bytes."""
    if limit is None or not scanned:
        return {}
    sizes = session.query(_SIZES, list(scanned))
    return {f"{schema}.{name}": size for schema, name, size in sizes if size > limit}


RUNNERS = {"explain": explain}
"""How each kind of this group is carried out."""
