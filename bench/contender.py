"""What a server must do to take part in the race."""

from __future__ import annotations

import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from bench.scenarios import FORWARDS

SENDER = "sender@src.test"
REMOTE_RECIPIENT = "u@dest.test"
FORWARDED_RECIPIENT = "u@ours.test"  # smtp-source -N writes its number before it
MAILBOX = "u@box.test"


class BenchError(Exception):
    """A run that does not count. The text says why, with the end of the server's log."""


class Contender(AbstractContextManager["Contender"], Protocol):
    """A server that serves one kind of scenario while its `with` block lasts."""

    name: str

    @property
    def port(self) -> int:
        """Where it takes mail on 127.0.0.1."""

    @property
    def pid(self) -> int:
        """The process all others of the server descend from."""

    @property
    def new_mail(self) -> Path:
        """The folder `new` of the Maildir of MAILBOX."""

    def waiting(self) -> int:
        """Messages in the queue, in whatever state."""

    def log_tail(self) -> str:
        """The last lines of its log."""


def forwards() -> dict[str, str]:
    """The table of the scenario `forward`, as smtp-source -N counts: from 1."""
    return {f"{n}{FORWARDED_RECIPIENT}": f"{n}{REMOTE_RECIPIENT}" for n in range(1, FORWARDS + 1)}


def greets(port: int) -> bool:
    """Whether an SMTP server on loopback says 220."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            greeted = connection.recv(512).startswith(b"220")
            connection.sendall(b"QUIT\r\n")
            connection.recv(512)
            return greeted
    except OSError:
        return False


def tail(text: str, lines: int = 12) -> str:
    """The last lines of `text`."""
    return "\n".join(text.splitlines()[-lines:])


class Deadline:
    """Time that runs out."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def passed(self) -> bool:
        """Whether it has."""
        return time.monotonic() > self._end
