# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach a database: the modules' connection options and the libpq parameters made of them."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError

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
    "connect_wait": {"type": "str", "default": "0"},
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

    The first that is given is used: ``password``, ``password_file`` (the password and nothing else), ``passfile``
    (libpq's format). ``connect_params`` are further libpq keywords; they win over the rest.
    A server that takes no sessions yet is waited for ``connect_wait`` seconds.
    The password is kept out of ``repr`` so that it cannot end in a traceback.
    """

    host: str
    port: int
    user: str
    database: str
    password: str = field(default="", repr=False)
    password_file: str = ""
    passfile: str = ""
    session_role: str = ""
    connect_wait: float = 0
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
            password_file=params["login_password_file"],
            passfile=params["login_passfile"],
            session_role=params["session_role"],
            connect_wait=seconds("connect_wait", params),
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

        The session role travels with the login: so it is what RESET ROLE and DISCARD ALL go back to.

        Raises:
            RunbookError: ``password-file`` when the password cannot be read.
        """
        given = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "dbname": self.database,
            "password": self.password or (read_password(self.password_file) if self.password_file else ""),
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
        found = {**defaults, **{name: value for name, value in given.items() if value}, **(self.connect_params or {})}
        if self.session_role:
            role = re.sub(r"([\\\s])", r"\\\1", self.session_role)
            found["options"] = f"{found.get('options', '')} -c role={role}".strip()
        return found

    def __str__(self) -> str:
        where = self.host or "the local socket"
        return f"database {self.database} at {where}:{self.port} as user {self.user}"


def read_password(path: str) -> str:
    """The password in a file that holds nothing else; the end of the line is not part of it.

    Raises:
        RunbookError: ``password-file`` when there is no such thing to read.
    """
    try:
        password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}. Modules run as account {account()}") from error
    except UnicodeDecodeError as error:
        raise _unusable(path, "is not UTF-8 text") from error
    if not password:
        raise _unusable(path, "is empty")
    if "\n" in password:
        raise _unusable(path, "has several lines; a file in libpq's format goes into db_passfile")
    return password


def account() -> str:
    """The account of the operating system that this code runs as."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # containers run as numbers without a name
        return str(os.geteuid())


def _unusable(path: str, reason: str) -> RunbookError:
    return RunbookError(
        f"The password file {path} {reason}. "
        "On the host that runs the modules, db_password_file has to hold the password and nothing else.",
        code="password-file",
    )
