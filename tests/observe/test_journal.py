"""The journal: batches, threads, sinks that fail, bounded memory."""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import replace

from gatepost.mail.clock import FakeClock, SystemClock
from gatepost.observe.events import Event, MessageRemoved, Record
from gatepost.observe.journal import (
    BLOCKED_SECONDS,
    BROKEN_SECONDS,
    FLUSH_SECONDS,
    FLUSH_SIZE,
    MAX_BUFFER,
    Journal,
    Output,
)
from observe.fake_sinks import FakeLoop, FakeSink, removed, told
from observe.sample_events import NOTICE, REMOVED


def test_without_a_loop_each_event_is_written_at_once() -> None:
    sink = FakeSink()
    journal = Journal([Output(told, sink)], FakeClock())
    record: Record = journal.record
    record(removed(1))
    record(removed(2))
    assert sink.writes == [b"000001\n", b"000002\n"]


def test_with_a_loop_events_are_written_together() -> None:
    sink, loop = FakeSink(), FakeLoop()
    journal = Journal([Output(told, sink)], FakeClock())
    journal.attach(loop)
    for number in range(3):
        journal.record(removed(number))
    assert sink.writes == []
    ((delay, flush),) = loop.later
    assert delay == FLUSH_SECONDS
    flush()
    assert sink.writes == [b"000000\n000001\n000002\n"]
    journal.record(removed(3))
    assert len(loop.later) == 2  # asked again
    journal.close()
    assert sink.writes[1:] == [b"000003\n"]
    assert sink.is_closed


def test_a_full_buffer_is_written_before_its_time() -> None:
    sink, loop = FakeSink(), FakeLoop()
    journal = Journal([Output(told, sink)], FakeClock())
    journal.attach(loop)
    for number in range(FLUSH_SIZE // 7 + 1):
        journal.record(removed(number))
    assert len(sink.writes) == 1
    assert len(sink.writes[0]) > FLUSH_SIZE


def test_another_thread_asks_in_a_way_that_is_safe() -> None:
    sink, loop = FakeSink(), FakeLoop()
    journal = Journal([Output(told, sink)], FakeClock())
    journal.attach(loop)
    thread = threading.Thread(target=journal.record, args=(REMOVED,))
    thread.start()
    thread.join()
    assert loop.later == []
    (flush,) = loop.soon
    flush()
    assert len(sink.writes) == 1


def test_on_a_real_loop() -> None:
    sink = FakeSink()
    journal = Journal([Output(told, sink)], SystemClock())

    async def work() -> None:
        journal.attach(asyncio.get_running_loop())
        journal.record(removed(1))
        await asyncio.sleep(0)
        journal.record(removed(2))
        assert sink.writes == []
        await asyncio.sleep(FLUSH_SECONDS * 3)

    asyncio.run(work())
    assert sink.writes == [b"000001\n000002\n"]
    journal.record(removed(3))  # the loop is closed now
    assert sink.writes[1:] == [b"000003\n"]


def test_a_failing_disk_keeps_lines_and_tries_again() -> None:
    sink, clock = FakeSink(), FakeClock()
    journal = Journal([Output(told, sink)], clock)
    sink.error = OSError(errno.ENOSPC, "No space left on device")
    journal.record(removed(1))
    assert journal.troubles == ["fake: No space left on device"]
    sink.error = None
    journal.record(removed(2))
    assert sink.writes == []  # not tried again at once
    clock.advance(BROKEN_SECONDS)
    journal.flush()
    assert sink.writes == [b"000001\n000002\n"]
    assert journal.troubles == []
    assert journal.dropped == 0


def test_what_does_not_fit_is_dropped_counted_and_told() -> None:
    sink, clock = FakeSink(), FakeClock()
    journal = Journal([Output(told, sink)], clock)
    sink.error = OSError(errno.ENOSPC, "No space left on device")
    event = replace(NOTICE, text="x" * 1023)
    kept = MAX_BUFFER // 1024 + 1
    for _ in range(kept + 17):
        journal.record(event)
    assert journal.dropped == 17
    sink.error = None
    clock.advance(BROKEN_SECONDS)
    journal.flush()
    written = b"".join(sink.writes).decode().splitlines()
    assert len(written) == kept + 1
    assert written[-1] == "events lost by the log: 17: fake: No space left on device"
    journal.record(REMOVED)
    assert b"".join(sink.writes).count(b"lost") == 1


def test_a_line_that_was_cut_is_closed_and_written_again() -> None:
    sink, clock = FakeSink(), FakeClock()
    journal = Journal([Output(told, sink)], clock)
    sink.room = 3
    journal.record(removed(1))
    journal.record(removed(2))
    sink.room = None
    clock.advance(BROKEN_SECONDS)
    journal.flush()
    assert b"".join(sink.writes) == b"000\n000001\n000002\n"


def test_a_blocked_sink_is_tried_again_by_the_loop() -> None:
    sink, loop, clock = FakeSink(), FakeLoop(), FakeClock()
    journal = Journal([Output(told, sink)], clock)
    journal.attach(loop)
    sink.error = BlockingIOError(errno.EAGAIN, "nobody reads it")
    journal.record(removed(1))
    loop.later.pop()[1]()
    ((delay, flush),) = loop.later  # nothing new is told, and yet it will be written
    assert delay == BLOCKED_SECONDS
    sink.error = None
    clock.advance(delay)
    flush()
    assert sink.writes == [b"000001\n"]
    assert len(loop.later) == 1


def test_one_output_in_trouble_does_not_hold_up_the_other() -> None:
    good, bad = FakeSink(), FakeSink()
    bad.error = OSError(errno.EIO, "Input/output error")
    journal = Journal([Output(told, bad), Output(told, good)], FakeClock())
    journal.record(removed(1))
    assert good.writes == [b"000001\n"]


def test_an_event_that_cannot_be_rendered_is_told_of() -> None:
    sink = FakeSink()

    def render(now: float, event: Event) -> str:
        if isinstance(event, MessageRemoved):
            raise KeyError("x")
        return told(now, event)

    journal = Journal([Output(render, sink)], FakeClock())
    journal.record(REMOVED)
    assert sink.writes == [b"events lost by the log: 1: MessageRemoved could not be rendered: KeyError('x')\n"]


def test_telling_within_a_write_does_not_hang() -> None:
    """As a signal handler may, which runs in the middle of anything."""
    sink = FakeSink()
    journal = Journal([Output(told, sink)], FakeClock())
    write = sink.write

    def interrupted(lines: bytes, monotonic: float) -> int:
        if not sink.writes:
            sink.writes.append(b"")
            journal.record(removed(2))
        return write(lines, monotonic)

    sink.write = interrupted  # type: ignore[method-assign]
    journal.record(removed(1))
    assert b"".join(sink.writes) == b"000001\n000002\n"


def test_threads_lose_nothing() -> None:
    sink, loop = FakeSink(), FakeLoop()
    journal = Journal([Output(told, sink)], SystemClock())
    journal.attach(loop)

    def tell(thread: int) -> None:
        for number in range(2000):
            journal.record(removed(thread * 10_000 + number))
            if number % 100 == 0:
                journal.flush()

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    written = b"".join(sink.writes).decode().splitlines()
    assert sorted(written) == sorted(f"{t * 10_000 + n:06d}" for t in range(4) for n in range(2000))
