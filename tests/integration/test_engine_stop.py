# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker engine ends in the middle of a run: a second one, since the machine's own has other work."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import lab
import pytest
from engine import write
from project import Project, poll, short_folder

DOCKERD = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
PASSWORD = "of the second engine"
BRIDGE = "rb-second"

pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.skipif(os.geteuid() != 0 or not DOCKERD, reason="a second engine takes root and dockerd"),
]


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an engine of the test's own, which knows the image; the docker client talks to it."""
    with short_folder() as folder:
        image = folder / "image.tar"
        lab.docker("save", "--output", str(image), lab.POSTGRES_IMAGE)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/sock")
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)  # of a killed run
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        with running(folder):
            lab.docker("load", "--input", str(image))
        yield folder
        subprocess.run(["ip", "link", "delete", BRIDGE], check=True)
        for line in Path("/proc/self/mounts").read_text().splitlines():  # an engine that has ended leaves some
            if line.split()[1].startswith(f"{folder}/"):
                subprocess.run(["umount", line.split()[1]], check=True)


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The engine for as long as the context lasts. Its bridge is its own: with none at all it would remove docker0."""
    folders = (f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid")
    network = (f"--bridge={BRIDGE}", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
    with (folder / "log").open("ab") as log:
        command = [str(DOCKERD), f"--host=unix://{folder}/sock", *folders, *network]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        poll(lambda: answers() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(60)


def answers() -> bool:
    """Whether the engine answers."""
    try:
        lab.docker("version")
    except lab.LabError:
        return False
    return True


def ask(name: str, question: str) -> str:
    """The answer of the database in a container; empty as long as it does not answer."""
    try:
        return lab.docker("exec", name, "psql", "-XAt", "--username=cm", "--command", question)
    except lab.LabError:
        return ""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_an_engine_that_ends_during_a_run_leaves_nothing_half_done(second: Path) -> None:
    with short_folder() as folder, closing(Project(folder)) as project:
        project.variables = {"db_runtime": "docker", "db_container": "cm-second", **project.own_files()}
        project.secrets = [PASSWORD]
        write(project.init, {"001_one.sql": "CREATE TABLE public.one ();"})
        slow = {"002_slow.sql": "CREATE TABLE public.two (); SELECT pg_sleep(60);"}
        with running(second) as engine:
            port, address = f"PGPORT={free_port()}", "listen_addresses=127.0.0.1"
            settings = [f"--env={variable}" for variable in (port, "POSTGRES_USER=cm", f"POSTGRES_PASSWORD={PASSWORD}")]
            options = ["--name=cm-second", "--network=host", "--restart=unless-stopped", *settings]
            lab.docker("run", "--detach", *options, lab.POSTGRES_IMAGE, "-c", address)
            project.run("migrate.yml")

            write(project.init, slow)
            run = project.start("migrate.yml")
            poll(lambda: ask("cm-second", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1")
            engine.terminate()
            failed = project.finish(run, code=2)
            assert failed.error["code"] == "connection-lost" and "002_slow.sql" in failed.error["message"]

        refused = project.run("migrate.yml", code=2)
        assert "Start the engine there" in refused.error["message"]

        with running(second):
            left = "SELECT to_regclass('public.one'), to_regclass('public.two'), max(version) FROM cm.schema_version"
            assert poll(lambda: ask("cm-second", left)) == "one||1"
            write(project.init, {"002_slow.sql": "CREATE TABLE public.two ();"})
            assert "Version 2: 1 applied." in project.run("migrate.yml").text
            assert project.run("migrate.yml").changed == 0
