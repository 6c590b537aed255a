# SPDX-License-Identifier: GPL-3.0-or-later
"""Which databases still have to be validated, as run records know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook.outstanding import outstanding

APPLIED = {"applied": [{"version": 5}]}
ROLLED_BACK = {"rolled_back": [{"version": 5}]}


def validated(outcome: str | None = "green", version: int | None = 5, **more: Any) -> dict[str, Any]:
    """What a run says that has made all checks, or has been ended before."""
    versions = [] if version is None else [{"version": version}]
    return {"validation": {"outcome": outcome, "versions": versions}, **more}


def left(folder: Path, *entries: dict[str, Any], version: int = 5) -> list[str]:
    """What is outstanding after these runs, the oldest first."""
    for number, entry in enumerate(entries):
        record = {"record": 1, "id": str(number), "hosts": {"db": {"database": "cm", **entry}}}
        (folder / f"20261122T10000{number}Z-migrate.json").write_text(json.dumps(record))
    return outstanding(folder, "db", {"cm": version})


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [{}],
        [validated(**APPLIED)],
        [validated(None, None, **APPLIED), validated()],
        [validated("red"), validated()],
        [validated(**APPLIED), {}, {}],
        [validated(), validated("red", None)],
    ],
    ids=["no record", "nothing done", "green", "made up for", "green again", "nothing since", "smoke only"],
)
def test_nothing_is_outstanding(tmp_path: Path, runs: list[dict[str, Any]]) -> None:
    assert left(tmp_path, *runs) == []


@pytest.mark.parametrize(
    "runs",
    [
        [APPLIED],
        [validated(version=4), validated(None, None, **APPLIED)],
        [validated(version=4), validated("red", None, **APPLIED)],
        [validated(version=4)],
        [validated("red")],
        [validated("red"), validated("red", None)],
        [validated(), ROLLED_BACK, validated(None, None, **APPLIED)],
        [validated(version=5), {**ROLLED_BACK, **validated("red")}],
    ],
    ids=[
        "the first run was ended", "ended", "red before, then ended", "killed before the record knew", "red",
        "red, then smoke only", "applied again", "rolled back by itself",
    ],
)  # fmt: skip
def test_something_is_outstanding(tmp_path: Path, runs: list[dict[str, Any]]) -> None:
    assert left(tmp_path, *runs) == ["cm"]


def test_each_database_and_host_has_its_own(tmp_path: Path) -> None:
    hosts = {
        "db": {"database": "cm", **validated(version=3)},
        "db/shop": {"database": "shop", **validated()},
        "other": {"database": "shop", **validated("red")},
    }
    (tmp_path / "20261122T100000Z-migrate.json").write_text(json.dumps({"record": 1, "id": "1", "hosts": hosts}))
    assert outstanding(tmp_path, "db", {"cm": 5, "shop": 5}) == ["cm"]
    assert outstanding(tmp_path, "other", {"cm": 5, "shop": 5}) == ["shop"]
    prediction = {"record": 1, "id": "2", "check": True, "hosts": {"db": {"database": "cm", **validated()}}}
    (tmp_path / "20261122T110000Z-migrate.json").write_text(json.dumps(prediction))
    assert outstanding(tmp_path, "db", {"cm": 5}) == ["cm"]
