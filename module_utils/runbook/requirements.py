# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host needs before the modules can work there."""

from __future__ import annotations

import importlib
import os
import pwd
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OLDEST_PSYCOPG = (3, 1)
"""The first psycopg that the engine is written for."""

PROGRAMS = {"age": "encrypted backups need", "rclone": "off-site copies of backups need"}
"""Programs that only some hosts have to have, and what for; packages have the same names."""


@dataclass(frozen=True)
class Missing:
    """Something a host does not have.

    Attributes:
        name: ``psycopg``, ``requests``, ``acl``, ``account``, or the program.
        sentence: what is missing, and what to do when no package brings it.
        by_package: whether a package of the system can bring it.
    """

    name: str
    sentence: str
    by_package: bool


def to_work(runtime: str, programs: Sequence[str] = ()) -> Iterator[Missing]:
    """What the account that runs this lacks for working on a database.

    Client programs are not asked for: nothing but ``up.yml`` and ``down.yml`` needs ``docker compose``, and says so.

    Parameters:
        runtime: how the database is reached, as in ``db_runtime``.
        programs: which of ``PROGRAMS`` are wanted there.
    """
    psycopg = why_unusable("psycopg", OLDEST_PSYCOPG)
    if psycopg is not None:
        newer = ".".join(map(str, OLDEST_PSYCOPG))
        yield _library("psycopg", f"psycopg {newer} or newer", psycopg, "'psycopg[binary]'")
    requests = why_unusable("requests") if runtime == "docker" else None
    if requests is not None:
        yield _library("requests", "requests", requests, "requests")
    for program in programs:
        if not shutil.which(program):
            yield Missing(program, f"There is no {program}, which {PROGRAMS[program]}: the package {program}.", True)


def to_hand_over(account: str) -> Iterator[Missing]:
    """What the account that runs this, the one that logs in, lacks for handing files to the one that works.

    Root hands its files over to anybody, and reads everybody's; between others it takes an access control list.

    Parameters:
        account: the name of the account that works.
    """
    try:
        uid = pwd.getpwnam(account).pw_uid
    except KeyError:
        sentence = f"There is no account {account}: create it, or name another one in db_os_user that may be db_user."
        yield Missing("account", sentence, False)
        return
    if os.geteuid() not in (0, uid) and uid != 0 and not shutil.which("setfacl"):
        yield Missing("acl", f"There is no setfacl to hand files to {account} with: the package acl.", True)


def why_unusable(library: str, oldest: tuple[int, ...] = ()) -> str | None:
    """Why a library cannot be imported here, or None when it can."""
    try:
        version = str(importlib.import_module(library).__version__)
    except ImportError as error:
        return str(error)
    if tuple(int(number) for number in re.findall(r"\d+", version)[: len(oldest)]) < oldest:
        return f"version {version} is too old"
    return None


def _library(name: str, wanted: str, reason: str, pip: str) -> Missing:
    environment = sys.prefix != sys.base_prefix
    way = f"It is a virtual environment: {sys.prefix}/bin/pip install {pip}" if environment else ""
    sentence = f"{sys.executable} needs {wanted} ({reason}). {way}".rstrip(" .") + "."
    return Missing(name, sentence, not environment)
