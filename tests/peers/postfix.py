"""PostfixInstance: a whole Postfix in a folder of its own, on loopback, without /etc/postfix.

Started by root: `master` needs it, its daemons drop to the user postfix. Settings, queue, data and log are in one folder
that is removed at the end. The instance is ended by its own process group, whatever else runs on the machine.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from grp import getgrnam
from pathlib import Path

from peers.ports import free_port
from peers.programs import require, require_root

DAEMONS = Path("/usr/lib/postfix/sbin")  # Debian's daemon_directory
START_TIME, STOP_TIME = 20.0, 20.0  # seconds

_QUEUE_FOLDERS = (
    *("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming"),
    *("maildrop", "pid", "private", "public", "saved", "trace"),
)

_SERVICES = {
    "pickup unix": "n - n 60 1 pickup",
    "cleanup unix": "n - n - 0 cleanup",
    "qmgr unix": "n - n 300 1 qmgr",
    "tlsmgr unix": "- - n 1000? 1 tlsmgr",
    "rewrite unix": "- - n - - trivial-rewrite",
    "bounce unix": "- - n - 0 bounce",
    "defer unix": "- - n - 0 bounce",
    "trace unix": "- - n - 0 bounce",
    "verify unix": "- - n - 1 verify",
    "flush unix": "n - n 1000? 0 flush",
    "proxymap unix": "- - n - - proxymap",
    "smtp unix": "- - n - - smtp",
    "lmtp unix": "- - n - - lmtp",
    "relay unix": "- - n - - smtp",
    "showq unix": "n - n - - showq",
    "error unix": "- - n - - error",
    "retry unix": "- - n - - error",
    "discard unix": "- - n - - discard",
    "local unix": "- n n - - local",
    "virtual unix": "- n n - - virtual",
    "anvil unix": "- - n - 1 anvil",
    "scache unix": "- - n - 1 scache",
    "postlog unix-dgram": "n - n - 1 postlogd",
}


class PostfixInstance:
    """A Postfix that takes mail from 127.0.0.1 while its `with` block lasts.

    `main_cf` adds to and overrides the settings below. `services` adds to and overrides lines of master.cf: name and
    type -> the rest of the line, as `{"127.0.0.1:2587 inet": "n - n - - smtpd -o smtpd_tls_security_level=may"}`;
    the usual port's line is named `smtpd_service`. `mailboxes` are addresses whose mail it keeps in Maildirs.
    """

    def __init__(
        self,
        main_cf: Mapping[str, str] | None = None,
        *,
        relayhost: str = "",
        services: Mapping[str, str] | None = None,
        mailboxes: tuple[str, ...] = (),
    ) -> None:
        """Nothing is started yet. `relayhost` as Postfix writes it: `[127.0.0.1]:2526`."""
        require("postconf")
        require_root("Postfix's master drops its own rights")
        self.port = free_port()
        self.smtpd_service = f"127.0.0.1:{self.port} inet"
        # Not pytest's folder, which only root may enter: Postfix's daemons must reach theirs.
        self.folder = Path(tempfile.mkdtemp(prefix="gatepost-postfix-"))
        self.folder.chmod(0o755)
        self._main_cf = {**self._usual(relayhost), **self._keeping(mailboxes), **(main_cf or {})}
        self._services = {self.smtpd_service: "n - n - - smtpd", **_SERVICES, **(services or {})}
        self._master: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostfixInstance:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The master's process id, which is its process group's too."""
        assert self._master is not None, "this Postfix is not running"
        return self._master.pid

    @property
    def relayhost(self) -> str:
        """Where it listens, as Postfix and Gatepost write a next hop."""
        return f"[127.0.0.1]:{self.port}"

    def start(self) -> None:
        """Write the folder and start; comes back when it greets."""
        self._write()
        with (self.folder / "master.out").open("wb") as output:
            self._master = subprocess.Popen(
                [DAEMONS / "master", "-c", self.folder / "etc", "-d"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIME
        while not self._greets():
            if self._master.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Postfix did not start:\n{self.log()}{self._complaints()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it and all its daemons, wait until they are gone, and remove the folder. May be called twice."""
        if self._master is not None:
            self._end(self._master)
            self._master = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """The whole mail log so far, and what master itself said."""
        files = (self.folder / "log" / "mail.log", self.folder / "master.out")
        return "".join(file.read_text("utf-8", "replace") for file in files if file.exists())

    def run(self, program: str, *arguments: str, text: str = "") -> str:
        """One of Postfix's own commands on this instance (`postqueue`, `-p`): what it printed. AssertionError if it fails."""
        done = subprocess.run(
            [require(program), "-c", str(self.folder / "etc"), *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def maildir(self, address: str) -> Path:
        """The Maildir of one of its `mailboxes`; it is there once mail has come."""
        return self.folder / "mail" / address

    def _usual(self, relayhost: str) -> dict[str, str]:
        return {
            "compatibility_level": "3.6",
            "queue_directory": f"{self.folder}/queue",
            "data_directory": f"{self.folder}/data",
            "daemon_directory": str(DAEMONS),
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": f"{self.folder}/log/mail.log",
            "maillog_file_prefixes": str(self.folder),
            "myhostname": "postfix.test",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "relayhost": relayhost,
            "default_transport": "smtp" if relayhost else "error:no mail leaves this machine",
            "smtp_dns_support_level": "disabled",
            "smtp_host_lookup": "native",
            "smtpd_peername_lookup": "no",
            "smtpd_relay_restrictions": "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination",
            "biff": "no",
        }

    def _keeping(self, mailboxes: tuple[str, ...]) -> dict[str, str]:
        if not mailboxes:
            return {}
        owner = pwd.getpwnam("postfix")
        table = self.folder / "mailboxes"
        table.write_text("".join(f"{address} {address}/\n" for address in mailboxes))
        os.utime(table, (time.time() - 60,) * 2)
        return {
            "virtual_mailbox_domains": ", ".join(sorted({address.rpartition("@")[2] for address in mailboxes})),
            "virtual_mailbox_maps": f"texthash:{table}",
            "virtual_mailbox_base": f"{self.folder}/mail",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
        }

    def _write(self) -> None:
        owner, drop = pwd.getpwnam("postfix").pw_uid, getgrnam("postdrop").gr_gid
        for name in ("etc", "log", "queue", "data", "mail"):
            (self.folder / name).mkdir(mode=0o755, exist_ok=True)
        for name in _QUEUE_FOLDERS:
            made = self.folder / "queue" / name
            made.mkdir(mode=0o700, exist_ok=True)
            if name != "pid":
                os.chown(made, owner, drop if name in ("maildrop", "public") else -1)
        (self.folder / "queue" / "pid").chmod(0o755)
        (self.folder / "queue" / "maildrop").chmod(0o1730)
        (self.folder / "queue" / "public").chmod(0o2710)
        for name in ("data", "mail"):
            os.chown(self.folder / name, owner, -1)
        settings = "".join(f"{name} = {value}\n" for name, value in self._main_cf.items())
        main_cf = self.folder / "etc" / "main.cf"
        main_cf.write_text(settings)
        # Postfix does not read a file that may still be written: it waits until its time stamp is seconds old.
        os.utime(main_cf, (time.time() - 60,) * 2)
        services = "".join(f"{name} {rest}\n" for name, rest in self._services.items())
        (self.folder / "etc" / "master.cf").write_text(services)

    def _greets(self) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, "kit.test", timeout=5):
                return True
        except (OSError, smtplib.SMTPException):
            return False

    def _complaints(self) -> str:
        """What is wrong with its two files: master tells nobody of it before its log is open."""
        command = [require("postconf"), "-c", str(self.folder / "etc"), "-n"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stderr

    def _end(self, master: subprocess.Popen[bytes]) -> None:
        """SIGTERM to the master, which passes it on; SIGKILL for what of its group is left in the end."""
        master.terminate()  # does nothing where it has ended by itself
        deadline = time.monotonic() + STOP_TIME
        while processes_of_group(master.pid):
            if time.monotonic() > deadline:
                os.killpg(master.pid, signal.SIGKILL)
            time.sleep(0.01)
        master.wait(STOP_TIME)


def processes_of_group(group: int) -> list[int]:
    """The processes of a process group that still run. Those that ended and were not reaped yet do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # proc(5): pid (comm) state ppid pgrp …; comm may hold blanks and parentheses
                state, _, pgrp = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except (OSError, ValueError):
                continue  # it ended while we looked
            if int(pgrp) == group and state not in "ZX":
                found.append(int(entry.name))
    return found


def refuses_connections(port: int) -> bool:
    """Whether nobody listens on this loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
