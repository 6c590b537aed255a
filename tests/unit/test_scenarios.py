# SPDX-License-Identifier: GPL-3.0-or-later
"""The runner of the Molecule scenarios: what it says, and that it leaves nothing running whatever happens."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scenarios
from scenarios import FAILED, PASSED, ROOT, SKIPPED, Outcome

NO_ENGINE = "There is no docker client in PATH."

# Stands in for Molecule: notes what it was asked for and does what the test says.
MOLECULE = """#!/bin/sh
echo "$3" >> {notes}
[ "$3" = test ] || exit 0
echo "INFO     [default > converge] Executing"
echo
echo "TASK [migrate : Bring the schema to the wanted version] ****"
{behaviour}
"""


def fake_molecule(folder: Path, behaviour: str) -> Path:
    """Put a Molecule into a folder, and return the file in which it notes the commands it was given."""
    notes = folder / "notes"
    (folder / "molecule").write_text(MOLECULE.format(notes=notes, behaviour=behaviour))
    (folder / "molecule").chmod(0o755)
    return notes


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the runner takes its commands from."""
    monkeypatch.setattr(scenarios.sys, "executable", str(tmp_path / "python"))
    return tmp_path


def test_every_scenario_is_known_and_those_without_an_engine_come_first() -> None:
    found = scenarios.names()
    assert set(found) >= scenarios.NEEDS.keys()
    assert set(found[-len(scenarios.NEEDS) :]) == scenarios.NEEDS.keys()


def test_the_last_line_says_what_ran_and_what_did_not_and_why() -> None:
    outcomes = [
        Outcome("default", PASSED, 41.2),
        Outcome("story", FAILED, 102.7, "ended after 900 s"),
        Outcome("docker", SKIPPED, reason=NO_ENGINE),
        Outcome("native", SKIPPED, reason=NO_ENGINE),
    ]
    assert scenarios.report(outcomes).splitlines() == [
        "default  passed     41 s",
        "story    failed    103 s  ended after 900 s",
        f"docker   skipped          {NO_ENGINE}",
        f"native   skipped          {NO_ENGINE}",
        f"1 scenario passed, 1 failed, 2 skipped (docker, native: {NO_ENGINE})",
    ]


@pytest.mark.parametrize(
    ("results", "success"),
    [([PASSED], True), ([PASSED, SKIPPED], True), ([PASSED, FAILED], False), ([SKIPPED], False), ([], False)],
)
def test_testing_nothing_is_a_failure(results: list[str], success: bool) -> None:
    assert scenarios.succeeded([Outcome("one", result) for result in results]) is success


def test_a_required_engine_turns_a_skip_into_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUIRE_DOCKER", raising=False)
    assert scenarios.skipped("docker", NO_ENGINE).result == SKIPPED
    monkeypatch.setenv("REQUIRE_DOCKER", "1")
    failed = scenarios.skipped("docker", NO_ENGINE)
    assert (failed.result, failed.reason) == (FAILED, f"REQUIRE_DOCKER=1, but: {NO_ENGINE}")


def test_without_an_engine_only_the_embedded_scenarios_run(
    tools: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = fake_molecule(tools, "exit 0")
    monkeypatch.delenv("REQUIRE_DOCKER", raising=False)
    monkeypatch.setattr(scenarios.lab, "why_not", lambda *images: NO_ENGINE)
    monkeypatch.setattr(scenarios, "names", lambda: ["default", "docker"])
    assert scenarios.main([]) == 0
    assert notes.read_text().split() == ["test"]
    assert capsys.readouterr().out.endswith(f"1 scenario passed, 0 failed, 1 skipped (docker: {NO_ENGINE})\n")
    monkeypatch.setenv("REQUIRE_DOCKER", "1")
    assert scenarios.main([]) == 1


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("echo 'INFO     [default > converge] Executed: Successful'; exit 0", ""),
        ("echo 'ERROR    [default > converge] Executed: Failed'; exit 1", "at step converge"),
        ("exit 4", "at step start"),
        ("echo 'WARNING  [default > verify] Executed: Missing playbook'", "the playbook of a step is missing"),
    ],
)
def test_a_failed_scenario_says_where_and_shows_its_output(
    tools: Path, capsys: pytest.CaptureFixture[str], behaviour: str, reason: str
) -> None:
    fake_molecule(tools, behaviour)
    outcome = scenarios.run("default", stream=False)
    assert (outcome.result, outcome.reason) == (FAILED if reason else PASSED, reason)
    assert ("TASK [migrate" in capsys.readouterr().out) is bool(reason)


def test_output_can_be_streamed(tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_molecule(tools, "exit 1")
    scenarios.run("default", stream=True)
    assert capsys.readouterr().out.count("TASK [migrate") == 1


def test_a_scenario_without_tests_fails(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_molecule(tools, "exit 0")
    monkeypatch.setattr(scenarios, "SCENARIOS", tools)
    assert scenarios.run("default", stream=False) == Outcome("default", FAILED, reason="it has no tests")


def test_a_scenario_that_hangs_is_ended_and_destroyed(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = fake_molecule(tools, "sleep 60 & echo $! >> {notes}; wait".format(notes=tools / "notes"))
    monkeypatch.setattr(scenarios, "LIMIT", 1)
    outcome = scenarios.run("default", stream=False)
    assert outcome.result == FAILED
    assert outcome.reason == (
        "ended after 1 s, at work on: converge, task migrate : Bring the schema to the wanted version"
    )
    command, child, last = notes.read_text().split()
    assert (command, last) == ("test", "destroy")
    assert not is_running(child)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scenario_is_destroyed(tmp_path: Path, end: signal.Signals) -> None:
    notes = fake_molecule(tmp_path, "sleep 60 & echo $! >> {notes}; wait".format(notes=tmp_path / "notes"))
    python = str(tmp_path / "python")
    start = f"import sys; sys.executable = {python!r}; import scenarios; sys.exit(scenarios.main(['default', 'story']))"
    process = subprocess.Popen(
        [sys.executable, "-c", start], cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 30
    while not notes.exists() or len(notes.read_text().split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, end)  # as a terminal does it, to everything in the foreground
    output, _ = process.communicate(timeout=30)
    command, child, last = notes.read_text().split()
    assert (process.returncode, command, last) == (1, "test", "destroy")
    assert not is_running(child)
    assert re.search(r"\ndefault  failed +\d+ s  interrupted\nstory    skipped +interrupted\n", output)
    assert output.endswith("0 scenarios passed, 1 failed, 1 skipped (story: interrupted)\n")


def is_running(process: str) -> bool:
    """Whether a process is there and not just waiting to be buried."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
