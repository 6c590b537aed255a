# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``schema_info`` says about the tables there are."""

from __future__ import annotations

from typing import Any

import engine
from ansible.module_utils.runbook.inspection import inspect
from conftest import maintenance
from engine import do


def test_sizes_say_which_tables_have_rows(database: Any) -> None:
    do(
        database,
        "CREATE SCHEMA cm; CREATE TABLE cm.schema_version (version int PRIMARY KEY)",
        "CREATE TABLE cm.empty (id int, t text)",
        "CREATE TABLE cm.filled AS SELECT g AS id FROM generate_series(1, 1000) g",
        "CREATE TABLE cm.analysed AS SELECT g AS id FROM generate_series(1, 500) g",
        "CREATE TABLE cm.day (at date) PARTITION BY RANGE (at)",
        "CREATE TABLE cm.day_1 PARTITION OF cm.day FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')",
        "CREATE TABLE cm.day_2 PARTITION OF cm.day FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')",
        "INSERT INTO cm.day VALUES ('2026-01-05'), ('2026-02-05')",
        'CREATE TABLE public."odd.name" AS SELECT 1 AS a',
        "CREATE MATERIALIZED VIEW cm.seen AS SELECT * FROM cm.filled",
        "ANALYZE cm.analysed, cm.day_1, cm.day_2",
    )
    found = inspect(engine.login(database), "cm", 0, True, tables=True)
    tables = found["tables"]
    assert set(tables) == {"cm.empty", "cm.filled", "cm.analysed", "cm.day", "public.odd.name", "cm.seen"}
    assert tables["cm.empty"] == {"bytes": 0, "rows": 0}
    assert tables["cm.filled"]["bytes"] >= 32768 and tables["cm.filled"]["rows"] is None
    assert tables["cm.analysed"]["rows"] == 500
    assert tables["cm.day"] == {"bytes": 16384, "rows": 2}


def test_a_table_that_was_emptied_has_no_rows(database: Any) -> None:
    filled = "AS SELECT g AS id FROM generate_series(1, 1000) g"
    do(
        database,
        f"CREATE TABLE emptied {filled}",
        f"CREATE TABLE again {filled}",
        "DELETE FROM emptied",
        "DELETE FROM again",
        "VACUUM again",
        "INSERT INTO again VALUES (1)",
        f"CREATE TABLE hidden {filled}",
        "ALTER TABLE hidden ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE hidden FORCE ROW LEVEL SECURITY",
    )
    tables = inspect(engine.login(database), "cm", 0, True, tables=True)["tables"]
    assert tables["public.emptied"]["bytes"] > 0 and tables["public.emptied"]["rows"] == 0
    assert tables["public.again"]["rows"] != 0, "the last VACUUM has seen none"
    assert tables["public.hidden"]["rows"] != 0, "a policy hides what there is"


def test_a_table_that_somebody_has_locked_is_estimated(database: Any) -> None:
    do(database, "CREATE TABLE filled AS SELECT g AS id FROM generate_series(1, 1000) g", "CREATE TABLE empty (id int)")
    do(database, "ANALYZE filled")
    with database.connect() as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE filled, empty")
        tables = inspect(engine.login(database), "cm", 0, True, tables=True)["tables"]
    assert tables["public.empty"] == {"bytes": 0, "rows": 0}
    assert tables["public.filled"]["bytes"] >= 40960 and tables["public.filled"]["rows"] == 1000


def test_one_locked_table_does_not_keep_the_others_from_being_looked_into(database: Any) -> None:
    for number in range(5):
        do(database, f"CREATE TABLE t{number} AS SELECT 1 AS a", f"ANALYZE t{number}", f"DELETE FROM t{number}")
    with database.connect() as session:
        session.execute("BEGIN")
        session.execute("LOCK TABLE t3")
        tables = inspect(engine.login(database), "cm", 0, True, tables=True)["tables"]
    assert {name for name, size in tables.items() if size["rows"] == 0} == {f"public.t{n}" for n in (0, 1, 2, 4)}


def test_two_databases_are_never_taken_for_one(database: Any, another_database: Any) -> None:
    first, second = (
        inspect(engine.login(one), "cm", 0, False, tables=True)["identity"] for one in (database, another_database)
    )
    assert first != second
    with maintenance(database) as session:
        ((system,),) = session.execute("SELECT system_identifier::text FROM pg_control_system()").fetchall()
    assert first.startswith(f"{system}/") and f"/{database.database}@" in first
    assert f"/{another_database.database}@" in second
