#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: have backups and drills of an environment run by themselves."""

from __future__ import annotations

DOCUMENTATION = r"""
module: runbook_schedule
short_description: Have backups and drills of an environment run by themselves
version_added: "0.2.0"
description:
  - Keeps a timer and a service of systemd for each operation, or lines for cron where systemd does not run, on the
    machine that the module runs on. That is meant to be the one which ansible-playbook is run on.
  - Times are checked before anything is written.
author: Schema Runbook contributors
attributes:
  check_mode:
    support: full
    description: Checks the times and says whether a file would be different or a timer is not at work.
  diff_mode:
    support: full
    description: Shows every file that is different.
  idempotent:
    support: full
    description: Files that are as they should be, of timers that are at work, are left alone.
requirements:
  - systemd or cron
  - the rights of root
options:
  state:
    description: V(absent) removes everything that the module has ever made for the environment.
    type: str
    default: present
    choices: [present, absent]
  environment:
    description: Name of the environment; it becomes part of the names of units and files.
    type: str
    required: true
  backup_at:
    description:
      - When C(backup.yml) runs, as a calendar expression of systemd without a zone. Empty, it does not run by itself.
      - For cron it may have days of the week, hours and minutes.
    type: str
    default: ""
  drill_at:
    description: The same for C(drill.yml).
    type: str
    default: ""
  time_zone:
    description: The zone that both are meant in.
    type: str
    default: UTC
  spread:
    description: How much later a run may begin, by chance, so that several do not begin at once. Not for cron.
    type: str
    default: 5min
  limit:
    description: What the runs are limited to, as with ansible-playbook's C(--limit).
    type: str
    default: all
  inventories:
    description: Inventories of the runs.
    type: list
    elements: str
    default: []
  arguments:
    description: Further arguments of ansible-playbook. Everybody on the machine can read them.
    type: list
    elements: str
    default: []
  variables:
    description: Environment variables of the runs; empty ones are left out. Everybody on the machine can read them.
    type: dict
    default: {}
  account:
    description: Account that the runs are made as.
    type: str
    default: root
  project:
    description: Folder of the project.
    type: path
    required: true
  python:
    description: The interpreter that has ansible-core.
    type: path
    required: true
"""

EXAMPLES = r"""
- name: Back up production every night
  runbook_schedule:
    environment: production
    backup_at: "02:15"
    drill_at: "Sun 04:15"
    time_zone: Europe/Berlin
    limit: production
    account: deploy
    project: /srv/schema-runbook
    python: /srv/schema-runbook/.venv/bin/python
  delegate_to: localhost
  become: true

- name: Have nothing run by itself any more
  runbook_schedule:
    environment: production
    state: absent
    project: /srv/schema-runbook
    python: /srv/schema-runbook/.venv/bin/python
  delegate_to: localhost
  become: true
"""

RETURN = r"""
files:
  description: Files that make the schedule.
  type: list
  elements: str
  returned: success
next:
  description: When each operation runs next, in UTC, by its name.
  type: dict
  returned: success
  sample: {backup: "2026-11-23T02:15:00Z", drill: "2026-11-29T04:15:00Z"}
code:
  description: Stable name of the error.
  type: str
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.schedule import SCHEDULE_ARGUMENTS, Machine, Schedule, set_up


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=SCHEDULE_ARGUMENTS, supports_check_mode=True)
    try:
        result = set_up(Schedule.from_params(module.params), Machine(), module.check_mode)
    except RunbookError as error:
        module.fail_json(msg=error.message, code=error.code)
    except OSError as error:
        module.fail_json(msg=f"The schedule could not be kept at {error.filename}: {error.strerror}.", code="file")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
