"""What a delivery agent is, and what it is given.

A `Delivery` is one message with those of its jobs that go to one destination together. Agents come in two kinds:

- `Agent` works off deliveries one after the other, as SMTP does. A destination calls `run` once for each connection it wants;
  the agent takes deliveries from `Work` until there is none for a while. Nothing is created or awaited per message.
- `BatchAgent` is handed all that waits at once, as Maildir likes it: one sync for many files.

Every delivery taken ends in `Work.finish` with one outcome per job, in the order of `jobs`. If `run` ends before that (it was
cancelled, or it crashed), the destination sees to what is left.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gatepost.mail.outcome import Outcome
from gatepost.queue.records import Job, QueuedMessage


@dataclass(slots=True, eq=False)
class Delivery:
    """One message and those of its jobs that go to one destination together."""

    message: QueuedMessage
    jobs: list[Job]
    taken_at: float = 0.0  # seconds since 1970, when an agent took it; 0 while it waits
    connect_seconds: float = 0.0  # spent on finding and greeting the next hop for it

    @property
    def is_waiting(self) -> bool:
        """Whether no agent has it yet."""
        return self.taken_at == 0.0


class Resting(Protocol):
    """A connection without work."""

    def go_on(self) -> None:
        """Work has come: take it."""

    def give_up(self) -> None:
        """The connection is wanted elsewhere, or the server stops: close."""


class Work(Protocol):
    """What one run of an agent works off. All calls return at once."""

    def take(self) -> Delivery | None:
        """The next delivery; None where none waits, or where this connection shall end."""

    def finish(self, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        """A taken delivery ended: one outcome per job, in order."""

    def rest(self, connection: Resting) -> bool:
        """`take` gave None: wait until `go_on` or `give_up` is called. False: don't wait, close."""

    def leave(self, connection: Resting) -> None:
        """A resting connection closes by itself; neither will be called."""

    def is_pressed(self) -> bool:
        """Whether deliveries wait although all connections are at work, so that taking one ahead helps."""


class Agent(Protocol):
    """Delivers one after the other."""

    def run(self, next_hop: str, work: Work) -> Coroutine[Any, Any, None]:
        """Work off `work` over at most one connection at a time. Returns when there is no more, or none can be had."""

    async def close(self) -> None:
        """Drop connections that are still saying goodbye."""


class BatchAgent(Protocol):
    """Delivers many at once."""

    async def deliver_batch(self, deliveries: Sequence[Delivery]) -> list[list[Outcome]]:
        """One outcome per job of each delivery, in order."""

    async def close(self) -> None:
        """No batch will be given any more."""


@dataclass(slots=True)
class Attempt:
    """A delivery on its way from host to host: what is settled, and what is still to be tried."""

    delivery: Delivery
    left: list[int]  # indexes into `delivery.jobs`
    settled: dict[int, Outcome] = field(default_factory=dict)
    softly_refused: dict[int, Outcome] = field(default_factory=dict)  # a 4yz from a host that was not the last
    was_repeated: bool = False  # a stale connection broke under it once

    @staticmethod
    def of(delivery: Delivery) -> Attempt:
        """A first attempt for all its jobs."""
        return Attempt(delivery, list(range(len(delivery.jobs))))

    def outcomes(self, rest: Outcome) -> list[Outcome]:
        """One outcome per job; what no host decided gets `rest`."""
        return [self.settled.get(at) or self.softly_refused.get(at) or rest for at in range(len(self.delivery.jobs))]
