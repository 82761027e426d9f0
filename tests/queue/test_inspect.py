"""Operators at work: the server running, or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from gatepost.mail.clock import FakeClock
from gatepost.mail.route import Route
from gatepost.queue import inspect
from gatepost.queue.inspect import Change, QueueFilter, QueueInspector
from gatepost.queue.records import JobResult, JobState, QueuedMessage
from queue_samples import CONTENT, DEFERRED, DELIVERED, new_message, numbers, results, shard_in

LARGE = CONTENT + b"x" * 20_000


def only(*messages: QueuedMessage) -> QueueFilter:
    return QueueFilter(frozenset(message.number for message in messages))


def fill(folder: Path, clock: FakeClock) -> dict[str, QueuedMessage]:
    """Two shards, closed again, with messages in each state."""

    async def story() -> dict[str, QueuedMessage]:
        stored = {}
        async with shard_in(folder, clock, number=1) as one, shard_in(folder, clock, number=2) as two:
            stored["waiting"] = await one.add(
                new_message(one, "U@B.test", "w@c.test", sender="ann@a.test", at=clock.now() - 100)
            )
            one.finish(results(stored["waiting"], DEFERRED, clock.now() + 500))
            clock.advance(1)
            stored["held"] = await two.add(new_message(two, "x@b.test", sender="", at=clock.now()), keep_active=False)
            clock.advance(1)
            large = new_message(one, "y@sub.b.test", sender="Bob@xn--bcher-kva.test", content=LARGE, at=clock.now())
            large.jobs[0].route = Route("maildir", "y@sub.b.test")
            stored["large"] = await one.add(large, keep_active=False)
            QueueInspector(folder, clock).hold(only(stored["held"]))
        return stored

    return asyncio.run(story())


FILTERS: list[tuple[QueueFilter, set[str]]] = [
    (QueueFilter(), {"waiting", "held", "large"}),
    (QueueFilter(sender="<>"), {"held"}),
    (QueueFilter(sender="NN@a"), {"waiting"}),
    (QueueFilter(sender="@Bücher.test"), {"large"}),
    (QueueFilter(sender="@cher-kva.test"), set()),
    (QueueFilter(sender="cher-kva"), {"large"}),
    (QueueFilter(recipient="u@b.test"), {"waiting"}),
    (QueueFilter(recipient="@b.test"), {"waiting", "held"}),
    (QueueFilter(recipient="b.test"), {"waiting", "held", "large"}),
    (QueueFilter(next_hop="[MX.b.test]:2525"), {"waiting", "held"}),
    (QueueFilter(next_hop="smtp:[mx.b.test]:2525"), {"waiting", "held"}),
    (QueueFilter(next_hop="mx.b.test"), set()),
    (QueueFilter(next_hop="maildir"), {"large"}),
    (QueueFilter(next_hop="y@sub.b.test"), {"large"}),
    (QueueFilter(state=JobState.WAITING), {"waiting", "large"}),
    (QueueFilter(state=JobState.HOLD), {"held"}),
    (QueueFilter(older_than=90), {"waiting"}),
    (QueueFilter(reason="greylisted"), {"waiting"}),
    (QueueFilter(reason="%"), set()),
    (QueueFilter(sender="a", recipient="@b.test", state=JobState.WAITING), {"waiting"}),
    (QueueFilter(frozenset()), set()),
    (QueueFilter(frozenset({1, 2, 3})), set()),
]


def test_filters(tmp_path: Path) -> None:
    clock = FakeClock()
    stored = fill(tmp_path, clock)
    inspector = QueueInspector(tmp_path, clock)
    for which, names in FILTERS:
        found = [message.number for message in inspector.messages(which)]
        assert found == sorted(stored[name].number for name in names), which
    assert QueueFilter().is_all
    assert not only().is_all


def test_a_listed_message_has_the_jobs_that_match(tmp_path: Path) -> None:
    clock = FakeClock()
    stored = fill(tmp_path, clock)
    (found,) = QueueInspector(tmp_path, clock).messages(QueueFilter(recipient="@c.test"))
    assert (found.id, found.sender, found.size) == (stored["waiting"].id, "ann@a.test", len(CONTENT))
    assert [str(job.recipient.address) for job in found.jobs] == ["w@c.test"]
    assert (found.jobs[0].last_reason, found.jobs[0].attempts) == (DEFERRED.text, 1)


def test_show(tmp_path: Path) -> None:
    clock = FakeClock()
    stored = fill(tmp_path, clock)
    inspector = QueueInspector(tmp_path, clock)
    shown = inspector.show(stored["large"].number)
    assert shown is not None
    assert shown.envelope == stored["large"].envelope
    assert shown.body.header == CONTENT[: CONTENT.index(b"\r\n\r\n") + 2]
    assert shown.body.read() == LARGE
    assert inspector.show(stored["large"].number + 1024) is None
    assert inspector.show(7) is None
    assert inspector.missing([stored["large"].number, 7, 1025]) == {7, 1025}


def test_verbs_touch_what_they_may(tmp_path: Path) -> None:
    clock = FakeClock()
    stored = fill(tmp_path, clock)
    inspector = QueueInspector(tmp_path, clock)
    waiting, held, large = (stored[name].number for name in ("waiting", "held", "large"))
    everything = QueueFilter()

    def state_of(number: int) -> list[tuple[JobState, float]]:
        shown = inspector.show(number)
        return [(job.state, job.next_attempt_at) for job in shown.jobs] if shown is not None else []

    clock.advance(50)
    assert inspector.retry(everything) == Change([waiting, large], 3)
    assert state_of(waiting) == [(JobState.WAITING, clock.now())] * 2
    assert state_of(held)[0][0] is JobState.HOLD
    assert inspector.release(everything) == Change([held], 1)
    assert state_of(held) == [(JobState.WAITING, clock.now())]
    assert inspector.hold(QueueFilter(recipient="@b.test")) == Change([waiting, held], 2)
    assert [state for state, _ in state_of(waiting)] == [JobState.HOLD, JobState.WAITING]
    assert inspector.hold(QueueFilter(recipient="@b.test")) == Change([], 0)
    assert inspector.delete(QueueFilter(recipient="@c.test")) == Change([waiting], 1)
    assert [state for state, _ in state_of(waiting)] == [JobState.HOLD]
    assert inspector.delete(everything) == Change([waiting, held, large], 3)
    assert list(inspector.messages(everything)) == []
    assert list((tmp_path / "1" / "bodies").iterdir()) == []


def test_more_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect, "CHUNK", 3)
    clock = FakeClock()

    async def story() -> list[QueuedMessage]:
        async with shard_in(tmp_path, clock) as shard:
            return [await shard.add(new_message(shard, "u@b.test", "v@b.test"), keep_active=False) for _ in range(7)]

    stored = asyncio.run(story())
    inspector = QueueInspector(tmp_path, clock)
    everything = QueueFilter()
    assert [(message.number, len(message.jobs)) for message in inspector.messages(everything)] == [
        (message.number, 2) for message in stored
    ]
    verbs: list[Callable[[QueueFilter], Change]] = [
        inspector.hold,
        inspector.release,
        inspector.retry,
        inspector.delete,
    ]
    for verb in verbs:
        assert verb(everything) == Change(numbers(stored), 14)
    assert list(inspector.messages(everything)) == []


def test_there_need_not_be_a_queue(tmp_path: Path) -> None:
    inspector = QueueInspector(tmp_path / "queue", FakeClock())
    assert list(inspector.messages(QueueFilter())) == []
    assert inspector.delete(QueueFilter()) == Change([], 0)
    assert inspector.show(5) is None
    assert not (tmp_path / "queue").exists()


# Beside a running worker


def test_a_job_put_on_hold_while_in_flight_stays_on_hold_when_deferred(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        inspector = QueueInspector(tmp_path, clock)
        async with shard_in(tmp_path, clock) as shard:
            queued = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            inspector.hold(only(queued))
            assert await shard.changed([queued.number]) == {queued.number: frozenset()}
            shard.finish([JobResult(queued.number, 0, DEFERRED, clock.now()), JobResult(queued.number, 1, DELIVERED)])
            assert await shard.take_due(10) == []
            shown = inspector.show(queued.number)
            assert shown is not None  # what was delivered while on hold is gone, what was not stays there
            assert [(job.number, job.state, job.last_reason) for job in shown.jobs] == [
                (0, JobState.HOLD, DEFERRED.text)
            ]
            inspector.release(only(queued))
            assert numbers(await shard.take_due(10)) == [queued.number]

    asyncio.run(story())


def test_a_job_held_and_released_while_in_flight_is_not_attempted_twice_at_a_time(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        inspector = QueueInspector(tmp_path, clock)
        async with shard_in(tmp_path, clock) as shard:
            queued = await shard.add(new_message(shard))
            inspector.hold(only(queued))
            inspector.release(only(queued))
            assert await shard.take_due(10) == []
            assert await shard.next_due_at() is None  # so the scheduler does not ask on and on
            shard.finish(results(queued, DEFERRED, clock.now()))
            assert numbers(await shard.take_due(10)) == [queued.number]

    asyncio.run(story())


def test_a_worker_drops_what_was_changed_under_it(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        inspector = QueueInspector(tmp_path, clock)
        async with shard_in(tmp_path, clock) as shard:
            kept = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            gone = await shard.add(new_message(shard, content=LARGE))
            inspector.hold(QueueFilter(recipient="v@b.test"))
            inspector.delete(only(gone))
            to_do = await shard.changed(numbers([kept, gone]))
            assert to_do == {kept.number: frozenset({0}), gone.number: frozenset()}
            # The scheduler had begun none of them: it gives back what it must not do.
            await shard.release_lease([(kept.number, 1), (gone.number, 0)])
            assert await shard.take_due(10) == []
            inspector.release(QueueFilter())
            (taken,) = await shard.take_due(10)
            assert (taken.number, [job.number for job in taken.jobs]) == (kept.number, [1])
            shard.finish(results(gone, DEFERRED, clock.now()))  # too late: there is no row to come back from
            assert await shard.existing([gone.number]) == set()
            assert list((tmp_path / "1" / "bodies").iterdir()) == []

    asyncio.run(story())


def test_a_body_file_goes_with_its_last_job_whatever_operators_did_meanwhile(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story() -> None:
        inspector = QueueInspector(tmp_path, clock)
        async with shard_in(tmp_path, clock) as shard:
            queued = await shard.add(new_message(shard, "u@b.test", "v@b.test", content=LARGE))
            inspector.hold(QueueFilter(recipient="u@b.test"))
            shard.finish([JobResult(queued.number, 1, DELIVERED)])
            assert await shard.existing([queued.number]) == {queued.number}
            shard.finish([JobResult(queued.number, 0, DELIVERED)])
            assert await shard.existing([queued.number]) == set()
            assert list((tmp_path / "1" / "bodies").iterdir()) == []

    asyncio.run(story())
