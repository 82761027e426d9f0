"""What the queue keeps: messages, and their jobs (one recipient waiting each)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from gatepost.mail.address import Address
from gatepost.mail.content import header_length
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.outcome import Outcome
from gatepost.mail.queue_id import queue_id
from gatepost.mail.route import Route

CHUNK = 256 * 1024  # bytes read at once from a body file


class JobState(StrEnum):
    """Where a job stands. There is no state for "done": the row is gone."""

    ACTIVE = "active"  # in the memory of the worker that owns the shard, waiting for its turn or being attempted
    WAITING = "waiting"  # deferred until next_attempt_at
    HOLD = "hold"  # until an operator releases it


@dataclass(frozen=True, slots=True)
class Body:
    """The message as it will go on: trace fields, header and text, lines ending in CRLF. In memory, or in a file.

    A body in a file is complete, synced and never changes; it goes away with its message.
    """

    size: int  # bytes
    header: bytes  # the header block, trace fields included, cut at the header size limit
    content: bytes | None = None  # all of it, or None where it is in `path`
    path: Path | None = None

    @staticmethod
    def of(content: bytes) -> Body:
        """A body in memory."""
        return Body(len(content), content[: header_length(content)], content)

    def chunks(self) -> Iterator[bytes]:
        """All bytes in order, at most CHUNK at a time from a file. Raises OSError."""
        if self.content is not None:
            yield self.content
            return
        assert self.path is not None
        with self.path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk

    def read(self) -> bytes:
        """All bytes at once. Raises OSError."""
        return self.content if self.content is not None else b"".join(self.chunks())


@dataclass(slots=True)
class Job:
    """One recipient waiting. `number` counts from 0 within the message; together they name the job for good."""

    number: int
    recipient: Recipient  # who gets it, after forwards
    original: Address  # whom the sender wrote to (X-Original-To)
    route: Route
    state: JobState = JobState.ACTIVE
    attempts: int = 0  # attempts that ended in a deferral
    next_attempt_at: float = 0.0  # seconds since 1970
    last_reason: str = ""
    last_status: str = ""  # enhanced status of the last deferral
    delay_warned: bool = False


@dataclass(slots=True)
class QueuedMessage:
    """A message and those of its jobs that are at hand (all, when it has just arrived)."""

    number: int
    envelope: Envelope  # its `recipients` are those the sender named; `jobs` are where it goes
    body: Body
    arrived_at: float  # seconds since 1970
    jobs: list[Job] = field(default_factory=list)
    is_bounce: bool = False  # made by us to report on another message
    accept_seconds: float = 0.0  # from MAIL to the commit, Postfix's first `delays` figure
    activated_at: float = 0.0  # when it came into memory

    @property
    def id(self) -> str:
        """The queue ID in its twelve characters."""
        return queue_id(self.number)


@dataclass(frozen=True, slots=True)
class JobResult:
    """How an attempt ended for one job. `next_attempt_at` counts only for a Deferred outcome."""

    message: int
    job: int
    outcome: Outcome
    next_attempt_at: float = 0.0
    delay_warned: bool = False


@dataclass(frozen=True, slots=True)
class NewMessage:
    """What intake hands to the queue. The body is final but for its file being synced."""

    number: int
    envelope: Envelope
    body: Body
    jobs: Sequence[Job]
    arrived_at: float
    is_bounce: bool = False
