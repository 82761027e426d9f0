"""One way to open an SQLite file, and one way to change it.

`connect` promises: what `transaction` committed survives a power cut; readers never wait for a writer nor it for them;
foreign keys hold; the file, its -wal and its -shm are readable by owner and group only. Raises StorageError.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatepost.storage.errors import StorageUnavailable, storage_errors

BUSY_TIMEOUT = 5.0  # seconds
FILE_MODE = 0o640

_WAL_RETRY_PAUSE = 0.005  # seconds


def connect(
    path: Path | str,
    *,
    readonly: bool = False,
    check_same_thread: bool = True,
    busy_timeout: float = BUSY_TIMEOUT,
) -> sqlite3.Connection:
    """Open `path`, making the file (not its folder) unless `readonly`. Raises StorageUnavailable and its kinds.

    Statements commit by themselves (`isolation_level=None`); use `transaction` for more than one. `busy_timeout` is
    how long, in seconds, a statement waits for another connection's lock before it raises StorageLocked.
    """
    path = Path(path)
    if not readonly:
        _make(path)
    with storage_errors(path):
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rw'}",
            timeout=busy_timeout,  # sets sqlite3_busy_timeout
            isolation_level=None,
            check_same_thread=check_same_thread,
            uri=True,
        )
        try:
            _configure(connection, readonly, busy_timeout)
        except BaseException:
            connection.close()
            raise
    return connection


def _configure(connection: sqlite3.Connection, readonly: bool, busy_timeout: float) -> None:
    # Functions and virtual tables are not to be run from a schema somebody else may have written.
    connection.execute("PRAGMA trusted_schema = OFF")
    if readonly:
        connection.execute("PRAGMA schema_version")  # reads the file now, so that a bad one is told here
        return
    # Write-ahead log: readers go on while one writer commits, and a commit is one sequential write and one fsync.
    _set_wal(connection, time.monotonic() + busy_timeout)
    # With WAL, NORMAL would sync only at checkpoints and a power cut could take back a commit; FULL syncs each one.
    connection.execute("PRAGMA synchronous = FULL")
    # Off unless asked for, per connection.
    connection.execute("PRAGMA foreign_keys = ON")


def _set_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Going over to WAL needs the file alone, and SQLite does not wait for it: two first openers must take turns."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_PAUSE)
        else:
            return


def _make(path: Path) -> None:
    """The file with our mode; SQLite gives -wal and -shm the same. Root leaves it to the folder's owner, who serves."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    except FileExistsError:
        return
    except OSError as error:
        raise StorageUnavailable(path, f"it cannot be made: {error.strerror}; look at its folder") from error
    try:
        if os.geteuid() == 0:
            folder = path.absolute().parent.stat()
            os.fchown(file, folder.st_uid, folder.st_gid)
    finally:
        os.close(file)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Takes the write lock at once, so that what is read within cannot change before the commit.

    Within another transaction it is a part of it that can fail alone: the outer one may catch the error and go on.
    """
    outermost = not connection.in_transaction
    connection.execute("BEGIN IMMEDIATE" if outermost else "SAVEPOINT part")
    try:
        yield
        connection.execute("COMMIT" if outermost else "RELEASE part")
    except BaseException:
        if connection.in_transaction:  # some errors, a full disk among them, have rolled all of it back already
            connection.execute("ROLLBACK" if outermost else "ROLLBACK TO part")
            if not outermost:
                connection.execute("RELEASE part")
        raise
