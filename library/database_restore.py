#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: one step of an emergency restore."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_restore
short_description: Restore a PostgreSQL database beside the live one, swap, undo
version_added: "0.2.0"
description:
  - Restores a backup set into a database of its own, verifies it, and exchanges it for the live one in one transaction.
    The former database is kept, closed, and comes back with V(undone).
  - The steps are states, so that services can be stopped and started between them. Each holds the run lock, takes back
    what a run that was killed has left half done, and can be repeated.
  - How far a restore has come is noted as a comment on the databases themselves.
author: Schema Runbook contributors
extends_documentation_fragment: [login, client, place]
attributes:
  check_mode:
    support: full
    description: Is the preflight. Looks at set, server and live database, and says everything that would be in the way.
  diff_mode:
    support: none
  idempotent:
    support: partial
    description: A step that was done already is not done again before V(confirmed).
requirements:
  - psycopg >= 3.1 on the host that runs the module
options:
  state:
    description:
      - V(prepared) restores O(backup) beside the live database and verifies it.
      - V(swapped) has it take the live database's place.
      - V(confirmed) notes that all is well, so that the next restore is a new one.
      - V(reversed) brings the kept database back if the swap was not V(confirmed), for a run that failed.
      - V(undone) brings the kept database back.
      - V(dropped) removes kept databases whose time is over, or O(kept).
    type: str
    default: prepared
    choices: [prepared, swapped, confirmed, reversed, undone, dropped]
  maintenance_db:
    description: Database in which the run lock is held and from which the others are renamed.
    type: str
    default: postgres
  backup:
    description:
      - V(latest) is the newest verified set, or the newest sealed one when none is verified.
      - V(newest) is the newest sealed set, verified or not.
      - Otherwise a set's name, a time in UTC (the newest set of that time or before), or the path of a set or of a
        plain file of SQL on the host that runs the module.
    type: str
    default: latest
  backup_database:
    description: Database whose sets are meant, when it is another one than O(login_db).
    type: str
    default: ""
  confirmation:
    description: Name of the database, as whoever started the run typed it; with another name nothing is done.
    type: str
  decrypt_with:
    description: File with the secret key for encrypted sets, on the host that runs the module.
    type: path
    default: ""
  jobs:
    description: Number of processes that restore. An encrypted set is one stream.
    type: int
    default: 2
  create_roles:
    description: Create roles that the server lacks, from the set. Roles that are there are left alone.
    type: bool
    default: false
  locale:
    description: V(exact) takes the set's locale, V(server) the server's own.
    type: str
    default: exact
    choices: [exact, server]
  slots:
    description:
      - What to do when logical replication slots belong to the live database.
      - V(leave) accepts that they stay with it.
    type: str
    default: refuse
    choices: [refuse, leave]
  smoke_sql:
    description: Questions that the restored database has to answer with true.
    type: list
    elements: str
    default: []
  keep:
    description: For how long the former database is kept. Nothing removes it then but V(dropped).
    type: str
    default: 7d
  kept:
    description: Name of a kept database to drop before its time.
    type: str
    default: ""
  run_lock_wait:
    description: How long to wait for another run on the same database.
    type: str
    default: 10s
  swap_timeout:
    description: How long to try to get everybody out of the live database; then it is opened again.
    type: str
    default: 20s
"""

EXAMPLES = r"""
- name: Restore the newest proven set beside the live database
  database_restore:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook

- name: Put it in the place of the live one
  database_restore:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook
    state: swapped

- name: Go back
  database_restore:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook
    state: undone
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: success
set:
  description: What was restored, or which kept database came back.
  type: str
  returned: success
phase:
  description: How far the restore is, V(verified) or V(swapped).
  type: str
  returned: when prepared or swapped
side:
  description: Name of the database that was restored into.
  type: str
  returned: when prepared
live:
  description: Whether there is a live database that would be replaced.
  type: bool
  returned: when prepared
kept:
  description: Name of the former database now.
  type: str
  returned: when swapped, confirmed, reversed or undone
dropped:
  description: Names of the databases that were dropped, or would be.
  type: list
  elements: str
  returned: when dropped
downtime_ms:
  description: For how long nobody could write, in milliseconds.
  type: int
  returned: when swapped or undone
sessions_ended:
  description: Number of sessions that had to be ended.
  type: int
  returned: when swapped or undone
phases:
  description: Duration of each phase, in seconds.
  type: dict
  returned: when prepared
seconds:
  description: Duration of the step.
  type: float
  returned: success
evidence:
  description: What verifying found.
  type: dict
  returned: when prepared
notes:
  description: What is worth knowing and keeps nobody from restoring.
  type: list
  elements: str
  returned: when prepared
problems:
  description: Everything that is in the way.
  type: list
  elements: str
  returned: when the preflight or the verification failed
code:
  description: Stable name of the error.
  type: str
  returned: failure
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.restoration import RESTORE_ARGUMENTS, run


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=RESTORE_ARGUMENTS, supports_check_mode=True)
    os.umask(0o077)  # a set that is fetched is for nobody else
    try:
        result = run(Login.from_params(module.params), module.params, module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
