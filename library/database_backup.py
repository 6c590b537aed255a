#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: have a sealed backup set of a database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_backup
short_description: Have a sealed backup set of a PostgreSQL database
version_added: "0.2.0"
description:
  - Takes a backup of one database as a set, a folder that describes itself and can be restored with PostgreSQL's own
    programs. The set counts only when it is whole, checksummed, on the disk, and its off-site copy was read back.
  - Then removes the sets that the retention policy does not keep, never the newest one, nor the newest verified one.
  - One run at a time works on a database; a second one waits O(run_lock_wait) and is then refused.
author: Schema Runbook contributors
extends_documentation_fragment: [login, client, place]
attributes:
  check_mode:
    support: full
    description: Looks whether a set would be taken, whether there is room for it, and which sets would go.
  diff_mode:
    support: full
    description: Shows the names of the sets before and after.
  idempotent:
    support: partial
    description: With O(max_age), as long as there is a set that is young enough. Otherwise each run takes one.
requirements:
  - psycopg >= 3.1 on the host that runs the module
  - age for O(encrypt_to), rclone for O(offsite), on that host, too
options:
  maintenance_db:
    description: Database in which the run lock is held.
    type: str
    default: postgres
  schema:
    description: Schema that holds the ledger, from which the set has its version.
    type: str
    default: cm
  max_age:
    description:
      - Be content with a sealed set that is younger than this and has the schema version that the database has now.
      - V(0) takes one in any case.
    type: str
    default: "0"
  jobs:
    description: Number of processes that dump. An encrypted set is one stream.
    type: int
    default: 2
  compression:
    description: V(auto) is V(zstd) where the server's client programs have it, otherwise V(gzip).
    type: str
    default: auto
    choices: [auto, zstd, gzip, none]
  run_lock_wait:
    description: How long to wait for another run on the same database.
    type: str
    default: 10s
  lock_wait:
    description: How long to wait for a table that somebody has locked.
    type: str
    default: 1min
  encrypt_to:
    description: Public keys to encrypt for, as age writes them. Without any the set is not encrypted.
    type: list
    elements: str
    default: []
  offsite_prune:
    description: Remove the off-site copies of sets that are removed here.
    type: bool
    default: true
  keep_last:
    description: Keep this many of the newest sets.
    type: int
    default: 7
  keep_daily:
    description: Keep the newest set of each of so many days.
    type: int
    default: 7
  keep_weekly:
    description: Keep the newest set of each of so many weeks.
    type: int
    default: 4
  keep_monthly:
    description: Keep the newest set of each of so many months.
    type: int
    default: 6
  keep_min_age:
    description: Keep every set that is younger than this.
    type: str
    default: 1d
"""

EXAMPLES = r"""
- name: Take a backup
  database_backup:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook

- name: Have one that is not older than an hour
  database_backup:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook
    max_age: 1h
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: success
set:
  description: Name of the set that was taken, or that is young enough.
  type: str
  returned: success, not in check mode
  sample: 20261122T143000Z_v4
folder:
  description: Its folder.
  type: str
  returned: success, not in check mode
state:
  description: V(sealed), or V(verified) when a restore has proven it.
  type: str
  returned: success, not in check mode
schema_version:
  description: Highest version in the ledger; 0 when there is none.
  type: int
  returned: success
taken_at:
  description: Time of the snapshot, in UTC.
  type: str
  returned: success, not in check mode
age_seconds:
  description: Age of the set.
  type: int
  returned: success, not in check mode
bytes:
  description: Size of the dump.
  type: int
  returned: when a set was taken
rows:
  description: Number of rows in all tables.
  type: int
  returned: when a set was taken
encrypted:
  description: Whether the set is encrypted.
  type: bool
  returned: when a set was taken
offsite:
  description: Where the copy is; empty without one.
  type: str
  returned: when a set was taken
seconds:
  description: Duration of each phase, and of all of it as V(total).
  type: dict
  returned: when a set was taken
removed:
  description: Names of the sets that were removed, or would be.
  type: list
  elements: str
  returned: success
kept:
  description: Number of sealed sets there are now.
  type: int
  returned: when a set was taken
code:
  description: Stable name of the error.
  type: str
  returned: failure
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.backup import BACKUP_ARGUMENTS, take
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=BACKUP_ARGUMENTS, supports_check_mode=True)
    os.umask(0o077)  # what is in a set is for nobody else
    try:
        result = take(Login.from_params(module.params), module.params, module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
