# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom to call, as lines for the screen."""

from __future__ import annotations

import pytest
from ansible.module_utils.runbook import contacts

ANA = {"phone": "+49 30 1234", "role": "on call", "mail": "ana@example.com", "name": "Ana Perić"}


def test_role_and_name_come_first() -> None:
    assert contacts.lines([ANA, {"name": "Help desk", "phone": 4711}]) == [
        "Whom to call:",
        "  on call: Ana Perić, phone +49 30 1234, mail ana@example.com",
        "  Help desk, phone 4711",
    ]


def test_a_contact_is_shown_once() -> None:
    assert contacts.lines([ANA, dict(ANA)]) == contacts.lines([ANA])


@pytest.mark.parametrize("nobody", [[], [{}], ["Ana"], [None], [{"role": "", "name": None, "phone": ""}], "Ana"])
def test_nobody_is_no_heading(nobody: list[object]) -> None:
    assert contacts.lines(nobody) == []


def test_a_role_alone_is_a_contact() -> None:
    assert contacts.lines([{"role": "the provider's hotline"}]) == ["Whom to call:", "  the provider's hotline"]
