"""Reports to senders: this could not be delivered, this is late, this arrived (RFC 3464; RFC 3461 §6 says when).

`ReportWriter` composes, pure but for the body it may read: a multipart/report (RFC 6522) of three parts, plain English
(dsn_text.py), delivery-status fields, and the message or its header. The header alone is returned where the sender
wishes so (RET=HDRS), where the message is larger than MAX_RETURNED bytes, and always in reports of delays and successes
(RFC 3461 §4.3). Where an address, or the header of a message that came with SMTPUTF8, is not ASCII, the parts are
message/global-* (RFC 6533), in UTF-8; else the fields are ASCII. The report's own header is ASCII unless its
recipient's address is not.

Nothing that others sent (addresses, answers, ENVID) can start a field or a line: control characters become `?`.

`Reports` decides whom to tell and puts reports into the queue. No report answers a report: mail from the null sender, and
our own reports, end with a Notice in the log. A report's own sender is the null sender, so it cannot come back as another.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from time import gmtime, strftime
from typing import Literal, TypeAlias

from gatepost.delivery.dsn_text import Entry, Letter, delay_text, entry, failure_text, printable, success_text
from gatepost.mail.address import Address
from gatepost.mail.clock import Clock
from gatepost.mail.content import header_fields, without_fields
from gatepost.mail.envelope import Notify
from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.observe.events import Notice, Record, ReportSent
from gatepost.queue.records import Job, QueuedMessage

MAX_RETURNED = 50_000  # bytes of a message that is returned whole, and of a header (Postfix bounce_size_limit)

_FOLD_AT = 76  # characters
_MAX_PIECE = 900  # octets without a place to fold
_WORD = re.compile(r" +[^ ]+")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,500}>")
_RETURN_PATH = frozenset({b"return-path"})
_DESCRIPTIONS = {"rfc822": "Undelivered Message", "headers": "Undelivered Message Headers"}

Send: TypeAlias = Callable[[bytes, Address, str], Awaitable[str]]
"""The door into the queue: a report, whom it goes to, and the queue ID of the message it is on. Gives the report's own
queue ID once it is committed, or raises: then the caller keeps the jobs and reports later. The report goes out from the
null sender, with SMTPUTF8 where the recipient's address is not ASCII."""


def _random_token() -> str:
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class ReportWriter:
    """Composes reports. Each method gives the whole message, lines ending in CRLF; the message must have a sender."""

    hostname: str
    postmaster: Address  # whom the text tells to ask
    clock: Clock
    queue_lifetime: float  # seconds after its arrival that a message is tried
    token: Callable[[], str] = _random_token  # for Message-ID and boundary: letters and digits

    def failure_report(self, message: QueuedMessage, ends: Sequence[tuple[Job, Failed]]) -> bytes:
        """These recipients will never get it."""
        entries = [entry("failed", job, failed) for job, failed in ends]
        full = message.envelope.ret != "HDRS" and message.body.size <= MAX_RETURNED
        original = _returned_message(message) if full else None
        letter = self._letter(message, "message" if original is not None else "header")
        text = failure_text(letter, entries)
        return self._compose("Undelivered Mail Returned to Sender", message, entries, text, original)

    def delay_report(self, message: QueuedMessage, ends: Sequence[tuple[Job, Deferred]]) -> bytes:
        """These recipients have not got it yet."""
        entries = [entry("delayed", job, deferred) for job, deferred in ends]
        text = delay_text(self._letter(message, "header"), entries)
        return self._compose("Delayed Mail (still being retried)", message, entries, text, None)

    def success_report(self, message: QueuedMessage, ends: Sequence[tuple[Job, Delivered]]) -> bytes:
        """These recipients have it, or a host that will not tell more has it for them."""
        entries = _success_entries(message, ends)
        text = success_text(self._letter(message, "header"), entries)
        return self._compose("Successful Mail Delivery Report", message, entries, text, None)

    def _letter(self, message: QueuedMessage, attached: Literal["message", "header"]) -> Letter:
        retry_until = message.arrived_at + self.queue_lifetime
        return Letter(self.hostname, self.postmaster, message.id, message.arrived_at, retry_until, attached)

    def _compose(
        self, subject: str, message: QueuedMessage, entries: Sequence[Entry], text: str, original: bytes | None
    ) -> bytes:
        is_global = not _is_ascii(message, entries)
        status = self._delivery_status(message, entries, is_global)
        returned = original if original is not None else _returned_header(message)
        kinds = _GLOBAL if is_global else _PLAIN
        what = "rfc822" if original is not None else "headers"
        charset = "us-ascii" if text.isascii() else "utf-8"
        parts = [
            _part(f"text/plain; charset={charset}", "Notification", text.replace("\n", "\r\n").encode()),
            _part(kinds["status"], "Delivery report", status),
            _part(kinds[what], _DESCRIPTIONS[what] if entries[0].action == "failed" else "Message Headers", returned),
        ]
        token = self.token()
        boundary = _boundary(token, parts)
        delimiter = b"\r\n--" + boundary.encode()
        content = b"".join(delimiter + b"\r\n" + part for part in parts) + delimiter + b"--\r\n"
        encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
        return b"".join(self._header(subject, message, token, boundary)) + encoding + b"\r\n" + content

    def _header(self, subject: str, message: QueuedMessage, token: str, boundary: str) -> Iterable[bytes]:
        now = self.clock.now()
        stamp = strftime("%Y%m%d%H%M%S", gmtime(now))
        yield _field("Date", formatdate(now, localtime=True))
        yield _field("From", f"MAILER-DAEMON@{self.hostname} (Mail Delivery System)")
        yield _field("Subject", subject)
        yield _field("To", message.envelope.sender_text)
        yield _field("Auto-Submitted", "auto-replied")  # RFC 3834 §5
        yield _field("Message-ID", f"<{stamp}.{message.id}.{token}@{self.hostname}>")
        original_id = _message_id(message)
        if original_id:
            yield _field("In-Reply-To", original_id)
            yield _field("References", original_id)
        yield _field("MIME-Version", "1.0")
        yield f'Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary="{boundary}"\r\n'.encode()

    def _delivery_status(self, message: QueuedMessage, entries: Sequence[Entry], is_global: bool) -> bytes:
        """RFC 3464 §2.1: the fields of the message, then those of each recipient, empty lines between."""
        sender = message.envelope.sender
        fields = [("Reporting-MTA", f"dns; {self.hostname}")]
        if message.envelope.envid:
            fields.append(("Original-Envelope-Id", message.envelope.envid))  # RFC 3464 §2.2.1
        fields.append(("X-Gatepost-Queue-ID", message.id))
        if sender is not None:
            fields.append(("X-Gatepost-Sender", _typed(sender)))
        fields.append(("Arrival-Date", formatdate(message.arrived_at, localtime=True)))
        blocks = [fields]
        for each in entries:
            blocks.append(_recipient_fields(each))
            if each.action == "delayed":
                until = message.arrived_at + self.queue_lifetime
                blocks[-1].append(("Will-Retry-Until", formatdate(until, localtime=True)))  # RFC 3464 §2.3.9
        ascii_only = not is_global
        return b"\r\n".join(
            b"".join(_field(name, value, ascii_only=ascii_only) for name, value in block) for block in blocks
        )


# RFC 3464 §2.1, RFC 6522 §4, RFC 6533 §4
_PLAIN = {"status": "message/delivery-status", "rfc822": "message/rfc822", "headers": "text/rfc822-headers"}
_GLOBAL = {
    "status": "message/global-delivery-status",
    "rfc822": "message/global",
    "headers": "message/global-headers",
}


def _success_entries(message: QueuedMessage, ends: Sequence[tuple[Job, Delivered]]) -> list[Entry]:
    """`delivered` into a mailbox of ours, `relayed` to a host that does not report, or `expanded`, once for a forward to
    several addresses of which some were relayed (RFC 3464 §2.3.3)."""
    fan_out = Counter(job.original.key for job in {job.number: job for job in (*message.jobs, *_jobs(ends))}.values())
    entries: list[Entry] = []
    expanded: set[str] = set()
    for job, delivered in ends:
        original = job.original.key
        if job.route.transport == "maildir":
            entries.append(entry("delivered", job, delivered))
        elif fan_out[original] == 1:
            entries.append(entry("relayed", job, delivered))
        elif original not in expanded:
            expanded.add(original)
            entries.append(entry("expanded", job, delivered))
    return entries


def _jobs(ends: Sequence[tuple[Job, Delivered]]) -> Iterable[Job]:
    return (job for job, _ in ends)


def _recipient_fields(each: Entry) -> list[tuple[str, str]]:
    """RFC 3464 §2.3."""
    fields = [
        ("Final-Recipient", _typed(each.recipient)),
        ("Original-Recipient", each.orcpt or _typed(each.original)),
        ("Action", each.action),
        ("Status", each.status),
    ]
    if each.remote:
        fields.append(("Remote-MTA", f"dns; {each.remote}"))
    if each.said:
        fields.append(("Diagnostic-Code", f"{'smtp' if each.remote else 'X-Gatepost'}; {each.said}"))
    return fields


def _typed(address: Address) -> str:
    """RFC 3464 §2.1.2 address types; `utf-8` is RFC 6533 §3's."""
    return f"{'rfc822' if address.is_ascii else 'utf-8'}; {address}"


def _is_ascii(message: QueuedMessage, entries: Sequence[Entry]) -> bool:
    envelope = message.envelope
    if envelope.smtputf8 and not message.body.header.isascii():  # RFC 6532 header fields
        return False
    return envelope.sender_text.isascii() and all(each.is_ascii for each in entries)


def _message_id(message: QueuedMessage) -> str:
    """The message's own Message-ID where it has one that cannot do harm, else ""."""
    for name, value in header_fields(message.body.header):
        if name == b"message-id":
            return value.decode() if _MESSAGE_ID.fullmatch(value) else ""
    return ""


def _return_path(message: QueuedMessage) -> bytes:
    return _field("Return-Path", f"<{message.envelope.sender_text}>")


def _returned_message(message: QueuedMessage) -> bytes | None:
    """The message as it came, the sender on top. None where its file cannot be read: then the header must do."""
    try:
        content = message.body.read()
    except OSError:
        return None
    end = len(message.body.header)
    header = without_fields(content[:end], _RETURN_PATH)
    return _return_path(message) + header + content[end:]


def _returned_header(message: QueuedMessage) -> bytes:
    """The header block, cut after a whole line where it is longer than a report should be."""
    header = without_fields(message.body.header, _RETURN_PATH)
    if len(header) > MAX_RETURNED:
        header = header[: header.rfind(b"\r\n", 0, MAX_RETURNED) + 2]
    return _return_path(message) + header


def _part(content_type: str, description: str, content: bytes) -> bytes:
    """A body part whose last CRLF belongs to the delimiter that follows (RFC 2046 §5.1.1)."""
    encoding = "" if content.isascii() else "Content-Transfer-Encoding: 8bit\r\n"
    head = f"Content-Description: {description}\r\nContent-Type: {content_type}\r\n{encoding}\r\n"
    return head.encode() + content


def _boundary(token: str, parts: Sequence[bytes]) -> str:
    """One that no part holds, whatever a sender guessed."""
    boundary = f"=_{token}"
    while any(boundary.encode() in part for part in parts):
        boundary += "_"
    return boundary


def _field(name: str, value: str, *, ascii_only: bool = False) -> bytes:
    """A field, folded before white space near _FOLD_AT characters (RFC 5322 §2.2.3), CRLF at each end of line."""
    shown = printable(value)
    if ascii_only:
        shown = shown.encode("ascii", "replace").decode()
    lines = [f"{name}:"]
    for piece in _pieces(f" {shown}"):
        if lines[-1] != f"{name}:" and len(lines[-1]) + len(piece) > _FOLD_AT:
            lines.append(piece)
        else:
            lines[-1] += piece
    return "\r\n".join(lines).encode() + b"\r\n"


def _pieces(text: str) -> Iterable[str]:
    """What may stand on a line of its own: white space and a word. Words too long for any line are cut up."""
    for piece in _WORD.findall(text):
        if len(piece.encode()) <= _MAX_PIECE:
            yield piece
        else:
            word, length = piece.strip(), _MAX_PIECE // 4  # no character has more octets than 4
            yield from (f" {word[at : at + length]}" for at in range(0, len(word), length))


class Reports:
    """Tells senders what became of their mail, as far as they want to know."""

    def __init__(self, writer: ReportWriter, send: Send, record: Record) -> None:
        self._writer = writer
        self._send = send
        self._record = record

    async def failed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Failed]]) -> None:
        """One report on all these recipients but those with NOTIFY=NEVER. Raises what `send` raises."""
        if not ends:
            return
        if message.is_bounce or message.envelope.sender is None:
            # RFC 5321 §4.5.5, §6.1: a report on a report would have nobody to go to, or never end.
            names = ", ".join(str(job.recipient.address) for job, _ in ends)
            text = (
                f"{message.id}: undeliverable report or mail without a sender dropped, for {names}: {ends[0][1].text}"
            )
            self._record(Notice("bounce", "warning", printable(text)))
            return
        wanted = [(job, end) for job, end in ends if _wants(job, "FAILURE")]
        if wanted:
            await self._report(message, "failed", self._writer.failure_report(message, wanted))

    async def delayed(self, message: QueuedMessage, ends: Sequence[tuple[Job, Deferred]]) -> None:
        """One report on all these recipients whose sender wants to know of delays. Raises what `send` raises."""
        wanted = [(job, end) for job, end in ends if _wants(job, "DELAY")]
        if wanted and not message.is_bounce:
            await self._report(message, "delayed", self._writer.delay_report(message, wanted))

    async def delivered(self, message: QueuedMessage, ends: Sequence[tuple[Job, Delivered]]) -> None:
        """One report on these recipients whose sender asked for it, and whose next hop does not report itself."""
        wanted = [(job, end) for job, end in ends if _wants(job, "SUCCESS") and not end.dsn_passed_on]
        if wanted and not message.is_bounce:
            await self._report(message, "delivered", self._writer.success_report(message, wanted))

    async def _report(
        self, message: QueuedMessage, action: Literal["failed", "delayed", "delivered"], report: bytes
    ) -> None:
        if message.envelope.sender is None:
            return
        report_id = await self._send(report, message.envelope.sender, message.id)
        self._record(ReportSent(message.id, report_id, action))


def _wants(job: Job, what: Notify) -> bool:
    return job.recipient.wants(what)
