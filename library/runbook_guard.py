# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of ``runbook_guard``; the action plugin of the same name does the work, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runbook_guard
short_description: Refuse a run that cannot go well, before it touches a host
description:
  - Checks ansible-core, the inventory, the variables of all hosts of the play and, for destructive operations, the
    operator's consent.
  - Reports all problems at once, numbered, each with the offending value, where it was set and what to do about it.
  - Runs on the controller, needs no facts and opens no connection.
  - One execution judges all hosts of the play, so use it with C(run_once).
version_added: "1.0.0"
author:
  - Schema Runbook contributors
options:
  operation:
    description: The verb of the operation that is about to run, for messages.
    type: str
    default: run
  confirm:
    description:
      - Name of the variable that has to name the database of each host before the operation may run.
      - Empty for operations that destroy nothing.
    type: str
    default: ""
  confirm_database:
    description: Name of the variable that says which database that is, where it is not C(db_name) that does.
    type: str
    default: ""
  span_environments:
    description: Whether one run may reach several environments.
    type: bool
    default: false
  one_database:
    description: Whether the operation works on one database of a host, so that a list of them is refused.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Can run in check mode and refuses the same things there.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  idempotent:
    support: full
    description: Changes nothing, however often it runs.
"""

EXAMPLES = r"""
- name: Check ansible-core, the inventory and the variables
  runbook_guard:
  run_once: true

- name: Insist on -e rollback_confirm=NAME_OF_THE_DATABASE
  runbook_guard:
    operation: rollback
    confirm: rollback_confirm
  run_once: true
"""

RETURN = r"""
msg:
  description: What was checked, or every problem that was found.
  returned: always
  type: str
  sample: ansible-core 2.21.5 and the variables of 2 hosts are in order.
code:
  description: The machine-readable name of the refusal.
  returned: failure
  type: str
  sample: guard
"""
