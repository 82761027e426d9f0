"""A sink, an event loop and a renderer that do as the test says."""

from __future__ import annotations

from collections.abc import Callable

from gatepost.observe.events import Event, MessageRemoved


def told(now: float, event: Event) -> str:
    """A renderer that shows only what was told."""
    return f"{getattr(event, 'queue_id', None) or getattr(event, 'text', '')}\n"


class FakeSink:
    """Takes what it is told to take."""

    name = "fake"

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.room: int | None = None
        self.error: OSError | None = None
        self.is_closed = False

    def write(self, lines: bytes, monotonic: float) -> int:
        if self.error is not None:
            raise self.error
        taken = lines if self.room is None else lines[: self.room]
        if lines:
            self.writes.append(taken)
        return len(taken)

    def reopen(self) -> None:
        self.error = None

    def close(self) -> None:
        self.is_closed = True


class FakeLoop:
    """An event loop whose time is the test's."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Callable[[], object]]] = []
        self.soon: list[Callable[[], object]] = []

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object:
        self.later.append((delay, callback))
        return None

    def call_soon_threadsafe(self, callback: Callable[[], object], /) -> object:
        self.soon.append(callback)
        return None


def removed(number: int) -> MessageRemoved:
    return MessageRemoved(f"{number:06d}")
