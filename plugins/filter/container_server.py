# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of role ``db`` for the runtime ``docker``."""

from __future__ import annotations

DOCUMENTATION = """
name: container_server
short_description: Say which server a container holds and how it is reached
version_added: "0.1.0"
author: Schema Runbook contributors
description:
  - Reads what M(community.docker.docker_container_info) says about a container that the filter C(container_problem) has
    nothing against.
options:
  _input:
    description: The container, as the engine describes it.
    type: dict
    required: true
  files:
    description:
      - The results of M(ansible.builtin.slurp) for the files that the filter C(container_name_files) lists.
    type: list
    elements: dict
    default: []
  password_file:
    description: A file with the password that is used instead of the container's.
    type: str
    default: ""
  passfile:
    description: The same in libpq's format.
    type: str
    default: ""
"""

EXAMPLES = """
- name: Provide the server to the other roles
  ansible.builtin.set_fact:
    db_server: "{{ inspected.container | container_server }}"
  no_log: true
"""

RETURN = """
_value:
  description:
    - C(host), C(port), C(socket_dir), C(user), C(database), C(password), C(password_file), C(passfile), and for client
      programs C(container), C(image) and C(inner_port).
  type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import ansible.module_utils
from ansible import constants

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(constants.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook import container


def container_server(
    inspected: Mapping[str, Any], files: Sequence[Mapping[str, Any]] = (), password_file: str = "", passfile: str = ""
) -> dict[str, Any]:
    """Return the server in a container."""
    return asdict(container.server(inspected, files).with_files(password_file, passfile))


class FilterModule:
    """Makes the filters known to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "container_engine_problem": container.engine_problem,
            "container_problem": container.problem,
            "container_names_problem": container.names_problem,
            "container_is_own": container.is_own,
            "container_start_problem": container.start_problem,
            "container_stop_problem": container.stop_problem,
            "container_name_files": container.name_files,
            "container_server": container_server,
        }
