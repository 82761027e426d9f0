"""What the figures depend on: processors, disk, versions."""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.contender import BenchError
from bench.tools import program

SYNCS = 60
MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


def describe_machine() -> dict[str, str]:
    """Facts for people. Raises BenchError where the temporary folder is no disk: fsync would cost nothing there."""
    folder = Path(tempfile.gettempdir())
    file_system = _file_system(folder)
    if file_system in MEMORY_FILE_SYSTEMS:
        raise BenchError(f"{folder} is a {file_system}, where fsync costs nothing; set TMPDIR to a folder on a disk")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return {
        "processors": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "disk": f"{file_system} at {folder}, fsync of 4 KiB {sync_seconds(folder) * 1000:.2f} ms",
        "Postfix": _version([program("postconf"), "-d", "-h", "mail_version"]),
        "Python": platform.python_version(),
        "Gatepost": _version(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]),
        "load average at the start": load,
    }


def sync_seconds(folder: Path) -> float:
    """Median time of an fsync of 4 KiB written to the end of a file."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    return median(times)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that `folder` is on. proc(5): /proc/PID/mountinfo."""
    best, found = "", "unknown"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        mounted = before.split()[4]
        if (folder == Path(mounted) or Path(mounted) in folder.parents) and len(mounted) >= len(best):
            best, found = mounted, after.split()[0]
    return found


def _version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
