# SPDX-License-Identifier: GPL-3.0-or-later
"""Smoke checks against real servers and programs on this machine."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import check_smoke, checks
from ansible.module_utils.runbook.check import Check, Finding
from ansible.module_utils.runbook.check_file import handed_over
from ansible.module_utils.runbook.check_smoke import Address, OutOfTime
from certificates import Authority


class Application(BaseHTTPRequestHandler):
    """Answers in every way that is asked for below; keeps the headers that it was sent."""

    sent: list[dict[str, str]] = []
    elsewhere = ""

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
        """Answer a request."""
        self.sent.append(dict(self.headers))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b".")
                time.sleep(0.05)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while True:
                self.wfile.write(b"x" * 65536)
        elif self.path == "/silent":
            time.sleep(3)
        else:
            self.send_response(503 if self.path == "/down" else 200)
            self.end_headers()
            self.wfile.write(b'{"status": "up"}')

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """One that takes no notice of clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing."""


def serving(context: ssl.SSLContext | None = None) -> Server:
    """A web server on a free port, at work in the background."""
    server = Server(("127.0.0.1", 0), Application)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server; the list of what it was sent is empty."""
    Application.sent.clear()
    server = serving()
    yield server
    server.shutdown()
    server.server_close()


def url(server: Server, path: str = "/", scheme: str = "http", user: str = "") -> str:
    """An address on that server."""
    return f"{scheme}://{user}127.0.0.1:{server.server_port}{path}"


def check(**entry: Any) -> Check:
    """Read one entry."""
    (one,) = handed_over([{"name": "it", **entry}])
    return one


def ask(seconds: float = 5, **options: Any) -> Finding:
    """Make a check of a web server."""
    return check_smoke.http(check(http=options), seconds)


def test_status_and_body_decide(server: Server) -> None:
    assert ask(url=url(server)) == Finding(True, f"{url(server)} answers with 200.", {"status": 200, "bytes": 16})
    assert ask(url=url(server, "/health"), contains='"up"', matches=r"status.:\s*.up").passed
    assert "answers with 200, but without 'down'" in ask(url=url(server), contains="down").message
    assert "but not as '^up' demands" in ask(url=url(server), matches="^up").message
    down = ask(url=url(server, "/down"))
    assert not down.passed and "answers with 503 instead of 200" in down.message and down.found["status"] == 503
    assert ask(url=url(server, "/down"), status=[503, 504]).passed


def test_credentials_go_to_the_one_server_and_into_no_message(server: Server) -> None:
    other = serving()
    Application.elsewhere = url(other, "/there")
    finding = ask(
        url=url(server, "/moved?token=abc", user="cm:s%40crets@").replace("/moved?token=abc", "/moved"),
        headers={"X-Token": "topsecret"},
    )
    other.shutdown()
    other.server_close()
    first, second = Application.sent
    assert finding.passed and first["Authorization"] == "Basic Y206c0BjcmV0cw==" and first["X-Token"] == "topsecret"
    assert "Authorization" not in second and "X-Token" not in second
    shown = str(Address(url(server, "/a?token=abc", user="cm:secret@")))
    assert "secret" not in shown and "abc" not in shown and shown.endswith("/a?…")
    assert "secret" not in ask(url="http://cm:secret@127.0.0.1:1/").message


def test_secrets_of_web_checks_are_masked_wherever_they_turn_up() -> None:
    from checking import engine

    entries = [check(http={"url": "http://cm:p%40ssword@x/", "headers": {"A": "Bearer token"}})]
    login = engine.Login(host="h", port=1, user="cm", database="cm", password="databasesecret")
    found = checks._secrets(login, entries)
    assert {"p%40ssword", "p@ssword", "Bearer token", "databasesecret"} <= found


def test_tls_is_verified(tmp_path: Path) -> None:
    authority = Authority("ours")
    signed = authority.issue("here", "127.0.0.1")
    (tmp_path / "cert").write_text(signed.certificate)
    (tmp_path / "key").write_text(signed.key)
    (tmp_path / "ca").write_text(authority.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = serving(context)
    try:
        refused = ask(url=url(server, scheme="https"))
        assert not refused.passed and "its certificate is refused, " in refused.message
        assert ask(url=url(server, scheme="https"), ca_cert=str(tmp_path / "ca")).passed
        wrong_name = ask(
            url=url(server, scheme="https").replace("127.0.0.1", "localhost"), ca_cert=str(tmp_path / "ca")
        )
        assert "its certificate is refused, " in wrong_name.message
        missing = ask(url=url(server, scheme="https"), ca_cert=str(tmp_path / "nowhere"))
        assert not missing.passed and "No such file" in missing.message
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/slow", "/silent"])
def test_a_slow_answer_is_not_waited_for(server: Server, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime):
        ask(0.3, url=url(server, path))
    assert time.monotonic() - began < 2


def test_an_endless_answer_is_not_read_to_its_end(server: Server) -> None:
    assert ask(20, url=url(server, "/endless")).found["bytes"] == 1024 * 1024


def test_a_port_takes_connections_or_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert check_smoke.tcp(check(tcp=f"127.0.0.1:{port}"), 2).passed
    closed = check_smoke.tcp(check(tcp=f"127.0.0.1:{port}"), 2)
    assert closed.message == f"127.0.0.1:{port} cannot be reached: Connection refused."
    unknown = check_smoke.tcp(check(tcp="nowhere.invalid:80"), 5)
    assert not unknown.passed and unknown.message.startswith("nowhere.invalid:80 cannot be reached: ")


def run(*argv: str, seconds: float = 5, **options: Any) -> Finding:
    """Make a check that runs a program."""
    return check_smoke.command(check(command={"argv": list(argv), **options}), seconds)


def test_a_program_is_run_without_a_shell() -> None:
    assert run("echo", "$HOME; exit 1", contains="$HOME; exit 1").passed
    failed = run(sys.executable, "-c", "import sys; print('so it is'); sys.exit(3)")
    assert failed.message.endswith("ended with 3 instead of 0. It said: so it is")
    assert run("false", status=1).passed
    assert run("echo", "a", contains="b").message == "echo did not say 'b'. It said: a"
    assert run("/nowhere/program").message == "/nowhere/program cannot be run: No such file or directory."
    assert run("cat").passed  # nothing to read: it does not wait for anybody


def test_a_program_is_ended_with_all_it_has_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    began = time.monotonic()
    with pytest.raises(OutOfTime):
        run("sh", "-c", f"sleep 60 & echo $! > {pid}; wait", seconds=0.5)
    assert time.monotonic() - began < 3
    time.sleep(0.1)
    state = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_a_program_leaves_running_is_not_waited_for() -> None:
    began = time.monotonic()
    assert run("sh", "-c", "sleep 3 & echo done", contains="done").passed
    assert time.monotonic() - began < 2


def test_a_talkative_program_fills_no_memory() -> None:
    with pytest.raises(OutOfTime):
        run("yes", seconds=0.5)


def test_check_mode_says_what_it_leaves_out() -> None:
    assert check_smoke.said_instead(check(command=["systemctl", "is-active", "app"])) == (
        "Check mode: systemctl with 2 arguments is not run."
    )
    assert check_smoke.said_instead(check(http="http://u:p@x/y?z")) == "Check mode: http://x/y?… is not asked."


def test_what_cannot_be_interrupted_is_given_up_on() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime):
        checks._within(0.1, lambda one, limit: time.sleep(30) or Finding(True, ""), check(tcp="a:1"))
    assert time.monotonic() - began < 5


def test_the_environment_has_no_proxy_that_would_be_asked_instead(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "no_proxy", "127.0.0.1")
    monkeypatch.setitem(os.environ, "http_proxy", "http://127.0.0.1:1")
    assert ask(url=url(server)).passed
