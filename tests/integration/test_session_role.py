# SPDX-License-Identifier: GPL-3.0-or-later
"""Acting as a role: what a run creates belongs to it, whatever the files do to the session on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import engine
import psycopg
import pytest
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.inspection import inspect
from ansible.module_utils.runbook.session import connect
from conftest import Database, maintenance
from engine import write
from project import poll
from psycopg import sql

OWNERS = """
SELECT DISTINCT c.relowner::regrole::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'cm'
"""
# Every way for a file to leave the session as somebody else, or to ask for the role of the login.
FILES = {
    "001_plain.sql": "CREATE TABLE plain (id int);",
    "002_leaves.sql": "SET ROLE NONE;\nSELECT 1;",
    "003_after.sql": "CREATE TABLE after (id int);",
    "004_asks.sql": "SET ROLE {user};\nRESET ROLE;\nCREATE TABLE asks (id int);",
    "005_default.sql": "SET SESSION AUTHORIZATION DEFAULT;\nCREATE TABLE default_again (id int);",
    "006_next_login.sql": "ALTER DATABASE {database} SET work_mem = '5MB';\nSELECT 1;",
    "007_renewed.sql": "CREATE TABLE renewed (id int);",
    "008_steps.sql": "CREATE INDEX CONCURRENTLY ON plain (id);\nSET ROLE NONE;\nSELECT 1;\nRESET ROLE;\n"
    "CREATE TABLE steps (id int);",
    "009_discards.sql": "-- transaction: none\nDISCARD ALL;\nCREATE TABLE discards (id int);",
}


@pytest.fixture
def member(database: Database) -> Iterator[Database]:
    """The test's database, owned by a role nobody logs in as, and a user who may act as that role and nothing else."""
    user, owner = f"{database.database}_user", f"{database.database} Owner"
    names = {
        "user": sql.Identifier(user),
        "owner": sql.Identifier(owner),
        "database": sql.Identifier(database.database),
    }
    with maintenance(database) as session:
        session.execute(sql.SQL("CREATE ROLE {owner}").format(**names))
        session.execute(
            sql.SQL("CREATE ROLE {user} LOGIN NOINHERIT PASSWORD 'quite secret' IN ROLE {owner}").format(**names)
        )
        session.execute(sql.SQL("ALTER DATABASE {database} OWNER TO {owner}").format(**names))
        session.execute(sql.SQL("REVOKE CREATE ON DATABASE {database} FROM PUBLIC").format(**names))
    yield replace(database, user=user, password="quite secret")
    with maintenance(database) as session:
        session.execute(sql.SQL("DROP DATABASE {database} WITH (FORCE)").format(**names))
        session.execute(sql.SQL("DROP ROLE {user}, {owner}").format(**names))


def owner_of(member: Database) -> str:
    return f"{member.database} Owner"


def files_for(member: Database) -> dict[str, str | bytes]:
    return {name: text.format(user=member.user, database=member.database) for name, text in FILES.items()}


def ask(database: Database, question: str) -> list[Any]:
    with database.connect() as session:
        return [row[0] for row in session.execute(question)]


@pytest.fixture
def role(member: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    """The session role, given to every login of the engine's tests."""
    name = owner_of(member)
    plain = engine.login
    monkeypatch.setattr(engine, "login", lambda database: replace(plain(database), session_role=name))
    return name


@pytest.mark.parametrize("transaction", ["each", "all"])
def test_everything_a_run_creates_belongs_to_the_role(
    member: Database, database: Database, role: str, tmp_path: Path, transaction: str
) -> None:
    folder = write(tmp_path / "init", files_for(member))
    report = engine.migrate(member, folder, transaction=transaction)
    assert report.error is None and report.outcome.version == 9
    assert ask(database, OWNERS) == [f'"{role}"']
    assert ask(database, "SELECT count(*) FROM cm.schema_version_history") == [9]
    assert engine.plan(member, folder)[0].changes is False


def test_without_the_role_the_same_user_may_do_nothing(member: Database, tmp_path: Path) -> None:
    folder = write(tmp_path / "init", {"001_a.sql": "CREATE SCHEMA a;"})
    error = engine.migrate(member, folder).error
    assert error is not None and "act as the owner (db_user, db_session_role)" in error.message


def test_a_role_that_the_server_gives_at_login_is_kept_as_well(
    member: Database, database: Database, tmp_path: Path
) -> None:
    with maintenance(database) as session:
        session.execute(
            sql.SQL("ALTER ROLE {} SET role = {}").format(sql.Identifier(member.user), sql.Literal(owner_of(member)))
        )
    report = engine.migrate(member, write(tmp_path / "init", files_for(member)))
    assert report.error is None
    assert ask(database, OWNERS) == [f'"{owner_of(member)}"']


def test_the_ledger_is_read_as_the_role(member: Database, role: str, tmp_path: Path) -> None:
    engine.migrate(member, write(tmp_path / "init", {"001_a.sql": "CREATE TABLE a ();"}))
    assert inspect(engine.login(member), "cm", limit=0, require_primary=True)["version"] == 1
    with pytest.raises(RunbookError, match="lacks a privilege"):
        inspect(replace(engine.login(member), session_role=""), "cm", limit=0, require_primary=True)


def test_a_lock_wait_is_still_ended_and_named(member: Database, database: Database, role: str, tmp_path: Path) -> None:
    # The watching session ends what it watches: only the user itself may do that, not the role.
    engine.migrate(member, write(tmp_path / "init", {"001_a.sql": "CREATE TABLE a (); CREATE TABLE b ();"}))
    write(tmp_path / "init", {"002_b.sql": "LOCK a; LOCK b;"})
    with database.connect() as first, first.transaction():
        first.execute("LOCK a")
        error = engine.migrate(member, tmp_path / "init", lock_timeout="200ms", lock_budget="300ms").error
    assert error is not None and error.code == "lock-timeout"
    catches = "DO $$ BEGIN LOOP BEGIN LOCK a; EXIT; EXCEPTION WHEN lock_not_available THEN END; END LOOP; END $$;"
    write(tmp_path / "init", {"002_b.sql": catches})
    with database.connect() as first, first.transaction():
        first.execute("LOCK a")
        error = engine.migrate(member, tmp_path / "init", lock_timeout="200ms", lock_budget="300ms").error
    assert error is not None and error.code == "lock-timeout"


def test_what_a_killed_run_left_at_work_is_ended(
    member: Database, database: Database, role: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "init", {"001_a.sql": "CREATE TABLE a ();"})
    with psycopg.connect(**engine.login(member).libpq("schema-runbook migrate ann"), autocommit=True) as orphan:
        pid = orphan.info.backend_pid
        assert engine.migrate(member, folder).error is None
        gone = f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}"
        assert poll(lambda: ask(database, gone) == [0])


# ---- roles that cannot be


def refusal(member: Database, role: str) -> str:
    with pytest.raises(RunbookError) as caught:
        connect(replace(engine.login(member), session_role=role), "test")
    assert caught.value.code == "session-role"
    assert member.password not in caught.value.message
    return caught.value.message


def test_a_role_the_user_is_no_member_of_names_the_grant(member: Database, database: Database) -> None:
    message = refusal(member, database.user)
    assert f'permission denied to set role "{database.user}"' in message
    assert f'GRANT "{database.user}" TO "{member.user}".' in message


def test_a_role_that_does_not_exist_says_so(member: Database) -> None:
    assert 'role "nobody at all" does not exist' in refusal(member, "nobody at all")


def test_a_role_that_gets_lost_on_the_way_is_noticed(member: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    login = replace(engine.login(member), session_role=owner_of(member))
    monkeypatch.setattr(type(login), "libpq", lambda self, name: without_options(login, name))
    with pytest.raises(RunbookError, match="a connection pooler most likely"):
        connect(login, "test")


def without_options(login: Any, name: str) -> dict[str, Any]:
    """What a pooler that drops start-up options makes of a login."""
    return {
        "host": login.host,
        "port": login.port,
        "user": login.user,
        "password": login.password,
        "dbname": login.database,
    }


def test_a_login_that_fails_anyway_is_not_blamed_on_the_role(member: Database) -> None:
    wrong = replace(engine.login(member), session_role=owner_of(member), password="wrong")
    with pytest.raises(RunbookError) as caught:
        connect(wrong, "test")
    assert caught.value.code == "connection"
    assert "password authentication failed" in caught.value.message
