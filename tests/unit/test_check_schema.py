# SPDX-License-Identifier: GPL-3.0-or-later
"""Types as people write them, and as the server does."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook.check_schema import normal_type


@pytest.mark.parametrize(
    ("written", "server"),
    [
        ("int", "integer"),
        ("INT8", "bigint"),
        ("bigserial", "bigint"),
        ("varchar(20)", "character varying(20)"),
        ("character varying( 20 )", "character varying(20)"),
        ("decimal(5, 4)", "numeric(5,4)"),
        ("numeric(3,-2)", "numeric(3,-2)"),
        ("timestamptz", "timestamp with time zone"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("Timestamp  Without Time Zone", "timestamp without time zone"),
        ("time", "time without time zone"),
        ("text[][]", "text[]"),
        ("varchar(3)[]", "character varying(3)[]"),
        ("double  precision", "double precision"),
        ("cm.risk_level", "cm.risk_level"),
        ('cm."Risk Level"', 'cm."Risk Level"'),
        ("jsonb", "jsonb"),
    ],
)
def test_a_type_is_told_by_any_of_its_names(written: str, server: str) -> None:
    assert normal_type(written) == server
