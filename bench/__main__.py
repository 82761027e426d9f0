"""python -m bench: the command line."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType

from bench.contender import BenchError
from bench.figures import Comparison
from bench.gatepost_contender import GatepostContender
from bench.idle_sessions import GOAL, measure_idle_sessions
from bench.machine import describe_machine
from bench.postfix_contender import PostfixContender
from bench.queue_depth import TOLERANCE, measure_queue_depth
from bench.race import Enter, Footprint, RaceOptions, race
from bench.report import memory_table, race_record, speed_table, table, write_record
from bench.scenarios import KINDS, SESSIONS, SIZES, scenarios

CONTENDERS: dict[str, Enter] = {"postfix": PostfixContender, "gatepost": GatepostContender}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where all went well, whatever the figures; 1 where something could not be measured."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)  # so that `finally` ends what was started
    measures: dict[str, Callable[[argparse.Namespace, dict[str, str]], None]] = {
        "race": _race,
        "idle-sessions": _idle_sessions,
        "queue-depth": _queue_depth,
    }
    try:
        machine = describe_machine()
        for name, fact in machine.items():
            print(f"{name + ':':27}{fact}")
        print(flush=True)
        measures[options.what](options, machine)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Gatepost and Postfix on one machine, turn and turn about."
    )
    parser.add_argument("what", nargs="?", choices=["race", "idle-sessions", "queue-depth"], default="race")
    racing = parser.add_argument_group("race")
    racing.add_argument("--kind", action="append", choices=KINDS, help="only this kind; may be given again")
    racing.add_argument("--sessions", action="append", type=int, metavar="N", help="only so many sessions; again")
    racing.add_argument("--size", action="append", type=int, metavar="KIB", help="only this size of text; again")
    racing.add_argument("--rounds", type=int, default=0, help="rounds of each scenario (3; 2 with --quick)")
    racing.add_argument(
        "--load", type=float, default=0.0, help="times the usual number of messages (1; 0.4 with --quick)"
    )
    racing.add_argument("--quick", action="store_true", help="fewer rounds, fewer messages, not 100 sessions")
    racing.add_argument("--only", choices=list(CONTENDERS), help="one server alone, without ratios")
    racing.add_argument("--keep-connections", action="store_true", help="smtp-source -d: all mail over the same ones")
    racing.add_argument("--patient", action="store_true", help="wait for a quiet machine, repeat disturbed runs")
    parser.add_argument("--count", type=int, default=5000, help="idle-sessions: how many (5000)")
    parser.add_argument("--depth", type=int, default=200_000, help="queue-depth: how many messages wait (200000)")
    return parser


def _race(options: argparse.Namespace, machine: dict[str, str]) -> None:
    if os.geteuid() != 0 and options.only != "gatepost":
        raise BenchError("run the race as root: Postfix's master drops its own rights")
    load = options.load or (0.4 if options.quick else 1.0)
    sessions = options.sessions or ((1, 20) if options.quick else SESSIONS)
    rounds = options.rounds or (2 if options.quick else 3)
    how = RaceOptions(rounds, options.keep_connections, _say, options.patient)
    contenders = [enter for name, enter in CONTENDERS.items() if options.only in (None, name)]
    comparisons: list[Comparison] = []
    footprints: list[Footprint] = []
    for kind in options.kind or KINDS:
        course = list(scenarios([kind], sessions, options.size or SIZES, load))
        compared, stood = race(kind, course, contenders, how)
        comparisons += compared
        footprints += stood
    print()
    if options.only is None:
        print(speed_table(comparisons), end="\n\n")
    print("Memory in MiB, idle and after the load")
    print(memory_table(footprints), end="\n\n")
    print(write_record("race", machine, race_record(comparisons, footprints)))


def _idle_sessions(options: argparse.Namespace, machine: dict[str, str]) -> None:
    found = measure_idle_sessions(options.count, _say)
    rows = [
        ["before", f"{found.before}", ""],
        ["greeted", f"{found.greeted}", f"{found.kilobytes_each(found.greeted):.1f}"],
        ["after EHLO", f"{found.after_ehlo}", f"{found.kilobytes_each(found.after_ehlo):.1f}"],
        ["after a message each", f"{found.after_message}", f"{found.kilobytes_each(found.after_message):.1f}"],
        ["all closed", f"{found.after_quit}", ""],
    ]
    print(table([f"{found.sessions} sessions", "worker's RSS, KiB", f"KB each (goal: under {GOAL:.0f})"], rows))
    print(f"one more is greeted in {found.greeting_milliseconds:.2f} ms", end="\n\n")
    figures = {name: getattr(found, name) for name in found.__slots__}
    print(write_record("idle-sessions", machine, {"idle_sessions": figures}))


def _queue_depth(options: argparse.Namespace, machine: dict[str, str]) -> None:
    costs = measure_queue_depth([10, options.depth], rounds=5, messages=4000, say=_say)
    shallow, deep = costs[0].medians(), costs[-1].medians()
    rows = [
        [f"{name}, us", f"{shallow[name]:.0f}", f"{deep[name]:.0f}", f"{deep[name] / shallow[name]:.2f}"]
        for name in shallow
    ]
    print(table(["one message", "10 waiting", f"{options.depth} waiting", f"ratio (goal: under {TOLERANCE})"], rows))
    print()
    figures = {str(cost.depth): cost.medians() for cost in costs}
    print(write_record("queue-depth", machine, {"microseconds": figures}))


def _say(line: str) -> None:
    print(line, flush=True)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(143)


if __name__ == "__main__":
    sys.exit(main())
