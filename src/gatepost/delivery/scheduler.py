"""The scheduler: every message in memory, and which destination has it.

A message comes in by `submit`, fresh from its commit, or is taken from the queue when jobs of it are due. Its jobs are
grouped by route, at most destination_recipient_limit to a delivery, and handed to their destinations; outcomes go to
`Results`. When all are in, the message leaves memory.

Limits (QueueSettings): `active_limit` jobs: beyond that `has_room` is false, nothing is taken from the queue, and whoever
commits mail should commit it as waiting (QueueShard.add, keep_active=False). `memory_limit` bytes of bodies: beyond that a body
is dropped and read again when its turn comes, newest first; when due mail has no room for this reason, so are the bodies of
deliveries that still wait, so that a slow destination cannot hold up the others.

The queue is asked for due jobs when the next is due, when room appears, on `wake`, and at least every POLL seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from gatepost.config.settings import DeliverySettings, QueueSettings
from gatepost.delivery.agent import Agent, BatchAgent, Delivery
from gatepost.delivery.connection_slots import ConnectionSlots
from gatepost.delivery.destination import BatchDestination, Destination, Surroundings
from gatepost.delivery.results import Cycle, Reporter, Results, ResultShard
from gatepost.mail.clock import Clock
from gatepost.mail.outcome import Outcome
from gatepost.mail.route import Route
from gatepost.observe.events import Notice, Record
from gatepost.queue.records import Body, Job, QueuedMessage

POLL = 60.0  # seconds
TAKE_AT_ONCE = 500  # jobs
RETRY_PAUSE = 1.0  # seconds after the queue could not be asked
CLOSING_TIME = 5.0  # seconds for reports once nothing is in flight

JobKey: TypeAlias = tuple[int, int]
"""Message and job number."""


class Shard(ResultShard, Protocol):
    """What delivery needs of a queue shard (queue.shard.QueueShard)."""

    async def take_due(self, limit: int, *, max_bytes: int | None = None) -> list[QueuedMessage]:
        """Lease at most `limit` due jobs, by message."""

    async def next_due_at(self) -> float | None:
        """When the next waiting job is due (seconds since 1970)."""

    async def release_lease(self, jobs: Collection[JobKey]) -> None:
        """Give jobs back, due at once."""


@dataclass(frozen=True, slots=True)
class Means:
    """What delivery works with."""

    shard: Shard
    remote: Agent
    maildir: BatchAgent
    reporter: Reporter
    clock: Clock
    record: Record


class Scheduler:
    """One per worker. All methods are for the event loop's thread; `start` it within the loop, `drain` it at the end."""

    def __init__(self, means: Means, queue: QueueSettings, delivery: DeliverySettings) -> None:
        self._means = means
        self._queue = queue
        self._delivery = delivery
        self._results = Results(means.shard, means.reporter, queue, means.clock, means.record)
        self._around = Surroundings(
            settings=delivery,
            suspension_time=queue.minimal_backoff_time,
            clock=means.clock,
            record=means.record,
            slots=ConnectionSlots(delivery.connection_limit),
            ended=self._ended,
            load=self._load,
        )
        self._maildir = BatchDestination("maildir", means.maildir, self._around)
        self._remote: dict[str, Destination] = {}
        self._cycles: dict[int, Cycle] = {}
        self._jobs = 0  # in memory, without outcome
        self._bytes = 0  # of bodies in memory
        self._woken = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._was_full = False
        self._stopping = False

    @property
    def active_jobs(self) -> int:
        """Jobs in memory."""
        return self._jobs

    @property
    def kept_bytes(self) -> int:
        """Bytes of message bodies in memory."""
        return self._bytes

    def has_room(self) -> bool:
        """Whether mail may be kept in memory, rather than waiting on disk."""
        if self._jobs < self._queue.active_limit:
            return True
        self._was_full = True  # what now goes to disk only is fetched when there is room
        return False

    def start(self) -> None:
        """Begin to look for due jobs."""
        self._poller = asyncio.get_running_loop().create_task(self._poll())

    def wake(self, *, revive: bool = False) -> None:
        """Look for due jobs now; `revive`: and try suspended destinations again (an operator asked)."""
        if revive:
            for destination in self._remote.values():
                destination.revive()
        self._woken.set()

    def submit(self, message: QueuedMessage, *, is_whole: bool = True) -> None:
        """Deliver the active jobs of a message. `is_whole`: they are all it has in the queue."""
        if not message.jobs:
            return
        if self._stopping:
            self._release([(message.number, job.number) for job in message.jobs])
            return
        cycle = self._cycles.get(message.number)
        if cycle is None:
            cycle = self._cycles[message.number] = Cycle(message, is_whole, self._forget)
        else:  # jobs that became due while others of the message are still at work
            cycle.message.jobs += message.jobs
            cycle.is_whole = cycle.has_deferred = False
        self._keep_body(cycle)
        self._jobs += len(message.jobs)
        deliveries = self._deliveries(cycle.message, message.jobs)
        cycle.deliveries += deliveries
        for delivery in deliveries:
            self._destination(delivery.jobs[0].route).submit(delivery)

    def drop(self, number: int, jobs: Collection[int]) -> None:
        """An operator deleted these jobs of a message, or put them on hold. What is already in flight goes on."""
        cycle = self._cycles.get(number)
        if cycle is None:
            return
        dropped: list[JobKey] = []
        for delivery in list(cycle.deliveries):
            if not delivery.is_waiting:
                continue
            dropped += [(number, job.number) for job in delivery.jobs if job.number in jobs]
            delivery.jobs = [job for job in delivery.jobs if job.number not in jobs]
            if not delivery.jobs:
                cycle.deliveries.remove(delivery)
        if dropped:
            cycle.is_whole = False
            self._jobs -= len(dropped)
            self._release(dropped)
            self._results.check(cycle)

    def drop_all_but(self, number: int, jobs: Collection[int]) -> None:
        """Only these jobs of a message are still to be done (QueueShard.changed)."""
        cycle = self._cycles.get(number)
        if cycle is not None:
            at_hand = {job.number for delivery in cycle.deliveries for job in delivery.jobs}
            self.drop(number, at_hand.difference(jobs))

    async def drain(self, time_limit: float) -> None:
        """Stop: begin nothing new, let what is in flight end within `time_limit` seconds, and put the rest back."""
        self._stopping = True
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.wait([self._poller])
        destinations: list[Destination | BatchDestination] = [self._maildir, *self._remote.values()]
        for destination in destinations:
            destination.stop()
        try:
            async with asyncio.timeout(time_limit):
                await asyncio.gather(*(destination.finished() for destination in destinations))
        except TimeoutError:
            await asyncio.gather(*(destination.abort() for destination in destinations))
        try:
            async with asyncio.timeout(CLOSING_TIME):
                await self._results.settled()
        except TimeoutError:
            await self._results.abort()
        await self._means.remote.close()
        await self._means.maildir.close()
        self._release([(number, job.number) for number, cycle in self._cycles.items() for job in cycle.unfinished()])
        if self._tasks:
            await asyncio.wait(self._tasks)

    # Into memory

    def _deliveries(self, message: QueuedMessage, jobs: Sequence[Job]) -> list[Delivery]:
        if len(jobs) == 1:
            return [Delivery(message, [jobs[0]])]
        by_route: dict[Route, list[Job]] = {}
        for job in jobs:
            # All mailboxes are one destination.
            route = job.route if job.route.transport == "smtp" else _MAILDIR
            by_route.setdefault(route, []).append(job)
        most = self._delivery.destination_recipient_limit
        return [
            Delivery(message, group[at : at + most]) for group in by_route.values() for at in range(0, len(group), most)
        ]

    def _destination(self, route: Route) -> Destination | BatchDestination:
        if route.transport == "maildir":
            return self._maildir
        destination = self._remote.get(route.next_hop)
        if destination is None:
            destination = self._remote[route.next_hop] = Destination(route, self._means.remote, self._around)
        return destination

    def _keep_body(self, cycle: Cycle) -> None:
        body = cycle.message.body
        if body.content is None or cycle.kept_bytes:
            return
        size = len(body.content)
        if self._bytes + size > self._queue.memory_limit:
            cycle.message.body = _without_content(body)
            return
        cycle.kept_bytes = size
        self._bytes += size

    async def _load(self, delivery: Delivery) -> bool:
        """The body back into memory for its turn, whatever the limit: at most two per connection at a time."""
        message = delivery.message
        cycle = self._cycles.get(message.number)
        if cycle is None or not delivery.jobs:
            return False
        try:
            body = await self._means.shard.body(message.number)
        except Exception as error:
            self._means.record(Notice("delivery", "warning", f"{message.id}: cannot be read from the queue: {error}"))
            self.drop(message.number, [job.number for job in delivery.jobs])  # due again, or gone
            return False
        message.body = body
        if not cycle.kept_bytes and body.content is not None:
            cycle.kept_bytes = len(body.content)
            self._bytes += cycle.kept_bytes
        return bool(delivery.jobs)

    def _shed_bodies(self) -> None:
        """Drop bodies of what still waits, newest first, until half of the memory is free."""
        for cycle in reversed(self._cycles.values()):
            if self._bytes <= self._queue.memory_limit // 2:
                return
            if cycle.kept_bytes and cycle.deliveries and all(each.is_waiting for each in cycle.deliveries):
                cycle.message.body = _without_content(cycle.message.body)
                self._bytes -= cycle.kept_bytes
                cycle.kept_bytes = 0

    # Out of memory

    def _ended(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        cycle = self._cycles[delivery.message.number]
        self._jobs -= len(delivery.jobs)
        self._results.ended(cycle, delivery, outcomes)

    def _forget(self, cycle: Cycle) -> None:
        # More jobs of it may have become due while it was reported on.
        if cycle.deliveries or self._cycles.pop(cycle.message.number, None) is None:
            return
        self._bytes -= cycle.kept_bytes
        if self._was_full and self._jobs <= self._queue.active_limit * 3 // 4:
            self._was_full = False
            self._woken.set()

    def _release(self, jobs: Collection[JobKey]) -> None:
        if jobs:
            self._start(self._release_lease(jobs))

    async def _release_lease(self, jobs: Collection[JobKey]) -> None:
        try:
            await self._means.shard.release_lease(jobs)
        except Exception as error:
            # They stay leased: tried again when the shard is opened next.
            self._means.record(Notice("delivery", "error", f"cannot put mail back into the queue: {error}"))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The queue

    async def _poll(self) -> None:
        while True:
            try:
                pause = await self._take_due()
            except Exception as error:
                self._means.record(Notice("delivery", "error", f"cannot take due mail from the queue: {error}"))
                pause = RETRY_PAUSE
            try:
                async with asyncio.timeout(pause):
                    await self._woken.wait()
            except TimeoutError:
                pass
            self._woken.clear()

    async def _take_due(self) -> float:
        """Take what is due, as far as there is room; how many seconds to wait then."""
        self._forget_unused_destinations()
        while self.has_room():
            if self._bytes > self._queue.memory_limit // 2:
                self._shed_bodies()
            messages = await self._means.shard.take_due(
                min(TAKE_AT_ONCE, self._queue.active_limit - self._jobs),
                max_bytes=max(self._queue.memory_limit - self._bytes, 1),
            )
            if not messages:
                break
            for message in messages:
                self.submit(message, is_whole=False)
            await asyncio.sleep(0)
        else:
            return POLL
        due_at = await self._means.shard.next_due_at()
        most = min(POLL, self._queue.minimal_backoff_time)
        return most if due_at is None else min(max(due_at - self._means.clock.now(), 0.01), most)

    def _forget_unused_destinations(self) -> None:
        self._remote = {name: destination for name, destination in self._remote.items() if not destination.is_unused}


_MAILDIR = Route("maildir", "")


def _without_content(body: Body) -> Body:
    return Body(body.size, b"")
