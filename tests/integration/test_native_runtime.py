# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with sshd, systemd and its own PostgreSQL, reached as operators reach it: an ordinary account, a key, sudo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import lab
import pytest
from engine import write
from project import ROOT, Project, poll, short_folder

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("native")]

TABLES = {
    "001_actor.sql": "CREATE TABLE public.actor (id int);",
    "002_model.sql": "CREATE TABLE public.model (id int);",
}
# A migration that waits until the test opens the gate.
GATE = """
CREATE TABLE public.half (id int);
DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'gate') LOOP PERFORM pg_sleep(0.05); END LOOP;
END $$;
"""
AT_THE_GATE = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%WHERE relname = ''gate''%'"
PASSWORD = "rather $ecret ' \\ word"


class Remote(Project):
    """The project's playbooks against a host of the lab; what a run leaves there counts like what it leaves here."""

    def __init__(self, folder: Path, host: lab.Host, **variables: Any) -> None:
        super().__init__(folder)
        self.host = host
        self.inventory = folder / "hosts.json"
        known = {**host.variables, "db_runtime": "native", **variables}
        self.inventory.write_text(json.dumps({"staging": {"hosts": {host.name: known}}}))
        self.variables |= self.own_files()
        del self.variables["backup_directory"]  # it is a folder of this machine
        self.secrets.append(PASSWORD)
        self.accept_leftovers()

    def start(self, door: str, *arguments: str, limit: str = "staging", **variables: Any) -> Popen[str]:
        """Start a playbook with the inventory of this host."""
        return super().start(door, "-i", str(self.inventory), *arguments, limit=limit, **variables)

    def environment(self) -> dict[str, str]:
        """The environment of a run; where the host keeps temporary files is for the project's ansible.cfg to say."""
        inherited = super().environment()
        del inherited["ANSIBLE_REMOTE_TEMP"]
        return inherited

    def leftovers(self) -> set[Path]:
        """What is there of temporary files, and of anything in a home, here and on the host."""
        there = self.host.run("find", "/tmp", "/var/tmp", "/home", "/root", "/var/lib/postgresql", "-maxdepth", "3")
        return super().leftovers() | {Path("/on-the-host") / line.lstrip("/") for line in there.splitlines()}

    def accept_leftovers(self) -> None:
        """Take what is there now as not left by the runs to come."""
        self._known |= self.leftovers()


def psql(host: lab.Host, statement: str, database: str = "postgres") -> list[str]:
    """Rows of an answer, as the superuser of the host sees it."""
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", f"--dbname={database}"]
    return host.run("runuser", "-u", "postgres", "--", *command, stdin=statement).splitlines()


def write_on(host: lab.Host, path: str, text: str, owner: str) -> str:
    """A file that only its owner can read."""
    host.run("sh", "-c", f"umask 077 && cat > {path} && chown {owner}: {path}", stdin=text)
    return path


def ask(project: Remote, statement: str) -> list[str]:
    """Rows of an answer of the migrated database."""
    return psql(project.host, statement, "cm")


@pytest.fixture(scope="module")
def bare() -> Iterator[lab.Host]:
    """A host with a server and an account that is let in, and nothing that the project needs besides."""
    with lab.running(["db"]) as (host,):
        host.run("pg_createcluster", "17", "main", "--start", "--", "--locale=C.UTF-8")
        # As packages make them: no home, no shell.
        host.run(
            "useradd", "--system", "--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin", "cm"
        )
        psql(host, f"CREATE ROLE cm LOGIN PASSWORD $${PASSWORD}$$")
        yield host


@pytest.fixture(scope="module")
def host(bare: lab.Host) -> lab.Host:
    """The same host, prepared."""
    with short_folder() as folder, closing(Remote(folder, bare)) as project:
        project.run("prepare.yml")
    return bare


@pytest.fixture
def lacking(bare: lab.Host) -> Iterator[lab.Host]:
    """The host without what ``prepare.yml`` brings, for as long as a test lasts."""
    # Unlike apt-get it may be told of packages that were never there.
    bare.run("rm", "--recursive", "--force", "/var/backups/schema-runbook")
    bare.run("dpkg", "--remove", "acl", "python3-psycopg", "python3-psycopg-c")
    yield bare
    with short_folder() as folder, closing(Remote(folder, bare)) as project:
        project.run("prepare.yml")


@pytest.fixture
def database(host: lab.Host) -> Iterator[lab.Host]:
    """An empty database cm that belongs to the user."""
    psql(host, "CREATE DATABASE cm OWNER cm")
    yield host
    psql(host, "DROP DATABASE IF EXISTS cm WITH (FORCE)")


@pytest.fixture
def project(database: lab.Host) -> Iterator[Remote]:
    """The project and two small migrations, for an empty database."""
    with short_folder() as folder, closing(Remote(folder, database)) as project:
        write(project.init, dict(TABLES))
        yield project


# ---- prepare.yml


def test_what_is_missing_names_prepare_which_brings_it_once(lacking: lab.Host) -> None:
    with short_folder() as folder, closing(Remote(folder, lacking)) as project:
        write(project.init, dict(TABLES))
        refused = project.run("migrate.yml", code=2)
        assert refused.error["code"] == "missing-library"
        assert "/usr/bin/python3 (No module named 'psycopg'). Run ansible-playbook prepare.yml -l HOST" in refused.text

        predicted = project.run("prepare.yml", "--check")
        assert predicted.changed == 2, "packages, and the folder of backup sets"
        assert "To be installed: python3-psycopg, acl." in predicted.text
        assert lacking.ssh("python3", "-c", "import psycopg").returncode != 0

        assert project.run("prepare.yml").changed == 2
        assert lacking.ssh("python3", "-c", "import psycopg").returncode == 0
        assert lacking.ssh("command", "-v", "setfacl").returncode == 0
        for arguments in ([], ["--check"]):
            again = project.run("prepare.yml", *arguments)
            assert again.changed == 0 and "Nothing is missing." in again.text
        assert project.run("prepare.yml").record == {}


@pytest.mark.parametrize(
    "inventory",
    [{"ansible_become": True}, {"ansible_become": True, "ansible_become_user": "cm", "db_os_user": ""}],
    ids=["become beside db_os_user", "become alone"],
)
def test_become_settings_of_the_inventory_do_not_hide_what_is_missing(
    lacking: lab.Host, inventory: dict[str, Any]
) -> None:
    with short_folder() as folder, closing(Remote(folder, lacking, **inventory)) as project:
        assert "To be installed: python3-psycopg, acl." in project.run("prepare.yml", "--check").text
        assert project.run("prepare.yml").changed == 2  # the packages, and the folder of backup sets
        assert lacking.ssh("command", "-v", "setfacl").returncode == 0
        again = project.run("prepare.yml")
        assert again.changed == 0 and "Nothing is missing." in again.text
        backups = {"backup_encrypt_to": ["age1x"], "backup_offsite": "vault:copies"}
        assert "To be installed: age, rclone." in project.run("prepare.yml", "--check", **backups).text


def test_missing_rights_are_not_taken_for_a_missing_package(lacking: lab.Host) -> None:
    rights = "/etc/sudoers.d/deploy"
    lacking.run("mv", rights, "/etc/deploy.away")
    try:
        lacking.run("sh", "-c", f"umask 337 && cat > {rights}", stdin="deploy ALL=(cm) NOPASSWD: ALL\n")
        with short_folder() as folder, closing(Remote(folder, lacking)) as project:
            refused = project.run("prepare.yml", code=2)
            assert "It could not be installed as root (Task failed: Missing sudo password)." in refused.text
    finally:
        lacking.run("mv", "--force", "/etc/deploy.away", rights)


def test_an_account_that_does_not_exist_is_said_before_anything_is_installed(host: lab.Host) -> None:
    with short_folder() as folder, closing(Remote(folder, host)) as project:
        refused = project.run("prepare.yml", db_os_user="nobody_here", code=2)
        assert "There is no account nobody_here: create it, or name another one in db_os_user" in refused.text
        assert refused.changed == 0


def test_a_family_of_systems_whose_packages_are_not_known_says_what_to_set(host: lab.Host) -> None:
    host.run("mv", "/usr/bin/setfacl", "/usr/bin/setfacl.away")
    try:
        with short_folder() as folder, closing(Remote(folder, host)) as project:
            refused = project.run("prepare.yml", prepare_packages={"Other": {}}, code=2)
            assert "on Debian is not known here: add the names to prepare_packages." in refused.text
            missing = project.run("prepare.yml", prepare_packages={"Debian": {"acl": "no-such-package"}}, code=2)
            assert "It could not be installed as root (No package matching 'no-such-package'" in missing.text
            assert "how to do without packages." in missing.text
    finally:
        host.run("mv", "/usr/bin/setfacl.away", "/usr/bin/setfacl")


# ---- the main job


def test_the_three_commands_over_the_socket(database: lab.Host) -> None:
    with short_folder() as folder, closing(Remote(folder, database)) as project:
        project.variables.clear()  # the project's own migrations
        predicted = project.run("migrate.yml", "--check", "--diff")
        assert predicted.changed == 1
        assert ask(project, "SELECT count(*) FROM pg_namespace WHERE nspname = 'cm'") == ["0"]

        done = project.run("migrate.yml")
        assert done.changed == 1 and "Version 4: 4 applied." in done.text
        again = project.run("migrate.yml")
        assert again.changed == 0 and "Version 4: nothing to do." in again.text
        assert "db cm 4 none" in project.run("status.yml").text

        names = sorted(path.name for path in (ROOT / "db/init").glob("*.sql"))
        assert ask(project, "SELECT name FROM cm.schema_version ORDER BY version") == names
        owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'cm'"
        assert ask(project, owners) == ["cm"]

        confirmed = {"rollback_version": 0, "rollback_confirm": "cm"}
        assert project.run("rollback.yml", **confirmed).changed == 1
        assert ask(project, "SELECT count(*) FROM cm.schema_version") == ["0"]


def test_a_backup_is_taken_proven_and_restored_over_the_socket(project: Remote) -> None:
    psql(project.host, "ALTER ROLE cm CREATEDB")
    project.run("migrate.yml")
    psql(project.host, "SET ROLE cm; INSERT INTO public.actor SELECT generate_series(1, 100)", "cm")
    taken = project.run("backup.yml")
    assert taken.host["backup"]["rows"] == 104 and "in /var/backups/schema-runbook/cm" in taken.text
    assert project.run("drill.yml").host["drill"]["rows"] == 104
    psql(project.host, "TRUNCATE public.actor", "cm")
    unit = "[Service]\nExecStart=/bin/sleep infinity\n"
    project.host.run("sh", "-c", "cat > /etc/systemd/system/shop.service", stdin=unit)
    project.host.run("systemctl", "start", "shop.service")
    started = ("systemctl", "show", "--property=ActiveState,MainPID", "shop.service")
    before = project.host.run(*started)
    restored = project.run("restore.yml", restore_confirm="cm", db_services=[{"name": "shop.service"}])
    after = project.host.run(*started)
    assert "ActiveState=active" in after and after != before, "it was stopped and started again"
    assert restored.host["restore"]["downtime_ms"] < 2000
    assert ask(project, "SELECT count(*) FROM public.actor") == ["100"]
    project.run("restore.yml", restore_confirm="cm", restore_action="undo")
    assert ask(project, "SELECT count(*) FROM public.actor") == ["0"]
    kept = restored.host["restore"]["kept"]
    for name in psql(project.host, "SELECT datname FROM pg_database WHERE datname LIKE 'cm\\_before%'"):
        psql(project.host, f'DROP DATABASE "{name}"')
    assert kept.startswith("cm_before_")


def test_a_run_warns_of_nothing(project: Remote) -> None:
    output = project.run("migrate.yml", "-vv").output
    assert "WARNING" not in output and "DEPRECAT" not in output.upper()


@pytest.mark.parametrize(
    ("inventory", "arguments"),
    [
        ({"ansible_become": True, "ansible_become_user": "cm"}, []),
        ({}, ["--become", "--become-user=cm"]),
    ],
    ids=["inventory", "command line"],
)
def test_without_db_os_user_the_operators_own_become_is_left_alone(
    database: lab.Host, inventory: dict[str, Any], arguments: list[str]
) -> None:
    with short_folder() as folder, closing(Remote(folder, database, db_os_user="", **inventory)) as project:
        write(project.init, dict(TABLES))
        assert project.run("migrate.yml", *arguments).changed == 1
        assert project.run("migrate.yml", *arguments).changed == 0


def test_an_account_that_a_map_lets_in(project: Remote) -> None:
    # The account that Ansible logs in as needs no other one then.
    settings = "/etc/postgresql/17/main"
    host = project.host
    host.run("cp", "-a", f"{settings}/pg_hba.conf", f"{settings}/pg_hba.conf.before")
    try:
        host.run("sed", "-i", "1i local all cm peer map=runbook", f"{settings}/pg_hba.conf")
        host.run("sed", "-i", "1i runbook deploy cm", f"{settings}/pg_ident.conf")
        psql(host, "SELECT pg_reload_conf()")
        assert project.run("migrate.yml", db_os_user="").changed == 1
    finally:
        host.run("mv", f"{settings}/pg_hba.conf.before", f"{settings}/pg_hba.conf")
        psql(host, "SELECT pg_reload_conf()")


@pytest.mark.parametrize("way", ["db_password", "db_password_file", "db_passfile"])
def test_over_tcp_with_a_password(project: Remote, way: str) -> None:
    escaped = PASSWORD.replace("\\", "\\\\")
    texts = {"db_password_file": f"{PASSWORD}\n", "db_passfile": f"*:*:*:cm:{escaped}\n"}
    value = PASSWORD if way == "db_password" else write_on(project.host, "/etc/secret", texts[way], "deploy")
    write(project.init, {"003_gate.sql": GATE})
    process = project.start("migrate.yml", "-vvv", db_socket_dir="", **{way: value})
    poll(lambda: ask(project, AT_THE_GATE) == ["1"] or process.poll() is not None)
    there = project.host.run("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n'; cat /proc/[0-9]*/environ")
    ask(project, "CREATE TABLE public.gate ()")
    assert project.finish(process).changed == 1
    assert "python3" in there and PASSWORD not in there


def test_a_password_file_that_only_another_account_can_read(project: Remote) -> None:
    path = write_on(project.host, "/etc/other-secret", PASSWORD, "root")
    refused = project.run("migrate.yml", db_socket_dir="", db_password_file=path, code=2)
    assert refused.error["code"] == "password-file"
    assert f"{path} cannot be read: Permission denied. Modules run as account deploy." in refused.text


# ---- what goes wrong


MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "peer": (
        {"db_os_user": "postgres"},
        ['Peer authentication failed for user "cm"', "the modules ran as account postgres", "let postgres be cm"],
    ),
    "database": (
        {"db_name": "nowhere"},
        ['database "nowhere" does not exist. Have it created there, or correct db_name.'],
    ),
    "socket": (
        {"db_socket_dir": "/run/elsewhere"},
        ["No server listens there", "db_socket_dir and db_port are its own."],
    ),
    "port": ({"db_port": 5433}, ["No server listens there: see on its host whether it runs (systemctl status"]),
    "account": (
        {"db_user": "ghost"},
        ["did not come to run: sudo: unknown user ghost. Modules run as the account in db_"],
    ),
    "authority": ({"db_socket_dir": "", "db_ssl_mode": "verify-full"}, ["db_ssl_ca_cert has to name the file"]),
}


def test_each_mistake_has_its_sentence(project: Remote) -> None:
    # One host under a name for each mistake: status.yml has a line for every one of them.
    common = {**project.host.variables, "db_runtime": "native"}
    hosts = {name: {**common, **variables} for name, (variables, _) in MISTAKES.items()}
    project.inventory.write_text(json.dumps({"staging": {"hosts": hosts}}))
    _, screen = project.run("status.yml").output.split("TASK [status : Show one screen")
    for name, (_, sentences) in MISTAKES.items():
        said = " ".join(screen.partition(f" {name}: ")[2].partition("\n\n")[0].split())
        assert [sentence for sentence in sentences if sentence not in said] == [], screen


def test_a_user_that_the_server_does_not_know(project: Remote) -> None:
    psql(project.host, "ALTER ROLE cm RENAME TO cm_before")
    try:
        refused = project.run("migrate.yml", code=2)
    finally:
        psql(project.host, f"ALTER ROLE cm_before RENAME TO cm; ALTER ROLE cm PASSWORD $${PASSWORD}$$")
    assert 'role "cm" does not exist. Have it created there (CREATE ROLE cm LOGIN)' in refused.text


def test_a_server_that_is_down_names_its_unit(project: Remote) -> None:
    project.host.run("systemctl", "stop", "postgresql")
    try:
        refused = project.run("migrate.yml", code=2)
    finally:
        project.host.run("systemctl", "start", "postgresql")
    assert refused.error["code"] == "connection"
    assert "No server listens there: see on its host whether it runs (systemctl status 'postgresql*'" in refused.text


def test_files_cannot_be_handed_over_without_setfacl(project: Remote) -> None:
    project.host.run("mv", "/usr/bin/setfacl", "/usr/bin/setfacl.away")
    try:
        refused = project.run("migrate.yml", code=2)
    finally:
        project.host.run("mv", "/usr/bin/setfacl.away", "/usr/bin/setfacl")
    assert refused.error["code"] == "hand-over"
    assert "The account deploy has no way to hand a file to cm on db: setfacl is missing" in refused.text
    assert "Run ansible-playbook prepare.yml -l db." in refused.text
    assert ask(project, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == ["0"]


# ---- trouble during a run


def at_the_gate(project: Remote) -> Popen[str]:
    """A run that has applied two files and is in the middle of the third."""
    write(project.init, {"003_gate.sql": GATE})
    process = project.start("migrate.yml")
    poll(lambda: ask(project, AT_THE_GATE) == ["1"] or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    return process


def completes(project: Remote) -> None:
    """Whatever happened: nothing is half-recorded, and the next run brings the rest."""
    assert ask(project, "SELECT version FROM cm.schema_version ORDER BY 1") == ["1", "2"]
    assert ask(project, "SELECT count(*) FROM pg_tables WHERE tablename = 'half'") == ["0"]
    ask(project, "CREATE TABLE public.gate ()")
    assert [file["name"] for file in project.run("migrate.yml").host["applied"]] == ["003_gate.sql"]
    assert project.run("migrate.yml").changed == 0


@pytest.mark.parametrize(
    "end",
    ["systemctl stop postgresql", "kill -KILL $(head -n 1 /var/lib/postgresql/17/main/postmaster.pid)"],
    ids=["stopped", "killed"],
)
def test_a_server_that_goes_away_during_a_run(project: Remote, end: str) -> None:
    process = at_the_gate(project)
    try:
        project.host.run("sh", "-c", end)
        failed = project.finish(process, code=2)
    finally:
        project.host.run("systemctl", "restart", "postgresql@17-main")
    assert (failed.error["code"], failed.error["file"]) == ("connection-lost", "003_gate.sql")
    assert "the connection to the server was lost" in failed.text
    assert [file["name"] for file in failed.host["applied"]] == sorted(TABLES)
    completes(project)


def test_a_connection_that_is_cut_during_a_run(project: Remote) -> None:
    process = at_the_gate(project)
    project.host.run("systemctl", "stop", "ssh")
    try:
        # Stopping the service leaves the sessions it has opened.
        project.host.run("pkill", "-KILL", "sshd")
        output, _ = process.communicate(timeout=120)
    finally:
        project.host.run("systemctl", "start", "ssh")
    assert process.returncode == 4 and "UNREACHABLE" in output, output
    # The folder is Ansible's, which cannot remove it now; the bundle in it was gone as soon as it was read.
    assert project.host.run("find", "/var/tmp", "-type", "f") == ""
    project.accept_leftovers()

    # The module on the host knows nothing of all this and goes on. Until it has ended, others are told to wait.
    refused = project.run("migrate.yml", migrate_run_lock_wait="0", code=2)
    assert refused.error["code"] == "locked"
    assert ask(project, "SELECT version FROM cm.schema_version ORDER BY 1") == ["1", "2"]
    ask(project, "CREATE TABLE public.gate ()")
    poll(lambda: ask(project, "SELECT version FROM cm.schema_version ORDER BY 1") == ["1", "2", "3"])
    assert project.run("migrate.yml").changed == 0
