# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module runs the server's client programs: the options that such modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``module_utils/runbook/client.py``."""

    DOCUMENTATION = r"""
options:
  client_container:
    description: Container that the server runs in; empty when it runs in none.
    type: str
    default: ""
  client_image:
    description: Image of that container, from which the client programs are run.
    type: str
    default: ""
  client_port:
    description: Port of the server within its container.
    type: int
    default: 5432
"""
