# SPDX-License-Identifier: GPL-3.0-or-later
"""The login: what libpq is given, where the password comes from, and what is said when no session can be opened."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from ansible.module_utils.runbook import session
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login, account, read_password
from ansible.module_utils.runbook.errors import RunbookError, failure_of
from ansible.module_utils.runbook.unreachable import unreachable

LOGIN = Login(host="db.example.com", port=5432, user="cm", database="shop")


def params(**given: object) -> dict[str, object]:
    """A module's options, as it receives them."""
    return {**{name: option.get("default") for name, option in LOGIN_ARGUMENTS.items()}, **given}


def file_with(folder: Path, content: bytes) -> str:
    path = folder / "password"
    path.write_bytes(content)
    return str(path)


# ---- the password


@pytest.mark.parametrize("content", [b"se cret", b"se cret\n", b"se cret\r\n", b"se cret\n\n"])
def test_a_password_file_holds_the_password_and_perhaps_the_end_of_its_line(tmp_path: Path, content: bytes) -> None:
    assert read_password(file_with(tmp_path, content)) == "se cret"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty."),
        (b"\n", "is empty."),
        (b"one-secret\ntwo-secret\n", "has several lines; a file in libpq's format goes into db_passfile."),
        (b"secret-\xff", "is not UTF-8 text."),
    ],
)
def test_a_file_that_is_no_password_file_is_named_and_not_shown(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = file_with(tmp_path, content)
    with pytest.raises(RunbookError) as caught:
        replace(LOGIN, password_file=path).libpq("test")
    assert caught.value.code == "password-file"
    assert f"The password file {path} {complaint}" in caught.value.message
    assert "secret" not in caught.value.message


def test_a_password_file_that_cannot_be_read_says_who_tried(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="cannot be read: No such file or directory") as caught:
        read_password(str(tmp_path / "missing"))
    assert f"Modules run as account {account()}." in caught.value.message
    with pytest.raises(RunbookError, match="cannot be read: Is a directory"):
        read_password(str(tmp_path))


def test_the_first_of_password_password_file_and_passfile_is_used(tmp_path: Path) -> None:
    file = file_with(tmp_path, b"from the file")
    everything = {"login_password": "given", "login_password_file": file, "login_passfile": "/pgpass"}
    given, read, left = (Login.from_params(params(**{**everything, **less})) for less in (
        {}, {"login_password": ""}, {"login_password": "", "login_password_file": ""}))  # fmt: skip
    # libpq itself prefers a password to a passfile.
    assert given.libpq("test")["password"] == "given"
    assert read.libpq("test")["password"] == "from the file"
    assert "password" not in left.libpq("test") and left.libpq("test")["passfile"] == "/pgpass"


def test_a_password_beside_it_leaves_a_broken_password_file_alone(tmp_path: Path) -> None:
    login = replace(LOGIN, password="given", password_file=str(tmp_path / "missing"))
    assert login.libpq("test")["password"] == "given"
    assert "given" not in repr(login) + str(login)


# ---- the session role


@pytest.mark.parametrize(
    ("role", "options"),
    [
        ("owner", "-c role=owner"),
        ("App Owner", "-c role=App\\ Owner"),
        ("a\\b", "-c role=a\\\\b"),
        ("x -c log_statement=none", "-c role=x\\ -c\\ log_statement=none"),
    ],
)
def test_the_session_role_travels_with_the_login(role: str, options: str) -> None:
    assert Login.from_params(params(session_role=role)).libpq("test")["options"] == options


def test_the_session_role_leaves_options_of_the_operators_own_in_place() -> None:
    login = replace(LOGIN, session_role="owner", connect_params={"options": "-c geqo=off"})
    assert login.libpq("test")["options"] == "-c geqo=off -c role=owner"
    assert "options" not in LOGIN.libpq("test")


# ---- what is said when no session can be opened


def said(text: str, login: Login = LOGIN) -> str:
    """The whole message for what libpq said."""
    error = unreachable(login, text)
    assert error.code == "connection"
    assert error.message.endswith(".") and "\n" not in error.message
    return error.message


TCP = 'connection to server at "192.0.2.1", port 5432 failed: '
SOCKET = 'connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: '


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (f"{TCP}Connection refused\n\tIs the server running on that host?", "systemctl status 'postgresql*'"),
        (f"{SOCKET}No such file or directory\n\tIs the server running locally?", "db_socket_dir and db_port"),
        (f"{SOCKET}Connection refused\n\tIs the server running locally?", "db_socket_dir and db_port"),
        (f"{SOCKET}Permission denied", f"Account {account()}, which the modules ran as, may not enter db_socket_dir"),
        ("connection timeout expired", "check db_host, db_port and the firewalls"),
        ("failed to resolve host 'db': [Errno -2] Name or service not known", "Correct db_host"),
        ('could not translate host name "db" to address', "Correct db_host"),
        (f"{TCP}FATAL:  the database system is starting up", "Run this again when the server is up"),
        (f"{TCP}FATAL:  sorry, too many clients already", "when there are connections left"),
        (f'{SOCKET}FATAL:  Peer authentication failed for user "cm"', f"let {account()} be cm with a map in pg_ident"),
        (f'{TCP}FATAL:  password authentication failed for user "cm"', "db_password, db_password_file and db_passfile"),
        (f"{TCP}fe_sendauth: no password supplied", "db_password, db_password_file and db_passfile"),
        (f'{TCP}FATAL:  role "cm" is not permitted to log in', "and cm in db_session_role"),
        (f'{TCP}FATAL:  database "shop" does not exist', "or correct db_name"),
        (
            f'{TCP}FATAL:  database "shop" is not currently accepting connections',
            "with -e restore_action=undo it opens",
        ),
        (f'{SOCKET}FATAL:  role "cm" does not exist', "CREATE ROLE cm LOGIN"),
        (f'{TCP}FATAL:  permission denied for database "shop"', "GRANT CONNECT ON DATABASE shop TO cm"),
        (f'{TCP}FATAL:  no pg_hba.conf entry for host "192.0.2.9"', "db_ssl_mode to require or stricter; it is prefer"),
        (f"{TCP}server does not support SSL, but SSL was required", "Have TLS switched on there"),
        (f'{TCP}root certificate file "/ca" does not exist', "db_ssl_ca_cert has to name the file"),
        (
            f'{TCP}could not read root certificate file "/ca": no certificate found',
            "db_ssl_ca_cert has to name the file",
        ),
        (f"{TCP}SSL error: certificate verify failed", "no authority in db_ssl_ca_cert (/ca) has signed it"),
        (f'{TCP}server certificate for "a" does not match host name "b"', "Set db_host to a name that is in the"),
        (f"{TCP}FATAL:  connection requires a valid client certificate", "db_ssl_cert and its key in db_ssl_key"),
        (f'{TCP}FATAL:  certificate authentication failed for user "cm"', "not one of cm: its common name decides"),
        (
            f"{TCP}SSL error: tlsv1 alert unknown ca",
            "does not know the authority that signed the",
        ),
        (f'{TCP}private key file "/key" has group or world access', "(chmod 600)"),
        (f'{TCP}certificate present, but not private key file "/key"', "db_ssl_key has to be the key of db_ssl_cert"),
        (f"{TCP}FATAL:  die Datenbank »shop« existiert nicht", "Check that the server runs and that db_host, db_port"),
    ],
)
def test_what_libpq_says_is_quoted_and_followed_by_what_to_do(text: str, advice: str) -> None:
    message = said(text, replace(LOGIN, ca_cert="/ca"))
    assert message.startswith("Cannot connect to database shop at db.example.com:5432 as user cm: ")
    assert " ".join(text.splitlines()[0].split()) in message
    assert advice in message


def test_what_libpq_says_twice_is_said_once() -> None:
    refused = f'{TCP}FATAL:  password authentication failed for user "cm"'
    message = said(f"connection failed: {refused}\n\tA hint of libpq's.\n{refused}")
    assert message.count("password authentication failed") == 1
    assert "connection failed" not in message and "hint" not in message


def test_each_attempt_that_failed_in_its_own_way_is_quoted() -> None:
    first, second = (
        f'{TCP}FATAL:  no pg_hba.conf entry for host "192.0.2.9", {way}' for way in ("SSL", "no encryption")
    )
    assert " ".join(f"{first} {second}".split()) in said(f"connection failed: {first}\n{second}")


def test_a_module_that_did_not_come_to_run_says_what_kept_it() -> None:
    died = {"msg": "Module result deserialization failed", "module_stderr": "sudo: unknown user cm\nsudo: more\n"}
    assert failure_of(died).startswith("The module did not come to run: sudo: unknown user cm. Modules run as")
    assert failure_of({"msg": "Cannot connect.", "module_stderr": ""}) == "Cannot connect."
    assert failure_of({}) == ""


# ---- psycopg


def test_a_missing_psycopg_names_the_interpreter_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(RunbookError) as caught:
        session.connect(LOGIN, "test")
    assert caught.value.code == "missing-library"
    assert f"cannot be used by {sys.executable}" in caught.value.message
    assert "ansible-playbook prepare.yml -l " in caught.value.message


def test_a_psycopg_that_is_too_old_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    session.require_psycopg()
    monkeypatch.setattr(psycopg, "__version__", "3.0.18")
    with pytest.raises(RunbookError, match=r"version 3\.0\.18 is too old"):
        session.require_psycopg()
