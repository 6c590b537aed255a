# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL as the server writes it, in the one form that it has after a dump and restore as well."""

from __future__ import annotations

import re

_ARRAY = "(ARRAY["

# A cast of the whole array: the type's name, qualified and quoted where needed, without a length.
_CAST = re.compile(r"\)::((?:[\w$. ]|\"(?:[^\"]|\"\")*\")+)\[\]")

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|.""", re.DOTALL)


def settled(text: str) -> str:
    """Write ``(ARRAY['a'::varchar])::text[]`` as ``ARRAY[('a'::varchar)::text]``.

    ``status IN ('a', 'b')`` on a varchar is kept as a cast of an array. Written out and parsed again, by a dump and
    restore, it becomes an array of casts (PostgreSQL documentation, "Array Constructors"): same meaning, other text.
    """
    start = text.find(_ARRAY)
    while start >= 0:
        elements, end = _elements(text, start + len(_ARRAY))
        cast = _CAST.match(text, end)
        if cast and elements:
            array = ", ".join(f"({element})::{cast.group(1)}" for element in elements)
            text = f"{text[:start]}ARRAY[{array}]{text[cast.end() :]}"
        start = text.find(_ARRAY, start + 1)
    return text


def _elements(text: str, start: int) -> tuple[list[str], int]:
    """The elements of an array, and where its closing bracket has been passed; none when there is no such bracket."""
    elements: list[str] = []
    depth, begun = 0, start
    for token in _TOKEN.finditer(text, start):
        if token.group() in "([":
            depth += 1
        elif token.group() in ")]" and depth:
            depth -= 1
        elif token.group() == "]":
            return [*elements, text[begun : token.start()].strip()], token.end()
        elif token.group() == "," and not depth:
            elements.append(text[begun : token.start()].strip())
            begun = token.end()
    return [], len(text)
