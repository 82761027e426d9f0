"""The server is killed at random moments while mail comes in: what got its 250 arrives, in the sink and in the Maildir.

Several clients send numbered messages as fast as they are taken. Meanwhile a worker, the master, or all of them at once are
killed with SIGKILL, and the server is started again where it does not do so itself. In the end everything that was
acknowledged must be found whole; what was not may be there or not; what comes twice is counted.

`--crash-seconds N` runs it longer, `--crash-seed N` makes the same choices again.
"""

from __future__ import annotations

import os
import random
import signal
import smtplib
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from peers.gatepost import GatepostInstance
from peers.sink import SmtpSink

CLIENTS = 6
PAUSE = 0.005  # seconds between two messages of a client; the machine has other things to do
SETTLING = 90.0  # seconds the queue may take to become empty when the killing is over
SIZES = (200, 200, 4_000, 4_000, 90_000)  # bytes: in the database, and in files of their own
LOCAL, FAR = "ann@here.test", "z@far.test"

SETTINGS = """
    [queue]
    minimal_backoff_time = 1
    maximal_backoff_time = 2
    [delivery]
    relayhost = "{relayhost}"
"""


def text_of(number: int) -> bytes:
    """A message's text: of its number alone, so that it is known to be whole."""
    size = SIZES[number % len(SIZES)]
    line = b"%d %s\r\n" % (number, b"-" * 60)
    return line * (size // len(line) + 1)


def recipients_of(number: int) -> list[str]:
    """Here, there, or both."""
    return ([LOCAL], [FAR], [LOCAL, FAR])[number // len(SIZES) % 3]


@dataclass(slots=True)
class Clients:
    """Threads that send until told to stop, and what they know."""

    port: int
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._send_all, args=(client,)) for client in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def _send_all(self, client: int) -> None:
        number = client  # theirs are this one and each CLIENTS-th after it
        while not self.over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self.port, "client.test", timeout=60) as connection:
                    while not self.over.is_set():
                        number += CLIENTS
                        self._send(connection, number)
                        time.sleep(PAUSE)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)  # killed, or not there yet

    def _send(self, connection: smtplib.SMTP, number: int) -> None:
        self.sent += 1
        content = b"Subject: %d\r\n\r\n%b" % (number, text_of(number))
        try:
            connection.sendmail("x@far.test", recipients_of(number), content)
        except smtplib.SMTPServerDisconnected:
            raise
        except smtplib.SMTPException as error:
            if "421" not in str(error):
                self.refused.append(str(error))
            raise
        self.acknowledged.add(number)


def kill_something(gatepost: GatepostInstance, chance: random.Random) -> str:
    """What was killed; the server is started again where its master is gone."""
    workers = [pid for pid in gatepost.processes() if pid != gatepost.pid]
    what = chance.choices(["worker", "master", "all"], [5, 3, 2])[0]
    if what == "worker":
        if workers:
            kill(chance.choice(workers))
        return what
    if what == "all":
        for pid in workers:
            kill(pid)
    gatepost.kill()
    if chance.random() < 0.3:
        time.sleep(chance.random())  # its workers are left alone for a while
    gatepost.start()
    return what


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@dataclass(frozen=True, slots=True)
class Found:
    """How often each message was found in one place, and whether it was whole."""

    times: Counter[int]

    @staticmethod
    def of(contents: list[bytes]) -> Found:
        times: Counter[int] = Counter()
        for content in contents:
            header, _, text = content.replace(b"\r\n", b"\n").partition(b"\n\n")
            number = int(header.rpartition(b"Subject: ")[2])
            assert text == text_of(number).replace(b"\r\n", b"\n"), f"message {number} is not whole"
            times[number] += 1
        return Found(times)

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.times.values())

    def lost(self, acknowledged: set[int], recipient: str) -> set[int]:
        return {number for number in acknowledged if recipient in recipients_of(number)} - self.times.keys()


def in_maildir(gatepost: GatepostInstance) -> list[bytes]:
    return [file.read_bytes() for file in (gatepost.home.path / "mail" / "here.test" / "ann" / "new").iterdir()]


@pytest.mark.crash
@pytest.mark.timeout(0)
def test_what_was_acknowledged_arrives(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    seconds = request.config.getoption("--crash-seconds")
    seed = request.config.getoption("--crash-seed")
    seed = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    print(f"\nseed {seed}, {seconds:.0f} s")
    chance = random.Random(seed)
    kills: Counter[str] = Counter()
    with SmtpSink() as sink:
        gatepost = GatepostInstance(
            tmp_path,
            SETTINGS.format(relayhost=sink.relayhost),
            listeners={"mx": 'mynetworks = ["127.0.0.0/8"]'},
            workers=2,
        )
        with gatepost:
            clients = Clients(gatepost.ports["mx"])
            threads = clients.run()
            try:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    time.sleep(chance.uniform(0.05, 1.5))
                    kills[kill_something(gatepost, chance)] += 1
            finally:
                clients.over.set()
                for thread in threads:
                    thread.join(90)
            settle(gatepost)
            here, there = Found.of(in_maildir(gatepost)), Found.of([one.content for one in sink.messages])
            log = gatepost.log() + gatepost.output.read_text()
            left = list((gatepost.home.path / "queue").glob("*/bodies/*"))
    acknowledged = clients.acknowledged
    lost = here.lost(acknowledged, LOCAL) | there.lost(acknowledged, FAR)
    print(
        f"sent {clients.sent}, acknowledged {len(acknowledged)}, "
        f"kills {sum(kills.values())} ({', '.join(f'{what} {count}' for what, count in sorted(kills.items()))}), "
        f"found {sum(here.times.values())} in the Maildir and {sum(there.times.values())} in the sink, "
        f"duplicates {here.duplicates} + {there.duplicates}, lost={len(lost)}"
    )
    assert not lost, sorted(lost)
    assert not clients.refused, clients.refused[:5]
    assert len(acknowledged) > 20 * seconds and sum(kills.values()) >= seconds / 5, "the machine was too slow to tell"
    # At most what was under way at each kill may come twice.
    assert here.duplicates + there.duplicates <= 200 * sum(kills.values())
    assert not left, "bodies without a message"
    assert "Traceback" not in log


def settle(gatepost: GatepostInstance) -> None:
    """Wait until the queue is empty."""
    deadline = time.monotonic() + SETTLING
    while not gatepost.serves():
        assert time.monotonic() < deadline, f"it does not serve any more:\n{gatepost.log()[-3000:]}"
        time.sleep(0.05)
    while waiting := gatepost.waiting():
        assert time.monotonic() < deadline, f"{waiting} messages still wait:\n{gatepost.run('queue', 'list')[-3000:]}"
        time.sleep(0.05)
