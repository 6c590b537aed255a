# SPDX-License-Identifier: GPL-3.0-or-later
"""Creating the roles that a server lacks, from the file of roles in a backup set.

The file is pg_dumpall's. Only what is about the missing roles is taken from it: roles that are there keep the
attributes and passwords they have.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from ansible.module_utils.runbook import backup_set
from ansible.module_utils.runbook.encryption import check_identity, decrypting
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import identifier
from ansible.module_utils.runbook.session import Session, SqlError
from ansible.module_utils.runbook.source import Source

# pg_dumpall writes one statement per line, and a new line only inside quotes, which no role's statement needs.
_NAME = r'("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_ROLE = re.compile(rf"(?:CREATE|ALTER) ROLE {_NAME}(?: (?:WITH|SET) .*)?;")
_CREATE = re.compile(rf"CREATE ROLE {_NAME};")
_MEMBER = re.compile(rf"GRANT {_NAME} TO {_NAME}(?: WITH [A-Z, ]+)?(?: GRANTED BY {_NAME})?;")
_GRANTED_BY = re.compile(rf" GRANTED BY {_NAME}")


def create(session: Session, source: Source, missing: Collection[str], identity: str) -> None:
    """Create missing roles with their attributes, passwords and memberships, all or none.

    Parameters:
        session: of a user who may create roles.
        identity: file with the key, for an encrypted set.

    Raises:
        RunbookError: ``roles`` when one of them is not in the file, or the server refuses one.
    """
    present = {name for (name,) in session.query("SELECT rolname::text FROM pg_catalog.pg_roles")}
    statements = list(_about(_read(source, identity), set(missing), present))
    defined = {_unquoted(found[1]) for found in map(_CREATE.fullmatch, statements) if found}
    unknown = sorted(set(missing) - defined)
    if unknown:
        raise RunbookError(
            f"The set {source.name} has no definition of role {', '.join(unknown)}. Create it by hand, then run this "
            "again.",
            code="roles",
        )
    session.query("BEGIN")
    for statement in statements:
        try:
            session.query(statement)
        except SqlError as error:
            if not error.lost:
                session.query("ROLLBACK")
            raise RunbookError(
                f"The missing roles could not be created, and none of them was: {error.message} "
                f"({_ROLE.sub('the definition of a role', statement)}).",
                code="roles",
            ) from error
    session.query("COMMIT")


def create_bare(session: Session, missing: Collection[str]) -> None:
    """Create roles that can own things and nothing else, for a scratch server."""
    for name in missing:
        session.query(f"CREATE ROLE {identifier(name)}")


def _about(lines: Iterator[str], missing: set[str], present: set[str]) -> Iterator[str]:
    """The statements about missing roles. A membership takes two; who granted it elsewhere need not exist here."""
    for line in lines:
        role, member = _ROLE.fullmatch(line), _MEMBER.fullmatch(line)
        if role is not None and _unquoted(role[1]) in missing:
            yield line
        elif member is not None:
            both = {_unquoted(member[1]), _unquoted(member[2])}
            if both & missing and both <= missing | present:
                yield _GRANTED_BY.sub("", line)


def _read(source: Source, identity: str) -> Iterator[str]:
    if source.encrypted:
        path = source.path / backup_set.ENCRYPTED_GLOBALS
        with decrypting(path, check_identity(path, identity)) as plain:
            text = plain.read().decode("utf-8")
    else:
        text = (source.path / backup_set.GLOBALS).read_text(encoding="utf-8")
    return iter(text.splitlines())


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
