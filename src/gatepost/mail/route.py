"""Route: by which transport, and to which next hop, a recipient's mail goes on. Decided by routing, kept by the queue,
obeyed by delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Transport = Literal["maildir", "smtp"]

TRANSPORTS: tuple[Transport, ...] = get_args(Transport)


@dataclass(frozen=True, slots=True)
class Route:
    """`maildir` and the account's address; or `smtp` and where to go.

    An smtp next hop is written as Postfix writes it: `example.test` (its MX hosts), `[mx.example.test]` (that host, no
    MX look-up), either with `:port`.
    """

    transport: Transport
    next_hop: str

    def __str__(self) -> str:
        """`smtp:[127.0.0.1]:2526`."""
        return f"{self.transport}:{self.next_hop}"


def parse_route(text: str) -> Route:
    """The route written by `str`. Raises ValueError."""
    name, found, next_hop = text.partition(":")
    for transport in TRANSPORTS:
        if found and name == transport:
            return Route(transport, next_hop)
    raise ValueError(f"{text!r} is no route: it starts with one of {', '.join(TRANSPORTS)} and a colon")
