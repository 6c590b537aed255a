# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs squawk once over everything, and says which of its rules found which action.

Each action is a file of its own: so squawk sees single statements, its findings need no places, and neither included
files nor psql commands nor data get in its way.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint.opinions import OPINIONS

_TIMEOUT = 300  # seconds; 10,000 statements take less than one

# Its own suppressions need no reason, so they don't count.
_IGNORE = re.compile(r"squawk-ignore", re.IGNORECASE)


def ask_squawk(texts: Sequence[str], server_version: int) -> list[set[str]]:
    """The rules of squawk's, of those in :data:`opinions.OPINIONS`, that apply to each text.

    Parameters:
        texts: one statement each.
        server_version: the server's ``server_version_num``.

    Raises:
        RunbookError: ``lint-tool`` when squawk is not there or does not answer.
    """
    found: list[set[str]] = [set() for _ in texts]
    if not texts:
        return found
    with tempfile.TemporaryDirectory(prefix="runbook-lint-") as folder:
        # Its settings come from here alone, not from a .squawk.toml that happens to lie about.
        (Path(folder) / "squawk.toml").write_text("")
        for number, text in enumerate(texts):
            (Path(folder) / f"{number}.sql").write_text(_IGNORE.sub("squawk_ignore", text), encoding="utf-8")
        for violation in _run(Path(folder), server_version):
            if violation["rule_name"] in OPINIONS:
                found[int(Path(violation["file"]).stem)].add(violation["rule_name"])
    return found


def _run(folder: Path, server_version: int) -> list[dict[str, str]]:
    version = f"{server_version // 10000}.{server_version % 10000}"
    command = [_program(), "--config", "squawk.toml", "--reporter", "json", "--pg-version", version, "*.sql"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_TIMEOUT, encoding="utf-8"
        )
        answer = json.loads(done.stdout or "[]") if done.returncode in (0, 1) else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise RunbookError(f"squawk could not be run: {error}. {_ADVICE}", code="lint-tool") from error
    if not isinstance(answer, list):
        said = (done.stderr or done.stdout).strip()[-300:]
        raise RunbookError(f"squawk failed with code {done.returncode}: {said}. {_ADVICE}", code="lint-tool")
    return answer


_ADVICE = "It comes with the package squawk-cli: run make setup, or install what requirements.lock names."


def _program() -> str:
    """squawk, from beside the interpreter before anything on PATH."""
    beside = Path(sys.executable).parent / "squawk"
    program = str(beside) if beside.is_file() else shutil.which("squawk")
    if program is None:
        raise RunbookError(f"The program squawk is not installed. {_ADVICE}", code="lint-tool")
    return program
