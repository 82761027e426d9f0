"""DATA and BDAT: what comes out is what was meant, however the bytes are cut, and smuggles nothing."""

from __future__ import annotations

import re
import smtplib
import time
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.mail.reply import Reply
from gatepost.protocols.smtp.content import (
    BARE_NEWLINE,
    LINE_TOO_LONG,
    TOO_BIG,
    ChunkReader,
    ContentLimits,
    DataReader,
)

STRICT = ContentLimits(size=10_000, line_length=1_000)
NORMALIZE = ContentLimits(size=10_000, line_length=1_000, normalize=True)
BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")

Result = tuple[bytes, Reply | None, bool, bytes]


def read(pieces: Sequence[bytes], limits: ContentLimits = STRICT) -> Result:
    """(content, fault, whether it is complete, bytes after the end)."""
    reader = DataReader(limits)
    content = b""
    for at, piece in enumerate(pieces):
        more, rest = reader.feed(piece)
        content += more
        assert reader.is_complete or not rest
        if reader.is_complete:
            return content, reader.fault, True, rest + b"".join(pieces[at + 1 :])
    return content, reader.fault, False, b""


def singly(received: bytes) -> list[bytes]:
    return [received[at : at + 1] for at in range(len(received))]


@pytest.mark.parametrize(
    ("received", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a: b\r\n\r\nc\r\n.\r\nQUIT\r\n", b"a: b\r\n\r\nc\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),
        (b"...a\r\n..b.\r\n.c\r\n.\r\n", b"..a\r\n.b.\r\nc\r\n", b""),
        (b"a\r\n.\r\n.\r\n", b"a\r\n", b".\r\n"),
        (b"a.\r\n.\r\n", b"a.\r\n", b""),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n", b""),
    ],
)
def test_data(received: bytes, content: bytes, rest: bytes) -> None:
    assert read([received]) == (content, None, True, rest)
    assert read(singly(received)) == (content, None, True, rest)


@pytest.mark.parametrize(
    "end", [b".\r", b".\n", b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r\r\n"]
)
def test_nothing_else_ends_it(end: bytes) -> None:
    received = b"a\r\nb" + end + b"x\r\n"
    for limits in (STRICT, NORMALIZE):
        for pieces in ([received], singly(received)):
            _, _, complete, _ = read(pieces, limits)
            assert not complete
    assert read([received + b".\r\n"])[1] is (BARE_NEWLINE if BARE.search(received) else None)


@pytest.mark.parametrize(
    ("received", "content"),
    [
        (b"a\nb\r\n.\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n.\r\n", b"a b\r\n"),
        (b"a\r\r\n.\r\n", b"a \r\n"),
        (b"a\n\r\n.\r\n", b"a\r\n\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n"),  # a lone dot becomes an empty line
        (b"a\n..b\r\n.\r\n", b"a\r\n.b\r\n"),
        (b"a\n.\r\nMAIL FROM:<x@y.test>\r\n.\r\n", b"a\r\n\r\nMAIL FROM:<x@y.test>\r\n"),
        (b".\n\r\n.\r\n", b"\r\n\r\n"),
        (b"\n.\r\n.\r\n", b"\r\n\r\n"),
    ],
)
def test_normalised(received: bytes, content: bytes) -> None:
    assert read([received], NORMALIZE) == (content, None, True, b"")
    assert read(singly(received), NORMALIZE) == (content, None, True, b"")


PIECES = st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b".", b"\r\n.\r\n", b"\n.\n", b"a", b"a: b", b"\x00"])
    | st.binary(max_size=4),
    max_size=25,
)


@given(PIECES, st.booleans())
@example([b"a\n", b".", b"b\r\n.\r\n"], True)
def test_it_does_not_matter_how_the_bytes_are_cut(pieces: list[bytes], normalize: bool) -> None:
    limits = NORMALIZE if normalize else STRICT
    whole = b"".join(pieces)
    expected = content, fault, complete, rest = read([whole], limits)
    for cut in (pieces, singly(whole)):
        again = read(cut, limits)
        if complete and fault is None:
            assert again == expected
        else:
            # Of what is refused, or not at its end, more or less may have come out before the fault was seen.
            assert again[1:] == expected[1:]
    assert complete == (b"\r\n.\r\n" in b"\r\n" + whole)
    assert not complete or rest == (b"\r\n" + whole).partition(b"\r\n.\r\n")[2]
    assert BARE.search(content.removesuffix(b"\r")) is None


@given(st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a", b"\xff\x00"]), max_size=8))
def test_what_smtplib_hides_is_found_again(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    hidden = smtplib._quote_periods(content)  # type: ignore[attr-defined]
    assert read([hidden + b".\r\n"]) == (content, None, True, b"")


def test_a_fault_is_kept_to_the_end_and_nothing_more_comes_out() -> None:
    reader = DataReader(STRICT)
    assert reader.feed(b"a\r\n") == (b"a", b"")
    assert reader.feed(b"b\nc\r\nmore\r\n") == (b"", b"")
    assert reader.fault is BARE_NEWLINE
    assert reader.feed(b"more\r\n.\r\nNOOP\r\n") == (b"", b"NOOP\r\n")
    assert reader.is_complete


def test_the_size_limit_counts_what_is_kept() -> None:
    limits = ContentLimits(size=8, line_length=100)
    assert read([b"..345\r\n.\r\n"], limits)[1] is None
    assert read([b"..34567\r\n.\r\n"], limits)[:3] == (b".34567\r\n", None, True)
    assert read([b"..345678\r\n.\r\n"], limits)[1] is TOO_BIG
    assert read(singly(b"..345678\r\n.\r\n"), limits)[1] is TOO_BIG
    grown = ContentLimits(size=8, line_length=100, normalize=True)
    assert read([b"1\n2\n3\r\n.\r\n"], grown)[1] is TOO_BIG  # nine bytes once the line ends are right


@pytest.mark.parametrize("cut", [1, 3, 7, 1000])
def test_the_line_limit(cut: int) -> None:
    limits = ContentLimits(size=10_000, line_length=20)

    def fault_of(content: bytes) -> Reply | None:
        received = content + b".\r\n"
        return read([received[at : at + cut] for at in range(0, len(received), cut)], limits)[1]

    assert fault_of(b"x" * 19 + b"\r\n") is None
    assert fault_of((b"x" * 19 + b"\r\n") * 20) is None
    assert fault_of(b"x" * 21 + b"\r\n") is LINE_TOO_LONG
    assert fault_of(b"x\r\n" * 5 + b"x" * 21 + b"\r\n" + b"x\r\n" * 5) is LINE_TOO_LONG


def test_a_hundred_megabytes_without_a_line_end_cost_no_memory() -> None:
    reader = DataReader(ContentLimits(size=1 << 20, line_length=1 << 18))
    piece = b"x" * (1 << 18)
    began = time.process_time()
    kept = sum(len(reader.feed(piece)[0]) for _ in range(400))
    assert kept <= 1 << 18
    assert reader.fault is LINE_TOO_LONG
    assert len(reader._held) <= 4
    assert time.process_time() - began < 2.0


def chunks(
    sizes: Sequence[int], content: bytes, cut: int, limits: ContentLimits = STRICT
) -> tuple[bytes, Reply | None]:
    """The content sent as BDATs of these sizes and a last one with the rest, received `cut` bytes at a time."""
    reader = ChunkReader(limits)
    out = b""
    for size in [*sizes, len(content)]:
        chunk, content = content[:size], content[size:]
        reader.begin(len(chunk))
        for at in range(0, len(chunk), cut):
            out += reader.feed(chunk[at : at + cut])
        assert reader.missing == 0
    return out + reader.finish(), reader.fault


@given(st.lists(st.integers(0, 9), max_size=6), PIECES, st.integers(1, 9), st.booleans())
def test_chunks_do_not_matter(sizes: list[int], pieces: list[bytes], cut: int, normalize: bool) -> None:
    limits = NORMALIZE if normalize else STRICT
    content = b"".join(pieces)
    whole, fault = chunks([], content, max(len(content), 1), limits)
    again, fault_again = chunks(sizes, content, cut, limits)
    assert fault is fault_again
    if fault is None:
        assert again == whole
        assert whole == b"" or whole.endswith(b"\r\n")
        assert BARE.search(whole) is None
        if not BARE.search(content):
            assert whole in (content, content + b"\r\n")
    else:
        assert fault is BARE_NEWLINE
        assert not normalize
        assert BARE.search(content)


def test_a_chunk_may_end_between_cr_and_lf_and_dots_mean_nothing() -> None:
    assert chunks([5], b"a: b\r\n.\r\n..c", 100) == (b"a: b\r\n.\r\n..c\r\n", None)
    assert chunks([2], b"ab\r", 100)[1] is BARE_NEWLINE
    assert chunks([2], b"ab\r", 100, NORMALIZE) == (b"ab \r\n", None)


def test_chunks_have_the_same_limits() -> None:
    assert chunks([4], b"x" * 11, 3, ContentLimits(size=10, line_length=100))[1] is TOO_BIG
    assert chunks([4], b"x" * 11, 3, ContentLimits(size=100, line_length=10))[1] is LINE_TOO_LONG
    assert chunks([4, 4], b"x" * 6 + b"\r\n", 3, ContentLimits(size=8, line_length=8)) == (b"xxxxxx\r\n", None)
