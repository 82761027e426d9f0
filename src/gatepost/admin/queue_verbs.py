"""What people do with the queue, whichever face they do it through.

`QueueInspector` finds and changes; here changes are told to the running server, what was done is put into a sentence, and
a message into plain values. Raises StorageError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from gatepost.admin.residents import Done
from gatepost.mail.queue_id import queue_id
from gatepost.queue.inspect import Change, ListedMessage, QueueFilter, QueueInspector
from gatepost.queue.records import Job, QueuedMessage

Verb: TypeAlias = Literal["retry", "hold", "release", "delete"]
Poke: TypeAlias = Callable[[Sequence[str]], None]

POKE_AT_ONCE = 5000  # queue IDs

_SAID: dict[Verb, str] = {"retry": "due now", "hold": "on hold", "release": "released and due now", "delete": "deleted"}


class QueueVerbs:
    """The verbs. `poke` tells the running server, if there is one, which messages (queue IDs) were changed."""

    def __init__(self, inspector: QueueInspector, poke: Poke) -> None:
        self._inspector = inspector
        self._poke = poke

    def messages(self, which: QueueFilter) -> Iterator[ListedMessage]:
        """Messages with the jobs that match, in order of arrival."""
        return self._inspector.messages(which)

    def show(self, number: int) -> QueuedMessage | None:
        """One message with everything, None where there is none."""
        return self._inspector.show(number)

    def change(self, verb: Verb, which: QueueFilter) -> tuple[Done, Change]:
        """Retry, hold, release or delete what matches. The notes name what was asked for by its ID and is not there."""
        missing = self._inspector.missing(which.numbers) if which.numbers is not None else set()
        change: Change = getattr(self._inspector, verb)(which)
        ids = change.ids
        for at in range(0, len(ids), POKE_AT_ONCE):
            self._poke(ids[at : at + POKE_AT_ONCE])
        notes = tuple(f"{queue_id(number)} is not in the queue" for number in sorted(missing))
        return Done(f"{counted(change)} {_SAID[verb]}", notes), change


def counted(change: Change) -> str:
    """`3 recipients of 2 messages`."""
    return f"{_number(change.jobs, 'recipient')} of {_number(len(change.numbers), 'message')}"


def listed_values(message: ListedMessage) -> dict[str, Any]:
    """A listed message as plain values. Times are ISO 8601, UTC; sizes are bytes."""
    return {
        "id": message.id,
        "sender": message.sender,
        "size": message.size,
        "arrived_at": _iso(message.arrived_at),
        "bounce": message.is_bounce,
        "recipients": [_job_values(job) for job in message.jobs],
    }


def shown_values(message: QueuedMessage) -> dict[str, Any]:
    """A whole message as plain values, with its envelope and header block."""
    envelope = message.envelope
    return {
        "id": message.id,
        "sender": envelope.sender_text,
        "size": message.body.size,
        "arrived_at": _iso(message.arrived_at),
        "bounce": message.is_bounce,
        "named_recipients": [str(recipient.address) for recipient in envelope.recipients],
        "eight_bit": envelope.eight_bit,
        "smtputf8": envelope.smtputf8,
        "ret": envelope.ret,
        "envid": envelope.envid,
        "recipients": [_job_values(job) for job in message.jobs],
        "header": message.body.header.decode("utf-8", "replace"),
    }


def _job_values(job: Job) -> dict[str, Any]:
    return {
        "address": str(job.recipient.address),
        "original": str(job.original),
        "notify": sorted(job.recipient.notify),
        "orcpt": job.recipient.orcpt,
        "route": str(job.route),
        "state": job.state.value,
        "attempts": job.attempts,
        "next_attempt_at": _iso(job.next_attempt_at),
        "last_reason": job.last_reason,
        "last_status": job.last_status,
        "delay_warned": job.delay_warned,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
