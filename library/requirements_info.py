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
    description: How the database is reached.
    type: str
    choices: [embedded, docker, native, managed]
    default: managed
  os_user:
    description: Account that the modules are to run as; empty for the one that runs this.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: See what is missing
  requirements_info:
    runtime: native
    os_user: cm
  register: found

- name: Say it
  ansible.builtin.debug:
    var: found.msg
"""

RETURN = r"""
msg:
  description: A sentence for each thing that is missing.
  type: str
  returned: always
  sample: "/usr/bin/python3 needs psycopg 3.1 or newer (No module named 'psycopg'): a package of this system."
missing:
  description: What is missing, V(psycopg), V(requests), V(acl), V(docker) or V(account).
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

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.runbook.requirements import missing

ARGUMENTS = {
    "runtime": {"type": "str", "choices": ["embedded", "docker", "native", "managed"], "default": "managed"},
    "os_user": {"type": "str", "default": ""},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    found = missing(module.params["runtime"], module.params["os_user"])
    module.exit_json(
        changed=False,
        msg=" ".join(one.sentence for one in found) or "Nothing is missing.",
        missing=[one.name for one in found],
        by_package=[one.name for one in found if one.by_package],
    )


if __name__ == "__main__":
    main()
