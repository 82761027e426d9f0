"""Questions to a router over a village, and its answers in a form that is quickly compared."""

from __future__ import annotations

from gatepost.config.settings import DeliverySettings, ForwardSettings, Settings
from gatepost.mail.address import Address, parse_address
from gatepost.routing.router import Resolution, Router
from villages import SqlVillage, Village, now

AnyVillage = Village | SqlVillage


def settings(
    *,
    delimiter: str = "+",
    postmaster: str = "",
    relayhost: str = "",
    forwards: ForwardSettings | None = None,
) -> Settings:
    """Settings that matter for routing."""
    return Settings(
        recipient_delimiter=delimiter,
        postmaster=postmaster,
        delivery=DeliverySettings(relayhost=relayhost),
        forwards=forwards or ForwardSettings(),
    )


def resolve(village: AnyVillage, text: str, told: Settings | None = None) -> Resolution:
    """What the router says of an address, or of the bare `postmaster`."""
    address = parse_address(text) if "@" in text else Address(text, "")
    return now(Router(village, told or settings()).resolve(address))


def targets(village: AnyVillage, text: str, told: Settings | None = None) -> list[str]:
    """Where mail for the address goes, as `address transport:next-hop`. It must go somewhere."""
    resolution = resolve(village, text, told)
    assert resolution.refusal is None
    return [f"{target.address} {target.route}" for target in resolution.targets]
