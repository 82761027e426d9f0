"""Received fields, read by a stranger; and that no peer can write into them."""

from __future__ import annotations

import email
import email.policy
import email.utils
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.address import Address, parse_address
from gatepost.mail.peer import Identity, Peer, TlsFacts
from gatepost.mail.trace import (
    Hop,
    count_received,
    delivered_to,
    generated_field,
    received_field,
    received_protocol,
)
from gatepost.protocols.smtp.commands import BadCommand, Helo, parse_command

AT = 1_800_000_000.0
HOP = Hop("client.test", Peer("192.0.2.7", 4711, "mail.client.test"), "mail.test", "0123456789BC", AT, "ESMTP")


def parsed(field: bytes) -> str:
    """The one Received field in `field`, unfolded, as Python's email package reads it."""
    message = email.message_from_bytes(field + b"\r\ntext", policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert message.keys() == ["Received"]
    assert message.defects == []
    assert message.get_payload() == "text"
    return str(message["Received"])


def test_all_of_it() -> None:
    hop = replace(
        HOP,
        recipient=parse_address("bob@example.test"),
        tls=TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256),
        identity=Identity(parse_address("ann@example.test"), "ann", "PLAIN"),
        protocol="ESMTPSA",
    )
    field = received_field(hop)
    date = email.utils.formatdate(AT, localtime=True)
    assert field.decode() == (
        "Received: from client.test (mail.client.test [192.0.2.7])\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))\r\n"
        "\t(Authenticated sender: ann@example.test)\r\n"
        "\tby mail.test (Gatepost) with ESMTPSA id 0123456789BC\r\n"
        f"\tfor <bob@example.test>; {date}\r\n"
    )
    assert parsed(field).startswith("from client.test (mail.client.test [192.0.2.7])")


@pytest.mark.parametrize(
    "recipient", [None, Address("bob", "d.test"), Address("a b", "d.test"), Address("postmaster", "")]
)
def test_the_date_stands_last_and_is_the_time_of_arrival(recipient: Address | None) -> None:
    text = parsed(received_field(replace(HOP, recipient=recipient)))
    date = email.utils.parsedate_to_datetime(text.rpartition(";")[2].strip())
    assert date == datetime.fromtimestamp(AT, UTC)
    assert (f"for <{recipient}>" in text) == (recipient is not None)


@pytest.mark.parametrize(
    ("address", "shown"),
    [("192.0.2.7", "[192.0.2.7]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("", "[local socket]")],
)
def test_address_of_the_peer(address: str, shown: str) -> None:
    assert shown in parsed(received_field(replace(HOP, peer=Peer(address, 1))))


@given(st.text(max_size=40) | st.text("ab\r\n\t ()\\;<>\x85\u2028\x00\ud800\u00fc", max_size=30))
def test_names_the_peer_chose_stay_in_their_place(text: str) -> None:
    field = received_field(replace(HOP, helo=text, peer=Peer("192.0.2.7", 1, text)))
    assert parsed(field).endswith(email.utils.formatdate(AT, localtime=True))
    assert field.count(b"\r\n") == field.count(b"\n") == field.count(b"\r") == 3
    first = field.split(b"\r\n")[0].decode()
    assert first.count("(") == first.count(")") == 1
    assert first.count(" ") == 4


@given(st.text(max_size=300))
def test_no_helo_that_the_server_takes_makes_a_line_too_long(text: str) -> None:
    try:
        helo = parse_command("EHLO", text)
    except BadCommand:
        return
    assert isinstance(helo, Helo)
    field = received_field(replace(HOP, helo=helo.name, peer=Peer("2001:db8::1", 1, "n" * 253)))
    assert f"from {helo.name} (".encode() in field  # nothing had to be replaced
    assert max(map(len, field.split(b"\r\n"))) <= 998  # RFC 5322 §2.1.1


def test_an_account_cannot_close_the_comment_it_stands_in() -> None:
    identity = Identity(Address("a) by evil.test (", "d.test"), "a", "PLAIN")
    field = received_field(replace(HOP, identity=identity))
    assert field.split(b"\r\n")[1] == b'\t(Authenticated sender: "a??by?evil.test??"@d.test)'


@pytest.mark.parametrize(
    ("lmtp", "extended", "tls", "authenticated", "smtputf8", "word"),
    [
        (False, False, False, False, False, "SMTP"),
        (False, True, False, False, False, "ESMTP"),
        (False, True, True, False, False, "ESMTPS"),
        (False, True, True, True, False, "ESMTPSA"),
        (False, True, False, True, False, "ESMTPA"),
        (True, True, False, False, False, "LMTP"),
        (True, True, True, True, False, "LMTPSA"),
        (False, True, True, True, True, "UTF8SMTPSA"),
        (True, True, False, False, True, "UTF8LMTP"),
    ],
)
def test_protocol_words(
    lmtp: bool, extended: bool, tls: bool, authenticated: bool, smtputf8: bool, word: str
) -> None:  # RFC 3848, RFC 6531 §4.3
    assert word == received_protocol(
        lmtp=lmtp, extended=extended, tls=tls, authenticated=authenticated, smtputf8=smtputf8
    )


def test_hops_are_counted() -> None:
    header = (
        received_field(HOP) * 3
        + b"RECEIVED : x\r\nX-Received: y\r\nno field\r\nreceived: z\r\nSubject: Received: q\r\n"
    )
    assert count_received(header) == 5
    assert count_received(generated_field("mail.test", "0123456789BC", AT)) == 1
    assert count_received(b"") == 0


def test_delivered_to() -> None:
    header = b"Delivered-To: Ann@Example.test\r\nX: y\r\ndelivered-to:\r\n bob@example.test\r\n"
    assert delivered_to(header) == {"ann@example.test", "bob@example.test"}


def test_the_field_of_our_own_messages() -> None:
    text = parsed(generated_field("mail.test", "0123456789BC", AT))
    assert text.startswith("by mail.test (Gatepost)")
    assert "id 0123456789BC" in text
    assert email.utils.parsedate_to_datetime(text.rpartition(";")[2]) == datetime.fromtimestamp(AT, UTC)
