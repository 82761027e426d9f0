"""Intake: makes jobs out of recipients and commits them with their message, in one transaction.

    incoming = intake.open(arrival)          at DATA: the message gets its queue ID
    incoming.write(piece) …                  as content arrives
    reply = await intake.commit(incoming, arrival, transaction)

The 250 of `commit` means that the message is on disk. After it, delivery is handed the message from memory; before it,
nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from gatepost.config.settings import ListenerSettings
from gatepost.intake.headers import completed_submission, message_id
from gatepost.intake.incoming import HeaderRules, Incoming, storage_reply
from gatepost.mail.address import Address
from gatepost.mail.clock import Clock
from gatepost.mail.content import header_length
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.peer import Identity, Peer, TlsFacts
from gatepost.mail.queue_id import queue_id
from gatepost.mail.reply import Reply
from gatepost.mail.trace import Hop, generated_field, received_field
from gatepost.observe.events import MessageReceived, Record
from gatepost.queue.records import Job, NewMessage, QueuedMessage
from gatepost.queue.shard import QueueShard
from gatepost.routing.router import Resolution, Router
from gatepost.storage.errors import StorageError

SUBMISSIONS = ("submission", "submissions")


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message comes in: everything its Received field and the log say."""

    number: int
    service: str
    listener: ListenerSettings
    peer: Peer
    helo: str
    protocol: str  # "ESMTPSA"
    tls: TlsFacts | None
    identity: Identity | None
    sender: Address | None
    recipient: Address | None  # where there is exactly one
    began_at: float  # of the transaction, seconds since 1970

    @property
    def id(self) -> str:
        """The queue ID."""
        return queue_id(self.number)


class NoWayNow(Exception):
    """A report has no way to its recipient until somebody mends a forward. The text is for the operator."""


class Intake:
    """The door of one worker, with one queue shard behind it."""

    def __init__(self, shard: QueueShard, router: Router, *, hostname: str, clock: Clock, record: Record) -> None:
        self._shard = shard
        self._router = router
        self._hostname = hostname
        self._clock = clock
        self._record = record
        self._submit: Callable[[QueuedMessage], None] | None = None
        self._has_room: Callable[[], bool] = lambda: True

    def use(self, router: Router, hostname: str) -> None:
        """Settings were reloaded."""
        self._router, self._hostname = router, hostname

    def lead_to(self, submit: Callable[[QueuedMessage], None], has_room: Callable[[], bool]) -> None:
        """Where accepted messages go on. `has_room` says whether one may stay in memory; else the queue keeps it until then."""
        self._submit, self._has_room = submit, has_room

    def next_number(self) -> int:
        """A queue number for the next message."""
        return self._shard.next_number()

    def open(self, arrival: Arrival) -> Incoming:
        """A message begins."""
        listener = arrival.listener
        rules = HeaderRules(
            listener.header_size_limit, listener.hopcount_limit, lambda header: self._dress(arrival, header)
        )
        return Incoming(self._shard.body_writer(arrival.number), rules)

    def _dress(self, arrival: Arrival, header: bytes) -> bytes:
        now = self._clock.now()
        if arrival.listener.role in SUBMISSIONS:
            sender = str(arrival.sender) if arrival.sender is not None else ""
            header = completed_submission(header, sender=sender, queue_id=arrival.id, hostname=self._hostname, at=now)
        hop = Hop(
            helo=arrival.helo,
            peer=arrival.peer,
            by=arrival.listener.hostname or self._hostname,
            queue_id=arrival.id,
            at=now,
            protocol=arrival.protocol,
            recipient=arrival.recipient,
            tls=arrival.tls,
            identity=arrival.identity if arrival.listener.authenticated_header else None,
        )
        return received_field(hop) + header

    async def commit(
        self, incoming: Incoming, arrival: Arrival, envelope: Envelope, resolutions: Iterable[Resolution]
    ) -> tuple[Reply, str]:
        """The answer to the end of the message, and for the operator the cause of a refusal ("" where there is none)."""
        body = incoming.finish()
        if body is None:
            assert incoming.refusal is not None
            return incoming.refusal, incoming.cause
        now = self._clock.now()
        jobs = _jobs(envelope, resolutions)
        message = NewMessage(arrival.number, envelope, body, jobs, now)
        try:
            queued = await self._shard.add(message, keep_active=self._has_room())
        except StorageError as error:
            incoming.discard()
            return storage_reply(error), str(error)
        queued.accept_seconds = self._clock.now() - arrival.began_at
        self._tell(queued, arrival, len(jobs))
        self._go_on(queued)
        return Reply(250, "2.0.0", f"Ok: queued as {arrival.id}"), ""

    def _tell(self, queued: QueuedMessage, arrival: Arrival, recipients: int) -> None:
        identity = arrival.identity
        self._record(
            MessageReceived(
                service=arrival.service,
                queue_id=arrival.id,
                peer=arrival.peer,
                message_id=message_id(queued.body.header),
                sender=queued.envelope.sender_text,
                size=queued.body.size,
                recipients=recipients,
                login=identity.login if identity is not None else "",
                mechanism=identity.mechanism if identity is not None else "",
            )
        )

    def _go_on(self, queued: QueuedMessage) -> None:
        if self._submit is not None and queued.activated_at:
            self._submit(queued)

    async def accept_report(self, content: bytes, recipient: Address, original_id: str) -> str:
        """A report (RFC 3464) to the sender of a message, from the null sender; its queue ID once it is on disk.

        "" where the recipient is one of ours that does not exist: then nobody is left to be told. Raises StorageError, and
        NoWayNow where the recipient's forwards are wrong: then the report is to be tried again.
        """
        resolution = await self._router.resolve(recipient)
        if resolution.fault:
            raise NoWayNow(f"report on {original_id} to {recipient}: {resolution.fault}")
        if resolution.refusal is not None:
            return ""
        number = self._shard.next_number()
        now = self._clock.now()
        content = generated_field(self._hostname, queue_id(number), now) + content
        writer = self._shard.body_writer(number)
        writer.write(content)
        to = Recipient(recipient, notify=frozenset(("NEVER",)))
        envelope = Envelope(None, (to,), eight_bit=True, smtputf8=not recipient.is_ascii)
        jobs = _jobs(envelope, [resolution])
        message = NewMessage(number, envelope, writer.finish(), jobs, now, is_bounce=True)
        try:
            queued = await self._shard.add(message, keep_active=self._has_room())
        except StorageError:
            writer.discard()
            raise
        self._record(
            MessageReceived(
                service="bounce",
                queue_id=queued.id,
                peer=None,
                message_id=message_id(content[: header_length(content)]),
                sender="",
                size=queued.body.size,
                recipients=len(jobs),
            )
        )
        self._go_on(queued)
        return queued.id


def _jobs(envelope: Envelope, resolutions: Iterable[Resolution]) -> list[Job]:
    """One job for each final address, however many ways lead to it."""
    jobs: dict[str, Job] = {}
    for recipient, resolution in zip(envelope.recipients, resolutions, strict=True):
        for target in resolution.targets:
            if target.address.key not in jobs:
                same = target.address == recipient.address
                final = recipient if same else replace(recipient, address=target.address)
                jobs[target.address.key] = Job(len(jobs), final, recipient.address, target.route)
    return list(jobs.values())
