# SPDX-License-Identifier: GPL-3.0-or-later
"""The variable tables of the roles' READMEs, made from the roles' argument specs.

``python tests/role_readme.py --write`` brings the READMEs up to date; without ``--write`` it only says which are not.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
BEGIN = "<!-- From meta/argument_specs.yml, by `python tests/role_readme.py --write`: -->\n"
END = "<!-- end of the variables -->\n"
HEAD = "| variable | type | default | meaning |\n|---|---|---|---|\n"

_MARKUP = re.compile(r"[OCV]\(([^)]*)\)")


def roles() -> list[Path]:
    """Every role's folder."""
    return sorted(path.parents[1] for path in ROLES.glob("*/tasks/main.yml"))


def entry_points(role: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The options of each entry point of a role."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    return {name: specs[name].get("options", {}) for name in specs}


def expected(role: Path) -> str:
    """What the README of a role has to be: its own words, and the table of today."""
    before, _, rest = (role / "README.md").read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{HEAD}{''.join(_rows(entry_points(role)))}\n{END}{after}"


def _rows(points: dict[str, dict[str, dict[str, Any]]]) -> Iterator[str]:
    options = {name: option for entry in points.values() for name, option in entry.items()}
    for name, option in options.items():
        users = [point for point, entry in points.items() if name in entry]
        meaning = [_text(option["description"])]
        if "choices" in option:
            meaning.append(f"One of {', '.join(f'`{choice}`' for choice in option['choices'])}.")
        if len(users) < len(points):
            meaning.append(f"Only for {' and '.join(f'`{user}`' for user in users)}.")
        yield f"| `{name}` | {option['type']} | {_default(option)} | {' '.join(meaning)} |\n"


def _default(option: dict[str, Any]) -> str:
    if option.get("required"):
        return "**required**"
    if "default" not in option:
        return "computed"
    value = option["default"]
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else "empty"


def _text(description: str | list[str]) -> str:
    paragraphs = [description] if isinstance(description, str) else description
    return _MARKUP.sub(r"`\1`", " ".join(paragraphs))


def main() -> int:
    """Compare or, with ``--write``, correct; the exit status says whether something was out of step."""
    stale = [role / "README.md" for role in roles() if (role / "README.md").read_text() != expected(role)]
    for path in stale:
        if "--write" in sys.argv[1:]:
            path.write_text(expected(path.parent))
        print(f"{path} {'written' if '--write' in sys.argv[1:] else 'is out of step'}")
    return int(bool(stale) and "--write" not in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
