"""Reply: what one side of SMTP or LMTP tells the other (RFC 5321 §4.2, enhanced status RFC 3463 and RFC 2034).

A reply is what a peer may see. Causes that only the operator may see travel beside it, never in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 512  # octets with CRLF, RFC 5321 §4.5.3.1.5

_SURELY_SHORT = 120  # characters, of four bytes at most

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Reply:
    """`code` and `text`, and the `enhanced` status ("5.1.1") where there is one; `text` may have several lines (LF)."""

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        """One line for logs and bounces: `550 5.1.1 <x@y>: …`."""
        status = f"{self.code} {self.enhanced}" if self.enhanced else f"{self.code}"
        return f"{status} {self.text}".replace("\n", " ")

    @property
    def is_positive(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        """4yz: worth another try."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz."""
        return self.code >= 500

    @property
    def status(self) -> str:
        """The enhanced status, made up from the code's class where the peer gave none (RFC 3463 §3.1, `x.0.0`)."""
        return self.enhanced or f"{self.code // 100}.0.0"

    def encode(self) -> bytes:
        """The bytes for the wire, CRLF included. Control characters become `?`; overlong lines are cut."""
        if self.text.isprintable() and len(self.text) < _SURELY_SHORT:
            return f"{self.code} {self.enhanced}{' ' * bool(self.enhanced)}{self.text}\r\n".encode("utf-8", "replace")
        prefix = f"{self.enhanced} " if self.enhanced else ""
        texts = self.text.split("\n")
        last = len(texts) - 1
        return b"".join(
            _line(f"{self.code}{' ' if at == last else '-'}{prefix}{_UNSAFE.sub('?', text)}")
            for at, text in enumerate(texts)
        )


def _line(text: str) -> bytes:
    line = text.encode("utf-8", "replace")
    if len(line) > MAX_LINE - 2:
        line = line[: MAX_LINE - 2].decode("utf-8", "ignore").encode()  # no half characters
    return line + b"\r\n"


def reply_from_lines(lines: list[tuple[int, str]]) -> Reply:
    """A reply out of a peer's lines (code, rest of the line), at least one.

    The enhanced status is that of the first line that has one of the code's class; it is taken off every line that bears it.
    """
    code = lines[0][0]
    enhanced = ""
    texts = []
    for _, text in lines:
        found = _ENHANCED.match(text)
        if found and int(found[1][0]) == code // 100 and enhanced in ("", found[1]):
            enhanced = found[1]
            text = text[found.end() :]
        texts.append(text)
    return Reply(code, enhanced, "\n".join(texts))
