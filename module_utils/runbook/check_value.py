# SPDX-License-Identifier: GPL-3.0-or-later
"""How the values in a check are read: each function takes what is written and returns what is used.

They raise ``ValueError`` with the words that complete "it has to be …".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date
from typing import Any, Callable
from urllib.parse import urlsplit

from ansible.module_utils.runbook.duration import milliseconds
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.script import split
from ansible.module_utils.runbook.statement import Cursor

Reader = Callable[[Any], Any]

PRIVILEGES = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
"""Privileges on tables that every supported server knows (PostgreSQL documentation, "Privileges")."""

_PART = r'(?:"(?:[^"]|"")+"|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*)'
_NAME = re.compile(_PART)
_RELATION = re.compile(rf"({_PART})\.({_PART})")
_SIZE = re.compile(r"(\d+)\s*(B|kB|MB|GB|TB)")
_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:\s/]+)):(\d{1,5})")


def text(given: Any) -> str:
    """Some text."""
    if not isinstance(given, str) or not given.strip():
        raise ValueError("text")
    return given


def flag(given: Any) -> bool:
    """``true`` or ``false``, and nothing that only looks like it."""
    if not isinstance(given, bool):
        raise ValueError("true or false")
    return given


def natural(given: Any) -> int:
    """A whole number from 0 on."""
    if not isinstance(given, int) or isinstance(given, bool) or given < 0:
        raise ValueError("a whole number from 0 on")
    return given


def number(given: Any) -> float:
    """A number from 0 on."""
    if not isinstance(given, (int, float)) or isinstance(given, bool) or not 0 <= given < math.inf:
        raise ValueError("a number from 0 on")
    return given


def scalar(given: Any) -> Any:
    """Anything to compare with: text, a number, true, false; a date, which YAML recognises by itself, as text."""
    if isinstance(given, date):  # a datetime is one, too
        return given.isoformat()
    if isinstance(given, (str, int, float)) and not (isinstance(given, float) and not math.isfinite(given)):
        return given
    raise ValueError("text, a number, true or false")


def limit(given: Any) -> int:
    """A time limit, in milliseconds."""
    found = milliseconds(given) if isinstance(given, str) and _is_duration(given) else None
    if not found:
        raise ValueError("a time limit, a whole number and a unit such as 500ms, 5s or 2min")
    return found


def _is_duration(given: str) -> bool:
    try:
        return milliseconds(given) is not None
    except ValueError:
        return False


def size(given: Any) -> int:
    """A size, in bytes."""
    match = _SIZE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError("a size, a whole number and one of B, kB, MB, GB, TB, such as 10MB")
    return int(match[1]) * _BYTES[match[2]]


def name(given: Any) -> str:
    """The name of a role, a schema or a column as SQL reads it: in lower case unless it is quoted."""
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        raise ValueError('a name as in SQL, such as audit_log or "Audit Log"')
    return _folded(given)


def relation(given: Any) -> list[str]:
    """The name of a table or an index with its schema: both parts, as SQL reads them."""
    match = _RELATION.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise ValueError("a name with its schema, such as cm.audit_log")
    return [_folded(match[1]), _folded(match[2])]


def _folded(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()


def names(given: Any) -> list[str]:
    """One name or several."""
    return _several(given, name, "a name, or a list of names, as in SQL")


def relations(given: Any) -> list[list[str]]:
    """One table, index or view, or several."""
    return _several(given, relation, "a name with its schema such as cm.audit_log, or a list of such names")


def privileges(given: Any) -> list[str]:
    """Privileges on a table, in upper case."""
    found = _several(given, text, f"a list of {', '.join(PRIVILEGES)}")
    if any(one.lower() not in PRIVILEGES for one in found):
        raise ValueError(f"a list of {', '.join(PRIVILEGES)}")
    return [one.upper() for one in found]


def patterns(given: Any) -> list[str]:
    """One regular expression or several."""
    return _several(given, pattern, "a regular expression of Python's, or a list of them")


def pattern(given: Any) -> str:
    """A regular expression."""
    try:
        re.compile(text(given))
    except (ValueError, re.error) as error:
        raise ValueError("a regular expression of Python's") from error
    return str(given)


def arguments(given: Any) -> list[str]:
    """A program and its arguments, each on its own: there is no shell that would cut a line."""
    if not isinstance(given, list) or not given or not all(isinstance(one, (str, int)) for one in given):
        raise ValueError("a list of a program and its arguments, such as [curl, --version]; there is no shell")
    return [str(one) for one in given]


def texts_by_name(given: Any) -> dict[str, str]:
    """Texts, each with a name."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError("a mapping of names to texts")
    if not all(isinstance(key, str) and isinstance(one, str) for key, one in given.items()):
        raise ValueError("a mapping of names to texts")
    return dict(given)


def definitions(given: Any) -> dict[str, str]:
    """Names, or names with definitions; without one it is empty."""
    if isinstance(given, Mapping):
        return texts_by_name(given)
    return dict.fromkeys(_several(given, text, "a list of names, or a mapping of names to definitions"), "")


def statuses(given: Any) -> list[int]:
    """One status of HTTP or several."""
    found = _several(given, natural, "a status of HTTP such as 200, or a list of them")
    if not all(100 <= one <= 599 for one in found):
        raise ValueError("a status of HTTP such as 200, or a list of them")
    return found


def choice(*known: str) -> Reader:
    """One of some words."""

    def read(given: Any) -> str:
        if given not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return str(given)

    return read


def choices(*known: str) -> Reader:
    """Some of some words."""
    one = choice(*known)
    return lambda given: _several(given, one, f"a list of {', '.join(known)}")


def url(given: Any) -> str:
    """An address of HTTP or HTTPS."""
    try:
        parts = urlsplit(text(given))
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(one.isspace() or not one.isprintable() for one in given):
        raise ValueError("an address such as https://app.example.com/health")
    return str(given)


def address(given: Any) -> list[Any]:
    """A host and a port."""
    match = _ADDRESS.fullmatch(given) if isinstance(given, str) else None
    if match is None or not 0 < int(match[3]) < 65536:
        raise ValueError("a host and a port, such as db.example.com:5432 or [::1]:5432")
    return [match[1] or match[2], int(match[3])]


def query(given: Any) -> str:
    """A single statement that reads, without its semicolon.

    That it does not write is the server's to see to; here a slip is told as such, before anything is asked.
    """
    wanted = "one SQL query: a single SELECT, WITH, VALUES or TABLE statement"
    statement = _only_statement(text(given), wanted)
    cursor = Cursor(statement)
    while cursor.accept_mark(b"("):
        pass
    if not cursor.at("SELECT", "WITH", "VALUES", "TABLE"):
        raise ValueError(wanted)
    return statement.decode()


def condition(given: Any) -> str:
    """What may stand behind WHERE."""
    wanted = "what may stand behind WHERE in SQL"
    statement = _only_statement(f"SELECT WHERE ({text(given)}\n)", wanted)
    if not statement.endswith(b"\n)"):
        raise ValueError(wanted)
    return str(given)


def _only_statement(sql: str, wanted: str) -> bytes:
    try:
        statements = split(sql.encode())
    except RunbookError as error:
        raise ValueError(f"{wanted}. It cannot be read: {error.message.rstrip('.')}") from error
    if len(statements) != 1 or statements[0].data is not None:
        raise ValueError(f"{wanted}; this is {len(statements) or 'none'} of them")
    return statements[0].text.rstrip().rstrip(b";").rstrip() if _ends(statements[0].text) else statements[0].text


def _ends(statement: bytes) -> bool:
    """Whether the semicolon at the end is the statement's own, and not part of a comment or a string."""
    cursor = Cursor(statement)
    while not cursor.at_end():
        cursor.advance()
    return cursor.at_mark(b";")


def _several(given: Any, read: Reader, wanted: str) -> list[Any]:
    every = given if isinstance(given, list) else [given]
    if not every:
        raise ValueError(wanted)
    try:
        return [read(one) for one in every]
    except ValueError as error:
        raise ValueError(wanted) from error
