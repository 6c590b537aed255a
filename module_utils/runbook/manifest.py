# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest of a backup set: everything that is known about the database it was taken from.

It is what a restore is prepared from, and what its result is compared with. ``docs/backup.md`` describes each field.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Optional, get_args, get_origin, get_type_hints

MANIFEST_VERSION = 1

LOGICAL = "logical"
"""The engine that makes sets with pg_dump."""

DIRECTORY, CUSTOM = "directory", "custom"
"""pg_dump's formats: ``directory`` is written and read in parallel, ``custom`` can be streamed and so encrypted."""


@dataclass(frozen=True)
class Grant:
    """One privilege on the database itself; ``grantee`` is empty for PUBLIC."""

    grantee: str
    privilege: str
    grantable: bool = False


@dataclass(frozen=True)
class Setting:
    """A setting of the database for all roles, or for one: ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET.

    ``value`` is as pg_db_role_setting has it: elements of a list setting such as search_path are quoted already.
    """

    name: str
    value: str
    role: str = ""


@dataclass(frozen=True)
class DatabaseProperties:
    """What hangs on a database and is in no dump of its content.

    Parameters:
        locale_provider: ``c`` (libc), ``i`` (ICU) or ``b`` (builtin), as in pg_database.
        locale: the provider's locale where it is not libc; empty for libc.
        grants: None when nobody ever changed the default privileges, which is not the same as an empty list.
        connection_limit: -1 for none.
        bytes: pg_database_size.
    """

    name: str
    owner: str
    encoding: str
    locale_provider: str
    collate: str
    ctype: str
    locale: str = ""
    icu_rules: str = ""
    collation_version: str = ""
    tablespace: str = "pg_default"
    connection_limit: int = -1
    comment: str = ""
    grants: Optional[Sequence[Grant]] = None
    settings: Sequence[Setting] = ()
    bytes: int = 0


@dataclass(frozen=True)
class Server:
    """The server a set was taken from.

    Parameters:
        version: as a number, such as 170006.
        system_identifier: of the cluster, as text; empty where it may not be read.
        preload_libraries: shared_preload_libraries.
    """

    version: int
    system_identifier: str = ""
    preload_libraries: Sequence[str] = ()


@dataclass(frozen=True)
class Extension:
    """An installed extension, and the schema it is in."""

    name: str
    version: str
    schema: str


@dataclass(frozen=True)
class Table:
    """A table that holds rows itself, and how many the snapshot saw."""

    schema: str
    name: str
    rows: int


@dataclass(frozen=True)
class SequenceState:
    """Where a sequence stood; ``last_value`` is None when it was never used."""

    schema: str
    name: str
    last_value: Optional[int]


@dataclass(frozen=True)
class Manifest:
    """A set's description.

    Parameters:
        name: of the set.
        taken_at: of the snapshot, RFC 3339 in UTC.
        compression: ``zstd``, ``gzip`` or ``none``.
        recipients: the public keys it is encrypted for; empty when it is not.
        ledger_schema: the schema of the ledger that ``schema_version`` was read from.
        roles: every role that owns something, is granted something, or is granted to one that is.
        roles_have_passwords: whether the roles' file has password hashes, which only a superuser can read.
        large_objects: how many there are.
        dump_bytes: size of the dump on disk.
        seconds: how long each phase took, by name.
    """

    name: str
    taken_at: str
    database: DatabaseProperties
    server: Server
    client_version: str
    schema_version: int
    ledger_schema: str
    engine: str = LOGICAL
    format: str = DIRECTORY
    compression: str = "gzip"
    recipients: Sequence[str] = ()
    extensions: Sequence[Extension] = ()
    roles: Sequence[str] = ()
    roles_have_passwords: bool = False
    tables: Sequence[Table] = ()
    sequences: Sequence[SequenceState] = ()
    large_objects: int = 0
    dump_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    manifest: int = MANIFEST_VERSION

    def to_json(self) -> str:
        """The content of ``manifest.json``."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read ``manifest.json``.

        Raises:
            ValueError, TypeError, KeyError: when it is none, or one of a newer version than this.
        """
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("manifest") != MANIFEST_VERSION:
            raise ValueError(f"it says manifest version {data.get('manifest') if isinstance(data, dict) else None!r}")
        made: Manifest = _made(cls, data)
        return made


def _made(kind: Any, value: Any) -> Any:
    """Make what ``asdict`` has taken apart whole again, without trusting what the file holds."""
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is no {kind.__name__}")  # type: ignore[union-attr]
        hints = get_type_hints(kind)
        known = {one.name for one in fields(kind)}
        return kind(**{name: _made(hints[name], item) for name, item in value.items() if name in known})  # type: ignore[operator]
    origin, arguments = get_origin(kind), get_args(kind)
    if type(None) in arguments:
        return None if value is None else _made(arguments[0], value)
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError(f"{value!r} is no mapping")
        return {str(name): _made(arguments[1], item) for name, item in value.items()}
    if origin is not None:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is no list")
        return tuple(_made(arguments[0], item) for item in value)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value
