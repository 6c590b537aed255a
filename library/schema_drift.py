#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: look for drift. Its action plugin reads the ledger and brings the files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_drift
short_description: Say in what a PostgreSQL database differs from what its applied migrations make
version_added: "0.6.0"
description:
  - Runs the migrations that the ledger names in a scratch database on the same server, and compares the two databases
    object by object.
  - The live database is only read, in one read-only transaction. The scratch database is removed in any case; what a
    run that was killed has left, the next one removes.
  - Whether a database has drifted cannot be known when an applied file is missing or has changed, or when O(timeout)
    is over first. That is said, and is no failure.
  - Statements of the files that reach out of the database, such as CREATE ROLE, are left out of the scratch run.
author: Schema Runbook contributors
extends_documentation_fragment: [login, scratch]
attributes:
  check_mode:
    support: full
    description: Does the same in check mode.
  diff_mode:
    support: N/A
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
requirements:
  - psycopg >= 3.1 on the host that runs the module
  - CREATEDB for the user
options:
  ignore:
    description:
      - Objects that may differ, as glob patterns of their names in RV(differences), such as C(table cm.events_p*).
      - What is part of such an object may differ as well.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Look for drift
  schema_drift:
    login_host: 127.0.0.1
    directory: db/init
    ignore:
      - table cm.events_p*
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: always
known:
  description: Whether it could be found out.
  type: bool
  returned: success
drifted:
  description: Whether the database has drifted; V(null) when that cannot be known.
  type: bool
  returned: success
differences:
  description: The objects that differ.
  type: list
  elements: dict
  returned: success
  contains:
    object:
      description: What it is.
      type: str
      sample: table cm.audit_log
    kind:
      description: C(missing) in the database, C(extra) there, or C(changed).
      type: str
    note:
      description: Whether only the order of columns differs, which is no drift.
      type: bool
    changes:
      description: The properties that differ, each with what the files make (C(expected)) and what there is (C(found)).
      type: list
      elements: dict
    definition:
      description: What it is, when it is missing or extra.
      type: str
    includes:
      description: Further objects that differ with this one.
      type: list
      elements: str
text:
  description: The differences for people; empty for none.
  type: str
  returned: success
notes:
  description: Why it cannot be known, or which statements were left out of the scratch run.
  type: list
  elements: str
  returned: success
seconds:
  description: How long it took.
  type: float
  returned: success
code:
  description: Stable name of the error, such as V(scratch) when the user may not create databases.
  type: str
  returned: failure
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.drift import DRIFT_ARGUMENTS, Stale, look
from ansible.module_utils.runbook.errors import RunbookError

# Filled in by the action plugin only.
INTERNAL = {"_bundle": {"type": "path"}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**DRIFT_ARGUMENTS, **INTERNAL}, supports_check_mode=True)
    params = module.params
    if not params["_bundle"]:
        module.fail_json(
            msg="schema_drift works through its action plugin, which was not found. "
            "Run ansible-playbook in the project's folder, where ansible.cfg names plugins/action.",
            code="no-action-plugin",
        )
    with open(params["_bundle"], "rb") as bundle:
        # From here on a killed run leaves nothing behind, if the account may remove what another one has brought.
        with contextlib.suppress(PermissionError):
            os.unlink(params["_bundle"])
        try:
            result = look(bundle, Login.from_params(params), params)
        except Stale:
            result = {"stale": True}
        except RunbookError as error:
            module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
