# SPDX-License-Identifier: GPL-3.0-or-later
"""The text in every backup set that says how to restore it without this project."""

from __future__ import annotations

import shlex

from ansible.module_utils.runbook import backup_set, properties
from ansible.module_utils.runbook.ledger import identifier, literal
from ansible.module_utils.runbook.manifest import DatabaseProperties, Manifest

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


def instructions(manifest: Manifest) -> str:
    """The commands for one set, to be run in its folder, the server being named by PGHOST, PGPORT and PGUSER."""
    database = manifest.database
    roles = f"psql -X -d postgres -f {backup_set.GLOBALS}"
    restore = f"pg_restore --exit-on-error --jobs=4 --dbname=restored {backup_set.DUMP}"
    if manifest.recipients:
        decrypt = "age --decrypt --identity=KEY"
        roles = f"{decrypt} {backup_set.ENCRYPTED_GLOBALS} | psql -X -d postgres"
        restore = f"{decrypt} {backup_set.ENCRYPTED_DUMP} | pg_restore --exit-on-error --dbname=restored"
    encrypted = (
        "\nIt is encrypted with age (https://age-encryption.org). KEY is the file with the secret key that belongs to\n"
        + "".join(f"    {recipient}\n" for recipient in manifest.recipients)
        if manifest.recipients
        else ""
    )
    return f"""\
This folder is a backup of the PostgreSQL database {identifier(database.name)}, taken at {manifest.taken_at},
schema version {manifest.schema_version}. {backup_set.MANIFEST} says what is in it.
{encrypted}
To restore it by hand you need a server of PostgreSQL {manifest.server.version // 10000} or newer, and client programs
that are not older than it. Say where it is in PGHOST, PGPORT and PGUSER, go to this folder and run:

    sha256sum --check --quiet {backup_set.CHECKSUMS}
    {roles}
    createdb --maintenance-db=postgres --template=template0 {_create(database)} restored
    {restore}
    psql -X -d restored -c ANALYZE

The second command creates the server's roles. On a server that has them already leave it out: it would set their
passwords and attributes back to what they were; "already exists" is no problem there, everything else is one.

The database is called "restored" then. When it is right, give it its name, and its owner, privileges and settings,
which are in no dump. If there is a database of that name, rename that first.

    psql -X -d postgres -v ON_ERROR_STOP=1 -f {backup_set.PROPERTIES}
"""


def statements(manifest: Manifest) -> str:
    """The content of ``database.sql``: what gives the restored database its name, and what hangs on a database."""
    database = manifest.database
    commands = ["SET client_encoding = 'UTF8'", f"ALTER DATABASE restored RENAME TO {identifier(database.name)}"]
    commands += properties.apply(database.name, database)
    commands += properties.settings(database.name, database)
    if database.comment:
        commands.append(f"COMMENT ON DATABASE {identifier(database.name)} IS {literal(database.comment)}")
    return "".join(f"{command};\n" for command in commands)


def _create(database: DatabaseProperties) -> str:
    options = [f"--encoding={database.encoding}", f"--lc-collate={database.collate}", f"--lc-ctype={database.ctype}"]
    if database.locale_provider != "c":
        provider = _PROVIDERS[database.locale_provider]
        options += [f"--locale-provider={provider}", f"--{provider}-locale={database.locale}"]
    return " ".join(shlex.quote(option) for option in options)
