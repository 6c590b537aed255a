# SPDX-License-Identifier: GPL-3.0-or-later
"""Drills: a set is proven by restoring it, where nobody depends on it, and what is not proven is not marked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import backups
import drills
import engine
import pytest
from ansible.module_utils.runbook import backup_set
from ansible.module_utils.runbook.backup_set import BackupSet
from drills import prove, refused, scratches
from engine import do
from project import INTERRUPTED, Project, poll, short_folder

PARTS = "CREATE TABLE part AS SELECT n, md5(n::text) AS text FROM generate_series(1, 1000) AS n"


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, with the database and a folder for its sets."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        project.variables["backup_directory"] = str(folder / "sets")
        yield project


def newest(database: Any, folder: Path) -> BackupSet:
    """The newest set that counts."""
    return backup_set.sealed_sets(backup_set.database_folder(folder, database.database))[-1]


def rewrite(one: BackupSet, **changes: Any) -> None:
    """Change a set's manifest, checksums and all, as nobody should be able to."""
    path = one.path / backup_set.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    backup_set.write_checksums(one.path)


def test_a_drill_marks_the_newest_set_with_its_evidence_and_leaves_nothing(project: Project, database: Any) -> None:
    project.run("migrate.yml")
    project.run("backup.yml")
    sets = project.folder / "sets"
    predicted = project.run("drill.yml", "--check")
    name = str(newest(database, sets).name)
    assert predicted.changed == 1 and f"set {name} would be restored and verified" in predicted.text
    assert newest(database, sets).state == backup_set.SEALED

    done = project.run("drill.yml")
    assert done.changed == 1 and f"set {name} is verified" in done.text and scratches(database) == []
    one = newest(database, sets)
    backup_set.check_checksums(one.path)
    assert one.state == backup_set.VERIFIED and (one.path / backup_set.EVIDENCE).stat().st_mode & 0o777 == 0o600
    found = one.evidence()
    assert found is not None and found["by"] == "drill" and found["compared"] and found["tables"] >= 4
    assert 0 < found["phases"]["restore"] + found["phases"]["verify"] <= found["recovery_seconds"]
    assert 0 <= found["loss_seconds"] < 300 and found["checks"]["schema version"] == "4"
    assert done.host["drill"]["set"] == name
    assert f"{name} " in (screen := project.run("status.yml").text) and " ago, in " in screen


def test_what_a_set_does_not_hold_is_not_proven(database: Any, tmp_path: Path) -> None:
    do(database, PARTS)
    backups.take(database, tmp_path)
    one = newest(database, tmp_path)
    tables = [{"schema": "public", "name": "part", "rows": 1001}]
    rewrite(one, tables=tables)
    error = refused(database, tmp_path)
    assert error.code == "not-verified" and f"The backup set {one.path} is not proven." in error.message
    assert "table public.part has 1000 rows instead of 1001" in error.message
    assert newest(database, tmp_path).state == backup_set.SEALED and scratches(database) == []


def test_a_set_that_was_changed_is_not_proven_and_the_run_fails(project: Project, database: Any) -> None:
    do(database, PARTS)
    project.run("backup.yml")
    one = newest(database, project.folder / "sets")
    damaged = max((one.path / backup_set.DUMP).iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    failed = project.run("drill.yml", code=2)
    assert failed.error["code"] == "preflight" and failed.record["outcome"] == "failed"
    assert f"{damaged.name} has other content" in failed.text and "Take a new set with backup.yml" in failed.text
    assert newest(database, project.folder / "sets").state == backup_set.SEALED and scratches(database) == []


def test_a_question_that_is_not_answered_with_true_is_enough(database: Any, tmp_path: Path) -> None:
    do(database, PARTS)
    backups.take(database, tmp_path)
    error = refused(database, tmp_path, smoke_sql=["SELECT count(*) = 1000 FROM part", "SELECT count(*) < 5 FROM part"])
    assert error.code == "not-verified" and "'SELECT count(*) < 5 FROM part'" in error.message
    assert newest(database, tmp_path).state == backup_set.SEALED
    assert prove(database, tmp_path, smoke_sql=["SELECT count(*) = 1000 FROM part"])["changed"]


def test_an_older_set_can_be_proven_and_a_plain_file_cannot(database: Any, tmp_path: Path) -> None:
    first = backups.take(database, tmp_path)["set"]
    do(database, PARTS)
    poll(lambda: backups.take(database, tmp_path)["set"] != first)
    assert prove(database, tmp_path, backup=first)["set"] == first
    assert newest(database, tmp_path).state == backup_set.SEALED
    plain = tmp_path / "cm.sql"
    plain.write_text("SELECT 1;\n-- PostgreSQL database dump complete\n")
    assert refused(database, tmp_path, backup=str(plain)).code == "option"


def test_publications_are_left_out_and_the_databases_own_properties_are_tried(database: Any, tmp_path: Path) -> None:
    do(database, PARTS, "CREATE PUBLICATION everything FOR TABLE part")
    backups.take(database, tmp_path)
    assert prove(database, tmp_path, smoke_sql=["SELECT count(*) = 0 FROM pg_publication"])["changed"]
    one = newest(database, tmp_path)
    properties = json.loads((one.path / backup_set.MANIFEST).read_text())["database"]
    setting = {"role": "", "name": "gone_since_long", "value": "1"}
    rewrite(one, database={**properties, "settings": [setting]})
    assert '"gone_since_long"' in prove(database, tmp_path)["msg"]
    rewrite(one, database={**properties, "owner": "nobody_here"})
    assert 'role "nobody_here" does not exist' in refused(database, tmp_path).message
    assert scratches(database) == []


def test_while_a_drill_is_at_work_another_is_refused_and_migrations_go_on(database: Any, tmp_path: Path) -> None:
    do(database, drills.SLOW.format(2))
    backups.take(database, tmp_path / "sets")
    with ThreadPoolExecutor(1) as beside:
        going = beside.submit(prove, database, tmp_path / "sets")
        (scratch,) = poll(lambda: scratches(database))
        second = refused(database, tmp_path / "sets")
        assert second.code == "locked" and "schema-runbook lock drill" in second.message
        engine.run(database, tmp_path / "init", {"001_a.sql": "CREATE TABLE public.a (id int);"})
        (open_to_all,) = engine.ask(
            database, f"SELECT has_database_privilege('public', '{scratch}', 'CONNECT') FROM pg_database LIMIT 1"
        )
        assert not going.done() and open_to_all == (False,)
        assert going.result()["changed"]
    assert scratches(database) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_what_a_drill_that_was_ended_leaves_is_removed(project: Project, database: Any, how: signal.Signals) -> None:
    do(database, drills.SLOW.format(3))
    backups.take(database, project.folder / "sets")
    process = project.start("drill.yml")
    (left,) = poll(lambda: scratches(database))
    os.killpg(process.pid, how)
    if how == signal.SIGINT:
        assert project.finish(process, INTERRUPTED).record["outcome"] == "interrupted"
        poll(lambda: scratches(database) == [])
    else:
        process.wait()
    one = newest(database, project.folder / "sets")
    assert one.state == backup_set.SEALED
    assert prove(database, project.folder / "sets", run_lock_wait="10s")["set"] == str(one.name)
    assert scratches(database) == [] and newest(database, project.folder / "sets").state == backup_set.VERIFIED
    assert left.startswith(f"{database.database}_drill_")


def test_a_set_that_is_only_elsewhere_is_fetched_proven_and_marked_there_too(database: Any, tmp_path: Path) -> None:
    do(database, PARTS)
    away = {"offsite": str(tmp_path / "away")}
    name = backups.take(database, tmp_path / "sets", **away)["set"]
    one = newest(database, tmp_path / "sets")
    one.path.rename(tmp_path / "lost")
    assert prove(database, tmp_path / "sets", **away)["set"] == name
    (marked,) = (tmp_path / "away").rglob(backup_set.EVIDENCE)
    assert marked.parent.name == name and json.loads(marked.read_text())["by"] == "drill"
    assert newest(database, tmp_path / "sets").state == backup_set.VERIFIED
