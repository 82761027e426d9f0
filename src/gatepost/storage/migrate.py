"""Bring a database file to the newest schema of its branch.

Every command and every worker calls `migrate` before it opens its file, so nothing to do must cost nothing: the version
is read with sqlite3 and compared with the file names of the scripts. Alembic is imported only when there is work.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from gatepost.storage.errors import SchemaMismatch, storage_errors
from gatepost.storage.sqlite import connect

Branch: TypeAlias = Literal["directory", "queue"]
BRANCHES: tuple[Branch, ...] = get_args(Branch)
MIGRATIONS = Path(__file__).parent / "migrations"
LOCK_TIMEOUT = 60.0  # seconds to wait for another process that migrates the same file


def migrate(path: Path | str, branch: Branch) -> None:
    """Make or update the tables of `branch` in the SQLite file `path`. May be called by several processes at once.

    Raises SchemaMismatch for a file with a newer schema, another branch's tables or somebody else's; StorageError.
    """
    connection = connect(path, busy_timeout=LOCK_TIMEOUT)
    try:
        with storage_errors(path):
            if is_current(connection, path, branch):
                return
            from gatepost.storage.upgrade import upgrade_sqlite

            upgrade_sqlite(connection, path, branch)
    finally:
        connection.close()


def is_current(connection: sqlite3.Connection, path: Path | str, branch: Branch) -> bool:
    """Whether the file has the newest schema of `branch`. Raises SchemaMismatch where it may not be touched."""
    versions = _versions(connection, path)
    newest = newest_version(branch)
    for version in versions:
        if version == newest:
            continue
        theirs, _, number = version.rpartition("_")
        if theirs != branch:
            kind = f"a {theirs} database" if theirs in BRANCHES else f"of the unknown version {version}"
            raise SchemaMismatch(path, f"it is {kind}, but a {branch} database was expected; name another file")
        if number > newest.rpartition("_")[2]:
            raise SchemaMismatch(
                path,
                f"it has schema {version}, and this Gatepost knows schemas up to {newest}; run the newer Gatepost that "
                "updated the file, or restore the backup made before",
            )
    return newest in versions


@cache
def newest_version(branch: Branch) -> str:
    """The version that this Gatepost writes: `queue_0003`."""
    numbers = [script.name[:4] for script in (MIGRATIONS / branch).glob("[0-9][0-9][0-9][0-9]_*.py")]
    if not numbers:
        raise FileNotFoundError(f"{MIGRATIONS / branch} has no migration; Gatepost is not installed whole")
    return f"{branch}_{max(numbers)}"


def _versions(connection: sqlite3.Connection, path: Path | str) -> list[str]:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if "alembic_version" in tables:
        return [version for (version,) in connection.execute("SELECT version_num FROM alembic_version")]
    if tables:
        raise SchemaMismatch(path, f"it was not made by Gatepost (it has a table {tables[0]!r}); name another file")
    return []
