#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speed and memory as ratios taken in the same run: ``make bench``.

It reports and never fails for a figure; docs/benchmarks.md says what is measured and why like this.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import ansible.module_utils  # noqa: E402

ansible.module_utils.__path__.append(str(ROOT / "module_utils"))

import backups  # noqa: E402
import engine  # noqa: E402
from ansible.module_utils.runbook import backup, embedded, restoration  # noqa: E402
from ansible.module_utils.runbook.application import apply_bundle  # noqa: E402
from ansible.module_utils.runbook.bundle import write_bundle  # noqa: E402
from ansible.module_utils.runbook.client import find_program  # noqa: E402

SMALL_FILES = 1_000
APPLIED_VERSIONS = 10_000
COPY_MEGABYTES = 50
MODULE_MEGABYTES = 64

SMALL_SHOP, SHOP, LARGE_SHOP = 100, 300, 1024
"""Sizes of databases to back up and to restore, in megabytes."""

# A migration as people write them: a table, an index, first rows, an afterthought.
SMALL_FILE = """\
-- Orders of region {number}, and what was agreed about them.
CREATE TABLE {schema}.orders_{number} (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paid', 'sent')),
    amount numeric(12, 2) NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_{number}_customer ON {schema}.orders_{number} (customer, ordered_at);

INSERT INTO {schema}.orders_{number} (customer, amount)
VALUES ('Ada; "the first"', 12.50), ('Grace', 7), ('Edsger', 0.99);

ALTER TABLE {schema}.orders_{number} ADD COLUMN note text;
"""

# What is backed up: several tables, keys, indexes, text that compresses as text does.
SHOP_TABLES = """\
CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    since timestamptz NOT NULL
);
CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer bigint NOT NULL REFERENCES shop.customers,
    state text NOT NULL CHECK (state IN ('open', 'paid', 'sent')),
    amount numeric(12, 2) NOT NULL,
    ordered_at timestamptz NOT NULL,
    note text
);
CREATE INDEX orders_customer ON shop.orders (customer, ordered_at);
CREATE INDEX orders_open ON shop.orders (ordered_at) WHERE state = 'open';
CREATE TABLE shop.events (id bigserial PRIMARY KEY, at timestamptz NOT NULL, payload jsonb NOT NULL);
CREATE INDEX events_at ON shop.events (at);
CREATE TABLE shop.heartbeats (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp());
"""

# One round of rows, about 10 MB with their indexes.
SHOP_ROWS = """\
INSERT INTO shop.customers (name, email, since)
SELECT 'Customer ' || md5(n::text), md5(random()::text) || '@example.com', now() - n * interval '1 minute'
  FROM generate_series(1, 3000) AS n;
INSERT INTO shop.orders (customer, state, amount, ordered_at, note)
SELECT 1 + floor(random() * 3000), (ARRAY['open', 'paid', 'sent'])[1 + n % 3], random() * 1000,
       now() - n * interval '1 s', 'Please ' || repeat(md5(random()::text) || ' ', n % 4)
  FROM generate_series(1, 30000) AS n;
INSERT INTO shop.events (at, payload)
SELECT now() - n * interval '1 s', jsonb_build_object('kind', 'visit', 'page', md5(random()::text), 'number', n)
  FROM generate_series(1, 12000) AS n;
"""

PARTS = "abcdef"

DBMATE = "@dbmate/linux-x64"


# --- what a measurement is -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figure:
    """One line of the table: ratios (or, with a unit, plain numbers) of several rounds, and what they should be."""

    name: str
    values: Sequence[float]
    target: float
    unit: str = ""

    def row(self) -> tuple[str, ...]:
        """The line, as text."""
        median = round(statistics.median(self.values), 2)
        spread = f"{min(self.values):.2f}–{max(self.values):.2f}" if len(self.values) > 1 else ""
        met = "met" if median <= self.target else "not met"
        return self.name, f"{median:.2f}{self.unit}", spread, f"≤ {self.target:g}{self.unit}", met


@dataclass
class Clock:
    """Durations by contender, round by round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, contender: str, seconds: float) -> None:
        """Note one round of a contender."""
        self.seconds.setdefault(contender, []).append(seconds)

    def ratios(self, one: str, other: str) -> list[float]:
        """How long ``one`` took in terms of ``other``, round by round: both saw the same load of the machine."""
        return [mine / theirs for mine, theirs in zip(self.seconds[one], self.seconds[other], strict=True)]

    def __str__(self) -> str:
        return ", ".join(f"{name} {statistics.median(values):.2f} s" for name, values in self.seconds.items())


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work`` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# --- the stage -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Database:
    """An empty database on the bench's server; what ``engine.login`` wants to know."""

    host: str
    port: int
    user: str
    database: str
    password: str
    passfile: Path

    @property
    def environment(self) -> dict[str, str]:
        """What libpq's tools and dbmate read, so that nothing secret is on a command line."""
        return {
            **os.environ,
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGPASSWORD": self.password,
            "DATABASE_URL": f"postgres://{self.user}:{self.password}@{self.host}:{self.port}/{self.database}?sslmode=disable",
        }


@dataclass(frozen=True)
class Stage:
    """A server with the product's default settings (fsync on), and a folder to work in."""

    server: embedded.Server
    folder: Path

    def database(self) -> Database:
        """A fresh database, on a disk that is quiet again.

        None is dropped before the end: ext4 avoids the inodes of files that were just deleted, and the search for
        others would make the next contender slower by as much as a half.
        """
        password = self.server.passfile.read_text().rstrip("\n").rsplit(":", 1)[1]
        database = Database(
            self.server.host, self.server.port, self.server.user, next(_names), password, self.server.passfile
        )
        address = {"host": database.host, "port": database.port, "dbname": "postgres"}
        with psycopg.connect(**address, user=database.user, password=password, autocommit=True) as session:
            session.execute(f"CREATE DATABASE {database.database}".encode())
            session.execute("CHECKPOINT")
        return database


_names = (f"bench_{number}" for number in itertools.count(1))


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start a server of the bench's own; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the server's account has to get in
        wanted = embedded.Wanted(home=str(folder / "server"))
        server, _reason = embedded.start(wanted)
        try:
            yield Stage(server, folder)
        finally:
            embedded.remove(wanted)


def write_small_files(folder: Path, count: int) -> Path:
    """Write numbered migrations into a folder, the first of which creates the schema they need."""
    files = {f"{n:05d}_orders_{n}.sql": SMALL_FILE.format(number=n, schema="shop") for n in range(2, count + 1)}
    return engine.write(folder, {"00001_shop.sql": "CREATE SCHEMA shop;\n", **files})


def run(command: Sequence[str | Path], environment: dict[str, str], cwd: Path = ROOT) -> None:
    """Run a contender; a failure ends the bench with what it said."""
    done = subprocess.run(
        list(map(str, command)), env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-4000:]}")


# --- (a) many small files --------------------------------------------------------------------------------------------


def small_files(stage: Stage, rounds: int) -> list[Figure]:
    """Apply 1,000 files fresh: the engine, psql and dbmate take turns."""
    folder = write_small_files(stage.folder / "small", SMALL_FILES)
    script = psql_script(folder, stage.folder / "all.sql")
    dbmate = install_dbmate(stage.folder / "npm")
    dbmate_folder = dbmate and write_dbmate_files(folder, stage.folder / "dbmate")
    clock = Clock()
    for number in range(rounds):
        turns = [by_engine, by_psql, *([by_dbmate] if dbmate else [])]
        # Each round starts with another contender, so that none always has the warmer caches.
        for turn in turns[number % len(turns) :] + turns[: number % len(turns)]:
            database = stage.database()
            if turn is by_engine:
                controller, module = by_engine(database, folder, stage.folder / "bundle")
                clock.add("engine", module)
                clock.add("engine with controller", controller + module)
            elif turn is by_psql:
                clock.add("psql", by_psql(database, script))
            elif dbmate and dbmate_folder:
                clock.add("dbmate", by_dbmate(database, dbmate, dbmate_folder))
    say(f"(a) {SMALL_FILES} small files, medians: {clock}")
    others = ["psql", "dbmate"] if dbmate else ["psql"]
    return [
        Figure(f"(a) {SMALL_FILES} files: {label} / {other}", clock.ratios(name, other), 1.0)
        for other in others
        for name, label in (("engine", "engine"), ("engine with controller", "engine + controller"))
    ]


def by_engine(database: Database, folder: Path, bundle: Path) -> tuple[float, float]:
    """Seconds of the controller's half (look, read, plan, prepare, write the bundle) and of the module's half."""
    started = time.perf_counter()
    _plan, order, tasks = engine.plan(database, folder)
    with bundle.open("wb") as file:
        write_bundle(file, order, tasks)
    shipped = time.perf_counter()
    with bundle.open("rb") as file:
        report = apply_bundle(file, engine.login(database), engine.options(directory=str(folder)), engine.REQUESTER)
    ended = time.perf_counter()
    if report.error is not None or len(report.outcome.applied) != SMALL_FILES:
        sys.exit(f"the engine applied {len(report.outcome.applied)} files: {report.error}")
    return shipped - started, ended - shipped


def psql_script(folder: Path, script: Path) -> Path:
    """The runbook's way in one session: each file and its version row in one transaction."""
    lines = [
        "CREATE SCHEMA cm;",
        "CREATE TABLE cm.schema_version "
        "(version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ DEFAULT now(), description TEXT);",
    ]
    for file in sorted(folder.iterdir()):
        version, description = file.stem.split("_", 1)
        row = f"INSERT INTO cm.schema_version (version, description) VALUES ({int(version)}, '{description}');"
        lines += ["BEGIN;", f"\\i {file}", row, "COMMIT;"]
    script.write_text("\n".join(lines) + "\n")
    return script


def by_psql(database: Database, script: Path) -> float:
    """Seconds of the embedded server's own psql."""
    psql = embedded.find_binaries(embedded._caller_account("nobody")) / "psql"
    command = [psql, "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--file={script}"]
    return timed(lambda: run(command, database.environment))


def install_dbmate(folder: Path) -> Path | None:
    """dbmate from npm, in a folder of the bench's; None, and a sentence why, where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        say("(a) dbmate cannot be had: npm is not installed. It is left out.")
        return None
    folder.mkdir()
    command = [
        npm,
        "install",
        "--prefix",
        str(folder),
        "--no-save",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=0",
        DBMATE,
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    binary = folder / "node_modules" / DBMATE / "bin" / "dbmate"
    if not os.access(binary, os.X_OK):
        said = next((line for line in done.stderr.splitlines() if "error" in line), "it left no program")
        say(f"(a) dbmate cannot be had: npm install {DBMATE} failed: {said}. It is left out.")
        return None
    return binary


def write_dbmate_files(folder: Path, target: Path) -> Path:
    """The same migrations in dbmate's form."""
    form = "-- migrate:up\n{}\n-- migrate:down\n"
    return engine.write(target, {file.name: form.format(file.read_text()) for file in folder.iterdir()})


def by_dbmate(database: Database, dbmate: Path, folder: Path) -> float:
    """Seconds of dbmate, without its dump of the schema."""
    command = [dbmate, "--migrations-dir", folder, "--no-dump-schema", "migrate"]
    return timed(lambda: run(command, database.environment))


# --- (b) nothing to do -----------------------------------------------------------------------------------------------


def nothing_to_do(stage: Stage, rounds: int) -> list[Figure]:
    """The no-op playbook, with 10,000 applied versions, and a bare playbook take turns."""
    folder = write_small_files(stage.folder / "applied", APPLIED_VERSIONS)
    bare = stage.folder / "bare.yml"
    bare.write_text(BARE)
    clock = Clock()
    database = stage.database()
    # A baseline writes the ledger rows that applying would; what is measured reads nothing else.
    engine.migrated(database, folder, state="baseline", version=str(APPLIED_VERSIONS))
    variables = playbook_variables(stage, database, migrate_directory=str(folder))
    for _ in range(rounds):
        clock.add("bare playbook", timed(lambda: playbook(stage, bare)))
        clock.add("no-op playbook", timed(lambda: playbook(stage, ROOT / "migrate.yml", variables)))
    say(f"(b) playbooks, medians: {clock}")
    name = f"(b) no-op with {APPLIED_VERSIONS} versions / bare playbook"
    return [Figure(name, clock.ratios("no-op playbook", "bare playbook"), 1.6)]


BARE = """\
- hosts: staging
  gather_facts: false
  tasks:
    - ansible.builtin.command: "true"
"""


def playbook_variables(stage: Stage, database: Database, **more: object) -> Path:
    """A file for ``-e @``: the bench's server as a managed one, and further variables."""
    variables = {
        "db_runtime": "managed",
        "db_host": database.host,
        "db_port": database.port,
        "db_user": database.user,
        "db_name": database.database,
        "db_passfile": str(database.passfile),
        **more,
    }
    file = stage.folder / "variables.json"
    file.write_text(json.dumps(variables))
    return file


def playbook(stage: Stage, book: Path, variables: Path | None = None) -> None:
    """Run a playbook with the project's ansible.cfg and inventories; run records go to the bench's folder."""
    extra = [] if variables is None else ["-e", f"@{variables}"]
    command = [Path(sys.executable).parent / "ansible-playbook", book, "-l", "staging", *extra]
    ours = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "SCHEMA_RUNBOOK_RUNS": str(stage.folder / "runs")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    run(command, {**inherited, **ours})


# --- (c) memory ------------------------------------------------------------------------------------------------------

# Stands in for the target's interpreter and notes what each module process needed at its peak.
INTERPRETER = """\
#!{python}
import os, sys
pid = os.posix_spawn({python!r}, [{python!r}, *sys.argv[1:]], os.environ)
_pid, status, usage = os.wait4(pid, 0)
with open({note!r}, "a") as note:
    print(usage.ru_maxrss, file=note)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def memory(stage: Stage) -> list[Figure]:
    """Peak memory of the module process in real playbook runs that apply files."""
    copy = write_copy_file(stage.folder / "copy")
    largest = next(copy.iterdir()).stat().st_size / 2**20
    small = write_small_files(stage.folder / "small", SMALL_FILES)
    return [
        Figure(
            f"(c) module process, {SMALL_FILES} small files",
            [peak_megabytes(stage, stage.database(), "migrate.yml", migrate_directory=str(small))],
            MODULE_MEGABYTES,
            " MB",
        ),
        Figure(
            f"(c) module process, one COPY file of {largest:.0f} MB",
            [peak_megabytes(stage, stage.database(), "migrate.yml", migrate_directory=str(copy))],
            round(MODULE_MEGABYTES + largest),
            " MB",
        ),
    ]


def write_copy_file(folder: Path) -> Path:
    """One migration that carries its data with it."""
    folder.mkdir()
    row = "{}\tsome customer of ours\t2024-02-29 12:00:00+00\tlorem ipsum dolor sit amet, consectetur adipiscing elit\n"
    with (folder / "001_import.sql").open("w") as file:
        file.write("CREATE TABLE imported (id bigint PRIMARY KEY, customer text, at timestamptz, note text);\n")
        file.write("COPY imported FROM stdin;\n")
        for number in itertools.count():
            if file.tell() >= COPY_MEGABYTES * 2**20:
                break
            file.write("".join(row.format(number * 1000 + line) for line in range(1000)))
        file.write("\\.\n")
    return folder


def peak_megabytes(stage: Stage, database: Database, book: str, **more: object) -> float:
    """Run a playbook; returns the most that one of its module processes used."""
    note = stage.folder / "peaks"
    note.write_text("")
    interpreter = stage.folder / "python-noting-memory"
    interpreter.write_text(INTERPRETER.format(python=sys.executable, note=str(note)))
    interpreter.chmod(0o755)
    playbook(
        stage, ROOT / book, playbook_variables(stage, database, ansible_python_interpreter=str(interpreter), **more)
    )
    return max(int(line) for line in note.read_text().split()) / 1024


# --- (d) backups and restores ---------------------------------------------------------------------------------------


def shop(stage: Stage, megabytes: int) -> Database:
    """A database of about that size."""
    database = stage.database()
    with connect(database) as session:
        session.execute(SHOP_TABLES)
        while session.execute("SELECT pg_database_size(current_database())").fetchone()[0] < megabytes * 2**20:
            session.execute(SHOP_ROWS)
        session.execute("VACUUM ANALYZE")
        session.execute("CHECKPOINT")
    return database


def connect(database: Database) -> psycopg.Connection[tuple]:
    """An autocommit session."""
    address = {"host": database.host, "port": database.port, "dbname": database.database}
    return psycopg.connect(**address, user=database.user, password=database.password, autocommit=True)


def backups_and_restores(stage: Stage, rounds: int) -> list[Figure]:
    """A sealed set and a bare dump take turns, then a verified restore and a bare one; compression is the same."""
    database = shop(stage, SHOP)
    sets, dumps = stage.folder / "sets", [stage.folder / f"dump {number}" for number in range(rounds)]
    clock = Clock()
    for number, dump in enumerate(dumps):
        turns = {"pg_dump": partial(bare_dump, database, dump), "sealed set": partial(take, database, sets)}
        for turn in sorted(turns, reverse=number % 2 == 0):
            clock.add(turn, timed(turns[turn]))
    for number in range(rounds):
        targets = [replace(database, database=next(_names)) for _ in range(2)]
        turns = {
            "pg_restore": partial(bare_restore, database, targets[0], dumps[0]),
            "verified restore": partial(restore, database, targets[1], sets),
        }
        for turn in sorted(turns, reverse=number % 2 == 0):
            clock.add(turn, timed(turns[turn]))
    say(f"(d) a database of {SHOP} MB, medians: {clock}")
    return [
        Figure("(d) sealed set / pg_dump -Fd -j2", clock.ratios("sealed set", "pg_dump"), 1.15),
        Figure("(d) restore to verified / pg_restore -j2", clock.ratios("verified restore", "pg_restore"), 1.0),
    ]


def take(database: Database, folder: Path) -> None:
    """A sealed set, as the module takes it."""
    backup.take(engine.login(database), backups.options(folder, compression="gzip"), False)


def bare_dump(database: Database, folder: Path) -> None:
    """What a script would do; pg_dump sees to it itself that its files are on the disk."""
    pg_dump = find_program("pg_dump", 18)
    run([pg_dump, "--format=directory", "--jobs=2", "--compress=gzip", f"--file={folder}"], database.environment)


def restore(database: Database, target: Database, folder: Path, **given: object) -> dict[str, object]:
    """A step of a restore, as the module does it; by default the one that takes time."""
    defaults = {name: argument.get("default") for name, argument in restoration.RESTORE_ARGUMENTS.items()}
    place = {"directory": str(folder), "backup_database": database.database, "confirmation": target.database}
    return restoration.run(engine.login(target), {**defaults, **place, **given}, False)


def bare_restore(database: Database, target: Database, folder: Path) -> None:
    """What a script would do, without looking at the result."""
    with connect(replace(database, database="postgres")) as session:
        session.execute(f"CREATE DATABASE {target.database} TEMPLATE template0".encode())
    pg_restore = find_program("pg_restore", 18)
    run([pg_restore, "--jobs=2", f"--dbname={target.database}", folder], database.environment)


# --- (e) memory of backups and restores ------------------------------------------------------------------------------


def memory_of_backups(stage: Stage) -> list[Figure]:
    """Peak memory of the module processes of backup.yml and restore.yml, for two sizes of databases."""
    peaks = {size: [*_peaks(stage, shop(stage, size))] for size in (SMALL_SHOP, LARGE_SHOP)}
    say(f"(e) peaks of backup.yml and restore.yml in MB, by size of the database: {peaks}")
    return [
        Figure(f"(e) {playbook}, {LARGE_SHOP} MB / {SMALL_SHOP} MB: peak memory", [large / small], 1.1)
        for playbook, small, large in zip(("backup", "restore"), *peaks.values(), strict=True)
    ]


def _peaks(stage: Stage, database: Database) -> Iterator[float]:
    sets = {"backup_directory": str(stage.folder / "sets of memory"), "restore_confirm": database.database}
    for book in ("backup.yml", "restore.yml"):
        yield peak_megabytes(stage, database, book, **sets)


# --- (f) downtime ----------------------------------------------------------------------------------------------------


class Writer(threading.Thread):
    """An application that writes all the time, and logs in again at once when it is thrown out.

    Parameters:
        database: what it writes to, by name: whatever is live.
    """

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._written: list[float] = []
        self._done = threading.Event()

    def run(self) -> None:
        """Write until it is told to stop."""
        while not self._done.is_set():
            with contextlib.suppress(psycopg.Error), connect(self._database) as session:
                while not self._done.is_set():
                    session.execute("INSERT INTO shop.heartbeats DEFAULT VALUES")
                    self._written.append(time.perf_counter())

    def longest_pause(self, work: Callable[[], object]) -> float:
        """The longest time without a successful write while something is done, in seconds."""
        began = time.perf_counter()
        work()
        time.sleep(0.2)  # so that the first write afterwards is seen
        moments = [began, *(moment for moment in list(self._written) if moment > began)]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def stop(self) -> None:
        """Have it end."""
        self._done.set()
        self.join()


def downtime(stage: Stage) -> list[Figure]:
    """How long somebody who writes all the time has to wait while a restore is made, swapped and undone."""
    database, sets = shop(stage, LARGE_SHOP), stage.folder / "sets of downtime"
    take(database, sets)
    undo = playbook_variables(
        stage,
        database,
        backup_directory=str(sets),
        restore_confirm=database.database,
        restore_action="undo",
    )
    writer = Writer(database)
    writer.start()
    try:
        beside = writer.longest_pause(lambda: restore(database, database, sets))
        swapped = writer.longest_pause(lambda: restore(database, database, sets, state=restoration.SWAPPED))
        began = time.perf_counter()
        undone = writer.longest_pause(lambda: playbook(stage, ROOT / "restore.yml", undo))
        took = time.perf_counter() - began
    finally:
        writer.stop()
    name = f"(f) {LARGE_SHOP} MB, longest pause of a writer"
    return [
        Figure(f"{name} while it is restored beside", [beside], 2, " s"),
        Figure(f"{name} in the swap", [swapped], 2, " s"),
        Figure(f"{name} while it is undone", [undone], 5, " s"),
        Figure("(f) restore.yml -e restore_action=undo, from Enter to prompt", [took], 5, " s"),
    ]


# --- the table -------------------------------------------------------------------------------------------------------


def table(figures: Sequence[Figure]) -> str:
    """The figures, aligned."""
    rows = [("figure", "median", "min–max", "target", ""), *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def say(text: str) -> None:
    """Tell how it goes, as it goes."""
    print(text, flush=True)


def main() -> None:
    """Run the parts that were asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one or two rounds instead of several")
    parser.add_argument("--only", choices=list(PARTS), default=PARTS, help="one part of the figures")
    given = parser.parse_args()
    figures: list[Figure] = []
    with stage() as ready:
        shape = f"PostgreSQL {ready.server.version}, Python {sys.version.split()[0]}, {os.cpu_count()} cores"
        say(f"Benchmarks on {shape}; this takes a few minutes.")
        if "a" in given.only:
            figures += small_files(ready, rounds=1 if given.quick else 6)
        if "b" in given.only:
            figures += nothing_to_do(ready, rounds=2 if given.quick else 7)
        if "c" in given.only:
            figures += memory(ready)
        if "d" in given.only:
            figures += backups_and_restores(ready, rounds=1 if given.quick else 5)
        if "e" in given.only:
            figures += memory_of_backups(ready)
        if "f" in given.only:
            figures += downtime(ready)
    say("\n" + table(figures))


if __name__ == "__main__":
    main()
