"""Destinations: window, suspension, kept connections, batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from deliveries import Journal, delivery, eventually, job, run, settings
from gatepost.delivery.agent import Delivery, Work
from gatepost.delivery.connection_slots import ConnectionSlots
from gatepost.delivery.destination import BATCH_LIMIT, BatchDestination, Destination, Surroundings
from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.route import Route
from gatepost.observe.events import Notice
from gatepost.queue.records import Body

OK = Delivered("mx.test", "250 ok")
REFUSED = Failed("mx.test", "550 no", "5.0.0")
DOWN = Deferred("mx.test", "connect to mx.test: Connection refused", "4.4.1", site_failed=True)
LATER = Deferred("mx.test", "450 busy", "4.2.0")


class Line:
    """One connection of a HandAgent: the test says when it takes and how what it took ends."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.over = asyncio.get_running_loop().create_future()
        self.delivery: Delivery | None = work.take()

    def end(self, outcome: Outcome) -> None:
        """End the delivery, take the next, rest or close."""
        assert self.delivery is not None
        self.work.finish(self.delivery, [outcome] * len(self.delivery.jobs))
        self.go_on()

    def go_on(self) -> None:
        self.delivery = self.work.take()
        if self.delivery is None and not self.work.rest(self):
            self.give_up()

    def give_up(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


class HandAgent:
    """An agent played by the test. A connection ends after a failure of the site, as with SMTP."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.crash: Exception | None = None

    async def run(self, next_hop: str, work: Work) -> None:
        line = Line(work)
        if line.delivery is None:
            return
        if self.crash is not None:
            raise self.crash
        self.lines.append(line)
        try:
            await line.over
        finally:
            self.lines.remove(line)

    async def close(self) -> None:
        pass

    @property
    def busy(self) -> list[Line]:
        return [line for line in self.lines if line.delivery is not None]

    def fail(self, outcome: Outcome = DOWN) -> None:
        line = self.busy[0]
        assert line.delivery is not None
        line.work.finish(line.delivery, [outcome] * len(line.delivery.jobs))
        line.delivery = None
        line.give_up()


class Scene:
    """A destination with all that surrounds it."""

    def __init__(self, *, slots: ConnectionSlots | None = None, **changes: object) -> None:
        self.clock = FakeClock()
        self.journal = Journal()
        self.ended: list[tuple[int, Outcome]] = []
        self.loads: list[int] = []
        self.load_works = True
        self.agent = HandAgent()
        self.around = Surroundings(
            settings=settings(**changes),
            suspension_time=300.0,
            clock=self.clock,
            record=self.journal,
            slots=slots or ConnectionSlots(500),
            ended=self.note,
            load=self.load,
        )
        self.destination = Destination(Route("smtp", "dest.test"), self.agent, self.around)

    def note(self, ended: Delivery, outcomes: Sequence[Outcome]) -> None:
        self.ended += ((ended.message.number, outcome) for outcome in outcomes)

    async def load(self, delivery: Delivery) -> bool:
        await asyncio.sleep(0)
        self.loads.append(delivery.message.number)
        if self.load_works:
            delivery.message.body = Body.of(b"again\r\n")
        return self.load_works

    def submit(self, *numbers: int) -> None:
        for number in numbers:
            self.destination.submit(delivery(number))

    async def busy(self, count: int) -> None:
        await eventually(lambda: len(self.agent.busy) == count)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(self.agent.busy) == count

    async def stop(self) -> None:
        self.destination.stop()
        await self.destination.abort()
        assert self.agent.lines == []


def test_one_delivery_opens_one_connection() -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(1)
        await scene.busy(1)
        scene.agent.busy[0].end(OK)
        assert scene.ended == [(1, OK)]
        await scene.stop()

    run(work())


def test_window_begins_at_initial_and_grows_with_success_to_the_limit() -> None:
    async def work() -> None:
        scene = Scene(initial_destination_concurrency=2, destination_concurrency_limit=5)
        scene.submit(*range(100))
        await scene.busy(2)
        for expected in (3, 4, 5):
            scene.agent.busy[0].end(OK)
            assert scene.destination.window == expected
            await scene.busy(expected)
        scene.agent.busy[0].end(OK)
        assert scene.destination.window == 5
        await scene.busy(5)
        await scene.stop()

    run(work())


@pytest.mark.parametrize("outcome", [OK, REFUSED, LATER])
def test_whatever_the_site_says_about_mail_shows_that_it_is_alive(outcome: Outcome) -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(*range(20))
        await scene.busy(5)
        for _ in range(3):
            scene.agent.fail()
            await scene.busy(scene.destination.window)
        scene.agent.busy[0].end(outcome)  # clears the sum of failures
        await scene.busy(scene.destination.window)
        scene.agent.fail()
        assert not scene.destination.is_suspended
        await scene.stop()

    run(work())


def test_four_failures_in_a_row_suspend_a_site() -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(*range(50))
        await scene.busy(5)
        for window in (4, 3, 2):
            scene.agent.fail()
            assert scene.destination.window == window
            assert not scene.destination.is_suspended
        scene.agent.fail()
        assert scene.destination.is_suspended
        await eventually(lambda: len(scene.ended) == 49)  # all but the one still in flight
        waited = [outcome for _, outcome in scene.ended[4:]]
        assert {outcome.text for outcome in waited} == {
            "delivery temporarily suspended: connect to mx.test: Connection refused"
        }
        assert {type(outcome) for outcome in waited} == {Deferred}
        assert {outcome.status for outcome in waited} == {"4.4.1"}
        # What comes meanwhile goes the same way, without a connection.
        scene.submit(51)
        await eventually(lambda: scene.ended[-1][0] == 51)
        assert len(scene.agent.lines) <= 1
        await scene.stop()
        scene.clock.advance(301)
        assert scene.destination.is_unused

    run(work())


def test_suspended_site_is_tried_again_after_its_time_with_the_initial_window() -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(*range(4))
        await scene.busy(4)
        for _ in range(4):
            scene.agent.fail()
        assert scene.destination.is_suspended
        scene.clock.advance(299)
        scene.submit(10)
        await eventually(lambda: len(scene.ended) == 5)
        scene.clock.advance(2)
        scene.submit(11)
        await scene.busy(1)
        assert scene.destination.window == 5
        await scene.stop()

    run(work())


def test_operator_revives_a_suspended_site() -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(*range(4))
        await scene.busy(4)
        for _ in range(4):
            scene.agent.fail()
        scene.destination.revive()
        scene.submit(10)
        await scene.busy(1)
        await scene.stop()

    run(work())


def test_resting_connections_get_work_before_new_ones_are_opened() -> None:
    async def work() -> None:
        scene = Scene()
        scene.submit(1)
        await scene.busy(1)
        (line,) = scene.agent.lines
        line.end(OK)
        assert scene.agent.busy == []
        scene.submit(2)
        assert scene.agent.busy == [line]  # at once, without a turn of the loop
        await scene.busy(1)
        assert scene.agent.lines == [line]
        await scene.stop()

    run(work())


def test_pressed_only_where_no_connection_can_take_what_waits() -> None:
    async def work() -> None:
        scene = Scene(initial_destination_concurrency=1, destination_concurrency_limit=1)
        scene.submit(1)
        await scene.busy(1)
        assert not scene.agent.busy[0].work.is_pressed()
        scene.submit(2)
        assert scene.agent.busy[0].work.is_pressed()
        await scene.stop()

    run(work())


def test_crash_of_the_agent_defers_and_is_told() -> None:
    async def work() -> None:
        scene = Scene(initial_destination_concurrency=1)
        scene.agent.crash = RuntimeError("bug")
        scene.submit(1)
        await eventually(lambda: scene.ended)
        ((number, outcome),) = scene.ended
        assert number == 1 and isinstance(outcome, Deferred) and outcome.status == "4.3.0"
        assert "bug" not in outcome.text  # senders may read it
        (notice,) = scene.journal.of(Notice)
        assert "RuntimeError: bug" in notice.text
        await scene.stop()

    run(work())


def test_bodies_that_left_memory_come_back_before_an_agent_sees_them() -> None:
    async def work() -> None:
        scene = Scene()
        for number in range(30):
            gone = delivery(number)
            gone.message.body = Body(100, b"")
            scene.destination.submit(gone)
        done = 0
        while done < 30:
            await eventually(lambda: scene.agent.busy)
            line = scene.agent.busy[0]
            assert line.delivery is not None and line.delivery.message.body.content == b"again\r\n"
            line.end(OK)
            done += 1
        assert sorted(number for number, _ in scene.ended) == list(range(30))
        assert sorted(scene.loads) == list(range(30))
        await scene.stop()

    run(work())


def test_body_that_had_to_go_again_is_loaded_again() -> None:
    async def work() -> None:
        scene = Scene()
        gone = delivery(1)
        gone.message.body = Body(100, b"")
        load = scene.load

        async def twice(each: Delivery) -> bool:
            works = await load(each)
            if len(scene.loads) == 1:
                each.message.body = Body(100, b"")
            return works

        scene.around = replace(scene.around, load=twice)
        scene.destination = Destination(Route("smtp", "dest.test"), scene.agent, scene.around)
        scene.destination.submit(gone)
        await scene.busy(1)
        assert scene.loads == [1, 1] and gone.message.body.content == b"again\r\n"
        await scene.stop()

    run(work())


def test_body_that_does_not_come_back_holds_up_nobody() -> None:
    async def work() -> None:
        scene = Scene()
        scene.load_works = False
        gone = delivery(1)
        gone.message.body = Body(100, b"")
        scene.destination.submit(gone)
        scene.submit(2)
        await eventually(lambda: scene.agent.busy)
        scene.agent.busy[0].end(OK)
        await eventually(lambda: scene.loads == [1])
        assert scene.ended == [(2, OK)]
        await scene.stop()

    run(work())


def test_jobs_that_were_taken_away_are_passed_over() -> None:
    async def work() -> None:
        scene = Scene(initial_destination_concurrency=1)
        scene.submit(1)
        await scene.busy(1)
        dropped = delivery(2)
        scene.destination.submit(dropped)
        scene.submit(3)
        dropped.jobs = []
        scene.agent.busy[0].end(OK)
        await eventually(lambda: len(scene.agent.busy) >= 1)
        taken = scene.agent.busy[0].delivery
        assert taken is not None and taken.message.number == 3
        await scene.stop()

    run(work())


def test_stop_lets_what_is_in_flight_end() -> None:
    async def work() -> None:
        scene = Scene(initial_destination_concurrency=1)
        scene.submit(1, 2)
        await scene.busy(1)
        line = scene.agent.busy[0]
        scene.destination.stop()
        ending = asyncio.create_task(scene.destination.finished())
        await asyncio.sleep(0)
        assert not ending.done()
        line.end(OK)
        await asyncio.wait_for(ending, 1)
        assert scene.ended == [(1, OK)]

    run(work())


def test_destinations_share_the_connections_there_are() -> None:
    async def work() -> None:
        slots = ConnectionSlots(2)
        scenes = [Scene(slots=slots) for _ in range(3)]
        order = []
        for number, scene in enumerate(scenes):
            scene.submit(*range(number * 100, number * 100 + 10))
        for _ in range(30):
            await eventually(lambda: any(scene.agent.busy for scene in scenes))
            assert sum(len(scene.agent.lines) for scene in scenes) <= 2
            line = next(line for scene in scenes for line in scene.agent.busy)
            assert line.delivery is not None
            order.append(line.delivery.message.number // 100)
            line.end(OK)
            for _ in range(3):
                await asyncio.sleep(0)
        assert sorted(order) == [0] * 10 + [1] * 10 + [2] * 10
        # In turn: nobody waits until another has all its mail delivered.
        assert all(order[:15].count(each) >= 3 for each in range(3))
        for scene in scenes:
            await scene.stop()

    run(work())


# Batches


class BatchNotes:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.error: Exception | None = None

    async def deliver_batch(self, deliveries: Sequence[Delivery]) -> list[list[Outcome]]:
        assert all(each.taken_at for each in deliveries)
        self.batches.append([each.message.number for each in deliveries])
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return [[OK] * len(each.jobs) for each in deliveries]

    async def close(self) -> None:
        pass


def batch_scene() -> tuple[Scene, BatchNotes, BatchDestination]:
    scene, notes = Scene(), BatchNotes()
    return scene, notes, BatchDestination("maildir", notes, scene.around)


def test_what_waits_makes_the_next_batch() -> None:
    async def work() -> None:
        scene, notes, destination = batch_scene()
        destination.submit(delivery(0))
        await eventually(lambda: notes.batches)
        for number in range(1, BATCH_LIMIT + 11):
            destination.submit(delivery(number, job(0), job(1)))
        await destination.finished()
        assert [len(batch) for batch in notes.batches] == [1, BATCH_LIMIT, 10]
        assert len(scene.ended) == 1 + 2 * (BATCH_LIMIT + 10)

    run(work())


def test_crash_of_a_batch_defers_it() -> None:
    async def work() -> None:
        scene, notes, destination = batch_scene()
        notes.error = RuntimeError("bug")
        destination.submit(delivery(1))
        await destination.finished()
        ((_, outcome),) = scene.ended
        assert isinstance(outcome, Deferred)
        notes.error = None
        destination.submit(delivery(2))
        await destination.finished()
        assert scene.ended[-1] == (2, OK)

    run(work())


def test_batch_loads_bodies_first() -> None:
    async def work() -> None:
        scene, _, destination = batch_scene()
        gone = delivery(1)
        gone.message.body = Body(100, b"")
        destination.submit(gone)
        await destination.finished()
        assert scene.loads == [1] and scene.ended == [(1, OK)]

    run(work())
