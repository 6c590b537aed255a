# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine in a process of its own, so that it can be killed, run twice at once, and weighed.

Started as a program it reads a job (JSON) from standard input and answers with one line of JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PLANS = 3  # as in the action plugin: a plan that another run has overtaken is made again


def start(database: Any, directory: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a migration in its own process."""
    return _start({"database": _address(database), "directory": str(directory), "options": options})


def start_bundle(database: Any, bundle: Path, **options: Any) -> subprocess.Popen[str]:
    """Start only the module's half: apply a bundle that lies ready in a file."""
    return _start({"database": _address(database), "bundle": str(bundle), "options": options})


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the process and return its answer: ``code`` (None when all went well), ``message``, ``outcome``, …"""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    answer: dict[str, Any] = json.loads(output)
    return answer


def run(database: Any, directory: Path, **options: Any) -> dict[str, Any]:
    """A migration in its own process, from start to end."""
    return finish(start(database, directory, **options))


def succeed(database: Any, directory: Path, **options: Any) -> dict[str, Any]:
    """As ``run``, for runs that have to end well."""
    answer = run(database, directory, **options)
    assert answer["code"] is None, answer["message"]
    return answer


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until it is gone."""
    process.kill()
    process.communicate()


def _start(job: dict[str, Any]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(job))
    process.stdin.close()
    process.stdin = None  # else communicate() would flush it again
    return process


def _address(database: Any) -> dict[str, Any]:
    return {name: getattr(database, name) for name in ("host", "port", "user", "database", "password")}


def _migrate(database: Any, directory: Path, options: dict[str, Any]) -> Any:
    import engine

    report: Any = None
    for _ in range(PLANS):
        report = engine.migrate(database, directory, **options)
        if not report.stale:
            break
    return report


def _apply(database: Any, bundle: Path, options: dict[str, Any]) -> Any:
    from ansible.module_utils.runbook.application import apply_bundle
    from ansible.module_utils.runbook.arguments import MIGRATION_ARGUMENTS
    from ansible.module_utils.runbook.connection import Login

    defaults = {name: argument.get("default") for name, argument in MIGRATION_ARGUMENTS.items()}
    with bundle.open("rb") as file:
        return apply_bundle(file, Login(**vars(database)), {**defaults, **options}, "tester@here")


def _peak_kb() -> int:
    """The largest memory this program has had; getrusage would count that of whoever started it, too."""
    match = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1])


def main() -> None:
    """Do the job from standard input."""
    import conftest  # noqa: F401 - makes the engine importable
    from ansible.module_utils.runbook.errors import RunbookError

    job = json.load(sys.stdin)
    database = SimpleNamespace(**job["database"])
    answer: dict[str, Any] = {"code": None, "message": "", "stale": False, "details": {}, "outcome": {}}
    try:
        if "bundle" in job:
            report = _apply(database, Path(job["bundle"]), job["options"])
        else:
            report = _migrate(database, Path(job["directory"]), job["options"])
        answer.update(stale=report.stale, outcome=report.outcome.as_result())
        error = report.error
    except RunbookError as refused:
        error = refused
    if error is not None:
        answer.update(code=error.code, message=error.message, details=error.details)
    answer["peak_kb"] = _peak_kb()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
