# SPDX-License-Identifier: GPL-3.0-or-later
"""What the promotion gate lets through, and what it says of everything else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import promotion
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.promotion import Candidate, Target

FIVE = Candidate(5, "005_e.sql", "sum5")
TARGET = Target("cm", "1/2/cm", frozenset({"cm.a", "cm.b"}))


def validation(**changes: Any) -> dict[str, Any]:
    """A green validation of staging that has everything that is asked for."""
    versions = [{"version": 4, "name": "004_d.sql", "checksum": "sum4", "how": "applied"}]
    versions += [{"version": 5, "name": "005_e.sql", "checksum": "sum5", "how": "applied"}]
    green = {"outcome": "green", "checks": [], "identity": "9/9/cm", "versions": versions}
    return {**green, "filled": ["cm.a", "cm.b", "cm.c"], "empty": [], **changes}


def write(folder: Path, name: str, check: bool = False, **entries: Any) -> None:
    """A run record; each entry is one of ``hosts``."""
    folder.mkdir(exist_ok=True)
    record = {"record": 1, "id": name, "check": check, "hosts": entries}
    (folder / f"{name}.json").write_text(json.dumps(record))


def missing(folder: Path, *candidates: Candidate, target: Target = TARGET, may_lack: tuple[str, ...] = ()) -> str:
    """Everything that keeps candidates from being promoted, as one text; empty for nothing."""
    proof = promotion.newest_proof(folder, target.database)
    return " ".join(promotion.missing("staging", proof, candidates or (FIVE,), target, may_lack))


def test_what_staging_has_validated_is_let_through(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    assert missing(tmp_path) == ""
    assert promotion.decide([], "staging", "why") == "passed"


def test_without_any_proof_both_commands_are_named(tmp_path: Path) -> None:
    said = missing(tmp_path)
    assert "ansible-playbook migrate.yml -l staging" in said and "ansible-playbook validate.yml -l staging" in said
    assert missing(tmp_path / "not there") == said


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (Candidate(6, "006_f.sql", "sum6"), "staging has not proven 006_f.sql"),
        (Candidate(5, "005_e.sql", "edited"), "it has been edited since"),
        (Candidate(5, "005_other.sql", "sum5"), "was proven in staging as 005_e.sql: it has been renamed"),
        (Candidate(6, "006_e.sql", "sum5"), "staging has not proven 006_e.sql"),
    ],
)
def test_another_file_is_not_proven(tmp_path: Path, candidate: Candidate, said: str) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    assert said in missing(tmp_path, candidate)


def test_only_the_newest_validation_counts_and_red_is_red(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    checks = [
        {"name": "orphans", "status": "failed", "severity": "error"},
        {"name": "slow", "status": "failed", "severity": "warning"},
        {"name": "fine", "status": "passed", "severity": "error"},
    ]
    red = validation(outcome="red", checks=checks)
    write(tmp_path, "20261122T110000Z-validate", staging={"database": "cm", "validation": red})
    said = missing(tmp_path)
    assert "was red: orphans." in said and "slow" not in said
    write(tmp_path, "20261122T120000Z-validate", staging={"database": "cm", "validation": validation()})
    assert missing(tmp_path) == ""


def test_what_was_rolled_back_since_is_not_proven_any_more(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    write(tmp_path, "20261122T110000Z-rollback", staging={"database": "cm", "rolled_back": [{"version": 5}]})
    assert "005_e.sql was rolled back in staging by run 20261122T110000Z-rollback" in missing(tmp_path)
    assert missing(tmp_path, Candidate(4, "004_d.sql", "sum4")) == ""


def test_a_look_a_prediction_and_a_run_that_did_not_get_so_far_are_no_proof(tmp_path: Path) -> None:
    entry = {"database": "cm", "validation": validation()}
    write(tmp_path, "20261122T100000Z-migrate", check=True, staging=entry)
    write(tmp_path, "20261122T110000Z-migrate", staging={"database": "cm", "validation": validation(outcome=None)})
    write(tmp_path, "20261122T120000Z-backup", staging={"database": "cm"})
    (tmp_path / "20261122T130000Z-migrate.json").write_text("{ rubbish")
    assert "No run record says" in missing(tmp_path)


def test_a_database_without_the_data_proves_nothing_about_one_with_it(tmp_path: Path) -> None:
    empty = validation(filled=["cm.c"], empty=["cm.a", "cm.b"])
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": empty})
    assert "staging had no rows in cm.a, cm.b, where this database has" in missing(tmp_path)
    assert "no rows in cm.b, where" in missing(tmp_path, may_lack=("*.a",))
    assert missing(tmp_path, may_lack=("cm.[ab]",)) == ""
    assert missing(tmp_path, target=Target("cm", "1/2/cm", frozenset())) == "", "an empty one has nothing to lose"
    gone = Target("cm", "1/2/cm", frozenset({"cm.dropped"}))
    assert missing(tmp_path, target=gone) == "", "what is pending may drop it, as it did in staging"


@pytest.mark.parametrize("how", ["adopted", "baselined", "repaired", None])
def test_what_was_taken_over_without_being_run_is_not_proven(tmp_path: Path, how: str | None) -> None:
    versions = [{"version": 5, "name": "005_e.sql", "checksum": "sum5", "how": how}]
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation(versions=versions)})
    assert "005_e.sql has never been run in staging" in missing(tmp_path)


def test_of_several_hosts_with_the_database_all_have_to_be_green(tmp_path: Path) -> None:
    red = validation(outcome="red", checks=[{"name": "orphans", "status": "failed", "severity": "error"}])
    entries = {"a": {"database": "cm", "validation": red}, "b": {"database": "cm", "validation": validation()}}
    write(tmp_path, "20261122T100000Z-migrate", **entries)
    assert "was red: orphans" in missing(tmp_path)


def test_a_database_does_not_prove_anything_to_itself(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation(identity="1/2/cm")})
    assert "staging is this very database" in missing(tmp_path)


def test_the_namesake_counts_or_else_the_only_one(tmp_path: Path) -> None:
    entry = {"database": "cm_staging", "validation": validation()}
    write(tmp_path, "20261122T100000Z-migrate", staging=entry)
    assert missing(tmp_path) == ""
    other = {"database": "shop", "validation": validation(versions=[])}
    write(tmp_path, "20261122T110000Z-migrate", staging={**entry, "database": "cm"}, other=other)
    assert missing(tmp_path) == ""
    write(tmp_path, "20261122T120000Z-migrate", staging=other, another={**other, "database": "third"})
    assert missing(tmp_path) == "", "two strangers say nothing about it"


def test_a_refusal_says_how_to_override_and_an_override_is_one() -> None:
    with pytest.raises(RunbookError) as caught:
        promotion.decide(["This is missing."], "staging", "")
    assert caught.value.code == "promotion" and "migrate_override" in caught.value.message
    assert caught.value.details["problems"] == ["This is missing."]
    assert promotion.decide(["This is missing."], "staging", "the shop is down") == "overridden"


def test_rows_that_came_after_a_file_was_applied_prove_nothing_about_it(tmp_path: Path) -> None:
    bare = validation(filled=["cm.b"], empty=["cm.a"])
    one = {"database": "cm", "applied": [{"version": 5}], "validation": bare}
    write(tmp_path, "20261122T100000Z-migrate", staging=one)
    write(tmp_path, "20261122T110000Z-validate", staging={"database": "cm", "validation": validation()})
    assert "staging had no rows in cm.a, where" in missing(tmp_path)
    write(tmp_path, "20261122T120000Z-migrate", staging={**one, "validation": validation()})
    assert missing(tmp_path) == "", "it was applied once more, to rows"


def test_another_database_stands_in_only_where_the_name_was_never_seen(tmp_path: Path) -> None:
    write(tmp_path, "20261122T110000Z-validate", staging={"database": "scratch", "validation": validation()})
    assert missing(tmp_path) == ""
    red = validation(outcome="red", checks=[{"name": "orphans", "status": "failed", "severity": "error"}])
    write(tmp_path, "20261122T100000Z-validate", staging={"database": "cm", "validation": red})
    assert "was red: orphans" in missing(tmp_path)


def test_what_a_killed_run_has_applied_only_needs_the_checks(tmp_path: Path) -> None:
    before = validation(versions=validation()["versions"][:1])
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": before})
    killed = {"database": "cm", "applied": [{"version": 5}], "validation": validation(outcome=None)}
    write(tmp_path, "20261122T110000Z-migrate", staging=killed)
    assert "staging has not proven 005_e.sql" in missing(tmp_path)
    assert "Run: ansible-playbook validate.yml -l staging" in missing(tmp_path)


@pytest.mark.parametrize("override", ["False", "yes", "true "])
def test_an_override_has_to_be_a_reason(override: str) -> None:
    with pytest.raises(RunbookError, match="has to be the reason, in words"):
        promotion.decide(["Something is missing."], "staging", override)
