# SPDX-License-Identifier: GPL-3.0-or-later
"""What starting and migrating the project's own container leaves on the machine and in the container."""

from __future__ import annotations

import json
import re
from typing import Any

import promises
import pytest

VERSIONS = [version for version, *_ in promises.LEDGER]


@pytest.fixture(scope="module")
def name() -> str:
    """The container's name, which Compose gives to its volume, too."""
    (secret,) = (promises.folder() / "deploy/secrets").iterdir()
    return secret.name


@pytest.fixture
def inspected(host: Any, name: str) -> dict[str, Any]:
    """What the engine says about the container."""
    return dict(host.docker(name).inspect())


@pytest.fixture(scope="module")
def password(name: str) -> str:
    """The password that was generated before the first start."""
    return (promises.folder() / "deploy/secrets" / name).read_text()


@pytest.fixture
def query(host: Any, name: str) -> promises.Query:
    """Ask the database itself, over its socket within the container."""
    return lambda statement: str(host.check_output("docker exec %s psql -XAt -U cm -c %s", name, statement))


def test_the_container_is_healthy_and_published_on_this_machine_only(inspected: dict[str, Any]) -> None:
    assert inspected["State"]["Health"]["Status"] == "healthy"
    ports = inspected["NetworkSettings"]["Ports"]
    assert [place["HostIp"] for place in ports["5432/tcp"]] == ["127.0.0.1"]


def test_the_data_are_in_the_named_volume(inspected: dict[str, Any], query: promises.Query, name: str) -> None:
    (place,) = (mount["Destination"] for mount in inspected["Mounts"] if mount.get("Name") == name)
    assert query("SHOW data_directory").startswith(f"{place}/")


def test_only_its_owner_can_read_the_password(host: Any, name: str, password: str) -> None:
    secrets = promises.folder() / "deploy/secrets"
    owner = host.user().name
    assert (host.file(str(secrets)).mode, host.file(str(secrets)).user) == (0o700, owner)
    assert (host.file(str(secrets / name)).mode, host.file(str(secrets / name)).user) == (0o600, owner)
    assert len(password) == 32


def test_the_engine_does_not_know_the_password(inspected: dict[str, Any], password: str) -> None:
    assert password not in json.dumps(inspected)


def test_the_ledger_is_the_same_as_everywhere(query: promises.Query) -> None:
    assert promises.ledger(query) == promises.LEDGER
    assert promises.checksums(query) == promises.expected_checksums()
    # The container has run the files itself, on its first boot.
    assert promises.history(query) == [["adopted", version] for version in VERSIONS]


def test_check_predicted_what_the_first_run_did_and_the_second_had_nothing_to_do() -> None:
    records = [record for record in promises.records() if record["operation"] == "migrate"]
    assert [record["outcome"] for record in records] == ["succeeded"] * 3
    assert [record["check"] for record in records] == [True, False, False]
    predicted, done, again = (record["hosts"]["cm-staging"] for record in records)
    assert [migration["version"] for migration in done["adopted"]] == VERSIONS
    assert predicted["changed"] and done["changed"] and not again["changed"]
    assert (done["applied"], again["applied"], again["adopted"], again["version"]) == ([], [], [], 4)


def test_status_shows_the_newest_version() -> None:
    screen = promises.play("status.yml")
    assert re.search(r"staging +cm-staging +cm +4 +none +migrate succeeded", screen), screen
    assert "changed=0" in screen


def test_a_second_up_changes_nothing() -> None:
    assert "changed=0" in promises.play("up.yml", "--check")


def test_nothing_is_left_in_temporary_folders(host: Any, name: str) -> None:
    assert promises.leftovers() == []
    assert host.check_output("docker exec %s find /tmp /var/tmp -mindepth 1", name) == ""


def test_no_password_was_in_the_process_list(password: str) -> None:
    seen = promises.command_lines()
    assert any("ansible-playbook" in line and "converge.yml" in line for line in seen)
    assert any("docker-entrypoint.sh" in line for line in seen)  # processes in containers were seen, too
    assert promises.showing([password]) == []
