"""How many sessions each client has open, in this worker (Postfix smtpd_client_connection_count_limit)."""

from __future__ import annotations

from gatepost.config.settings import ListenerSettings
from gatepost.mail.peer import Peer
from gatepost.policy.relay import in_networks


class ClientCounts:
    """Counts by client address; those in mynetworks and on UNIX sockets are counted in the sum only."""

    def __init__(self, listener: ListenerSettings) -> None:
        self._listener = listener
        self._by_address: dict[str, int] = {}
        self.total = 0

    def enter(self, peer: Peer) -> str:
        """Count one session more. Why it may not be, or "": either way `leave` must follow."""
        self.total += 1
        if self.total > self._listener.connection_limit:
            return "too many connections"
        if not peer.address or in_networks(peer, self._listener.mynetworks):
            return ""
        count = self._by_address[peer.address] = self._by_address.get(peer.address, 0) + 1
        limit = self._listener.client_connection_count_limit
        return "" if count <= limit else f"too many connections from {peer.address}"

    def leave(self, peer: Peer) -> None:
        """The session is over."""
        self.total -= 1
        count = self._by_address.get(peer.address, 0)
        if count > 1:
            self._by_address[peer.address] = count - 1
        else:
            self._by_address.pop(peer.address, None)
