# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of a run act."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.inventory.manager import split_host_pattern
from ansible.module_utils.runbook import cluster
from ansible.module_utils.runbook.cluster import Decision, Member

HERE = "; the run acts here."
NOTHING = "; nothing to do here."


def primary(host: str, *databases: str, system: str = "1", started: str = "") -> Member:
    """A primary; unless told otherwise every host is a server of its own."""
    return Member(host, databases or ("cm",), system, started or f"when {host} started")


def standby(host: str, system: str = "1", upstream: str = "") -> Member:
    """A standby."""
    return Member(host, ("cm",), system, f"when {host} started", in_recovery=True, upstream=upstream)


def decide(*members: Member, limit: str = "staging") -> dict[str, Decision]:
    """Decide, and check what holds for every decision."""
    decisions = cluster.decide(members, limit)
    assert set(decisions) == {member.host for member in members}
    assert all(not decision.acts_on for decision in decisions.values() if decision.refused or decision.standby_of)
    return decisions


def sentences(*members: Member) -> list[str]:
    """What is said about each host, none being refused."""
    decisions = decide(*members)
    assert not any(decision.refused for decision in decisions.values())
    return [decisions[member.host].sentence for member in members]


def refusals(*members: Member) -> dict[str, str]:
    """Why hosts are refused."""
    return {host: decision.sentence for host, decision in decide(*members).items() if decision.refused}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_the_primary_acts_and_its_standbys_do_not(order: tuple[int, ...]) -> None:
    members = [primary("db1"), standby("db2"), standby("db3")]
    decisions = decide(*(members[place] for place in order))
    assert decisions["db1"].acts_on == ("cm",)
    assert decisions["db1"].sentence.startswith("db1 is the primary of db") and " and db" in decisions["db1"].sentence
    for name in ("db2", "db3"):
        assert decisions[name] == Decision(f"{name} is a standby of db1{NOTHING}", standby_of=("db1",))


def test_unrelated_servers_all_act() -> None:
    assert sentences(primary("a", system="1"), primary("b", system="2"), standby("c", system="2")) == [
        f"a is a primary{HERE}",
        f"b is the primary of c{HERE}",
        f"c is a standby of b{NOTHING}",
    ]


def test_of_two_names_for_one_server_the_first_acts() -> None:
    decisions = decide(primary("b", started="noon"), primary("a", started="noon"), standby("c"))
    assert (decisions["b"].acts_on, decisions["a"].acts_on) == (("cm",), ())
    assert decisions["a"].sentence == f"a is the same server as b, where the run acts on cm{NOTHING}"
    assert decisions["c"].standby_of == ("b",)


def test_names_for_one_server_share_its_databases() -> None:
    members = (
        primary("a", "cm", "billing", "cm", started="noon"),
        primary("b", "billing", "audit", started="noon"),
        primary("c", "audit", "cm", "billing", started="noon"),
        standby("d"),
    )
    decisions = decide(*members)
    assert [decisions[name].acts_on for name in "abcd"] == [("cm", "billing"), ("audit",), (), ()]
    assert decisions["b"].sentence == "b is the same server as a, where the run acts on billing; here it acts on audit."
    assert decisions["c"].sentence == (
        f"c is the same server as b, where the run acts on audit and a, where the run acts on cm and billing{NOTHING}"
    )
    assert decisions["d"].standby_of == ("a", "b")  # whose changes it has to wait for


def test_databases_of_the_same_name_on_unrelated_servers_have_nothing_to_do_with_each_other() -> None:
    decisions = decide(primary("a", system="1", started="noon"), primary("b", system="2", started="noon"))
    assert [decisions[name].acts_on for name in "ab"] == [("cm",), ("cm",)]


def test_standbys_only_are_refused_with_the_way_to_their_primary() -> None:
    one = refusals(standby("db2", upstream="10.0.0.5:5432"), primary("other", system="2"))
    assert one == {
        "db2": "db2 is a standby, and its primary is no host of this run: only the primary accepts changes. "
        "Nothing was done on any host. "
        "Add the primary to the run (it replays from 10.0.0.5:5432), or promote a standby."
    }
    two = refusals(standby("db2", upstream="10.0.0.5:5432"), standby("db3", upstream="10.0.0.5:5432"))
    assert len(two) == 2 and len(set(two.values())) == 1
    assert "db2 and db3 are standbys, and their primary is no host of this run" in two["db2"]
    assert "(they replay from 10.0.0.5:5432)" in two["db2"]
    assert "Add the primary to the run, or promote" in refusals(standby("db2"))["db2"]


def test_two_primaries_of_one_cluster_are_refused_with_everything_that_belongs_to_it() -> None:
    refused = refusals(primary("db1"), standby("db3"), primary("db2"), primary("other", system="2"))
    assert set(refused) == {"db1", "db2", "db3"}
    assert "db1 and db2 are primaries of one cluster" in refused["db3"]
    assert "(system identifier 1)" in refused["db3"] and "-l db1." in refused["db3"]


def test_a_server_that_cannot_be_asked_is_refused_with_the_way_to_leave_it_out() -> None:
    refused = refusals(primary("db1"), Member("db2", problem="Cannot connect."))
    assert refused == {
        "db2": "Cannot connect. Nothing was done on any host. "
        "If db2 is out of service, leave it out: -l 'staging:!db2'."
    }


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("all", "all:!db2"), ("staging", "staging:!db2"), ("db1,db2", "db1,db2,!db2"), ("db*:&eu", "db*:&eu:!db2")],
)
def test_the_way_to_leave_a_host_out_is_a_pattern_that_ansible_reads(limit: str, expected: str) -> None:
    decisions = decide(primary("db1"), Member("db2", problem="Cannot connect."), limit=limit)
    assert decisions["db2"].sentence.endswith(f"leave it out: -l '{expected}'.")
    # Ansible cuts a pattern at colons only where it has no comma (ansible.inventory.manager.split_host_pattern).
    assert "!db2" in split_host_pattern(expected)


def test_where_servers_do_not_tell_their_cluster_a_standby_still_never_acts() -> None:
    decisions = decide(primary("a", system=""), primary("b", system=""), standby("c", system=""))
    assert [decisions[name].acts_on for name in "abc"] == [("cm",), ("cm",), ()]
    assert decisions["c"].sentence == (
        f"c is a standby{NOTHING} Nobody waits for it, because the servers do not tell this user whose it is: "
        "of a and b."
    )
    assert decisions["c"].standby_of == () and decisions["a"].sentence == "a is a primary; the run acts here."
    assert list(refusals(standby("c", system=""), primary("a", system="1"))) == ["c"]
    twice = decide(primary("a", system="", started="noon"), primary("b", system="", started="noon"))
    assert [twice[name].acts_on for name in "ab"] == [("cm",), ()]


ANSWER = {
    "databases": ["cm", "billing"],
    "system_identifier": "1",
    "started_at": "noon",
    "in_recovery": False,
    "upstream": "",
    "changed": False,
}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ANSWER, Member("db1", ("cm", "billing"), "1", "noon")),
        ({"msg": "Cannot connect.", "failed": False}, Member("db1", problem="Cannot connect.")),
        ({"msg": "no route", "unreachable": True}, Member("db1", problem="no route")),
        ({"failed": True}, Member("db1", problem="The server could not be asked.")),
    ],
)
def test_results_of_the_module_are_read(result: dict[str, Any], expected: Member) -> None:
    assert Member.from_result("db1", result) == expected
