# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore starts from: a backup set, chosen by name, time or place, or a plain file of SQL."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Optional

from ansible.module_utils.runbook import backup_set, space
from ansible.module_utils.runbook.backup_set import BackupSet, SetName
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import Manifest
from ansible.module_utils.runbook.store import Store

LATEST, NEWEST = "latest", "newest"

_TIMES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%M:%SZ", "%Y-%m-%d %H:%MZ", "%Y%m%dT%H%M%SZ")
_LIKE_A_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*|\d{8}T\d{6}Z?")
_LISTED = 5

# What reaches out of the database in a plain file: pg_dump writes it with --create, and it would hit the live database.
_REACHES_OUT = re.compile(rb"\s*(?:(?:DROP|CREATE|ALTER)\s+DATABASE\b|\\(?:c|connect)\b)", re.IGNORECASE)
_COPY = re.compile(rb"\s*COPY\b.*\bFROM\s+stdin\b.*;\s*", re.IGNORECASE)
_LINE_BYTES = 1024 * 1024

# The last words of pg_dump in a plain file: without them something is missing.
_COMPLETE = b"PostgreSQL database dump complete"
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Source:
    """What to restore from.

    Parameters:
        path: a sealed set's folder on this host, or a plain file of SQL.
        name: the set's name, or the file's path and the beginning of its SHA-256: the same path may hold another one.
        state: ``sealed``, ``verified`` or ``plain``.
        manifest: None for a plain file.
    """

    path: Path
    name: str
    state: str
    manifest: Optional[Manifest]

    @property
    def encrypted(self) -> bool:
        """Whether a key is needed."""
        return self.manifest is not None and bool(self.manifest.recipients)


PLAIN = "plain"


def choose(store: Store, wanted: str, notes: list[str]) -> Source | SetName:
    """Find out what is meant.

    Parameters:
        store: the sets of the database.
        wanted: ``latest`` (the newest verified set, else the newest sealed one), ``newest`` (the newest sealed
            one), a name, a time in UTC (the newest set of that time or before), or the path of a set or a file of SQL.
        notes: takes a sentence when the choice might have been another one.

    Returns:
        the source, or the name of a set that is only off-site.

    Raises:
        RunbookError: ``no-set`` when there is no such thing.
    """
    if "/" in wanted:
        return at(Path(wanted))
    here = {one.name: one for one in store.sealed()}
    named = SetName.parse(wanted)
    if named in here:
        return of(here[named])
    name = _choose(store, wanted, list(here.values()), sorted({*here, *_away(store, bool(here), notes)}))
    return of(here[name]) if name in here else name


def _away(store: Store, has_others: bool, notes: list[str]) -> set[SetName]:
    """The sets that are off-site. In an emergency the network may be down: what is here is enough to go on with."""
    if store.offsite is None:
        return set()
    try:
        store.offsite.check()
        return set(store.offsite.names(store.folder.name))
    except RunbookError as error:
        if not has_others:
            raise
        notes.append(f"Only the sets on this host were looked at; off-site there may be newer ones. {error.message}")
        return set()


def of(chosen: BackupSet) -> Source:
    """A set on this host as a source."""
    return Source(chosen.path, str(chosen.name), chosen.state, chosen.manifest())


def at(path: Path) -> Source:
    """What is in a place of this host.

    Raises:
        RunbookError: ``no-set`` or ``set-damaged``.
    """
    if path.is_dir():
        name = SetName.parse(path.name)
        if name is None or not (path / backup_set.MANIFEST).is_file():
            raise _no_set(f"{path} is no sealed backup set: its name and its {backup_set.MANIFEST} would say so", [])
        return of(BackupSet(path, name))
    if not path.is_file():
        raise _no_set(f"There is neither a backup set nor a file at {path} on the host that runs the modules", [])
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        if _COMPLETE not in file.read():
            raise RunbookError(
                f"The file {path} does not end as pg_dump ends a plain dump "
                f'("-- {_COMPLETE.decode()}"): it was cut off, or is something else. It is not restored from.',
                code="set-damaged",
            )
    return Source(path, f"{path} (SHA-256 {backup_set.sha256(path)[:12]})", PLAIN, None)


def reaches_out(path: Path) -> str:
    """The first line of a plain file that is about databases as such, as ``file:line: text``; empty without one.

    Rows between COPY and its end are only data. A line in the body of a function is taken for a statement, too: rather
    once too often, since such a statement would not care which database it was meant for.
    """
    in_data = False
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LINE_BYTES), b""), start=1):
            if in_data:
                in_data = line.rstrip(b"\r\n") != b"\\."
            elif _REACHES_OUT.match(line):
                return f"{path}:{number}: {line.decode('utf-8', 'replace').strip()[:80]}"
            else:
                in_data = _COPY.fullmatch(line) is not None
    return ""


def fetch(store: Store, name: SetName) -> Source:
    """Bring a set that is only off-site to this host, where it becomes a sealed set like any other.

    Raises:
        RunbookError: ``offsite``, or ``set-damaged`` when what arrived is not what was sealed.
    """
    if store.offsite is None:
        raise AssertionError("only a store with copies names sets that are not here")
    store.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    final = store.folder / str(name)
    with _only_fetcher(store.folder), backup_set.unfinished(store.folder, name, backup_set.FETCHING) as folder:
        if final.exists():  # somebody else has fetched it meanwhile
            return of(BackupSet(final, name))
        store.offsite.fetch(store.folder.name, name, folder)
        backup_set.check_checksums(folder)
        space.sync(folder)
        folder.rename(final)
        space.sync_entry(store.folder)
    return of(BackupSet(final, name))


@contextlib.contextmanager
def _only_fetcher(folder: Path) -> Iterator[None]:
    """Wait for whoever fetches a set to the same folder; what a fetch that died has left there goes first.

    The run lock of the database that is restored says nothing about that: the set may be another database's.
    """
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        for leftover in folder.glob(f"*{backup_set.FETCHING}"):
            shutil.rmtree(leftover)
        yield
    finally:
        os.close(place)


def _choose(store: Store, wanted: str, here: Sequence[BackupSet], names: Sequence[SetName]) -> SetName:
    where = f"of this database in {store.folder}" + (f" or {store.offsite.remote}" if store.offsite else "")
    if not names:
        raise _no_set(f"There is no sealed backup set {where}", [])
    # A set from the future was made while a clock was wrong; it is not newer than the others for that.
    now = datetime.now(timezone.utc)
    past = [name for name in names if name.taken_at <= now] or names
    if wanted == NEWEST:
        return past[-1]
    if wanted == LATEST:
        verified = [one.name for one in here if one.state == backup_set.VERIFIED and one.name in past]
        return max(verified) if verified else past[-1]
    named = SetName.parse(wanted)
    if named is not None and named in names:
        return named
    moment = _time(wanted)
    if moment is not None:
        earlier = [name for name in names if name.taken_at <= moment]
        if earlier:
            return earlier[-1]
        raise _no_set(f"There is no set {where} from {wanted} or before", names)
    raise _no_set(f'There is no set "{wanted}" {where}', names)


def _time(text: str) -> datetime | None:
    for pattern in _TIMES:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=timezone.utc)
        except ValueError:
            continue
    if _LIKE_A_TIME.fullmatch(text):
        raise RunbookError(
            f'restore_backup is "{text}", which looks like a time but is none in UTC. Write 2026-11-22T14:30:00Z.',
            code="option",
        )
    return None


def _no_set(reason: str, names: Sequence[SetName]) -> RunbookError:
    newest = ", ".join(str(name) for name in sorted(names, reverse=True)[:_LISTED])
    listed = f" There are: {newest}{' and older ones' if len(names) > _LISTED else ''}." if names else ""
    return RunbookError(f"{reason}.{listed} Choose with -e restore_backup=NAME.", code="no-set")
