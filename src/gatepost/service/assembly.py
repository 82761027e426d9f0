"""One worker's rooms, put together out of Settings. No other module chooses a concrete class.

    directory -> router -> chain -> session -> intake -> shard -> scheduler -> agents
                                                  ^                             |
                                                  +------------ reports <-------+

`Rooms.reload` makes anew what settings and certificates decide, for sessions and deliveries that begin from then on. What
they cannot change while running (workers, user, folders) is told, and waits for a restart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from gatepost.auth.hashing import HashingPool
from gatepost.auth.login import Login
from gatepost.auth.sender_rights import SenderRights
from gatepost.config.endpoints import TcpAddress, parse_listen_address
from gatepost.config.load import load_settings
from gatepost.config.settings import Settings
from gatepost.delivery.connection import Terms
from gatepost.delivery.dsn import Reports, ReportWriter
from gatepost.delivery.next_hop import NextHops, Ourselves
from gatepost.delivery.scheduler import Means, Scheduler
from gatepost.delivery.to_maildir import MaildirAgent
from gatepost.delivery.to_remote import RemoteAgent
from gatepost.directory.lookups import Directory
from gatepost.intake.accept import Intake
from gatepost.mail.address import Address, parse_address
from gatepost.mail.clock import Clock
from gatepost.mail.queue_id import shard_of
from gatepost.net.dns import Resolver
from gatepost.net.listener import local_addresses
from gatepost.net.tls_contexts import ServerTls, client_context, find_certificates
from gatepost.observe.events import Notice, Record
from gatepost.policy.chain import Chain, check_restrictions
from gatepost.protocols.sasl.exchange import VerifyPassword
from gatepost.protocols.sasl.mechanisms import offered
from gatepost.queue.shard import QueueShard
from gatepost.routing.router import Router
from gatepost.servers.smtp_service import SmtpService
from gatepost.service.home import Home
from gatepost.storage.errors import StorageError

DRAIN_LIMIT = 10.0  # seconds deliveries in flight may take when the worker stops
RETIRE_LIMIT = 60.0  # and when settings were reloaded


def read_settings(home: Home) -> Settings:
    """gatepost.toml with every check, those of the rooms above config too. Raises SettingsError."""
    return load_settings(home.settings_file, [check_restrictions])


@dataclass(frozen=True, slots=True)
class Tools:
    """What is handed in, so that a test can hand in something else."""

    clock: Clock
    record: Record
    random: Random


class Rooms:
    """Everything of one worker but its sockets and its event loop. Make it within the loop; `open`, later `drain`."""

    def __init__(self, home: Home, settings: Settings, tools: Tools, shards: Sequence[int]) -> None:
        """`shards`: the first takes new mail; the others were left by workers that are no more. Raises TlsError."""
        self._home = home
        self._tools = tools
        self.settings = settings
        self.services: dict[str, SmtpService] = {}  # by listening address
        self._old_services: list[SmtpService] = []  # from before a reload, as long as they have sessions
        self._shards = [
            QueueShard(home.shard(number), number, settings=settings.queue, clock=tools.clock) for number in shards
        ]
        self.schedulers: list[Scheduler] = []
        self._retired: set[asyncio.Task[None]] = set()
        self._directory = Directory(home.directory(settings))
        self._hashing = HashingPool(settings.passwords)
        self._router = Router(self._directory, settings)
        self._intake = Intake(
            self._shards[0], self._router, hostname=settings.hostname, clock=tools.clock, record=tools.record
        )
        self._furnish(settings)

    def open(self) -> None:
        """Take the shards and begin to deliver. Raises ShardBusy, StorageError."""
        for shard in self._shards:
            shard.open()
        self._deliver(self.settings)

    def _furnish(self, settings: Settings) -> None:
        """All that hangs on settings and certificates and nothing else."""
        tools = self._tools
        self._dns = Resolver(settings.dns, tools.clock)
        self._router = Router(self._directory, settings)
        self._intake.use(self._router, settings.hostname)
        tls = self._server_tls(settings)
        rights = SenderRights(self._directory, settings.recipient_delimiter)
        login = Login(self._directory, self._hashing)
        services = {
            listener.address: SmtpService(
                listener=listener,
                hostname=settings.hostname,
                chain=Chain(listener, rights),
                router=self._router,
                intake=self._intake,
                login=login,
                mechanisms=offered({VerifyPassword}, passwords_allowed=True),
                tls=tls,
                dns=self._dns,
                clock=tools.clock,
                record=tools.record,
            )
            for listener in settings.listener
        }
        # A listener that is no longer named is bound until a restart, and goes on as it was.
        services = {**self.services, **services}
        kept = {id(service) for service in services.values()}
        self._old_services = [one for one in self.all_services() if one.sessions and id(one) not in kept]
        self.settings, self.services = settings, services

    def all_services(self) -> list[SmtpService]:
        """Those that take new sessions, and those whose sessions began before a reload."""
        return [*self.services.values(), *self._old_services]

    def _server_tls(self, settings: Settings) -> Callable[[], ssl.SSLContext] | None:
        if all(listener.tls == "none" for listener in settings.listener):
            return None
        certificates = find_certificates(settings.tls.certificates, self._home.path, settings.hostname)
        return ServerTls(certificates, settings.tls.minimum_version, warn=self._warn, clock=self._tools.clock).context

    def _warn(self, text: str) -> None:
        self._tools.record(Notice("tls", "warning", text))

    def _deliver(self, settings: Settings) -> None:
        """Schedulers and agents for all shards."""
        clock, record = self._tools.clock, self._tools.record
        writer = ReportWriter(
            settings.hostname, self._postmaster(settings), clock, settings.queue.maximal_queue_lifetime
        )
        reports = Reports(writer, self._intake.accept_report, record)
        next_hops = NextHops(self._dns, self._tools.random, _ourselves(settings), settings.delivery.mx_address_limit)
        tls = client_context(verify=False) if settings.delivery.tls != "none" else None
        self.schedulers = [
            Scheduler(
                Means(
                    shard=shard,
                    remote=RemoteAgent(next_hops, Terms(settings.hostname, settings.delivery, tls)),
                    maildir=MaildirAgent(self._home.path, settings.mailboxes, settings.hostname, clock, record),
                    reporter=reports,
                    clock=clock,
                    record=record,
                ),
                settings.queue,
                settings.delivery,
            )
            for shard in self._shards
        ]
        for scheduler in self.schedulers:
            scheduler.start()
        self._intake.lead_to(self.schedulers[0].submit, self.schedulers[0].has_room)

    def _postmaster(self, settings: Settings) -> Address:
        return parse_address(settings.postmaster or f"postmaster@{settings.hostname}")

    async def reload(self, settings: Settings) -> list[str]:
        """Make anew what settings and certificates decide. Gives what waits for a restart. Raises TlsError."""
        old, retiring = self.settings, self.schedulers
        self._furnish(settings)
        self._deliver(settings)
        for scheduler in retiring:
            # What it has in hand it finishes; the rest goes back to the queue, where its successor finds it.
            task = asyncio.get_running_loop().create_task(self._retire(scheduler))
            self._retired.add(task)
            task.add_done_callback(self._retired.discard)
        return _waiting_for_restart(old, settings)

    async def _retire(self, scheduler: Scheduler) -> None:
        await scheduler.drain(RETIRE_LIMIT)
        for successor in self.schedulers:
            successor.wake()

    async def operator_changed(self, numbers: Sequence[int]) -> None:
        """The command line changed these messages under us: drop what is no longer to be done, look for what now is."""
        for shard, scheduler in zip(self._shards, self.schedulers, strict=True):
            ours = [number for number in numbers if shard_of(number) == shard.number]
            if not ours:
                continue
            for number, to_do in (await shard.changed(ours)).items():
                scheduler.drop_all_but(number, to_do)
            scheduler.wake(revive=True)

    async def status(self) -> dict[str, int]:
        """Counts for `gatepost status`."""
        counts = [await shard.statistics() for shard in self._shards]
        return {
            "sessions": sum(len(service.sessions) for service in self.all_services()),
            "messages": sum(count.messages for count in counts),
            "active": sum(count.active for count in counts),
            "waiting": sum(count.waiting for count in counts),
            "hold": sum(count.hold for count in counts),
        }

    async def close(self) -> None:
        """Stop delivering, put back what is not done, and let go of the shards."""
        await asyncio.gather(*(scheduler.drain(DRAIN_LIMIT) for scheduler in self.schedulers), *self._retired)
        for shard in self._shards:
            try:
                await asyncio.to_thread(shard.close)
            except StorageError as error:
                self._tools.record(Notice("queue", "error", f"some results could not be written: {error}"))
        self._hashing.close()
        self._directory.close()


def _ourselves(settings: Settings) -> Ourselves:
    """Where mail must not be sent, because we would receive it again."""
    ours = set()
    for listener in settings.listener:
        address = parse_listen_address(listener.address)
        if isinstance(address, TcpAddress):
            hosts = local_addresses() if address.host in ("0.0.0.0", "::") else {address.host}
            ours |= {(host, address.port) for host in hosts}
    return Ourselves(settings.hostname, frozenset(ours))


def _waiting_for_restart(old: Settings, new: Settings) -> list[str]:
    """What changed and cannot be changed while running."""
    names = [
        name
        for name in ("workers", "user", "group", "directory", "log", "passwords")
        if getattr(old, name) != getattr(new, name)
    ]
    if {listener.address for listener in old.listener} != {listener.address for listener in new.listener}:
        names.append("listener addresses")
    if old.queue.body_file_size != new.queue.body_file_size:
        names.append("queue.body_file_size")
    return names
