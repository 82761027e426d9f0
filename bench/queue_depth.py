"""What one message costs the queue with few and with very many others waiting: the real QueueShard, on the real disk.

Two figures for each depth, both from `SESSIONS` at a time so that commits are shared as under load:
  pass    add, then finish as delivered: the way of nearly every message
  retry   finish as deferred, due at once, take it again, finish as delivered: the way through the index of what is due
The depths take turns, round by round, on shards of their own. What waits has the same size and is due in a day.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import uvloop

from bench.contender import REMOTE_RECIPIENT, SENDER
from bench.source import shares
from gatepost.config.settings import QueueSettings
from gatepost.mail.address import parse_address
from gatepost.mail.clock import SystemClock
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.outcome import Deferred, Delivered, Outcome
from gatepost.mail.route import Route
from gatepost.queue.records import Body, Job, JobResult, NewMessage
from gatepost.queue.shard import QueueShard

SIZE = 4096  # bytes of text
SESSIONS = 20
TAKEN = 100  # jobs leased at a time
FILLERS = 1000  # messages added at a time while a shard is filled
DAY = 86400.0
TOLERANCE = 1.25  # a deep queue may cost so many times what a shallow one does and count as the same

_RECIPIENT = parse_address(REMOTE_RECIPIENT)
_ENVELOPE = Envelope(parse_address(SENDER), (Recipient(_RECIPIENT),))
_ROUTE = Route("smtp", "[127.0.0.1]:25")
_CONTENT = b"Subject: bench\r\n\r\n" + (b"X" * 78 + b"\r\n") * (SIZE // 80)
_DELIVERED = Delivered("127.0.0.1[127.0.0.1]:25", "250 2.0.0 Ok")
_DEFERRED = Deferred("127.0.0.1[127.0.0.1]:25", "450 4.2.0 Later")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one message, in microseconds."""

    elapsed: float
    cpu: float


@dataclass(slots=True)
class DepthCost:
    """All rounds at one depth."""

    depth: int
    passes: list[Cost] = field(default_factory=list)
    retries: list[Cost] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """By name: what a message costs in microseconds."""
        return {
            f"{name} {kind}": median(getattr(cost, kind) for cost in costs)
            for name, costs in (("pass", self.passes), ("retry", self.retries))
            for kind in ("elapsed", "cpu")
        }


def measure_queue_depth(
    depths: Sequence[int], *, rounds: int, messages: int, say: Callable[[str], None]
) -> list[DepthCost]:
    """Rounds of `messages` at each depth, turn and turn about."""
    return uvloop.run(_measure(depths, rounds, messages, say))


async def _measure(depths: Sequence[int], rounds: int, messages: int, say: Callable[[str], None]) -> list[DepthCost]:
    folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-queue-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        measured = []
        for number, depth in enumerate(depths):
            shard = QueueShard(folder / str(number), number, settings=QueueSettings(), clock=SystemClock())
            shard.open()
            stack.callback(shard.close)
            start = time.perf_counter()
            await _fill(shard, depth)
            say(f"{depth} messages wait in shard {number}, filled in {time.perf_counter() - start:.1f} s")
            measured.append((shard, DepthCost(depth)))
        for _ in range(rounds):
            for shard, cost in measured:
                cost.passes.append(await _cost(messages, _pass(shard, messages)))
                cost.retries.append(await _cost(messages, _retry(shard, messages)))
        return [cost for _, cost in measured]


async def _fill(shard: QueueShard, depth: int) -> None:
    due = time.time() + DAY
    for start in range(0, depth, FILLERS):
        numbers = await asyncio.gather(*(_add(shard) for _ in range(min(FILLERS, depth - start))))
        shard.finish([JobResult(number, 0, _DEFERRED, next_attempt_at=due) for number in numbers])
        await shard.next_due_at()


async def _cost(messages: int, way: Awaitable[None]) -> Cost:
    start, cpu = time.perf_counter(), time.process_time()
    await way
    return Cost(1e6 * (time.perf_counter() - start) / messages, 1e6 * (time.process_time() - cpu) / messages)


async def _add(shard: QueueShard) -> int:
    number = shard.next_number()
    job = Job(0, Recipient(_RECIPIENT), _RECIPIENT, _ROUTE)
    await shard.add(NewMessage(number, _ENVELOPE, Body.of(_CONTENT), [job], time.time()))
    return number


async def _pass(shard: QueueShard, messages: int) -> None:
    await _add_and_finish(shard, messages, lambda: (_DELIVERED, 0.0))
    await shard.next_due_at()  # answered when all results are written


async def _retry(shard: QueueShard, messages: int) -> None:
    await _add_and_finish(shard, messages, lambda: (_DEFERRED, time.time()))
    while due := await shard.take_due(TAKEN):
        shard.finish([JobResult(message.number, job.number, _DELIVERED) for message in due for job in message.jobs])
    await shard.next_due_at()


async def _add_and_finish(shard: QueueShard, messages: int, result: Callable[[], tuple[Outcome, float]]) -> None:
    async def session(count: int) -> None:
        for _ in range(count):
            number = await _add(shard)
            outcome, next_attempt_at = result()
            shard.finish([JobResult(number, 0, outcome, next_attempt_at)])

    await asyncio.gather(*map(session, shares(messages, SESSIONS)))
