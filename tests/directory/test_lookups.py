"""What workers are told, and that it is never old."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gatepost.directory import selects
from gatepost.directory.edits import DirectoryEdits
from gatepost.directory.lookups import Directory
from gatepost.directory.records import Account, Domain, Forward
from gatepost.mail.address import Address
from gatepost.storage.errors import StorageUnavailable
from gatepost.storage.reader import Row
from gatepost.storage.sqlite import connect

T = TypeVar("T")


def now(answer: Coroutine[Any, Any, T]) -> T:
    """Run a look-up that must not suspend."""
    try:
        answer.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it suspended")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "directory.sqlite"
    with DirectoryEdits(path) as edits:
        edits.add_domain("Example.TEST")
        edits.add_domain("bücher.test")
        edits.add_account("Ann@example.test", password="$argon2id$x")
        edits.add_account("app@example.test", has_mailbox=False)
        edits.add_forward("Info@example.test", ["Ann@Example.test", "bob@far.test"])
        edits.add_forward("@bücher.test", ["@example.test"])
        edits.add_forward("ann@example.test", ["bob@far.test"], keep_copy=True)
    return path


@pytest.fixture
def directory(path: Path) -> Iterator[Directory]:
    directory = Directory(path)
    yield directory
    directory.close()


def test_answers(directory: Directory) -> None:
    for _ in range(2):  # asked for, and remembered
        assert now(directory.domain("example.test")) == Domain("example.test", True)
        assert now(directory.domain("xn--bcher-kva.test")) == Domain("xn--bcher-kva.test", True)
        assert now(directory.domain("far.test")) is None
        assert now(directory.first_domain()) == Domain("example.test", True)
        ann = Account(Address("Ann", "example.test"), "$argon2id$x", True, True)
        assert now(directory.account("ann@example.test")) == ann
        assert now(directory.account("app@example.test")) == Account(Address("app", "example.test"), "", True, False)
        assert now(directory.account("bob@example.test")) is None
        info = Forward("info@example.test", ("Ann@example.test", "bob@far.test"), False, True)
        assert now(directory.forward("info@example.test")) == info
        catch_all = Forward("@xn--bcher-kva.test", ("@example.test",), False, True)
        assert now(directory.forward("@xn--bcher-kva.test")) == catch_all
        assert now(directory.forward("@example.test")) is None
        own = Forward("ann@example.test", ("bob@far.test",), True, True)
        assert now(directory.forwards_to("bob@far.test")) == (own, info)
        assert now(directory.forwards_to("ann@example.test")) == (info,)
        assert now(directory.forwards_to("@example.test")) == (catch_all,)
        assert now(directory.forwards_to("nobody@far.test")) == ()


def test_what_is_switched_off_is_told_as_such(path: Path, directory: Directory) -> None:
    with DirectoryEdits(path) as edits:
        edits.set_domain_active("example.test", False)
        edits.set_account_active("ann@example.test", False)
        edits.set_forward_active("info@example.test", False)
    domain = now(directory.domain("example.test"))
    account = now(directory.account("ann@example.test"))
    forward = now(directory.forward("info@example.test"))
    assert domain is not None and not domain.active
    assert account is not None and not account.active
    assert forward is not None and not forward.active


def test_a_password_is_not_in_a_repr(directory: Directory) -> None:
    assert "argon2id" not in repr(now(directory.account("ann@example.test")))


def test_another_process_changes_it_and_the_next_look_up_sees_it(path: Path, directory: Directory) -> None:
    changes = [
        ("add_account('new@example.test', password='$1')", "account", "new@example.test"),
        ("set_password('new@example.test', '$2')", "account", "new@example.test"),
        ("set_account_active('new@example.test', False)", "account", "new@example.test"),
        ("remove_account('new@example.test')", "account", "new@example.test"),
        ("add_forward('new@example.test', ['x@far.test'])", "forward", "new@example.test"),
        ("add_target('new@example.test', 'y@far.test')", "forwards_to", "y@far.test"),
        ("remove_forward('new@example.test')", "forward", "new@example.test"),
        ("add_domain('new.test')", "domain", "new.test"),
        ("remove_domain('new.test')", "domain", "new.test"),
    ]
    script = (
        "import sys\nfrom gatepost.directory.edits import DirectoryEdits\nedits = DirectoryEdits(sys.argv[1])\n"
        "for line in sys.stdin:\n    eval('edits.' + line)\n    print('done', flush=True)\nedits.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    for change, question, key in changes:
        before = now(getattr(directory, question)(key))
        process.stdin.write(change + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        assert now(getattr(directory, question)(key)) != before, change
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_memory_is_bounded(path: Path) -> None:
    directory = Directory(path, max_answers=10)
    for number in range(100):
        assert now(directory.account(f"guess{number}@example.test")) is None
        assert now(directory.account("ann@example.test")) is not None
    assert len(directory._accounts) == 10
    directory.close()


def test_warm_answers_ask_nothing(directory: Directory) -> None:
    now(directory.account("ann@example.test"))
    asked: list[str] = []
    directory._reader._connection.set_trace_callback(asked.append)  # type: ignore[attr-defined]
    now(directory.account("ann@example.test"))
    assert asked == ["PRAGMA data_version"]


class SlowReader:
    """A store across a network: it suspends, and things change meanwhile."""

    def __init__(self) -> None:
        self.number = 1
        self.name = "old.test"

    def generation(self) -> int:
        return self.number

    async def rows(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Row]:
        rows = [(self.name, True)]
        await asyncio.sleep(0)
        return rows

    def close(self) -> None:
        pass


def test_an_answer_that_was_overtaken_is_not_remembered() -> None:
    async def overtaken() -> Domain | None:
        reader = SlowReader()
        directory = Directory("", reader=reader)
        slow = asyncio.create_task(directory.first_domain())
        await asyncio.sleep(0)
        reader.name, reader.number = "new.test", 2
        await directory.domain("somebody.test")  # notices the change
        await slow
        return await directory.first_domain()

    assert asyncio.run(overtaken()) == Domain("new.test", True)


@pytest.mark.parametrize(
    "sql", [selects.DOMAIN, selects.FIRST_DOMAIN, selects.ACCOUNT, selects.FORWARD, selects.FORWARDS_TO]
)
def test_every_look_up_goes_by_index(path: Path, sql: str) -> None:
    connection = connect(path, readonly=True)
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", {"name": "x", "key": "x"})]
    connection.close()
    full_scans = [step for step in plan if step.startswith("SCAN")]
    assert full_scans == (["SCAN domain"] if sql == selects.FIRST_DOMAIN else []), plan
    assert plan


def test_a_hundred_thousand_accounts_cost_no_more_than_a_hundred(path: Path) -> None:
    """Counted in steps of SQLite's machine, which no busy neighbour can change."""
    directory = Directory(path)
    few = _steps(directory, "ann@example.test")
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    numbers = "WITH RECURSIVE n (i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    connection.execute(f"INSERT INTO account {numbers} SELECT i, 1, 'u' || i, 'u' || i || '@example.test', 1, 1 FROM n")
    connection.execute(f"INSERT INTO credential {numbers} SELECT i, i, 'password', '', '$x' FROM n")
    connection.execute(f"INSERT INTO forward {numbers} SELECT i, 1, 'f' || i, 'f' || i || '@example.test', 0, 1 FROM n")
    connection.execute(
        f"INSERT INTO forward_target {numbers} SELECT i, 't' || i || '@far.test', 1, 't' || i || '@far.test' FROM n"
    )
    connection.close()
    assert _steps(directory, "u77777@example.test") <= few + 2
    assert now(directory.account("u77777@example.test")) is not None
    assert now(directory.forwards_to("t500@far.test"))[0].source == "f500@example.test"
    directory.close()


def _steps(directory: Directory, key: str) -> int:
    connection: sqlite3.Connection = directory._reader._connection  # type: ignore[attr-defined]
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 1)
    assert now(directory.account(key)) is not None
    connection.set_progress_handler(None, 1)
    return steps


def test_no_directory_yet(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match=r"directory\.sqlite: it cannot be opened"):
        Directory(tmp_path / "directory.sqlite")
