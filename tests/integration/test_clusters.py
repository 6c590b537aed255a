# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts, one database, and several databases on one host: real playbooks on a real streaming replication."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import identify
from ansible.module_utils.runbook.replay import end_of_wal, wait
from ansible.module_utils.runbook.session import connect
from cluster import Cluster, Node
from conftest import reachable_directory
from engine import write
from project import ROOT, Project, Run, poll, short_folder

VERSIONS = "SELECT version FROM cm.schema_version ORDER BY version"
LEDGER = "SELECT l::text FROM cm.schema_version AS l ORDER BY version"
TABLES = {
    "001_actor.sql": "CREATE TABLE public.actor (id int);",
    "002_model.sql": "CREATE TABLE public.model (id int);",
}
DROPS = {name: sql.replace("CREATE", "DROP").replace(" (id int)", "") for name, sql in TABLES.items()}
FROM_ONE_TO_TWO = {"standby": "two", "primary": "one", "schema": "cm", "versions": {}}
EXISTS = "SELECT to_regclass('public.actor') IS NOT NULL"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A place for servers, removed with whatever runs there."""
    with reachable_directory() as folder:
        cluster = Cluster(folder)
        yield cluster
        cluster.remove()


@pytest.fixture
def pair(cluster: Cluster) -> tuple[Node, Node]:
    """A primary and its standby."""
    primary = cluster.add_primary("one")
    return primary, cluster.add_standby("two", primary)


@pytest.fixture
def project() -> Iterator[Project]:
    """The project with two small migrations of its own; ``hosts`` says where its hosts are."""
    with short_folder() as folder, closing(Project(folder)) as project:
        write(project.init, TABLES)  # type: ignore[arg-type]
        write(project.rollback, DROPS)  # type: ignore[arg-type]
        project.variables |= project.own_files()
        yield project


def hosts(project: Project, *nodes: Node, **further: Any) -> None:
    """Write an inventory: cm-1, cm-2 … for the nodes, ``further`` hosts with their variables."""
    named = {f"cm-{number}": node.variables() for number, node in enumerate(nodes, start=1)} | further
    project.secrets += [str(variables["db_password"]) for variables in named.values()]
    group = yaml.safe_load((ROOT / "inventories/staging/group_vars/staging.yml").read_text())
    inventory = {"staging": {"hosts": named, "vars": {**group, "db_runtime": "managed"}}}
    write(project.folder / "inventory", {"hosts.yml": yaml.safe_dump(inventory)})


def run(project: Project, door: str, *arguments: str, **options: Any) -> Run:
    """Run a playbook on the hosts of ``hosts``."""
    return project.run(door, "-i", str(project.folder / "inventory"), *arguments, **options)


def replayed(node: Node, question: str) -> list[Any]:
    """An answer of a standby that is not empty, as soon as it has one."""

    def answer() -> list[Any]:
        exists = node.ask("SELECT to_regclass('cm.schema_version') IS NOT NULL")
        return node.ask(question) if exists == [True] else []

    return list(poll(answer))


def versions(nodes: Sequence[Node]) -> list[list[int]]:
    """The versions in each ledger."""
    return [node.ask(VERSIONS) for node in nodes]


# ---- one primary, one standby


def test_it_acts_on_the_primary_once_and_waits_for_the_standby(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, standby, primary)  # the order says nothing
    predicted = run(project, "migrate.yml", "--check", "--diff")
    assert predicted.changed == 1
    assert "+2 002_model.sql" in predicted.output
    assert primary.ask(EXISTS) == [False]
    assert "cm-1 is a standby of cm-2; nothing to do here." in predicted.text
    assert "cm-1 has it, too" not in predicted.text

    done = run(project, "migrate.yml")
    assert done.changed == 1
    assert "cm-2 is the primary of cm-1; the run acts here." in done.text
    assert "cm-1 is a standby of cm-2; nothing to do here." in done.text
    assert "Version 2: 2 applied." in done.text
    assert "cm-1 has it, too: replayed within " in done.text
    assert standby.ask(LEDGER) == primary.ask(LEDGER) != []  # no moment later

    entries = done.record["hosts"]
    assert [len(entries[host]["applied"]) for host in ("cm-1", "cm-2")] == [0, 2]
    assert entries["cm-2"]["replay"] is None
    replay = entries["cm-1"]["replay"]
    assert (replay["lag_bytes"], replay["paused"], replay["receiving"]) == (0, False, True)
    assert 0 <= replay["seconds"] < 60

    again = run(project, "migrate.yml")
    assert again.changed == 0
    assert "Version 2: nothing to do." in again.text
    assert again.record["hosts"]["cm-1"]["replay"] is None  # nobody asked


def test_status_shows_the_standby_as_what_it_is(pair: tuple[Node, Node], project: Project) -> None:
    hosts(project, *pair)
    # In one run: what the first playbook found out about a host is not taken for its inventory by the second.
    both = [{"import_playbook": str(ROOT / door)} for door in ("migrate.yml", "status.yml")]
    write(project.folder, {"both.yml": yaml.safe_dump(both)})
    status = run(project, str(project.folder / "both.yml"), migrate_version=1)
    assert status.changed == 1
    assert "staging cm-1 cm 1 1 (002_model.sql) migrate running" in status.text
    assert "staging cm-2 (standby) cm 1 1 (002_model.sql) migrate running" in status.text
    assert status.text.count("VERSION APPLIED AT (UTC) DESCRIPTION 1 20") == 2
    assert "cannot" not in status.text.lower()


def test_rollback_and_baseline_keep_to_the_same_rule(pair: tuple[Node, Node], project: Project) -> None:
    hosts(project, *pair)
    assert run(project, "baseline.yml", baseline_version=1).changed == 1
    assert versions(pair) == [[1], [1]]
    run(project, "migrate.yml")
    back = run(project, "rollback.yml", rollback_version=1, rollback_confirm="cm")
    assert back.changed == 1
    assert "cm-2 has it, too: replayed within " in back.text
    assert versions(pair) == [[1], [1]]


def test_a_run_against_standbys_only_is_refused(cluster: Cluster, pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, standby, cluster.add_standby("three", standby))  # the second one cascades
    refused = run(project, "migrate.yml", code=2)
    for sentence in (
        "cm-1 and cm-2 are standbys, and their primary is no host of this run",
        "Nothing was done on any host.",
        f"Add the primary to the run (they replay from 127.0.0.1:{primary.server.port} and "
        f"127.0.0.1:{standby.server.port}), or promote a standby.",
    ):
        assert sentence in refused.text
    assert primary.ask(EXISTS) == [False]

    hosts(project, standby)
    alone = run(project, "migrate.yml", code=2)
    assert alone.error["code"] == "standby"
    assert "or add the primary to the run as a further host" in alone.text
    shown = run(project, "status.yml")
    assert "cm-1 (standby) cm none 2 (001_actor.sql, 002_model.sql)" in shown.text


def test_a_standby_of_a_standby_has_it_too(cluster: Cluster, pair: tuple[Node, Node], project: Project) -> None:
    third = cluster.add_standby("three", pair[1])
    hosts(project, *pair, third)
    done = run(project, "migrate.yml")
    assert "cm-3 is a standby of cm-1; nothing to do here." in done.text
    assert third.ask(VERSIONS) == [1, 2]


def test_after_a_promotion_it_acts_on_the_new_primary(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, *pair)
    run(project, "migrate.yml", migrate_version=1)
    primary.stop()
    standby.promote()

    down = run(project, "migrate.yml", code=2)
    assert "Nothing was done on any host. If cm-1 is out of service, leave it out: -l 'staging:!cm-1'." in down.text
    assert "Cannot connect to database postgres" in down.text
    assert standby.ask(VERSIONS) == [1]

    done = run(project, "migrate.yml", limit="staging:!cm-1")
    assert list(done.record["hosts"]) == ["cm-2"]
    assert standby.ask(VERSIONS) == [1, 2]


def test_two_primaries_of_one_cluster_are_refused(pair: tuple[Node, Node], project: Project) -> None:
    hosts(project, *pair)
    pair[1].promote()
    refused = run(project, "migrate.yml", code=2)
    assert "cm-1 and cm-2 are primaries of one cluster, and no more than one can be right" in refused.text
    assert "Nothing was done on any host." in refused.text
    assert [node.ask(EXISTS) for node in pair] == [[False], [False]]
    assert run(project, "migrate.yml", limit="cm-2").changed == 1  # the way out that the message names


def test_a_host_that_cannot_be_reached_is_named_with_the_way_out(pair: tuple[Node, Node], project: Project) -> None:
    ssh = project.folder / "ssh"
    ssh.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    gone = {**pair[1].variables(), "ansible_connection": "ssh", "ansible_ssh_executable": str(ssh)}
    hosts(project, pair[0], gone=gone)
    refused = run(project, "migrate.yml", code=2)
    assert "no route to host" in refused.text
    assert "If gone is out of service, leave it out: -l 'staging:!gone'." in refused.text
    assert pair[0].ask(EXISTS) == [False]


# ---- waiting for the standby


def test_the_position_to_wait_for_is_one_that_the_standby_comes_to(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    with primary.connect() as session:
        session.execute("CREATE ROLE anybody LOGIN PASSWORD 'whoever'")
    poll(lambda: standby.ask("SELECT count(*) FROM pg_roles WHERE rolname = 'anybody'") == [1])
    anybody = replace(standby.login(), user="anybody", password="whoever")
    for last in (
        "SELECT pg_switch_wal()",  # the next record goes behind the header of a page that is not there yet
        "SET synchronous_commit = off; INSERT INTO t DEFAULT VALUES",  # not on disk yet
    ):
        with connect(primary.login(), "test") as session:
            session.query("CREATE TABLE IF NOT EXISTS t ()")
            session.query(last)
            lsn = end_of_wal(session)
        waited = wait(anybody, {**FROM_ONE_TO_TWO, "lsn": lsn, "lag": "10s"})
        assert waited["lag_bytes"] == 0 and waited["seconds"] < 5
    assert standby.ask("SELECT count(*) FROM t") == [1]


def test_any_user_is_told_enough_to_keep_standbys_from_acting(pair: tuple[Node, Node]) -> None:
    primary, standby = pair
    with primary.connect() as session:
        session.execute("CREATE ROLE anybody LOGIN PASSWORD 'whoever'")
        session.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")  # as a provider may
    poll(lambda: standby.ask("SELECT count(*) FROM pg_roles WHERE rolname = 'anybody'") == [1])
    poll(lambda: standby.ask("SELECT proacl IS NOT NULL FROM pg_proc WHERE proname = 'pg_control_system'") == [True])
    one, two = (
        identify(replace(node.login(), user="anybody", password="whoever"), ["cm"]) for node in (primary, standby)
    )
    assert (one["system_identifier"], two["system_identifier"]) == ("", "")
    assert (one["in_recovery"], two["in_recovery"], two["upstream"]) == (False, True, "")
    assert one["started_at"] != two["started_at"]
    assert (
        identify(primary.login(), [])["system_identifier"] == identify(standby.login(), [])["system_identifier"] != ""
    )
    assert identify(standby.login(), [])["upstream"] == f"127.0.0.1:{primary.server.port}"


def test_a_standby_that_is_promoted_or_gone_is_not_waited_for(pair: tuple[Node, Node]) -> None:
    standby = pair[1]
    params = {**FROM_ONE_TO_TWO, "lsn": "F/0", "lag": "1h"}
    standby.promote()
    with pytest.raises(RunbookError, match="standby two was promoted before it had replayed it") as promoted:
        wait(standby.login(), params)
    assert promoted.value.code == "standby-promoted"
    standby.stop()
    with pytest.raises(RunbookError, match="could not be asked whether it has it, too. Cannot connect to") as lost:
        wait(standby.login(), params)
    assert lost.value.code == "standby-lost"


def test_a_paused_standby_fails_the_run_when_time_is_up(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, *pair)
    standby.ask("SELECT pg_wal_replay_pause()")
    poll(lambda: standby.ask("SELECT pg_get_wal_replay_pause_state() = 'paused'") == [True])
    failed = run(project, "migrate.yml", migrate_standby_lag="1s", code=2)
    for sentence in (
        "The change is applied and recorded on cm-1, so there is nothing to run again, but standby cm-2 has not "
        "replayed it after 1.0 s (migrate_standby_lag): ",
        "Its replay is paused; SELECT pg_wal_replay_resume() there lets it go on.",
        "SELECT * FROM pg_stat_replication on cm-1, SELECT * FROM pg_stat_wal_receiver on cm-2",
    ):
        assert sentence in failed.text
    entries = failed.record["hosts"]
    assert [file["version"] for file in entries["cm-1"]["applied"]] == [1, 2]
    assert entries["cm-1"]["error"] is None and entries["cm-2"]["error"]["code"] == "standby-lag"
    assert entries["cm-2"]["replay"]["lag_bytes"] > 0 and entries["cm-2"]["replay"]["paused"] is True
    assert primary.ask(VERSIONS) == [1, 2] and standby.ask(EXISTS) == [False]

    write(project.init, {"003_review.sql": "CREATE TABLE public.review ();"})
    unasked = run(project, "migrate.yml", migrate_standby_lag="0")
    assert "of WAL behind cm-1; nobody waited for it." in unasked.text

    standby.ask("SELECT pg_wal_replay_resume()")
    write(project.init, {"004_last.sql": "CREATE TABLE public.last ();"})
    assert "cm-2 has it, too" in run(project, "migrate.yml").text
    assert versions(pair) == [[1, 2, 3, 4]] * 2


def test_a_standby_that_lost_its_primary_says_so(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, *pair)
    with primary.connect() as session:
        session.execute("ALTER SYSTEM SET max_wal_senders = 0")
        session.execute("ALTER SYSTEM SET wal_level = 'minimal'")
    primary.stop()
    primary.start()
    hosts(project, *pair)
    failed = run(project, "migrate.yml", migrate_standby_lag="500ms", code=2)
    assert "It has no connection to receive WAL over (no WAL receiver)." in failed.text
    assert primary.ask(VERSIONS) == [1, 2]


def test_a_primary_that_dies_between_its_commit_and_the_wait(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    hosts(project, *pair)
    standby.ask("SELECT pg_wal_replay_pause()")
    process = project.start("migrate.yml", "-i", str(project.folder / "inventory"), migrate_standby_lag="4s")
    poll(lambda: standby.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%standby'") == [1])
    primary.kill()
    failed = project.finish(process, code=2)
    assert "The change is applied and recorded on cm-1" in failed.text
    assert failed.record["hosts"]["cm-2"]["error"]["code"] == "standby-lag"
    standby.ask("SELECT pg_wal_replay_resume()")
    primary.start()
    hosts(project, *pair)
    assert run(project, "migrate.yml").changed == 0
    assert replayed(standby, VERSIONS) == primary.ask(VERSIONS) == [1, 2]


# ---- one server, several names and databases


def test_one_server_by_several_names_is_migrated_once_for_each_database(cluster: Cluster, project: Project) -> None:
    node = cluster.add_primary("one")
    node.create_database("billing")
    hosts(project, node, node, billing=node.variables("billing"))
    done = run(project, "migrate.yml")
    assert done.changed == 2
    assert "cm-2 is the same server as cm-1, where the run acts on cm; nothing to do here." in done.text
    entries = done.record["hosts"]
    assert [(len(entry["applied"]), entry["database"]) for entry in entries.values()] == [
        (2, "billing"),
        (2, "cm"),
        (0, None),
    ]
    assert node.ask(VERSIONS) == node.ask(VERSIONS, "billing") == [1, 2]


def test_a_list_of_databases_on_a_cluster(pair: tuple[Node, Node], project: Project) -> None:
    primary, standby = pair
    primary.create_database("billing")
    both = primary.variables(["cm", "billing"])
    hosts(project, one=both, two={**both, "db_port": standby.server.port})
    predicted = run(project, "migrate.yml", "--check", "--diff")
    for header in ("ledger of cm now", "ledger of billing after the run"):
        assert header in predicted.text
    done = run(project, "migrate.yml")
    assert "cm: Version 2: 2 applied. billing: Version 2: 2 applied." in done.text
    entries = done.record["hosts"]
    assert {name: entry["database"] for name, entry in entries.items()} == {
        "one": "cm",
        "one/billing": "billing",
        "two": None,
    }
    assert all(len(entries[name]["applied"]) == 2 for name in ("one", "one/billing"))
    for node in (primary, standby):
        assert node.ask(VERSIONS) == node.ask(VERSIONS, "billing") == [1, 2]
    status = run(project, "status.yml")
    for row in ("one cm 2 none", "one billing 2 none", "two (standby) cm 2 none", "two (standby) billing 2 none"):
        assert f"staging {row} migrate succeeded" in status.text
    assert "two, billing: VERSION" in status.text
    assert run(project, "migrate.yml").changed == 0


def test_a_failure_in_one_database_stops_the_run_before_the_next(cluster: Cluster, project: Project) -> None:
    node = cluster.add_primary("one")
    for name in ("billing", "audit"):
        node.create_database(name)
    with node.connect("billing") as session:
        session.execute("CREATE TABLE public.model ()")
    hosts(project, one=node.variables(["cm", "billing", "audit"]))
    failed = run(project, "migrate.yml", code=2)
    assert node.ask(VERSIONS) == [1, 2] and node.ask(VERSIONS, "billing") == [1]
    assert node.ask("SELECT to_regclass('cm.schema_version')::text", "audit") == [None]
    entries = failed.record["hosts"]
    assert list(entries) == ["one", "one/billing", "one/audit"]
    assert entries["one/audit"]["version"] is None and len(entries["one/audit"]["pending"]) == 2, "planned only"
    assert entries["one"]["error"] is None
    assert (entries["one/billing"]["error"]["code"], entries["one/billing"]["error"]["file"]) == (
        "sql",
        "002_model.sql",
    )

    with node.connect("billing") as session:
        session.execute("DROP TABLE public.model")
    repaired = run(project, "migrate.yml")
    assert repaired.changed == 1
    assert "cm: Version 2: nothing to do." in repaired.text
    for name in ("cm", "billing", "audit"):
        assert node.ask(VERSIONS, name) == [1, 2]


def test_status_of_a_list_with_a_database_that_is_not_there(cluster: Cluster, project: Project) -> None:
    node = cluster.add_primary("one")
    hosts(project, one=node.variables(["nowhere", "cm"]))
    status = run(project, "status.yml")
    assert "staging one nowhere unknown unknown never" in status.text
    assert "staging one cm none 2 (001_actor.sql, 002_model.sql) never" in status.text
    assert "one, nowhere: Cannot connect to database nowhere" in status.text


def test_rollback_and_baseline_take_one_database(cluster: Cluster, project: Project) -> None:
    node = cluster.add_primary("one")
    node.create_database("billing")
    hosts(project, one=node.variables(["cm", "billing"]))
    run(project, "migrate.yml")
    refusal = "works on one database, and db_name lists 2: cm, billing. Choose one on the command line: -e db_name=cm."
    back = {"rollback_version": 1, "rollback_confirm": "cm"}
    assert refusal in run(project, "rollback.yml", "--check", code=2, **back).text
    assert refusal in run(project, "baseline.yml", code=2, baseline_version=2).text
    unguarded = run(project, "rollback.yml", "--skip-tags", "always", code=2, **{**back, "rollback_confirm": "billing"})
    assert unguarded.error["code"] == "confirmation"
    assert (
        'This changes what is in database cm, and the confirmation names "billing". Nothing was done.' in unguarded.text
    )
    assert node.ask(VERSIONS) == node.ask(VERSIONS, "billing") == [1, 2]
    assert run(project, "rollback.yml", "-e", "db_name=cm", **back).changed == 1
    assert node.ask(VERSIONS) == [1] and node.ask(VERSIONS, "billing") == [1, 2]


# ---- what outlives a play, and what outlives a primary


def test_a_later_play_does_not_act_on_what_an_earlier_one_has_found_out(
    pair: tuple[Node, Node], project: Project
) -> None:
    primary, standby = pair
    primary.create_database("billing")
    hosts(project, primary, standby)
    alone = {"hosts": "cm-1", "gather_facts": False, "vars": {"db_name": "billing"}, "roles": ["db", "migrate"]}
    site = [{"import_playbook": str(ROOT / "migrate.yml")}, alone]
    write(project.folder, {"site.yml": yaml.safe_dump(site)})
    done = run(project, str(project.folder / "site.yml"), migrate_version=1)
    assert done.changed == 2
    assert primary.ask(VERSIONS) == primary.ask(VERSIONS, "billing") == [1]


def test_a_standby_of_a_lost_primary_that_was_ahead_of_the_promoted_one_is_not_said_to_have_it(
    cluster: Cluster, project: Project
) -> None:
    lost = cluster.add_primary("lost")
    promoted, ahead = (cluster.add_standby(name, lost) for name in ("promoted", "ahead"))
    promoted.stop()
    with lost.connect() as session:
        session.execute("CREATE TABLE public.much AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
    poll(lambda: ahead.ask("SELECT to_regclass('public.much') IS NOT NULL") == [True])
    lost.kill()
    promoted.start()
    promoted.promote()
    hosts(project, promoted, ahead)
    failed = run(project, "migrate.yml", code=2)
    assert promoted.ask(VERSIONS) == [1, 2]
    error = failed.record["hosts"]["cm-2"]["error"]
    assert error["code"] == "standby-diverged"
    assert "its ledger of cm says version none, not 2" in error["message"]
