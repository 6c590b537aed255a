# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of ``schema_migration``: read the files, make the plan, ship it in one piece."""

from __future__ import annotations

import getpass
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible.module_utils
from ansible import constants as C
from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(C.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook import presentation
from ansible.module_utils.runbook.arguments import MIGRATION_ARGUMENTS
from ansible.module_utils.runbook.bundle import Order, Task, write_bundle
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS
from ansible.module_utils.runbook.errors import RunbookError, failure_of
from ansible.module_utils.runbook.ledger import Entry, State, digest, from_result
from ansible.module_utils.runbook.migration import Folder, Migration, Prepared, prepare, read_directives, read_folder
from ansible.module_utils.runbook.plan import Plan, Wanted, make_plan
from ansible.module_utils.runbook.project import project_directory

# Another run may finish between our look at the ledger and our run lock: then the plan is made again.
PLANS = 3

# A ledger of so many rows comes with the first look; a longer one is fetched only when the files differ from it.
SHORT_LEDGER = 1000


class ActionModule(ActionBase):  # type: ignore[misc] # ansible-core ships no type information
    """One look at the ledger; a second module call only when there is something to do."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module, or what it would be in check mode."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, params = self.validate_argument_spec(MIGRATION_ARGUMENTS)
        for name in ("directory", "rollback_directory"):
            params[name] = str(project_directory(C.CONFIG_FILE) / params[name])
        result.update(changed=False, database=params["login_db"], schema=params["schema"])
        try:
            self._migrate(params, task_vars or {}, result)
        except RunbookError as error:
            result.update(error.details, failed=True, msg=error.message, code=error.code)
        if result.get("failed") and result.get("applied") and params["expected"] is not None:
            result["msg"] += presentation.not_validated(result["applied"], (task_vars or {})["inventory_hostname"])
        if result.get("failed") and params["backup_set"]:
            result["msg"] += self._way_back(params, task_vars or {})
        return result

    def _migrate(self, params: dict[str, Any], task_vars: dict[str, Any], result: dict[str, Any]) -> None:
        presentation.refuse_unconfirmed(params)
        presentation.refuse_unguarded(context.CLIARGS.get("skip_tags") or (), context.CLIARGS.get("start_at_task"))
        wanted = presentation.wanted(params)
        for _ in range(PLANS):
            folder, answer = self._look(params, task_vars)
            if answer.get("failed"):
                result.update(answer)
                return
            result["server_version"] = answer["server_version"]
            if _nothing_to_do(answer, folder, wanted):
                result.update(presentation.predicted(Plan(answer["version"], answer["version"])))
                return
            state = from_result(answer["ledger"] if "ledger" in answer else self._whole_ledger(params, task_vars))
            plan = make_plan(folder, state, wanted)
            _refuse_irreversible(plan.roll_back, folder.path, params, task_vars)
            result.update(presentation.predicted(plan))
            presentation.refuse_unplanned(plan, params["expected"])
            if not plan.changes:
                return
            tasks = self._prepare(plan, folder, params, result)
            if self._task.diff:
                result["diff"] = presentation.diff(params["login_db"], state, plan, [prepared for _, prepared in tasks])
            if self._task.check_mode:
                result["changed"] = True
                return
            if not self._apply(plan, state, tasks, params, task_vars, result):
                return
        raise RunbookError(
            f"The ledger of {params['login_db']} changed each time before this run got its turn. "
            "Find out who else migrates it, then run this again.",
            code="busy",
        )

    def _way_back(self, params: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """How to restore the backup set that is behind this run."""
        given = context.CLIARGS.get("inventory") or ()
        return presentation.way_back(
            params["backup_set"],
            params["login_db"],
            host=task_vars["inventory_hostname"],
            one_of_several=isinstance(self._templar.template(task_vars.get("db_name")), list),
            inventories=() if list(given) == list(C.DEFAULT_HOST_LIST) else given,
        )

    def _look(self, params: dict[str, Any], task_vars: dict[str, Any]) -> tuple[Folder, dict[str, Any]]:
        """Read the files here while the module reads the ledger there."""
        with ThreadPoolExecutor(max_workers=1) as reader:
            folder = reader.submit(read_folder, Path(params["directory"]))
            answer = self._inspect(params, SHORT_LEDGER, task_vars)
            return folder.result(), answer

    def _whole_ledger(self, params: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        answer = self._inspect(params, 0, task_vars)
        if answer.get("failed"):
            raise RunbookError(answer["msg"], answer.get("code", "connection"))
        return dict(answer["ledger"])

    def _inspect(self, params: dict[str, Any], limit: int, task_vars: dict[str, Any]) -> dict[str, Any]:
        login = {name: params[name] for name in LOGIN_ARGUMENTS}
        shared = {name: params[name] for name in ("schema", "require_primary")}
        arguments = {**login, **shared, "limit": limit}
        return self._call("schema_info", arguments, task_vars)

    def _prepare(
        self, plan: Plan, folder: Folder, params: dict[str, Any], result: dict[str, Any]
    ) -> list[tuple[Task, Prepared]]:
        """Read every file the plan runs, so that nothing starts when one of them is not usable."""
        server_version = result["server_version"]
        tasks = []
        for migration in plan.apply:
            prepared = prepare(migration, folder.path, server_version)
            tasks.append((Task.of(_entry(migration, params), prepared, rollback=False), prepared))
        for migration, script in _rollback_scripts(plan.roll_back, params):
            prepared = prepare(script, Path(params["rollback_directory"]), server_version)
            tasks.append((Task.of(_entry(migration, params), prepared, rollback=True), prepared))
        for _, prepared in tasks:
            for warning in prepared.directives.warnings:
                self._display.warning(warning)
        return tasks

    def _apply(
        self,
        plan: Plan,
        state: State,
        tasks: list[tuple[Task, Prepared]],
        params: dict[str, Any],
        task_vars: dict[str, Any],
        result: dict[str, Any],
    ) -> bool:
        """Ship the plan and run it; True when the ledger had changed, so that nothing was done."""
        order = Order(
            expected=state.digest(),
            repair=_entries(plan.repair),
            adopt=_entries(plan.adopt),
            baseline=_entries(plan.baseline),
        )
        bundle = self._ship(order, tasks, task_vars["inventory_hostname"])
        answer = self._call("schema_migration", {**params, "_bundle": bundle, "_requested_by": _requester()}, task_vars)
        stale = bool(answer.pop("stale", False))
        result.update(answer)
        if not stale:
            result.update(presentation.left(plan, answer))
        if not answer.get("changed"):  # a module that died says nothing at all
            result["version"] = plan.previous_version
        if not stale and not answer.get("failed"):
            result["msg"] = presentation.done(answer)
        return stale

    def _ship(self, order: Order, tasks: list[tuple[Task, Prepared]], host: str) -> str:
        shell = self._connection._shell
        folder = shell.tmpdir or self._make_tmp_path()
        remote = shell.join_path(folder, "bundle")
        with tempfile.NamedTemporaryFile(dir=C.DEFAULT_LOCAL_TMP, prefix="bundle-") as local:
            write_bundle(local, order, tasks)
            local.flush()
            self._transfer_file(local.name, remote)
        self._hand_over(folder, remote, host)
        return str(remote)

    def _hand_over(self, folder: str, bundle: str, host: str) -> None:
        """Let the account that the module runs as read the bundle, and remove it."""
        try:
            self._fixup_perms2((folder, bundle), execute=False)
        except AnsibleError as error:
            raise RunbookError(
                f"The account {self._get_remote_user()} has no way to hand a file to "
                f"{self.get_become_option('become_user')} on {host}: setfacl is missing or does not work there. "
                f"Run ansible-playbook prepare.yml -l {host}.",
                code="hand-over",
            ) from error
        if self._is_become_unprivileged():
            # Ansible grants no more than reading. Where there are no access control lists, it has found another way
            # and the folder goes at the end of the task.
            self._remote_set_user_facl([folder], self.get_become_option("become_user"), "rwx")

    def _call(self, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_name=module, module_args=arguments, task_vars=task_vars, wrap_async=False
        )
        answer.pop("invocation", None)
        if answer.get("module_stderr"):
            answer["msg"] = failure_of(answer)
        return answer


def _nothing_to_do(answer: dict[str, Any], folder: Folder, wanted: Wanted) -> bool:
    """Whether the ledger is known, without its rows, to be what was asked for."""
    exists = wanted.version is None or wanted.version in folder.migrations
    return exists and not answer["interrupted"] and answer["digest"] == _expected_digest(folder, wanted)


def _expected_digest(folder: Folder, wanted: Wanted) -> str:
    """What the ledger says when nothing is left to do."""
    return digest(
        (migration.version, migration.checksum, migration.name)
        for migration in folder.migrations.values()
        if wanted.version is None or migration.version <= wanted.version
    )


def _refuse_irreversible(
    migrations: tuple[Migration, ...], folder: Path, params: dict[str, Any], task_vars: dict[str, Any]
) -> None:
    """Refuse to go back across files that say themselves that no script can undo them."""
    declared = {
        migration.name: reason
        for migration in migrations
        if (folder / migration.name).is_file()
        and (reason := read_directives((folder / migration.name).read_bytes(), migration.name).rollback_none)
    }
    if declared:
        said = "; ".join(f"{name} ({reason})" for name, reason in declared.items())
        raise RunbookError(
            f"No script leads back across {said}. Nothing was rolled back. What does is a backup set from before, "
            f"whose name stands for <set> here: ansible-playbook restore.yml -l {task_vars['inventory_hostname']} "
            f"-e restore_backup=<set> -e restore_confirm={params['login_db']}. status.yml names the newest one.",
            code="irreversible",
        )


def _rollback_scripts(migrations: tuple[Migration, ...], params: dict[str, Any]) -> list[tuple[Migration, Migration]]:
    """Each migration with the script that undoes it, in order."""
    if not migrations:
        return []
    folder = Path(params["rollback_directory"])
    if not folder.is_dir():
        raise RunbookError(
            f"The rollback folder {folder} does not exist. Nothing was rolled back. "
            "Create it, or set migrate_rollback_directory to where the scripts are.",
            code="no-folder",
        )
    scripts = read_folder(folder).migrations
    missing = [migration.name or str(migration.version) for migration in migrations if migration.version not in scripts]
    if missing:
        raise RunbookError(
            f"There is no rollback script for {', '.join(missing)} in {folder}. "
            "Nothing was rolled back. Write the script under the same name, or restore a backup.",
            code="no-rollback-script",
        )
    return [(migration, scripts[migration.version]) for migration in migrations]


def _entries(migrations: tuple[Migration, ...]) -> tuple[Entry, ...]:
    return tuple(Entry.of(migration, _requester()) for migration in migrations)


def _entry(migration: Migration, params: dict[str, Any]) -> Entry:
    return Entry.of(migration, _requester(), params["notes"].get(str(migration.version), ""))


def _requester() -> str:
    """Who asked for this run, for the ledger and pg_stat_activity."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
