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
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from ansible.module_utils.runbook.errors import RunbookError

# What age takes as a recipient: its own public keys, and those of SSH (age(1), "RECIPIENTS AND IDENTITIES").
_RECIPIENT = re.compile(r"age1[0-9a-z]+|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+(?: [^\n]*)?")
_ADVERTISED = "https://filippo.io/age/report"
_SECRET = re.compile(r"AGE-SECRET-KEY|PRIVATE KEY", re.IGNORECASE)
_PROBE_BYTES = 1
_CHUNK = 1024 * 1024


def check_recipients(recipients: Sequence[str]) -> None:
    """See that encryption will work, before anything is begun.

    Raises:
        RunbookError: ``encryption`` when age is missing or does not take a recipient.
    """
    _require_age()
    for recipient in recipients:
        if _RECIPIENT.fullmatch(recipient) is None:
            shown = "A secret key" if _SECRET.search(recipient) else f'"{recipient}"'
            raise _refused(
                f"{shown} in backup_encrypt_to is no public key that age knows. Give one that starts with age1 "
                "(age-keygen prints it) or an SSH public key; the secret key does not belong here"
            )
    done = subprocess.run(_encrypt(recipients), input=b"", capture_output=True, start_new_session=True, check=False)
    if done.returncode:
        raise _refused(f"age does not take what is in backup_encrypt_to: {_said(done.stderr)}")


@contextlib.contextmanager
def encrypting(target: Path, recipients: Sequence[str]) -> Iterator[IO[bytes]]:
    """A file to write plain text to, which arrives encrypted in ``target``.

    When the writer fails, so does this: age is ended, not closed, and never gets to sign off what is not whole. What
    is in ``target`` then has to be removed by the caller.

    Raises:
        RunbookError: ``encryption`` when age failed.
    """
    with target.open("xb") as output, tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            _encrypt(recipients), stdin=subprocess.PIPE, stdout=output, stderr=complaints, start_new_session=True
        )
        with _ended(process, complaints, lambda said: _refused(f"age could not write {target}: {said}")):
            plain = cast("IO[bytes]", process.stdin)
            try:
                yield plain
            except BaseException:
                process.kill()
                raise
            finally:
                with contextlib.suppress(BrokenPipeError):
                    plain.close()


@contextlib.contextmanager
def decrypting(source: Path, identity: Path) -> Iterator[IO[bytes]]:
    """A file to read the plain text of ``source`` from.

    Raises:
        RunbookError: ``decryption`` when age failed, at the end at the latest: what was read before is not to be
            trusted then.
    """
    with tempfile.TemporaryFile() as complaints:
        process = subprocess.Popen(
            _decrypt(source, identity),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=True,
        )
        with _ended(process, complaints, lambda said: _undecryptable(source, identity, said)):
            plain = cast("IO[bytes]", process.stdout)
            try:
                yield plain
                while plain.read(_CHUNK):  # the reader may have had enough; age says at the end that all was genuine
                    pass
            except BaseException:
                process.kill()
                raise
            finally:
                plain.close()


@contextlib.contextmanager
def _ended(
    process: subprocess.Popen[bytes], complaints: IO[bytes], failed: Callable[[str], RunbookError]
) -> Iterator[None]:
    """See age end. If it failed by itself, that is the reason for whatever else failed at the other end of its pipe.

    The age of both directions has a session of its own: it cannot ask a terminal for a key's passphrase, which nobody
    would answer, and Ctrl-C leaves it to us.
    """
    cause: BaseException | None = None
    try:
        yield
    except (RunbookError, OSError) as error:
        cause = error
    finally:
        status = process.wait()
    ended_by_us = cause is not None and status == -signal.SIGKILL
    if status and not ended_by_us:
        complaints.seek(0)
        raise failed(_said(complaints.read())) from cause
    if cause is not None:
        raise cause


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
    process = subprocess.Popen(
        _decrypt(source, path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        if cast("IO[bytes]", process.stdout).read(_PROBE_BYTES):
            process.kill()
            return path
        said = _said(cast("IO[bytes]", process.stderr).read())
    raise _undecryptable(source, path, said)


def _encrypt(recipients: Sequence[str]) -> list[str]:
    return ["age", "--encrypt", *(f"--recipient={recipient}" for recipient in recipients)]


def _decrypt(source: Path, identity: Path) -> list[str]:
    return ["age", "--decrypt", f"--identity={identity}", "--", str(source)]


def _require_age() -> None:
    if shutil.which("age", path=os.environ.get("PATH", os.defpath)) is None:
        raise RunbookError(
            "There is no program age on this host, which encrypted backups need: run ansible-playbook prepare.yml, or "
            "install the package age there. Nothing is written without encryption in its place.",
            code="encryption",
        )


def _said(complaints: bytes) -> str:
    lines = [line.strip() for line in complaints.decode("utf-8", "replace").splitlines() if line.strip()]
    wanted = [line.removeprefix("age: ").removeprefix("error: ") for line in lines if _ADVERTISED not in line]
    return " / ".join(wanted) or "it did not say why"


def _refused(reason: str) -> RunbookError:
    return RunbookError(f"{reason}. There is no backup without the encryption you asked for.", code="encryption")


def _undecryptable(source: Path, identity: Path, reason: str) -> RunbookError:
    return RunbookError(
        f"{source} cannot be opened with the key in {identity}: {reason}. Name the right file in backup_decrypt_with.",
        code="decryption",
    )
