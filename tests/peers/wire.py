"""Wire: an SMTP client that sends whatever bytes it is told to, and reads whole replies."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

CLIENT = "client.test"


class Wire:
    """One connection, with its greeting read. Time limits are those of the socket: TimeoutError."""

    def __init__(
        self, address: tuple[str, int] | str, *, timeout: float = 20.0, tls: ssl.SSLContext | None = None
    ) -> None:
        """`address` of TCP, or the path of a UNIX socket. `tls`: from the first byte."""
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self._received = b""
        try:
            self.socket.connect(address)
            if tls is not None:
                self.start_tls(tls)
            self.greeting = self.reply()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake, now."""
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, data: bytes) -> None:
        """These bytes and no others."""
        self.socket.sendall(data)

    def reply(self) -> str:
        """The next reply, all its lines without their ends, joined by newlines; "" at the end of the connection."""
        lines: list[str] = []
        while not lines or lines[-1][3:4] == "-":
            line = self._line()
            if not line:
                break
            lines.append(line)
        return "\n".join(lines)

    def replies(self, count: int) -> list[str]:
        """So many."""
        return [self.reply() for _ in range(count)]

    def _line(self) -> str:
        while b"\r\n" not in self._received:
            try:
                piece = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                piece = b""
            if not piece:
                assert not self._received, f"half a reply: {self._received!r}"
                return ""
            self._received += piece
        line, _, self._received = self._received.partition(b"\r\n")
        return line.decode()

    def ask(self, *commands: str) -> str:
        """Send each command and wait for its reply; the last one."""
        answer = ""
        for command in commands:
            self.send(command.encode() + b"\r\n")
            answer = self.reply()
        return answer

    def hello(self, verb: str = "EHLO") -> list[str]:
        """EHLO; what is offered."""
        lines = self.ask(f"{verb} {CLIENT}").splitlines()
        assert lines and lines[0].startswith("250"), lines
        return [line[4:] for line in lines[1:]]

    def envelope(self, sender: str, recipients: Iterable[str]) -> None:
        """MAIL and RCPT, which must be taken."""
        for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{recipient}>" for recipient in recipients)):
            answer = self.ask(command)
            assert answer.startswith("250"), f"{command}: {answer}"

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        received, self._received = self._received, b""
        try:
            while piece := self.socket.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received
