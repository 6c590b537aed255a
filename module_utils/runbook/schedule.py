# SPDX-License-Identifier: GPL-3.0-or-later
"""Having backups and drills run by themselves, on the machine that ansible-playbook is run on.

Where systemd runs, an operation is a timer and a service; elsewhere it is a line for cron. Both are plain files, made
anew from the wish each time, so that two wishes that are equal change nothing. There is no secret in them.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import Any, Optional
from zoneinfo import ZoneInfo

from ansible.module_utils.runbook.calendar_time import CalendarTime
from ansible.module_utils.runbook.errors import RunbookError

PRESENT, ABSENT = "present", "absent"
OPERATIONS = ("backup", "drill")

SCHEDULE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "default": PRESENT, "choices": [PRESENT, ABSENT]},
    "environment": {"type": "str", "required": True},
    "backup_at": {"type": "str", "default": ""},
    "drill_at": {"type": "str", "default": ""},
    "time_zone": {"type": "str", "default": "UTC"},
    "spread": {"type": "str", "default": "5min"},
    "limit": {"type": "str", "default": "all"},
    "inventories": {"type": "list", "elements": "str", "default": []},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "variables": {"type": "dict", "default": {}},
    "account": {"type": "str", "default": "root"},
    "project": {"type": "path", "required": True},
    "python": {"type": "path", "required": True},
}

# How many times ahead the longest pause between two runs is looked for: more than a week of daily ones.
_AHEAD = 10
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
_PAUSE = re.compile(r"^# Longest pause: (\d+) s$", re.MULTILINE)
_AT = re.compile(r"^# (backup|drill) at (.+) \((\S+)\)$", re.MULTILINE)
_SYSTEMD_TIME = "%a %Y-%m-%d %H:%M:%S UTC"
_WRITTEN = "# Written by schedule.yml of the Schema Runbook, which replaces and removes it."


@dataclass(frozen=True)
class Machine:
    """Where schedules are kept.

    Parameters:
        systemd: the directory that exists while systemd runs (sd_booted(3)).
        units: where the administrator's units are.
        crontabs: where cron looks for files of lines with an account.
        programs: cron under its several names.
    """

    systemd: Path = Path("/run/systemd/system")
    units: Path = Path("/etc/systemd/system")
    crontabs: Path = Path("/etc/cron.d")
    programs: tuple[Path, ...] = (Path("/usr/sbin/cron"), Path("/usr/sbin/crond"))

    @property
    def has_systemd(self) -> bool:
        """Whether systemd runs here."""
        return self.systemd.is_dir()


@dataclass(frozen=True)
class Schedule:
    """What is to run by itself for one environment.

    Parameters:
        at: when each operation runs, by its name, as calendar expressions of systemd.
        time_zone: the zone those are in.
        spread: how much later a run may begin, so that several do not begin at once; systemd only.
        limit: what ansible-playbook is limited to.
        inventories: inventories, where they are not the project's own.
        arguments: further arguments of ansible-playbook.
        variables: environment variables; empty ones are left out.
        account: the account that runs it.
        project: the project's folder.
        python: the interpreter with ansible-core.
    """

    environment: str
    at: Mapping[str, str]
    time_zone: str
    spread: str
    limit: str
    inventories: Sequence[str]
    arguments: Sequence[str]
    variables: Mapping[str, str]
    account: str
    project: str
    python: str

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Schedule:
        """Read the options of ``SCHEDULE_ARGUMENTS``.

        Raises:
            RunbookError: ``option`` when one of them would not be what it looks like in a file of lines.
        """
        at = {operation: params[f"{operation}_at"].strip() for operation in OPERATIONS}
        wanted = {operation: text for operation, text in at.items() if text and params["state"] == PRESENT}
        variables = {str(name): str(value) for name, value in params["variables"].items()}
        names = (
            "environment",
            "time_zone",
            "spread",
            "limit",
            "inventories",
            "arguments",
            "account",
            "project",
            "python",
        )
        made = cls(at=wanted, variables=variables, **{name: params[name] for name in names})
        _refuse_lines(made)
        return made

    def command(self, operation: str) -> list[str]:
        """The command line of an operation."""
        playbook = str(Path(self.project) / f"{operation}.yml")
        inventories = [f"--inventory={inventory}" for inventory in self.inventories]
        return [
            self.python,
            "-m",
            "ansible",
            "playbook",
            playbook,
            f"--limit={self.limit}",
            *inventories,
            *self.arguments,
        ]

    def environment_variables(self) -> dict[str, str]:
        """What the command finds in its environment. Ansible insists on UTF-8."""
        given = {name: value for name, value in self.variables.items() if value}
        return {"ANSIBLE_CONFIG": str(Path(self.project) / "ansible.cfg"), "LANG": "C.UTF-8", **given}


@dataclass(frozen=True)
class Times:
    """When an operation runs next, and the longest time between two runs, in seconds."""

    upcoming: datetime
    pause: int


def unit(environment: str, operation: str) -> str:
    """The name of an operation's units, and of the crontab, without an ending."""
    return f"schema-runbook-{environment}-{operation}"


def set_up(schedule: Schedule, machine: Machine, check_mode: bool) -> dict[str, Any]:
    """Have the machine's files be those of the schedule, and its timers at work.

    Parameters:
        schedule: with no operation in ``at``, everything of the environment is removed.
        check_mode: only say what would be done.

    Returns:
        the result of the module ``runbook_schedule``.

    Raises:
        RunbookError: ``calendar`` for a time that is none, ``schedule`` when the machine cannot do it.
    """
    times = {operation: _times(schedule, at, machine) for operation, at in schedule.at.items()}
    wanted = _files(schedule, times, machine)
    before = {path: _content(path) for path in wanted}
    different = [path for path, text in wanted.items() if text != before[path]]
    idle = [timer for timer in _timers(schedule, machine) if not _at_work(timer)]
    if not check_mode:
        _stop(different, wanted)
        for path in different:
            _write(path, wanted[path])
        if machine.has_systemd and different:
            _systemctl("daemon-reload")
        for timer in idle:
            _systemctl("enable", "--now", timer)
    return {
        "changed": bool(different or idle),
        "diff": [_diff(path, before[path], wanted[path]) for path in different],
        "files": sorted(str(path) for path, text in wanted.items() if text is not None),
        "next": {operation: _rfc3339(found.upcoming) for operation, found in times.items()},
        "msg": _sentence(schedule, times, machine),
    }


def look(environment: str, machine: Machine) -> list[dict[str, Any]]:
    """What is scheduled for an environment on this machine; only looked at.

    Returns:
        for each operation: ``operation``, ``next`` and ``last`` (RFC 3339; None when not known), ``result``
        (``succeeded``, ``failed``, ``running``; empty when not known), ``pause`` (the longest time between two runs, in
        seconds), ``unit``, ``log`` (where to read about a failure), and ``active`` (whether it will run at all).
    """
    if machine.has_systemd:
        found = [_seen_timer(environment, operation, machine) for operation in OPERATIONS]
        return [one for one in found if one is not None]
    return _seen_lines(environment, machine)


# --- times -----------------------------------------------------------------------------------------------------------


def _times(schedule: Schedule, at: str, machine: Machine) -> Times:
    upcoming = (
        _times_of_systemd(at, schedule.time_zone) if machine.has_systemd else _times_of_cron(at, schedule, machine)
    )
    if len(upcoming) < 2:
        raise _no_calendar(at, "it never comes again")
    pause = max(later - earlier for earlier, later in zip(upcoming, upcoming[1:]))
    return Times(upcoming[0], round(pause.total_seconds()))


def _times_of_systemd(at: str, zone: str) -> list[datetime]:
    command = ["systemd-analyze", "calendar", f"--iterations={_AHEAD}", "--", f"{at} {zone}"]
    done = _run(command)
    if done.returncode:
        raise _no_calendar(at, f"systemd says: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    lines = [line.partition(":") for line in done.stdout.splitlines()]
    texts = [text.strip() for name, _, text in lines if name.strip() == "Next elapse" or "Iter" in name]
    return [moment for moment in map(_from_systemd, texts) if moment is not None]


def _times_of_cron(at: str, schedule: Schedule, machine: Machine) -> list[datetime]:
    known = CalendarTime.parse(at)
    if known is None:
        raise _no_calendar(
            at, "there is no systemd on this machine, and cron knows days of the week, hours and minutes: Sun 04:15"
        )
    try:
        zone = ZoneInfo(schedule.time_zone)
    except (OSError, ValueError, KeyError) as error:
        raise _no_calendar(at, f'there is no time zone "{schedule.time_zone}" on this machine') from error
    now = datetime.now(zone)
    if _is_another_zone(now) and not any(b"CRON_TZ" in _bytes(program) for program in machine.programs):
        raise RunbookError(
            f'schedule_time_zone is "{schedule.time_zone}", and cron on this machine knows no other zone than the '
            "machine's own, which is not that one. Name the machine's own zone, or install cronie or systemd.",
            code="calendar",
        )
    return list(islice(known.after(now), _AHEAD))


def _is_another_zone(now: datetime) -> bool:
    """Whether clocks here show something else, now or half a year later."""
    moments = (now, now + timedelta(days=182))
    return any(moment.utcoffset() != moment.astimezone().utcoffset() for moment in moments)


def _no_calendar(at: str, reason: str) -> RunbookError:
    return RunbookError(
        f'"{at}" is no time to run at: {reason}. Write schedule_backup_at and schedule_drill_at as systemd does, '
        'without a zone: "02:15", "Mon..Fri 08..18/2:15", "Sun *-*-* 04:15:00". Nothing was changed.',
        code="calendar",
    )


# --- files -----------------------------------------------------------------------------------------------------------


def _files(schedule: Schedule, times: Mapping[str, Times], machine: Machine) -> dict[Path, Optional[str]]:
    """Every file there can be for the environment, with what has to be in it; None for one that has to go."""
    crontab = machine.crontabs / f"schema-runbook-{schedule.environment}"
    files: dict[Path, Optional[str]] = {crontab: None}
    for operation in OPERATIONS:
        name = unit(schedule.environment, operation)
        is_timer = machine.has_systemd and operation in schedule.at
        files[machine.units / f"{name}.service"] = _service(schedule, operation) if is_timer else None
        files[machine.units / f"{name}.timer"] = _timer(schedule, operation, times[operation]) if is_timer else None
    if schedule.at and not machine.has_systemd:
        if not machine.crontabs.is_dir():
            raise RunbookError(
                f"This machine has neither systemd at work nor a cron with {machine.crontabs}: install the package "
                "cron, or have something else run backup.yml and drill.yml.",
                code="schedule",
            )
        files[crontab] = _crontab(schedule, times)
    return files


def _service(schedule: Schedule, operation: str) -> str:
    """The unit that runs an operation. It is stopped as with Ctrl-C, which lets a run clear up."""
    variables = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in _sorted(schedule))
    return (
        f"{_WRITTEN}\n"
        "[Unit]\n"
        f"Description=Schema Runbook: {operation} of {schedule.environment}\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"User={schedule.account}\n"
        f"WorkingDirectory={schedule.project.replace('%', '%%')}\n"
        f"{variables}"
        f"ExecStart={' '.join(_quoted(word).replace('$', '$$') for word in schedule.command(operation))}\n"
        f"SyslogIdentifier={unit(schedule.environment, operation)}\n"
        "KillSignal=SIGINT\n"
    )


def _timer(schedule: Schedule, operation: str, times: Times) -> str:
    """The unit that says when. Persistent: what was missed while the machine was off is made up for."""
    return (
        f"{_WRITTEN}\n"
        f"# Longest pause: {times.pause} s\n"
        "[Unit]\n"
        f"Description=Schema Runbook: when to run the {operation} of {schedule.environment}\n"
        "\n"
        "[Timer]\n"
        f"OnCalendar={schedule.at[operation]} {schedule.time_zone}\n"
        f"RandomizedDelaySec={schedule.spread}\n"
        "AccuracySec=1s\n"
        "Persistent=true\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def _crontab(schedule: Schedule, times: Mapping[str, Times]) -> str:
    """Lines for cron. It sends by mail what comes on standard error, which is what went wrong and nothing else."""
    lines = [_WRITTEN, "SHELL=/bin/sh", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    lines += [f"CRON_TZ={schedule.time_zone}"]
    for operation, at in schedule.at.items():
        known = CalendarTime.parse(at)
        if known is None:
            raise AssertionError("its times were computed from it")
        variables = [f"{name}={value}" for name, value in _sorted(schedule)]
        words = ["env", *variables, "ANSIBLE_DISPLAY_FAILED_STDERR=1", *schedule.command(operation)]
        command = f"cd {shlex.quote(schedule.project)} && {shlex.join(words)} >/dev/null"
        lines += [f"# {operation} at {at} ({schedule.time_zone})", f"# Longest pause: {times[operation].pause} s"]
        lines += [f"{known.cron()} {schedule.account} " + command.replace("%", "\\%")]
    return "\n".join(lines) + "\n"


def _sorted(schedule: Schedule) -> list[tuple[str, str]]:
    return sorted(schedule.environment_variables().items())


def _quoted(word: str) -> str:
    """A word in a unit file (systemd.service(5), "COMMAND LINES"; systemd.unit(5), "SPECIFIERS")."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _refuse_lines(schedule: Schedule) -> None:
    """A line feed would begin a line of its own in a unit, or in a crontab."""
    single = [schedule.environment, schedule.time_zone, schedule.spread, schedule.limit, schedule.account]
    texts = [*single, schedule.project, schedule.python, *schedule.at.values(), *schedule.inventories]
    texts += [*schedule.arguments, *schedule.variables, *schedule.variables.values()]
    for text in texts:
        if any(ord(character) < 32 for character in text):
            raise RunbookError(f"{text!r} has a line feed in it, which no schedule can have.", code="option")
    if _ZONE.fullmatch(schedule.time_zone) is None:
        raise RunbookError(
            f'schedule_time_zone is "{schedule.time_zone}". Name a zone such as UTC or Europe/Berlin.', code="option"
        )


def _content(path: Path) -> Optional[str]:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _write(path: Path, text: Optional[str]) -> None:
    """Whole or not at all; cron passes over names with a dot, so it never sees half a file."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.chmod(0o644)
    partial.replace(path)


def _diff(path: Path, before: Optional[str], after: Optional[str]) -> dict[str, str]:
    return {"before_header": str(path), "after_header": str(path), "before": before or "", "after": after or ""}


# --- systemd ---------------------------------------------------------------------------------------------------------


def _timers(schedule: Schedule, machine: Machine) -> list[str]:
    if not machine.has_systemd:
        return []
    return [f"{unit(schedule.environment, operation)}.timer" for operation in schedule.at]


def _at_work(timer: str) -> bool:
    """Whether a timer will go off, now and after the next start of the machine."""
    return all(_run(["systemctl", "--quiet", verb, timer]).returncode == 0 for verb in ("is-enabled", "is-active"))


def _stop(different: Sequence[Path], wanted: Mapping[Path, Optional[str]]) -> None:
    """Have systemd forget about units whose file is about to go; a run that is under way ends as it will."""
    for path in different:
        if wanted[path] is None and path.suffix == ".timer":
            _systemctl("disable", "--now", path.name)
            # When it last ran, and that it failed. Either may be nothing to clean, or unknown to an old systemd.
            _run(["systemctl", "clean", "--what=state", path.name])
            _run(["systemctl", "reset-failed", path.with_suffix(".service").name])


def _systemctl(*arguments: str) -> None:
    done = _run(["systemctl", *arguments])
    if done.returncode:
        raise RunbookError(
            f"systemctl {shlex.join(arguments)} failed: {done.stderr.strip() or 'it did not say why'}.", code="schedule"
        )


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What systemd's programs say is read: in English, with times in UTC."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC", "SYSTEMD_COLORS": "0"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def _from_systemd(text: str) -> Optional[datetime]:
    try:
        return datetime.strptime(text, _SYSTEMD_TIME).replace(tzinfo=timezone.utc)
    except ValueError:
        return None


# --- looking ---------------------------------------------------------------------------------------------------------


def _seen_timer(environment: str, operation: str, machine: Machine) -> Optional[dict[str, Any]]:
    name = unit(environment, operation)
    text = _content(machine.units / f"{name}.timer")
    if text is None:
        return None
    timer = _shown(f"{name}.timer", "ActiveState", "NextElapseUSecRealtime", "LastTriggerUSec")
    service = _shown(f"{name}.service", "ActiveState", "Result", "ExecMainExitTimestamp")
    return {
        "operation": operation,
        "next": _rfc3339(_from_systemd(timer.get("NextElapseUSecRealtime", ""))),
        "last": _rfc3339(_from_systemd(timer.get("LastTriggerUSec", ""))),
        "result": _result(service),
        "pause": _pause(text),
        "unit": name,
        "log": f"journalctl --unit {name}",
        "active": timer.get("ActiveState") == "active",
    }


def _result(service: Mapping[str, str]) -> str:
    """How the last run ended; after a start of the machine systemd does not know any more."""
    if service.get("ActiveState") == "activating":
        return "running"
    if not service.get("ExecMainExitTimestamp"):
        return ""
    return "succeeded" if service.get("Result") == "success" else "failed"


def _shown(name: str, *properties: str) -> dict[str, str]:
    done = _run(["systemctl", "show", f"--property={','.join(properties)}", "--", name])
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {key: value for key, _, value in pairs}


def _seen_lines(environment: str, machine: Machine) -> list[dict[str, Any]]:
    path = machine.crontabs / f"schema-runbook-{environment}"
    text = _content(path) or ""
    return [_seen_line(match, text[match.end() :], path) for match in _AT.finditer(text)]


def _seen_line(match: re.Match[str], rest: str, path: Path) -> dict[str, Any]:
    """cron keeps no account of what it has run."""
    known = CalendarTime.parse(match[2])
    upcoming = next(known.after(datetime.now(ZoneInfo(match[3])))) if known else None
    return {
        "operation": match[1],
        "next": _rfc3339(upcoming),
        "last": None,
        "result": "",
        "pause": _pause(rest),
        "unit": str(path),
        "log": f"cron's mail to the account in {path}",
        "active": True,
    }


def _pause(text: str) -> int:
    match = _PAUSE.search(text)
    return int(match[1]) if match else 0


def _rfc3339(moment: Optional[datetime]) -> Any:
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}" if moment else None


# --- results ---------------------------------------------------------------------------------------------------------


def _sentence(schedule: Schedule, times: Mapping[str, Times], machine: Machine) -> str:
    if not schedule.at:
        return f"{schedule.environment}: nothing runs by itself on this machine."
    means = "timer of systemd" if machine.has_systemd else "line for cron"
    listed = "; ".join(
        f"{operation} at {schedule.at[operation]} {schedule.time_zone}, next {_rfc3339(found.upcoming)}"
        for operation, found in times.items()
    )
    return f"{schedule.environment}: each a {means}, run as {schedule.account}: {listed}."
