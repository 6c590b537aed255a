# SPDX-License-Identifier: GPL-3.0-or-later
"""Which environment a host belongs to: the one rule that the guard and the run record share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

VARIABLE = "db_environment"
PRODUCTION = "production"
DEFAULT_ENVIRONMENTS = ("staging", PRODUCTION)

# An environment names a folder of run records, so it must be a plain file name.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def environment_of(variables: Mapping[str, Any], groups: Sequence[str]) -> str | None:
    """Return the environment of a host, or None when it has none or an ambiguous one.

    The host's variable ``db_environment`` decides. Without it (or with an empty one) the host belongs to the
    environment whose group it is in, ``staging`` or ``production``; being in both is ambiguous.
    A value that is not a plain name (letters, digits, ``-`` and ``_``) is no environment.

    Parameters:
        variables: the host's variables, templates resolved.
        groups: the names of all groups the host is in (``group_names``).
    """
    value = variables.get(VARIABLE)
    if value is not None and value != "":
        return str(value) if isinstance(value, str) and NAME.fullmatch(value) else None
    matches = [name for name in DEFAULT_ENVIRONMENTS if name in groups]
    return matches[0] if len(matches) == 1 else None
