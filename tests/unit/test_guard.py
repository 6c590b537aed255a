# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard refuses what cannot go well, and says so in sentences that help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible.module_utils.runbook import guard

SPECS: dict[str, dict[str, Any]] = {
    "db": {
        "argument_specs": {
            "main": {
                "options": {
                    "db_name": {"type": "str", "default": "cm"},
                    "db_user": {"type": "str", "default": "cm", "aliases": ["db_owner"]},
                    "db_password": {"type": "str", "no_log": True},
                    "db_environment": {"type": "str"},
                    "db_runtime": {"type": "str", "choices": ["embedded", "docker", "native", "managed"]},
                    "db_pin": {"type": "int", "choices": [1234], "no_log": True},
                }
            }
        }
    },
    "migrate": {
        "argument_specs": {
            "main": {
                "options": {
                    "migrate_directory": {"type": "path"},
                    "migrate_standby_lag": {"type": "str", "default": "5min"},
                    "migrate_backup_max_age": {"type": "str"},
                    "migrate_allow_edited": {"type": "bool", "default": False},
                    "migrate_levels": {"type": "list", "elements": "int", "choices": [1, 2]},
                }
            },
            "repair": {"options": {"migrate_repair_versions": {"type": "list"}}},
        }
    },
    "silent-role": {},
}


def host(name: str = "staging-db", groups: Sequence[str] = ("staging",), **variables: object) -> guard.Host:
    """One host as the action plugin describes it."""
    return guard.Host(name, groups, variables)


def check(
    *hosts: guard.Host,
    core: str = "2.19.4",
    astray: Sequence[str] = (),
    specs: Mapping[str, Any] = SPECS,
    **intent: Any,
) -> list[str]:
    """Judge hosts with everything else in order."""
    controller = guard.Controller(core, "/srv/runbook", None, astray)
    return guard.check(controller, specs, hosts or (host(),), guard.Intent(**intent))


def only(problems: list[str]) -> str:
    """The one problem of a run that has exactly one."""
    assert len(problems) == 1, problems
    return problems[0]


@pytest.mark.parametrize("core", ["2.19.0", "2.19.0rc1", "2.20.10", "2.21.99"])
def test_tested_cores_pass(core: str) -> None:
    assert check(core=core) == []


@pytest.mark.parametrize("core", ["2.9.27", "2.18.6", "2.22.0b1", "2.22.0", "3.0.0"])
def test_untested_cores_are_refused_with_the_window_and_the_remedy(core: str) -> None:
    assert only(check(core=core)) == (
        f"This is ansible-core {core}, but the project is tested with 2.19 or newer and older than 2.22. "
        "Install a tested one with `make setup` and run `.venv/bin/ansible-playbook`."
    )


def test_foreign_settings_are_the_only_thing_reported() -> None:
    problem = only(check(host(db_nmae="x"), astray=["library", "module_utils"]))
    assert "no ansible.cfg was read, and nothing in library, module_utils points into /srv/runbook." in problem
    assert "ANSIBLE_CONFIG=/srv/runbook/ansible.cfg" in problem


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (guard.Tags(), ""),
        (guard.Tags(run=["apply"]), "With --tags apply nothing but this check would run"),
        (guard.Tags(run=["tagged"]), "With --tags tagged nothing"),
        (guard.Tags(run=["always"]), "With --tags always nothing"),
        (guard.Tags(run=["untagged"]), ""),
        (guard.Tags(run=["database"], own=["always", "database"]), ""),
        (guard.Tags(run=["apply"], own=["always", "database"]), "With --tags apply nothing"),
        (guard.Tags(skip=["untagged"]), "With --skip-tags untagged nothing"),
        (guard.Tags(skip=["slow"]), ""),
    ],
)
def test_tags_must_not_leave_out_everything_else(tags: guard.Tags, said: str) -> None:
    problems = guard.check(guard.Controller("2.21.0"), {}, [host(db_environment="staging")], guard.Intent(), tags)
    assert [said] == [one[: len(said)] for one in problems] if said else problems == []


GOOD: list[dict[str, object]] = [
    {},
    {"db_name": "shop", "db_owner": "shop", "db_runtime": "managed", "migrate_repair_versions": [1]},
    {"db_runtime": "{{ runtime_of_this_site }}", "migrate_allow_edited": "{{ lax }}"},
    {"migrate_allow_edited": True, "migrate_levels": [1, "2", "{{ level }}"], "db_pin": None},
    {"rollback_version": "3", "rollback_confirm": "cm"},
    {"backup_window": "there is no role of this name yet", "ansible_host": "10.0.0.1", "database_team": "x"},
    {"db_backup_host": "mine", "guard_ignore_variables": ["db_backup_host"]},
    {"db_backup_host": "mine", "environment_name": "x", "guard_ignore_variables": "db_backup_host, environment_name"},
    {"migrate_standby_lag": "10min"},
    {"migrate_standby_lag": 0},
    {"migrate_standby_lag": "{{ patience }}"},
    {"db_environment": "staging"},
    {"db_environment": ""},
]


@pytest.mark.parametrize("variables", GOOD)
def test_good_variables_pass(variables: dict[str, object]) -> None:
    assert check(host(**variables)) == []


BAD: list[tuple[dict[str, object], list[str]]] = [
    ({"migrate_directroy": "x"}, ["migrate_directroy is unknown", "Did you mean migrate_directory?"]),
    ({"db_zzz": "x"}, ["db_zzz is unknown: no role declares it. If your own", "guard_ignore_variables"]),
    ({"silent_role_depth": 1}, ["silent_role_depth is unknown"]),
    ({"rollback_to": 1}, ["rollback_to is unknown"]),
    ({"guard_span_enviroments": True}, ["Did you mean guard_span_environments?"]),
    ({"db_database": "x"}, ["db_database is called db_name here. Rename it"]),
    ({"db_passwd": "hush"}, ["db_passwd is called db_password here"]),
    ({"environment_name": "qa"}, ["environment_name is called db_environment here"]),
    ({"migrate_target_version": 3}, ["called migrate_version here"]),
    (
        {"migrate_allow_edited": "yes"},
        ["not the string 'yes'", """-e '{"migrate_allow_edited": true}'""", "in YAML migrate_allow_edited: true"],
    ),
    ({"migrate_allow_edited": "False"}, ["not the string 'False'", """-e '{"migrate_allow_edited": false}'"""]),
    ({"guard_span_environments": "true"}, ["""-e '{"guard_span_environments": true}'"""]),
    ({"db_runtime": "podman"}, ["db_runtime is 'podman'", "Choose from: embedded, docker, native, managed."]),
    ({"migrate_levels": [1, 7]}, ["migrate_levels is 7", "Choose from: 1, 2."]),
    ({"migrate_standby_lag": "5m"}, ["migrate_standby_lag is '5m', which is no duration. Write a whole number and a"]),
    ({"migrate_backup_max_age": "1 day"}, ["migrate_backup_max_age is '1 day', which is no duration.", "4h, 7d, or 0"]),
    ({"db_pin": 4321}, ["db_pin is (not shown)"]),
    ({"db_environment": "../etc"}, ["environment '../etc' cannot be the name of a directory"]),
    ({"db_environment": "Staging"}, ["environment 'Staging' cannot be the name of a directory"]),
    ({"db_environment": 7}, ["environment 7 cannot be the name of a directory"]),
    ({"db_environment": "{{ nowhere }}"}, ["db_environment cannot be resolved"]),
    ({"db_environment": "production"}, ["in group staging, but its db_environment is production"]),
]


@pytest.mark.parametrize(("variables", "expected"), BAD)
def test_bad_variables_are_refused(variables: dict[str, object], expected: list[str]) -> None:
    problem = only(check(host(**variables)))
    for text in expected:
        assert text in problem
    assert problem.endswith("Seen on staging-db.")


def test_every_rename_leads_to_another_name() -> None:
    assert not set(guard.RENAMED) & set(guard.RENAMED.values())


def test_a_declared_variable_is_not_called_renamed() -> None:
    specs = {"migrate": {"argument_specs": {"main": {"options": {"migrate_path": {}}}}}}
    assert check(host(migrate_path="x"), specs=specs) == []


@pytest.mark.parametrize("name", ["db_password", "db_ssl_secret", "db_api_token"])
def test_values_of_secrets_are_never_quoted(name: str) -> None:
    specs = {"db": {"argument_specs": {"main": {"options": {name: {"type": "bool", "choices": [True]}}}}}}
    problems = check(host(**{name: "hunter2"}), specs=specs)
    assert problems
    assert "hunter2" not in "".join(problems)


def test_values_from_a_vault_are_never_quoted() -> None:
    vaulted = guard.Host("a", ["staging"], {"db_runtime": "hunter2"}, encrypted=frozenset(["db_runtime"]))
    assert "db_runtime is (not shown)" in only(check(vaulted))


def test_the_same_problem_of_many_hosts_is_one_problem_with_its_places() -> None:
    origin = {"db_nmae": "inventories/staging/hosts.yml:4"}
    hosts = [guard.Host(f"db{number}", ["staging"], {"db_nmae": "x"}, origin) for number in range(8)]
    assert only(check(*hosts)).endswith(
        "Seen on db0, db1, db2, db3, db4 and 3 more, set in inventories/staging/hosts.yml:4."
    )


def test_all_problems_are_reported_at_once_and_numbered() -> None:
    problems = check(host(db_nmae="x", db_runtime="podman"), host("b", ["production"]), core="2.22.0")
    message = guard.refusal(problems)
    assert message.splitlines()[0] == "Nothing was done. 4 problems have to be solved first:"
    assert [line[:3] for line in message.splitlines()[1:]] == ["1. ", "2. ", "3. ", "4. "]


def test_a_host_without_an_environment_is_refused() -> None:
    assert "Put it in group staging or production, or set db_environment" in only(check(host(groups=["databases"])))


def test_a_host_of_two_environments_is_refused() -> None:
    problem = only(check(host(groups=["staging", "production"])))
    assert problem == "A host is in both groups staging and production. Leave it in one of them. Seen on staging-db."


def test_further_environments_need_only_their_variable() -> None:
    assert check(host("qa-db", ["qa"], db_environment="qa")) == []


STAGING = host("s1")
PRODUCTION = host("p1", ["production"])
QA = host("q1", ["qa"], db_environment="qa")
DR = host("d1", ["databases"], db_environment="dr")


def test_a_run_over_several_environments_names_them_and_the_limits() -> None:
    problem = only(check(STAGING, PRODUCTION, host("p2", ["production"]), QA, DR))
    assert "4 environments at once (staging: s1; production: p1, p2; qa: q1; dr: d1)" in problem
    assert "-l staging or -l production or -l qa or -l d1." in problem
    assert """-e '{"guard_span_environments": true}'""" in problem


def test_a_run_over_several_environments_is_fine_when_meant() -> None:
    assert check(STAGING, PRODUCTION, QA, span_environments=True) == []


def test_one_environment_name_for_all_does_not_hide_the_groups() -> None:
    hosts = [host("s1", db_environment="qa"), host("p1", ["production"], db_environment="qa")]
    *others, span = check(*hosts)
    assert "2 environments at once (staging: s1; production: p1)" in span
    assert [one.split(".")[0] for one in others] == [
        "A host is in group staging, but its db_environment is qa",
        "A host is in group production, but its db_environment is qa",
    ]


def test_destructive_operations_need_the_name_of_the_database() -> None:
    problem = only(check(operation="rollback", confirm="rollback_confirm"))
    assert problem == (
        "This rollback changes what is in database cm, and nothing confirms it. "
        "If you mean it, add -e rollback_confirm=cm to the command. Seen on staging-db."
    )


def test_confirming_another_database_is_refused() -> None:
    problem = only(check(host(db_name="shop", rollback_confirm="cm"), confirm="rollback_confirm"))
    assert "database shop, and rollback_confirm is 'cm'. If you mean it, add -e rollback_confirm=shop" in problem


@pytest.mark.parametrize("database", ["shop", "2024"])
def test_confirming_the_database_is_accepted(database: str) -> None:
    # An inventory may well say db_name: 2024, the command line always says '2024'.
    name = int(database) if database.isdigit() else database
    assert check(host(db_name=name, restore_confirm=database), operation="restore", confirm="restore_confirm") == []


RESTORE = {"operation": "restore", "confirm": "restore_confirm", "confirm_database": "restore_database"}


def test_another_variable_may_say_which_database_to_confirm() -> None:
    assert "changes what is in database cm, and nothing" in only(check(**RESTORE))
    assert check(host(restore_confirm="cm"), **RESTORE) == []
    copy = {"restore_database": "cm_copy"}
    assert "changes what is in database cm_copy" in only(check(host(restore_confirm="cm", **copy), **RESTORE))
    assert check(host(restore_confirm="cm_copy", **copy), **RESTORE) == []
    assert "restore_database cannot be resolved" in only(check(host(restore_database="{{ nowhere }}"), **RESTORE))


def test_a_container_need_not_be_asked_for_a_database_that_is_named() -> None:
    named = host(db_runtime="docker", restore_database="copy", restore_confirm="cm")
    assert "database copy, and restore_confirm is 'cm'" in only(check(named, **RESTORE))


def test_each_database_of_a_run_needs_its_confirmation() -> None:
    hosts = [host("a", db_name="cm", rollback_confirm="cm"), host("b", db_name="shop", rollback_confirm="cm")]
    assert only(check(*hosts, confirm="rollback_confirm")).endswith("Seen on b.")


def test_the_declared_name_of_the_database_is_the_default() -> None:
    specs = {"db": {"argument_specs": {"main": {"options": {"db_name": {"default": "shop"}}}}}}
    assert "rollback_confirm=shop" in only(check(specs=specs, confirm="rollback_confirm"))


def test_an_unresolvable_or_vaulted_name_of_the_database_is_not_repeated() -> None:
    template = only(check(host(db_name="{{ nowhere }}"), confirm="rollback_confirm"))
    assert "db_name cannot be resolved" in template
    hidden = guard.Host("a", ["staging"], {"db_name": "hunter2"}, encrypted=frozenset(["db_name"]))
    assert "Name the database in rollback_confirm." in only(check(hidden, confirm="rollback_confirm"))
    assert "hunter2" not in only(check(hidden, confirm="rollback_confirm"))


@pytest.mark.parametrize("intent", [{"confirm": "restore_confirm"}, {"one_database": True}])
def test_operations_on_one_database_refuse_a_list(intent: dict[str, Any]) -> None:
    several = host(db_name=["cm", "billing"], restore_confirm="cm")
    text = only(check(several, operation="restore", **intent))
    assert "This restore works on one database, and db_name lists 2: cm, billing." in text
    assert "-e db_name=cm." in text
    assert check(several) == []
    assert check(host(db_name=["billing"], restore_confirm="billing"), **intent) == []


def test_an_empty_list_of_databases_is_refused() -> None:
    assert "Variable db_name is an empty list." in only(check(host(db_name=[])))


def test_a_database_that_a_container_names_is_compared_later() -> None:
    intent = {"operation": "restore", "confirm": "restore_confirm"}
    text = only(check(host(db_runtime="docker"), **intent))
    assert "This restore needs a confirmation, and nothing confirms it. Name the database in restore_confirm." in text
    assert check(host(db_runtime="docker", restore_confirm="whatever"), **intent) == []
    assert only(check(host(db_runtime="docker", db_name="cm", restore_confirm="whatever"), **intent))


def test_approval_says_what_was_checked() -> None:
    assert guard.approval("2.21.5", [STAGING]) == "ansible-core 2.21.5 and the variables of 1 host are in order."
    assert "2 hosts" in guard.approval("2.21.5", [STAGING, QA])
