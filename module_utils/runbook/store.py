# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the backup sets of a database are: on the host that runs the modules, and elsewhere if copies are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.runbook import backup_set
from ansible.module_utils.runbook.backup_set import BackupSet
from ansible.module_utils.runbook.offsite import Offsite

PLACE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "directory": {"type": "path", "required": True},
    "offsite": {"type": "str", "default": ""},
    "offsite_config": {"type": "path", "default": ""},
}
"""Where sets are; shared by every module that works with them."""


@dataclass(frozen=True)
class Store:
    """The sets of one database: on this host, and elsewhere if copies are kept.

    Parameters:
        folder: where the database's sets are.
        offsite: None without copies.
    """

    folder: Path
    offsite: Optional[Offsite]

    @classmethod
    def of(cls, params: Mapping[str, Any], database: str) -> Store:
        """From the options of ``PLACE_ARGUMENTS``."""
        offsite = Offsite(params["offsite"], params["offsite_config"]) if params["offsite"] else None
        return cls(backup_set.database_folder(Path(params["directory"]), database), offsite)

    def sealed(self) -> list[BackupSet]:
        """The sets on this host that count, oldest first."""
        return backup_set.sealed_sets(self.folder)
