# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: files × ledger → what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import Progress, Row, State
from ansible.module_utils.runbook.migration import Folder, Migration
from ansible.module_utils.runbook.plan import Plan, Wanted, make_plan


def migration(version: int) -> Migration:
    return Migration(version, f"{version:03d}_x.sql", f"sum{version}")


def folder(*versions: int) -> Folder:
    return Folder(Path("db/init"), {version: migration(version) for version in versions})


def row(version: int, checksum: str | None = "", name: str | None = "") -> Row:
    """A row as the runner writes it, or as a file does (``None``)."""
    known = migration(version)
    return Row(
        version, "x", "2026-01-01", known.name if name == "" else name, known.checksum if checksum == "" else checksum
    )


def state(*versions: int, progress: Progress | None = None) -> State:
    return State(tuple(row(version) for version in versions), progress)


def begun(version: int, rollback: bool = False) -> Progress:
    return Progress(version, f"{version:03d}_x.sql", "c", done=2, started=2, before=(), rollback=rollback)


def numbers(plan: Plan) -> dict[str, list[int]]:
    """The parts of a plan that are not empty."""
    parts = ("repair", "adopt", "baseline", "apply", "roll_back")
    return {part: [item.version for item in getattr(plan, part)] for part in parts if getattr(plan, part)}


@pytest.mark.parametrize(
    ("files", "applied", "wanted", "expected", "version"),
    [
        ((), (), Wanted(), {}, None),
        ((1, 2, 3), (), Wanted(), {"apply": [1, 2, 3]}, 3),
        ((3, 1, 2), (1,), Wanted(), {"apply": [2, 3]}, 3),
        ((1, 2, 3), (1,), Wanted(version=2), {"apply": [2]}, 2),
        ((1, 2, 3), (1, 2, 3), Wanted(), {}, 3),
        ((1, 5, 20260101120000), (1,), Wanted(), {"apply": [5, 20260101120000]}, 20260101120000),
        ((0, 1), (), Wanted(version=0), {"apply": [0]}, 0),
        ((1, 2, 3), (1, 2, 3), Wanted(version=1, allow_rollback=True), {"roll_back": [3, 2]}, 1),
        ((1, 2, 3), (1, 2, 3), Wanted(version=0, allow_rollback=True), {"roll_back": [3, 2, 1]}, None),
        ((1, 2, 3), (1, 2, 3), Wanted(version=-1, allow_rollback=True), {"roll_back": [3, 2, 1]}, None),
        ((1, 2, 3), (), Wanted(version=-1, allow_rollback=True), {}, None),
        ((1, 3), (3,), Wanted(allow_out_of_order=True), {"apply": [1]}, 3),
        ((1, 2), (1, 2, 7), Wanted(allow_missing=True), {}, 7),
        ((1, 2), (1, 2, 7), Wanted(version=2, allow_missing=True, allow_rollback=True), {"roll_back": [7]}, 2),
        ((1, 2, 3), (1,), Wanted(version=2, baseline=True), {"baseline": [2]}, 2),
        ((1, 2, 3), (1, 2, 3), Wanted(version=2, baseline=True), {}, 3),
    ],
)
def test_what_is_done(
    files: tuple[int, ...], applied: tuple[int, ...], wanted: Wanted, expected: dict, version: int | None
) -> None:
    plan = make_plan(folder(*files), state(*applied), wanted)
    assert (numbers(plan), plan.version) == (expected, version)
    assert plan.previous_version == max(applied, default=None)
    assert plan.changes == bool(expected)


def test_rows_without_checksum_are_adopted_and_edited_ones_repaired() -> None:
    rows = State((row(1, checksum=None, name=None), row(2, checksum="other"), row(3, name="3_old.sql"), row(4)))
    plan = make_plan(folder(1, 2, 3, 4, 5), rows, Wanted(repair=True))
    assert numbers(plan) == {"adopt": [1], "repair": [2, 3], "apply": [5]}
    assert plan.summary == "2 repaired, 1 adopted, 1 to apply"


def test_an_empty_plan_says_so() -> None:
    assert make_plan(folder(1), state(1), Wanted()).summary == "nothing to do"


@pytest.mark.parametrize(
    ("files", "ledger", "wanted", "code", "versions"),
    [
        ((1,), state(1, 2, 3), Wanted(), "missing", [2, 3]),
        ((1, 2), State((row(1, checksum="other"), row(2))), Wanted(), "edited", [1]),
        ((1, 2), State((row(1, name="1_old.sql"), row(2))), Wanted(), "renamed", [1]),
        # An edit weighs more than a new name, and neither is overlooked when nothing else is to do.
        ((1, 2), State((row(1, name="1_old.sql"), row(2, checksum="other"))), Wanted(version=1), "edited", [2]),
        ((1, 2, 3), state(2), Wanted(), "out-of-order", [1]),
        ((1, 2, 3), state(1), Wanted(version=9), "unknown-version", None),
        ((), state(), Wanted(version=1), "unknown-version", None),
        ((1, 2, 3), state(1, 2), Wanted(version=0), "rollback-not-allowed", None),
        ((1, 2, 3), state(), Wanted(version=0), "unknown-version", None),
        ((1, 2, 3), state(1, 2, 3), Wanted(version=2), "rollback-not-allowed", None),
        ((1, 2), state(1), Wanted(version=2, allow_apply=False), "apply-not-allowed", None),
        ((1, 2), state(), Wanted(allow_apply=False), "apply-not-allowed", None),
        ((1, 3), state(1, progress=begun(2)), Wanted(), "interrupted", None),
        ((1, 2, 3), state(1, 2, 3, progress=begun(3, rollback=True)), Wanted(), "interrupted", None),
        ((1, 2, 3), state(1, 2, progress=begun(3, rollback=True)), Wanted(), "interrupted", None),
        ((1, 2, 3), state(1, 2, progress=begun(3)), Wanted(version=1, allow_rollback=True), "interrupted", None),
    ],
)
def test_what_is_refused(
    files: tuple[int, ...], ledger: State, wanted: Wanted, code: str, versions: list[int] | None
) -> None:
    with pytest.raises(RunbookError) as refusal:
        make_plan(folder(*files), ledger, wanted)
    assert refusal.value.code == code
    assert refusal.value.details.get("versions") == versions


def test_ten_names_are_enough_for_a_message() -> None:
    with pytest.raises(RunbookError, match=r"has 25 versions .* 010_x.sql and 15 more\. ") as refusal:
        make_plan(folder(), state(*range(1, 26)), Wanted())
    assert len(refusal.value.details["versions"]) == 25  # type: ignore[arg-type]


def test_an_interrupted_file_comes_first_and_is_neither_applied_nor_out_of_order() -> None:
    recorded_itself = State((row(1), row(2, checksum=None, name=None), row(5)), begun(2))
    plan = make_plan(folder(1, 2, 5, 6), recorded_itself, Wanted())
    assert numbers(plan) == {"apply": [2, 6]}
    plan = make_plan(folder(1, 2, 5, 6), state(1, 5, progress=begun(6)), Wanted(allow_out_of_order=True))
    assert numbers(plan) == {"apply": [6, 2]}


@pytest.mark.parametrize("row_is_gone", [False, True])
def test_an_interrupted_rollback_goes_on(row_is_gone: bool) -> None:
    applied = state(*((1, 2) if row_is_gone else (1, 2, 3)), progress=begun(3, rollback=True))
    plan = make_plan(folder(1, 2, 3), applied, Wanted(version=1, allow_rollback=True))
    assert numbers(plan) == {"roll_back": [3, 2]}
    assert plan.version == 1


def test_a_version_without_a_file_is_rolled_back_under_its_recorded_name() -> None:
    plan = make_plan(folder(1), state(1, 2), Wanted(version=1, allow_missing=True, allow_rollback=True))
    assert plan.roll_back == (migration(2),)


@pytest.mark.parametrize("code", ["edited", "missing"])
def test_a_baseline_does_not_hide_disagreements(code: str) -> None:
    rows = State((row(1, checksum="other"),)) if code == "edited" else state(7)
    with pytest.raises(RunbookError) as refusal:
        make_plan(folder(1, 2), rows, Wanted(version=2, baseline=True))
    assert refusal.value.code == code


def test_10_000_applied_versions_are_planned_quickly() -> None:
    versions = range(1, 10_001)
    plan = make_plan(folder(*versions), state(*versions[:-1]), Wanted())
    assert numbers(plan) == {"apply": [10_000]}
