# SPDX-License-Identifier: GPL-3.0-or-later
"""Applying a bundle to a database: sessions, run lock and runner put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from ansible.module_utils.runbook.bundle import BundleReader
from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.contention import LockPolicy
from ansible.module_utils.runbook.duration import seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.ledger import Ledger
from ansible.module_utils.runbook.replay import end_of_wal
from ansible.module_utils.runbook.runlock import held
from ansible.module_utils.runbook.runner import Outcome, Runner, Settings, Stale
from ansible.module_utils.runbook.session import (
    SqlError,
    application_name,
    connect,
    refuse_transaction_pooling,
    refuse_unusable,
)

OPERATION = "migrate"


@dataclass(frozen=True)
class Report:
    """How a run ended: what was done, and the error that ended it early, if one did.

    ``stale`` says that the ledger had changed since the plan was made, so that nothing was done.
    """

    outcome: Outcome
    error: RunbookError | None = None
    stale: bool = False


def settings(params: Mapping[str, Any]) -> Settings:
    """How to run, from the options of ``arguments.MIGRATION_ARGUMENTS``.

    Raises:
        RunbookError: ``option`` for a duration that cannot be meant.
    """
    return Settings(
        locks=LockPolicy(
            first=_positive("lock_timeout", params),
            longest=_positive("lock_timeout_max", params),
            budget=seconds("lock_budget", params),
        ),
        statement_timeout=seconds("statement_timeout", params),
        concurrent_timeout=seconds("concurrent_timeout", params),
        one_transaction=params["transaction"] == "all",
        show_blocking_queries=params["show_blocking_queries"],
    )


def apply_bundle(file: IO[bytes], login: Login, params: Mapping[str, Any], requested_by: str) -> Report:
    """Take the run lock, clear up after dead runs, and run the bundle.

    Parameters:
        file: the bundle.
        params: options of ``arguments.MIGRATION_ARGUMENTS``.
        requested_by: who asked for the run, shown in pg_stat_activity.
    """
    name = application_name(OPERATION, requested_by)
    try:
        with held(login, params, OPERATION, requested_by) as lock, connect(login, name) as session:
            refuse_unusable(session, login)
            refuse_transaction_pooling(session, login)
            runner = Runner(session, lock, Ledger(params["schema"]), settings(params))
            return _run(runner, BundleReader(file))
    except SqlError as error:
        return Report(Outcome(), explain(error, f"Preparing the run on {login}", ""))
    except RunbookError as error:
        return Report(Outcome(), error)


def _run(runner: Runner, bundle: BundleReader) -> Report:
    try:
        outcome = runner.run(bundle)
        if outcome.changed:
            outcome.wal_lsn = end_of_wal(runner.session)
        return Report(outcome)
    except Stale:
        return Report(runner.outcome, stale=True)
    except SqlError as error:
        return Report(runner.outcome, explain(error, "The run", ""))
    except RunbookError as error:
        return Report(runner.outcome, error)


def _positive(name: str, params: Mapping[str, Any]) -> float:
    duration = seconds(name, params)
    if not duration:
        raise RunbookError(
            f"The option {name} is 0: a migration would wait for a lock for ever, and the application behind it. "
            "Give it a limit such as 500ms.",
            code="option",
        )
    return duration
