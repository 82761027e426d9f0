"""The relay rule, in one place. Whoever wants to know whether a peer may send somewhere calls `may_relay`; there is no other way.

Default deny: to domains that are not ours nobody may send but those whom the listener's relay_restrictions name, of which there
are two kinds: clients in its mynetworks, and clients that logged in. A peer on a UNIX socket has no address and is in no network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from gatepost.config.settings import ListenerSettings, Network
from gatepost.mail.peer import Identity, Peer
from gatepost.mail.reply import Reply

PERMITS = ("permit_mynetworks", "permit_sasl_authenticated")
"""All that relay_restrictions may say; reject_unauth_destination ends the list whether written or not."""

RELAY_DENIED = Reply(554, "5.7.1", "Relay access denied")


@dataclass(frozen=True, slots=True)
class RelayVerdict:
    """Whether, and by which rule."""

    allowed: bool
    rule: str


def may_relay(listener: ListenerSettings, peer: Peer, identity: Identity | None, *, is_ours: bool) -> RelayVerdict:
    """May this peer send to a destination that is ours, or is not?"""
    if is_ours:
        return RelayVerdict(True, "the domain is ours")
    for rule in listener.relay_restrictions:
        if rule == "permit_sasl_authenticated" and identity is not None:
            return RelayVerdict(True, rule)
        if rule == "permit_mynetworks" and in_networks(peer, listener.mynetworks):
            return RelayVerdict(True, rule)
        if rule == "reject_unauth_destination":
            break
    return RelayVerdict(False, "reject_unauth_destination")


def in_networks(peer: Peer, networks: Sequence[Network]) -> bool:
    """Whether the peer's address lies in one of the networks."""
    if not networks or not peer.address:
        return False
    address = _parsed(peer.address)
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A peer's address; one of IPv4 written as IPv6 is of IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
