#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: read the ledger of a database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_info
short_description: Read which migrations a PostgreSQL database has
version_added: "0.1.0"
description:
  - Reads the ledger O(schema).schema_version, and whether a migration was interrupted.
  - Everything is read in one read-only transaction; nothing is created.
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
  schema:
    description: Schema that holds the ledger.
    type: str
    default: cm
  limit:
    description:
      - Leave RV(ledger) out when it has more migrations than this; V(0) is no limit.
      - RV(version), RV(count) and RV(digest) say enough for many questions, and cost the same for 4 and for 10,000.
    type: int
    default: 0
  require_primary:
    description: Fail on servers that accept no changes, and behind connection poolers in transaction mode.
    type: bool
    default: false
  tables:
    description: Also return RV(tables) and RV(identity).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Read the version of the staging database
  schema_info:
    login_host: 127.0.0.1
    login_db: cm
  register: schema

- name: Show it
  ansible.builtin.debug:
    var: schema.version
"""

RETURN = r"""
version:
  description: Highest version in the ledger; V(null) when nothing is applied.
  type: int
  returned: success
count:
  description: Number of migrations in the ledger.
  type: int
  returned: success
digest:
  description: SHA-256 over version, checksum and file name of all migrations; equal digests mean equal ledgers.
  type: str
  returned: success
interrupted:
  description: Whether a file that runs outside a transaction was begun and not finished.
  type: bool
  returned: success
ledger:
  description:
    - The ledger itself. RV(ledger.rows) lists version, description, time of application (UTC), file name and checksum
      of each migration; RV(ledger.progress) describes a file that was interrupted.
  type: dict
  returned: within O(limit)
server_version:
  description: The server's version as a number, such as 180006.
  type: int
  returned: success
in_recovery:
  description: Whether the server is a standby.
  type: bool
  returned: success
database:
  description: The database's name, as O(login_db) gives it.
  type: str
  returned: success
tables:
  description:
    - The C(bytes) and the estimated C(rows) of each table and materialized view, by C(schema.table). V(0) rows is no
      estimate; one that has some and was never analysed has V(null).
    - When somebody has a table locked, the bytes are estimates. One that cannot be read, or not in time, is taken to
      have rows unless its file is empty.
    - A partitioned table has those of its partitions. The ledger is left out.
  type: dict
  returned: if O(tables)
how:
  description: Last event of each version in the history, such as C(applied), C(adopted) or C(repaired).
  type: dict
  returned: if O(tables)
now:
  description: The time by the server's clock, RFC 3339 in UTC.
  type: str
  returned: if O(tables)
identity:
  description:
    - What tells this database from every other one, in whatever cluster; behind C(@) when its server was started, which
      tells a physical copy from its original.
  type: str
  returned: if O(tables)
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import INFO_ARGUMENTS, inspect


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=INFO_ARGUMENTS, supports_check_mode=True)
    params = module.params
    try:
        result = inspect(
            Login.from_params(params), params["schema"], params["limit"], params["require_primary"], params["tables"]
        )
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
