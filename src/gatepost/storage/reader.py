"""Questions asked of a database by a worker, live and without a reload.

Look-ups are remembered by those who ask, so the reader tells when to forget: `generation` gives another number as soon
as any other connection, in this process or another, has committed. With SQLite both methods answer at once and never
suspend; a database across the network will suspend in `rows`, which is why it is a coroutine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from gatepost.storage.errors import storage_errors
from gatepost.storage.sqlite import connect

Row: TypeAlias = tuple[Any, ...]
BUSY_TIMEOUT = 1.0  # seconds; with a write-ahead log a reader waits only while a crashed writer's log is recovered


class Reader(Protocol):
    """A store as those see it who only ask."""

    def generation(self) -> int:
        """A number that differs from the last one if anything may have changed since. Raises StorageError."""

    async def rows(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """All rows of a SELECT with `:name` parameters. Raises StorageError."""

    def close(self) -> None:
        """Give back what it holds."""


class SqliteReader:
    """Reads one SQLite file; belongs to the thread that made it, and must be made after a fork, not before.

    A file that is moved away and replaced by another is not noticed: whoever restores a backup restarts the service.
    """

    def __init__(self, path: Path | str) -> None:
        """Open `path`, which must exist. Raises StorageUnavailable."""
        self._connection = connect(path, readonly=True, busy_timeout=BUSY_TIMEOUT)
        self._errors = storage_errors(path)
        self._generation = self._connection.cursor()

    def generation(self) -> int:
        """`PRAGMA data_version`: changes with each commit of another connection (sqlite.org/pragma.html)."""
        with self._errors:
            number: int = self._generation.execute("PRAGMA data_version").fetchone()[0]
            return number

    async def rows(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        """All rows of a SELECT. Raises StorageError."""
        with self._errors:
            return self._connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
