"""Incoming: one message on its way in.

Pieces of content are written as they arrive. The header block is held until it is complete, so that it can be checked (size,
hops) and trace fields be put on top; then everything goes to the shard's body writer, which keeps small bodies in memory and
large ones in a file. Whatever goes wrong is kept as `refusal` and told when the message ends; the rest is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gatepost.mail.reply import Reply
from gatepost.mail.trace import count_received
from gatepost.queue.bodies import BodyWriter
from gatepost.queue.records import Body
from gatepost.storage.errors import StorageError, StorageFull

_EMPTY_LINE = b"\r\n\r\n"

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
        self._held = bytearray()
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
        held = self._held
        before = max(0, len(held) - 3)  # the empty line may lie across pieces; what was searched is not searched again
        held += piece
        end = held.find(_EMPTY_LINE, before)
        length = 0 if held.startswith(b"\r\n") else end + 2 if end >= 0 else len(held)
        if length > self._rules.size_limit:
            self._refuse(HEADER_TOO_BIG)
        elif length < len(held):
            self._end_header(bytes(held[:length]), bytes(held[length:]))

    def _end_header(self, header: bytes, rest: bytes) -> None:
        self._in_header = False
        self._held.clear()
        if header.startswith((b" ", b"\t")):
            # It would be read as the rest of what we put on top of it. So there is no header, and all is text.
            header, rest = b"", b"\r\n" + header + rest
        limit = self._rules.hopcount_limit
        if header.lower().count(b"received") > limit and count_received(header) > limit:  # RFC 5321 §6.3
            self._refuse(TOO_MANY_HOPS)
            return
        self._writer.write(self._rules.dress(header) + rest)

    def finish(self) -> Body | None:
        """All pieces have come."""
        if self.refusal is None and self._in_header:
            try:
                self._end_header(bytes(self._held), b"")
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
        self._held.clear()
        self._writer.discard()

    def _refuse(self, reply: Reply, cause: str = "") -> None:
        self.refusal, self.cause = reply, cause
        self.discard()
