# SPDX-License-Identifier: GPL-3.0-or-later
"""Several hosts, one database: which of them the run acts on. Pure functions over what each server says about itself.

Servers with the same system identifier are one cluster: a primary and the standbys that replay its changes. The run
acts on the primary, once for each database, whatever number of inventory names lead there. Clusters have nothing to do
with each other, so each has a host that acts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.errors import failure_of


@dataclass(frozen=True)
class Member:
    """One host of the run and what its server says about itself.

    Parameters:
        host: its inventory name.
        databases: the databases that the run is to work on there.
        system: the system identifier, shared by all servers of a cluster; empty where the server keeps it to itself.
        started: when the server was started, to the microsecond; tells servers of one cluster apart.
        in_recovery: whether the server is a standby.
        upstream: where a standby replays from (``10.0.0.5:5432``), if it says so.
        problem: why the server could not be asked; empty when it could.
    """

    host: str
    databases: tuple[str, ...] = ()
    system: str = ""
    started: str = ""
    in_recovery: bool = False
    upstream: str = ""
    problem: str = ""

    @classmethod
    def from_result(cls, host: str, result: Mapping[str, Any]) -> Member:
        """Read a result of the module ``server_info``, or what Ansible made of a host that it could not reach."""
        if "in_recovery" not in result:
            return cls(host, problem=failure_of(result) or "The server could not be asked.")
        return cls(
            host=host,
            databases=tuple(result["databases"]),
            system=result["system_identifier"],
            started=result["started_at"],
            in_recovery=result["in_recovery"],
            upstream=result["upstream"],
        )


@dataclass(frozen=True)
class Decision:
    """What the run does on one host.

    Parameters:
        sentence: what it does, or why it is refused.
        refused: whether the whole run has to stop before anything is done.
        acts_on: databases of this host that the run works on.
        standby_of: the hosts whose changes this one replays; empty unless it is a standby.
    """

    sentence: str
    refused: bool = False
    acts_on: tuple[str, ...] = ()
    standby_of: tuple[str, ...] = ()


def decide(members: Sequence[Member], limit: str) -> dict[str, Decision]:
    """Say for every host of the run whether the run acts there.

    Parameters:
        members: the hosts, in the order of the play; of two names for one server the first acts.
        limit: what ``--limit`` said, for the command that leaves a host out.
    """
    decisions = {member.host: _without(member, limit) for member in members if member.problem}
    for cluster in _clusters(member for member in members if not member.problem):
        decisions.update(_decide_cluster(cluster))
    return decisions


def _clusters(members: Iterable[Member]) -> list[list[Member]]:
    """Servers by system identifier. Those that do not tell it are taken together: a standby must never act."""
    clusters: dict[str, list[Member]] = {}
    for member in members:
        clusters.setdefault(member.system, []).append(member)
    return list(clusters.values())


def _decide_cluster(cluster: Sequence[Member]) -> dict[str, Decision]:
    primaries = [member for member in cluster if not member.in_recovery]
    standbys = [member for member in cluster if member.in_recovery]
    if not primaries:
        return _all(standbys, _only_standbys(standbys))
    if cluster[0].system and len({member.started for member in primaries}) > 1:
        return _all(cluster, _split(primaries, cluster[0].system))
    if not cluster[0].system and len({member.started for member in primaries}) > 1:
        return {**_share(primaries, ()), **{member.host: _replays_somebody(member, primaries) for member in standbys}}
    acting = _share(primaries, standbys)
    names = tuple(host for host, decision in acting.items() if decision.acts_on)
    return {**acting, **{member.host: _replays(member, names) for member in standbys}}


def _share(primaries: Sequence[Member], standbys: Sequence[Member]) -> dict[str, Decision]:
    """Give each database of a server to the first host that names it."""
    decisions: dict[str, Decision] = {}
    takers: dict[tuple[str, str], str] = {}
    for member in primaries:
        taken = {name: takers[member.started, name] for name in member.databases if (member.started, name) in takers}
        left = tuple(name for name in dict.fromkeys(member.databases) if name not in taken)
        takers.update({(member.started, name): member.host for name in left})
        decisions[member.host] = Decision(_acts(member, taken, left, standbys), acts_on=left)
    return decisions


# --- sentences -------------------------------------------------------------------------------------------------------


def _acts(member: Member, taken: Mapping[str, str], left: Sequence[str], standbys: Sequence[Member]) -> str:
    if not taken:
        of = f"the primary of {_listed(standbys)}" if standbys else "a primary"
        return f"{member.host} is {of}; the run acts here."
    places: dict[str, list[str]] = {}
    for name, host in taken.items():
        places.setdefault(host, []).append(name)
    others = " and ".join(f"{host}, where the run acts on {' and '.join(names)}" for host, names in places.items())
    rest = f"here it acts on {' and '.join(left)}" if left else "nothing to do here"
    return f"{member.host} is the same server as {others}; {rest}."


def _replays(member: Member, acting: Sequence[str]) -> Decision:
    sentence = f"{member.host} is a standby of {' or '.join(acting)}; nothing to do here."
    return Decision(sentence, standby_of=tuple(acting))


def _replays_somebody(member: Member, primaries: Sequence[Member]) -> Decision:
    return Decision(
        f"{member.host} is a standby; nothing to do here. Nobody waits for it, because the servers do not tell this "
        f"user whose it is: of {_listed(primaries)}."
    )


def _without(member: Member, limit: str) -> Decision:
    # Ansible takes a colon for a part of the name as soon as there is a comma.
    separator = "," if "," in limit else ":"
    return Decision(
        f"{member.problem.rstrip()} Nothing was done on any host. "
        f"If {member.host} is out of service, leave it out: -l '{limit}{separator}!{member.host}'.",
        refused=True,
    )


def _only_standbys(standbys: Sequence[Member]) -> str:
    are, their, replay = "are standbys", "their", "they replay"
    if len(standbys) == 1:
        are, their, replay = "is a standby", "its", "it replays"
    sources = dict.fromkeys(member.upstream for member in standbys if member.upstream)
    known = f" ({replay} from {' and '.join(sources)})" if sources else ""
    return (
        f"{_listed(standbys)} {are}, and {their} primary is no host of this run: only the primary accepts changes. "
        f"Nothing was done on any host. Add the primary to the run{known}, or promote a standby."
    )


def _split(primaries: Sequence[Member], system: str) -> str:
    return (
        f"{_listed(primaries)} are primaries of one cluster, and no more than one can be right (system identifier "
        f"{system}): a standby was promoted while its primary went on. Nothing was done on any host. Find out which of "
        "them the application uses, and stop the others or make them standbys again. If they are copies that go their "
        f"own ways, run them one by one: -l {primaries[0].host}."
    )


def _all(members: Sequence[Member], refusal: str) -> dict[str, Decision]:
    return {member.host: Decision(refusal, refused=True) for member in members}


def _listed(members: Sequence[Member]) -> str:
    return " and ".join(member.host for member in members)
