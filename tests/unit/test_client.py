# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding and running installed client programs, without a server."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from ansible.module_utils.runbook import client
from ansible.module_utils.runbook.client import Installed, find_program
from ansible.module_utils.runbook.errors import RunbookError

SECRET = "correct horse"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for packaged programs, one below it for each version, as the only place there is."""
    monkeypatch.setattr(client, "_PACKAGED", (f"{tmp_path}/*/bin",))
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path


def install(programs: Path, major: int, body: str = "") -> Path:
    """Install a pg_sample of some version."""
    path = programs / str(major) / "bin" / "pg_sample"
    path.parent.mkdir(parents=True)
    path.write_text(
        f'#!/bin/sh\n[ "$1" != --version ] || {{ echo "pg_sample (PostgreSQL) {major}.4"; exit; }}\n{body}\n'
    )
    path.chmod(0o755)
    return path


def test_the_program_nearest_to_the_server_is_taken(programs: Path) -> None:
    installed = {major: install(programs, major) for major in (13, 15, 17, 18)}
    assert find_program("pg_sample", 14) == installed[15]
    assert find_program("pg_sample", 17) == installed[17]


def test_a_program_older_than_the_server_is_not_good_enough(programs: Path) -> None:
    old = install(programs, 15)
    with pytest.raises(RunbookError) as caught:
        find_program("pg_sample", 17)
    assert caught.value.code == "client-missing"
    assert f"15 ({old})" in caught.value.message and "postgresql-client-17" in caught.value.message


def test_no_program_at_all_is_a_sentence(programs: Path) -> None:
    with pytest.raises(RunbookError, match=r"no pg_sample for PostgreSQL 17 on this host\. Found: none at all"):
        find_program("pg_sample", 17)


def test_a_program_gets_its_login_by_environment_and_nothing_of_the_callers(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(programs, 17, 'echo "$PGHOST $PGPASSWORD ${PGSERVICE:-none} $*"')
    monkeypatch.setenv("PGSERVICE", "callers")
    printed = Installed(17, {"PGHOST": "db.example.com"}, SECRET).run("pg_sample", ["--one", "two words"])
    assert printed == f"db.example.com {SECRET} none --one two words\n".encode()


def test_streams_are_bytes(programs: Path, tmp_path: Path) -> None:
    install(programs, 17, "cat")
    everything = bytes(range(256)) * 1000
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(everything)
    with source.open("rb") as stdin, target.open("wb") as stdout:
        assert Installed(17, {}).run("pg_sample", [], stdin, stdout) == b""
    assert target.read_bytes() == everything


def test_a_program_reads_nothing_unless_it_is_given_something(programs: Path) -> None:
    install(programs, 17, "cat")
    assert Installed(17, {}).run("pg_sample", []) == b""


def test_a_failure_tells_the_last_lines_without_the_password(programs: Path) -> None:
    install(programs, 17, 'for n in 1 2 3 4 5 6; do echo "line $n, $PGPASSWORD" >&2; done; exit 3')
    with pytest.raises(RunbookError) as caught:
        Installed(17, {}, SECRET).run("pg_sample", [])
    error = caught.value
    assert (error.code, error.details) == ("client-failed", {"status": 3})
    assert error.message.startswith("pg_sample failed with exit status 3: line 2, ") and "line 6" in error.message
    assert SECRET not in error.message


def test_a_failure_without_a_word_is_a_sentence_too(programs: Path) -> None:
    install(programs, 17, "exit 1")
    with pytest.raises(RunbookError, match="exit status 1: it did not say why"):
        Installed(17, {}).run("pg_sample", [])


def test_a_missing_docker_command_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RunbookError, match="no docker command on this host, which pg_dump needs"):
        client.Sidecar(17, "container", "image", {}).run("pg_dump", [], io.BytesIO())


def test_libpqs_parameters_become_its_environment_variables() -> None:
    parameters = {"host": "h", "dbname": "d", "sslmode": "verify-full", "sslrootcert": "/ca", "options": "-c role=r"}
    assert client._variables({**parameters, "password": SECRET, "passfile": "/p", "keepalives_idle": "30"}) == {
        "PGHOST": "h",
        "PGDATABASE": "d",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/ca",
        "PGOPTIONS": "-c role=r",
    }
