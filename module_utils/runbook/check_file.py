# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the files in ``db/checks``, on the controller.

``*.yml`` is a list of checks. ``*.sql`` is one query that has to return no rows, with directives in the comments at
its top. Files are data: nothing in them is a template.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.runbook.check import Check
from ansible.module_utils.runbook.check_kind import CODE, read, refusal, refuse_twins
from ansible.module_utils.runbook.errors import RunbookError

_DIRECTIVE = re.compile(r"--\s*([A-Za-z_]+)\s*:\s*(.*?)\s*")
_DIRECTIVES = ("check", "severity", "timeout", "since", "until")
_NEAR = 0.75  # difflib's ratio from which on a word is a slip of the pen


def read_checks(folder: Path, shown_as: str, further: Sequence[Any] = ()) -> list[Check]:
    """Every check of a project.

    Parameters:
        folder: with the files; each kind of them in the order of their names.
        shown_as: what messages call the folder.
        further: entries that were handed over, such as those in ``validate_checks``.

    Raises:
        RunbookError: ``no-folder``, or ``check-file`` for anything that cannot be meant, naming file, line and check.
    """
    if not folder.is_dir():
        raise RunbookError(
            f"The folder of checks {shown_as} does not exist. Create it, name another one in validate_directory, or "
            'set that to "" for none.',
            code="no-folder",
        )
    checks: list[Check] = []
    for path in sorted(folder.iterdir()):
        shown = f"{shown_as.rstrip('/')}/{path.name}"
        if path.suffix in (".yml", ".yaml"):
            checks += _yaml_checks(_text(path, shown), shown)
        elif path.suffix == ".sql":
            checks.append(_sql_check(_text(path, shown), shown, path.stem))
    checks += handed_over(further)
    refuse_twins(checks)
    return checks


def handed_over(entries: Sequence[Any]) -> list[Check]:
    """Checks that stand in no file; raises as ``read_checks``."""
    checks = [read(entry, f"validate_checks, entry {number}") for number, entry in enumerate(entries, 1)]
    refuse_twins(checks)
    return checks


def _text(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RunbookError(f"{shown} cannot be read: {error.strerror}.", code=CODE, where=shown) from error
    except UnicodeDecodeError as error:
        raise refusal(shown, "", "the file is not UTF-8 text. Save it as UTF-8") from error


# --- YAML ---------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """PyYAML lets the last of several equal keys win without a word; here that is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is there twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return dict(super().construct_mapping(node, deep))


def _yaml_checks(text: str, shown: str) -> Iterator[Check]:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:  # nothing but comments
            return
        if not isinstance(root, yaml.SequenceNode):
            raise refusal(shown, "", 'the file has to be a list of checks, each beginning with "- name:"')
        for node in root.value:
            entry = loader.construct_object(node, deep=True)
            yield read(entry, f"{shown}:{node.start_mark.line + 1}")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{shown}:{mark.line + 1}" if mark else shown
        raise refusal(where, "", f"this is no usable YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise refusal(shown, "", f"this is no usable YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


# --- SQL ----------------------------------------------------------------------------------------------------------


def _sql_check(text: str, shown: str, stem: str) -> Check:
    entry: dict[str, Any] = {"name": stem.replace("_", " "), "no_rows": {"query": text}}
    for number, key, value in _directives(text, shown):
        if key == "check":
            entry["name"] = value
        elif key in ("since", "until"):
            if not value.isascii() or not value.isdigit():
                raise refusal(f"{shown}:{number}", "", f"{key} is {value!r}, and has to be a schema version such as 4")
            entry[key] = int(value)
        else:
            entry[key] = value
    if not text.strip():
        raise refusal(shown, "", "the file is empty. Write one query that has to return no rows, or remove the file")
    return read(entry, shown)


def _directives(text: str, shown: str) -> Iterator[tuple[int, str, str]]:
    """Line number, name and value of each directive in the comments at the top."""
    seen: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("--"):
            return
        match = _DIRECTIVE.fullmatch(line)
        if match is None:
            continue
        key, value = match[1].lower(), match[2]
        near = difflib.get_close_matches(key, _DIRECTIVES, n=1, cutoff=_NEAR)
        if key in seen:
            raise refusal(f"{shown}:{number}", "", f"the directive {key} is there twice")
        if key in _DIRECTIVES:
            seen.add(key)
            yield number, key, value
        elif near:
            raise refusal(f"{shown}:{number}", "", f"{key!r} is no directive; did you mean {near[0]}?")
