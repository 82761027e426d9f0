"""Gates: a listener's chain before a village, asked about one recipient at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

from gatepost.auth.sender_rights import SenderRights
from gatepost.config.settings import ListenerSettings, Settings
from gatepost.mail.address import Address, parse_address
from gatepost.mail.peer import Identity, Peer
from gatepost.mail.steps import Steps
from gatepost.policy.chain import Chain, Verdict
from gatepost.policy.situation import Situation
from gatepost.routing.router import Router
from villages import Village, now


@dataclass(slots=True)
class Asking:
    """Who wants to send what; the defaults are a stranger with nothing to hide."""

    peer: str = "203.0.113.9"
    helo: str = "client.far.test"
    login: str = ""
    sender: str = "kay@far.test"
    recipient: str = "ann@example.test"


@dataclass(slots=True)
class Gate:
    """One listener."""

    village: Village
    listener: ListenerSettings
    settings: Settings = field(default_factory=Settings)

    def judge(self, asking: Asking, steps: Steps | None = None) -> Verdict:
        """What the chain says, the recipient having been resolved by the real router."""
        rights = SenderRights(self.village, self.settings.recipient_delimiter)
        at = "@" in asking.recipient
        recipient = parse_address(asking.recipient) if at else Address(asking.recipient, "")
        situation = Situation(
            self.listener,
            Peer(asking.peer, 4711),
            asking.helo,
            Identity(parse_address(asking.login), asking.login, "PLAIN") if asking.login else None,
            parse_address(asking.sender) if asking.sender else None,
            now(Router(self.village, self.settings).resolve(recipient)),
        )
        return now(Chain(self.listener, rights).judge(situation, steps))

    def refusal(self, asking: Asking) -> str:
        """The reply to RCPT, "" where it is accepted."""
        verdict = self.judge(asking)
        return "" if verdict.refusal is None else str(verdict.refusal)
