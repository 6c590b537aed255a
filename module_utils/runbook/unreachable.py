# SPDX-License-Identifier: GPL-3.0-or-later
"""Why no session could be opened, as a sentence that says what to do.

libpq and the server say what is wrong without an error code that a client could see, so their English words are
looked for. A server that speaks another language is quoted all the same, with general advice.
"""

from __future__ import annotations

import re

from ansible.module_utils.runbook.connection import Login, account
from ansible.module_utils.runbook.errors import RunbookError

_ATTEMPT = re.compile("connection to server")
_IS_IT_UP = "see on its host whether it runs (systemctl status 'postgresql*', docker ps), and whether"
_ADVICE = {
    r"on socket .* (No such file|Connection refused)": "No server listens there: "
    f"{_IS_IT_UP} db_socket_dir and db_port are its own.",
    r"on socket .* Permission denied": "Account {account}, which the modules ran as, may not enter db_socket_dir.",
    r"Connection refused": f"No server listens there: {_IS_IT_UP} db_host and db_port are its address.",
    r"timeout expired|timed out|unreachable|No route": "Nobody answers there: check db_host, db_port and the "
    "firewalls on the way from the host that runs the modules.",
    r"(resolve|translate) host": "Correct db_host, or make the name known to the host that runs the modules.",
    r"is starting up|is shutting down|recovery mode|not yet accepting": "Run this again when the server is up.",
    r"too many clients|connection slots|too many connections": "Run this again when there are connections left.",
    r"Peer authentication failed": "On a socket the account decides, and the modules ran as account {account}. "
    "Name the account of {login.user} in db_os_user (an ansible_become_user wins over it), or let {account} be "
    "{login.user} with a map in pg_ident.conf.",
    r"password authentication failed|no password supplied": "Check db_user and the password: the first of "
    "db_password, db_password_file and db_passfile that is set.",
    r"is not permitted to log in": "Name a user that may log in in db_user, and {login.user} in db_session_role.",
    r'database ".*" does not exist': "Have it created there, or correct db_name.",
    r'database ".*" is not currently accepting connections': "It is closed to everybody. If a restore was killed "
    "in the middle of its swap, the same restore.yml command goes on where it stopped; with -e restore_action=undo it "
    "opens the database again. Otherwise whoever closed it knows why: ALTER DATABASE ... ALLOW_CONNECTIONS true.",
    r'role ".*" does not exist': "Have it created there (CREATE ROLE {login.user} LOGIN), or correct db_user.",
    r"permission denied for database": "Have it granted there: GRANT CONNECT ON DATABASE {login.database} "
    "TO {login.user}.",
    r"no pg_hba.conf entry": "The server's pg_hba.conf has to have a line that lets {login.user} in. If it has one "
    "for TLS only, set db_ssl_mode to require or stricter; it is {login.ssl_mode}.",
    r"does not support SSL": "Have TLS switched on there. db_ssl_mode is {login.ssl_mode}; prefer goes without.",
    r"root certificate file": "db_ssl_ca_cert has to name the file with the authority that signed the server's "
    "certificate, on the host that runs the modules.",
    r"certificate verify failed": "The server's certificate has expired, or no authority in db_ssl_ca_cert "
    "({login.ca_cert}) has signed it. Get the authority's certificate from whoever runs the server.",
    r"does not match host name": "Set db_host to a name that is in the server's certificate. "
    "db_ssl_mode: verify-ca would do without the name.",
    r"requires a valid client certificate": "Name a client certificate in db_ssl_cert and its key in db_ssl_key, "
    "on the host that runs the modules; a file that is not there counts as none.",
    r"certificate authentication failed": "The certificate in db_ssl_cert is not one of {login.user}: its common "
    "name decides, or a map in pg_ident.conf.",
    r"alert unknown ca": "The server does not know the authority that signed the certificate in db_ssl_cert.",
    r"private key file": "db_ssl_key has to be the key of db_ssl_cert, in a file of account {account} that nobody "
    "else can read (chmod 600).",
}
_GENERAL = "Check that the server runs and that db_host, db_port, db_user, db_password and db_name are right."


def unreachable(login: Login, said: str) -> RunbookError:
    """The error of a login that failed, from what libpq said about it.

    libpq has a line for each attempt (two, with sslmode prefer) and hints in lines of their own, which are left out.
    """
    first, *others = [" ".join(line.split()) for line in said.splitlines()] or [""]
    attempts = [re.sub(r"^connection (failed|is bad): ", "", first), *filter(_ATTEMPT.match, others)]
    reason = " ".join(dict.fromkeys(attempts)).rstrip(".")
    advice = next((advice for pattern, advice in _ADVICE.items() if re.search(pattern, reason)), _GENERAL)
    return RunbookError(
        f"Cannot connect to {login}: {reason}. {advice.format(login=login, account=account())}", code="connection"
    )
