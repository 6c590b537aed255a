# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's playbooks in real runs: what they promise, checked in the database they worked on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import yaml
from ansible.module_utils.runbook import embedded
from engine import write
from project import INTERRUPTED, ROOT, Project, poll, short_folder

OBJECTS = """
SELECT n.nspname || '.' || c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""
LEDGER = ["cm.schema_version", "cm.schema_version_history", "cm.schema_version_progress"]
TABLES = {
    "001_actor.sql": "CREATE TABLE public.actor (id int);",
    "002_model.sql": "CREATE TABLE public.model (id int);",
    "003_review.sql": "CREATE TABLE public.review (id int);",
}
DROPS = {
    "001_actor.sql": "DROP TABLE public.actor;",
    "002_model.sql": "DROP TABLE public.model;",
    "003_review.sql": "DROP TABLE public.review;",
}
# A migration that waits until the test opens the gate, without a lock that anybody could see.
GATE = """
DO $$ BEGIN
  WHILE NOT EXISTS (SELECT FROM pg_class WHERE relname = 'gate') LOOP PERFORM pg_sleep(0.05); END LOOP;
END $$;
"""


@pytest.fixture
def project(database: Any) -> Iterator[Project]:
    """The project, pointed at an empty database."""
    with short_folder() as folder, closing(Project(folder, database)) as project:
        yield project


@pytest.fixture
def tables(project: Project) -> Project:
    """The same with three small migrations and their rollback scripts instead of the project's own."""
    write(project.init, TABLES)  # type: ignore[arg-type]
    write(project.rollback, DROPS)  # type: ignore[arg-type]
    project.variables |= project.own_files()
    return project


def ask(project: Project, question: str) -> list[Any]:
    """The first column of an answer of the database."""
    with project.database.connect() as session:
        return [row[0] for row in session.execute(question)]


def versions(project: Project) -> list[int]:
    """The versions in the ledger, by the runbook's own query."""
    return ask(project, "SELECT version FROM cm.schema_version ORDER BY version")


def relations(project: Project) -> list[str]:
    """Tables, views, indexes and sequences a database has, the ledger's own left out."""
    return [name for name in ask(project, OBJECTS) if not name.startswith("cm.schema_version")]


def at_the_gate(project: Project) -> bool:
    """Whether a migration has come to the gate."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%WHERE relname = ''gate''%' AND pid <> pg_backend_pid()"
    )
    return bool(ask(project, f"{waiting} AND datname = current_database() AND state = 'active'"))


def come_to_the_gate(project: Project) -> Popen[str]:
    """Start a migration that waits at the gate, and return when it does."""
    process = project.start("migrate.yml", "-vvv")
    poll(lambda: at_the_gate(project) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    return process


def open_the_gate(project: Project) -> None:
    """Let the migration at the gate go on."""
    with project.database.connect() as session:
        session.execute("CREATE TABLE public.gate ()")


def names(files: list[dict[str, Any]]) -> list[str]:
    """The names of files in a run record."""
    return [file["name"] for file in files]


# ---- the test law


def test_migrate_predicts_then_does_then_has_nothing_to_do(project: Project) -> None:
    predicted = project.run("migrate.yml", "--check")
    assert predicted.changed == 1
    assert ask(project, OBJECTS) == []
    assert ask(project, "SELECT nspname FROM pg_namespace WHERE nspname = 'cm'") == []
    assert predicted.record["check"] is True
    assert names(predicted.host["pending"]) == sorted(path.name for path in (ROOT / "db/init").glob("*.sql"))

    done = project.run("migrate.yml")
    assert done.changed == 1
    assert "Version 4: 4 applied." in done.text
    assert versions(project) == [1, 2, 3, 4]
    assert ask(project, "SELECT count(*) FROM cm.audit_log") == [0]
    assert set(LEDGER) <= set(ask(project, OBJECTS))
    assert ask(project, "SELECT count(*) FROM cm.schema_version WHERE length(checksum) = 64") == [4]
    assert done.record["outcome"] == "succeeded"
    assert (done.host["previous_version"], done.host["version"], done.host["pending"]) == (None, 4, [])
    assert [file["version"] for file in done.host["applied"]] == [1, 2, 3, 4]
    assert all(file["transaction"] is True and file["statements"] > 0 for file in done.host["applied"])

    before = ask(project, "SELECT xmin::text || applied_at FROM cm.schema_version ORDER BY version")
    again = project.run("migrate.yml")
    assert again.changed == 0
    assert "Version 4: nothing to do." in again.text
    assert project.run("migrate.yml", "--check", "--diff").changed == 0
    assert ask(project, "SELECT xmin::text || applied_at FROM cm.schema_version ORDER BY version") == before


def test_diff_shows_versions_and_sql_but_no_password(tables: Project) -> None:
    sql = "CREATE ROLE reporter PASSWORD 'hunter2hunter2';\nCREATE TABLE report (id int);\n"
    write(tables.init, {"004_reporter.sql": sql})
    tables.secrets.append("hunter2hunter2")
    shown = tables.run("migrate.yml", "--check", "--diff", "-vvv")
    for text in ("+1 001_actor.sql", "+4 004_reporter.sql", "CREATE TABLE report (id int);", "PASSWORD '***'"):
        assert text in shown.output
    assert relations(tables) == []


def test_a_run_says_nothing_that_is_deprecated_or_noisy(tables: Project) -> None:
    # Each run is checked for deprecations; here also for everything else Ansible warns about.
    output = tables.run("migrate.yml", "-vv").output
    assert "WARNING" not in output and "DEPRECAT" not in output.upper()


# ---- versions


def test_up_to_a_version_then_to_the_latest(tables: Project) -> None:
    assert tables.run("migrate.yml", "-e", "migrate_version=2").changed == 1
    assert versions(tables) == [1, 2]
    assert tables.run("migrate.yml", migrate_version=2).changed == 0
    latest = tables.run("migrate.yml", "-e", "migrate_version=latest")
    assert names(latest.host["applied"]) == ["003_review.sql"]
    assert (latest.host["previous_version"], latest.host["version"]) == (2, 3)
    assert relations(tables) == ["public.actor", "public.model", "public.review"]


def test_migrate_never_goes_down_and_names_the_command_that_does(tables: Project) -> None:
    tables.run("migrate.yml")
    refused = tables.run("migrate.yml", migrate_version=1, code=2)
    assert refused.error["code"] == "rollback-not-allowed"
    assert "ansible-playbook rollback.yml -e rollback_version=1 -e rollback_confirm=" in refused.text
    assert versions(tables) == [1, 2, 3]


def test_rollback_needs_its_confirmation_and_then_goes_down(tables: Project) -> None:
    tables.run("migrate.yml")
    database = tables.database.database
    for confirmation in ({}, {"rollback_confirm": "cm"}):
        refused = tables.run("rollback.yml", rollback_version=1, code=2, **confirmation)
        assert refused.error["code"] == "guard"
        assert f"add -e rollback_confirm={database} to the command" in refused.text
        assert versions(tables) == [1, 2, 3]

    confirmed = {"rollback_version": 1, "rollback_confirm": database}
    predicted = tables.run("rollback.yml", "--check", "--diff", **confirmed)
    assert predicted.changed == 1
    assert "DROP TABLE public.review;" in predicted.output
    assert versions(tables) == [1, 2, 3] and len(relations(tables)) == 3

    done = tables.run("rollback.yml", **confirmed)
    assert done.changed == 1
    assert done.record["operation"] == "rollback"
    assert names(done.host["rolled_back"]) == ["003_review.sql", "002_model.sql"]
    assert (done.host["previous_version"], done.host["version"]) == (3, 1)
    assert versions(tables) == [1] and relations(tables) == ["public.actor"]
    assert tables.run("rollback.yml", **confirmed).changed == 0

    up = tables.run("rollback.yml", rollback_version=2, rollback_confirm=database, code=2)
    assert up.error["code"] == "apply-not-allowed"
    assert "To go up, run migrate.yml." in up.text
    assert versions(tables) == [1]


def test_the_projects_own_scripts_roll_back_to_nothing_and_up_again(project: Project) -> None:
    project.run("migrate.yml")
    built = ask(project, OBJECTS)
    confirmed = {"rollback_version": 0, "rollback_confirm": project.database.database}
    done = project.run("rollback.yml", **confirmed)
    assert done.host["version"] is None
    assert len(done.host["rolled_back"]) == 4
    assert versions(project) == [] and relations(project) == []
    assert ask(
        project, "SELECT count(*) FROM pg_type AS t WHERE typnamespace = 'cm'::regnamespace AND typtype IN ('d', 'e')"
    ) == [0]
    assert project.run("migrate.yml").changed == 1
    assert ask(project, OBJECTS) == built


def test_baseline_records_and_runs_nothing(tables: Project) -> None:
    predicted = tables.run("baseline.yml", "--check", baseline_version=2)
    assert predicted.changed == 1 and ask(tables, OBJECTS) == []
    done = tables.run("baseline.yml", "-e", "baseline_version=2")
    assert done.changed == 1
    assert names(done.host["baselined"]) == ["001_actor.sql", "002_model.sql"]
    assert "2 baselined, 0 versions changed" in done.text
    assert versions(tables) == [1, 2] and relations(tables) == []
    assert tables.run("baseline.yml", baseline_version=2).changed == 0
    assert names(tables.run("migrate.yml").host["applied"]) == ["003_review.sql"]
    assert relations(tables) == ["public.review"]


def test_a_database_born_from_psql_is_adopted_and_nothing_runs_again(project: Project) -> None:
    with project.database.connect() as session:
        for path in sorted((ROOT / "db/init").glob("*.sql")):
            session.execute(path.read_bytes())
        session.execute("INSERT INTO cm.audit_log (action) VALUES ('born before the runbook')")
    rows = "SELECT version::text || applied_at || description FROM cm.schema_version ORDER BY version"
    before = ask(project, rows)
    predicted = project.run("migrate.yml", "--check")
    assert predicted.changed == 1
    assert ask(project, "SELECT to_regclass('cm.schema_version_history')::text") == [None]

    adopted = project.run("migrate.yml")
    assert "Version 4: 4 adopted, 0 versions changed." in adopted.text
    assert (adopted.host["applied"], len(adopted.host["adopted"])) == ([], 4)
    assert ask(project, rows) == before
    assert ask(project, "SELECT action FROM cm.audit_log") == ["born before the runbook"]
    assert project.run("migrate.yml").changed == 0


def test_repair_accepts_edited_and_renamed_files(tables: Project) -> None:
    tables.run("migrate.yml")
    (tables.init / "001_actor.sql").rename(tables.init / "001_person.sql")
    write(tables.init, {"002_model.sql": "CREATE TABLE public.model (id int); -- a comment that came later"})
    assert tables.run("migrate.yml", code=2).error["code"] == "edited"
    repaired = tables.run("migrate.yml", "-e", '{"migrate_repair": true}')
    assert "Version 3: 2 repaired, 0 versions changed." in repaired.text
    assert names(repaired.host["repaired"]) == ["001_person.sql", "002_model.sql"]
    assert tables.run("migrate.yml").changed == 0


def test_one_transaction_for_all_files_keeps_all_or_nothing(tables: Project) -> None:
    write(tables.init, {"004_broken.sql": "CREATE TABLE public.broken (id int);\nSELECT 1 / 0;"})
    failed = tables.run("migrate.yml", migrate_transaction="all", code=2)
    assert "004_broken.sql:2: division by zero" in failed.text
    assert ask(tables, OBJECTS) == []
    each = tables.run("migrate.yml", code=2)
    assert names(each.host["applied"]) == sorted(TABLES) and versions(tables) == [1, 2, 3]
    assert names(each.host["pending"]) == ["004_broken.sql"]

    write(tables.init, {"004_broken.sql": "CREATE TABLE mended (id int);", "005_last.sql": "CREATE TABLE last ();"})
    assert tables.run("migrate.yml", migrate_transaction="all").host["version"] == 5
    same = "SELECT count(DISTINCT xmin::text) FROM cm.schema_version WHERE version > 3"
    assert ask(tables, same) == [1]


def test_a_wait_for_a_lock_is_on_record_with_who_was_in_the_way(tables: Project) -> None:
    tables.run("migrate.yml")
    write(tables.init, {"004_wider.sql": "ALTER TABLE public.actor ADD COLUMN name text;"})
    with tables.database.connect(application_name="the report") as reader:
        with reader.transaction():
            reader.execute("SELECT FROM public.actor")
            process = tables.start("migrate.yml", migrate_lock_timeout="300ms")
            waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'public.actor'::regclass"
            first = poll(lambda: ask(tables, waiting))
            poll(lambda: ask(tables, waiting) != first)
        (file,) = tables.finish(process).host["applied"]
    assert file["retries"] == len(file["lock_waits"]) >= 1
    (blocker,) = file["lock_waits"][0]["blockers"]
    assert (blocker["application"], blocker["state"]) == ("the report", "idle in transaction")
    assert "query" not in blocker


# ---- secrets and traces


def command_lines_with(text: str) -> list[str]:
    """The programs of this machine that have a text among their arguments; not the arguments, which end up in logs."""
    programs = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:  # it ended just now
            continue
        if text.encode() in line:
            programs.append(Path(line.split(b"\0")[0].decode(errors="replace")).name)
    return programs


def test_the_password_is_in_no_command_line_of_a_run(tables: Project) -> None:
    write(tables.init, {"004_slow.sql": GATE})
    process = come_to_the_gate(tables)
    of_the_run, with_the_password = (
        command_lines_with(text) for text in (str(tables.folder), tables.database.password)
    )
    open_the_gate(tables)
    done = tables.finish(process)
    assert of_the_run  # the run was there to be seen
    assert with_the_password == []
    assert names(done.host["applied"])[-1] == "004_slow.sql"


def test_sql_that_looks_like_a_template_arrives_untouched(tables: Project) -> None:
    text = "{{ 6 * 7 }} {% raw %} {# gone? #} {{ undefined_variable }} %s %% :name $1 \\N"
    sql = f"CREATE TABLE odd AS SELECT $text${text}$text$ AS words;\nCOMMENT ON TABLE odd IS '{text}';\n"
    write(tables.init, {"004_{{ 6 * 7 }}.sql": sql})
    done = tables.run("migrate.yml", "--diff", "-v")
    assert ask(tables, "SELECT words FROM odd") == [text]
    assert ask(tables, "SELECT obj_description('odd'::regclass)") == [text]
    assert ask(tables, "SELECT name FROM cm.schema_version WHERE version = 4") == ["004_{{ 6 * 7 }}.sql"]
    assert text in done.output


def test_a_failed_run_shows_no_password_and_leaves_nothing_behind(tables: Project) -> None:
    write(tables.init, {"004_broken.sql": "CREATE TABLE public.broken (id int);\nSELECT oops;"})
    failed = tables.run("migrate.yml", "-vvv", "--diff", code=2)  # the helper looks at output, records and folders
    assert failed.record["outcome"] == "failed"
    assert failed.error["file"] == "004_broken.sql" and failed.error["line"] == 2
    assert "public.broken" not in relations(tables)


# ---- interrupted


def test_ctrl_c_leaves_the_database_as_it_was_and_the_next_run_completes(tables: Project) -> None:
    tables.run("migrate.yml", migrate_version=2)
    before = ask(tables, OBJECTS)
    write(tables.init, {"003_review.sql": f"CREATE TABLE public.review (id int);\n{GATE}"})
    process = come_to_the_gate(tables)
    tables.interrupt(process)
    interrupted = tables.finish(process, code=INTERRUPTED)
    assert interrupted.record["outcome"] == "interrupted"
    poll(lambda: not at_the_gate(tables))  # the server notices within two seconds that its client is gone
    assert ask(tables, OBJECTS) == before and versions(tables) == [1, 2]

    open_the_gate(tables)
    completed = tables.run("migrate.yml")
    assert names(completed.host["applied"]) == ["003_review.sql"]
    assert versions(tables) == [1, 2, 3]
    assert "public.review" in relations(tables)


# ---- status


def test_status_is_a_report_that_changes_nothing(tables: Project) -> None:
    tables.run("migrate.yml", migrate_version=2)
    status = tables.run("status.yml")
    assert status.changed == 0
    assert status.record == {}
    for text in ("ENVIRONMENT HOST DATABASE VERSION PENDING LAST RUN", "1 (003_review.sql)", "migrate succeeded"):
        assert text in status.text
    assert f"staging cm-staging {tables.database.database} 2 " in status.text
    assert versions(tables) == [1, 2]

    tables.run("migrate.yml")
    assert f"{tables.database.database} 3 none migrate succeeded" in tables.run("status.yml").text


def test_status_of_a_database_that_is_down_is_a_line_on_the_screen(tables: Project) -> None:
    down = tables.run("status.yml", db_port=1)
    assert f"staging cm-staging {tables.database.database} unknown unknown never" in down.text
    assert f"cm-staging: Cannot connect to database {tables.database.database} at 127.0.0.1:1" in down.text


def test_status_of_a_host_that_is_unreachable_is_a_line_on_the_screen(tables: Project) -> None:
    ssh = tables.folder / "ssh"
    ssh.write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 255\n")
    ssh.chmod(0o755)
    status = tables.run("status.yml", ansible_connection="ssh", ansible_ssh_executable=str(ssh))
    assert f"staging cm-staging {tables.database.database} unknown unknown never" in status.text
    assert "no route to host" in status.text


def test_status_of_files_that_do_not_fit_is_a_line_on_the_screen(tables: Project) -> None:
    write(tables.init, {"1_again.sql": ""})
    status = tables.run("status.yml")
    assert "cm-staging: Two files in" in status.text and "have the number 1" in status.text


def test_status_shows_version_and_ledger_although_an_applied_file_was_edited(tables: Project) -> None:
    tables.run("migrate.yml", migrate_version=2)
    write(tables.init, {"002_model.sql": "CREATE TABLE public.model (id bigint);"})
    status = tables.run("status.yml")
    assert f"staging cm-staging {tables.database.database} 2 unknown migrate succeeded" in status.text
    assert "VERSION APPLIED AT (UTC) DESCRIPTION 2 20" in status.text
    assert "cm-staging: " in status.text and "002_model.sql" in status.text


# ---- embedded servers, several environments


@pytest.fixture
def clone() -> Iterator[Project]:
    """A copy of the project as a fresh clone has it, with no server running yet; its servers are removed in the end."""
    with short_folder() as folder:
        root = folder / "clone"
        left = (
            ".git",
            ".venv",
            ".embedded",
            ".runs",
            ".backups",
            ".*_cache",
            ".ansible",
            "__pycache__",
            "tests",
            ".running*",
        )
        shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(*left))
        try:
            yield Project(folder / "own", root=root, runs=root / ".runs")
        finally:
            for home in (root / ".embedded").glob("*"):
                embedded.remove(embedded.Wanted(home=str(home)))


def test_clean_refuses_to_delete_servers_that_it_cannot_stop(clone: Project) -> None:
    data = clone.root / ".embedded" / "cm-staging" / "data"
    ansible = clone.root / ".venv" / "bin" / "ansible"
    for missing in (True, False):
        data.mkdir(parents=True, exist_ok=True)
        if not missing:  # its interpreter was removed
            ansible.parent.mkdir(parents=True)
            ansible.write_text(f"#!{clone.root}/gone/python\n")
            ansible.chmod(0o755)
        refused = subprocess.run(["make", "clean"], cwd=clone.root, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "does not work: run make setup first." in refused.stderr
        assert data.is_dir() and ansible.exists() is not missing
    shutil.rmtree(clone.root / ".embedded")
    subprocess.run(["make", "clean"], cwd=clone.root, capture_output=True, check=True)
    assert not (clone.root / ".venv").exists()


def test_a_fresh_clone_runs_both_environments_and_a_further_one(clone: Project) -> None:
    first = clone.run("migrate.yml")
    assert "Version 4: 4 applied." in first.text
    assert first.changed == 2  # the server, the schema
    assert clone.run("migrate.yml").changed == 0

    both = clone.run("status.yml", limit="all")
    assert "staging cm-staging cm 4 none migrate succeeded" in both.text
    assert "production cm-production cm none 4 (001_model_registry.sql" in both.text
    assert both.changed == 1  # the server of production
    assert clone.run("status.yml", limit="all").changed == 0

    hosts = {"qa": {"hosts": {"cm-qa": None}}}
    group = yaml.safe_load((ROOT / "inventories/staging/group_vars/staging.yml").read_text())
    write(clone.root / "inventories/qa", {"hosts.yml": yaml.safe_dump(hosts)})
    write(clone.root / "inventories/qa/group_vars", {"qa.yml": yaml.safe_dump({**group, "db_environment": "qa"})})
    further = clone.run("migrate.yml", "-i", "inventories/qa", limit="qa")
    assert further.record["environment"] == "qa"
    assert further.host["version"] == 4
    assert sorted(path.name for path in clone.runs.iterdir()) == ["qa", "staging"]
    assert [json.loads(path.read_text())["outcome"] for path in clone.runs.glob("qa/*.json")] == ["succeeded"]

    stop = ["-m", "embedded_server", "-a", f"home='{clone.root}/.embedded/{{{{ inventory_hostname }}}}' state=absent"]
    assert "CHANGED" in clone.tool("ansible", "staging:production", *stop).stdout
    assert sorted(path.name for path in (clone.root / ".embedded").iterdir()) == ["cm-qa"]
    down = clone.run("migrate.yml", "--check", code=2)
    assert "The embedded server of cm-staging is not running, and check mode does not start it." in down.text


def test_a_playbook_imports_several_operations(project: Project) -> None:
    # What the roles of the first one provide is not taken for variables that somebody has set.
    site = project.folder / "site.yml"
    site.write_text(yaml.safe_dump([{"import_playbook": str(ROOT / name)} for name in ("migrate.yml", "status.yml")]))
    project.run(str(site))
    assert versions(project) == [1, 2, 3, 4]
