# SPDX-License-Identifier: GPL-3.0-or-later
"""Make ``module_utils/`` importable the way Ansible presents it to modules."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils

ROOT = Path(__file__).resolve().parent.parent
ansible.module_utils.__path__.append(str(ROOT / "module_utils"))
