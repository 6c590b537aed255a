# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run record says about one database of a host: the known fields of modules' results, copied one by one.

Nothing else of a result gets in, and every text goes through ``Clean`` first, which masks secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

GREEN, RED = "green", "red"

_DONE = ("applied", "rolled_back", "adopted", "baselined", "repaired")

Clean = Callable[[str], str]


@dataclass
class Blocker:
    """A session that held a lock a migration waited for."""

    pid: int | None = None
    user: str | None = None
    application: str | None = None
    state: str | None = None
    age_seconds: float | None = None

    @classmethod
    def from_result(cls, source: Mapping[str, Any], clean: Clean) -> Blocker:
        """Copy the known fields of one blocker in a module's result."""
        return cls(
            pid=_integer(source.get("pid")),
            user=_text(source.get("user"), clean),
            application=_text(source.get("application"), clean),
            state=_text(source.get("state"), clean),
            age_seconds=_number(source.get("age_seconds")),
        )


@dataclass
class LockWait:
    """One time a migration gave up waiting for a lock, and who held it."""

    waited_ms: float | None = None
    blockers: list[Blocker] = field(default_factory=list)

    @classmethod
    def from_result(cls, source: Mapping[str, Any], clean: Clean) -> LockWait:
        """Copy the known fields of one lock wait in a module's result."""
        return cls(
            waited_ms=_number(source.get("waited_ms")),
            blockers=[Blocker.from_result(blocker, clean) for blocker in _mappings(source.get("blockers"))],
        )


@dataclass
class Migration:
    """One migration file and what happened to it."""

    version: int | str | None = None
    name: str | None = None
    description: str | None = None
    checksum: str | None = None
    milliseconds: float | None = None
    statements: int | None = None
    lock_waits: list[LockWait] | None = None
    retries: int | None = None
    transaction: bool | None = None

    @classmethod
    def from_result(cls, source: object, clean: Clean) -> Migration:
        """Copy the known fields of a migration, which a result gives as a mapping, a version or a file name."""
        if isinstance(source, str):
            return cls(name=clean(source))
        if not isinstance(source, Mapping):
            return cls(version=_integer(source))
        waits = [LockWait.from_result(wait, clean) for wait in _mappings(source.get("lock_waits"))]
        version = source.get("version")
        return cls(
            version=_text(version, clean) if isinstance(version, str) else _integer(version),
            name=_text(source.get("name"), clean),
            description=_text(source.get("description"), clean),
            checksum=_text(source.get("checksum"), clean),
            milliseconds=_number(source.get("milliseconds")),
            statements=_integer(source.get("statements")),
            lock_waits=waits if "lock_waits" in source else None,
            retries=_integer(source.get("retries")),
            transaction=_boolean(source.get("transaction")),
        )

    def known(self) -> dict[str, Any]:
        """Return the fields that say something; a pending file has little more than its name."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass
class HostError:
    """Why a host failed."""

    message: str
    task: str | None = None
    code: str | None = None
    file: str | None = None
    line: int | None = None

    @classmethod
    def from_result(cls, task: str, result: Mapping[str, Any], clean: Clean) -> HostError:
        """Describe the failure that a task's result reports."""
        message = str(result.get("msg") or result.get("censored") or "The task failed without a message.")
        return cls(
            message=clean(message),
            task=clean(task),
            code=_text(result.get("code"), clean),
            file=_text(result.get("file"), clean),
            line=_integer(result.get("line")),
        )


@dataclass
class Replay:
    """How a standby took what its primary changed."""

    seconds: float | None = None
    lag_bytes: int | None = None
    paused: bool | None = None
    receiving: bool | None = None

    @classmethod
    def from_result(cls, source: Mapping[str, Any]) -> Replay:
        """Copy the known fields of a result of ``standby_replay``."""
        return cls(
            seconds=_number(source.get("seconds")),
            lag_bytes=_integer(source.get("lag_bytes")),
            paused=_boolean(source.get("paused")),
            receiving=_boolean(source.get("receiving")),
        )


@dataclass
class Backup:
    """The backup set that a run has taken or relies on."""

    set: str | None = None
    state: str | None = None
    schema_version: int | None = None
    taken_at: str | None = None
    age_seconds: int | None = None
    bytes: int | None = None
    rows: int | None = None
    encrypted: bool | None = None
    offsite: str | None = None
    removed: list[str] = field(default_factory=list)

    @classmethod
    def from_result(cls, source: Mapping[str, Any], clean: Clean) -> Backup:
        """Copy the known fields of a result of ``database_backup``."""
        return cls(
            set=_text(source.get("set"), clean),
            state=_text(source.get("state"), clean),
            schema_version=_integer(source.get("schema_version")),
            taken_at=_text(source.get("taken_at"), clean),
            age_seconds=_integer(source.get("age_seconds")),
            bytes=_integer(source.get("bytes")),
            rows=_integer(source.get("rows")),
            encrypted=_boolean(source.get("encrypted")),
            offsite=_text(source.get("offsite"), clean),
            removed=_texts(source.get("removed"), clean),
        )


@dataclass
class Restore:
    """What became of a restore; each step adds what it knows."""

    set: str | None = None
    phase: str | None = None
    side: str | None = None
    kept: str | None = None
    downtime_ms: int | None = None
    sessions_ended: int | None = None
    seconds: float = 0
    dropped: list[str] = field(default_factory=list)

    def take(self, source: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``database_restore``."""
        for name in ("set", "phase", "side", "kept"):
            setattr(self, name, _text(source.get(name), clean) or getattr(self, name))
        for name in ("downtime_ms", "sessions_ended"):
            found = _integer(source.get(name))
            setattr(self, name, getattr(self, name) if found is None else found)
        self.seconds = round(self.seconds + (_number(source.get("seconds")) or 0), 3)
        self.dropped += _texts(source.get("dropped"), clean)


@dataclass
class Drill:
    """The proof of a backup set."""

    set: str | None = None
    recovery_seconds: float | None = None
    loss_seconds: int | None = None
    tables: int | None = None
    rows: int | None = None

    @classmethod
    def from_result(cls, source: Mapping[str, Any], clean: Clean) -> Drill:
        """Copy the known fields of a result of ``database_drill``."""
        evidence = source.get("evidence")
        evidence = evidence if isinstance(evidence, Mapping) else {}
        return cls(
            set=_text(source.get("set"), clean),
            recovery_seconds=_number(source.get("recovery_seconds")),
            loss_seconds=_integer(source.get("loss_seconds")),
            tables=_integer(evidence.get("tables")),
            rows=_integer(evidence.get("rows")),
        )


@dataclass
class Validation:
    """What checks have said about a database, and what the database was then."""

    outcome: str | None = None
    seconds: float | None = None
    checks: list[dict[str, Any]] = field(default_factory=list)
    drift: dict[str, Any] | None = None
    identity: str | None = None
    versions: list[dict[str, Any]] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)

    def take_checks(self, source: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``database_check``."""
        checks = _mappings(source.get("checks"))
        grave = [one for one in checks if one.get("severity") == "error" and one.get("status") in ("failed", "errored")]
        # Whatever the run was told to put up with: what is wrong is no proof, nor are some groups only, nor none.
        complete = bool(checks) and not source.get("only")
        self.outcome = RED if source.get("red") or grave else GREEN if complete else None
        self.seconds = _number(source.get("seconds"))
        self.checks = [
            {
                **{name: _text(check.get(name), clean) for name in ("name", "kind", "severity", "status", "message")},
                "seconds": _number(check.get("seconds")),
            }
            for check in checks
        ]

    def take_state(self, source: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``schema_info`` that has looked at the tables."""
        ledger = source.get("ledger")
        rows = ledger.get("rows") if isinstance(ledger, Mapping) else ()
        tables, how = source.get("tables"), source.get("how") or {}
        # What is compared later is kept as it is: names of files and tables are no secrets, even if one is like them.
        self.identity = _text(source.get("identity"), str)
        self.versions = [
            {
                "version": _integer(version),
                "name": _text(name, str),
                "checksum": _text(checksum, str),
                "how": _text(how.get(str(version)), clean),
            }
            for version, _, _, name, checksum in rows or ()
        ]
        sizes = tables.items() if isinstance(tables, Mapping) else ()
        known = {name: size.get("rows") != 0 for name, size in sizes if isinstance(size, Mapping)}
        # One that was filled when the run began counts: what was applied meanwhile has seen its rows.
        self.filled = sorted({name for name, has_rows in known.items() if has_rows} | {*self.filled} & {*known})
        self.empty = sorted(set(known) - set(self.filled))


@dataclass
class Gate:
    """Whether migrations were let through, on which proof."""

    decision: str | None = None
    environment: str | None = None
    proof: str | None = None
    reason: str | None = None
    excused: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class HostEntry:
    """What the run did to one database of an inventory host."""

    database: str | None = None
    schema: str | None = None
    server_version: int | str | None = None
    previous_version: int | str | None = None
    version: int | str | None = None
    changed: bool = False
    message: str | None = None
    applied: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: list[dict[str, Any]] = field(default_factory=list)
    adopted: list[dict[str, Any]] = field(default_factory=list)
    baselined: list[dict[str, Any]] = field(default_factory=list)
    repaired: list[dict[str, Any]] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    replay: Replay | None = None
    backup: Backup | None = None
    restore: Restore | None = None
    drill: Drill | None = None
    lint: dict[str, Any] | None = None
    gate: Gate | None = None
    validation: Validation | None = None
    rollbacks: dict[str, Any] | None = None
    error: HostError | None = None

    def take_replay(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``standby_replay``; one that did not answer says nothing but why."""
        if "lag_bytes" in result:
            self.replay = Replay.from_result(result)
        self.message = _text(result.get("msg"), clean) or self.message

    def take_backup(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``database_backup``; what failed has no set."""
        self._take_common(result, clean)
        if "set" in result:
            self.backup = Backup.from_result(result, clean)

    def take_restore(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of one step of ``database_restore``."""
        self._take_common(result, clean)
        self.changed = self.changed or result.get("changed") is True
        self.restore = self.restore or Restore()
        self.restore.take(result, clean)

    def take_drill(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``database_drill``; what failed has proven nothing."""
        self._take_common(result, clean)
        if "evidence" in result:
            self.drill = Drill.from_result(result, clean)

    def take_lint(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``schema_lint``."""
        if "findings" not in result:
            return
        names = ("file", "rule", "severity", "message")
        self.lint = {
            "findings": [
                {**{name: _text(one.get(name), clean) for name in names}, "line": _integer(one.get("line"))}
                for one in _mappings(result.get("findings"))
            ],
            "suppressed": _integer(result.get("suppressed")),
        }

    def take_gate(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``promotion_gate``; what failed was refused."""
        self._take_common(result, clean)
        self.gate = Gate(
            decision=_text(result.get("decision"), clean),
            environment=_text(result.get("environment"), clean),
            proof=_text(result.get("proof"), clean),
            reason=_text(result.get("reason"), clean),
            excused=_texts(result.get("excused"), clean),
            problems=_texts(result.get("problems"), clean),
        )

    def take_checks(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``database_check``."""
        self._take_common(result, clean)
        self.validation = self.validation or Validation()
        self.validation.take_checks(result, clean)

    def take_state(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``schema_info``, when it has looked at the tables."""
        if "tables" in result:
            self.validation = self.validation or Validation()
            self.validation.take_state(result, clean)

    def take_drift(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``schema_drift``."""
        if "drifted" in result:
            objects = [_text(one.get("object"), clean) for one in _mappings(result.get("differences"))]
            self.validation = self.validation or Validation()
            self.validation.drift = {"drifted": _boolean(result["drifted"]), "objects": objects}

    def take_proof(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``rollback_proof``."""
        self._take_common(result, clean)
        self.rollbacks = {
            kind: [
                {
                    "version": _integer(one.get("version")),
                    **{name: _text(one.get(name), clean) for name in ("name", "reason") if name in one},
                }
                for one in _mappings(result.get(kind))
            ]
            for kind in ("proven", "unproven", "irreversible")
        }

    def _take_common(self, result: Mapping[str, Any], clean: Clean) -> None:
        self.database = _text(result.get("database"), clean) or self.database
        self.message = _text(result.get("msg"), clean) or self.message

    def take_plan(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge what ``schema_migration`` has planned before it is done: nothing of it has happened yet."""
        self.take({**result, **dict.fromkeys(_DONE), "version": result.get("previous_version")}, clean)

    def take(self, result: Mapping[str, Any], clean: Clean) -> None:
        """Merge a result of ``schema_migration``: what was done adds up, the newest description of the state wins."""
        for name in ("database", "schema", "server_version"):
            setattr(self, name, _version(result.get(name), clean, getattr(self, name)))
        # Several results for one host: the run began at the first one's previous version and ended at the last one's.
        if self.previous_version is None and self.version is None:
            self.previous_version = _version(result.get("previous_version"), clean)
        if "version" in result:  # none at all is a version, too
            self.version = _version(result["version"], clean)
        self.changed = self.changed or result.get("changed") is True
        self.message = _text(result.get("msg"), clean) or self.message
        for name in _DONE:
            getattr(self, name).extend(_migrations(result.get(name), clean))
        if "pending" in result:
            self.pending = _migrations(result["pending"], clean)


def _migrations(source: object, clean: Clean) -> list[dict[str, Any]]:
    return [Migration.from_result(item, clean).known() for item in source] if isinstance(source, list) else []


def _mappings(source: object) -> list[Mapping[str, Any]]:
    return [item for item in source if isinstance(item, Mapping)] if isinstance(source, list) else []


def _version(value: object, clean: Clean, default: int | str | None = None) -> int | str | None:
    found = _text(value, clean) if isinstance(value, str) else _integer(value)
    return default if found is None else found


def _text(value: object, clean: Clean) -> str | None:
    return clean(value) if isinstance(value, str) else None


def _texts(value: object, clean: Clean) -> list[str]:
    return [clean(one) for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
