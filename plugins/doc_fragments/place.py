# SPDX-License-Identifier: GPL-3.0-or-later
"""Where backup sets are: the options that modules which work with them share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``module_utils/runbook/store.py``."""

    DOCUMENTATION = r"""
options:
  directory:
    description: Folder of the backup sets on the host that runs the module; each database has its own in it.
    type: path
    required: true
  offsite:
    description: Place for copies, as rclone writes it, V(remote:path). Empty keeps none.
    type: str
    default: ""
  offsite_config:
    description: Configuration file of rclone on that host; empty for that of the account.
    type: path
    default: ""
"""
