# SPDX-License-Identifier: GPL-3.0-or-later
"""A module's work in a process of its own, so that it can be killed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any


def start(database: Any, work: str, options: Mapping[str, Any]) -> subprocess.Popen[str]:
    """Start it; when this returns, the process has its options and is about to begin.

    Parameters:
        database: one of the ``database`` fixture, to log in to.
        work: the function that does the work, such as ``restoration.run``.
        options: all of the module's.
    """
    login = {
        "login_host": database.host,
        "login_port": database.port,
        "login_user": database.user,
        "login_db": database.database,
        "login_password": database.password,
    }
    process = subprocess.Popen(
        [sys.executable, __file__, work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin as stdin:
        json.dump({**options, **login}, stdin)
    process.stdin = None
    assert process.stdout.readline() == "ready\n"
    return process


def main() -> None:
    """Do the work and print its result; the message of an error goes where errors go."""
    import conftest  # noqa: F401 - makes the engine importable
    from ansible.module_utils.runbook.connection import Login
    from ansible.module_utils.runbook.errors import RunbookError

    name, _, function = sys.argv[1].partition(".")
    work = getattr(importlib.import_module(f"ansible.module_utils.runbook.{name}"), function)
    os.umask(0o077)
    params = json.load(sys.stdin)
    print("ready", flush=True)
    try:
        print(json.dumps(work(Login.from_params(params), params, False)))
    except RunbookError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
