# SPDX-License-Identifier: GPL-3.0-or-later
"""Migration files: names, checksums, directives, and how a file has to run."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.runbook import migration
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.migration import Directives, Prepared

SERVER = 180000


def prepared(folder: Path, content: str, name: str = "001_a.sql") -> Prepared:
    (folder / name).write_text(content)
    found = migration.read_folder(folder)
    return migration.prepare(found.migrations[1], folder, SERVER)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "version", "description"),
    [
        ("004_add_audit_log.sql", 4, "add audit log"),
        ("7_x.sql", 7, "x"),
        ("20260101120000_a b.c.sql", 20260101120000, "a b.c"),
        ("000_zero.sql", 0, "zero"),
        ("1_Größe_ändern.sql", 1, "Größe ändern"),
        ("9223372036854775807_last.sql", 2**63 - 1, "last"),
    ],
)
def test_names(tmp_path: Path, name: str, version: int, description: str) -> None:
    (tmp_path / name).touch()
    found = migration.read_folder(tmp_path)
    assert [(item.version, item.name, item.description) for item in found.migrations.values()] == [
        (version, name, description)
    ]
    assert found.latest == version


@pytest.mark.parametrize(
    "name",
    ["a.sql", "1.sql", "1_.sql", "_a.sql", "V1__a.sql", "1-a.sql", "-1_a.sql", "1_a.SQL", "1_a\n.sql", "1_a\x1b.sql",
     "9223372036854775808_x.sql", " 1_a.sql", ".sql"],
)  # fmt: skip
def test_names_that_say_no_version(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(RunbookError, match="is not of the form NNN_description.sql") as refusal:
        migration.read_folder(tmp_path)
    assert refusal.value.code == "file-name"
    assert "\n" not in refusal.value.message and "\x1b" not in refusal.value.message


def test_other_files_and_subfolders_are_not_searched(tmp_path: Path) -> None:
    for name in ("README.md", "001_a.sql~", ".gitkeep", "001_a.sql.bak"):
        (tmp_path / name).touch()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "x.sql").touch()
    assert migration.read_folder(tmp_path).migrations == {}
    assert migration.read_folder(tmp_path).latest is None


def test_two_files_with_one_number(tmp_path: Path) -> None:
    (tmp_path / "7_x.sql").touch()
    (tmp_path / "007_y.sql").touch()
    with pytest.raises(RunbookError, match=r"have the number 7: 007_y\.sql and 7_x\.sql") as refusal:
        migration.read_folder(tmp_path)
    assert refusal.value.code == "duplicate"


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "init"
    if kind == "file":
        path.touch()
    with pytest.raises(RunbookError) as refusal:
        migration.read_folder(path)
    assert refusal.value.code == "no-folder"


def test_a_migration_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "001_a.sql").mkdir()
    with pytest.raises(RunbookError, match=r"Cannot read the migration .*001_a\.sql: Is a directory\.") as refusal:
        migration.read_folder(tmp_path)
    assert refusal.value.code == "unreadable"


# --- checksums --------------------------------------------------------------------------------------------------------


def checksum(folder: Path, **files: bytes) -> str:
    for name, content in files.items():
        (folder / f"{name}.sql").write_bytes(content)
    return migration.checksum(folder / f"{next(iter(files))}.sql", folder)


def test_line_endings_and_a_byte_order_mark_do_not_count(tmp_path: Path) -> None:
    plain = checksum(tmp_path, a=b"SELECT 1;\nSELECT 2;\n")
    assert checksum(tmp_path, a=b"\xef\xbb\xbfSELECT 1;\r\nSELECT 2;\r\n") == plain
    assert checksum(tmp_path, a=b"SELECT 1;\rSELECT 2;\n") != plain
    assert checksum(tmp_path, a=b"SELECT 1;\n SELECT 2;\n") != plain
    assert checksum(tmp_path, a=b"SELECT 1;\nSELECT 2;") != plain


def test_included_files_count(tmp_path: Path) -> None:
    first = checksum(tmp_path, a=b"\\ir b.sql\n\\ir c.sql\n", b=b"SELECT 1;", c=b"SELECT 2;")
    assert checksum(tmp_path, a=b"\\ir b.sql\n\\ir c.sql\n", b=b"SELECT 1;\r\n"[:-2], c=b"SELECT 2;") == first
    assert checksum(tmp_path, a=b"\\ir b.sql\n\\ir c.sql\n", b=b"SELECT 1;", c=b"SELECT 3;") != first
    # Text cannot move from one file to the next unseen.
    assert checksum(tmp_path, a=b"\\ir b.sql\n\\ir c.sql\n", b=b"SELECT 1;SELECT 2;", c=b"") != first


def test_line_endings_of_included_files_do_not_count(tmp_path: Path) -> None:
    plain = checksum(tmp_path, a=b"\\ir b.sql\n", b=b"SELECT 1;\nSELECT 2;\n")
    assert checksum(tmp_path, a=b"\\ir b.sql\r\n", b=b"\xef\xbb\xbfSELECT 1;\r\nSELECT 2;\r\n") == plain


def test_a_backslash_that_includes_nothing_leaves_the_checksum_alone(tmp_path: Path) -> None:
    text = b"SELECT E'\\i';"
    assert checksum(tmp_path, a=text) == checksum(tmp_path, a=text.replace(b"\n", b"\r\n"))


# --- directives -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Directives()),
        ("-- transaction: none\n", Directives(transaction=False)),
        ("--transaction:none\n", Directives(transaction=False)),
        ("\ufeff-- Transaction: none\r\n", Directives(transaction=False)),
        (
            "-- What it does.\n\n--   lock_timeout :  5s  \n-- statement_timeout: 10min\n",
            Directives(True, 5000, 600_000),
        ),
        ("-- lock_timeout: 250ms\n-- statement_timeout: 0\n", Directives(True, 250, 0)),
        ("-- statement_timeout: 2h\n", Directives(True, None, 7_200_000)),
        ("SELECT 1;\n-- transaction: none\n", Directives()),
        ("/* c */\n-- transaction: none\n", Directives()),
        ("-- author: me\n-- see: transaction none\n-- note: a transaction: none\n", Directives()),
        ("-- rollback: none, names are not kept\n", Directives(rollback_none="names are not kept")),
        ("-- Rollback:  None - it's data; gone: all\n", Directives(rollback_none="it's data; gone: all")),
        ("-- rollback: see the script, nonetheless\n-- rollback: nonexistent\n", Directives()),
    ],
)
def test_directives(header: str, expected: Directives) -> None:
    assert migration.read_directives(header.encode(), "001_a.sql") == expected


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "-- transaction: off",
            '001_a.sql:1: the directive "transaction: off" is not known. Write "-- transaction: none"',
        ),
        ("\n-- lock_timeout: 5", '001_a.sql:2: "5" is no duration for lock_timeout. Write a whole number and a unit'),
        ("-- lock_timeout: soon", '"soon" is no duration'),
        ("-- statement_timeout: 1.5s", '"1.5s" is no duration'),
        ("-- statement_timeout: -1s", '"-1s" is no duration'),
        ("-- lock_timeout:", '"" is no duration'),
        ("-- lock_timeout: 0", "would wait for a lock for ever"),
        ("-- lock_timeout: 0s", "would wait for a lock for ever"),
        ("-- x\n-- rollback: none", '001_a.sql:2: "rollback: none" does not say why no script can undo this file.'),
        ("-- rollback: none,", "write -- rollback: none, and the reason."),
    ],
)
def test_directives_that_cannot_be_meant(header: str, message: str) -> None:
    with pytest.raises(RunbookError) as refusal:
        migration.read_directives(header.encode(), "001_a.sql")
    assert refusal.value.code == "directive"
    assert message in refusal.value.message


@pytest.mark.parametrize(
    ("header", "meant"),
    [("-- transactions: none", "transaction"), ("-- lock-timeout: 5s", "lock_timeout"),
     ("-- Lock Timeout: 5s", "lock_timeout"), ("-- statment_timeout: 5s", "statement_timeout")],
)  # fmt: skip
def test_a_misspelt_directive_draws_a_warning(header: str, meant: str) -> None:
    (warning,) = migration.read_directives(header.encode(), "001_a.sql").warnings
    assert warning.startswith("001_a.sql:1 says ")
    assert warning.endswith(f'did you mean the directive "{meant}"?')


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("0", 0), ("500ms", 500), ("5s", 5000), ("5 s", 5000), ("10min", 600_000), ("4h", 14_400_000)],
)
def test_durations(text: str | None, expected: int | None) -> None:
    assert migration.milliseconds(text) == expected


# --- how a file runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "outside"),
    [
        ("CREATE TABLE a ();", ""),
        ("", ""),
        ("CREATE TABLE a ();\nCREATE INDEX CONCURRENTLY ON a (i);", "CREATE INDEX CONCURRENTLY"),
        ("VACUUM;", "VACUUM"),
        ("-- transaction: none\nSELECT 1;", "-- transaction: none"),
        ("-- transaction: none\nBEGIN; COMMIT;", "-- transaction: none"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC; SELECT 1; END;", ""),
        ("SAVEPOINT a; ROLLBACK TO a; RELEASE a;", ""),
    ],
)
def test_how_a_file_runs(tmp_path: Path, content: str, outside: str) -> None:
    file = prepared(tmp_path, content)
    assert (file.outside, file.transactional) == (outside, not outside)


def test_a_file_that_changes_between_plan_and_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "001_a.sql").write_text("SELECT 1;")
    planned = migration.read_folder(tmp_path).migrations[1]
    (tmp_path / "001_a.sql").write_text("SELECT 2;")
    with pytest.raises(RunbookError, match=r"^001_a\.sql was changed while this run was reading it\."):
        migration.prepare(planned, tmp_path, SERVER)


@pytest.mark.parametrize("verb", ["BEGIN", "COMMIT", "END", "ROLLBACK", "ABORT", "START TRANSACTION"])
def test_transaction_commands_are_refused_with_file_and_line(tmp_path: Path, verb: str) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "x.sql").write_text(f"SELECT 1;\n{verb};\n")
    with pytest.raises(RunbookError, match=r"parts/x\.sql:2: the file controls transactions itself") as refusal:
        prepared(tmp_path, "\\ir parts/x.sql\n")
    assert (refusal.value.code, refusal.value.details) == ("transaction-control", {"file": "parts/x.sql", "line": 2})
    assert "-- transaction: none" in refusal.value.message
