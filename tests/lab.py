# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: servers with systemd, sshd and PostgreSQL 17, each a container, reached over real SSH.

``ci/prepare`` makes the engine and the images; docs/lab.md tells the rest. In Python::

    with lab.running(["primary", "standby"]) as hosts:
        hosts[0].ssh("sudo", "systemctl", "is-system-running")

and on the command line, for playbooks that create and destroy instances::

    python tests/lab.py up --name native --hosts primary,standby --inventory inventory.yml
    python tests/lab.py down --name native
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POSTGRES_IMAGE = os.environ.get("LAB_POSTGRES_IMAGE") or "schema-runbook/postgres:17"
"""The image of a PostgreSQL server, used like the official ``postgres:17``."""

HOST_IMAGE = os.environ.get("LAB_HOST_IMAGE") or "schema-runbook/host:13"
"""The image of a server with systemd."""

USER = "deploy"
"""The ordinary account of every host: logs in with a key, and becomes anybody without a password."""

LABEL = "schema-runbook.lab"
"""Every container, network and volume of the lab carries this label with the name of its lab."""

_MADE = f"{LABEL}.made"
_FOLDER = f"{LABEL}.folder"
_PREFIX = "schema-runbook-lab-"
_KINDS = ("container", "network", "volume")

# Neither --privileged, which asks for more than every machine has, nor less than systemd needs.
_SYSTEMD = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--tmpfs=/run", "--tmpfs=/run/lock"]
_SYSTEMD += ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"]
_SYSTEMD += ["--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw"]


class LabError(Exception):
    """The lab cannot do what was asked; the text says why."""


@dataclass(frozen=True)
class Host:
    """A server of the lab.

    Attributes:
        name: its name within the lab, which is also its host name and how the other hosts reach it.
        container: the container's name.
        address: its address, the same after a restart.
        port: the port of its sshd.
        user: the account to log in with.
        key: the private key to log in with.
        known_hosts: the host keys of all hosts of this lab.
    """

    name: str
    container: str
    address: str
    port: int
    user: str
    key: Path
    known_hosts: Path

    @property
    def ssh_options(self) -> list[str]:
        """Options of ``ssh`` that trust this lab's keys and no others."""
        options = {
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    @property
    def variables(self) -> dict[str, str | int]:
        """What an Ansible inventory says about this host."""
        common = self.ssh_options[2:]  # Ansible has a variable of its own for the key
        return {
            "ansible_host": self.address,
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": shlex.join(common),
            # The next lab may have this address; it must not find the connections of this one.
            "ansible_control_path_dir": str(self.key.with_name("connections")),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def ssh(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command the way Ansible gets there; the caller looks at the exit status."""
        login = ["ssh", "-F", "none", "-o", "BatchMode=yes", *self.ssh_options]
        login += ["-p", str(self.port), f"{self.user}@{self.address}", "--", shlex.join(command)]
        return subprocess.run(login, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command as root without SSH, and return what it printed; raises ``LabError`` if it fails."""
        return docker("exec", "--interactive", self.container, *command, stdin=stdin)


def docker(*arguments: str, stdin: str = "") -> str:
    """Run the client and return what it printed; raises ``LabError`` with its complaint if it fails."""
    try:
        done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabError("There is no docker client in PATH.") from None
    if done.returncode:
        raise LabError(f"docker {arguments[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


def why_not(*images: str) -> str | None:
    """Return why tests that need these images cannot run on this machine, or None if they can."""
    try:
        docker("version", "--format", "{{.Server.Version}}")
    except LabError as error:
        return f"No Docker engine answers, ci/prepare starts one: {str(error).splitlines()[-1]}"
    for image in images:
        try:
            docker("image", "inspect", image)
        except LabError:
            return f"There is no image {image}: ci/prepare makes it."
    for program in ("ssh", "ssh-keygen"):
        if not shutil.which(program):
            return f"There is no {program} in PATH: install the package openssh-client."
    return None


def labels(name: str) -> list[str]:
    """Options for ``docker run`` and its kind that make something part of a lab, to be removed with it."""
    return ["--label", f"{LABEL}={name}", "--label", f"{_MADE}={int(time.time())}"]


def unique_name() -> str:
    """A name that no other run has."""
    return f"lab-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def running(names: Sequence[str], name: str = "") -> Iterator[list[Host]]:
    """Hosts with these names for as long as the context lasts."""
    name = name or unique_name()
    try:
        yield up(name, names)
    finally:
        down(name)


def up(name: str, names: Sequence[str]) -> list[Host]:
    """Start hosts on a network of their own, and wait until systemd is up and sshd lets us in.

    What an earlier lab of the same name left is removed first. On failure nothing stays behind.

    Parameters:
        name: the lab's name; containers and network are named after it.
        names: one name for each host.
    """
    down(name)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        key = folder / "key"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(key)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
        addresses = _network(name, folder)
        legacy = docker("info", "--format", "{{.CgroupVersion}}") == "1"
        hosts = [
            Host(host, f"{name}-{host}", str(addresses[number]), 22, USER, key, folder / "known_hosts")
            for number, host in enumerate(names, start=2)  # the first is the gateway
        ]
        for host in hosts:
            _start(name, host, legacy)
        for host in hosts:
            _wait(host)
    except BaseException:
        _remove_folder(folder)
        down(name)
        raise
    return hosts


def down(name: str) -> None:
    """Remove everything of a lab: containers, networks, volumes, keys. Nothing being there is fine."""
    everything = {kind: _list(kind, f"{LABEL}={name}") for kind in _KINDS}
    for network in _inspect("network", everything["network"]):
        folder = Path(network["folder"] or "/")
        # The label is only believed about a folder that can be ours.
        if folder.name.startswith(_PREFIX) and (folder / "key").is_file():
            _remove_folder(folder)
    for kind, found in everything.items():
        _remove(kind, found)


def sweep(older_than: float = 2 * 60 * 60) -> list[str]:
    """Remove what killed runs left: every lab with something older than so many seconds. Return the labs' names."""
    before = time.time() - older_than
    names = {
        found["name"]
        for kind in _KINDS
        for found in _inspect(kind, _list(kind, LABEL))
        if float(found["made"] or 0) <= before
    }
    for name in names:
        down(name)
    return sorted(names)


def inventory(hosts: Sequence[Host], group: str) -> str:
    """An Ansible inventory, in YAML, with the hosts in a group."""
    lines = ["---", f"{group}:", "  hosts:"]
    for host in hosts:
        lines.append(f"    {host.name}:")
        lines += [f"      {name}: {json.dumps(value)}" for name, value in host.variables.items()]
    return "\n".join(lines) + "\n"


def _network(name: str, folder: Path) -> ipaddress.IPv4Network:
    """Make the lab's network and return its addresses.

    Docker keeps a container's address over a restart only where the subnet was asked for, so a free one is found first.
    """
    options = [*labels(name), "--label", f"{_FOLDER}={folder}"]
    for attempt in range(5):
        docker("network", "create", *options, name)
        free = docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Subnet}}", name)
        docker("network", "rm", name)
        try:
            docker("network", "create", *options, "--subnet", free, name)
        except LabError:
            if attempt == 4:
                raise
            continue  # somebody else was faster
        break
    return ipaddress.IPv4Network(free)


def _start(name: str, host: Host, legacy: bool) -> None:
    """Start a container that is a server; what systemd needs depends on the machine's control groups."""
    environment, arguments = [], []
    if legacy:
        environment = ["--env", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
        arguments = ["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]
    who = ["--name", host.container, "--hostname", host.name, "--network-alias", host.name]
    where = ["--network", name, "--ip", host.address]
    docker(
        *("run", "--detach", *labels(name), *who, *where, *_SYSTEMD, *environment),
        *(HOST_IMAGE, "/sbin/init", *arguments),
    )


def _wait(host: Host, seconds: float = 60) -> None:
    """Wait until a host is up, introduce our key to it, and its key to us."""
    deadline = time.monotonic() + seconds
    state = ""
    while state not in ("running", "degraded"):
        if time.monotonic() > deadline:
            log = docker("logs", "--tail", "20", host.container)
            raise LabError(f"{host.container} is {state or 'not'} up after {seconds:.0f} seconds: {log}")
        with contextlib.suppress(LabError):
            state = docker("exec", host.container, "sh", "-c", "systemctl is-system-running --wait || true")
        time.sleep(0.05)

    script = (
        f"install -d -m 700 -o {host.user} -g {host.user} ~{host.user}/.ssh && cd ~{host.user}/.ssh && "
        f"cat > authorized_keys && chown {host.user}: authorized_keys && chmod 600 authorized_keys && "
        "cat /etc/ssh/ssh_host_*_key.pub"
    )
    # From inside, not from the network: that is what makes them worth checking.
    host_keys = host.run("sh", "-c", script, stdin=host.key.with_suffix(".pub").read_text())
    with host.known_hosts.open("a") as file:
        for line in host_keys.splitlines():
            file.write(f"{host.name},{host.address} {' '.join(line.split()[:2])}\n")

    while (login := host.ssh("true")).returncode:
        if time.monotonic() > deadline:
            raise LabError(f"{host.container} does not let us in: {login.stderr.strip()}")
        time.sleep(0.1)


def _list(kind: str, label: str) -> list[str]:
    everything = ["--all"] if kind == "container" else []
    return docker(kind, "ls", *everything, "--quiet", "--filter", f"label={label}").split()


def _inspect(kind: str, found: Sequence[str]) -> list[dict[str, str]]:
    """The lab's labels of containers, networks or volumes; one may be gone by now."""
    where = ".Config.Labels" if kind == "container" else ".Labels"
    fields = {"name": LABEL, "made": _MADE, "folder": _FOLDER}
    wanted = ",".join(f'"{field}":{{{{json (index {where} "{label}")}}}}' for field, label in fields.items())
    answers = []
    for one in found:
        with contextlib.suppress(LabError):
            answers.append(json.loads(docker(kind, "inspect", "--format", f"{{{wanted}}}", one)))
    return answers


def _remove(kind: str, found: Sequence[str]) -> None:
    if not found:
        return
    options = {"container": ["--force", "--volumes"], "network": [], "volume": ["--force"]}[kind]
    with contextlib.suppress(LabError):  # somebody else may be removing the same
        docker(kind, "rm", *options, *found)
    if left := set(_list(kind, LABEL)) & set(found):
        raise LabError(f"These cannot be removed: {kind} {', '.join(sorted(left))}")


def _remove_folder(folder: Path) -> None:
    """End the connections that Ansible keeps open for a minute, while their other end is there, and remove the keys."""
    for socket in folder.glob("connections/*"):
        close = ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={socket}", "lab"]
        subprocess.run(close, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    shutil.rmtree(folder, ignore_errors=True)


def _host_names(text: str) -> list[str]:
    return [f"host{number + 1}" for number in range(int(text))] if text.isdigit() else text.split(",")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("up", help="start hosts and write an inventory of them")
    start.add_argument("--name", required=True, help="name of the lab")
    start.add_argument("--hosts", default="1", type=_host_names, help="how many, or their names with commas")
    start.add_argument("--group", default="staging", help="group of the hosts in the inventory (%(default)s)")
    start.add_argument("--inventory", type=Path, help="file to write; without it the inventory is printed")
    end = commands.add_parser("down", help="remove a lab")
    end.add_argument("--name", required=True, help="name of the lab")
    clean = commands.add_parser("sweep", help="remove what killed runs left behind")
    clean.add_argument("--older-than", type=float, default=2 * 60 * 60, help="seconds (%(default)s); 0 is everything")
    commands.add_parser("check", help="say whether there can be a lab on this machine")
    given = parser.parse_args(arguments)

    try:
        if given.command == "up":
            if reason := why_not(HOST_IMAGE):
                raise LabError(reason)
            text = inventory(up(given.name, given.hosts), given.group)
            if given.inventory:
                given.inventory.parent.mkdir(parents=True, exist_ok=True)
                given.inventory.write_text(text)
            else:
                print(text, end="")
        elif given.command == "down":
            down(given.name)
        elif given.command == "sweep":
            for name in sweep(given.older_than):
                print(f"Removed the lab {name}.")
        elif reason := why_not(POSTGRES_IMAGE, HOST_IMAGE):
            raise LabError(reason)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
