"""Situation: every fact a restriction may look at, as they stand when a recipient is named (Postfix smtpd_delay_reject)."""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.config.settings import ListenerSettings
from gatepost.mail.address import Address
from gatepost.mail.peer import Identity, Peer
from gatepost.routing.router import Resolution


@dataclass(frozen=True, slots=True)
class Situation:
    """Who wants to send what where."""

    listener: ListenerSettings
    peer: Peer
    helo: str
    identity: Identity | None
    sender: Address | None
    resolution: Resolution  # of the recipient
