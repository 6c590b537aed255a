# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a migration before anybody runs it.

Runs on the controller only, where pglast is, PostgreSQL's own parser, and the program squawk.
"""
