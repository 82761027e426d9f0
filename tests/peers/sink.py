"""SmtpSink: an SMTP server for tests that keeps every message exactly as it came.

It runs an event loop in a thread of its own, so tests stay plain functions. By hand it is made to misbehave: `answer` is
asked before each command and may give another reply than 250, or have the connection dropped.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LINE_LIMIT = 64 * 1024 * 1024  # bytes; tests send absurd lines on purpose
DROP = "drop"  # what `answer` gives to have the connection closed without a reply

Answer = Callable[[str, str], str | None]
"""(verb, rest of the line) -> "450 4.2.1 reply", DROP, or None for the sink's own reply.

The verbs are CONNECT, then those of SMTP in upper case, and CONTENT for the end of the data.
"""


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """A message that got its 250. Paths are what stood between the angle brackets, parameters what came after."""

    helo: str
    sender: str
    sender_parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    recipient_parameters: tuple[tuple[str, ...], ...]
    content: bytes  # dot-unstuffed, CRLF at each end of line as it came
    tls: bool
    connection: int  # counted from 1


@dataclass(slots=True)
class _Transaction:
    sender: tuple[str, tuple[str, ...]] | None = None
    recipients: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)


class SmtpSink:
    """Takes mail on 127.0.0.1 while its `with` block lasts. All methods may be called from the test's thread."""

    def __init__(
        self,
        *,
        answer: Answer | None = None,
        tls: ssl.SSLContext | None = None,
        extensions: tuple[str, ...] = (
            "PIPELINING",
            "SIZE 104857600",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            "DSN",
            "SMTPUTF8",
        ),
        port: int = 0,
    ) -> None:
        """`tls` offers STARTTLS with that context; `answer` may be changed while it runs."""
        self.answer = answer
        self.port = port
        self.connections = 0
        self.commands: list[str] = []  # every line received, content aside
        self._tls = tls
        self._extensions = extensions
        self._messages: list[TakenMessage] = []
        self._news = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp-sink", daemon=True)
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    def __enter__(self) -> SmtpSink:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._end_thread()

    @property
    def relayhost(self) -> str:
        """Where it listens, as Postfix and Gatepost write a next hop."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def messages(self) -> list[TakenMessage]:
        """All that were taken, in order."""
        with self._news:
            return list(self._messages)

    def wait(self, count: int = 1, timeout: float = 20.0) -> list[TakenMessage]:
        """All messages, as soon as there are `count`; AssertionError after `timeout` seconds."""
        with self._news:
            arrived = self._news.wait_for(lambda: len(self._messages) >= count, timeout)
            assert arrived, (
                f"{len(self._messages)} of {count} messages came within {timeout} s; last: {self.commands[-5:]}"
            )
            return list(self._messages)

    def clear(self) -> None:
        """Forget what was taken."""
        with self._news:
            self._messages.clear()
            self.commands.clear()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=listening, limit=LINE_LIMIT, backlog=1024)

    async def _close(self) -> None:
        assert self._server is not None
        # Python 3.11 forgets a connection, open, that it has accepted but not yet handed on when the server is closed.
        self._loop.remove_reader(self._server.sockets[0].fileno())
        await _turns(10)
        self._server.close()
        sessions = dict(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)
        for writer in sessions.values():
            writer.transport.abort()  # one cancelled before its first step has closed nothing
        await _turns(10)  # the transports close their sockets
        await asyncio.wait_for(self._server.wait_closed(), 5)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        session = self._loop.create_task(self._serve(_Session(self, reader, writer, self.connections), writer))
        self._sessions[session] = writer
        session.add_done_callback(self._sessions.pop)

    async def _serve(self, session: _Session, writer: asyncio.StreamWriter) -> None:
        try:
            await session.run()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the peer went away or sent no line end, or the test is over
        finally:
            writer.close()
            try:
                await writer.wait_closed()
            except (OSError, asyncio.CancelledError):
                pass

    def _take(self, message: TakenMessage) -> None:
        with self._news:
            self._messages.append(message)
            self._news.notify_all()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class _Drop(OSError):
    """The connection is to be closed now."""


class _Session:
    """One connection."""

    def __init__(self, sink: SmtpSink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._sink = sink
        self._reader = reader
        self._writer = writer
        self._number = number
        self._helo = ""
        self._tls = False
        self._transaction = _Transaction()

    async def run(self) -> None:
        if not self._reply("CONNECT", "", "220 sink.test ESMTP"):
            return
        while True:
            await self._writer.drain()
            line = (await self._reader.readuntil(b"\n")).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
            self._sink.commands.append(line)
            verb, _, rest = line.partition(" ")
            if not await self._command(verb.upper(), rest):
                await self._writer.drain()
                return

    async def _command(self, verb: str, rest: str) -> bool:
        match verb:
            case "EHLO" | "HELO":
                self._helo, self._transaction = rest, _Transaction()
                self._reply(verb, rest, self._greeting() if verb == "EHLO" else "250 sink.test")
            case "MAIL" | "RCPT":
                self._address(verb, rest)
            case "DATA":
                if not self._transaction.recipients:
                    self._send("503 5.5.1 No recipients")
                elif self._reply(verb, rest, "354 End data with <CR><LF>.<CR><LF>"):
                    await self._content()
            case "RSET":
                self._transaction = _Transaction()
                self._reply(verb, rest, "250 2.0.0 Ok")
            case "STARTTLS" if self._sink._tls is not None:
                if self._reply(verb, rest, "220 2.0.0 Ready to start TLS"):
                    await self._writer.start_tls(self._sink._tls)
                    self._tls = True
            case "NOOP":
                self._reply(verb, rest, "250 2.0.0 Ok")
            case "QUIT":
                self._reply(verb, rest, "221 2.0.0 Bye")
                return False
            case _:
                self._reply(verb, rest, "500 5.5.2 Command unknown")
        return True

    def _address(self, verb: str, rest: str) -> None:
        path = _path(rest)
        if path is None:
            self._send("501 5.5.4 No path")
        elif verb == "RCPT" and self._transaction.sender is None:
            self._send("503 5.5.1 No sender")
        elif self._reply(verb, rest, "250 2.1.0 Ok"):
            if verb == "MAIL":
                self._transaction = _Transaction(path)
            else:
                self._transaction.recipients.append(path)

    async def _content(self) -> None:
        await self._writer.drain()
        lines = []
        while (line := await self._reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        transaction, self._transaction = self._transaction, _Transaction()
        assert transaction.sender is not None
        message = TakenMessage(
            self._helo,
            transaction.sender[0],
            transaction.sender[1],
            tuple(path for path, _ in transaction.recipients),
            tuple(parameters for _, parameters in transaction.recipients),
            b"".join(lines),
            self._tls,
            self._number,
        )
        # Kept before the reply is written: whoever has the 250 finds the message here.
        reply = self._chosen("CONTENT", "") or "250 2.0.0 Ok: taken"
        if reply.startswith("2"):
            self._sink._take(message)
        self._send(reply)

    def _greeting(self) -> str:
        words = ["sink.test", *self._sink._extensions, *(["STARTTLS"] if self._sink._tls and not self._tls else [])]
        return "\r\n".join(f"250{' ' if at == len(words) - 1 else '-'}{word}" for at, word in enumerate(words))

    def _chosen(self, verb: str, rest: str) -> str | None:
        return self._sink.answer(verb, rest) if self._sink.answer is not None else None

    def _reply(self, verb: str, rest: str, usual: str) -> bool:
        """Whether the reply that was sent is a positive one."""
        reply = self._chosen(verb, rest) or usual
        self._send(reply)
        return reply[0] in "23"

    def _send(self, reply: str) -> None:
        if reply == DROP:
            raise _Drop
        self._writer.write(reply.encode() + b"\r\n")


_PATH = re.compile(r"""[^<]*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(.*)""", re.DOTALL)


def _path(rest: str) -> tuple[str, tuple[str, ...]] | None:
    """`FROM:<a@b> SIZE=1` as (`a@b`, (`SIZE=1`,)). A quoted local part may hold `>` and blanks."""
    found = _PATH.fullmatch(rest)
    return (found[1], tuple(found[2].split())) if found else None


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Ask again and again until `condition` holds; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"still not so after {timeout} s"
        time.sleep(0.01)
