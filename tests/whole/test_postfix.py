"""Gatepost and a real Postfix exchange mail, both ways, and neither changes what the other sent."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from email.utils import localtime

import pytest

from peers.gatepost import GatepostInstance, with_forwards
from peers.ports import free_port
from peers.postfix import PostfixInstance
from peers.sink import wait_until

pytestmark = pytest.mark.peer

POSTFIX_TLS = {
    "smtp_tls_security_level": "may",
    "smtp_tls_loglevel": "1",
    "smtpd_tls_security_level": "may",
    "smtpd_tls_received_header": "yes",
    "smtputf8_enable": "yes",
    "message_size_limit": "0",
    "mailbox_size_limit": "0",
    "virtual_mailbox_limit": "0",
}

_TRACE = re.compile(rb"(?:(?:Return-Path|X-Original-To|Delivered-To|Received):[^\n]*\n(?:[ \t][^\n]*\n)*)+")

HEADER = (
    f"From: <ann@here.test>\r\nTo: <kay@keep.test>\r\nDate: {localtime():%a, %d %b %Y %H:%M:%S %z}\r\n"
    "Message-ID: <1@here.test>\r\nSubject: {}\r\n"
).encode()

ODD = {
    "plain": b"\r\nhello\r\n",
    "dots": b"\r\n.\r\n..\r\n.dot\r\n...\r\nend.\r\n.\r\n",
    "eight bit": b"Content-Type: text/plain; charset=utf-8\r\n\r\nGr\xc3\xbc\xc3\x9fe \xff\xfe\r\n",
    "trailing blanks": b"X-Odd:   many   blanks \t\r\n\tfolded\r\n\r\n  lead\r\ntrail  \t\r\n\r\n\r\n\r\n",
    "long lines": b"\r\n" + b"x" * 900 + b"\r\n" + b"y" * 998 + b"\r\n",
    "from": b"\r\nFrom here on\r\n>From there\r\n",
    "no body": b"",
    "large": b"\r\n" + b"0123456789abcdef\r\n" * 20_000,
}


def content(name: str) -> bytes:
    return HEADER.replace(b"{}", name.encode()) + ODD[name]


def without_trace(kept: bytes) -> bytes:
    """A message without its trace fields, with LF at the ends of lines as a Maildir keeps them."""
    kept = kept.replace(b"\r\n", b"\n")
    trace = _TRACE.match(kept)
    assert trace, kept[:200]
    return kept[trace.end() :]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatepostInstance, PostfixInstance]]:
    """Each is the other's relayhost; Postfix has the certificate that Gatepost made for it."""
    people = with_forwards({"away@here.test": ("kay@keep.test",)})
    port = free_port()
    gatepost = GatepostInstance(
        tmp_path_factory.mktemp("gatepost"), f'[delivery]\nrelayhost = "[127.0.0.1]:{port}"', people=people
    )
    issued = gatepost.own_ca.issue(["postfix.test"]).path
    chain = gatepost.folder / "postfix.pem"
    chain.write_bytes(issued.with_suffix(".key").read_bytes() + issued.read_bytes())
    settings = {**POSTFIX_TLS, "smtpd_tls_chain_files": str(chain)}
    smtpd = {f"127.0.0.1:{port} inet": "n - n - - smtpd"}
    relayhost = f"[127.0.0.1]:{gatepost.ports['mx']}"
    with (
        PostfixInstance(settings, relayhost=relayhost, services=smtpd, mailboxes=("kay@keep.test",)) as postfix,
        gatepost,
    ):
        yield gatepost, postfix


def in_postfix(postfix: PostfixInstance, name: str) -> list[bytes]:
    wait_until((postfix.maildir("kay@keep.test") / "new").exists)
    files = [file.read_bytes() for file in (postfix.maildir("kay@keep.test") / "new").iterdir()]
    return [file for file in files if f"\nSubject: {name}\n".encode() in file]


def hand_in(client: smtplib.SMTP, sender: str, recipient: str, data: bytes) -> None:
    """Without what smtplib's sendmail does to the ends of lines."""
    client.ehlo_or_helo_if_needed()
    client.mail(sender, ["BODY=8BITMIME"])
    client.rcpt(recipient)
    assert client.data(data)[0] == 250


@pytest.mark.parametrize("name", ODD)
def test_from_postfix_to_gatepost(pair: tuple[GatepostInstance, PostfixInstance], name: str) -> None:
    gatepost, postfix = pair
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.test", timeout=20) as client:
        hand_in(client, "kay@keep.test", "ann@here.test", content(name))
    (mail,) = gatepost.wait_for_mail("ann@here.test", name)
    assert without_trace(gatepost.raw_mail("ann@here.test", name)) == content(name).replace(b"\r\n", b"\n")
    assert "from postfix.test (unknown [127.0.0.1])" in str(mail["Received"])
    assert re.search(r"\(using TLSv1.3 with cipher .*\)\s+by mail.here.test .* with ESMTPS id", str(mail["Received"]))


@pytest.mark.parametrize("name", ODD)
def test_from_gatepost_to_postfix(pair: tuple[GatepostInstance, PostfixInstance], name: str) -> None:
    gatepost, postfix = pair
    with gatepost.smtp("submission", "ann@here.test") as client:
        hand_in(client, "ann@here.test", "kay@keep.test", content(name))
    wait_until(lambda: bool(in_postfix(postfix, name)))
    (kept,) = in_postfix(postfix, name)
    assert without_trace(kept) == content(name).replace(b"\r\n", b"\n")
    trace = kept[: kept.index(b"\nFrom: <ann@here.test>")]
    assert b"Received: from mail.here.test" in trace and b"using TLSv1.3 with cipher" in trace


def test_a_forward_leaves_by_postfix(pair: tuple[GatepostInstance, PostfixInstance]) -> None:
    gatepost, postfix = pair
    with smtplib.SMTP("127.0.0.1", gatepost.ports["mx"], "client.test", timeout=20) as client:
        hand_in(client, "x@far.test", "away@here.test", content("plain").replace(b": plain", b": forwarded"))
    wait_until(lambda: bool(in_postfix(postfix, "forwarded")))
    assert in_postfix(postfix, "forwarded")[0].startswith(b"Return-Path: <x@far.test>\n")


def test_what_postfix_refuses_comes_back_as_a_bounce(pair: tuple[GatepostInstance, PostfixInstance]) -> None:
    gatepost, _ = pair
    with gatepost.smtp("submission", "ann@here.test") as client:
        hand_in(client, "ann@here.test", "nobody@keep.test", content("plain").replace(b": plain", b": refused"))
    (bounce,) = gatepost.wait_for_mail("ann@here.test", "Undelivered Mail Returned to Sender")
    assert (bounce["Return-Path"], bounce.get_content_type()) == ("<>", "multipart/report")
    text = bounce.as_string()
    assert "550 5.1.1 <nobody@keep.test>: Recipient address rejected: User unknown" in text.replace("\n ", " ")
    assert "Subject: refused" in text


def test_what_gatepost_refuses_postfix_returns(pair: tuple[GatepostInstance, PostfixInstance]) -> None:
    gatepost, postfix = pair
    with smtplib.SMTP("127.0.0.1", postfix.port, "client.test", timeout=20) as client:
        hand_in(client, "kay@keep.test", "nobody@here.test", content("plain").replace(b": plain", b": returned"))
    subject = "Undelivered Mail Returned to Sender"
    wait_until(lambda: bool(in_postfix(postfix, subject)))
    assert b"550 5.1.1 <nobody@here.test>" in in_postfix(postfix, subject)[0]
    gatepost.wait_for_log("NOQUEUE: reject: RCPT from unknown[127.0.0.1]: 550 5.1.1 <nobody@here.test>")
