# SPDX-License-Identifier: GPL-3.0-or-later
"""Turning the server's errors into sentences that say what to do next."""

from __future__ import annotations

import re

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import SqlError
from ansible.module_utils.runbook.statement import redact_passwords

# PL/pgSQL quotes the statement it ran, inside double quotes.
_PASSWORD = re.compile(r"(\bpassword\s+)e?'(?:[^']|'')*'", re.IGNORECASE)
_HIDDEN = r"\1'***'"

# By SQLSTATE (PostgreSQL documentation, Appendix A).
_ADVICE = {
    "25001": 'PostgreSQL refuses this inside a transaction: put "-- transaction: none" in the first line of the file.',
    "2D000": "The procedure or DO block ends transactions itself: "
    'put "-- transaction: none" in the first line of the file.',
    "55P04": "A new enum value cannot be used in the transaction that adds it: move the use into the next file, "
    'or put "-- transaction: none" in the first line of this one.',
    "55006": "Statements before this one left work for the end of the transaction, such as deferred constraint checks: "
    'split the file in two, or put "-- transaction: none" in its first line.',
    "57014": "It was cancelled, most likely by a time limit: allow more with "
    '"-- statement_timeout: 30min" in the first lines of the file, '
    "outside a transaction with migrate_concurrent_timeout.",
    "40001": "A concurrent transaction changed the same rows: run it again, or when the application is quiet.",
    "53100": "The disk of the server is full: free space there and run it again.",
    "42501": "The user of the run lacks a privilege: grant it, or act as the owner (db_user, db_session_role).",
    "42P06": "Write CREATE SCHEMA IF NOT EXISTS: a schema that holds the ledger can exist before the file runs.",
}


def explain(error: SqlError, what: str, kept: str) -> RunbookError:
    """An error of the server as a sentence: where, what the server said, what to do next.

    Parameters:
        what: the file or step at work, used where the error names no place itself.
        kept: a sentence that says what is left of the work.
    """
    file = error.piece.file if error.piece and error.piece.file else what
    where = f"{file}:{error.line}" if error.line else file
    if error.lost:
        return RunbookError(
            f"{where}: the connection to the server was lost ({error.message.rstrip('.')}). Whatever was recorded is "
            "complete, the rest left no trace. Check the server and run this again: it goes on where it stopped.",
            code="connection-lost",
            file=file,
            line=error.line or None,
        )
    said = [
        error.message,
        error.detail and f"Detail: {error.detail}",
        error.hint and f"Hint: {error.hint}",
        error.context and f"Where: {error.context.splitlines()[0]}",
        _ADVICE.get(error.sqlstate, ""),
        kept,
    ]
    text = " ".join(sentence.rstrip(".") + "." for sentence in said if sentence)
    return RunbookError(
        f"{where}: {redact_passwords(_PASSWORD.sub(_HIDDEN, text))}",
        code="sql",
        file=file,
        line=error.line or None,
        sqlstate=error.sqlstate,
    )
