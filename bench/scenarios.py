"""What is raced, with how many messages, and what the goals are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Kind = Literal["relay", "forward", "maildir"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SESSIONS = (1, 20, 100)
SIZES = (4, 200)  # KiB
FORWARDS = 1000  # in the table of `forward`

# So many that Postfix needs about three seconds on two cores.
_MESSAGES = {(1, 4): 600, (20, 4): 3000, (100, 4): 3000, (1, 200): 300, (20, 200): 800, (100, 200): 800}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table."""

    kind: Kind
    sessions: int
    size: int  # KiB of text
    messages: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind}, {self.sessions} session{'s' * (self.sessions > 1)}, {self.size} KiB"

    @property
    def goal(self) -> float | None:
        """The ratio Gatepost shall reach, where one is set."""
        if self.sessions == 1 or self.size >= 200:
            return 1.0
        if self.sessions == 20:
            return 2.0 if self.kind == "maildir" else 3.0
        return None

    @property
    def sources(self) -> int:
        """How many smtp-source share the load, so that none numbers its recipients beyond the table."""
        wanted = -(-self.messages // FORWARDS) if self.kind == "forward" else 1
        return min(wanted, self.sessions)

    def with_messages(self, messages: int) -> Scenario:
        """The same with another number of messages, at least one for each session."""
        most = FORWARDS * self.sessions if self.kind == "forward" else messages
        return replace(self, messages=max(self.sessions, min(messages, most)))

    def warm_up(self) -> Scenario:
        """A shorter one, that starts as many processes and fills the same caches."""
        return self.with_messages(min(self.messages, max(100, 3 * self.sessions)))


def scenarios(kinds: Sequence[Kind], sessions: Sequence[int], sizes: Sequence[int], load: float) -> Iterator[Scenario]:
    """All combinations, `load` times the usual number of messages."""
    for kind in kinds:
        for size in sizes:
            for count in sessions:
                yield Scenario(kind, count, size, 1).with_messages(round(load * _usual_messages(count, size)))


def _usual_messages(sessions: int, size: int) -> int:
    if (sessions, size) in _MESSAGES:
        return _MESSAGES[sessions, size]
    return max(300, min(3000, 150 * sessions) * 40 // (40 + size))
