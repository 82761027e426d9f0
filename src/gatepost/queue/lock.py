"""The lock that gives a shard one owner. The kernel takes it back when the owner dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gatepost.queue.bodies import file_errors
from gatepost.storage.errors import StorageUnavailable


class ShardBusy(StorageUnavailable):
    """Another process has the shard."""


class ShardLock:
    """`flock` on a file that also names the owner's process. Do not fork without exec while it is held."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def take(self) -> None:
        """Raises ShardBusy at once if another has it, StorageUnavailable if the file cannot be made."""
        with file_errors(self._path):
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(file, 0)
                os.pwrite(file, b"%d\n" % os.getpid(), 0)
            except BlockingIOError:
                owner = os.read(file, 20).decode("ascii", "replace").strip()
                os.close(file)
                raise ShardBusy(self._path, f"process {owner or 'unknown'} has this part of the queue") from None
            except BaseException:
                os.close(file)
                raise
        self._file = file

    def give_back(self) -> None:
        """Let others have it. Nothing happens if it is not held."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
