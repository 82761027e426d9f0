"""CPU time and memory of a process and all its descendants, out of /proc (Linux).

Dead descendants count through `cutime` and `cstime` of the parent that has reaped them. What has been orphaned is lost;
neither Postfix's nor Gatepost's processes are while their master lives.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")  # per second
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says."""

    pid: int
    name: str
    parent: int
    ticks: int  # user and system time, those of reaped children included


def parse_stat(text: str) -> ProcessStat:
    """One /proc/PID/stat. The name stands in brackets and may hold blanks and brackets. proc(5)."""
    opened, closed = text.index("("), text.rindex(")")
    fields = text[closed + 2 :].split()  # from field 3, the state, on
    return ProcessStat(int(text[:opened]), text[opened + 1 : closed], int(fields[1]), sum(map(int, fields[11:15])))


def _stats() -> Iterator[ProcessStat]:
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            try:
                yield parse_stat((folder / "stat").read_text("utf-8", "replace"))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has just ended


def family(pid: int) -> list[ProcessStat]:
    """The process and its living descendants, parents before children."""
    children: dict[int, list[ProcessStat]] = {}
    found: list[ProcessStat] = []
    for stat in _stats():
        children.setdefault(stat.parent, []).append(stat)
        if stat.pid == pid:
            found.append(stat)
    for stat in found:  # grows while it is walked
        found.extend(children.get(stat.pid, []))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of the family so far, reaped descendants included."""
    while True:  # a process that dies between two reads would be missed, or counted twice
        stats = family(pid)
        if {stat.pid for stat in stats} == {stat.pid for stat in family(pid)}:
            return sum(stat.ticks for stat in stats) / TICKS


def machine_busy_seconds() -> float:
    """CPU time all processors have spent on anything since boot, what a hypervisor took away included.

    Idle time and waiting for the disk are not counted. proc(5).
    """
    fields = (_PROC / "stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields)
    return (user + nice + system + irq + softirq + steal) / TICKS


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Memory of one process in KiB."""

    pid: int
    name: str
    pss: int
    rss: int


def parse_rollup(text: str) -> tuple[int, int]:
    """PSS and RSS in KiB out of one /proc/PID/smaps_rollup."""
    amounts = {line.split(":")[0]: line.split()[1] for line in text.splitlines() if line.endswith(" kB")}
    return int(amounts["Pss"]), int(amounts["Rss"])


def memory(pid: int) -> list[ProcessMemory]:
    """Memory of each living process of the family, the given one first. Needs root, or to be their user."""
    found = []
    for stat in family(pid):
        try:
            pss, rss = parse_rollup((_PROC / str(stat.pid) / "smaps_rollup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        found.append(ProcessMemory(stat.pid, stat.name, pss, rss))
    return found
