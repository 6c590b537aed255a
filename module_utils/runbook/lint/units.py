# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration files as what is judged: actions.

An action is one statement; of an ALTER TABLE with several subcommands each is an action, and so is each statement
inside a DO block or a function. A rule therefore never has to look at more than one thing at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.lint.nodes import Node, text_of
from ansible.module_utils.runbook.lint.plpgsql import embedded_statements
from ansible.module_utils.runbook.migration import Migration, read_directives
from ansible.module_utils.runbook.script import Statement, read_script
from ansible.module_utils.runbook.statement import Cursor, refused_in_transaction, transaction_control
from pglast import ast, parse_sql
from pglast.enums import AlterTableType
from pglast.parser import ParseError, parse_sql_protobuf

FILE, BLOCK, ROUTINE = "file", "DO block", "function"

NEWEST_SERVER = 180000
"""The ``server_version_num`` whose grammar the parser knows."""

# Larger INSERTs hold data: their grammar is checked, but no tree of Python objects is made of a million constants.
_LARGE = 64 * 1024
_DEEPEST = 3
_DROPS = (AlterTableType.AT_DropColumn, AlterTableType.AT_DropConstraint)


@dataclass(frozen=True)
class Action:
    """One thing that a file does.

    Attributes:
        text: its SQL; for one subcommand of several, an ALTER TABLE with this one alone.
        node: its parse tree; None when a DO block puts it together in a way that cannot be followed.
        file: the file it stands in, relative to the migrations folder.
        line: the line it begins in, counted from 1.
        statement: the line in which the statement of the file begins that it is a part of.
        place: where it stands: in the file itself, in a DO block, or in the body of a function.
        dynamic: whether EXECUTE runs it.
        data: the rows of a COPY FROM stdin, counted; 0 for everything else.
        inner: for DO and CREATE FUNCTION, what is inside.
    """

    text: str
    node: Node
    file: str
    line: int
    statement: int
    place: str = FILE
    dynamic: bool = False
    data: int = 0
    inner: tuple[Action, ...] = ()


@dataclass(frozen=True)
class Mistake:
    """Why a file cannot be read as SQL, or not be run by the engine."""

    file: str
    line: int
    message: str
    rule: str = "syntax"


@dataclass
class SourceFile:
    """A migration, read.

    Attributes:
        migration: its name and version.
        transactional: whether it runs in one transaction.
        actions: what it does, in order.
        statements: as the script has them, for suppressions.
        sources: ``(relative name, raw content)`` of the file and of everything it includes.
        mistakes: why it cannot be read, or parts of it.
    """

    migration: Migration
    transactional: bool = True
    actions: list[Action] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    sources: list[tuple[str, bytes]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def read_source(migration: Migration, folder: Path, server_version: int) -> SourceFile:
    """Read a migration; what is wrong with it is part of the result.

    Parameters:
        migration: the file.
        folder: the migrations folder.
        server_version: the server's ``server_version_num``.
    """
    found = SourceFile(migration)
    try:
        script = read_script(folder / migration.name, folder)
        found.statements, found.sources = script.statements, script.sources
        directives = read_directives(script.sources[0][1], migration.name)
    except RunbookError as error:
        found.mistakes.append(_mistake(error, migration.name))
        return found
    found.transactional = directives.transaction and not any(
        refused_in_transaction(statement.text, server_version) for statement in script.statements
    )
    for statement in script.statements:
        _read_statement(statement, found, controls_transactions=not directives.transaction)
    return found


def with_inner(actions: Sequence[Action]) -> Iterator[Action]:
    """The actions with everything inside of them."""
    for action in actions:
        yield action
        yield from with_inner(action.inner)


def _mistake(error: RunbookError, name: str) -> Mistake:
    """A refusal by the engine, without the place that its sentence begins with."""
    file, line = str(error.details.get("file", name)), int(str(error.details.get("line", 1)))
    return Mistake(file, line, error.message.removeprefix(f"{file}:{line}:").strip())


def _read_statement(statement: Statement, found: SourceFile, controls_transactions: bool) -> None:
    verb = None if controls_transactions else transaction_control(statement.text)
    if verb:
        sentence = f"The file controls transactions itself ({verb}), and the engine refuses that."
        found.mistakes.append(Mistake(statement.file, statement.line, sentence, "transaction-control"))
    text = statement.text.decode("utf-8")
    try:
        if len(text) > _LARGE and Cursor(statement.text).at("INSERT"):
            parse_sql_protobuf(text)
            found.actions.append(_large_insert(statement))
            return
        nodes = [parsed.stmt for parsed in parse_sql(text)]
    except ParseError as error:
        found.mistakes.append(_syntax_mistake(statement, text, error))
        return
    for node in nodes:
        found.actions += _actions(text, node, statement)


def _syntax_mistake(statement: Statement, text: str, error: ParseError) -> Mistake:
    message, index = (*error.args, None)[:2]
    # A string that stands in the wrong place may be a password.
    message = re.sub(r"""at or near "[^"]*['$].*""", "at or near a string", str(message), flags=re.DOTALL)
    line = statement.line + text.count("\n", 0, index or 0)
    return Mistake(statement.file, line, f"PostgreSQL's parser refuses this: {message}.")


def _large_insert(statement: Statement) -> Action:
    """An INSERT with a lot of data, known by the table it fills: its head with a single row instead."""
    cursor = Cursor(statement.text)
    cursor.accept("INSERT", "INTO")
    text = f"INSERT INTO {cursor.name()} SELECT * FROM its_own_data"
    (parsed,) = parse_sql(text)
    return Action(text, parsed.stmt, statement.file, statement.line, statement.line)


def _actions(text: str, node: Node, statement: Statement) -> Iterator[Action]:
    whole = Action(text, node, statement.file, statement.line, statement.line)
    if statement.data is not None:
        yield replace(whole, data=statement.data.count(b"\n"))
        return
    yield from _expanded(whole)


def _expanded(action: Action, depth: int = 0) -> Iterator[Action]:
    """The action itself, or its subcommands; a block and a function with what is inside."""
    node = action.node
    if isinstance(node, ast.AlterTableStmt) and len(node.cmds) > 1:
        # Wherever a DROP stands among them, PostgreSQL does it first (AT_PASS_DROP in tablecmds.c).
        yield from sorted(_subcommands(action), key=lambda single: single.node.cmds[0].subtype not in _DROPS)
    elif isinstance(node, (ast.DoStmt, ast.CreateFunctionStmt)) and depth < _DEEPEST:
        # A block in a function runs when the function does, and a function in a block when somebody calls it.
        place = BLOCK if isinstance(node, ast.DoStmt) and action.place != ROUTINE else ROUTINE
        yield replace(action, inner=tuple(_inside(action, place, depth)))
    elif isinstance(node, ast.CreateSchemaStmt) and node.schemaElts:
        yield action
        for element in node.schemaElts:
            yield replace(action, node=_in_schema(element, node.schemaname))
    else:
        yield action


def _in_schema(element: Node, schema: str) -> Node:
    """A part of CREATE SCHEMA with the name of that schema, as PostgreSQL adds it."""
    relation = getattr(element, "relation", None) or getattr(element, "view", None)
    if relation is not None and not relation.schemaname:
        relation.schemaname = schema
    return element


def _subcommands(action: Action) -> Iterator[Action]:
    """``ALTER TABLE t a, b`` as ``ALTER TABLE t a`` and ``ALTER TABLE t b``."""
    content = action.text.encode()
    pieces = _comma_pieces(content)
    head, spans = pieces if pieces else ("", [])
    for at, command in enumerate(action.node.cmds):
        single = ast.AlterTableStmt(
            relation=action.node.relation,
            cmds=(command,),
            objtype=action.node.objtype,
            missing_ok=action.node.missing_ok,
        )
        if len(spans) == len(action.node.cmds):
            begin, end = spans[at]
            text = f"{head}{content[begin:end].decode()}"
            line = action.line + content.count(b"\n", 0, begin)
            yield replace(action, text=text, node=single, line=line)
        else:
            yield replace(action, node=single)


def _comma_pieces(content: bytes) -> Optional[tuple[str, list[tuple[int, int]]]]:
    """What stands before the first subcommand, and where each of them begins and ends."""
    cursor = Cursor(content)
    cursor.accept("ALTER")
    while cursor.at("FOREIGN", "MATERIALIZED", "TABLE", "VIEW", "INDEX", "SEQUENCE", "TYPE"):
        cursor.advance()
    cursor.accept("IF", "EXISTS")
    if not cursor.table():
        return None
    begin = cursor.token.start
    head = content[:begin].decode()
    spans, depth = [], 0
    while not (cursor.token.kind == "end" or (cursor.at_mark(b";") and not depth)):
        depth += (cursor.at_mark(b"(") or cursor.at_mark(b"[")) - (cursor.at_mark(b")") or cursor.at_mark(b"]"))
        if cursor.at_mark(b",") and not depth:
            spans.append((begin, cursor.token.start))
            cursor.advance()
            begin = cursor.token.start
            continue
        cursor.advance()
    return head, [*spans, (begin, cursor.token.start)]


def _inside(action: Action, place: str, depth: int) -> Iterator[Action]:
    """What is inside a DO block or a function's body, whatever it is written in."""
    node = action.node
    block = isinstance(node, ast.DoStmt)
    options = {option.defname: option.arg for option in (node.args if block else node.options) or ()}
    language = (text_of(options.get("language")) or ("plpgsql" if block else "sql")).lower()
    if getattr(node, "sql_body", None) is not None:
        for inner in _flattened(node.sql_body):
            yield replace(action, node=inner, place=place, inner=())
        return
    body = _body(options.get("as"))
    if not body:
        return
    # A body in single quotes with doubled quotes inside cannot be found as it is: then its first line stands for all.
    start = max(action.text.find(body), 0)
    first = action.line + action.text.count("\n", 0, start)
    if language == "plpgsql":
        content = body.encode()
        for embedded in embedded_statements(content):
            line = first + content.count(b"\n", 0, embedded.offset)
            inner_action = replace(action, line=line, place=place, dynamic=embedded.dynamic, inner=())
            yield from _parsed_inside(inner_action, embedded.text, depth)
    elif language == "sql":
        yield from _parsed_inside(replace(action, line=first, place=place, inner=()), body, depth)


def _parsed_inside(action: Action, text: str, depth: int) -> Iterator[Action]:
    try:
        parsed = parse_sql(text)
    except ParseError:
        if action.dynamic:
            yield replace(action, text=text, node=None)
        return
    for statement in parsed:
        start = statement.stmt_location
        end = start + statement.stmt_len if statement.stmt_len else len(text)
        piece = text[start:end]
        begun = start + len(piece) - len(piece.lstrip())
        line = action.line if action.dynamic else action.line + text.count("\n", 0, begun)
        yield from _expanded(replace(action, text=piece.strip(), node=statement.stmt, line=line), depth + 1)


def _flattened(body: Any) -> Iterator[Node]:
    """The statements of BEGIN ATOMIC … END, or the single RETURN."""
    if isinstance(body, tuple):
        for part in body:
            yield from _flattened(part)
    elif body is not None:
        yield body


def _body(value: Any) -> str:
    """The source of a routine: ``AS 'source'``; that of a function in C is ``AS 'file', 'symbol'``, which holds "
    "no SQL."""
    if isinstance(value, tuple):
        return str(value[0].sval) if len(value) == 1 else ""
    return str(value.sval) if value is not None else ""
