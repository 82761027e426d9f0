"""Envelope: who sent it, who shall have it, and what the sender wishes to be told (RFC 5321 §2.3.1, RFC 3461)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gatepost.mail.address import Address

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """One address the mail is for, with its DSN wishes.

    `notify` is empty where the sender did not say (RFC 3461 §4.1: then failures, and perhaps delays, are told).
    `orcpt` is the original recipient as `addr-type;xtext-decoded address`, "" where unknown (RFC 3461 §4.2).
    """

    address: Address
    notify: frozenset[Notify] = frozenset()
    orcpt: str = ""

    def wants(self, what: Notify) -> bool:
        """Whether the sender wants to hear of it. RFC 3461 §4.1: without NOTIFY, failures and delays are reported."""
        if not self.notify:
            return what in ("FAILURE", "DELAY")
        return what in self.notify


@dataclass(frozen=True, slots=True)
class Envelope:
    """`sender` None is the null sender `<>`. `ret` is FULL, HDRS or "" (RFC 3461 §4.3), `envid` the decoded ENVID."""

    sender: Address | None
    recipients: tuple[Recipient, ...] = ()
    eight_bit: bool = False  # BODY=8BITMIME (RFC 6152)
    smtputf8: bool = False  # RFC 6531 §3.4
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""

    @property
    def sender_text(self) -> str:
        """The sender as it stands in logs and headers: empty for the null sender."""
        return str(self.sender) if self.sender is not None else ""
