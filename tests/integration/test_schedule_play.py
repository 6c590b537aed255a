# SPDX-License-Identifier: GPL-3.0-or-later
"""``schedule.yml`` on a real control host: systemd's timers, an ordinary account with sudo, a server beside it."""

from __future__ import annotations

import importlib.metadata
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import pytest
from project import ROOT, poll, short_folder

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("schedule")]

PROJECT, PYTHON, SETS = "/srv/runbook", "/srv/venv/bin/python", "/srv/sets"
SYSTEMD = "/run/systemd"
UNITS, CRONTAB = "/etc/systemd/system", "/etc/cron.d/schema-runbook-production"
BACKUP, DRILL = "schema-runbook-production-backup", "schema-runbook-production-drill"
PASSWORD = "a scheduled $ecret"
ARGUMENTS = ["--extra-vars=@/home/deploy/password.json"]
LEFT = (".git", ".venv", ".embedded", ".runs", ".backups", ".*_cache", ".ansible", "__pycache__", "tests", ".running*")

# What ansible-core needs besides itself, and this project; all of it runs without its compiled parts.
PACKAGES = ("ansible-core", "jinja2", "markupsafe", "pyyaml", "packaging", "resolvelib", "psycopg", "typing_extensions")

_SET_UP = f"""
import json, sys
import ansible.module_utils
ansible.module_utils.__path__.append("{PROJECT}/module_utils")
from ansible.module_utils.runbook import schedule
from ansible.module_utils.runbook.errors import RunbookError
given, check_mode = json.load(sys.stdin)
params = {{name: argument.get("default") for name, argument in schedule.SCHEDULE_ARGUMENTS.items()}} | given
try:
    wish = schedule.Schedule.from_params(params)
    print(json.dumps(schedule.set_up(wish, schedule.Machine(), check_mode)))
except RunbookError as error:
    print(json.dumps({{"refused": error.message}}))
"""


class Control(lab.Host):
    """The control host."""

    def play(self, door: str, *arguments: str, code: int = 0, account: str = "deploy", **variables: Any) -> str:
        """Run a playbook there for production; returns what it printed as one line."""
        extra = json.dumps({"schedule_arguments": ARGUMENTS, **variables})
        command = [PYTHON, "-m", "ansible", "playbook", door, "--limit=production", "--inventory=/srv/hosts.json"]
        shell = f"cd {PROJECT} && ANSIBLE_NOCOLOR=1 {shlex.join([*command, '--extra-vars', extra, *arguments])} 2>&1"
        done = subprocess.run(
            ["docker", "exec", f"--user={account}", "--env=LANG=C.UTF-8", self.container, "sh", "-c", shell],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        for unwanted in ("Traceback (most recent call last)", "DEPRECATION", PASSWORD):
            assert unwanted not in done.stdout, done.stdout
        return " ".join(done.stdout.split())

    def set_up(self, check_mode: bool = False, hidden: str = "", **given: Any) -> dict[str, Any]:
        """Do there what the module does; returns its result, or why it refused as ``refused``.

        Parameters:
            hidden: a folder that is empty meanwhile.
        """
        job = json.dumps([{"environment": "production", "project": PROJECT, "python": PYTHON, **given}, check_mode])
        hiding = f"mount -t tmpfs none {hidden} && " if hidden else ""
        command = ["unshare", "--mount", "sh", "-c", f'{hiding}exec "$@"', "sh", PYTHON, "-c", _SET_UP]
        return dict(json.loads(self.run(*command, stdin=job)))

    def files(self) -> dict[str, str]:
        """Everything of a schedule that is there."""
        pattern = f"{UNITS}/schema-runbook-* {UNITS}/*.wants/schema-runbook-* {CRONTAB}"
        paths = self.run("sh", "-c", f"ls -d {pattern} 2> /dev/null || true").split()
        return {path: self.run("cat", path) for path in paths}

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit)

    def sets(self) -> list[str]:
        """The names of the sealed sets."""
        return sorted(
            name for name in self.run("sh", "-c", f"ls {SETS}/cm 2> /dev/null || true").split() if "_v" in name
        )

    def records(self, operation: str) -> list[dict[str, Any]]:
        """The run records of an operation, oldest first."""
        names = self.run("sh", "-c", f"ls {PROJECT}/.runs/production/*-{operation}*.json 2> /dev/null || true").split()
        return [json.loads(self.run("cat", name)) for name in sorted(names)]


@pytest.fixture(scope="module")
def installed() -> Iterator[Control]:
    """A host with the project, an interpreter that can run it, and a server."""
    with lab.running(["control"]) as (bare,), short_folder() as folder:
        host = Control(**vars(bare))
        shutil.copytree(ROOT, folder / "runbook", symlinks=True, ignore=shutil.ignore_patterns(*LEFT))
        packages = folder / "packages"
        packages.mkdir()
        for name in PACKAGES:
            _copy_package(name, packages)
        lab.docker("cp", "--quiet", str(folder / "runbook"), f"{host.container}:/srv/")
        host.run("python3", "-m", "venv", "--without-pip", "/srv/venv")
        lab.docker("cp", "--quiet", f"{packages}/.", f"{host.container}:{_site_packages(host)}")
        host.run("chown", "--recursive", "deploy:", PROJECT)
        host.run("install", "-d", "-o", "deploy", SETS)
        host.run("pg_createcluster", "17", "main", "--start", "--", "--locale=C.UTF-8")
        _sql(host, f"CREATE ROLE cm LOGIN CREATEDB PASSWORD $${PASSWORD}$$; CREATE DATABASE cm OWNER cm;")
        _write(host, "/home/deploy/password.json", json.dumps({"db_password": PASSWORD}))
        known = {"db_runtime": "managed", "db_host": "127.0.0.1", "backup_directory": SETS}
        known |= {"ansible_connection": "local", "ansible_python_interpreter": PYTHON}
        _write(host, "/srv/hosts.json", json.dumps({"production": {"hosts": {"cm-production": known}}}))
        yield host


@pytest.fixture
def host(installed: Control) -> Iterator[Control]:
    """The control host, with nothing scheduled before and after."""
    yield installed
    installed.set_up(state="absent")
    assert installed.files() == {}


def _copy_package(name: str, target: Path) -> None:
    """Copy an installed package; another version of Python can use all of it that is not compiled."""
    distribution = importlib.metadata.distribution(name)
    for file in distribution.files or ():
        if ".." not in file.parts and file.parts[0] not in ("ansible_test", "__pycache__") and file.suffix != ".so":
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), target / file)


def _site_packages(host: Control) -> str:
    return host.run(PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")


def _sql(host: Control, statements: str) -> None:
    command = ["runuser", "-u", "postgres", "--", "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]
    for statement in filter(None, statements.split("; ")):
        host.run(*command, stdin=statement)


def _write(host: Control, path: str, text: str) -> None:
    host.run("sh", "-c", f"umask 077 && cat > {path} && chown deploy: {path}", stdin=text)


# ---- timers


def test_a_schedule_comes_stays_and_goes(host: Control) -> None:
    predicted = host.play("schedule.yml", "--check", "--diff")
    assert "+OnCalendar=02:15 UTC" in predicted and "changed=1" in predicted and host.files() == {}
    done = host.play("schedule.yml")
    assert "changed=1" in done and "run as deploy: backup at 02:15 UTC, next 20" in done
    files = host.files()
    assert set(files) == {f"{UNITS}/{name}.{kind}" for name in (BACKUP, DRILL) for kind in ("service", "timer")} | {
        f"{UNITS}/timers.target.wants/{name}.timer" for name in (BACKUP, DRILL)
    }
    assert PASSWORD not in "".join(files.values())
    host.run("systemd-analyze", "verify", *(f"{UNITS}/{name}.timer" for name in (BACKUP, DRILL)))
    assert "changed=0" in host.play("schedule.yml") and host.files() == files

    host.run("systemctl", "stop", f"{BACKUP}.timer")
    screen = host.play("status.yml")
    assert f"does not run any more, since its timer {BACKUP}.timer was stopped" in screen
    assert "drill next 20" in screen and "last not seen yet" in screen
    assert "changed=1" in host.play("schedule.yml", "--check", schedule_state="absent") and host.files() == files
    assert "changed=1" in host.play("schedule.yml", schedule_state="absent")
    assert host.files() == {} and host.shown(f"{BACKUP}.timer", "LoadState") == "not-found"


def test_what_is_changed_is_changed_at_once_and_what_is_stopped_is_started(host: Control) -> None:
    assert host.set_up(backup_at="02:15", drill_at="Sun 04:15")["changed"]
    wish = {"backup_at": "03:30", "time_zone": "Asia/Tokyo", "spread": "0"}
    predicted = host.set_up(check_mode=True, **wish)
    assert predicted["changed"] and "OnCalendar=02:15 UTC" in host.files()[f"{UNITS}/{BACKUP}.timer"]
    assert host.set_up(**wish)["diff"] == predicted["diff"]
    # Tokyo has no summer time: half past three there is always half past six in the evening in UTC.
    assert host.set_up(**wish)["next"]["backup"][10:] == "T18:30:00Z"
    assert " 18:30:00 UTC" in host.shown(f"{BACKUP}.timer", "NextElapseUSecRealtime")
    assert host.shown(f"{DRILL}.timer", "LoadState") == "not-found"

    assert not host.set_up(**wish)["changed"]
    for away in (("stop",), ("disable",)):
        host.run("systemctl", *away, f"{BACKUP}.timer")
        assert host.set_up(check_mode=True, **wish)["changed"] and host.set_up(**wish)["changed"]
        assert host.shown(f"{BACKUP}.timer", "ActiveState") == "active"
        assert not host.set_up(check_mode=True, **wish)["changed"]
    assert host.set_up(state="absent")["changed"] and not host.set_up(state="absent")["changed"]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"backup_at": "02:15", "drill_at": "Sunday at noon"}, '"Sunday at noon" is no time to run at: systemd says'),
        ({"backup_at": "02:15", "time_zone": "Europe/Atlantis"}, '"02:15" is no time to run at: systemd says'),
        ({"backup_at": "2020-01-01 02:15"}, "it never comes again"),
    ],
)
def test_a_time_that_is_none_is_refused_before_anything_is_written(
    host: Control, wish: dict[str, str], said: str
) -> None:
    assert said in host.set_up(**wish)["refused"] and host.files() == {}


def test_a_timer_takes_a_set_and_a_run_that_fails_is_seen_everywhere(host: Control) -> None:
    host.play("schedule.yml", schedule_backup_at="*:*:*", schedule_spread="0", schedule_drill_at="")
    poll(host.sets, 60)
    host.play("schedule.yml", schedule_drill_at="")  # the next one comes at night
    poll(lambda: host.shown(f"{BACKUP}.service", "ActiveState") == "inactive")
    assert host.shown(f"{BACKUP}.service", "Result") == "success"
    assert host.records("backup")[-1]["outcome"] == "succeeded"

    host.run("systemctl", "stop", "postgresql")
    try:
        with pytest.raises(lab.LabError, match="failed"):
            host.run("systemctl", "start", f"{BACKUP}.service")
        assert host.shown(f"{BACKUP}.service", "ActiveState") == "failed"
        assert host.shown(f"{BACKUP}.service", "ExecMainStatus") == "2"
        assert host.records("backup")[-1]["outcome"] == "failed"
        log = host.run("journalctl", f"--unit={BACKUP}", "--output=cat")
        assert "127.0.0.1:5432" in log and PASSWORD not in log
        screen = host.play("status.yml")
        assert "production: The scheduled backup failed 20" in screen and f"journalctl --unit {BACKUP}" in screen
        assert f"cm-production {host.sets()[-1]}" in screen  # although the server is down
    finally:
        host.run("systemctl", "start", "postgresql")


# ---- cron


def test_without_systemd_cron_gets_lines_that_work(host: Control) -> None:
    before = host.sets()
    host.run("mkdir", "--parents", "/etc/cron.d")
    wish: dict[str, Any] = {"backup_at": "02:15", "limit": "production", "inventories": ["/srv/hosts.json"]}
    wish |= {"account": "deploy", "arguments": ARGUMENTS}
    assert "each a line for cron" in host.set_up(hidden=SYSTEMD, **wish)["msg"]
    (text,) = host.files().values()
    assert not host.set_up(hidden=SYSTEMD, **wish)["changed"]

    (line,) = [line for line in text.splitlines() if "backup.yml" in line]
    fields = line.split(maxsplit=6)
    assert fields[:6] == ["15", "2", "*", "*", "*", "deploy"]
    # As cron does: an account's shell, next to no environment, the line as it stands.
    settings = ["HOME=/home/deploy", "LOGNAME=deploy", "PATH=/usr/bin:/bin", "SHELL=/bin/sh"]
    as_cron = ["runuser", "-u", "deploy", "--", "env", "-i", *settings, "sh", "-c", fields[6].replace("\\%", "%")]
    assert host.run(*as_cron) == "" and len(host.sets()) == len(before) + 1

    # Where systemd has come back, the lines give way to timers.
    assert CRONTAB in [one["before_header"] for one in host.set_up(backup_at="02:15")["diff"]]
    assert CRONTAB not in host.files() and f"{UNITS}/{BACKUP}.timer" in host.files()
