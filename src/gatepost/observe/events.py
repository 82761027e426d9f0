"""Every event that is told, one class each; its docstring documents it. Rooms make events, `Journal` writes them.

An event holds facts, never text made for one log format, and never a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gatepost.mail.outcome import Outcome
from gatepost.mail.peer import Peer, TlsFacts
from gatepost.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """A client opened a session on a listener (`service`: smtpd, submission/smtpd, submissions/smtpd, lmtpd)."""

    service: str
    peer: Peer


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    """A session ended. `commands` counts the verbs as (accepted, all), in order of first use."""

    service: str
    peer: Peer
    commands: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TlsEstablished:
    """A handshake succeeded on a session we serve."""

    service: str
    peer: Peer
    tls: TlsFacts


@dataclass(frozen=True, slots=True)
class SessionBroken:
    """A session ended in disorder: `what` is "lost connection", "timeout" or the like, `after` the stage."""

    service: str
    peer: Peer
    what: str
    after: str


@dataclass(frozen=True, slots=True)
class LoginFailed:
    """A login was refused. `reason` is for the operator; the peer was told the same as for any other reason."""

    service: str
    peer: Peer
    mechanism: str
    login: str
    reason: str


@dataclass(frozen=True, slots=True)
class CommandRejected:
    """MAIL, RCPT, DATA or the message was refused. `queue_id` is "" before the message has one."""

    service: str
    peer: Peer
    stage: str
    reply: Reply
    sender: str
    recipient: str
    helo: str
    protocol: str  # "ESMTP"
    queue_id: str = ""
    login: str = ""
    restriction: str = ""  # the check that decided


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message was committed to the queue: `client` is None where we made it ourselves (a bounce)."""

    service: str
    queue_id: str
    peer: Peer | None
    message_id: str
    sender: str
    size: int  # bytes
    recipients: int
    login: str = ""
    mechanism: str = ""


@dataclass(frozen=True, slots=True)
class RecipientAttempted:
    """One attempt for one recipient ended. `delays`: seconds before the queue, in it, connecting, sending."""

    queue_id: str
    transport: Literal["maildir", "smtp"]
    recipient: str
    original: str  # as the sender wrote it; logged where it differs
    outcome: Outcome
    delay: float
    delays: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class MessageExpired:
    """The message waited longer than its queue lifetime and goes back to its sender."""

    queue_id: str
    sender: str


@dataclass(frozen=True, slots=True)
class ReportSent:
    """A report (RFC 3464) on `queue_id` entered the queue as `report_id`. `action` as the report's Action field."""

    queue_id: str
    report_id: str
    action: Literal["failed", "delayed", "delivered"]


@dataclass(frozen=True, slots=True)
class MessageRemoved:
    """No job of the message is left."""

    queue_id: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something an operator should know: started, reloaded, a worker died. `room`: who tells (master, worker, tls)."""

    room: str
    severity: Literal["note", "warning", "error"]
    text: str


Event: TypeAlias = (
    ClientConnected
    | ClientDisconnected
    | TlsEstablished
    | SessionBroken
    | LoginFailed
    | CommandRejected
    | MessageReceived
    | RecipientAttempted
    | MessageExpired
    | ReportSent
    | MessageRemoved
    | Notice
)

Record: TypeAlias = Callable[[Event], None]
"""What a room is handed to tell events with; it never blocks and never raises."""
