"""The bytes of a message: its header block found and its fields read. Foreign bytes are never parsed into objects and
written again (CVE-2024-6923 and its kin), only looked at, and lines put in front of them.

Lines end in CRLF here, as on the wire. The header block ends at the first empty line (RFC 5322 §2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:((?:[^\r\n]|\r\n[ \t])*)(?:\r\n|$)")  # RFC 5322 §2.2, obs-optional
_FOLD = re.compile(rb"\r\n(?=[ \t])")


def header_length(content: bytes) -> int:
    """Bytes of the header block, its last CRLF included but not the empty line. All of `content` if none ends it."""
    if content.startswith(b"\r\n"):
        return 0
    end = content.find(b"\r\n\r\n")
    return len(content) if end < 0 else end + 2


def header_fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(lower-case name, unfolded stripped value) of each well-formed field, in order; stops at a line that is none."""
    at = 0
    while at < len(header):
        found = _FIELD.match(header, at)
        if found is None:
            return
        yield found[1].lower(), _FOLD.sub(b"", found[2]).strip(b" \t")
        at = found.end()


def without_fields(header: bytes, names: frozenset[bytes]) -> bytes:
    """The header block without the fields of these lower-case names; every other byte stays as it is."""
    kept = []
    at = 0
    while at < len(header):
        found = _FIELD.match(header, at)
        if found is None:
            break
        if found[1].lower() not in names:
            kept.append(found[0])
        at = found.end()
    return b"".join(kept) + header[at:]
