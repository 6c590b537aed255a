# SPDX-License-Identifier: GPL-3.0-or-later
"""What operators see of a plan: options read, results predicted, diffs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.ledger import State
from ansible.module_utils.runbook.migration import Migration, Prepared
from ansible.module_utils.runbook.plan import Plan, Wanted
from ansible.module_utils.runbook.statement import redact_passwords

# A diff is for reading; of a file of data its beginning is enough. In characters.
_SHOWN_SQL = 20_000

_PLAIN = re.compile(r"[\w.+@/:-]+")


def wanted(params: Mapping[str, Any]) -> Wanted:
    """What the options of ``arguments.MIGRATION_ARGUMENTS`` ask for.

    Raises:
        RunbookError: ``option`` when the version is no number, or a baseline names none.
    """
    text = str(params["version"]).strip()
    baseline = params["state"] == "baseline"
    if text == "latest":
        version = None
    elif text.removeprefix("-").isdecimal():
        version = int(text)
    else:
        raise RunbookError(f'The version to go to is "{text}". Write a number such as 4, or latest.', code="option")
    if baseline and version is None:
        raise RunbookError(
            "A baseline needs the version the database really is at: name a number. "
            "Everything up to it is taken as applied without being run.",
            code="option",
        )
    return Wanted(
        version=version,
        baseline=baseline,
        repair=params["repair"],
        allow_apply=params["allow_apply"],
        allow_rollback=params["allow_rollback"],
        allow_missing=params["allow_missing"],
        allow_out_of_order=params["allow_out_of_order"],
    )


def refuse_unconfirmed(params: Mapping[str, Any]) -> None:
    """Compare the confirmation, where one is asked for, with the database that it has to name.

    Raises:
        RunbookError: ``confirmation`` when it names another one.
    """
    confirmation, database = params["confirmation"], params["login_db"]
    if confirmation not in (None, database):
        said = f'the confirmation names "{confirmation}"' if confirmation else "nothing confirms it"
        raise RunbookError(
            f"This changes what is in database {database}, and {said}. Nothing was done. "
            f"If you mean it, add -e rollback_confirm={database} to the command.",
            code="confirmation",
        )


def refuse_unguarded(skip_tags: Sequence[str], start_at_task: str | None) -> None:
    """Refuse a run whose guard was left out: what it has not judged may be another environment's database.

    Parameters:
        skip_tags: ``--skip-tags`` of the command line.
        start_at_task: its ``--start-at-task``. No run of this project is taken up in its middle: each finds out itself
            what is left to do.

    Raises:
        RunbookError: ``option``.
    """
    left_out = f"--skip-tags {','.join(skip_tags)}" if not {"always", "tagged"}.isdisjoint(skip_tags) else ""
    left_out = f"--start-at-task {start_at_task}" if start_at_task else left_out
    if left_out:
        raise RunbookError(
            f"The guard may have been left out by {left_out}, so nobody has judged this run. Nothing was done. Leave "
            "that out: each run finds out itself what is left to do.",
            code="option",
        )


def refuse_unplanned(plan: Plan, expected: Mapping[str, str] | None) -> None:
    """Refuse to run anything that was not in the plan which has been judged before.

    Raises:
        RunbookError: ``changed-since-plan``.
    """
    if expected is None:
        return
    others = [one.name for one in (*plan.apply, *plan.roll_back) if expected.get(str(one.version)) != one.checksum]
    if others:
        raise RunbookError(
            f"This run was planned without {', '.join(others)} as it is now: files or ledger have changed since. "
            "Nobody has judged that, and nothing of it was run. Run this again.",
            code="changed-since-plan",
        )


def not_validated(applied: Sequence[Mapping[str, Any]], host: str) -> str:
    """What to add to a failure when files before the failed one are there to stay."""
    names = ", ".join(one["name"] for one in applied)
    return f" Applied before that, and not validated yet: {names}. Run ansible-playbook validate.yml -l {host}."


def predicted(plan: Plan) -> dict[str, Any]:
    """The result of a plan that has not been carried out: what check mode returns."""
    return {
        "previous_version": plan.previous_version,
        "version": plan.version,
        "pending": [migration.name for migration in plan.apply],
        "pending_versions": [migration.version for migration in plan.apply],
        "checksums": {str(migration.version): migration.checksum for migration in (*plan.apply, *plan.roll_back)},
        "applied": [],
        "rolled_back": [],
        "adopted": [_shown(migration) for migration in plan.adopt],
        "baselined": [_shown(migration) for migration in plan.baseline],
        "repaired": [_shown(migration) for migration in plan.repair],
        "to_roll_back": [migration.name for migration in plan.roll_back],
        "has_changes": bool(plan.changes),
        "msg": f"Version {_number(plan.previous_version)}: {plan.summary}.",
    }


def left(plan: Plan, answer: Mapping[str, Any]) -> dict[str, Any]:
    """What of the plan a run that was carried out, or stopped half way, has not done."""
    finished = {file["version"] for name in ("applied", "rolled_back") for file in answer.get(name, ())}
    return {
        "pending": [migration.name for migration in plan.apply if migration.version not in finished],
        "pending_versions": [migration.version for migration in plan.apply if migration.version not in finished],
        "to_roll_back": [migration.name for migration in plan.roll_back if migration.version not in finished],
    }


def done(answer: Mapping[str, Any]) -> str:
    """One sentence about a run that was carried out."""
    parts = [
        f"{len(answer[name])} {word}"
        for name, word in (
            ("repaired", "repaired"),
            ("adopted", "adopted"),
            ("baselined", "baselined"),
            ("applied", "applied"),
            ("rolled_back", "rolled back"),
        )
        if answer[name]
    ]
    if not answer["applied"] and not answer["rolled_back"]:
        parts.append("0 versions changed")
    return f"Version {_number(answer['version'])}: {', '.join(parts)}."


def way_back(
    backup_set: str, database: str, *, host: str, one_of_several: bool = False, inventories: Sequence[str] = ()
) -> str:
    """What to add to a failure: the command that restores the backup set behind the run, on a line of its own.

    Parameters:
        host: inventory host that the database is on.
        one_of_several: whether the host has further databases, so that the command has to say which one is meant.
        inventories: those named on the command line of this run; none for the project's own.
    """
    command = ["ansible-playbook", "restore.yml"]
    for inventory in inventories:
        command += ["-i", inventory]
    command += ["-l", host, "-e", _extra("restore_backup", backup_set), "-e", _extra("restore_confirm", database)]
    if one_of_several:
        command += ["-e", _extra("db_name", database)]
    name = backup_set.rstrip("/").rpartition("/")[2]
    return (
        f"\nTo have the database again as it was when set {name} was taken, without what was written since:\n"
        f"{shlex.join(command)}"
    )


def migrated(result: Mapping[str, Any], outstanding: bool, host: str) -> str:
    """What a run did to a database, or that an earlier one has left it without a green validation.

    Parameters:
        result: of ``schema_migration``.
        outstanding: whether it still has to be validated, as run records know.
        host: the inventory host the database is on.
    """
    said = f"{result['database']}: {result['msg']}"
    if result.get("changed") or not outstanding:
        return said
    return f"{said} The checks have not been green at this version. Run: ansible-playbook validate.yml -l {host}"


def broken(validation: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The checks that a migration has broken: red now and not before, as results of ``database_check`` say.

    One that could not be carried out says nothing about the database, unless it passed before and misses now what it
    asks for, such as a column. An error in the log may be anybody's.
    """
    known = {check["name"]: check["status"] for check in before.get("checks") or ()}
    return [
        check["name"]
        for check in validation.get("checks") or ()
        if check["red"]
        and check["group"] != "logs"
        and (
            (check["status"] == "failed" and known.get(check["name"]) != "failed")
            or (known.get(check["name"]) == "passed" and _misses_something(check))
        )
    ]


def _misses_something(check: Mapping[str, Any]) -> bool:
    """Whether the server refused a check for what it names: SQLSTATE class 42, a name or a right that is not there."""
    return check["status"] == "errored" and str((check.get("found") or {}).get("sqlstate") or "").startswith("42")


def red(
    validations: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]],
    proofs: Mapping[str, Mapping[str, Any]],
    rollbacks: Mapping[str, Mapping[str, Any]],
    ways_back: Mapping[str, str],
) -> str:
    """What became of databases whose validation was red, a paragraph for each.

    Parameters:
        validations: results of ``database_check`` that were red, by database.
        before: the same from before the run, by database.
        proofs: result of ``rollback_proof`` by database; none where a rollback is not wanted.
        rollbacks: result of ``schema_migration`` by database, for those that were rolled back.
        ways_back: what ``way_back`` says, by database, where a backup set is behind the run.
    """
    paragraphs = []
    for database, validation in validations.items():
        undone, known = rollbacks.get(database, {}), _red_before(validation, before.get(database, {}))
        if undone.get("rolled_back") and "code" not in undone:
            said, restore = _rolled_back(undone), ""
        elif not broken(validation, before.get(database, {})):
            said = "No check shows that the migration is to blame for that, so what was applied stays."
            # What was red before, no restore of that state mends.
            restore = ways_back.get(database, "") if known != _reds(validation) or not known else ""
        else:
            said, restore = _stopped(proofs.get(database), undone), ways_back.get(database, "")
        already = f"Red before the run already: {'; '.join(known)}. " if known else ""
        paragraphs.append(f"{validation['summary']} {already}{said}{restore}")
    return "\n".join(paragraphs)


def _reds(validation: Mapping[str, Any]) -> list[str]:
    return [check["name"] for check in validation.get("checks") or () if check["red"]]


def _red_before(validation: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """The checks that are red and were red before the run."""
    known = _reds(before)
    return [name for name in _reds(validation) if name in known]


def _rolled_back(result: Mapping[str, Any]) -> str:
    names = ", ".join(str(one["name"]) for one in result["rolled_back"])
    return (
        f"Rolled back: {names}. A scratch database had proven the scripts before; the version is "
        f"{_number(result['version'])} again."
    )


def _stopped(proof: Mapping[str, Any] | None, undone: Mapping[str, Any]) -> str:
    if undone:
        return f"Rolling it back failed: {undone.get('msg', '')}"
    if proof is None:
        return "What was applied stays, for somebody to look at."
    if proof.get("irreversible"):
        return f"It was not rolled back, since not every file has a way back. {proof.get('msg', '')}"
    return f"It was not rolled back, since a scratch database does not prove that. {proof.get('msg', '')}"


def _extra(name: str, value: str) -> str:
    """A variable for ``-e``, which takes a value with white space or quotes as JSON only."""
    return f"{name}={value}" if _PLAIN.fullmatch(value) else json.dumps({name: value}, ensure_ascii=False)


def diff(database: str, state: State, plan: Plan, files: Sequence[Prepared]) -> list[dict[str, Any]]:
    """The ledger of a database before and after, then the SQL of each file that is to run."""
    before = {row.version: row.name or row.description or "" for row in state.rows}
    gone = {migration.version for migration in plan.roll_back}
    after = {version: name for version, name in before.items() if version not in gone}
    after.update({m.version: m.name for m in (*plan.repair, *plan.adopt, *plan.baseline, *plan.apply)})
    return [
        {
            "before_header": f"ledger of {database} now",
            "after_header": f"ledger of {database} after the run",
            "before": _ledger_text(before),
            "after": _ledger_text(after),
        },
        *({"prepared": _sql_text(file)} for file in files),
    ]


def _shown(migration: Migration) -> dict[str, Any]:
    return {**asdict(migration), "description": migration.description}


def _ledger_text(rows: Mapping[int, str]) -> str:
    return "".join(f"{version} {rows[version]}\n" for version in sorted(rows))


def _sql_text(file: Prepared) -> str:
    how = "in one transaction" if file.transactional else f"statement by statement, because of {file.outside}"
    sql = redact_passwords(file.script.sources[0][1].decode("utf-8-sig"))
    if len(sql) > _SHOWN_SQL:
        sql = f"{sql[:_SHOWN_SQL]}\n-- … and {len(sql) - _SHOWN_SQL} more characters\n"
    return f"-- {file.migration.name}, {how}\n{sql}"


def _number(version: object) -> str:
    return "none" if version is None else str(version)
