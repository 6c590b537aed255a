# SPDX-License-Identifier: GPL-3.0-or-later
"""What the promotion gate lets through, and what it says of everything else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import promotion
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.promotion import Candidate, Problem, Target

FIVE = Candidate(5, "005_e.sql", "sum5")
LACK = Problem("This is missing.", frozenset({5}))
TARGET = Target("cm", [FIVE], frozenset({"cm.a", "cm.b"}))


def validation(**changes: Any) -> dict[str, Any]:
    """A green validation of staging that has everything that is asked for."""
    versions = [{"version": 4, "name": "004_d.sql", "checksum": "sum4", "how": "applied"}]
    versions += [{"version": 5, "name": "005_e.sql", "checksum": "sum5", "how": "applied"}]
    green = {"outcome": "green", "checks": [], "identity": "9/9/cm", "versions": versions}
    return {**green, "filled": ["cm.a", "cm.b", "cm.c"], "empty": [], **changes}


def write(folder: Path, name: str, check: bool = False, **entries: Any) -> None:
    """A run record; each entry is one of ``hosts``."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "record": 1,
        "id": name,
        "check": check,
        "hosts": {key.replace("_of_", "/"): one for key, one in entries.items()},
    }
    (folder / f"{name}.json").write_text(json.dumps(record))


def problems(folder: Path, *candidates: Candidate, **changes: Any) -> list[Problem]:
    """Everything that keeps candidates from being promoted to a target."""
    target = replace(TARGET, **({"candidates": candidates} if candidates else {}), **changes)
    proof = promotion.newest_proof(folder, target.database, [one.version for one in target.candidates])
    return promotion.missing("staging", proof, target, promotion.databases_validated(folder))


def missing(folder: Path, *candidates: Candidate, **changes: Any) -> str:
    """The same as one text; empty for nothing."""
    return " ".join(problem.text for problem in problems(folder, *candidates, **changes))


def test_what_staging_has_validated_is_let_through(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    assert missing(tmp_path) == ""
    assert promotion.decide([], "staging", "why") == "passed"
    assert promotion.decide([], "", "") == "off", "nobody was asked"


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
    tables = {"cm.a": {"rows": 3}, "cm.b": {"rows": None}, "cm.d": {"rows": 0}}
    assert promotion.filled(tables, ()) == {"cm.a", "cm.b"}
    assert "no rows in cm.b, where" in missing(tmp_path, filled=promotion.filled(tables, ["*.a"]))
    assert missing(tmp_path, filled=promotion.filled(tables, ["cm.[ab]"])) == ""
    assert missing(tmp_path, filled=frozenset()) == "", "an empty one has nothing to lose"
    gone = frozenset({"cm.dropped"})
    assert missing(tmp_path, filled=gone) == "", "what is pending may drop it, as it did in staging"


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


def test_a_database_belongs_to_one_environment(tmp_path: Path) -> None:
    entry = {"database": "cm", "validation": validation(identity="1/2/cm@100")}
    write(tmp_path / "staging", "20261122T100000Z-migrate", staging=entry)
    write(tmp_path / "staging", "20261122T110000Z-backup", staging={"database": "cm"})
    write(tmp_path / "qa", "20261122T100000Z-migrate", qa={"database": "cm", "validation": validation()})
    others = promotion.environments_with(tmp_path, "production", "1/2/cm@100")
    assert others == {"staging": ("20261122T100000Z-migrate", True)}
    assert promotion.environments_with(tmp_path, "staging", "1/2/cm@100") == {}
    assert promotion.environments_with(tmp_path / "none", "staging", "1/2/cm@100") == {}
    (problem,) = promotion.twins(others, ["staging"], TARGET)
    assert "staging is this very database (run 20261122T100000Z-migrate)" in problem.text and problem.versions == {5}


def test_a_server_that_was_started_again_may_be_a_copy(tmp_path: Path) -> None:
    entry = {"database": "cm", "validation": validation(identity="1/2/cm@100")}
    write(tmp_path / "production", "20261122T100000Z-migrate", production=entry)
    others = promotion.environments_with(tmp_path, "staging", "1/2/cm@200")
    (problem,) = promotion.twins(others, [], TARGET)
    assert "production is this very database, or one is a physical copy of the other" in problem.text
    assert "migrate_copies: [production]" in problem.text
    assert promotion.twins(others, ["production"], TARGET) == []
    hidden = {"database": "cm", "validation": validation(identity="/2/cm@100")}
    write(tmp_path / "qa", "20261122T100000Z-migrate", qa=hidden)
    assert promotion.environments_with(tmp_path, "staging", "/2/cm@200") == {}, "numbers that every cluster begins with"


def test_several_hosts_have_proven_what_all_of_them_have_and_rows_that_one_has(tmp_path: Path) -> None:
    first = validation(filled=["cm.a"], empty=["cm.b"])
    second = validation(filled=["cm.b"], empty=["cm.a"], versions=validation()["versions"][1:])
    assert promotion.newest_proof(tmp_path, "cm", []) is None
    entries = {"a": {"database": "cm", "validation": first}, "b": {"database": "cm", "validation": second}}
    write(tmp_path, "20261122T100000Z-migrate", **entries)
    assert missing(tmp_path) == ""
    assert "has not proven 004_d.sql" in missing(tmp_path, Candidate(4, "004_d.sql", "sum4"))


def test_a_red_host_is_not_hidden_by_another_one(tmp_path: Path) -> None:
    red = validation(outcome="red", checks=[{"name": "orphans", "status": "failed", "severity": "error"}])
    both = {"a": {"database": "cm", "applied": [{"version": 5}], "validation": red}}
    write(tmp_path, "20261122T100000Z-migrate", **both, b={"database": "cm", "validation": validation()})
    write(tmp_path, "20261122T110000Z-validate", b={"database": "cm", "validation": validation()})
    assert "was red: orphans" in missing(tmp_path)
    write(tmp_path, "20261122T120000Z-validate", a={"database": "cm", "validation": validation()})
    assert missing(tmp_path) == ""


def test_a_slip_of_the_pen_does_not_hide_the_only_database(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm_stage", "validation": validation()})
    write(tmp_path, "20261122T110000Z-migrate", staging={"database": "cm_stagin", "error": {"message": "No."}})
    assert missing(tmp_path) == ""
    write(tmp_path, "20261122T120000Z-migrate", staging={"database": "shop", "validation": validation()})
    assert "has made all checks of cm, only cm_stage, shop: it has to have the same name" in missing(tmp_path)


def test_tables_that_were_not_there_yet_had_no_rows(tmp_path: Path) -> None:
    new = {"database": "cm", "applied": [{"version": 5}], "validation": validation(outcome=None, filled=[], empty=[])}
    write(tmp_path, "20261122T100000Z-migrate", staging=new)
    write(tmp_path, "20261122T110000Z-validate", staging={"database": "cm", "validation": validation()})
    assert "staging had no rows in cm.a, cm.b" in missing(tmp_path)


def test_a_file_that_was_applied_again_after_a_rollback_only_needs_the_checks(tmp_path: Path) -> None:
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": validation()})
    write(tmp_path, "20261122T110000Z-rollback", staging={"database": "cm", "rolled_back": [{"version": 5}]})
    killed = {"database": "cm", "applied": [{"version": 5}], "validation": validation(outcome=None)}
    write(tmp_path, "20261122T120000Z-migrate", staging=killed)
    assert "has not proven 005_e.sql" in missing(tmp_path)
    assert "Run: ansible-playbook validate.yml -l staging" in missing(tmp_path)


@pytest.mark.parametrize("hosts", [None, [], {"a": None}, {"a": {"database": "cm", "validation": "green"}}])
def test_a_record_of_another_form_is_none(tmp_path: Path, hosts: Any) -> None:
    (tmp_path / "20261122T100000Z-migrate.json").write_text(json.dumps({"record": 1, "id": "x", "hosts": hosts}))
    (tmp_path / "20261122T110000Z-migrate.json").write_text(json.dumps({"record": 1, "hosts": {}}))
    assert "No run record says" in missing(tmp_path)
    assert promotion.environments_with(tmp_path.parent, "staging", "1/2/cm@100") == {}


def test_a_check_that_was_not_made_proves_nothing(tmp_path: Path) -> None:
    made = validation(checks=[{"name": "orphans", "status": "skipped", "severity": "error"}])
    write(tmp_path, "20261122T100000Z-migrate", staging={"database": "cm", "validation": made})
    assert missing(tmp_path, checks=frozenset({"orphans"})) == ""
    said = missing(tmp_path, checks=frozenset({"orphans", "counts"}))
    assert "has not made the checks counts. Run: ansible-playbook validate.yml -l staging." in said


def test_a_run_that_failed_for_something_else_is_no_proof(tmp_path: Path) -> None:
    drifted = {"database": "cm", "validation": validation(), "error": {"message": "cm: 1 object differs."}}
    other = {"database": "shop", "error": {"message": "Unreachable."}}
    write(tmp_path, "20261122T100000Z-validate", staging=drifted)
    assert "was red: cm: 1 object differs. Mend" in missing(tmp_path)
    write(tmp_path, "20261122T110000Z-validate", staging={**drifted, "error": None}, other=other)
    assert missing(tmp_path) == "", "another host's failure"


def test_only_what_is_not_proven_is_marked(tmp_path: Path) -> None:
    bare = {"database": "cm", "applied": [{"version": 4}], "validation": validation(filled=["cm.b"], empty=["cm.a"])}
    write(tmp_path, "20261122T100000Z-migrate", staging=bare)
    write(tmp_path, "20261122T110000Z-validate", staging={"database": "cm", "validation": validation()})
    six, four = Candidate(6, "006_f.sql", "sum6"), Candidate(4, "004_d.sql", "sum4")
    found = problems(tmp_path, four, FIVE, six)
    assert [problem.versions for problem in found] == [{6}, {4}]


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
        promotion.decide([LACK], "staging", "")
    assert caught.value.code == "promotion" and "migrate_override" in caught.value.message
    assert caught.value.details["problems"] == ["This is missing."]
    assert promotion.decide([LACK], "staging", "the shop is down") == "overridden"
    with pytest.raises(RunbookError) as unasked:
        promotion.decide([LACK], "", "")
    assert "gets only what" not in unasked.value.message and "This is missing." in unasked.value.message


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
        promotion.decide([LACK], "staging", override)
