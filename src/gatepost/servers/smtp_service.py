"""SmtpService: what all SMTP or LMTP sessions of one listener share, put together by `service`."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gatepost.auth.login import Login
from gatepost.config.settings import ListenerSettings
from gatepost.intake.accept import Intake
from gatepost.mail.clock import Clock
from gatepost.observe.events import Record
from gatepost.policy.chain import Chain
from gatepost.protocols.sasl.mechanisms import Mechanism
from gatepost.protocols.smtp.content import ContentLimits
from gatepost.protocols.smtp.server import Rules
from gatepost.routing.router import Router
from gatepost.servers.client_counts import ClientCounts

LOG_NAMES = {"mx": "smtpd", "submission": "submission/smtpd", "submissions": "submissions/smtpd", "lmtp": "lmtpd"}


class ClientNames(Protocol):
    """What a session asks of DNS."""

    async def client_name(self, ip: str) -> str:
        """The client's name, if it points back to the address; else "unknown"."""


class Session(Protocol):
    """What a service must be able to tell its sessions."""

    def shut_down(self) -> None:
        """End as soon as no message is on its way."""


@dataclass(slots=True)
class SmtpService:
    """One listener's rooms and facts."""

    listener: ListenerSettings
    hostname: str
    chain: Chain
    router: Router
    intake: Intake
    login: Login | None
    mechanisms: tuple[Mechanism, ...]
    tls: Callable[[], ssl.SSLContext] | None
    dns: ClientNames
    clock: Clock
    record: Record
    sessions: set[Session] = field(default_factory=set)
    draining: bool = False
    rules: Rules = field(init=False)
    counts: ClientCounts = field(init=False)

    def __post_init__(self) -> None:
        """Makes the machine's rules out of the listener's settings."""
        listener = self.listener
        self.counts = ClientCounts(listener)
        self.rules = Rules(
            hostname=listener.hostname or self.hostname,
            limits=ContentLimits(
                size=listener.message_size_limit,
                line_length=listener.text_line_length_limit,
                normalize=listener.bare_newline == "normalize",
            ),
            lmtp=listener.role == "lmtp",
            tls=self.tls is not None and listener.tls != "none",
            tls_required=listener.tls == "encrypt",
            mechanisms=tuple(mechanism.name for mechanism in self.mechanisms) if listener.auth else (),
            auth_without_tls=listener.auth_without_tls,
            auth_required=listener.auth_required,
            helo_required=listener.helo_required,
            vrfy=listener.vrfy,
        )

    @property
    def log_name(self) -> str:
        """What the log calls this service, as Postfix names its daemons."""
        return LOG_NAMES[self.listener.role]

    def drain(self) -> None:
        """Take no new session, and end those there are as soon as no message is on its way."""
        self.draining = True
        for session in list(self.sessions):
            session.shut_down()
