"""How many connections a worker may have to all next hops together, and who gets the next one: each destination in turn.

A destination that wants a connection when none is left stands in a row. The others make room: a connection without work
is closed, and a destination with more than its share, or with any connection at all where there are more destinations than
connections, gives one up after the message under way (`must_yield`).
"""

from __future__ import annotations

from typing import Protocol


class Claimant(Protocol):
    """A destination, as its rivals see it."""

    def slot_free(self) -> None:
        """A connection you wanted may be had: claim it now if you still want it."""

    def give_up_resting(self) -> bool:
        """Close a connection without work, if there is one; the slot comes back a little later."""


class ConnectionSlots:
    """`limit` connections. Each `claim` that succeeded is followed by one `release`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._held: dict[Claimant, int] = {}
        self._row: dict[Claimant, None] = {}  # ordered: who waits longest comes first
        self._coming = 0  # resting connections asked to close whose slots are not back yet

    @property
    def is_exhausted(self) -> bool:
        """Whether a claim would fail now."""
        return self._used >= self._limit

    @property
    def is_wanted(self) -> bool:
        """Whether somebody stands in the row."""
        return bool(self._row)

    def claim(self, claimant: Claimant) -> bool:
        """A connection for `claimant`, or False: then its `slot_free` is called later."""
        if self._used < self._limit:
            self._used += 1
            self._held[claimant] = self._held.get(claimant, 0) + 1
            self._row.pop(claimant, None)
            return True
        self._row.setdefault(claimant)
        if self._coming < len(self._row) and any(
            holder.give_up_resting() for holder in list(self._held) if holder is not claimant
        ):
            self._coming += 1
        return False

    def release(self, claimant: Claimant) -> None:
        """A connection is gone."""
        self._used -= 1
        self._coming = max(0, self._coming - 1)
        self._held[claimant] -= 1
        if not self._held[claimant]:
            del self._held[claimant]
        while self._row and self._used < self._limit:
            first = next(iter(self._row))
            del self._row[first]
            first.slot_free()

    def withdraw(self, claimant: Claimant) -> None:
        """`claimant` wants no more."""
        self._row.pop(claimant, None)

    def must_yield(self, claimant: Claimant, connections: int) -> bool:
        """Whether one of the `connections` of `claimant` should go to somebody else now."""
        rivals = len(self._row) - (claimant in self._row)
        if rivals <= 0:
            return False
        sharers = len(self._held.keys() | self._row.keys())
        return connections > self._limit // sharers
