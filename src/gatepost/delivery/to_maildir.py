"""Into a Maildir: final delivery of mail for our own accounts.

On top of the message go, in this order as virtual(8) of Postfix writes them,

    Return-Path: <sender>            RFC 5321 §4.4; one that came with the message is taken out
    X-Original-To: the address the sender wrote to
    Delivered-To: the final recipient, with its tag

A message whose `Delivered-To` already names the recipient goes round in a circle and fails (5.4.6). A quota that is used
up, or a file size limit, fails too (5.2.2); a full disk (4.3.0), an address that can have no folder (4.3.5) and everything
else (4.2.0) wait for another attempt. The outcome's text tells no path, since senders may read it in a report; a Notice
tells the operator what the system said, once for each mailbox of a batch.

A batch is one call in the agent's one thread; the event loop never waits for the disk. Bodies kept in files are streamed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from gatepost.config.settings import MailboxSettings
from gatepost.delivery.agent import Delivery
from gatepost.mail.address import BadAddress, parse_address
from gatepost.mail.clock import Clock
from gatepost.mail.content import without_fields
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.trace import delivered_to
from gatepost.mailbox.maildir import Copy, MaildirStore, NotStored, Stored, lf_lines
from gatepost.mailbox.places import Places
from gatepost.observe.events import Notice, Record
from gatepost.queue.records import Body, Job, QueuedMessage

RELAY = "virtual"  # what Postfix logs as the relay of its maildir agent

_RETURN_PATH = frozenset({b"return-path"})
_HAS_RETURN_PATH = re.compile(rb"(?:^|\n)return-path[ \t]*:", re.IGNORECASE)
_HAS_DELIVERED_TO = re.compile(rb"(?:^|\n)delivered-to[ \t]*:", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class MaildirAgent:
    """Puts messages into the Maildirs below the home folder. The next hop of a job's route is the account's address."""

    def __init__(self, home: Path, settings: MailboxSettings, hostname: str, clock: Clock, record: Record) -> None:
        """Raises BadTemplate where `settings.path` is none."""
        self._store = MaildirStore(Places(home, settings.path), hostname, clock)
        self._record = record
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="maildir")
        self._batches = 0  # under way or waiting for the thread

    async def deliver_batch(self, deliveries: Sequence[Delivery]) -> list[list[Outcome]]:
        """An outcome for every job of every delivery, in their order. Returns once all that is Delivered is synced."""
        self._batches += 1
        try:
            loop = asyncio.get_running_loop()
            outcomes, notices = await loop.run_in_executor(self._thread, _deliver, self._store, tuple(deliveries))
        finally:
            self._batches -= 1
        for notice in notices:
            self._record(notice)
        if self._batches == 0 and self._store.sweep_due:
            # Nobody waits: a quiet moment to look for what a crash left.
            self._thread.submit(self._store.sweep)
        return outcomes

    async def close(self) -> None:
        """Let the batch under way end, and the thread with it. No batch may be given afterwards."""
        await asyncio.to_thread(self._thread.shutdown)


def _deliver(store: MaildirStore, deliveries: Sequence[Delivery]) -> tuple[list[list[Outcome]], list[Notice]]:
    """Runs in the agent's thread."""
    outcomes: list[list[Outcome]] = []
    copies: list[Copy] = []
    awaited: list[tuple[list[Outcome], int]] = []  # where the outcome of each copy belongs
    for delivery in deliveries:
        row: list[Outcome] = []
        seen = _delivered_to(delivery.message.body.header)
        content = _content(delivery.message.body, len(delivery.jobs))
        for job in delivery.jobs:
            planned = _plan(delivery.message, job, seen, content)
            if isinstance(planned, Copy):
                copies.append(planned)
                awaited.append((row, len(row)))
                planned = _UNTRIED
            row.append(planned)
        outcomes.append(row)
    notices: dict[str, Notice] = {}
    for (row, at), result in zip(awaited, store.deliver(copies), strict=True):
        row[at] = _outcome(result)
        if isinstance(result, NotStored):
            notices[result.reason] = Notice("maildir", "warning", result.reason)
    return outcomes, list(notices.values())


_UNTRIED = Deferred(RELAY, "not attempted", "4.3.0")
_STORED = Delivered(RELAY, "delivered to maildir")


def _plan(
    message: QueuedMessage, job: Job, seen: frozenset[str], content: Callable[[], Iterable[bytes]]
) -> Copy | Outcome:
    """What to write for a job, or why there is nothing to write."""
    recipient = job.recipient.address
    if str(recipient).lower() in seen:
        return Failed(RELAY, f"mail forwarding loop for {recipient}", "5.4.6")
    try:
        account = parse_address(job.route.next_hop)
    except BadAddress as error:
        return Deferred(RELAY, f"mailbox address {job.route.next_hop!r}: {error}", "4.3.5")
    return Copy(account, final_fields(message.envelope.sender_text, job), content)


def final_fields(sender: str, job: Job) -> bytes:
    """The trace fields of final delivery, lines ending in LF."""
    lines = f"Return-Path: <{sender}>", f"X-Original-To: {job.original}", f"Delivered-To: {job.recipient.address}"
    # An address of ours holds no line end; should one ever, it must not start a field.
    return "".join(f"{_CONTROL.sub('?', line)}\n" for line in lines).encode("utf-8", "replace")


def _delivered_to(header: bytes) -> frozenset[str]:
    return delivered_to(header) if _HAS_DELIVERED_TO.search(header) else frozenset()


def _content(body: Body, copies: int) -> Callable[[], Iterable[bytes]]:
    """The bytes of a mailbox file below the fields, made when they are asked for; once for all copies if in memory."""

    def content() -> Iterable[bytes]:
        return lf_lines(_without_return_path(body))

    if body.content is None or copies == 1:
        return content
    return cache(lambda: tuple(content()))


def _without_return_path(body: Body) -> Iterator[bytes]:
    """RFC 5321 §4.4: the Return-Path of a message is that of its final delivery, and there is only one."""
    chunks = body.chunks()
    if not _HAS_RETURN_PATH.search(body.header):
        yield from chunks
        return
    length = len(body.header)
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= length + 2:
            break
    rest = start[length:]
    # A header that was cut (Body.header) has no known end, so nothing is taken out of it.
    whole = not rest or rest.startswith(b"\r\n")
    yield (without_fields(body.header, _RETURN_PATH) if whole else body.header) + rest
    yield from chunks


def _outcome(result: Stored | NotStored) -> Outcome:
    if isinstance(result, Stored):
        return _STORED
    said = os.strerror(result.errno)
    match result.errno:
        case 0:
            return Deferred(RELAY, "this address can have no mailbox folder here", "4.3.5")
        case errno.EDQUOT:
            return Failed(RELAY, f"mailbox is full: {said}", "5.2.2")
        case errno.EFBIG:
            return Failed(RELAY, f"message is too large for the mailbox: {said}", "5.2.2")
        case errno.ENOSPC:
            return Deferred(RELAY, f"no room to store mail: {said}", "4.3.0")
        case _:
            return Deferred(RELAY, f"cannot write to the mailbox: {said}", "4.2.0")
