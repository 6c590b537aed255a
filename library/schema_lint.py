# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of ``schema_lint``; the action plugin of the same name does the work, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: schema_lint
short_description: Say what is wrong with migrations before they are run
description:
  - Reads migrations and says which of them would hold up the application, lose data, break what runs today or cannot be
    undone, each with file and line, the reason and the safe way to write it.
  - Knows the whole series of files. What a table needs that nobody uses yet is no offence.
  - Runs on the controller, opens no connection and changes nothing but the report it is asked to write.
version_added: "1.0.0"
author:
  - Schema Runbook contributors
options:
  directory:
    description: Folder with the migrations; relative paths start at the project.
    type: path
    required: true
  rollback_directory:
    description: Folder with the rollback scripts. Empty leaves them out.
    type: path
    default: ""
  schema:
    description: Schema where unqualified names are looked for, before C(public).
    type: str
    default: cm
  versions:
    description:
      - The versions to judge. They are taken to be pending, so tables that one of them makes are new to the others.
      - Empty judges all files, each as if those before it were applied long ago.
    type: list
    elements: int
    default: []
  tables:
    description:
      - Sizes of the tables of the database, as C({"schema.table":{"bytes":1048576,"rows":1000}}).
      - What lasts as long as a table is large is less severe on a small one. A table that is not named may be large.
    type: dict
    default: {}
  small_table:
    description: Tables of at most so many bytes are small.
    type: int
    default: 10485760
  fail_on:
    description: The least severe findings that make the task fail.
    type: str
    default: error
    choices: [error, warning, never]
  report:
    description:
      - File to write a report to, C(.json) or C(.sarif) by its ending; relative paths start at the project.
      - Empty writes none.
    type: path
    default: ""
  server_version:
    description:
      - C(server_version_num) of the server that the files are for, such as C(180006).
      - PostgreSQL 13 by default.
    type: int
requirements:
  - pglast
  - squawk-cli
attributes:
  check_mode:
    support: full
    description: Does the same in check mode.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  idempotent:
    support: full
    description: Changes nothing, however often it runs.
"""

EXAMPLES = r"""
- name: Judge all migrations
  schema_lint:
    directory: db/init
    rollback_directory: db/rollback

- name: Judge what is pending, and refuse warnings, too
  schema_lint:
    directory: db/init
    rollback_directory: db/rollback
    versions: [5, 6]
    tables:
      cm.audit_log: {bytes: 1288490188, rows: 8000000}
    fail_on: warning
    report: .runs/lint.sarif
"""

RETURN = r"""
msg:
  description: A summary, then each finding with its place, the reason and the safe way.
  returned: always
  type: str
summary:
  description: How many findings of which severity there are.
  returned: when the files could be read
  type: str
  sample: "4 migrations: 1 warning."
findings:
  description: What is wrong.
  returned: when the files could be read
  type: list
  elements: dict
  contains:
    rule:
      description: Name of the rule.
      type: str
      sample: require-concurrent-index-creation
    severity:
      description: C(error), C(warning) or C(note).
      type: str
    file:
      description: The file.
      type: str
      sample: db/init/005_index.sql
    line:
      description: The line in it, counted from 1.
      type: int
    message:
      description: What this statement does.
      type: str
    why:
      description: Why that matters.
      type: str
    rewrite:
      description: The safe way.
      type: str
    table:
      description: The table it is about, empty if none.
      type: str
    table_bytes:
      description: Its size in bytes, null when unknown.
      type: int
    table_rows:
      description: How many rows it has, null when unknown.
      type: int
suppressed:
  description: How many findings the files declare to be harmless.
  returned: when the files could be read
  type: int
code:
  description: C(lint) when there are findings as bad as O(fail_on); otherwise why the files could not be judged.
  returned: failure
  type: str
  sample: lint
"""
