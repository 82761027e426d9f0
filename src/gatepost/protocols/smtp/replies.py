"""A peer's reply lines -> `Reply` (RFC 5321 §4.2).

Strict: lines end in CRLF; each has a code from 200 to 599, then a space or, where more lines follow, a hyphen; all lines of
one reply carry one code. Bounded: MAX_LINE bytes a line, MAX_LINES lines a reply. Anything else raises ProtocolError, after
the replies before it were given. Text is read as UTF-8 (RFC 6531 §3.7.4.2); bytes that are not become U+FFFD, and control
characters `?`, since it goes on into logs and reports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from gatepost.mail.reply import Reply, reply_from_lines

MAX_LINE = 2048  # bytes with CRLF; RFC 5321 §4.5.3.1.5 says 512
MAX_LINES = 100

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])([^\r\n]*))?")
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


class ProtocolError(Exception):
    """The peer does not speak SMTP. The text says how, in words fit for a log."""


class ReplyParser:
    """Takes received bytes, gives replies. After a ProtocolError the connection is of no use."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[tuple[int, str]] = []  # of an unfinished reply

    def feed(self, received: bytes) -> Iterator[Reply]:
        """Each reply that `received` completes, in order. Raises ProtocolError."""
        bytes_ = self._rest + received if self._rest else received
        self._rest = b""
        at = 0
        while (end := bytes_.find(b"\r\n", at, at + MAX_LINE)) >= 0:
            line = bytes_[at:end]
            at = end + 2
            # Most replies have one line, and the same few lines come again and again.
            reply = _single(line) if not self._lines else None
            if reply is None:
                reply = self._add(line)
            if reply is not None:
                yield reply
        rest = bytes_[at:]
        if len(rest) >= MAX_LINE:
            raise ProtocolError(f"reply line longer than {MAX_LINE} bytes")
        if b"\n" in rest:
            raise ProtocolError("reply line ends in a bare LF")
        self._rest = rest

    def clear(self) -> None:
        """Forget an unfinished reply: what came before TLS says nothing (CVE-2011-0411)."""
        self._rest = b""
        self._lines = []

    def _add(self, line: bytes) -> Reply | None:
        code, is_last, text = _parse(line)
        if self._lines and code != self._lines[0][0]:  # RFC 5321 §4.2.1
            raise ProtocolError(f"one reply with the codes {self._lines[0][0]} and {code}")
        self._lines.append((code, text))
        if len(self._lines) > MAX_LINES:
            raise ProtocolError(f"reply of more than {MAX_LINES} lines")
        if not is_last:
            return None
        lines, self._lines = self._lines, []
        return reply_from_lines(lines)


@lru_cache(maxsize=512)
def _single(line: bytes) -> Reply | None:
    """The reply a single line is; None where more lines follow."""
    code, is_last, text = _parse(line)
    return reply_from_lines([(code, text)]) if is_last else None


def _parse(line: bytes) -> tuple[int, bool, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        shown = ascii(line[:60].decode("ascii", "replace"))
        raise ProtocolError(f"not a reply line: {shown}")
    text = (found[3] or b"").decode("utf-8", "replace")
    return int(found[1]), found[2] != b"-", _UNSAFE.sub("?", text)
