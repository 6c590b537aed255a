# SPDX-License-Identifier: GPL-3.0-or-later
"""Proving rollback scripts: up, down and up again in a scratch database, with snapshots compared in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from ansible.module_utils.runbook import comparison, scratch
from ansible.module_utils.runbook.bundle import BundleReader, Task
from ansible.module_utils.runbook.comparison import CHANGED, EXTRA, MISSING, Difference, compare
from ansible.module_utils.runbook.connection import LOGIN_ARGUMENTS, Login
from ansible.module_utils.runbook.explain import explain
from ansible.module_utils.runbook.scratch import OutOfTime, Refused, Scratch, Workshop
from ansible.module_utils.runbook.session import SqlError
from ansible.module_utils.runbook.snapshot import Snapshot

PROOF_ARGUMENTS: dict[str, dict[str, Any]] = {
    **LOGIN_ARGUMENTS,
    **scratch.SCRATCH_ARGUMENTS,
    "directory": {"type": "path", "required": True},
    "rollback_directory": {"type": "path", "required": True},
    "versions": {"type": "list", "elements": "int"},
}

NO_SCRIPT = "no-script"
NOT_APPLIED = "not-applied"
SCRIPT_FAILED = "script-failed"
NOT_UNDONE = "not-undone"
NOT_AGAIN = "not-again"
NOT_THE_SAME = "not-the-same"
OUT_OF_TIME = scratch.OUT_OF_TIME
"""Why a script is not proven."""

# What a script has done wrong, by the kind of difference between before and after.
_WRONGS = {EXTRA: "forgets", MISSING: "takes away what it should not", CHANGED: "does not restore"}


@dataclass(frozen=True)
class Script:
    """A rollback script: where it is, as people are to read it, and its checksum."""

    path: str
    checksum: str


@dataclass(frozen=True)
class Proven:
    """A migration whose script leads back, and after that the migration leads there again."""

    version: int
    name: str
    checksum: str
    rollback_checksum: str
    seconds: float


@dataclass(frozen=True)
class Unproven:
    """A migration of which that is not known.

    Parameters:
        reason: a stable name, one of those above.
        text: what is wrong, in sentences, then object by object.
    """

    version: int
    name: str
    reason: str
    text: str


@dataclass(frozen=True)
class Irreversible:
    """A migration that says itself that no script can undo it."""

    version: int
    name: str
    reason: str


@dataclass
class Verdict:
    """What is known about rollback scripts."""

    proven: list[Proven] = field(default_factory=list)
    unproven: list[Unproven] = field(default_factory=list)
    irreversible: list[Irreversible] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def from_result(cls, result: Mapping[str, Any]) -> Verdict:
        """Read what ``as_result`` gives."""
        return cls(
            [Proven(**one) for one in result["proven"]],
            [Unproven(**one) for one in result["unproven"]],
            [Irreversible(**one) for one in result["irreversible"]],
            list(result["notes"]),
            result["seconds"],
        )

    def as_result(self) -> dict[str, Any]:
        """JSON-serialisable form for module results."""
        return asdict(self)

    def with_those_of(self, other: Verdict) -> Verdict:
        """Both together."""
        return Verdict(
            [*self.proven, *other.proven],
            sorted([*self.unproven, *other.unproven], key=lambda one: one.version),
            [*self.irreversible, *other.irreversible],
            [*self.notes, *other.notes],
            self.seconds + other.seconds,
        )

    def outcome(self, database: str) -> dict[str, Any]:
        """Whether the task has failed, and what it says: a sentence, a line for each migration, what is wrong."""
        said = "\n".join([self._sentence(database), *self._table(), *self.notes])
        return {"msg": said, **({"failed": True, "code": "rollback-unproven"} if self.unproven else {})}

    def _sentence(self, database: str) -> str:
        parts = [
            f"{len(found)} {word}"
            for found, word in (
                (self.unproven, "NOT PROVEN"),
                (self.proven, "proven"),
                (self.irreversible, "without a way back by script"),
            )
            if found
        ]
        return f"{database}: rollback scripts: {', '.join(parts) or 'none to prove'}."

    def _table(self) -> Iterator[str]:
        rows = sorted(
            [
                *((one.version, one.name, f"proven, {one.seconds:.1f} s") for one in self.proven),
                *((one.version, one.name, f"NOT PROVEN. {one.text}") for one in self.unproven),
                *((one.version, one.name, f"no way back: {one.reason}") for one in self.irreversible),
            ]
        )
        width = max((len(name) for _, name, _ in rows), default=0)
        for _, name, said in rows:
            yield f"  {name:{width}}  {said}".replace("\n", "\n      ")


def prove(file: IO[bytes], login: Login, params: Mapping[str, Any], scripts: Mapping[int, Script]) -> Verdict:
    """Run every migration of a bundle in a scratch database; those with a script up, down and up again.

    Parameters:
        file: the bundle: migrations, and behind each the script that is to be proven, if it is.
        login: to the live database, which is left alone.
        params: options of ``PROOF_ARGUMENTS``.
        scripts: by version.

    Raises:
        RunbookError: what keeps scratch databases from being made, or connections.
    """
    began = time.monotonic()
    try:
        with scratch.workshop(login, params) as workshop:
            verdict = _Proof(workshop, BundleReader(file), scripts).run()
    except SqlError as error:
        raise explain(error, f"Proving rollback scripts beside {login}", "") from error
    verdict.seconds = round(time.monotonic() - began, 3)
    return verdict


def no_script(version: int, name: str, folder: str) -> Unproven:
    """What to say about a migration without a script."""
    return Unproven(
        version,
        name,
        NO_SCRIPT,
        f"There is no {folder}/{name}. Write it; if nothing can undo this migration, say so in the first lines of "
        "the migration: -- rollback: none, and the reason.",
    )


class _Failed(Exception):
    """A step that did not do what it should."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.text = text


class _Proof:
    """The migrations of a bundle on their way through scratch databases."""

    def __init__(self, workshop: Workshop, bundle: BundleReader, scripts: Mapping[int, Script]) -> None:
        self._workshop = workshop
        self._bundle = bundle
        self._scripts = scripts
        self._ups: list[tuple[Task, int]] = []
        self._downs: dict[int, tuple[Task, int]] = {}
        for task, place in bundle.tasks():
            if task.rollback:
                self._downs[task.entry.version] = task, place
            else:
                self._ups.append((task, place))
        self._verdict = Verdict()

    def run(self) -> Verdict:
        """Prove one script after the other, while there is time; after one that is wrong, in a new database."""
        begin = 0
        try:
            while any(task.entry.version in self._downs for task, _ in self._ups[begin:]):
                with self._workshop.database() as database:
                    begin = self._go_on(database, begin)
        except OutOfTime as error:
            self._verdict.unproven += [_unproven(task, OUT_OF_TIME, error.message) for task in self._left()]
        return self._verdict

    def _left(self) -> list[Task]:
        """The migrations whose scripts have not had their turn, or not to the end."""
        judged = {one.version for one in self._verdict.proven} | {one.version for one in self._verdict.unproven}
        return [task for task, _ in self._ups if task.entry.version in self._downs.keys() - judged]

    def _go_on(self, database: Scratch, begin: int) -> int:
        """Go on until something is wrong or all is done; returns the number of migrations that are dealt with."""
        before: Snapshot | None = None
        for number, (task, place) in enumerate(self._ups):
            try:
                if number < begin or task.entry.version not in self._downs:
                    self._apply(database, task, place)
                    before = None
                else:
                    before = self._prove(database, task, place, before)
            except _Failed as failed:
                return self._not_proven(max(number, begin), failed)
        return len(self._ups)

    def _not_proven(self, number: int, failed: _Failed) -> int:
        """Note what is wrong with a migration: with the following ones as well, if it cannot even be applied."""
        task, _ = self._ups[number]
        if failed.reason != NOT_APPLIED:
            self._verdict.unproven.append(_unproven(task, failed.reason, failed.text))
            return number + 1
        for later, _ in self._ups[number:]:
            if later.entry.version in self._downs:
                self._verdict.unproven.append(_unproven(later, NOT_APPLIED, failed.text))
        return len(self._ups)

    def _apply(self, database: Scratch, task: Task, place: int) -> None:
        said = f"{task.entry.name} cannot be applied to what the files before it make of an empty database. "
        self._step(database, task, place, NOT_APPLIED, said)

    def _prove(self, database: Scratch, up: Task, place: int, before: Snapshot | None) -> Snapshot:
        """Up, down, up; returns what the database is then."""
        began = time.monotonic()
        script, name = self._scripts[up.entry.version], up.entry.name
        before = before or database.snapshot()
        self._apply(database, up, place)
        there = database.snapshot()
        self._step(database, *self._downs[up.entry.version], SCRIPT_FAILED, f"{script.path} fails. ")
        _require(not_undone(script.path, name, before, _back(database, before)), NOT_UNDONE)
        self._step(database, up, place, NOT_AGAIN, f"After {script.path}, {name} cannot be applied again. ")
        _require(_other(script.path, name, there, database.snapshot()), NOT_THE_SAME)
        seconds = round(time.monotonic() - began, 3)
        self._verdict.proven.append(Proven(up.entry.version, name, up.entry.checksum, script.checksum, seconds))
        return there

    def _step(self, database: Scratch, task: Task, place: int, reason: str, said: str) -> None:
        try:
            database.run(self._bundle, task, place)
        except Refused as error:
            raise _Failed(reason, said + error.message) from error


def _require(text: str, reason: str) -> None:
    if text:
        raise _Failed(reason, text)


def _unproven(task: Task, reason: str, text: str) -> Unproven:
    return Unproven(task.entry.version, task.entry.name, reason, text)


def _back(database: Scratch, before: Snapshot) -> Snapshot:
    """What there is after a rollback. The schema that holds the ledger may stay, although a migration made it."""
    after, kept = database.snapshot(), database.ledger_schema()
    objects = {name: found for name, found in after.objects.items() if name != kept or name in before.objects}
    return Snapshot(objects)


def not_undone(script: str, migration: str, before: Snapshot, after: Snapshot) -> str:
    """What a script has not undone, object by object; empty when the database is what it was before the migration.

    Another order of columns does not count: a column that comes back comes last.
    """
    differences = [one for one in compare(before, after) if not one.note]
    wrongs = [f"{wrong}: {_names(differences, kind)}" for kind, wrong in _WRONGS.items() if _names(differences, kind)]
    if not wrongs:
        return ""
    return f"{script} {'; '.join(wrongs)}.\n" + comparison.readable(
        differences, f"before {migration}", "after the rollback"
    ).rstrip("\n")


def _other(script: str, migration: str, first: Snapshot, second: Snapshot) -> str:
    differences = [one for one in compare(first, second) if not one.note]
    if not differences:
        return ""
    text = comparison.readable(differences, "the first time", "the second time").rstrip("\n")
    return f"After {script}, {migration} makes something else than the first time.\n{text}"


def _names(differences: Sequence[Difference], kind: str) -> str:
    return ", ".join(one.object for one in differences if one.kind == kind)
