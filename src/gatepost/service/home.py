"""The home folder: where everything of one Gatepost stands, and who may use it.

    gatepost.toml        the settings
    directory.sqlite     domains, accounts, forwards
    queue/<n>/           what waits, one folder for each worker
    mail/<domain>/<user> Maildirs
    tls/*.crt, *.key     certificates; tls/ca the own CA
    log/                 mail.log
    run/                 lock, control.sock

At most one master serves a home (flock on run/lock).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatepost.config.settings import Settings
from gatepost.storage.migrate import migrate


class HomeBusy(Exception):
    """Another Gatepost serves this home. The text names its process."""


@dataclass(frozen=True, slots=True)
class Home:
    """One home folder."""

    path: Path

    @property
    def settings_file(self) -> Path:
        """gatepost.toml."""
        return self.path / "gatepost.toml"

    @property
    def control(self) -> Path:
        """The master's control socket."""
        return self.path / "run" / "control.sock"

    @property
    def queue(self) -> Path:
        """The folder of the queue's shards."""
        return self.path / "queue"

    def directory(self, settings: Settings) -> Path:
        """The directory's SQLite file."""
        return self.path / settings.directory.database

    def shard(self, number: int) -> Path:
        """The folder of one shard."""
        return self.queue / str(number)

    def shards(self) -> list[int]:
        """Numbers of all shards there are."""
        names = [folder.name for folder in self.queue.glob("[0-9]*")]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def prepare(self, settings: Settings) -> None:
        """Make what is missing and bring the databases up to date, as the home's owner. Raises StorageError, OSError."""
        workers = settings.workers or os.cpu_count() or 1
        with self._owned():
            self.queue.mkdir(mode=0o700, exist_ok=True)
            for number in range(workers):
                self.shard(number).mkdir(mode=0o700, parents=True, exist_ok=True)
                migrate(self.shard(number) / "queue.sqlite", "queue")
            migrate(self.directory(settings), "directory")

    @contextmanager
    def _owned(self) -> Iterator[None]:
        """What root makes in somebody's home must be theirs."""
        owner = self.path.stat()
        if os.geteuid() != 0 or owner.st_uid == 0:
            yield
            return
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)

    def hand_over(self, path: Path) -> None:
        """Give a file that root made to the home's owner, and its folder where that is root's and in the home."""
        if os.geteuid() != 0:
            return
        owner = self.path.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
        if path.parent.stat().st_uid == 0 and path.parent.is_relative_to(self.path):
            os.chown(path.parent, owner.st_uid, owner.st_gid)

    @contextmanager
    def lock(self) -> Iterator[bool]:
        """Be the only master. Gives whether the last one was killed rather than stopped. Raises HomeBusy, OSError."""
        run = self.path / "run"
        with self._owned():
            run.mkdir(mode=0o750, exist_ok=True)
            descriptor = os.open(run / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(descriptor, 32).decode(errors="replace").strip()
                raise HomeBusy(f"{self.path} is served already, by process {holder}; `gatepost stop` ends it") from None
            left_behind = bool(os.read(descriptor, 32).strip())
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            try:
                yield left_behind
            finally:  # an error is an end like others; only who is killed leaves the number behind
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
