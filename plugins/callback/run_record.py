# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a run record for every operating playbook, failed and interrupted runs included."""

from __future__ import annotations

DOCUMENTATION = """
name: run_record
type: notification
short_description: Keep a record of every run
version_added: "1.0.0"
author: Schema Runbook contributors
description:
  - Writes one JSON file per run and environment, C(.runs/<environment>/<UTC>-<operation>.json), whose fields
    C(docs/run-record.md) describes.
  - A playbook says which operation it is by the play variable C(guard_operation), usually on
    C(import_playbook) of the guard. A playbook without it leaves no record.
  - A record that cannot be written is a warning; it never fails the run.
  - After a failure it prints whom to call, from the variable C(db_contacts) of the hosts that failed. What the guard
    refuses is no such failure.
requirements:
  - Enabled by C(callbacks_enabled = run_record) in C(ansible.cfg).
options:
  directory:
    description:
      - Folder of the run records.
      - By default C(.runs) beside the C(ansible.cfg) in use, or in the current folder when there is none.
    type: path
    ini:
      - section: callback_run_record
        key: directory
    env:
      - name: SCHEMA_RUNBOOK_RUNS
"""

import atexit
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible.module_utils
from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as core_version
from ansible.template import Templar

# Ansible ships configured module_utils to targets; on the controller a plugin has to say where they are.
ansible.module_utils.__path__.extend(constants.DEFAULT_MODULE_UTILS_PATH)

from ansible.module_utils.runbook import contacts, host_entry
from ansible.module_utils.runbook import record as run
from ansible.module_utils.runbook.environment import environment_of
from ansible.module_utils.runbook.project import project_directory, runs_directory

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook import Playbook
    from ansible.playbook.play import Play

OPERATION_VARIABLE = "guard_operation"
MIGRATION, REPLAY = "schema_migration", "standby_replay"
# What each of the modules that do something to a database says, and who takes it.
TAKERS = {
    MIGRATION: host_entry.HostEntry.take,
    REPLAY: host_entry.HostEntry.take_replay,
    "database_backup": host_entry.HostEntry.take_backup,
    "database_restore": host_entry.HostEntry.take_restore,
    "database_drill": host_entry.HostEntry.take_drill,
    "schema_lint": host_entry.HostEntry.take_lint,
    "promotion_gate": host_entry.HostEntry.take_gate,
    "database_check": host_entry.HostEntry.take_checks,
    "schema_info": host_entry.HostEntry.take_state,
    "schema_drift": host_entry.HostEntry.take_drift,
    "rollback_proof": host_entry.HostEntry.take_proof,
}
GUARD = "runbook_guard"
SECRET_NAMES = ("password", "pass", "passphrase", "secret", "token")


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Listens to a run and keeps its records up to date."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "run_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._playbook = ""
        self._play: Play | None = None
        self._files: list[run.RecordFile] = []
        self._file_of: dict[str, run.RecordFile] = {}
        self._failures: dict[str, CallbackTaskResult] = {}
        self._warned = False

    # --- what Ansible reports ---------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Remember the playbook's name; each playbook of a command line has records of its own."""
        self._playbook = str(playbook._file_name)
        self._files, self._file_of, self._failures = [], {}, {}

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Start the records at the first play that names its operation."""
        self._play = play
        operation = play.vars.get(OPERATION_VARIABLE)
        if not self._files and isinstance(operation, str) and run.OPERATION.fullmatch(operation):
            self._start(play, operation)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Take what a migration task reports; its items, if it is a loop, have been taken before."""
        if result.task.loop is None:
            self._take(result)

    def v2_runner_item_on_ok(self, result: CallbackTaskResult) -> None:
        """Take what one item of a migration loop reports."""
        self._take(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Take a failure; the summary of a loop says less than the failed item did."""
        if result.task.loop is None:
            self._take(result, failed=not ignore_errors)
        elif not ignore_errors and not self._has_error_of(result):
            self._take(result, failed=True)

    def v2_runner_item_on_failed(self, result: CallbackTaskResult) -> None:
        """Take the failure of one item of a loop."""
        self._take(result, failed=result.task.ignore_errors is not True)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Take a host that could not be reached as failed."""
        self._take(result, failed=result.task.ignore_unreachable is not True)

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Finish the records: only Ansible's statistics know which failures were rescued.

        A run fails as a whole. Ansible does not report which other hosts it stopped because of a failure, so a record
        must not claim success for hosts that may never have had their turn.
        """
        lost = {*stats.failures, *stats.dark}
        for host, file in self._file_of.items():
            for entry in file.record.entries(host):
                if host not in lost:
                    entry.error = None
        for file in self._files:
            self._finish(file, run.FAILED if lost else run.SUCCEEDED)
        self._say_whom_to_call(sorted(lost & self._failures.keys()))

    # --- what that means for the records ----------------------------------------------------------------------

    def _start(self, play: Play, operation: str) -> None:
        project = project_directory(constants.CONFIG_FILE)
        directory = Path(self.get_option("directory") or runs_directory(constants.CONFIG_FILE))
        controller = run.Controller.current(project)
        invocation = run.Invocation(
            core=core_version,
            playbook=_relative(self._playbook, project),
            limit=context.CLIARGS.get("subset"),
        )
        for environment, hosts in _hosts_by_environment(play).items():
            record = run.Record(
                operation=operation,
                environment=environment,
                controller=controller,
                ansible=invocation,
                hosts={host: host_entry.HostEntry() for host in hosts},
                check=bool(context.CLIARGS.get("check")),
            )
            with self._only_warning(directory / environment):
                run.sweep(directory / environment)
                self._follow(run.RecordFile.begin(directory / environment, record))
        # Ansible reports nothing when it is interrupted from the keyboard. It ends itself on SIGTERM without
        # running exit handlers; like a kill, that is noticed by the next run's sweep.
        atexit.register(self._interrupted, os.getpid())

    def _say_whom_to_call(self, hosts: list[str]) -> None:
        """Print the contacts of the hosts that failed: on standard error, since the output may be somebody's JSON."""
        lines = contacts.lines(contact for host in hosts for contact in self._contacts(self._failures[host]))
        if lines:
            self._display.display("\n".join(lines), stderr=True)

    def _contacts(self, result: CallbackTaskResult) -> list[Any]:
        variables, loader = self._variables(result), result.task.get_loader()
        try:
            found = Templar(loader=loader, variables=variables).template(variables.get("db_contacts"))
        except AnsibleError:  # Nobody can be called by a template that cannot be resolved.
            return []
        return found if isinstance(found, list) else []

    def _follow(self, file: run.RecordFile) -> None:
        self._files.append(file)
        self._file_of.update(dict.fromkeys(file.record.hosts, file))

    def _take(self, result: CallbackTaskResult, failed: bool = False) -> None:
        """Update the host's entry; tasks that say nothing about the database and do not fail are not its business."""
        module = result.task.action.rpartition(".")[2]
        if failed and module != GUARD:  # What the guard refuses is for whoever typed it to mend.
            self._failures[result.host.name] = result
        if result.host.name not in self._file_of or not (module in TAKERS or failed):
            return
        file = self._file_of[result.host.name]
        clean = self._cleaner(result)
        # A standby is asked about all of its databases at once.
        database = result.result.get("database") if module in TAKERS and module != REPLAY else None
        entry = file.record.entry(result.host.name, database)
        if module == MIGRATION and result.task.check_mode and not file.record.check:
            entry.take_plan(result.result, clean)
        elif module in TAKERS:
            TAKERS[module](entry, result.result, clean)
        if failed:
            entry.error = host_entry.HostError.from_result(result.task_name, result.result, clean)
        with self._only_warning(file.path):
            file.write()

    def _has_error_of(self, result: CallbackTaskResult) -> bool:
        file = self._file_of.get(result.host.name)
        errors = [entry.error for entry in file.record.entries(result.host.name)] if file else []
        return any(error is not None and error.task == result.task_name for error in errors)

    def _cleaner(self, result: CallbackTaskResult) -> Callable[[str], str]:
        """Return the function that masks every secret the host's variables hold."""
        secrets = set(_secrets(self._variables(result), result.task.get_loader()))
        return lambda text: run.scrub(text, secrets)

    def _variables(self, result: CallbackTaskResult) -> dict[str, Any]:
        manager = result.task.get_variable_manager()
        found = manager.get_vars(play=self._play, host=result.host, task=result.task, include_hostvars=False)
        return dict(found)

    def _finish(self, file: run.RecordFile, outcome: str) -> None:
        if file.record.outcome == run.RUNNING:
            with self._only_warning(file.path):
                file.finish(outcome)

    def _interrupted(self, owner: int) -> None:
        if os.getpid() == owner:  # A forked worker inherits the exit handler, not the records.
            for file in self._files:
                self._finish(file, run.INTERRUPTED)

    def _only_warning(self, path: Path) -> _OnlyWarning:
        return _OnlyWarning(self, path)

    def warn_once(self, path: Path, error: OSError) -> None:
        """Say that a record could not be written, the first time it happens."""
        if not self._warned:
            self._warned = True
            self._display.warning(
                f"The run record {path} could not be written: {error.strerror or error}. "
                "The run goes on; nothing but its record is affected."
            )


class _OnlyWarning:
    """Turns a file system error into a single warning: a record never decides about a run."""

    def __init__(self, callback: CallbackModule, path: Path) -> None:
        self._callback = callback
        self._path = path

    def __enter__(self) -> None:
        """Begin work on the file system."""

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> bool:
        """Swallow an error of the file system, and only that."""
        if isinstance(error, OSError):
            self._callback.warn_once(self._path, error)
            return True
        return False


def _hosts_by_environment(play: Play) -> dict[str, list[str]]:
    """Return the hosts the play matches within the limit; hosts without an environment share one of their own."""
    variables = play.get_variable_manager().get_vars(play=play)
    environments: dict[str, list[str]] = {}
    for host in variables.get("ansible_play_hosts_all", []):
        environments.setdefault(_environment(variables["hostvars"][host]), []).append(host)
    return environments


def _environment(variables: Any) -> str:
    try:
        name: str | None = environment_of(variables, variables["group_names"])
    except AnsibleError:  # A template that cannot be resolved is the guard's to report.
        name = None
    return name or str(run.UNKNOWN_ENVIRONMENT)


def _secrets(variables: dict[str, Any], loader: Any) -> Iterator[str]:
    templar = Templar(loader=loader, variables=variables)
    for name in variables:
        if name.endswith(SECRET_NAMES):
            try:
                value = templar.template(variables[name])
            except AnsibleError:  # A value that cannot be resolved was not used by the task either.
                continue
            if isinstance(value, (str, int)):
                yield str(value)


def _relative(playbook: str, project: Path) -> str:
    path = Path(playbook).absolute()
    return str(path.relative_to(project)) if path.is_relative_to(project) else playbook
