"""Tables for people, JSON for comparing one day with another."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.figures import Comparison, Spread
from bench.processes import ProcessMemory
from bench.race import NOISE, Footprint

RESULTS = Path(__file__).resolve().parent / "results"
GATEPOST, POSTFIX = "Gatepost", "Postfix"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they must be: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not at else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def speed_table(comparisons: Sequence[Comparison]) -> str:
    """Messages per second and CPU time."""
    header = [
        "",
        "Postfix /s",
        "spread",
        "Gatepost /s",
        "spread",
        "ratio",
        "goal",
        "",
        "CPU ms",
        "CPU ms",
        "ratio",
        "others",
    ]
    rows = []
    for line in comparisons:
        ours, theirs = line.rate(GATEPOST), line.rate(POSTFIX)
        our_cpu, their_cpu = line.cpu(GATEPOST).median, line.cpu(POSTFIX).median
        others = line.others_share()
        rows.append(
            [
                line.scenario.name,
                *(f"{theirs.median:.0f}", _range(theirs), f"{ours.median:.0f}", _range(ours)),
                f"{line.ratio(GATEPOST, POSTFIX):.2f}",
                f"{line.scenario.goal:.0f}" if line.scenario.goal else "",
                {True: "yes", False: "NO", None: ""}[line.goal_reached(GATEPOST, POSTFIX)],
                *(f"{their_cpu:.2f}", f"{our_cpu:.2f}", f"{our_cpu / their_cpu:.2f}" if their_cpu else ""),
                f"{others:.0%}{' !' if others > NOISE else ''}",
            ]
        )
    return table(header, rows)


def memory_table(footprints: Sequence[Footprint]) -> str:
    """MiB of all processes, and of the largest."""
    header = ["", "processes", "PSS", "RSS", "largest RSS", "loaded: processes", "PSS", "RSS", "largest RSS"]
    rows = [[f"{one.server}, {one.kind}", *_memory(one.idle), *_memory(one.loaded)] for one in footprints]
    return table(header, rows)


def _memory(processes: Sequence[ProcessMemory]) -> list[str]:
    pss, rss = sum(one.pss for one in processes), sum(one.rss for one in processes)
    largest = max(processes, key=lambda one: one.rss)
    return [str(len(processes)), f"{pss / 1024:.0f}", f"{rss / 1024:.0f}", f"{largest.rss / 1024:.0f} {largest.name}"]


def _range(spread: Spread) -> str:
    return f"{spread.least:.0f}-{spread.most:.0f}"


def race_record(comparisons: Sequence[Comparison], footprints: Sequence[Footprint]) -> dict[str, Any]:
    """All there is of a race, run by run."""
    return {
        "scenarios": [
            {
                **asdict(line.scenario),
                "goal": line.scenario.goal,
                "ratio": line.ratio(GATEPOST, POSTFIX) if len(line.runs) > 1 else None,
                "runs": {name: [asdict(run) for run in runs] for name, runs in line.runs.items()},
            }
            for line in comparisons
        ],
        "memory_kib": [asdict(one) for one in footprints],
    }


def write_record(what: str, machine: Mapping[str, str], record: Mapping[str, Any]) -> Path:
    """All figures as JSON in a file of its own, whose path is returned."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{what}.json"
    path.write_text(json.dumps({"what": what, "machine": dict(machine), **record}, indent=1) + "\n")
    return path
