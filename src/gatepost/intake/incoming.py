"""Incoming: one message on its way in.

Pieces of content are written as they arrive. The header block is held until it is complete, so that it can be checked (size,
hops) and trace fields be put on top; then everything goes to the shard's body writer, which keeps small bodies in memory and
large ones in a file. Whatever goes wrong is kept as `refusal` and told when the message ends; the rest is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatepost.mail.content import header_length
from gatepost.mail.reply import Reply
from gatepost.mail.trace import count_received
from gatepost.queue.bodies import BodyWriter
from gatepost.queue.records import Body
from gatepost.storage.errors import StorageError, StorageFull

HEADER_TOO_BIG = Reply(552, "5.3.4", "Header block is larger than this server takes")
TOO_MANY_HOPS = Reply(554, "5.4.6", "Too many hops: the message goes in a circle")
NO_SPACE = Reply(452, "4.3.1", "Insufficient system storage; try again later")
NOT_NOW = Reply(451, "4.3.0", "Temporary failure; try again later")


def storage_reply(error: StorageError) -> Reply:
    """What a peer is told of it: 452 for a full disk (RFC 5321 §4.2.2), else 451."""
    return NO_SPACE if isinstance(error, StorageFull) else NOT_NOW


@dataclass(frozen=True, slots=True)
class HeaderRules:
    """`size_limit` in bytes, `hopcount_limit` in Received fields; `dress` makes the block that goes on of the one that came."""

    size_limit: int
    hopcount_limit: int
    dress: Callable[[bytes], bytes]


class Incoming:
    """One message. `write` never raises; `finish` gives the body, or None where `refusal` says why not."""

    __slots__ = ("_held", "_in_header", "_rules", "_writer", "cause", "refusal")

    def __init__(self, writer: BodyWriter, rules: HeaderRules) -> None:
        self._writer = writer
        self._rules = rules
        self._held = b""
        self._in_header = True
        self.refusal: Reply | None = None
        self.cause = ""  # for the operator

    def write(self, piece: bytes) -> None:
        """A piece of content, CRLF line ends."""
        if self.refusal is not None:
            return
        try:
            if self._in_header:
                self._write_header(piece)
            else:
                self._writer.write(piece)
        except StorageError as error:
            self._refuse(storage_reply(error), str(error))

    def _write_header(self, piece: bytes) -> None:
        self._held += piece
        length = header_length(self._held)
        complete = length < len(self._held)
        if length > self._rules.size_limit:
            self._refuse(HEADER_TOO_BIG)
        elif complete:
            self._end_header(self._held[:length], self._held[length:])

    def _end_header(self, header: bytes, rest: bytes) -> None:
        self._in_header = False
        self._held = b""
        if (
            header.count(b"eceived:") > self._rules.hopcount_limit
            and count_received(header) > self._rules.hopcount_limit
        ):
            self._refuse(TOO_MANY_HOPS)
            return
        self._writer.write(self._rules.dress(header) + rest)

    def finish(self) -> Body | None:
        """All pieces have come."""
        if self.refusal is None and self._in_header:
            try:
                self._end_header(self._held, b"")
            except StorageError as error:
                self._refuse(storage_reply(error), str(error))
        if self.refusal is not None:
            return None
        try:
            return self._writer.finish()
        except StorageError as error:
            self._refuse(storage_reply(error), str(error))
            return None

    def discard(self) -> None:
        """It will not be accepted; nothing of it is kept."""
        self._held = b""
        self._writer.discard()

    def _refuse(self, reply: Reply, cause: str = "") -> None:
        self.refusal, self.cause = reply, cause
        self.discard()
