"""What tests of delivery need: messages, work for an agent, and a queue, a reporter and an agent that only take notes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import uvloop

from gatepost.config.settings import DeliverySettings
from gatepost.delivery.agent import Delivery, Resting
from gatepost.mail.address import parse_address
from gatepost.mail.clock import FakeClock
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.route import parse_route
from gatepost.observe.events import Event
from gatepost.queue.records import Body, Job, JobResult, QueuedMessage

T = TypeVar("T")

CONTENT = b"Subject: hello\r\n\r\n.one dot\r\nlast line\r\n"
NOW = FakeClock().now()

QUICK = {"connect_time_limit": 2.0, "command_time_limit": 0.4, "data_time_limit": 0.5, "connection_cache_time": 0.2}


def run(work: Coroutine[Any, Any, T], *, loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop) -> T:
    """As the workers run: on uvloop."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work)


def settings(**changes: object) -> DeliverySettings:
    """Short time limits, no TLS."""
    return DeliverySettings(**{"tls": "none", **QUICK, **changes})  # type: ignore[arg-type]


def job(number: int = 0, address: str = "", route: str = "smtp:dest.test", **more: object) -> Job:
    """A job for `u<number>@dest.test`; `notify` and `orcpt` are its recipient's."""
    recipient = Recipient(
        parse_address(address or f"u{number}@dest.test"),
        more.pop("notify", frozenset()),  # type: ignore[arg-type]
        more.pop("orcpt", ""),  # type: ignore[arg-type]
    )
    return Job(number, recipient, recipient.address, parse_route(route), **more)  # type: ignore[arg-type]


def message(
    number: int, jobs: Sequence[Job], content: bytes = CONTENT, *, sender: str = "alice@src.test", **envelope: object
) -> QueuedMessage:
    """A message that has just arrived."""
    return QueuedMessage(
        number,
        Envelope(parse_address(sender) if sender else None, tuple(job.recipient for job in jobs), **envelope),  # type: ignore[arg-type]
        Body.of(content),
        NOW,
        list(jobs),
        activated_at=NOW,
    )


def delivery(number: int, *jobs: Job, content: bytes = CONTENT, **more: object) -> Delivery:
    """A delivery of all jobs of a message; one job where none is given."""
    jobs = jobs or (job(),)
    return Delivery(message(number, jobs, content, **more), list(jobs))  # type: ignore[arg-type]


class ListWork:
    """Work off a list. With `keeps`, connections rest until `add` or `give_up`."""

    def __init__(self, *deliveries: Delivery, keeps: bool = False, pressed: bool = False) -> None:
        self.waiting = list(deliveries)
        self.taken: list[Delivery] = []
        self.ended: dict[int, list[Outcome]] = {}  # by message number
        self.resting: list[Resting] = []
        self.keeps = keeps
        self.pressed = pressed

    def take(self) -> Delivery | None:
        if not self.waiting:
            return None
        self.taken.append(self.waiting.pop(0))
        return self.taken[-1]

    def finish(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        self.taken.remove(delivery)
        assert delivery.message.number not in self.ended, "finished twice"
        assert len(outcomes) == len(delivery.jobs)
        self.ended[delivery.message.number] = list(outcomes)

    def rest(self, connection: Resting) -> bool:
        if self.keeps:
            self.resting.append(connection)
        return self.keeps

    def leave(self, connection: Resting) -> None:
        self.resting.remove(connection)

    def is_pressed(self) -> bool:
        return self.pressed

    def add(self, *deliveries: Delivery) -> None:
        """More work, while a connection may rest."""
        self.waiting += deliveries
        if self.resting:
            self.resting.pop().go_on()


class FakeShard:
    """A queue shard that keeps what it is told."""

    def __init__(self) -> None:
        self.results: list[JobResult] = []
        self.due: list[QueuedMessage] = []
        self.bodies: dict[int, Body] = {}
        self.bodies_read: list[int] = []
        self.present: set[int] = set()
        self.released: set[tuple[int, int]] = set()
        self.next_due: float | None = None
        self.limits: list[tuple[int, int | None]] = []

    def finish(self, results: Iterable[JobResult]) -> None:
        self.results += results

    async def existing(self, numbers: Collection[int]) -> set[int]:
        return self.present.intersection(numbers)

    async def body(self, number: int) -> Body:
        await asyncio.sleep(0)
        self.bodies_read.append(number)
        return self.bodies[number]

    async def take_due(self, limit: int, *, max_bytes: int | None = None) -> list[QueuedMessage]:
        self.limits.append((limit, max_bytes))
        due, self.due = self.due, []
        return due

    async def next_due_at(self) -> float | None:
        return self.next_due

    async def release_lease(self, jobs: Collection[tuple[int, int]]) -> None:
        self.released.update(jobs)

    def outcome(self, message: int, job: int = 0) -> Outcome:
        """The one result of a job."""
        (found,) = (each.outcome for each in self.results if (each.message, each.job) == (message, job))
        return found


class FakeReporter:
    """Keeps reports as (kind, message number, job numbers, the number of results the queue had then)."""

    def __init__(self, shard: FakeShard) -> None:
        self.reports: list[tuple[str, int, list[int], int]] = []
        self.error: Exception | None = None
        self._shard = shard

    async def failed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Failed]]) -> None:
        await self._note("failed", message, [job.number for job, _ in ends])

    async def delayed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Deferred]]) -> None:
        await self._note("delayed", message, [job.number for job, _ in ends])

    async def delivered(self, message: QueuedMessage, ends: Sequence[tuple[Job, Delivered]]) -> None:
        await self._note("delivered", message, [job.number for job, _ in ends])

    async def _note(self, kind: str, message: QueuedMessage, jobs: list[int]) -> None:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.reports.append((kind, message.number, jobs, len(self._shard.results)))


class Journal(list[Event]):
    """Keeps events; the list itself is the record."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, *kinds: type) -> list[Any]:
        """The events of these classes, in order."""
        return [event for event in self if isinstance(event, kinds)]


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Until `condition` holds; AssertionError if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
