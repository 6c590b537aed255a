# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of the server's log: errors since a moment, from a container's log, the systemd journal, or a file.

Each of them knows time in its own way. Docker and systemd are asked in UTC. A file has the time zone ``log_timezone``,
of which each line shows the abbreviation: that is what tells the two hours apart that a clock set back goes through.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from ansible.module_utils.runbook.check import Check, Finding, counted, shown
from ansible.module_utils.runbook.connection import account
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import Session, SqlError

AUTO, CONTAINER, JOURNAL, FILE, NONE = "auto", "container", "journal", "file", "none"
SOURCES = (AUTO, CONTAINER, JOURNAL, FILE, NONE)

# The word in front of a message is its severity, and the first of them in a line is the server's own: what is quoted
# further on comes from clients. csvlog and jsonlog have the word without the colon.
_SEVERITY = re.compile(
    r"\b(?P<text>DEBUG[1-5]?|INFO|NOTICE|WARNING|LOG|ERROR|FATAL|PANIC|STATEMENT|DETAIL|HINT|CONTEXT|QUERY|LOCATION):  "
    r"|,(?P<csv>DEBUG[1-5]?|INFO|NOTICE|WARNING|LOG|ERROR|FATAL|PANIC),[0-9A-Z]{5},"
    r'|"error_severity":"(?P<json>\w+)"'
)
_ERRORS = ("ERROR", "FATAL", "PANIC")

# What the server puts before further lines of a message, so that nobody can make up a line of the log by an SQL text.
_GOES_ON = "\t"

# What the runbook brings about itself, and a server that has just been started: nobody has to look into these.
_EXPECTED = re.compile(
    r"schema-runbook (?:check|trial)|canceling statement due to lock timeout"
    r"|the database system is (?:starting up|shutting down)"
)

_TIME = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))? ([A-Z]{3,5}|[+-]\d{2}(?::?\d\d)?)\b")
_TIME_WITHIN = 120  # log_line_prefix has it near the beginning of a line, in characters
_BLOCK = 1024 * 1024
_MOST = 64 * _BLOCK
_LINE_SHOWN = 300
_LINES_SHOWN = 5

# Debian names its servers version/cluster and their logs alike (postgresql-common, pg_ctlcluster).
_DEBIAN = re.compile(r"(\d+)/(\S+)")
_DEBIAN_LOG = "/var/log/postgresql/postgresql-{}-{}.log"


@dataclass(frozen=True)
class Place:
    """Where the log is, as far as the caller knows.

    Parameters:
        source: one of ``SOURCES``; ``auto`` asks the server.
        container: name of its container.
        docker_host: address of the engine that runs it.
        unit: name of its systemd unit.
        file: its log file.
    """

    source: str = AUTO
    container: str = ""
    docker_host: str = ""
    unit: str = ""
    file: str = ""


@dataclass(frozen=True)
class Log:
    """What is needed to read it.

    Parameters:
        place: where it is; never ``auto``.
        zone: time zone of a file.
        language: ``lc_messages`` of the server; empty when it is not known.
    """

    place: Place
    zone: tzinfo = timezone.utc
    language: str = ""


@dataclass
class Lines:
    """Lines of a log since a moment.

    Parameters:
        lines: without their ends.
        gap: what is missing at the beginning, as a sentence; empty when nothing is.
    """

    lines: Sequence[str] = field(default_factory=list)
    gap: str = ""


class Unknown(Exception):
    """There is no log to read, and that is nobody's fault: a sentence that says why."""


def find(session: Session, place: Place) -> Log:
    """Where the log of a server is, asked from the server where the caller does not know it.

    Parameters:
        session: one in a read-only transaction.
        place: what is known.

    Raises:
        Unknown: it is nowhere that this could read.
    """
    if place.source == NONE:
        raise Unknown(
            "Whoever runs the server has its log. Set validate_log_source, and its file, unit or container, to look "
            "at it."
        )
    settings = dict(
        session.query(
            "SELECT name::text, setting::text FROM pg_catalog.pg_settings "
            "WHERE name IN ('log_timezone', 'lc_messages', 'cluster_name', 'data_directory', 'log_line_prefix')"
        )
    )
    chosen = place if place.source != AUTO else _asked(session, place, settings)
    return Log(chosen, _zone(session, settings.get("log_timezone") or "UTC"), settings.get("lc_messages") or "")


def _asked(session: Session, place: Place, settings: Mapping[str, str]) -> Place:
    file = place.file or next((path for path in _files(session, settings) if Path(path).is_file()), "")
    if file:
        return Place(FILE, file=file)
    if place.unit:
        return Place(JOURNAL, unit=place.unit)
    raise Unknown("The server does not say where its log is. Set validate_log_file or validate_log_unit to look at it.")


def _files(session: Session, settings: Mapping[str, str]) -> Iterator[str]:
    """Where the log file of a server may be: what the server says, Debian's place, and that of an embedded server."""
    data = settings.get("data_directory") or ""  # shown to members of pg_read_all_settings only
    for form in ("stderr", "csvlog", "jsonlog"):
        current = os.path.join(data, _current(session, form))
        if os.path.isabs(current):
            yield current
    debian = _DEBIAN.fullmatch(settings.get("cluster_name") or "")
    if debian:
        yield _DEBIAN_LOG.format(*debian.groups())
    if data:
        yield str(Path(data).parent / "log")


def _current(session: Session, form: str) -> str:
    session.query("SAVEPOINT logfile")
    try:
        return str(session.query("SELECT pg_catalog.pg_current_logfile(%s)", form)[0][0] or "")
    except SqlError as error:  # it is for members of pg_monitor, on older servers for superusers
        if error.lost:
            raise
        session.query("ROLLBACK TO logfile")
        return ""


def _zone(session: Session, name: str) -> tzinfo:
    """The time zone of a log file; where this host does not know it by name, what it is for the server right now."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        ((seconds,),) = session.query(
            "SELECT pg_catalog.date_part('epoch', (pg_catalog.now() AT TIME ZONE %s) - "
            "(pg_catalog.now() AT TIME ZONE 'UTC'))::integer",
            name,
        )
        return timezone(timedelta(seconds=seconds))


def check(log: Log, asked: Check, since: datetime, seconds: float) -> Finding:
    """Look for errors since a moment.

    Parameters:
        log: what ``find`` has found.
        asked: of the kind ``log``.
        since: with a time zone.
        seconds: time limit for a program that has to be asked.

    Raises:
        RunbookError: ``log`` when the log cannot be read.
        subprocess.TimeoutExpired: the program did not answer.
    """
    options = asked.options
    if not options["pattern"] and not _speaks_english(log.language):
        raise RunbookError(
            f"The server writes its log in {shown(log.language)}, in which errors are called otherwise. Say how in "
            "the option pattern of the check, or set lc_messages = 'C'.",
            code="log",
        )
    lines = _read(log, since, seconds)
    found = [
        line for line in lines.lines if _is_error(line, options["pattern"]) and not _expected(line, options["except"])
    ]
    moment = f"{since.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}Z"
    where = " ".join(filter(None, (_where(log.place), lines.gap)))
    data = {"count": len(found), "lines": [shown(line, _LINE_SHOWN) for line in found[:_LINES_SHOWN]], "since": moment}
    if len(found) > options["at_most"]:
        said = "; ".join(data["lines"]) if isinstance(data["lines"], list) else ""
        return Finding(False, f"{counted(len(found), 'line')} since {moment} in {where}: {said}", data)
    return Finding(True, f"{counted(len(found), 'error')} since {moment} in {where}.", data)


def _speaks_english(language: str) -> bool:
    return language.split(".")[0] in ("", "C", "POSIX") or language.lower().startswith("en")


def _is_error(line: str, pattern: str | None) -> bool:
    if pattern:
        return re.search(pattern, line) is not None
    if line.startswith(_GOES_ON):
        return False
    first = _SEVERITY.search(line)
    return first is not None and (first["text"] or first["csv"] or first["json"]) in _ERRORS


def _expected(line: str, exceptions: Sequence[str]) -> bool:
    return _EXPECTED.search(line) is not None or any(re.search(one, line) for one in exceptions)


def _where(place: Place) -> str:
    return {
        CONTAINER: f"the log of container {place.container}",
        JOURNAL: f"the journal of {place.unit}",
        FILE: place.file,
    }[place.source]


def _read(log: Log, since: datetime, seconds: float) -> Lines:
    place = log.place
    if place.source == FILE:
        return read_file(Path(place.file), since, log.zone)
    epoch = f"{since.timestamp():.6f}"
    if place.source == CONTAINER:
        # Both programs know seconds since 1970, which have no time zone.
        command = ["docker", "logs", "--since", epoch, "--", place.container]
        environment = {**os.environ, **({"DOCKER_HOST": place.docker_host} if place.docker_host else {})}
        return Lines(_lines_of(command, environment, seconds))
    return Lines(_journal(place.unit, f"--since=@{epoch}", seconds))


def _journal(unit: str, since: str, seconds: float) -> list[str]:
    """The journal of a unit. One without any line is that of another unit, or may not be read, and nobody says so."""
    command = ["journalctl", f"--unit={unit}", "--output=cat", "--no-pager", "--quiet"]
    lines = _lines_of([*command, since], dict(os.environ), seconds)
    if not lines and not _lines_of([*command, "--lines=1"], dict(os.environ), seconds):
        raise RunbookError(
            f"The journal has nothing of {unit}, or account {account()} may not read it. Name the unit as systemctl "
            "lists it, such as postgresql@17-main, and let the account into group systemd-journal.",
            code="log",
        )
    return lines


def _lines_of(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> list[str]:
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=seconds, check=False,
        )  # fmt: skip
    except OSError as error:
        raise RunbookError(f"{command[0]} cannot be run: {error.strerror}.", code="log") from error
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        said = shown(" ".join(text.split()[-60:]), _LINE_SHOWN).rstrip(".")
        raise RunbookError(
            f"{command[0]} as account {account()} ended with {done.returncode}: {said}. The account may lack the "
            "right to read this log: membership in group docker, or in systemd-journal.",
            code="log",
        )
    return text.splitlines()


def read_file(path: Path, since: datetime, zone: tzinfo) -> Lines:
    """The lines of a log file since a moment, read from its end: it may be large, and only what is new counts.

    Parameters:
        path: of the file.
        since: with a time zone.
        zone: in which the file has its times.

    Raises:
        RunbookError: ``log`` when it cannot be read, or has no times.
    """
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            size = _BLOCK
            while True:
                start = max(end - size, 0)
                file.seek(start)
                text = file.read(end - start).decode("utf-8", "replace")
                lines = text.splitlines()[1 if start else 0 :]
                times = [_moment(line, zone) for line in lines]
                oldest = next((moment for moment in times if moment), None)
                if start == 0 or size >= _MOST or (oldest and oldest < since):
                    break
                size *= 4
    except OSError as error:
        raise RunbookError(
            f"The log {path} cannot be read by account {account()}: {error.strerror}. Let it, by membership in the "
            "group of the file (adm with Debian's packages), or name another place in validate_log_source.",
            code="log",
        ) from error
    if lines and oldest is None:
        raise RunbookError(
            f"The lines of {path} have no time, so that nobody can tell which are new. Put %m into log_line_prefix.",
            code="log",
        )
    first = next((number for number, moment in enumerate(times) if moment and moment >= since), len(lines))
    return Lines(lines[first:], _gap(oldest, since, start))


def _gap(oldest: datetime | None, since: datetime, start: int) -> str:
    if oldest is None or oldest <= since:
        return ""
    if start:
        return f"(its last {_MOST // 1024 // 1024} MB, which begin later)"
    return f"(which begins at {oldest.astimezone(timezone.utc):%H:%M:%S}Z; what was before may be in a rotated file)"


def _moment(line: str, zone: tzinfo) -> datetime | None:
    """When a line was written; None for one that goes on with the message before."""
    match = _TIME.search(line, 0, _TIME_WITHIN)
    if match is None:
        return None
    wall = datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(microsecond=int((match[2] or "0").ljust(6, "0")))
    if match[3] in ("UTC", "GMT"):
        return wall.replace(tzinfo=timezone.utc)
    either = [wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1)]
    return next((moment for moment in either if _shows(moment, match[3])), either[0])


def _shows(moment: datetime, abbreviation: str) -> bool:
    return moment.tzname() == abbreviation
