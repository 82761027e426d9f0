"""Where log lines go: a file that several processes append to, or standard output. Neither ever waits.

A sink takes bytes that are whole lines and says how many of them it took. It raises BlockingIOError where the other
side does not read, and any other OSError where it cannot write at all; the caller decides what to keep.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import sys
from pathlib import Path
from typing import Protocol

CHECK_SECONDS = 1.0  # how often a file looks whether its path still names it
FILE_MODE = 0o640
DIRECTORY_MODE = 0o750
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
_CHUNK = select.PIPE_BUF  # so much a pipe takes whole or not at all, however many write to it


class Sink(Protocol):
    """What an Output writes to."""

    @property
    def name(self) -> str:
        """What errors call it."""

    def write(self, lines: bytes, monotonic: float) -> int:
        """Take whole lines; how many bytes were taken. `monotonic`: seconds, for checks now and then. Raises OSError."""

    def reopen(self) -> None:
        """Open again at the next write. Never raises."""

    def close(self) -> None:
        """Let go. Never raises."""


class LogFile:
    """A file, made with mode 0640 and only ever appended to, with one write(2) for each `write`.

    `write` notices by itself, at most once a second, that the path was moved or removed (logrotate), and makes it anew.
    A symbolic link is refused: the log folder may belong to a less trusted user than the one who writes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._next_check = 0.0
        self._is_stale = False

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._path)

    def write(self, lines: bytes, monotonic: float) -> int:
        """Append. Less than all is taken where the disk fills up meanwhile. Raises OSError."""
        if self._is_stale:
            self.close()
        elif monotonic >= self._next_check:
            self._next_check = monotonic + CHECK_SECONDS
            if self._fd >= 0 and self._is_moved():
                self.close()
        if self._fd < 0:
            self._fd = self._open()
        return os.write(self._fd, lines) if lines else 0

    def _open(self) -> int:
        self._path.parent.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        try:
            # O_NONBLOCK: a FIFO nobody reads is an error then, not a wait.
            return os.open(self._path, _FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "is a symbolic link; name the file itself") from None
            raise

    def _is_moved(self) -> bool:
        try:
            named = self._path.lstat()
        except OSError:
            return True
        opened = os.fstat(self._fd)
        return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)

    def reopen(self) -> None:
        """Open the path again at the next write; may be called while one is going on (signal handler, other thread)."""
        self._is_stale = True

    def close(self) -> None:
        """Close the file; a write opens it again."""
        self._is_stale = False
        fd, self._fd = self._fd, -1
        if fd >= 0:
            _close(fd)


class StandardOutput:
    """Standard output, be it a terminal, a pipe, a file or the journal's socket; it is never set non-blocking itself,
    since it is shared with whoever started us."""

    def __init__(self, fd: int = 1) -> None:
        self._shared_fd = fd
        self._fd = -1
        self._socket: socket.socket | None = None
        self._is_file = False
        self._poll = select.poll()

    @property
    def name(self) -> str:
        """As errors call it."""
        return "standard output"

    def write(self, lines: bytes, monotonic: float) -> int:
        """Take as many whole lines as fit at once. Raises BlockingIOError if none does, and OSError."""
        if self._fd < 0:
            self._open()
        if self._is_file:
            return os.write(self._fd, lines)
        taken = 0
        while taken < len(lines):
            try:
                taken += self._write_chunk(lines[taken : _chunk_end(lines, taken)])
            except BlockingIOError:
                if not taken:
                    raise
                break
        return taken

    def _write_chunk(self, chunk: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(chunk, socket.MSG_DONTWAIT)
        if not self._poll.poll(0):
            raise BlockingIOError(errno.EAGAIN, "nobody reads it")
        return os.write(self._fd, chunk)

    def _open(self) -> None:
        if self._shared_fd == 1 and sys.__stdout__ is None:
            raise OSError(errno.EBADF, "was closed when the program started")  # 1 may be any file by now
        mode = os.fstat(self._shared_fd).st_mode
        self._is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._fd = os.dup(self._shared_fd)
            self._socket = socket.socket(fileno=self._fd)
            return
        self._fd = _own_description(self._shared_fd) if not self._is_file else os.dup(self._shared_fd)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLOUT)

    def reopen(self) -> None:
        """Nothing: it has no path."""

    def close(self) -> None:
        """Let go of our copy; standard output itself stays open."""
        fd, self._fd = self._fd, -1
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.detach()
        if fd >= 0:
            _close(fd)


def _own_description(fd: int) -> int:
    """The same pipe or terminal with a non-blocking flag of our own; where that is not allowed, a plain copy."""
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return os.dup(fd)


def _chunk_end(lines: bytes, start: int) -> int:
    """Where the last line ends that fits into one chunk; a longer line goes alone."""
    end = lines.rfind(b"\n", start, start + _CHUNK) + 1
    if not end:
        end = lines.find(b"\n", start) + 1
    return end or len(lines)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass  # nothing is left to do about it
