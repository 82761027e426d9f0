"""Header blocks, read without ever being rebuilt."""

from __future__ import annotations

import email
import email.policy
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.mail.content import header_fields, header_length, without_fields

NONE: frozenset[bytes] = frozenset()
BCC = frozenset({b"bcc"})

HEADERS = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b" ", b"\t", b":", b"Bcc", b"bcc :", b"To: ", b"a@b.test", b"\x00", b"\xff", b"x"]
    )
    | st.binary(max_size=8),
    max_size=30,
).map(b"".join)


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (b"", 0),
        (b"a: b", 4),
        (b"a: b\r\n", 6),
        (b"a: b\r\n\r\n", 6),
        (b"a: b\r\n\r\ntext\r\n\r\n", 6),
        (b"a: b\r\n c\r\n\r\ntext", 10),
        (b"\r\ntext", 0),
        (b"\r\n\r\n", 0),
        (b"a: b\n\ntext", 10),  # bare LFs end nothing
    ],
)
def test_header_length(content: bytes, length: int) -> None:
    assert header_length(content) == length


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        (b"Subject: hello\r\n", [(b"subject", b"hello")]),
        (b"SUBJECT:hello", [(b"subject", b"hello")]),
        (b"Subject \t: hello \t\r\n", [(b"subject", b"hello")]),
        (b"a: one\r\n two\r\n\tthree\r\nb:\r\n", [(b"a", b"one two\tthree"), (b"b", b"")]),
        (b"a:\r\n b\r\n", [(b"a", b"b")]),
        (b"a: b: c\r\n", [(b"a", b"b: c")]),
        (b"From ann Mon Jan 1\r\na: b\r\n", [(b"a", b"b")]),
        (b" folded\r\na: b\r\n", [(b"a", b"b")]),
        (b"a: b\r\nno field\r\n its: rest\r\nc: d\r\n", [(b"a", b"b"), (b"c", b"d")]),
        (b": x\r\na\xc3\xbc: y\r\n\x00: z\r\n", []),
    ],
)
def test_header_fields(header: bytes, fields: list[tuple[bytes, bytes]]) -> None:
    assert list(header_fields(header)) == fields


def test_pythons_email_package_reads_the_same() -> None:
    header = b"Received: from a\r\n\tby b;\r\n date\r\nSubject: x\r\nX-Empty:\r\nTo: a@b.test,\r\n c@d.test\r\n"
    parsed = email.message_from_bytes(header + b"\r\n", policy=email.policy.compat32)
    theirs = [(name.lower().encode(), value.replace("\r\n", "").strip().encode()) for name, value in parsed.items()]
    assert list(header_fields(header)) == theirs


@given(HEADERS)
@example(b"a: b\r\n")
def test_any_bytes_are_read_and_none_are_changed(header: bytes) -> None:
    fields = list(header_fields(header))
    assert all(name == name.lower() and b"\r\n" not in value for name, value in fields)
    assert without_fields(header, NONE) == header
    length = header_length(header)
    assert 0 <= length <= len(header)
    assert b"\r\n\r\n" not in header[:length]
    assert length == len(header) or header.startswith(b"\r\n", length)


@given(HEADERS)
def test_what_is_taken_out_is_gone_and_the_rest_stays(header: bytes) -> None:
    rest = without_fields(header, BCC)
    assert list(header_fields(rest)) == [field for field in header_fields(header) if field[0] != b"bcc"]
    if b"bcc" not in {name for name, _ in header_fields(header)}:
        assert rest == header


def test_without_fields() -> None:
    header = b"Bcc: a@b.test,\r\n\tc@d.test\r\nTo: x\r\nno field\r\nBCC : e@f.test\r\nX-Bcc: y\r\nbcc:"
    assert without_fields(header, BCC) == b"To: x\r\nno field\r\nX-Bcc: y\r\n"


SIZE = 256 * 1024


@pytest.mark.parametrize(
    "header",
    [
        b"a: " + b"x" * SIZE,
        b"a" * SIZE,
        b"a" + b" " * SIZE,
        b" " * SIZE,
        b"a: b" + b"\r\n " * (SIZE // 3),
        b"a: b" + b"\r\n " * (SIZE // 3) + b"\r",
        b"a:\r\n" * (SIZE // 4),
        b"\r\n" * (SIZE // 2),
        b"\r" * SIZE,
        b":" * SIZE,
        b"a \t" * (SIZE // 3),
    ],
    ids=lambda header: repr(header[:12]),
)
def test_time_is_linear(header: bytes) -> None:
    began = time.process_time()
    assert sum(1 for _ in header_fields(header)) <= SIZE // 4
    assert len(without_fields(header, BCC)) == len(header)
    assert time.process_time() - began < 2.0  # measured: 0.2 s at most, and 1 MB takes four times as long


def test_memory_is_that_of_the_header() -> None:
    header = b"a: " + b"x" * 1024 * 1024 + b"\r\n"
    tracemalloc.start()
    try:
        assert [len(value) for _, value in header_fields(header)] == [1024 * 1024]
        assert tracemalloc.get_traced_memory()[1] < 8 * len(header)
    finally:
        tracemalloc.stop()
