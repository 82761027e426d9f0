"""QueueId: names a message for good. Long, sortable by arrival, the same in the log, the SQL and on the command line.

A queue ID is a 63-bit number in twelve characters: microseconds since 1970 (53 bits, enough until 2255) and the number
of the queue shard that took the message (10 bits). The characters are those of Postfix's long queue IDs: digits and
consonants in ASCII order, so that text sorts as numbers do and no word can appear.

`QueueIdSource` never gives a number twice: within a process it counts up, and it starts above `last`, the highest
number the shard ever stored, so a clock that was set back does no harm. (How-to 002 warns of deleting the wrong message
because Postfix had used a queue ID again.)
"""

from __future__ import annotations

from functools import lru_cache

from gatepost.mail.clock import Clock

ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"
LENGTH = 12
SHARD_BITS = 10
MAX_SHARD = (1 << SHARD_BITS) - 1
MAX_NUMBER = (1 << 63) - 1

_VALUE = {character: value for value, character in enumerate(ALPHABET)}
_BASE = len(ALPHABET)
_PAIRS = [high + low for high in ALPHABET for low in ALPHABET]


class BadQueueId(ValueError):
    """Not a queue ID."""


@lru_cache(maxsize=4096)
def queue_id(number: int) -> str:
    """The twelve characters of a number."""
    text = ""
    for _ in range(LENGTH // 2):
        number, pair = divmod(number, _BASE * _BASE)
        text = _PAIRS[pair] + text
    return text


def queue_number(text: str) -> int:
    """The number behind a queue ID. Raises BadQueueId."""
    number = 0
    for character in text[:LENGTH]:
        number = number * _BASE + _VALUE.get(character, 0)
    if len(text) != LENGTH or any(character not in _VALUE for character in text) or number > MAX_NUMBER:
        raise BadQueueId(f"{text!r} is not a queue ID: it has {LENGTH} digits and consonants")
    return number


def shard_of(number: int) -> int:
    """Which shard took the message."""
    return number & MAX_SHARD


class QueueIdSource:
    """Gives one shard its numbers, each higher than all before."""

    def __init__(self, shard: int, clock: Clock, last: int = 0) -> None:
        if not 0 <= shard <= MAX_SHARD:
            raise ValueError(f"shard {shard} is not between 0 and {MAX_SHARD}")
        self._shard = shard
        self._clock = clock
        self._last_micros = last >> SHARD_BITS

    def next_number(self) -> int:
        """A number never given before."""
        self._last_micros = max(int(self._clock.now() * 1_000_000), self._last_micros + 1)
        return self._last_micros << SHARD_BITS | self._shard
