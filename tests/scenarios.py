# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the scenarios of ``molecule/`` and say exactly which of them ran, with what result, and which did not and why.

    python tests/scenarios.py                 all that this machine can run
    python tests/scenarios.py story docker    these
    python tests/scenarios.py --stream story  with everything it prints

A scenario's output is shown when it fails. Exit status 0 means that at least one ran and none failed; with
``REQUIRE_DOCKER=1`` in the environment a scenario that cannot run for want of an engine has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import lab

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "molecule"

NEEDS = {"docker": [lab.POSTGRES_IMAGE], "native": [lab.HOST_IMAGE]}
"""The images that scenarios start containers from; those that are not named here need no engine."""

LIMIT = 900
"""Seconds after which a scenario is taken to hang."""

PATIENCE = 180
"""Seconds that removing what a scenario started may take."""

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class CutShort(Exception):
    """A command was ended before it came to its own end; the text says why."""


class Interruption:
    """Whether somebody wants all this to end.

    Ctrl-C and SIGTERM are only noted, and looked at where a command can be ended and cleared up after. An exception
    could come at any moment, such as when a process has been started that nobody knows yet.
    """

    wanted = False

    @classmethod
    @contextlib.contextmanager
    def noted(cls) -> Iterator[None]:
        """Note the signals for as long as the context lasts."""
        before = {end: signal.signal(end, cls._note) for end in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for end, handler in before.items():
                signal.signal(end, handler)

    @classmethod
    def _note(cls, *_: object) -> None:
        cls.wanted = True


# What Molecule and Ansible print when they begin with something.
_STEP = re.compile(r"^INFO .*\[\S+ > (\w+)\] Executing$|^TASK \[(.*)\]", re.MULTILINE)
_FAILED_STEP = re.compile(r"\[\S+ > (\w+)\] \S*Executed: Failed")


@dataclass(frozen=True)
class Outcome:
    """How a scenario ended.

    Attributes:
        name: of the scenario.
        result: ``passed``, ``failed`` or ``skipped``.
        seconds: how long it took.
        reason: why it was skipped, or where it failed.
    """

    name: str
    result: str
    seconds: float = 0
    reason: str = ""


class Bench:
    """A place for one run of a scenario: its folder, the environment of its commands, and what they print.

    Parameters:
        name: of the scenario.
        folder: an empty one, with a short path because of the sockets that Ansible puts below it.
        stream: whether to show the output while it is made.
    """

    def __init__(self, name: str, folder: Path, stream: bool) -> None:
        self.name = name
        self.output = ""
        self._stream = stream
        self._home = folder
        # Molecule keeps everything below this. The embedded server's account has to get in, too.
        (folder / "tmp").mkdir(mode=0o755)
        folder.chmod(0o755)

    def test(self) -> bool:
        """Run the scenario's sequence, and return whether it succeeded; raises ``CutShort``."""
        deadline = time.monotonic() + LIMIT
        with self._started("test") as process:
            while process.poll() is None:
                if Interruption.wanted:
                    raise CutShort("interrupted")
                if time.monotonic() > deadline:
                    raise CutShort(f"ended after {LIMIT} s, at work on: {self.at_work_on()}")
                time.sleep(0.1)
        return process.returncode == 0

    def destroy(self) -> None:
        """Remove what the scenario has started; Molecule does so itself unless it is cut short."""
        with contextlib.suppress(subprocess.TimeoutExpired), self._started("destroy") as process:
            process.wait(PATIENCE)

    @contextlib.contextmanager
    def _started(self, command: str) -> Iterator[subprocess.Popen[str]]:
        """One of Molecule's commands, whose output is read while it runs, and which does not outlast the context."""
        process = subprocess.Popen(
            ["molecule", "--base-config", ".config/molecule/config.yml", command, "--scenario-name", self.name],
            cwd=ROOT,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        reader = threading.Thread(target=self._read, args=[process], daemon=True)
        reader.start()
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            reader.join(5)

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Take in what a command prints."""
        assert process.stdout
        with process.stdout as lines:
            for line in lines:
                self.output += line
                if self._stream:
                    print(line, end="", flush=True)

    def failed_step(self) -> str:
        """The step that failed first."""
        failed = _FAILED_STEP.search(self.output)
        return failed[1] if failed else "start"

    def at_work_on(self) -> str:
        """The step and task that were begun last."""
        step, task = "start", ""
        for new_step, new_task in _STEP.findall(self.output):
            step, task = (new_step, "") if new_step else (step, new_task)
        return f"{step}, task {task}" if task else step

    def _environment(self) -> dict[str, str]:
        """The environment of a run, free of the settings of whoever runs the tests."""
        foreign = ("ANSIBLE_", "MOLECULE_", "PG", "SCHEMA_RUNBOOK_", "VIRTUAL_ENV")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "ANSIBLE_HOME": str(self._home),
            "MOLECULE_COMMAND_BORDERS": "0",
            "NO_COLOR": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }


def names() -> list[str]:
    """All scenarios, those that need no engine first."""
    found = (path.parent.name for path in SCENARIOS.glob("*/molecule.yml"))
    return sorted(found, key=lambda name: (name in NEEDS, name))


def run(name: str, stream: bool) -> Outcome:
    """Run a scenario from creation to destruction; its output is shown if it fails."""
    if not list((SCENARIOS / name).glob("tests/**/test_*.py")):
        return Outcome(name, FAILED, reason="it has no tests")  # Molecule would be content
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rb-", dir="/tmp") as folder:
        bench = Bench(name, Path(folder), stream)
        reason = _reason_to_fail(bench)
    if reason and not stream:
        print(bench.output, end="", flush=True)
    return Outcome(name, FAILED if reason else PASSED, time.monotonic() - started, reason)


def _reason_to_fail(bench: Bench) -> str:
    """Test the scenario, and return why it failed, or an empty string."""
    try:
        passed = bench.test()
    except CutShort as reason:
        print(f"Scenario {bench.name}: {reason}; what it has started is removed.", flush=True)
        bench.destroy()
        return str(reason)
    if not passed:
        return f"at step {bench.failed_step()}"
    # Molecule does not mind a step without its playbook.
    return "the playbook of a step is missing" if "Missing playbook" in bench.output else ""


def run_all(wanted: Sequence[str], stream: bool) -> list[Outcome]:
    """Run these scenarios one after the other, as far as this machine can run them."""
    outcomes = []
    for name in wanted:
        if Interruption.wanted:
            outcomes.append(Outcome(name, SKIPPED, reason="interrupted"))
        elif name in NEEDS and (reason := lab.why_not(*NEEDS[name])):
            outcomes.append(skipped(name, reason))
        else:
            print(f"Scenario {name} ...", flush=True)
            outcomes.append(run(name, stream))
            print(f"Scenario {name} {outcomes[-1].result} after {outcomes[-1].seconds:.0f} s.", flush=True)
    return outcomes


def skipped(name: str, reason: str) -> Outcome:
    """The outcome of a scenario that cannot run here."""
    if os.environ.get("REQUIRE_DOCKER") == "1":
        return Outcome(name, FAILED, reason=f"REQUIRE_DOCKER=1, but: {reason}")
    return Outcome(name, SKIPPED, reason=reason)


def report(outcomes: Sequence[Outcome]) -> str:
    """What ran and what did not; the last line says it all."""
    width = max(len(outcome.name) for outcome in outcomes)
    lines = []
    for outcome in outcomes:
        seconds = f"{outcome.seconds:4.0f} s" if outcome.seconds else " " * 6
        lines.append(f"{outcome.name:{width}}  {outcome.result:7}  {seconds}  {outcome.reason}".rstrip())
    return "\n".join([*lines, summary(outcomes)])


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line: ``2 scenarios passed, 0 failed, 1 skipped (docker: There is no docker client in PATH.)``."""
    counts = {result: sum(outcome.result == result for outcome in outcomes) for result in (PASSED, FAILED, SKIPPED)}
    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.result == SKIPPED:
            reasons.setdefault(outcome.reason, []).append(outcome.name)
    why = "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    scenarios = "1 scenario" if counts[PASSED] == 1 else f"{counts[PASSED]} scenarios"
    said = f"{scenarios} passed, {counts[FAILED]} failed, {counts[SKIPPED]} skipped"
    return f"{said} ({why})" if why else said


def succeeded(outcomes: Sequence[Outcome]) -> bool:
    """Whether something was tested and nothing failed: testing nothing is a failure."""
    results = {outcome.result for outcome in outcomes}
    return PASSED in results and FAILED not in results


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="scenario", help="what to run, by default everything")
    parser.add_argument("--stream", action="store_true", help="show the output while it is made")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(names())):
        parser.error(f"there is no scenario {', '.join(unknown)}; there are: {', '.join(names())}")

    with Interruption.noted():
        outcomes = run_all(given.names or names(), given.stream)
    print(f"\n{report(outcomes)}")
    return 0 if succeeded(outcomes) and not Interruption.wanted else 1


if __name__ == "__main__":
    sys.exit(main())
