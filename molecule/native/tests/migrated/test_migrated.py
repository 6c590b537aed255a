# SPDX-License-Identifier: GPL-3.0-or-later
"""What preparing and migrating two servers leaves on them and on this machine."""

from __future__ import annotations

import json
import re
from typing import Any

import promises
import pytest

VERSIONS = [version for version, *_ in promises.LEDGER]


def test_the_services_run(host: Any) -> None:
    for unit in ("postgresql@17-main", "ssh"):
        assert host.service(unit).is_running
    assert host.file("/run/postgresql/.s.PGSQL.5432").is_socket


def test_one_is_a_primary_and_the_other_its_standby(query: promises.Query, name: str) -> None:
    assert query("SELECT pg_is_in_recovery()") == ("t" if name == "cm-db2" else "f")
    if name == "cm-db1":
        assert query("SELECT state FROM pg_stat_replication") == "streaming"


def test_prepare_has_brought_what_is_needed_and_nothing_more(host: Any) -> None:
    assert host.package("python3-psycopg").is_installed and host.package("acl").is_installed
    assert not host.package("python3-requests").is_installed


def test_nobody_else_can_read_what_the_servers_keep(host: Any) -> None:
    with host.sudo():
        for path, mode in {
            "/var/lib/postgresql/17/main": 0o700,
            "/var/lib/postgresql/.pgpass": 0o600,
            "/etc/postgresql/17/main/pg_hba.conf": 0o640,
        }.items():
            assert (host.file(path).mode, host.file(path).user) == (mode, "postgres")


def test_the_ledger_is_the_same_as_everywhere(query: promises.Query) -> None:
    # On the standby, too, and there nobody but the primary can have written it.
    assert promises.ledger(query) == promises.LEDGER
    assert promises.checksums(query) == promises.expected_checksums()
    assert promises.history(query) == [["applied", version] for version in VERSIONS]


def test_everything_belongs_to_the_account_that_came_over_the_socket(query: promises.Query) -> None:
    owners = "SELECT string_agg(DISTINCT relowner::regrole::text, ' ') FROM pg_class"
    assert query(f"{owners} WHERE relnamespace = 'cm'::regnamespace") == "cm"


def test_check_predicted_what_the_first_run_did_once_and_the_second_had_nothing_to_do() -> None:
    records = promises.records()
    assert [record["outcome"] for record in records] == ["succeeded"] * 3
    assert [record["check"] for record in records] == [True, False, False]
    predicted, done, again = (record["hosts"]["cm-db1"] for record in records)
    assert [len(predicted["pending"]), len(done["applied"]), len(again["applied"])] == [4, 4, 0]
    for record in records:
        assert record["hosts"]["cm-db2"]["applied"] == []
    assert records[1]["hosts"]["cm-db2"]["replay"]["seconds"] >= 0


def test_status_shows_the_newest_version_of_both() -> None:
    screen = promises.play("status.yml")
    assert re.search(r"staging +cm-db1 +cm +4 +none", screen), screen
    assert re.search(r"staging +cm-db2 \(standby\) +cm +4 +none", screen), screen
    assert re.search(r"changed=[1-9]", screen) is None


@pytest.mark.parametrize("place", ["tmp", "var/tmp", "home/deploy", "root", "var/lib/postgresql"])
def test_nothing_is_left_in_temporary_folders_and_homes(host: Any, place: str) -> None:
    with host.sudo():
        assert host.check_output("find /%s -mindepth 1 -maxdepth 2 -iname '*ansible*'", place) == ""
        if place.endswith("tmp"):
            assert host.check_output("find /%s -type f", place) == ""


def test_nothing_is_left_on_this_machine() -> None:
    assert promises.leftovers() == []


def test_no_password_was_in_the_process_list() -> None:
    password = (promises.folder() / "replication_password").read_text().strip()
    over_tcp = promises.folder() / "over_tcp.json"
    over_tcp.write_text(json.dumps({"db_socket_dir": "", "db_password": password}))
    screen = promises.play("status.yml", "-vvv", "-e", f"@{over_tcp}")
    assert re.search(r"staging +cm-db1 +cm +4 +none", screen) and password not in screen
    seen = promises.command_lines()
    assert any("ansible-playbook" in line and "converge.yml" in line for line in seen)
    assert any("pg_basebackup" in line for line in seen)  # the servers' processes were seen, too
    assert promises.showing([password]) == []
