# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets on a disk: names, which folders count, checksums, manifests that somebody else may have written."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ansible.module_utils.runbook import backup_set
from ansible.module_utils.runbook.backup_set import BackupSet, SetName
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import (
    DatabaseProperties,
    Extension,
    Grant,
    Manifest,
    SequenceState,
    Server,
    Setting,
    Table,
)

NAME = "20261122T143000Z_v4"


def manifest(**given: object) -> Manifest:
    """A manifest with something in every field."""
    values: dict[str, object] = {
        "name": NAME,
        "taken_at": "2026-11-22T14:30:00.123456Z",
        "database": DatabaseProperties(
            name="cm",
            owner="cm",
            encoding="UTF8",
            locale_provider="i",
            collate="C",
            ctype="C",
            locale="de-x-icu",
            grants=(Grant("", "CONNECT"), Grant("reader", "CREATE", True)),
            settings=(Setting("search_path", 'cm, "$user"'), Setting("work_mem", "8MB", "reader")),
        ),
        "server": Server(180001, "7", ("pg_stat_statements",)),
        "client_version": "18.1",
        "schema_version": 4,
        "ledger_schema": "cm",
        "extensions": (Extension("citext", "1.6", "public"),),
        "roles": ("cm", "reader"),
        "tables": (Table("cm", "a", 3),),
        "sequences": (SequenceState("cm", "a_id_seq", None),),
        "seconds": {"dump": 0.5},
    }
    return Manifest(**{**values, **given})  # type: ignore[arg-type]


def make(folder: Path, name: str = NAME) -> Path:
    """A set with two files in it, as it lies on the disk."""
    made = folder / name
    (made / "dump").mkdir(parents=True)
    (made / "dump" / "toc.dat").write_bytes(b"contents")
    (made / backup_set.MANIFEST).write_text(manifest().to_json())
    backup_set.write_checksums(made)
    return made


# --- names -----------------------------------------------------------------------------------------------------------


def test_a_name_says_when_and_which_version() -> None:
    name = SetName.parse(NAME)
    assert name == SetName(datetime(2026, 11, 22, 14, 30, tzinfo=UTC), 4)
    assert str(name) == NAME


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{NAME}.partial",
        "20260231T000000Z_v1",
        "20261122T143000_v4",
        f"{NAME}\n",
        f"../{NAME}",
        "2026١١22T143000Z_v4",
    ],
)
def test_everything_else_is_no_name(text: str) -> None:
    assert SetName.parse(text) is None


@pytest.mark.parametrize("database", ["cm", "..", ".", "a/b", "we ird", 'q"uo', "ü" * 31, "a\nb", "%41", "-rf"])
def test_any_database_has_a_folder_right_below(database: str, tmp_path: Path) -> None:
    folder = backup_set.database_folder(tmp_path, database)
    folder.mkdir()
    assert folder.parent == tmp_path and [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert folder != backup_set.database_folder(tmp_path, database + "x")


# --- what counts -----------------------------------------------------------------------------------------------------


def test_only_whole_sets_count_in_the_order_of_their_names(tmp_path: Path) -> None:
    newer, older = make(tmp_path, "20261122T143001Z_v2"), make(tmp_path, "20261122T143000Z_v9")
    make(tmp_path, f"20261122T143002Z_v4{backup_set.PARTIAL}")
    (tmp_path / "20261122T143003Z_v4").mkdir()  # a name, and nothing in it
    (tmp_path / "20261122T143004Z_v4").write_text("no folder")
    (tmp_path / "20261122T143005Z_v4").symlink_to(newer)
    os.utime(older, (2**31, 2**31))
    assert [found.path for found in backup_set.sealed_sets(tmp_path)] == [older, newer]


def test_a_folder_that_is_not_there_has_no_sets(tmp_path: Path) -> None:
    assert backup_set.sealed_sets(tmp_path / "none") == []


def test_evidence_makes_a_set_verified(tmp_path: Path) -> None:
    found = BackupSet(make(tmp_path), SetName.parse(NAME))  # type: ignore[arg-type]
    assert (found.state, found.evidence()) == ("sealed", None)
    (found.path / backup_set.EVIDENCE).write_text('{"rto_seconds": 3}')
    assert (found.state, found.evidence()) == ("verified", {"rto_seconds": 3})
    backup_set.check_checksums(found.path)  # which it does not belong to


# --- checksums -------------------------------------------------------------------------------------------------------


def test_sha256sum_agrees(tmp_path: Path) -> None:
    made = make(tmp_path)
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", backup_set.CHECKSUMS], cwd=made, check=True)
    backup_set.check_checksums(made)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda made: (made / "dump/toc.dat").write_bytes(b"content?"), "dump/toc.dat has other content"),
        (lambda made: (made / "dump/toc.dat").write_bytes(b""), "dump/toc.dat has other content"),
        (lambda made: (made / "dump/toc.dat").unlink(), "dump/toc.dat is missing"),
        (lambda made: (made / "dump/more").write_bytes(b""), "dump/more is not part of it"),
        (lambda made: (made / "dump/link").symlink_to("/etc/passwd"), "dump/link is not part of it"),
        (lambda made: (made / backup_set.CHECKSUMS).write_bytes(b""), "is empty or no list of checksums"),
        (lambda made: (made / backup_set.CHECKSUMS).unlink(), "cannot be read"),
    ],
)
def test_damage_is_named(harm: object, said: str, tmp_path: Path) -> None:
    made = make(tmp_path)
    harm(made)  # type: ignore[operator]
    with pytest.raises(RunbookError, match=said) as caught:
        backup_set.check_checksums(made)
    assert caught.value.code == "set-damaged"


# --- manifests -------------------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_as_it_was() -> None:
    for grants in (None, ()):
        database = DatabaseProperties("cm", "cm", "UTF8", "c", "C", "C", grants=grants)
        assert Manifest.from_json(manifest(database=database).to_json()).database == database
    assert Manifest.from_json(manifest().to_json()) == manifest()


def test_fields_of_a_later_version_are_passed_over() -> None:
    data = {**json.loads(manifest().to_json()), "colour": "blue"}
    assert Manifest.from_json(json.dumps(data)) == manifest()


@pytest.mark.parametrize(
    "change",
    [
        {"manifest": 2},
        {"schema_version": "4"},
        {"schema_version": True},
        {"database": None},
        {"tables": {"cm": 3}},
        {"tables": [{"schema": "cm", "name": "a"}]},
        {"roles": [1]},
        {"seconds": []},
    ],
)
def test_what_is_no_manifest_is_refused_with_a_sentence(change: dict[str, object], tmp_path: Path) -> None:
    made = make(tmp_path)
    (made / backup_set.MANIFEST).write_text(json.dumps({**json.loads(manifest().to_json()), **change}))
    with pytest.raises(RunbookError, match="cannot be read as a manifest") as caught:
        BackupSet(made, SetName.parse(NAME)).manifest()  # type: ignore[arg-type]
    assert caught.value.code == "set-damaged"


def test_a_manifest_in_no_encoding_is_refused_with_a_sentence(tmp_path: Path) -> None:
    made = make(tmp_path)
    (made / backup_set.MANIFEST).write_bytes(b"\xff\x00{")
    with pytest.raises(RunbookError, match="cannot be read as a manifest"):
        BackupSet(made, SetName.parse(NAME)).manifest()  # type: ignore[arg-type]
