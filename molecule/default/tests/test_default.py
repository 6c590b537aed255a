# SPDX-License-Identifier: GPL-3.0-or-later
"""What a migration of the embedded server leaves on the machine."""

from __future__ import annotations

import os
import re
from typing import Any

import promises
from ansible.module_utils.runbook import embedded


def test_the_server_runs_and_listens_on_this_machine_only(host: Any, server: embedded.Server) -> None:
    process = host.process.get(pid=int((server.data / "postmaster.pid").read_text().split()[0]))
    assert process.comm == "postgres"
    assert process.user == ("nobody" if os.geteuid() == 0 else host.user().name)
    assert host.socket(f"tcp://127.0.0.1:{server.port}").is_listening
    assert not host.socket(f"tcp://0.0.0.0:{server.port}").is_listening


def test_only_its_account_can_read_what_the_server_keeps(host: Any, server: embedded.Server) -> None:
    owner = host.user().name
    assert (host.file(str(server.passfile)).mode, host.file(str(server.passfile)).user) == (0o600, owner)
    assert host.file(str(server.data)).mode == 0o700
    assert host.file(str(server.home / "log")).mode == 0o600


def test_the_ledger_is_the_same_as_everywhere(query: promises.Query) -> None:
    assert promises.ledger(query) == promises.LEDGER
    assert promises.checksums(query) == promises.expected_checksums()
    assert promises.history(query) == [["applied", version] for version, *_ in promises.LEDGER]


def test_check_predicted_what_the_first_run_did_and_the_second_had_nothing_to_do() -> None:
    records = promises.records()
    assert [record["outcome"] for record in records] == ["succeeded"] * 3
    assert [record["check"] for record in records] == [True, False, False]
    predicted, done, again = (record["hosts"]["cm-staging"] for record in records)
    names = [name for _, name, _ in promises.LEDGER]
    assert [pending["name"] for pending in predicted["pending"]] == names
    assert [applied["name"] for applied in done["applied"]] == names
    assert (again["applied"], again["pending"], again["version"]) == ([], [], 4)


def test_status_shows_the_newest_version() -> None:
    screen = promises.play("status.yml")
    assert re.search(r"staging +cm-staging +cm +4 +none +migrate succeeded", screen), screen
    assert "changed=0" in screen


def test_run_records_are_private(host: Any) -> None:
    for path in promises.folder().glob("runs/*/*.json"):
        assert host.file(str(path)).mode == 0o600
        assert host.file(str(path.parent)).mode == 0o700


def test_nothing_is_left_in_temporary_folders() -> None:
    assert promises.leftovers() == []


def test_no_password_was_in_the_process_list(password: str) -> None:
    seen = promises.command_lines()
    assert any("ansible-playbook" in line and "converge.yml" in line for line in seen)
    assert any("initdb" in line for line in seen)
    assert promises.showing([password]) == []
