"""Postfix in the race: the tests' own instance, with the maps and settings of each scenario, made as fast as we can.

The instance gives it no chroot, no look-up of names in DNS, IPv4 only, and its log through its own postlogd. TUNING adds
what was cheaper in CPU time nearly everywhere when raced against Postfix's defaults, and slower in one scenario of eight
(Maildir, 100 sessions). Tried as well,
and within the noise: no log at all, `smtp_connection_cache_destinations` (connections to the next hop are kept on demand
anyhow), `default_destination_concurrency_limit = 50`, `default_process_limit = 20`. The process limit stays at its default
of 100, which serves as many sessions as the race has at most; the limit of connections from one client does not hold for
mynetworks; its anvil is not asked there either.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType

from bench.contender import FORWARDED_RECIPIENT, MAILBOX, BenchError, forwards, tail
from bench.scenarios import Kind
from bench.tools import program
from peers.postfix import PostfixInstance

_QUEUES = ("maildrop", "incoming", "active", "deferred", "hold", "corrupt")

TUNING = {
    "smtp_tls_security_level": "none",
    "smtpd_tls_security_level": "none",
    "in_flow_delay": "0",  # smtpd need not wait for qmgr
    "initial_destination_concurrency": "20",  # the limit at once, instead of 5 that grow
    "max_use": "1000",  # fewer processes come and go than with 100
}


class PostfixContender:
    """One Postfix for one kind of scenario."""

    name = "Postfix"

    def __init__(self, kind: Kind, relayhost: str, tuning: dict[str, str] | None = None) -> None:
        """Nothing is started yet. `tuning` adds to and overrides TUNING."""
        self._kind = kind
        self._relayhost = relayhost
        self._tuning = {**TUNING, **(tuning or {})}

    def __enter__(self) -> PostfixContender:
        forwarding = {
            "virtual_alias_domains": FORWARDED_RECIPIENT.partition("@")[2],
            "virtual_alias_maps": "hash:$config_directory/virtual",
        }
        self._instance = PostfixInstance(
            {**self._tuning, **(forwarding if self._kind == "forward" else {})},
            relayhost=self._relayhost,
            mailboxes=(MAILBOX,) if self._kind == "maildir" else (),
        )
        try:
            if self._kind == "forward":
                self._compile_forwards(self._instance.folder / "etc")
            self._instance.start()
        except AssertionError as error:  # what the tests' pieces raise
            self._instance.stop()
            raise BenchError(str(error)) from None
        except BaseException:
            self._instance.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._instance.stop()

    @property
    def port(self) -> int:
        """Where it takes mail on 127.0.0.1."""
        return self._instance.port

    @property
    def pid(self) -> int:
        """The master's."""
        return self._instance.pid

    @property
    def new_mail(self) -> Path:
        """The folder `new` of the Maildir of MAILBOX."""
        return self._instance.maildir(MAILBOX) / "new"

    def waiting(self) -> int:
        """Queue files, in whatever queue."""
        queues = (self._instance.folder / "queue" / name for name in _QUEUES)
        return sum(file.is_file() for queue in queues for file in queue.rglob("*"))

    def log_tail(self) -> str:
        """The last lines of its log."""
        return tail(self._instance.log())

    def _compile_forwards(self, etc: Path) -> None:
        etc.mkdir(mode=0o755)
        (etc / "main.cf").write_text("compatibility_level = 3.6\n")  # for postmap; the instance writes its own over it
        (etc / "virtual").write_text("".join(f"{source} {target}\n" for source, target in forwards().items()))
        subprocess.run([program("postmap"), "-c", str(etc), f"hash:{etc}/virtual"], check=True, timeout=30)
