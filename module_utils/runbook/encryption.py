# SPDX-License-Identifier: GPL-3.0-or-later
"""Encrypting with age, always as a stream: what is to be secret is never on a disk as plain text.

There is no way on without encryption once somebody has asked for it: a missing program, a recipient or key that age
does not take, a stream that breaks, each ends the run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from ansible.module_utils.runbook.errors import RunbookError

# What age takes as a recipient: its own public keys, and those of SSH (age(1), "RECIPIENTS AND IDENTITIES").
_RECIPIENT = re.compile(r"age1[0-9a-z]+|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+(?: [^\n]*)?")
_PROBE_BYTES = 1


def check_recipients(recipients: Sequence[str]) -> None:
    """See that encryption will work, before anything is begun.

    Raises:
        RunbookError: ``encryption`` when age is missing or does not take a recipient.
    """
    _require_age()
    for recipient in recipients:
        if _RECIPIENT.fullmatch(recipient) is None:
            raise _refused(
                f'"{recipient}" in backup_encrypt_to is no public key that age knows. Give one that starts with age1 '
                "(age-keygen prints it) or an SSH public key; never the secret key."
            )
    done = subprocess.run(_encrypt(recipients), input=b"", capture_output=True, check=False)
    if done.returncode:
        raise _refused(f"age does not take what is in backup_encrypt_to: {_said(done.stderr)}")


@contextlib.contextmanager
def encrypting(target: Path, recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """A file to write plain text to, which arrives encrypted in ``target``.

    When the writer fails, so does this: age is ended, not closed, and never gets to sign off what is not whole.

    Raises:
        RunbookError: ``encryption`` when age failed.
    """
    with target.open("xb") as output, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(_encrypt(recipients), stdin=subprocess.PIPE, stdout=output, stderr=complaints)
        if process.stdin is None:  # never: it is a pipe
            raise AssertionError
        try:
            yield process.stdin
        except BaseException:
            process.kill()
            process.wait()
            raise
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if process.wait():
            complaints.seek(0)
            raise _refused(f"age could not write {target}: {_said(complaints.read())}")


@contextlib.contextmanager
def decrypting(source: Path, identity: Path) -> Iterator[IO[bytes]]:
    """A file to read the plain text of ``source`` from.

    Raises:
        RunbookError: ``decryption`` when age failed, at the end at the latest: what was read before is not to be
            trusted then.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(_decrypt(source, identity), stdout=subprocess.PIPE, stderr=complaints)
        if process.stdout is None:  # never: it is a pipe
            raise AssertionError
        try:
            yield process.stdout
            process.stdout.read()  # the reader may have had enough; age says only at the end that all was genuine
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
        if process.wait():
            complaints.seek(0)
            raise _undecryptable(source, identity, _said(complaints.read()))


def check_identity(source: Path, identity: str) -> Path:
    """See that a key opens a file, by reading its beginning.

    Parameters:
        identity: the file with the secret key, as ``backup_decrypt_with`` names it.

    Raises:
        RunbookError: ``decryption`` when there is no key, others can read it, or it is not the one.
    """
    if not identity:
        raise RunbookError(
            f"{source} is encrypted, and nobody said with which key to open it: name the file with the secret key in "
            "backup_decrypt_with. It has to be on the host that runs the modules.",
            code="decryption",
        )
    _require_age()
    path = Path(identity)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _undecryptable(source, path, f"the key cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise _undecryptable(source, path, f"others can read the key; run chmod 0600 {path}")
    process = subprocess.Popen(_decrypt(source, path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        if process.stdout is None or process.stderr is None:  # never: they are pipes
            raise AssertionError
        first = process.stdout.read(_PROBE_BYTES)
        if first:
            process.kill()
            return path
        said = _said(process.stderr.read())
    raise _undecryptable(source, path, said or "there is nothing in it")


def _encrypt(recipients: Sequence[str]) -> list[str]:
    return ["age", "--encrypt", *(f"--recipient={recipient}" for recipient in recipients)]


def _decrypt(source: Path, identity: Path) -> list[str]:
    return ["age", "--decrypt", f"--identity={identity}", "--", str(source)]


def _require_age() -> None:
    if shutil.which("age", path=os.environ.get("PATH", os.defpath)) is None:
        raise _refused(
            "There is no program age on this host. Install the package age there, or run ansible-playbook prepare.yml"
        )


def _said(complaints: bytes) -> str:
    lines = [line.strip() for line in complaints.decode("utf-8", "replace").splitlines() if line.strip()]
    return (
        " / ".join(line.removeprefix("age: ") for line in lines if "report unexpected" not in line) or "no reason given"
    )


def _refused(reason: str) -> RunbookError:
    return RunbookError(f"{reason}. There is no backup without the encryption you asked for.", code="encryption")


def _undecryptable(source: Path, identity: Path, reason: str) -> RunbookError:
    return RunbookError(
        f"{source} cannot be opened with the key in {identity}: {reason}. Name the right file in backup_decrypt_with.",
        code="decryption",
    )
