"""A journal as the settings ask for it: real files, several processes, rotation, full disks, a stopped reader."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from gatepost.config.settings import LogSettings
from gatepost.mail.clock import FakeClock, SystemClock
from gatepost.observe.journal import BROKEN_SECONDS, MAX_BUFFER, Journal, Output, open_journal
from gatepost.observe.sinks import StandardOutput
from observe.fake_sinks import FakeLoop, removed, told
from observe.sample_events import NOTICE, RECEIVED, REMOVED, SENT

WRITER = """
import sys
from pathlib import Path
from gatepost.config.settings import LogSettings
from gatepost.mail.clock import SystemClock
from gatepost.observe.events import MessageReceived
from gatepost.observe.journal import open_journal

class Loop:
    def call_later(self, delay, callback): pass
    call_soon_threadsafe = None

log = LogSettings(file="log/mail.log", json_file="log/mail.json")
journal = open_journal(log, home=Path(sys.argv[1]), hostname="host", clock=SystemClock())
journal.attach(Loop())
for number in range(3000):
    journal.record(MessageReceived("smtpd", f"{sys.argv[2]}{number:05d}", None, "m" * (number % 97), "s@x.test", 1, 1))
    if number % 50 == 0:
        journal.flush()
    if number == 1500:
        journal.reopen()  # as after SIGHUP
journal.close()
"""


def test_lines_of_several_processes_stay_whole_through_a_rotation(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "mail.log").touch()
    source = str(Path(__file__).parents[2] / "src")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], env={**os.environ, "PYTHONPATH": source})
        for name in ("A", "B", "C")
    ]
    while (tmp_path / "log" / "mail.log").stat().st_size < 1000:
        assert any(writer.poll() is None for writer in writers)
    (tmp_path / "log" / "mail.log").rename(tmp_path / "log" / "mail.log.1")
    for writer in writers:
        assert writer.wait(30) == 0
    lines = [line for path in (tmp_path / "log").glob("mail.log*") for line in path.read_text().splitlines()]
    ids = []
    for line in lines:
        found = re.fullmatch(
            r"\w{3} [ \d]\d [\d:]{8} host postfix/(?:cleanup\[\d+\]: (\w+): message-id=<m*>"
            r"|qmgr\[\d+\]: (\w+): from=<s@x\.test>, size=1, nrcpt=1 \(queue active\))",
            line,
        )
        assert found, line
        ids.append(found[1] or found[2])
    assert sorted(ids) == sorted(f"{name}{number:05d}" for name in "ABC" for number in range(3000) for _ in "12")
    records = [json.loads(line) for line in (tmp_path / "log" / "mail.json").read_text().splitlines()]
    assert {record["queue_id"] for record in records} == set(ids)


def test_open_journal_writes_both_formats(tmp_path: Path) -> None:
    log = LogSettings(json_file=str(tmp_path / "elsewhere.json"))
    journal = open_journal(log, home=tmp_path, hostname="mx.example.test", clock=FakeClock())
    assert journal.troubles == []
    journal.record(SENT)
    journal.close()
    assert f"mx.example.test postfix/smtp[{os.getpid()}]: " in (tmp_path / "log" / "mail.log").read_text()
    assert json.loads((tmp_path / "elsewhere.json").read_text())["event"] == "recipient_attempted"


def test_open_journal_to_nowhere(tmp_path: Path) -> None:
    journal = open_journal(LogSettings(file=""), home=tmp_path, hostname="h", clock=FakeClock())
    journal.record(SENT)
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_open_journal_to_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    journal = open_journal(LogSettings(file="-", json_file="-"), home=tmp_path, hostname="h", clock=FakeClock())
    journal.record(RECEIVED)
    journal.close()
    out = capfd.readouterr().out.splitlines()
    assert len(out) == 4
    assert json.loads(out[3])["event"] == "message_received"


def test_a_file_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "log" / "mail.log"
    path.mkdir(parents=True)  # a folder where the file should be
    journal = open_journal(LogSettings(), home=tmp_path, hostname="h", clock=clock)
    assert journal.troubles == [f"{path}: Is a directory"]
    journal.record(REMOVED)
    path.rmdir()
    clock.advance(BROKEN_SECONDS)
    journal.flush()
    assert path.read_text().endswith(": removed\n")
    assert journal.troubles == []
    journal.close()


def test_a_full_disk(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("/dev/full is missing")
    journal = open_journal(LogSettings(file=str(full)), home=tmp_path, hostname="h", clock=FakeClock())
    journal.record(REMOVED)
    assert journal.troubles == ["/dev/full: No space left on device"]
    journal.close()


def test_reopen(tmp_path: Path) -> None:
    path = tmp_path / "log" / "mail.log"
    journal = open_journal(LogSettings(), home=tmp_path, hostname="h", clock=FakeClock())
    journal.attach(FakeLoop())
    journal.record(REMOVED)
    path.rename(tmp_path / "old")
    journal.reopen()
    assert (tmp_path / "old").read_text().count("\n") == 1
    journal.record(SENT)
    journal.close()
    assert path.read_text().count("status=sent") == 1


def test_reopen_by_signal_in_the_middle_of_telling(tmp_path: Path) -> None:
    journal = open_journal(LogSettings(), home=tmp_path, hostname="h", clock=SystemClock())
    before = signal.signal(signal.SIGUSR1, lambda *_: journal.reopen())
    try:
        for number in range(300):
            journal.record(removed(number))
            if number % 10 == 0:
                signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    journal.close()
    assert (tmp_path / "log" / "mail.log").read_text().count(": removed\n") == 300


def test_a_stopped_reader_of_standard_output_bounds_memory_and_is_told_later() -> None:
    read_end, write_end = os.pipe()
    clock = FakeClock()
    journal = Journal([Output(told, StandardOutput(write_end))], clock)
    text = "x" * 4000
    for _ in range(MAX_BUFFER // 4000 + 100):
        journal.record(replace(NOTICE, text=text))
    assert journal.dropped > 0
    assert journal.troubles == ["standard output: nobody reads it"] or "no room" in journal.troubles[0]
    received = bytearray()

    def read() -> None:
        while chunk := os.read(read_end, 1 << 16):
            received.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(10_000):
        clock.advance(BROKEN_SECONDS)
        journal.flush()
        if not journal.troubles and not journal.dropped:
            break
    journal.close()
    os.close(write_end)
    reader.join()
    os.close(read_end)
    *lines, last = bytes(received).decode().splitlines()
    assert set(lines) == {text}
    lost = re.fullmatch(r"events lost by the log: (\d+): standard output: .*", last)
    assert lost is not None
    assert len(lines) + int(lost[1]) == MAX_BUFFER // 4000 + 100
