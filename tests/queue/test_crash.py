"""A worker is killed at random moments: what was acknowledged is there, once, whole."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

import queue_samples
from gatepost.mail.clock import FakeClock
from gatepost.mail.queue_id import queue_id
from queue_samples import shard_in

ROUNDS = 3


def kill_one(folder: Path, start: float, seconds: float) -> tuple[dict[int, int], set[int]]:
    """Acknowledged numbers with their checksums, and those that may have been finished."""
    paths = os.pathsep.join(path for path in sys.path if path)
    script = Path(queue_samples.__file__).with_name("doomed.py")
    told = folder / "told"
    with told.open("wb") as out:
        worker = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(start)], stdout=out, env={"PYTHONPATH": paths}
        )
    try:
        while not told.stat().st_size and worker.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
    finally:
        worker.kill()
        worker.wait(timeout=30)
    text = told.read_bytes()
    acknowledged, finished = {}, set()
    # A last line without its end may have been cut short.
    for line in text[: text.rfind(b"\n") + 1].decode().splitlines():
        sign, number, *checksum = line.split()
        if sign == "+":
            acknowledged[int(number)] = int(checksum[0])
        else:
            finished.add(int(number))
    return acknowledged, finished


@pytest.mark.crash
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged: dict[int, int] = {}
    finished: set[int] = set()
    for attempt in range(ROUNDS):
        # Each worker's clock begins earlier than that of the one before.
        new, done = kill_one(tmp_path, 1_800_000_000.0 - attempt * 86_400, random.uniform(0.05, 0.4))
        assert new, "the worker was killed before it stored anything"
        assert not new.keys() & acknowledged.keys(), "a queue number was given twice"
        assert min(new) > max(acknowledged, default=0)
        acknowledged |= new
        finished |= done

    async def take_all() -> dict[int, int]:
        found: dict[int, int] = {}
        async with shard_in(tmp_path, FakeClock(1_800_000_000.0)) as shard:
            while messages := await shard.take_due(1000):
                for message in messages:
                    assert message.number not in found
                    assert len(message.jobs) == 1
                    found[message.number] = zlib.crc32(message.body.read())
            in_files = {path.name for path in (tmp_path / "1" / "bodies").iterdir()}
            in_rows = (await shard.statistics()).messages
        assert in_rows == len(found)
        assert in_files <= {queue_id(number) for number in found}, "a body file without its message"
        return found

    found = asyncio.run(take_all())
    lost = acknowledged.keys() - finished - found.keys()
    assert not lost
    assert all(found[number] == checksum for number, checksum in acknowledged.items() if number in found)
    # Those that nobody was told of may be there as well: a message may come twice, but is never lost.
    assert len(found.keys() - acknowledged.keys()) <= 20 * ROUNDS
