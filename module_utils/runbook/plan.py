# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: files × ledger → what to do. A pure function; nothing is read and nothing is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import Progress, Row, State
from ansible.module_utils.runbook.migration import Folder, Migration


@dataclass(frozen=True)
class Wanted:
    """What the operator asked for.

    Attributes:
        version: the version to end at; None is the newest there is a file for.
        baseline: mark everything up to ``version`` as applied, run nothing.
        repair: accept the files as they are now: re-align names and checksums of applied versions.
    """

    version: int | None = None
    baseline: bool = False
    repair: bool = False
    allow_apply: bool = True
    allow_rollback: bool = False
    allow_missing: bool = False
    allow_out_of_order: bool = False


@dataclass(frozen=True)
class Plan:
    """What one run is going to do, in this order; every list may be empty.

    Attributes:
        previous_version: highest version in the ledger now, None for an empty one.
        version: highest version when the plan is done.
    """

    previous_version: int | None
    version: int | None
    repair: tuple[Migration, ...] = ()
    adopt: tuple[Migration, ...] = ()
    baseline: tuple[Migration, ...] = ()
    apply: tuple[Migration, ...] = ()
    roll_back: tuple[Migration, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.repair or self.adopt or self.baseline or self.apply or self.roll_back)

    @property
    def summary(self) -> str:
        """One sentence for the operator, before or after the fact."""
        parts = [
            f"{len(migrations)} {word}"
            for word, migrations in (
                ("repaired", self.repair),
                ("adopted", self.adopt),
                ("baselined", self.baseline),
                ("to apply", self.apply),
                ("to roll back", self.roll_back),
            )
            if migrations
        ]
        return ", ".join(parts) or "nothing to do"


def make_plan(folder: Folder, state: State, wanted: Wanted) -> Plan:
    """Compare the files with the ledger.

    Raises:
        RunbookError: ``missing``, ``edited``, ``renamed``, ``interrupted``, ``unknown-version``,
            ``out-of-order``, ``rollback-not-allowed``, ``apply-not-allowed``.
    """
    state = _without_begun(state)
    _refuse_missing(folder, state, wanted)
    _refuse_changed(folder, state, wanted)
    adopt = tuple(folder.migrations[row.version] for row in _matched(folder, state) if row.checksum is None)
    repair = tuple(folder.migrations[row.version] for row in _matched(folder, state) if _differs(folder, row))
    current = _highest(state.version, _rollback_under_way(state))
    target = _target(folder, state, wanted)
    if wanted.baseline:
        baseline = tuple(_pending(folder, state, target))
        version = _highest(current, *(migration.version for migration in baseline))
        return Plan(current, version, repair=repair, adopt=adopt, baseline=baseline)
    if current is not None and target is not None and target < current:
        roll_back = tuple(_to_roll_back(folder, state, target, wanted))
        kept = [row.version for row in state.rows if row.version <= target]
        return Plan(current, max(kept, default=None), repair=repair, adopt=adopt, roll_back=roll_back)
    _refuse_interrupted_rollback(state.progress)
    apply = tuple(_to_apply(folder, state, target, wanted))
    version = _highest(current, *(migration.version for migration in apply))
    return Plan(current, version, repair=repair, adopt=adopt, apply=apply)


def _without_begun(state: State) -> State:
    """A file that records itself half way and was interrupted is not applied yet."""
    if state.progress is None or state.progress.rollback:
        return state
    return replace(state, rows=tuple(row for row in state.rows if row.version != state.progress.version))


def _matched(folder: Folder, state: State) -> list[Row]:
    return [row for row in state.rows if row.version in folder.migrations]


def _differs(folder: Folder, row: Row) -> bool:
    """Whether an applied file has another content or name than the ledger says."""
    migration = folder.migrations[row.version]
    return row.checksum is not None and (row.checksum != migration.checksum or row.name != migration.name)


def _refuse_missing(folder: Folder, state: State, wanted: Wanted) -> None:
    missing = [row for row in state.rows if row.version not in folder.migrations]
    if missing and not wanted.allow_missing:
        raise RunbookError(
            f"The database has {_count(len(missing), 'version')} that {folder.path} has no file for: "
            f"{_names(row.name or str(row.version) for row in missing)}. "
            "This checkout is probably older than the database: update it. "
            "If the files were removed on purpose, say -e '{\"migrate_allow_missing\": true}'.",
            code="missing",
            versions=[row.version for row in missing],
        )


def _refuse_changed(folder: Folder, state: State, wanted: Wanted) -> None:
    if wanted.repair:
        return
    changed = [row for row in _matched(folder, state) if _differs(folder, row)]
    edited = [row for row in changed if row.checksum != folder.migrations[row.version].checksum]
    if edited:
        raise RunbookError(
            f"{_count(len(edited), 'file')} changed after being applied: "
            f"{_names(folder.migrations[row.version].name for row in edited)}. "
            "An applied migration is history: restore the file (git checkout) and put the change into a new one. "
            "If database and file are known to agree, accept the file with -e '{\"migrate_repair\": true}'.",
            code="edited",
            versions=[row.version for row in edited],
        )
    if changed:
        renamed = _names(f"{row.name} is now {folder.migrations[row.version].name}" for row in changed)
        raise RunbookError(
            f"{_count(len(changed), 'applied file')} renamed: {renamed}. "
            "Give the old name back, or accept the new one with -e '{\"migrate_repair\": true}'.",
            code="renamed",
            versions=[row.version for row in changed],
        )


def _target(folder: Folder, state: State, wanted: Wanted) -> int | None:
    if wanted.version is None:
        return _highest(folder.latest, state.version)
    known = set(folder.migrations) | {row.version for row in state.rows}
    undo_everything = bool(known) and wanted.version < min(known) and (bool(state.rows) or wanted.allow_rollback)
    if wanted.version not in known and not undo_everything:
        newest = f"the newest is {max(known)}" if known else f"{folder.path} is empty"
        raise RunbookError(
            f"There is no migration with the number {wanted.version} in {folder.path}; {newest}. "
            "Name a version that exists, or latest.",
            code="unknown-version",
        )
    return wanted.version


def _pending(folder: Folder, state: State, target: int | None) -> list[Migration]:
    applied = {row.version for row in state.rows}
    return [
        folder.migrations[version]
        for version in sorted(folder.migrations)
        if version not in applied and target is not None and version <= target
    ]


def _to_apply(folder: Folder, state: State, target: int | None, wanted: Wanted) -> list[Migration]:
    pending = _pending(folder, state, target)
    if pending and not wanted.allow_apply:
        raise RunbookError(
            f"The database is at version {_shown(state.version)}; rolling back to {target} would have to go up. "
            "Name a lower version. To go up, run migrate.yml.",
            code="apply-not-allowed",
        )
    _refuse_out_of_order(pending, state, wanted)
    return _interrupted_first(pending, state.progress)


def _refuse_out_of_order(pending: Sequence[Migration], state: State, wanted: Wanted) -> None:
    current = state.version
    late = [migration for migration in pending if current is not None and migration.version < current]
    interrupted = state.progress.version if state.progress else None
    late = [migration for migration in late if migration.version != interrupted]
    if late and not wanted.allow_out_of_order:
        raise RunbookError(
            f"{_names(migration.name for migration in late)} came after version {current} was applied. "
            "Give it the next free number, so that every database runs the files in the same order. "
            "If the order does not matter here, say -e '{\"migrate_allow_out_of_order\": true}'. "
            "If the database has them already, record that with baseline.yml.",
            code="out-of-order",
            versions=[migration.version for migration in late],
        )


def _interrupted_first(pending: list[Migration], progress: Progress | None) -> list[Migration]:
    """A file that was begun is finished before anything else."""
    if progress is None:
        return pending
    begun = [migration for migration in pending if migration.version == progress.version]
    if not begun:
        raise RunbookError(
            f"{progress.name} was interrupted after statement {progress.done} and is not among the files to apply. "
            "Bring the file back (its next run goes on where it stopped), or name a version that includes it. "
            "If what it did has been undone by hand, forget it: "
            "DELETE FROM schema_version_progress in the ledger's schema.",
            code="interrupted",
            version=progress.version,
        )
    return begun + [migration for migration in pending if migration.version != progress.version]


def _refuse_interrupted_rollback(progress: Progress | None) -> None:
    if progress is not None and progress.rollback:
        raise RunbookError(
            f"The rollback of {progress.name} was interrupted after statement {progress.done}. "
            f"Finish it first: ansible-playbook rollback.yml -e rollback_version=N with N below {progress.version}.",
            code="interrupted",
            version=progress.version,
        )


def _to_roll_back(folder: Folder, state: State, target: int, wanted: Wanted) -> list[Migration]:
    if not wanted.allow_rollback:
        raise RunbookError(
            f"The database is at version {state.version}, above the wanted {target}. Going down changes or drops data, "
            f"so it is an operation of its own: ansible-playbook rollback.yml -e rollback_version={target} "
            "-e rollback_confirm=<database>.",
            code="rollback-not-allowed",
        )
    if state.progress is not None and not state.progress.rollback:
        raise RunbookError(
            f"{state.progress.name} was interrupted after statement {state.progress.done}. "
            "Finish it with migrate.yml before rolling anything back.",
            code="interrupted",
            version=state.progress.version,
        )
    names = {row.version: (row.name or "", row.checksum or "") for row in state.rows}
    begun = _rollback_under_way(state)
    if begun is not None and state.progress is not None:
        names.setdefault(begun, (state.progress.name, ""))
    return [
        folder.migrations.get(version) or Migration(version, *names[version])
        for version in sorted(names, reverse=True)
        if version > target
    ]


def _rollback_under_way(state: State) -> int | None:
    """The version whose rollback was interrupted; its script may have removed the ledger's row already."""
    return state.progress.version if state.progress is not None and state.progress.rollback else None


def _highest(*versions: int | None) -> int | None:
    return max((version for version in versions if version is not None), default=None)


def _shown(version: int | None) -> str:
    return "none" if version is None else str(version)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _names(names: object) -> str:
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    shown = ", ".join(listed[:10])
    return shown if len(listed) <= 10 else f"{shown} and {len(listed) - 10} more"
