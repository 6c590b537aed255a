#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what there is to restore a database from."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_info
short_description: List the backup sets of a PostgreSQL database, and what restores have left
version_added: "0.2.0"
description:
  - Reads the names and evidence of the sealed sets on the host, and the journals of kept databases on the server.
author: Schema Runbook contributors
extends_documentation_fragment: [login, place]
attributes:
  check_mode:
    support: full
    description: Only reads.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  idempotent:
    support: full
    description: Only reads.
requirements:
  - psycopg >= 3.1 on the host that runs the module
options:
  maintenance_db:
    description: Database to log in to.
    type: str
    default: postgres
"""

EXAMPLES = r"""
- name: See what there is to restore from
  backup_info:
    login_host: 127.0.0.1
    directory: /var/backups/schema-runbook
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: success
sets:
  description: Names of the sealed sets on the host, oldest first.
  type: list
  elements: str
  returned: success
newest:
  description: The newest sealed set; none when there is none.
  type: dict
  returned: success
  contains: &set
    set:
      description: Its name.
      type: str
    state:
      description: V(sealed) or V(verified).
      type: str
    age_seconds:
      description: Its age.
      type: int
    bytes:
      description: Its size.
      type: int
    verified_at:
      description: When a restore has proven it, in UTC.
      type: str
    recovery_seconds:
      description: How long that took.
      type: float
verified:
  description: The newest verified set; none when there is none.
  type: dict
  returned: success
  contains: *set
kept:
  description: Former databases that restores have put aside.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Its name now.
      type: str
    since:
      description: When it was put aside.
      type: str
    until:
      description: Until when it is kept.
      type: str
unfinished:
  description: Databases that restores and drills work on, or that a run which died has left.
  type: list
  elements: str
  returned: success
trials:
  description: Databases in which migrations are tried out, or that such a run which died has left.
  type: list
  elements: str
  returned: success
problem:
  description: Why RV(kept), RV(unfinished) and RV(trials) are not known; empty when they are.
  type: str
  returned: success
code:
  description: Stable name of the error.
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.backup_info import INFO_ARGUMENTS, look
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    try:
        result = look(Login.from_params(module.params), module.params)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read: {error.strerror}.", code="file")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
