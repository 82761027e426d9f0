"""An address that is not ours -> transport and next hop (Postfix relayhost; transport tables come with a later issue)."""

from __future__ import annotations

from gatepost.config.settings import DeliverySettings
from gatepost.mail.address import Address
from gatepost.mail.route import Route


class Transports:
    """Chooses the way out."""

    def __init__(self, settings: DeliverySettings) -> None:
        self._relayhost = Route("smtp", settings.relayhost) if settings.relayhost else None

    def to(self, address: Address) -> tuple[Route, str]:
        """The route, and the setting or rule that chose it."""
        if self._relayhost is not None:
            return self._relayhost, "relayhost"
        return Route("smtp", address.domain), "MX hosts of its domain"


def to_mailbox(account: Address) -> Route:
    """The route into an account's mailbox."""
    return Route("maildir", account.key)
