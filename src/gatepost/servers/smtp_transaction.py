"""One transaction: MAIL, RCPT… and the message, judged by policy and handed to intake.

Replies name the recipient, as Postfix's do; causes that only the operator may know go to the log.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gatepost.intake.accept import Arrival
from gatepost.intake.incoming import Incoming, storage_reply
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.peer import Identity, Peer, TlsFacts
from gatepost.mail.queue_id import queue_id
from gatepost.mail.reply import Reply
from gatepost.mail.trace import received_protocol
from gatepost.observe.events import CommandRejected, Notice
from gatepost.policy.situation import Situation
from gatepost.protocols.smtp.commands import Mail, Rcpt
from gatepost.protocols.smtp.server import ContentEnd
from gatepost.routing.router import Resolution
from gatepost.servers.smtp_service import SmtpService
from gatepost.storage.errors import StorageError

SENDER_OK = Reply(250, "2.1.0", "Ok")
RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
SEND_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
TOO_MANY = Reply(452, "4.5.3", "Too many recipients")
OVERSHOOT = 1000  # so many recipients beyond the limit count as no errors (Postfix smtpd_recipient_overshoot_limit)


@dataclass(slots=True)
class Client:
    """What the session knows of the other side."""

    peer: Peer
    helo: str = ""
    extended: bool = False
    tls: TlsFacts | None = None
    identity: Identity | None = None


@dataclass(slots=True)
class Transaction:
    """From MAIL to the end of the message."""

    service: SmtpService
    client: Client
    envelope: Envelope
    began_at: float
    recipients: list[Recipient] = field(default_factory=list)
    resolutions: list[Resolution] = field(default_factory=list)
    refused: int = 0
    _arrival: Arrival | None = None
    _incoming: Incoming | None = None

    @staticmethod
    def begin(service: SmtpService, client: Client, mail: Mail) -> Transaction:
        """After MAIL was accepted."""
        asked = mail.parameters
        envelope = Envelope(
            sender=mail.sender,
            eight_bit=asked.eight_bit,
            smtputf8=asked.smtputf8,
            ret=asked.ret,
            envid=asked.envid,
        )
        return Transaction(service, client, envelope, service.clock.now())

    async def add(self, rcpt: Rcpt) -> Reply:
        """May this recipient be added? Then it is."""
        if len(self.recipients) >= self.service.listener.recipient_limit:
            self.refused += 1
            return TOO_MANY  # RFC 5321 §4.5.3.1.10
        reply, restriction = await self._judge(rcpt)
        if reply.is_positive:
            return reply
        self._tell_refused("RCPT", reply, str(rcpt.recipient), restriction)
        return reply

    async def _judge(self, rcpt: Rcpt) -> tuple[Reply, str]:
        if not rcpt.recipient.is_ascii and not self.envelope.smtputf8:
            return Reply(553, "5.6.7", "A recipient with non-ASCII characters needs SMTPUTF8 in MAIL"), "SMTPUTF8"
        try:
            resolution = await self.service.router.resolve(rcpt.recipient)
            verdict = await self.service.chain.judge(self._situation(resolution))
        except StorageError as error:
            self.service.record(Notice("directory", "error", str(error)))
            return storage_reply(error), "directory"
        if resolution.fault:
            self.service.record(Notice("directory", "warning", f"mail for {rcpt.recipient}: {resolution.fault}"))
        if verdict.refusal is not None:
            return verdict.refusal, verdict.restriction
        self.recipients.append(Recipient(rcpt.recipient, rcpt.parameters.notify, rcpt.parameters.orcpt))
        self.resolutions.append(resolution)
        return RECIPIENT_OK, ""

    def _situation(self, resolution: Resolution) -> Situation:
        client = self.client
        return Situation(
            self.service.listener, client.peer, client.helo, client.identity, self.envelope.sender, resolution
        )

    def open(self) -> Reply:
        """The message begins: it gets its queue ID."""
        client = self.client
        arrival = Arrival(
            number=self.service.intake.next_number(),
            service=self.service.log_name,
            listener=self.service.listener,
            peer=client.peer,
            helo=client.helo or "unknown",
            protocol=self._protocol(),
            tls=client.tls,
            identity=client.identity,
            sender=self.envelope.sender,
            recipient=self.recipients[0].address if len(self.recipients) == 1 else None,
            began_at=self.began_at,
        )
        self._arrival = arrival
        self._incoming = self.service.intake.open(arrival)
        return SEND_DATA

    def write(self, piece: bytes) -> None:
        """A piece of the message."""
        if self._incoming is None:
            self.open()  # BDAT has no word of its own for the beginning
        assert self._incoming is not None
        self._incoming.write(piece)

    async def commit(self, end: ContentEnd) -> Reply:
        """The message has ended: the answer, after which it is on disk if the answer is positive."""
        if self._incoming is None:
            self.open()
        assert self._incoming is not None and self._arrival is not None
        if end.fault is not None:
            self._incoming.discard()
            reply, cause = end.fault, ""
        else:
            reply, cause = await self.service.intake.commit(
                self._incoming, self._arrival, self._whole_envelope(), self.resolutions
            )
        if cause:
            self.service.record(Notice("intake", "error", f"{queue_id(self._arrival.number)}: {cause}"))
        if not reply.is_positive:
            self._tell_refused("END-OF-MESSAGE", reply, ", ".join(str(one.address) for one in self.recipients[:5]), "")
        return reply

    def _whole_envelope(self) -> Envelope:
        begun = self.envelope
        return Envelope(
            begun.sender,
            tuple(self.recipients),
            begun.eight_bit,
            begun.smtputf8,
            begun.ret,
            begun.envid,
        )

    def abandon(self) -> None:
        """RSET, a new HELO, or the client went away: nothing of it is kept."""
        if self._incoming is not None:
            self._incoming.discard()

    def _tell_refused(self, stage: str, reply: Reply, recipient: str, restriction: str) -> None:
        client = self.client
        self.service.record(
            CommandRejected(
                service=self.service.log_name,
                peer=client.peer,
                stage=stage,
                reply=reply,
                sender=self.envelope.sender_text,
                recipient=recipient,
                helo=client.helo,
                protocol=self._protocol(),
                queue_id=queue_id(self._arrival.number) if self._arrival is not None else "",
                login=client.identity.login if client.identity is not None else "",
                restriction=restriction,
            )
        )

    def _protocol(self) -> str:
        return received_protocol(
            lmtp=self.service.rules.lmtp,
            extended=self.client.extended,
            tls=self.client.tls is not None,
            authenticated=self.client.identity is not None,
            smtputf8=self.envelope.smtputf8,
        )
