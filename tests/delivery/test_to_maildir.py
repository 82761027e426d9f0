"""From the queue into Maildirs: what is put on top, what fails, what waits, and that the loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import email
import email.policy
import errno
import mailbox
import os
import resource
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from unittest.mock import patch

import pytest

from gatepost.config.settings import MailboxSettings
from gatepost.delivery.agent import Delivery
from gatepost.delivery.to_maildir import MaildirAgent, final_fields
from gatepost.mail.address import Address, parse_address
from gatepost.mail.clock import SystemClock
from gatepost.mail.content import header_length
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.route import Route
from gatepost.mailbox.maildir import STALE, lf_lines
from gatepost.mailbox.places import BadTemplate
from gatepost.observe.events import Event, Notice
from gatepost.queue.records import Body, Job, QueuedMessage

SENDER = parse_address("sender@far.test")
CONTENT = b"Received: from x\r\n\tby y; now\r\nSubject: hi\r\n\r\nHello\r\n.\r\n\r\nBye\r\n"
DELIVERED = Delivered("virtual", "delivered to maildir", "2.0.0")


def job_for(account: str, recipient: str = "", original: str = "", number: int = 0) -> Job:
    final = parse_address(recipient or account)
    return Job(number, Recipient(final), parse_address(original or str(final)), Route("maildir", account))


def delivery(content: bytes | Body, *jobs: Job, sender: Address | None = SENDER) -> Delivery:
    body = content if isinstance(content, Body) else Body.of(content)
    return Delivery(QueuedMessage(1, Envelope(sender), body, 1_800_000_000.0, list(jobs)), list(jobs))


def deliver(home: Path, deliveries: Sequence[Delivery], events: list[Event] | None = None) -> list[list[Outcome]]:
    async def run() -> list[list[Outcome]]:
        record = events.append if events is not None else (lambda _: None)
        agent = MaildirAgent(home, MailboxSettings(), "mx.example.test", SystemClock(), record)
        try:
            return await agent.deliver_batch(deliveries)
        finally:
            await agent.close()

    return asyncio.run(run())


def contents(home: Path, account: str) -> list[bytes]:
    local, _, domain = account.partition("@")
    box = mailbox.Maildir(home / "mail" / domain / local, create=False)
    return sorted(box.get_bytes(key) for key in box.keys())  # noqa: SIM118


def test_the_mailbox_holds_the_message_below_the_fields_of_final_delivery(tmp_path: Path) -> None:
    job = job_for("alice@example.test", "alice+news@example.test", "info@example.test")
    assert deliver(tmp_path, [delivery(CONTENT, job)]) == [[DELIVERED]]
    fields = (
        b"Return-Path: <sender@far.test>\nX-Original-To: info@example.test\nDelivered-To: alice+news@example.test\n"
    )
    assert contents(tmp_path, "alice@example.test") == [fields + CONTENT.replace(b"\r\n", b"\n")]


def test_the_null_sender_has_an_empty_return_path(tmp_path: Path) -> None:
    deliver(tmp_path, [delivery(CONTENT, job_for("alice@example.test"), sender=None)])
    assert contents(tmp_path, "alice@example.test")[0].startswith(b"Return-Path: <>\n")


def test_outcomes_stand_where_their_jobs_do(tmp_path: Path) -> None:
    looping = CONTENT.replace(b"Subject", b"Delivered-To: Bob@Example.test\r\nSubject")
    outcomes = deliver(
        tmp_path,
        [
            delivery(CONTENT, job_for("alice@example.test"), job_for("bob@example.test", number=1)),
            delivery(looping, job_for("bob@example.test"), job_for("carol@example.test", number=1)),
            delivery(CONTENT),
            delivery(CONTENT, job_for("alice@example.test")),
        ],
    )
    loop = Failed("virtual", "mail forwarding loop for bob@example.test", "5.4.6")
    assert outcomes == [[DELIVERED, DELIVERED], [loop, DELIVERED], [], [DELIVERED]]
    assert [len(contents(tmp_path, f"{name}@example.test")) for name in ("alice", "bob", "carol")] == [2, 1, 1]


def test_a_message_delivered_to_another_tag_is_no_loop(tmp_path: Path) -> None:
    content = b"Delivered-To: alice+a@example.test\r\n" + CONTENT
    outcomes = deliver(tmp_path, [delivery(content, job_for("alice@example.test", "alice+b@example.test"))])
    assert outcomes == [[DELIVERED]]


def test_delivered_to_in_the_text_is_no_loop(tmp_path: Path) -> None:
    content = CONTENT + b"Delivered-To: alice@example.test\r\n"
    assert deliver(tmp_path, [delivery(content, job_for("alice@example.test"))]) == [[DELIVERED]]


RETURN_PATHS = (
    b"Return-Path: <spoofed@far.test>\r\n" + CONTENT,
    CONTENT.replace(b"Subject", b"RETURN-PATH:\r\n <spoofed@far.test>\r\nSubject"),
    b"Return-Path: <a@far.test>\r\nReturn-path : <b@far.test>\r\n" + CONTENT,
)


@pytest.mark.parametrize("content", RETURN_PATHS)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_return_path_that_came_along_is_taken_out(tmp_path: Path, content: bytes, in_file: bool) -> None:
    body = Body.of(content)
    if in_file:
        path = tmp_path / "body"
        path.write_bytes(content)
        body = Body(len(content), body.header, path=path)
    deliver(tmp_path, [delivery(body, job_for("alice@example.test"))])
    (stored,) = contents(tmp_path, "alice@example.test")
    assert stored.partition(b"Delivered-To: alice@example.test\n")[2] == CONTENT.replace(b"\r\n", b"\n")
    message = email.message_from_bytes(stored, policy=email.policy.default)
    assert message.get_all("Return-Path") == ["<sender@far.test>"]


def test_a_return_path_in_the_text_stays(tmp_path: Path) -> None:
    content = CONTENT + b"Return-Path: <quoted@far.test>\r\n"
    deliver(tmp_path, [delivery(content, job_for("alice@example.test"))])
    assert contents(tmp_path, "alice@example.test")[0].endswith(b"\nReturn-Path: <quoted@far.test>\n")


def test_a_header_that_was_cut_is_not_touched(tmp_path: Path) -> None:
    content = b"Return-Path: <a@far.test>\r\nSubject: hi\r\n" + CONTENT
    path = tmp_path / "body"
    path.write_bytes(content)
    deliver(tmp_path, [delivery(Body(len(content), content[:27], path=path), job_for("alice@example.test"))])
    assert contents(tmp_path, "alice@example.test")[0].endswith(content.replace(b"\r\n", b"\n"))


def test_fields_cannot_be_injected() -> None:
    job = Job(
        0, Recipient(Address("a\nX-Evil: 1", "b.test")), Address("c\r\n\r\n", "d.test"), Route("maildir", "a@b.test")
    )
    assert len(final_fields("e\nf", job).splitlines()) == 3


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ENOSPC, Deferred("virtual", "no room to store mail: No space left on device", "4.3.0")),
        (errno.EDQUOT, Failed("virtual", "mailbox is full: Disk quota exceeded", "5.2.2")),
        (errno.EFBIG, Failed("virtual", "message is too large for the mailbox: File too large", "5.2.2")),
        (errno.EACCES, Deferred("virtual", "cannot write to the mailbox: Permission denied", "4.2.0")),
        (errno.ESTALE, Deferred("virtual", "cannot write to the mailbox: Stale file handle", "4.2.0")),
    ],
)
def test_errors_of_the_system_become_outcomes_without_paths(tmp_path: Path, code: int, expected: Outcome) -> None:
    def failing() -> AbstractContextManager[object]:
        return patch("gatepost.mailbox.maildir.os.writev", side_effect=OSError(code, os.strerror(code)))

    events: list[Event] = []
    with failing():
        outcomes = deliver(tmp_path, [delivery(CONTENT, job_for("alice@example.test"))] * 2, events)
    assert outcomes == [[expected], [expected]]
    # The operator is told where, once.
    (notice,) = events
    assert isinstance(notice, Notice)
    assert notice.severity == "warning"
    assert str(tmp_path / "mail/example.test/alice") in notice.text


def test_a_real_file_size_limit_fails_the_message_and_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        big = CONTENT + b"x" * 200_000 + b"\r\n"
        outcomes = deliver(tmp_path, [delivery(big, job_for("a@b.test")), delivery(CONTENT, job_for("a@b.test"))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcomes == [
        [Failed("virtual", "message is too large for the mailbox: File too large", "5.2.2")],
        [DELIVERED],
    ]
    assert list((tmp_path / "mail/b.test/a/tmp").iterdir()) == []


def test_a_body_file_that_is_gone_defers(tmp_path: Path) -> None:
    body = Body(10, b"", path=tmp_path / "gone")
    events: list[Event] = []
    (((outcome,)),) = deliver(tmp_path, [delivery(body, job_for("alice@example.test"))], events)
    assert outcome == Deferred("virtual", "cannot write to the mailbox: No such file or directory", "4.2.0")
    assert isinstance(events[0], Notice)
    assert str(tmp_path / "gone") in events[0].text


def test_a_next_hop_that_is_no_address_waits_for_the_operator(tmp_path: Path) -> None:
    (((outcome,)),) = deliver(tmp_path, [delivery(CONTENT, job_for("nobody", "alice@example.test"))])
    assert isinstance(outcome, Deferred)
    assert outcome.status == "4.3.5"


def test_an_address_without_a_folder_waits_for_the_operator(tmp_path: Path) -> None:
    long_domain = ".".join(["x" * 60] * 4) + ".test"
    agent_settings = MailboxSettings(path="{local}@{domain}.maildir")

    async def run() -> list[list[Outcome]]:
        agent = MaildirAgent(tmp_path, agent_settings, "mx.example.test", SystemClock(), lambda _: None)
        try:
            return await agent.deliver_batch([delivery(CONTENT, job_for(f"{'y' * 5}@{long_domain}"))])
        finally:
            await agent.close()

    (((outcome,)),) = asyncio.run(run())
    assert outcome == Deferred("virtual", "this address can have no mailbox folder here", "4.3.5")


def test_a_bad_template_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadTemplate, match=r"mailboxes\.path"):
        MaildirAgent(tmp_path, MailboxSettings(path="mail"), "mx.example.test", SystemClock(), lambda _: None)


def test_a_big_body_in_a_file_is_streamed(tmp_path: Path) -> None:
    text = b"Subject: big\r\n\r\n" + (b"x" * 997 + b"\r\n") * 8000
    path = tmp_path / "body"
    path.write_bytes(text)
    body = Body(len(text), text[: header_length(text)], path=path)
    widest = 0

    def watched(fd: int, parts: tuple[bytes, bytes]) -> int:
        nonlocal widest
        widest = max(widest, sum(len(part) for part in parts))
        return real(fd, parts)

    real = os.writev
    with patch("gatepost.mailbox.maildir.os.writev", watched):
        assert deliver(tmp_path, [delivery(body, job_for("alice@example.test"))]) == [[DELIVERED]]
    assert widest < 300_000
    assert contents(tmp_path, "alice@example.test")[0].endswith(b"".join(lf_lines([text])))


def test_the_loop_goes_on_while_the_disk_is_slow(tmp_path: Path) -> None:
    real = os.fsync

    def slow(fd: int) -> None:
        time.sleep(0.1)
        real(fd)

    async def run() -> int:
        agent = MaildirAgent(tmp_path, MailboxSettings(), "mx.example.test", SystemClock(), lambda _: None)
        turns = 0
        batch = asyncio.ensure_future(agent.deliver_batch([delivery(CONTENT, job_for("alice@example.test"))]))
        while not batch.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert batch.result() == [[DELIVERED]]
        await agent.close()
        return turns

    with patch("gatepost.mailbox.maildir.os.fsync", slow):
        assert asyncio.run(run()) > 20


def test_stale_files_are_swept_once_nobody_waits(tmp_path: Path) -> None:
    deliver(tmp_path, [delivery(CONTENT, job_for("alice@example.test"))])
    stale = tmp_path / "mail/example.test/alice/tmp/1.M1P1Q1.mx"
    stale.write_bytes(b"half a mess")
    long_ago = time.time() - STALE - 60
    os.utime(stale, (long_ago, long_ago))
    deliver(tmp_path, [delivery(CONTENT, job_for("alice@example.test"))])
    assert not stale.exists()
    assert len(contents(tmp_path, "alice@example.test")) == 2


def test_batches_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    async def run() -> None:
        agent = MaildirAgent(tmp_path, MailboxSettings(), "mx.example.test", SystemClock(), lambda _: None)
        batches = [[delivery(CONTENT, job_for(f"u{n}@b{batch}.test")) for n in range(7)] for batch in range(5)]
        results = await asyncio.gather(*(agent.deliver_batch(batch) for batch in batches))
        assert results == [[[DELIVERED]] * 7] * 5
        await agent.close()

    asyncio.run(run())
    assert len(list(tmp_path.rglob("new/*"))) == 35
