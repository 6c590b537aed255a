# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions in the write-ahead log."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook import wal


@pytest.mark.parametrize("lsn", ["0/0", "0/16B3748", "16/B374D848", "FFFFFFFF/FFFFFFFF"])
def test_positions_are_numbers(lsn: str) -> None:
    assert wal.lsn_of(wal.position(lsn)) == lsn


def test_a_position_has_two_halves() -> None:
    assert wal.position("1/2") == 2**32 + 2
    assert wal.position("A/0") > wal.position("9/FFFFFFFF")


@pytest.mark.parametrize(
    ("inserted", "wanted"),
    [
        ("0/4000028", "0/4000000"),  # behind the long header of a segment's first page
        ("0/6026018", "0/6026000"),  # behind the short header of any other page
        ("0/6026020", "0/6026000"),  # behind the rest of a record that began on the page before
        ("0/6026000", "0/6026000"),
        ("0/6026030", "0/6026030"),  # behind the shortest record on its own page
        ("0/6027FF8", "0/6027FF8"),
    ],
)
def test_a_page_header_is_nothing_to_wait_for(inserted: str, wanted: str) -> None:
    assert wal.replayable(wal.position(inserted), 8192) == wal.position(wanted)


def test_the_newest_position_covers_all() -> None:
    assert wal.newest(["0/FFFFFFFF", None, "1/0", "0/1"]) == "1/0"
    assert wal.newest([None, None]) == wal.newest([]) == ""
