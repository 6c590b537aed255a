# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of the scenario share: the two servers by name, and ways to ask them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import promises
import pytest
import testinfra

Ask = Callable[[str, str], str]
"""Asks the database of the server with this name, and returns the only value of the answer, as text."""


@pytest.fixture(scope="session")
def servers() -> dict[str, Any]:
    """Both servers by name, reached over SSH; the fixture ``host`` is each of them in turn."""
    inventory = str(promises.folder() / "inventory/lab.yml")
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in ("cm-db1", "cm-db2")}


@pytest.fixture(scope="session")
def ask(servers: dict[str, Any]) -> Ask:
    """Ask a server, over its socket."""

    def answer(name: str, statement: str) -> str:
        with servers[name].sudo("postgres"):
            return str(servers[name].check_output("psql -XAt -d cm -c %s", statement))

    return answer


@pytest.fixture
def name(host: Any) -> str:
    """The name of the server at hand."""
    return str(host.backend.get_hostname())


@pytest.fixture
def query(ask: Ask, name: str) -> promises.Query:
    """Ask the server at hand."""
    return lambda statement: ask(name, statement)
