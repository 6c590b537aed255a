# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule: how bad it is, what the size of the table changes about that, why it is there and what to write instead.

Rules with the names of squawk's are found by squawk, mostly; its documentation has a page for each of them. What a rule
says is ours, since squawk's advice is for files that manage locks and transactions themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible.module_utils.runbook.lint.finding import ERROR, NOTE, WARNING

TIME, ROWS, NEVER = "time", "rows", ""


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        name: its name.
        severity: how bad it is, on a large table or on one of unknown size.
        weighs: what the size of the table changes. ``time``: what lasts as long as the table is large is a warning on a
            small one, a note on an empty one. ``rows``: a note on an empty one. Empty: nothing.
        message: the sentence about a statement; ``{table}`` and others are filled in.
        why: what happens.
        rewrite: what to write instead.
        squawk: whether squawk finds it.
    """

    name: str
    severity: str
    weighs: str
    message: str
    why: str
    rewrite: str
    squawk: bool = False


_SCAN = "The whole table is read under ACCESS EXCLUSIVE: nobody reads or writes it until that is done."
_REWRITE = "Every row is written anew under ACCESS EXCLUSIVE: nobody reads or writes the table until that is done."
_OLD_APPLICATION = "The application that runs while this is applied, and the one you would go back to, still uses it."
_VALIDATE = "Add it with NOT VALID, which only takes a moment, and VALIDATE CONSTRAINT in the next file: {rewrite}"

_RULES = (
    # Locks that last as long as the table is large
    Rule(
        "require-concurrent-index-creation",
        ERROR,
        TIME,
        "CREATE INDEX keeps everybody from writing to {table} until the index is built.",
        "A plain CREATE INDEX holds a SHARE lock while it reads the whole table: writes wait, and what waits "
        "behind them.",
        "Build it concurrently, in a file of its own: {rewrite}",
        squawk=True,
    ),
    Rule(
        "require-concurrent-index-deletion",
        WARNING,
        TIME,
        "DROP INDEX takes ACCESS EXCLUSIVE on the table of {name}.",
        "It has to wait for everybody who uses the table, and everybody else waits behind it.",
        "Drop it concurrently, in a file of its own: {rewrite}",
        squawk=True,
    ),
    Rule(
        "require-concurrent-reindex",
        ERROR,
        TIME,
        "REINDEX keeps everybody from writing to {table}, and queries from using the index, until it is done.",
        "A plain REINDEX holds SHARE on the table and ACCESS EXCLUSIVE on the index while it builds.",
        "Rebuild concurrently, in a file of its own: {rewrite}",
        squawk=True,
    ),
    Rule(
        "require-concurrent-partition-detach",
        WARNING,
        TIME,
        "DETACH PARTITION takes ACCESS EXCLUSIVE on {table}, with all its partitions.",
        "It has to wait for everybody who uses any partition, and everybody else waits behind it.",
        "Detach concurrently, in a file of its own (PostgreSQL 14 and newer): {rewrite}",
        squawk=True,
    ),
    Rule(
        "constraint-missing-not-valid",
        ERROR,
        TIME,
        "The new constraint makes PostgreSQL read all of {table} while nobody can use it.",
        _SCAN,
        _VALIDATE,
        squawk=True,
    ),
    Rule(
        "adding-foreign-key-constraint",
        ERROR,
        TIME,
        "The new foreign key is checked for every row of {table} while nobody can write to it or to {other}.",
        "SHARE ROW EXCLUSIVE is held on both tables until every row has been looked up.",
        _VALIDATE,
        squawk=True,
    ),
    Rule(
        "disallowed-unique-constraint",
        ERROR,
        TIME,
        "The index behind the new constraint is built while nobody can use {table}.",
        "ADD UNIQUE and ADD PRIMARY KEY hold ACCESS EXCLUSIVE as long as it takes to build the index.",
        "Build the index first, in a file of its own; the constraint then takes it over in a moment: {rewrite}",
        squawk=True,
    ),
    Rule(
        "adding-serial-primary-key-field",
        ERROR,
        TIME,
        "The primary key is built while nobody can use {table}.",
        "The index is built, and columns are checked for NULL, under ACCESS EXCLUSIVE; a new serial column is "
        "also written "
        "into every row.",
        "Build a unique index first, in a file of its own, then take it over: {rewrite}",
        squawk=True,
    ),
    Rule(
        "adding-exclusion-constraint",
        ERROR,
        TIME,
        "The index behind the new EXCLUDE constraint is built while nobody can use {table}.",
        "PostgreSQL knows neither NOT VALID nor USING INDEX for EXCLUDE, so there is no way to add one without ACCESS "
        "EXCLUSIVE for the whole build.",
        "Create a new table with the constraint, copy in batches and exchange the two; or do it in a maintenance "
        "window, "
        "with a suppression that says so.",
    ),
    Rule(
        "adding-field-with-default",
        ERROR,
        TIME,
        "Column {column} makes PostgreSQL write every row of {table} anew: {reason}.",
        _REWRITE,
        "Add the column without it, fill it in batches, then set the default: {rewrite}",
        squawk=True,
    ),
    Rule(
        "adding-not-nullable-field",
        ERROR,
        TIME,
        "SET NOT NULL reads all of {table} while nobody can use it{reason}.",
        "ACCESS EXCLUSIVE is held until every row has been looked at, unless a valid CHECK already proves it.",
        "Prove it with a CHECK first, in three files, and drop that CHECK behind SET NOT NULL: {rewrite}",
        squawk=True,
    ),
    Rule(
        "changing-column-type",
        ERROR,
        TIME,
        "The new type of {column} makes PostgreSQL write every row of {table} anew{reason}.",
        f"{_REWRITE} All indexes on the column are built again, too.",
        "Add a column of the new type, fill it in batches, have the application use it, drop the old one: {rewrite}",
        squawk=True,
    ),
    Rule(
        "ban-alter-domain-with-add-constraint",
        ERROR,
        NEVER,
        "The new constraint of domain {name} is checked in every table that uses it, while nobody can write to them.",
        "SHARE locks on all those tables are held until each of them has been read.",
        "Add it with NOT VALID, and ALTER DOMAIN … VALIDATE CONSTRAINT in the next file.",
        squawk=True,
    ),
    Rule(
        "validate-in-same-transaction",
        ERROR,
        TIME,
        "Constraint {name} is validated in the transaction that adds it, so {table} stays locked for the whole time.",
        "The lock of ADD CONSTRAINT is held until the end of the file; NOT VALID gains nothing then.",
        "Move VALIDATE CONSTRAINT into the next file: it needs no lock that anybody notices.",
    ),
    Rule(
        "attach-partition-without-check",
        ERROR,
        TIME,
        "ATTACH PARTITION reads all of {table} while nobody can use it.",
        "Nothing proves that its rows fit, so PostgreSQL looks at each of them under ACCESS EXCLUSIVE.",
        "Prove it first, in two files: {rewrite}",
    ),
    Rule(
        "rewriting-table",
        ERROR,
        TIME,
        "{reason} writes all of {table} anew while nobody can use it.",
        f"{_REWRITE} It also takes the room for a second copy.",
        "Create a new table, copy in batches and exchange the two; or do it in a maintenance window, with a "
        "suppression that "
        "says so.",
    ),
    Rule(
        "vacuum-full",
        ERROR,
        TIME,
        "VACUUM FULL writes all of {table} anew while nobody can use it.",
        f"{_REWRITE} A migration is no place for it.",
        "Plain VACUUM keeps the table usable; against bloat, pg_repack or REPACK (CONCURRENTLY) of PostgreSQL 19.",
    ),
    Rule(
        "cluster",
        ERROR,
        TIME,
        "CLUSTER writes all of {table} anew while nobody can use it.",
        f"{_REWRITE} The order is lost again with the next changes.",
        "Use pg_repack --order-by, which works while the table is in use.",
    ),
    Rule(
        "refresh-not-concurrent",
        ERROR,
        TIME,
        "REFRESH MATERIALIZED VIEW keeps everybody from reading {table} until it is computed.",
        "A plain refresh holds ACCESS EXCLUSIVE for as long as the query takes.",
        "Refresh concurrently; that needs a unique index on all rows: {rewrite}",
    ),
    Rule(
        "lock-table",
        ERROR,
        NEVER,
        "LOCK TABLE … IN {reason} MODE keeps others from {table} until the end of the file.",
        "An explicit lock lasts for the whole transaction, whatever else the file does.",
        "Leave it out: each statement takes the lock it needs, and the engine limits how long it waits for that.",
    ),
    # Data
    Rule(
        "missing-where",
        ERROR,
        TIME,
        "{reason} changes every row of {table}.",
        "Every row is locked and written in one transaction, and a forgotten condition looks just the same.",
        "Name the rows; for a backfill, go through the key in batches in a file with -- transaction: none: {rewrite}",
    ),
    Rule(
        "truncate-table",
        ERROR,
        ROWS,
        "TRUNCATE removes every row of {table}{reason}.",
        "It takes ACCESS EXCLUSIVE, and what is gone comes back only from a backup.",
        "Delete the rows you mean, in batches; a table that nobody needs is dropped instead.",
    ),
    Rule(
        "foreign-keys-bypassed",
        ERROR,
        NEVER,
        "With {reason} no foreign key of {table} is checked, nor does any trigger fire.",
        "Foreign keys are triggers. What is written meanwhile is not checked later either, so broken references stay.",
        "Leave the triggers on, and load the tables in the order of their references; or make the foreign keys "
        "DEFERRABLE.",
    ),
    Rule(
        "triggers-left-disabled",
        WARNING,
        NEVER,
        "The file disables {name} on {table} and does not enable all of that again.",
        "What triggers keep in order is no longer kept in order, and nobody sees that from the table.",
        "Enable it again in the same file, which is one transaction; what nobody needs any more is dropped: {rewrite}",
    ),
    Rule(
        "dropping-primary-key",
        ERROR,
        NEVER,
        "Without {name}, {table} has no primary key.",
        "Two rows may be the same from then on, and logical replication refuses to update or delete any.",
        "Build the new unique index concurrently first, then exchange the two in one statement: {rewrite}",
    ),
    Rule(
        "create-rule",
        WARNING,
        NEVER,
        "Rule {name} rewrites the statements that are run on {table}.",
        "It replaces or multiplies what the application asked for, evaluates expressions twice, and COPY passes it by.",
        "Write a trigger; for a view, an INSTEAD OF trigger.",
    ),
    Rule(
        "adding-required-field",
        ERROR,
        ROWS,
        "The new column {column} of {table} is NOT NULL and has no default, so this fails as soon as there is a row.",
        "Rows that exist have no value for it, and the application that runs today does not fill it.",
        "Give it a constant default, or add it without NOT NULL, fill it, then prove it: {rewrite}",
        squawk=True,
    ),
    Rule(
        "enum-value-used-too-early",
        ERROR,
        NEVER,
        "The value {name} is used in the transaction that adds it to the enum, which PostgreSQL refuses.",
        "A new enum value counts only when the transaction that added it is committed (error 55P04).",
        "Move ALTER TYPE … ADD VALUE into a file of its own, before this one.",
    ),
    Rule(
        "ban-duplicate-column-assignments",
        ERROR,
        NEVER,
        "The UPDATE assigns the same column twice, which PostgreSQL refuses.",
        "The file fails when it is run (error 42601).",
        "Remove one of the two.",
        squawk=True,
    ),
    Rule(
        "index-before-load",
        WARNING,
        NEVER,
        "Index {name} is built before {table} is filled (line {reason}).",
        "Each row is put into the index one by one, which takes several times as long as building it afterwards.",
        "Move CREATE INDEX behind what loads the rows.",
    ),
    # What cannot be seen
    Rule(
        "ddl-in-do-block",
        ERROR,
        NEVER,
        "A DO block changes the schema: {reason}.",
        "What a block does depends on what it finds, so staging proves nothing about production, and the change "
        "is hidden "
        "from plans, reviews and other tools.",
        "Write the statement into the file itself. The ledger sees to it that it runs once, so it needs no IF "
        "NOT EXISTS.",
    ),
    Rule(
        "ddl-in-function",
        WARNING,
        NEVER,
        "Function {name} changes the schema when it is called: {reason}.",
        "Whoever calls it takes its locks, at any time, and no migration says so.",
        "Change the schema in migrations only.",
    ),
    Rule(
        "concurrently-if-not-exists",
        WARNING,
        NEVER,
        "IF NOT EXISTS takes any index with the name {name} for this one, an invalid leftover of a failed "
        "attempt included.",
        "An interrupted CREATE INDEX CONCURRENTLY leaves an INVALID index behind, which is never used. psql "
        "would report "
        "success.",
        "Leave IF NOT EXISTS out; the engine removes such a leftover by itself: {rewrite}",
    ),
    # Backward compatibility
    Rule(
        "renaming-column",
        ERROR,
        NEVER,
        "Renaming {column} breaks everything that knows it by its name.",
        _OLD_APPLICATION,
        "Add a column with the new name, write both, move readers over, drop the old one in a later release.",
        squawk=True,
    ),
    Rule(
        "renaming-table",
        ERROR,
        NEVER,
        "Renaming {table} breaks everything that knows it by its name.",
        _OLD_APPLICATION,
        "Leave a view under the old name, in the same file: {rewrite}",
        squawk=True,
    ),
    Rule(
        "renaming-object",
        WARNING,
        NEVER,
        "Renaming {name} breaks everything that knows it by its name.",
        _OLD_APPLICATION,
        "Create the new one beside it, move users over, drop the old one in a later release.",
        squawk=True,
    ),
    Rule(
        "ban-set-schema",
        ERROR,
        NEVER,
        "Moving {name} to another schema breaks everything that knows it by its name.",
        _OLD_APPLICATION,
        "Leave a view of the old name where it was, or move users over first.",
        squawk=True,
    ),
    Rule(
        "ban-drop-column",
        ERROR,
        NEVER,
        "Dropping {column} of {table} loses its data and breaks everything that still uses it.",
        _OLD_APPLICATION,
        "Release an application that does not use it first. Then drop it, with a suppression that names that release.",
        squawk=True,
    ),
    Rule(
        "ban-drop-table",
        ERROR,
        NEVER,
        "Dropping {name} loses its data and breaks everything that still uses it.",
        _OLD_APPLICATION,
        "Release an application that does not use it first. Then drop it, with a suppression that names that release.",
        squawk=True,
    ),
    Rule(
        "ban-drop-schema",
        ERROR,
        NEVER,
        "Dropping schema {name} breaks everything that still uses what is in it.",
        _OLD_APPLICATION,
        "Drop what is in it one by one, each when nothing uses it any more.",
        squawk=True,
    ),
    Rule(
        "ban-drop-database",
        ERROR,
        NEVER,
        "Dropping database {name} loses everything in it.",
        "A migration works on one database, and no rollback brings another one back.",
        "Do it by hand, with a backup at hand.",
        squawk=True,
    ),
    *(
        Rule(
            f"ban-drop-{kind}",
            WARNING,
            NEVER,
            f"Dropping {kind} {{name}} breaks everything that still uses it.",
            _OLD_APPLICATION,
            instead,
            squawk=True,
        )
        for kinds, instead in (
            (
                ("view", "function"),
                "CREATE OR REPLACE where only its content changes, or drop it when nothing uses it.",
            ),
            (("type", "sequence", "domain", "extension"), "Drop it when nothing uses it any more."),
        )
        for kind in kinds
    ),
    Rule(
        "ban-alter-identity",
        WARNING,
        NEVER,
        "Changing how {column} of {table} gets its numbers breaks writers that rely on today's way.",
        "With GENERATED ALWAYS an INSERT that names a value fails; without identity one that names none does.",
        "GENERATED BY DEFAULT accepts both. Remove an identity when all writers supply the value.",
        squawk=True,
    ),
    Rule(
        "ban-drop-generated-expression",
        WARNING,
        NEVER,
        "Column {column} of {table} is no longer computed, and no writer supplies it yet.",
        "The application that runs today leaves the column to the database.",
        "Release an application that writes it, or have a trigger do so, first.",
        squawk=True,
    ),
    # Types
    Rule(
        "json-column",
        WARNING,
        NEVER,
        "Column {column} of {table} has the type json.",
        "json has no equality: SELECT DISTINCT, GROUP BY and UNION of whole rows fail, and each access parses "
        "the text again.",
        "Use jsonb, unless the exact text has to be kept.",
    ),
    Rule(
        "ban-char-field",
        NOTE,
        NEVER,
        "The type char(n) pads values with blanks.",
        "Blanks at the end are significant in some comparisons and not in others.",
        "Use text, with a CHECK on the length where it matters.",
        squawk=True,
    ),
    Rule(
        "prefer-timestamp-tz",
        NOTE,
        NEVER,
        "The type timestamp without time zone doesn't say which moment is meant.",
        "The value changes its meaning with the time zone of the session that reads it.",
        "Use timestamptz.",
        squawk=True,
    ),
    Rule(
        "identifier-too-long",
        WARNING,
        NEVER,
        "A name is longer than 63 bytes, and PostgreSQL cuts it off without an error.",
        "Two long names may become one, and nobody finds the object by the name in the file.",
        "Choose a shorter name.",
        squawk=True,
    ),
    Rule(
        "prefer-bigint-over-int",
        NOTE,
        NEVER,
        "Column {column} of {table} counts up in {reason}, which ends at {limit}.",
        "When a sequence reaches the end, every INSERT fails, and changing the type of a large key is the "
        "hardest migration.",
        "Use bigint for keys.",
        squawk=True,
    ),
    # The file itself
    Rule(
        "missing-rollback",
        WARNING,
        NEVER,
        "{reason}",
        "Without a script the only way back is to restore a backup.",
        "Write the script under the same name; where there is none, say so in the header: -- rollback: none, reason",
    ),
    Rule(
        "missing-comment",
        WARNING,
        NEVER,
        "{reason}",
        "Comments are the documentation that travels with the database, and nobody knows better what it is than "
        "its author.",
        "{rewrite}",
    ),
    Rule(
        "syntax",
        ERROR,
        NEVER,
        "{reason}",
        "The file would fail when it is run.",
        "Correct it; psql commands that work in migrations are listed in docs/migrations.md.",
    ),
    Rule(
        "transaction-control",
        ERROR,
        NEVER,
        "{reason}",
        "Each file already runs in one transaction, together with its ledger row.",
        'Remove the line; if the file needs transactions of its own, put "-- transaction: none" in its first line.',
    ),
    Rule(
        "suppression-without-reason",
        ERROR,
        NEVER,
        "The suppression gives no reason, so it doesn't count.",
        "Nobody can tell later whether it may go.",
        "-- lint: ignore rule reason: why it does no harm here",
    ),
    Rule(
        "suppression-of-unknown-rule",
        ERROR,
        NEVER,
        "The suppression names {name}, which no rule is called.{reason}",
        "It suppresses nothing, whatever it was meant to.",
        "docs/lint.md lists all rules.",
    ),
    Rule(
        "suppression-of-nothing",
        WARNING,
        NEVER,
        "The suppression of {name} suppresses nothing.",
        "One that is left over would hide the next mistake.",
        "Remove it, or put it directly above the statement it is meant for.",
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _RULES}
"""All rules by their names, in the order of the documentation."""
