# SPDX-License-Identifier: GPL-3.0-or-later
"""Making all checks of a database, and saying what came of each.

No check can change anything, take longer than its time limit, or keep the others from being made: each of those in SQL
has a read-only transaction of its own, but for what is read from the catalog, which is asked once for all of them.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Any, Callable
from urllib.parse import unquote, urlsplit

from ansible.module_utils.runbook import check_data, check_logs, check_performance, check_schema, check_smoke, health
from ansible.module_utils.runbook.check import (
    ERRORED,
    FAIL_ON,
    FAILED,
    GROUPS,
    HEALTH,
    PASSED,
    SKIPPED,
    STATUSES,
    Check,
    Finding,
    Outcome,
    cleaned,
    is_red,
    sentence,
)
from ansible.module_utils.runbook.check_catalog import Catalog
from ansible.module_utils.runbook.check_kind import KINDS
from ansible.module_utils.runbook.check_report import headline
from ansible.module_utils.runbook.check_smoke import OutOfTime
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.duration import is_duration, milliseconds, seconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.ledger import Ledger
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.session import (
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    Session,
    SqlError,
    application_name,
    connect,
    refuse_old,
)

OPERATION = "check"

CHECK_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    "schema": {"type": "str", "default": "cm"},
    "directory": {"type": "path", "default": ""},
    "checks": {"type": "list", "elements": "dict", "default": []},
    "only": {"type": "list", "elements": "str", "default": [], "choices": list(GROUPS)},
    "health": {"type": "bool", "default": True},
    "health_severity": {"type": "dict", "default": {}},
    "fail_on": {"type": "str", "default": "error", "choices": list(FAIL_ON)},
    "timeout": {"type": "str", "default": "30s"},
    "rows": {"type": "int", "default": 5},
    "log_source": {"type": "str", "default": "auto", "choices": list(check_logs.SOURCES)},
    "log_container": {"type": "str", "default": ""},
    "log_docker_host": {"type": "str", "default": ""},
    "log_unit": {"type": "str", "default": ""},
    "log_file": {"type": "path", "default": ""},
    "started_at": {"type": "str", "default": "10min"},
    "report_directory": {"type": "path", "default": ""},
}

_READ_ONLY = "25006"  # SQLSTATE read_only_sql_transaction

# The sessions that carry out the groups, each with what it needs.
_IN_SESSION: dict[str, Callable[[Session, Check, int], Finding]] = {
    **check_data.RUNNERS,
    **check_performance.RUNNERS,
    "sql": check_smoke.sql,
    HEALTH: health.run,
}
_UNSEEN = ("http", "command")  # what somebody else would notice, so that check mode leaves it out

# What a check gets beyond its limit for ending what it has begun, in seconds.
_GRACE = 1.0

# How much sooner waiting for a lock ends than the statement: with equal limits the server tells the wrong one.
_LOCK_SHARE = 0.9


def run(login: Login, checks: Sequence[Check], params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Make the checks, the health checks included.

    Parameters:
        login: to the database.
        checks: as ``check_file`` has read them.
        params: options of ``CHECK_ARGUMENTS``.
        check_mode: leave out what others would notice: HTTP requests and commands.

    Returns:
        the result of the module ``database_check``.

    Raises:
        RunbookError: the database cannot be reached, or an option cannot be meant. Checks never raise.
    """
    began = time.monotonic()
    asked = _selected(checks, params)
    since = _moment(params["started_at"])
    validation = _Validation(params, since, check_mode, _secrets(login, checks))
    with connect(login, application_name(OPERATION)) as session:
        refuse_old(session, login)
        validation.secrets.add(session.password)
        try:
            version = _version(session, params["schema"])
        except SqlError as error:
            raise explain(error, f"Reading the schema version of {login}", "") from error
        validation.make(session, version, asked)
        server_version = session.server_version
    validation.make_outside(asked)
    outcomes = [_judged(validation.outcomes[check.name].as_dict(), params["fail_on"]) for check in asked]
    result: dict[str, Any] = {
        "database": login.database,
        "schema_version": version,
        "server_version": server_version,
        "checks": outcomes,
        "counts": {status: sum(one["status"] == status for one in outcomes) for status in STATUSES},
        "only": list(params["only"]),
        "red": any(one["red"] for one in outcomes),
        "seconds": round(time.monotonic() - began, 3),
    }
    return {**result, "summary": headline(result, params["fail_on"])}


def _judged(outcome: dict[str, Any], fail_on: str) -> dict[str, Any]:
    return {**outcome, "red": is_red(outcome, fail_on)}


def _selected(checks: Sequence[Check], params: Mapping[str, Any]) -> list[Check]:
    """The checks of the groups that are asked for; health checks give way to others of their name."""
    if not seconds("timeout", params):
        raise RunbookError("The option timeout is 0, and every check has to have a time limit.", code="option")
    if params["rows"] < 0:
        raise RunbookError(f"The option rows is {params['rows']}, and has to be 0 or more.", code="option")
    taken = {check.name for check in checks}
    ours = health.checks(params["health_severity"]) if params["health"] else []
    every = [*checks, *(check for check in ours if check.name not in taken)]
    return [check for check in every if not params["only"] or _group(check) in params["only"]]


def _group(check: Check) -> str:
    return HEALTH if check.kind == HEALTH else KINDS[check.kind].group


def _moment(text: str) -> datetime:
    """A time in RFC 3339, or a duration back from now.

    Raises:
        RunbookError: ``option`` for anything else, a time without its zone above all.
    """
    if is_duration(text):
        return datetime.now(timezone.utc) - timedelta(milliseconds=milliseconds(text) or 0)
    try:
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RunbookError(
            f'The option started_at is "{text}". Write how long ago, such as 10min, or a time with its zone, such as '
            "2026-11-22T14:30:00Z.",
            code="option",
        )
    return moment


def _secrets(login: Login, checks: Iterable[Check]) -> set[str]:
    """What no message may show: the password, and what checks hand over to web servers."""
    found = {login.password}
    for check in checks:
        if check.kind == "http":
            parts = urlsplit(check.options["url"])
            found |= {parts.password or "", unquote(parts.password or ""), *check.options["headers"].values()}
    return found


def _version(session: Session, schema: str) -> int | None:
    ledger = Ledger(schema)
    return ledger.summary(session, ledger.tables(session)).version


class _Validation:
    """Makes checks and keeps what came of them, by name.

    Parameters:
        params: options of the module.
        since: from when on the log counts.
        check_mode: as for ``run``.
        secrets: what is masked in everything that is kept.
    """

    def __init__(self, params: Mapping[str, Any], since: datetime, check_mode: bool, secrets: set[str]) -> None:
        self._params = params
        self._since = since
        self._check_mode = check_mode
        self.secrets = secrets
        self.outcomes: dict[str, Outcome] = {}
        self._gone: SqlError | None = None

    def make(self, session: Session, version: int | None, checks: Sequence[Check]) -> None:
        """Make all checks that need the database, and skip those that are for another schema version."""
        for check in checks:
            reason = _other_version(check, version)
            if reason:
                self._keep(check, SKIPPED, reason)
        # The log comes first: what our own checks do wrong is no error of the run.
        self._make_logs(session, self._left(checks, "log"))
        self._make_schema(session, self._left(checks, *check_schema.RUNNERS))
        for check in self._left(checks, *_IN_SESSION):
            self._note(check, partial(self._in_session, session, check))

    def make_outside(self, checks: Sequence[Check]) -> None:
        """Make the checks that need no session; the one there was is over, however long these take."""
        for check in self._left(checks, *check_smoke.RUNNERS):
            if self._check_mode and check.kind in _UNSEEN:
                self._keep(check, SKIPPED, check_smoke.said_instead(check))
            else:
                runner = check_smoke.RUNNERS[check.kind]
                self._note(check, partial(_within, self._limit(check), runner, check))

    def _left(self, checks: Iterable[Check], *kinds: str) -> list[Check]:
        return [check for check in checks if check.kind in kinds and check.name not in self.outcomes]

    # --- groups -------------------------------------------------------------------------------------------------

    def _make_logs(self, session: Session, checks: Sequence[Check]) -> None:
        params = self._params
        place = check_logs.Place(
            source=params["log_source"],
            container=params["log_container"],
            docker_host=params["log_docker_host"],
            unit=params["log_unit"],
            file=params["log_file"],
        )
        for check in checks:
            self._note(check, partial(self._look_at_log, session, place, check))

    def _look_at_log(self, session: Session, place: check_logs.Place, check: Check) -> Finding:
        limit = self._limit(check)
        self._begin(session, limit)
        log = check_logs.find(session, place)
        session.query("ROLLBACK")  # reading may take its time, and no snapshot has to be held for as long
        return check_logs.check(log, check, self._since, limit)

    def _make_schema(self, session: Session, checks: Sequence[Check]) -> None:
        """In one snapshot, read as the checks need it."""
        if not checks:
            return
        catalog = Catalog(session, [schema for check in checks for schema in check_schema.schemas_of(check)])
        try:
            self._begin(session, seconds("timeout", self._params), catalog=True)
        except SqlError as error:
            for check in checks:
                self._keep(check, ERRORED, self._why(error, check))
            return
        for check in checks:
            self._note(check, partial(check_schema.RUNNERS[check.kind], catalog, check))

    def _in_session(self, session: Session, check: Check) -> Finding:
        self._begin(session, self._limit(check))
        return _IN_SESSION[check.kind](session, check, self._params["rows"])

    def _begin(self, session: Session, limit: float, catalog: bool = False) -> None:
        """A transaction that can change nothing, in place of the one before, in a single message.

        Behind the savepoint no SET can make it one that writes (PostgreSQL documentation, "SET TRANSACTION").
        """
        self._have(session)
        level = " ISOLATION LEVEL REPEATABLE READ" if catalog else ""
        session.run(
            [
                *([Piece(b"ROLLBACK")] if session.in_transaction else []),
                Piece(f"BEGIN{level} READ ONLY".encode()),
                *session.limits("SET LOCAL", limit * _LOCK_SHARE, limit),
                # What was seen to be one statement when it was read has to be one for the server, too.
                Piece(b"SET LOCAL standard_conforming_strings = on"),
                # Rows that a policy hides would be missed without a word; so it is an error.
                Piece(b"SET LOCAL row_security = off"),
                *([Piece(b"SET LOCAL search_path = pg_catalog")] if catalog else []),
                Piece(b"SAVEPOINT begun"),
            ]
        )

    def _have(self, session: Session) -> None:
        """See that there is a session; a server that is gone is not waited for by each check anew."""
        if self._gone is None and not session.alive:
            try:
                session.renew()
            except SqlError as error:
                self._gone = error
        if self._gone is not None:
            raise self._gone

    # --- outcomes -----------------------------------------------------------------------------------------------

    def _limit(self, check: Check) -> float:
        return check.timeout / 1000 if check.timeout else seconds("timeout", self._params)

    def _note(self, check: Check, look: Callable[[], Finding]) -> None:
        """Make one check; whatever happens, the others get their turn."""
        began = time.monotonic()
        try:
            finding = look()
        except check_logs.Unknown as unknown:
            finding = Finding(None, str(unknown))
        except (OutOfTime, subprocess.TimeoutExpired):
            self._keep(check, ERRORED, self._too_slow(check), began=began)
            return
        except SqlError as error:
            self._keep(check, ERRORED, self._why(error, check), {"sqlstate": error.sqlstate}, began)
            return
        except RunbookError as error:
            self._keep(check, ERRORED, error.message, began=began)
            return
        except Exception as error:  # noqa: BLE001 - a slip in one check must not hide the others
            self._keep(check, ERRORED, f"It could not be made: {type(error).__name__}, {error}.", began=began)
            return
        status = SKIPPED if finding.passed is None else PASSED if finding.passed else FAILED
        self._keep(check, status, finding.message, finding.found, began)

    def _keep(
        self,
        check: Check,
        status: str,
        message: str,
        found: Mapping[str, Any] | None = None,
        began: float | None = None,
    ) -> None:
        self.outcomes[check.name] = Outcome(
            name=sentence(check.name, self.secrets),
            kind=check.kind,
            group=_group(check),
            severity=check.severity,
            status=status,
            message=sentence(message, self.secrets),
            found=cleaned(found or {}, self.secrets),
            seconds=round(time.monotonic() - began, 3) if began is not None else 0.0,
            where=check.where,
        )

    def _too_slow(self, check: Check) -> str:
        return (
            f"It was not done within its time limit of {self._limit(check):g} s. Allow it more with timeout, or have "
            "it look at less."
        )

    def _why(self, error: SqlError, check: Check) -> str:
        """The server's error as a sentence about this check."""
        if error.lost:
            return f"The connection was lost: {error.message.rstrip('.')}."
        if error.sqlstate == QUERY_CANCELED:
            return self._too_slow(check)
        if error.sqlstate == LOCK_NOT_AVAILABLE:
            return "It waited for a lock that somebody held for the whole time. Find out who, and run this again."
        said = ". ".join(part.rstrip(".") for part in (error.message, error.detail, error.hint) if part)
        if error.sqlstate == _READ_ONLY:
            return f"The server refused it: {said}. A check only reads."
        if error.sqlstate == INSUFFICIENT_PRIVILEGE:
            return f"The server refused it: {said}. Grant db_user what the check has to read."
        return f"The server refused it: {said}."


def _other_version(check: Check, version: int | None) -> str:
    """Why a check is not for this version of the schema; empty when it is."""
    stands = "The database has no version yet" if version is None else f"The database is at version {version}"
    if check.since is not None and (version is None or version < check.since):
        return f"{stands}, and this check is for version {check.since} and later."
    if check.until is not None and version is not None and version > check.until:
        return f"{stands}, and this check is for versions up to {check.until}."
    return ""


def _within(limit: float, runner: check_smoke.Runner, check: Check) -> Finding:
    """Give up on a check in time, even where a program cannot: looking up a name has no time limit, nor has the sum of
    redirections. What is given up on ends with the module.
    """
    answer: list[Finding] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(runner(check, limit))
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            failure.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limit + _GRACE)
    if failure:
        raise failure[0]
    if not answer:
        raise OutOfTime
    return answer[0]


def shipped(checks: Iterable[Check]) -> str:
    """Checks as one text, for the way to the target. It may hold what web servers are told in secret."""
    return json.dumps([check.as_dict() for check in checks])


def received(text: str) -> list[Check]:
    """The reverse of ``shipped``."""
    return [Check(**entry) for entry in json.loads(text)]
