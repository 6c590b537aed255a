# SPDX-License-Identifier: GPL-3.0-or-later
"""The server is killed in the middle of a migration."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import promises

# It waits until there is a table cm.gate, which is after it has created another one.
GATE = """
CREATE TABLE cm.half (id int);
DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'gate') LOOP PERFORM pg_sleep(0.05); END LOOP;
END $$;
"""
AT_THE_GATE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%WHERE relname = ''gate''%'"
VERSIONS = "SELECT string_agg(version::text, ' ' ORDER BY version) FROM cm.schema_version"


def test_nothing_is_half_recorded_and_the_next_run_completes(servers: dict[str, Any], ask: Any) -> None:
    (promises.folder() / "db/init/005_gate.sql").write_text(GATE)
    process = start_migration()
    wait_until(lambda: ask("cm-db1", AT_THE_GATE) == "1", process)
    with servers["cm-db1"].sudo():
        servers["cm-db1"].check_output("systemctl kill --signal=KILL postgresql@17-main")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2, output
    assert "the connection to the server was lost" in " ".join(output.split())
    assert promises.records()[-1]["outcome"] == "failed"

    with servers["cm-db1"].sudo():
        servers["cm-db1"].check_output("systemctl restart postgresql@17-main")
    assert ask("cm-db1", VERSIONS) == "1 2 3 4"
    assert ask("cm-db1", "SELECT to_regclass('cm.half') IS NULL") == "t"

    ask("cm-db1", "CREATE TABLE cm.gate ()")
    assert "Version 5: 1 applied." in promises.play("migrate.yml")
    for name in servers:
        assert ask(name, VERSIONS) == "1 2 3 4 5"
    assert promises.leftovers() == []


def start_migration() -> subprocess.Popen[str]:
    """Start the migration of both servers without waiting for it."""
    inventories = [
        f"--inventory={place}" for place in (promises.folder() / "inventory", promises.scenario() / "inventory")
    ]
    return subprocess.Popen(
        ["ansible-playbook", *inventories, "migrate.yml"],
        cwd=promises.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(condition: Any, process: subprocess.Popen[str]) -> None:
    """Wait until something is true while the process runs."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
