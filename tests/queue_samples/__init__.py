"""Messages to queue, and a shard to queue them in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from gatepost.config.settings import Bytes, QueueSettings
from gatepost.mail.address import parse_address
from gatepost.mail.clock import Clock, FakeClock
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.mail.route import Route
from gatepost.queue.records import Job, JobResult, NewMessage, QueuedMessage
from gatepost.queue.shard import QueueShard

SETTINGS = QueueSettings(body_file_size=Bytes(8 * 1024))
ROUTE = Route("smtp", "[mx.b.test]:2525")
CONTENT = b"Subject: hello\r\nFrom: a@a.test\r\n\r\nHello.\r\n"
DELIVERED = Delivered("mx.b.test[127.0.0.1]:2525", "250 2.0.0 Ok")
FAILED = Failed("mx.b.test[127.0.0.1]:2525", "550 5.1.1 no such user", "5.1.1")
DEFERRED = Deferred("mx.b.test[127.0.0.1]:2525", "450 4.2.0 Greylisted", "4.2.0")


def jobs_for(*recipients: str, route: Route = ROUTE) -> list[Job]:
    return [
        Job(number, Recipient(parse_address(text)), parse_address(text), route)
        for number, text in enumerate(recipients)
    ]


def new_message(
    shard: QueueShard,
    *recipients: str,
    sender: str = "a@a.test",
    content: bytes = CONTENT,
    at: float = 1_800_000_000.0,
) -> NewMessage:
    """A message, its body written as intake does it."""
    number = shard.next_number()
    writer = shard.body_writer(number)
    writer.write(content)
    jobs = jobs_for(*(recipients or ("u@b.test",)))
    named = tuple(job.recipient for job in jobs)
    envelope = Envelope(parse_address(sender) if sender else None, named)
    return NewMessage(number, envelope, writer.finish(), jobs, at)


def results(message: QueuedMessage, outcome: Delivered | Failed | Deferred, at: float = 0.0) -> list[JobResult]:
    return [JobResult(message.number, job.number, outcome, at) for job in message.jobs]


@asynccontextmanager
async def shard_in(
    folder: Path, clock: Clock | None = None, *, number: int = 1, settings: QueueSettings = SETTINGS
) -> AsyncIterator[QueueShard]:
    shard = QueueShard(folder / str(number), number, settings=settings, clock=clock or FakeClock())
    shard.open()
    try:
        yield shard
    finally:
        shard.close()


def numbers(messages: Sequence[QueuedMessage]) -> list[int]:
    return [message.number for message in messages]
