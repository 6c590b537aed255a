# SPDX-License-Identifier: GPL-3.0-or-later
"""The bundle: what the controller writes is what the target reads, at any size."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import pytest
from ansible.module_utils.runbook import bundle as bundles
from ansible.module_utils.runbook.bundle import BundleReader, Order, Task, write_bundle
from ansible.module_utils.runbook.ledger import Entry
from ansible.module_utils.runbook.migration import Prepared, prepare, read_folder
from ansible.module_utils.runbook.piece import Piece

ENTRY = Entry(1, "001_ä.sql", "sum", "ä 'q' \n\\", "me@here")


def task_of(folder: Path, content: bytes, rollback: bool = False) -> tuple[Task, Prepared]:
    (folder / "001_a.sql").write_bytes(content)
    file = prepare(read_folder(folder).migrations[1], folder, 180000)
    return Task.of(ENTRY, file, rollback), file


def written(*tasks: tuple[Task, Prepared], order: Order | None = None) -> io.BytesIO:
    file = io.BytesIO()
    write_bundle(file, order or Order("digest"), tasks)
    file.seek(0)
    return file


def test_an_order_arrives_as_it_was_sent() -> None:
    order = Order("digest", repair=(ENTRY,), adopt=(ENTRY, ENTRY), baseline=())
    reader = BundleReader(written(order=order))
    assert reader.order == order
    assert list(reader.tasks()) == []


def test_statements_and_data_arrive_byte_by_byte(tmp_path: Path) -> None:
    content = b"SELECT 'a\r\n\xc3\xa4';\n\nCOPY t FROM stdin;\n1\n{\"2\": []}\n\\.\nCOPY t FROM stdin;\n\\.\nSELECT 2"
    sent = task_of(tmp_path, content)
    ((task, place),) = BundleReader(written(sent)).tasks()
    assert task == sent[0]
    reader = BundleReader(written(sent))
    found = [
        (item.piece, None if item.data is None else b"".join(item.data)) for item in reader.statements(task, place)
    ]
    assert found == [
        (Piece(b"SELECT 'a\r\n\xc3\xa4';", 1, "001_a.sql"), None),
        (Piece(b"COPY t FROM stdin;", 4, "001_a.sql"), b'1\n{"2": []}\n'),
        (Piece(b"COPY t FROM stdin;", 8, "001_a.sql"), b""),
        (Piece(b"SELECT 2", 10, "001_a.sql"), None),
    ]


def test_a_task_carries_what_the_file_asks_for(tmp_path: Path) -> None:
    header = b"-- transaction: none\n-- lock_timeout: 3s\n-- statement_timeout: 1min\n"
    task, _ = task_of(tmp_path, header + b"SELECT 1;", rollback=True)
    assert task == Task(ENTRY, True, 1, "-- transaction: none", True, 3000, 60_000)
    assert not task.transactional
    task, _ = task_of(tmp_path, b"VACUUM; SELECT 1;")
    assert task == Task(ENTRY, False, 2, "VACUUM", False, None, None)
    assert task_of(tmp_path, b"-- nothing")[0].transactional


def test_tasks_come_in_order_and_their_statements_can_be_read_again(tmp_path: Path) -> None:
    tasks = [task_of(tmp_path, b"SELECT %d; SELECT 'x';" % number) for number in range(5)]
    tasks.insert(2, task_of(tmp_path, b""))
    reader = BundleReader(written(*tasks))
    texts = [
        [item.piece.text for item in reader.statements(task, place)] for task, place in reader.tasks() for _ in range(2)
    ]
    expected = [[b"SELECT %d;" % number, b"SELECT 'x';"] for number in range(5)]
    expected.insert(2, [])
    assert texts == [item for item in expected for _ in range(2)]


def test_copy_data_can_be_iterated_again_after_other_reads(tmp_path: Path) -> None:
    sent = task_of(tmp_path, b"COPY t FROM stdin;\n1\n2\n\\.\nSELECT 1;")
    reader = BundleReader(written(sent))
    ((task, place),) = reader.tasks()
    copy, select = reader.statements(task, place)
    assert copy.data is not None and select.data is None
    assert b"".join(copy.data) == b"".join(copy.data) == b"1\n2\n"


def test_memory_does_not_grow_with_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "_CHUNK", 1024)
    sent = task_of(tmp_path, b"COPY t FROM stdin;\n" + b"0123456789\n" * 400_000 + b"\\.\n" + b"SELECT 1;" * 10)
    with (tmp_path / "bundle").open("wb") as target:
        write_bundle(target, Order("digest"), [sent])
    with (tmp_path / "bundle").open("rb") as source:
        tracemalloc.start()
        reader = BundleReader(source)
        size = 0
        for task, place in reader.tasks():
            for item in reader.statements(task, place):
                size += sum(len(chunk) for chunk in item.data or ())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert size == 4_400_000
    assert peak < 400_000
