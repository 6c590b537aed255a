# SPDX-License-Identifier: GPL-3.0-or-later
"""Smoke checks: does what hangs on the database work? By SQL, HTTP, TCP, or a command.

All of them run on the host that the modules run on. None knows a shell, and HTTPS is always verified.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Callable
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible.module_utils.runbook.check import Check, Finding, counted, shown
from ansible.module_utils.runbook.check_data import escaped
from ansible.module_utils.runbook.session import Session

# What an answer is searched in, in bytes: it is for a word or two, and an endless one must not fill the memory.
_ANSWER = 1024 * 1024
_CHUNK = 64 * 1024

_OUTPUT_SHOWN = 300

# Between two looks at a program that says nothing, in seconds.
_PAUSE = 0.05

Runner = Callable[[Check, float], Finding]


class OutOfTime(Exception):
    """A check was not done within its time limit."""


def sql(session: Session, check: Check, rows: int) -> Finding:
    """A question that has to be answered with true, in a read-only transaction; see ``check_data`` for the form."""
    query = escaped(check.options["query"])
    # IS NOT DISTINCT FROM the parameter: true for true only, and the one parameter that allows a single statement.
    ((answer, met),) = session.query(
        f"SELECT v::text, v IS NOT DISTINCT FROM %s::bool FROM (SELECT ({query}\n)) AS q(v)", True
    )
    said = "NULL" if answer is None else shown(answer)
    return Finding(
        bool(met), f"The answer is {said}." if met else f"The answer is {said}, and has to be true.", {"value": said}
    )


# --- HTTP -------------------------------------------------------------------------------------------------------------


def http(check: Check, seconds: float) -> Finding:
    """Ask a web server, following redirections, and look at status and body.

    Raises:
        OutOfTime: the whole answer was not there within the time limit.
    """
    options, url = check.options, Address(check.options["url"])
    deadline = time.monotonic() + seconds
    try:
        status, body = _fetch(url, options, deadline)
    except ssl.SSLError as error:
        return Finding(False, f"{url} is not trusted: {_reason(error)}.", {})
    except (TimeoutError, socket.timeout) as error:  # two classes before Python 3.10
        raise OutOfTime from error
    except (OSError, ValueError) as error:
        if isinstance(getattr(error, "reason", None), (TimeoutError, socket.timeout)):
            raise OutOfTime from error
        return Finding(False, f"{url} cannot be reached: {_reason(error)}.", {})
    found: dict[str, Any] = {"status": status, "bytes": len(body)}
    problem = _wrong_answer(status, body, options)
    if problem:
        return Finding(False, f"{url} {problem}.", found)
    return Finding(True, f"{url} answers with {status}.", found)


class Address:
    """An address, told apart from the credentials in it, which are for the server alone."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        place = parts.netloc.rpartition("@")[2]
        self.bare = urlunsplit(parts._replace(netloc=place, fragment=""))
        # A query may hold a token: that there is one is all that is told.
        self._shown = urlunsplit((parts.scheme, place, parts.path, "…" if parts.query else "", ""))

    def headers(self) -> dict[str, str]:
        """What the credentials become."""
        if not self._user and not self._password:
            return {}
        token = base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        return {"Authorization": f"Basic {token}"}

    def __str__(self) -> str:
        return shown(self._shown)


def _fetch(url: Address, options: Mapping[str, Any], deadline: float) -> tuple[int, bytes]:
    # The address was seen to be of HTTP or HTTPS when the check was read; redirections lead to no other scheme but FTP,
    # which this opener does not know.
    request = urllib.request.Request(url.bare)  # noqa: S310 - see above
    for name, value in {"User-Agent": "schema-runbook", **url.headers(), **options["headers"]}.items():
        request.add_unredirected_header(name, value)  # what is for one server is not for the one it redirects to
    context = ssl.create_default_context(cafile=options["ca_cert"] or None)
    try:
        with _opener(context).open(request, timeout=max(deadline - time.monotonic(), 0.001)) as answer:
            return int(answer.status), _body(answer, deadline)
    except urllib.error.HTTPError as error:
        with error:
            return int(error.code), _body(error, deadline)


def _opener(context: ssl.SSLContext) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _body(answer: Any, deadline: float) -> bytes:
    """The beginning of the body. The timeout is one of each read: a slow answer needs a look at the clock."""
    chunks: list[bytes] = []
    while sum(map(len, chunks)) < _ANSWER:
        chunk = answer.read1(_CHUNK) if hasattr(answer, "read1") else answer.read(_CHUNK)
        if not chunk:
            break
        chunks.append(chunk)
        if time.monotonic() > deadline:
            raise OutOfTime
    return b"".join(chunks)[:_ANSWER]


def _wrong_answer(status: int, body: bytes, options: Mapping[str, Any]) -> str:
    if status not in options["status"]:
        return f"answers with {status} instead of {' or '.join(map(str, options['status']))}"
    text = body.decode("utf-8", "replace")
    if options["contains"] and options["contains"] not in text:
        return f"answers with {status}, but without {shown(options['contains'])!r}"
    if options["matches"] and not re.search(options["matches"], text):
        return f"answers with {status}, but not as {shown(options['matches'])!r} demands"
    return ""


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {inner.verify_message}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused, {error.verify_message}"
    return shown(getattr(inner, "strerror", None) or inner or getattr(error, "strerror", None) or error).rstrip(".")


# --- TCP --------------------------------------------------------------------------------------------------------------


def tcp(check: Check, seconds: float) -> Finding:
    """Open a connection, and close it again.

    Raises:
        OutOfTime: nobody has answered.
    """
    host, port = check.options["address"]
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=seconds):
            took = time.monotonic() - began
    except (TimeoutError, socket.timeout) as error:
        raise OutOfTime from error
    except OSError as error:
        return Finding(False, f"{host}:{port} cannot be reached: {_reason(error)}.", {})
    return Finding(True, f"{host}:{port} takes connections.", {"milliseconds": round(took * 1000, 3)})


# --- command ----------------------------------------------------------------------------------------------------------


def command(check: Check, seconds: float) -> Finding:
    """Run a program, without a shell and without input, and look at its exit status and output.

    Raises:
        OutOfTime: it did not end; it was ended together with everything it had started.
    """
    options = check.options
    argv = options["argv"]
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        return Finding(False, f"{shown(argv[0])} cannot be run: {error.strerror}.", {})
    try:
        text = _output(process, time.monotonic() + seconds).decode("utf-8", "replace")
    finally:
        _end(process)
    last = shown(" ".join(text[-4 * _OUTPUT_SHOWN :].split())[-_OUTPUT_SHOWN:], _OUTPUT_SHOWN)
    found = {"status": process.returncode, "output": last}
    said = f" It said: {last}" if last else " It said nothing."
    if process.returncode != options["status"]:
        return Finding(
            False, f"{shown(argv[0])} ended with {process.returncode} instead of {options['status']}.{said}", found
        )
    if options["contains"] and options["contains"] not in text:
        return Finding(False, f"{shown(argv[0])} did not say {shown(options['contains'])!r}.{said}", found)
    return Finding(True, f"{shown(argv[0])} ended with {process.returncode}.", found)


def _output(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What a program says, up to an amount, until it has ended; what it leaves running may still hold its output."""
    if process.stdout is None:
        raise AssertionError("its output was asked for")
    kept = b""
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], _PAUSE)[0]:
            chunk = os.read(process.stdout.fileno(), _CHUNK)
            if chunk:
                kept = (kept + chunk)[:_ANSWER]
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE)
        if process.poll() is not None:
            return kept
    raise OutOfTime


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


RUNNERS: dict[str, Runner] = {"http": http, "tcp": tcp, "command": command}
"""How those are carried out that need no session, each within so many seconds."""


def said_instead(check: Check) -> str:
    """What is said in check mode, where nothing is done that somebody else could notice."""
    what = {"http": "asked", "command": "run"}[check.kind]
    arguments = check.options.get("argv")
    about = (
        f"{shown(arguments[0])} with {counted(len(arguments) - 1, 'argument')}"
        if arguments
        else str(Address(check.options["url"]))
    )
    return f"Check mode: {about} is not {what}."
