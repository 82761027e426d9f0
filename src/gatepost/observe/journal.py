"""Journal: what rooms tell events to. It renders them at once, keeps the lines and writes them in batches.

- `record` never raises and never waits. In a worker, `attach(loop)` makes it write 50 ms after the first event or when
  64 KiB have come together; without a loop (command line, supervisor) it writes each event at once.
- Each write is whole lines and, for a file, one write(2): several processes may append to the same file.
- A full disk, a file that cannot be opened, or a reader of standard output that has stopped never stops mail. Lines
  are kept up to 4 MiB; further events are dropped and counted, and once writing works again a line says how many.

Open a journal in the process that uses it (lines hold its ID), after it has dropped its privileges (the file is its).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from gatepost.config.settings import LogSettings
from gatepost.mail.clock import Clock
from gatepost.observe.events import Event, Notice
from gatepost.observe.json_lines import JsonLines
from gatepost.observe.postfix_lines import PostfixLines
from gatepost.observe.sinks import LogFile, Sink, StandardOutput

FLUSH_SECONDS = 0.05
FLUSH_SIZE = 64 * 1024  # characters that have come together
MAX_BUFFER = 4 * 1024 * 1024  # characters kept while they cannot be written
BLOCKED_SECONDS = 0.2  # pause before a reader that stopped is tried again
CLOSING_SECONDS, CLOSING_TRIES = 0.5, 10  # how long the end waits for a slow reader
BROKEN_SECONDS = 1.0  # pause before a disk that failed is tried again

Renderer: TypeAlias = Callable[[float, Event], str]
"""Seconds since 1970 and an event -> its lines, each ending in LF."""


class Loop(Protocol):
    """As much of an event loop as the journal needs."""

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        """Call after `delay` seconds."""

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        """Call soon; may be asked for by another thread."""


class Output:
    """One format to one sink, with what waits to be written."""

    def __init__(self, render: Renderer, sink: Sink) -> None:
        self.size = 0  # characters waiting, about
        self.dropped = 0  # events since the last time the loss was told
        self.trouble = ""  # why nothing can be written at the moment
        self.is_blocked = False  # the trouble is a reader that stopped
        self._render = render
        self._sink = sink
        self._lines: list[str] = []  # appended to by any thread, taken from the front by `flush` alone
        self._unsent = b""  # whole lines
        self._retry_at = 0.0
        self._loss = ""

    @property
    def is_waiting(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._lines or self._unsent)

    def add(self, now: float, event: Event) -> int:
        """Render and keep. Never raises. Returns how much waits."""
        if self.size > MAX_BUFFER:
            self.dropped += 1
            self._loss = self.trouble
            return self.size
        try:
            lines = self._render(now, event)
        except Exception as error:
            # A mistake in an event must not stop the mail it tells of.
            self.dropped += 1
            self._loss = f"{type(event).__name__} could not be rendered: {error!r}"
            return self.size
        self._lines.append(lines)
        self.size += len(lines)
        return self.size

    def flush(self, now: float, monotonic: float) -> None:
        """Write what waits, unless it failed only just now. Never raises. For one thread at a time."""
        if monotonic < self._retry_at:
            return
        if self.is_waiting and not self._write(monotonic):
            return
        if self.dropped:
            dropped, self.dropped = self.dropped, 0
            self.add(now, Notice("journal", "warning", f"events lost by the log: {dropped}: {self._loss}"))
            self._write(monotonic)

    def _write(self, monotonic: float) -> bool:
        """Whether all was written."""
        count = len(self._lines)
        data = self._unsent + "".join(self._lines[:count]).encode("utf-8", "replace")
        del self._lines[:count]
        taken = 0
        try:
            taken = self._sink.write(data, monotonic)
            self.trouble = "" if taken == len(data) else f"{self._sink.name}: no room"
            self.is_blocked = taken < len(data)
            self._retry_at = monotonic + BLOCKED_SECONDS if self.is_blocked else 0.0
        except OSError as error:
            self.trouble = f"{self._sink.name}: {error.strerror or error}"
            self.is_blocked = isinstance(error, BlockingIOError)
            self._retry_at = monotonic + (BLOCKED_SECONDS if self.is_blocked else BROKEN_SECONDS)
        self._unsent = _rest(data, taken)
        self.size = len(self._unsent)
        return not self._unsent

    def probe(self, monotonic: float) -> None:
        """Open the sink, so that `trouble` says at the start what is wrong."""
        self._write(monotonic)

    def hurry(self) -> None:
        """Try at the next flush, however lately it failed."""
        self._retry_at = 0.0

    def reopen(self) -> None:
        """Open the sink again at the next write."""
        self._sink.reopen()
        self.hurry()

    def close(self) -> None:
        """Let go of the sink."""
        self._sink.close()


def _rest(data: bytes, taken: int) -> bytes:
    """What is still to be written. A line that was cut is closed and written again whole."""
    if taken >= len(data):
        return b""
    start = data.rfind(b"\n", 0, taken) + 1
    return data[start:] if start == taken else b"\n" + data[start:]


class Journal:
    """See the module. `record` is a `gatepost.observe.events.Record`, and may be called by any thread."""

    def __init__(self, outputs: Sequence[Output], clock: Clock) -> None:
        self._outputs = tuple(outputs)
        self._clock = clock
        self._loop: Loop | None = None
        self._loop_thread = 0
        self._is_due = False  # a flush was asked of the loop
        self._is_wanted = False
        self._flushing = threading.Lock()

    @property
    def troubles(self) -> list[str]:
        """Why outputs cannot be written at the moment, one text each: empty where all is well."""
        return [output.trouble for output in self._outputs if output.trouble]

    @property
    def dropped(self) -> int:
        """Events lost, in all outputs, and not yet told of."""
        return sum(output.dropped for output in self._outputs)

    def attach(self, loop: Loop | None) -> None:
        """Write in batches by this loop, the calling thread's; None: write each event at once again."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._is_due = False
        self.flush()

    def record(self, event: Event) -> None:
        """Take one event. Never raises, never waits."""
        now = self._clock.now()
        is_full = False
        for output in self._outputs:
            if output.add(now, event) > FLUSH_SIZE:
                is_full = True
        if is_full or self._loop is None:
            self.flush()
        elif not self._is_due:
            self._ask(FLUSH_SECONDS)

    def flush(self) -> None:
        """Write what waits. Never raises, never waits: where a flush is going on, that one goes round again."""
        self._is_wanted = True
        while self._is_wanted and self._flushing.acquire(blocking=False):
            try:
                self._is_wanted = False
                now, monotonic = self._clock.now(), self._clock.monotonic()
                for output in self._outputs:
                    output.flush(now, monotonic)
            finally:
                self._flushing.release()

    def _ask(self, seconds: float) -> None:
        """Have the loop flush after so long."""
        assert self._loop is not None
        self._is_due = True
        try:
            if threading.get_ident() == self._loop_thread:
                self._loop.call_later(seconds, self._flush_due)
            else:
                self._loop.call_soon_threadsafe(self._flush_due)
        except RuntimeError:  # the loop was closed under us
            self._is_due = False
            self.flush()

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()
        if self._loop is not None and not self._is_due and any(output.is_waiting for output in self._outputs):
            self._ask(BLOCKED_SECONDS)

    def reopen(self) -> None:
        """For SIGHUP and logrotate: what waits goes to the old file, all that follows to the new one."""
        self.flush()
        for output in self._outputs:
            output.reopen()

    def close(self) -> None:
        """Write what waits, giving a slow reader half a second, and let go. Never raises.

        An event told later opens the files again and is written at once.
        """
        self._loop = None
        for _ in range(CLOSING_TRIES):
            for output in self._outputs:
                output.hurry()
            self.flush()
            if not any(output.is_blocked for output in self._outputs):
                break
            time.sleep(CLOSING_SECONDS / CLOSING_TRIES)
        for output in self._outputs:
            output.close()


def open_journal(log: LogSettings, *, home: Path, hostname: str, clock: Clock) -> Journal:
    """The journal the settings ask for. Never raises: what is wrong with a file stands in `troubles`."""
    pid = os.getpid()
    formats: list[tuple[Renderer, str]] = [
        (PostfixLines(hostname, log.syslog_name, pid), log.file),
        (JsonLines(hostname, pid), log.json_file),
    ]
    outputs = [Output(render, _sink(home, path)) for render, path in formats if path]
    for output in outputs:
        output.probe(clock.monotonic())
    return Journal(outputs, clock)


def _sink(home: Path, path: str) -> Sink:
    return StandardOutput() if path == "-" else LogFile(home / path)
