#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: wait until a standby has what its primary committed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_replay
short_description: Wait until a PostgreSQL standby has replayed a change
version_added: "0.2.0"
description:
  - Asks a standby how far it is in its primary's write-ahead log, until it has come to O(lsn) or time is up.
  - Works for any user and changes nothing.
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
  lsn:
    description: Position to wait for, C(wal_lsn) in the result of C(schema_migration) on the primary.
    type: str
    required: true
  lag:
    description: How long it may take. V(0) takes one look, says what is missing and does not mind.
    type: str
    default: 5min
  schema:
    description: Schema that holds the ledger.
    type: str
    default: cm
  versions:
    description: The version that the ledger of each database has to have then, by the database's name.
    type: dict
    default: {}
  standby:
    description: Name of the host, for messages.
    type: str
    required: true
  primary:
    description: Name of the host whose changes are replayed, for messages.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Wait until the standby has it, too
  standby_replay:
    login_host: 127.0.0.1
    lsn: 0/16B3748
    standby: cm-db2
    primary: cm-db1
"""

RETURN = r"""
msg:
  description: How it ended.
  type: str
  returned: always
  sample: "cm-db2 has it, too: replayed within 0.1 s."
seconds:
  description: How long it took.
  type: float
  returned: when the standby could be asked
lag_bytes:
  description: How much of the log was missing in the end; V(0) when nothing was.
  type: int
  returned: when the standby could be asked
paused:
  description: Whether somebody has paused the replay.
  type: bool
  returned: when the standby could be asked
receiving:
  description: Whether the standby has a connection to receive the log over.
  type: bool
  returned: when the standby could be asked
code:
  description: Stable name of the error, V(standby-lag), V(standby-promoted), V(standby-diverged) or V(standby-lost).
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.replay import REPLAY_ARGUMENTS, wait


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=REPLAY_ARGUMENTS, supports_check_mode=True)
    try:
        result = wait(Login.from_params(module.params), module.params)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
