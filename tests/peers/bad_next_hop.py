"""BadNextHop: an SMTP server for tests that does exactly what its script says, connection by connection.

A script is a text of lines, done in order:

    S: 220 mx.test          send this line, CRLF added
    S> raw\\r\\nbytes       send these bytes, escapes decoded
    C: MAIL                 read a line; it must begin so
    CONTENT                 read to the end of data; kept in `contents`
    READ 1000               read so many bytes of content and no more
    TLS                     serve the handshake now (needs `tls`)
    FLOOD x 1000000         send so many of this character
    SILENCE                 read, and never say another word
    DRIBBLE x               send this character again and again, slowly
    DEAF                    read no more, and say no more
    CLOSE / RESET           close in order / with a TCP reset
    MESSAGE                 a whole message of one recipient, accepted: MAIL, RCPT, DATA, content
    FOREVER                 do the lines after this again and again until the peer says QUIT or goes away

The first connection gets the first script, and so on; the last script serves all that come later. What did not go as the
script says is in `complaints`, which `close` raises. It runs in the test's own event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import textwrap

GREETING = """\
S: 220 mx.test ESMTP
C: EHLO
S: 250-mx.test
S: 250-PIPELINING
S: 250 ENHANCEDSTATUSCODES
"""

GREETING_WITH_TLS = """\
S: 220 mx.test ESMTP
C: EHLO
S: 250-mx.test
S: 250 STARTTLS
C: STARTTLS
"""

GOOD = f"{GREETING}FOREVER\nMESSAGE\n"


class BadNextHop:
    """`async with BadNextHop(script, …) as hop:` serves on a free port of 127.0.0.1, or where `address` and `port` say."""

    def __init__(self, *scripts: str, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0  # chosen when it starts, unless it is set before
        self.address = "127.0.0.1"
        self.contents: list[bytes] = []
        self.connections = 0
        self.heard: list[str] = []  # commands, in order, over all connections
        self.complaints: list[str] = []
        self._scripts = [textwrap.dedent(script).strip("\n").splitlines() for script in scripts]
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    @property
    def next_hop(self) -> str:
        """As `Route.next_hop` has it."""
        return f"[127.0.0.1]:{self.port}"

    async def __aenter__(self) -> BadNextHop:
        self._server = await asyncio.start_server(self._accept, self.address, self.port, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for session in list(self._sessions):
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        await asyncio.sleep(0)
        assert not self.complaints, self.complaints

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        try:
            await _Session(self, reader, writer).play(script)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the peer went away, or the test is over
        except AssertionError as error:
            self.complaints.append(str(error))
        finally:
            self._sessions.discard(task)
            writer.transport.abort()

    @property
    def tls(self) -> ssl.SSLContext:
        """The context for TLS lines."""
        assert self._tls is not None, "the script says TLS, and there is no context"
        return self._tls


class _Quit(EOFError):
    """The peer said goodbye."""


class _Session:
    def __init__(self, hop: BadNextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._hop = hop
        self._reader = reader
        self._writer = writer

    async def play(self, script: list[str]) -> None:
        if "FOREVER" in script:
            at = script.index("FOREVER")
            await self.play(script[:at])
            while True:
                await self.play(script[at + 1 :])
        for line in script:
            await self._do(line)

    async def _do(self, line: str) -> None:
        verb, _, rest = line.partition(" ")
        match verb:
            case "S:":
                await self._send(rest.encode() + b"\r\n")
            case "S>":
                await self._send(rest.encode("latin-1").decode("unicode_escape").encode("latin-1"))
            case "C:":
                await self._hear(rest)
            case "CONTENT":
                await self._content()
            case "READ":
                await self._reader.readexactly(int(rest))
            case "TLS":
                await self._writer.start_tls(self._hop.tls)
            case "FLOOD":
                character, _, count = rest.partition(" ")
                await self._send(character.encode() * int(count))
            case "SILENCE":
                while await self._reader.read(65536):
                    pass
            case "DRIBBLE":
                while True:
                    await self._send(rest.encode())
                    await asyncio.sleep(0.05)
            case "DEAF":
                self._writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            case "CLOSE":
                self._writer.close()
                raise EOFError
            case "RESET":
                sock: socket.socket = self._writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._writer.transport.abort()
                raise EOFError
            case "MESSAGE":
                for command, reply in (("MAIL", "250 2.1.0 Ok"), ("RCPT", "250 2.1.5 Ok"), ("DATA", "354 go on")):
                    await self._hear(command)
                    await self._send(reply.encode() + b"\r\n")
                await self._content()
                await self._send(b"250 2.0.0 queued\r\n")
            case _:
                raise AssertionError(f"no line of a script: {line}")

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def _hear(self, expected: str) -> None:
        line = (await self._reader.readuntil(b"\r\n")).decode().rstrip("\r\n")
        self._hop.heard.append(line)
        if line == "QUIT":
            await self._send(b"221 2.0.0 Bye\r\n")
            raise _Quit
        if line == "RSET" and expected != "RSET":
            await self._send(b"250 2.0.0 Ok\r\n")
            await self._hear(expected)
            return
        assert line.startswith(expected), f"heard {line!r} where the script has {expected!r}"

    async def _content(self) -> None:
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        self._hop.contents.append(b"".join(lines))
