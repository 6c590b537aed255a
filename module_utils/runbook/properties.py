# SPDX-License-Identifier: GPL-3.0-or-later
"""Giving a database what hangs on it and is in no dump of its content: owner, privileges, settings, limit.

They belong to the database, not to its name: after a rename they would stay behind with the old one.
"""

from __future__ import annotations

from collections.abc import Iterator

from ansible.module_utils.runbook.ledger import identifier, literal
from ansible.module_utils.runbook.manifest import DatabaseProperties, Setting
from ansible.module_utils.runbook.session import Session, SqlError

# Settings whose value is a list of names, each quoted on its own (PostgreSQL's guc_tables.c, GUC_LIST_QUOTE).
_LISTS = frozenset(
    ("local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries")
    + ("temp_tablespaces", "unix_socket_directories")
)
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def create(name: str, properties: DatabaseProperties, same_locale: bool, tablespace: str = "") -> str:
    """The statement that creates an empty database like the one described.

    Parameters:
        same_locale: False takes the server's own locale instead.
        tablespace: where; empty for the server's default.
    """
    options = ["TEMPLATE template0", f"ENCODING {literal(properties.encoding)}"]
    if same_locale:
        options += _locale(properties)
    if tablespace:
        options.append(f"TABLESPACE {identifier(tablespace)}")
    return f"CREATE DATABASE {identifier(name)} {' '.join(options)}"


def apply(name: str, properties: DatabaseProperties) -> Iterator[str]:
    """The statements that give a database its owner, privileges and limit."""
    database = identifier(name)
    yield f"ALTER DATABASE {database} OWNER TO {identifier(properties.owner)}"
    yield f"ALTER DATABASE {database} CONNECTION LIMIT {int(properties.connection_limit)}"
    if properties.grants is not None:
        yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC, {identifier(properties.owner)}"
        for grant in properties.grants:
            grantee = identifier(grant.grantee) if grant.grantee else "PUBLIC"
            option = " WITH GRANT OPTION" if grant.grantable else ""
            yield f"GRANT {_privilege(grant.privilege)} ON DATABASE {database} TO {grantee}{option}"


def settings(name: str, properties: DatabaseProperties) -> Iterator[str]:
    """The statements that give a database its settings, each of which the user may or may not be allowed to make."""
    database = identifier(name)
    for setting in properties.settings:
        where = f"ALTER DATABASE {database}"
        if setting.role:
            where = f"ALTER ROLE {identifier(setting.role)} IN DATABASE {database}"
        yield f"{where} SET {_setting_name(setting.name)} TO {_value(setting)}"


def make_settings(session: Session, name: str, properties: DatabaseProperties) -> list[str]:
    """Give a database its settings, within a transaction.

    Returns:
        the statements that the server refused: this user may not make them, or it does not know them any more.
    """
    return [one for one in settings(name, properties) if not _accepted(session, one)]


def _accepted(session: Session, statement: str) -> bool:
    session.query("SAVEPOINT setting")
    try:
        session.query(statement)
    except SqlError as error:
        if error.lost:
            raise
        session.query("ROLLBACK TO setting")
        return False
    return True


def _locale(properties: DatabaseProperties) -> Iterator[str]:
    yield f"LC_COLLATE {literal(properties.collate)} LC_CTYPE {literal(properties.ctype)}"
    if properties.locale_provider == "c":
        return
    provider = _PROVIDERS[properties.locale_provider]
    yield f"LOCALE_PROVIDER {provider} {provider.upper()}_LOCALE {literal(properties.locale)}"
    if properties.icu_rules:
        yield f"ICU_RULES {literal(properties.icu_rules)}"


def _privilege(name: str) -> str:
    """One of the three a database has; a manifest is not trusted to hold nothing else."""
    if name not in ("CREATE", "CONNECT", "TEMPORARY"):
        raise ValueError(f"{name!r} is no privilege on a database")
    return name


def _setting_name(name: str) -> str:
    """``class.name`` keeps its point outside the quotes."""
    return ".".join(identifier(part) for part in name.split("."))


def _value(setting: Setting) -> str:
    if setting.name.lower() not in _LISTS:
        return literal(setting.value)
    return ", ".join(literal(element) for element in _elements(setting.value)) or "''"


def _elements(text: str) -> Iterator[str]:
    """The names in a list setting, as PostgreSQL's SplitGUCList takes them apart."""
    rest = text.strip()
    while rest:
        if rest.startswith('"'):
            end = 1
            while rest[end : end + 1] != '"' or rest[end + 1 : end + 2] == '"':
                end += 2 if rest[end : end + 1] == '"' else 1
                if end >= len(rest):
                    raise ValueError(f"{text!r} is no list of names")
            yield rest[1:end].replace('""', '"')
            rest = rest[end + 1 :].lstrip()
        else:
            element, comma, rest = rest.partition(",")
            rest = comma + rest
            yield element.strip()
        rest = rest.removeprefix(",").lstrip()
