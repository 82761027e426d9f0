"""TLS as impatient clients do it: their first bytes come before the server is ready for them, or two things at once."""

from __future__ import annotations

import base64
import socket
import ssl
from collections.abc import Iterator

import pytest

from peers.gatepost import GatepostInstance
from peers.ports import free_port
from peers.wire import Wire

SECOND = free_port()
LOGIN = base64.b64encode(b"\0ann@here.test\0ann-secret").decode()


@pytest.fixture(scope="module")
def gatepost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatepostInstance]:
    # The client's name is looked up before the handshake: it takes its time, and the client does not wait for it.
    looks_up = f"""
        reverse_lookup = true
        [[listener]]
        role = "submissions"
        address = "127.0.0.1:{SECOND}"
        reverse_lookup = false
    """
    folder = tmp_path_factory.mktemp("gatepost")
    with GatepostInstance(folder, listeners={"submissions": looks_up}) as instance:
        yield instance


class Impatient:
    """A TLS client on a plain socket that decides itself when its bytes are sent."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = connection
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def handshake_and_say(self, words: bytes) -> None:
        """The handshake; its last flight and these words in one segment."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(self._out.read())
                self._in.write(self._socket.recv(65536))
        self._tls.write(words)
        self._socket.sendall(self._out.read())

    def hear(self) -> bytes:
        """What the server says next."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                received = self._socket.recv(65536)
                assert received, "the server hung up"
                self._in.write(received)


@pytest.mark.parametrize("looked_up", [False, True])
def test_the_first_bytes_of_tls_come_at_once(gatepost: GatepostInstance, looked_up: bool) -> None:
    for _ in range(10):
        address = gatepost.address("submissions") if looked_up else ("127.0.0.1", SECOND)
        with Wire(address, tls=gatepost.tls(), timeout=10) as wire:
            assert wire.greeting.startswith("220 ")
            assert wire.hello()


def test_ehlo_in_one_segment_with_the_end_of_the_handshake(gatepost: GatepostInstance) -> None:
    for _ in range(5):
        with Wire(gatepost.address("submission"), timeout=10) as wire:
            wire.hello()
            assert wire.ask("STARTTLS").startswith("220")
            client = Impatient(wire.socket, gatepost.tls())
            client.handshake_and_say(b"EHLO client.test\r\n")
            assert b"250-AUTH PLAIN LOGIN\r\n" in client.hear()


def test_what_was_said_before_tls_is_forgotten(gatepost: GatepostInstance) -> None:
    with Wire(gatepost.address("submission"), timeout=10) as wire:
        wire.hello()
        wire.send(b"STARTTLS\r\nEHLO liar.test\r\nNOOP\r\n")  # CVE-2011-0411
        assert wire.reply().startswith("220")
        wire.start_tls(gatepost.tls())
        assert wire.ask("MAIL FROM:<ann@here.test>").startswith(("503", "530"))  # the EHLO went with the rest
        assert "AUTH PLAIN LOGIN" in wire.hello()
        assert wire.ask(f"AUTH PLAIN {LOGIN}").startswith("235")
        assert wire.ask("MAIL FROM:<ann@here.test>").startswith("250")


def test_plain_text_where_tls_begins_and_tls_where_text_does(gatepost: GatepostInstance) -> None:
    with socket.create_connection(gatepost.address("submissions"), timeout=10) as connection:
        connection.sendall(b"EHLO client.test\r\n")
        assert b"250" not in connection.recv(65536)
    with socket.create_connection(gatepost.address("mx"), timeout=10) as connection, pytest.raises(OSError):
        gatepost.tls().wrap_socket(connection, server_hostname="localhost")
    gatepost.wait_for_log("TLS handshake failed")
