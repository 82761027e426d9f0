"""Message content as it crosses the wire, streamed: DATA and BDAT.

DATA (RFC 5321 §4.1.1.4, §4.5.2) ends with CRLF.CRLF and nothing else, whatever `bare_newline` says; the dot that hides a
leading dot is taken off. BDAT (RFC 3030) is counted in bytes and needs no hiding.

A CR or LF that stands alone is a fault, or normalised: LF becomes CRLF, CR a space (Postfix cleanup_replace_stray_cr_lf).
So what comes out has CRLF line ends only. After the first fault the content is read to its true end and thrown away, and the
fault is told there.

Memory: at most four bytes are held back between pieces. Cost: a handful of scans at C speed a piece, no loop over lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gatepost.mail.reply import Reply

_END = b"\r\n.\r\n"
# What may be the beginning of _END, longest first; and a bare LF, since a dot behind it would be a hiding dot.
_HELD = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r", b"\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_BARE_LF = re.compile(rb"(?<!\r)\n")

BARE_NEWLINE = Reply(550, "5.5.2", "A line ends in a bare CR or LF; lines end in CR LF (RFC 5321 section 2.3.8)")
TOO_BIG = Reply(552, "5.3.4", "Message is larger than this server takes")
LINE_TOO_LONG = Reply(554, "5.6.0", "A line of the message is longer than this server takes")


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """In bytes; `normalize` as in the module's docstring."""

    size: int
    line_length: int
    normalize: bool = False


class _Checked:
    """What DATA and BDAT share: size, line length, bare CR and LF. Pieces never end between a CR and its LF."""

    def __init__(self, limits: ContentLimits) -> None:
        self._limits = limits
        self._line = 0  # bytes of the unfinished line
        self.size = 0
        self.fault: Reply | None = None

    def _check(self, piece: bytes) -> bytes:
        """The piece as it may go on; empty once there is a fault."""
        if self.fault is not None:
            return b""
        bare = piece.replace(b"\r\n", b"")  # the cheapest way to see every CR and LF that stands alone
        if b"\n" in bare or b"\r" in bare:
            if not self._limits.normalize:
                return self._fail(BARE_NEWLINE)
            piece = _BARE_LF.sub(b"\r\n", _BARE_CR.sub(b" ", piece))
        self.size += len(piece)
        if self.size > self._limits.size:
            return self._fail(TOO_BIG)
        if self._line + len(piece) > self._limits.line_length and self._has_long_line(piece):
            return self._fail(LINE_TOO_LONG)
        last = piece.rfind(b"\n")
        self._line = self._line + len(piece) if last < 0 else len(piece) - last - 1
        return piece

    def _has_long_line(self, piece: bytes) -> bool:
        first, *others = piece.split(b"\n")
        return max(self._line + len(first), *map(len, others), 0) > self._limits.line_length

    def _fail(self, fault: Reply) -> bytes:
        self.fault = fault
        return b""


class DataReader(_Checked):
    """Reads one message sent with DATA."""

    def __init__(self, limits: ContentLimits) -> None:
        super().__init__(limits)
        self._held = b"\r\n"  # as if a line had just ended, so that a first line "." is the end
        self._virtual = True  # those two bytes are not content
        self.is_complete = False

    def feed(self, received: bytes) -> tuple[bytes, bytes]:
        """(content so far unseen, bytes after the end). The second is empty until `is_complete`."""
        bytes_ = self._held + received
        end = bytes_.find(_END)
        rest = b""
        if end >= 0:
            piece, rest = bytes_[: end + 2], bytes_[end + 5 :]
            self._held = b""
            self.is_complete = True
        else:
            self._held = next((prefix for prefix in _HELD if bytes_.endswith(prefix)), b"")
            piece = bytes_[: len(bytes_) - len(self._held)]
        return self._unstuffed(piece), rest

    def _unstuffed(self, piece: bytes) -> bytes:
        if not piece:
            return piece
        if self._limits.normalize:
            # Lines that end in a bare LF are lines: a dot that follows one is a hiding dot too. A lone "." between such
            # lines becomes an empty line; it never ends the message here nor, hidden again, at the next hop.
            piece = _BARE_LF.sub(b"\r\n", piece)
        if b"\r\n." in piece:
            piece = piece.replace(b"\r\n.", b"\r\n")  # RFC 5321 §4.5.2
        if self._virtual:
            self._virtual = False
            piece = piece[2:]
        return self._check(piece)


class ChunkReader(_Checked):
    """Reads one message sent with BDAT, over all its chunks (RFC 3030 §2)."""

    def __init__(self, limits: ContentLimits) -> None:
        super().__init__(limits)
        self._missing = 0
        self._held = b""

    def begin(self, size: int) -> None:
        """A BDAT command announced `size` more bytes."""
        self._missing = size

    @property
    def missing(self) -> int:
        """Bytes of the present chunk still to come."""
        return self._missing

    def feed(self, received: bytes) -> bytes:
        """Content out of at most `missing` received bytes."""
        self._missing -= len(received)
        piece = self._held + received
        self._held = b""
        if piece.endswith(b"\r"):
            piece, self._held = piece[:-1], b"\r"
        return self._check(piece) if piece else b""

    def finish(self) -> bytes:
        """After the last chunk: what was held back, and the CRLF that a message without one at its end gets."""
        tail, self._held = self._held, b""
        if tail:
            tail = self._check(tail)
        if self.fault is None and self._line:
            tail += self._check(b"\r\n")
        return tail
