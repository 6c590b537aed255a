# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is to restore from, and what earlier restores have left; only looked at."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.runbook import backup_set, journal
from ansible.module_utils.runbook.backup_set import BackupSet
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import application_name, connect
from ansible.module_utils.runbook.space import folder_bytes
from ansible.module_utils.runbook.store import PLACE_ARGUMENTS, Store

INFO_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **PLACE_ARGUMENTS,
    "maintenance_db": {"type": "str", "default": "postgres"},
}


def look(login: Login, params: Mapping[str, Any]) -> dict[str, Any]:
    """List the sets on this host and the kept databases of the server.

    When the server does not answer, the sets are what matters most: then ``problem`` says why the rest is not known.

    Parameters:
        params: options of ``INFO_ARGUMENTS``.

    Returns:
        the result of the module ``backup_info``.

    Raises:
        OSError: when the folder cannot be read.
    """
    sets = Store.of(params, login.database).sealed()
    now = datetime.now(timezone.utc)
    verified = [one for one in sets if one.state == backup_set.VERIFIED]
    return {
        "database": login.database,
        "sets": [str(one.name) for one in sets],
        "newest": _described(sets[-1], now) if sets else None,
        "verified": _described(verified[-1], now) if verified else None,
        **_databases(login, params),
    }


def _databases(login: Login, params: Mapping[str, Any]) -> dict[str, Any]:
    try:
        with connect(login.to(params["maintenance_db"]), application_name("info")) as session:
            databases = journal.read(session, login.database)
    except RunbookError as error:
        return {"kept": [], "unfinished": [], "trials": [], "problem": error.message}
    unfinished = [f"{one.name} ({one.journal.phase})" for one in (*databases.side, *databases.scratch)]
    return {
        "kept": [_kept(one) for one in databases.kept],
        "unfinished": unfinished,
        "trials": [one.name for one in databases.trial],
        "problem": "",
    }


def _described(one: BackupSet, now: datetime) -> dict[str, Any]:
    evidence = one.evidence() or {}
    return {
        "set": str(one.name),
        "state": one.state,
        "age_seconds": round((now - one.name.taken_at).total_seconds()),
        "bytes": folder_bytes(one.path),
        "verified_at": evidence.get("verified_at"),
        "recovery_seconds": evidence.get("recovery_seconds"),
    }


def _kept(one: journal.Noted) -> dict[str, Any]:
    return {"name": one.name, "since": one.journal.since, "until": one.journal.until}
