#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: make the checks of a database. Its action plugin reads the files and hands them over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_check
short_description: Check schema, data, performance and surroundings of a PostgreSQL database
version_added: "0.3.0"
description:
  - Makes the checks that O(directory) and O(checks) hold, and health checks that need no file. C(docs/checks.md) lists
    the kinds of checks.
  - All SQL runs in read-only transactions with a time limit. A check that cannot be carried out does not keep the
    others from being made.
  - The files are read on the controller, and nothing of them is kept on the host.
author: Schema Runbook contributors
extends_documentation_fragment: login
attributes:
  check_mode:
    support: partial
    description: Reads only, so it does the same in check mode, but for HTTP requests and commands, which it leaves out.
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
    description: Schema that holds the ledger, which says the version of the database.
    type: str
    default: cm
  directory:
    description:
      - Folder with checks, C(*.yml) and C(*.sql), on the controller; relative paths start at the project. Empty for
        none.
    type: path
    default: ""
  checks:
    description: Further checks, in the form that those in the files have.
    type: list
    elements: dict
    default: []
  only:
    description: Make the checks of these groups only; empty for all.
    type: list
    elements: str
    choices: [schema, data, performance, smoke, logs, health]
    default: []
  health:
    description: Make the health checks that need no file.
    type: bool
    default: true
  health_severity:
    description: Severity of single health checks by name, V(error), V(warning) or V(info); V(off) leaves one out.
    type: dict
    default: {}
  fail_on:
    description: Fail when a check of this severity, or of a higher one, is not passed.
    type: str
    choices: [error, warning, never]
    default: error
  timeout:
    description: Time limit of each check that has none of its own.
    type: str
    default: 30s
  rows:
    description: How many rows are shown of a query that must not return any. They may hold personal data.
    type: int
    default: 5
  log_source:
    description:
      - Where the server's log is. V(auto) asks the server for its file and otherwise takes O(log_unit); V(none) skips
        the checks of the log.
    type: str
    choices: [auto, container, journal, file, none]
    default: auto
  log_container:
    description: Name of the container whose log it is.
    type: str
    default: ""
  log_docker_host:
    description: Address of the engine that runs it; empty for that of the account.
    type: str
    default: ""
  log_unit:
    description: Unit of systemd whose journal it is.
    type: str
    default: ""
  log_file:
    description: File that it is.
    type: path
    default: ""
  started_at:
    description:
      - When the run began; errors in the log count from then on.
      - A time with its zone, V(2026-11-22T14:30:00Z), or how long ago, V(10min).
    type: str
    default: 10min
  report_directory:
    description:
      - Folder on the controller for reports, a C(.json) and a C(.xml) in the form of JUnit for each host and database.
        Empty writes none.
    type: path
    default: ""
"""

EXAMPLES = r"""
- name: Check the database
  database_check:
    login_host: 127.0.0.1
    directory: db/checks
    report_directory: reports

- name: See that the application answers
  database_check:
    login_host: 127.0.0.1
    only: [smoke]
    checks:
      - name: The application is up
        http: https://app.example.com/health
"""

RETURN = r"""
database:
  description: Name of the database.
  type: str
  returned: when the database could be reached
schema_version:
  description: Highest version in the ledger; V(null) when nothing is applied.
  type: int
  returned: when the database could be reached
server_version:
  description: The server's version as a number, such as 180006.
  type: int
  returned: when the database could be reached
checks:
  description:
    - What came of each check. RV(checks[].status) is V(passed), V(failed), V(errored) (it could not be carried out) or
      V(skipped); RV(checks[].severity) V(error), V(warning) or V(info). RV(checks[].red) says whether it makes RV(red).
  type: list
  elements: dict
  returned: when the database could be reached
counts:
  description: How many checks ended in each status.
  type: dict
  returned: when the database could be reached
red:
  description:
    - Whether something is not as it should be that is as grave as O(fail_on) says, or the database could not be looked
      at. Unlike C(failed) it outlives C(failed_when).
  type: bool
  returned: always
only:
  description: The groups that were asked for; none for all. With some of them only, RV(red) says nothing of the others.
  type: list
  elements: str
  returned: when the database could be reached
seconds:
  description: How long the checks took.
  type: float
  returned: when the database could be reached
summary:
  description: One sentence about all checks, or why the database could not be looked at; RV(msg) is the table.
  type: str
  returned: always
reports:
  description: Files that were written on the controller.
  type: list
  elements: str
  returned: when O(report_directory) is set
code:
  description: Stable name of the error; V(validation) when a check is not passed.
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.checks import CHECK_ARGUMENTS, received, run
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError

# The checks as the action plugin has read them. They may hold what web servers are told in secret.
HANDED_OVER = {"_checks": {"type": "str", "default": "[]", "no_log": True}}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={**CHECK_ARGUMENTS, **HANDED_OVER}, supports_check_mode=True)
    params = module.params
    try:
        result = run(Login.from_params(params), received(params["_checks"]), params, module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code, **error.details)
    if result["red"]:
        module.fail_json(msg=result["summary"], code="validation", **result)
    module.exit_json(changed=False, msg=result["summary"], **result)


if __name__ == "__main__":
    main()
