"""Reply: what one side of SMTP or LMTP tells the other (RFC 5321 §4.2, enhanced status RFC 3463 and RFC 2034).

A reply is what a peer may see. Causes that only the operator may see travel beside it, never in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LINE = 512  # RFC 5321 §4.5.3.1.5, with CRLF

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: +|$)")
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
        return b"".join(line.encode("utf-8", "replace") + b"\r\n" for line in self._lines())

    def _lines(self) -> list[str]:
        prefix = f"{self.enhanced} " if self.enhanced else ""
        texts = [_UNSAFE.sub("?", text) for text in self.text.split("\n")]
        room = MAX_LINE - len(prefix) - 6
        last = len(texts) - 1
        return [f"{self.code}{' ' if at == last else '-'}{prefix}{text[:room]}" for at, text in enumerate(texts)]


def reply_from_lines(lines: list[tuple[int, str]]) -> Reply:
    """A reply out of a peer's lines (code, rest of the line). The enhanced status is taken off where all carry it."""
    code = lines[0][0]
    enhanced = ""
    texts = []
    for _, text in lines:
        found = _ENHANCED.match(text)
        if found and int(found[1][0]) == code // 100:
            enhanced = enhanced or found[1]
            text = text[found.end() :]
        texts.append(text)
    return Reply(code, enhanced, "\n".join(texts))
