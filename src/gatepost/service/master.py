"""The master: binds the sockets, gives up root, keeps the workers alive, and answers the command line.

It handles no mail. A worker that dies is started again with the same sockets, so that connections waiting in their
backlog are served by its successor, and with the same queue shard. SIGTERM and SIGINT drain the workers and end; SIGHUP makes
them read the settings and certificates anew. Workers notice when the master is gone and drain by themselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import chain

from gatepost.config.endpoints import UnixAddress, parse_listen_address
from gatepost.config.settings import Settings
from gatepost.mail.clock import SystemClock
from gatepost.net.listener import ListenError, listen
from gatepost.observe.events import Notice
from gatepost.observe.journal import Journal, open_journal
from gatepost.service.assembly import read_settings
from gatepost.service.channel import Channel, ChannelClosed, Request, answer_requests
from gatepost.service.home import Home
from gatepost.service.privileges import drop_privileges

START_LIMIT = 60.0  # seconds a worker may take until it serves
STOP_LIMIT = 45.0  # seconds the workers may take to drain
STALE_LIMIT = 10.0  # seconds to wait for the workers of a master that was killed
SHORT_LIFE = 5.0  # seconds; a worker that lives no longer is not restarted at once
MAX_FILES = 65536  # file descriptors wanted for each worker


class MasterError(Exception):
    """Gatepost cannot start. The text says why and what to do."""


@dataclass(slots=True)
class WorkerProcess:
    """One worker, as the master sees it."""

    number: int
    process: asyncio.subprocess.Process
    channel: Channel
    started_at: float = field(default_factory=time.monotonic)


class Master:
    """One `gatepost serve`."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._workers: dict[int, WorkerProcess] = {}
        self._stopping = asyncio.Event()
        self._keepers: list[asyncio.Task[None]] = []
        self._journal: Journal

    async def run(self, ready: asyncio.Future[Settings] | None = None) -> None:
        """Serve until told to stop. `ready` is done when all workers serve. Raises MasterError, SettingsError and its kin."""
        settings = read_settings(self._home)
        with self._home.lock() as left_behind:
            self._home.prepare(settings)
            count = settings.workers or os.cpu_count() or 1
            sockets = await self._listen(settings, count, patient=left_behind)
            drop_privileges(settings.user, settings.group, demo=_is_demo(settings))
            _raise_file_limit()
            self._journal = open_journal(
                settings.log, home=self._home.path, hostname=settings.hostname, clock=SystemClock()
            )
            for trouble in self._journal.troubles:
                print(f"gatepost: {trouble}", file=sys.stderr)
            control = await self._open_control()
            self._handle_signals()
            try:
                await self._serve(count, sockets, ready, settings)
            finally:
                control.close()
                self._home.control.unlink(missing_ok=True)
                self._note("note", "stopped")
                self._journal.close()

    async def _serve(
        self, count: int, sockets: list[list[socket.socket]], ready: asyncio.Future[Settings] | None, settings: Settings
    ) -> None:
        try:
            await asyncio.gather(*(self._start(number, count, sockets) for number in range(count)))
            self._keepers = [asyncio.create_task(self._keep(number, count, sockets)) for number in range(count)]
            self._note("note", f"serving with {count} workers")
            _notify_systemd("READY=1")
            if ready is not None:
                ready.set_result(settings)
            await self._stopping.wait()
        finally:
            _notify_systemd("STOPPING=1")
            await self._stop_workers(sockets)

    async def _listen(self, settings: Settings, count: int, *, patient: bool) -> list[list[socket.socket]]:
        """Sockets for each listener, one for each worker. `patient`: workers of a killed master may still be draining."""
        deadline = time.monotonic() + (STALE_LIMIT if patient else 0)
        bound: list[list[socket.socket]] = []
        for listener in settings.listener:
            address = parse_listen_address(listener.address)
            while True:
                try:
                    bound.append(listen(address, count=count, home=self._home.path))
                    if isinstance(address, UnixAddress):
                        self._home.hand_over(self._home.path / address.path)
                    break
                except ListenError as error:
                    if time.monotonic() > deadline:
                        raise MasterError(f"{listener.name}: {error}") from None
                    await asyncio.sleep(0.2)
        return bound

    # -- workers --

    async def _start(self, number: int, count: int, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Start a worker and wait until it serves. Raises MasterError."""
        ours, theirs = socket.socketpair()
        listening = [row[number].fileno() for row in sockets]
        arguments = {
            "home": str(self._home.path),
            "number": number,
            "workers": count,
            "listeners": listening,
            "channel": theirs.fileno(),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gatepost.service.worker", json.dumps(arguments)),
            pass_fds=[*listening, theirs.fileno()],
            stdin=asyncio.subprocess.DEVNULL,
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        channel = Channel(reader, writer)
        self._workers[number] = WorkerProcess(number, process, channel)
        try:
            answer = await asyncio.wait_for(channel.ask({"do": "begin"}), START_LIMIT)
        except (ChannelClosed, TimeoutError):
            answer = {"error": "it ended, or did not answer; see above for what it said"}
        if "error" in answer:
            await self._end(self._workers[number])
            raise MasterError(f"worker {number} could not start: {answer['error']}")

    async def _keep(self, number: int, count: int, sockets: Sequence[Sequence[socket.socket]]) -> None:
        """Restart the worker whenever it ends by itself."""
        while True:
            worker = self._workers[number]
            code = await worker.process.wait()
            worker.channel.close()
            if self._stopping.is_set():
                return
            reason = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._note("error", f"worker {number} (process {worker.process.pid}) ended: {reason}; starting it again")
            while not self._stopping.is_set():
                if time.monotonic() - worker.started_at < SHORT_LIFE:
                    await asyncio.sleep(1)
                try:
                    await self._start(number, count, sockets)
                    break
                except MasterError as error:
                    self._note("error", str(error))
                    await asyncio.sleep(SHORT_LIFE)

    async def _stop_workers(self, sockets: Sequence[Sequence[socket.socket]]) -> None:
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for listening in chain.from_iterable(sockets):
            listening.close()  # else new clients would wait in a queue that nobody serves any more
        await asyncio.gather(*(self._end(worker) for worker in self._workers.values()))

    async def _end(self, worker: WorkerProcess) -> None:
        """Drain one worker; kill it if it does not end in time."""
        with suppress(ProcessLookupError):
            worker.process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(worker.process.wait(), STOP_LIMIT)
        except TimeoutError:
            self._note("error", f"worker {worker.number} did not end in {STOP_LIMIT:.0f} s and is killed")
            with suppress(ProcessLookupError):
                worker.process.kill()
            await worker.process.wait()
        worker.channel.close()

    # -- what it is told --

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: asyncio.ensure_future(self._reload()))

    async def _open_control(self) -> asyncio.Server:
        self._home.control.unlink(missing_ok=True)
        old = os.umask(0o117)  # the user and group of the server, nobody else
        try:
            return await asyncio.start_unix_server(
                lambda reader, writer: answer_requests(reader, writer, self._answer), str(self._home.control)
            )
        finally:
            os.umask(old)

    async def _answer(self, request: Request) -> Request:
        """A request of the command line."""
        match request["do"]:
            case "status":
                return {"pid": os.getpid(), "workers": await self._ask_all({"do": "status"})}
            case "queue":
                return {"workers": await self._ask_all(request)}
            case "reload":
                return await self._reload()
            case "stop":
                self._stopping.set()
                return {}
            case unknown:
                return {"error": f"unknown request {unknown!r}"}

    async def _ask_all(self, request: Request) -> list[Request]:
        async def ask(worker: WorkerProcess) -> Request:
            try:
                answer = await worker.channel.ask(request)
            except ChannelClosed as closed:
                answer = {"error": str(closed)}
            return {"worker": worker.number, "pid": worker.process.pid, **answer}

        return list(await asyncio.gather(*map(ask, self._workers.values())))

    async def _reload(self) -> Request:
        """Read settings and certificates anew. Wrong settings change nothing."""
        self._journal.reopen()
        try:
            read_settings(self._home)
        except Exception as error:  # whatever is wrong with the file, the server goes on with what it has
            self._note("error", f"settings not reloaded: {error}")
            return {"error": str(error)}
        answers = await self._ask_all({"do": "reload"})
        troubles = [str(answer["error"]) for answer in answers if "error" in answer]
        self._note("error" if troubles else "note", "; ".join(troubles) or "settings reloaded")
        return {"error": "; ".join(troubles)} if troubles else {"workers": answers}

    def _note(self, severity: str, text: str) -> None:
        assert severity in ("note", "error")
        self._journal.record(Notice("master", "error" if severity == "error" else "note", text))


def _is_demo(settings: Settings) -> bool:
    """Whether all listeners are on loopback."""
    addresses = [parse_listen_address(listener.address) for listener in settings.listener]
    return all(isinstance(address, UnixAddress) or ip_address(address.host).is_loopback for address in addresses)


def _raise_file_limit() -> None:
    """Many sessions need many descriptors; workers inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(MAX_FILES, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _notify_systemd(state: str) -> None:
    """sd_notify(3), for `Type=notify` units."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifying, suppress(OSError):
        notifying.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
