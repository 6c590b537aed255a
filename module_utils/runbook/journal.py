# SPDX-License-Identifier: GPL-3.0-or-later
"""The journal of a restore, kept where it cannot be lost or be wrong: as comments on the databases themselves.

A comment changes in the same transaction as the names and locks of the databases it is about. Whoever comes after a
run that was killed, from whichever machine, reads there how far it came. ``psql -l+`` shows it to people, too.

A *side* database is being restored into; a *kept* one was live before a swap, or was put aside by an undo; a *scratch*
one belongs to a drill; on a *trial* one migrations are tried out, in seconds, while a drill may be at work for hours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from ansible.module_utils.runbook.ledger import identifier, literal
from ansible.module_utils.runbook.session import Session

SIDE, KEPT, SCRATCH, TRIAL = "side", "kept", "scratch", "trial"

RESTORING = "restoring"
"""A side database is being filled; nobody needs it."""

VERIFIED = "verified"
"""A side database is whole, compared with the manifest, and closed."""

CLOSING = "closing"
"""The live database may have been closed for the swap, by us."""

SWAPPED = "swapped"
"""The swap is done; services and smoke test are still to come."""

DONE = "done"
"""Nothing is left to do, but to undo or to drop one day."""

_MARK = "Schema Runbook: "
_SIDE_SENTENCE = "restore of {set} for database {database}, not in use."
_KEPT_SENTENCE = "database {database} until {since}; restore_action=undo brings it back, drop removes it."
_SCRATCH_SENTENCE = "drill with set {set} of database {database}; can be dropped when no drill is going on."
_TRIAL_SENTENCE = "migrations of database {database} on trial; can be dropped when nothing is tried out."
_SENTENCES = {SIDE: _SIDE_SENTENCE, KEPT: _KEPT_SENTENCE, SCRATCH: _SCRATCH_SENTENCE, TRIAL: _TRIAL_SENTENCE}
_MAX_NAME = 63
_TIME = "%Y%m%dT%H%M%SZ"

# Whoever owns a database can comment on it. To have named it as we do takes CREATEDB as well; who has both and is
# neither superuser, nor us, nor the owner of the live database, is not believed.
_DATABASES = """
SELECT d.oid::bigint, d.datname::text, d.datallowconn,
       CASE WHEN rolsuper OR NOT rolcreatedb OR rolname = current_user
                 OR datdba = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = %s)
            THEN pg_catalog.shobj_description(d.oid, 'pg_database') END
  FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
"""
_OUR_NAME = re.compile(r"(.*)_(restore|before|drill|trial)_\d{8}T\d{6}Z", re.DOTALL)


@dataclass(frozen=True)
class Journal:
    """What is noted on a database.

    Parameters:
        role: ``side``, ``kept``, ``scratch`` or ``trial``.
        phase: how far the restore has come.
        database: the name it is about, the one that services use.
        set: name or path of what was restored.
        comment: the database's own comment, which this one stands in for.
        counterpart: of a side database, the live one it is to replace; of a kept one, the one that replaced it, as the
            number that PostgreSQL knows it by; 0 for none.
        since: when this was noted first, RFC 3339 in UTC.
        until: of a kept one, when nobody needs it any more.
    """

    role: str
    phase: str
    database: str
    set: str
    comment: str = ""
    counterpart: int = 0
    since: str = ""
    until: str = ""

    def text(self) -> str:
        """As a comment: a sentence for people, then the rest."""
        said = _SENTENCES[self.role].format(set=self.set, database=self.database, since=self.since)
        return f"{_MARK}{said}\n{json.dumps(asdict(self), ensure_ascii=False)}"

    @classmethod
    def parse(cls, comment: str | None) -> Journal | None:
        """Read a comment; None when it is somebody else's."""
        first, _, rest = (comment or "").partition("\n")
        if not first.startswith(_MARK):
            return None
        try:
            found = json.loads(rest)
            return cls(**found) if _is_journal(found) else None
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True)
class Noted:
    """A database that has a journal."""

    oid: int
    name: str
    open: bool
    journal: Journal

    def note(self, **changes: Any) -> str:
        """The statement that changes the journal."""
        return comment_on(self.name, replace(self.journal, **changes).text())


@dataclass(frozen=True)
class Databases:
    """What there is for one name: the live database if any, and those with a journal about it, oldest first."""

    name: str
    live_oid: int
    live_open: bool
    side: tuple[Noted, ...]
    kept: tuple[Noted, ...]
    scratch: tuple[Noted, ...]
    trial: tuple[Noted, ...]
    taken: frozenset[str]

    @property
    def live(self) -> bool:
        """Whether there is a database of that very name."""
        return self.live_oid != 0

    @property
    def replaced(self) -> Noted | None:
        """The kept database that the live one has replaced: the one that an undo brings back."""
        found = [one for one in self.kept if one.journal.counterpart == self.live_oid]
        return found[-1] if found and self.live else None


def read(session: Session, database: str) -> Databases:
    """Look at the server's databases, from any of them."""
    live_oid, live_open, noted = 0, False, []
    rows = session.query(_DATABASES, database)
    for oid, name, is_open, comment in rows:
        journal = Journal.parse(comment)
        if name == database:
            live_oid, live_open = oid, is_open
        elif journal is not None and journal.database == database and _is_our_name(name, database):
            noted.append(Noted(oid, name, is_open, journal))
    noted.sort(key=lambda one: (one.journal.since, one.name))
    of_role = {role: tuple(one for one in noted if one.journal.role == role) for role in _SENTENCES}
    taken = frozenset(name for _, name, *_ in rows)
    return Databases(
        database, live_oid, live_open, of_role[SIDE], of_role[KEPT], of_role[SCRATCH], of_role[TRIAL], taken
    )


def comment_on(database: str, comment: str) -> str:
    """The statement that gives a database a comment; an empty one removes it."""
    return f"COMMENT ON DATABASE {identifier(database)} IS {literal(comment or None)}"


def free_name(databases: Databases, purpose: str, now: datetime) -> str:
    """A name that no database has, within PostgreSQL's 63 bytes.

    Parameters:
        purpose: ``restore`` for a side database, ``before`` for a kept one, ``drill`` for a scratch one,
            ``trial`` for one of that role.
    """
    moment = now.astimezone(timezone.utc)
    while True:
        ending = f"_{purpose}_{moment:{_TIME}}"
        name = databases.name.encode()[: _MAX_NAME - len(ending)].decode("utf-8", "ignore") + ending
        if name not in databases.taken:
            return name
        moment += timedelta(seconds=1)


def rfc3339(moment: datetime) -> str:
    """A time as the journal has it."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def _is_our_name(name: str, database: str) -> bool:
    """Whether a database is called as only those are that belong to this one; long names were cut."""
    match = _OUR_NAME.fullmatch(name)
    return match is not None and bool(match[1]) and database.startswith(match[1])


def _is_journal(found: Any) -> bool:
    return (
        isinstance(found, Mapping)
        and found.get("role") in _SENTENCES
        and all(isinstance(value, int if name == "counterpart" else str) for name, value in found.items())
    )
