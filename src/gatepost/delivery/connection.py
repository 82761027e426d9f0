"""One connection to one address of a next hop: the socket, the clock and the buffers around the client machine.

`handshake.open_connection` makes one, greets and turns on TLS. Then it has an `Owner`, is told to `begin` transactions, and
tells the owner how they went: calls only, no task and no future per message.

A body is sent as fast as the socket takes it and no faster: at most one piece of it (queue.records.CHUNK bytes) waits in memory.

Time limits (DeliverySettings): command_time_limit for the greeting, each reply, and each piece of a body; data_time_limit for
the reply to the end of data; connection_cache_time without work; connect_time_limit for the TLS handshake. One timer per
connection, set again when it fires: it may be late by TICK. A peer that sends bytes but completes no reply gains no time by it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from gatepost.config.settings import DeliverySettings
from gatepost.delivery import answers
from gatepost.delivery.next_hop import HostAddress
from gatepost.mail.outcome import Deferred
from gatepost.protocols.smtp.client import ClientMachine
from gatepost.protocols.smtp.client_events import (
    Capabilities,
    ContentWanted,
    Event,
    Farewell,
    ShuttingDown,
    Stage,
    TlsAccepted,
    Transaction,
    TransactionEnded,
)
from gatepost.protocols.smtp.replies import ProtocolError
from gatepost.queue.records import CHUNK, Body

TICK = 1.0  # seconds
QUIT_TIME = 5.0  # seconds a farewell may take; nothing depends on it
SMALL = 64 * 1024  # bytes of a body that is written together with what follows it


class HostUnusable(Exception):
    """This address cannot be used now; `outcome` is for all mail that has no other address to go to."""

    def __init__(self, outcome: Deferred) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Terms:
    """How we speak to next hops. `tls` is the context for STARTTLS; it must be there unless settings.tls is "none"."""

    our_name: str  # in EHLO
    settings: DeliverySettings
    tls: ssl.SSLContext | None = None


class Owner(Protocol):
    """Who uses an open connection."""

    def content_sent(self) -> None:
        """The end of data is written: the next transaction may begin now, where the peer offers PIPELINING."""

    def transaction_ended(self, transaction: Transaction) -> None:
        """All answers to the oldest open transaction are in."""

    def connection_over(self, trouble: Deferred | None) -> None:
        """The connection is gone: why, or None where it ended in order or idle. Open transactions stay unanswered."""


class Connection(asyncio.Protocol):
    """See the module. Made by `handshake.open_connection`."""

    def __init__(self, address: HostAddress, terms: Terms) -> None:
        self.address = address
        self.owner: Owner | None = None
        self.settings = terms.settings
        self._loop = asyncio.get_running_loop()
        self._machine = ClientMachine(terms.our_name)
        self._transport: asyncio.Transport | None = None
        self._output: list[bytes] = []
        self._bodies: deque[Body] = deque()  # of the open transactions, oldest first
        self._pieces: Iterator[bytes] | None = None  # of the body being sent
        self._is_paused = False
        self._is_handling = False  # inside data_received, which flushes at its end
        self._is_over = False
        self._events: asyncio.Queue[Event | HostUnusable] | None = asyncio.Queue()  # while there is no owner yet
        self._closed = self._loop.create_future()
        self._deadline = 0.0  # 0 for none
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # For the owner

    @property
    def capabilities(self) -> Capabilities:
        """What the peer offers."""
        return self._machine.capabilities

    @property
    def can_begin(self) -> bool:
        """Whether another transaction is possible."""
        return not (self._is_over or self._machine.is_over)

    def begin(self, transaction: Transaction, body: Body) -> None:
        """Start a transaction: when none is open, or from `content_sent`."""
        self._machine.begin(transaction)
        self._bodies.append(body)
        if not self._is_handling:
            self._expect_answer()
            self._flush()

    def idle(self) -> None:
        """No transaction for now: close in order once connection_cache_time has passed."""
        self._expect_within(self.settings.connection_cache_time)

    def quit(self) -> None:
        """Say goodbye, close, and tell the owner nothing more."""
        self.owner = None
        stage = self._machine.stage
        if stage is Stage.QUIT and not self._is_over:
            return
        if stage is not Stage.IDLE or not self.can_begin:
            self.abort()
            return
        self._machine.quit()
        self._expect_within(QUIT_TIME)
        self._flush()

    def abort(self) -> None:
        """Close at once, and tell the owner nothing more."""
        self.owner = None
        self._end(None)
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_closed(self) -> bool:
        """Whether the socket is closed."""
        return self._closed.done()

    def when_closed(self, tell: Callable[[Connection], None]) -> None:
        """Call `tell` once the socket is closed."""
        self._closed.add_done_callback(lambda _: tell(self))

    async def wait_closed(self) -> None:
        """Until the socket is closed."""
        await asyncio.shield(self._closed)

    # For handshake.py

    async def next_event(self) -> Event:
        """The next event while there is no owner. Raises HostUnusable."""
        assert self._events is not None
        event = await self._events.get()
        if isinstance(event, HostUnusable):
            raise event
        return event

    async def introduce(self) -> Event:
        """Say EHLO, and hear what came of it. Raises HostUnusable."""
        self._machine.hello()
        return await self._asked()

    async def ask_for_tls(self) -> Event:
        """Say STARTTLS, and hear what came of it. Raises HostUnusable."""
        self._machine.start_tls()
        return await self._asked()

    async def _asked(self) -> Event:
        self._expect_answer()
        self._flush()
        return await self.next_event()

    async def handshake(self, context: ssl.SSLContext) -> None:
        """Turn TLS on. Raises OSError (ssl.SSLError is one)."""
        assert self._transport is not None
        self._deadline = 0.0
        transport = await self._loop.start_tls(
            self._transport,
            self,
            context,
            server_hostname=self.address.host,
            ssl_handshake_timeout=self.settings.connect_time_limit,
        )
        if transport is None or self._is_over:
            raise ConnectionResetError("connection closed")
        self._transport = transport

    def ready(self) -> None:
        """Opened: from now on events go to the owner."""
        self._events = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: wait for the greeting."""
        self._transport = cast(asyncio.Transport, transport)
        self._expect_answer()

    def data_received(self, data: bytes) -> None:
        """The peer's replies."""
        if self._is_over:
            return
        machine = self._machine
        replies = machine.replies
        self._is_handling = True
        try:
            for event in machine.receive(data):
                self._handle(event)
        except ProtocolError as error:
            self._end(self._broken_protocol(error))
            return
        finally:
            self._is_handling = False
        if machine.replies != replies:
            self._expect_answer()
        self._flush()

    def pause_writing(self) -> None:
        """The socket is slow: no more of the body for now."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on with the body."""
        self._is_paused = False
        if self._pieces is not None and not self._is_over:
            self._send_pieces(self._pieces)
            self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if not self._closed.done():
            self._closed.set_result(None)
        stage = self._machine.stage
        self._end(None if stage in (Stage.IDLE, Stage.QUIT) else answers.lost(self.address, stage))

    # Events

    def _handle(self, event: Event) -> None:
        if self._is_over:
            return
        if isinstance(event, TransactionEnded):
            self._bodies.popleft()
            if self.owner is not None:
                self.owner.transaction_ended(event.transaction)
            if self._machine.is_over:  # refused in the middle of its content: there is no way back to commands
                self._end(None)
        elif isinstance(event, ContentWanted):
            self._send(self._bodies[0])
        elif isinstance(event, ShuttingDown):
            self._end(self._shut_down(event))
        elif isinstance(event, Farewell):
            self._end(None)
        elif self._events is not None:
            if isinstance(event, TlsAccepted):
                # Not a byte more in the clear: what comes now is the handshake, and anything else breaks it.
                assert self._transport is not None
                self._transport.pause_reading()
            self._events.put_nowait(event)

    def _shut_down(self, event: ShuttingDown) -> Deferred | None:
        if self._events is not None:
            return answers.refused_session(event.reply, self.address)
        if event.stage is Stage.IDLE:
            return None
        return answers.temporary_refusal(event.reply, event.stage, self.address)

    def _broken_protocol(self, error: ProtocolError) -> Deferred:
        text = f"host {self.address} broke the protocol while {self._machine.stage.doing}: {error}"
        return Deferred(self.address.relay, text, "4.5.0", site_failed=True)

    # Sending

    def _send(self, body: Body) -> None:
        content = body.content
        if content is None or len(content) > SMALL:
            self._pieces = _pieces(body)
            self._send_pieces(self._pieces)
            return
        machine = self._machine
        self._output += (machine.take_output(), machine.content(content), machine.end_content())
        if self.owner is not None:
            self.owner.content_sent()

    def _send_pieces(self, pieces: Iterator[bytes]) -> None:
        machine = self._machine
        try:
            while not self._is_paused and not self._is_over:
                piece = next(pieces, None)  # from a file: read here, CHUNK bytes at a time
                if piece is None:
                    self._pieces = None
                    self._output.append(machine.end_content())
                    if self.owner is not None:
                        self.owner.content_sent()
                    break
                self._output.append(machine.content(piece))
                self._flush()
        except OSError as error:
            # Without its end of data the peer has nothing.
            text = f"cannot read the message from the queue: {error.strerror or error}"
            self._end(Deferred("none", text, "4.3.0"))
            return
        self._expect_answer()

    def _flush(self) -> None:
        self._output.append(self._machine.take_output())
        output = b"".join(self._output)
        self._output.clear()
        if output and not self._is_over and self._transport is not None:
            self._transport.write(output)

    # The end, and the clock

    def _end(self, trouble: Deferred | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._pieces = None
        self._bodies.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            if trouble is None:
                self._transport.close()
            else:
                self._transport.abort()
        if self._events is not None:
            self._events.put_nowait(HostUnusable(trouble or answers.lost(self.address, Stage.EHLO)))
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.connection_over(trouble)

    def _expect_answer(self) -> None:
        stage = self._machine.stage
        if stage is not Stage.IDLE:
            settings = self.settings
            self._expect_within(settings.data_time_limit if stage is Stage.END else settings.command_time_limit)

    def _expect_within(self, seconds: float) -> None:
        if self._is_over:
            return
        now = self._loop.time()
        self._deadline = deadline = now + seconds
        if self._timer is None or deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = min(deadline, now + TICK)
            self._timer = self._loop.call_at(self._timer_at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._loop.time()
        if not self._deadline:
            return
        if now < self._deadline:
            self._timer_at = min(self._deadline, now + TICK)
            self._timer = self._loop.call_at(self._timer_at, self._tick)
            return
        stage, owner = self._machine.stage, self.owner
        if stage is not Stage.IDLE:
            self._end(answers.timed_out(self.address, stage))
        elif owner is not None:
            self.quit()
            owner.connection_over(None)


def _pieces(body: Body) -> Iterator[bytes]:
    """The body in pieces of at most CHUNK bytes. Raises OSError."""
    content = body.content
    if content is None:
        yield from body.chunks()
        return
    for at in range(0, len(content), CHUNK):
        yield content[at : at + CHUNK]
