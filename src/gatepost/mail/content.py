"""The bytes of a message: its header block found and its fields read. Foreign bytes are never parsed into objects and
written again (CVE-2024-6923 and its kin), only looked at, and lines put in front of them.

Lines end in CRLF here, as on the wire. The header block ends at the first empty line (RFC 5322 §2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")  # RFC 5322 §2.2, §4.5.8 obs-optional
_LINE_END = re.compile(rb"\r\n(?![ \t])")  # a blank goes on with the line before, RFC 5322 §2.2.3


def header_length(content: bytes) -> int:
    """Bytes of the header block, its last CRLF included but not the empty line. All of `content` if none ends it."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def header_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(lower-case name, unfolded stripped value) of each field, in order; a line that is none is passed over."""
    for at, end in _lines(header):
        found = _NAME.match(header, at, end)
        if found is not None:
            yield found[1].lower(), header[found.end() : end].replace(b"\r\n", b"").strip(b" \t")


def without_fields(header: bytes, names: frozenset[bytes]) -> bytes:
    """The header block without the fields of these lower-case names; every other byte stays as it is."""
    kept = []
    for at, end in _lines(header):
        found = _NAME.match(header, at, end)
        if found is None or found[1].lower() not in names:
            kept.append(header[at:end])
    return b"".join(kept)


def _lines(header: bytes) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends, its CRLF and what is folded onto it included. Linear in time, whatever comes."""
    at = 0
    for found in _LINE_END.finditer(header):
        end = found.end()
        yield at, end
        at = end
    if at < len(header):
        yield at, len(header)
