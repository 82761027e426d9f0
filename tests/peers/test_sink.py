"""The sink keeps what it was sent, byte by byte, and misbehaves when told to."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from peers.ports import free_port
from peers.postfix import refuses_connections
from peers.programs import require
from peers.sink import DROP, SmtpSink

# What a sink must not change: dots, an empty line at the end, 8 bits, a NUL, trailing blanks, a long line.
CONTENT = b"Subject: x\r\n\r\n.\r\n..\r\n.dot\r\nt\xc3\xa4xt \xff\x00 \r\n" + b"x" * 200_000 + b"\r\n\r\n"


def send(sink: SmtpSink, content: bytes = CONTENT) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port, "client.test", timeout=10) as client:
        client.sendmail(
            "a@example.test", ["b@other.test", "c@other.test"], content, ["BODY=8BITMIME"], ["NOTIFY=NEVER"]
        )


def talk(sink: SmtpSink, sent: bytes) -> bytes:
    """All replies to what is sent at once, until the sink hangs up or half a second passes."""
    with socket.create_connection(("127.0.0.1", sink.port), 5) as client:
        client.sendall(sent)
        client.settimeout(0.5)
        received = b""
        try:
            while more := client.recv(65536):
                received += more
        except TimeoutError:
            pass
        return received


def test_a_message_is_kept_as_it_came() -> None:
    with SmtpSink() as sink:
        send(sink)
        (message,) = sink.wait()
    assert message.content == CONTENT
    assert message.sender == "a@example.test"
    assert "BODY=8BITMIME" in message.sender_parameters
    assert message.recipients == ("b@other.test", "c@other.test")
    assert message.recipient_parameters == (("NOTIFY=NEVER",), ("NOTIFY=NEVER",))
    assert (message.helo, message.tls, message.connection) == ("client.test", False, 1)


def test_the_message_is_there_when_its_250_is() -> None:
    with SmtpSink() as sink:
        for at in range(20):
            send(sink, b"Subject: %d\r\n\r\n" % at)
            assert len(sink.messages) == at + 1


def test_many_at_once() -> None:
    with SmtpSink() as sink:
        threads = [threading.Thread(target=send, args=(sink, b"Subject: %d\r\n\r\n" % at)) for at in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {message.content for message in sink.wait(50)} == {b"Subject: %d\r\n\r\n" % at for at in range(50)}
        assert sink.connections == 50


def test_pipelined_commands_are_answered_in_order() -> None:
    sent = (
        b'EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<"a> b"@other.test> NOTIFY=NEVER\r\nDATA\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n'
    )
    with SmtpSink(extensions=()) as sink:
        codes = [line[:3] for line in talk(sink, sent).split(b"\r\n") if line]
        (message,) = sink.messages
    assert codes == [b"220", b"250", b"250", b"250", b"354", b"250", b"250", b"250", b"221"]
    assert (message.sender, message.recipients, message.content) == ("", ('"a> b"@other.test',), b"")


def test_disorder_is_refused_and_the_session_goes_on() -> None:
    sent = b"RCPT TO:<a@b>\r\nMAIL FROM\r\nMAIL FROM:<a@b>\r\nDATA\r\nWHAT\r\nSTARTTLS\r\n\r\nQUIT\r\n"
    with SmtpSink() as sink:
        codes = [line[:3] for line in talk(sink, sent).split(b"\r\n") if line]
        assert sink.messages == []
    assert codes == [b"220", b"503", b"501", b"250", b"503", b"500", b"500", b"500", b"221"]


def test_it_refuses_what_it_is_told_to() -> None:
    def answer(verb: str, rest: str) -> str | None:
        return "450 4.2.1 later" if verb == "RCPT" and "c@" in rest else None

    with SmtpSink(answer=answer) as sink:
        send(sink)
        assert sink.wait()[0].recipients == ("b@other.test",)
        sink.answer = lambda verb, rest: "554 5.6.0 no" if verb == "CONTENT" else None
        with pytest.raises(smtplib.SMTPDataError):
            send(sink)
        assert len(sink.messages) == 1
        sink.answer = lambda verb, rest: "421 4.3.2 closed" if verb == "CONNECT" else None
        with pytest.raises(smtplib.SMTPConnectError):
            send(sink)


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
def test_it_hangs_up_where_it_is_told_to(verb: str) -> None:
    with SmtpSink(answer=lambda asked, rest: DROP if asked == verb else None) as sink:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(sink)
        assert sink.messages == []


@pytest.mark.peer
def test_it_speaks_tls(tmp_path: Path) -> None:
    certificate, key = tmp_path / "sink.crt", tmp_path / "sink.key"
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=sink.test -addext subjectAltName=DNS:sink.test"
    command = [require("openssl"), *make.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.check_hostname = False
    with SmtpSink(tls=context) as sink:
        with smtplib.SMTP("127.0.0.1", sink.port, "client.test", timeout=10) as client:
            client.starttls(context=trusting)
            client.sendmail("a@example.test", ["b@other.test"], CONTENT)
            assert not client.has_extn("STARTTLS")
        (message,) = sink.wait()
    assert message.tls
    assert message.content == CONTENT


def test_waiting_for_what_does_not_come_fails() -> None:
    with SmtpSink() as sink, pytest.raises(AssertionError, match="0 of 1 messages"):
        sink.wait(timeout=0.05)


def test_nothing_is_left_when_it_ends_in_the_middle_of_a_session() -> None:
    before = threading.active_count()
    with SmtpSink(port=free_port()) as sink:
        client = socket.create_connection(("127.0.0.1", sink.port), 5)
        client.sendall(b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nhalf a mess")
    with client:
        client.settimeout(5)
        while client.recv(65536):  # what it answered, then the end
            pass
    assert sink.messages == []
    assert refuses_connections(sink.port)
    assert threading.active_count() == before
