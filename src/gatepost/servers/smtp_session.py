"""One SMTP or LMTP connection: the machine fed, its events judged, the answers written.

A session is one task. `data_received` feeds the machine and wakes the task, which answers everything the machine has to
say and writes all of it at once. Judgement that needs no waiting (the usual case) costs no switch of tasks.

Limits: `command_time_limit` and `data_time_limit` between bytes, `session_time_limit` in all; errors slow the session
down and end it; a client that does not read its answers is not read either, and a client that sends faster than it is
served is paused at READ_AHEAD bytes.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from typing import cast

from gatepost.mail.peer import Peer
from gatepost.mail.reply import Reply
from gatepost.net.tls_contexts import tls_facts
from gatepost.observe.events import (
    ClientConnected,
    ClientDisconnected,
    LoginFailed,
    Notice,
    SessionBroken,
    TlsEstablished,
)
from gatepost.protocols.sasl.mechanisms import named
from gatepost.protocols.smtp import commands
from gatepost.protocols.smtp.server import Answered, Ask, Content, ContentEnd, LoginResponse, SmtpServer
from gatepost.protocols.smtp.states import JUNK, State
from gatepost.servers.smtp_login import LoginEnd, SmtpLogin
from gatepost.servers.smtp_service import SmtpService
from gatepost.servers.smtp_transaction import OVERSHOOT, SENDER_OK, TOO_MANY, Client, Transaction

READ_AHEAD = 256 * 1024  # bytes received and not yet looked at before the socket is paused
HANDSHAKE_LIMIT = 30.0  # seconds
LINGER_LIMIT = 30.0  # seconds a client has to read the last answers
NO_PEER = Peer("", 0, "localhost")

_TLS_READY = Reply(220, "2.0.0", "Ready to start TLS")
_TOO_MANY_ERRORS = "too many errors"
_VERIFY = Reply(252, "2.0.0", "Cannot VRFY user, but will accept message and attempt delivery")


class Broken(Exception):
    """The session ends in disorder: `what` for the log, `reply` for the peer if it can still be told."""

    def __init__(self, what: str, reply: Reply | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.reply = reply


class SmtpSession(asyncio.Protocol):
    """Drives one machine. Made by the listener for each connection."""

    __slots__ = (
        "_client",
        "_commands",
        "_deadline",
        "_early",
        "_ends_at",
        "_errors",
        "_junk",
        "_login",
        "_loop",
        "_lost",
        "_machine",
        "_out",
        "_paused",
        "_service",
        "_shutting_down",
        "_task",
        "_timer",
        "_transaction",
        "_transport",
        "_waiter",
        "_writable",
    )

    def __init__(self, service: SmtpService) -> None:
        self._service = service
        self._machine = SmtpServer(service.rules)
        self._client = Client(NO_PEER)
        self._early: list[bytes] | None = [] if service.listener.tls == "wrapper" else None  # of the handshake
        self._commands: dict[str, tuple[int, int]] = {}
        self._errors = 0
        self._junk = 0
        self._login: SmtpLogin | None = None
        self._transaction: Transaction | None = None
        self._out: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._lost = False
        self._paused = False
        self._writable = True
        self._shutting_down = False

    # -- what the event loop tells us --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + self._service.listener.session_time_limit
        self._client.peer = _peer_of(transport)
        self._service.sessions.add(self)
        self._task = self._loop.create_task(self._run())

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._early is not None:  # it began to shake hands before we could
            self._early.append(data)
            self._transport.pause_reading()
            return
        self._machine.receive(data)
        if self._machine.buffered > READ_AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The client sends no more; its connection is closed when what it sent is answered."""
        self._lost = True
        self._wake()
        return self._client.tls is None  # TLS cannot be half closed

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._lost = True
        self._writable = True
        self._wake()

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._writable = False

    def resume_writing(self) -> None:
        """It reads again."""
        self._writable = True
        self._wake()

    def shut_down(self) -> None:
        """End as soon as no message is on its way."""
        self._shutting_down = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the session's life --

    async def _run(self) -> None:
        service, peer = self._service, self._client.peer
        refused = service.counts.enter(peer)
        try:
            await self._serve(refused)
        except Broken as broken:
            service.record(SessionBroken(service.log_name, self._client.peer, broken.what, self._stage()))
            if broken.reply is not None:
                self._out.append(broken.reply.encode())
        except Exception:  # a fault of ours must not take the worker down, nor leave the client waiting
            service.record(Notice("smtpd", "error", traceback.format_exc().replace("\n", " | ")))
            self._out.append(self._farewell(421, "4.3.0", "Internal error").encode())
        finally:
            service.counts.leave(peer)
            service.sessions.discard(self)
            self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._login is not None:
            self._login.cancel()
        if self._transaction is not None:
            self._transaction.abandon()
        self._machine.close()
        self._flush()
        if self._writable:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._loop.call_later(LINGER_LIMIT, self._transport.abort)
        else:
            self._transport.abort()
        self._service.record(ClientDisconnected(self._service.log_name, self._client.peer, self._commands))

    async def _serve(self, refused: str) -> None:
        service, listener = self._service, self._service.listener
        if listener.reverse_lookup and self._client.peer.address:
            peer = self._client.peer
            self._client.peer = Peer(peer.address, peer.port, await service.dns.client_name(peer.address))
        service.record(ClientConnected(service.log_name, self._client.peer))
        if refused:
            raise Broken(refused, self._farewell(421, "4.7.0", f"Error: {refused}"))
        if listener.tls == "wrapper":
            await self._start_tls()
        if self._machine.buffered:
            # RFC 5321 §4.3.1: the client waits for the greeting. Who does not is no mail client, or a smuggler.
            raise Broken("talking before the greeting", Reply(554, "5.5.0", "Improper use of SMTP command pipelining"))
        self._out.append(self._machine.greeting())
        heard = True  # something since we last waited
        while True:
            event = self._machine.next_event()
            if event is None:
                self._flush()
                if self._machine.state is State.CLOSED:
                    return
                await self._more(heard)
                heard = False
                continue
            heard = True
            if isinstance(event, Content):
                assert self._transaction is not None
                self._transaction.write(event.piece)
            elif isinstance(event, Answered):
                await self._answered(event)
            else:
                await self._judge(event)

    async def _more(self, heard: bool) -> None:
        """Wait for more bytes (or for the client to read), no longer than its state allows.

        Bytes of which nothing was `heard` do not put the clock back: a command sent byte by byte must keep no session alive.
        """
        listener = self._service.listener
        limit = listener.data_time_limit if self._machine.reading_content else listener.command_time_limit
        if self._paused and self._machine.buffered <= READ_AHEAD:
            self._paused = False
            self._transport.resume_reading()
        if self._lost:
            raise Broken("lost connection")
        if (self._shutting_down or self._service.draining) and self._transaction is None:
            raise Broken("shutting down", self._farewell(421, "4.3.2", "Service is shutting down"))
        if heard:
            self._deadline = min(self._loop.time() + limit, self._ends_at)
        await self._wait()
        while not self._writable and not self._lost:
            self._deadline = min(self._loop.time() + limit, self._ends_at)
            await self._wait()

    async def _wait(self) -> None:
        if self._timer is None or self._timer.when() > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._deadline == 0.0:
            raise Broken("timeout", self._farewell(421, "4.4.2", "Error: timeout exceeded"))

    def _look_at_the_clock(self) -> None:
        """One timer a session, moved on lazily: most deadlines are never reached."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_clock)
        else:
            self._deadline = 0.0
            self._wake()

    def _flush(self) -> None:
        if self._out and not self._transport.is_closing():
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def _stage(self) -> str:
        return "END-OF-MESSAGE" if self._machine.reading_content else self._machine.verb

    def _farewell(self, code: int, enhanced: str, text: str) -> Reply:
        return Reply(code, enhanced, f"{self._service.rules.hostname} {text}")

    # -- answers --

    async def _answered(self, event: Answered) -> None:
        """The machine knew the answer."""
        if event.verb == "AUTH" and self._login is not None:
            self._login.cancel()
            self._login = None
        if self._transaction is not None and self._machine.state in (State.READY, State.GREETED, State.CLOSED):
            self._transaction.abandon()
            self._transaction = None
        self._out.append(event.reply.encode())
        await self._count(event.verb, event.reply)

    async def _count(self, verb: str, reply: Reply) -> None:
        """Count the command whose answer is about to go out; too many errors hold it up, and more end the session."""
        accepted, all_ = self._commands.get(verb.lower(), (0, 0))
        self._commands[verb.lower()] = (accepted + reply.is_positive, all_ + 1)
        listener = self._service.listener
        if verb in JUNK:
            self._junk += 1
        if not reply.is_positive or (verb in JUNK and self._junk > listener.junk_command_limit):
            self._errors += 1
            if self._errors >= listener.hard_error_limit:
                raise Broken(_TOO_MANY_ERRORS, self._farewell(421, "4.7.0", f"Error: {_TOO_MANY_ERRORS}"))
        if self._errors >= listener.soft_error_limit:
            await asyncio.sleep(listener.error_sleep_time)

    async def _judge(self, question: Ask) -> None:
        """Find the answer to a question of the machine."""
        machine = self._machine
        match question:
            case commands.Rcpt():
                assert self._transaction is not None
                reply = await self._transaction.add(question)
                if reply is TOO_MANY and self._transaction.refused <= OVERSHOOT:
                    self._out.append(machine.reply(reply))
                    return
            case commands.Mail():
                self._transaction = Transaction.begin(self._service, self._client, question)
                reply = SENDER_OK
            case commands.Data():
                assert self._transaction is not None
                self._out.append(machine.reply(self._transaction.open()))
                return  # counted when the message has ended
            case ContentEnd():
                await self._end_message(question)
                return
            case commands.Helo():
                reply = self._hello(question)
            case commands.Auth() | LoginResponse():
                await self._log_in(question)
                return
            case commands.StartTls():
                await self._upgrade()
                return
            case commands.Vrfy():
                reply = _VERIFY  # RFC 5321 §3.5.3: no guesser is helped
        self._out.append(machine.reply(reply))
        await self._count(machine.verb, reply)

    def _hello(self, helo: commands.Helo) -> Reply:
        self._client.helo = helo.name
        self._client.extended = helo.extended
        if self._transaction is not None:
            self._transaction.abandon()
            self._transaction = None
        return Reply(250, "", self._service.rules.hostname)

    async def _end_message(self, end: ContentEnd) -> None:
        assert self._transaction is not None
        self._flush()
        transaction, self._transaction = self._transaction, None
        reply = await transaction.commit(end)
        if self._service.rules.lmtp:
            self._out.append(self._machine.reply_each([reply] * len(transaction.recipients)))
        else:
            self._out.append(self._machine.reply(reply))
        if reply.is_positive:
            self._errors = self._junk = 0
        await self._count(end.verb, reply)

    # -- login and TLS --

    async def _log_in(self, question: commands.Auth | LoginResponse) -> None:
        if isinstance(question, commands.Auth):
            mechanism = named(question.mechanism, self._service.mechanisms)
            assert mechanism is not None and self._service.login is not None  # the machine asked for offered ones only
            self._login = SmtpLogin(mechanism, self._service.login)
            self._flush()
            step = await self._login.begin(question.initial)
        else:
            assert self._login is not None
            step = await self._login.go_on(question.text)
        if isinstance(step, LoginEnd):
            await self._end_login(step)
        else:
            self._out.append(self._machine.challenge(step))

    async def _end_login(self, end: LoginEnd) -> None:
        assert self._login is not None
        mechanism, self._login = self._login.mechanism, None
        self._client.identity = end.identity
        self._out.append(self._machine.reply(end.reply))
        if end.identity is None:
            service = self._service
            service.record(LoginFailed(service.log_name, self._client.peer, mechanism, end.login, end.reason))
        await self._count("AUTH", end.reply)

    async def _upgrade(self) -> None:
        """STARTTLS (RFC 3207)."""
        self._out.append(self._machine.reply(_TLS_READY))
        if self._transaction is not None:
            self._transaction.abandon()
            self._transaction = None
        self._transport.pause_reading()  # what follows belongs to the handshake
        self._flush()
        await self._count("STARTTLS", _TLS_READY)
        await self._start_tls()

    async def _start_tls(self) -> None:
        assert self._service.tls is not None
        early, self._early = self._early, None
        try:
            context = self._service.tls()
            handshake = self._loop.start_tls(
                self._transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_LIMIT
            )
            if early:
                task = self._loop.create_task(handshake)
                await asyncio.sleep(0)  # now the handshake's protocol has taken our place
                _hand_over(b"".join(early), cast(asyncio.BufferedProtocol, self._transport.get_protocol()))
                transport = await task
            else:
                transport = await handshake
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self._lost = True
            raise Broken(f"TLS handshake failed ({_tls_reason(error)})") from None
        if transport is None:
            self._lost = True
            raise Broken("TLS handshake failed (connection closed)")
        self._transport = transport
        self._machine.tls_started()
        facts = tls_facts(transport.get_extra_info("ssl_object"))
        peer = self._client.peer
        self._client = Client(peer, tls=facts)
        self._service.record(TlsEstablished(self._service.log_name, peer, facts))


def _peer_of(transport: asyncio.BaseTransport) -> Peer:
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return NO_PEER  # a UNIX socket
    address = str(name[0]).partition("%")[0]
    return Peer(address.removeprefix("::ffff:") if "." in address else address, int(name[1]))


def _hand_over(data: bytes, protocol: asyncio.BufferedProtocol) -> None:
    """Bytes that came to us and are for this protocol (uvloop's for TLS, as asyncio's, reads into a buffer of its own)."""
    while data:
        room = memoryview(protocol.get_buffer(len(data)))
        count = min(len(room), len(data))
        room[:count] = data[:count]
        protocol.buffer_updated(count)
        data = data[count:]


def _tls_reason(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return str(reason).lower().replace("_", " ") if reason else type(error).__name__
