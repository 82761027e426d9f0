"""The scheduler: grouping, limits of memory, due mail, operators, shutdown; and mail through all of delivery."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import pytest

from deliveries import CONTENT, NOW, FakeReporter, FakeShard, Journal, eventually, job, message, run, settings
from gatepost.config.settings import QueueSettings
from gatepost.delivery.agent import Agent, Delivery, Work
from gatepost.delivery.connection import Terms
from gatepost.delivery.next_hop import NextHops, Ourselves
from gatepost.delivery.scheduler import Means, Scheduler
from gatepost.delivery.to_remote import RemoteAgent
from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred, Delivered, Outcome
from gatepost.net.dns_zone import StaticDns
from gatepost.observe.events import MessageRemoved, Notice, RecipientAttempted
from gatepost.queue.records import Body
from peers.bad_next_hop import GOOD, GREETING, BadNextHop

OK = Delivered("mx.test", "250 Ok")


class Gate:
    """An agent that delivers when it is opened. Keeps (next hop, message, recipients) of each delivery."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[tuple[str, int, list[int]]] = []
        self.contents: dict[int, bytes | None] = {}
        self.outcome: Outcome = OK

    async def run(self, next_hop: str, work: Work) -> None:
        while (delivery := work.take()) is not None:
            numbers = [each.number for each in delivery.jobs]
            self.seen.append((next_hop, delivery.message.number, numbers))
            self.contents[delivery.message.number] = delivery.message.body.content
            await self.open.wait()
            work.finish(delivery, [self.outcome] * len(delivery.jobs))

    async def close(self) -> None:
        pass


class BatchNotes:
    def __init__(self) -> None:
        self.seen: list[tuple[int, list[int]]] = []
        self.closed = False
        self.block: asyncio.Event | None = None

    async def deliver_batch(self, deliveries: Sequence[Delivery]) -> list[list[Outcome]]:
        self.seen += ((each.message.number, [one.number for one in each.jobs]) for each in deliveries)
        if self.block is not None:
            await self.block.wait()
        return [[OK] * len(each.jobs) for each in deliveries]

    async def close(self) -> None:
        self.closed = True


class Scene:
    def __init__(self, remote: Agent | None = None, delivery: dict[str, object] | None = None, **queue: object) -> None:
        self.clock = FakeClock()
        self.shard = FakeShard()
        self.reporter = FakeReporter(self.shard)
        self.journal = Journal()
        self.gate = Gate()
        self.maildir = BatchNotes()
        means = Means(self.shard, remote or self.gate, self.maildir, self.reporter, self.clock, self.journal)
        self.scheduler = Scheduler(means, QueueSettings(**queue), settings(**(delivery or {})))  # type: ignore[arg-type]

    async def done(self, results: int) -> None:
        await eventually(lambda: len(self.shard.results) >= results)
        assert len(self.shard.results) == results


def play(work: Callable[[Scene], Awaitable[None]], **changes: object) -> Scene:
    async def whole() -> Scene:
        scene = Scene(**changes)  # type: ignore[arg-type]
        await work(scene)
        await scene.scheduler.drain(1.0)
        assert scene.maildir.closed
        return scene

    return run(whole())


def test_jobs_are_grouped_by_route_and_split_by_the_recipient_limit() -> None:
    async def work(scene: Scene) -> None:
        scene.gate.open.set()
        jobs = [job(number, route="smtp:one.test" if number % 2 else "smtp:two.test") for number in range(8)]
        jobs += [job(8, route="maildir:a@us.test"), job(9, route="maildir:b@us.test")]
        scene.scheduler.submit(message(1, jobs))
        await scene.done(10)
        assert sorted(scene.gate.seen) == [
            ("one.test", 1, [1, 3, 5]),
            ("one.test", 1, [7]),
            ("two.test", 1, [0, 2, 4]),
            ("two.test", 1, [6]),
        ]
        assert scene.maildir.seen == [(1, [8, 9])]
        assert scene.scheduler.active_jobs == 0 and scene.scheduler.kept_bytes == 0
        assert len(scene.journal.of(RecipientAttempted)) == 10
        assert len(scene.journal.of(MessageRemoved)) == 1

    play(work, delivery={"destination_recipient_limit": 3})


def test_room_is_counted_in_jobs() -> None:
    async def work(scene: Scene) -> None:
        assert scene.scheduler.has_room()
        scene.scheduler.submit(message(1, [job(number) for number in range(9)]))
        assert scene.scheduler.has_room()
        scene.scheduler.submit(message(2, [job(0)]))
        assert not scene.scheduler.has_room()
        scene.gate.open.set()
        await scene.done(10)
        assert scene.scheduler.has_room()

    play(work, active_limit=10)


def test_message_without_jobs_is_nothing() -> None:
    async def work(scene: Scene) -> None:
        scene.scheduler.submit(message(1, []))
        assert scene.scheduler.active_jobs == 0

    assert play(work).journal == []


def test_bodies_over_the_limit_leave_memory_and_come_back() -> None:
    size = 1000

    async def work(scene: Scene) -> None:
        for number in range(40):
            queued = message(number, [job(0)], b"%04d" % number + b"x" * (size - 4))
            scene.shard.bodies[number] = queued.body
            scene.scheduler.submit(queued)
            assert scene.scheduler.kept_bytes <= 10 * size
        scene.gate.open.set()
        await scene.done(40)
        assert scene.scheduler.kept_bytes == 0
        assert len(scene.shard.bodies_read) == 30
        assert {number: (content or b"")[:4] for number, content in scene.gate.contents.items()} == {
            number: b"%04d" % number for number in range(40)
        }

    play(work, memory_limit=10 * size)


def test_body_that_cannot_be_read_again_goes_back_to_the_queue() -> None:
    async def work(scene: Scene) -> None:
        scene.gate.open.set()
        scene.scheduler.submit(message(1, [job(0)]))  # not to be found in the shard
        await eventually(lambda: scene.shard.released == {(1, 0)})
        assert scene.scheduler.active_jobs == 0 and scene.gate.seen == []
        assert len(scene.journal.of(Notice)) == 1

    play(work, memory_limit=1)


def test_due_mail_is_taken_and_memory_made_for_it() -> None:
    async def work(scene: Scene) -> None:
        for number in range(10):  # a slow destination fills the memory
            queued = message(number, [job(0)], b"x" * 1000)
            scene.shard.bodies[number] = queued.body
            scene.scheduler.submit(queued)
        scene.shard.due = [message(50, [job(0, route="smtp:quick.test")])]
        scene.scheduler.start()
        await eventually(lambda: ("quick.test", 50, [0]) in scene.gate.seen)
        limit, max_bytes = scene.shard.limits[0]
        assert limit == 500 and max_bytes is not None and max_bytes >= 5000
        scene.gate.open.set()
        await scene.done(11)

    play(work, memory_limit=10_000)


def test_queue_is_asked_again_when_the_next_job_is_due_and_on_wake() -> None:
    async def work(scene: Scene) -> None:
        scene.gate.open.set()
        scene.shard.next_due = NOW + 0.05
        scene.scheduler.start()
        await eventually(lambda: len(scene.shard.limits) >= 2)
        scene.shard.next_due = None
        asked = len(scene.shard.limits)
        await asyncio.sleep(0.1)
        asked = len(scene.shard.limits)
        scene.shard.due = [message(1, [job(0)])]
        scene.scheduler.wake()
        await scene.done(1)
        assert len(scene.shard.limits) > asked

    play(work)


def test_full_memory_takes_nothing_and_looks_again_when_there_is_room() -> None:
    async def work(scene: Scene) -> None:
        scene.scheduler.submit(message(1, [job(number) for number in range(10)]))
        scene.scheduler.start()
        await asyncio.sleep(0.02)
        assert scene.shard.limits == []
        scene.shard.due = [message(2, [job(0)])]
        scene.gate.open.set()
        await scene.done(11)

    play(work, active_limit=10)


def test_queue_that_cannot_be_asked_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatepost.delivery.scheduler.RETRY_PAUSE", 0.01)

    async def work(scene: Scene) -> None:
        scene.gate.open.set()
        real, failures = scene.shard.take_due, iter([OSError("disk")])

        async def take_due(limit: int, *, max_bytes: int | None = None) -> list[object]:
            for error in failures:
                raise error
            return await real(limit, max_bytes=max_bytes)  # type: ignore[return-value]

        scene.shard.take_due = take_due  # type: ignore[method-assign,assignment]
        scene.shard.due = [message(1, [job(0)])]
        scene.scheduler.start()
        await scene.done(1)
        assert "disk" in scene.journal.of(Notice)[0].text

    play(work)


def test_job_due_while_others_of_its_message_are_at_work_joins_them() -> None:
    async def work(scene: Scene) -> None:
        scene.scheduler.submit(message(1, [job(0)]))
        await eventually(lambda: scene.gate.seen)
        scene.scheduler.submit(message(1, [job(1)]), is_whole=False)
        await eventually(lambda: len(scene.gate.seen) == 2)
        scene.gate.open.set()
        await scene.done(2)
        await eventually(lambda: scene.journal.of(MessageRemoved))
        assert scene.scheduler.active_jobs == 0
        assert len(scene.journal.of(MessageRemoved)) == 1

    play(work)


def test_job_that_was_deferred_and_is_due_again_in_the_same_cycle() -> None:
    async def work(scene: Scene) -> None:
        scene.gate.outcome = Deferred("mx.test", "450 later", "4.2.0")
        scene.scheduler.submit(message(1, [job(0), job(1, route="maildir:a@us.test")]))
        blocked = scene.maildir.block = asyncio.Event()
        scene.gate.open.set()
        await scene.done(1)
        scene.gate.outcome = OK
        scene.scheduler.submit(message(1, [job(0)]), is_whole=False)
        await scene.done(2)
        blocked.set()
        await eventually(lambda: scene.journal.of(MessageRemoved))

    play(work)


def test_operator_takes_away_what_is_not_yet_in_flight() -> None:
    async def work(scene: Scene) -> None:
        scene.scheduler.submit(message(1, [job(0)]))
        scene.scheduler.submit(message(2, [job(0), job(1), job(2)]))
        await eventually(lambda: len(scene.gate.seen) == 1)
        scene.scheduler.drop(1, [0])  # in flight: it goes on
        scene.scheduler.drop(2, [1])
        scene.scheduler.drop_all_but(2, [0])
        scene.scheduler.drop(3, [0])
        await eventually(lambda: scene.shard.released == {(2, 1), (2, 2)})
        assert scene.scheduler.active_jobs == 2
        scene.shard.present = {2}  # its other jobs are on hold
        scene.gate.open.set()
        await scene.done(2)
        assert {(result.message, result.job) for result in scene.shard.results} == {(1, 0), (2, 0)}
        await asyncio.sleep(0.01)
        assert [event.queue_id for event in scene.journal.of(MessageRemoved)] == [message(1, []).id]

    play(work, delivery={"initial_destination_concurrency": 1, "destination_concurrency_limit": 1})


def test_operator_takes_a_whole_message_away() -> None:
    async def work(scene: Scene) -> None:
        scene.scheduler.submit(message(1, [job(0)]))
        scene.scheduler.submit(message(2, [job(0)]))
        await eventually(lambda: len(scene.gate.seen) == 1)
        scene.scheduler.drop_all_but(2, [])
        assert scene.scheduler.active_jobs == 1
        await eventually(lambda: scene.journal.of(MessageRemoved))
        scene.gate.open.set()
        await scene.done(1)

    play(work, delivery={"initial_destination_concurrency": 1, "destination_concurrency_limit": 1})


def test_drain_lets_end_what_is_in_flight_and_puts_the_rest_back() -> None:
    async def work() -> None:
        scene = Scene(delivery={"initial_destination_concurrency": 1, "destination_concurrency_limit": 1})
        scene.scheduler.start()
        for number in range(3):
            scene.scheduler.submit(message(number, [job(0)]))
        await eventually(lambda: scene.gate.seen)
        draining = asyncio.create_task(scene.scheduler.drain(5.0))
        await asyncio.sleep(0.01)
        scene.scheduler.submit(message(9, [job(0)]))  # committed while we were stopping
        scene.gate.open.set()
        await asyncio.wait_for(draining, 2)
        assert [(result.message, result.outcome) for result in scene.shard.results] == [(0, OK)]
        assert scene.shard.released == {(1, 0), (2, 0), (9, 0)}

    run(work())


def test_drain_ends_in_time_and_loses_nothing() -> None:
    async def work() -> None:
        scene = Scene()
        scene.scheduler.submit(message(1, [job(0)]))
        scene.scheduler.submit(message(2, [job(0, route="maildir:a@us.test")]))
        await eventually(lambda: scene.gate.seen)
        await asyncio.wait_for(scene.scheduler.drain(0.05), 2)
        assert scene.shard.released == {(1, 0)}
        assert [result.message for result in scene.shard.results] == [2]

    run(work())


# All of delivery, over real sockets


def real(**changes: object) -> tuple[Scene, RemoteAgent]:
    chosen = settings(**changes)
    remote = RemoteAgent(NextHops(StaticDns(), Random(1), Ourselves(), 5), Terms("me.test", chosen))
    return Scene(remote, changes), remote


def test_a_thousand_messages_over_few_connections_each_once() -> None:
    async def work() -> None:
        scene, _ = real(destination_concurrency_limit=4)
        async with BadNextHop(GOOD) as hop:
            for number in range(1000):
                scene.scheduler.submit(message(number, [job(0, route=f"smtp:{hop.next_hop}")], b"%d\r\n" % number))
            await scene.done(1000)
            assert sorted(map(int, hop.contents)) == list(range(1000))
            assert hop.connections <= 5
            await scene.scheduler.drain(2.0)
        assert all(isinstance(result.outcome, Delivered) for result in scene.shard.results)

    run(work())


def test_a_next_hop_that_hangs_up_all_the_time_loses_nothing() -> None:
    async def work() -> None:
        scene, _ = real(destination_concurrency_limit=4)
        scripts = [
            f"{GREETING}{'MESSAGE' + chr(10)}" * 1
            + ("MESSAGE\n" * (at % 5))
            + ("C: MAIL\nRESET" if at % 2 else "CLOSE")
            for at in range(40)
        ]
        async with BadNextHop(*scripts, GOOD) as hop:
            for number in range(300):
                scene.scheduler.submit(message(number, [job(0, route=f"smtp:{hop.next_hop}")], b"%d\r\n" % number))
            await scene.done(300)
            delivered = [result.message for result in scene.shard.results if isinstance(result.outcome, Delivered)]
            deferred = [result.message for result in scene.shard.results if isinstance(result.outcome, Deferred)]
            assert len(delivered) + len(deferred) == 300 and len(delivered) > 250
            assert set(delivered) <= set(map(int, hop.contents))
            assert len(set(map(int, hop.contents))) == len(hop.contents)  # none twice
            await scene.scheduler.drain(2.0)

    run(work())


def test_dead_site_is_suspended_and_others_are_not_held_up() -> None:
    async def work() -> None:
        scene, _ = real()
        async with BadNextHop("CLOSE") as gone:
            dead = gone.next_hop
        async with BadNextHop(GOOD) as hop:
            for number in range(100):
                scene.scheduler.submit(message(number, [job(0, route=f"smtp:{dead}")]))
            scene.scheduler.submit(message(100, [job(0, route=f"smtp:{hop.next_hop}")]))
            await scene.done(101)
            assert isinstance(scene.shard.outcome(100), Delivered)
            texts = [result.outcome.text for result in scene.shard.results]
            assert sum(text.startswith("delivery temporarily suspended: connect to") for text in texts) >= 90
            assert hop.contents == [CONTENT]
            await scene.scheduler.drain(2.0)

    run(work())


def test_body_in_a_dropped_state_never_reaches_the_wire() -> None:
    """A body without content is not an empty body."""

    async def work(scene: Scene) -> None:
        queued = message(1, [job(0)])
        scene.shard.bodies[1] = queued.body
        queued.body = Body(queued.body.size, b"")
        scene.gate.open.set()
        scene.scheduler.submit(queued)
        await scene.done(1)
        assert scene.gate.contents == {1: CONTENT}

    play(work)
