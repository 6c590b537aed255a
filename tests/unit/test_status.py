# SPDX-License-Identifier: GPL-3.0-or-later
"""The status screen."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import status
from ansible.module_utils.runbook.schedule import Machine

FILES = ["001_a.sql", "002_b.sql", "003_c.sql", "004_d.sql"]
RUN = {
    "operation": "migrate",
    "outcome": "succeeded",
    "started_at": "2026-11-22T14:15:30.123Z",
    "seconds": 0.412,
    "applied": 4,
}


def screen(rows: list[dict[str, Any]], schedules: dict[str, list[dict[str, Any]]] | None = None) -> str:
    """The screen, of a machine on which nothing is scheduled."""
    return status.screen(rows, schedules or {})


def row(**values: Any) -> dict[str, Any]:
    """Return a row about staging."""
    return {"environment": "staging", "host": "cm-staging", "database": "cm", "pending": [], **values}


def test_screen() -> None:
    rows = [
        row(version=4, last_run=RUN),
        row(environment="production", host="cm-production", version=None, pending=FILES, last_run={}),
    ]
    assert screen(rows).splitlines() == [
        "ENVIRONMENT  HOST           DATABASE  VERSION  PENDING                                 LAST RUN",
        "staging      cm-staging     cm        4        none                                    "
        "migrate succeeded 2026-11-22 14:15:30Z, 0.4 s, 4 applied",
        "production   cm-production  cm        none     4 (001_a.sql, 002_b.sql, … and 2 more)  never",
    ]


def test_long_lists_are_shortened() -> None:
    names = [f"db/init/{number:03d}_x.sql" for number in range(1, 400)]
    assert status.pending_text(names) == "399 (001_x.sql, 002_x.sql, … and 397 more)"


def test_a_database_that_cannot_be_read() -> None:
    lines = screen([row(error="The server does not answer.", last_run=RUN)]).splitlines()
    assert "unknown  unknown  migrate succeeded" in lines[1]
    assert lines[2:] == ["", "cm-staging: The server does not answer."]


def test_files_that_do_not_go_with_the_ledger_hide_only_what_is_pending() -> None:
    applied = [[7, "step 7", "2026-11-22 14:15:30.1+00", "7_x.sql", "…"]]
    lines = screen([row(version=7, error="7_x.sql was edited.", applied=applied)]).splitlines()
    assert lines[1].split() == ["staging", "cm-staging", "cm", "7", "unknown", "never"]
    assert lines[-3:] == ["7        2026-11-22 14:15:30  step 7", "", "cm-staging: 7_x.sql was edited."]


def test_an_empty_ledger_is_not_an_unknown_one() -> None:
    assert screen([row(version=None, error="No files.")]).splitlines()[1].split()[3:5] == ["none", "unknown"]


def test_nothing_to_show() -> None:
    assert screen([]) == "No host matches."


def test_a_running_or_swept_run_has_no_duration() -> None:
    text = status.last_run_text({**RUN, "outcome": "interrupted", "seconds": None, "applied": 0})
    assert text == "migrate interrupted 2026-11-22 14:15:30Z"


def test_summary_counts_over_all_hosts() -> None:
    hosts = {"a": {"applied": [{}, {}], "rolled_back": []}, "b": {"applied": [{}], "adopted": [{}]}}
    summary = status.summary({**RUN, "hosts": hosts, "controller": {}})
    assert (summary["applied"], summary["adopted"], summary["rolled_back"]) == (3, 1, 0)
    assert "controller" not in summary
    assert status.summary(None) == {}


def test_the_newest_versions_of_the_ledger_are_shown_under_the_table() -> None:
    applied = [[number, f"step {number}", "2026-11-22 14:15:30.1+00", f"{number}_x.sql", "…"] for number in range(1, 8)]
    lines = screen([row(applied=applied)]).splitlines()
    assert lines[3:] == [
        f"{row()['host']}:",
        "VERSION  APPLIED AT (UTC)     DESCRIPTION",
        *(f"{number}        2026-11-22 14:15:30  step {number}" for number in (7, 6, 5, 4, 3)),
        "… and 2 earlier",
    ]


HOST = {"host": "cm-staging", "environment": "staging", "last_run": {}}
LEDGER = {"version": 4, "in_recovery": False, "ledger": {"rows": [[4, "d", "2026-11-22 14:15:30", "4_x.sql", "…"]]}}


def test_a_standby_is_marked() -> None:
    (seen,) = status.rows(
        HOST, ["cm"], {"results": [{**LEDGER, "in_recovery": True}]}, {"results": [{"pending": []}]}, {}
    )
    line = screen([seen]).splitlines()[1]
    assert line == "staging      cm-staging (standby)  cm        4        none     never"


def test_each_database_of_a_host_has_a_row_and_what_went_wrong_is_its_own() -> None:
    ledgers = {"results": [LEDGER, {"msg": "Cannot connect.", "failed": False}, {**LEDGER, "version": None}]}
    comparisons = {
        "results": [
            {"pending": ["5_x.sql"], "msg": "Version 4: 1 to apply."},
            {"failed": True, "msg": "Cannot connect again."},
            {"failed": True, "msg": "4_x.sql was edited.", "pending": []},
        ]
    }
    seen = status.rows(HOST, ["cm", "billing", "audit"], ledgers, comparisons, {}, "One or more items failed")
    assert [(row["database"], row.get("version", "?"), row["pending"], row["error"]) for row in seen] == [
        ("cm", 4, ["5_x.sql"], None),
        ("billing", "?", [], "Cannot connect."),
        ("audit", None, [], "4_x.sql was edited."),
    ]
    lines = screen(seen).splitlines()
    assert "cm-staging, cm:" in lines
    assert lines[-2:] == ["cm-staging, billing: Cannot connect.", "cm-staging, audit: 4_x.sql was edited."]


def test_a_host_that_was_not_looked_at_has_a_row_with_the_reason() -> None:
    (seen,) = status.rows(HOST, ["cm"], {}, {}, {}, "no route to host")
    assert seen["error"] == "no route to host" and "version" not in seen
    (unreachable,) = status.rows(HOST, ["cm"], {"results": [{"unreachable": True, "msg": "gone"}]}, {}, {})
    assert unreachable["error"] == "gone"


# ---- backups and schedules

SET = {"set": "20261122T140000Z_v4", "state": "sealed", "age_seconds": 3 * 3600, "bytes": 12_345_678}
OLDER = {**SET, "set": "20261115T140000Z_v3", "state": "verified", "recovery_seconds": 41.234}
KEPT = {"name": "cm_before_20261122T143000Z", "since": "2026-11-22T14:30:00Z", "until": "2026-11-29T14:30:00Z"}
BACKUPS = {"newest": SET, "verified": None, "kept": [], "unfinished": [], "trials": [], "problem": ""}
BACKUP = {
    "operation": "backup",
    "next": "2026-11-23T02:15:00Z",
    "last": "2026-11-22T02:15:04Z",
    "result": "succeeded",
    "pause": 86400,
    "unit": "schema-runbook-staging-backup",
    "log": "journalctl --unit schema-runbook-staging-backup",
    "active": True,
}


def ago(**span: float) -> str:
    """A time in the past, as RFC 3339."""
    return f"{datetime.now(UTC) - timedelta(**span):%Y-%m-%dT%H:%M:%SZ}"


def seen(**values: Any) -> dict[str, Any]:
    """A row about staging with backups."""
    return row(version=4, label="cm-staging", backups={**BACKUPS, **values})


def test_backups_have_a_table_of_their_own() -> None:
    lines = screen([seen(verified={**OLDER, "verified_at": ago(days=6, hours=1)})]).splitlines()
    assert lines[2:] == [
        "",
        "BACKUPS OF  NEWEST SET           AGE  SIZE     LAST PROVEN BY RESTORING",
        "cm-staging  20261122T140000Z_v4  3 h  12.3 MB  6 d ago, in 41.2 s, set 20261115T140000Z_v3",
    ]
    assert screen([seen(verified={**SET, "verified_at": ago(minutes=5)})]).endswith("12.3 MB  5 min ago")
    assert screen([seen(newest=None)]).splitlines()[4].split() == ["cm-staging", "none", "never"]


def test_a_standby_has_no_backups_of_its_own() -> None:
    assert "BACKUPS OF" not in screen([{**seen(), "standby": True}])


def test_kept_databases_say_what_they_are_and_until_when() -> None:
    notes = screen([seen(kept=[KEPT], unfinished=["cm_restore_20261122T150000Z (restoring)"])]).splitlines()[-2:]
    assert notes == [
        "cm-staging: cm_before_20261122T143000Z is cm as it was until 2026-11-22 14:30:00Z, kept until "
        "2026-11-29 14:30:00Z; restore_action=undo brings it back, drop removes it.",
        "cm-staging: cm_restore_20261122T150000Z (restoring) is being worked on, or was left by a run that died; the "
        "next restore or drill removes it.",
    ]


def test_a_database_that_a_trial_has_left_says_how_it_goes() -> None:
    name = "cm_trial_20261122T150000Z"
    assert screen([seen(trials=[name])]).splitlines()[-1] == (
        f"cm-staging: Migrations are being tried out in {name}, or a run that died has left it; the next look for "
        f'drift or proof of rollback scripts removes it, and so does DROP DATABASE "{name}".'
    )


def test_what_runs_by_itself_has_a_line() -> None:
    drill = {
        **BACKUP,
        "operation": "drill",
        "next": "2026-11-29T04:15:00Z",
        "last": None,
        "result": "",
        "pause": 7 * 86400,
    }
    assert screen([seen()], {"staging": [BACKUP, drill], "production": []}).splitlines()[-1] == (
        "staging runs by itself: backup next 2026-11-23 02:15:00Z, last succeeded 2026-11-22 02:15:04Z; "
        "drill next 2026-11-29 04:15:00Z, last not seen yet."
    )


def test_a_backup_older_than_its_schedule_stands_out_in_words() -> None:
    on_time = screen([seen(newest={**SET, "age_seconds": 25 * 3600})], {"staging": [BACKUP]})
    assert "there should be one" not in on_time
    late = screen([seen(newest={**SET, "age_seconds": 60 * 3600})], {"staging": [BACKUP]})
    assert late.splitlines()[-1] == (
        "cm-staging: The newest set is 2 d old, and there should be one every 24 h: see why backup.yml did not "
        "succeed, then run it."
    )
    elsewhere = screen([seen(newest={**SET, "age_seconds": 60 * 3600})], {"production": [BACKUP]})
    assert "there should be one" not in elsewhere


def test_a_proof_older_than_its_schedule_stands_out_too() -> None:
    drill = {**BACKUP, "operation": "drill", "pause": 7 * 86400}
    verified = {**OLDER, "verified_at": ago(days=9)}
    assert "last proof by restoring is 9 d old" in screen([seen(verified=verified)], {"staging": [drill]})


def test_a_scheduled_run_that_failed_and_a_timer_that_was_stopped_stand_out() -> None:
    lines = screen([seen()], {"staging": [{**BACKUP, "result": "failed", "active": False, "next": None}]}).splitlines()
    assert lines[-4] == "staging runs by itself: backup next never, last failed 2026-11-22 02:15:04Z."
    assert "timer schema-runbook-staging-backup.timer was stopped: run schedule.yml." in lines[-2]
    assert "failed 2026-11-22 02:15:04Z; its run record says why, and so does journalctl --unit" in lines[-1]


def note(folder: Path, number: int, operation: str, outcome: str) -> None:
    """Leave a run record; a higher number is a later run."""
    run = {
        "record": 1,
        "id": str(number),
        "operation": operation,
        "outcome": outcome,
        "started_at": f"2026-11-22T02:15:0{number}.000Z",
    }
    (folder / f"20261122T02150{number}Z-{operation}.json").write_text(json.dumps({**run, "check": False, "hosts": {}}))


def test_routine_that_went_well_hides_nothing_and_one_that_failed_is_news(tmp_path: Path) -> None:
    note(tmp_path, 1, "migrate", "failed")
    note(tmp_path, 2, "backup", "succeeded")
    assert status.last_run(tmp_path)["operation"] == "migrate"
    note(tmp_path, 3, "drill", "failed")
    assert status.last_run(tmp_path)["operation"] == "drill"
    assert status.last_run(tmp_path / "none") == {}


def test_the_run_record_says_how_it_went_where_the_machine_does_not_know(tmp_path: Path) -> None:
    crontabs = tmp_path / "cron.d"
    crontabs.mkdir()
    lines = "# backup at 02:15 (UTC)\n# Longest pause: 86400 s\n# drill at Sun 04:15 (UTC)\n# Longest pause: 604800 s\n"
    (crontabs / "schema-runbook-staging").write_text(lines)
    note(tmp_path, 1, "backup", "interrupted")
    machine = Machine(tmp_path / "none", tmp_path / "units", crontabs, ())
    backup, drill = status.schedules({"staging": tmp_path}, machine)["staging"]
    assert (backup["result"], backup["last"], drill["result"]) == ("failed", "2026-11-22T02:15:01.000Z", "")


def test_backups_that_could_not_be_looked_at_say_why() -> None:
    found = {"results": [{"failed": False, "msg": "/var/backups cannot be read: Permission denied."}]}
    (one,) = status.rows(HOST, ["cm"], {"results": [LEDGER]}, {"results": [{"pending": []}]}, found)
    text = screen([one])
    assert "BACKUPS OF" not in text
    assert text.endswith(
        "cm-staging: Its backups could not be looked at: /var/backups cannot be read: Permission denied."
    )


def test_sets_are_shown_when_the_server_is_down_and_the_reason_is_said_once() -> None:
    found = {"results": [{**BACKUPS, "problem": "Cannot connect."}]}
    (one,) = status.rows(HOST, ["cm"], {}, {}, found, "Cannot connect.")
    text = screen([one])
    assert "20261122T140000Z_v4" in text and text.count("Cannot connect.") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_durations_are_for_people(seconds: int, text: str) -> None:
    assert status.span(seconds) == text


def test_the_last_validation_has_a_table_and_its_failures_a_sentence(tmp_path: Path) -> None:
    checks = [
        {"name": "slow", "severity": "warning", "status": "failed", "message": "It takes 3 s."},
        {"name": "orphans", "severity": "error", "status": "failed", "message": "2 rows have no parent."},
        {"name": "fine", "severity": "error", "status": "passed", "message": ""},
    ]
    validation = {"outcome": "red", "checks": checks, "drift": {"drifted": True, "objects": ["index cm.i"]}}
    entry = {"database": "cm", "validation": validation}
    for name, outcome in (("20261122T100000Z-validate", "green"), ("20261122T110000Z-migrate", "red")):
        hosts = {"cm-staging": {**entry, "validation": {**validation, "outcome": outcome}}}
        record = {"record": 1, "id": name, "hosts": hosts, "ended_at": "2026-11-22T11:00:00Z", "started_at": ""}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    found = status.last_validations(tmp_path, ["cm-staging", "other"])
    assert found["other"] == {} and found["cm-staging"]["cm"]["run"] == "20261122T110000Z-migrate"

    host = {"host": "cm-staging", "environment": "staging", "last_run": {}}
    (row,) = status.rows(
        host, ["cm"], {"results": [{"version": 4}]}, {"results": [{"pending": []}]}, {}, "", found["cm-staging"]
    )
    lines = status.screen([row], {}).splitlines()
    heading = next(number for number, line in enumerate(lines) if line.startswith("CHECKS OF"))
    assert lines[heading + 1].split("  ")[0] == "cm-staging" and lines[heading + 1].endswith("1 object")
    assert "red: 2 failed, 1 passed" in lines[heading + 1]
    said = [line for line in lines if line.startswith("cm-staging: ")]
    assert said == [
        "cm-staging: error: orphans: 2 rows have no parent.",
        "cm-staging: warning: slow: It takes 3 s.",
        "cm-staging: The database is not what its files produce: index cm.i. validate.yml shows the difference.",
    ]


def test_nightly_backups_do_not_hide_the_last_validation(tmp_path: Path) -> None:
    validated = {"record": 1, "id": "v", "ended_at": "2026-11-22T10:00:00Z", "check": False}
    entry = {"database": "cm", "validation": {"outcome": "green", "versions": [{"version": 4}]}}
    (tmp_path / "20261122T100000Z-validate.json").write_text(json.dumps({**validated, "hosts": {"db": entry}}))
    backup = json.dumps({"record": 1, "id": "b", "check": False, "hosts": {"db": {"database": "cm"}}})
    for minute in range(60):
        for second in range(0, 60, 20):
            (tmp_path / f"20261122T11{minute:02}{second:02}Z-backup.json").write_text(backup)
    assert status.last_validations(tmp_path, ["db"])["db"]["cm"]["version"] == 4


def with_drift(result: dict[str, Any], **validation: Any) -> dict[str, Any]:
    """A row about a database of which ``schema_drift`` has said this now."""
    found = (HOST, ["cm"], {"results": [LEDGER]}, {"results": [{"pending": []}]}, {}, "", {"cm": validation})
    (row,) = status.rows(*found, {"results": [result]})
    return row


def test_drift_that_is_seen_now_counts_and_says_so() -> None:
    order = {"object": "table cm.b", "note": True}
    found = {"known": True, "drifted": True, "differences": [{"object": "table cm.a", "note": False}, order]}
    recorded = {"outcome": "green", "checks": [], "drift": {"drifted": False, "objects": []}, "at": ago(hours=3)}
    row = with_drift(found, **recorded)
    assert row["drift"] == {"drifted": True, "objects": ["table cm.a"], "problem": ""}
    shown = screen([row])
    assert "cm-staging  3 h ago          green: no checks  1 object, now" in shown
    assert shown.endswith("The database is not what its files produce: table cm.a. validate.yml shows the difference.")
    assert "never                    none, now" in screen([with_drift({**found, "drifted": False, "differences": []})])


def test_drift_that_cannot_be_seen_is_never_passed_over() -> None:
    out_of_time = {"known": False, "drifted": None, "differences": [], "notes": ["It was stopped."], "msg": "cm: …"}
    for result in (out_of_time, {"failed": False, "msg": "It was stopped.", "code": "scratch"}):
        shown = screen([with_drift(result)])
        assert "not known, now" in shown
        assert shown.endswith("cm-staging: Whether the database has drifted is not known: It was stopped.")
