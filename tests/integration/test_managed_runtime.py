# SPDX-License-Identifier: GPL-3.0-or-later
"""A server of somebody else's: TLS, a user without rights, tables of another role, the password in a vault."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import lab
import psycopg
import pytest
from certificates import Authority
from engine import write
from project import ROOT, Project, Run, poll, short_folder

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.xdist_group("managed")]

EXAMPLE = ROOT / "inventories/example-managed"
ADMINISTRATOR = {"user": "provider", "password": "of the provider"}
PASSWORD = "pa55 of {{ nobody }} 'else'"
TABLES: dict[str, str | bytes] = {
    "001_actor.sql": "CREATE TABLE public.actor (id int);",
    "002_model.sql": "CREATE TABLE public.model (id int);",
}
# What a provider sets up: nobody but its own people has rights on the server or in the database postgres.
PROVIDER = f"""
CREATE ROLE cm_owner;
CREATE ROLE cm LOGIN NOINHERIT PASSWORD $${PASSWORD}$$ IN ROLE cm_owner;
CREATE ROLE certified LOGIN;
CREATE ROLE stranger;
CREATE DATABASE defaultdb;
REVOKE CONNECT, TEMPORARY ON DATABASE postgres FROM PUBLIC;
"""
ACCESS = """
local   all all           trust
hostssl all certified all cert
hostssl all all       all scram-sha-256
hostnossl all provider all scram-sha-256
"""


@dataclass(frozen=True)
class Server:
    """A server in a container, and files for those who connect to it."""

    container: str
    address: str
    published: int
    files: Path

    def run(self, command: str, stdin: str = "") -> str:
        """Run a shell command in the container, as the server's account."""
        return lab.docker("exec", "--interactive", "--user=postgres", self.container, "sh", "-c", command, stdin=stdin)

    def sql(self, statement: str, database: str = "postgres") -> list[str]:
        """Rows of an answer, as the provider sees it."""
        psql = "psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1 --username=provider"
        return self.run(f"{psql} --dbname={database}", stdin=statement).splitlines()

    def switch_tls(self, wanted: str) -> None:
        """Switch TLS on or off, and wait until it is."""
        self.sql(f"ALTER SYSTEM SET ssl = {wanted}")
        self.sql("SELECT pg_reload_conf()")
        poll(lambda: self.sql("SHOW ssl") == [wanted])

    def file(self, name: str, text: str) -> str:
        """A private file for a client."""
        path = self.files / name
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    @property
    def variables(self) -> dict[str, Any]:
        """How the example reaches this server instead of the one it names."""
        return {"db_host": self.address, "db_ssl_ca_cert": str(self.files / "authority.pem")}


@pytest.fixture(scope="module")
def server(engine: None) -> Iterator[Server]:
    """A server with TLS, set up as a provider does."""
    name = lab.unique_name()
    options = [*lab.labels(name), "--detach", f"--name={name}", "--publish=127.0.0.1::5432"]
    options += [f"--env=POSTGRES_{part.upper()}={text}" for part, text in ADMINISTRATOR.items()]
    try:
        lab.docker("run", *options, lab.POSTGRES_IMAGE)
        address = lab.docker("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", name)
        port = lab.docker("port", name, "5432/tcp").rpartition(":")[2]
        with short_folder() as files:
            server = Server(name, address, int(port), files)
            poll(lambda: answers(server))
            set_up(server)
            yield server
    finally:
        lab.down(name)


def answers(server: Server) -> bool:
    """Whether the server has come up for good: on its first boot it is up once before, without a port."""
    try:
        psycopg.connect(host=server.address, dbname="postgres", **ADMINISTRATOR).close()
    except psycopg.OperationalError:
        return False
    return True


def set_up(server: Server) -> None:
    """Certificates, access rules, roles and databases."""
    authority, other = Authority("of the provider"), Authority("of somebody else")
    own = authority.issue("db.example.com", server.address)
    for name, text in {"server.crt": own.certificate, "server.key": own.key, "ca.crt": authority.certificate}.items():
        server.run(f"umask 077 && cat > $PGDATA/{name}", stdin=text)
    server.run("cat > $PGDATA/pg_hba.conf", stdin=ACCESS)
    server.sql("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'")
    server.switch_tls("on")
    server.sql(PROVIDER)
    server.file("authority.pem", authority.certificate)
    server.file("other.pem", other.certificate)
    for name, signed in {
        "certified": authority.issue("certified"),
        "somebody": authority.issue("somebody"),
        "forged": other.issue("certified"),
    }.items():
        server.file(f"{name}.crt", signed.certificate)
        server.file(f"{name}.key", signed.key)


@pytest.fixture
def database(server: Server) -> Iterator[Server]:
    """An empty database cm that belongs to the group role."""
    server.sql("CREATE DATABASE cm OWNER cm_owner")
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO cm_owner", "cm")
    yield server
    server.sql("DROP DATABASE IF EXISTS cm WITH (FORCE)")


class Example(Project):
    """The project with a copy of the example's inventory, and the vault that its comment asks for."""

    def __init__(self, folder: Path, server: Server) -> None:
        super().__init__(folder)
        self.server = server
        self.inventory = folder / "example-managed"
        shutil.copytree(EXAMPLE, self.inventory)
        self.variables |= server.variables
        self.secrets += [PASSWORD, "the key of the vault"]
        self.key = folder / "vault-key"
        self.key.write_text("the key of the vault\n")
        self.vault({"vault_db_password": PASSWORD})

    def vault(self, secrets: dict[str, str]) -> None:
        """Encrypt the secrets as operators do."""
        file = self.inventory / "group_vars/production/vault.yml"
        # !unsafe: a password is no template.
        file.write_text("".join(f"{name}: !unsafe {json.dumps(text)}\n" for name, text in secrets.items()))
        done = self.tool("ansible-vault", "encrypt", f"--vault-password-file={self.key}", str(file))
        assert done.returncode == 0 and file.read_text().startswith("$ANSIBLE_VAULT;"), done.stderr

    def start(self, door: str, *arguments: str, limit: str = "production", **variables: Any) -> Popen[str]:
        """Start a playbook with the example's inventory and the vault's key."""
        vault = f"--vault-password-file={self.key}"
        return super().start(door, f"--inventory={self.inventory}", vault, *arguments, limit=limit, **variables)

    def run(self, door: str, *arguments: str, code: int = 0, limit: str = "production", **variables: Any) -> Run:
        """Run a playbook to its end; the example is about production."""
        return super().run(door, *arguments, code=code, limit=limit, **variables)


@pytest.fixture
def project(database: Server) -> Iterator[Example]:
    """The example, with two small migrations."""
    with short_folder() as folder, closing(Example(folder, database)) as project:
        write(project.init, TABLES)
        # This is about how the server is reached, and this machine may have no pg_dump that speaks TLS.
        project.variables |= {**project.own_files(), "migrate_backup_max_age": "0"}
        yield project


def test_the_example_with_its_vault_and_the_three_commands(database: Server) -> None:
    with short_folder() as folder, closing(Example(folder, database)) as project:
        # This machine may have no pg_dump that speaks TLS; and what it is about has no staging.
        project.variables |= {"migrate_backup_max_age": "0", "migrate_promote_from": ""}
        predicted = project.run("migrate.yml", "--check", "--diff", "-vvv")
        assert predicted.changed == 1
        assert database.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'cm'", "cm") == ["0"]

        done = project.run("migrate.yml", "-vvv")
        assert done.changed == 1 and "Version 4: 4 applied." in done.text
        assert project.run("migrate.yml").changed == 0
        assert "cm-production cm 4 none" in project.run("status.yml").text

    names = sorted(path.name for path in (ROOT / "db/init").glob("*.sql"))
    assert database.sql("SELECT name FROM cm.schema_version ORDER BY version", "cm") == names
    owners = "SELECT DISTINCT relowner::regrole FROM pg_class WHERE relnamespace = 'cm'::regnamespace"
    assert database.sql(owners, "cm") == ["cm_owner"]
    assert database.sql("SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'cm'", "cm") == ["cm_owner"]


def test_the_guard_does_not_show_what_comes_out_of_a_vault(project: Example) -> None:
    project.secrets.append("not-to-be-shown")
    project.vault({"vault_db_password": PASSWORD, "db_ssl_mode": "not-to-be-shown"})
    refused = project.run("migrate.yml", code=2)
    assert refused.error["code"] == "guard"
    assert "Variable db_ssl_mode is (not shown), which is not one of its choices." in refused.text


def test_without_the_vaults_key_nothing_is_done(project: Example) -> None:
    project.key.write_text("another key\n")
    output, _ = (process := project.start("migrate.yml")).communicate(timeout=60)
    assert process.returncode != 0 and "Decryption failed" in output
    assert PASSWORD not in output


def test_a_wrong_password_is_not_shown_either(project: Example) -> None:
    project.secrets.append("a wrong one")
    project.vault({"vault_db_password": "a wrong one"})
    refused = project.run("migrate.yml", "-vvv", code=2)
    assert "the first of db_password, db_password_file and db_passfile that is set" in refused.text


# ---- rights


def test_a_user_who_may_not_connect_to_postgres(project: Example) -> None:
    refused = project.run("migrate.yml", db_maintenance="postgres", code=2)
    assert refused.error["code"] == "connection"
    for sentence in (
        'permission denied for database "postgres"',
        "The run lock is held in that database. If cm has no business there, name another one of the same server in "
        "db_maintenance, the same for everybody who works on this database.",
    ):
        assert sentence in refused.text
    assert project.server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", "cm") == ["0"]
    # The database itself will do as long as nobody renames it.
    assert project.run("migrate.yml", db_maintenance="cm").changed == 1


@pytest.mark.parametrize(
    ("role", "sentence"),
    [
        ("stranger", 'permission denied to set role "stranger"'),
        ("misspelt", 'role "misspelt" does not exist'),
        ("", "The user of the run lacks a privilege: grant it, or act as the owner (db_user, db_session_role)."),
    ],
)
def test_a_role_that_cannot_be_acted_as(project: Example, role: str, sentence: str) -> None:
    refused = project.run("migrate.yml", db_session_role=role, code=2)
    assert sentence in refused.text
    if role:
        assert f'GRANT "{role}" TO "cm".' in refused.text


# ---- TLS


def mistakes(server: Server) -> dict[str, tuple[dict[str, Any], str]]:
    """Connection variables that cannot work, and what has to be said about them."""
    client = {"db_user": "certified", "db_session_role": ""}

    def pair(certificate: str, key: str) -> dict[str, Any]:
        return {**client, "db_ssl_cert": str(server.files / certificate), "db_ssl_key": str(server.files / key)}

    return {
        "unverified": (
            {"db_ssl_mode": "verify-ca", "db_ssl_ca_cert": str(server.files / "other.pem")},
            f"no authority in db_ssl_ca_cert ({server.files}/other.pem) has signed it",
        ),
        "missing": (
            {"db_ssl_mode": "verify-ca", "db_ssl_ca_cert": str(server.files / "missing.pem")},
            "db_ssl_ca_cert has to name the file with the authority",
        ),
        "misnamed": (
            {"db_host": "127.0.0.1", "db_port": server.published},
            'does not match host name "127.0.0.1". Set db_host to a name that is in the server\'s certificate.',
        ),
        "plain": ({"db_ssl_mode": "disable"}, "set db_ssl_mode to require or stricter; it is disable"),
        "nobody": (client, "Name a client certificate in db_ssl_cert and its key in db_ssl_key"),
        "somebody": (pair("somebody.crt", "somebody.key"), "The certificate in db_ssl_cert is not one of certified"),
        "forged": (
            pair("forged.crt", "forged.key"),
            "does not know the authority that signed the certificate in db_ssl",
        ),
        "keyless": (pair("certified.crt", "missing.key"), "db_ssl_key has to be the key of db_ssl_cert"),
        "open": (pair("certified.crt", "open.key"), "that nobody else can read (chmod 600)"),
    }


def screen(project: Example, variables: dict[str, dict[str, Any]]) -> Callable[[str], str]:
    """What one run of status.yml says about several hosts, each with variables of its own."""
    project.variables.clear()
    hosts = {name: {**project.server.variables, **given} for name, given in variables.items()}
    (project.inventory / "hosts.yml").write_text(json.dumps({"production": {"hosts": hosts}}))
    shown = project.run("status.yml").output.partition("TASK [status : Show one screen")[2]
    return lambda name: " ".join(shown.partition(f" {name}: ")[2].partition("\n    ")[0].split())


def test_each_mistake_about_tls_has_its_sentence(project: Example) -> None:
    shutil.copy(project.server.files / "certified.key", project.server.files / "open.key")
    (project.server.files / "open.key").chmod(0o644)
    expected = mistakes(project.server)
    said = screen(project, {name: variables for name, (variables, _) in expected.items()})
    for name, (_, sentence) in expected.items():
        assert sentence in said(name)


@pytest.mark.parametrize("mode", ["require", "verify-ca"])
def test_every_mode_gets_where_only_tls_is_let_in(project: Example, mode: str) -> None:
    assert project.run("migrate.yml", db_ssl_mode=mode).changed == 1


def test_a_server_without_tls_is_refused_as_soon_as_tls_is_demanded(project: Example) -> None:
    project.server.switch_tls("off")
    try:
        said = screen(project, {mode: {"db_ssl_mode": mode} for mode in ("require", "verify-full")})
    finally:
        project.server.switch_tls("on")
    for mode in ("require", "verify-full"):
        assert f"Have TLS switched on there. db_ssl_mode is {mode}; prefer goes without." in said(mode)


def test_a_client_certificate_instead_of_a_password(project: Example) -> None:
    project.server.sql("GRANT cm_owner TO certified")
    project.vault({"vault_db_password": ""})
    pair = {
        f"db_ssl_{part}": str(project.server.files / f"certified.{end}")
        for part, end in (("cert", "crt"), ("key", "key"))
    }
    done = project.run("migrate.yml", db_user="certified", **pair)
    assert done.changed == 1
    assert project.server.sql("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'", "cm") == [
        "cm_owner"
    ]
