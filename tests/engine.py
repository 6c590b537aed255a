# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine without Ansible around it: what the action plugin and the module do, in one process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ansible.module_utils.runbook import presentation
from ansible.module_utils.runbook.application import Report, apply_bundle
from ansible.module_utils.runbook.arguments import MIGRATION_ARGUMENTS
from ansible.module_utils.runbook.bundle import Order, Task, write_bundle
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import inspect
from ansible.module_utils.runbook.ledger import Entry, from_result
from ansible.module_utils.runbook.migration import Folder, prepare, read_folder
from ansible.module_utils.runbook.plan import Plan, make_plan
from ansible.module_utils.runbook.runner import Outcome

REQUESTER = "tester@here"


def options(**given: Any) -> dict[str, Any]:
    """Every option of ``schema_migration``, defaults filled in; impatient where users are patient."""
    defaults = {name: argument.get("default") for name, argument in MIGRATION_ARGUMENTS.items()}
    return {**defaults, "lock_budget": "5s", "run_lock_wait": "1s", **given}


def login(database: Any) -> Login:
    """How to reach a database of the ``database`` fixture."""
    return Login(
        host=database.host,
        port=database.port,
        user=database.user,
        database=database.database,
        password=database.password,
    )


def plan(database: Any, directory: Path, **given: Any) -> tuple[Plan, Order, list[Any]]:
    """The plan for a folder of migrations, and what would be shipped; raises ``RunbookError`` as the plan does."""
    params = options(directory=str(directory), **given)
    answer = inspect(login(database), params["schema"], limit=0, require_primary=True)
    state = from_result(answer["ledger"])
    made = make_plan(read_folder(directory), state, presentation.wanted(params))
    version = answer["server_version"]
    tasks = [_task(migration, migration, directory, version, rollback=False) for migration in made.apply]
    if made.roll_back:
        scripts: Folder = read_folder(Path(params["rollback_directory"]))
        for migration in made.roll_back:
            script = scripts.migrations[migration.version]
            tasks.append(_task(migration, script, scripts.path, version, rollback=True))
    order = Order(state.digest(), *(_entries(part) for part in (made.repair, made.adopt, made.baseline)))
    return made, order, tasks


def migrate(database: Any, directory: Path, **given: Any) -> Report:
    """Bring a database to the wanted version and say how it went; a refused plan raises ``RunbookError``."""
    made, order, tasks = plan(database, directory, **given)
    if not made.changes:
        return Report(Outcome(version=made.version))
    bundle = io.BytesIO()
    write_bundle(bundle, order, tasks)
    bundle.seek(0)
    return apply_bundle(bundle, login(database), options(directory=str(directory), **given), REQUESTER)


def migrated(database: Any, directory: Path, **given: Any) -> Outcome:
    """As ``migrate``, for runs that have to succeed."""
    report = migrate(database, directory, **given)
    if report.error is not None:
        raise report.error
    return report.outcome


def write(directory: Path, files: dict[str, str | bytes]) -> Path:
    """Write migration files into a folder, creating it; returns the folder."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return directory


def ask(database: Any, question: str) -> list[tuple]:
    """Rows of a question put from outside."""
    with database.connect() as session:
        return session.execute(question).fetchall()


def do(database: Any, *commands: str) -> None:
    """Commands from outside, each on its own."""
    with database.connect() as session:
        for command in commands:
            session.execute(command)


def run(database: Any, directory: Path, files: dict[str, str | bytes], **given: Any) -> Outcome:
    """Write the files and apply them; the run has to succeed."""
    return migrated(database, write(directory, files), **given)


def refused(database: Any, directory: Path, files: dict[str, str | bytes], **given: Any) -> RunbookError:
    """Write the files and apply them; the run has to fail, and its error is returned."""
    report = migrate(database, write(directory, files), **given)
    assert report.error is not None
    return report.error


def versions(database: Any, schema: str = "cm") -> list[int]:
    """What the runbook's query shows."""
    return [row[0] for row in ask(database, f"SELECT version FROM {schema}.schema_version ORDER BY version")]


def _task(migration: Any, script: Any, folder: Path, version: int, rollback: bool) -> tuple[Task, Any]:
    prepared = prepare(script, folder, version)
    return Task.of(Entry.of(migration, REQUESTER), prepared, rollback), prepared


def _entries(migrations: Any) -> tuple[Entry, ...]:
    return tuple(Entry.of(migration, REQUESTER) for migration in migrations)
