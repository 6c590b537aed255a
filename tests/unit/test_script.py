# SPDX-License-Identifier: GPL-3.0-or-later
"""The script reader against psql's rules, with PostgreSQL's own parser (pglast) as the oracle where it can be one."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pglast
import pytest
from ansible.module_utils.runbook import script
from ansible.module_utils.runbook.errors import RunbookError


def texts(sql: str | bytes) -> list[str]:
    content = sql if isinstance(sql, bytes) else sql.encode()
    return [statement.text.decode() for statement in script.split(content, "004_x.sql")]


def refusal(sql: str | bytes) -> RunbookError:
    with pytest.raises(RunbookError) as caught:
        texts(sql)
    return caught.value


# --- where a statement ends -------------------------------------------------------------------------------------------

ONE_STATEMENT = {
    "doubled quote": "SELECT 'a;''b;';",
    "backslash is text in a standard string": r"SELECT 'a\';",
    "escape string": r"SELECT E'\';\\', e';\'';",
    "escape string continued on the next line": "SELECT E'a'\n 'b\\';';",
    "escape string continued behind a comment": "SELECT E'a' -- ;'\n -- ;\n  'b\\';';",
    "escape string continued directly behind comments": "SELECT E'a'\n--;'\n--;'\n'b\\';';",
    "escape string directly behind a dollar quote": r"SELECT $$a$$E'\';';",
    "plain string continued": "SELECT 'a'\n'b;';",
    "e at the end of a name is no prefix": r"SELECT date'2024-01-01\', ';';",
    "unicode string and name": """SELECT U&'d\\0061;\\', U&"\\0061;";""",
    "national, bit and hex strings": "SELECT N';', B'01', X'ff;';",
    "quoted name": 'SELECT "a;""b;", "\'", "$$";',
    "dollar quote": "SELECT $$;'\"--/*$$;",
    "tagged dollar quote": "SELECT $t$ $$;$$ $T$ ; $t$;",
    "dollar quote with a partial tag before its end": "SELECT $t$;$t;$t$;",
    "non-ASCII tag": "SELECT $é$;$é$;",
    "dollar inside a name": "SELECT a$b$c, a1$$, é$x$;",
    "dollar quote directly behind a number": "SELECT 1$$;$$;",
    "parameter": "SELECT $1, $2$$;$$;",
    "line comment": "SELECT 1 -- ;\n+ 2;",
    "line comment ends at a carriage return": "SELECT 1 -- ;'\r+ 2;",
    "line comment behind an operator": "SELECT 1 +--;'\n 2;",
    "nested comment": "SELECT 1 /* ; /* ; */ ' ; */ + 2;",
    "comment edges": "SELECT 1 /**/ + /*/;*/ 2 */*;*/ 3;",
    "rule with several actions": "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);",
    "psql variables, casts, templates, percent": "SELECT :x, :'y', :\"z\", a::text, '{{ v }}', {{ w }}, 5 % 2;",
    "SQL body": "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END;",
    "SQL body with CASE": "create or replace procedure p() begin atomic select case when a then b end; end;",
    "SQL body behind comments": "CREATE /* x */ OR -- y\n REPLACE FUNCTION f() BEGIN ATOMIC SELECT 1; END;",
    "SQL body with the words elsewhere": "CREATE FUNCTION f() BEGIN ATOMIC SELECT \"end\", 'end', a.endx, x$end; END;",
    "CASE before the body does not open": "CREATE FUNCTION f() RETURNS int RETURN CASE WHEN true THEN 1 END;",
    "CASE as a name does not open": "CREATE FUNCTION s.case() RETURNS int RETURN 1;",
    "BEGIN as a parameter does not open": "CREATE FUNCTION f(begin int) RETURNS int RETURN 1;",
    "words in parentheses do not count": "CREATE FUNCTION f(a int DEFAULT (CASE a WHEN 1 THEN 1 END)) BEGIN ; END;",
}


@pytest.mark.parametrize("sql", ONE_STATEMENT.values(), ids=ONE_STATEMENT)
def test_semicolons_that_do_not_end_a_statement(sql: str) -> None:
    assert texts(sql) == [sql]
    assert texts(f"SELECT 0;{sql}SELECT 9") == ["SELECT 0;", sql, "SELECT 9"]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("BEGIN; SELECT 1; END;", ["BEGIN;", "SELECT 1;", "END;"]),
        ("CREATE TABLE begin_x (a int); SELECT 1;", ["CREATE TABLE begin_x (a int);", "SELECT 1;"]),
        ('CREATE "function" f BEGIN; SELECT 1', ['CREATE "function" f BEGIN;', "SELECT 1"]),
        ("SELECT 1) ; SELECT 2;", ["SELECT 1) ;", "SELECT 2;"]),
        ("", []),
        (" ;; ; -- c\n /* d; */ ;", []),
        ("-- only a comment", []),
        ("-- c\n/* d */ SELECT 1 -- e\n; -- f", ["SELECT 1 -- e\n;"]),
        ("SELECT 1;\nSELECT 2", ["SELECT 1;", "SELECT 2"]),
    ],
)
def test_split(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


def test_lines_count_from_the_first_token() -> None:
    statements = script.split(b"-- head\n\nSELECT\n1;\n/* a\nb */ SELECT 2; SELECT 3;\n", "a/b.sql")
    assert [(s.line, s.file) for s in statements] == [(3, "a/b.sql"), (6, "a/b.sql"), (6, "a/b.sql")]


def test_byte_order_mark_is_skipped_and_carriage_returns_are_kept() -> None:
    assert texts(b"\xef\xbb\xbfSELECT $$a\r\nb$$;\r\nSELECT 2;\r\n") == ["SELECT $$a\r\nb$$;", "SELECT 2;"]


@pytest.mark.parametrize(
    "off",
    [
        "SET standard_conforming_strings = off;",
        "set session Standard_Conforming_Strings to 'false';",
        "SET LOCAL standard_conforming_strings = 0;",
        'SET "standard_conforming_strings" TO no;',
        "SELECT pg_catalog.set_config('standard_conforming_strings', 'off', false);",
        "SELECT set_config('standard_conforming_strings', 'F', false);",
    ],
)
@pytest.mark.parametrize(
    "on",
    [
        "SET standard_conforming_strings = on;",
        "SET standard_conforming_strings TO 'yes';",
        "SET standard_conforming_strings TO DEFAULT;",
        "RESET standard_conforming_strings;",
        "RESET ALL;",
        "DISCARD ALL;",
        "SELECT set_config('standard_conforming_strings', '1', true);",
    ],
)
def test_standard_conforming_strings(off: str, on: str) -> None:
    escaped, unicode_string, plain = r"SELECT 'a\';';", r"SELECT U&'a\';", r"SELECT 'a\';"
    parts = [plain, off, escaped, unicode_string, on, plain]
    assert texts("".join(parts)) == parts


@pytest.mark.parametrize("other", ["SET x = off;", "RESET x;", "SELECT set_config('x', 'off', true);", "DISCARD TEMP;"])
def test_other_settings_do_not_change_strings(other: str) -> None:
    assert texts(other + r"SELECT 'a\';") == [other, r"SELECT 'a\';"]


# --- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "line", "what"),
    [
        ("SELECT 1;\n SELECT\n 'a;\n\n", 3, "string"),
        ("SELECT\n E'a\\';\n", 2, "string"),
        ("SELECT\n 'a''\n", 2, "string"),
        ('SELECT\n "a;\n', 2, "quoted name"),
        ("SELECT\n\n $x$ a $y$;\n", 3, "dollar quote $x$"),
        ("SELECT 1;\n/* a /* b */ \n", 2, "comment"),
        ("SELECT 1 +\n/* a\n", 2, "comment"),
        ("SELECT\n (1 + (2);\n", 2, "parenthesis"),
        ("CREATE FUNCTION f()\nBEGIN ATOMIC\n SELECT 1;\n", 2, "BEGIN or CASE of a routine body"),
    ],
)
def test_unterminated(sql: str, line: int, what: str) -> None:
    error = refusal(sql)
    assert error.code == "syntax"
    assert error.message.startswith(
        f"004_x.sql:{line}: the {what} that starts here is still open at the end of the file. Close it with "
    )
    assert error.details == {"file": "004_x.sql", "line": line}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SELECT 1;\n\nSELECT '\xe4';", "004_x.sql:3: byte 0xe4 is not valid UTF-8. Save the file as UTF-8."),
        (b"COPY t FROM stdin;\na\n\xff\n\\.\n", "004_x.sql:3: byte 0xff is not valid UTF-8. Save the file as UTF-8."),
        (b"-- \xc3", "004_x.sql:1: byte 0xc3 is not valid UTF-8. Save the file as UTF-8."),
        (
            b"\xff\xfeS\0",
            "004_x.sql:1: byte 0xff is not valid UTF-8. It looks like UTF-16. Save the file as UTF-8.",
        ),
        (b"SELECT\n'a\0b\xff';", "004_x.sql:2: a NUL byte (0x00) cannot be part of SQL. Save the file as UTF-8 text."),
    ],
)
def test_encoding(content: bytes, message: str) -> None:
    error = refusal(content)
    assert (error.code, error.message) == ("encoding", message)


# --- COPY data --------------------------------------------------------------------------------------------------------

READS_DATA = [
    "COPY t FROM stdin;",
    'copy "s;"."t from" (a, "b") from STDIN WITH (FORMAT csv, DELIMITER \';\');',
    "COPY t FROM stdin CSV HEADER;",
    "COPY t /* FROM 'x' */ FROM -- c\n stdin;",
    "COPY BINARY t FROM stdin;",
    "COPY t FROM stdout;",
]
READS_NO_DATA = [
    "COPY (SELECT a FROM stdin) TO stdout;",
    "COPY t TO stdout;",
    "COPY t FROM 'stdin';",
    "COPY t FROM PROGRAM 'stdin';",
    "COPY t (a) TO '/x';",
    'COPY t FROM "stdin";',
    "SELECT a FROM stdin;",
]


@pytest.mark.parametrize("copy", READS_DATA)
def test_copy_reads_data(copy: str) -> None:
    first, second = script.split(f"{copy}\n1\t'\n;--\n\\.x\n\\.\nSELECT 2;\n".encode())
    assert (first.text.decode(), first.data) == (copy, b"1\t'\n;--\n\\.x\n")
    assert (second.text, second.data, second.line) == (b"SELECT 2;", None, 6 + copy.count("\n"))


@pytest.mark.parametrize("copy", READS_NO_DATA)
def test_copy_without_data(copy: str) -> None:
    first, second = script.split(f"{copy}\nSELECT 2;\n".encode())
    assert (first.data, second.text) == (None, b"SELECT 2;")


@pytest.mark.parametrize(
    ("content", "data", "rest"),
    [
        (b"COPY t FROM stdin;\n\\.\nSELECT 1", b"", [b"SELECT 1"]),
        (b"COPY t FROM stdin;\r\na\r\n\\.\r\nSELECT 1", b"a\r\n", [b"SELECT 1"]),
        (b"COPY t FROM stdin;\na\n\\.", b"a\n", []),
        (b"COPY t FROM stdin;\na\n\\.\r", b"a\n", []),
        (b"COPY t FROM stdin;\na\nb", b"a\nb", []),
        (b"COPY t FROM stdin;", b"", []),
        (b"COPY t FROM stdin\n", b"", []),
        (b"COPY t FROM stdin; -- c\na\n\\.\nSELECT 1", b"a\n", [b"SELECT 1"]),
        (b"COPY t FROM stdin; SELECT 1;\na\n\\.\nSELECT 2", b"a\n", [b"SELECT 1;", b"SELECT 2"]),
        (b"COPY t FROM stdin; SELECT 'x\na\n\\.\ny'; SELECT 2", b"a\n", [b"SELECT 'x\ny';", b"SELECT 2"]),
    ],
)
def test_copy_data_edges(content: bytes, data: bytes, rest: list[bytes]) -> None:
    first, *others = script.split(content)
    assert (first.data, [s.text for s in others]) == (data, rest)


def test_two_copies_on_one_line_take_their_data_in_turn() -> None:
    statements = script.split(
        b"SELECT 0;\nCOPY a FROM stdin; COPY b FROM stdin; SELECT\n1\n\\.\n2\n\\.\n3;\nSELECT 4;\n"
    )
    assert [(s.text, s.data, s.line) for s in statements] == [
        (b"SELECT 0;", None, 1),
        (b"COPY a FROM stdin;", b"1\n", 2),
        (b"COPY b FROM stdin;", b"2\n", 2),
        (b"SELECT\n3;", None, 2),
        (b"SELECT 4;", None, 8),
    ]


# --- psql commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        r"\echo it; `date` 'closed'",
        r"\qecho a",
        r"\warn 'a ''b'' \' ;'",
        r"\timing on",
        r"\pset pager off",
        r"\x",
        r"\a",
        r"\t",
        r"\encoding UTF8",
        r"\encoding 'utf-8'",
        r"\encoding unicode",
        r"\set ON_ERROR_STOP on",
        r"\set ON_ERROR_STOP 1",
        r"\set ON_ERROR_STOP true;",
        r"\set ON_ERROR_STOP",
        r"\set VERBOSITY verbose",
        r"\set QUIET off",
        r"\set PROMPT1 '%/> '",
        r"\echo a \qecho b \\",
    ],
)
def test_harmless_commands_are_ignored(command: str) -> None:
    assert texts(f"SELECT 1;\n{command}\nSELECT 2;") == ["SELECT 1;", "SELECT 2;"]
    assert texts(f"{command}\r\nSELECT 2;") == ["SELECT 2;"]
    assert texts(command) == []


def test_a_command_ends_at_the_line_or_at_two_backslashes() -> None:
    assert texts("\\echo a; SELECT 1;\nSELECT 2; \\echo b \\\\ SELECT 3;") == ["SELECT 2;", "SELECT 3;"]


def test_a_harmless_command_inside_a_statement_is_cut_out() -> None:
    assert texts("SELECT 1 \\echo hi;\n + 2 \\t \\\\ + 3;") == ["SELECT 1 \n + 2  + 3;"]


COMMAND = "004_x.sql:2: {} is a psql command that migrations cannot use. {}"


@pytest.mark.parametrize(
    ("sql", "shown", "advice"),
    [
        (r"\copy t from 'x'", r"\copy", "Use COPY ... FROM stdin with the data in the file."),
        (r"\connect other", r"\connect", "A run works on one database"),
        (r"\c other", r"\c", "A run works on one database"),
        (r"SELECT 1 \gexec", r"\gexec", "Use a DO block that runs each generated statement with EXECUTE."),
        (r"SELECT 1 \g", r"\g", "End the statement with ';' instead."),
        (r"SELECT 1 \gset", r"\gset", "Compute the value in SQL"),
        (r"SELECT 1\; SELECT 2;", r"\;", "End the statement with ';' instead."),
        (r"SELECT a\:b;", r"\:", "Write the colon without the backslash."),
        (r"\! ls", r"\!", "A migration must not run anything on the host"),
        (r"\!ls", r"\!", "A migration must not run anything on the host"),
        (r"\if true", r"\if", "Write two files"),
        (r"\set x 1", r"\set x", "Compute the value in SQL"),
        (r"\set on_error_stop on", r"\set on_error_stop", "Compute the value in SQL"),
        (r"\q", r"\q", "Delete what follows it"),
        (r"\.", r"\.", "It ends the data of COPY ... FROM stdin"),
        (r"\dt+ x", r"\dt+", "Remove the line, or express it in SQL."),
        (r"\\ SELECT 1", r"\\", "Remove the line, or express it in SQL."),
        ("SELECT 1 \\restrict k\n;", r"\restrict", "Remove the line"),
    ],
)
def test_refused_commands(sql: str, shown: str, advice: str) -> None:
    error = refusal(f"SELECT 0;\n{sql}\n")
    assert error.code == "meta-command"
    assert error.message.startswith(COMMAND.format(shown, advice))
    assert error.details == {"file": "004_x.sql", "line": 2}


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        (
            r"\set ON_ERROR_STOP off",
            "meta-command",
            r"004_x.sql:1: \set ON_ERROR_STOP off cannot be obeyed: a migration always stops at its first error. ",
        ),
        (r"\encoding LATIN1", "meta-command", r"004_x.sql:1: \encoding LATIN1 cannot be obeyed: migrations are UTF-8."),
        ("\n\\echo 'a\n'", "syntax", "004_x.sql:2: the psql command has a quoted argument that is not closed."),
        (r"\i a.sql", "include", r"004_x.sql:1: \i cannot be used here."),
        ("SELECT\n\\i a.sql\n;", "include", r"004_x.sql:2: \i stands in the middle of a statement."),
        (r"\ir", "include", r"004_x.sql:1: \ir names no file."),
    ],
)
def test_commands_with_wrong_arguments(sql: str, code: str, message: str) -> None:
    error = refusal(sql)
    assert error.code == code
    assert error.message.startswith(message)


def test_restricted_dump() -> None:
    dump = "\\restrict aB3\n\nSET a = 1;\nCOPY t FROM stdin;\n\\echo x\n\\.\n\n\\unrestrict aB3\n\\echo done\n"
    assert texts(dump) == ["SET a = 1;", "COPY t FROM stdin;"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("\\restrict k\n\\echo x\n", r"004_x.sql:2: \echo is restricted: it stands between \restrict and \unrestrict."),
        ("\\restrict k\n\\restrict k\n", r"004_x.sql:2: \restrict is restricted: "),
        ("\\restrict k\n\\unrestrict l\n", r"004_x.sql:2: \unrestrict does not repeat the key of its \restrict."),
        ("\\restrict k\n\\unrestrict\n", r"004_x.sql:2: \unrestrict does not repeat the key of its \restrict."),
        ("\\unrestrict k\n", r"004_x.sql:1: \unrestrict has no \restrict before it."),
        ("\\restrict\n", r"004_x.sql:1: \restrict needs a key."),
    ],
)
def test_restrict_errors(sql: str, message: str) -> None:
    error = refusal(sql)
    assert error.code == "meta-command"
    assert error.message.startswith(message)


# --- included files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "init"
    (folder / "parts" / "deep").mkdir(parents=True)
    (tmp_path / "outside.sql").write_text("SELECT 'outside';")
    return folder


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        (root / (name.replace("__", "/") + ".sql")).write_bytes(content.encode())


def test_includes_are_inlined(root: Path) -> None:
    write(
        root,
        main="SELECT 1;\n\\i parts/a.sql\nSELECT 2; \\include_relative 'parts/deep/b.sql' \\\\ SELECT 3;\n",
        parts__a="\ufeffSELECT 'a';\n\\ir deep/b.sql\n\\include parts/deep/b.sql;\nSELECT 'open'",
        parts__deep__b="\n-- b\nSELECT 'b';",
    )
    read = script.read_script(root / "main.sql", root)
    assert [(s.text.decode(), s.file, s.line) for s in read.statements] == [
        ("SELECT 1;", "main.sql", 1),
        ("SELECT 'a';", "parts/a.sql", 1),
        ("SELECT 'b';", "parts/deep/b.sql", 3),
        ("SELECT 'b';", "parts/deep/b.sql", 3),
        ("SELECT 'open'", "parts/a.sql", 4),
        ("SELECT 2;", "main.sql", 3),
        ("SELECT 'b';", "parts/deep/b.sql", 3),
        ("SELECT 3;", "main.sql", 3),
    ]
    assert [name for name, _ in read.sources] == ["main.sql", "parts/a.sql", "parts/deep/b.sql"]
    assert all(content == (root / name).read_bytes() for name, content in read.sources)


def test_an_included_file_changes_the_session_of_the_including_one(root: Path) -> None:
    write(root, main="\\i a.sql\nSELECT 'a\\';';", a="SET standard_conforming_strings = off;")
    assert [s.text for s in script.read_script(root / "main.sql", root).statements][1] == b"SELECT 'a\\';';"


def test_a_file_in_a_folder_below_the_root(root: Path) -> None:
    write(root, parts__main="\\ir deep/b.sql", parts__deep__b="SELECT 1;")
    read = script.read_script(root / "parts" / "main.sql", root)
    assert [name for name, _ in read.sources] == ["parts/main.sql", "parts/deep/b.sql"]


def include_error(root: Path, main: str) -> str:
    write(root, main=main)
    with pytest.raises(RunbookError) as caught:
        script.read_script(root / "main.sql", root)
    assert caught.value.code == "include"
    return caught.value.message


@pytest.mark.parametrize("path", ["../outside.sql", "parts/../../outside.sql", "link.sql", "up/outside.sql"])
@pytest.mark.parametrize("command", ["\\i", "\\ir"])
def test_includes_stay_inside_the_folder(root: Path, command: str, path: str) -> None:
    (root / "link.sql").symlink_to(root.parent / "outside.sql")
    (root / "up").symlink_to(root.parent)
    assert include_error(root, f"\n{command} {path}\n").startswith(
        f"main.sql:2: the included file {path!r} lies outside the migrations folder. "
    )


def test_an_absolute_include_is_refused(root: Path) -> None:
    write(root, a="SELECT 1;")
    assert "lies outside the migrations folder" in include_error(root, f"\\i {root}/a.sql")


@pytest.mark.parametrize("path", ["missing.sql", "parts", '"a b.sql"', "loop.sql"])
def test_an_unreadable_include_is_named(root: Path, path: str) -> None:
    (root / "loop.sql").symlink_to(root / "loop.sql")
    message = include_error(root, f"SELECT 1;\n\\i {path}\n")
    assert message.startswith(f"main.sql:2: the included file {path!r} cannot be read: ")


def test_recursion_names_the_chain(root: Path) -> None:
    write(root, a="SELECT 1;\n\\i b.sql", b="\\ir main.sql")
    assert include_error(root, "\\i a.sql") == (
        "b.sql:1: \\ir main.sql includes without end: main.sql -> a.sql -> b.sql -> main.sql. "
        "Remove one of these includes."
    )


def test_an_error_in_an_included_file_names_that_file(root: Path) -> None:
    write(root, main="\n\n\\i parts/a.sql", parts__a="SELECT 1;\nSELECT 'x")
    with pytest.raises(RunbookError, match=r"^parts/a\.sql:2: the string"):
        script.read_script(root / "main.sql", root)


# --- PostgreSQL's parser as the oracle --------------------------------------------------------------------------------

EXPRESSIONS = [
    "'a;''b'",
    r"'\'",
    r"E'\';\\'",
    "E'a'\n'\\';'",
    "'a' -- ;\n 'b;'",
    r"U&'d\0061;'",
    "N'x;'",
    "B'01'",
    "X'ff'",
    "$$;'$$",
    "$t$ $$;$$ $t$",
    "$é$;$é$",
    "$1",
    "a$b$c",
    "é$x$",
    '"x;""y"',
    'U&"d\\0061;"',
    "1/* ; /* ' */ */+2",
    "3--;'\n",
    "1 +--;\n 2",
    "-/*;*/1",
    "1*/*;'*/2",
    "4/**/",
    "'x'::text",
    "(SELECT ';')",
    "1.5e-3",
    "date'2024-01-01'",
    "array['a;',$$b$$]",
    "@-5",
    "CASE WHEN true THEN ';' END",
]
WHOLE_STATEMENTS = [
    "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES ('end;'); END",
    "CREATE FUNCTION f(a int DEFAULT (1)) RETURNS int AS $f$ BEGIN; RETURN 1; END; $f$ LANGUAGE plpgsql",
    "CREATE FUNCTION f() RETURNS int RETURN CASE WHEN true THEN 1 END",
    "DO $$ BEGIN PERFORM ';'; END $$",
    "BEGIN",
    "COMMIT",
    "CREATE TABLE \"begin;\" (a text DEFAULT ';')",
]
ENDINGS = [";", " ;\n", "\n;;", "; -- c;'\n", " /* ; */ ;", " -- ;\n;", ";\r\n", ";/* ' /* ; */ */"]
TRAILER = re.compile(r"(\s|--[^\n\r]*|/\*.*?\*/|;)*", re.DOTALL)


def assert_same_as_postgresql(sql: str) -> None:
    expected = pglast.split(sql)
    found = texts(sql)
    assert len(found) == len(expected), sql
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.startswith(theirs), sql
        assert TRAILER.fullmatch(ours[len(theirs) :]), sql


@pytest.mark.parametrize("sql", [f"SELECT {e}" for e in EXPRESSIONS] + WHOLE_STATEMENTS)
def test_splits_like_postgresql(sql: str) -> None:
    for ending in ENDINGS:
        assert_same_as_postgresql(f"SELECT 0;{sql}{ending}SELECT 9")


def random_script(rng: random.Random) -> str:
    statements = []
    for _ in range(rng.randint(1, 8)):
        expressions = ", ".join(rng.choices(EXPRESSIONS, k=rng.randint(1, 5)))
        whole = rng.random() < 0.2
        statements.append((rng.choice(WHOLE_STATEMENTS) if whole else f"SELECT {expressions}") + rng.choice(ENDINGS))
    return "".join(statements)


@pytest.mark.parametrize("seed", range(400))
def test_random_scripts_split_like_postgresql(seed: int) -> None:
    assert_same_as_postgresql(random_script(random.Random(seed)))  # noqa: S311 - repeatable, not secret


# --- time -------------------------------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
SHAPES = {
    "one line of small tokens": (b"SELECT ", b"a1 + (2), ", b"1;"),
    "one huge string": (b"SELECT '", b"x", b"';"),
    "doubled quotes": (b"SELECT '", b"''", b"';"),
    "escapes": (b"SELECT E'", b"\\n", b"';"),
    "continued strings": (b"SELECT ", b"E'a'\n", b";"),
    "many statements": (b"", b"INSERT INTO t VALUES (1, 'x');\n", b""),
    "dollars": (b"SELECT ", b"$1$", b"1;"),
    "dollars in one name": (b"SELECT a", b"$", b";"),
    "digits before a dollar": (b"SELECT ", b"1", b"$1;"),
    "nested comments": (b"", b"/*", b""),
    "line comments": (b"", b"\n--", b""),
    "parentheses": (b"SELECT ", b"(", b""),
    "copies": (b"", b"COPY t FROM stdin; -- c\n1\n\\.\n", b""),
    "routine bodies": (b"", b"CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN b END; END;\n", b""),
    "psql commands": (b"", b"\\echo 'a' b\n", b""),
}
CLOSED_BY = {"nested comments": b"*/", "parentheses": b")"}


def seconds(name: str, size: int) -> float:
    head, body, tail = SHAPES[name]
    count = size // len(body)
    content = head + body * count + CLOSED_BY.get(name, b"") * count + tail
    started = time.process_time()  # of the processor: others are at work on the machine, too
    script.split(content)
    return time.process_time() - started


@pytest.mark.parametrize("name", SHAPES)
def test_time_is_linear(name: str) -> None:
    small = min(seconds(name, MEGABYTE // 4) for _ in range(3))
    large = min(seconds(name, MEGABYTE) for _ in range(3))
    assert large < max(8 * small, 0.05)
