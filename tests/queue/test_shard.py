"""A shard as intake and delivery use it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gatepost.mail.clock import FakeClock
from gatepost.mail.envelope import Envelope
from gatepost.mail.queue_id import queue_id, shard_of
from gatepost.queue.inspect import QueueFilter, QueueInspector
from gatepost.queue.lock import ShardBusy
from gatepost.queue.records import Body, JobResult, JobState, NewMessage, QueuedMessage
from gatepost.queue.shard import QueueShard
from gatepost.storage.errors import StorageUnavailable
from gatepost.storage.sqlite import connect
from queue_samples import CONTENT, DEFERRED, DELIVERED, FAILED, SETTINGS, new_message, numbers, results, shard_in

LARGE = CONTENT + b"x" * 20_000


def counts(folder: Path, number: int = 1) -> tuple[int, int]:
    connection = connect(folder / str(number) / "queue.sqlite")
    found: tuple[int, int] = connection.execute(
        "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM job)"
    ).fetchone()
    connection.close()
    return found


def test_a_message_goes_in_and_is_gone_when_delivered(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            message = new_message(shard, "u@b.test", "v@b.test", at=clock.now() - 1)
            queued = await shard.add(message)
            assert counts(tmp_path) == (1, 2)
            assert (queued.number, queued.envelope, queued.body) == (message.number, message.envelope, message.body)
            assert queued.activated_at == clock.now()
            assert [job.state for job in queued.jobs] == [JobState.ACTIVE] * 2
            assert await shard.take_due(10) == []  # it is in memory
            shard.finish([JobResult(queued.number, 0, DELIVERED)])
            assert await shard.existing([queued.number, 5]) == {queued.number}
            assert counts(tmp_path) == (1, 1)
            shard.finish([JobResult(queued.number, 1, FAILED)])
            assert await shard.existing([queued.number]) == set()
            assert counts(tmp_path) == (0, 0)
            with pytest.raises(LookupError, match=queued.id):
                await shard.body(queued.number)

    asyncio.run(story())


def test_the_folder_is_for_the_owner_and_has_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path):
            folder = tmp_path / "1"
            assert stat.S_IMODE((folder / "bodies").stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "queue.sqlite").stat().st_mode) & 0o027 == 0
            second = QueueShard(folder, 1, settings=SETTINGS, clock=FakeClock())
            with pytest.raises(ShardBusy, match=f"process {os.getpid()} has this part of the queue"):
                second.open()
        async with shard_in(tmp_path):
            pass

    asyncio.run(story())


def test_a_deferred_job_waits_for_its_time(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            queued = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            shard.finish([JobResult(queued.number, 0, DEFERRED, clock.now() + 300, delay_warned=True)])
            assert await shard.next_due_at() == clock.now() + 300
            assert await shard.take_due(10) == []
            clock.advance(300)
            (again,) = await shard.take_due(10)
            assert again.activated_at == clock.now()
            assert (again.envelope, again.body, again.arrived_at) == (queued.envelope, queued.body, queued.arrived_at)
            (job,) = again.jobs
            assert (job.number, job.state, job.attempts, job.delay_warned) == (0, JobState.ACTIVE, 1, True)
            assert (job.last_reason, job.last_status) == (DEFERRED.text, DEFERRED.status)
            assert await shard.take_due(10) == []
            assert await shard.next_due_at() is None
            shard.finish([JobResult(queued.number, 0, DEFERRED, clock.now() + 300)])
            clock.advance(300)
            (again,) = await shard.take_due(10)
            assert (again.jobs[0].attempts, again.jobs[0].delay_warned) == (2, True)

    asyncio.run(story())


def test_due_mail_comes_oldest_first_and_within_limits(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            stored = [await shard.add(new_message(shard, content=CONTENT + bytes([at]) * 1000)) for at in range(6)]
            order = [3, 1, 5, 0, 2, 4]
            for place, at in enumerate(order):
                shard.finish(results(stored[at], DEFERRED, clock.now() + 10 + place))
            clock.advance(13.5)
            expected = [stored[at].number for at in order]
            assert numbers(await shard.take_due(2)) == expected[:2]
            # 2 are left that are due; one of them fits, and one comes whatever the room
            assert numbers(await shard.take_due(9, max_bytes=1500)) == expected[2:3]
            assert numbers(await shard.take_due(9, max_bytes=1)) == expected[3:4]
            assert await shard.take_due(9) == []
            clock.advance(10)
            assert numbers(await shard.take_due(9)) == expected[4:]

    asyncio.run(story())


def test_without_room_in_memory_it_waits_on_disk(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            message = new_message(shard, "u@b.test", "v@b.test")
            queued = await shard.add(message, keep_active=False)
            assert queued.activated_at == 0.0
            assert [job.state for job in queued.jobs] == [JobState.WAITING] * 2
            (taken,) = await shard.take_due(10)
            assert [job.number for job in taken.jobs] == [0, 1]

    asyncio.run(story())


def test_jobs_handed_in_on_hold_stay_there(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            message = new_message(shard, "u@b.test", "v@b.test")
            message.jobs[1].state = JobState.HOLD
            queued = await shard.add(message)
            assert [job.number for job in queued.jobs] == [0]
            assert (await shard.statistics()).hold == 1
        async with shard_in(tmp_path) as shard:
            (taken,) = await shard.take_due(10)
            assert [job.number for job in taken.jobs] == [0]

    asyncio.run(story())


def test_after_a_restart_all_is_due_and_large_bodies_are_in_their_files(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            small = await shard.add(new_message(shard))
            large = await shard.add(new_message(shard, content=LARGE))
            assert large.body.path is not None and large.body.content is None
            held = await shard.add(new_message(shard))
            QueueInspector(tmp_path, clock).hold(QueueFilter(frozenset({held.number})))
            orphan = tmp_path / "1" / "bodies" / queue_id(shard.next_number())
            orphan.write_bytes(b"left by a crash")
        async with shard_in(tmp_path, clock) as shard:
            assert not orphan.exists()
            found = await shard.take_due(10)
            assert numbers(found) == [small.number, large.number]
            assert [message.body.read() for message in found] == [CONTENT, LARGE]
            assert found[1].body == large.body == await shard.body(large.number)
            assert found[1].body.header == CONTENT[: CONTENT.index(b"\r\n\r\n") + 2]
            shard.finish(results(found[1], DELIVERED))
            assert await shard.existing(numbers(found)) == {small.number}
            assert list((tmp_path / "1" / "bodies").iterdir()) == []

    asyncio.run(story())


def test_a_body_file_stays_until_the_last_job_is_done(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            queued = await shard.add(new_message(shard, "u@b.test", "v@b.test", content=LARGE))
            assert queued.body.path is not None
            shard.finish([JobResult(queued.number, 0, DELIVERED), JobResult(queued.number, 1, DEFERRED, clock.now())])
            (again,) = await shard.take_due(10)
            assert again.body.read() == LARGE
            shard.finish(results(again, FAILED))
            await shard.existing([])
            assert not queued.body.path.exists()

    asyncio.run(story())


def test_numbers_are_never_given_again(tmp_path: Path) -> None:
    """Not when all messages are gone, not after a restart with a clock that was set back a year."""

    async def story() -> None:
        given: list[int] = []
        for start in (1_800_000_000.0, 1_770_000_000.0, 1_790_000_000.0):
            async with shard_in(tmp_path, FakeClock(start), number=5) as shard:
                for _ in range(3):
                    queued = await shard.add(new_message(shard))
                    given.append(queued.number)
                    shard.finish(results(queued, DELIVERED))
                given.append(shard.next_number())  # refused after all, but it stands in the log
        assert given == sorted(set(given))
        assert {shard_of(number) for number in given} == {5}

    asyncio.run(story())


def test_a_cancelled_add_is_stored_and_taken_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            message = new_message(shard)
            shard.add(message).cancel()
            await asyncio.sleep(0.05)
            assert numbers(await shard.take_due(10)) == [message.number]

    asyncio.run(story())


def test_a_cancelled_take_gives_its_jobs_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            queued = await shard.add(new_message(shard), keep_active=False)
            taking = asyncio.create_task(shard.take_due(10))
            await asyncio.sleep(0)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await taking
            await asyncio.sleep(0.05)
            assert numbers(await shard.take_due(10)) == [queued.number]

    asyncio.run(story())


def test_a_released_lease_is_due_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            queued = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            await shard.release_lease([(queued.number, 1)])
            (taken,) = await shard.take_due(10)
            assert [job.number for job in taken.jobs] == [1]

    asyncio.run(story())


def test_results_alone_are_written_soon(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            queued = await shard.add(new_message(shard))
            shard.finish(results(queued, DELIVERED))
            assert counts(tmp_path) == (1, 1)
            await asyncio.sleep(0.3)
            assert counts(tmp_path) == (0, 0)

    asyncio.run(story())


def test_closing_writes_what_is_pending(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            first = await shard.add(new_message(shard))
            shard.finish(results(first, DELIVERED))
            adding = shard.add(new_message(shard))
        assert counts(tmp_path) == (1, 1)
        second = await adding
        assert second.number > first.number
        with pytest.raises(StorageUnavailable, match="closed"):
            await shard.add(NewMessage(second.number + 1024, Envelope(None), Body.of(CONTENT), [], 0.0))
        with pytest.raises(StorageUnavailable, match="closed"):
            await shard.take_due(1)
        shard.close()  # once more does no harm

    asyncio.run(story())


def test_many_messages_share_commits_and_none_is_mixed_up(tmp_path: Path) -> None:
    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            messages = [new_message(shard, content=CONTENT + b"%d" % at) for at in range(300)]
            stored = await asyncio.gather(*(shard.add(message) for message in messages))
            assert [message.body.read() for message in stored] == [CONTENT + b"%d" % at for at in range(300)]
            assert counts(tmp_path) == (300, 300)
            for message in stored:
                shard.finish(results(message, DELIVERED))
            assert await shard.existing(numbers(stored)) == set()

    asyncio.run(story())


def test_statistics(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        async with shard_in(tmp_path, clock) as shard:
            assert (await shard.statistics()).oldest_arrived_at is None
            first = await shard.add(new_message(shard, "u@b.test", "v@b.test", at=clock.now() - 9))
            await shard.add(new_message(shard, at=clock.now()))
            shard.finish([JobResult(first.number, 1, DEFERRED, clock.now() + 60)])
            await shard.existing([])
            found = await shard.statistics()
            assert (found.messages, found.active, found.waiting, found.hold) == (2, 2, 1, 0)
            assert (found.oldest_arrived_at, found.next_attempt_at) == (clock.now() - 9, clock.now() + 60)

    asyncio.run(story())


def test_what_is_taken_by_one_who_was_cancelled_can_be_taken_by_the_next(tmp_path: Path) -> None:
    """Cancelled when the answer is there and the taker has not yet had its turn (a reload in the middle of it)."""

    async def story() -> None:
        async with shard_in(tmp_path) as shard:
            await shard.add(new_message(shard), keep_active=False)
            call = shard._writer.call
            takers: list[asyncio.Task[list[QueuedMessage]]] = []

            def told(*arguments: Any, **options: Any) -> asyncio.Future[Any]:
                answer = call(*arguments, **options)
                answer.add_done_callback(lambda _: takers[0].cancel())  # runs before the taker does
                return answer

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(shard._writer, "call", told)
                takers.append(asyncio.create_task(shard.take_due(10)))
                with pytest.raises(asyncio.CancelledError):
                    await takers[0]
            (message,) = await shard.take_due(10)
            assert len(message.jobs) == 1

    asyncio.run(story())
