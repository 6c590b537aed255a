# SPDX-License-Identifier: GPL-3.0-or-later
"""The server's errors as sentences."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.runbook import explain as explaining
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.session import SqlError

PIECE = Piece(b"SELECT 1", 3, "001_a.sql")


def test_everything_the_server_said_is_there_in_sentences() -> None:
    error = SqlError("23505", "duplicate key", "Key (i)=(1) exists.", "Try another.", "COPY a, line 2\nmore", PIECE, 3)
    explained = explain(error, "what", "Nothing was kept.")
    assert explained.message == (
        "001_a.sql:3: duplicate key. Detail: Key (i)=(1) exists. Hint: Try another. Where: COPY a, line 2. "
        "Nothing was kept."
    )
    assert (explained.code, explained.details) == ("sql", {"file": "001_a.sql", "line": 3, "sqlstate": "23505"})


@pytest.mark.parametrize(
    ("piece", "line", "where"),
    [
        (PIECE, 7, "001_a.sql:7: "),
        (PIECE, 0, "001_a.sql: "),
        (Piece(b"BEGIN"), 0, "002_b.sql: "),
        (None, 0, "002_b.sql: "),
    ],
)
def test_the_place_is_as_precise_as_it_is_known(piece: Piece | None, line: int, where: str) -> None:
    explained = explain(SqlError("42601", "syntax error", piece=piece, line=line), "002_b.sql", "")
    assert explained.message == f"{where}syntax error."


@pytest.mark.parametrize("sqlstate", explaining._ADVICE)
def test_advice_comes_before_what_was_kept(sqlstate: str) -> None:
    message = explain(SqlError(sqlstate, "refused", piece=PIECE, line=3), "", "Nothing was kept.").message
    assert message.startswith("001_a.sql:3: refused. ")
    assert explaining._ADVICE[sqlstate] in message
    assert message.endswith(". Nothing was kept.")
    assert not re.search(r"\.\.|\s\s", message)


@pytest.mark.parametrize("sqlstate", ["", "57P01", "57P02", "57P03", "08006"])
def test_a_lost_connection_has_a_code_of_its_own(sqlstate: str) -> None:
    explained = explain(SqlError(sqlstate, "it broke.", piece=PIECE, line=3), "what", "Nothing was kept.")
    assert (explained.code, explained.details) == ("connection-lost", {"file": "001_a.sql", "line": 3})
    assert explained.message == (
        "001_a.sql:3: the connection to the server was lost (it broke). Whatever was recorded is complete, "
        "the rest left no trace. Check the server and run this again: it goes on where it stopped."
    )
