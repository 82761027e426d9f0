"""The reply parser: whole, byte by byte, with bytes left over, and on garbage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.reply import Reply
from gatepost.protocols.smtp.replies import MAX_LINE, MAX_LINES, ProtocolError, ReplyParser

GOOD = [
    (b"250 2.1.0 Ok\r\n", [Reply(250, "2.1.0", "Ok")]),
    (b"250 Ok\r\n", [Reply(250, "", "Ok")]),
    (b"220\r\n", [Reply(220, "", "")]),
    (b"354 \r\n", [Reply(354, "", "")]),
    (b"250-mx.test\r\n250-SIZE 100\r\n250 DSN\r\n", [Reply(250, "", "mx.test\nSIZE 100\nDSN")]),
    (b"550-5.1.1 no\r\n550 5.1.1 really\r\n", [Reply(550, "5.1.1", "no\nreally")]),
    (b"250 a\r\n354 b\r\n", [Reply(250, "", "a"), Reply(354, "", "b")]),
    ("250 Grüße\r\n".encode(), [Reply(250, "", "Grüße")]),
    (b"250 \xff\r\n", [Reply(250, "", "�")]),
    (b"550 a\x1b[31m\x00b\xc2\x9b\r\n", [Reply(550, "", "a?[31m?b?")]),
    (b"571 old servers say so\r\n", [Reply(571, "", "old servers say so")]),
    (b"250-a\r\n250\r\n", [Reply(250, "", "a\n")]),
]

BAD = [
    b"hello\r\n",
    b"\r\n",
    b"25 short\r\n",
    b"2500 long\r\n",
    b"150 too low\r\n",
    b"650 too high\r\n",
    b"250ok\r\n",
    b"250_ok\r\n",
    b"250 bare lf\n250 more\r\n",
    b"250 bare\rcr\r\n",
    b"250-a\r\n251 b\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\x16\x03\x01\x02\x00\r\n",
    b"250 " + b"x" * MAX_LINE + b"\r\n",
    b"250-x\r\n" * (MAX_LINES + 1),
]


def parse(*pieces: bytes) -> list[Reply]:
    parser = ReplyParser()
    return [reply for piece in pieces for reply in parser.feed(piece)]


@pytest.mark.parametrize(("received", "replies"), GOOD)
def test_whole_and_byte_by_byte(received: bytes, replies: list[Reply]) -> None:
    assert parse(received) == replies
    assert parse(*(received[at : at + 1] for at in range(len(received)))) == replies


@pytest.mark.parametrize("received", BAD)
def test_garbage_is_an_error_at_once_or_byte_by_byte(received: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(received)
    with pytest.raises(ProtocolError):
        parse(*(received[at : at + 1] for at in range(len(received))))


def test_replies_before_garbage_are_given() -> None:
    heard: list[Reply] = []
    with pytest.raises(ProtocolError, match="not a reply line: 'nonsense'"):
        heard.extend(ReplyParser().feed(b"250 2.0.0 queued\r\nnonsense\r\n"))
    assert [reply.code for reply in heard] == [250]


def test_bytes_left_over_wait_for_their_end() -> None:
    parser = ReplyParser()
    assert [reply.code for reply in parser.feed(b"250 a\r\n35")] == [250]
    assert [reply.code for reply in parser.feed(b"4 b\r")] == []
    assert [reply.code for reply in parser.feed(b"\n")] == [354]


def test_clear_forgets_what_was_unfinished() -> None:
    parser = ReplyParser()
    assert list(parser.feed(b"250-a\r\n250-")) == []
    parser.clear()
    assert [reply.text for reply in parser.feed(b"250 b\r\n")] == ["b"]


def test_longest_line_and_longest_reply() -> None:
    text = b"x" * (MAX_LINE - 6)
    assert [len(reply.text) for reply in parse(b"250 " + text + b"\r\n")] == [MAX_LINE - 6]
    assert [reply.text.count("\n") for reply in parse(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")] == [MAX_LINES - 1]


def test_endless_line_is_given_up_early() -> None:
    parser = ReplyParser()
    with pytest.raises(ProtocolError, match="longer than"):
        for _ in range(MAX_LINE + 1):
            list(parser.feed(b"2"))


@given(st.binary(max_size=300), st.integers(1, 7))
def test_any_bytes_give_replies_or_one_error(received: bytes, step: int) -> None:
    def outcome(*pieces: bytes) -> tuple[list[Reply], bool]:
        parser = ReplyParser()
        replies: list[Reply] = []
        try:
            for piece in pieces:
                replies.extend(parser.feed(piece))  # those before an error are kept
        except ProtocolError:
            return replies, True
        return replies, False

    whole = outcome(received)
    in_pieces = outcome(*(received[at : at + step] for at in range(0, len(received), step)))
    assert in_pieces[0] == whole[0]
    assert in_pieces[1] == whole[1]
    assert all(200 <= reply.code < 600 for reply in whole[0])


@given(st.lists(st.tuples(st.integers(200, 599), st.text(st.characters(min_codepoint=32, max_codepoint=126)))))
def test_what_a_server_encodes_is_read_back(replies: list[tuple[int, str]]) -> None:
    sent = b"".join(f"{code} {text}\r\n".encode() for code, text in replies)
    assert [reply.code for reply in parse(sent)] == [code for code, _ in replies]
