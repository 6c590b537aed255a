# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the scenarios with an embedded server; the others bring their own ``query``."""

from __future__ import annotations

import ansible.module_utils
import promises
import psycopg
import pytest

# Make module_utils/ importable the way Ansible presents it to modules.
ansible.module_utils.__path__.append(str(promises.ROOT / "module_utils"))

from ansible.module_utils.runbook import embedded  # noqa: E402


@pytest.fixture(scope="session")
def server() -> embedded.Server:
    """The server that the scenario has started."""
    return embedded.inspect(embedded.Wanted(home=str(promises.folder() / "server")))


@pytest.fixture(scope="session")
def password(server: embedded.Server) -> str:
    """The password that the server was given at its first start."""
    return server.passfile.read_text().strip().rsplit(":", 1)[1]


@pytest.fixture(scope="session")
def query(server: embedded.Server, password: str) -> promises.Query:
    """Ask the database itself."""

    def ask(statement: str) -> str:
        with psycopg.connect(
            host=server.host, port=server.port, dbname="cm", user="cm", password=password, autocommit=True
        ) as session:
            (answer,) = session.execute(f"SELECT ({statement})::text").fetchone() or ()
        return str(answer)

    return ask
