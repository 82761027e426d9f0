"""Outcomes become events, results and reports, in the right order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from deliveries import NOW, FakeReporter, FakeShard, Journal, job, message, run
from gatepost.config.settings import QueueSettings
from gatepost.delivery.agent import Delivery
from gatepost.delivery.results import Cycle, Results
from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.observe.events import MessageExpired, MessageRemoved, Notice, RecipientAttempted
from gatepost.queue.records import Body, Job, JobResult, QueuedMessage

OK = Delivered("mx.test", "250 2.0.0 Ok")
NO = Failed("mx.test", "550 5.1.1 no", "5.1.1", remote_reply=True)
LATER = Deferred("mx.test", "450 4.2.0 later", "4.2.0", remote_reply=True)
HOUR, DAY = 3600.0, 86400.0


class Scene:
    def __init__(self, **changes: object) -> None:
        self.clock = FakeClock()
        self.shard = FakeShard()
        self.reporter = FakeReporter(self.shard)
        self.journal = Journal()
        self.over: list[Cycle] = []
        settings = QueueSettings(**changes)  # type: ignore[arg-type]
        self.results = Results(self.shard, self.reporter, settings, self.clock, self.journal)

    def cycle(self, queued: QueuedMessage, *groups: list[Job], is_whole: bool = True) -> Cycle:
        cycle = Cycle(queued, is_whole, self.over.append)
        cycle.deliveries = [Delivery(queued, group, taken_at=NOW) for group in groups or [queued.jobs]]
        return cycle

    async def end(self, cycle: Cycle, *outcomes: Outcome) -> None:
        """All deliveries of the cycle end, with one outcome each for all jobs in order."""
        given = list(outcomes)
        for each in list(cycle.deliveries):
            self.results.ended(cycle, each, [given.pop(0) for _ in each.jobs])
        assert given == []
        await self.results.settled()


def play(work: Callable[[Scene], object], **changes: object) -> Scene:
    scene = Scene(**changes)

    async def whole() -> None:
        await work(scene)  # type: ignore[misc]

    run(whole())
    return scene


def test_delivered_is_told_finished_and_removed_at_once() -> None:
    scene = Scene()
    queued = message(7, [job(0)])
    queued.accept_seconds = 0.25
    cycle = scene.cycle(queued)
    cycle.deliveries[0].connect_seconds = 0.5
    scene.clock.advance(2.0)
    scene.results.ended(cycle, cycle.deliveries[0], [OK])  # without a loop: nothing is awaited
    assert scene.shard.results == [JobResult(7, 0, OK)]
    assert scene.over == [cycle]
    attempted, removed = scene.journal
    assert isinstance(attempted, RecipientAttempted) and isinstance(removed, MessageRemoved)
    assert (attempted.recipient, attempted.original, attempted.outcome) == ("u0@dest.test", "u0@dest.test", OK)
    assert attempted.queue_id == removed.queue_id == queued.id
    assert attempted.delays == (0.25, 0.0, 0.5, 1.5)
    assert attempted.delay == 2.25


def test_deferred_waits_as_long_as_it_is_old() -> None:
    async def work(scene: Scene) -> None:
        scene.clock.advance(1000.0)
        await scene.end(scene.cycle(message(1, [job(0)])), LATER)

    scene = play(work)
    assert scene.shard.results == [JobResult(1, 0, LATER, NOW + 2000.0)]
    assert scene.journal.of(MessageRemoved) == [] and scene.reporter.reports == []
    assert len(scene.over) == 1


def test_failure_is_reported_before_the_job_leaves_the_queue() -> None:
    scene = play(lambda scene: scene.end(scene.cycle(message(1, [job(0)])), NO))
    assert scene.reporter.reports == [("failed", 1, [0], 0)]  # no result was in the queue when it was made
    assert scene.shard.results == [JobResult(1, 0, NO)]
    assert [type(event) for event in scene.journal] == [RecipientAttempted, MessageRemoved]


def test_one_report_on_all_failures_of_a_cycle() -> None:
    async def work(scene: Scene) -> None:
        jobs = [job(number) for number in range(5)]
        cycle = scene.cycle(message(1, jobs), jobs[:2], jobs[2:4], jobs[4:])
        await scene.end(cycle, NO, OK, LATER, NO, NO)

    scene = play(work)
    assert scene.reporter.reports == [("failed", 1, [0, 3, 4], 2)]
    assert [result.job for result in scene.shard.results] == [1, 2, 0, 3, 4]
    assert len(scene.over) == 1


def test_report_that_cannot_be_queued_keeps_the_job() -> None:
    async def work(scene: Scene) -> None:
        scene.reporter.error = OSError("disk full")
        await scene.end(scene.cycle(message(1, [job(0)])), NO)

    scene = play(work)
    (result,) = scene.shard.results
    assert isinstance(result.outcome, Deferred)
    assert result.outcome.status == "4.3.0" and result.next_attempt_at == NOW + 300
    assert scene.journal.of(MessageRemoved) == []
    (notice,) = scene.journal.of(Notice)
    assert "disk full" in notice.text
    assert len(scene.over) == 1


def test_expired_mail_fails_for_its_last_reason_after_the_attempt() -> None:
    async def work(scene: Scene) -> None:
        scene.clock.advance(5 * DAY)
        await scene.end(scene.cycle(message(1, [job(0), job(1)])), LATER, LATER)

    scene = play(work)
    expired = Failed("mx.test", "450 4.2.0 later", "4.2.0", remote_reply=True)
    assert [result.outcome for result in scene.shard.results] == [expired, expired]
    assert scene.reporter.reports == [("failed", 1, [0, 1], 0)]
    assert scene.journal.of(MessageExpired) == [MessageExpired(message(1, []).id, "alice@src.test")]
    assert [event.outcome for event in scene.journal.of(RecipientAttempted)] == [LATER, LATER]


def test_lifetime_of_zero_is_one_attempt() -> None:
    scene = play(lambda scene: scene.end(scene.cycle(message(1, [job(0)])), LATER), maximal_queue_lifetime=0.0)
    assert isinstance(scene.shard.outcome(1), Failed)


def test_delay_is_told_once_and_noted_on_the_job() -> None:
    async def work(scene: Scene) -> None:
        scene.clock.advance(5 * HOUR)
        jobs = [job(0), job(1, delay_warned=True), job(2, notify=frozenset({"FAILURE"}))]
        await scene.end(scene.cycle(message(1, jobs)), LATER, LATER, LATER)

    scene = play(work)
    assert scene.reporter.reports == [("delayed", 1, [0], 2)]
    assert {result.job: result.delay_warned for result in scene.shard.results} == {0: True, 1: False, 2: False}


def test_delay_that_could_not_be_told_is_told_next_time() -> None:
    async def work(scene: Scene) -> None:
        scene.clock.advance(5 * HOUR)
        scene.reporter.error = OSError("disk full")
        await scene.end(scene.cycle(message(1, [job(0)])), LATER)

    (result,) = play(work).shard.results
    assert isinstance(result.outcome, Deferred) and not result.delay_warned


@pytest.mark.parametrize(
    ("notify", "passed_on", "reported"),
    [({"SUCCESS"}, False, True), ({"SUCCESS"}, True, False), ({"FAILURE"}, False, False), (set(), False, False)],
)
def test_success_is_reported_where_wished_and_nobody_else_does(
    notify: set[str], passed_on: bool, reported: bool
) -> None:
    outcome = Delivered("mx.test", "250 Ok", dsn_passed_on=passed_on)
    wish = job(0, notify=frozenset(notify))
    scene = play(lambda scene: scene.end(scene.cycle(message(1, [wish])), outcome))
    # The job leaves the queue first: rather no report than the mail twice.
    assert scene.reporter.reports == ([("delivered", 1, [0], 1)] if reported else [])
    assert scene.shard.results == [JobResult(1, 0, outcome)]
    assert len(scene.journal.of(MessageRemoved)) == 1


def test_removed_is_told_of_a_message_taken_in_part_only_when_it_is_gone() -> None:
    async def work(scene: Scene) -> None:
        scene.shard.present = {2}
        for number in (1, 2):
            await scene.end(scene.cycle(message(number, [job(0)]), is_whole=False), OK)

    scene = play(work)
    assert [event.queue_id for event in scene.journal.of(MessageRemoved)] == [message(1, []).id]


def test_body_that_left_memory_is_read_again_for_the_report() -> None:
    async def work(scene: Scene) -> None:
        queued = message(1, [job(0)])
        scene.shard.bodies[1] = queued.body
        queued.body = Body(queued.body.size, b"")
        await scene.end(scene.cycle(queued), NO)
        assert queued.body.content

    assert play(work).shard.bodies_read == [1]


def test_a_report_given_up_leaves_its_jobs_unfinished() -> None:
    async def work(scene: Scene) -> None:
        cycle = scene.cycle(message(1, [job(0)]))
        scene.results.ended(cycle, cycle.deliveries[0], [NO])
        await asyncio.sleep(0)
        await scene.results.abort()
        assert [each.number for each in cycle.unfinished()] == [0]

    scene = play(work)
    assert scene.shard.results == [] and scene.over == []
