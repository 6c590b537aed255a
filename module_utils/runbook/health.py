# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks that need no file: what is wrong in any database, whatever its schema is.

They are warnings unless the caller says otherwise: most of what they find has been there for long, and is no reason to
take back what has just been done. Questions after those of pg-index-health-sql (Apache-2.0) and postgres-checkup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible.module_utils.runbook.check import HEALTH, INFO, SEVERITIES, WARNING, Check, Finding, counted, listed
from ansible.module_utils.runbook.errors import RunbookError
from ansible.module_utils.runbook.session import Session

OFF = "off"

# How old statistics have to be before an index that they never saw used counts as unused, in days: longer than a month
# has, since reports are run once in one.
STATISTICS_DAYS = 32
# From how much on a sequence is near its end, in percent.
NEAR_END = 80

# Objects of users: not the server's own, and none that belong to an extension.
_USERS = """n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%'
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.pg_class'::regclass
                                                        AND x.objid = c.oid AND x.deptype = 'e')"""

# One that is being built just now is no leftover. That of a partitioned table waits for its partitions.
_INVALID_INDEXES = f"""
SELECT n.nspname::text || '.' || i.relname
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE i.relkind = 'i' AND NOT (x.indisvalid AND x.indisready AND x.indislive) AND {_USERS}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.relid = x.indrelid)
 ORDER BY 1
"""

_NOT_VALID = f"""
SELECT o.conname::text || ' of ' || n.nspname || '.' || c.relname
  FROM pg_catalog.pg_constraint o
  JOIN pg_catalog.pg_class c ON c.oid = o.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT o.convalidated AND {_USERS}
 ORDER BY 1
"""

# An index serves a foreign key when its first columns are those of the key, in whatever order; one that leaves out NULL
# does, too, since no key is looked up by NULL. Those of partitions come with their parent's.
_BARE_FOREIGN_KEYS = f"""
SELECT o.conname::text || ' of ' || n.nspname || '.' || c.relname
  FROM pg_catalog.pg_constraint o
  JOIN pg_catalog.pg_class c ON c.oid = o.conrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE o.contype = 'f' AND o.conparentid = 0 AND {_USERS}
   AND NOT EXISTS (
       SELECT FROM pg_catalog.pg_index x
        WHERE x.indrelid = o.conrelid AND x.indisvalid
          AND (x.indpred IS NULL OR pg_catalog.pg_get_expr(x.indpred, x.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$')
          AND (x.indkey::smallint[])[0:pg_catalog.cardinality(o.conkey) - 1] @> o.conkey
          AND (x.indkey::smallint[])[0:pg_catalog.cardinality(o.conkey) - 1] <@ o.conkey)
 ORDER BY 1
"""

# Alike in everything; of two, the one that no constraint needs is the one too many.
_DUPLICATE_INDEXES = f"""
SELECT n.nspname::text || '.'
       || pg_catalog.string_agg(i.relname::text, ' = ' ORDER BY x.indisprimary DESC, x.indisunique DESC, i.relname)
  FROM pg_catalog.pg_index x
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE x.indisvalid AND x.indislive AND {_USERS}
 GROUP BY n.nspname, x.indrelid, i.relam, x.indkey::text, x.indclass::text, x.indcollation::text, x.indoption::text,
          x.indnkeyatts, pg_catalog.pg_get_expr(x.indexprs, x.indrelid), pg_catalog.pg_get_expr(x.indpred, x.indrelid)
HAVING pg_catalog.count(*) > 1
 ORDER BY 1
"""

# Those that guard something are used, whether they are read or not. Statistics that were never reset are at least as
# old as the server's last start.
_UNUSED_INDEXES = f"""
SELECT n.nspname::text || '.' || i.relname
       || ' (' || pg_catalog.pg_size_pretty(pg_catalog.pg_relation_size(i.oid)) || ')'
  FROM pg_catalog.pg_stat_all_indexes s
  JOIN pg_catalog.pg_index x ON x.indexrelid = s.indexrelid
  JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
  JOIN pg_catalog.pg_class c ON c.oid = x.indrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE s.idx_scan = 0 AND x.indisvalid AND NOT x.indisunique AND NOT x.indisexclusion AND {_USERS}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint o
                    WHERE o.contype = 'f' AND o.conrelid = x.indrelid
                      AND (x.indkey::smallint[])[0:pg_catalog.cardinality(o.conkey) - 1] @> o.conkey)
 ORDER BY pg_catalog.pg_relation_size(i.oid) DESC, 1
"""

_STATISTICS_AGE = """
SELECT pg_catalog.date_part(
           'day', pg_catalog.now() - coalesce(stats_reset, pg_catalog.pg_postmaster_start_time()))::integer
  FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()
"""

# The end is that of the sequence or that of the column it fills, whichever comes first: an integer column with a
# sequence of its own ends at two thousand millions.
_NEAR_END = f"""
SELECT shown || ' at ' || pg_catalog.round(used) || ' %%' FROM (
    SELECT n.nspname::text || '.' || c.relname || coalesce(' of ' || t.relname || '.' || a.attname, '') AS shown,
           100.0 * (s.last_value - q.seqmin)
           / nullif(least(q.seqmax,
                          CASE a.atttypid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 END
                         )::numeric - q.seqmin, 0) AS used
      FROM pg_catalog.pg_sequences s
      JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
      JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.sequencename AND c.relkind = 'S'
      JOIN pg_catalog.pg_sequence q ON q.seqrelid = c.oid
      LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
                                      AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.deptype IN ('a', 'i')
      LEFT JOIN pg_catalog.pg_class t ON t.oid = d.refobjid
      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE q.seqincrement > 0 AND NOT q.seqcycle AND {_USERS}) AS found
 WHERE used >= {NEAR_END}
 ORDER BY used DESC
"""

_NO_PRIMARY_KEY = f"""
SELECT n.nspname::text || '.' || c.relname
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND {_USERS}
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.contype = 'p')
 ORDER BY 1
"""


@dataclass(frozen=True)
class Ailment:
    """Something that is wrong in any database.

    Parameters:
        name: of the check, as something that ought to be true.
        sql: lists what suffers from it, one text a row.
        one, many: what that is.
        remedy: what to do about it.
        severity: unless the caller says otherwise.
    """

    name: str
    sql: str
    one: str
    many: str
    remedy: str
    severity: str = WARNING


AILMENTS = {
    "invalid_indexes": Ailment(
        "Every index is valid", _INVALID_INDEXES, "invalid index", "invalid indexes",
        "No query uses it, every write pays for it: DROP INDEX CONCURRENTLY, then build it again.",
    ),
    "not_valid_constraints": Ailment(
        "Every constraint is validated", _NOT_VALID, "constraint that is NOT VALID", "constraints that are NOT VALID",
        "Old rows may break it: ALTER TABLE … VALIDATE CONSTRAINT.",
    ),
    "foreign_keys_without_index": Ailment(
        "Every foreign key has an index", _BARE_FOREIGN_KEYS,
        "foreign key without an index", "foreign keys without an index",
        "Deleting what it refers to reads the whole table: CREATE INDEX CONCURRENTLY on its columns.",
    ),
    "duplicate_indexes": Ailment(
        "No index is there twice", _DUPLICATE_INDEXES, "index that is there twice", "indexes that are there twice",
        "Every write pays for both: DROP INDEX CONCURRENTLY the one that no constraint needs.",
    ),
    "unused_indexes": Ailment(
        "Every index is used", _UNUSED_INDEXES, "index that was never used", "indexes that were never used",
        "See that no standby uses it, then DROP INDEX CONCURRENTLY.", INFO,
    ),
    "sequences_near_end": Ailment(
        "No sequence is near its end", _NEAR_END, "sequence near its end", "sequences near their end",
        "When it is reached, every insert fails: make sequence and column bigint in time.",
    ),
    "missing_primary_keys": Ailment(
        "Every table has a primary key", _NO_PRIMARY_KEY, "table without a primary key", "tables without a primary key",
        "Logical replication and many tools need one.",
    ),
}  # fmt: skip
"""All health checks, by the name that ``validate_health_severity`` knows them by."""


def checks(severity: Mapping[str, str]) -> list[Check]:
    """The health checks to be made.

    Parameters:
        severity: of some of them, by name; ``off`` leaves one out.

    Raises:
        RunbookError: ``option`` for a name or a severity that does not exist.
    """
    for name, wanted in severity.items():
        if name not in AILMENTS or wanted not in (*SEVERITIES, OFF):
            raise RunbookError(
                f"The option health_severity says {name}: {wanted}. Names are {', '.join(AILMENTS)}; values are "
                f"{', '.join(SEVERITIES)} and {OFF}.",
                code="option",
            )
    return [
        Check(ailment.name, HEALTH, {"ailment": name}, severity.get(name, ailment.severity))
        for name, ailment in AILMENTS.items()
        if severity.get(name) != OFF
    ]


def run(session: Session, check: Check, rows: int) -> Finding:
    """Make a health check on a session in a read-only transaction with a time limit."""
    name = check.options["ailment"]
    ailment = AILMENTS[name]
    if name == "unused_indexes":
        young = _young(session)
        if young is not None:
            return young
    # The bound parameter is for the %% that the questions share with messages that have one.
    found = [text for (text,) in session.query(f"{ailment.sql.rstrip()} LIMIT %s", 1000)]
    if not found:
        return Finding(True, f"No {ailment.one}.", {"objects": []})
    said = f"{counted(len(found), ailment.one, ailment.many)}: {listed(found)}. {ailment.remedy}"
    return Finding(False, said, {"objects": found[:100], "count": len(found)})


def _young(session: Session) -> Finding | None:
    ((days,),) = session.query(_STATISTICS_AGE)
    if days >= STATISTICS_DAYS:
        return None
    return Finding(
        None,
        f"Statistics are {counted(days, 'day')} old; it takes {STATISTICS_DAYS} to tell that nobody uses an index.",
        {"days": days},
    )
