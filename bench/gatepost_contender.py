"""Gatepost in the race, driven from outside as an operator would: `gatepost init`, a gatepost.toml, `gatepost serve`.

Run by root, Gatepost runs as `nobody`. Where `nobody` may not reach this Python (one in /root, say), it is started with the
one capability to read and search folders; that costs no time.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from bench.contender import FORWARDED_RECIPIENT, MAILBOX, BenchError, Deadline, forwards, greets, tail
from bench.processes import family
from bench.scenarios import Kind
from bench.tools import program
from gatepost.directory.edits import DirectoryEdits
from gatepost.queue.statistics import read_statistics
from peers.ports import free_port

USER = "nobody"
START_TIME, STOP_TIME = 30.0, 60.0  # seconds
SOURCES = Path(__file__).resolve().parents[1] / "src"

_SETTINGS = """\
hostname = "gatepost.test"
workers = {workers}

[[listener]]
role = "mx"
address = "127.0.0.1:{port}"
mynetworks = ["127.0.0.0/8"]
reverse_lookup = false

[delivery]
relayhost = "{relayhost}"
"""


class GatepostContender:
    """One Gatepost for one kind of scenario, in a home of its own."""

    name = "Gatepost"

    def __init__(
        self, kind: Kind, relayhost: str, *, workers: int = 0, python: tuple[str, ...] = (sys.executable,)
    ) -> None:
        """Nothing is started yet. `workers` 0 is one for each core; `python` may be a command line that wraps it."""
        self._kind = kind
        self._relayhost = relayhost
        self._workers = workers
        self._python = python
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GatepostContender:
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-bench-"))
        try:
            self._furnish()
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def port(self) -> int:
        """Where it takes mail on 127.0.0.1."""
        return self._port

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._server is not None
        return self._server.pid

    @property
    def home(self) -> Path:
        """Its home folder."""
        return self.folder / "home"

    @property
    def new_mail(self) -> Path:
        """The folder `new` of the Maildir of MAILBOX."""
        local, _, domain = MAILBOX.partition("@")
        return self.home / "mail" / domain / local / "new"

    def waiting(self) -> int:
        """Messages in all shards of the queue."""
        return sum(read_statistics(shard).messages for shard in self.home.glob("queue/*/queue.sqlite"))

    def log_tail(self) -> str:
        """The last lines of its log and of what it printed."""
        files = (self.home / "log" / "mail.log", self.folder / "output")
        return tail("".join(file.read_text("utf-8", "replace") for file in files if file.exists()))

    def _furnish(self) -> None:
        self.folder.chmod(0o755)
        self.home.mkdir(mode=0o750)
        self._hand_over(self.home)
        self._port = free_port()
        settings = _SETTINGS.format(workers=self._workers, port=self._port, relayhost=self._relayhost)
        (self.home / "gatepost.toml").write_text(settings)
        done = subprocess.run(
            [*self._command(), "init", "bench.test", "--demo"],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode != 0:
            raise BenchError(f"gatepost init failed: {tail(done.stderr)}")
        self._add_residents()
        for file in self.home.glob("directory.sqlite*"):
            self._hand_over(file)

    def _add_residents(self) -> None:
        """By the same door as `gatepost forward add`, in one process rather than a thousand."""
        with DirectoryEdits(self.home / "directory.sqlite") as edits:
            if self._kind == "forward":
                edits.add_domain(FORWARDED_RECIPIENT.partition("@")[2])
                for source, target in forwards().items():
                    edits.add_forward(source, [target])
            elif self._kind == "maildir":
                edits.add_domain(MAILBOX.partition("@")[2])
                edits.add_account(MAILBOX)

    def _start(self) -> None:
        with (self.folder / "output").open("wb") as output:
            self._server = subprocess.Popen(
                [*self._command(), "serve", "--quiet"],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = Deadline(START_TIME)
        while not greets(self.port):
            if self._server.poll() is not None or deadline.passed():
                raise BenchError(f"Gatepost did not start:\n{self.log_tail()}")

    def _command(self) -> list[str]:
        """`gatepost --home …`, as USER where root runs the bench."""
        gatepost = [*self._python, "-m", "gatepost", "--home", str(self.home)]
        if os.geteuid() != 0:
            return gatepost
        become = [program("setpriv"), "--reuid", USER, "--regid", str(pwd.getpwnam(USER).pw_gid), "--clear-groups"]
        # By way of env: setpriv itself still has root's rights when it looks for the program.
        reached = subprocess.run([*become, program("env"), sys.executable, "-c", ""], capture_output=True, check=False)
        if reached.returncode != 0:
            become += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        return [*become, *gatepost]

    def _hand_over(self, path: Path) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _stop(self) -> None:
        """SIGTERM to the supervisor, which drains its workers; SIGKILL for what is left in the end."""
        if self._server is not None:
            members = [stat.pid for stat in family(self._server.pid)]
            self._server.terminate()
            try:
                self._server.wait(STOP_TIME)
            except subprocess.TimeoutExpired:
                _kill(members)
                self._server.wait()
            self._server = None
        shutil.rmtree(self.folder, ignore_errors=True)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass  # it has just ended


def _environment() -> Mapping[str, str]:
    """Gatepost out of this checkout, even where it is not installed."""
    paths = [str(SOURCES), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
