"""The disk is full, or the database locked: nothing is acknowledged, nothing is lost, and all goes on when it is over."""

from __future__ import annotations

import resource
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gatepost.storage.sqlite import BUSY_TIMEOUT
from peers.gatepost import GatepostInstance
from peers.programs import require_root
from peers.wire import Wire

SMALL, LARGE = 2_000, 3_000_000  # bytes: in the database, and in a file of its own


@pytest.fixture
def gatepost(tmp_path: Path) -> Iterator[GatepostInstance]:
    with GatepostInstance(tmp_path) as instance:
        yield instance


def message(subject: str, size: int) -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode() + (b"x" * 70 + b"\r\n") * (size // 72)


def send(gatepost: GatepostInstance, subject: str, size: int = SMALL) -> str:
    """The reply to the end of the message."""
    with Wire(gatepost.address("mx"), timeout=40) as wire:
        wire.hello()
        wire.envelope("x@far.test", ["ann@here.test"])
        assert wire.ask("DATA").startswith("354")
        wire.send(message(subject, size) + b".\r\n")
        return wire.reply()


def must_go_on(gatepost: GatepostInstance) -> None:
    """Everything is as if nothing had been."""
    assert send(gatepost, "afterwards").startswith("250 2.0.0")
    assert send(gatepost, "afterwards, large", LARGE).startswith("250 2.0.0")
    for subject in ("before", "afterwards", "afterwards, large"):
        assert len(gatepost.wait_for_mail("ann@here.test", subject)) == 1
    gatepost.wait_until_empty()
    assert gatepost.serves()
    assert not list((gatepost.home.path / "queue" / "0" / "bodies").iterdir())
    assert "Traceback" not in gatepost.log() + gatepost.output.read_text()


def test_a_locked_database(gatepost: GatepostInstance) -> None:
    assert send(gatepost, "before").startswith("250")
    gatepost.wait_until_empty()
    other = sqlite3.connect(gatepost.home.path / "queue" / "0" / "queue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        began = time.monotonic()
        answers: list[str] = []
        senders = [threading.Thread(target=lambda: answers.append(send(gatepost, "locked"))) for _ in range(5)]
        for sender in senders:
            sender.start()
        with Wire(gatepost.address("mx"), timeout=2) as wire:  # meanwhile others are served
            wire.hello()
            wire.envelope("x@far.test", ["ann@here.test"])
        for sender in senders:
            sender.join(40)
        assert [answer[:10] for answer in answers] == ["451 4.3.0 "] * 5
        assert BUSY_TIMEOUT - 1 < time.monotonic() - began < 4 * BUSY_TIMEOUT
    finally:
        other.execute("ROLLBACK")
        other.close()
    gatepost.wait_for_log("another process kept it locked")
    must_go_on(gatepost)
    assert not [mail for mail in gatepost.maildir("ann@here.test") if mail["Subject"] == "locked"]


def test_results_are_written_when_the_lock_is_gone(gatepost: GatepostInstance) -> None:
    """Delivered while the queue cannot be told: it is told later, and nothing is delivered again."""
    database = gatepost.home.path / "queue" / "0" / "queue.sqlite"
    assert send(gatepost, "before").startswith("250")
    other = sqlite3.connect(database, isolation_level=None, timeout=10)
    other.execute("BEGIN IMMEDIATE")
    gatepost.wait_for_mail("ann@here.test", "before")
    time.sleep(BUSY_TIMEOUT + 1)
    other.execute("ROLLBACK")
    other.close()
    gatepost.wait_until_empty()
    must_go_on(gatepost)


@contextmanager
def files_limited(gatepost: GatepostInstance, size: int) -> Iterator[None]:
    """The workers' files cannot grow beyond `size` bytes."""
    pids = [worker["pid"] for worker in gatepost.status()]
    before = [resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids]
    for pid, (_, hard) in zip(pids, before, strict=True):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        for pid, limits in zip(pids, before, strict=True):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


def test_files_that_cannot_grow(gatepost: GatepostInstance) -> None:
    assert send(gatepost, "before").startswith("250")
    gatepost.wait_until_empty()
    with files_limited(gatepost, 4096):
        for size in (SMALL, LARGE):
            for _ in range(2):
                assert send(gatepost, "no room", size).startswith("452 4.3.1")
        with Wire(gatepost.address("mx"), timeout=5) as wire:
            wire.hello()
            wire.envelope("x@far.test", ["ann@here.test"])
    must_go_on(gatepost)
    assert not [mail for mail in gatepost.maildir("ann@here.test") if mail["Subject"] == "no room"]


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[], None]]:
    """A file system of its own at `folder`; the function fills it up."""
    require_root("a small file system has to be mounted")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")

    def fill() -> None:
        with (folder / "filler").open("wb", buffering=0) as filler:
            for block in (65536, 4096, 1):
                try:
                    while True:
                        filler.write(b"x" * block)
                except OSError:
                    pass

    try:
        yield fill
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    shard = gatepost.home.path / "queue" / "0"
    with small_disk(shard, "8m") as fill, gatepost:
        assert send(gatepost, "before").startswith("250")
        gatepost.wait_until_empty()
        fill()
        for size in (SMALL, LARGE):
            for _ in range(2):
                assert send(gatepost, "no room", size).startswith("452 4.3.1")
        (shard / "filler").unlink()
        gatepost.wait_for_log("no space is left")
        must_go_on(gatepost)


def test_a_message_larger_than_the_disk(tmp_path: Path) -> None:
    gatepost = GatepostInstance(tmp_path)
    with small_disk(gatepost.home.path / "queue" / "0", "8m"), gatepost:
        assert send(gatepost, "before").startswith("250")
        assert send(gatepost, "too large", 20_000_000).startswith("452 4.3.1")
        must_go_on(gatepost)


def test_a_full_mailbox_disk_only_delays(tmp_path: Path) -> None:
    toml = "[queue]\nminimal_backoff_time = 1\nmaximal_backoff_time = 1"
    gatepost = GatepostInstance(tmp_path, toml)
    (gatepost.home.path / "mail").mkdir()
    with small_disk(gatepost.home.path / "mail", "4m") as fill, gatepost:
        assert send(gatepost, "before").startswith("250")
        gatepost.wait_for_mail("ann@here.test", "before")
        fill()
        assert send(gatepost, "late").startswith("250")
        gatepost.wait_for_log("status=deferred")
        (gatepost.home.path / "mail" / "filler").unlink()
        assert len(gatepost.wait_for_mail("ann@here.test", "late")) == 1
        gatepost.wait_until_empty()
