# SPDX-License-Identifier: GPL-3.0-or-later
"""What differs between two snapshots, what explains what, and how people read it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils.runbook.comparison import CHANGED, EXTRA, MISSING, Difference, compare, readable
from ansible.module_utils.runbook.expression import settled
from ansible.module_utils.runbook.snapshot import Snapshot

SCHEMA = {"schema cm": {"owner": "cm"}}
TABLE = {
    **SCHEMA,
    "table cm.audit_log": {"of": "schema cm", "owner": "cm", "row security": False, "column order": ["id", "note"]},
    "column cm.audit_log.id": {"of": "table cm.audit_log", "type": "bigint", "not null": True, "identity": "always"},
    "column cm.audit_log.note": {"of": "table cm.audit_log", "type": "text", "not null": False},
    "constraint cm.audit_log.audit_log_pkey": {"of": "table cm.audit_log", "definition": "PRIMARY KEY (id)"},
    "index cm.audit_log_pkey": {"of": "constraint cm.audit_log.audit_log_pkey"},
    "index cm.idx_note": {"of": "table cm.audit_log", "definition": "CREATE INDEX idx_note ON cm.audit_log (note)"},
    "sequence cm.audit_log_id_seq": {"of": "column cm.audit_log.id", "type": "bigint", "start": 1},
}
PARTITIONS = {
    **SCHEMA,
    "table cm.event": {"of": "schema cm"},
    "table cm.event_1": {"of": "schema cm", "inherited from": "table cm.event", "partition of": ["cm.event"]},
    "column cm.event.at": {"of": "table cm.event", "type": "date", "default": "now()"},
    "column cm.event_1.at": {
        "of": "table cm.event_1", "inherited from": "column cm.event.at", "type": "date", "default": "now()",
    },
}  # fmt: skip
FUNCTION = {"function cm.touch()": {"source": "\nBEGIN\n  -- keeps it\n  RETURN NEW;\nEND", "volatility": "volatile"}}


def changed(objects: dict[str, Any], changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Objects with some of their properties replaced; None takes one away."""
    made = {
        name: {**properties, **changes.get(name, {})}
        for name, properties in {**objects, **{name: objects.get(name, {}) for name in changes}}.items()
    }
    return {
        name: {key: value for key, value in properties.items() if value is not None}
        for name, properties in made.items()
    }


def without(objects: dict[str, Any], *names: str) -> dict[str, Any]:
    """Objects, some of them taken away."""
    return {name: properties for name, properties in objects.items() if name not in names}


def compared(expected: dict[str, Any], found: dict[str, Any], *ignore: str) -> list[Difference]:
    """The differences between objects."""
    return compare(Snapshot(expected), Snapshot(found), ignore)


def told(expected: dict[str, Any], found: dict[str, Any], /, **sides: str) -> list[str]:
    """What people read."""
    return readable(compared(expected, found), **sides).splitlines()


def test_equal_snapshots_do_not_differ() -> None:
    assert compared(TABLE, json.loads(json.dumps(TABLE))) == []
    assert readable([]) == ""


def test_changed_properties_are_told_one_by_one() -> None:
    found = changed(
        TABLE,
        {
            "table cm.audit_log": {"reloptions": ["fillfactor=70"], "row security": True},
            "column cm.audit_log.id": {"identity": None, "default": "", "not null": False},
        },
    )
    assert told(TABLE, found) == [
        "column cm.audit_log.id",
        "  not null: no, expected yes",
        "  identity: none, expected always",
        "  default: '', expected none",
        "table cm.audit_log",
        "  row security: yes, expected no",
        "  reloptions: fillfactor=70, expected none",
    ]
    assert told(found, TABLE, expected="before", found="after the rollback")[-1] == (
        "  reloptions: none after the rollback, before fillfactor=70"
    )


def test_of_a_list_only_what_differs_is_told_unless_its_order_matters() -> None:
    expected = {"table t": {"privileges": ["app: SELECT", "app: UPDATE"]}, "enum e": {"labels": ["a", "b"]}}
    found = {"table t": {"privileges": ["app: SELECT", "job: SELECT"]}, "enum e": {"labels": ["b", "a"]}}
    assert told(expected, found) == [
        "enum e",
        "  labels: b, a, expected a, b",
        "table t",
        "  privileges: job: SELECT, expected app: UPDATE",
    ]


def test_what_is_missing_or_extra_is_told_with_its_definition() -> None:
    rest = without(TABLE, "index cm.idx_note")
    line = "index cm.idx_note {}: CREATE INDEX idx_note ON cm.audit_log (note)"
    assert told(TABLE, rest) == [line.format("is missing")]
    assert told(rest, TABLE) == [line.format("is there, but not expected")]
    assert told(TABLE, rest, found="after the rollback") == [line.format("is missing after the rollback")]
    assert told(rest, TABLE, expected="before") == [line.format("is there, but not before")]


def test_a_long_definition_of_something_missing_is_cut() -> None:
    view = {"view cm.v": {"definition": " SELECT " + ",\n    ".join(f"column_{n}" for n in range(200))}}
    (line,) = told(view, {})
    assert len(line) < 200
    assert line.startswith("view cm.v is missing: SELECT column_0, column_1,") and line.endswith(" …")


def test_what_is_part_of_something_missing_goes_with_it() -> None:
    (difference,) = compared(TABLE, SCHEMA)
    assert (difference.object, difference.kind) == ("table cm.audit_log", MISSING)
    assert set(difference.includes) == set(TABLE) - set(SCHEMA) - {difference.object}
    assert told(TABLE, SCHEMA) == [
        "table cm.audit_log is missing",
        "  with 2 columns, 1 constraint, 2 indexes, 1 sequence",
    ]
    assert told({}, TABLE)[0] == "schema cm is there, but not expected"


def test_a_constraint_takes_its_index_along_and_a_column_its_sequence() -> None:
    found = without(TABLE, "constraint cm.audit_log.audit_log_pkey", "index cm.audit_log_pkey")
    assert told(TABLE, found) == [
        "constraint cm.audit_log.audit_log_pkey is missing: PRIMARY KEY (id)",
        "  with 1 index",
    ]
    found = without(TABLE, "column cm.audit_log.id", "sequence cm.audit_log_id_seq")
    assert [one.object for one in compared(TABLE, found)] == ["column cm.audit_log.id"]


def test_parts_of_a_table_that_became_a_view_go_with_the_table() -> None:
    view = {"view cm.audit_log": {"of": "schema cm"}, "column cm.audit_log.id": {"of": "view cm.audit_log"}}
    found = compared(TABLE, {**SCHEMA, **view})
    assert [(one.object, one.kind) for one in found] == [("table cm.audit_log", MISSING), ("view cm.audit_log", EXTRA)]


def test_what_has_found_a_new_owner_is_told_itself() -> None:
    sequence = "sequence cm.audit_log_id_seq"
    alone = {**SCHEMA, sequence: {"of": "schema cm", "type": "bigint", "start": 1}}
    owned = changed(TABLE, {sequence: {"owned by": "cm.audit_log.id"}})
    assert told(alone, owned)[:2] == [sequence, "  owned by: cm.audit_log.id, expected none"]


def test_partitions_that_differ_like_their_parent_are_told_with_it() -> None:
    later = {"column cm.event.at": {"default": "later()"}, "column cm.event_1.at": {"default": "later()"}}
    assert told(PARTITIONS, changed(PARTITIONS, later)) == [
        "column cm.event.at",
        "  default: later(), expected now()",
        "  likewise 1 column",
    ]
    assert told(PARTITIONS, SCHEMA) == ["table cm.event is missing", "  with 2 columns, 1 table"]


def test_a_partition_that_differs_in_another_way_is_told_itself() -> None:
    apart = {"column cm.event.at": {"default": "later()"}, "column cm.event_1.at": {"default": "never()"}}
    assert len(compared(PARTITIONS, changed(PARTITIONS, apart))) == 2
    alone = {"column cm.event_1.at": {"default": "never()"}}
    assert [one.object for one in compared(PARTITIONS, changed(PARTITIONS, alone))] == ["column cm.event_1.at"]


def test_definitions_on_partitions_have_names_of_their_own() -> None:
    expected = {
        "index cm.i": {"definition": "CREATE INDEX i ON ONLY cm.event (at)"},
        "index cm.i_1": {"definition": "CREATE INDEX i_1 ON cm.event_1 (at)", "inherited from": "index cm.i"},
    }
    found = json.loads(json.dumps(expected).replace("(at)", "(kind)"))
    assert [(one.object, one.includes) for one in compared(expected, found)] == [("index cm.i", ("index cm.i_1",))]


def test_tables_that_have_changed_places_are_both_told() -> None:
    def pair(parent: str, child: str, owner: str) -> dict[str, Any]:
        return {
            f"table {parent}": {"owner": owner},
            f"table {child}": {"owner": owner, "inherited from": f"table {parent}"},
        }

    assert compared(pair("a", "b", "x"), pair("b", "a", "y"))


def test_lines_that_differ_are_shown_and_one_on_each_side() -> None:
    found = changed(FUNCTION, {"function cm.touch()": {"source": "\nBEGIN\n  RETURN OLD;\r\nEND"}})
    assert told(FUNCTION, found) == [
        "function cm.touch() differs:",
        "    BEGIN",
        "  -   -- keeps it",
        "  -   RETURN NEW;",
        "  +   RETURN OLD;\\r",
        "    END",
    ]
    found["function cm.touch()"]["volatility"] = "stable"
    assert told(FUNCTION, found)[:4] == ["function cm.touch()", "  source:", "      BEGIN", "    -   -- keeps it"]
    assert told(FUNCTION, found)[-1] == "  volatility: stable, expected volatile"


def test_long_texts_are_shown_below_each_other() -> None:
    expected, found = ({"column c": {"comment": word * 30}} for word in ("much ", "more "))
    assert told(expected, found) == [
        "column c",
        "  comment:",
        f"    - {'much ' * 30}".rstrip(),
        f"    + {'more ' * 30}".rstrip(),
    ]


def test_another_order_of_columns_is_a_note() -> None:
    turned = changed(TABLE, {"table cm.audit_log": {"column order": ["note", "id"]}})
    (note,) = compared(TABLE, turned)
    assert note.note and note.kind == CHANGED
    assert told(TABLE, turned) == ["table cm.audit_log", "  column order: note, id, expected id, note"]
    more = changed(TABLE, {"table cm.audit_log": {"column order": ["note", "id"], "owner": "x"}})
    assert not compared(TABLE, more)[0].note
    assert not compared(TABLE, SCHEMA)[0].note


def test_the_order_of_columns_is_that_of_those_on_both_sides() -> None:
    column = {"column cm.audit_log.at": {"of": "table cm.audit_log", "type": "date"}}
    found = changed({**TABLE, **column}, {"table cm.audit_log": {"column order": ["at", "id", "note"]}})
    assert [one.object for one in compared(TABLE, found)] == ["column cm.audit_log.at"]


@pytest.mark.parametrize(
    ("pattern", "rest"),
    [
        ("table cm.event_*", {"schema cm"}),
        ("table cm.*", {"schema cm"}),
        ("schema cm", set()),
        ("column *.at", {"schema cm", "table cm.event_1"}),
        ("TABLE cm.event_1", {"schema cm", "table cm.event_1"}),
    ],
)
def test_what_is_ignored_takes_its_parts_along(pattern: str, rest: set[str]) -> None:
    partition = {"column cm.event_1.at", "table cm.event_1"}
    found = changed(without(PARTITIONS, *partition), {"schema cm": {"owner": "x"}})
    assert {one.object for one in compared(PARTITIONS, found, "index *", pattern)} == rest


def test_differences_are_sorted_and_become_json() -> None:
    differences = compared(
        TABLE, changed(without(TABLE, "index cm.idx_note"), {"table a": {}, "schema cm": {"owner": "x"}})
    )
    assert [one.object for one in differences] == ["index cm.idx_note", "schema cm", "table a"]
    assert json.loads(json.dumps([one.as_dict() for one in differences]))[1] == {
        "object": "schema cm",
        "kind": "changed",
        "note": False,
        "changes": [{"property": "owner", "expected": "cm", "found": "x"}],
        "definition": "",
        "includes": [],
    }


def test_kinds_are_counted_by_their_names() -> None:
    parts = [
        "text search configuration cm.c",
        "cast (integer AS cm.x)",
        "policy cm.t.p",
        "policy cm.t.q",
        "trigger cm.t.t",
    ]
    parts += [
        'foreign table cm."a b"',
        "statistics cm.s",
        "statistics cm.t",
        "function cm.f(integer, text)",
        "view cm.x",
    ]
    parts += ["default privileges of x in cm for tables"]
    objects = {"schema cm": {}, **{name: {"of": "schema cm"} for name in parts}}
    assert told(objects, {})[1] == (
        "  with 1 cast, 1 default privilege, 1 foreign table, 1 function, 2 policies, 2 statistics, "
        "1 text search configuration, 1 trigger, 1 view"
    )


# --- one form for what is written in two ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a = 1", "a = 1"),
        (
            "((a)::text = ANY ((ARRAY['x'::character varying, 'y'::character varying])::text[]))",
            "((a)::text = ANY (ARRAY[('x'::character varying)::text, ('y'::character varying)::text]))",
        ),
        ("(ARRAY['], ''('::bpchar, f(1, 2)])::text[]", "ARRAY[('], ''('::bpchar)::text, (f(1, 2))::text]"),
        ('(ARRAY[a, b[1]])::cm."My, type"[]', 'ARRAY[(a)::cm."My, type", (b[1])::cm."My, type"]'),
        ("(ARRAY[a])::x[] || (ARRAY[b])::y[]", "ARRAY[(a)::x] || ARRAY[(b)::y]"),
        ("(ARRAY[1, 2] || a)", "(ARRAY[1, 2] || a)"),
        ("(ARRAY[1, 2])::text", "(ARRAY[1, 2])::text"),
        ("'(ARRAY[' || a", "'(ARRAY[' || a"),
    ],
)
def test_a_cast_of_an_array_is_an_array_of_casts(text: str, form: str) -> None:
    assert settled(text) == form
    assert settled(form) == form
