"""A reader knows when its answers may be old."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost.storage.errors import StorageUnavailable
from gatepost.storage.reader import SqliteReader
from gatepost.storage.sqlite import connect, transaction


def test_generation_moves_with_commits_of_others_and_only_then(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    writer = connect(path)
    writer.execute("CREATE TABLE t (x)")
    reader = SqliteReader(path)
    first = reader.generation()
    assert reader.generation() == first
    with transaction(writer):
        writer.execute("INSERT INTO t VALUES (1)")
        assert reader.generation() == first
    second = reader.generation()
    assert second != first
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('INSERT INTO t VALUES (2)'); c.commit(); c.close()"
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=30)
    assert reader.generation() not in (first, second)
    assert asyncio.run(_rows(reader)) == [(2,)]
    reader.close()
    writer.close()


async def _rows(reader: SqliteReader) -> object:
    return await reader.rows("SELECT x FROM t WHERE x > :least", {"least": 1})


def test_a_reader_holds_no_lock(tmp_path: Path) -> None:
    """Else the log could never be folded back, and would grow for ever."""
    path = tmp_path / "a.sqlite"
    writer = connect(path)
    writer.execute("CREATE TABLE t (x)")
    reader = SqliteReader(path)
    reader.generation()
    asyncio.run(_rows(reader))
    writer.execute("INSERT INTO t VALUES (1)")
    assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    reader.close()
    writer.close()


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"none\.sqlite"):
        SqliteReader(tmp_path / "none.sqlite")
