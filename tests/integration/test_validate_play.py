# SPDX-License-Identifier: GPL-3.0-or-later
"""``ansible-playbook validate.yml`` and ``smoke.yml``: what operators type, see and rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import engine
import pytest
from engine import do
from project import ROOT, Project, Run, short_folder

ODD = "INSERT INTO cm.audit_log (action, user_id) VALUES ('{{ 7 * 7 }}', 'postgres://cm:topsecret@db/cm')"


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, with a database at the newest version."""
    engine.migrated(database, ROOT / "db/init")
    with short_folder() as folder, closing(Project(folder, database)) as project:
        # The server is new, and what its start brought with it is not to be counted.
        project.variables |= {"validate_log_source": "auto", "validate_started_at": "2s"}
        project.secrets.append("topsecret")
        yield project


def said(run: Run) -> str:
    """What the role said, as it stands on the screen."""
    return run.output.partition("TASK [validate : Say what was found]")[2].partition("TASK [")[0]


def reports(folder: Path) -> tuple[dict[str, Any], ElementTree.Element]:
    """The only report of each form."""
    (as_json,), (as_junit,) = folder.glob("*.json"), folder.glob("*.xml")
    assert {path.stat().st_mode & 0o777 for path in (as_json, as_junit)} == {0o600}
    suite = ElementTree.fromstring(as_junit.read_text())[0]  # noqa: S314 - it is our own
    return json.loads(as_json.read_text()), suite


def test_all_is_well_and_warnings_fail_nothing(project: Project, database: Any) -> None:
    do(database, ODD)
    project.variables["validate_checks"] = [
        {"name": "Nobody did anything", "no_rows": "SELECT action, user_id FROM cm.audit_log", "severity": "warning"}
    ]
    folder = project.folder / "reports"
    run = project.run("validate.yml", validate_report_directory=str(folder))
    assert run.changed == 0 and run.record["outcome"] == "succeeded" and run.record["operation"] == "validate"
    assert f"{database.database} at version 4: 29 checks, 27 passed, 1 failed, 1 skipped, in " in said(run)
    lines = [line.split() for line in said(run).splitlines()]
    assert ["RESULT", "GROUP", "CHECK", "SEEN"] in lines
    assert ["passed", "schema", "The", "ledger", "is", "there", "1", "table."] in lines
    assert '1 row: {"action":"{{ 7 * 7 }}","user_id":"postgres://cm:***@db/cm"}.' in run.text
    proof = run.host["validation"]
    assert proof["outcome"] == "green" and [one["version"] for one in proof["versions"]] == [1, 2, 3, 4]
    found, suite = reports(folder)
    assert found["host"] == "cm-staging" and not found["red"] and len(found["checks"]) == len(suite) == 29

    as_json = project.folder / "status.json"
    screen = project.run("status.yml", status_json=str(as_json))
    assert "green: 1 failed, 27 passed, 1 skipped none" in screen.text
    (row,) = json.loads(as_json.read_text())
    assert as_json.stat().st_mode & 0o777 == 0o600
    assert row["version"] == 4 and row["validation"]["outcome"] == "green"
    assert row["validation"]["drift"] == {"drifted": False, "objects": []}
    assert suite.get("failures") == "0" and suite.get("name") == f"{database.database} on cm-staging"

    grave = project.run(
        "validate.yml", code=2, validate_fail_on="warning", validate_report_directory=str(folder), validate_rows=0
    )
    assert "Not as it should be: Nobody did anything." in grave.error["message"]
    assert "{{ 7 * 7 }}" not in grave.text and "warning, severity warning: Nobody did anything" in said(grave)
    assert reports(folder)[0]["red"] and reports(folder)[1].get("failures") == "1"


def test_status_looks_for_drift_itself_when_it_is_asked_to(project: Project, database: Any) -> None:
    as_json = project.folder / "status.json"
    do(database, "ALTER TABLE cm.audit_log SET (autovacuum_vacuum_scale_factor = 0.01)")
    screen = project.run("status.yml", status_json=str(as_json))
    assert "CHECKS OF" not in screen.text and json.loads(as_json.read_text())[0]["drift"] == {}
    screen = project.run("status.yml", status_json=str(as_json), status_drift="look")
    assert screen.changed == 0 and screen.record == {} and "cm-staging never 1 object, now" in screen.text
    assert "cm-staging: The database is not what its files produce: table cm.audit_log." in screen.text
    (row,) = json.loads(as_json.read_text())
    assert row["drift"] == {"drifted": True, "objects": ["table cm.audit_log"], "problem": ""}
    late = project.run("status.yml", status_drift="look", validate_drift_timeout="1ms")
    assert "never not known, now" in late.text and "The scratch run was stopped at " in late.text


def test_drift_that_takes_too_long_is_said_and_fails_nothing(project: Project) -> None:
    run = project.run("validate.yml", validate_drift="fail", validate_drift_timeout="1ms")
    assert "whether it has drifted cannot be known. The scratch run was stopped at 001_" in run.text
    assert run.host["validation"]["drift"] == {"drifted": None, "objects": []}


def test_a_grave_check_fails_the_run_and_check_mode_looks_as_well(project: Project, database: Any) -> None:
    do(database, "DROP INDEX cm.idx_audit_log_user")
    touched = project.folder / "touched"
    project.variables["validate_checks"] = [
        {"name": "touches", "command": ["touch", str(touched)]},
        {"name": "asks", "http": "http://127.0.0.1:1/"},
        {"name": "no such table", "no_rows": "SELECT * FROM cm.nowhere"},
    ]
    looked = project.run("validate.yml", "--check", code=2)
    assert "Check mode: touch with 1 argument is not run." in said(looked) and not touched.exists()
    assert "Check mode: http://127.0.0.1:1/ is not asked." in said(looked)
    run = project.run("validate.yml", code=2)
    assert touched.exists() and run.record["outcome"] == "failed"
    names = "The audit log has its indexes, and they are valid; asks; no such table."
    assert run.error["message"].endswith(f"Not as it should be: {names}")
    below = said(run).partition("FAILED, severity error: ")[2]
    assert below.startswith("The audit log has its indexes, and they are valid (db/checks/contramind.yml:")
    assert "Index cm.idx_audit_log_user is missing." in below
    assert 'The server refused it: relation "cm.nowhere" does not exist.' in below


def test_smoke_makes_the_smoke_checks_only(project: Project, database: Any) -> None:
    do(database, "DROP INDEX cm.idx_audit_log_user")
    run = project.run("smoke.yml", validate_checks=[{"name": "the port", "tcp": f"127.0.0.1:{database.port}"}])
    assert run.record["operation"] == "smoke" and "4 checks, 4 passed" in said(run)
    failed = project.run("smoke.yml", code=2, validate_checks=[{"name": "the port", "tcp": "127.0.0.1:1"}])
    assert "127.0.0.1:1 cannot be reached: Connection refused." in failed.text


def test_what_cannot_be_looked_at_is_no_success(project: Project) -> None:
    (project.folder / "checks").mkdir(exist_ok=True)
    (project.folder / "checks/a.yml").write_text("- name: a\n  tabels: cm.t\n")
    wrong = project.run("validate.yml", code=2, validate_directory=str(project.folder / "checks"))
    assert "checks/a.yml:1, check 'a': 'tabels' is no kind and no option of a check; did you mean tables?" in wrong.text
    down = project.run("validate.yml", code=2, db_port=1, validate_fail_on="never")
    assert "Connection refused" in down.error["message"] and "NoneType" not in down.text
