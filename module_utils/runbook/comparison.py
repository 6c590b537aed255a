# SPDX-License-Identifier: GPL-3.0-or-later
"""Two snapshots compared, object by object, and what differs said so that people see it."""

from __future__ import annotations

import difflib
import fnmatch
import itertools
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.runbook.snapshot import INHERITED_FROM, PART_OF, Snapshot

MISSING, EXTRA, CHANGED = "missing", "extra", "changed"

_ORDER = "column order"
"""The one property that matters to people alone, or to an INSERT without column names."""

# What these say, the difference of another object says.
_NOT_COMPARED = frozenset({PART_OF, INHERITED_FROM})

# Lists in which the order means something; of others, only what differs is shown.
_ORDERED = frozenset({_ORDER, "labels", "attributes", "inherits"})

# What says most about an object that is there or not, in this order of preference.
_TELLING = ("definition", "type", "labels", "version", "returns", "event", "privileges")

# What an object that differs in nothing else need not name.
_WHOLE = ("definition", "body", "source")

# In characters: longer texts are shown below each other, and of a definition no more than this.
_WIDTH = 80
_DEFINITION = 160


@dataclass(frozen=True)
class Change:
    """A property that differs; None where an object does not have it."""

    property: str
    expected: Any
    found: Any


@dataclass(frozen=True)
class Difference:
    """An object that is not as it should be.

    Parameters:
        object: its identity, such as ``table cm.audit_log``.
        kind: ``missing``, ``extra`` or ``changed``.
        changes: what differs, when it is there and should be.
        definition: what it is, in a few words, when it is missing or extra; empty where there are none.
        includes: identities of the differences that go with this one: the columns of a missing table, or the same on
            a partition.
    """

    object: str
    kind: str
    changes: tuple[Change, ...] = ()
    definition: str = ""
    includes: tuple[str, ...] = ()

    @property
    def note(self) -> bool:
        """Whether it is no more than another order of columns, which no statement that names its columns notices."""
        return self.kind == CHANGED and all(change.property == _ORDER for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """JSON-serialisable data."""
        return {
            "object": self.object,
            "kind": self.kind,
            "note": self.note,
            "changes": [vars(change) for change in self.changes],
            "definition": self.definition,
            "includes": list(self.includes),
        }


def compare(expected: Snapshot, found: Snapshot, ignore: Sequence[str] = ()) -> list[Difference]:
    """Everything that differs, sorted; a difference that another one explains is told with that one.

    Parameters:
        expected, found: both of servers of the same major version: another one may write the same view differently.
        ignore: glob patterns of identities, such as ``table cm.events_p2*``; what is part of such an object is ignored
            as well.
    """
    both = {
        identity: difference
        for identity in sorted({*expected.objects, *found.objects})
        if (difference := _difference(identity, expected, found)) is not None
        and not _ignored(identity, (expected, found), ignore)
    }
    included: dict[str, list[str]] = {}
    for identity in both:
        reason = _explained_by(identity, both, expected, found)
        if reason is not None:
            included.setdefault(reason, []).append(identity)
    explained = {identity for identities in included.values() for identity in identities}
    return [
        Difference(one.object, one.kind, one.changes, one.definition, tuple(included.get(identity, ())))
        for identity, one in both.items()
        if identity not in explained
    ]


def _difference(identity: str, expected: Snapshot, found: Snapshot) -> Difference | None:
    wanted, there = expected.objects.get(identity), found.objects.get(identity)
    if there is None:
        return Difference(identity, MISSING, definition=_definition(wanted or {}))
    if wanted is None:
        return Difference(identity, EXTRA, definition=_definition(there))
    changes = tuple(_changes(wanted, there))
    return Difference(identity, CHANGED, changes) if changes else None


def _definition(properties: Mapping[str, Any]) -> str:
    name = next((name for name in _TELLING if name in properties), None)
    return " ".join(_shown(properties[name]).split()) if name is not None else ""


def _changes(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[Change]:
    names = [*wanted, *(name for name in there if name not in wanted)]
    for name in names:
        pair = wanted.get(name), there.get(name)
        if name not in _NOT_COMPARED and pair[0] != pair[1] and not (name == _ORDER and _same_order(*pair)):
            yield Change(name, *pair)


def _same_order(wanted: Sequence[str] | None, there: Sequence[str] | None) -> bool:
    """Of the columns that both have. One that is missing is a difference of its own."""
    common = {*(wanted or ())} & {*(there or ())}
    return [name for name in wanted or () if name in common] == [name for name in there or () if name in common]


def _ignored(identity: str, snapshots: Iterable[Snapshot], patterns: Sequence[str]) -> bool:
    names = {name for snapshot in snapshots for name in snapshot.lineage(identity)} if patterns else set()
    return any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _explained_by(
    identity: str, differences: Mapping[str, Difference], expected: Snapshot, found: Snapshot
) -> str | None:
    """The difference that one goes with: what it is part of is missing or extra, or its like on a parent has it too."""
    reasons = [identity]
    while (further := _reason(reasons[-1], differences, expected, found)) is not None:
        if further in reasons:
            return None  # each side has its own parents, and two tables may have changed places
        reasons.append(further)
    return reasons[-1] if len(reasons) > 1 else None


def _reason(identity: str, differences: Mapping[str, Difference], expected: Snapshot, found: Snapshot) -> str | None:
    holders = [snapshot for snapshot in (expected, found) if identity in snapshot.objects]
    wholes = [_whole(identity, differences, snapshot) for snapshot in holders]
    if None not in wholes:
        return wholes[0]
    for snapshot in holders:
        parent = snapshot.objects[identity].get(INHERITED_FROM)
        if parent is not None and parent in differences and _alike(differences[identity], differences[parent]):
            return str(parent)
    return None


def _whole(identity: str, differences: Mapping[str, Difference], snapshot: Snapshot) -> str | None:
    """What an object is part of, when that is on one side only."""
    wholes = itertools.islice(snapshot.lineage(identity), 1, None)
    return next((name for name in wholes if name in differences and differences[name].kind != CHANGED), None)


def _alike(one: Difference, other: Difference) -> bool:
    """Definitions hold the names of their objects, so that it has to do if both have changed."""
    defined = any(change.property == "definition" for change in other.changes)
    return one.kind == other.kind and all(
        defined if change.property == "definition" else change in other.changes for change in one.changes
    )


def readable(differences: Iterable[Difference], expected: str = "expected", found: str = "") -> str:
    """The differences as text for people, a paragraph of one or more lines each; empty for none.

    Parameters:
        expected, found: what the two sides are called, such as ``before`` and ``after the rollback``. In a
            comparison of lines, ``-`` is expected and ``+`` is found.
    """
    return "".join(f"{line}\n" for one in differences for line in _lines(one, expected, found))


def _lines(one: Difference, expected: str, found: str) -> Iterator[str]:
    if one.kind != CHANGED:
        state = f"is missing {found}".rstrip() if one.kind == MISSING else f"is there, but not {expected}"
        definition = textwrap.shorten(one.definition, _DEFINITION, placeholder=" …")
        yield f"{one.object} {state}" + (f": {definition}" if definition else "")
        if one.includes:
            yield f"  with {_counted(one.includes)}"
        return
    if len(one.changes) == 1 and one.changes[0].property in _WHOLE:
        yield f"{one.object} differs:"
        yield from _compared(one.changes[0], "  ")
    else:
        yield one.object
        for change in one.changes:
            yield from _told(change, expected, found)
    if one.includes:
        yield f"  likewise {_counted(one.includes)}"


def _counted(identities: Iterable[str]) -> str:
    """Objects by their kinds, such as ``3 columns, 1 index``."""
    numbers = Counter(_kind(identity) for identity in identities)
    return ", ".join(f"{number} {_plural(kind) if number > 1 else kind}" for kind, number in sorted(numbers.items()))


def _kind(identity: str) -> str:
    """What an identity begins with; names that follow have a dot or are the last word."""
    words = identity.split(" ")
    if identity.startswith("default privileges"):
        return "default privilege"
    end = next((number for number, word in enumerate(words) if set('."(') & set(word)), len(words) - 1)
    return " ".join(words[: max(end, 1)])


def _plural(kind: str) -> str:
    if kind.endswith("statistics"):
        return kind
    return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}es" if kind.endswith("x") else f"{kind}s"


def _told(change: Change, expected: str, found: str) -> Iterator[str]:
    if _is_long(change):
        yield f"  {change.property}:"
        yield from _compared(change, "    ")
        return
    there, wanted = (_shown(value) for value in _apart(change))
    yield f"  {change.property}: {there}{' ' + found if found else ''}, {expected} {wanted}"


def _apart(change: Change) -> tuple[Any, Any]:
    """What was found and what was expected; of lists without an order, only what the other one does not have."""
    there, wanted = change.found, change.expected
    if change.property in _ORDERED or not all(value is None or isinstance(value, list) for value in (there, wanted)):
        return there, wanted
    only_there = [item for item in there or [] if item not in (wanted or [])]
    return only_there, [item for item in wanted or [] if item not in (there or [])]


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if value == "":
        return "''"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


def _is_long(change: Change) -> bool:
    sides = [_shown(value) for value in _apart(change)]
    return any("\n" in side for side in sides) or sum(map(len, sides)) > _WIDTH


def _compared(change: Change, indent: str) -> Iterator[str]:
    wanted, there = (_text_lines(value) for value in (change.expected, change.found))
    names_of_files = 2
    for line in itertools.islice(difflib.unified_diff(wanted, there, n=1, lineterm=""), names_of_files, None):
        if not line.startswith("@@"):
            yield f"{indent}{line[0]} {line[1:]}".rstrip()


def _text_lines(value: Any) -> list[str]:
    """Carriage returns would not be seen."""
    if value is None:
        return []
    lines = value if isinstance(value, list) else _shown(value).split("\n")
    return [str(line).replace("\r", "\\r") for line in lines]
