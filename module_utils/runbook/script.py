# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a migration the way ``psql -X -v ON_ERROR_STOP=1 -f file`` does and cuts it into statements.

The rules are those of psql's own scanner (``src/fe_utils/psqlscan.l``, ``src/bin/psql/mainloop.c``), with four choices
of our own:

* Whatever psql would send half-finished (an open string, comment, parenthesis at the end of a file) is refused here.
* A string that continues on the next line (``E'a'`` newline ``'b'``) follows the server's rule; psql loses its state
  at the end of the line and would cut some of these strings in the wrong place.
* ``\\i`` takes its path relative to the migrations folder, where psql takes its working directory, and nothing outside
  that folder can be included. ``\\ir`` is relative to the including file, as in psql.
* psql commands that only change the output are ignored; those that cannot work in a migration are refused with advice.

Everything else is text that is passed through untouched: ``:name``, ``%``, ``{{ }}``, carriage returns.
All work is linear in the size of the file.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.statement import (
    NAME_BYTE,
    NAME_START,
    SPACE,
    Cursor,
    Unterminated,
    match_end,
    passage_end,
)

Include = Callable[[str, str, str], "tuple[str, bytes]"]
"""How :func:`split` obtains an included file: ``(path as written, folder it is relative to, "file:line")`` to
``(path relative to the migrations folder, content)``; raises :class:`RunbookError`."""

MAX_INCLUDE_DEPTH = 50

_BOM = b"\xef\xbb\xbf"
_OPEN, _CLOSE, _SEMICOLON, _BACKSLASH, _DASH = b"();\\-"
_PASSAGES = frozenset(b"'\"$/")

_STOP = re.compile(rb"""['"$;()\\]|--[^\n\r]*|/\*""")
_ROUTINE_STOP = re.compile(
    _STOP.pattern + rb"|(?<!" + NAME_BYTE + rb")(?:begin|case|end)(?!" + NAME_BYTE + rb")", re.IGNORECASE
)
_BLANK = re.compile(SPACE + rb"*(?:--[^\n\r]*)?")
_FIRST_WORD = re.compile(NAME_START + NAME_BYTE + rb"*")
_END_OF_DATA = re.compile(rb"\n\\\.\r?(?:\n|\Z)")
_NOTHING_MORE = re.compile(rb"[ \t\r\f\v;]*(?:--[^\n\r]*\r?)?\n")
_COMMAND_NAME = re.compile(rb"[^ \t\n\r\f\v\\]*")
_LINE_SPACE = re.compile(rb"[ \t\r\f\v]*")
_ARGUMENT_PART = re.compile(
    rb"'(?P<single>[^'\\\n]*(?:(?:''|\\[^\n])[^'\\\n]*)*)'"
    rb'|(?P<verbatim>"[^"\n]*"|`[^`\n]*`)'
    rb"|(?P<plain>[^ \t\n\r\f\v'\"`\\]+)"
)
_ARGUMENT_ESCAPE = re.compile(rb"''|\\(.)", re.DOTALL)

_IGNORED = frozenset(("echo", "qecho", "warn", "timing", "pset", "x", "a", "t"))
_IGNORED_VARIABLES = frozenset(
    ("VERBOSITY", "QUIET", "ECHO", "ECHO_HIDDEN", "SHOW_CONTEXT", "SHOW_ALL_RESULTS")
    + ("HIDE_TABLEAM", "HIDE_TOAST_COMPRESSION", "PROMPT1", "PROMPT2", "PROMPT3")
)
_INCLUDES = {"i": False, "include": False, "ir": True, "include_relative": True}
"""The include commands, and whether their path is relative to the including file."""

_ADVICE_SEND = "End the statement with ';' instead."
_ADVICE_VARIABLE = "Compute the value in SQL: a subquery, a DO block, or set_config() and current_setting()."
_ADVICE_CONDITION = "Write two files, or decide in SQL with a DO block."
_ADVICE_CONNECT = "A run works on one database; put statements for another database into that database's migrations."
_ADVICE_HOST = "A migration must not run anything on the host; do that in a task of the playbook."
_ADVICE_OTHER = "Remove the line, or express it in SQL."
_ADVICE = {
    "copy": "Use COPY ... FROM stdin with the data in the file.",
    "connect": _ADVICE_CONNECT,
    "c": _ADVICE_CONNECT,
    "gexec": "Use a DO block that runs each generated statement with EXECUTE.",
    "gset": _ADVICE_VARIABLE,
    "set": _ADVICE_VARIABLE,
    "unset": _ADVICE_VARIABLE,
    "prompt": _ADVICE_VARIABLE,
    "getenv": _ADVICE_VARIABLE,
    "g": _ADVICE_SEND,
    "gx": _ADVICE_SEND,
    ";": _ADVICE_SEND,
    ":": "Write the colon without the backslash.",
    "!": _ADVICE_HOST,
    "cd": _ADVICE_HOST,
    "setenv": _ADVICE_HOST,
    "o": _ADVICE_HOST,
    "w": _ADVICE_HOST,
    "if": _ADVICE_CONDITION,
    "elif": _ADVICE_CONDITION,
    "else": _ADVICE_CONDITION,
    "endif": _ADVICE_CONDITION,
    "q": "Delete what follows it, or move it to another file.",
    "password": "Use ALTER ROLE ... PASSWORD in a statement, or a task of the playbook.",
    ".": "It ends the data of COPY ... FROM stdin, and no such COPY is open here; remove the line.",
}
"""What to do instead of a psql command that is refused."""

_CLOSING = {
    "string": "Close it with ', and double every quote that belongs to its text",
    "quoted name": 'Close it with "',
    "comment": "Close it with */; comments nest, so every /* needs its own",
    "parenthesis": "Close it with )",
    "BEGIN or CASE of a routine body": "Close it with END",
}
"""How to close what the end of the file left open; a dollar quote closes with its own tag."""


@dataclass(frozen=True)
class Statement:
    """One statement of a script.

    Parameters:
        text: exactly as in the file, from its first token to the semicolon (or to the end of the file); only psql
            commands that stand in the middle of it are cut out, as psql does.
        line: the line of its first token in ``file``, counted from 1.
        file: the file it stands in, relative to the migrations folder, with ``/``.
        data: the inline data of ``COPY … FROM stdin`` without the closing ``\\.`` line, ``None`` for everything else.
    """

    text: bytes
    line: int
    file: str
    data: bytes | None = None


@dataclass(frozen=True)
class Script:
    """A migration file with everything it includes.

    Parameters:
        statements: in the order in which they run.
        sources: ``(relative name, raw content)``: the file itself first, then each included file once, in order of
            first inclusion. What a checksum has to cover.
    """

    statements: list[Statement]
    sources: list[tuple[str, bytes]]


def read_script(path: Path, root: Path) -> Script:
    """Read a migration and all files it includes.

    Parameters:
        path: the SQL file.
        root: the migrations folder; names in results and messages are relative to it, and includes stay inside it.

    Raises:
        RunbookError: ``encoding``, ``syntax``, ``include``, ``meta-command``, each naming file and line.
        OSError: ``path`` itself cannot be read.
    """
    sources = {_name_of(path, root): path.read_bytes()}
    main, content = next(iter(sources.items()))

    def include(requested: str, folder: str, where: str) -> tuple[str, bytes]:
        name, included = _read_inside(root, folder, requested, where)
        return name, sources.setdefault(name, included)

    return Script(split(content, main, include), list(sources.items()))


def split(content: bytes, file: str = "script.sql", include: Include | None = None) -> list[Statement]:
    """Cut SQL into statements without touching the disk.

    Parameters:
        content: the raw file.
        file: its name relative to the migrations folder, for results and messages.
        include: obtains included files; without it every ``\\i`` is refused.

    Raises:
        RunbookError: as for :func:`read_script`.
    """
    return _Splitter(content, file, include, _Session(), (file,)).statements()


def _name_of(path: Path, root: Path) -> str:
    """``path`` relative to ``root``; a path outside of it keeps only its file name."""
    try:
        return path.absolute().relative_to(root.absolute()).as_posix()
    except ValueError:
        return path.name


def _read_inside(root: Path, folder: str, requested: str, where: str) -> tuple[str, bytes]:
    """The relative name and content of an included file, which has to lie inside ``root`` once links are followed."""
    base = root.resolve()
    file, _, line = where.rpartition(":")
    try:
        target = (root / folder / requested).resolve()
        inside = not posixpath.isabs(requested) and base in target.parents
        if inside:
            return target.relative_to(base).as_posix(), target.read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13
        reason = getattr(error, "strerror", None) or str(error)
        raise RunbookError(
            f"{where}: the included file {requested!r} cannot be read: {reason}. "
            "Correct the path; \\i is relative to the migrations folder, \\ir to the including file.",
            "include",
            file=file,
            line=int(line),
        ) from error
    raise RunbookError(
        f"{where}: the included file {requested!r} lies outside the migrations folder. "
        "Move it into that folder and include it with a relative path.",
        "include",
        file=file,
        line=int(line),
    )


@dataclass
class _Session:
    """What one file can change for the files after it, as within one psql session."""

    standard_strings: bool = True
    restrict_key: bytes | None = None


class _Splitter:
    """Cuts one file; an included file gets a splitter of its own that shares the session.

    ``_line_of`` counts newlines incrementally, so it must be asked for rising positions only. Statement starts rise,
    and an error, which may look back inside its statement, is the last question.
    """

    def __init__(
        self, content: bytes, file: str, include: Include | None, session: _Session, chain: tuple[str, ...]
    ) -> None:
        self._content = content
        self._file = file
        self._include = include
        self._session = session
        self._chain = chain
        self._found: list[Statement] = []
        self._line = 1
        self._counted = 0
        self._jump_at = len(content)
        self._jump_lines = 0

    def statements(self) -> list[Statement]:
        """All statements of the file and of the files it includes."""
        self._check_encoding()
        try:
            self._scan(len(_BOM) if self._content.startswith(_BOM) else 0)
        except Unterminated as error:
            raise self._unterminated(error.what, error.start) from None
        return self._found

    def _check_encoding(self) -> None:
        nul = self._content.find(b"\0")
        try:
            self._content.decode("utf-8")
        except UnicodeDecodeError as error:
            if nul < 0 or error.start < nul:
                utf16 = " It looks like UTF-16." if self._content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
                byte = self._content[error.start]
                raise self._error(
                    "encoding", error.start, f"byte 0x{byte:02x} is not valid UTF-8.{utf16} Save the file as UTF-8."
                ) from None
        if nul >= 0:
            raise self._error("encoding", nul, "a NUL byte (0x00) cannot be part of SQL. Save the file as UTF-8 text.")

    def _scan(self, position: int) -> None:
        while True:
            position = self._skip_blank(position)
            if position >= len(self._content):
                return
            mark = self._content[position]
            if mark == _SEMICOLON:
                position += 1
            elif mark == _BACKSLASH:
                position = self._command(position, within=False)
            else:
                position = self._statement(position)

    def _skip_blank(self, position: int) -> int:
        content = self._content
        while True:
            end = match_end(_BLANK, content, position)
            if content.startswith(b"/*", end):
                position = passage_end(content, end)
            elif end == position:
                return position
            else:
                position = end

    def _statement(self, start: int) -> int:
        """Cut the statement that begins at ``start`` and return the position to go on from."""
        line = self._line_of(start)
        pieces, end = self._pieces(start)
        text = b"".join(pieces)
        data = None
        word = _FIRST_WORD.match(text)
        first = word.group().upper() if word else b""
        if first == b"COPY" and _copies_from_stdin(text, self._session.standard_strings):
            data, end = self._copy_data(end)
        elif first in (b"SET", b"RESET", b"SELECT", b"DISCARD"):
            self._follow_setting(text)
        self._found.append(Statement(text, line, self._file, data))
        return end

    def _pieces(self, start: int) -> tuple[list[bytes], int]:
        """The text of the statement, in pieces where psql commands interrupt it, and the offset behind it.

        A semicolon inside parentheses belongs to the statement (CREATE RULE … DO (a; b)), and so does one between
        BEGIN and END of a routine's body. psql knows such a body by the words alone: the statement begins with CREATE
        [OR REPLACE] FUNCTION or PROCEDURE, BEGIN opens, CASE opens inside of BEGIN, END closes.
        """
        content, standard_strings = self._content, self._session.standard_strings
        search = (_ROUTINE_STOP if self._begins_routine(start) else _STOP).search
        pieces: list[bytes] = []
        parentheses = blocks = 0
        outer_parenthesis = outer_block = piece = position = start
        while True:
            match = search(content, position)
            if match is None:
                break
            floor, (at, position) = position, match.span()
            mark = content[at]
            if mark in _PASSAGES:
                position = passage_end(content, at, floor, standard_strings)
            elif mark == _SEMICOLON:
                if not parentheses and not blocks:
                    return [*pieces, content[piece:position]], position
            elif mark == _OPEN:
                outer_parenthesis = outer_parenthesis if parentheses else at
                parentheses += 1
            elif mark == _CLOSE:
                parentheses = max(parentheses - 1, 0)
            elif mark == _BACKSLASH:
                pieces.append(content[piece:at])
                piece = position = self._command(at, within=True)
            elif mark != _DASH and not parentheses:
                outer_block = outer_block if blocks else at
                blocks = _block_depth(blocks, match.group())
        if parentheses:
            raise Unterminated("parenthesis", outer_parenthesis)
        if blocks:
            raise Unterminated("BEGIN or CASE of a routine body", outer_block)
        return [*pieces, content[piece:]], len(content)

    def _begins_routine(self, start: int) -> bool:
        if self._content[start] not in b"Cc":
            return False
        cursor = Cursor(self._content, start)
        if not cursor.accept("CREATE"):
            return False
        cursor.accept("OR", "REPLACE")
        return cursor.at("FUNCTION", "PROCEDURE")

    def _copy_data(self, end: int) -> tuple[bytes, int]:
        """The data of a COPY that ends at ``end``, and the position to go on from.

        psql sends the statement at its semicolon, takes the data from the following lines and only then reads what
        else stands behind the semicolon. That rest is moved behind the data here.
        """
        content = self._content
        newline = content.find(b"\n", end)
        if newline < 0:
            return b"", end
        match = _END_OF_DATA.search(content, newline)
        data = content[newline + 1 : match.start() + 1 if match else len(content)]
        resume = match.end() if match else len(content)
        if _NOTHING_MORE.fullmatch(content, end, newline + 1):
            return data, resume
        self._line_of(end)
        lines = content.count(b"\n", newline + 1, resume)
        self._jump_lines += lines
        self._jump_at = newline + 1 - end
        self._counted = 0
        self._content = content[end : newline + 1] + content[resume:]
        return data, 0

    def _follow_setting(self, text: bytes) -> None:
        """Note a change of standard_conforming_strings, which decides how later strings are read.

        psql hears of it from the server. A setting that ends with its transaction (SET LOCAL) counts to the end.
        """
        value = _standard_strings(text, self._session.standard_strings)
        if value is not None:
            self._session.standard_strings = value

    # psql commands

    def _command(self, at: int, within: bool) -> int:
        """Obey, ignore or refuse the psql command at ``at``; return the offset behind it.

        Parameters:
            at: the offset of its backslash.
            within: whether a statement is open.
        """
        name_end = match_end(_COMMAND_NAME, self._content, at + 1)
        name = self._content[at + 1 : name_end].decode("utf-8")
        if self._session.restrict_key is not None and name != "unrestrict":
            raise self._error(
                "meta-command", at, f"\\{name} is restricted: it stands between \\restrict and \\unrestrict. Remove it."
            )
        if name not in _OBEYED or (within and name in ("restrict", "unrestrict")):
            raise self._refusal(at, name)
        arguments, end = self._arguments(at, name_end)
        if name in _INCLUDES:
            self._run_include(at, name, arguments, within)
        elif name == "set":
            self._check_set(at, arguments)
        elif name == "encoding":
            self._check_encoding_command(at, arguments)
        elif name == "restrict":
            self._restrict(at, arguments)
        elif name == "unrestrict":
            self._unrestrict(at, arguments)
        return end

    def _arguments(self, at: int, position: int) -> tuple[list[bytes], int]:
        """The arguments from ``position`` to the end of the line, to ``\\\\``, or to the next backslash command.

        As in psql (``psqlscanslash.l``), adjoining quoted and plain parts are one argument, double quotes and
        backquotes stay in it, and a semicolon at its end does not count. Backquotes never run anything here.
        """
        content = self._content
        arguments: list[bytes] = []
        while True:
            position = match_end(_LINE_SPACE, content, position)
            if content.startswith(b"\\\\", position):
                return arguments, position + 2
            if position == len(content) or content[position] in b"\n\\":
                return arguments, position
            argument, position = self._argument(at, position)
            arguments.append(argument)

    def _argument(self, at: int, position: int) -> tuple[bytes, int]:
        argument, last = b"", None
        while match := _ARGUMENT_PART.match(self._content, position):
            argument += _argument_value(match)
            position, last = match.end(), match.lastgroup
        if self._content[position : position + 1] in (b"'", b'"', b"`"):
            raise self._error("syntax", at, "the psql command has a quoted argument that is not closed. Close it.")
        return argument.rstrip(b";") if last == "plain" else argument, position

    def _run_include(self, at: int, name: str, arguments: list[bytes], within: bool) -> None:
        if within:
            raise self._error(
                "include", at, f"\\{name} stands in the middle of a statement. End the statement with ';' before it."
            )
        if not arguments:
            raise self._error("include", at, f"\\{name} names no file. Write the file's path behind it.")
        if self._include is None:
            raise self._error("include", at, f"\\{name} cannot be used here. Paste the file's content instead.")
        requested = arguments[0].decode("utf-8")
        folder = posixpath.dirname(self._file) if _INCLUDES[name] else ""
        file, content = self._include(requested, folder, f"{self._file}:{self._line_of(at)}")
        chain = (*self._chain, file)
        if file in self._chain or len(chain) > MAX_INCLUDE_DEPTH:
            shown = " -> ".join(chain)
            raise self._error(
                "include", at, f"\\{name} {requested} includes without end: {shown}. Remove one of these includes."
            )
        self._found += _Splitter(content, file, self._include, self._session, chain).statements()

    def _check_set(self, at: int, arguments: list[bytes]) -> None:
        name = arguments[0].decode("utf-8") if arguments else ""
        if name == "ON_ERROR_STOP":
            value = b"".join(arguments[1:]) or b"on"
            if _boolean(value.decode("utf-8")) is not True:
                raise self._error(
                    "meta-command",
                    at,
                    f"\\set ON_ERROR_STOP {value.decode('utf-8')} cannot be obeyed: a migration always stops at its "
                    "first error. Remove the line, and make a statement that may fail conditional (IF EXISTS, DO).",
                )
        elif name not in _IGNORED_VARIABLES:
            raise self._refusal(at, "set", f"\\set {name}".rstrip())

    def _check_encoding_command(self, at: int, arguments: list[bytes]) -> None:
        name = arguments[0].decode("utf-8") if arguments else "UTF8"
        if re.sub(r"[^a-z0-9]", "", name.lower()) not in ("utf8", "unicode"):
            raise self._error(
                "meta-command", at, f"\\encoding {name} cannot be obeyed: migrations are UTF-8. Convert the file."
            )

    def _restrict(self, at: int, arguments: list[bytes]) -> None:
        if not arguments:
            raise self._error("meta-command", at, "\\restrict needs a key. Write one, or remove the line.")
        self._session.restrict_key = arguments[0]

    def _unrestrict(self, at: int, arguments: list[bytes]) -> None:
        expected = self._session.restrict_key
        if expected is None:
            raise self._error("meta-command", at, "\\unrestrict has no \\restrict before it. Remove the line.")
        if arguments[:1] != [expected]:
            raise self._error(
                "meta-command", at, "\\unrestrict does not repeat the key of its \\restrict. Use the same key for both."
            )
        self._session.restrict_key = None

    # places and messages

    def _line_of(self, position: int) -> int:
        self._line += self._content.count(b"\n", self._counted, position)
        self._counted = position
        if self._jump_lines and position >= self._jump_at:
            self._line += self._jump_lines
            self._jump_lines = 0
        return self._line

    def _error(self, code: str, at: int, sentences: str) -> RunbookError:
        line = self._line_of(at)
        return RunbookError(f"{self._file}:{line}: {sentences}", code, file=self._file, line=line)

    def _unterminated(self, what: str, start: int) -> RunbookError:
        advice = _CLOSING.get(what, f"Close it with {what.split()[-1]}")
        return self._error(
            "syntax", start, f"the {what} that starts here is still open at the end of the file. {advice}."
        )

    def _refusal(self, at: int, name: str, shown: str = "") -> RunbookError:
        if name[:1] in (";", ":", "!"):  # these need no blank behind them: \!ls, \;select
            name = name[0]
        shown = shown or "\\" + (name or "\\")
        advice = _ADVICE.get(name, _ADVICE_OTHER)
        return self._error("meta-command", at, f"{shown} is a psql command that migrations cannot use. {advice}")


_OBEYED = _IGNORED.union(_INCLUDES, ("set", "encoding", "restrict", "unrestrict"))
"""The psql commands that are ignored or obeyed."""


def _block_depth(depth: int, word: bytes) -> int:
    """The nesting of BEGIN and CASE after one of the words BEGIN, CASE and END."""
    word = word.upper()
    if word == b"BEGIN":
        return depth + 1
    if word == b"CASE":
        return depth + 1 if depth else 0
    return max(depth - 1, 0)


def _copies_from_stdin(text: bytes, standard_strings: bool) -> bool:
    """Whether a COPY reads its data from the client. The grammar takes FROM STDOUT for FROM STDIN (``gram.y``)."""
    cursor = Cursor(text, standard_strings=standard_strings)
    cursor.accept("COPY")
    return cursor.skip_to("FROM") and cursor.accept("FROM") and cursor.at("STDIN", "STDOUT")


def _standard_strings(text: bytes, current: bool) -> bool | None:
    """The value a statement gives to standard_conforming_strings, ``None`` when it leaves it alone."""
    cursor = Cursor(text, standard_strings=current)
    if cursor.accept("RESET") or cursor.accept("DISCARD"):
        return True if cursor.at("ALL", "STANDARD_CONFORMING_STRINGS") else None
    if cursor.accept("SET"):
        if cursor.at("SESSION", "LOCAL"):
            cursor.advance()
        if cursor.advance().value != "standard_conforming_strings":
            return None
    elif not _enters_set_config(cursor):
        return None
    cursor.advance()  # TO, = or the comma
    return True if cursor.at("DEFAULT") else _boolean(cursor.token.value)


def _enters_set_config(cursor: Cursor) -> bool:
    """Move behind ``SELECT set_config('standard_conforming_strings'`` if the statement begins so."""
    cursor.accept("SELECT")
    if cursor.accept("PG_CATALOG"):
        cursor.accept_mark(b".")
    if not cursor.accept("SET_CONFIG") or not cursor.accept_mark(b"("):
        return False
    return cursor.advance().value == "standard_conforming_strings"


def _boolean(value: str) -> bool | None:
    """A boolean as PostgreSQL and psql read it: unique prefixes of the words count (``parse_bool`` in ``bool.c``)."""
    value = value.lower()
    if value in ("on", "1") or (value and ("true".startswith(value) or "yes".startswith(value))):
        return True
    if value in ("off", "of", "0") or (value and ("false".startswith(value) or "no".startswith(value))):
        return False
    return None


def _argument_value(part: re.Match[bytes]) -> bytes:
    if part.lastgroup != "single":
        return part.group()
    return _ARGUMENT_ESCAPE.sub(_unescaped, part.group("single"))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    character: bytes | None = escape.group(1)
    if character is None:
        return b"'"
    return {b"n": b"\n", b"t": b"\t", b"b": b"\b", b"r": b"\r", b"f": b"\f"}.get(character, character)
