"""Body files: written, kept out of memory, swept."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.content import header_length
from gatepost.mail.queue_id import queue_id
from gatepost.queue import bodies
from gatepost.queue.bodies import BodyWriter, sweep
from gatepost.storage.errors import StorageFull, StorageUnavailable


def writer_in(folder: Path, size: int = 100, unsynced: dict[int, int] | None = None) -> BodyWriter:
    return BodyWriter(folder / queue_id(7), 7, size, {} if unsynced is None else unsynced)


@given(
    content=st.binary(max_size=60).map(lambda end: b"A: b\r\nC: d\r\n\r\n" + end)
    | st.sampled_from([b"", b"\r\n", b"\r\nx"]),
    cuts=st.lists(st.integers(0, 80), max_size=5),
    size=st.sampled_from([1, 5, 14, 15, 30, 1000]),
)
def test_however_it_comes_the_bytes_and_the_header_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int], size: int
) -> None:
    unsynced: dict[int, int] = {}
    writer = writer_in(tmp_path_factory.mktemp("bodies"), size, unsynced)
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    for start, end in itertools.pairwise(places):
        writer.write(content[start:end])
    body = writer.finish()
    assert body.read() == content
    assert body.size == writer.size == len(content)
    assert body.header == content[: header_length(content)]
    assert (body.path is None) == (len(content) < size)
    assert bool(unsynced) == (body.path is not None)
    writer.discard()
    assert unsynced == {}
    assert body.path is None or not body.path.exists()


def test_a_header_longer_than_the_limit_is_cut(tmp_path: Path) -> None:
    with mock.patch.object(bodies, "HEADER_LIMIT", 50):
        for size in (10, 10_000):
            writer = writer_in(tmp_path, size)
            writer.write(b"A: " + b"x" * 100)
            writer.write(b"\r\n\r\nbody")
            assert writer.finish().header == b"A: " + b"x" * 47
            writer.discard()


def test_the_file_is_for_the_owner_only_and_never_somebody_elses(tmp_path: Path) -> None:
    path = tmp_path / queue_id(7)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        writer_in(tmp_path).write(b"x" * 200)
    assert path.is_symlink()
    path.unlink()
    writer = writer_in(tmp_path)
    writer.write(b"x" * 200)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    writer = writer_in(tmp_path)
    writer.write(b"x" * 150)
    with (
        mock.patch.object(os, "write", side_effect=OSError(errno.ENOSPC, "No space left on device")),
        pytest.raises(StorageFull, match="No space left on device"),
    ):
        writer.write(b"more")
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_sweep_removes_only_what_has_no_message(tmp_path: Path) -> None:
    for name in (queue_id(7), queue_id(8), "README"):
        (tmp_path / name).write_bytes(b"x")
    assert sweep(tmp_path, lambda numbers: numbers & {8}) == 1
    assert {path.name for path in tmp_path.iterdir()} == {queue_id(8), "README"}
