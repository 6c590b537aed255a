# SPDX-License-Identifier: GPL-3.0-or-later
"""For mypy only: ansible-core as untyped as it is, with our engine, typed, in its place inside it."""

from typing import Any

def __getattr__(name: str) -> Any: ...
