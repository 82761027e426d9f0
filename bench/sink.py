"""smtp-sink, and how many messages it has taken.

It writes its running counters to a pipe (`-c`), which is emptied now and then: asking costs next to nothing, so the
bench can ask every few milliseconds.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Sequence
from types import TracebackType

from bench.contender import BenchError, Deadline, greets
from bench.processes import cpu_seconds
from bench.tools import program
from peers.ports import free_port

_PIPE_SIZE = 1024 * 1024  # bytes: the sink must never wait for us
_COUNTER = re.compile(rb"mesg=(\d+)\r")


def last_count(text: bytes) -> int | None:
    """The last complete `mesg=` of the sink's counters."""
    counts: Sequence[bytes] = _COUNTER.findall(text)
    return int(counts[-1]) if counts else None


class Sink:
    """A next hop that throws mail away while its `with` block lasts."""

    def __init__(self) -> None:
        self.port = free_port()
        self._count = 0
        self._rest = b""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def relayhost(self) -> str:
        """Where it listens, as Postfix and Gatepost write a next hop."""
        return f"[127.0.0.1]:{self.port}"

    def __enter__(self) -> Sink:
        command = [program("smtp-sink"), *(["-u", "nobody"] if os.geteuid() == 0 else []), "-c", "-m", "2000"]
        self._process = subprocess.Popen(
            [*command, f"127.0.0.1:{self.port}", "1000"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it warns of every connection that a server keeps open
        )
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        os.set_blocking(self._pipe, False)
        deadline = Deadline(10)
        while not greets(self.port):
            if self._process.poll() is not None or deadline.passed():
                self._end()
                raise BenchError("smtp-sink did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate()

    def count(self) -> int:
        """Messages taken so far."""
        while True:
            try:
                piece = os.read(self._pipe, _PIPE_SIZE)
            except BlockingIOError:
                return self._count
            if not piece:
                raise BenchError("smtp-sink ended by itself")
            text = self._rest + piece
            self._count = last_count(text) or self._count
            self._rest = text[text.rfind(b"\r") + 1 :]

    def cpu_seconds(self) -> float:
        """CPU time it has used."""
        assert self._process is not None
        return cpu_seconds(self._process.pid)
