# SPDX-License-Identifier: GPL-3.0-or-later
"""A database session: connecting, refusing what cannot work, and running SQL the way psql does.

Migrations use the simple query protocol on libpq's level: many statements travel in one message,
nothing is parsed or rewritten on the way (``%`` and ``:name`` are just text), and results are
thrown away as they arrive, so that memory does not depend on what a statement returns.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

try:
    import psycopg
    from psycopg import pq
except ImportError:  # reported by require_psycopg() with the sentence an operator needs
    psycopg = None  # type: ignore[assignment]

from ansible.module_utils.runbook.connection import Login
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.piece import Piece
from ansible.module_utils.runbook.requirements import OLDEST_PSYCOPG, why_unusable
from ansible.module_utils.runbook.unreachable import unreachable

APPLICATION_PREFIX = "schema-runbook"
OLDEST_SERVER = 130000

# SQLSTATEs (PostgreSQL documentation, Appendix A)
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK_DETECTED = "40P01"
QUERY_CANCELED = "57014"
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"

# How long a pooler may take to find a server for a waiting client.
_POOL_SECONDS = 1.0

# Between two looks at a server that is not up yet, in seconds.
_PAUSE = 0.2

_CLIENT_CHECK = "client_connection_check_interval = '2s'"

# A message to the server stays near this size, in bytes, however large the file is.
MESSAGE_BYTES = 256 * 1024

# The server converts a whole message and cuts it into statements before it runs the first one, so a
# statement that changes how text is read has to be the last of its message. Looking for plain words is
# quick, and one found by chance (SET NAMES is meant) costs no more than a message.
_CHANGES_STRINGS = (b"standard_conforming_strings", b"backslash_quote", b"client_encoding", b"names")


def require_psycopg() -> None:
    """Raise when the interpreter of this host has no psycopg that the engine can use.

    Raises:
        RunbookError: ``missing-library``.
    """
    reason = why_unusable("psycopg", OLDEST_PSYCOPG)
    if reason is not None:
        raise RunbookError(
            f"The Python library psycopg cannot be used by {sys.executable} ({reason}). "
            "Run ansible-playbook prepare.yml -l HOST, HOST being this host's name in the inventory.",
            code="missing-library",
        )


class SqlError(Exception):
    """The server refused a statement.

    Attributes:
        sqlstate: five characters (PostgreSQL documentation, Appendix A), empty when the connection broke.
        message, detail, hint, context: as the server sent them.
        piece: the statement that failed, None when it cannot be known.
        line: line of the failing place in the file, 0 when unknown.
        fatal: whether it was the last the server said in this session.
    """

    def __init__(
        self, sqlstate: str, message: str, detail: str = "", hint: str = "", context: str = "",
        piece: Piece | None = None, line: int = 0, fatal: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint
        self.context = context
        self.piece = piece
        self.line = line
        self.fatal = fatal

    @property
    def lost(self) -> bool:
        """Whether the connection is gone: no state at all, or the server said it is going down."""
        if self.fatal:
            return True
        return not self.sqlstate or self.sqlstate in ("57P01", "57P02", "57P03") or self.sqlstate.startswith("08")


class Session:
    """One connection in autocommit mode.

    ``run`` sends migration text; ``query`` is for the engine's own questions, with parameters bound by the driver.

    Parameters:
        parameters: what libpq needs to know.
        role: the role they log in to act as, empty for the user's own.
    """

    def __init__(self, parameters: dict[str, Any], role: str = "") -> None:
        self._parameters = parameters
        self._role = role
        self._connect()
        self.pid: int = self._pgconn.backend_pid
        self.server_version: int = self._connection.info.server_version
        self._checks_client: bool | None = None

    def _connect(self) -> None:
        # No server-side prepared statements: DISCARD ALL between files would forget them behind psycopg's back.
        self._connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)
        self._pgconn = self._connection.pgconn

    def renew(self) -> None:
        """Log in again, for the defaults of database and role that hold from the next login on.

        Raises:
            SqlError: when the server cannot be reached any more.
        """
        self._connection.close()
        try:
            self._connect()
        except psycopg.OperationalError as error:
            raise SqlError("", " ".join(str(error).split())) from error
        self.pid = int(self.query("SELECT pg_catalog.pg_backend_pid()")[0][0])

    def reset(self) -> None:
        """Forget what was set since the login."""
        self.run([Piece(b"DISCARD ALL")])
        if self._role:
            # Minor releases before November 2024 (17.1, 16.5, …) forget the role of the login, too.
            self.run([Piece(b"RESET ROLE")])

    def query(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run one of the engine's own statements and return its rows (none for a command)."""
        try:
            cursor = self._connection.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            raise _as_sql_error(error) from error

    def run(self, pieces: Sequence[Piece]) -> tuple[bytes | None, ...]:
        """Send statements as one message; the first error ends it with ``SqlError``.

        Rows are thrown away as they arrive. The very last one is returned, as text, so that a question
        of the engine can travel with the statements it is about.
        """
        if not pieces:
            return ()
        return self._exchange(b"\n;\n".join(piece.text for piece in pieces), pieces, None)

    def copy_in(self, piece: Piece, data: Iterable[bytes]) -> None:
        """Run ``COPY … FROM stdin`` and feed it ``data``."""
        self._exchange(piece.text, [piece], data)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction block is open, failed or not."""
        return self._pgconn.transaction_status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.INERROR,
        )

    @property
    def password(self) -> str:
        """The password that libpq had for the login, wherever it found it; empty when it had none."""
        return str(self._connection.info.password)

    @property
    def alive(self) -> bool:
        """Whether the server end is still there, as far as this socket knows; costs no round trip."""
        if self._connection.closed:
            return False
        # The server's last words come before the end of the stream: read until nothing is left.
        while select.select([self._pgconn.socket], [], [], 0)[0]:
            try:
                self._pgconn.consume_input()
            except psycopg.OperationalError:
                return False
        return bool(self._pgconn.status == pq.ConnStatus.OK)

    def limits(self, command: str, lock: float, statement: float) -> list[Piece]:
        """``SET`` or ``SET LOCAL`` of the session's limits, in seconds; 0 is none.

        The server is also told to look after its client while it works, so that it notices a killed runner in the
        middle of a long statement instead of finishing that for nobody.
        """
        return [
            Piece(f"{command} lock_timeout = '{round(lock * 1000)}ms'".encode()),
            Piece(f"{command} statement_timeout = '{round(statement * 1000)}ms'".encode()),
            *([Piece(f"{command} transaction_timeout = 0".encode())] if self.server_version >= 170000 else []),
            *([Piece(f"{command} {_CLIENT_CHECK}".encode())] if self._can_check_client() else []),
        ]

    def _can_check_client(self) -> bool:
        """From PostgreSQL 14 on, and not on every operating system the server may run on: trying is the only way."""
        if self._checks_client is None:
            try:
                self.query(f"SET {_CLIENT_CHECK}")
                self._checks_client = True
            except SqlError as error:
                if error.lost:
                    raise
                self._checks_client = False
        return self._checks_client

    def send(self, command: bytes) -> None:
        """Send a command without waiting for its answer, for which ``answered`` asks."""
        self._pgconn.send_query(command)
        self._flush()

    def answered(self, seconds: float) -> bool:
        """Whether the answer to ``send`` has come, or comes within so many seconds."""
        if not select.select([self._pgconn.socket], [], [], seconds)[0]:
            return False
        try:
            self._drain(None)
        except (psycopg.OperationalError, OSError) as broken:
            raise SqlError("", f"the connection broke: {broken}".strip()) from broken
        return True

    def hang_up(self) -> None:
        """Break off what another thread of ours waits for in this session; the server notices by itself.

        Asking the server to cancel it would need a server that answers, and may have to wait for that.
        """
        with socket.socket(fileno=os.dup(self._pgconn.socket)) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def stay(self) -> None:
        """Keep the server from ending this session for having nothing to do while others of ours work."""
        self.query("SET idle_in_transaction_session_timeout = 0")
        if self.server_version >= 140000:
            self.query("SET idle_session_timeout = 0")

    def close(self) -> None:
        """End the session; the server rolls back what is open."""
        self._connection.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _exchange(
        self, message: bytes, pieces: Sequence[Piece], data: Iterable[bytes] | None
    ) -> tuple[bytes | None, ...]:
        try:
            self._pgconn.send_query(message)
            self._flush()
            error, row = self._drain(data)
        except (psycopg.OperationalError, OSError) as broken:
            raise SqlError("", f"the connection broke: {broken}".strip(), piece=_only(pieces)) from broken
        if error is not None:
            finished, result = error
            raise _locate(result, finished, message, pieces, self._pgconn.status != pq.ConnStatus.OK)
        return tuple(row.get_value(0, column) for column in range(row.nfields)) if row else ()

    def _drain(self, data: Iterable[bytes] | None) -> tuple[tuple[int, Any] | None, Any]:
        """Read every result; return (number of finished statements, the error result) or None, and the last row."""
        finished = 0
        error = row = None
        try:
            for result in self._results():
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    error = error or (finished, result)
                elif result.status == pq.ExecStatus.COPY_IN:
                    self._feed(data)
                    data = None
                elif result.status == pq.ExecStatus.COPY_OUT:
                    self._discard_copy_out()
                elif result.status == pq.ExecStatus.SINGLE_TUPLE:
                    row = result
                else:
                    finished += 1
        except (psycopg.OperationalError, OSError):
            if error is None:  # else the server said why before it hung up
                raise
        return error, row

    def _results(self) -> Iterator[Any]:
        self._pgconn.set_single_row_mode()
        while True:
            while self._pgconn.is_busy():
                self._wait(select.POLLIN)
                self._pgconn.consume_input()
            result = self._pgconn.get_result()
            if result is None:
                return
            yield result

    def _feed(self, data: Iterable[bytes] | None) -> None:
        if data is None:
            # Without this the server would wait for ever for data that is not there.
            self._put(self._pgconn.put_copy_end, b"no inline data follows this COPY in the file")
            return
        for chunk in data:
            self._put(self._pgconn.put_copy_data, chunk)
        self._put(self._pgconn.put_copy_end)

    def _put(self, put: Any, *arguments: bytes) -> None:
        while put(*arguments) == 0:  # 0: libpq's buffer is full, documented for non-blocking connections
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._pgconn.flush():
            if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN:
                self._pgconn.consume_input()

    def _discard_copy_out(self) -> None:
        while True:
            size, _ = self._pgconn.get_copy_data(1)
            if size == -1:
                return
            if size == 0:
                self._wait(select.POLLIN)
                self._pgconn.consume_input()

    def _wait(self, events: int) -> int:
        poller = select.poll()
        poller.register(self._pgconn.socket, events)
        return poller.poll()[0][1]


class Outbox:
    """Collects statements and sends them in messages of moderate size."""

    def __init__(self, session: Session, pieces: Sequence[Piece] = ()) -> None:
        self._session = session
        self._pieces = list(pieces)
        self._size = 0

    def add(self, piece: Piece) -> None:
        """Queue a statement; what is queued goes out when there is enough of it."""
        if self._size + len(piece.text) > MESSAGE_BYTES:
            self.send()
        self._pieces.append(piece)
        self._size += len(piece.text)
        lowered = piece.text.lower()
        if any(word in lowered for word in _CHANGES_STRINGS):
            self.send()

    def send(self, *last: Piece) -> tuple[bytes | None, ...]:
        """Send what is queued, and ``last`` with it; returns the last row, as ``Session.run`` does."""
        pieces, self._pieces, self._size = [*self._pieces, *last], [], 0
        return self._session.run(pieces)


def connect(login: Login, application_name: str) -> Session:
    """Open a session.

    Raises:
        RunbookError: ``connection`` when the server cannot be reached or refuses the login; ``session-role`` when the
            user may not act as the session role; ``password-file``.
    """
    require_psycopg()
    try:
        session = _log_in(login, application_name)
    except psycopg.OperationalError as error:
        refused = _refused_role(login, application_name) if login.session_role else None
        raise refused or unreachable(login, str(error)) from error
    except psycopg.ProgrammingError as error:  # an unknown keyword in connect_params
        raise RunbookError(
            f"The connection parameters for {login} are not usable: {error}.", code="connection"
        ) from error
    if login.session_role and session.query("SELECT current_user::text")[0][0] != login.session_role:
        session.close()
        raise _role_lost(login)
    return session


def _log_in(login: Login, application_name: str) -> Session:
    parameters = login.libpq(application_name)
    try:
        return Session(parameters, login.session_role)
    except psycopg.OperationalError:
        if not _comes_up(parameters, login.connect_wait):
            raise
    return Session(parameters, login.session_role)


def _comes_up(parameters: dict[str, Any], seconds: float) -> bool:
    """Whether the server takes sessions within so many seconds; it may be at its first start, or recovering.

    Only the server itself can say so: a container's health check may look at the socket, which is open before, and
    Docker listens on a published port from the beginning. The question is that of pg_isready and needs no login.
    """
    server = psycopg.conninfo.make_conninfo(**parameters).encode()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if pq.PGconn.ping(server) == pq.Ping.OK:
            return True
        time.sleep(_PAUSE)
    return False


def _refused_role(login: Login, application_name: str) -> RunbookError | None:
    """What is wrong with the session role; None when the login fails without it as well."""
    try:
        with Session(replace(login, session_role="").libpq(application_name)) as session:
            session.query("SELECT pg_catalog.set_config('role', %s, false)", login.session_role)
    except psycopg.OperationalError:
        return None
    except SqlError as error:
        return RunbookError(
            f"Cannot act as role {login.session_role} (db_session_role) in {login}: {error.message}. The role has to "
            f'exist, and {login.user} to be a member of it: GRANT "{login.session_role}" TO "{login.user}".',
            code="session-role",
        )
    return _role_lost(login)


def _role_lost(login: Login) -> RunbookError:
    return RunbookError(
        f"Cannot act as role {login.session_role} (db_session_role) in {login}: something on the way, a connection "
        "pooler most likely, does not hand the role on. Point db_host and db_port at PostgreSQL itself, or leave "
        f'db_session_role empty and have this set there: ALTER ROLE "{login.user}" SET role = "{login.session_role}".',
        code="session-role",
    )


def application_name(operation: str, requested_by: str = "") -> str:
    """The ``application_name`` of a session: product, operation and who asked, within PostgreSQL's 63 bytes."""
    name = f"{APPLICATION_PREFIX} {operation} {requested_by}".strip()
    return name.encode("ascii", "replace")[:63].decode()


def refuse_old(session: Session, login: Login) -> None:
    """Refuse servers of versions that this was not made for.

    Raises:
        RunbookError: ``old-server``.
    """
    if session.server_version < OLDEST_SERVER:
        raise RunbookError(
            f"The {login} runs PostgreSQL {session.server_version // 10000}; "
            f"Schema Runbook supports {OLDEST_SERVER // 10000} and newer.",
            code="old-server",
        )


def refuse_unusable(session: Session, login: Login) -> None:
    """Refuse servers on which a migration cannot work: too old, a standby, read-only, not UTF-8 capable.

    Raises:
        RunbookError: ``old-server``, ``standby`` or ``read-only``.
    """
    refuse_old(session, login)
    recovering, read_only = session.query(
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('default_transaction_read_only')::bool"
    )[0]
    if recovering:
        raise RunbookError(
            f"The {login} is a standby: it replays another server's changes and accepts none. "
            "Point db_host at the primary, or add the primary to the run as a further host: then the run acts there "
            "and waits for this one.",
            code="standby",
        )
    if read_only:
        raise RunbookError(
            f"The {login} is read-only (default_transaction_read_only is on). "
            "Find out who set it and why before changing the schema.",
            code="read-only",
        )


def refuse_transaction_pooling(session: Session, login: Login) -> None:
    """Refuse a proxy that hands each transaction to another server session.

    libpq's backend pid comes from the start-up packet; a proxy answers that packet itself, so a
    different ``pg_backend_pid()`` gives every proxy away without any cost for direct connections.
    A proxy in session mode is fine. Two clients that overlap their transactions tell the modes
    apart: when they end in a known order, transaction pooling hands one of them the other's server.

    Raises:
        RunbookError: ``transaction-pooling``.
    """
    pid = _server_pid(session)
    if pid == session.pid:
        return
    if _changes_server(session, login):
        raise RunbookError(
            f"The {login} is behind a connection pooler in transaction mode: session settings and locks "
            "do not survive there. Point db_host and db_port at PostgreSQL itself, or at a pool in session mode.",
            code="transaction-pooling",
        )
    session.pid = pid  # the one that pg_locks and pg_cancel_backend know


def _server_pid(session: Session) -> int:
    return int(session.query("SELECT pg_catalog.pg_backend_pid()")[0][0])


def _changes_server(session: Session, login: Login) -> bool:
    own = _server_pid(session)
    with connect(login, application_name("probe")) as other:
        try:
            # Both release orders: poolers hand out the last released server (LIFO) or the first (FIFO).
            for first, second in ((session, other), (other, session)):
                session.query("BEGIN")
                own_now = _server_pid(session)
                other.send(b"BEGIN")
                if not other.answered(_POOL_SECONDS):
                    # No server is left for `other`. Is ours given to it when only our transaction ends?
                    session.query("COMMIT")
                    return other.answered(_POOL_SECONDS) or _server_pid(session) != own
                first.query("COMMIT")
                second.query("COMMIT")
                if own_now != own or _server_pid(session) != own:
                    return True
        except SqlError:
            return True
    return False


def _only(pieces: Sequence[Piece]) -> Piece | None:
    return pieces[0] if len(pieces) == 1 else None


def _locate(result: Any, finished: int, message: bytes, pieces: Sequence[Piece], fatal: bool) -> SqlError:
    """Find the statement an error belongs to: by its position, else by how many statements finished before."""

    def diagnostic(name: str) -> str:
        value = result.error_field(getattr(pq.DiagnosticField, name))
        return value.decode("utf-8", "replace") if value else ""

    position = diagnostic("STATEMENT_POSITION")
    piece, line = None, 0
    if position:
        # The server counts characters, not bytes (protocol documentation, field P).
        offset = len(message.decode("utf-8", "replace")[: int(position) - 1].encode())
        piece, line = _at(offset, pieces)
    elif finished < len(pieces):
        piece, line = pieces[finished], pieces[finished].line
    return SqlError(
        sqlstate=diagnostic("SQLSTATE"),
        message=diagnostic("MESSAGE_PRIMARY") or " ".join(result.error_message.decode("utf-8", "replace").split()),
        detail=diagnostic("MESSAGE_DETAIL"),
        hint=diagnostic("MESSAGE_HINT"),
        context=diagnostic("CONTEXT"),
        piece=piece,
        line=line,
        fatal=fatal,
    )


def _at(offset: int, pieces: Sequence[Piece]) -> tuple[Piece | None, int]:
    for piece in pieces:
        if offset < len(piece.text) + 3:
            line = piece.line + piece.text[:offset].count(b"\n") if piece.line else 0
            return piece, line
        offset -= len(piece.text) + 3  # the separator run() puts between statements
    return None, 0


def _as_sql_error(error: Any) -> SqlError:
    diagnostic = error.diag
    return SqlError(
        sqlstate=error.sqlstate or "",
        message=diagnostic.message_primary or " ".join(str(error).split()),
        detail=diagnostic.message_detail or "",
        hint=diagnostic.message_hint or "",
        context=diagnostic.context or "",
    )
