"""gatepost queue, as it is typed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gatepost.cli.house import House
from gatepost.cli.main import gatepost
from gatepost.cli.queue import queue_group
from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred
from gatepost.mail.queue_id import queue_id
from gatepost.queue.inspect import QueueFilter, QueueInspector
from gatepost.queue.records import QueuedMessage
from queue_samples import CONTENT, DEFERRED, new_message, results, shard_in

LARGE = CONTENT + b"x" * 20_000 + b"\xff\r\n"


class Mouth:
    """Types commands in one home folder, and hears what the running server would be told."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.pokes: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(House, "poke", self._poke)

    def _poke(self, what: str, ids: Sequence[str]) -> None:
        self.pokes.append((what, list(ids)))

    def run(self, *words: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(queue_group, words, input=typed, obj=House(self.home))

    def ok(self, *words: str, typed: str | None = None) -> str:
        result = self.run(*words, typed=typed)
        assert result.exit_code == 0, result.output
        return result.stdout

    def listed(self, *words: str) -> list[str]:
        return [message["id"] for message in json.loads(self.ok("list", "--json", *words))]


@pytest.fixture
def say(tmp_path: Path) -> Iterator[Mouth]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield Mouth(tmp_path, patch)
    time.tzset()


@pytest.fixture
def stored(tmp_path: Path) -> list[QueuedMessage]:
    """One that is deferred, one on hold (a bounce), one that was never tried."""
    clock = FakeClock()

    async def fill() -> list[QueuedMessage]:
        async with shard_in(tmp_path / "queue", clock) as shard:
            first = await shard.add(new_message(shard, "u@b.test", "v@b.test"))
            shard.finish(results(first, DEFERRED, clock.now() + 300))
            second = await shard.add(new_message(shard, "x@c.test", sender=""), keep_active=False)
            third = await shard.add(new_message(shard, "y@b.test", sender="z@a.test", content=LARGE), keep_active=False)
            QueueInspector(tmp_path / "queue", clock).hold(QueueFilter(frozenset({second.number})))
            return [first, second, third]

    return asyncio.run(fill())


def test_an_empty_queue(say: Mouth) -> None:
    assert say.ok("list") == "Nothing of that kind is waiting.\n"
    assert say.ok("list", "--mailq") == "Mail queue is empty\n"
    assert say.ok("list", "--json") == "[]\n"
    assert say.pokes == []


def test_list(say: Mouth, stored: list[QueuedMessage]) -> None:
    first, second, third = (message.id for message in stored)
    assert say.ok("list").splitlines() == [
        "Queue ID          Bytes  Arrived              Sender",
        f"{first}         42  2027-01-15 08:00:00  a@a.test",
        "    waiting  u@b.test by smtp:[mx.b.test]:2525, 1 attempt, next 2027-01-15 08:05:00",
        "             450 4.2.0 Greylisted",
        "    waiting  v@b.test by smtp:[mx.b.test]:2525, 1 attempt, next 2027-01-15 08:05:00",
        "             450 4.2.0 Greylisted",
        f"{second}         42  2027-01-15 08:00:00  <>",
        "    hold     x@c.test by smtp:[mx.b.test]:2525",
        f"{third}      20045  2027-01-15 08:00:00  z@a.test",
        "    waiting  y@b.test by smtp:[mx.b.test]:2525, 0 attempts, next 2027-01-15 08:00:00",
        "3 messages, 4 recipients, 20129 bytes",
    ]


def test_list_as_mailq(say: Mouth, stored: list[QueuedMessage]) -> None:
    first, second, _ = (message.id for message in stored)
    assert say.ok("list", "--mailq", first, second).splitlines() == [
        "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------",
        f"{first:<17}       42 Fri Jan 15 08:00:00 a@a.test",
        "(450 4.2.0 Greylisted)".rjust(78),
        " " * 47 + "u@b.test",
        " " * 47 + "v@b.test",
        "",
        f"{second + '!':<17}       42 Fri Jan 15 08:00:00 MAILER-DAEMON",
        " " * 47 + "x@c.test",
        "",
        "-- 0 Kbytes in 2 Requests.",
    ]


def test_list_as_json(say: Mouth, stored: list[QueuedMessage]) -> None:
    found = json.loads(say.ok("list", "--json", stored[0].id))
    assert [found[0][key] for key in ("id", "sender", "size", "arrived_at", "bounce")] == [
        stored[0].id,
        "a@a.test",
        42,
        "2027-01-15T08:00:00Z",
        False,
    ]
    assert found[0]["recipients"][0] == {
        "address": "u@b.test",
        "original": "u@b.test",
        "notify": [],
        "orcpt": "",
        "route": "smtp:[mx.b.test]:2525",
        "state": "waiting",
        "attempts": 1,
        "next_attempt_at": "2027-01-15T08:05:00Z",
        "last_reason": "450 4.2.0 Greylisted",
        "last_status": "4.2.0",
        "delay_warned": False,
    }


def test_filters(say: Mouth, stored: list[QueuedMessage]) -> None:
    first, second, third = (message.id for message in stored)
    assert say.listed("--sender", "<>") == [second]
    assert say.listed("--recipient", "@b.test") == [first, third]
    assert say.listed("--state", "hold") == [second]
    assert say.listed("--reason", "greylisted") == [first]
    assert say.listed("--next-hop", "[mx.b.test]:2525") == [first, second, third]
    assert say.listed("--older-than", "1s", "--sender", "@a.test") == []  # they arrive in 2027
    assert say.listed(first, third, "--sender", "z@") == [third]
    for words, complaint in (
        (("--older-than", "soon"), "soon"),
        (("nonsense",), "is not a queue ID"),
        (("--state", "gone"), "'active', 'waiting', 'hold'"),
    ):
        result = say.run("list", *words)
        assert (result.exit_code, result.stdout) == (2, "")
        assert complaint in result.stderr


def test_show(say: Mouth, stored: list[QueuedMessage]) -> None:
    text = say.ok("show", stored[2].id)
    assert f"Queue ID: {stored[2].id}\n" in text
    assert "Sender: z@a.test\nSent to: y@b.test\n" in text
    assert "Header:\n    Subject: hello\n    From: a@a.test\n" in text
    assert "xxxx" not in text
    result = say.run("show", "--body", stored[2].id)
    assert result.stdout_bytes == LARGE
    assert json.loads(say.ok("show", "--json", stored[2].id))[0]["header"].startswith("Subject: hello\r\n")
    gone = say.run("show", queue_id(5))
    assert gone.exit_code == 1
    assert "it is not in the queue" in gone.stderr


def test_what_strangers_wrote_cannot_move_the_cursor(say: Mouth, tmp_path: Path) -> None:
    clock = FakeClock()

    async def fill() -> None:
        async with shard_in(tmp_path / "queue", clock) as shard:
            message = new_message(shard, content=b"Subject: \x1b[2J\x9bboo\r\n\r\n")
            queued = await shard.add(message)
            shard.finish(results(queued, Deferred("none", "450 \x1b]0;title\x07 no\r\nnext"), clock.now()))

    asyncio.run(fill())
    for words in (["list"], ["list", "--mailq"], ["show", say.listed()[0]]):
        assert not {"\x1b", "\x07", "\x9b", "\r"} & set(say.ok(*words))


def test_changes_by_id_tell_the_running_server(say: Mouth, stored: list[QueuedMessage]) -> None:
    first, second, third = (message.id for message in stored)
    assert say.ok("retry", first, third) == "3 recipients of 2 messages due now\n"
    assert say.ok("hold", first) == "2 recipients of 1 message on hold\n"
    assert say.listed("--state", "hold") == [first, second]
    assert say.ok("release", second) == "1 recipient of 1 message released and due now\n"
    assert say.ok("delete", second) == "1 recipient of 1 message deleted\n"
    assert say.pokes == [("queue", [first, third]), ("queue", [first]), ("queue", [second]), ("queue", [second])]
    assert say.listed() == [first, third]


def test_an_id_that_is_not_there_is_told(say: Mouth, stored: list[QueuedMessage]) -> None:
    missing = queue_id(5)
    result = say.run("hold", missing, stored[0].id)
    assert (result.exit_code, result.stdout) == (1, "2 recipients of 1 message on hold\n")
    assert result.stderr == f"Note: {missing} is not in the queue\n"
    assert say.run("release", missing).stdout == "0 recipients of 0 messages released and due now\n"
    assert say.pokes == [("queue", [stored[0].id])]


def test_everything_must_be_said(say: Mouth, stored: list[QueuedMessage]) -> None:
    for verb in ("retry", "hold", "release", "delete"):
        result = say.run(verb)
        assert (result.exit_code, "say which" in result.stderr) == (2, True)
        assert say.run(verb, "--all", stored[0].id).exit_code == 2
        assert say.run(verb, "--all", "--sender", "a").exit_code == 2
    assert say.pokes == []
    assert say.ok("hold", "--all") == "3 recipients of 2 messages on hold\n"
    assert say.ok("release", "--all") == "4 recipients of 3 messages released and due now\n"


def test_delete_asks_where_no_id_was_given(say: Mouth, stored: list[QueuedMessage]) -> None:
    first, second, third = (message.id for message in stored)
    refused = say.run("delete", "--sender", "@a.test", typed="n\n")
    assert refused.exit_code == 0
    assert f"{third}  z@a.test -> y@b.test" in refused.stderr
    assert "Delete 3 recipients of 2 messages? [y/N]" in refused.stderr
    assert say.listed() == [first, second, third]
    assert say.ok("delete", "--recipient", "v@b.test", "--yes") == "1 recipient of 1 message deleted\n"
    assert say.listed() == [first, second, third]
    assert "deleted" in say.ok("delete", "--all", typed="y\n")
    assert say.listed() == []
    assert say.run("delete", "--all", typed="y\n").stderr == "Nothing matches.\n"


def test_it_hangs_below_the_main_command(say: Mouth, stored: list[QueuedMessage]) -> None:
    result = CliRunner().invoke(gatepost, ["--home", str(say.home), "queue", "list", "--json"])
    assert [message["id"] for message in json.loads(result.stdout)] == [message.id for message in stored]


def test_a_damaged_database_is_an_error_that_names_it(say: Mouth) -> None:
    (say.home / "queue" / "1").mkdir(parents=True)
    (say.home / "queue" / "1" / "queue.sqlite").write_bytes(b"not a database" * 100)
    result = say.run("list")
    assert result.exit_code == 1
    assert "queue.sqlite" in result.stderr
