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
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gatepost.config.settings import QueueSettings
from gatepost.delivery.agent import Delivery
from gatepost.mail.clock import Clock
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.queue_id import queue_id
from gatepost.observe.events import MessageExpired, MessageRemoved, Notice, RecipientAttempted, Record
from gatepost.queue.records import Body, Job, JobResult, QueuedMessage
from gatepost.queue.retry import delay_warning_due, is_expired, next_attempt_at


class ResultShard(Protocol):
    """What results need of a queue shard."""

    def finish(self, results: Iterable[JobResult]) -> None:
        """Write how attempts ended, soon."""

    async def existing(self, numbers: Collection[int]) -> set[int]:
        """Which of these messages still have jobs, all results handed in before counted. Raises StorageError."""

    async def body(self, number: int) -> Body:
        """The body of a message, read again. Raises StorageError, or LookupError where there is no such message."""


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
    over: Callable[[Cycle], None]  # called when nothing is left to be done, reports included
    deliveries: list[Delivery] = field(default_factory=list)  # those without outcome
    kept_bytes: int = 0  # of the body, in memory
    has_expired: bool = False
    has_deferred: bool = False
    failed: list[tuple[Job, Failed]] = field(default_factory=list)
    late: list[tuple[Job, Deferred]] = field(default_factory=list)
    reportable: list[tuple[Job, Delivered]] = field(default_factory=list)

    def unfinished(self) -> list[Job]:
        """The jobs the queue has not heard of yet: without outcome, or waiting for a report."""
        jobs = [job for delivery in self.deliveries for job in delivery.jobs]
        return [*jobs, *(job for job, _ in self.failed), *(job for job, _ in self.late)]


class Results:
    """Takes outcomes. See the module."""

    def __init__(
        self, shard: ResultShard, reporter: Reporter, settings: QueueSettings, clock: Clock, record: Record
    ) -> None:
        self._shard = shard
        self._reporter = reporter
        self._settings = settings
        self._clock = clock
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()
        self._perhaps_gone: list[int] = []  # messages whose last job at hand was finished

    def ended(self, cycle: Cycle, delivery: Delivery, outcomes: Sequence[Outcome]) -> None:
        """A delivery of the cycle ended, with one outcome per job."""
        now = self._clock.now()
        message = cycle.message
        number = message.number
        self._tell(message, delivery, outcomes, now)
        results = []
        for job, outcome in zip(delivery.jobs, outcomes, strict=True):
            if type(outcome) is Delivered:
                results.append(JobResult(number, job.number, outcome))
                if "SUCCESS" in job.recipient.notify and not outcome.dsn_passed_on:
                    cycle.reportable.append((job, outcome))
            elif isinstance(outcome, Deferred):
                result = self._deferred(cycle, job, outcome, now)
                if result is not None:
                    results.append(result)
            elif isinstance(outcome, Failed):
                cycle.failed.append((job, outcome))
        if results:
            self._shard.finish(results)
        cycle.deliveries.remove(delivery)
        self.check(cycle)

    def check(self, cycle: Cycle) -> None:
        """End the cycle if no delivery of it is left."""
        if cycle.deliveries:
            return
        if cycle.failed or cycle.late or cycle.reportable:
            self._start(self._report(cycle))
        else:
            self._over(cycle)

    async def settled(self) -> None:
        """Until every report is queued or has been given up."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def abort(self) -> None:
        """Give up reports under way; their jobs stay in the queue."""
        for task in self._tasks:
            task.cancel()
        await self.settled()

    # In order of what happens

    def _tell(self, message: QueuedMessage, delivery: Delivery, outcomes: Sequence[Outcome], now: float) -> None:
        activated_at = message.activated_at or message.arrived_at
        taken_at = delivery.taken_at or now
        connecting = delivery.connect_seconds
        delays = (
            max(message.accept_seconds, activated_at - message.arrived_at, 0.0),
            max(taken_at - activated_at, 0.0),
            connecting,
            max(now - taken_at - connecting, 0.0),
        )
        name, delay = message.id, sum(delays)
        for job, outcome in zip(delivery.jobs, outcomes, strict=True):
            recipient = str(job.recipient.address)
            original = recipient if job.original is job.recipient.address else str(job.original)
            transport = job.route.transport
            self._record(RecipientAttempted(name, transport, recipient, original, outcome, delay, delays))

    def _deferred(self, cycle: Cycle, job: Job, outcome: Deferred, now: float) -> JobResult | None:
        """What the queue shall note; None where a report has to come first."""
        message, settings = cycle.message, self._settings
        if is_expired(message, now, settings):
            if not cycle.has_expired:
                cycle.has_expired = True
                self._record(MessageExpired(message.id, message.envelope.sender_text))
            # RFC 3463 §3.1: a failure with status 4.x.x is a transient condition that lasted too long.
            cycle.failed.append((job, Failed(outcome.relay, outcome.text, outcome.status, outcome.remote_reply)))
            return None
        cycle.has_deferred = True
        if delay_warning_due(message, job, now, settings):
            cycle.late.append((job, outcome))
            return None
        return self._waits(message, job, outcome)

    def _waits(self, message: QueuedMessage, job: Job, outcome: Deferred, *, warned: bool = False) -> JobResult:
        again = next_attempt_at(message.arrived_at, self._clock.now(), self._settings)
        return JobResult(message.number, job.number, outcome, again, warned)

    def _over(self, cycle: Cycle) -> None:
        if not cycle.has_deferred:
            if cycle.is_whole:
                self._record(MessageRemoved(cycle.message.id))
            else:
                self._perhaps_gone.append(cycle.message.number)
                if len(self._perhaps_gone) == 1:
                    self._start(self._tell_gone())
        cycle.over(cycle)

    async def _tell_gone(self) -> None:
        await asyncio.sleep(0)  # for company
        numbers = list(self._perhaps_gone)
        self._perhaps_gone.clear()
        try:
            existing = await self._shard.existing(numbers)
        except Exception as error:
            self._warn(f"cannot ask the queue whether messages are gone: {error}")
            return
        for number in numbers:
            if number not in existing:
                self._record(MessageRemoved(queue_id(number)))

    async def _report(self, cycle: Cycle) -> None:
        """Report first, then let the jobs go."""
        message = cycle.message
        failed, late, reportable = cycle.failed, cycle.late, cycle.reportable
        cycle.failed, cycle.late, cycle.reportable = [], [], []  # the cycle may go on with more jobs meanwhile
        try:
            results = await self._report_failures(cycle, failed)
            if late:
                warned = await self._sent(message, self._reporter.delayed(message, late), "a delay")
                results += [self._waits(message, job, outcome, warned=warned) for job, outcome in late]
            if reportable:
                await self._sent(message, self._reporter.delivered(message, reportable), "a success")
        except asyncio.CancelledError:  # the server stops: these jobs stay in the queue
            cycle.failed += failed
            cycle.late += late
            raise
        self._shard.finish(results)
        self._over(cycle)

    async def _report_failures(self, cycle: Cycle, failed: list[tuple[Job, Failed]]) -> list[JobResult]:
        message, body = cycle.message, cycle.message.body
        try:
            if body.content is None and body.path is None:
                message.body = await self._shard.body(message.number)
            if failed:
                await self._reporter.failed(message, failed)
        except Exception as error:
            self._warn(f"{message.id}: cannot queue the report of a failure, will try again: {error}")
            reason = Deferred("none", "cannot queue the report of a failure", "4.3.0")
            cycle.has_deferred = cycle.has_deferred or bool(failed)
            return [self._waits(message, job, reason) for job, _ in failed]
        return [JobResult(message.number, job.number, outcome) for job, outcome in failed]

    async def _sent(self, message: QueuedMessage, report: Coroutine[None, None, None], what: str) -> bool:
        try:
            await report
        except Exception as error:
            self._warn(f"{message.id}: cannot queue the report of {what}: {error}")
            return False
        return True

    def _warn(self, text: str) -> None:
        self._record(Notice("delivery", "warning", text))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
