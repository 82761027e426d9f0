"""Peer, TlsFacts, Identity: what is known of the other side of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.mail.address import Address


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """How the connection is protected, as `ssl` tells it. `bits` is the strength of the cipher."""

    version: str  # "TLSv1.3"
    cipher: str
    bits: int
    server_name: str = ""  # what the client asked for (SNI)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is connected: IP address, port, and the name DNS gives for it if it points back, else "unknown"."""

    address: str  # "192.0.2.1" or "2001:db8::1"; "" for a UNIX socket
    port: int
    name: str = "unknown"

    def __str__(self) -> str:
        """As Postfix logs a client: `mail.example.test[192.0.2.1]`."""
        return f"{self.name}[{self.address or 'local'}]"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a peer proved to be. `account` is the account's own address, `login` what they typed, `mechanism` how."""

    account: Address
    login: str
    mechanism: str
