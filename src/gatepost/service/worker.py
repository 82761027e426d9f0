"""A worker: one process, one event loop, all listeners, one queue shard (and those that workers left who are no more).

Started by the master with one argument, a JSON object (`Orders`). It answers the master's requests on an inherited socket;
when that closes, the master is gone, and the worker drains as on SIGTERM: no new sessions, messages on their way in are
finished, deliveries in flight end, everything else stays in the queue.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import uvloop

from gatepost.config.problems import SettingsError
from gatepost.mail.clock import SystemClock
from gatepost.mail.queue_id import BadQueueId, queue_number
from gatepost.net.tls_contexts import TlsError
from gatepost.observe.events import Notice
from gatepost.observe.journal import Journal, open_journal
from gatepost.queue.lock import ShardBusy
from gatepost.servers.smtp_session import SmtpSession
from gatepost.service.assembly import Rooms, Tools, read_settings
from gatepost.service.channel import Request, answer_requests
from gatepost.service.home import Home
from gatepost.storage.errors import StorageError

SESSION_DRAIN_LIMIT = 25.0  # seconds messages on their way in may take when the worker stops
SHARD_PATIENCE = 50.0  # seconds to wait for the shard of a predecessor that still drains
GARBAGE_THRESHOLD = 20_000


@dataclass(frozen=True, slots=True)
class Orders:
    """What the master says: file descriptors of listening sockets in the order of the settings, and of the channel."""

    home: str
    number: int
    workers: int
    listeners: list[int]
    channel: int


class Worker:
    """One worker process."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._home = Home(Path(orders.home))
        self._clock = SystemClock()
        self._stopping = asyncio.Event()
        self._servers: list[asyncio.Server] = []
        self._rooms: Rooms
        self._journal: Journal

    async def run(self) -> None:
        """Serve until told to stop, or until the master is gone."""
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the master tells us what to do
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        channel = socket.socket(fileno=self._orders.channel)
        reader, writer = await asyncio.open_connection(sock=channel)
        answering = loop.create_task(answer_requests(reader, writer, self._answer))
        answering.add_done_callback(lambda done: self._stopping.set())
        await self._stopping.wait()
        if self._servers:
            await self._drain()
        answering.cancel()

    async def _answer(self, request: Request) -> Request:
        match request["do"]:
            case "begin":
                return await self._begin()
            case "status":
                usage = resource.getrusage(resource.RUSAGE_SELF)
                seconds = usage.ru_utime + usage.ru_stime
                return {**await self._rooms.status(), "memory": _resident_bytes(), "cpu_seconds": seconds}
            case "reload":
                return await self._reload()
            case "queue":
                try:
                    numbers = [queue_number(text) for text in request["ids"]]
                except BadQueueId as bad:
                    return {"error": str(bad)}
                await self._rooms.operator_changed(numbers)
                return {}
            case unknown:
                return {"error": f"unknown request {unknown!r}"}

    async def _begin(self) -> Request:
        """Open the rooms and serve; what went wrong, if anything did."""
        try:
            settings = read_settings(self._home)
            self._journal = open_journal(
                settings.log, home=self._home.path, hostname=settings.hostname, clock=self._clock
            )
            loop = asyncio.get_running_loop()
            self._journal.attach(loop)
            self._rooms = Rooms(
                self._home, settings, Tools(self._clock, self._journal.record, SystemRandom()), self._shards()
            )
            await self._open_rooms()
            for listener, descriptor in zip(settings.listener, self._orders.listeners, strict=True):
                await self._listen(listener.address, socket.socket(fileno=descriptor))
        except (SettingsError, StorageError, TlsError, ShardBusy, OSError) as error:
            return {"error": str(error)}
        _settle_memory()
        return {}

    def _shards(self) -> list[int]:
        """Our own, and of those beyond the number of workers each its share."""
        own, count = self._orders.number, self._orders.workers
        return [own, *(number for number in self._home.shards() if number >= count and number % count == own)]

    async def _open_rooms(self) -> None:
        deadline = time.monotonic() + SHARD_PATIENCE
        while True:
            try:
                self._rooms.open()
                return
            except ShardBusy:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def _listen(self, address: str, listening: socket.socket) -> None:
        """Sessions for one listener; a reload exchanges the service that new ones get."""

        def session() -> SmtpSession:
            return SmtpSession(self._rooms.services[address])

        loop = asyncio.get_running_loop()
        if listening.family == socket.AF_UNIX:
            server: asyncio.Server = await loop.create_unix_server(session, sock=listening, backlog=1024)
        else:
            server = await loop.create_server(session, sock=listening, backlog=1024)
        self._servers.append(server)

    async def _reload(self) -> Request:
        self._journal.reopen()
        try:
            waiting = await self._rooms.reload(read_settings(self._home))
        except (SettingsError, TlsError) as error:
            return {"error": str(error)}
        if waiting:
            self._journal.record(Notice("worker", "warning", f"waits for a restart: {', '.join(waiting)}"))
        return {"waiting_for_restart": waiting}

    async def _drain(self) -> None:
        for server in self._servers:
            server.close()
        services = self._rooms.all_services()
        for service in services:
            service.drain()
        deadline = time.monotonic() + SESSION_DRAIN_LIMIT
        while any(service.sessions for service in services) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await self._rooms.close()
        self._journal.close()


def _settle_memory() -> None:
    """What stands now stays: the garbage collector need not look at it again. Messages come and go by reference count;
    a collection every GARBAGE_THRESHOLD objects is enough for the few cycles that sessions leave."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)


def _resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """python -m gatepost.service.worker ORDERS."""
    orders = Orders(**json.loads(sys.argv[1]))
    uvloop.run(Worker(orders).run())


if __name__ == "__main__":
    main()
