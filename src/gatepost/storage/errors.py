"""What can go wrong with a store, in the words of those who must answer for it.

Intake turns `StorageFull` into 452 and `StorageUnavailable` into 451: nothing is acknowledged, and the peer tries again.
The text of each error is for the operator's log, never for a peer: it names the file, what happened and what to do.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import TracebackType


class StorageError(Exception):
    """A store did not do what it was asked. `path` is the file."""

    def __init__(self, path: Path | str, text: str) -> None:
        super().__init__(f"{path}: {text}")
        self.path = str(path)


class StorageFull(StorageError):
    """No room to write, or the disk fails (SQLITE_FULL, SQLITE_IOERR). Nothing was kept of what was being written."""


class StorageUnavailable(StorageError):
    """The store cannot be used at present: not there, not permitted, busy, damaged, or of another version."""


class StorageLocked(StorageUnavailable):
    """Another connection held the lock for longer than the busy timeout (SQLITE_BUSY, SQLITE_LOCKED)."""


class StorageDamaged(StorageUnavailable):
    """The file is not a database, or not a whole one (SQLITE_CORRUPT, SQLITE_NOTADB)."""


class SchemaMismatch(StorageUnavailable):
    """The file holds tables that this version of Gatepost does not know."""


# The primary result code is the low byte of the extended one (sqlite.org/rescode.html).
_KINDS: dict[int, tuple[type[StorageError], str]] = {
    sqlite3.SQLITE_FULL: (
        StorageFull,
        "no space is left to write to it; make room on its file system, nothing needs to be restarted",
    ),
    sqlite3.SQLITE_IOERR: (
        StorageFull,
        "reading or writing failed; look for a full quota or a failing disk in the kernel's log",
    ),
    sqlite3.SQLITE_BUSY: (
        StorageLocked,
        "another process kept it locked; if this goes on, look who holds it open (fuser, lsof)",
    ),
    sqlite3.SQLITE_LOCKED: (
        StorageLocked,
        "another connection of this process kept it locked; if this goes on, restart Gatepost and report it",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        StorageUnavailable,
        "it cannot be opened; look whether it and its folder exist and belong to the user Gatepost runs as",
    ),
    sqlite3.SQLITE_PERM: (
        StorageUnavailable,
        "permission denied; it and its folder must belong to the user Gatepost runs as",
    ),
    sqlite3.SQLITE_READONLY: (
        StorageUnavailable,
        "it cannot be written; it and its folder must belong to the user Gatepost runs as, on a file system mounted rw",
    ),
    sqlite3.SQLITE_CORRUPT: (
        StorageDamaged,
        "it is damaged; keep a copy, then restore a backup or try `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_NOTADB: (
        StorageDamaged,
        "it is not an SQLite database; move it away or name another file in gatepost.toml",
    ),
}


def storage_error(error: sqlite3.Error, path: Path | str) -> StorageError | None:
    """What an error of SQLite means, or None where it is a mistake in our own SQL or a broken constraint."""
    code = getattr(error, "sqlite_errorcode", None)  # absent where Python's module raised it, not SQLite
    if code is None:
        return None
    kind = _KINDS.get(code & 0xFF)
    if kind is None:
        return None
    error_class, text = kind
    return error_class(path, f"{text} ({error.sqlite_errorname}: {error})")


class storage_errors:
    """`with storage_errors(path):` SQLite's errors within become StorageErrors that name the file.

    May be kept and entered again; costs about a tenth of a microsecond.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path | str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, sqlite3.Error):
            meaning = storage_error(error, self._path)
            if meaning is not None:
                raise meaning from error
