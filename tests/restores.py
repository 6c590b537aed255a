# SPDX-License-Identifier: GPL-3.0-or-later
"""The module ``database_restore`` without Ansible around it, in this process or in one that can be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import engine
from ansible.module_utils.runbook import journal, restoration
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.journal import Databases
from ansible.module_utils.runbook.session import connect
from project import ROOT

_MODULE = """
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append(sys.argv[1] + "/module_utils")
from ansible.module_utils.runbook import restoration
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
params = json.load(sys.stdin)
print("ready", flush=True)
try:
    print(json.dumps(restoration.run(Login.from_params(params), params, False)))
except RunbookError as error:
    sys.exit(error.message)
"""


def options(folder: Path, **given: Any) -> dict[str, Any]:
    """Every option of ``database_restore``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in restoration.RESTORE_ARGUMENTS.items()}
    return {**defaults, "directory": str(folder), "run_lock_wait": "1s", "swap_timeout": "5s", **given}


def step(database: Any, folder: Path, state: str, check_mode: bool = False, **given: Any) -> dict[str, Any]:
    """One step of a restore of a database of the ``database`` fixture; returns the module's result."""
    return restoration.run(engine.login(database), options(folder, state=state, **given), check_mode)


def restore(database: Any, folder: Path, **given: Any) -> dict[str, Any]:
    """All steps of a restore; returns the result of the swap."""
    step(database, folder, "prepared", **given)
    swapped = step(database, folder, "swapped", **given)
    step(database, folder, "confirmed", **given)
    return swapped


def refused(database: Any, folder: Path, state: str = "prepared", **given: Any) -> RunbookError:
    """The error of a step that has to fail."""
    try:
        done = step(database, folder, state, **given)
    except RunbookError as error:
        return error
    raise AssertionError(f"It should have failed, but: {done}")


def start(database: Any, folder: Path, state: str, **given: Any) -> subprocess.Popen[str]:
    """Start a step in a process of its own, which has its options and is about to begin when this returns."""
    login = {
        "login_host": database.host,
        "login_port": database.port,
        "login_user": database.user,
        "login_db": database.database,
        "login_password": database.password,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _MODULE, str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    with process.stdin as stdin:
        json.dump({**options(folder, state=state, **given), **login}, stdin)
    process.stdin = None
    assert process.stdout.readline() == "ready\n"
    return process


def databases(database: Any) -> Databases:
    """What there is for the name of a database."""
    login: Login = engine.login(database).to("postgres")
    with connect(login, "test") as session:
        return journal.read(session, database.database)
