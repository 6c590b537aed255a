# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is found to lack."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable

import pytest
from ansible.module_utils.runbook import requirements
from ansible.module_utils.runbook.requirements import Missing, to_hand_over, to_work, why_unusable

SOMEBODY = pwd.getpwuid(1).pw_name


@pytest.fixture(autouse=True)
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary account with everything: the system's interpreter, all programs."""
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    monkeypatch.setattr(requirements.shutil, "which", lambda program: f"/usr/bin/{program}")


def without(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    for library in libraries:
        monkeypatch.setitem(sys.modules, library, None)


def named(found: Iterable[Missing]) -> dict[str, bool]:
    """Names of what is missing, and whether a package brings it."""
    return {one.name: one.by_package for one in found}


def test_a_host_with_everything_lacks_nothing() -> None:
    for runtime in ("embedded", "native", "managed"):
        assert list(to_work(runtime)) == []
    assert list(to_hand_over(SOMEBODY)) == []


def test_libraries_come_by_package(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "psycopg", "requests")
    assert named(to_work("native")) == {"psycopg": True}
    assert named(to_work("docker")) == {"psycopg": True, "requests": True}
    (found,) = to_work("managed")
    assert found.sentence.startswith(f"{sys.executable} needs psycopg 3.1 or newer (")


def test_programs_are_only_missed_where_they_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None)
    assert list(to_work("native")) == []
    assert named(to_work("native", ["age", "rclone"])) == {"age": True, "rclone": True}
    (found,) = to_work("native", ["rclone"])
    assert found.sentence == "There is no rclone, which off-site copies of backups need: the package rclone."


def test_no_package_brings_anything_to_a_virtual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "psycopg")
    monkeypatch.setattr(sys, "prefix", "/opt/own")
    (found,) = to_work("managed")
    assert not found.by_package
    assert found.sentence.endswith("It is a virtual environment: /opt/own/bin/pip install 'psycopg[binary]'.")


def test_an_access_control_list_hands_files_to_another_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None)
    (found,) = to_hand_over(SOMEBODY)
    assert (found.name, found.by_package) == ("acl", True)
    assert found.sentence == f"There is no setfacl to hand files to {SOMEBODY} with: the package acl."


def test_no_program_is_demanded_for_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else's container is migrated without any; what up.yml needs, it says itself."""
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None)
    assert list(to_work("docker")) == []


def test_root_needs_no_access_control_lists_and_nobody_needs_them_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.shutil, "which", lambda program: None)
    assert list(to_hand_over("root")) == []
    for uid in (0, 1):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert list(to_hand_over(SOMEBODY)) == []


def test_an_account_that_does_not_exist_is_for_somebody_to_see_to() -> None:
    (found,) = to_hand_over("nobody_here")
    assert (found.name, found.by_package) == ("account", False)
    assert "There is no account nobody_here" in found.sentence


@pytest.mark.parametrize(
    ("version", "reason"), [("3.1", None), ("3.10.2", None), ("3.0.18", "version 3.0.18 is too old")]
)
def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch, version: str, reason: str | None) -> None:
    monkeypatch.setattr(sys.modules["psycopg"], "__version__", version)
    assert why_unusable("psycopg", (3, 1)) == reason
