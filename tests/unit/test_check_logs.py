# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors in a log: since a moment, in whatever time zone, from a file, a container or the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from ansible.module_utils.runbook import check_logs
from ansible.module_utils.runbook.check import Finding
from ansible.module_utils.runbook.check_file import handed_over
from ansible.module_utils.runbook.check_logs import CONTAINER, FILE, JOURNAL, Log, Place
from ansible.module_utils.runbook.errors import RunbookError

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

LOG = """\
2026-11-22 11:59:59.999 UTC [7] ERROR:  before
2026-11-22 12:00:00.000 UTC [7] LOG:  checkpoint starting: time
2026-11-22 12:00:01.000 UTC [7] ERROR:  relation "nowhere" does not exist at character 15
2026-11-22 12:00:01.000 UTC [7] STATEMENT:  SELECT 'ERROR:  not one'
\t  FROM nowhere -- FATAL:  nor this
2026-11-22 12:00:02.000 UTC [8] FATAL:  password authentication failed for user "x"
2026-11-22 12:00:03.000 UTC [9] LOG:  duration: 1 ms  statement: SELECT 'PANIC:  quoted'
2026-11-22 12:00:04.000 UTC [9] WARNING:  there is no transaction in progress
"""


def look(log: Log, since: datetime = NOON, seconds: float = 5, **options: Any) -> Finding:
    """Make a check of a log."""
    (check,) = handed_over([{"name": "it", "log": options}])
    return check_logs.check(log, check, since, seconds)


def file(folder: Path, text: str, zone: tzinfo = UTC, language: str = "") -> Log:
    """A log file."""
    (folder / "log").write_text(text)
    return Log(Place(FILE, file=str(folder / "log")), zone, language)


def found(finding: Finding) -> list[str]:
    """The lines that were found, without what stands before the message."""
    return [line.partition(":  ")[2] for line in finding.found["lines"]]


def test_errors_count_from_the_moment_on_and_only_the_servers_own(tmp_path: Path) -> None:
    finding = look(file(tmp_path, LOG))
    assert not finding.passed and found(finding) == [
        'relation "nowhere" does not exist at character 15',
        'password authentication failed for user "x"',
    ]
    assert finding.message.startswith(f"2 lines since 2026-11-22 12:00:00Z in {tmp_path / 'log'}: 2026-11-22 12:00:01")
    later = look(file(tmp_path, LOG), NOON + timedelta(seconds=2.5))
    assert later.passed and later.message == f"0 errors since 2026-11-22 12:00:02Z in {tmp_path / 'log'}."


def test_pattern_exceptions_and_number(tmp_path: Path) -> None:
    log = file(tmp_path, LOG)
    assert found(look(log, **{"except": "nowhere"})) == ['password authentication failed for user "x"']
    assert look(log, **{"except": ["nowhere", "password .* failed"]}).passed
    assert look(log, at_most=2).passed and not look(log, at_most=1).passed
    assert found(look(log, pattern="WARNING")) == ["there is no transaction in progress"]


def test_what_the_runbook_brings_about_itself_is_no_error(tmp_path: Path) -> None:
    text = (
        "2026-11-22 12:00:01 UTC [7] schema-runbook check ERROR:  canceling statement due to statement timeout\n"
        "2026-11-22 12:00:02 UTC [7] ERROR:  canceling statement due to lock timeout\n"
        "2026-11-22 12:00:03 UTC [7] FATAL:  the database system is starting up\n"
    )
    assert look(file(tmp_path, text)).passed


@pytest.mark.parametrize(
    "line",
    [
        '2026-11-22 12:00:01.123 UTC,"cm","cm",7,"[local]",1.1,1,"SELECT",x,3/4,0,ERROR,42P01,"relation ""a""",,,\n',
        '{"timestamp":"2026-11-22 12:00:01.123 UTC","user":"cm","error_severity":"ERROR","message":"no ERROR:  b"}\n',
    ],
    ids=["csvlog", "jsonlog"],
)
def test_other_formats_are_read(tmp_path: Path, line: str) -> None:
    assert look(file(tmp_path, line + line.replace("ERROR", "LOG"))).found["count"] == 1


BERLIN = ZoneInfo("Europe/Berlin")


def test_a_file_has_a_time_zone_of_its_own(tmp_path: Path) -> None:
    text = "2026-11-22 12:59:00 CET [1] ERROR:  before\n2026-11-22 13:00:01 CET [1] ERROR:  after\n"
    assert found(look(file(tmp_path, text, BERLIN))) == ["after"]


def test_the_hour_that_a_clock_goes_through_twice_is_told_apart(tmp_path: Path) -> None:
    text = (
        "2026-10-25 02:50:00 CEST [1] ERROR:  in summer time\n"
        "2026-10-25 02:10:00 CET [1] ERROR:  twenty minutes later\n"
    )
    between = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
    assert found(look(file(tmp_path, text, BERLIN), between)) == ["twenty minutes later"]
    assert len(found(look(file(tmp_path, text, BERLIN), between - timedelta(minutes=11)))) == 2


def test_a_zone_without_a_name_and_a_server_abroad(tmp_path: Path) -> None:
    text = "2026-11-22 08:59:00 -03 [1] ERROR:  before\n2026-11-22 09:00:01 -03 [1] ERROR:  after\n"
    assert found(look(file(tmp_path, text, timezone(timedelta(hours=-3))))) == ["after"]
    assert found(look(file(tmp_path, text, ZoneInfo("America/Sao_Paulo")))) == ["after"]


def test_a_large_file_is_read_from_its_end(tmp_path: Path) -> None:
    old = "2026-11-22 11:00:00 UTC [1] ERROR:  old, and of some length to fill the file with\n" * 60_000
    assert found(look(file(tmp_path, old + LOG))) == found(look(file(tmp_path, LOG)))
    new = "2026-11-22 12:30:00 UTC [1] LOG:  new, and of some length to fill the file with\n" * 60_000
    assert look(file(tmp_path, LOG + new)).found["count"] == 2


def test_a_file_that_begins_later_says_so(tmp_path: Path) -> None:
    finding = look(file(tmp_path, "2026-11-22 12:05:00 UTC [1] LOG:  rotated\n"))
    assert finding.passed and "(which begins at 12:05:00Z; what was before may be in a rotated file)" in finding.message
    assert look(file(tmp_path, "")).passed


@pytest.mark.parametrize(
    ("text", "language", "said"),
    [
        (
            "[1] ERROR:  when?\n",
            "C",
            "have no time, so that nobody can tell which are new. Put %m into log_line_prefix.",
        ),
        (LOG, "de_DE.UTF-8", "writes its log in de_DE.UTF-8, in which errors are called otherwise"),
    ],
)
def test_a_log_that_would_hide_errors_is_refused(tmp_path: Path, text: str, language: str, said: str) -> None:
    with pytest.raises(RunbookError, match=said.replace(".", r"\.")):
        look(file(tmp_path, text, language=language))
    german = file(tmp_path, "2026-11-22 12:00:01 UTC [1] FEHLER:  Relation\n", language="de_DE.UTF-8")
    assert look(german, pattern="FEHLER|FATAL|PANIK").found["count"] == 1


def test_a_file_that_cannot_be_read_is_no_clean_log(tmp_path: Path) -> None:
    with pytest.raises(RunbookError, match="cannot be read by account .*: No such file or directory"):
        look(Log(Place(FILE, file=str(tmp_path / "nowhere"))))


# --- programs that are asked ------------------------------------------------------------------------------------------


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """A program of that name before all others; returns the file it writes its arguments to."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "$DOCKER_HOST" > {folder}/asked\n{script}\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "asked"


def test_a_container_is_asked_by_seconds_since_1970(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = program(tmp_path, monkeypatch, "docker", f"cat >&2 <<'EOT'\n{LOG}EOT")
    place = Place(CONTAINER, container="cm-postgres", docker_host="unix:///run/d.sock")
    finding = look(Log(place))
    assert finding.found["count"] == 3  # whatever the engine gives back is new
    assert "in the log of container cm-postgres: " in finding.message
    arguments = ["logs", "--since", f"{NOON.timestamp():.6f}", "--", "cm-postgres", "unix:///run/d.sock"]
    assert asked.read_text().splitlines() == arguments


def test_the_journal_is_asked_by_seconds_since_1970(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = program(tmp_path, monkeypatch, "journalctl", "echo 'ERROR:  one'; echo 'LOG:  two'")
    finding = look(Log(Place(JOURNAL, unit="postgresql@17-main")))
    assert finding.found["count"] == 1 and "in the journal of postgresql@17-main: " in finding.message
    arguments = asked.read_text().splitlines()
    assert arguments[0] == "--unit=postgresql@17-main" and f"--since=@{NOON.timestamp():.6f}" in arguments


def test_a_journal_without_a_line_is_no_clean_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Log(Place(JOURNAL, unit="postgres"))
    program(tmp_path, monkeypatch, "journalctl", "")
    with pytest.raises(RunbookError, match="The journal has nothing of postgres, or account .* may not read it"):
        look(place)
    program(tmp_path, monkeypatch, "journalctl", 'case "$*" in *--lines=1*) echo "LOG:  long ago";; esac')
    assert look(place).passed


def test_a_program_that_fails_is_no_clean_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "docker", "echo 'No such container: cm' >&2; exit 1")
    with pytest.raises(RunbookError, match="docker as account .* ended with 1: .*No such container: cm"):
        look(Log(Place(CONTAINER, container="cm")))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(RunbookError, match="journalctl cannot be run: No such file or directory"):
        look(Log(Place(JOURNAL, unit="postgresql")))
