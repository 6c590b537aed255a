# SPDX-License-Identifier: GPL-3.0-or-later
"""The vocabulary of the snapshot's queries: one for each kind of object, all of the same form.

Names are not qualified with pg_catalog: the snapshot reads with an empty search_path, in which only that schema is
looked through (PostgreSQL documentation, "search_path"). A query's own tables go by ``c``, ``n``, ``o`` and the like;
``x``, ``y`` and ``z`` are those of the pieces here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SCHEMA = "'schema ' || quote_ident(n.nspname)"
"""Identity of the schema ``n``."""

OWN_SCHEMA = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
"""That a schema, as ``n``, is not the system's, and no temporary one."""

FIRST_OID = 16384
"""Objects below it were there before anybody logged in (PostgreSQL documentation, "System Catalog Initial Data")."""

SECRET = "^[^=]*(passw|secret|token|key)"  # noqa: S105
"""Options of foreign servers that may not be shown."""

_KINDS = {
    "r": "table", "p": "table", "f": "foreign table", "v": "view", "m": "materialized view",
    "i": "index", "I": "index", "S": "sequence", "c": "composite type",
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """One kind of object, as SQL expressions over a FROM clause.

    Parameters:
        identity: kind and qualified name, unique within a database.
        parent: identity of what the object is part of and goes with, NULL for none.
        source: FROM and WHERE.
        properties: what to read, by the name that people will see; NULL is left out.
    """

    identity: str
    parent: str
    source: str
    properties: Mapping[str, str]

    @property
    def text(self) -> str:
        """The statement, with columns identity, parent and properties (json, in the order they are given)."""
        pairs = ", ".join(f"'{name}', {expression}" for name, expression in self.properties.items())
        return f"SELECT {self.identity}, {self.parent}, json_strip_nulls(json_build_object({pairs})) {self.source}"


def words(column: str, **meanings: str) -> str:
    """One of the catalogs' letters as a word; NULL for letters without one."""
    cases = " ".join(f"WHEN '{letter}' THEN '{word}'" for letter, word in meanings.items())
    return f"CASE {column} {cases} END"


def relation_kind(kind: str) -> str:
    """What sort of relation it is, from relkind, as the word that identities begin with."""
    return words(kind, **_KINDS)


def relation(oid: str) -> str:
    """Identity of the relation with that oid; NULL when there is none."""
    return (
        f"(SELECT {relation_kind('y.relkind')} || ' ' || format('%I.%I', z.nspname, y.relname)"
        f" FROM pg_class y JOIN pg_namespace z ON z.oid = y.relnamespace WHERE y.oid = {oid})"
    )


def qualified(catalog: str, prefix: str, oid: str) -> str:
    """Qualified name of an object in a schema; NULL when there is none with that oid."""
    return (
        f"(SELECT format('%I.%I', z.nspname, y.{prefix}name) FROM {catalog} y"
        f" JOIN pg_namespace z ON z.oid = y.{prefix}namespace WHERE y.oid = {oid})"
    )


def reference(oid: str, kind: str) -> str:
    """An oid by the name that one of the reg* types gives it, such as regprocedure; NULL for none."""
    return f"CASE WHEN {oid} <> 0 THEN {oid}::{kind}::text END"


def not_member(catalog: str, oid: str, *further: str) -> str:
    """That an object does not belong to an extension (PostgreSQL documentation, "pg_depend").

    Parameters:
        further: other kinds of dependency that an object may not have; ``i`` is that on what brought it along.
    """
    kinds = ", ".join(f"'{kind}'" for kind in ("e", *further))
    return (
        f"NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = '{catalog}'::regclass AND x.objid = {oid}"
        f" AND x.deptype IN ({kinds}))"
    )


def comment(catalog: str, oid: str, number: str = "0") -> str:
    """What COMMENT ON said."""
    return (
        f"(SELECT x.description FROM pg_description x WHERE x.classoid = '{catalog}'::regclass AND x.objoid = {oid}"
        f" AND x.objsubid = {number})"
    )


def listed(array: str) -> str:
    """An array in a stable order, as options have none; NULL when it is empty."""
    return f'(SELECT jsonb_agg(x ORDER BY x COLLATE "C") FROM unnest({array}) AS x)'


def hidden(array: str) -> str:
    """As ``listed``, without what may be secret."""
    shown = f"CASE WHEN x ~* '{SECRET}' THEN split_part(x, '=', 1) || '=(hidden)' ELSE x END"
    return f'(SELECT jsonb_agg({shown} ORDER BY x COLLATE "C") FROM unnest({array}) AS x)'


def privileges(acl: str, kind: str, owner: str) -> dict[str, str]:
    """What was granted beyond, and revoked from, that which holds by itself for a kind of object and an owner.

    No entry at all and one that was spelt out mean the same (PostgreSQL documentation, "Privileges"), and neither
    should change with the owner. Who granted is left out.

    Parameters:
        kind: SQL expression of the letter that ``acldefault`` takes.
    """
    default = f"acldefault({kind}, {owner})"

    def difference(one: str, other: str) -> str:
        entries = f"{_entries(one, owner)} EXCEPT {_entries(other, owner)}"
        return (
            f"CASE WHEN {acl} IS NOT NULL THEN"
            f' (SELECT jsonb_agg(e.entry ORDER BY e.entry COLLATE "C") FROM ({entries}) AS e (entry)) END'
        )

    return {"privileges": difference(acl, default), "revoked privileges": difference(default, acl)}


def _entries(acl: str, owner: str) -> str:
    return (
        f"SELECT CASE x.grantee WHEN 0 THEN 'PUBLIC' WHEN {owner} THEN 'the owner'"
        " ELSE quote_ident(pg_get_userbyid(x.grantee)) END"
        " || ': ' || x.privilege_type || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END"
        f" FROM aclexplode({acl}) x"
    )


def named(kind: str, prefix: str) -> str:
    """Identity of ``o``, an object in the schema ``n``; ``prefix`` is that of its catalog's columns."""
    return f"'{kind} ' || format('%I.%I', n.nspname, o.{prefix}name)"


def in_schema(catalog: str, prefix: str) -> str:
    """FROM and WHERE for the objects of a catalog, as ``o``, in schemas that are not the system's."""
    return (
        f"FROM {catalog} o JOIN pg_namespace n ON n.oid = o.{prefix}namespace"
        f" WHERE {OWN_SCHEMA} AND {not_member(catalog, 'o.oid', 'i')}"
    )


def owner(prefix: str) -> dict[str, str]:
    """The owner of ``o``, as a property."""
    return {"owner": f"pg_get_userbyid(o.{prefix}owner)"}


def owned(prefix: str, kind: str) -> dict[str, str]:
    """The owner of ``o`` and its privileges; ``kind`` is the letter for ``acldefault``."""
    return {**owner(prefix), **privileges(f"o.{prefix}acl", f"'{kind}'", f"o.{prefix}owner")}
