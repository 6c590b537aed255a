#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: say what a host lacks before the other modules can work there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: requirements_info
short_description: Say what a host lacks for working on its database
version_added: "0.1.0"
description:
  - Looks for the Python libraries, programs and accounts that the modules of this project need on the host they run on.
  - Looks with the interpreter that runs them, which a list of installed packages says nothing about.
author: Schema Runbook contributors
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
options:
  runtime:
    description: How the database is reached; says what the account that runs this lacks for working on it.
    type: str
    choices: [embedded, docker, native, managed]
  programs:
    description: Programs that are wanted there as well, by whoever set variables that ask for them.
    type: list
    elements: str
    choices: [age, rclone]
    default: []
  os_user:
    description: Account that works; says what the one that runs this lacks for handing files to it.
    type: str
"""

EXAMPLES = r"""
- name: See what the account that works lacks
  requirements_info:
    runtime: native
  become: true
  become_user: cm
  register: found

- name: See what the account that logs in lacks for handing files to it
  requirements_info:
    os_user: "{{ found.account }}"
"""

RETURN = r"""
account:
  description: The account that ran this.
  type: str
  returned: always
  sample: cm
sentences:
  description: A sentence for each thing that is missing.
  type: list
  elements: str
  returned: always
  sample: ["/usr/bin/python3 needs psycopg 3.1 or newer (No module named 'psycopg')."]
missing:
  description: What is missing, V(psycopg), V(requests), V(acl), V(account), or the program.
  type: list
  elements: str
  returned: always
  sample: [psycopg]
by_package:
  description: What of it a package of the system can bring.
  type: list
  elements: str
  returned: always
  sample: [psycopg]
"""

import os
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.requirements import PROGRAMS, to_hand_over, to_work

ARGUMENTS = {
    "runtime": {"type": "str", "choices": ["embedded", "docker", "native", "managed"]},
    "programs": {"type": "list", "elements": "str", "choices": list(PROGRAMS), "default": []},
    "os_user": {"type": "str"},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, required_one_of=[("runtime", "os_user")], supports_check_mode=True)
    runtime, os_user = module.params["runtime"], module.params["os_user"]
    programs = module.params["programs"]
    found = [*(to_work(runtime, programs) if runtime else ()), *(to_hand_over(os_user) if os_user else ())]
    module.exit_json(
        changed=False,
        account=pwd.getpwuid(os.geteuid()).pw_name,
        sentences=[one.sentence for one in found],
        missing=[one.name for one in found],
        by_package=[one.name for one in found if one.by_package],
    )


if __name__ == "__main__":
    main()
