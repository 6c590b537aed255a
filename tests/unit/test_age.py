# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams through age, both ways: what arrives is what was sent, or nobody takes it for that."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import vault
from ansible.module_utils.runbook.encryption import check_identity, check_recipients, decrypting, encrypting
from ansible.module_utils.runbook.errors import RunbookError
from vault import Key

MEGABYTE = b"0123456789abcdef" * 65536


@pytest.fixture
def key(tmp_path: Path) -> Key:
    """A pair of keys of the test's own."""
    return vault.new_key(tmp_path)


@pytest.fixture
def secret_file(tmp_path: Path, key: Key) -> Path:
    """3 MB, encrypted."""
    target = tmp_path / "file.age"
    with encrypting(target, [key.recipient]) as plain:
        for _ in range(3):
            plain.write(MEGABYTE)
    return target


def refusal(work: Callable[[], object]) -> RunbookError:
    """The error of something that has to fail."""
    with pytest.raises(RunbookError) as caught:
        work()
    return caught.value


def read(source: Path, key: Key) -> bytes:
    """All of it."""
    with decrypting(source, key.identity) as plain:
        return plain.read()


# --- there and back --------------------------------------------------------------------------------------------------


def test_what_comes_out_is_what_went_in(secret_file: Path, key: Key) -> None:
    assert MEGABYTE[:16] not in secret_file.read_bytes()
    assert check_identity(secret_file, str(key.identity)) == key.identity
    assert read(secret_file, key) == MEGABYTE * 3


def test_several_keys_open_it_and_ssh_keys_do_as_well(tmp_path: Path, key: Key) -> None:
    ssh = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ops @ home", "-f", str(ssh)], check=True)
    public = ssh.with_suffix(".pub").read_text().strip()
    recipients = [key.recipient, public]
    check_recipients(recipients)
    with encrypting(tmp_path / "file.age", recipients) as plain:
        plain.write(b"hello")
    for identity in (key.identity, ssh):
        with decrypting(tmp_path / "file.age", check_identity(tmp_path / "file.age", str(identity))) as opened:
            assert opened.read() == b"hello"


def test_a_program_writes_and_reads_without_anything_in_between(tmp_path: Path, key: Key) -> None:
    """That is how pg_dump and pg_restore do it; this process never holds more than a piece."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with encrypting(tmp_path / "file.age", [key.recipient]) as plain:
        subprocess.run([sys.executable, "-c", "print('x' * 100_000_000)"], stdout=plain, check=True)
    with decrypting(tmp_path / "file.age", key.identity) as opened:
        counted = subprocess.run(["wc", "-c"], stdin=opened, capture_output=True, check=True)
    assert int(counted.stdout) == 100_000_001
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes


def test_a_reader_that_has_had_enough_still_learns_that_the_rest_is_not_genuine(secret_file: Path, key: Key) -> None:
    with decrypting(secret_file, key.identity) as opened:
        assert opened.read(4) == b"0123"
    vault.flip(secret_file, -100)
    with pytest.raises(RunbookError, match="cannot be opened"), decrypting(secret_file, key.identity) as opened:
        assert opened.read(4) == b"0123"


# --- a writer that fails ---------------------------------------------------------------------------------------------


def test_a_writer_that_fails_leaves_nothing_that_looks_whole(tmp_path: Path, key: Key) -> None:
    """Closing age's input would make a proper end of what is half a dump."""
    target = tmp_path / "half.age"
    with pytest.raises(RunbookError, match="pg_dump failed"), encrypting(target, [key.recipient]) as plain:
        plain.write(MEGABYTE)
        raise RunbookError("pg_dump failed.", code="client-failed")
    assert target.exists()
    assert refusal(lambda: read(target, key)).code == "decryption"


def test_what_is_there_is_not_written_over(tmp_path: Path, key: Key) -> None:
    (tmp_path / "file.age").write_text("precious")
    with pytest.raises(FileExistsError), encrypting(tmp_path / "file.age", [key.recipient]):
        pass
    assert (tmp_path / "file.age").read_text() == "precious"


# --- what is refused before ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "-r",
        "--output=/etc/passwd",
        "age1nonsense",
        "github:somebody",
        "/etc/passwd",
        "age1x\n-o/etc/x",
        "ssh-ed25519",
    ],
)
def test_what_is_no_public_key_is_refused(recipient: str) -> None:
    vault.require("age")
    error = refusal(lambda: check_recipients([recipient]))
    assert error.code == "encryption" and "There is no backup without the encryption" in error.message
    assert ".." not in error.message


def test_a_secret_key_in_the_wrong_place_is_not_shown(key: Key) -> None:
    error = refusal(lambda: check_recipients([key.secret]))
    assert key.secret not in error.message and "A secret key in backup_encrypt_to" in error.message


def test_without_age_there_is_no_way_on(monkeypatch: pytest.MonkeyPatch, secret_file: Path, key: Key) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for work in (lambda: check_recipients([key.recipient]), lambda: check_identity(secret_file, str(key.identity))):
        error = refusal(work)
        assert error.code == "encryption" and "install the package age" in error.message


def test_a_key_is_tried_before_anything_is_begun(secret_file: Path, tmp_path: Path) -> None:
    other = vault.new_key(tmp_path, "other")
    error = refusal(lambda: check_identity(secret_file, str(other.identity)))
    assert error.code == "decryption" and "no identity matched any of the recipients" in error.message
    assert str(other.identity) in error.message and other.secret not in error.message


def test_a_key_that_is_missing_open_to_others_or_none_at_all_is_refused(
    secret_file: Path, key: Key, tmp_path: Path
) -> None:
    assert "name the file with the secret key" in refusal(lambda: check_identity(secret_file, "")).message
    missing = refusal(lambda: check_identity(secret_file, str(tmp_path / "missing")))
    assert "No such file" in missing.message
    key.identity.chmod(0o640)
    assert f"chmod 0600 {key.identity}" in refusal(lambda: check_identity(secret_file, str(key.identity))).message
    key.identity.chmod(0o600)
    key.identity.write_text("nonsense\n")
    error = refusal(lambda: check_identity(secret_file, str(key.identity)))
    assert error.code == "decryption" and "filippo.io" not in error.message


def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    """A run that waits for an answer at a terminal would wait for ever."""
    vault.require("age")
    ssh = tmp_path / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "sesame", "-f", str(ssh)], check=True)
    with encrypting(tmp_path / "file.age", [ssh.with_suffix(".pub").read_text().strip()]) as plain:
        plain.write(b"hello")
    error = refusal(lambda: check_identity(tmp_path / "file.age", str(ssh)))
    assert "could not read passphrase" in error.message


@pytest.mark.parametrize("size", [0, 100, 500_000])
def test_a_file_that_was_cut_off_is_not_taken_for_whole(size: int, secret_file: Path, key: Key) -> None:
    secret_file.write_bytes(secret_file.read_bytes()[:size])
    assert refusal(lambda: read(secret_file, key)).code == "decryption"
