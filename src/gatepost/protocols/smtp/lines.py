"""Received bytes -> command lines. A line ends in CRLF and in nothing else unless the listener normalises.

Bounded: a line longer than the limit is thrown away up to its end while it arrives, and then told as LineTooLong. A bare
CR or LF is told as BareNewline: between hosts that disagree about line ends lies SMTP smuggling (CVE-2023-51764 and kin).
"""

from __future__ import annotations

from enum import Enum


class LineFault(Enum):
    """What can be wrong with a line."""

    TOO_LONG = "line too long"
    BARE_NEWLINE = "bare CR or LF"


class LineBuffer:
    """Bytes waiting to be read as lines, or taken raw as content. `unread` counts them."""

    __slots__ = ("_at", "_bytes", "_discarding", "unread")

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0
        self._discarding = False
        self.unread = 0

    def append(self, received: bytes) -> None:
        """Add what the socket gave."""
        self._bytes = self._bytes[self._at :] + received if self.unread else received
        self._at = 0
        self.unread += len(received)

    def clear(self) -> None:
        """Throw everything away."""
        self._bytes, self._at, self.unread, self._discarding = b"", 0, 0, False

    def take_all(self) -> bytes:
        """Everything, raw."""
        taken = self._bytes[self._at :] if self._at else self._bytes
        self._bytes, self._at, self.unread = b"", 0, 0
        return taken

    def take(self, most: int) -> bytes:
        """At most `most` bytes, raw."""
        taken = self._bytes[self._at : self._at + most]
        self._at += len(taken)
        self.unread -= len(taken)
        return taken

    def put_back(self, rest: bytes) -> None:
        """What a reader of raw bytes did not use; it is read first."""
        self._bytes = rest + self._bytes[self._at :]
        self._at = 0
        self.unread = len(self._bytes)

    def next_line(self, limit: int, *, lenient: bool) -> bytes | LineFault | None:
        """The next line without its end, a fault, or None where the line is not complete.

        `limit` is in bytes without CRLF. `lenient` takes a bare LF as a line end.
        """
        end = self._bytes.find(b"\n", self._at)
        if end < 0:
            if self._discarding or self.unread > limit + 2:
                self._discarding = True
                self._bytes, self._at, self.unread = b"", 0, 0
            return None
        line = self._bytes[self._at : end]
        self.unread -= end + 1 - self._at
        self._at = end + 1
        if self._discarding or len(line) > limit + 1:
            self._discarding = False
            return LineFault.TOO_LONG
        if line[-1:] == b"\r":
            line = line[:-1]
        elif not lenient:
            return LineFault.BARE_NEWLINE
        return LineFault.BARE_NEWLINE if b"\r" in line else line
