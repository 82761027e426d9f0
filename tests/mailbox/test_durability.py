"""When files are synced together, and when one by one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gatepost.mail.clock import FakeClock
from gatepost.mailbox.durability import PAUSE, SYNCFS_FROM, Durability, find_syncfs


def test_the_system_call_works_on_a_folder_and_reports_errors(tmp_path: Path) -> None:
    syncfs = find_syncfs()
    if syncfs is None:
        pytest.skip("no syncfs here")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        syncfs(folder)
    finally:
        os.close(folder)
    with pytest.raises(OSError) as caught:
        syncfs(-1)
    assert caught.value.errno == errno.EBADF


def test_few_files_are_synced_one_by_one() -> None:
    durability = Durability(FakeClock(), lambda _: None)
    assert not durability.as_a_whole(SYNCFS_FROM - 1)
    assert durability.as_a_whole(SYNCFS_FROM)


def test_without_syncfs_every_file_is_synced_alone() -> None:
    assert not Durability(FakeClock(), None).as_a_whole(1000)


def test_a_slow_syncfs_is_left_alone_for_a_while() -> None:
    clock = FakeClock()
    durability = Durability(clock, lambda _: clock.advance(5))
    durability.sync_all(0)
    assert not durability.as_a_whole(100)
    clock.advance(PAUSE)
    assert durability.as_a_whole(100)


def test_one_folder_that_cannot_be_synced_does_not_stop_the_others(tmp_path: Path) -> None:
    good = os.open(tmp_path, os.O_RDONLY)
    bad, other_end = os.pipe()  # fsync of a pipe is EINVAL
    try:
        failed = Durability(FakeClock(), None).sync_folders([bad, good])
    finally:
        for fd in (good, bad, other_end):
            os.close(fd)
    assert list(failed) == [bad]
    assert failed[bad].errno == errno.EINVAL


def test_a_failed_syncfs_fails_all_its_folders() -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    failed = Durability(FakeClock(), broken).sync_folders([3, 4, 5, 6])
    assert list(failed) == [3, 4, 5, 6]
