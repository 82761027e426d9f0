"""What runs amount to: medians, spreads, ratios. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from bench.scenarios import Scenario


@dataclass(frozen=True, slots=True)
class Run:
    """One server, one scenario, once."""

    messages: int
    seconds: float  # until the last message had arrived
    drained_seconds: float  # until the server's queue was empty as well
    cpu_seconds: float  # of the server's processes
    others_share: float  # of the machine's CPU time meanwhile: neither server, source nor sink; 0 to 1

    @property
    def rate(self) -> float:
        """Messages per second, end to end."""
        return self.messages / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """CPU time per message."""
        return 1000 * self.cpu_seconds / self.messages


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, smallest and largest of some figures."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(runs: Sequence[Run], figure: Callable[[Run], float]) -> Spread:
        """Over all runs."""
        figures = [figure(run) for run in runs]
        return Spread(median(figures), min(figures), max(figures))

    @property
    def width(self) -> float:
        """How far apart the figures are, by their median."""
        return (self.most - self.least) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table: both servers' runs of a scenario, in order."""

    scenario: Scenario
    runs: dict[str, list[Run]]  # by the server's name

    def rate(self, name: str) -> Spread:
        """Messages per second."""
        return Spread.of(self.runs[name], lambda run: run.rate)

    def cpu(self, name: str) -> Spread:
        """Milliseconds of CPU time per message."""
        return Spread.of(self.runs[name], lambda run: run.cpu_milliseconds)

    def others_share(self) -> float:
        """The worst of all runs."""
        return max(run.others_share for runs in self.runs.values() for run in runs)

    def ratio(self, name: str, other: str) -> float:
        """How many times as fast `name` is as `other`."""
        return self.rate(name).median / self.rate(other).median

    def goal_reached(self, name: str, other: str) -> bool | None:
        """Whether the ratio is at least the goal; None where there is none."""
        goal = self.scenario.goal
        return None if goal is None else self.ratio(name, other) >= goal
