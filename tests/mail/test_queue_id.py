"""Queue IDs: never twice, and in order."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.clock import FakeClock
from gatepost.mail.queue_id import (
    LENGTH,
    MAX_NUMBER,
    MAX_SHARD,
    BadQueueId,
    QueueIdSource,
    queue_id,
    queue_number,
    shard_of,
)

NUMBERS = st.integers(0, MAX_NUMBER)


@given(NUMBERS, NUMBERS)
def test_text_sorts_as_numbers_do_and_comes_back(one: int, other: int) -> None:
    assert queue_number(queue_id(one)) == one
    assert len(queue_id(one)) == LENGTH
    assert (queue_id(one) < queue_id(other)) == (one < other)
    # Postfix's long queue IDs have the same characters, so scripts that look for those find ours.
    assert re.fullmatch(r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]+", queue_id(one))


@pytest.mark.parametrize(
    "text", ["", "0", "0" * 11, "0" * 13, "0" * 11 + "A", "0" * 11 + "\u0663", "z" * 12, "../../../../"]
)
def test_what_is_no_queue_id(text: str) -> None:
    with pytest.raises(BadQueueId, match="is not a queue ID"):
        queue_number(text)


@given(st.text(max_size=14) | st.text("0zBv", min_size=12, max_size=12))
def test_any_text_is_a_queue_id_or_bad(text: str) -> None:
    try:
        number = queue_number(text)
    except BadQueueId:
        return
    assert queue_id(number) == text
    assert 0 <= number <= MAX_NUMBER


@given(st.lists(st.floats(-1e7, 1e7), max_size=50), st.integers(0, MAX_SHARD))
def test_numbers_grow_whatever_the_clock_does(steps: list[float], shard: int) -> None:
    clock = FakeClock()
    source = QueueIdSource(shard, clock)
    numbers = []
    for step in steps:
        numbers += [source.next_number(), source.next_number()]
        clock.advance(step)
    assert numbers == sorted(set(numbers))
    assert {shard_of(number) for number in numbers} <= {shard}


def test_a_restart_with_the_clock_set_back_goes_on_above_the_last_number() -> None:
    clock = FakeClock()
    last = QueueIdSource(3, clock).next_number()
    clock.advance(-86400)
    assert QueueIdSource(3, clock, last).next_number() > last
    clock.advance(2 * 86400)
    assert QueueIdSource(3, clock, last).next_number() >> 10 == int(clock.now() * 1_000_000)


def test_two_shards_never_give_the_same_number() -> None:
    clock = FakeClock()
    sources = [QueueIdSource(shard, clock) for shard in (0, 1, MAX_SHARD)]
    numbers = [source.next_number() for source in sources for _ in range(100)]
    assert len(set(numbers)) == 300


@pytest.mark.parametrize("shard", [-1, MAX_SHARD + 1])
def test_shards_have_a_limit(shard: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 1023"):
        QueueIdSource(shard, FakeClock())


def test_the_last_year() -> None:
    assert queue_number(queue_id(MAX_NUMBER)) == MAX_NUMBER
    clock = FakeClock(now=8_999_999_999.0)  # the year 2255
    assert QueueIdSource(MAX_SHARD, clock).next_number() <= MAX_NUMBER
