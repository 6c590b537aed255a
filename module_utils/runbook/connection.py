# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach a database: the modules' connection options and the libpq parameters made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# Names follow community.postgresql, so that operators and module_defaults can reuse what they know.
LOGIN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "login_host": {"type": "str", "default": ""},
    "login_unix_socket": {"type": "path", "default": ""},
    "login_port": {"type": "int", "default": 5432},
    "login_user": {"type": "str", "default": "cm"},
    "login_password": {"type": "str", "default": "", "no_log": True},
    "login_password_file": {"type": "path", "default": "", "no_log": False},
    "login_passfile": {"type": "path", "default": ""},
    "session_role": {"type": "str", "default": ""},
    "login_db": {"type": "str", "default": "cm"},
    "ssl_mode": {
        "type": "str",
        "default": "prefer",
        "choices": ["allow", "disable", "prefer", "require", "verify-ca", "verify-full"],
    },
    "ca_cert": {"type": "path", "default": ""},
    "ssl_cert": {"type": "path", "default": ""},
    "ssl_key": {"type": "path", "default": ""},
    "connect_params": {"type": "dict", "default": {}},
}


@dataclass(frozen=True)
class Login:
    """Everything libpq needs to open a session.

    ``connect_params`` are further libpq keywords; they win over the rest.
    The password is kept out of ``repr`` so that it cannot end in a traceback.
    """

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    passfile: str = ""
    ssl_mode: str = "prefer"
    ca_cert: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""
    connect_params: Mapping[str, Any] | None = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Login:
        """Read the options of ``LOGIN_ARGUMENTS`` as a module received them."""
        return cls(
            host=params["login_unix_socket"] or params["login_host"],
            port=params["login_port"],
            user=params["login_user"],
            database=params["login_db"],
            password=params["login_password"],
            passfile=params["login_passfile"],
            ssl_mode=params["ssl_mode"],
            ca_cert=params["ca_cert"],
            ssl_cert=params["ssl_cert"],
            ssl_key=params["ssl_key"],
            connect_params=params["connect_params"],
        )

    def to(self, database: str) -> Login:
        """The same server and credentials, another database."""
        return replace(self, database=database)

    def libpq(self, application_name: str) -> dict[str, Any]:
        """Keyword arguments for ``psycopg.connect``; empty ones are left to libpq's own defaults.

        TCP keep-alives make a dead peer known within about a minute instead of two hours
        (PostgreSQL documentation, "Database Connection Control Functions").
        """
        given = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "dbname": self.database,
            "password": self.password,
            "passfile": self.passfile,
            "sslmode": self.ssl_mode,
            "sslrootcert": self.ca_cert,
            "sslcert": self.ssl_cert,
            "sslkey": self.ssl_key,
        }
        defaults = {
            "application_name": application_name,
            "client_encoding": "UTF8",
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        return {**defaults, **{name: value for name, value in given.items() if value}, **(self.connect_params or {})}

    def __str__(self) -> str:
        where = self.host or "the local socket"
        return f"database {self.database} at {where}:{self.port} as user {self.user}"
