# SPDX-License-Identifier: GPL-3.0-or-later
"""How a module reaches a database: the options that all database modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of ``module_utils/runbook/connection.py``, named as in community.postgresql."""

    DOCUMENTATION = r"""
options:
  login_host:
    description: Host name or address of the server; empty for the local socket.
    type: str
    default: ""
  login_unix_socket:
    description: Directory of the server's socket; wins over O(login_host).
    type: path
    default: ""
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description: User to connect as.
    type: str
    default: cm
  login_password:
    description: Password of O(login_user).
    type: str
    default: ""
  login_password_file:
    description: File with the password of O(login_user) and nothing else, such as a Docker secret.
    type: path
    default: ""
  login_passfile:
    description: Password file in libpq's format, an alternative to O(login_password).
    type: path
    default: ""
  login_db:
    description: Database to work on.
    type: str
    default: cm
  connect_wait:
    description:
      - How long to wait for a server that takes no sessions yet, such as a container on its first boot. A number and a
        unit, V(60s); V(0) does not wait.
      - A login that the server refuses fails at once.
    type: str
    default: "0"
  session_role:
    description: Role to act as after connecting.
    type: str
    default: ""
  ssl_mode:
    description: How far TLS is demanded and verified; see libpq's C(sslmode).
    type: str
    default: prefer
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
  ca_cert:
    description: File with the certificate authorities to trust.
    type: path
    default: ""
  ssl_cert:
    description: Client certificate.
    type: path
    default: ""
  ssl_key:
    description: Key of the client certificate.
    type: path
    default: ""
  connect_params:
    description: Further libpq connection keywords; they win over the options above.
    type: dict
    default: {}
"""
