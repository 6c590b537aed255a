#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: ask a server who it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: server_info
short_description: Read which PostgreSQL server this is, and of which cluster
version_added: "0.2.0"
description:
  - Reads what tells servers apart and what joins them to a cluster of a primary and its standbys.
  - Works on primaries and standbys, for any user, and changes nothing.
author: Schema Runbook contributors
extends_documentation_fragment: login
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same in check mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
requirements:
  - psycopg >= 3.1 on the host that runs the module
options:
  databases:
    description: What the caller wants to work on there. It is returned as it is, so that a result says it all.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Ask the server of each host who it is
  server_info:
    login_host: 127.0.0.1
    databases: [cm]
  register: server

- name: Say which are standbys
  ansible.builtin.debug:
    msg: This is a standby.
  when: server.in_recovery
"""

RETURN = r"""
system_identifier:
  description: The same on all servers of a cluster; empty where the server keeps it to itself.
  type: str
  returned: success
  sample: "7711050151953512922"
started_at:
  description: When the server was started (UTC), to the microsecond. Tells the servers of a cluster apart.
  type: str
  returned: success
  sample: "2026-11-22 14:15:30.428658+00"
in_recovery:
  description: Whether the server is a standby.
  type: bool
  returned: success
upstream:
  description: Where a standby replays from; empty on a primary, and for users without C(pg_read_all_stats).
  type: str
  returned: success
  sample: 10.0.0.5:5432
databases:
  description: The value of O(databases).
  type: list
  elements: str
  returned: success
server_version:
  description: The server's version as a number, such as 180006.
  type: int
  returned: success
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import SERVER_ARGUMENTS, identify


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SERVER_ARGUMENTS, supports_check_mode=True)
    try:
        result = identify(Login.from_params(module.params), module.params["databases"])
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
