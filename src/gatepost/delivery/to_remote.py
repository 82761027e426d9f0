"""By SMTP to another host: the hosts of a next hop in order, and a connection that is kept as long as there is mail for it.

One `RemoteAgent.run` is one connection at a time. For each delivery:

- A host that cannot be reached, or refuses to talk, or breaks off: the next host. The last one's trouble is the outcome.
- 4yz to some recipients from a host that is not the last: the next host for these. 5yz is final. At most SESSION_LIMIT
  hosts that were ready to talk are asked (Postfix smtp_mx_session_limit).
- A connection that broke after the end of data was sent: deferred (it may have been delivered), no other host.
- A kept connection that breaks before a message's end of data was sent was perhaps just stale: the message starts
  afresh over a new one, once, and that counts as no failure of the site.
- Too large for the host's SIZE: Failed 5.3.4. Needs SMTPUTF8 which the host does not offer: Failed 5.6.7 (RFC 6531 §3.2).
  It is needed for a local part that is not ASCII, and for a header that is not where the sender said SMTPUTF8.

Where mail waits although all connections are busy, the MAIL-RCPT-DATA group of the next message is sent right behind the
content of the one before (RFC 2920 §3.1), provided that this host has answered an end of data on this connection within
AHEAD_PATIENCE seconds: nobody shall wait behind a slow one.
"""

from __future__ import annotations

import asyncio
from collections import deque

from gatepost.delivery import answers
from gatepost.delivery.agent import Attempt, Delivery, Work
from gatepost.delivery.connection import Connection, HostUnusable, Terms
from gatepost.delivery.handshake import open_connection
from gatepost.delivery.next_hop import HostAddress, NextHops, Unreachable
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.protocols.smtp.client_events import Transaction

SESSION_LIMIT = 2  # hosts asked about one delivery
AHEAD_PATIENCE = 1.0  # seconds


class RemoteAgent:
    """Delivers to next hops by SMTP. One for all destinations of a worker."""

    def __init__(self, next_hops: NextHops, terms: Terms) -> None:
        self._next_hops = next_hops
        self._terms = terms
        self._closing: set[Connection] = set()

    async def run(self, next_hop: str, work: Work) -> None:
        """Work off `work` until a kept connection has been idle for its time, or no connection can be had."""
        first = work.take()
        attempts = [Attempt.of(first)] if first is not None else []
        while attempts:
            attempts = await self._try_hosts(next_hop, work, attempts)

    async def close(self) -> None:
        """Drop connections that are still saying goodbye."""
        closing = list(self._closing)
        for connection in closing:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in closing))

    async def _try_hosts(self, next_hop: str, work: Work, attempts: list[Attempt]) -> list[Attempt]:
        """One walk through the hosts; what is left starts afresh."""
        started = asyncio.get_running_loop().time()
        try:
            addresses = await self._next_hops.addresses(next_hop)
        except Unreachable as error:
            _give_up(attempts, work, error.outcome)
            return []
        sessions = 0
        trouble: Deferred | None = None
        for at, address in enumerate(addresses):
            try:
                connection = await open_connection(address, self._terms)
            except HostUnusable as error:
                trouble = error.outcome
                continue
            sessions += 1
            is_last = at == len(addresses) - 1 or sessions == SESSION_LIMIT
            _note_connected(attempts, started)
            session = _Session(connection, work, is_last=is_last, takes_more=sessions == 1)
            try:
                attempts = await session.run(attempts)
            finally:
                self._see_off(connection)
            if session.starts_afresh or not attempts:
                return attempts
            trouble = session.trouble
            started = asyncio.get_running_loop().time()
        _give_up(attempts, work, trouble or _NOBODY)
        return []

    def _see_off(self, connection: Connection) -> None:
        connection.quit()
        if not connection.is_closed:
            self._closing.add(connection)
            connection.when_closed(self._closing.discard)


_NOBODY = Deferred("none", "no host of the next hop could be asked", "4.4.1", site_failed=True)


def _give_up(attempts: list[Attempt], work: Work, outcome: Outcome) -> None:
    for attempt in attempts:
        work.finish(attempt.delivery, attempt.outcomes(outcome))


def _note_connected(attempts: list[Attempt], started: float) -> None:
    for attempt in attempts:
        attempt.delivery.connect_seconds += asyncio.get_running_loop().time() - started


class _Session:
    """What goes over one connection. Owner of the connection; called back by it and by whoever has new work."""

    def __init__(self, connection: Connection, work: Work, *, is_last: bool, takes_more: bool) -> None:
        self.trouble: Deferred | None = None
        self.starts_afresh = False
        self._connection = connection
        self._address: HostAddress = connection.address
        self._work = work
        self._is_last = is_last  # 4yz is final: there is no other host to ask
        self._takes_more = takes_more
        self._to_begin: deque[Attempt] = deque()
        self._open: deque[tuple[Attempt, Transaction]] = deque()
        self._carried: list[Attempt] = []  # to the next host, or afresh
        self._done = 0  # transactions ended
        self._is_quick = False  # the last end of data was answered within AHEAD_PATIENCE
        self._sent_at = 0.0
        self._resting = False
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        settings = connection.settings
        self._retires_at = self._loop.time() + settings.connection_reuse_time
        self._keeps_idle = settings.connection_cache_time > 0

    async def run(self, attempts: list[Attempt]) -> list[Attempt]:
        """From these attempts until there is no more work. Those given back have recipients left to try elsewhere."""
        self._connection.owner = self
        self._to_begin.extend(attempts)
        self._go_ahead()
        try:
            await self._over
        finally:
            self._stop_resting()
        return self._carried

    # Resting

    def go_on(self) -> None:
        """There is work again."""
        self._resting = False
        self._go_ahead()

    def give_up(self) -> None:
        """Close."""
        self._resting = False
        self._finish()

    # Owner

    def content_sent(self) -> None:
        """Begin the next transaction right behind, if that helps."""
        self._sent_at = self._loop.time()
        if self._is_quick and self._may_take() and self._connection.capabilities.pipelining and self._work.is_pressed():
            self._begin_next()

    def transaction_ended(self, transaction: Transaction) -> None:
        """Settle it, and go on."""
        attempt, _ = self._open.popleft()
        self._done += 1
        self._is_quick = self._loop.time() - self._sent_at < AHEAD_PATIENCE
        dsn = self._connection.capabilities.dsn
        if len(attempt.left) == len(attempt.delivery.jobs):
            outcomes = answers.outcomes_of(transaction, self._address, dsn=dsn)
            if self._is_last or all(type(outcome) is Delivered for outcome in outcomes):
                self._work.finish(attempt.delivery, outcomes)
                self._after_one()
                return
        self._settle(attempt, transaction)
        self._after_one()

    def connection_over(self, trouble: Deferred | None) -> None:
        """Settle what can be settled; the rest goes elsewhere, starts afresh, or is deferred."""
        self.trouble = trouble
        while self._open:
            attempt, transaction = self._open.popleft()
            self._break_off(attempt, transaction, trouble or _NOBODY)
        self._carried += self._to_begin
        self._to_begin.clear()
        self._finish()

    def _settle(self, attempt: Attempt, transaction: Transaction) -> None:
        """All answers are in."""
        dsn = self._connection.capabilities.dsn
        left = attempt.left
        attempt.left = []
        for at, outcome in zip(left, answers.outcomes_of(transaction, self._address, dsn=dsn), strict=True):
            if isinstance(outcome, Deferred) and not self._is_last:
                attempt.left.append(at)
                attempt.softly_refused[at] = outcome
            else:
                attempt.settled[at] = outcome
        self._pass_on(attempt)

    def _break_off(self, attempt: Attempt, transaction: Transaction, trouble: Deferred) -> None:
        """The connection is gone and answers are missing."""
        was_sent = transaction.content_complete
        is_stale = self._done > 0 and not was_sent and not attempt.was_repeated
        dsn = self._connection.capabilities.dsn
        left = attempt.left
        attempt.left = []
        for place, at in enumerate(left):
            outcome = answers.outcome_of(transaction, place, self._address, dsn=dsn)
            if isinstance(outcome, Failed) or was_sent or (self._is_last and not is_stale):
                attempt.settled[at] = outcome or trouble
            else:
                attempt.left.append(at)
                if outcome is not None:
                    attempt.softly_refused[at] = outcome
        if is_stale and attempt.left:
            attempt.was_repeated = True
            self.starts_afresh = True
        self._pass_on(attempt)

    def _pass_on(self, attempt: Attempt) -> None:
        if attempt.left:
            self._carried.append(attempt)
        else:
            self._work.finish(attempt.delivery, attempt.outcomes(_NOBODY))

    # Going on

    def _may_take(self) -> bool:
        return (
            self._takes_more
            and not self._carried
            and self._connection.can_begin
            and self._loop.time() < self._retires_at
        )

    def _after_one(self) -> None:
        if not self._open:
            self._go_ahead()

    def _go_ahead(self) -> None:
        """Nothing is open: begin what comes next, rest, or end."""
        while not self._open:
            if self._to_begin:
                if not self._connection.can_begin:
                    self._carried += self._to_begin
                    self._to_begin.clear()
                    break
                self._begin(self._to_begin.popleft())
            elif not self._may_take():
                break
            elif not self._begin_next():
                if self._keeps_idle and self._work.rest(self):
                    self._resting = True
                    self._connection.idle()
                    return
                break
        else:
            return
        self._finish()

    def _begin_next(self) -> bool:
        delivery = self._work.take()
        if delivery is None:
            return False
        self._begin(Attempt.of(delivery))
        return True

    def _begin(self, attempt: Attempt) -> None:
        delivery = attempt.delivery
        message, jobs = delivery.message, delivery.jobs
        recipients = [jobs[at].recipient for at in attempt.left]
        transaction = Transaction(message.envelope, recipients, message.body.size, _wants_smtputf8(delivery))
        problem = self._problem(delivery, transaction)
        if problem is not None:
            _give_up([attempt], self._work, problem)
            return
        self._open.append((attempt, transaction))
        self._connection.begin(transaction, message.body)

    def _problem(self, delivery: Delivery, transaction: Transaction) -> Failed | None:
        """Why this host could never take it."""
        offered, relay = self._connection.capabilities, self._address.relay
        if 0 < offered.size_limit < transaction.size:  # RFC 1870 §6.1
            text = f"message size {transaction.size} exceeds size limit {offered.size_limit} of server {self._address}"
            return Failed(relay, text, "5.3.4")
        if transaction.smtputf8 and not offered.smtputf8:
            if _needs_smtputf8(delivery):
                return Failed(relay, f"SMTPUTF8 is required, but was not offered by host {self._address}", "5.6.7")
            transaction.smtputf8 = False
        return None

    def _finish(self) -> None:
        self._stop_resting()
        if not self._over.done():
            self._over.set_result(None)

    def _stop_resting(self) -> None:
        if self._resting:
            self._resting = False
            self._work.leave(self)


def _wants_smtputf8(delivery: Delivery) -> bool:
    """Whether the next hop should treat it as internationalized mail (RFC 6531 §3.4)."""
    return delivery.message.envelope.smtputf8 or not _addresses_are_ascii(delivery)


def _needs_smtputf8(delivery: Delivery) -> bool:
    """Whether a next hop without SMTPUTF8 must not get it (RFC 6531 §3.2). What is all ASCII may go anywhere."""
    return not (_addresses_are_ascii(delivery) and delivery.message.body.header.isascii())


def _addresses_are_ascii(delivery: Delivery) -> bool:
    sender = delivery.message.envelope.sender
    return (sender is None or sender.is_ascii) and all(job.recipient.address.is_ascii for job in delivery.jobs)
