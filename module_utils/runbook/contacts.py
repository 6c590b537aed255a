# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom to call when a run has failed: the inventory's ``db_contacts`` as lines for the screen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

HEADING = "Whom to call:"


def lines(contacts: Iterable[object]) -> list[str]:
    """Return a heading and a line for each contact, or nothing when there is none.

    Parameters:
        contacts: mappings with ``role`` and ``name``, which come first, and how to reach them, in words of the team's
            own. The same contact is shown once; what is no mapping, or says nothing, is left out.
    """
    texts = (_line(contact) for contact in contacts if isinstance(contact, Mapping))
    shown = [f"  {text}" for text in dict.fromkeys(texts) if text]
    return [HEADING, *shown] if shown else []


def _line(contact: Mapping[object, object]) -> str:
    """``on call: Ana Perić, phone +49 30 1234``."""
    role, details = contact.get("role"), ", ".join(_details(contact))
    return f"{role}: {details}" if role and details else str(role or details)


def _details(contact: Mapping[object, object]) -> Iterator[str]:
    if contact.get("name"):
        yield str(contact["name"])
    for key, value in contact.items():
        if key not in ("role", "name") and value not in (None, ""):
            yield f"{key} {value}"
