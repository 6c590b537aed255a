# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of sets through rclone: when one counts, and what is said when there is none."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import vault
from ansible.module_utils.runbook.backup_set import EVIDENCE, MANIFEST, SetName, write_checksums
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.offsite import Offsite

NAME = SetName(datetime(2026, 11, 22, 14, 30, tzinfo=UTC), 4)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    """The folder behind the remote."""
    folder = tmp_path / "far"
    folder.mkdir()
    return folder


@pytest.fixture
def offsite(tmp_path: Path, far: Path) -> Offsite:
    """A remote that is another folder of this machine."""
    return Offsite("vault:sets", str(vault.remote(tmp_path, vault={"type": "alias", "remote": far})))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something like a set."""
    folder = tmp_path / "set"
    (folder / "dump").mkdir(parents=True)
    (folder / "dump" / "1.dat").write_bytes(b"x" * 100_000)
    (folder / "README.txt").write_text("how to\n")
    (folder / MANIFEST).write_text("{}")
    write_checksums(folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    """All files with what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy(offsite: Offsite, folder: Path, name: SetName = NAME) -> None:
    """Copy a set, and have nothing fail after that."""
    with offsite.copied(folder, "cm", name):
        pass


def refusal(work: Callable[[], object]) -> RunbookError:
    """The error of something that has to fail."""
    with pytest.raises(RunbookError) as caught:
        work()
    assert caught.value.code == "offsite"
    return caught.value


def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Something in the place of rclone, which notes each call; the real one is ``$REAL``."""
    vault.require("rclone")
    calls = tmp_path / "calls"
    program = tmp_path / "bin" / "rclone"
    program.parent.mkdir()
    lines = ["#!/bin/sh", "PATH=/usr/local/bin:/usr/bin:/bin", "REAL=rclone", f'echo "$@" >> {calls}', script]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return calls


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_copy_is_the_same_and_comes_back_the_same(offsite: Offsite, folder: Path, far: Path, tmp_path: Path) -> None:
    assert offsite.names("cm") == []
    copy(offsite, folder)
    assert offsite.names("cm") == [NAME]
    assert content(far / "sets" / "cm" / str(NAME)) == content(folder)
    back = tmp_path / "back"
    back.mkdir(mode=0o700)
    offsite.fetch("cm", NAME, back)
    assert content(back) == content(folder)


def test_what_has_no_manifest_or_no_sets_name_is_no_set(offsite: Offsite, folder: Path, far: Path) -> None:
    copy(offsite, folder)
    database = far / "sets" / "cm"
    for name in ("20261122T150000Z_v4", "notes", f"{NAME}.partial"):
        (database / name).mkdir()
        (database / name / "SHA256SUMS").write_text("")
    (database / "notes" / MANIFEST).write_text("{}")
    (database / MANIFEST).write_text("{}")
    assert offsite.names("cm") == [NAME]


def test_the_manifest_comes_last_and_is_read_back(
    offsite: Offsite, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = rclone(tmp_path, monkeypatch, 'exec $REAL "$@"')
    copy(offsite, folder)
    steps = [(line.split()[0], f"--include=/{MANIFEST}" in line) for line in calls.read_text().splitlines()]
    assert steps == [("copy", False), ("check", False), ("copy", True), ("check", True)]


def test_evidence_follows_later(offsite: Offsite, folder: Path, far: Path) -> None:
    copy(offsite, folder)
    (folder / EVIDENCE).write_text(json.dumps({"by": "drill"}))
    offsite.upload_evidence(folder, "cm", NAME)
    assert content(far / "sets" / "cm" / str(NAME)) == content(folder)


def test_a_set_is_removed_manifest_first_and_only_once(
    offsite: Offsite, folder: Path, far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = SetName(datetime(2026, 11, 23, tzinfo=UTC), 5)
    copy(offsite, folder)
    copy(offsite, folder, later)
    calls = rclone(tmp_path, monkeypatch, '[ "$1" = purge ] && exit 1\nexec $REAL "$@"')
    refusal(lambda: offsite.remove("cm", NAME))
    assert [line.split()[0] for line in calls.read_text().splitlines()] == ["delete", "purge"]
    assert offsite.names("cm") == [later]
    monkeypatch.undo()
    for _ in range(2):
        offsite.remove("cm", NAME)
    assert [path.name for path in (far / "sets" / "cm").iterdir()] == [str(later)]


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_comes_back_different_never_counts(
    offsite: Offsite, folder: Path, far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place takes the file, and gives back something else of the same size and time."""
    spoil = f"{far}/sets/cm/{NAME}/dump/1.dat"
    rclone(
        tmp_path,
        monkeypatch,
        f'[ "$1" = check ] && [ -f {spoil} ] && {{ touch -r {spoil} {tmp_path}/time; printf y | dd of={spoil} '
        f'conv=notrunc 2> /dev/null; touch -r {tmp_path}/time {spoil}; }}\nexec $REAL "$@"',
    )
    error = refusal(lambda: copy(offsite, folder))
    assert f"reading back vault:sets/cm/{NAME} dump/1.dat." in error.message
    assert "What is there is not what was sent" in error.message
    assert offsite.names("cm") == [] and content(far) == {}


def test_a_copy_goes_again_when_the_set_is_not_sealed_after_all(offsite: Offsite, folder: Path, far: Path) -> None:
    with pytest.raises(RunbookError, match="lock lost"), offsite.copied(folder, "cm", NAME):
        assert offsite.names("cm") == [NAME]
        raise RunbookError("lock lost", code="lock-lost")
    assert content(far) == {}


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("other:sets", "No remote of that name is in rclone's configuration, {config}."),
        ("dead:sets", "See that the place can be reached from this host."),
    ],
)
def test_the_reason_is_said_with_what_to_do(remote: str, said: str, tmp_path: Path, folder: Path) -> None:
    key = tmp_path / "ssh"
    dead = {"type": "sftp", "host": "127.0.0.1", "port": 9, "user": "backup", "pass": "", "key_file": key}
    config = vault.remote(tmp_path, dead=dead)
    for work in (lambda: Offsite(remote, str(config)).names("cm"), lambda: copy(Offsite(remote, str(config)), folder)):
        error = refusal(work)
        assert said.format(config=config) in error.message
        assert not error.message.startswith("20") and "ERROR :" not in error.message


@pytest.mark.parametrize(
    "remote", ["vault", ":sftp,pass=x:sets", "vault,pass=x:sets", "--config=/etc/passwd", "-v:sets", "", " :x", "a\n:x"]
)
def test_a_place_that_is_none_is_refused(remote: str) -> None:
    vault.require("rclone")
    assert "names no place" in refusal(lambda: Offsite(remote).check()).message


def test_a_missing_program_and_a_missing_configuration_are_named(
    offsite: Offsite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsite.check()
    assert f"{tmp_path}/none" in refusal(lambda: Offsite("vault:sets", f"{tmp_path}/none").check()).message
    monkeypatch.setenv("PATH", "/nowhere")
    assert "Install the package rclone" in refusal(lambda: offsite.check()).message


def test_nothing_of_the_callers_environment_changes_where_it_goes(
    offsite: Offsite, folder: Path, far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("RCLONE_CONFIG_VAULT_REMOTE", str(elsewhere))
    monkeypatch.setenv("RCLONE_DRY_RUN", "true")
    copy(offsite, folder)
    assert offsite.names("cm") == [NAME] and not elsewhere.exists()


def test_what_is_copied_back_is_for_its_owner_alone(offsite: Offsite, folder: Path, far: Path, tmp_path: Path) -> None:
    copy(offsite, folder)
    for path in far.rglob("*"):
        path.chmod(0o777)
    back = tmp_path / "back"
    back.mkdir(mode=0o700)
    offsite.fetch("cm", NAME, back)
    assert stat.S_IMODE(back.stat().st_mode) == 0o700
