"""What intake puts on top of a message, and what it adds to or takes out of a submission's header block.

Only whole fields are added in front or left out; no foreign field is ever changed, folded or decoded, so DKIM signatures
over what came in stay good (a submission is signed after this).
"""

from __future__ import annotations

from gatepost.mail.content import header_fields, without_fields
from gatepost.mail.trace import date_text

_NEVER_ON = frozenset({b"bcc", b"resent-bcc"})  # RFC 5322 §3.6.3: the blind copies stay blind


def completed_submission(header: bytes, *, sender: str, queue_id: str, hostname: str, at: float) -> bytes:
    """A submission's header block with Date, Message-ID and From added where they are missing (RFC 6409 §8.2, §8.3)."""
    if b"bcc" in header.lower():
        header = without_fields(header, _NEVER_ON)
    present = {name for name, _ in header_fields(header)}
    added = []
    if b"from" not in present and sender:
        added.append(f"From: <{sender}>\r\n")
    if b"date" not in present:
        added.append(f"Date: {date_text(int(at))}\r\n")
    if b"message-id" not in present:
        added.append(f"Message-ID: <{queue_id}@{hostname}>\r\n")
    return "".join(added).encode() + header


def message_id(header: bytes) -> str:
    """The Message-ID for the log, "" where there is none."""
    at = (b"\n" + header).lower().find(b"\nmessage-id")
    if at < 0:
        return ""
    for name, value in header_fields(header[at:]):
        if name == b"message-id":
            return value.decode("utf-8", "replace")
    return ""
