"""Command lines out of bytes: CRLF and nothing else, bounded, and the same however the bytes are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.protocols.smtp.lines import LineBuffer, LineFault

LIMIT = 10


def lines_of(pieces: Sequence[bytes], *, lenient: bool = False) -> tuple[list[bytes | LineFault], int]:
    """All lines and faults, and how many bytes are left over."""
    buffer = LineBuffer()
    lines = []
    for piece in pieces:
        buffer.append(piece)
        while (line := buffer.next_line(LIMIT, lenient=lenient)) is not None:
            lines.append(line)
        assert buffer.unread <= LIMIT + 2
    return lines, buffer.unread


@pytest.mark.parametrize(
    ("received", "lenient", "lines", "left"),
    [
        (b"", False, [], 0),
        (b"NOOP", False, [], 4),
        (b"NOOP\r", False, [], 5),
        (b"NOOP\r\n", False, [b"NOOP"], 0),
        (b"\r\n\r\n", False, [b"", b""], 0),
        (b"a\r\nb\r\nc", False, [b"a", b"b"], 1),
        (b"a\nb\r\n", False, [LineFault.BARE_NEWLINE, b"b"], 0),
        (b"a\nb\r\n", True, [b"a", b"b"], 0),
        (b"\n", True, [b""], 0),
        (b"a\rb\r\n", False, [LineFault.BARE_NEWLINE], 0),
        (b"a\rb\r\n", True, [LineFault.BARE_NEWLINE], 0),
        (b"a\r\r\n", False, [LineFault.BARE_NEWLINE], 0),
        (b"\x00\xff\r\n", False, [b"\x00\xff"], 0),
        (b"x" * 10 + b"\r\n", False, [b"x" * 10], 0),
        (b"x" * 11 + b"\r\n", False, [LineFault.TOO_LONG], 0),
        (b"x" * 5000 + b"\r\na\r\n", False, [LineFault.TOO_LONG, b"a"], 0),
        (b"x" * 5000, False, [], 0),
        (b"x" * 5000 + b"\n", False, [LineFault.TOO_LONG], 0),
    ],
)
def test_lines(received: bytes, lenient: bool, lines: list[bytes | LineFault], left: int) -> None:
    assert lines_of([received], lenient=lenient) == (lines, left)
    assert lines_of([received[at : at + 1] for at in range(len(received))], lenient=lenient) == (lines, left)


PIECES = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"x", b"NOOP", b"x" * LIMIT, b"y" * 30]) | st.binary(max_size=5),
    max_size=20,
)


@given(PIECES, st.booleans())
def test_it_does_not_matter_how_the_bytes_are_cut(pieces: list[bytes], lenient: bool) -> None:
    whole = b"".join(pieces)
    assert lines_of(pieces, lenient=lenient) == lines_of([whole], lenient=lenient)
    assert lines_of([whole[at : at + 1] for at in range(len(whole))], lenient=lenient) == lines_of(
        [whole], lenient=lenient
    )


@given(PIECES, st.booleans())
def test_no_line_holds_a_newline_or_is_too_long(pieces: list[bytes], lenient: bool) -> None:
    for line in lines_of(pieces, lenient=lenient)[0]:
        if isinstance(line, bytes):
            assert not {b"\r", b"\n"} & {line[at : at + 1] for at in range(len(line))}
            assert len(line) <= LIMIT + lenient


def test_raw_bytes_and_what_is_left_of_them() -> None:
    buffer = LineBuffer()
    buffer.append(b"BDAT 3\r\nabcNOOP\r\nQU")
    assert buffer.next_line(LIMIT, lenient=False) == b"BDAT 3"
    assert buffer.take(3) == b"abc"
    assert buffer.unread == 8
    assert buffer.next_line(LIMIT, lenient=False) == b"NOOP"
    assert buffer.take_all() == b"QU"
    assert (buffer.unread, buffer.take(5), buffer.take_all()) == (0, b"", b"")
    buffer.append(b"rest")
    buffer.put_back(b"before the ")
    assert buffer.take_all() == b"before the rest"


def test_clear_forgets_everything_and_a_line_being_thrown_away() -> None:
    buffer = LineBuffer()
    buffer.append(b"a\r\nsecret")
    buffer.next_line(LIMIT, lenient=False)
    buffer.clear()
    assert buffer.unread == 0
    buffer.append(b"x" * 100)
    assert buffer.next_line(LIMIT, lenient=False) is None
    buffer.clear()
    buffer.append(b"b\r\n")
    assert buffer.next_line(LIMIT, lenient=False) == b"b"


def test_an_endless_line_costs_no_memory() -> None:
    buffer = LineBuffer()
    for _ in range(1000):
        buffer.append(b"x" * 10_000)
        assert buffer.next_line(2048, lenient=False) is None
        assert buffer.unread == 0
