# SPDX-License-Identifier: GPL-3.0-or-later
"""A real PostgreSQL for the tests: one embedded server per test process, one fresh database per test; and the lab."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lab
import psycopg
import pytest
from ansible.module_utils.runbook import embedded
from psycopg import sql

# What durability costs is what tests need least; everything else is as users get it.
QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Database:
    """An empty database on the test server, and all that is needed to connect to it."""

    host: str
    port: int
    user: str
    database: str
    passfile: Path
    password: str

    def connect(self, **parameters: str) -> psycopg.Connection[tuple]:
        """Open an autocommit session; ``parameters`` are further libpq options, such as ``options`` or ``user``."""
        address = {"host": self.host, "port": self.port, "dbname": self.database}
        login = {"user": self.user, "password": self.password}
        return psycopg.connect(**{**address, **login, **parameters}, autocommit=True)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.Server]:
    """A running server in a home of its own, removed when the tests of this process have ended."""
    with reachable_directory() as parent:
        wanted = embedded.Wanted(home=str(parent / "server"), settings=QUICK)
        running, _reason = embedded.start(wanted)
        yield running
        embedded.remove(wanted)


@pytest.fixture
def database(server: embedded.Server) -> Iterator[Database]:
    """A fresh, empty database, dropped after the test together with any session still open on it."""
    with fresh(server) as database:
        yield database


@pytest.fixture
def another_database(server: embedded.Server) -> Iterator[Database]:
    """One more of them."""
    with fresh(server) as database:
        yield database


@contextlib.contextmanager
def fresh(server: embedded.Server) -> Iterator[Database]:
    """A database with a name of its own, for as long as the context lasts."""
    database = Database(
        server.host, server.port, server.user, next(_names), server.passfile, read_password(server.passfile)
    )
    with maintenance(database) as session:
        session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database.database)))
    yield database
    with maintenance(database) as session:
        # IF EXISTS: a test may have dropped or renamed it.
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.database)))


@pytest.fixture
def home() -> Iterator[Path]:
    """A place for a server of the test's own, removed with whatever runs there."""
    with reachable_directory() as parent:
        yield parent / "home"
        embedded.remove(embedded.Wanted(home=str(parent / "home")))


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine with the lab's images: without it a test is skipped, or has failed where it is required."""
    reason = lab.why_not(lab.POSTGRES_IMAGE, lab.HOST_IMAGE)
    if reason and os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(f"REQUIRE_DOCKER=1, but: {reason}")
    if reason:
        pytest.skip(reason)


_names = (f"t{os.getpid()}_{number}" for number in itertools.count(1))


@contextlib.contextmanager
def reachable_directory() -> Iterator[Path]:
    """A temporary directory below /tmp that the server's account can enter; pytest's own are the caller's alone."""
    with tempfile.TemporaryDirectory(prefix="runbook-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def read_password(passfile: Path) -> str:
    """Return the password from a file with one line in PGPASSFILE format."""
    return passfile.read_text().rstrip("\n").rsplit(":", 1)[1]


def maintenance(database: Database) -> psycopg.Connection[tuple]:
    """Open a session on the server's own database, to create and drop others from."""
    return database.connect(dbname="postgres")
