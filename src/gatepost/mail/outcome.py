"""Outcome: how one attempt for one recipient ended. There are exactly three ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Delivered:
    """The next hop or the mailbox has it durably.

    `relay` names who took it as Postfix logs it (`mx.example.test[192.0.2.1]:25`, `maildir`); `text` is their answer,
    `status` the enhanced status; `dsn_passed_on`: the next hop took over the sender's DSN wishes (RFC 3461 §4.1).
    """

    relay: str
    text: str
    status: str = "2.0.0"
    dsn_passed_on: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now. `text` is the last reason, `status` its enhanced status (4.x.x), `relay` who said so, or "none".

    `site_failed` is true where the next hop as a whole could not be used (connect, greeting, TLS), so that others
    bound for it may wait too; a 4yz to one recipient or one message never sets it.
    """

    relay: str
    text: str
    status: str = "4.0.0"
    site_failed: bool = False
    remote_reply: bool = False  # `text` is what the remote host said, word for word


@dataclass(frozen=True, slots=True)
class Failed:
    """Never. The sender is told `text` and `status` (5.x.x)."""

    relay: str
    text: str
    status: str = "5.0.0"
    remote_reply: bool = False


Outcome: TypeAlias = Delivered | Deferred | Failed
