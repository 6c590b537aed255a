# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host needs before the modules can work there."""

from __future__ import annotations

import importlib
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

OLDEST_PSYCOPG = (3, 1)
"""The first psycopg that the engine is written for."""


@dataclass(frozen=True)
class Missing:
    """Something a host does not have.

    Attributes:
        name: ``psycopg``, ``requests``, ``acl``, ``docker`` or ``account``.
        sentence: what is missing, and what to do when no package brings it.
        by_package: whether a package of the system can bring it.
    """

    name: str
    sentence: str
    by_package: bool


def missing(runtime: str, os_user: str) -> list[Missing]:
    """What this host lacks.

    Parameters:
        runtime: how the database is reached, as in ``db_runtime``.
        os_user: the account the modules are to run as, empty for the one they run as now.
    """
    return [*_libraries(runtime), *_programs(runtime), *_for_account(os_user)]


def why_unusable(library: str, oldest: tuple[int, ...] = ()) -> str | None:
    """Why a library cannot be imported here, or None when it can."""
    try:
        version = str(importlib.import_module(library).__version__)
    except ImportError as error:
        return str(error)
    if tuple(int(number) for number in re.findall(r"\d+", version)[: len(oldest)]) < oldest:
        return f"version {version} is too old"
    return None


def _libraries(runtime: str) -> Iterator[Missing]:
    psycopg = why_unusable("psycopg", OLDEST_PSYCOPG)
    if psycopg is not None:
        newer = ".".join(map(str, OLDEST_PSYCOPG))
        yield _library("psycopg", f"psycopg {newer} or newer", psycopg, "'psycopg[binary]'")
    requests = why_unusable("requests") if runtime == "docker" else None
    if requests is not None:
        yield _library("requests", "requests", requests, "requests")


def _library(name: str, wanted: str, reason: str, pip: str) -> Missing:
    environment = sys.prefix != sys.base_prefix
    way = f"It is a virtual environment: {sys.prefix}/bin/pip install {pip}" if environment else ""
    sentence = f"{sys.executable} needs {wanted} ({reason}). {way}".rstrip(" .") + "."
    return Missing(name, sentence, not environment)


def _programs(runtime: str) -> Iterator[Missing]:
    if runtime == "docker" and not shutil.which("docker"):
        yield Missing("docker", "There is no docker in PATH: install Docker's client and its Compose plugin.", False)


def _for_account(os_user: str) -> Iterator[Missing]:
    """Root hands its files over to anybody; an ordinary account needs an access control list for that."""
    if not os_user:
        return
    try:
        own = pwd.getpwnam(os_user).pw_uid
    except KeyError:
        sentence = f"There is no account {os_user}: create it, or name another one in db_os_user that may be db_user."
        yield Missing("account", sentence, False)
        return
    if os.geteuid() not in (0, own) and not shutil.which("setfacl"):
        yield Missing("acl", f"There is no setfacl to hand files to {os_user} with: the package acl.", True)
