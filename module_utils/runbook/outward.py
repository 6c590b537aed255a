# SPDX-License-Identifier: GPL-3.0-or-later
"""Statements that reach out of their database: to roles, other databases, the server, its files, other servers.

From a scratch database they would hit what is real, so there they are left out. They are recognised by their text: what
a function does when it is called cannot be seen, what a DO block does can, as far as it is written down in the block.

User mappings are among them, which nothing compares: without one PostgreSQL lets nobody through to another server by a
foreign table, whoever names it, a function for instance. Then the statement fails, and reaches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Callable

from ansible.module_utils.runbook.migration import Prepared
from ansible.module_utils.runbook.script import Statement
from ansible.module_utils.runbook.statement import Cursor, tokens

_SHARED = ("DATABASE", "TABLESPACE", "SUBSCRIPTION", "ROLE", "USER", "GROUP")

# Of privileges on these, PostgreSQL keeps a single copy for all databases.
_SHARED_PRIVILEGES = ("DATABASE", "TABLESPACE", "PARAMETER")

# Functions that act on the server, its files, or another server. Those of dblink that write statements ask nobody, and
# those that only read the server's files change nothing.
_FUNCTIONS = re.compile(
    r"dblink(_(?!build_sql_|get_pkey)\w+)?|lo_(import|export)|pg_file_\w+|pg_logfile_rotate|pg_rotate_logfile|"
    r"pg_reload_conf|pg_promote|pg_switch_wal|pg_create_restore_point|pg_(cancel|terminate)_backend|"
    r"pg_(create|copy|drop)_\w*replication_slot|pg_replication_origin_\w+|pg_backup_(start|stop)|pg_st(art|op)_backup"
)

# Statements that may name such a function, or a foreign table, without touching it.
_DEFINITIONS = ("CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "COMMENT", "SECURITY")

_DOLLAR_QUOTED = re.compile(rb"(\$[^$]*\$)(.*)\1", re.DOTALL)

# Behind these words and the semicolon a statement of PL/pgSQL begins.
_BEGINNINGS = ("BEGIN", "THEN", "ELSE", "LOOP")


def reaches_out(text: bytes, foreign: Collection[str] = ()) -> str:
    """What in a statement reaches out of the database, such as ``CREATE ROLE``; empty for nothing.

    Parameters:
        foreign: names of foreign tables, without their schemas.
    """
    cursor = Cursor(text)
    first = cursor.advance().word
    if first == "DO":
        return _in_block(text, foreign)
    recognise = _RECOGNISED.get(first)
    construct = recognise(cursor) if recognise else ""
    return construct or _touched(_query_of_table(text) if first in _DEFINITIONS else text, foreign)


def kept_inside(prepared: Prepared, folder: str, foreign: set[str]) -> tuple[Prepared, list[str]]:
    """A file without the statements that reach out of the database, and a note about each of them.

    Parameters:
        folder: where the file is, as people are to read it.
        foreign: names of the foreign tables that earlier files make; those of this one are added.
    """
    inside: list[Statement] = []
    notes: list[str] = []
    for statement in prepared.script.statements:
        construct = reaches_out(statement.text, foreign)
        if construct:
            where = f"{folder}/{statement.file}:{statement.line}"
            notes.append(f"{where}: left out, because {construct} reaches out of the database.")
        else:
            inside.append(statement)
            foreign.update(_foreign_table(statement.text))
    return replace(prepared, script=replace(prepared.script, statements=inside)), notes


def _of_shared(verb: str) -> Callable[[Cursor], str]:
    """CREATE, ALTER and DROP of what all databases share, and of user mappings, the way to other servers."""

    def recognise(cursor: Cursor) -> str:
        kind = cursor.advance().word
        if kind == "USER" and cursor.at("MAPPING"):
            return f"{verb} USER MAPPING"
        shared = kind in _SHARED or (verb, kind) in (("ALTER", "SYSTEM"), ("DROP", "OWNED"))
        return f"{verb} {kind}" if shared else ""

    return recognise


def _privileges(verb: str) -> Callable[[Cursor], str]:
    """GRANT and REVOKE of roles, and of privileges on what is shared."""

    def recognise(cursor: Cursor) -> str:
        _skip_to(cursor, "ON", "TO", "FROM")
        if not cursor.accept("ON"):
            return f"{verb} of a role"
        kind = cursor.advance().word
        # Else it is the name of a table, or begins one.
        named = not (cursor.at("TO", "FROM") or cursor.at_mark(b",") or cursor.at_mark(b"."))
        return f"{verb} ON {kind}" if kind in _SHARED_PRIVILEGES and named else ""

    return recognise


def _on_shared(verb: str) -> Callable[[Cursor], str]:
    """COMMENT ON and SECURITY LABEL ON."""

    def recognise(cursor: Cursor) -> str:
        if not cursor.skip_to("ON"):
            return ""
        cursor.accept("ON")
        kind = cursor.token.word
        return f"{verb} ON {kind}" if kind in _SHARED else ""

    return recognise


def _reassign(cursor: Cursor) -> str:
    """REASSIGN OWNED, which like DROP OWNED goes for databases and tablespaces as well."""
    return "REASSIGN OWNED" if cursor.at("OWNED") else ""


def _copy(cursor: Cursor) -> str:
    """COPY with a file or a program at its other end."""
    _skip_to(cursor, "FROM", "TO")
    direction = cursor.advance().word
    if cursor.at("PROGRAM"):
        return f"COPY {direction} PROGRAM"
    return f"COPY {direction} a file" if cursor.token.kind == "string" else ""


def _skip_to(cursor: Cursor, *words: str) -> None:
    """Move to the first of these words outside parentheses, or to the end."""
    while not (cursor.at(*words) or cursor.at_end()):
        if cursor.at_mark(b"("):
            cursor.skip_parentheses()
        else:
            cursor.advance()


def _reindex(cursor: Cursor) -> str:
    """REINDEX of a database by name, which has to be that of the session."""
    cursor.options()
    kind = cursor.advance().word
    cursor.accept("CONCURRENTLY")
    return f"REINDEX {kind}" if kind in ("DATABASE", "SYSTEM") and not cursor.at_end() else ""


_RECOGNISED: dict[str, Callable[[Cursor], str]] = {
    **{verb: _of_shared(verb) for verb in ("CREATE", "ALTER", "DROP")},
    **{verb: _privileges(verb) for verb in ("GRANT", "REVOKE")},
    "COMMENT": _on_shared("COMMENT"),
    "SECURITY": _on_shared("SECURITY LABEL"),
    "REASSIGN": _reassign,
    "COPY": _copy,
    "REINDEX": _reindex,
}


def _query_of_table(text: bytes) -> bytes:
    """The query whose rows a table or materialized view begins with: of definitions, it alone is carried out."""
    cursor = Cursor(text)
    cursor.accept("CREATE")
    materialized = False
    while cursor.at("GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED", "MATERIALIZED"):
        materialized = cursor.advance().word == "MATERIALIZED"
    if not (cursor.at("TABLE") or (materialized and cursor.at("VIEW"))) or not cursor.skip_to("AS"):
        return b""
    query = text[cursor.token.start :]
    words = [token.word for token in tokens(query) if token.text != b";"]
    return b"" if words[-3:] == ["WITH", "NO", "DATA"] else query


def _touched(text: bytes, foreign: Collection[str]) -> str:
    """A function that is called here and now, one in the body of another one being a string; or a foreign table."""
    before = ""
    for token in tokens(text):
        if before and token.kind == "other" and token.text == b"(":
            return f"{before}()"
        name = token.value if token.kind in ("word", "name") else ""
        if name in foreign:
            return f"the foreign table {name}"
        before = name if _FUNCTIONS.fullmatch(name) else ""
    return ""


def _foreign_table(text: bytes) -> Iterator[str]:
    """The name of the foreign table that a statement makes, if it does."""
    cursor = Cursor(text)
    if cursor.accept("CREATE", "FOREIGN", "TABLE"):
        cursor.accept("IF", "NOT", "EXISTS")
        name = cursor.advance()
        while cursor.accept_mark(b"."):
            name = cursor.advance()
        yield name.value


def _in_block(text: bytes, foreign: Collection[str]) -> str:
    """The first of the statements in a DO block that reaches out, those that it puts together as texts included."""
    for statement in _statements(text):
        construct = reaches_out(statement, foreign)
        if construct:
            return f"{construct} in a DO block"
    return ""


def _statements(text: bytes) -> Iterator[bytes]:
    for token in tokens(text):
        body = _DOLLAR_QUOTED.fullmatch(token.text) if token.kind == "string" else None
        if body or token.kind == "string":
            yield from _of_body(body.group(2) if body else _unquoted(token.text))


def _of_body(body: bytes) -> Iterator[bytes]:
    """What stands where a statement may begin, and all texts but those of messages: EXECUTE may run any of them."""
    begins, says = True, False
    for token in tokens(body):
        if token.kind == "string" and not says:
            dollar = _DOLLAR_QUOTED.fullmatch(token.text)
            yield dollar.group(2) if dollar else _unquoted(token.text)
        if begins and token.kind == "word":
            yield _up_to_semicolon(body, token.start)
        semicolon = token.kind == "other" and token.text == b";"
        says = token.word == "RAISE" or (says and not semicolon)
        begins = semicolon or token.word in _BEGINNINGS


def _up_to_semicolon(body: bytes, start: int) -> bytes:
    for token in tokens(body, start):
        if token.kind == "other" and token.text == b";":
            return body[start : token.start]
    return body[start:]


def _unquoted(string: bytes) -> bytes:
    """The text of a string constant in quotes, well enough to see how it begins."""
    return string[string.find(b"'") + 1 : -1].replace(b"''", b"'")
