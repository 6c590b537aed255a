#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: prove rollback scripts. Its action plugin reads migrations and scripts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollback_proof
short_description: Prove that rollback scripts lead back, in a scratch database
version_added: "0.6.0"
description:
  - For each version, with all earlier ones applied, runs the migration, its rollback script and the migration again
    in a scratch database on the same server.
  - After the script the database has to be what it was before the migration, and after that what the migration made
    of it first, object by object, with privileges, comments and storage parameters.
  - The live database is left alone. The scratch database is removed in any case; what a run that was killed has left,
    the next one removes.
  - It is empty, so a proof is about the schema. What a script does to rows it does not show.
  - Statements that reach out of the database, such as CREATE ROLE, are left out.
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
  rollback_directory:
    description: Folder with the rollback scripts, on the controller; files named as the migrations they undo.
    type: path
    required: true
  versions:
    description: Versions to prove; all by default.
    type: list
    elements: int
"""

EXAMPLES = r"""
- name: Prove all rollback scripts
  rollback_proof:
    login_host: 127.0.0.1
    directory: db/init
    rollback_directory: db/rollback

- name: Prove two of them
  rollback_proof:
    login_host: 127.0.0.1
    directory: db/init
    rollback_directory: db/rollback
    versions: [5, 6]
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: always
proven:
  description: Migrations whose script is proven.
  type: list
  elements: dict
  returned: when the files could be tried out
  contains:
    version: &version
      description: Number of the migration.
      type: int
    name: &name
      description: Name of the file.
      type: str
    checksum:
      description: SHA-256 of the migration.
      type: str
    rollback_checksum:
      description: SHA-256 of the script.
      type: str
    seconds:
      description: How long it took.
      type: float
unproven:
  description: Migrations whose script is not.
  type: list
  elements: dict
  returned: when the files could be tried out
  contains:
    version: *version
    name: *name
    reason:
      description:
        - C(no-script), C(not-applied) (the migration itself fails), C(script-failed), C(not-undone) (something is left
          or lost), C(not-again) (the migration cannot be applied again), C(not-the-same) (it makes something else) or
          C(out-of-time) (O(timeout) was over first).
      type: str
    text:
      description: What is wrong, object by object.
      type: str
irreversible:
  description: Migrations that declare that no script can undo them.
  type: list
  elements: dict
  returned: when the files could be tried out
  contains:
    version: *version
    name: *name
    reason:
      description: What the file says.
      type: str
notes:
  description: Statements that were left out of the scratch run.
  type: list
  elements: str
  returned: when the files could be tried out
seconds:
  description: How long it took.
  type: float
  returned: when the files could be tried out
code:
  description: Stable name of the error; V(rollback-unproven) when something is not proven.
  type: str
  returned: failure
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.proof import PROOF_ARGUMENTS, Script, prove

# Filled in by the action plugin only.
INTERNAL = {"_bundle": {"type": "path"}, "_scripts": {"type": "dict", "default": {}}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**PROOF_ARGUMENTS, **INTERNAL}, supports_check_mode=True)
    params = module.params
    if not params["_bundle"]:
        module.fail_json(
            msg="rollback_proof works through its action plugin, which was not found. "
            "Run ansible-playbook in the project's folder, where ansible.cfg names plugins/action.",
            code="no-action-plugin",
        )
    scripts = {int(version): Script(**script) for version, script in params["_scripts"].items()}
    with open(params["_bundle"], "rb") as bundle:
        # From here on a killed run leaves nothing behind, if the account may remove what another one has brought.
        with contextlib.suppress(PermissionError):
            os.unlink(params["_bundle"])
        try:
            verdict = prove(bundle, Login.from_params(params), params, scripts)
        except RunbookError as error:
            module.fail_json(msg=error.message, code=error.code, **error.details)
    module.exit_json(changed=False, **verdict.as_result())


if __name__ == "__main__":
    main()
