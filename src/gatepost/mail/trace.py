"""Trace fields: what each host that had the message puts on top of it (RFC 5321 §4.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from gatepost.mail.address import Address
from gatepost.mail.content import header_fields
from gatepost.mail.peer import Identity, Peer, TlsFacts

_UNFIT = re.compile(r"[\x00-\x20()<>\\\x7f-\xa0\u2028\u2029]")  # what would end the word or the comment it stands in


@dataclass(frozen=True, slots=True)
class Hop:
    """One receipt of one message: everything a Received field tells."""

    helo: str
    peer: Peer
    by: str  # our host name
    queue_id: str
    at: float  # seconds since 1970
    protocol: str  # "ESMTP", "LMTP"
    recipient: Address | None = None  # only where there is exactly one (RFC 5321 §7.2 on privacy)
    tls: TlsFacts | None = None
    identity: Identity | None = None  # shown only where the listener says so


def received_protocol(*, lmtp: bool, extended: bool, tls: bool, authenticated: bool, smtputf8: bool) -> str:
    """The word after `with` (RFC 3848; RFC 6531 §4.3 for UTF8SMTP and UTF8LMTP)."""
    word = "LMTP" if lmtp else "SMTP"
    if smtputf8:
        word = f"UTF8{word}"
    elif extended and not lmtp:
        word = f"E{word}"
    return word + "S" * tls + "A" * authenticated


def received_field(hop: Hop) -> bytes:
    """The Received field for a hop, folded, CRLF at each end of line (RFC 5321 §4.4).

    What the peer chose (`helo`, its name in DNS) can end neither its place nor the field: what could becomes `?`.
    """
    address = f"IPv6:{hop.peer.address}" if ":" in hop.peer.address else hop.peer.address or "local socket"
    lines = [f"Received: from {_word(hop.helo)} ({_word(hop.peer.name)} [{address}])"]
    if hop.tls is not None:
        lines.append(f"\t(using {hop.tls.version} with cipher {hop.tls.cipher} ({hop.tls.bits} bits))")
    if hop.identity is not None:
        lines.append(f"\t(Authenticated sender: {_word(str(hop.identity.account))})")
    lines.append(f"\tby {hop.by} (Gatepost) with {hop.protocol} id {hop.queue_id}")
    date = date_text(int(hop.at))
    lines.append(f"\tfor <{hop.recipient}>; {date}" if hop.recipient is not None else f"\t; {date}")
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n"


@lru_cache(maxsize=4)
def date_text(second: int) -> str:
    """A time (seconds since 1970) as header fields write it, in local time (RFC 5322 §3.3)."""
    return formatdate(second, localtime=True)


def _word(text: str) -> str:
    return _UNFIT.sub("?", text)


def count_received(header: bytes) -> int:
    """How many hops the message has had: RFC 5321 §6.3 counts Received fields to stop loops."""
    return sum(1 for name, _ in header_fields(header) if name == b"received")


def delivered_to(header: bytes) -> frozenset[str]:
    """The addresses, in lower case, this message was already delivered to (Postfix's loop rule)."""
    return frozenset(
        value.decode("utf-8", "replace").lower() for name, value in header_fields(header) if name == b"delivered-to"
    )


def generated_field(by: str, queue_id: str, at: float) -> bytes:
    """The Received field of a message we made ourselves, such as a bounce."""
    return f"Received: by {by} (Gatepost)\r\n\tid {queue_id}; {date_text(int(at))}\r\n".encode()
