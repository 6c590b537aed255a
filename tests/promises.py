# SPDX-License-Identifier: GPL-3.0-or-later
"""What the project promises on every kind of host, in one place for all scenarios of ``molecule/``."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

Query = Callable[[str], str]
"""Runs SQL in the migrated database and returns the only value of the answer, as text."""

LEDGER = [
    [1, "001_model_registry.sql", "Add model registry"],
    [2, "002_policies_and_decisions.sql", "Add policies, decisions and evidence"],
    [3, "003_human_review.sql", "Add human review"],
    [4, "004_add_audit_log.sql", "Add audit log table"],
]
"""Version, name and description of everything in ``db/init``."""


def ledger(query: Query) -> list[list[Any]]:
    """What ``schema_version`` says, in the form of :data:`LEDGER`."""
    rows = "SELECT json_agg(json_build_array(version, name, description) ORDER BY version) FROM cm.schema_version"
    return list(json.loads(query(rows)))


def checksums(query: Query) -> dict[str, str]:
    """The checksum that ``schema_version`` keeps of each file."""
    return dict(json.loads(query("SELECT json_object_agg(name, checksum) FROM cm.schema_version")))


def expected_checksums(folder: Path = ROOT / "db/init") -> dict[str, str]:
    """The checksum of each file, taken by somebody else."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.sql"))}


def history(query: Query) -> list[list[Any]]:
    """Event and version of everything that ever happened, oldest first."""
    rows = "SELECT json_agg(json_build_array(event, version) ORDER BY id) FROM cm.schema_version_history"
    return list(json.loads(query(rows)))


def play(playbook: str, *arguments: str, code: int = 0) -> str:
    """Run one of the project's playbooks against the scenario's hosts, and return what it printed."""
    inventories = [f"--inventory={place}" for place in (folder() / "inventory", scenario() / "inventory")]
    command = ["ansible-playbook", *inventories, playbook, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == code, done.stdout
    return done.stdout


def scenario() -> Path:
    """The scenario's folder in the project."""
    return Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


def folder() -> Path:
    """The scenario's own folder, where everything is that its runs left on this machine."""
    return Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def records() -> list[dict[str, Any]]:
    """The run records, oldest first."""
    return [json.loads(path.read_text()) for path in sorted(folder().glob("runs/*/*.json"))]


def leftovers() -> list[Path]:
    """Files that runs left in the temporary folder of this machine."""
    return [path for path in (folder() / "temporary").rglob("*") if not path.is_dir()]


def command_lines() -> list[str]:
    """Every command line that a process of this machine has shown since ``shared/watch.yml``."""
    return (folder() / "process_list").read_text().splitlines()


def showing(passwords: Sequence[str]) -> list[str]:
    """The command lines and run records in which one of these passwords can be read."""
    assert passwords and all(passwords), "There have to be passwords to look for."
    texts = [*command_lines(), *map(json.dumps, records())]
    return [text for text in texts if any(password in text for password in passwords)]
