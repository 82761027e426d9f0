"""The words of the client machine: what it asks of a peer, what it learns, what it tells its driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.reply import Reply


class Stage(Enum):
    """What was last asked of the peer: (what we were doing, the command's name), in Postfix's words."""

    GREETING = ("receiving the initial server greeting", "connection")
    EHLO = ("performing the EHLO handshake", "EHLO command")
    HELO = ("performing the HELO handshake", "HELO command")
    STARTTLS = ("performing the STARTTLS handshake", "STARTTLS command")
    MAIL = ("sending MAIL FROM", "MAIL FROM command")
    RCPT = ("sending RCPT TO", "RCPT TO command")
    DATA = ("sending DATA command", "DATA command")
    CONTENT = ("sending message body", "end of DATA command")
    END = ("sending end of data -- message may be sent more than once", "end of DATA command")
    RSET = ("sending RSET", "RSET command")
    QUIT = ("sending QUIT", "QUIT command")
    IDLE = ("waiting for the next message", "nothing")

    def __init__(self, doing: str, command: str) -> None:
        self.doing = doing
        self.command = command


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the peer's EHLO reply offers. `size_limit` is bytes, 0 for none told."""

    extended: bool = False
    pipelining: bool = False
    size: bool = False
    size_limit: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    chunking: bool = False
    enhanced_status_codes: bool = False
    auth: frozenset[str] = frozenset()


@dataclass(slots=True)
class Transaction:
    """One MAIL…end of data: what is sent, and what the peer answered so far (`rcpt` in the order of `recipients`)."""

    envelope: Envelope
    recipients: Sequence[Recipient]
    size: int  # bytes of content
    smtputf8: bool = False  # whether the SMTPUTF8 parameter is needed
    mail: Reply | None = None
    rcpt: list[Reply] = field(default_factory=list)
    data: Reply | None = None
    end: Reply | None = None
    content_complete: bool = False  # the final dot is on its way

    @property
    def has_accepted_recipient(self) -> bool:
        """Whether content has anybody to go to."""
        return self.mail is not None and self.mail.code < 300 and any(reply.code < 300 for reply in self.rcpt)


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer greeted us with 220."""


@dataclass(frozen=True, slots=True)
class Introduced:
    """EHLO, or HELO after it, was accepted."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class TlsAccepted:
    """The peer waits for our TLS ClientHello. Whatever else it sent before was dropped."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The greeting, HELO or STARTTLS was answered with 4yz or 5yz."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class ContentWanted:
    """Send the content of this transaction now."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class TransactionEnded:
    """All answers are in."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class ShuttingDown:
    """421: the peer closes. Transactions not yet ended never will be."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class Farewell:
    """QUIT was answered."""


Event: TypeAlias = (
    Greeted | Introduced | TlsAccepted | Refused | ContentWanted | TransactionEnded | ShuttingDown | Farewell
)


def parse_capabilities(reply: Reply) -> Capabilities:
    """What an EHLO reply offers; its first line is the peer's greeting (RFC 5321 §4.1.1.1). Unknown lines are ignored."""
    offered: dict[str, list[str]] = {}
    mechanisms: set[str] = set()
    for line in reply.text.split("\n")[1:]:
        keyword, *parameters = line.upper().replace("AUTH=", "AUTH ", 1).split() or [""]
        offered[keyword] = parameters
        if keyword == "AUTH":
            mechanisms.update(parameters)
    size = (offered.get("SIZE") or [""])[0]
    return Capabilities(
        extended=True,
        pipelining="PIPELINING" in offered,
        size="SIZE" in offered,
        size_limit=int(size) if size.isascii() and size.isdigit() and len(size) <= 20 else 0,  # RFC 1870 §4
        eight_bit="8BITMIME" in offered,
        smtputf8="SMTPUTF8" in offered,
        dsn="DSN" in offered,
        starttls="STARTTLS" in offered,
        chunking="CHUNKING" in offered,
        enhanced_status_codes="ENHANCEDSTATUSCODES" in offered,
        auth=frozenset(mechanisms),
    )
