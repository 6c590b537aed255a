# SPDX-License-Identifier: GPL-3.0-or-later
"""What is scheduled: times, unit files, lines for cron."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.runbook import schedule
from ansible.module_utils.runbook.calendar_time import CalendarTime
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.schedule import Machine, Schedule, look, set_up

SATURDAY = datetime(2026, 11, 21, 23, 50, tzinfo=UTC)


def made(**given: Any) -> Schedule:
    """A schedule, from the module's options."""
    defaults = {name: argument.get("default") for name, argument in schedule.SCHEDULE_ARGUMENTS.items()}
    place = {"environment": "production", "project": "/srv/run book", "python": "/srv/run book/.venv/bin/python"}
    return Schedule.from_params({**defaults, **place, "backup_at": "02:15", "limit": "production", **given})


@pytest.fixture
def cron(tmp_path: Path) -> Machine:
    """A machine without systemd, whose cron knows zones."""
    program = tmp_path / "crond"
    program.write_bytes(b"\x7fELF CRON_TZ\0")
    (tmp_path / "cron.d").mkdir()
    return Machine(tmp_path / "none", tmp_path / "units", tmp_path / "cron.d", (program,))


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own zone is another one than UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


# ---- times


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("02:15", "15 2 * * *"),
        ("Sun 04:15", "15 4 * * 0"),
        ("Mon..Fri *-*-* 08..18/2:15:00", "15 8,10,12,14,16,18 * * 1,2,3,4,5"),
        ("Saturday,Sun *-*-* 00,12:30", "30 0,12 * * 6,0"),
        ("*:0/20", "0,20,40 * * * *"),
        ("daily", "0 0 * * *"),
        ("weekly", "0 0 * * 1"),
    ],
)
def test_what_cron_can_express(expression: str, line: str) -> None:
    known = CalendarTime.parse(expression)
    assert known is not None and known.cron() == line


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "25:00",
        "02:60",
        "Foo 02:15",
        "Fri..Mon 02:15",
        "*-*-01 02:15",
        "02:15:30",
        "02:15 UTC",
        "1/0:00",
        "x\n02:15",
    ],
)
def test_what_cron_cannot_express_is_not_guessed(expression: str) -> None:
    assert CalendarTime.parse(expression) is None


def test_the_next_times_go_over_midnight_and_over_a_week() -> None:
    daily, sundays = CalendarTime.parse("02:15"), CalendarTime.parse("Sun 04:15")
    assert daily is not None and sundays is not None
    assert [f"{moment:%a %d %H:%M}" for moment in islice(daily.after(SATURDAY), 2)] == ["Sun 22 02:15", "Mon 23 02:15"]
    first, second = islice(sundays.after(SATURDAY), 2)
    assert first == SATURDAY + timedelta(hours=4, minutes=25) and second - first == timedelta(days=7)


# ---- units


def test_the_service_runs_the_command_as_it_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    wish = made(limit="a$b:!c", arguments=['--extra-vars={"x": "50%"}', r"back\slash"], variables={"A": "b c", "B": ""})
    lines = schedule._service(wish, "backup").splitlines()
    (command,) = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    assert command == (
        '"/srv/run book/.venv/bin/python" "-m" "ansible" "playbook" "/srv/run book/backup.yml" "--limit=a$$b:!c" '
        r'"--extra-vars={\"x\": \"50%%\"}" "back\\slash"'
    )
    assert 'Environment="A=b c"' in lines and not any(line.startswith('Environment="B=') for line in lines)
    assert "User=root" in lines and "WorkingDirectory=/srv/run book" in lines


def test_the_timer_says_its_zone_and_makes_up_for_what_was_missed() -> None:
    times = schedule.Times(SATURDAY, 86400)
    lines = schedule._timer(made(time_zone="Europe/Berlin"), "backup", times).splitlines()
    assert "OnCalendar=02:15 Europe/Berlin" in lines and "Persistent=true" in lines


@pytest.mark.parametrize(
    "given",
    [
        {"backup_at": "02:15\nOnCalendar=*:*"},
        {"arguments": ["x\nExecStart=/bin/false"]},
        {"variables": {"A": "b\nUser=root"}},
        {"account": "root\nx"},
        {"time_zone": "UTC * *"},
    ],
)
def test_nothing_can_begin_a_line_of_its_own(given: dict[str, Any]) -> None:
    with pytest.raises(RunbookError) as refused:
        made(**given)
    assert refused.value.code == "option"


# ---- cron


def test_cron_gets_one_file_that_comes_changes_and_goes(cron: Machine) -> None:
    file = cron.crontabs / "schema-runbook-production"
    wish = made(drill_at="Sun 04:15", account="deploy", arguments=["--extra-vars=x=50%"], time_zone="Europe/Berlin")
    predicted = set_up(wish, cron, check_mode=True)
    assert predicted["changed"] and not file.exists()
    done = set_up(wish, cron, check_mode=False)
    assert done["changed"] and done["files"] == [str(file)] and done["diff"] == predicted["diff"]
    assert file.stat().st_mode & 0o777 == 0o644
    assert not set_up(wish, cron, check_mode=False)["changed"] and not set_up(wish, cron, check_mode=True)["changed"]

    lines = file.read_text().splitlines()
    assert "CRON_TZ=Europe/Berlin" in lines
    (line,) = [line for line in lines if line.startswith("15 2 * * * deploy ")]
    assert r"50\%" in line
    words = shlex.split(line.removeprefix("15 2 * * * deploy ").replace(r"\%", "%"))
    assert words[:3] == ["cd", "/srv/run book", "&&"] and words[-1] == ">/dev/null"
    assert words[-6:-1] == [
        "ansible",
        "playbook",
        "/srv/run book/backup.yml",
        "--limit=production",
        "--extra-vars=x=50%",
    ]

    seen = look("production", cron)
    assert [(one["operation"], one["pause"], one["active"]) for one in seen] == [
        ("backup", 86400, True),
        ("drill", 7 * 86400, True),
    ]
    assert seen[0]["next"] > f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert look("staging", cron) == []

    assert set_up(made(state="absent"), cron, check_mode=True)["changed"] and file.exists()
    assert set_up(made(state="absent"), cron, check_mode=False)["changed"] and not file.exists()
    assert not set_up(made(state="absent"), cron, check_mode=False)["changed"] and look("production", cron) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"backup_at": "*-*-01 02:15"}, "cron knows days of the week, hours and minutes"),
        ({"time_zone": "Europe/Atlantis"}, 'there is no time zone "Europe/Atlantis"'),
    ],
)
def test_a_time_that_is_none_is_refused_before_anything_is_written(
    cron: Machine, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunbookError, match=said) as refused:
        set_up(made(**given), cron, check_mode=False)
    assert refused.value.code == "calendar" and list(cron.crontabs.iterdir()) == []


@pytest.mark.usefixtures("in_berlin")
def test_a_cron_that_knows_no_zones_is_not_trusted_with_another_one(cron: Machine) -> None:
    plain = Machine(cron.systemd, cron.units, cron.crontabs, ())
    with pytest.raises(RunbookError, match="knows no other zone than the machine's own"):
        set_up(made(), plain, check_mode=False)
    assert set_up(made(time_zone="Europe/Berlin"), plain, check_mode=False)["changed"]


def test_a_machine_with_neither_says_so(cron: Machine) -> None:
    bare = Machine(cron.systemd, cron.units, cron.crontabs / "none", cron.programs)
    with pytest.raises(RunbookError, match="install the package cron"):
        set_up(made(), bare, check_mode=False)
