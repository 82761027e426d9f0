"""Files are opened one way, and changed all or nothing."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from gatepost.storage.errors import StorageDamaged, StorageFull, StorageLocked, StorageUnavailable, storage_errors
from gatepost.storage.sqlite import connect, transaction


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def table(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("CREATE TABLE t (x)")
    return connection


def test_pragmas(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite", busy_timeout=2.5)
    assert pragma(connection, "journal_mode") == "wal"
    assert pragma(connection, "synchronous") == 2  # FULL
    assert pragma(connection, "foreign_keys") == 1
    assert pragma(connection, "busy_timeout") == 2500
    assert pragma(connection, "trusted_schema") == 0
    connection.close()


def test_only_owner_and_group_may_read_it(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        connection = table(tmp_path / "a.sqlite")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        assert modes == {"a.sqlite": 0o640, "a.sqlite-wal": 0o640, "a.sqlite-shm": 0o640}
        connection.close()
    finally:
        os.umask(old)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12346)
    connection = table(home / "a.sqlite")
    for file in home.iterdir():
        assert (file.stat().st_uid, file.stat().st_gid) == (12345, 12346), file
    connection.close()


def test_a_path_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a ?mode=ro#%41.sqlite"
    table(path).close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_transaction_keeps_all_or_nothing(tmp_path: Path) -> None:
    connection = table(tmp_path / "a.sqlite")
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ZeroDivisionError), transaction(connection):
        connection.execute("INSERT INTO t VALUES (2)")
        raise ZeroDivisionError
    assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
    assert not connection.in_transaction
    connection.close()


def test_a_part_fails_alone(tmp_path: Path) -> None:
    connection = table(tmp_path / "a.sqlite")
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError), transaction(connection):
            connection.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
        with transaction(connection):
            connection.execute("INSERT INTO t VALUES (3)")
    assert connection.execute("SELECT x FROM t").fetchall() == [(1,), (3,)]
    connection.close()


def test_readonly_reads_beside_a_writer_and_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    writer = table(path)
    reader = connect(path, readonly=True)
    with transaction(writer):
        writer.execute("INSERT INTO t VALUES (1)")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
    with pytest.raises(StorageUnavailable, match=r"a\.sqlite: .*written"), storage_errors(path):
        reader.execute("DELETE FROM t")
    reader.close()
    writer.close()


def test_readonly_of_a_file_that_was_closed(tmp_path: Path) -> None:
    table(tmp_path / "a.sqlite").close()
    reader = connect(tmp_path / "a.sqlite", readonly=True)
    assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
    reader.close()


def test_readonly_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="cannot be opened"):
        connect(tmp_path / "none.sqlite", readonly=True)
    assert list(tmp_path.iterdir()) == []


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="No such file or directory"):
        connect(tmp_path / "none" / "a.sqlite")


@pytest.mark.parametrize("readonly", [False, True])
def test_not_a_database(tmp_path: Path, readonly: bool) -> None:
    path = tmp_path / "a.sqlite"
    path.write_text("hostname = 'mail.example.test'\n" * 100)
    with pytest.raises(StorageDamaged, match="not an SQLite database"):
        connect(path, readonly=readonly)


def test_a_lock_that_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    holder = table(path)
    other = connect(path, busy_timeout=0.05)
    refused = pytest.raises(StorageLocked, match=r"a\.sqlite: another process")
    with transaction(holder), refused, storage_errors(path), transaction(other):
        pass
    with transaction(other):  # and it goes on when that is over
        other.execute("INSERT INTO t VALUES (1)")
    other.close()
    holder.close()


def test_no_room_and_room_again(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    connection = table(path)
    connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StorageFull, match="no space"), storage_errors(path), transaction(connection):
        for _ in range(100):
            connection.execute("INSERT INTO t VALUES (randomblob(4000))")
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.execute("PRAGMA max_page_count = 1000")
    with transaction(connection):
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()


def test_the_kernel_refuses_to_write(tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk: write(2) itself fails."""
    script = """
import resource, signal, sys
from gatepost.storage.errors import StorageFull, storage_errors
from gatepost.storage.sqlite import connect, transaction
connection = connect(sys.argv[1])
connection.execute("CREATE TABLE t (x)")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with storage_errors(sys.argv[1]), transaction(connection):
        connection.execute("INSERT INTO t VALUES (randomblob(400000))")
except StorageFull as error:
    print("full")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with transaction(connection):
    connection.execute("INSERT INTO t VALUES (randomblob(400000))")
print(connection.execute("SELECT count(*) FROM t").fetchone()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.sqlite")], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout.split(), done.stderr) == (["full", "1"], "")


def test_mistakes_of_our_own_stay_what_they_are(tmp_path: Path) -> None:
    connection = connect(tmp_path / "a.sqlite")
    with pytest.raises(sqlite3.OperationalError, match="no such table"), storage_errors("a"):
        connection.execute("SELECT * FROM absent")
    connection.execute("CREATE TABLE u (x PRIMARY KEY)")
    connection.execute("INSERT INTO u VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError), storage_errors("a"):
        connection.execute("INSERT INTO u VALUES (1)")
    connection.close()


def test_many_open_a_new_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def first_open() -> None:
        start.wait()
        try:
            connect(path).close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=first_open) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_writer_in_the_old_mode_is_waited_for(tmp_path: Path) -> None:
    """SQLite itself gives up at once when it finds such a lock on its way to write-ahead mode."""
    path = tmp_path / "a.sqlite"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("CREATE TABLE t (x)")
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageLocked):
        connect(path, busy_timeout=0.02)
    later = threading.Timer(0.1, writer.execute, ["COMMIT"])
    later.start()
    connection = connect(path)
    assert pragma(connection, "journal_mode") == "wal"
    later.join()
    connection.close()
    writer.close()
