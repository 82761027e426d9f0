"""What an idle SMTP session costs: thousands of them on one Gatepost worker.

The cost is the growth of the worker's RSS by the number of sessions: after the greeting, after EHLO, and after each has
sent a message of 4 KiB and sits idle again. The kernel's own memory for sockets is not in it. A few hundred sessions come,
send a message and go first, so that what the worker allocates once is not counted as theirs.
"""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bench.contender import REMOTE_RECIPIENT, SENDER, BenchError, Deadline
from bench.gatepost_contender import GatepostContender
from bench.processes import ProcessMemory, memory
from bench.sink import Sink

GOAL = 40.0  # KB of 1,000 bytes for each session
WARM_UP = 300  # sessions
SPARE_FILES = 1000  # descriptors for everything else

_CONTENT = b"Subject: bench\r\n\r\n" + (b"X" * 78 + b"\r\n") * 51 + b".\r\n"
_LAST_LINE = re.compile(rb"^(\d\d\d) .*\r\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class IdleSessions:
    """The worker's RSS in KiB at each step."""

    sessions: int
    before: int
    greeted: int
    after_ehlo: int
    after_message: int
    after_quit: int
    greeting_milliseconds: float  # from connect to 220, with all others open

    def kilobytes_each(self, rss: int) -> float:
        """KB (1,000 bytes) by which one session made the RSS grow."""
        return (rss - self.before) * 1.024 / self.sessions


def measure_idle_sessions(count: int, say: Callable[[str], None]) -> IdleSessions:
    """Open `count` sessions, let them sit, close them. Raises BenchError."""
    _allow_files(count + SPARE_FILES)
    with Sink() as sink, GatepostContender("relay", sink.relayhost, workers=1) as gatepost:
        with ExitStack() as stack:
            for _ in range(WARM_UP):
                session = _greeted(stack, gatepost.port)
                _ehlo(session)
                _send(session)
        time.sleep(1)
        before = _worker(gatepost).rss
        say(f"the worker has {before} KiB RSS; opening {count} sessions")
        with ExitStack() as stack:
            sessions = [_greeted(stack, gatepost.port) for _ in range(count)]
            time.sleep(1)
            greeted = _worker(gatepost).rss
            for session in sessions:
                _ehlo(session)
            time.sleep(1)
            after_ehlo = _worker(gatepost).rss
            for session in sessions:
                _send(session)
            _await_arrival(sink, WARM_UP + count)
            after_message = _worker(gatepost).rss
            start = time.perf_counter()
            _greeted(stack, gatepost.port)
            greeting = time.perf_counter() - start
        time.sleep(2)
        return IdleSessions(count, before, greeted, after_ehlo, after_message, _worker(gatepost).rss, 1000 * greeting)


def _worker(gatepost: GatepostContender) -> ProcessMemory:
    workers = memory(gatepost.pid)[1:]
    if not workers:
        raise BenchError(f"no worker is left; the log ends so:\n{gatepost.log_tail()}")
    return max(workers, key=lambda one: one.rss)


def _greeted(stack: ExitStack, port: int) -> socket.socket:
    session = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    _expect(session, b"220")
    return session


def _ehlo(session: socket.socket) -> None:
    session.sendall(b"EHLO idle.test\r\n")
    _expect(session, b"250")


def _send(session: socket.socket) -> None:
    """A message to the next hop, pipelined as far as it goes."""
    session.sendall(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{REMOTE_RECIPIENT}>\r\nDATA\r\n".encode())
    _expect(session, b"250", b"250", b"354")
    session.sendall(_CONTENT)
    _expect(session, b"250")


def _await_arrival(sink: Sink, count: int) -> None:
    deadline = Deadline(60)
    while sink.count() < count:
        if deadline.passed():
            raise BenchError(f"{sink.count()} of {count} messages arrived")
        time.sleep(0.05)
    time.sleep(1)


def _expect(session: socket.socket, *codes: bytes) -> None:
    """Read replies until there are as many as `codes`, and compare."""
    text = b""
    while len(replies := _LAST_LINE.findall(text)) < len(codes):
        piece = session.recv(4096)
        if not piece:
            raise BenchError(f"a session was closed; it had said {text!r}")
        text += piece
    if tuple(replies) != codes:
        raise BenchError(f"{text!r} came instead of {b', '.join(codes).decode()}")


def _allow_files(wanted: int) -> None:
    """Raise the limit of open files, for us and for the server that inherits it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    except (ValueError, OSError):
        raise BenchError(f"{wanted} open files are needed and only {hard} allowed; try as root") from None
