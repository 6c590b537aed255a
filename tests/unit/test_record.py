# SPDX-License-Identifier: GPL-3.0-or-later
"""The run record: contents, file handling, sweeping and reading."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import host_entry
from ansible.module_utils.runbook import record as run
from ansible.module_utils.runbook.environment import environment_of


def unchanged(text: str) -> str:
    """Clean nothing."""
    return text


def new_record(**values: Any) -> run.Record:
    """Return a record about one host."""
    return run.Record(
        **{
            "operation": "migrate",
            "environment": "staging",
            "controller": run.Controller(user="ops", host="controller", pid=1),
            "ansible": run.Invocation(core="2.19.0", playbook="migrate.yml"),
            "hosts": {"cm-staging": host_entry.HostEntry()},
            **values,
        }
    )


def write_record(folder: Path, name: str, **values: Any) -> None:
    """Write an old record under the given file name."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"record": 1, "id": Path(name).stem, "check": False, "hosts": {}, **values}))


def names(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return [path.name for path in folder.iterdir()]


def dead_pid() -> int:
    """Return the pid of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# --- which environment ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "groups", "expected"),
    [
        ({}, ["all", "staging"], "staging"),
        ({}, ["production"], "production"),
        ({}, ["qa"], None),
        ({}, [], None),
        ({}, ["staging", "production"], None),
        ({"db_environment": "qa"}, ["staging"], "qa"),
        ({"db_environment": ""}, ["staging"], "staging"),
        ({"db_environment": None}, ["staging"], "staging"),
        ({"db_environment": "../qa"}, ["staging"], None),
        ({"db_environment": ".qa"}, ["staging"], None),
        ({"db_environment": 7}, ["staging"], None),
        ({"db_environment": "dr-2_b"}, [], "dr-2_b"),
    ],
)
def test_environment_of(variables: dict[str, Any], groups: list[str], expected: str | None) -> None:
    assert environment_of(variables, groups) == expected


# --- contents -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("password s3cret refused", ["s3cret"], "password *** refused"),
        ("too short: abc", ["abc"], "too short: abc"),
        ("s3cret-long s3cret", ["s3cret", "s3cret-long"], "*** ***"),
        ("encoded p%40ss%2Fword", ["p@ss/word"], "encoded ***"),
        ("postgresql://cm:hunter2@host/cm", [], "postgresql://cm:***@host/cm"),
        ("postgresql://host:5432/cm", [], "postgresql://host:5432/cm"),
        ("nothing", [], "nothing"),
    ],
)
def test_scrub(text: str, secrets: list[str], expected: str) -> None:
    assert run.scrub(text, secrets) == expected


def test_a_result_is_copied_field_by_field() -> None:
    entry = host_entry.HostEntry()
    migration = {"version": 1, "name": "001_a.sql", "sql": "SELECT 'x'", "statements": "many", "retries": True}
    entry.take({"version": 1, "applied": [migration], "invocation": {"login_password": "x"}}, unchanged)
    assert entry.applied == [{"version": 1, "name": "001_a.sql"}]
    assert "invocation" not in json.dumps(new_record(hosts={"h": entry}).as_dict())


def test_pending_may_be_names_or_versions() -> None:
    entry = host_entry.HostEntry()
    entry.take({"pending": ["002_b.sql", 3, {"version": 4}]}, unchanged)
    assert entry.pending == [{"name": "002_b.sql"}, {"version": 3}, {"version": 4}]


def test_results_of_one_host_are_merged() -> None:
    entry = host_entry.HostEntry()
    entry.take({"previous_version": None, "version": 1, "changed": True, "applied": [{"version": 1}]}, unchanged)
    entry.take({"previous_version": 1, "version": 2, "changed": False, "applied": [{"version": 2}]}, unchanged)
    assert (entry.previous_version, entry.version, entry.changed) == (None, 2, True)
    assert entry.applied == [{"version": 1}, {"version": 2}]


def test_further_databases_of_a_host_have_entries_of_their_own() -> None:
    record = new_record(hosts={"cm-staging": host_entry.HostEntry(), "cm-staging-2": host_entry.HostEntry()})
    for database in ("cm", "billing", "cm"):
        entry = record.entry("cm-staging", database)
        entry.take({"database": database, "version": 4, "applied": [4]}, unchanged)
    assert list(record.as_dict()["hosts"]) == ["cm-staging", "cm-staging-2", "cm-staging/billing"]
    assert [len(entry.applied) for entry in record.entries("cm-staging")] == [2, 1]
    assert record.entry("cm-staging", None) is record.hosts["cm-staging"]


def test_a_standby_says_how_it_took_the_change() -> None:
    entry = host_entry.HostEntry()
    entry.take_replay({"seconds": 0.3, "lag_bytes": 0, "paused": False, "receiving": True, "msg": "a b"}, str.upper)
    assert entry.replay == host_entry.Replay(0.3, 0, False, True)
    assert entry.message == "A B"
    silent = host_entry.HostEntry()
    silent.take_replay({"msg": "It is gone.", "failed": True}, unchanged)
    assert silent.replay is None and silent.message == "It is gone."


def test_every_text_of_a_result_is_cleaned() -> None:
    def clean(text: str) -> str:
        return run.scrub(text, ["s3cret"])

    blocker = {"user": "s3cret", "application": "s3cret", "state": "s3cret"}
    texts = dict.fromkeys(("name", "description", "checksum", "transaction", "version"), "s3cret")
    migration = {**texts, "lock_waits": [{"blockers": [blocker]}]}
    entry = host_entry.HostEntry()
    lists = {key: [migration] for key in ("applied", "rolled_back", "adopted", "baselined", "repaired", "pending")}
    entry.take({"database": "s3cret", "schema": "s3cret", "server_version": "s3cret", "msg": "s3cret", **lists}, clean)
    entry.error = host_entry.HostError.from_result(
        "s3cret", {"msg": "s3cret", "code": "s3cret", "file": "s3cret"}, clean
    )
    assert "s3cret" not in json.dumps(new_record(hosts={"h": entry}).as_dict())


def test_an_error_always_has_a_message() -> None:
    assert host_entry.HostError.from_result("Task", {}, unchanged).message == "The task failed without a message."


# --- writing --------------------------------------------------------------------------------------------------


def test_begin_and_finish(tmp_path: Path) -> None:
    folder = tmp_path / ".runs" / "staging"
    file = run.RecordFile.begin(folder, new_record())
    running = json.loads(file.path.read_text())
    assert running["outcome"] == "running" and running["ended_at"] is None
    assert (folder / f".running-{os.getpid()}").exists()

    file.finish(run.SUCCEEDED)
    finished = json.loads(file.path.read_text())
    assert finished["outcome"] == "succeeded" and finished["seconds"] >= 0
    assert finished["id"] == file.path.stem
    assert names(folder) == [file.path.name]


def test_names_never_collide(tmp_path: Path) -> None:
    stems = [run._reserve(tmp_path, "20261122T141530Z-migrate").name for _ in range(3)]
    assert stems == [f"20261122T141530Z-migrate{end}.json" for end in ("", "-2", "-3")]


def test_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run.RecordFile.begin(tmp_path / "staging", new_record())
    assert names(tmp_path / "staging") == []


def test_undecodable_names_are_written_as_valid_json(tmp_path: Path) -> None:
    run._write_json(tmp_path / "x.json", {"file": "caf\udce9", "text": "é"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"file": "caf\udce9", "text": "é"}


# --- sweeping -------------------------------------------------------------------------------------------------

NAME = "20261122T141530Z-migrate.json"


def mark(folder: Path, pid: int, **values: Any) -> None:
    """Write the marker and the running record of a process."""
    write_record(folder, NAME, outcome="running")
    marker = {"record": NAME, "host": socket.gethostname(), "process_start": None, **values}
    (folder / f".running-{pid}").write_text(json.dumps(marker))


def outcome(folder: Path) -> str:
    """Return the outcome of the marked record."""
    return str(json.loads((folder / NAME).read_text())["outcome"])


def test_sweep_of_a_dead_process(tmp_path: Path) -> None:
    pid = dead_pid()
    mark(tmp_path, pid)
    (tmp_path / f".writing-{pid}").write_text("{")
    assert run.sweep(tmp_path) == ["20261122T141530Z-migrate"]
    assert outcome(tmp_path) == "interrupted"
    assert names(tmp_path) == [NAME]
    assert run.sweep(tmp_path) == []


def test_sweep_of_a_zombie(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    mark(tmp_path, process.pid)
    assert run.sweep(tmp_path)
    process.wait()


def test_sweep_leaves_living_and_foreign_processes(tmp_path: Path) -> None:
    mark(tmp_path, os.getpid(), process_start=run._process(os.getpid())[1])
    mark(tmp_path, dead_pid(), host="another-machine")
    assert run.sweep(tmp_path) == []
    assert outcome(tmp_path) == "running"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Only /proc tells when a process started.")
def test_sweep_recognises_a_reused_pid(tmp_path: Path) -> None:
    mark(tmp_path, os.getpid(), process_start=1)
    assert run.sweep(tmp_path)


def test_sweep_never_changes_a_finished_record(tmp_path: Path) -> None:
    mark(tmp_path, dead_pid())
    write_record(tmp_path, NAME, outcome="succeeded")
    assert run.sweep(tmp_path) == []
    assert outcome(tmp_path) == "succeeded"
    assert names(tmp_path) == [NAME]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"record": 7}', '"text"', "\x00"])
def test_sweep_removes_a_torn_marker(tmp_path: Path, content: str) -> None:
    (tmp_path / f".running-{dead_pid()}").write_text(content)
    (tmp_path / ".running-99999999999999999999").write_text(content)
    assert run.sweep(tmp_path) == []
    assert names(tmp_path) == []


def test_sweep_stays_inside_its_folder(tmp_path: Path) -> None:
    write_record(tmp_path, NAME, outcome="running")
    (tmp_path / "staging").mkdir()
    marker = {"record": f"../{NAME}", "host": socket.gethostname(), "process_start": None}
    (tmp_path / "staging" / f".running-{dead_pid()}").write_text(json.dumps(marker))
    assert run.sweep(tmp_path / "staging") == []
    assert outcome(tmp_path) == "running"


def test_sweep_without_a_folder(tmp_path: Path) -> None:
    assert run.sweep(tmp_path / "missing") == []


# --- reading --------------------------------------------------------------------------------------------------


def test_latest(tmp_path: Path) -> None:
    write_record(tmp_path, "20261122T141530Z-migrate.json")
    write_record(tmp_path, "20261122T141531Z-backup.json")
    write_record(tmp_path, "20261122T141531Z-backup-2.json")
    write_record(tmp_path, "20261122T141531Z-backup-10.json")
    write_record(tmp_path, "20261122T141540Z-migrate.json", check=True)
    (tmp_path / "20261122T141550Z-migrate.json").write_text('{"record": 1,')
    (tmp_path / "20261122T141551Z-migrate.json").write_bytes(b"\xff\xfe")
    (tmp_path / "20261122T141552Z-migrate.json").write_text("[]")
    (tmp_path / "20261122T141553Z-migrate.json").write_text('{"record": 2}')
    (tmp_path / "20261122T141554Z-migrate.json").mkdir()
    (tmp_path / "notes.json").write_text("{}")

    def found(*arguments: Any, **options: Any) -> str:
        return str((run.latest(tmp_path, *arguments, **options) or {}).get("id"))

    assert found() == "20261122T141540Z-migrate"
    assert found(include_check=False) == "20261122T141531Z-backup-10"
    assert found("migrate", include_check=False) == "20261122T141530Z-migrate"
    assert found("restore") == "None"
    assert found(include_check=False, without=("backup", "restore")) == "20261122T141530Z-migrate"
    assert run.latest(tmp_path / "missing") is None


def test_latest_opens_only_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for second in range(50):
        write_record(tmp_path, f"20261122T1415{second:02d}Z-migrate.json", outcome="succeeded")
    opened: list[Path] = []
    load = run.load
    monkeypatch.setattr(run, "load", lambda path: opened.append(path) or load(path))
    assert run.latest(tmp_path)
    assert run.sweep(tmp_path) == []
    assert len(opened) == 1


# --- revision -------------------------------------------------------------------------------------------------


def test_revision(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    assert run.revision_of(tmp_path) is None
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert run.revision_of(tmp_path) is None  # No commit yet.
    (git / "packed-refs").write_text("# pack-refs with: peeled\nabc refs/heads/main\n")
    assert run.revision_of(tmp_path) == "abc"
    (git / "refs/heads/main").write_text("def\n")
    assert run.revision_of(tmp_path) == "def"

    worktree = git / "worktrees/other"
    worktree.mkdir(parents=True)
    (worktree / "HEAD").write_text("ref: refs/heads/main\n")
    (worktree / "commondir").write_text("../..\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/.git").write_text(f"gitdir: {worktree}\n")
    assert run.revision_of(tmp_path / "other") == "def"

    (git / "HEAD").write_text("0123abc\n")
    assert run.revision_of(tmp_path) == "0123abc"


# --- documentation --------------------------------------------------------------------------------------------


def test_documentation_shows_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs/run-record.md").read_text(encoding="utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    (entry,) = example["hosts"].values()
    (migration,) = entry["applied"]
    (wait,) = migration["lock_waits"]

    def fields(kind: Any) -> set[str]:
        return {item.name for item in dataclasses.fields(kind)}

    assert list(example) == list(new_record().as_dict())
    assert set(example["controller"]) == fields(run.Controller)
    assert set(example["ansible"]) == fields(run.Invocation)
    assert set(entry) == fields(host_entry.HostEntry)
    assert set(entry["backup"]) == fields(host_entry.Backup)
    assert set(entry["validation"]) == fields(host_entry.Validation)
    assert all(f"`{name}`" in page for name in fields(host_entry.Gate))
    assert set(migration) == fields(host_entry.Migration)
    assert set(wait) == fields(host_entry.LockWait)
    assert all(f"`{name}`" in page for name in fields(host_entry.Replay))
    assert set(wait["blockers"][0]) == fields(host_entry.Blocker)
    assert all(f"`{name}`" in page for name in fields(host_entry.HostError))
