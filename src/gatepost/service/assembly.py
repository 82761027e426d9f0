"""One worker's rooms, put together out of Settings. No other module chooses a concrete class.

    directory -> router -> chain -> session -> intake -> shard -> scheduler -> agents
                                                  ^                             |
                                                  +------------ reports <-------+

`Rooms.reload` makes anew what settings and certificates decide, for sessions and deliveries that begin from then on. What
they cannot change while running (workers, user, folders) is told, and waits for a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gatepost.auth.hashing import HashingPool
from gatepost.auth.login import Login
from gatepost.auth.sender_rights import SenderRights
from gatepost.config.endpoints import TcpAddress, parse_listen_address
from gatepost.config.load import load_settings
from gatepost.config.settings import ListenerSettings, Settings
from gatepost.delivery.connection import Terms
from gatepost.delivery.dsn import Reports, ReportWriter
from gatepost.delivery.next_hop import NextHops, Ourselves
from gatepost.delivery.scheduler import Scheduler
from gatepost.delivery.to_maildir import MaildirAgent
from gatepost.delivery.to_remote import RemoteAgent
from gatepost.directory.lookups import Directory
from gatepost.intake.accept import Intake
from gatepost.mail.address import Address, parse_address
from gatepost.mail.clock import Clock
from gatepost.net.dns import Resolver
from gatepost.net.tls_contexts import ServerTls, client_context, find_certificates
from gatepost.observe.events import Notice, Record
from gatepost.policy.chain import Chain, check_restrictions
from gatepost.protocols.sasl.exchange import VerifyPassword
from gatepost.protocols.sasl.mechanisms import offered
from gatepost.queue.shard import QueueShard
from gatepost.routing.router import Router
from gatepost.service.home import Home
from gatepost.servers.smtp_service import SmtpService


def read_settings(home: Home) -> Settings:
    """gatepost.toml with every check, those of the rooms above config too. Raises SettingsError."""
    return load_settings(home.settings_file, [check_restrictions])


@dataclass(frozen=True, slots=True)
class Tools:
    """What is handed in, so that a test can hand in something else."""

    clock: Clock
    record: Record
    random: Random


@dataclass(slots=True)
class Rooms:
    """Everything of one worker but its sockets and its event loop."""

    home: Home
    settings: Settings
    tools: Tools
    directory: Directory
    hashing: HashingPool
    router: Router
    intake: Intake
    shards: list[QueueShard]  # the first takes new mail; the others were left by workers that are no more
    schedulers: list[Scheduler]
    services: list[SmtpService]
