# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the project is, on the controller."""

from __future__ import annotations

from pathlib import Path


def project_directory(config_file: str | None) -> Path:
    """The folder of the ansible.cfg in use, or the current one when there is none; relative folders start here."""
    return Path(config_file).parent if config_file else Path.cwd()


def runs_directory(config_file: str | None) -> Path:
    """The folder of the run records, unless the callback's option names another."""
    return project_directory(config_file) / ".runs"
