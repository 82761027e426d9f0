"""Replies: fit for the wire whatever their text is, and read back."""

from __future__ import annotations

import smtplib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.reply import Reply, reply_from_lines


def test_encode() -> None:
    assert Reply(250, "2.0.0", "Ok").encode() == b"250 2.0.0 Ok\r\n"
    assert Reply(220, "", "mail.test ESMTP").encode() == b"220 mail.test ESMTP\r\n"
    assert Reply(550, "5.1.1", "No\nsuch\nuser").encode() == (
        b"550-5.1.1 No\r\n550-5.1.1 such\r\n550 5.1.1 user\r\n"  # RFC 2034 §4: on each line
    )


@given(
    st.integers(200, 599),
    st.sampled_from(["", "2.0.0", "5.123.456"]),
    st.text(max_size=700) | st.text("\r\n\x00\x1b\ud800ü250 -", max_size=60),
)
def test_no_text_breaks_out_of_its_reply(code: int, enhanced: str, text: str) -> None:
    encoded = Reply(code, enhanced, text).encode()
    lines = encoded.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) == text.count("\n") + 1
    for at, line in enumerate(lines):
        mark = b" " if at == len(lines) - 1 else b"-"
        assert line.startswith(b"%d%s%s" % (code, mark, enhanced.encode()))
        assert len(line) <= 510  # RFC 5321 §4.5.3.1.5, in octets
        assert not any(byte < 0x20 or byte == 0x7F for byte in line)
        line.decode()


def test_smtplib_reads_what_was_meant() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(Reply(250, "2.1.0", "one\r\n550 no\ntwo").encode())
        client = smtplib.SMTP()
        client.sock, client.file = theirs, None
        assert client.getreply() == (250, b"2.1.0 one?\n2.1.0 550 no\n2.1.0 two")
        client.close()


def test_long_lines_are_cut_between_characters() -> None:
    line = Reply(250, "2.0.0", "ü" * 600).encode()
    assert len(line) == 512
    assert line[:-2].decode() == "250 2.0.0 " + "ü" * 250
    assert len(Reply(250, "2.0.0", "x" + "ü" * 600).encode()) == 511


def test_str_is_one_line() -> None:
    assert str(Reply(550, "5.1.1", "a\nb")) == "550 5.1.1 a b"
    assert str(Reply(250, "", "a")) == "250 a"


@pytest.mark.parametrize(
    ("code", "positive", "temporary", "permanent"),
    [(250, True, False, False), (354, True, False, False), (451, False, True, False), (554, False, False, True)],
)
def test_classes(code: int, positive: bool, temporary: bool, permanent: bool) -> None:
    reply = Reply(code, "", "x")
    assert (reply.is_positive, reply.is_temporary, reply.is_permanent) == (positive, temporary, permanent)


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([(250, "2.1.0 Ok")], Reply(250, "2.1.0", "Ok")),
        ([(250, "2.1.0")], Reply(250, "2.1.0", "")),
        ([(250, "")], Reply(250, "", "")),
        ([(250, "Ok")], Reply(250, "", "Ok")),
        ([(550, "5.7.1 a"), (550, "5.7.1 b")], Reply(550, "5.7.1", "a\nb")),
        ([(550, "a"), (550, "5.7.1 b")], Reply(550, "5.7.1", "a\nb")),
        ([(550, "5.7.1 a"), (550, "5.1.1 b")], Reply(550, "5.7.1", "a\n5.1.1 b")),
        ([(550, "4.7.1 a")], Reply(550, "", "4.7.1 a")),  # RFC 3463 §2: the classes must agree
        ([(250, "2.10.20x")], Reply(250, "", "2.10.20x")),
        ([(250, "2.0.1234 x")], Reply(250, "", "2.0.1234 x")),
        ([(250, "2.\u0661.0 x")], Reply(250, "", "2.\u0661.0 x")),  # an Arabic digit is none here
    ],
)
def test_reply_from_lines(lines: list[tuple[int, str]], reply: Reply) -> None:
    assert reply_from_lines(lines) == reply


@given(st.integers(200, 599), st.sampled_from(["", "{}.1.1"]), st.lists(st.text("abc 1.", max_size=30), min_size=1))
def test_what_is_written_is_read_back(code: int, form: str, texts: list[str]) -> None:
    texts = [text.strip() for text in texts]
    reply = Reply(code, form.format(code // 100) if code // 100 != 3 else "", "\n".join(f"x{text}" for text in texts))
    lines = reply.encode().decode().split("\r\n")[:-1]
    assert reply_from_lines([(int(line[:3]), line[4:]) for line in lines]) == reply


def test_status_is_made_up_where_there_is_none() -> None:
    assert Reply(451, "", "x").status == "4.0.0"
    assert Reply(451, "4.3.0", "x").status == "4.3.0"
