"""Rounds: one server, one scenario, one run after the other; and never both at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.contender import BenchError, Contender, Deadline
from bench.figures import Comparison, Run
from bench.processes import ProcessMemory, cpu_seconds, machine_busy_seconds, memory
from bench.scenarios import Kind, Scenario
from bench.sink import Sink
from bench.source import Sources

RUN_LIMIT = 120.0  # seconds until a run is given up
DRAIN_LIMIT = 10.0  # seconds the queue may take to be empty once everything has arrived
POLL = 0.005  # seconds between two looks at the sink
NOISE = 0.1  # share of the machine's CPU time that others may have before a run counts as disturbed
QUIET_LIMIT = 300.0  # seconds a patient race waits for quiet
REPEATS = 5  # of a disturbed run
MAILDIR_POLL = 0.01  # a look at a Maildir reads its whole folder, and is taken only once smtp-source is done

Enter = Callable[[Kind, str], Contender]
"""Makes a contender out of the kind of scenario and its next hop."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RaceOptions:
    """How the race is run."""

    rounds: int
    keep_connections: bool
    say: Say
    patient: bool = False  # wait for a quiet machine before each run, and repeat a run that others disturbed


@dataclass(slots=True)
class Footprint:
    """A server's processes before and after all load of one kind of scenario."""

    kind: Kind
    server: str
    idle: list[ProcessMemory]
    loaded: list[ProcessMemory] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lane:
    """One server with its own next hop."""

    contender: Contender
    sink: Sink

    def arrived(self, scenario: Scenario) -> int:
        """Messages that are where they shall be, since the server was started or the Maildir was emptied."""
        if scenario.kind != "maildir":
            return self.sink.count()
        try:
            return len(os.listdir(self.contender.new_mail))
        except FileNotFoundError:
            return 0  # it is made for the first message

    def empty_maildir(self) -> None:
        """Throw the mail away."""
        if self.contender.new_mail.is_dir():
            for file in self.contender.new_mail.iterdir():
                file.unlink()

    def run(self, scenario: Scenario, *, keep_connections: bool) -> Run:
        """One run. Raises BenchError if it does not count."""
        try:
            return self._run(scenario, keep_connections=keep_connections)
        except BenchError as error:
            raise BenchError(
                f"{self.contender.name}, {scenario.name}: {error}\nIts log ends so:\n{self.contender.log_tail()}"
            ) from None

    def _run(self, scenario: Scenario, *, keep_connections: bool) -> Run:
        self.empty_maildir()
        os.sync()
        wanted = self.arrived(scenario) + scenario.messages
        cpu, sink_cpu, busy = cpu_seconds(self.contender.pid), self.sink.cpu_seconds(), machine_busy_seconds()
        own_cpu = time.process_time()
        start = time.perf_counter()
        with Sources(scenario, self.contender.port, keep_connections=keep_connections) as sources:
            self._await_arrival(scenario, sources, wanted)
            arrived = time.perf_counter() - start
            self._await_empty_queue()
            drained = time.perf_counter() - start
            while not sources.done():  # the last one may still be saying QUIT
                time.sleep(POLL)
        cpu = cpu_seconds(self.contender.pid) - cpu
        known = cpu + self.sink.cpu_seconds() - sink_cpu + sources.cpu_seconds + time.process_time() - own_cpu
        others = max(0.0, machine_busy_seconds() - busy - known)
        surplus = self.arrived(scenario) - wanted
        if surplus:
            raise BenchError(f"{surplus} messages more arrived than were sent")
        share = others / (drained * (os.cpu_count() or 1))
        return Run(scenario.messages, arrived, drained, cpu, share)

    def _await_arrival(self, scenario: Scenario, sources: Sources, wanted: int) -> None:
        deadline = Deadline(RUN_LIMIT)
        to_maildir = scenario.kind == "maildir"
        while to_maildir and not sources.done():
            time.sleep(POLL)
            if deadline.passed():
                raise BenchError(f"smtp-source was not done in {RUN_LIMIT:.0f} s")
        while self.arrived(scenario) < wanted:
            sources.done()  # raises if one gave up
            if deadline.passed():
                missing = wanted - self.arrived(scenario)
                raise BenchError(f"{missing} of {scenario.messages} messages had not arrived in {RUN_LIMIT:.0f} s")
            time.sleep(MAILDIR_POLL if to_maildir else POLL)

    def _await_empty_queue(self) -> None:
        deadline = Deadline(DRAIN_LIMIT)
        while waiting := self.contender.waiting():
            if deadline.passed():
                raise BenchError(
                    f"{waiting} messages were still in the queue {DRAIN_LIMIT:.0f} s after all had arrived"
                )
            time.sleep(MAILDIR_POLL)


def race(
    kind: Kind, scenarios: Sequence[Scenario], contenders: Sequence[Enter], options: RaceOptions
) -> tuple[list[Comparison], list[Footprint]]:
    """All scenarios of one kind, with every server's instances alive from the first to the last. Raises BenchError."""
    with ExitStack() as stack:
        lanes = []
        for enter in contenders:
            sink = stack.enter_context(Sink())
            lanes.append(Lane(stack.enter_context(enter(kind, sink.relayhost)), sink))
        time.sleep(1)  # for whatever a start leaves to be done
        footprints = [Footprint(kind, lane.contender.name, memory(lane.contender.pid)) for lane in lanes]
        comparisons = [_compare(scenario, lanes, options) for scenario in scenarios]
        for lane, footprint in zip(lanes, footprints, strict=True):
            lane.empty_maildir()
            footprint.loaded = memory(lane.contender.pid)
        return comparisons, footprints


def _compare(scenario: Scenario, lanes: Sequence[Lane], options: RaceOptions) -> Comparison:
    options.say(f"{scenario.name}: {scenario.messages} messages, {options.rounds} rounds")
    for lane in lanes:
        lane.run(scenario.warm_up(), keep_connections=options.keep_connections)
    comparison = Comparison(scenario, {lane.contender.name: [] for lane in lanes})
    for number in range(options.rounds):
        for lane in lanes if number % 2 == 0 else reversed(lanes):
            run = _undisturbed(lane, scenario, options)
            comparison.runs[lane.contender.name].append(run)
            options.say(
                f"  round {number + 1}  {lane.contender.name:9} {run.rate:7.0f}/s  "
                f"{run.cpu_milliseconds:6.2f} ms CPU each  others {run.others_share:4.0%}"
            )
    return comparison


def _undisturbed(lane: Lane, scenario: Scenario, options: RaceOptions) -> Run:
    """One run; of a patient race the first that others left alone, or the last of REPEATS, whatever came of it."""
    for _ in range(REPEATS if options.patient else 1):
        if options.patient:
            _await_quiet()
        run = lane.run(scenario, keep_connections=options.keep_connections)
        if run.others_share <= NOISE:
            break
    return run


def _await_quiet() -> None:
    deadline = Deadline(QUIET_LIMIT)
    while not deadline.passed():
        busy = machine_busy_seconds()
        time.sleep(1)
        if machine_busy_seconds() - busy < NOISE * (os.cpu_count() or 1):
            return
