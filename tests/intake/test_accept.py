"""The only door into the queue: what is committed, when it is answered, and what is told."""

from __future__ import annotations

import asyncio
import email
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gatepost.config.settings import ListenerSettings, Settings
from gatepost.intake.accept import Arrival, Intake, NoWayNow
from gatepost.mail.address import Address, parse_address
from gatepost.mail.clock import FakeClock
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.peer import Identity, Peer, TlsFacts
from gatepost.mail.reply import Reply
from gatepost.mail.route import Route
from gatepost.observe.events import Event, MessageReceived
from gatepost.queue.records import QueuedMessage
from gatepost.queue.shard import QueueShard
from gatepost.routing.router import Router
from gatepost.storage.sqlite import connect
from queue_samples import shard_in
from villages import Village

MESSAGE = b"Subject: hello\r\nMessage-ID: <1@far.test>\r\n\r\ntext\r\n"
STRANGER = Peer("203.0.113.9", 4711, "mail.far.test")


class Door:
    """An intake with a real shard behind it, and everything that went through."""

    def __init__(self, shard: QueueShard, clock: FakeClock) -> None:
        self.village = Village()
        self.village.add_domain("example.test")
        self.village.add_account("ann@example.test")
        self.village.add_account("bob@example.test")
        self.village.add_forward("info@example.test", "ann@example.test", "kay@far.test")
        self.village.add_forward("sales@example.test", "kay@far.test", "Ann@example.test")
        self.village.add_forward("loop@example.test", "pool@example.test")
        self.village.add_forward("pool@example.test", "loop@example.test")
        self.router = Router(self.village, Settings())
        self.shard = shard
        self.clock = clock
        self.events: list[Event] = []
        self.submitted: list[QueuedMessage] = []
        self.room = True
        self.intake = Intake(shard, self.router, hostname="mail.test", clock=clock, record=self.events.append)
        self.intake.lead_to(self.submitted.append, lambda: self.room)

    def arrival(self, *, listener: ListenerSettings | None = None, identity: Identity | None = None) -> Arrival:
        return Arrival(
            number=self.intake.next_number(),
            service="smtpd",
            listener=listener or ListenerSettings(),
            peer=STRANGER,
            helo="client.far.test",
            protocol="ESMTP",
            tls=None,
            identity=identity,
            sender=parse_address("kay@far.test"),
            recipient=None,
            began_at=self.clock.now(),
        )

    async def take(
        self, *recipients: str | Recipient, content: bytes = MESSAGE, arrival: Arrival | None = None
    ) -> tuple[Reply, str]:
        named = [Recipient(parse_address(one)) if isinstance(one, str) else one for one in recipients]
        arrival = arrival or self.arrival()
        incoming = self.intake.open(arrival)
        for at in range(0, len(content), 20):
            incoming.write(content[at : at + 20])
        resolutions = [await self.router.resolve(one.address) for one in named]
        envelope = Envelope(arrival.sender, tuple(named), ret="HDRS", envid="E1")
        return await self.intake.commit(incoming, arrival, envelope, resolutions)


def through_the_door(folder: Path, story: Callable[[Door], Awaitable[None]]) -> None:
    async def tell() -> None:
        clock = FakeClock()
        async with shard_in(folder, clock) as shard:
            await story(Door(shard, clock))

    asyncio.run(tell())


def stored(folder: Path) -> tuple[int, int]:
    connection = connect(folder / "1" / "queue.sqlite")
    try:
        found: tuple[int, int] = connection.execute(
            "SELECT (SELECT count(*) FROM message), (SELECT count(*) FROM job)"
        ).fetchone()
        return found
    finally:
        connection.close()


def test_250_means_that_it_is_on_disk_and_delivery_has_it(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        arrival = door.arrival()
        door.clock.advance(1.5)
        reply, cause = await door.take("info@example.test", arrival=arrival)
        assert (str(reply), cause) == (f"250 2.0.0 Ok: queued as {arrival.id}", "")
        assert stored(tmp_path) == (1, 2)  # as another connection sees it
        [message] = door.submitted
        assert message.id == arrival.id
        assert message.accept_seconds == pytest.approx(1.5)
        assert (message.envelope.sender_text, message.envelope.envid) == ("kay@far.test", "E1")
        assert [(str(job.recipient.address), job.route, str(job.original)) for job in message.jobs] == [
            ("ann@example.test", Route("maildir", "ann@example.test"), "info@example.test"),
            ("kay@far.test", Route("smtp", "far.test"), "info@example.test"),
        ]
        assert [job.number for job in message.jobs] == [0, 1]
        assert door.events == [
            MessageReceived(
                service="smtpd",
                queue_id=arrival.id,
                peer=STRANGER,
                message_id="<1@far.test>",
                sender="kay@far.test",
                size=message.body.size,
                recipients=2,
            )
        ]

    through_the_door(tmp_path, story)


def test_nothing_is_answered_or_told_before_the_commit(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        add = door.shard.add
        seen: list[int] = []

        async def watched(*given: object, **named: object) -> QueuedMessage:
            queued = await add(*given, **named)  # type: ignore[arg-type]
            seen.append(stored(tmp_path)[0])
            assert (door.events, door.submitted) == ([], [])
            return queued

        door.shard.add = watched  # type: ignore[method-assign, assignment]
        assert (await door.take("ann@example.test"))[0].code == 250
        assert seen == [1]

    through_the_door(tmp_path, story)


def test_one_job_for_each_final_address(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        await door.take("info@example.test", "sales@example.test", "ANN@example.test", "bob@example.test")
        [message] = door.submitted
        assert [str(job.recipient.address) for job in message.jobs] == [
            "ann@example.test",
            "kay@far.test",
            "bob@example.test",
        ]
        assert [str(job.original) for job in message.jobs] == [
            "info@example.test",
            "info@example.test",
            "bob@example.test",
        ]
        assert len(message.envelope.recipients) == 4  # whom the sender named

    through_the_door(tmp_path, story)


def test_dsn_wishes_go_along(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        never = Recipient(parse_address("bob@example.test"), frozenset(("NEVER",)))
        told = Recipient(parse_address("info@example.test"), frozenset(("SUCCESS", "DELAY")), "rfc822;old@far.test")
        await door.take(never, told)
        wishes = {
            str(job.recipient.address): (*sorted(job.recipient.notify), job.recipient.orcpt)
            for job in door.submitted[0].jobs
        }
        assert wishes == {
            "bob@example.test": ("NEVER", ""),
            "ann@example.test": ("DELAY", "SUCCESS", "rfc822;old@far.test"),
            "kay@far.test": ("DELAY", "SUCCESS", "rfc822;old@far.test"),
        }

    through_the_door(tmp_path, story)


def test_without_room_in_memory_the_queue_keeps_it(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        door.room = False
        reply, _ = await door.take("info@example.test")
        assert reply.code == 250
        assert [message.jobs for message in door.submitted] in ([], [[]])
        [event] = door.events
        assert isinstance(event, MessageReceived)
        assert event.recipients == 2
        [message] = await door.shard.take_due(10)
        assert len(message.jobs) == 2

    through_the_door(tmp_path, story)


LARGE = b"Subject: large\r\n\r\n" + b"x" * 20_000 + b"\r\n"


@pytest.mark.parametrize("content", [MESSAGE, LARGE])
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(tmp_path: Path, content: bytes) -> None:
    async def story(door: Door) -> None:
        database = door.shard._connection
        [(pages,)] = database.execute("PRAGMA page_count").fetchall()
        database.execute(f"PRAGMA max_page_count = {pages + 2}")
        taken = 0
        reply, cause = await door.take("ann@example.test", content=content)
        while reply.code == 250:
            taken += 1
            reply, cause = await door.take("ann@example.test", content=content)
        assert str(reply) == "452 4.3.1 Insufficient system storage; try again later"
        assert "queue.sqlite" in cause
        assert (len(door.events), len(door.submitted), stored(tmp_path)) == (taken, taken, (taken, taken))
        assert len(list((tmp_path / "1" / "bodies").iterdir())) == (taken if content is LARGE else 0)
        database.execute("PRAGMA max_page_count = 1073741823")
        reply, _ = await door.take("ann@example.test", content=content)  # service goes on
        assert reply.code == 250

    through_the_door(tmp_path, story)


def test_a_closed_shard_takes_nothing(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        door.shard.close()
        reply, cause = await door.take("ann@example.test", content=LARGE)
        assert str(reply) == "451 4.3.0 Temporary failure; try again later"
        assert cause
        assert list((tmp_path / "1" / "bodies").iterdir()) == []

    through_the_door(tmp_path, story)


def test_a_fault_of_the_message_is_the_answer(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        reply, _ = await door.take("ann@example.test", content=b"Received: x\r\n" * 51 + b"\r\n")
        assert reply.code == 554
        assert (stored(tmp_path), door.events) == ((0, 0), [])

    through_the_door(tmp_path, story)


def header_of(message: QueuedMessage) -> email.message.Message:
    return email.message_from_bytes(message.body.read())


def test_our_received_field_stands_on_top_and_names_who_logged_in_only_where_told(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        identity = Identity(parse_address("ann@example.test"), "ann", "PLAIN")
        for shown in (True, False):
            listener = ListenerSettings(role="mx", hostname="mx.example.test", authenticated_header=shown)
            arrival = replace(
                door.arrival(listener=listener, identity=identity),
                tls=TlsFacts("TLSv1.3", "X", 256),
                recipient=parse_address("bob@example.test"),
            )
            await door.take("bob@example.test", arrival=arrival)
            header = header_of(door.submitted[-1])
            assert header.keys() == ["Received", "Subject", "Message-ID"]
            received = header["Received"]
            assert received.startswith("from client.far.test (mail.far.test [203.0.113.9])")
            assert ("(Authenticated sender: ann@example.test)" in received) is shown
            assert f"by mx.example.test (Gatepost) with ESMTP id {arrival.id}" in received
            assert "for <bob@example.test>;" in received
            event = door.events[-1]
            assert isinstance(event, MessageReceived)
            assert (event.login, event.mechanism) == ("ann", "PLAIN")

    through_the_door(tmp_path, story)


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("mx", ["Received", "Bcc", "Subject"]),
        ("lmtp", ["Received", "Bcc", "Subject"]),
        ("submission", ["Received", "From", "Date", "Message-ID", "Subject"]),
        ("submissions", ["Received", "From", "Date", "Message-ID", "Subject"]),
    ],
)
def test_only_submissions_are_completed(tmp_path: Path, role: str, names: list[str]) -> None:
    async def story(door: Door) -> None:
        listener = ListenerSettings(role=role)  # type: ignore[arg-type]
        content = b"Bcc: x@y.test\r\nSubject: hello\r\n\r\ntext\r\n"
        await door.take("ann@example.test", content=content, arrival=door.arrival(listener=listener))
        assert header_of(door.submitted[0]).keys() == names

    through_the_door(tmp_path, story)


# -- reports --

REPORT = b"From: MAILER-DAEMON@mail.test\r\nMessage-ID: <r@mail.test>\r\n\r\nreport\r\n"


def test_a_report_goes_out_from_the_null_sender(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        name = await door.intake.accept_report(REPORT, parse_address("kay@far.test"), "0123456789BC")
        [message] = door.submitted
        assert (message.id, message.is_bounce, message.envelope.sender) == (name, True, None)
        [job] = message.jobs
        assert job.recipient.notify == {"NEVER"}  # a report on a report cannot be wished for
        assert header_of(message).keys() == ["Received", "From", "Message-ID"]
        [event] = door.events
        assert isinstance(event, MessageReceived)
        assert (event.service, event.peer, event.sender, event.message_id) == ("bounce", None, "", "<r@mail.test>")
        assert stored(tmp_path) == (1, 1)

    through_the_door(tmp_path, story)


def test_a_report_to_nobody_is_dropped(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        assert await door.intake.accept_report(REPORT, parse_address("gone@example.test"), "0123456789BC") == ""
        assert (stored(tmp_path), door.events, door.submitted) == ((0, 0), [], [])

    through_the_door(tmp_path, story)


def test_a_report_into_a_loop_of_forwards_waits(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        with pytest.raises(NoWayNow, match=r"report on 0123456789BC to loop@example.test: forwards go in a circle"):
            await door.intake.accept_report(REPORT, parse_address("loop@example.test"), "0123456789BC")
        assert stored(tmp_path) == (0, 0)

    through_the_door(tmp_path, story)


def test_a_report_to_an_international_address_says_so(tmp_path: Path) -> None:
    async def story(door: Door) -> None:
        await door.intake.accept_report(REPORT, Address("jürgen", "far.test"), "0123456789BC")
        assert door.submitted[0].envelope.smtputf8

    through_the_door(tmp_path, story)
