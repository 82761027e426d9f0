"""What becomes of an attempt: told as events, written to the queue, reported to the sender.

A `Cycle` is one stay of a message in memory: from its arrival, or from when its jobs were due, until each of these jobs has
an outcome. Then, and only then, the sender gets at most one report of each kind on all of them.

- Delivered: leaves the queue with the next commit. If the sender wished to hear of it (NOTIFY=SUCCESS) and the next hop does
  not tell them itself, it is reported when the cycle is over.
- Deferred: waits until retry.next_attempt_at. If a warning of the delay is due it is sent first, and noted on the job.
  If the message has reached its lifetime the job fails instead, for its last reason (after this attempt, as with Postfix).
- Failed: reported when the cycle is over, and leaves the queue only when the report is on disk. If the report cannot be
  queued the job is deferred, and fails again later.

Whom to report to, and that reports are never answered, is the `Reporter`'s business (dsn.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gatepost.config.settings import QueueSettings
from gatepost.delivery.agent import Delivery
from gatepost.mail.clock import Clock
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.observe.events import MessageExpired, MessageRemoved, Notice, Record, RecipientAttempted
from gatepost.queue.records import Job, JobResult, QueuedMessage
from gatepost.queue.retry import delay_warning_due, is_expired, next_attempt_at


class ResultShard(Protocol):
    """What results need of a queue shard."""

    def finish(self, results: Iterable[JobResult]) -> None:
        """Write how attempts ended, soon."""

    async def existing(self, numbers: Collection[int]) -> set[int]:
        """Which of these messages still have jobs, all results handed in before counted."""


class Reporter(Protocol):
    """Tells senders. Each call queues at most one report and returns when it is on disk; raises if it cannot be."""

    async def failed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Failed]]) -> None:
        """These recipients will never get it."""

    async def delayed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Deferred]]) -> None:
        """These recipients have not got it yet."""

    async def delivered(self, message: QueuedMessage, ends: Sequence[tuple[Job, Delivered]]) -> None:
        """These recipients have it."""


@dataclass(slots=True, eq=False)
class Cycle:
    """One stay of a message in memory. `is_whole`: its jobs are all that the message has in the queue."""

    message: QueuedMessage
    is_whole: bool
    deliveries: list[Delivery] = field(default_factory=list)  # without outcome
    kept_bytes: int = 0  # of the body, in memory
    failed: list[tuple[Job, Failed]] = field(default_factory=list)
    expired: bool = False
    late: list[tuple[Job, Deferred]] = field(default_factory=list)
    reportable: list[tuple[Job, Delivered]] = field(default_factory=list)


class Results:
    """Takes outcomes. `forget` is called when nothing of a cycle is left to be done, reports included; `load` brings a body
    that had to leave memory back for a report, and may raise."""

    def __init__(self, shard: ResultShard, reporter: Reporter, settings: QueueSettings, clock: Clock, record: Record):
        self._shard = shard
        self._reporter = reporter
        self._settings = settings
        self._clock = clock
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: list[int] = []  # messages whose last job at hand was finished
        self.forget: Callable[[Cycle], None] = lambda cycle: None
        self.load: Callable[[Cycle], asyncio.Future[None] | None] = lambda cycle: None
