# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters for runs over several hosts of a cluster."""

from __future__ import annotations

DOCUMENTATION = """
name: where_to_act
short_description: Say on which hosts a run acts
version_added: "0.2.0"
author: Schema Runbook contributors
description:
  - Decides for every host of the run whether the run acts on it, from what the servers say about themselves.
options:
  _input:
    description: One result of the module C(server_info) per host, by inventory name and in the order of the play.
    type: dict
    required: true
  limit:
    description: What C(--limit) said, for the command that leaves a host out.
    type: str
    default: all
"""

EXAMPLES = """
- name: Decide where to act
  ansible.builtin.set_fact:
    db_cluster: "{{ (servers | where_to_act)[inventory_hostname] }}"
"""

RETURN = """
_value:
  description:
    - A dictionary per host with C(sentence) (what the run does there, or why it is refused), C(refused) (whether
      nothing may be done on any host), C(acts_on) (the databases the run works on there) and C(standby_of) (the hosts
      whose changes it replays).
  type: dict
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import ansible.module_utils
from ansible import constants

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(constants.DEFAULT_MODULE_UTILS_PATH)

# Imported by the filters themselves: ansible-core loads every filter file again in the process of almost every task.


def where_to_act(servers: Mapping[str, Mapping[str, Any]], limit: str = "all") -> dict[str, dict[str, Any]]:
    """Return the decision about each host."""
    from ansible.module_utils.runbook import cluster

    members = [cluster.Member.from_result(host, result) for host, result in servers.items()]
    return {host: asdict(decision) for host, decision in cluster.decide(members, limit).items()}


def wal_position(runs: Iterable[Mapping[str, Any]]) -> str:
    """Return the WAL position that covers what several loops over ``schema_migration`` changed; empty for nothing."""
    from ansible.module_utils.runbook import wal

    return str(wal.newest(result.get("wal_lsn") for run in runs for result in run.get("results", ())))


def recorded_versions(runs: Iterable[Mapping[str, Any]]) -> dict[str, int | None]:
    """Return the version of each database that loops over ``schema_migration`` changed."""
    results = [result for run in runs for result in run.get("results", ()) if result.get("wal_lsn")]
    return {result["database"]: result["version"] for result in results}


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"where_to_act": where_to_act, "wal_position": wal_position, "recorded_versions": recorded_versions}
