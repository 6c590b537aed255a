# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine of Schema Runbook: plain Python, psycopg its only third-party import.

Each module has one responsibility; ``docs/architecture.md`` draws how they fit together.
The package runs on the controller (reading files, planning) and on the target (applying),
so it stays importable on every Python that ansible-core supports on targets.
"""
