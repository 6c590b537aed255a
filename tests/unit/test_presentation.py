# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators see of a plan."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import engine
import pytest
from ansible.module_utils.runbook import presentation
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import Row, State
from ansible.module_utils.runbook.migration import Migration, Prepared, prepare, read_folder
from ansible.module_utils.runbook.plan import Plan, Wanted
from ansible.parsing.splitter import parse_kv

ONE, TWO, THREE = (Migration(number, f"00{number}_x_y.sql", f"sum{number}") for number in (1, 2, 3))


def options(**given: Any) -> dict[str, Any]:
    return engine.options(directory="db/init", **given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Wanted()),
        ({"version": "latest"}, Wanted()),
        ({"version": "4"}, Wanted(version=4)),
        ({"version": " 004 "}, Wanted(version=4)),
        ({"version": "0"}, Wanted(version=0)),
        ({"version": "-1", "allow_rollback": True}, Wanted(version=-1, allow_rollback=True)),
        ({"version": "3", "state": "baseline"}, Wanted(version=3, baseline=True)),
        ({"repair": True, "allow_missing": True}, Wanted(repair=True, allow_missing=True)),
        ({"allow_apply": False, "allow_out_of_order": True}, Wanted(allow_apply=False, allow_out_of_order=True)),
    ],
)
def test_what_the_options_ask_for(given: dict[str, Any], expected: Wanted) -> None:
    assert presentation.wanted(options(**given)) == expected


@pytest.mark.parametrize("version", ["newest", "", "4.5", "--3", "-", "4a", "+4", "None", "1e3", "²"])
def test_a_version_that_is_no_number(version: str) -> None:
    with pytest.raises(RunbookError) as refusal:
        presentation.wanted(options(version=version))
    assert refusal.value.code == "option"
    assert refusal.value.message == (f'The version to go to is "{version}". Write a number such as 4, or latest.')


def test_a_baseline_needs_a_number() -> None:
    with pytest.raises(RunbookError, match="A baseline needs the version the database really is at") as refusal:
        presentation.wanted(options(state="baseline"))
    assert refusal.value.code == "option"


def test_a_confirmation_has_to_name_the_database() -> None:
    for confirmation in (None, "billing"):
        presentation.refuse_unconfirmed(options(login_db="billing", confirmation=confirmation))
    for confirmation in ("cm", "", "Billing"):
        with pytest.raises(RunbookError, match="Nothing was done.*add -e rollback_confirm=billing") as refusal:
            presentation.refuse_unconfirmed(options(login_db="billing", confirmation=confirmation))
        assert refusal.value.code == "confirmation"


def test_a_prediction_says_everything_a_run_would_do() -> None:
    result = presentation.predicted(Plan(1, 3, repair=(ONE,), apply=(TWO, THREE)))
    assert result == {
        "previous_version": 1,
        "version": 3,
        "pending": ["002_x_y.sql", "003_x_y.sql"],
        "pending_versions": [2, 3],
        "checksums": {"2": "sum2", "3": "sum3"},
        "applied": [],
        "rolled_back": [],
        "adopted": [],
        "baselined": [],
        "repaired": [{"version": 1, "name": "001_x_y.sql", "checksum": "sum1", "description": "x y"}],
        "to_roll_back": [],
        "has_changes": True,
        "msg": "Version 1: 1 repaired, 2 to apply.",
    }
    assert json.loads(json.dumps(result)) == result
    assert presentation.predicted(Plan(None, None))["msg"] == "Version none: nothing to do."
    assert presentation.predicted(Plan(3, 1, roll_back=(THREE, TWO)))["to_roll_back"] == ["003_x_y.sql", "002_x_y.sql"]


def test_what_has_only_to_be_noted_is_a_change_too() -> None:
    assert presentation.predicted(Plan(1, 1, adopt=(ONE,)))["has_changes"] is True
    assert presentation.predicted(Plan(1, 1))["has_changes"] is False


def way_back(database: str = "cm", **given: Any) -> list[str]:
    """The last line of what a failure says about its backup set, as a shell takes it apart."""
    text = presentation.way_back("20261122T143000Z_v3", database, host="cm-production", **given)
    return shlex.split(text.splitlines()[-1])


def test_a_failure_names_the_command_that_restores() -> None:
    command = ["ansible-playbook", "restore.yml", "-l", "cm-production", "-e", "restore_backup=20261122T143000Z_v3"]
    assert way_back() == [*command, "-e", "restore_confirm=cm"]
    assert way_back(one_of_several=True) == [*command, "-e", "restore_confirm=cm", "-e", "db_name=cm"]
    assert way_back(inventories=["/srv/my own"])[2:4] == ["-i", "/srv/my own"]


@pytest.mark.parametrize("name", ["odd name", "a'b", 'say "x"', "$(reboot)", "x=y", "Größe", "a\\b", "-x", "{{ y }}"])
def test_odd_names_survive_the_shell_and_ansible(name: str) -> None:
    (extra,) = [word for word in way_back(name) if "restore_confirm" in word]
    assert (json.loads(extra) if extra.startswith("{") else parse_kv(extra)) == {"restore_confirm": name}


def test_what_is_left_of_a_plan() -> None:
    plan = Plan(None, 3, apply=(ONE, TWO, THREE))
    assert presentation.left(plan, {"applied": [{"version": 1}]})["pending"] == ["002_x_y.sql", "003_x_y.sql"]
    assert presentation.left(plan, {})["pending"] == [item.name for item in plan.apply]
    plan = Plan(3, 1, roll_back=(THREE, TWO))
    assert presentation.left(plan, {"rolled_back": [{"version": 3}]})["to_roll_back"] == ["002_x_y.sql"]


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"applied": [1, 2]}, "Version 4: 2 applied."),
        ({"rolled_back": [1]}, "Version 4: 1 rolled back."),
        ({"adopted": [1, 2, 3]}, "Version 4: 3 adopted, 0 versions changed."),
        ({"repaired": [1], "applied": [2]}, "Version 4: 1 repaired, 1 applied."),
        ({"baselined": [1]}, "Version 4: 1 baselined, 0 versions changed."),
    ],
)
def test_one_sentence_about_a_run(parts: dict[str, list[int]], sentence: str) -> None:
    names = ("repaired", "adopted", "baselined", "applied", "rolled_back")
    assert presentation.done({"version": 4, **{name: parts.get(name, []) for name in names}}) == sentence


def test_a_diff_shows_the_ledger_and_the_sql_without_passwords(tmp_path: Path) -> None:
    (tmp_path / TWO.name).write_bytes(b"\xef\xbb\xbfCREATE ROLE a PASSWORD 'secret';\nVACUUM;\n")
    state = State((Row(1, "first", None, None, None), Row(3, None, None, THREE.name, "sum3")))
    plan = Plan(3, 2, adopt=(ONE,), apply=(TWO,), roll_back=(THREE,))
    ledger, sql = presentation.diff("cm", state, plan, [_prepared(tmp_path)])
    assert (ledger["before_header"], ledger["after_header"]) == ("ledger of cm now", "ledger of cm after the run")
    assert ledger["before"] == "1 first\n3 003_x_y.sql\n"
    assert ledger["after"] == "1 001_x_y.sql\n2 002_x_y.sql\n"
    assert sql["prepared"] == (
        "-- 002_x_y.sql, statement by statement, because of VACUUM\nCREATE ROLE a PASSWORD '***';\nVACUUM;\n"
    )


def _prepared(folder: Path) -> Prepared:
    return prepare(read_folder(folder).migrations[2], folder, 180000)


def test_a_diff_of_much_sql_shows_its_beginning(tmp_path: Path) -> None:
    (tmp_path / TWO.name).write_text("SELECT 1;\n" * 10_000)
    _, sql = presentation.diff("cm", State(()), Plan(None, 2, apply=(TWO,)), [_prepared(tmp_path)])
    assert sql["prepared"].startswith("-- 002_x_y.sql, in one transaction\nSELECT 1;\n")
    assert sql["prepared"].endswith("\n-- … and 80000 more characters\n")
    assert len(sql["prepared"]) < 20_200


def checked(**statuses: str) -> dict[str, Any]:
    """A result of ``database_check``; each check is red unless it is passed."""
    checks = [
        {"name": name, "status": status, "red": status != "passed", "group": "logs" if name == "log" else "data"}
        for name, status in statuses.items()
    ]
    return {"checks": checks, "red": any(check["red"] for check in checks), "summary": "cm: red."}


def test_a_migration_has_broken_what_fails_now_and_did_not_before() -> None:
    before = checked(orphans="failed", fine="passed", strange="errored")
    assert presentation.broken(before, before) == []
    assert presentation.broken(checked(orphans="failed", fine="failed"), before) == ["fine"]
    assert presentation.broken(checked(strange="failed"), before) == ["strange"], "it could not even be carried out"
    assert presentation.broken(checked(fine="errored"), before) == [], "that says nothing about the database"
    gone = checked(fine="errored", strange="errored", orphans="errored")
    for check in gone["checks"]:
        check["found"] = {"sqlstate": "42703"}
    assert presentation.broken(gone, before) == ["fine"], "the column that it asked for is gone"
    assert presentation.broken(checked(log="failed"), before) == [], "an error in the log may be anybody's"
    assert presentation.broken({"red": True, "summary": "gone"}, before) == []


def test_the_story_of_a_red_validation() -> None:
    red, back = {"cm": checked(orphans="failed")}, {"cm": "\nansible-playbook restore.yml"}
    undone = {"cm": {"rolled_back": [{"name": "005_e.sql"}], "version": 4}}
    said = presentation.red(red, red, {}, {}, back)
    assert "Red before the run already: orphans. No check shows that the migration is to blame" in said
    assert "restore" not in said, "what was red before, no restore mends"
    late = {"cm": checked(orphans="failed", log="failed")}
    said = presentation.red(late, red, {}, {}, back)
    assert "Red before the run already: orphans. No check" in said and said.endswith("restore.yml")
    said = presentation.red(red, {}, {"cm": {"irreversible": [{}], "msg": "no way back"}}, {}, back)
    assert "not every file has a way back. no way back" in said and said.endswith("restore.yml")
    said = presentation.red(red, {}, {"cm": {}}, undone, back)
    assert "Rolled back: 005_e.sql." in said and "the version is 4 again" in said and "restore" not in said
    said = presentation.red(red, {}, {"cm": {"msg": "index i is forgotten"}}, {}, back)
    assert "was not rolled back" in said and "index i is forgotten" in said and said.endswith("restore.yml")
    for failure in ({"code": "sql", "msg": "no lock", "rolled_back": []}, {"msg": "no lock"}):
        said = presentation.red(red, {}, {"cm": {}}, {"cm": failure}, back)
        assert "Rolling it back failed: no lock" in said and said.endswith("restore.yml")
    assert "for somebody to look at" in presentation.red(red, {}, {}, {}, {})


def test_nothing_to_do_says_what_an_ended_run_has_not_validated() -> None:
    nothing = {"database": "cm", "msg": "Version 5: nothing to do.", "changed": False}
    assert presentation.migrated(nothing, False, "cm-staging") == "cm: Version 5: nothing to do."
    said = presentation.migrated(nothing, True, "cm-staging")
    assert "not been green at this version. Run: ansible-playbook validate.yml -l cm-staging" in said
    assert "validate" not in presentation.migrated({**nothing, "changed": True}, True, "cm-staging")


def test_only_what_was_planned_is_run() -> None:
    plan = Plan(1, 3, apply=(TWO, THREE))
    presentation.refuse_unplanned(plan, None)
    presentation.refuse_unplanned(plan, {"2": "sum2", "3": "sum3", "4": "sum4"})
    for expected in ({"2": "sum2"}, {"2": "sum2", "3": "edited"}, {}):
        with pytest.raises(RunbookError) as caught:
            presentation.refuse_unplanned(plan, expected)
        assert caught.value.code == "changed-since-plan" and THREE.name in caught.value.message
