# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``rollback_proof``: ship migrations and scripts, add what needs no database to be known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook.bundle import Order, Task
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import Entry, digest
from ansible.module_utils.runbook.migration import Folder, Migration, Prepared, prepare, read_folder
from ansible.module_utils.runbook.outward import kept_inside
from ansible.module_utils.runbook.project import project_directory
from ansible.module_utils.runbook.proof import PROOF_ARGUMENTS, Irreversible, Script, Verdict, no_script

# It knows how bundles travel, and how modules are called.
SchemaMigration: Any = action_loader.get("schema_migration", class_only=True)


@dataclass
class Files:
    """What there is to prove, read from the folders.

    Attributes:
        tasks: migrations in order, each with the script that is to be proven behind it.
        scripts: those scripts, by version.
        verdict: what is known without a database.
        foreign: names of the foreign tables that the migrations make.
    """

    tasks: list[tuple[Task, Prepared]] = field(default_factory=list)
    scripts: dict[int, Script] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)
    foreign: set[str] = field(default_factory=set)


class ActionModule(SchemaMigration):  # type: ignore[misc] # ansible-core ships no type information
    """One look at the server, then one module call with the files."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what is proven; fail when something that should be is not."""
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        _, params = self.validate_argument_spec(PROOF_ARGUMENTS)
        result.update(changed=False, database=params["login_db"])
        try:
            result.update(self._prove({**params, "require_primary": False}, task_vars or {}))
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code)
        return result

    def _prove(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._inspect(params, 1, task_vars)
        if answer.get("failed"):
            return answer
        files = _read(params, answer["server_version"])
        verdict = files.verdict
        if files.scripts:
            answer = self._run_module(params, files, task_vars)
            if answer.get("failed"):
                return answer
            verdict = verdict.with_those_of(Verdict.from_result(answer))
        return {**verdict.as_result(), **verdict.outcome(params["login_db"])}

    def _run_module(self, params: dict[str, Any], files: Files, task_vars: dict[str, Any]) -> dict[str, Any]:
        bundle = self._ship(Order(digest(())), files.tasks, task_vars["inventory_hostname"])
        own = {name: value for name, value in params.items() if name in PROOF_ARGUMENTS}
        scripts = {str(version): asdict(script) for version, script in files.scripts.items()}
        return dict(self._call("rollback_proof", {**own, "_bundle": bundle, "_scripts": scripts}, task_vars))


def _read(params: dict[str, Any], server_version: int) -> Files:
    """Read the migrations up to the last one that is wanted, and the scripts of those that are."""
    project = project_directory(C.CONFIG_FILE)
    migrations = read_folder(project / params["directory"])
    wanted = _wanted(migrations, params["versions"])
    scripts = _scripts(project / params["rollback_directory"])
    files = Files()
    for version in sorted(one for one in migrations.migrations if one <= max(wanted, default=-1)):
        migration = migrations.migrations[version]
        prepared = _add(files, migration, migration, migrations.path, params["directory"], server_version)
        if version not in wanted:
            continue
        if prepared.directives.rollback_none:
            reason = prepared.directives.rollback_none
            files.verdict.irreversible.append(Irreversible(version, migration.name, reason))
        elif version not in scripts.migrations:
            files.verdict.unproven.append(no_script(version, migration.name, params["rollback_directory"]))
        else:
            script = scripts.migrations[version]
            _add(files, migration, script, scripts.path, params["rollback_directory"], server_version)
            files.scripts[version] = Script(f"{params['rollback_directory']}/{script.name}", script.checksum)
    return files


def _wanted(folder: Folder, versions: list[int] | None) -> set[int]:
    if versions is None:
        return set(folder.migrations)
    strange = sorted(set(versions) - set(folder.migrations))
    if strange:
        raise RunbookError(
            f"There is no migration with the number {', '.join(map(str, strange))} in {folder.path}. "
            "Name versions that exist, or all.",
            code="unknown-version",
        )
    return set(versions)


def _scripts(folder: Path) -> Folder:
    """The rollback scripts; a folder that is not there has none."""
    return read_folder(folder) if folder.is_dir() else Folder(folder)


def _add(
    files: Files, migration: Migration, script: Migration, folder: Path, shown: str, server_version: int
) -> Prepared:
    """Have a file run, as far as it stays inside of the database."""
    prepared, left_out = kept_inside(prepare(script, folder, server_version), shown, files.foreign)
    task = Task.of(Entry.of(migration, ""), prepared, rollback=script is not migration)
    files.tasks.append((task, prepared))
    files.verdict.notes += left_out
    return prepared
