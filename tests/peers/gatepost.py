"""GatepostInstance: a whole Gatepost as real processes, in a folder of its own, on loopback.

    with GatepostInstance(tmp_path) as gatepost:
        with gatepost.smtp("mx") as client:
            client.sendmail("x@far.test", ["ann@here.test"], b"...")

It is `python -m gatepost serve`, started in a process group of its own; whatever of the group is left at the end is killed
and complained of. Its name servers answer nothing and it looks up no client, so that no packet leaves the machine.
"""

from __future__ import annotations

import mailbox
import os
import shlex
import signal
import smtplib
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gatepost.auth.passwords import hash_password
from gatepost.config.settings import PasswordSettings, Settings
from gatepost.directory.edits import DirectoryEdits
from gatepost.mailbox.places import encode_name
from gatepost.net.own_ca import OwnCa
from gatepost.service.assembly import read_settings
from gatepost.service.channel import ChannelClosed, ask_once
from gatepost.service.home import Home
from peers.ports import free_port
from peers.postfix import processes_of_group
from peers.sink import wait_until

HOSTNAME = "mail.here.test"
DOMAIN = "here.test"
ROLES = ("mx", "submission", "submissions", "lmtp")
START_TIME, STOP_TIME = 40.0, 60.0  # seconds; the machine may be busy

_PASSWORDS = PasswordSettings(argon2_time_cost=1, argon2_memory_cost=64 * 1024)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class People:
    """Who lives there: accounts with their passwords, and forwards; of a `keeping` one the account gets the mail too."""

    domains: tuple[str, ...] = (DOMAIN,)
    accounts: Mapping[str, str] = field(
        default_factory=lambda: {"ann@here.test": "ann-secret", "ben@here.test": "ben-secret"}
    )
    forwards: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    keeping: tuple[str, ...] = ()


class GatepostInstance:
    """A Gatepost that runs while its `with` block lasts.

    `toml` is put into gatepost.toml after the settings the kit needs; it may begin with settings of the first level, or be
    made of tables only. `listeners` adds lines to the `[[listener]]` of a role: `{"mx": "recipient_limit = 5"}`.
    """

    def __init__(
        self,
        folder: Path,
        toml: str = "",
        *,
        people: People | None = None,
        listeners: Mapping[str, str] | None = None,
        workers: int = 1,
    ) -> None:
        """Furnishes `folder`/home; nothing is started yet."""
        self.folder = folder
        self.home = Home(folder / "home")
        self.ports = {role: free_port() for role in ROLES}
        self.people = people or People()
        self.workers = workers
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []
        self.home.path.mkdir(parents=True)
        self.configure(toml, listeners or {})
        self._furnish()

    # -- the home --

    def configure(self, toml: str = "", listeners: Mapping[str, str] | None = None) -> None:
        """Write gatepost.toml anew; a running server sees it when it is reloaded."""
        lines = [f'hostname = "{HOSTNAME}"', f'postmaster = "postmaster@{DOMAIN}"', f"workers = {self.workers}"]
        lines += ['user = "root"'] if os.geteuid() == 0 else []  # allowed where all listeners are on loopback
        lines += [toml]
        for role, port in self.ports.items():
            own = (listeners or {}).get(role, "")
            lines += ["[[listener]]", f'role = "{role}"', f'name = "{role}"', f'address = "127.0.0.1:{port}"', own]
            lines += [] if "reverse_lookup" in own else ["reverse_lookup = false"]
        lines += ["[passwords]", "argon2_time_cost = 1", 'argon2_memory_cost = "64 KiB"']
        if "[dns]" not in toml:
            lines += ["[dns]", f'servers = ["127.0.0.1:{free_port()}"]', "timeout = 0.5"]
        self.home.settings_file.write_text("\n".join(lines) + "\n")

    @property
    def settings(self) -> Settings:
        """gatepost.toml as the server reads it."""
        return read_settings(self.home)

    def edits(self) -> DirectoryEdits:
        """The directory, to be changed while the server runs or not."""
        settings = self.settings
        return DirectoryEdits(self.home.directory(settings), recipient_delimiter=settings.recipient_delimiter)

    def _furnish(self) -> None:
        self.home.prepare(self.settings)
        self.own_ca = OwnCa(self.home.path / "tls" / "ca")
        self.own_ca.create("Test CA")
        self.own_ca.issue([HOSTNAME, "localhost"])
        with self.edits() as edits, edits.together():
            for domain in self.people.domains:
                edits.add_domain(domain)
            for address, password in self.people.accounts.items():
                edits.add_account(address, password=hash_password(password, _PASSWORDS))
            for source, targets in self.people.forwards.items():
                edits.add_forward(source, targets, keep_copy=source in self.people.keeping)

    # -- its life --

    def __enter__(self) -> GatepostInstance:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it and do not wait."""
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(
                self.command("serve", "--quiet"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._groups.append(self._process.pid)
        return self._process

    def start(self) -> None:
        """Start it; comes back when all workers serve."""
        process = self.launch()
        deadline = time.monotonic() + START_TIME
        while not self.serves():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Gatepost did not start:\n{self.output.read_text()}\n{self.log()}")
            time.sleep(0.02)

    def serves(self) -> bool:
        """Whether the master of this start answers for all its workers."""
        answer = self.ask({"do": "status"})
        if answer is None or answer.get("pid") != self.pid:
            return False
        workers = answer["workers"]
        return len(workers) == self.workers and not any("error" in worker for worker in workers)

    def stop(self) -> int:
        """SIGTERM to the master, and wait until all is over. The exit code."""
        self._running.terminate()
        return self.wait()

    def wait(self) -> int:
        """Until it has ended by itself. The exit code."""
        code = self._running.wait(STOP_TIME)
        self._process = None
        wait_until(lambda: not self.processes(), 10)
        return code

    def kill(self) -> None:
        """SIGKILL to the master; its workers notice by themselves."""
        process = self._running
        process.kill()
        process.wait(STOP_TIME)
        self._process = None

    def reload(self) -> None:
        """SIGHUP to the master; does not wait."""
        self._running.send_signal(signal.SIGHUP)

    def end(self) -> None:
        """Stop it if it runs; AssertionError if anything of it is left then, which is killed."""
        try:
            if self._process is not None:
                self.stop()
        finally:
            left = self.processes()
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            if self._process is not None:
                self._process.wait(STOP_TIME)
                self._process = None
            wait_until(lambda: not self.processes(), 10)
        assert not left, f"processes {left} were left behind:\n{self.output.read_text()}\n{self.log()[-4000:]}"

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this Gatepost is not running"
        return self._process

    @property
    def pid(self) -> int:
        """The master's process id."""
        return self._running.pid

    def processes(self) -> list[int]:
        """All processes of all starts that still run."""
        return [pid for group in self._groups for pid in processes_of_group(group)]

    # -- what it says --

    @property
    def output(self) -> Path:
        """What the master and the workers printed."""
        return self.folder / "serve.out"

    def log(self) -> str:
        """mail.log so far."""
        file = self.home.path / "log" / "mail.log"
        return file.read_text("utf-8", "replace") if file.exists() else ""

    def wait_for_log(self, *texts: str, timeout: float = 20.0) -> str:
        """The log, as soon as it holds all of these."""
        deadline = time.monotonic() + timeout
        while True:
            log = self.log()
            missing = [text for text in texts if text not in log]
            if not missing:
                return log
            assert time.monotonic() < deadline, f"{missing} not in the log after {timeout} s:\n{log[-6000:]}"
            time.sleep(0.02)

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """A request to the control socket; None where nobody answers it."""
        try:
            return ask_once(self.home.control, request)
        except ChannelClosed:
            return None

    def status(self) -> list[dict[str, Any]]:
        """What each worker says of itself."""
        answer = self.ask({"do": "status"})
        assert answer is not None, "it does not answer"
        workers: list[dict[str, Any]] = answer["workers"]
        return workers

    def waiting(self) -> int:
        """Messages in the queue."""
        return sum(worker["messages"] for worker in self.status())

    def memory(self, what: str = "VmRSS") -> int:
        """Bytes of memory of all workers; `what` as in /proc/PID/status, `VmHWM` for the most there ever was."""
        total = 0
        for worker in self.status():
            lines = Path(f"/proc/{worker['pid']}/status").read_text().splitlines()
            total += next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))
        return total

    def maildir(self, address: str) -> mailbox.Maildir:
        """An account's Maildir. There is none before its first mail: then an empty one elsewhere."""
        local, _, domain = address.rpartition("@")
        path = self.home.path / "mail" / domain / encode_name(local)
        if all((path / name).exists() for name in ("tmp", "new", "cur")):
            return mailbox.Maildir(path, create=False)
        return mailbox.Maildir(self.folder / "no mail yet")

    def wait_for_mail(
        self, address: str, subject: str = "", count: int = 1, timeout: float = 20.0
    ) -> list[mailbox.MaildirMessage]:
        """The account's mail with this subject ("": all of it), as soon as there are `count` messages."""
        deadline = time.monotonic() + timeout
        while True:
            mail = [each for each in self.maildir(address) if not subject or each["Subject"] == subject]
            if len(mail) >= count:
                return mail
            assert time.monotonic() < deadline, f"{len(mail)} of {count} came to {address}:\n{self.log()[-6000:]}"
            time.sleep(0.02)

    def raw_mail(self, address: str, subject: str) -> bytes:
        """The one message with this subject, byte for byte as it is kept."""
        folder = self.maildir(address)
        (key,) = [key for key, mail in folder.items() if mail["Subject"] == subject]
        return folder.get_bytes(key)

    def wait_until_empty(self, timeout: float = 20.0) -> None:
        """Until nothing waits in the queue."""
        deadline = time.monotonic() + timeout
        while self.waiting():
            assert time.monotonic() < deadline, f"{self.run('queue', 'list')[-3000:]}\n{self.log()[-3000:]}"
            time.sleep(0.02)

    # -- its command line and its clients --

    def command(self, *arguments: str) -> list[str]:
        """`gatepost --home … arguments`."""
        return [sys.executable, "-m", "gatepost", "--home", str(self.home.path), *arguments]

    def run(self, *arguments: str, text: str = "") -> str:
        """What a command printed; AssertionError if it failed."""
        done = self.attempt(*arguments, text=text)
        assert done.returncode == 0, f"gatepost {shlex.join(arguments)}: {done.stderr}"
        return done.stdout

    def attempt(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """A command, whatever comes of it."""
        command = self.command(*arguments)
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)

    @property
    def ca(self) -> Path:
        """The certificate of its CA."""
        return self.own_ca.certificate

    def tls(self) -> ssl.SSLContext:
        """What a client that trusts its CA, and nobody else, uses."""
        return ssl.create_default_context(cafile=str(self.ca))

    def address(self, role: str) -> tuple[str, int]:
        """Where a listener is."""
        return "127.0.0.1", self.ports[role]

    def smtp(self, role: str, login: str = "", *, timeout: float = 30.0) -> smtplib.SMTP:
        """A client that is connected, has TLS where the role has it, has said EHLO and is logged in as `login`."""
        options: Mapping[str, Any] = {"local_hostname": "client.test", "timeout": timeout}
        client: smtplib.SMTP
        if role == "submissions":
            client = smtplib.SMTP_SSL("localhost", self.ports[role], context=self.tls(), **options)
        elif role == "lmtp":
            client = smtplib.LMTP("127.0.0.1", self.ports[role], **options)
        else:
            client = smtplib.SMTP("localhost", self.ports[role], **options)
        try:
            if role == "submission":
                client.starttls(context=self.tls())
            client.ehlo_or_helo_if_needed()
            if login:
                client.login(login, self.people.accounts[login])
        except BaseException:
            client.close()
            raise
        return client


def with_forwards(forwards: Mapping[str, tuple[str, ...]], *, keeping: tuple[str, ...] = ()) -> People:
    """The usual people, and these forwards."""
    return replace(People(), forwards=forwards, keeping=keeping)
