"""The table of mechanisms, best first: what each needs to be found out, and whether it sends the password in clear.

A server offers a mechanism only where all its needs can be met and, if it sends the password, where the connection is
protected or the listener says otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from gatepost.protocols.sasl.exchange import ClientMechanism, Need, ServerMechanism, VerifyPassword
from gatepost.protocols.sasl.plain import login_client, login_server, plain_client, plain_server


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One row: `name` as RFC 4422 §3.1 spells it, the two halves, and what decides where it may be used."""

    name: str
    server: ServerMechanism
    client: ClientMechanism
    sends_password: bool  # in clear: whoever reads the connection can log in ever after
    needs: frozenset[type[Need[Any]]]


MECHANISMS: tuple[Mechanism, ...] = (
    Mechanism("PLAIN", plain_server, plain_client, sends_password=True, needs=frozenset({VerifyPassword})),
    Mechanism("LOGIN", login_server, login_client, sends_password=True, needs=frozenset({VerifyPassword})),
)


def offered(answered: Collection[type[Need[Any]]], *, passwords_allowed: bool) -> tuple[Mechanism, ...]:
    """What a server offers whose driver can answer these needs. `passwords_allowed`: TLS is on, or need not be."""
    return tuple(
        mechanism
        for mechanism in MECHANISMS
        if mechanism.needs <= frozenset(answered) and (passwords_allowed or not mechanism.sends_password)
    )


def choose(names: Iterable[str], *, passwords_allowed: bool) -> Mechanism | None:
    """What a client uses of the names a server offers: the best it knows, in any case of letters (RFC 4954 §4)."""
    known = {name.upper() for name in names}
    for mechanism in MECHANISMS:
        if mechanism.name in known and (passwords_allowed or not mechanism.sends_password):
            return mechanism
    return None


def named(name: str, mechanisms: Iterable[Mechanism] = MECHANISMS) -> Mechanism | None:
    """The mechanism a client asked for among those offered to it; names are compared without case (RFC 4954 §4)."""
    wanted = name.upper()
    return next((mechanism for mechanism in mechanisms if mechanism.name == wanted), None)
