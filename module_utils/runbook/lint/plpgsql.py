# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the SQL inside the body of a DO block or of a function in PL/pgSQL.

libpg_query has a parser for PL/pgSQL (``pglast.parse_plpgsql``), but it has no catalog: it refuses each body that names
a type of a schema, such as ``DECLARE before cm.review_status`` (*LookupExplicitNamespace only supports pg_catalog and
public*), and so it does with arguments of such types. So the body is cut where PL/pgSQL's grammar lets statements
begin, and every piece goes through the parser for SQL. What is no SQL after all fails there, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Optional

from ansible.module_utils.runbook.lint.nodes import Node, column_of, text_of, walk
from ansible.module_utils.runbook.statement import Token, tokens
from pglast import ast, parse_sql
from pglast.parser import ParseError

UNKNOWN = "name_known_at_run_time"
"""What stands for a name that only the running block knows."""

_BEGIN_STATEMENT = frozenset(("BEGIN", "THEN", "ELSE", "LOOP"))
_BEGIN_QUERY = frozenset(("IN", "QUERY", "FOR"))
_CHANGES = "ALTER|CREATE|DROP|TRUNCATE|REINDEX|REFRESH|VACUUM|CLUSTER|LOCK|COMMENT|IMPORT"
_VERBS = frozenset(
    (*_CHANGES.split("|"), "INSERT", "UPDATE", "DELETE", "MERGE", "SELECT", "WITH", "CALL", "COPY", "GRANT", "REVOKE")
    + ("PERFORM", "EXECUTE", "ANALYZE", "SECURITY", "DO", "SET", "RESET")
)
_QUERY_VERBS = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "EXECUTE"))
_DDL_TEXT = re.compile(rf"\s*(?:{_CHANGES})\s+[A-Za-z\"%]", re.IGNORECASE)
_DML_TEXT = re.compile(r"\s*(?:DELETE\s+FROM|UPDATE|MERGE\s+INTO|SET)\s+[A-Za-z\"%]", re.IGNORECASE)
_FORMAT = re.compile(r"%(?:(\d+)\$)?-?\d*([sIL%])")


@dataclass(frozen=True)
class Embedded:
    """One SQL statement inside a body.

    Attributes:
        text: the SQL; for EXECUTE what it will run, with :data:`UNKNOWN` for what cannot be known.
        offset: where it begins in the body, in bytes.
        dynamic: whether it is text that EXECUTE runs.
    """

    text: str
    offset: int
    dynamic: bool = False


@dataclass(frozen=True)
class _Piece:
    """The tokens of one statement, without the semicolon."""

    tokens: list[Token]

    def text(self, body: bytes, first: int = 0, end: Optional[int] = None) -> str:
        """The text of some of its tokens."""
        chosen = self.tokens[first:end]
        if not chosen:
            return ""
        return body[chosen[0].start : chosen[-1].start + len(chosen[-1].text)].decode("utf-8", "replace")


def embedded_statements(body: bytes) -> Iterator[Embedded]:
    """The SQL of a body in PL/pgSQL, in order, with the texts that EXECUTE runs as far as they can be known.

    Parameters:
        body: what stands between the dollar quotes.
    """
    known = _known_texts(body)
    told: set[str] = set()
    for piece in _pieces(body):
        verb, offset = piece.tokens[0].word, piece.tokens[0].start
        if verb == "EXECUTE":
            for text in _executed(piece, body, known, told):
                yield Embedded(text, offset, dynamic=True)
        elif verb == "PERFORM":
            yield Embedded("SELECT" + piece.text(body)[len("PERFORM") :], offset)
        else:
            yield Embedded(_without_into(piece, body), offset)


def changes_schema(text: str) -> bool:
    """Whether a text begins like a statement that changes the schema."""
    return bool(_DDL_TEXT.match(text))


def _is_statement(text: str) -> bool:
    """Whether a text is one that EXECUTE may well run, and that matters."""
    if not _DML_TEXT.match(text):
        return changes_schema(text)
    try:
        return bool(parse_sql(text))
    except ParseError:
        return False


def _pieces(body: bytes) -> Iterator[_Piece]:
    """What begins where a statement may begin and with a word that SQL statements begin with."""
    piece: list[Token] = []
    stops: tuple[str, ...] = ()
    before = ""
    for token in tokens(body):
        ends = token.text == b";" or token.word in stops
        if piece and not ends:
            piece.append(token)
            continue
        if piece:
            yield _Piece(piece)
            piece = []
        if before in _BEGIN_QUERY and token.word in _QUERY_VERBS:
            piece, stops = [token], ("LOOP",)
        elif before in (*_BEGIN_STATEMENT, ";", ">") and token.word in _VERBS:
            piece, stops = [token], ()
        before = token.word or token.written
    if piece:
        yield _Piece(piece)


def _without_into(piece: _Piece, body: bytes) -> str:
    """The SQL without PL/pgSQL's ``INTO [STRICT] target, …``, which SQL's grammar does not know."""
    words = [token.word for token in piece.tokens]
    if words[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH") or "INTO" not in words:
        return piece.text(body)
    into = len(words) - 1 - words[::-1].index("INTO")
    if into and words[into - 1] in ("INSERT", "MERGE"):
        return piece.text(body)
    end = _targets_end(piece.tokens, into + 1 + (words[into + 1 : into + 2] == ["STRICT"]))
    return f"{piece.text(body, 0, into)} {piece.text(body, end)}".strip()


def _targets_end(names: list[Token], at: int) -> int:
    """The position behind ``a, b.c, d``."""
    at += 1
    while at + 1 < len(names) and names[at].text in (b",", b"."):
        at += 2
    return at


def _known_texts(body: bytes) -> dict[str, list[str]]:
    """By variable, each text that it is given, in order, as far as it can be known."""
    found: dict[str, list[str]] = {}
    for variable, expression in _assignments(body):
        text = _template(expression, found)
        texts = found.setdefault(variable, [])
        if any(column_of(node) == variable for node in walk(expression)):
            texts[-1:] = [text]  # it goes on with what there was
        else:
            texts.append(text)
    return found


def _assignments(body: bytes) -> Iterator[tuple[str, Node]]:
    """(variable, expression) of each ``variable [type] := expression``, which may be spelled ``=`` or ``DEFAULT``."""
    piece: list[Token] = []
    for token in tokens(body):
        if token.text == b";" or token.word in _BEGIN_STATEMENT or token.word == "DECLARE":
            yield from _assignment(_Piece(piece), body)
            piece = []
        else:
            piece.append(token)


def _assignment(piece: _Piece, body: bytes) -> Iterator[tuple[str, Node]]:
    for at, token in enumerate(piece.tokens):
        if at and (token.text == b"=" or token.word == "DEFAULT"):
            expression = _expression(piece.text(body, at + 1))
            if expression is not None:
                yield piece.tokens[0].value, expression
            return


def _executed(piece: _Piece, body: bytes, known: dict[str, list[str]], told: set[str]) -> list[str]:
    """What an EXECUTE runs; where that is computed elsewhere, every text of the body that looks like it.

    Parameters:
        known: texts of variables.
        told: those of them that an EXECUTE before has been taken to run; they are not told again.
    """
    end = next((at for at, token in enumerate(piece.tokens) if token.word in ("INTO", "USING")), None)
    expression = _expression(piece.text(body, 1, end))
    given = known.get(column_of(expression) or "") if expression is not None else None
    texts = given or [_template(expression, known) if expression is not None else UNKNOWN]
    if any(text.strip().startswith(UNKNOWN) for text in texts):
        texts = [*texts, *filter(_is_statement, map(_string_template, _strings(body)))]
    found = [text for text in dict.fromkeys(texts) if not text.strip().startswith(UNKNOWN)]
    if given:
        found = [text for text in found if text not in told]
        told.update(found)
    return found


def _expression(text: str) -> Node:
    try:
        (statement,) = parse_sql(f"SELECT {text}")
        (target,) = statement.stmt.targetList
    except (ParseError, ValueError, TypeError, AttributeError):
        return None
    return target.val


def _strings(body: bytes) -> Iterator[str]:
    """The values of all string constants of a body but those that RAISE shows."""
    raises = False
    for token in tokens(body):
        raises = token.word == "RAISE" or (raises and token.text != b";")
        if token.kind == "string" and not raises:
            expression = _expression(token.written)
            yield text_of(expression) or ""


def _string_template(text: str) -> str:
    return _FORMAT.sub(lambda match: "%" if match.group(2) == "%" else UNKNOWN, text)


def _template(node: Node, known: dict[str, list[str]]) -> str:
    """The text that an expression makes, with :data:`UNKNOWN` for each part that is not constant."""
    constant = text_of(node)
    if constant is not None:
        return constant
    if isinstance(node, ast.TypeCast):
        return _template(node.arg, known)
    if isinstance(node, ast.A_Expr) and node.name[-1].sval == "||":
        return _template(node.lexpr, known) + _template(node.rexpr, known)
    if isinstance(node, ast.FuncCall):
        return _called(node, known)
    variable = column_of(node)
    return known[variable][-1] if variable in known else UNKNOWN


def _called(node: Node, known: dict[str, list[str]]) -> str:
    name = node.funcname[-1].sval
    arguments = [_template(argument, known) for argument in node.args or ()]
    if name == "format" and arguments:
        return _formatted(arguments[0], arguments[1:])
    if name in ("concat", "quote_ident"):
        return "".join(arguments)
    if name == "concat_ws" and arguments:
        return arguments[0].join(arguments[1:])
    return UNKNOWN


def _formatted(text: str, arguments: list[str]) -> str:
    """``format()`` with the arguments that are known."""
    rest = iter(arguments)

    def replaced(match: re.Match[str]) -> str:
        position, kind = match.groups()
        if kind == "%":
            return "%"
        chosen = arguments[int(position) - 1 : int(position)] if position else [next(rest, UNKNOWN)]
        value = chosen[0] if chosen else UNKNOWN
        return "'" + value.replace("'", "''") + "'" if kind == "L" else value

    return _FORMAT.sub(replaced, text)
