"""Clock: time handed in, so that a test can make a week pass in a moment."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a room asks for the time."""

    def now(self) -> float:
        """Seconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back; for deadlines and durations."""


class SystemClock:
    """The machine's own clock."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class FakeClock:
    """Stands still until told to move on."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._elapsed = 0.0

    def now(self) -> float:
        """The time it was set to, plus all advances."""
        return self._now + self._elapsed

    def monotonic(self) -> float:
        """The sum of all advances."""
        return self._elapsed

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self._elapsed += seconds
