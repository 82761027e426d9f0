"""smtp-source, one or several that share a load."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType

from bench.contender import FORWARDED_RECIPIENT, MAILBOX, REMOTE_RECIPIENT, SENDER, BenchError
from bench.scenarios import Kind, Scenario
from bench.tools import program

_RECIPIENTS: dict[Kind, str] = {"relay": REMOTE_RECIPIENT, "forward": FORWARDED_RECIPIENT, "maildir": MAILBOX}


def shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most."""
    return [total // parts + (part < total % parts) for part in range(parts)]


def commands(scenario: Scenario, port: int, *, keep_connections: bool) -> list[list[str]]:
    """The command lines that make the load of a scenario."""
    options = ["-l", str(scenario.size * 1024), "-f", SENDER, "-t", _RECIPIENTS[scenario.kind], "-M", "source.test"]
    options += ["-N"] if scenario.kind == "forward" else []
    options += ["-d"] if keep_connections else []
    parts = scenario.sources
    return [
        [program("smtp-source"), "-s", str(sessions), "-m", str(messages), *options, f"127.0.0.1:{port}"]
        for sessions, messages in zip(shares(scenario.sessions, parts), shares(scenario.messages, parts), strict=True)
    ]


class Sources:
    """The load of one run, started at once; ended with its `with` block if it has not ended by itself."""

    def __init__(self, scenario: Scenario, port: int, *, keep_connections: bool) -> None:
        self._running = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for command in commands(scenario, port, keep_connections=keep_connections)
        ]
        self.cpu_seconds = 0.0  # of those that have ended

    def __enter__(self) -> Sources:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for source in self._running:
            source.kill()
            source.communicate()

    def done(self) -> bool:
        """Whether all have sent everything. Raises BenchError if one gave up."""
        for source in list(self._running):
            pid, status, usage = os.wait4(source.pid, os.WNOHANG)
            if not pid:
                continue
            source.returncode = os.waitstatus_to_exitcode(status)
            self._running.remove(source)
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            assert source.stderr is not None
            said = source.stderr.read().decode(errors="replace").strip()
            source.stderr.close()
            if source.returncode != 0:
                raise BenchError(f"smtp-source gave up: {said or f'exit code {source.returncode}'}")
        return not self._running
