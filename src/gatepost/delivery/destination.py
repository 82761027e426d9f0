"""A destination: one transport and next hop, what waits for it, and how many connections it gets (Postfix qmgr).

`Destination` is for agents that work over connections:
- Window: how many may be at work. It begins at initial_destination_concurrency; each delivery that the site took part in
  adds 1, while the window is less than the busy connections plus the initial number, up to
  destination_concurrency_limit; each failure of the site takes 1 away, down to 1.
- Suspension: each failure of the site also adds 1/window to a sum that any success clears. At 1 the site counts as dead
  for minimal_backoff_time: all that waits, and all that comes, is deferred at once: "delivery temporarily suspended: …".
- Work goes to the connection that rested last; a new one is opened where none rests and the window allows. One task per
  connection; none per message.

`BatchDestination` is for agents that take many at once: whatever waits when a batch is done makes the next one.

Bodies that had to leave memory are read back before an agent gets the delivery. Each delivery submitted ends in `ended`
once, unless `stop` or `abort` came first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from gatepost.config.settings import DeliverySettings
from gatepost.delivery.agent import Agent, BatchAgent, Delivery, Resting
from gatepost.delivery.connection_slots import ConnectionSlots
from gatepost.mail.clock import Clock
from gatepost.mail.outcome import Deferred, Outcome
from gatepost.mail.route import Route
from gatepost.observe.events import Notice, Record

BATCH_LIMIT = 200  # deliveries
DEFER_AT_ONCE = 200  # deliveries deferred before other things get their turn

Ended: TypeAlias = Callable[[Delivery, Sequence[Outcome]], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all destinations of a worker share."""

    settings: DeliverySettings
    suspension_time: float  # seconds
    clock: Clock
    record: Record
    slots: ConnectionSlots
    ended: Ended
    load: Callable[[Delivery], Awaitable[bool]]  # the body back into memory; False: the delivery is no longer ours


def has_body(delivery: Delivery) -> bool:
    """Whether the body is at hand: in memory, or in a file of its own."""
    body = delivery.message.body
    return body.content is not None or body.path is not None


class Destination:
    """For an `Agent`. See the module."""

    def __init__(self, route: Route, agent: Agent, around: Surroundings) -> None:
        self.route = route
        self._agent = agent
        self._around = around
        self._waiting: deque[Delivery] = deque()
        self._loaded: deque[Delivery] = deque()  # read back, first in turn
        self._loading: set[asyncio.Task[None]] = set()
        self._runs: dict[_Run, asyncio.Task[None]] = {}
        self._starting = 0  # runs that have not yet taken their first delivery
        self._leaving = 0  # runs that were told to take no more
        self._resting: list[Resting] = []
        self._window = self._initial
        self._failures = 0.0
        self._suspended_until = 0.0  # monotonic
        self._suspension: Deferred | None = None
        self._deferring = False
        self._stopping = False

    @property
    def _initial(self) -> int:
        settings = self._around.settings
        return min(settings.initial_destination_concurrency, settings.destination_concurrency_limit)

    @property
    def window(self) -> int:
        """How many connections may be at work now."""
        return self._window

    @property
    def is_suspended(self) -> bool:
        """Whether the site counts as dead."""
        return self._suspension is not None and self._around.clock.monotonic() < self._suspended_until

    @property
    def is_unused(self) -> bool:
        """Whether nothing would be lost if it were forgotten."""
        return not (self._waiting or self._loaded or self._loading or self._runs or self.is_suspended)

    def submit(self, delivery: Delivery) -> None:
        """Deliver it when its turn comes."""
        self._waiting.append(delivery)
        if self._suspension is not None:
            if self.is_suspended:
                self._defer_later()
                return
            self.revive()
        self._pump()

    def revive(self) -> None:
        """Try a suspended site again: its time is over, or the operator asks."""
        if self._suspension is not None:
            self._suspension = None
            self._window = self._initial
            self._failures = 0.0

    def stop(self) -> None:
        """Take no more work; what no agent has yet is forgotten."""
        self._stopping = True
        self._around.slots.withdraw(self)
        self._waiting.clear()
        self._loaded.clear()
        for task in self._loading:
            task.cancel()
        while self._resting:
            self._resting.pop().give_up()

    async def finished(self) -> None:
        """Until nothing is in flight."""
        while tasks := [*self._runs.values(), *self._loading]:
            await asyncio.wait(tasks)

    async def abort(self) -> None:
        """End what is in flight at once. How it would have ended is unknown."""
        for task in self._runs.values():
            task.cancel()
        await self.finished()

    # Work

    def _pump(self) -> None:
        """Put the waiting to work, as far as connections go."""
        while self._has_ready and not self._stopping and self._suspension is None:
            if self._resting:
                self._resting.pop().go_on()
                continue
            if self._starting >= len(self._waiting) + len(self._loaded) or self._busy >= self._window:
                return
            if not self._around.slots.claim(self):
                return
            self._starting += 1
            run = _Run(self)
            task = asyncio.get_running_loop().create_task(self._agent.run(self.route.next_hop, run))
            self._runs[run] = task
            task.add_done_callback(partial(self._run_ended, run))

    @property
    def _has_ready(self) -> bool:
        return bool(self._loaded) or (bool(self._waiting) and len(self._loading) < 2 * self._window)

    @property
    def _busy(self) -> int:
        return len(self._runs) - len(self._resting)

    @property
    def is_pressed(self) -> bool:
        """Whether deliveries wait that no connection can take."""
        return self._has_ready and not self._resting and (self._busy >= self._window or self._around.slots.is_exhausted)

    def _run_ended(self, run: _Run, task: asyncio.Task[None]) -> None:
        self._starting -= run.is_starting
        self._leaving -= run.is_leaving
        del self._runs[run]
        self._around.slots.release(self)
        if task.cancelled():
            self._stopping = True  # nobody cancels one run alone: the server stops
        elif (error := task.exception()) is not None:
            self._crashed(run.taken, error)
        self._pump()

    def _crashed(self, taken: list[Delivery], error: BaseException) -> None:
        text = f"delivery to {self.route} crashed: {type(error).__name__}: {error}"
        self._around.record(Notice("delivery", "error", text))
        outcome = Deferred("none", "internal error in delivery", "4.3.0", site_failed=True)
        for delivery in [*taken]:
            self.finish(delivery, [outcome] * len(delivery.jobs))
        taken.clear()

    def next_delivery(self, run: _Run) -> Delivery | None:
        """What `run` shall do next."""
        if run.is_starting:
            run.is_starting = False
            self._starting -= 1
        elif self._around.slots.must_yield(self, len(self._runs) - self._leaving):
            run.is_leaving = True
            self._leaving += 1
        if self._stopping or run.is_leaving or self._suspension is not None:
            return None
        while self._loaded:
            delivery = self._loaded.popleft()
            if delivery.jobs and has_body(delivery):
                return self._taken(delivery)
            self._waiting.appendleft(delivery)  # its body had to go again
        while self._waiting and len(self._loading) < 2 * self._window:
            delivery = self._waiting.popleft()
            if not delivery.jobs:  # an operator took them away
                continue
            if has_body(delivery):
                return self._taken(delivery)
            task = asyncio.get_running_loop().create_task(self._load(delivery))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)
        return None

    def _taken(self, delivery: Delivery) -> Delivery:
        delivery.taken_at = self._around.clock.now()
        return delivery

    async def _load(self, delivery: Delivery) -> None:
        if await self._around.load(delivery):
            self._loaded.append(delivery)
        asyncio.get_running_loop().call_soon(self._pump)  # when this task is over and counts no more

    def finish(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        """A delivery ended: learn from it, and pass it on."""
        failed = None
        for outcome in outcomes:
            if isinstance(outcome, Deferred) and outcome.site_failed:
                failed = outcome
                break
        if failed is not None:
            self._site_failed(failed)
        elif any(outcome.relay != "none" for outcome in outcomes):
            self._failures = 0.0
            if self._window < min(self._around.settings.destination_concurrency_limit, self._busy + self._initial):
                self._window += 1
                self._pump()
        self._around.ended(delivery, outcomes)

    def _site_failed(self, outcome: Deferred) -> None:
        self._failures += 1 / self._window
        self._window = max(1, self._window - 1)
        if self._failures >= 1 - 1e-9 and self._suspension is None:
            text = f"delivery temporarily suspended: {outcome.text}"
            self._suspension = Deferred("none", text, outcome.status)
            self._suspended_until = self._around.clock.monotonic() + self._around.suspension_time
            self._defer_later()

    def _defer_later(self) -> None:
        if not self._deferring:
            self._deferring = True
            asyncio.get_running_loop().call_soon(self._defer_waiting)

    def _defer_waiting(self) -> None:
        self._deferring = False
        suspension = self._suspension
        if suspension is None:
            self._pump()
            return
        for _ in range(DEFER_AT_ONCE):
            if not (self._loaded or self._waiting):
                return
            delivery = (self._loaded or self._waiting).popleft()
            if delivery.jobs:
                self._around.ended(delivery, [suspension] * len(delivery.jobs))
        self._defer_later()

    # Claimant

    def slot_free(self) -> None:
        """A connection may be had."""
        self._pump()

    def give_up_resting(self) -> bool:
        """A rival wants a connection."""
        if not self._resting:
            return False
        self._resting.pop(0).give_up()
        return True

    def rest(self, connection: Resting) -> bool:
        """A connection has no work."""
        if self._stopping or self._suspension is not None or self._around.slots.is_wanted:
            return False
        self._resting.append(connection)
        return True

    def leave(self, connection: Resting) -> None:
        """A resting connection closes."""
        if connection in self._resting:
            self._resting.remove(connection)


class _Run:
    """One run of the agent: the `Work` of one connection."""

    __slots__ = ("_destination", "is_leaving", "is_starting", "taken")

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self.is_starting = True
        self.is_leaving = False
        self.taken: list[Delivery] = []

    def take(self) -> Delivery | None:
        """See `Work`."""
        delivery = self._destination.next_delivery(self)
        if delivery is not None:
            self.taken.append(delivery)
        return delivery

    def finish(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        """See `Work`."""
        self.taken.remove(delivery)
        self._destination.finish(delivery, outcomes)

    def rest(self, connection: Resting) -> bool:
        """See `Work`."""
        return not self.is_leaving and self._destination.rest(connection)

    def leave(self, connection: Resting) -> None:
        """See `Work`."""
        self._destination.leave(connection)

    def is_pressed(self) -> bool:
        """See `Work`."""
        return not self.is_leaving and self._destination.is_pressed


class BatchDestination:
    """For a `BatchAgent`. See the module."""

    def __init__(self, route_name: str, agent: BatchAgent, around: Surroundings) -> None:
        self._name = route_name
        self._agent = agent
        self._around = around
        self._waiting: deque[Delivery] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_unused(self) -> bool:
        """There is one, and it stays."""
        return False

    def submit(self, delivery: Delivery) -> None:
        """Deliver it with the next batch."""
        self._waiting.append(delivery)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    def revive(self) -> None:
        """It is never suspended."""

    def stop(self) -> None:
        """Take no more work; what no agent has yet is forgotten."""
        self._waiting.clear()

    async def finished(self) -> None:
        """Until nothing is in flight."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def abort(self) -> None:
        """End what is in flight at once. How it would have ended is unknown."""
        if self._task is not None:
            self._task.cancel()
        await self.finished()

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = await self._next_batch()
                try:
                    all_outcomes = await self._agent.deliver_batch(batch) if batch else []
                except Exception as error:
                    text = f"delivery to {self._name} crashed: {type(error).__name__}: {error}"
                    self._around.record(Notice("delivery", "error", text))
                    crashed = Deferred("none", "internal error in delivery", "4.3.0")
                    all_outcomes = [[crashed] * len(delivery.jobs) for delivery in batch]
                for delivery, outcomes in zip(batch, all_outcomes, strict=True):
                    self._around.ended(delivery, outcomes)
        finally:
            self._task = None

    async def _next_batch(self) -> list[Delivery]:
        batch: list[Delivery] = []
        while self._waiting and len(batch) < BATCH_LIMIT:
            delivery = self._waiting.popleft()
            if delivery.jobs and (has_body(delivery) or await self._around.load(delivery)):
                delivery.taken_at = self._around.clock.now()
                batch.append(delivery)
        return batch
