# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule finds its labelled bad samples, and says nothing about their good twins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible.module_utils.runbook.lint.lint import Verdict, Wanted, lint
from ansible.module_utils.runbook.lint.rulebook import RULES

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "tests/lint"
BAD = sorted((SAMPLES / "bad").glob("*.sql"))
GOOD = sorted((SAMPLES / "good").glob("*.sql"))


def judged(sample: Path, folder: Path) -> Verdict:
    """What is said about a sample, as the migrations that follow ``before.sql``."""
    files = [(SAMPLES / "before.sql").read_text(), *re.split(r"(?m)^-- == next file ==\n", sample.read_text())]
    for place in ("init", "rollback"):
        (folder / place).mkdir()
    for number, text in enumerate(files, start=1):
        (folder / "init" / f"{number:03}_sample.sql").write_text(text)
        if number == 1 or not sample.name.startswith("missing-rollback"):
            (folder / "rollback" / f"{number:03}_sample.sql").write_text("SELECT 'back';\n")
    return lint(Wanted(folder / "init", folder / "rollback", server_version=180000))


def label(sample: Path) -> set[str]:
    """The rules that a bad sample names in its first line."""
    match = re.match(r"-- raises: (.*)", sample.read_text())
    assert match, sample
    return set(match.group(1).split(", "))


@pytest.mark.parametrize("sample", BAD, ids=lambda sample: sample.stem)
def test_a_bad_sample_raises_exactly_its_rules(sample: Path, tmp_path: Path) -> None:
    found = judged(sample, tmp_path).findings
    assert {finding.rule for finding in found} == label(sample), found
    assert all(finding.severity == RULES[finding.rule].severity or "function" in sample.stem for finding in found)


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.stem)
def test_a_good_twin_raises_nothing(sample: Path, tmp_path: Path) -> None:
    assert judged(sample, tmp_path).findings == []


def test_each_bad_sample_has_a_good_twin() -> None:
    assert [path.name for path in BAD] == [path.name for path in GOOD]


def test_each_rule_has_a_bad_sample() -> None:
    assert set().union(*(label(sample) for sample in BAD)) == set(RULES)


def test_no_sentence_has_an_open_place(tmp_path: Path) -> None:
    for sample in BAD:
        (tmp_path / sample.stem).mkdir()
        for finding in judged(sample, tmp_path / sample.stem).findings:
            assert finding.message and finding.why and finding.rewrite
            assert not re.search(r"[{}]|name_known_at_run_time", f"{finding.message}{finding.rewrite}"), finding
            assert not finding.message[0].islower() and finding.message.endswith((".", "?")), finding.message
