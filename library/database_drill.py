#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: prove a backup set by restoring it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_drill
short_description: Prove a backup set of a PostgreSQL database by restoring it
version_added: "0.2.0"
description:
  - Restores a backup set where nobody depends on it, compares the result with the set's manifest, and marks the set as
    verified, with evidence.
  - For a server in a container that is a scratch server, a container of the same image without a network. Otherwise it
    is a scratch database on the same server. The live database is never touched, and its run lock not held.
  - What was restored is removed in any case; what a drill that was killed has left, the next one removes.
author: Schema Runbook contributors
extends_documentation_fragment: [login, client, place]
attributes:
  check_mode:
    support: full
    description: Says which set would be restored.
  diff_mode:
    support: none
  idempotent:
    support: none
    description: Each run is a proof of its own.
requirements:
  - psycopg >= 3.1 on the host that runs the module
options:
  maintenance_db:
    description: Database in which the lock of drills is held.
    type: str
    default: postgres
  backup:
    description:
      - V(newest) is the newest sealed set, V(latest) the newest verified one if there is one.
      - Otherwise a set's name, a time in UTC, or the path of a set.
    type: str
    default: newest
  decrypt_with:
    description: File with the secret key for encrypted sets, on the host that runs the module.
    type: path
    default: ""
  jobs:
    description: Number of processes that restore. An encrypted set is one stream.
    type: int
    default: 2
  smoke_sql:
    description: Questions that the restored database has to answer with true.
    type: list
    elements: str
    default: []
  run_lock_wait:
    description: How long to wait for another drill.
    type: str
    default: 10s
"""

EXAMPLES = r"""
- name: Prove the newest backup
  database_drill:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: success, not in check mode
set:
  description: Name of the set that is proven.
  type: str
  returned: success
evidence:
  description: What was found; also in C(verified.json) of the set.
  type: dict
  returned: success, not in check mode
recovery_seconds:
  description: How long a restore takes (RTO), measured from the beginning until it is verified.
  type: float
  returned: success, not in check mode
loss_seconds:
  description: Age of the set when the drill began, which is what a restore would lose (RPO).
  type: int
  returned: success, not in check mode
code:
  description: Stable name of the error.
  type: str
  returned: failure
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.drill import DRILL_ARGUMENTS, run
from ansible.module_utils.runbook.errors import RunbookError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=DRILL_ARGUMENTS, supports_check_mode=True)
    os.umask(0o077)  # a set that is fetched is for nobody else
    try:
        result = run(Login.from_params(module.params), module.params, module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
