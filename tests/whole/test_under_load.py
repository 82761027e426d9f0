"""Reloads, stops and starts in the middle of a stream of mail: everything arrives, and nothing twice."""

from __future__ import annotations

import smtplib
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from peers.gatepost import GatepostInstance
from peers.sink import SmtpSink

CLIENTS = 4


class Stream:
    """Clients that send numbered messages to a mailbox and to the far side until it is `over`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(client,)) for client in range(CLIENTS)]
        self.acknowledged: set[int] = set()
        self.unsure: set[int] = set()

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, client: int) -> None:
        number = client
        while not self._over.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, "client.test", timeout=60) as connection:
                    while not self._over.is_set():
                        number += CLIENTS
                        content = b"Subject: %d\r\n\r\n" % number + b"x" * 70 * (number % 50) + b"\r\n"
                        self.unsure.add(number)
                        connection.sendmail("x@far.test", ["ann@here.test", "z@far.test"], content)
                        self.acknowledged.add(number)
                        time.sleep(0.002)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.02)


def arrive_once(folder: Path, disturb: Callable[[GatepostInstance], None]) -> None:
    with SmtpSink() as sink:
        # A next hop that takes its time: there is always something under way.
        sink.answer = lambda verb, rest: time.sleep(0.003) if verb == "CONTENT" else None
        gatepost = GatepostInstance(
            folder,
            f'[queue]\nminimal_backoff_time = 1\n[delivery]\nrelayhost = "{sink.relayhost}"',
            listeners={"mx": 'mynetworks = ["127.0.0.0/8"]'},
            workers=2,
        )
        with gatepost:
            with Stream(gatepost.ports["mx"]) as stream:
                disturb(gatepost)
            gatepost.wait_until_empty()
            folder_new = gatepost.home.path / "mail" / "here.test" / "ann" / "new"
            here = Counter(number_of(file.read_bytes()) for file in folder_new.iterdir())
            log = gatepost.log()
        there = Counter(number_of(one.content) for one in sink.messages)
    print(f"{len(stream.acknowledged)} acknowledged, {len(here)} here, {len(there)} there")
    assert len(stream.acknowledged) > 50
    for found in (here, there):
        assert not stream.acknowledged - found.keys(), "lost"
        assert not [number for number, times in found.items() if times > 1], "came twice"
        assert found.keys() <= stream.unsure
    assert "Traceback" not in log and "status=deferred" not in log


def number_of(content: bytes) -> int:
    return int(content.partition(b"Subject: ")[2].split()[0])


def test_reloads(tmp_path: Path) -> None:
    def disturb(gatepost: GatepostInstance) -> None:
        for _ in range(12):
            time.sleep(0.25)
            answer = gatepost.ask({"do": "reload"})
            assert answer is not None and "error" not in answer

    arrive_once(tmp_path, disturb)


def test_stops_and_starts(tmp_path: Path) -> None:
    def disturb(gatepost: GatepostInstance) -> None:
        for _ in range(3):
            time.sleep(0.6)
            assert gatepost.stop() == 0
            gatepost.start()
        time.sleep(0.3)

    arrive_once(tmp_path, disturb)
