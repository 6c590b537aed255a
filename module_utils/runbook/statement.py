# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of statement a piece of SQL is, decided on its tokens and without a server.

The upper half is PostgreSQL's lexical structure (``src/backend/parser/scan.l``; the manual's chapter "Lexical
Structure"), shared with :mod:`script`, which cuts files into statements. The lower half recognises the few statements
that a migration has to treat specially. Every function takes the bytes of *one* statement, with or without leading
comments and the closing semicolon, reads no more tokens than it needs, and never raises: text that PostgreSQL would
refuse is simply "nothing special".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, NamedTuple

SPACE = rb"[ \t\n\r\f\v]"
NAME_START = rb"[A-Za-z_\x80-\xff]"
NAME_BYTE = rb"[A-Za-z0-9_$\x80-\xff]"

_SINGLE_QUOTE, _DOUBLE_QUOTE, _DOLLAR, _SLASH = b"'\"$/"
_NAME_START_BYTES = frozenset(byte for byte in range(256) if re.match(NAME_START, bytes([byte])))
_NAME_BYTES = frozenset(byte for byte in range(256) if re.match(NAME_BYTE, bytes([byte])))
_DIGITS = frozenset(b"0123456789")

_NAME_REST = re.compile(NAME_BYTE + rb"*")
_PARAMETER = re.compile(rb"\$[0-9]+")
_TAG_BODY = rb"(?:" + NAME_START + rb"[A-Za-z0-9_\x80-\xff]*)?"
_DOLLAR_TAG = re.compile(rb"\$" + _TAG_BODY + rb"\$")
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_ESCAPE_OR_QUOTE = re.compile(rb"\\.|''?", re.DOTALL)
_CONTINUATION = re.compile(rb"[ \t\f\v]*(?:--[^\n\r]*)?[\n\r]" + SPACE + rb"*(?:--[^\n\r]*[\n\r]" + SPACE + rb"*)*'")
_TOKEN = re.compile(
    rb"(?P<blank>" + SPACE + rb"+|--[^\n\r]*)"
    rb"|(?P<quoted>(?:[eEnNbBxX]|[uU]&)?'|(?:[uU]&)?\"|\$" + _TAG_BODY + rb"\$|/\*)"
    rb"|(?P<word>" + NAME_START + NAME_BYTE + rb"*)"
    rb"|(?P<other>\$[0-9]+|[0-9][0-9A-Za-z_]*|.)",
    re.DOTALL,
)


class Unterminated(Exception):
    """A quoted passage or comment that the end of the text cuts off.

    Parameters:
        what: what was opened, for example ``string``.
        start: the offset where it was opened.
    """

    def __init__(self, what: str, start: int) -> None:
        super().__init__(what, start)
        self.what = what
        self.start = start


def passage_end(text: bytes, start: int, floor: int = 0, standard_strings: bool = True) -> int:
    """The offset behind the passage that begins at ``start``: a string, quoted name, dollar quote or comment.

    A ``$`` that quotes nothing (``$1``, ``a$b``) ends where its parameter or name ends.

    Parameters:
        text: the SQL.
        start: the offset of ``'``, ``"``, ``$`` or the ``/`` of ``/*``; for ``E'…'`` that of the quote.
        floor: where the token before ends; nothing further left belongs to this one.
        standard_strings: the value of ``standard_conforming_strings``.

    Raises:
        Unterminated: the text ends first.
    """
    mark = text[start]
    if mark == _SINGLE_QUOTE:
        return _string_end(text, start, _has_escapes(text, start, floor, standard_strings))
    if mark == _DOUBLE_QUOTE:
        return _closing_quote(text, start, b'"', "quoted name")
    if mark == _SLASH:
        return _comment_end(text, start)
    return _dollar_end(text, start, floor)


def _has_escapes(text: bytes, quote: int, floor: int, standard_strings: bool) -> bool:
    """Whether a backslash escapes in the string at ``quote``: E'…' always, U&'…' never, '…' by the setting."""
    if _prefixed(text, quote, floor, b"Ee"):
        return True
    if quote - 1 > floor and text[quote - 1] == ord("&") and _prefixed(text, quote - 1, floor, b"Uu"):
        return False
    return not standard_strings


def _prefixed(text: bytes, position: int, floor: int, letters: bytes) -> bool:
    """Whether a word of exactly one of ``letters`` stands directly before ``position``."""
    before = position - 1
    if before < floor or text[before] not in letters:
        return False
    return before == floor or text[before - 1] not in _NAME_BYTES


def _string_end(text: bytes, start: int, escapes: bool) -> int:
    if not escapes:
        return _closing_quote(text, start, b"'", "string")
    end = _escaped_string_end(text, start, start)
    # 'a' and 'b' on the next line are one string in PostgreSQL, so the escapes stay in force.
    while True:
        continuation = _CONTINUATION.match(text, end)
        if not continuation:
            return end
        end = _escaped_string_end(text, start, continuation.end() - 1)


def _escaped_string_end(text: bytes, start: int, quote: int) -> int:
    for match in _ESCAPE_OR_QUOTE.finditer(text, quote + 1):
        if match.group() == b"'":
            return match.end()
    raise Unterminated("string", start)


def _closing_quote(text: bytes, start: int, mark: bytes, what: str) -> int:
    end = text.find(mark, start + 1)
    while end >= 0 and text.startswith(mark, end + 1):
        end = text.find(mark, end + 2)
    if end < 0:
        raise Unterminated(what, start)
    return end + 1


def _comment_end(text: bytes, start: int) -> int:
    depth = 0
    for match in _COMMENT_EDGE.finditer(text, start):
        depth += 1 if match.group() == b"/*" else -1
        if not depth:
            return match.end()
    raise Unterminated("comment", start)


def _dollar_end(text: bytes, start: int, floor: int) -> int:
    if _inside_name(text, start, floor):
        return match_end(_NAME_REST, text, start)
    tag = _DOLLAR_TAG.match(text, start)
    if not tag:
        return max(match_end(_PARAMETER, text, start), start + 1)
    closing = text.find(tag.group(), tag.end())
    if closing < 0:
        raise Unterminated(f"dollar quote {tag.group().decode('utf-8', 'replace')}", start)
    return closing + len(tag.group())


def _inside_name(text: bytes, position: int, floor: int) -> bool:
    """Whether the ``$`` at ``position`` continues a name: ``a1$`` does, ``1$`` does not."""
    before = position - 1
    while before >= floor and text[before] in _DIGITS:
        before -= 1
    return before >= floor and text[before] in _NAME_START_BYTES


def match_end(pattern: re.Pattern[bytes], text: bytes, start: int) -> int:
    """The offset behind what ``pattern`` matches at ``start``; ``start`` itself when it does not match."""
    match = pattern.match(text, start)
    return match.end() if match else start


class Token(NamedTuple):
    """One token of SQL.

    ``kind`` is ``word`` (keyword or unquoted name), ``name`` (quoted name), ``string`` (any string constant),
    ``other`` (number, parameter, one byte of punctuation) or ``end``. ``word`` is the upper-case spelling of a
    ``word`` and empty for every other kind, so that ``"index"`` is never taken for the keyword.
    """

    kind: str
    text: bytes
    start: int
    word: str = ""

    @property
    def written(self) -> str:
        """The token as it stands in the file."""
        return self.text.decode("utf-8", "replace")

    @property
    def value(self) -> str:
        """The plain value of a name, word, number or simple string: unquoted, and folded to lower case."""
        text = re.sub(r"^(?:[eEnN]|[uU]&)?(?=['\"])", "", self.written)
        return text.strip("'\"").lower()


def tokens(text: bytes, start: int = 0, standard_strings: bool = True) -> Iterator[Token]:
    """Yield the tokens of ``text`` from ``start`` on, without blanks and comments, lazily.

    An unterminated passage is one token up to the end of the text.
    """
    position = start
    while match := _TOKEN.match(text, position):
        begin, position = match.span()
        kind = str(match.lastgroup)
        if kind == "quoted":
            position = _quoted_end(text, match, standard_strings)
            kind = _quoted_kind(match.group())
        if kind != "blank":
            piece = text[begin:position]
            yield Token(kind, piece, begin, piece.upper().decode("utf-8", "replace") if kind == "word" else "")


def _quoted_end(text: bytes, opening: re.Match[bytes], standard_strings: bool) -> int:
    quote = opening.start() if opening.group()[:1] in (b"$", b"/") else opening.end() - 1
    try:
        return passage_end(text, quote, opening.start(), standard_strings)
    except Unterminated:
        return len(text)


def _quoted_kind(opening: bytes) -> str:
    if opening == b"/*":
        return "blank"
    return "name" if opening.endswith(b'"') else "string"


class Cursor:
    """Walks over the tokens of one statement, the way a recursive-descent parser does.

    Parameters:
        text: the SQL.
        start: the offset to begin at.
        standard_strings: the value of ``standard_conforming_strings``.
    """

    def __init__(self, text: bytes, start: int = 0, standard_strings: bool = True) -> None:
        self._tokens = tokens(text, start, standard_strings)
        self._end = Token("end", b"", len(text))
        self.token = next(self._tokens, self._end)

    def advance(self) -> Token:
        """Move to the next token and return the one left behind."""
        passed = self.token
        self.token = next(self._tokens, self._end)
        return passed

    def at(self, *words: str) -> bool:
        """Whether the current token is one of these keywords."""
        return self.token.word in words

    def at_mark(self, mark: bytes) -> bool:
        """Whether the current token is this punctuation mark."""
        return self.token.kind == "other" and self.token.text == mark

    def at_end(self) -> bool:
        """Whether the statement is over."""
        return self.token.kind == "end" or self.at_mark(b";")

    def accept(self, *words: str) -> bool:
        """Pass these keywords if they all follow in this order; ``False`` as soon as one does not."""
        for word in words:
            if not self.at(word):
                return False
            self.advance()
        return True

    def accept_mark(self, mark: bytes) -> bool:
        """Pass this punctuation mark if it follows."""
        if not self.at_mark(mark):
            return False
        self.advance()
        return True

    def name(self) -> str | None:
        """Pass a possibly qualified name and return it as written, ``None`` if there is none."""
        if self.token.kind not in ("word", "name"):
            return None
        parts = [self.advance().written]
        while self.accept_mark(b"."):
            parts.append(self.advance().written)
        return ".".join(parts)

    def names(self) -> tuple[str, ...]:
        """Pass a comma-separated list of names."""
        found = [self.name()]
        while self.accept_mark(b","):
            found.append(self.name())
        return tuple(name for name in found if name)

    def table(self) -> str | None:
        """Pass ``[ONLY] name [*]`` or ``ONLY (name)`` and return the name."""
        self.accept("ONLY")
        parenthesised = self.accept_mark(b"(")
        name = self.name()
        self.accept_mark(b")" if parenthesised else b"*")
        return name

    def options(self) -> dict[str, str]:
        """Pass ``(name, name value, name = value)`` and return it in lower case; empty when there is none.

        An option without a value has the value ``true``; of repeated options the last wins, as in PostgreSQL.
        """
        found: dict[str, str] = {}
        more = self.accept_mark(b"(")
        while more and not self.at_end():
            name, value = self.advance().value, "true"
            self.accept_mark(b"=")
            while not (self.at_mark(b",") or self.at_mark(b")") or self.at_end()):
                value = self.advance().value
            found[name] = value
            more = self.accept_mark(b",")
        self.accept_mark(b")")
        return found

    def skip_to(self, word: str) -> bool:
        """Move to the next occurrence of a keyword outside parentheses; ``False`` when there is none."""
        while not (self.at(word) or self.at_end()):
            if self.at_mark(b"("):
                self.skip_parentheses()
            else:
                self.advance()
        return self.at(word)

    def skip_parentheses(self) -> None:
        """Pass a parenthesised group with everything inside it."""
        depth = 0
        while self.token.kind != "end":
            depth += self.at_mark(b"(") - self.at_mark(b")")
            self.advance()
            if depth <= 0:
                return


def transaction_control(text: bytes) -> str | None:
    """Which transaction command this is: ``BEGIN``, ``COMMIT``, ``ROLLBACK``, ``PREPARE TRANSACTION`` or ``None``.

    Synonyms (``START TRANSACTION``, ``END``, ``ABORT``) and every option (``WORK``, ``AND CHAIN``, isolation levels)
    are covered. Savepoint commands and ``COMMIT PREPARED`` / ``ROLLBACK PREPARED`` do not end the current transaction
    and are ``None``.
    """
    cursor = Cursor(text)
    first = cursor.advance().word
    if first == "BEGIN" or (first == "START" and cursor.at("TRANSACTION")):
        return "BEGIN"
    if first == "PREPARE":
        # PREPARE transaction AS …, a prepared statement of that name, is legal too.
        return "PREPARE TRANSACTION" if cursor.accept("TRANSACTION") and cursor.token.kind == "string" else None
    if first in ("COMMIT", "END"):
        return None if cursor.at("PREPARED") else "COMMIT"
    if first in ("ROLLBACK", "ABORT"):
        if cursor.at("WORK", "TRANSACTION"):
            cursor.advance()
        return None if cursor.at("PREPARED", "TO") else "ROLLBACK"
    return None


def sets_session(text: bytes) -> bool:
    """Whether the only effect of the statement is on session settings.

    ``SET``, ``RESET``, ``SET ROLE``, ``SET SESSION AUTHORIZATION`` and ``SELECT set_config(…)`` are; whatever ends with
    the transaction (``SET LOCAL``, ``SET TRANSACTION``, ``SET CONSTRAINTS``, ``set_config(…, true)``) is not.
    """
    cursor = Cursor(text)
    first = cursor.advance().word
    if first == "SET":
        return not cursor.at("LOCAL", "CONSTRAINTS", *_TRANSACTION_SETTINGS)
    return first == "RESET" or (first == "SELECT" and _is_set_config(cursor))


_TRANSACTION_SETTINGS = ("TRANSACTION", "TRANSACTION_ISOLATION", "TRANSACTION_READ_ONLY", "TRANSACTION_DEFERRABLE")


def _is_set_config(cursor: Cursor) -> bool:
    """Whether the select list is nothing but one call of set_config for the session, without a call inside it."""
    if cursor.accept("PG_CATALOG"):
        cursor.accept_mark(b".")
    if not cursor.accept("SET_CONFIG") or not cursor.accept_mark(b"("):
        return False
    last = cursor.token
    while not (cursor.at_mark(b")") or cursor.at_end()):
        if cursor.at_mark(b"("):
            return False
        last = cursor.advance()
    cursor.accept_mark(b")")
    if cursor.accept("AS"):
        cursor.name()
    return cursor.at_end() and not _is_true(last.value)


def may_commit(text: bytes) -> bool:
    """Whether the statement can run code that commits: ``CALL`` and ``DO`` (outside a transaction block they may)."""
    return Cursor(text).at("CALL", "DO")


@dataclass(frozen=True)
class ConcurrentStatement:
    """A statement that says ``CONCURRENTLY`` and therefore runs in several transactions of its own.

    Parameters:
        verb: ``create index``, ``drop index``, ``reindex`` or ``detach partition``.
        names: what is created, dropped, rebuilt or detached, as written (possibly qualified or quoted): the index of
            ``create index`` (empty when PostgreSQL chooses its name), all indexes of ``drop index``, the index of
            ``reindex index`` (empty for the other kinds of ``reindex``), the partition of ``detach partition``.
        table: the table as written, without ``ONLY`` and ``*``; for ``reindex`` only that of ``reindex table``.
    """

    verb: str
    names: tuple[str, ...] = ()
    table: str | None = None


def concurrent_statement(text: bytes) -> ConcurrentStatement | None:
    """The facts of a ``CONCURRENTLY`` statement that cannot run in a transaction block, ``None`` for all others.

    ``REFRESH MATERIALIZED VIEW CONCURRENTLY`` can run in one and is therefore ``None``.
    """
    cursor = Cursor(text)
    read = _CONCURRENT.get(cursor.advance().word)
    return read(cursor) if read else None


def _concurrent_create(cursor: Cursor) -> ConcurrentStatement | None:
    cursor.accept("UNIQUE")
    if not cursor.accept("INDEX", "CONCURRENTLY"):
        return None
    cursor.accept("IF", "NOT", "EXISTS")
    names = () if cursor.at("ON") else cursor.names()
    table = cursor.table() if cursor.accept("ON") else None
    return ConcurrentStatement("create index", names, table)


def _concurrent_drop(cursor: Cursor) -> ConcurrentStatement | None:
    if not cursor.accept("INDEX", "CONCURRENTLY"):
        return None
    cursor.accept("IF", "EXISTS")
    return ConcurrentStatement("drop index", cursor.names())


def _concurrent_reindex(cursor: Cursor) -> ConcurrentStatement | None:
    concurrently = _is_true(cursor.options().get("concurrently", "false"))
    kind = cursor.advance().word
    concurrently = cursor.accept("CONCURRENTLY") or concurrently
    if not concurrently:
        return None
    names = cursor.names() if kind == "INDEX" else ()
    return ConcurrentStatement("reindex", names, cursor.table() if kind == "TABLE" else None)


def _concurrent_detach(cursor: Cursor) -> ConcurrentStatement | None:
    if not cursor.accept("TABLE"):
        return None
    cursor.accept("IF", "EXISTS")
    table = cursor.table()
    if not cursor.accept("DETACH", "PARTITION"):
        return None
    names = cursor.names()
    return ConcurrentStatement("detach partition", names, table) if cursor.at("CONCURRENTLY") else None


_CONCURRENT: dict[str, Callable[[Cursor], ConcurrentStatement | None]] = {
    "CREATE": _concurrent_create,
    "DROP": _concurrent_drop,
    "REINDEX": _concurrent_reindex,
    "ALTER": _concurrent_detach,
}

_CONCURRENT_NAMES = {
    "create index": "CREATE INDEX CONCURRENTLY",
    "drop index": "DROP INDEX CONCURRENTLY",
    "reindex": "REINDEX CONCURRENTLY",
    "detach partition": "ALTER TABLE ... DETACH PARTITION ... CONCURRENTLY",
}


def finalize_detach(text: bytes) -> bytes:
    """The statement that completes an interrupted ``DETACH PARTITION … CONCURRENTLY``: the same with ``FINALIZE``.

    Parameters:
        text: a statement for which :func:`concurrent_statement` says ``detach partition``; any other is returned as is.
    """
    cursor = Cursor(text)
    if cursor.advance().word != "ALTER" or not _concurrent_detach(cursor):
        return text
    word = cursor.token
    return text[: word.start] + b"FINALIZE" + text[word.start + len(word.text) :]


def refused_in_transaction(text: bytes, server_version: int) -> str | None:
    """The name of the construct that PostgreSQL refuses inside a transaction block, ``None`` if it refuses nothing.

    The list is that of the callers of ``PreventInTransactionBlock`` in PostgreSQL 12 to 19. Where PostgreSQL decides on
    the state of an object (``DROP SUBSCRIPTION`` with a slot), the statement counts as refused. Two cases cannot be
    seen in the text and are not reported: ``REINDEX`` and ``CLUSTER`` of a *partitioned* table.

    Parameters:
        text: one statement.
        server_version: the server's ``server_version_num``, for example ``180006``.
    """
    concurrent = concurrent_statement(text)
    if concurrent:
        too_old = concurrent.verb == "detach partition" and server_version < 140000
        return None if too_old else _CONCURRENT_NAMES[concurrent.verb]
    cursor = Cursor(text)
    refused = _REFUSED.get(cursor.advance().word)
    return refused(cursor, server_version) if refused else None


def _refused_create(cursor: Cursor, _version: int) -> str | None:
    kind = cursor.advance().word
    if kind in ("DATABASE", "TABLESPACE"):
        return f"CREATE {kind}"
    if kind != "SUBSCRIPTION" or _with_false(cursor, "connect", "create_slot"):
        return None
    return "CREATE SUBSCRIPTION"


def _refused_drop(cursor: Cursor, _version: int) -> str | None:
    kind = cursor.token.word
    return f"DROP {kind}" if kind in ("DATABASE", "TABLESPACE", "SUBSCRIPTION") else None


def _refused_alter(cursor: Cursor, version: int) -> str | None:
    kind = cursor.advance().word
    if kind == "SYSTEM":
        return "ALTER SYSTEM"
    if kind not in ("DATABASE", "SUBSCRIPTION", "TYPE") or not cursor.name():
        return None
    if kind == "DATABASE":
        return "ALTER DATABASE ... SET TABLESPACE" if cursor.accept("SET", "TABLESPACE") else None
    if kind == "TYPE":
        return "ALTER TYPE ... ADD VALUE" if version < 120000 and cursor.accept("ADD", "VALUE") else None
    return _refused_alter_subscription(cursor, version)


def _refused_alter_subscription(cursor: Cursor, version: int) -> str | None:
    action = cursor.advance().word
    if action == "REFRESH":
        return f"ALTER SUBSCRIPTION ... REFRESH {cursor.token.word}"
    if action in ("SET", "ADD", "DROP") and cursor.at("PUBLICATION"):
        return None if _with_false(cursor, "refresh") else f"ALTER SUBSCRIPTION ... {action} PUBLICATION"
    options = cursor.options() if action == "SET" else {}
    if version >= 170000 and "failover" in options:
        return "ALTER SUBSCRIPTION ... SET (failover)"
    if version >= 180000 and not _is_true(options.get("two_phase", "true")):
        return "ALTER SUBSCRIPTION ... SET (two_phase = false)"
    return None


def _with_false(cursor: Cursor, *names: str) -> bool:
    """Whether the WITH (…) clause ahead switches one of these options off."""
    if not cursor.skip_to("WITH"):
        return False
    cursor.accept("WITH")
    options = cursor.options()
    return any(name in options and not _is_true(options[name]) for name in names)


def _refused_reindex(cursor: Cursor, _version: int) -> str | None:
    cursor.options()
    kind = cursor.token.word
    return f"REINDEX {kind}" if kind in ("DATABASE", "SYSTEM", "SCHEMA") else None


def _refused_vacuum(_cursor: Cursor, _version: int) -> str | None:
    return "VACUUM"


def _refused_cluster(cursor: Cursor, _version: int) -> str | None:
    cursor.options()
    cursor.accept("VERBOSE")
    return "CLUSTER" if cursor.at_end() else None


def _refused_repack(cursor: Cursor, _version: int) -> str | None:
    if _is_true(cursor.options().get("concurrently", "false")):
        return "REPACK (CONCURRENTLY)"
    return "REPACK" if cursor.at_end() or cursor.at("USING") else None


def _refused_prepared(first: str) -> Callable[[Cursor, int], str | None]:
    return lambda cursor, _version: f"{first} PREPARED" if cursor.at("PREPARED") else None


def _refused_discard(cursor: Cursor, _version: int) -> str | None:
    return "DISCARD ALL" if cursor.at("ALL") else None


_REFUSED: dict[str, Callable[[Cursor, int], str | None]] = {
    "CREATE": _refused_create,
    "DROP": _refused_drop,
    "ALTER": _refused_alter,
    "REINDEX": _refused_reindex,
    "VACUUM": _refused_vacuum,
    "CLUSTER": _refused_cluster,
    "REPACK": _refused_repack,
    "COMMIT": _refused_prepared("COMMIT"),
    "ROLLBACK": _refused_prepared("ROLLBACK"),
    "DISCARD": _refused_discard,
}


def _is_true(value: str) -> bool:
    """The boolean value of an option, as ``defGetBoolean`` reads it."""
    return value not in ("false", "off", "0", "no", "f", "n")


_CONNECTION_PASSWORD = re.compile(
    rb"(password\s*=\s*)(?:''(?:[^'\\]|\\''|\\.)*''|\\'(?:[^'\\]|\\[^'])*\\'|(?:[^\s'\\]|\\''|\\[^'])+)", re.I
)
"""``password=value`` in a libpq connection string inside an SQL string, where each quote is ``''`` or ``\\'``."""

_URI_PASSWORD = re.compile(rb"(://[^\s:/@'\"]*:)[^\s@'\"]+(?=@)")
_NESTED_PASSWORD = re.compile(rb"(\bpassword\s+)''(?:[^']|'''')*''", re.I)


def redact_passwords(text: str) -> str:
    """The SQL with every password in it replaced by ``***``, for showing it to people.

    Hidden are the string behind ``PASSWORD`` (``CREATE ROLE``, ``ALTER USER``, ``OPTIONS (password '…')``), and inside
    any string constant ``password=…`` and ``scheme://user:…@host`` of connection strings. Bodies of functions and DO
    blocks are searched as well. A password that an expression puts together cannot be recognised.

    Parameters:
        text: any SQL, also several statements or a fragment.
    """
    lowered = text.lower()
    if "password" not in lowered and "://" not in lowered:
        return text
    return _redact(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _redact(text: bytes) -> bytes:
    pieces: list[bytes] = []
    copied, secret = 0, False
    for token in tokens(text):
        if token.kind == "string":
            pieces += [text[copied : token.start], b"'***'" if secret else _redact_string(token.text)]
            copied = token.start + len(token.text)
            continue  # a string on the next line continues this one, so it is as secret
        secret = token.value.endswith("password")
    return b"".join([*pieces, text[copied:]])


def _redact_string(string: bytes) -> bytes:
    """A string constant with the passwords inside it replaced."""
    tag = _DOLLAR_TAG.match(string)
    if tag:
        mark = tag.group()
        closing = mark if string.endswith(mark, len(mark)) else b""
        body = string[len(mark) : len(string) - len(closing)]
        return mark + _redact(_redact_connection(body)) + closing
    return _NESTED_PASSWORD.sub(rb"\1''***''", _redact_connection(string))


def _redact_connection(string: bytes) -> bytes:
    return _URI_PASSWORD.sub(rb"\1***", _CONNECTION_PASSWORD.sub(rb"\1***", string))
