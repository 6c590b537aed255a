# SPDX-License-Identifier: GPL-3.0-or-later
"""Positions in the write-ahead log (WAL), PostgreSQL's type ``pg_lsn``. Pure functions, light enough for a filter."""

from __future__ import annotations

from collections.abc import Iterable

# The record that ends in the first bytes of a page began before that page: a page header takes 24 or 40 bytes
# (access/xlog_internal.h), and the shortest record another 24 (access/xlogrecord.h).
_NO_WHOLE_RECORD = 40


def position(lsn: str) -> int:
    """A WAL position such as ``0/16B3748`` in bytes since the beginning."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def lsn_of(position: int) -> str:
    """The reverse of ``position``."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def newest(lsns: Iterable[str | None]) -> str:
    """The position that covers all of these; empty when there is none."""
    return max((lsn for lsn in lsns if lsn), key=position, default="")


def replayable(inserted: int, page: int) -> int:
    """What a standby reports when it has replayed everything, for the position where the next record will begin.

    Behind a page that is full, that position is behind the header of a page which does not exist yet. No standby
    gets there before something else is written.

    Parameters:
        inserted: where the next record will begin, in bytes.
        page: size of a WAL page, in bytes.
    """
    within = inserted % page
    return inserted - within if within <= _NO_WHOLE_RECORD else inserted
