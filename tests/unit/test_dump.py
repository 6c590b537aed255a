# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of contents compared with counted tables, and sizes for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.runbook import space
from ansible.module_utils.runbook.dump import missing
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.manifest import Table

LISTED = """\
;
; Archive created at 2026-11-22 14:30:00 UTC
;     Dumped by pg_dump version: 18.1
;
217; 1259 16385 TABLE cm lonely cm
3456; 0 16385 TABLE DATA cm a cm
3457; 0 16390 TABLE DATA public odd name the owner
3458; 0 16395 TABLE DATA cm ab cm
3459; 0 16399 TABLE DATA cm two lines cm
"""


def test_every_table_is_looked_for() -> None:
    tables = [Table("cm", name, 0) for name in ("a", "ab", "two\nlines")] + [Table("public", "odd name", 0)]
    assert missing(LISTED, tables) == []


@pytest.mark.parametrize(
    "table", [Table("cm", "lonely", 0), Table("cm", "b", 0), Table("CM", "a", 0), Table("c", "m a", 0)]
)
def test_a_table_without_rows_in_the_dump_is_named(table: Table) -> None:
    assert missing(LISTED, [table]) == [f"{table.schema}.{table.name}"]
    assert missing("", [table]) == [f"{table.schema}.{table.name}"]


def test_sizes_are_for_people() -> None:
    assert [space.readable(size) for size in (0, 999, 1000, 1_500_000, 2e9, 3e12)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "1.5 MB",
        "2.0 GB",
        "3.0 TB",
    ]


def test_a_disk_without_room_is_refused_where_the_folder_is_not_there_yet(tmp_path: Path) -> None:
    place = tmp_path / "not" / "yet"
    space.require(place, 1, "a test")
    with pytest.raises(RunbookError, match=f"not enough room for a test in {place}.*Nothing was begun") as caught:
        space.require(place, 2**60, "a test")
    assert caught.value.code == "disk-full"
