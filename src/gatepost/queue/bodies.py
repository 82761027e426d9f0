"""Bodies: gathered in memory while they are small, in a file of their own once they are not.

A body file has its final name, its queue ID, from the first byte: what makes it part of the queue is the row of its
message, committed after the file and its folder were synced. A file without such a row is rubbish of a crash, and
`sweep` removes it. Files are 0600 and never opened through a link.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gatepost.mail.content import header_length
from gatepost.mail.queue_id import BadQueueId, queue_number
from gatepost.queue.records import Body
from gatepost.storage.errors import StorageFull, StorageUnavailable

HEADER_LIMIT = 512 * 1024  # bytes of the header block kept beside a body

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_END_OF_HEADER = b"\r\n\r\n"


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """An OSError within becomes StorageFull or StorageUnavailable that names the file."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StorageFull(path, f"it cannot be written: {error.strerror}; make room on its file system") from error
        hint = "it and its folder must belong to the user Gatepost runs as"
        raise StorageUnavailable(path, f"it cannot be written: {error.strerror}; {hint}") from error


class BodyWriter:
    """Takes one message's bytes as they come. End it with `finish`; `discard` forgets it, also after `finish`.

    A file stays open until it is synced, since only a descriptor that was open when writing failed is sure to hear of it:
    `finish` leaves it in `unsynced` under the message's number.
    """

    def __init__(self, path: Path, number: int, file_size: int, unsynced: dict[int, int]) -> None:
        self._path = path
        self._number = number
        self._file_size = file_size
        self._unsynced = unsynced
        self._size = 0
        self._chunks: list[bytes] = []  # while in memory
        self._file = -1
        self._in_file = False
        self._header = bytearray()  # once in a file
        self._header_ended = False

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    def write(self, chunk: bytes) -> None:
        """More bytes. Raises StorageFull, StorageUnavailable; the body is then discarded."""
        self._size += len(chunk)
        if self._in_file:
            self._write_file((chunk,))
            return
        self._chunks.append(chunk)
        if self._size >= self._file_size:
            chunks, self._chunks = self._chunks, []
            self._open_file()
            self._write_file(chunks)

    def finish(self) -> Body:
        """The whole body. A file is yet to be synced: that is done before its message is stored."""
        if not self._in_file:
            content = b"".join(self._chunks)
            return Body(self._size, content[: min(header_length(content), HEADER_LIMIT)], content)
        if self._file >= 0:
            self._unsynced[self._number] = self._file
            self._file = -1
        return Body(self._size, bytes(self._header), path=self._path)

    def discard(self) -> None:
        """Forget it, file and all. Not once its message was handed to `add`."""
        self._chunks.clear()
        file = self._unsynced.pop(self._number, self._file)
        if file >= 0:
            os.close(file)
            self._file = -1
        if self._in_file:
            remove(self._path)

    def _open_file(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with file_errors(self._path):
            self._file = os.open(self._path, flags, 0o600)
        self._in_file = True

    def _write_file(self, chunks: Sequence[bytes]) -> None:
        try:
            with file_errors(self._path):
                for chunk in chunks:
                    view = memoryview(chunk)
                    while view:
                        view = view[os.write(self._file, view) :]
                    self._keep_header(chunk)
        except BaseException:
            self.discard()
            raise

    def _keep_header(self, chunk: bytes) -> None:
        if self._header_ended:
            return
        before = max(0, len(self._header) - len(_END_OF_HEADER))  # the empty line may lie across two chunks
        self._header += chunk[: HEADER_LIMIT - len(self._header)]
        if self._header.startswith(b"\r\n"):
            self._header.clear()
            self._header_ended = True
        elif (end := self._header.find(_END_OF_HEADER, before)) >= 0:
            del self._header[end + 2 :]
            self._header_ended = True
        elif len(self._header) == HEADER_LIMIT:
            self._header_ended = True


def sync_file(file: int, path: Path) -> None:
    """Bring a body file to the disk and close it. Raises StorageFull, StorageUnavailable."""
    try:
        with file_errors(path):
            os.fsync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Bring a folder's names to the disk. Raises StorageFull, StorageUnavailable."""
    with file_errors(path):
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove(path: Path) -> None:
    """Remove a body file whose message is gone. One that cannot be removed is left to the next `sweep`."""
    try:
        path.unlink()
    except OSError:
        pass


def sweep(folder: Path, existing: Callable[[set[int]], set[int]]) -> int:
    """Remove the files without a message; `existing` tells which of these numbers have one. How many were removed."""
    names: dict[int, Path] = {}
    for path in folder.iterdir():
        try:
            names[queue_number(path.name)] = path
        except BadQueueId:
            continue  # not ours
    orphans = names.keys() - existing(set(names))
    for number in orphans:
        remove(names[number])
    return len(orphans)
