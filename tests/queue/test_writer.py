"""What the writer does when the disk is full, the database locked, or one message of a batch is bad."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred
from gatepost.queue import writer
from gatepost.queue.records import JobResult
from gatepost.queue.shard import QueueShard
from gatepost.storage.errors import StorageError, StorageFull, StorageLocked
from gatepost.storage.sqlite import connect
from queue_samples import CONTENT, DEFERRED, DELIVERED, new_message, results, shard_in

LARGE = CONTENT + b"x" * 20_000
KIB_7 = CONTENT + b"x" * 7000


async def limit_pages(shard: QueueShard, more: int | None) -> None:
    """Let the database grow by so many pages and no further; None for as it likes."""

    def limit(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {4_000_000_000 if more is None else pages + more}")

    await shard._writer.call(limit)


def stored_numbers(folder: Path) -> set[int]:
    connection = connect(folder / "1" / "queue.sqlite")
    found = {number for (number,) in connection.execute("SELECT number FROM message")}
    connection.close()
    return found


def test_a_full_database_refuses_mail_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            await limit_pages(shard, 40)
            stored, refused = [], 0
            for _ in range(30):
                try:
                    stored.append(await shard.add(new_message(shard, content=KIB_7)))
                except StorageFull as error:
                    assert "queue.sqlite" in str(error)
                    refused += 1
            assert 5 < len(stored) < 30
            assert refused > 0
            assert stored_numbers(tmp_path) == {message.number for message in stored}
            # What is delivered makes room without any help.
            for message in stored[:3]:
                shard.finish(results(message, DELIVERED))
            again = await shard.add(new_message(shard, content=KIB_7))
            assert stored_numbers(tmp_path) == {message.number for message in [*stored[3:], again]}
            await limit_pages(shard, None)
            await asyncio.gather(*(shard.add(new_message(shard, content=KIB_7)) for _ in range(30)))

    asyncio.run(story())


def test_a_full_disk_takes_no_body_file_and_leaves_none(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            message = new_message(shard, content=LARGE)
            with (
                mock.patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")),
                pytest.raises(StorageFull, match="No space left on device"),
            ):
                await shard.add(message)
            await limit_pages(shard, 0)
            with pytest.raises(StorageFull):
                for _ in range(50):  # the first few find room in pages that are there
                    await shard.add(new_message(shard, content=LARGE))
            files = {path.name for path in (tmp_path / "1" / "bodies").iterdir()}
            await limit_pages(shard, None)
            assert len(files) == len(stored_numbers(tmp_path))
            assert shard._leased == {(number, 0) for number in stored_numbers(tmp_path)}

    asyncio.run(story())


def test_a_locked_database_refuses_mail_but_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_PAUSE", 0.05)
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            await shard._writer.call(lambda connection: connection.execute("PRAGMA busy_timeout = 50"))
            first = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            other = connect(tmp_path / "1" / "queue.sqlite")
            other.execute("BEGIN IMMEDIATE")
            shard.finish([JobResult(first.number, 0, DELIVERED), JobResult(first.number, 1, DEFERRED, clock.now())])
            with pytest.raises(StorageLocked):
                await shard.add(new_message(shard))
            with pytest.raises(StorageLocked):  # the answer would be wrong: results are not written yet
                await shard.take_due(10)
            assert len(other.execute("SELECT * FROM job").fetchall()) == 2
            other.execute("ROLLBACK")
            await asyncio.sleep(0.3)  # nobody rings
            assert other.execute("SELECT number, state, attempts FROM job").fetchall() == [(1, "waiting", 1)]
            other.close()
            assert [message.number for message in await shard.take_due(10)] == [first.number]

    asyncio.run(story())


def test_closing_with_results_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    async def story() -> None:
        shard: QueueShard
        with pytest.raises(StorageLocked):
            async with shard_in(tmp_path) as shard:
                await shard._writer.call(lambda connection: connection.execute("PRAGMA busy_timeout = 20"))
                first = await shard.add(new_message(shard))
                other = connect(tmp_path / "1" / "queue.sqlite")
                other.execute("BEGIN IMMEDIATE")
                shard.finish(results(first, DELIVERED))
        other.close()
        async with shard_in(tmp_path) as shard:  # the lock was given back, and the job is tried again
            assert [message.number for message in await shard.take_due(10)] == [first.number]

    asyncio.run(story())


def test_one_bad_message_takes_no_other_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            good = [new_message(shard) for _ in range(3)]
            twice = good[0]
            unspeakable = new_message(shard)
            unspeakable = replace(unspeakable, envelope=replace(unspeakable.envelope, envid="\ud800"))
            batch = [shard.add(message) for message in (*good, twice, unspeakable)]
            ended = await asyncio.gather(*batch, return_exceptions=True)
            assert [getattr(end, "number", None) for end in ended[:3]] == [message.number for message in good]
            assert isinstance(ended[3], sqlite3.IntegrityError)
            assert isinstance(ended[4], UnicodeEncodeError)
            assert stored_numbers(tmp_path) == {message.number for message in good}

    asyncio.run(story())


def test_a_result_that_cannot_be_written_at_all_is_told_and_holds_up_no_other(tmp_path: Path) -> None:
    told: list[str] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
        async with shard_in(tmp_path) as shard:
            first, second = [await shard.add(new_message(shard)) for _ in range(2)]
            never = JobResult(first.number, 0, DEFERRED, float("nan"))  # SQLite takes it for NULL
            shard.finish([never, *results(second, DELIVERED)])
            assert await shard.existing([first.number, second.number]) == {first.number}

    asyncio.run(story())
    assert len(told) == 1
    assert "cannot be written" in told[0]


def test_a_reason_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            first = await shard.add(new_message(shard))
            shard.finish(results(first, Deferred("none", "4\udcff5 grüße"), clock.now()))
            (again,) = await shard.take_due(1)
            assert again.jobs[0].last_reason == "4?5 grüße"

    asyncio.run(story())


def test_the_thread_sleeps_when_there_is_nothing_to_do(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            rounds = 0
            wait = shard._writer._wait

            def counted() -> bool:
                nonlocal rounds
                rounds += 1
                return wait()

            shard._writer._wait = counted  # type: ignore[method-assign]
            shard.finish(results(await shard.add(new_message(shard)), DELIVERED))
            await asyncio.sleep(0.3)
            before = rounds
            await asyncio.sleep(0.5)
            assert rounds == before

    asyncio.run(story())


def test_errors_of_a_question_reach_the_one_who_asked(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                await shard._writer.call(lambda connection: connection.execute("SELECT * FROM nowhere"))
            with pytest.raises(ZeroDivisionError):
                await shard._writer.call(lambda _: 1 / 0)
            assert (await shard.add(new_message(shard))).number

    asyncio.run(story())


def test_nothing_can_be_opened_where_the_folder_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("a file")

    async def story() -> None:
        with pytest.raises(StorageError, match="1"):
            async with shard_in(tmp_path):
                pass

    asyncio.run(story())
