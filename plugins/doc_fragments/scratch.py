# SPDX-License-Identifier: GPL-3.0-or-later
"""How migrations are tried out in a scratch database: the options that such modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``module_utils/runbook/scratch.py``, and the folder of the files."""

    DOCUMENTATION = r"""
options:
  maintenance_db:
    description: Database in which the lock of such runs is held.
    type: str
    default: postgres
  schema:
    description: Schema that holds the ledger, which is left out of every comparison.
    type: str
    default: cm
  run_lock_wait:
    description: How long to wait for another run that tries out migrations of the same database.
    type: str
    default: 1min
  timeout:
    description:
      - How long all the work in scratch databases may take, from the first file to the last comparison; V(0) for no
        limit.
      - When the time is up, what is at work is broken off, and the scratch database is removed.
    type: str
    default: 10min
  directory:
    description: Folder with the migrations, on the controller.
    type: path
    required: true
"""
