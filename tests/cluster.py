# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of embedded servers: a primary and standbys that stream from it, each in a home of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.connection import Login
from psycopg import sql

# What durability costs is what tests need least.
SETTINGS = {"fsync": "off"}


@dataclass
class Node:
    """One server of a cluster."""

    wanted: embedded.Wanted
    server: embedded.Server

    @property
    def password(self) -> str:
        """The password of the superuser."""
        return self.server.passfile.read_text().rstrip("\n").rsplit(":", 1)[1]

    def login(self) -> Login:
        """How the engine reaches it."""
        server = self.server
        return Login(server.host, server.port, server.user, "cm", self.password)

    def connect(self, database: str = "cm", **parameters: Any) -> psycopg.Connection[tuple]:
        """Open an autocommit session; ``parameters`` are further libpq options."""
        address = {"host": self.server.host, "port": self.server.port, "dbname": database}
        login = {"user": self.server.user, "password": self.password}
        return psycopg.connect(**{**address, **login, **parameters}, autocommit=True)

    def ask(self, question: str, database: str = "cm") -> list[Any]:
        """The first column of an answer."""
        with self.connect(database) as session:
            return [row[0] for row in session.execute(question)]

    def create_database(self, name: str) -> None:
        """Add an empty database."""
        with self.connect() as session:
            session.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def promote(self) -> None:
        """Make a standby a primary."""
        assert self.ask("SELECT pg_promote()") == [True]

    def start(self) -> None:
        """Start it again after ``stop``."""
        self.server, _ = embedded.start(self.wanted)

    def stop(self) -> None:
        """Shut it down; the data stay."""
        self.server, _ = embedded.stop(self.wanted)

    def kill(self) -> None:
        """End it as a power failure does."""
        os.kill(int((self.server.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def variables(self, database: str | Sequence[str] = "cm") -> dict[str, Any]:
        """The inventory variables of a host with this server."""
        return {
            "db_runtime": "managed",
            "db_host": self.server.host,
            "db_port": self.server.port,
            "db_user": self.server.user,
            "db_password": self.password,
            "db_name": database,
        }


@dataclass
class Cluster:
    """Servers below one folder, all removed by ``remove``."""

    folder: Path
    nodes: list[Node] = field(default_factory=list)

    def add_primary(self, name: str) -> Node:
        """A server of a cluster of its own."""
        return self._start(name)

    def add_standby(self, name: str, primary: Node) -> Node:
        """A streaming standby."""
        home, server = self.folder / name, primary.server
        home.mkdir(mode=0o755)
        account = embedded._owner(server.data)
        subprocess.run(
            [
                str(embedded.find_binaries(account) / "pg_basebackup"),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync", f"--pgdata={home / 'data'}"),
                *(
                    f"--host={primary.server.host}",
                    f"--port={primary.server.port}",
                    f"--username={primary.server.user}",
                ),
            ],
            env={**os.environ, "PGPASSWORD": primary.password, "PGAPPNAME": name},
            check=True,
            capture_output=True,
        )
        for path in (home / "data", *(home / "data").rglob("*")):
            account.own(path)
        shutil.copy(server.passfile, home / "pgpass")
        return self._start(name)

    def remove(self) -> None:
        """Shut everything down and delete it."""
        for node in self.nodes:
            embedded.remove(node.wanted)

    def _start(self, name: str) -> Node:
        wanted = embedded.Wanted(home=str(self.folder / name), settings=SETTINGS)
        node = Node(wanted, embedded.start(wanted)[0])
        self.nodes.append(node)
        return node
