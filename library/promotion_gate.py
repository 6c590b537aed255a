# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of ``promotion_gate``; the action plugin of the same name does the work, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: promotion_gate
short_description: Let migrations through only if another environment has proven them
description:
  - Compares files that are about to be applied with what the newest validation of another environment, usually staging,
    has shown. See docs/promotion.md.
  - The proof is in that environment's run records on the controller. The host itself is not asked anything.
version_added: "0.1.0"
author:
  - Schema Runbook contributors
options:
  database:
    description: Name of the database that is to be changed.
    type: str
    required: true
  pending:
    description: What M(schema_migration) has planned, with C(pending), C(pending_versions) and C(checksums).
    type: dict
    required: true
  identity:
    description: RV(schema_info#module:identity) of that database.
    type: str
    required: true
  tables:
    description: RV(schema_info#module:tables) of that database.
    type: dict
    required: true
  checks:
    description: Folder with the checks that have to have been made, on the controller. Empty for none.
    type: path
    default: ""
  health:
    description: Whether the health checks have to have been made, too.
    type: bool
    default: false
  health_severity:
    description: Severity of single health checks by name, as for M(database_check). Those that are C(off) are left out.
    type: dict
    default: {}
  environment:
    description: The environment that the database belongs to. No other one may have run records of this very database.
    type: str
    required: true
  promote_from:
    description:
      - Which environment has to have proven the migrations. Empty for none, which in C(production) is a reason to be
        kept as well.
    type: str
    default: ""
  records:
    description: Folder of the run records, on the controller; by default the project's.
    type: path
    default: ""
  may_lack:
    description:
      - Patterns of tables, as C(schema.table), that may be without rows in O(promote_from) though they have some here.
    type: list
    elements: str
    default: []
  copies:
    description: Environments whose servers are physical copies of this one, or the other way round.
    type: list
    elements: str
    default: []
  override:
    description: Why the migrations are let through all the same, in an emergency.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: Reads only, so it does the same in check mode.
  diff_mode:
    support: N/A
    description: Changes nothing, so there is nothing to show.
  idempotent:
    support: full
    description: Changes nothing, however often it runs.
"""

EXAMPLES = r"""
- name: Refuse what staging has not proven
  promotion_gate:
    database: cm
    pending: "{{ plan }}"
    identity: "{{ schema.identity }}"
    tables: "{{ schema.tables }}"
    checks: db/checks
    environment: production
    promote_from: staging
    records: .runs
"""

RETURN = r"""
decision:
  description: V(passed), V(overridden), V(refused), or V(off) if no environment was asked.
  type: str
  returned: always
proof:
  description: Id of the run record that holds the proof.
  type: str
  returned: success
problems:
  description: What is missing, each with the command that supplies it.
  type: list
  elements: str
  returned: always
excused:
  description: Tables with rows that were without any in O(promote_from), as O(may_lack) lets them.
  type: list
  elements: str
  returned: success
reason:
  description: Why they were let through without a proof.
  type: str
  returned: success
notes:
  description: What to keep in the ledger's history, by version, about those that are not proven.
  type: dict
  returned: success
"""
