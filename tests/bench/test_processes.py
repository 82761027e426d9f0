"""CPU time and memory out of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from bench.processes import cpu_seconds, family, memory, parse_rollup, parse_stat

STAT = (
    "4711 (a) (b c) S 42 4711 4711 0 -1 4194560 1000 2000 0 0 11 22 33 44 20 0 1 0 100 200 300 18446744073709551615 "
    "1 1 0 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
)
ROLLUP = """\
55d0-7ffd ---p 00000000 00:00 0                          [rollup]
Rss:               32784 kB
Pss:               22019 kB
Pss_Dirty:         15000 kB
Shared_Clean:       9000 kB
"""

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_name_may_hold_brackets_and_blanks() -> None:
    stat = parse_stat(STAT)
    assert (stat.pid, stat.name, stat.parent, stat.ticks) == (4711, "a) (b c", 42, 11 + 22 + 33 + 44)


def test_pss_and_rss_are_told_apart_from_their_neighbours() -> None:
    assert parse_rollup(ROLLUP) == (22019, 32784)


def test_the_time_of_a_child_counts_while_it_lives_and_once_it_is_reaped() -> None:
    burn = BURN.format(seconds=0.3)
    script = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn!r} + 'print(flush=True); input()'], "
        "stdin=subprocess.PIPE)\n"
        "input()\n"
        "child.communicate(b'\\n')\n"
        "print('reaped', flush=True)\n"
        "input()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdin is not None and parent.stdout is not None
    try:
        parent.stdout.readline()
        assert [stat.parent for stat in family(parent.pid)] == [os.getpid(), parent.pid]
        alive = cpu_seconds(parent.pid)
        assert alive >= 0.28
        parent.stdin.write(b"\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == b"reaped\n"
        assert [stat.pid for stat in family(parent.pid)] == [parent.pid]
        assert cpu_seconds(parent.pid) >= alive - 0.02
    finally:
        parent.communicate(b"\n")


def test_memory_names_the_process_itself_first() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: len(memory(os.getpid())) >= 2)
        first, *rest = memory(os.getpid())
        assert first.pid == os.getpid()
        assert child.pid in [one.pid for one in rest]
        assert 0 < first.pss <= first.rss
    finally:
        child.communicate(b"\n")
