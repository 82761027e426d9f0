"""When the next attempt is, read off a schedule."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.settings import QueueSettings, Seconds
from gatepost.mail.address import parse_address
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.queue.records import Body, Job, QueuedMessage
from gatepost.queue.retry import delay_warning_due, is_expired, next_attempt_at
from queue_samples import ROUTE

SETTINGS = QueueSettings()
ARRIVAL = 1_000_000.0
U = parse_address("u@b.test")


def message(sender: str = "a@a.test") -> QueuedMessage:
    envelope = Envelope(parse_address(sender) if sender else None)
    return QueuedMessage(1, envelope, Body.of(b""), ARRIVAL)


def job(**wishes: frozenset[str]) -> Job:
    return Job(0, Recipient(U, **wishes), U, ROUTE)  # type: ignore[arg-type]


def test_schedule_of_a_message_that_keeps_failing_at_once() -> None:
    attempts = [ARRIVAL]
    while len(attempts) < 9:
        attempts.append(next_attempt_at(ARRIVAL, attempts[-1], SETTINGS))
    minutes = [round((at - ARRIVAL) / 60, 1) for at in attempts]
    # 5 minutes at first, then as long again as it has waited, then 4000 seconds each
    assert minutes == [0, 5, 10, 20, 40, 80, 146.7, 213.3, 280]


def test_a_clock_set_back_gives_the_shortest_pause() -> None:
    assert next_attempt_at(ARRIVAL, ARRIVAL - 5000, SETTINGS) == ARRIVAL - 5000 + 300


@given(st.floats(0, 1e6), st.floats(1, 1e5), st.floats(1, 1e5))
def test_the_pause_is_never_shorter_than_the_minimum(age: float, minimal: float, maximal: float) -> None:
    settings = QueueSettings(minimal_backoff_time=Seconds(minimal), maximal_backoff_time=Seconds(maximal))
    pause = next_attempt_at(0.0, age, settings) - age
    assert pause >= minimal * (1 - 1e-9)
    assert pause <= max(minimal, maximal) * (1 + 1e-9)


def test_expiry() -> None:
    settings = QueueSettings(maximal_queue_lifetime=Seconds(100), bounce_queue_lifetime=Seconds(50))
    assert not is_expired(message(), ARRIVAL + 99, settings)
    assert is_expired(message(), ARRIVAL + 100, settings)
    assert not is_expired(message(""), ARRIVAL + 49, settings)
    assert is_expired(message(""), ARRIVAL + 50, settings)
    assert is_expired(message(), ARRIVAL, QueueSettings(maximal_queue_lifetime=Seconds(0)))


@pytest.mark.parametrize(
    ("waiting", "due"),
    [
        (job(), True),
        (job(notify=frozenset({"DELAY"})), True),
        (job(notify=frozenset({"FAILURE"})), False),
        (job(notify=frozenset({"NEVER"})), False),
        (replace(job(), delay_warned=True), False),
    ],
)
def test_delay_warning(waiting: Job, due: bool) -> None:
    late = ARRIVAL + SETTINGS.delay_warning_time
    assert not delay_warning_due(message(), waiting, late - 1, SETTINGS)
    assert delay_warning_due(message(), waiting, late, SETTINGS) is due
    assert not delay_warning_due(message(""), waiting, late, SETTINGS)
    assert not delay_warning_due(message(), waiting, late, QueueSettings(delay_warning_time=Seconds(0)))
