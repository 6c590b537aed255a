#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: bring a database's schema to a version. Its action plugin reads the files and makes the plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_migration
short_description: Bring a PostgreSQL schema to a version, through versioned SQL files
version_added: "0.1.0"
description:
  - Compares the SQL files of a folder on the controller with the ledger O(schema).schema_version in the database,
    and applies what is pending, in order, once.
  - Each file runs in one transaction together with its ledger row. Files with a statement that PostgreSQL refuses
    in a transaction run statement by statement with durable progress. A run that was killed goes on where it stopped.
  - One run at a time works on a database; a second one waits O(run_lock_wait) and is then refused.
  - Files are data. They are never templated, they travel in one piece and leave nothing on the host.
author: Schema Runbook contributors
extends_documentation_fragment: login
attributes:
  check_mode:
    support: full
    description: Reads the ledger in a read-only transaction and predicts what a real run would do.
  diff_mode:
    support: full
    description: Shows the versions before and after, and the SQL that is to run, with passwords blanked.
  idempotent:
    support: full
    description: With nothing pending, nothing is written and no lock is taken.
requirements:
  - psycopg >= 3.1 on the host that runs the module
options:
  maintenance_db:
    description: Database in which the run lock is held. It must not be one that is renamed or dropped.
    type: str
    default: postgres
  schema:
    description: Schema that holds the ledger.
    type: str
    default: cm
  directory:
    description: Folder with the migrations, on the controller; files named C(NNN_description.sql).
    type: path
    required: true
  rollback_directory:
    description: Folder with the rollback scripts, on the controller; files named as the migrations they undo.
    type: path
    default: ""
  version:
    description:
      - Version to end at, a number or V(latest).
      - With O(allow_rollback=true), a number below every version rolls everything back.
    type: str
    default: latest
  state:
    description:
      - V(present) applies files.
      - V(baseline) marks an existing database as being at O(version) and runs nothing.
    type: str
    default: present
    choices: [present, baseline]
  repair:
    description: Accept edited and renamed files, by writing their present checksum and name to the ledger.
    type: bool
    default: false
  allow_apply:
    description: Allow going up.
    type: bool
    default: true
  allow_rollback:
    description: Allow going down, through the scripts in O(rollback_directory).
    type: bool
    default: false
  confirmation:
    description: Name of the database, as whoever started the run typed it; with another name nothing is done.
    type: str
  require_primary:
    description:
      - Fail on servers that accept no changes.
      - V(false) is for looking, in check mode; on a standby, too.
    type: bool
    default: true
  allow_missing:
    description: Tolerate versions in the ledger that have no file.
    type: bool
    default: false
  allow_out_of_order:
    description: Allow applying a file whose number is below the database's version.
    type: bool
    default: false
  transaction:
    description:
      - V(each) gives each file a transaction.
      - V(all) puts every run of consecutive transactional files into one.
    type: str
    default: each
    choices: [each, all]
  run_lock_wait:
    description: How long to wait for another run on the same database.
    type: str
    default: 10s
  lock_timeout:
    description: Lock timeout of the first attempt of a file. It is also the longest the application can be held up.
    type: str
    default: 500ms
  lock_timeout_max:
    description: Lock timeout that later attempts grow to.
    type: str
    default: 2s
  lock_budget:
    description: How long to go on trying when locks are not to be had.
    type: str
    default: 40min
  statement_timeout:
    description: Time limit of each statement of a transactional file; V(0) is none.
    type: str
    default: "0"
  concurrent_timeout:
    description: Time limit of statements that run outside a transaction, such as CREATE INDEX CONCURRENTLY.
    type: str
    default: 4h
  show_blocking_queries:
    description: Report the query text of sessions that were in the way. It may hold personal data.
    type: bool
    default: false
  backup_set:
    description: Name of the backup set that is behind this run; a failure says how to restore it.
    type: str
    default: ""
  expected:
    description:
      - The checksums of the migrations that may be applied or rolled back, by version, as an earlier plan has them.
      - A plan with any other one is refused. Without this everything is allowed.
    type: dict
  notes:
    description: What to keep in the C(detail) of their entries in C(schema_version_history), by version.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Bring the schema to the newest version
  schema_migration:
    login_host: 127.0.0.1
    directory: db/init

- name: See what would happen
  schema_migration:
    login_host: 127.0.0.1
    directory: db/init
  check_mode: true
  diff: true

- name: Go back to version 3
  schema_migration:
    login_host: 127.0.0.1
    directory: db/init
    rollback_directory: db/rollback
    version: 3
    allow_rollback: true

- name: Put an existing database under the runbook's care
  schema_migration:
    login_host: 127.0.0.1
    directory: db/init
    state: baseline
    version: 3
"""

RETURN = r"""
previous_version:
  description: Highest version in the ledger before; V(null) when nothing was applied.
  type: int
  returned: when the database could be read
version:
  description: Highest version in the ledger now, or as predicted in check mode.
  type: int
  returned: when the database could be read
database:
  description: Name of the database.
  type: str
  returned: always
schema:
  description: Schema that holds the ledger.
  type: str
  returned: always
server_version:
  description: The server's version as a number, such as 180006.
  type: int
  returned: when the database could be read
wal_lsn:
  description:
    - Position in the write-ahead log that a standby has replayed when it has the change, for the module
      C(standby_replay); V(null) when nothing was changed.
  type: str
  returned: when the plan was carried out
  sample: 0/16B3748
has_changes:
  description: Whether there is anything to do; also said in check mode.
  type: bool
  returned: when the plan could be made
pending:
  description: Names of the files that are to be applied.
  type: list
  elements: str
  returned: when the plan could be made
applied:
  description: Files that were applied, in order; in check mode none.
  type: list
  elements: dict
  returned: when the plan could be made
  contains: &file
    version:
      description: Number of the migration.
      type: int
    name:
      description: Name of the file.
      type: str
    description:
      description: The words of the file name.
      type: str
    checksum:
      description: SHA-256 of the content, blind to line endings and a byte order mark.
      type: str
    milliseconds:
      description: Duration.
      type: int
    statements:
      description: Number of statements.
      type: int
    transaction:
      description: Whether the file ran in one transaction.
      type: bool
    retries:
      description: Attempts that failed on a lock.
      type: int
    lock_waits:
      description: What each of those attempts saw; how long it waited, and for whom.
      type: list
      elements: dict
    resumed_after:
      description: Statement after which an interrupted file was taken up again.
      type: int
rolled_back:
  description: Files that were rolled back, in order.
  type: list
  elements: dict
  returned: when the plan could be made
  contains: *file
adopted:
  description: Migrations the ledger knew without a checksum, now recorded with it.
  type: list
  elements: dict
  returned: when the plan could be made
baselined:
  description: Migrations marked as applied without having been run.
  type: list
  elements: dict
  returned: when the plan could be made
repaired:
  description: Migrations whose name or checksum was re-aligned.
  type: list
  elements: dict
  returned: when the plan could be made
code:
  description: Stable name of the error, such as V(edited) or V(lock-timeout).
  type: str
  returned: failure
file:
  description: File the error is about.
  type: str
  returned: failure, when known
line:
  description: Line in that file.
  type: int
  returned: failure, when known
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.application import apply_bundle
from ansible.module_utils.runbook.arguments import MIGRATION_ARGUMENTS
from ansible.module_utils.runbook.connection import Login

# Filled in by the action plugin only.
INTERNAL = {"_bundle": {"type": "path"}, "_requested_by": {"type": "str", "default": ""}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**MIGRATION_ARGUMENTS, **INTERNAL})
    params = module.params
    if not params["_bundle"]:
        module.fail_json(
            msg="schema_migration works through its action plugin, which was not found. "
            "Run ansible-playbook in the project's folder, where ansible.cfg names plugins/action.",
            code="no-action-plugin",
        )
    with open(params["_bundle"], "rb") as bundle:
        # From here on a killed run leaves nothing behind, if the account may remove what another one has brought.
        with contextlib.suppress(PermissionError):
            os.unlink(params["_bundle"])
        report = apply_bundle(bundle, Login.from_params(params), params, params["_requested_by"])
    result = {**report.outcome.as_result(), "changed": report.outcome.changed, "stale": report.stale}
    if report.error is not None:
        module.fail_json(msg=report.error.message, code=report.error.code, **{**report.error.details, **result})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
