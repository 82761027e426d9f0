"""Reports, read back by the standard library's email parser."""

from __future__ import annotations

import asyncio
import email
import email.policy
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.delivery.dsn import MAX_RETURNED, Reports, ReportWriter
from gatepost.mail.address import Address, BadAddress, parse_address
from gatepost.mail.clock import FakeClock
from gatepost.mail.envelope import Envelope, Notify, Recipient
from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.mail.queue_id import queue_id
from gatepost.mail.route import Route
from gatepost.observe.events import Event, Notice, ReportSent
from gatepost.queue.records import Body, Job, QueuedMessage

ARRIVED = 1_799_990_000.0
DAY = 86_400.0
ALICE = parse_address("alice@example.org")
CONTENT = b"Message-ID: <abc@example.org>\r\nFrom: alice@example.org\r\nSubject: Lunch\r\n\r\nAt noon?\r\n"

UNKNOWN = Failed("mx.far.test[192.0.2.1]:25", "550 5.1.1 <bob@far.test>: User unknown", "5.1.1", remote_reply=True)
FULL = Failed("virtual", "mailbox is full: Disk quota exceeded", "5.2.2")
TIMEOUT = Deferred("none", "connect to mx.far.test[192.0.2.1]:25: Connection timed out", "4.4.1", site_failed=True)
QUEUED = Delivered("mx.far.test[192.0.2.1]:25", "250 2.0.0 Ok: queued as 123")
STORED = Delivered("virtual", "delivered to maildir")


def writer(token: Callable[[], str] = lambda: "token") -> ReportWriter:
    return ReportWriter("mx.example.test", parse_address("postmaster@example.test"), FakeClock(), 5 * DAY, token)


def job_for(recipient: str | Address, original: str = "", number: int = 0, orcpt: str = "") -> Job:
    address = recipient if isinstance(recipient, Address) else parse_address(recipient)
    transport: Literal["maildir", "smtp"] = "maildir" if address.domain == "example.test" else "smtp"
    whom = parse_address(original) if original else address
    return Job(number, Recipient(address, orcpt=orcpt), whom, Route(transport, address.domain))


def message_of(*jobs: Job, content: bytes = CONTENT, envelope: Envelope | None = None) -> QueuedMessage:
    return QueuedMessage(4711 << 10, envelope or Envelope(ALICE), Body.of(content), ARRIVED, list(jobs))


def failure(*ends: tuple[Job, Failed], message: QueuedMessage | None = None) -> bytes:
    return writer().failure_report(message or message_of(*(job for job, _ in ends)), ends)


def read(report: bytes) -> EmailMessage:
    message = email.message_from_bytes(report, policy=email.policy.default)
    for part in message.walk():
        assert part.defects == []
    return message


def parts(report: bytes) -> tuple[EmailMessage, EmailMessage, EmailMessage]:
    one, two, three = read(report).iter_parts()
    return cast(EmailMessage, one), cast(EmailMessage, two), cast(EmailMessage, three)


def text_of(report: bytes) -> str:
    return cast(str, parts(report)[0].get_content())


def flat(report: bytes) -> str:
    """The text part without its line breaks."""
    return " ".join(text_of(report).split())


def status_blocks(report: bytes) -> list[EmailMessage]:
    return cast(list[EmailMessage], parts(report)[1].get_payload())


# The whole


def test_a_report_is_a_message_from_the_mail_system_to_the_sender() -> None:
    raw = failure((job_for("bob@far.test"), UNKNOWN))
    assert b"\r\nFrom: MAILER-DAEMON@mx.example.test (Mail Delivery System)\r\n" in raw
    report = read(raw)
    assert report["From"].addresses[0].addr_spec == "MAILER-DAEMON@mx.example.test"
    assert report["To"] == "alice@example.org"
    assert report["Subject"] == "Undelivered Mail Returned to Sender"
    assert report["Auto-Submitted"] == "auto-replied"
    assert report["In-Reply-To"] == report["References"] == "<abc@example.org>"
    assert report["Message-ID"] == f"<20270115080000.{queue_id(4711 << 10)}.token@mx.example.test>"
    assert report["MIME-Version"] == "1.0"
    assert report["Date"].datetime.timestamp() == FakeClock().now()
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"


def test_it_has_the_three_parts_in_their_order() -> None:
    text, status, original = parts(failure((job_for("bob@far.test"), UNKNOWN)))
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() == "message/delivery-status"
    assert original.get_content_type() == "message/rfc822"


def test_lines_end_in_crlf_and_are_not_too_long() -> None:
    said = replace(UNKNOWN, text="550 " + "x" * 3000 + " " + "no " * 300)
    report = failure((job_for("bob@far.test"), said))
    assert b"\n" not in report.replace(b"\r\n", b"") and b"\r" not in report.replace(b"\r\n", b"")
    assert max(len(line) for line in report.split(b"\r\n")) <= 998


def test_the_fields_of_the_message_come_first() -> None:
    envelope = Envelope(ALICE, envid="QQ+314159")
    first = status_blocks(failure((job_for("bob@far.test"), UNKNOWN), message=message_of(envelope=envelope)))[0]
    assert first.items() == [
        ("Reporting-MTA", "dns; mx.example.test"),
        ("Original-Envelope-Id", "QQ+314159"),
        ("X-Gatepost-Queue-ID", queue_id(4711 << 10)),
        ("X-Gatepost-Sender", "rfc822; alice@example.org"),
        ("Arrival-Date", format_datetime(parsedate_to_datetime(first["Arrival-Date"]))),
    ]
    assert parsedate_to_datetime(first["Arrival-Date"]).timestamp() == ARRIVED


def test_each_recipient_has_a_block_of_its_own() -> None:
    jobs = job_for("bob@far.test", orcpt="rfc822;Bob@far.test"), job_for("carol@example.test", "info@example.test", 1)
    _, bob, carol = status_blocks(failure((jobs[0], UNKNOWN), (jobs[1], FULL)))
    assert bob.items() == [
        ("Final-Recipient", "rfc822; bob@far.test"),
        ("Original-Recipient", "rfc822;Bob@far.test"),
        ("Action", "failed"),
        ("Status", "5.1.1"),
        ("Remote-MTA", "dns; mx.far.test"),
        ("Diagnostic-Code", "smtp; 550 5.1.1 <bob@far.test>: User unknown"),
    ]
    assert carol.items() == [
        ("Final-Recipient", "rfc822; carol@example.test"),
        ("Original-Recipient", "rfc822; info@example.test"),
        ("Action", "failed"),
        ("Status", "5.2.2"),
        ("Diagnostic-Code", "X-Gatepost; mailbox is full: Disk quota exceeded"),
    ]


def test_a_remote_host_without_a_name_is_named_by_its_address() -> None:
    said = replace(UNKNOWN, relay="unknown[2001:db8::1]:25")
    assert status_blocks(failure((job_for("bob@far.test"), said)))[1]["Remote-MTA"] == "dns; [2001:db8::1]"


def test_our_own_words_are_never_put_into_a_remote_mouth() -> None:
    ours = replace(UNKNOWN, remote_reply=False)
    block = status_blocks(failure((job_for("bob@far.test"), ours)))[1]
    assert "Remote-MTA" not in block
    assert block["Diagnostic-Code"].startswith("X-Gatepost; ")


@pytest.mark.parametrize("status", ["", "5", "5.1", "nonsense", "5.1.1\r\nX: y", "9.9.9"])
def test_a_status_that_is_none_becomes_the_general_one(status: str) -> None:
    block = status_blocks(failure((job_for("bob@far.test"), replace(UNKNOWN, status=status))))[1]
    assert block["Status"] == "5.0.0"


# What is returned


def test_the_message_is_returned_whole_below_its_return_path() -> None:
    report = failure(
        (job_for("bob@far.test"), UNKNOWN), message=message_of(content=b"Return-Path: <x@y.test>\r\n" + CONTENT)
    )
    assert b"\r\n\r\nReturn-Path: <alice@example.org>\r\n" + CONTENT + b"\r\n--" in report
    (inner,) = parts(report)[2].iter_parts() if parts(report)[2].is_multipart() else [None]
    assert inner is not None
    assert inner["Subject"] == "Lunch"
    assert inner.get_payload() == "At noon?\r\n"
    assert "Your message is attached" in flat(report)


@pytest.mark.parametrize(
    ("content", "ret"),
    [(CONTENT, "HDRS"), (CONTENT + b"x" * 998 + b"\r\n" * (MAX_RETURNED // 2), "FULL")],
)
def test_the_header_alone_is_returned_where_asked_for_or_where_the_message_is_large(
    content: bytes, ret: Literal["FULL", "HDRS"]
) -> None:
    envelope = Envelope(ALICE, ret=ret)
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message_of(content=content, envelope=envelope))
    original = parts(report)[2]
    assert original.get_content_type() == "text/rfc822-headers"
    assert "Subject: Lunch" in original.get_content()
    assert b"At noon?" not in report
    assert "The first lines of your message are attached" in flat(report)


def test_a_huge_header_is_cut_after_a_whole_line() -> None:
    content = b"".join(b"X-Line: %06d\r\n" % n for n in range(100_000)) + b"\r\ntext\r\n"
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message_of(content=content))
    assert MAX_RETURNED < len(report) < MAX_RETURNED + 5_000
    lines = parts(report)[2].get_content().splitlines()
    assert all(len(line) == len("X-Line: 000000") for line in lines[1:] if line)


def test_a_body_that_cannot_be_read_still_makes_a_report(tmp_path: Path) -> None:
    message = message_of()
    message.body = Body(len(CONTENT), CONTENT[: CONTENT.index(b"\r\n\r\n") + 2], path=tmp_path / "gone")
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message)
    assert parts(report)[2].get_content_type() == "text/rfc822-headers"
    assert "The first lines of your message are attached" in flat(report)


def test_the_boundary_is_one_that_the_message_does_not_hold() -> None:
    content = CONTENT + b"--=_token\r\n--=_token_--\r\nstill the message\r\n"
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message_of(content=content))
    assert len(list(read(report).iter_parts())) == 3
    assert b"still the message" in parts(report)[2].as_bytes()


@pytest.mark.parametrize("message_id", [b"none", b"<a b@c>", b"<a@b> <c@d>", b"<\xff@b>", b"<" + b"x" * 600 + b"@y>"])
def test_a_strange_message_id_is_not_referred_to(message_id: bytes) -> None:
    content = b"Message-ID: " + message_id + b"\r\n\r\ntext\r\n"
    report = read(failure((job_for("bob@far.test"), UNKNOWN), message=message_of(content=content)))
    assert "References" not in report


# Addresses and texts beyond ASCII (RFC 6533)


def test_a_report_is_ascii_where_everything_is() -> None:
    assert failure((job_for("bob@far.test"), UNKNOWN)).isascii()


def test_an_international_recipient_makes_it_a_global_report_in_utf8() -> None:
    report = failure((job_for("böb@bücher.test"), replace(UNKNOWN, text="550 5.1.1 nie gehört")))
    text, status, original = parts(report)
    assert status.get_content_type() == "message/global-delivery-status"
    assert original.get_content_type() == "message/global"
    assert "Final-Recipient: utf-8; böb@xn--bcher-kva.test\r\n".encode() in report
    assert "Diagnostic-Code: smtp; 550 5.1.1 nie gehört\r\n".encode() in report
    assert "<böb@bücher.test>" in text.get_content()
    assert report.partition(b"\r\n\r\n")[0].isascii()  # it can go to Alice without SMTPUTF8
    assert read(report)["Content-Transfer-Encoding"] == "8bit"


def test_an_international_sender_is_named_as_is() -> None:
    envelope = Envelope(parse_address("élodie@example.org"), smtputf8=True)
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message_of(envelope=envelope))
    assert "\r\nTo: élodie@example.org\r\n".encode() in report
    assert "X-Gatepost-Sender: utf-8; élodie@example.org\r\n".encode() in report


def test_an_ascii_report_stays_ascii_in_its_fields_whatever_the_remote_says() -> None:
    report = failure((job_for("bob@far.test"), replace(UNKNOWN, text="550 nie gehört")))
    assert status_blocks(report)[1]["Diagnostic-Code"] == "smtp; 550 nie geh?rt"
    assert "nie gehört" in text_of(report)


def test_an_international_header_of_smtputf8_mail_is_returned_as_global() -> None:
    content = "Subject: Grüße\r\n\r\nHallo\r\n".encode()
    envelope = Envelope(ALICE, smtputf8=True)
    report = failure((job_for("bob@far.test"), UNKNOWN), message=message_of(content=content, envelope=envelope))
    assert parts(report)[2].get_content_type() == "message/global"
    delay = writer().delay_report(message_of(content=content, envelope=envelope), [(job_for("bob@far.test"), TIMEOUT)])
    assert parts(delay)[2].get_content_type() == "message/global-headers"


# The text


@pytest.mark.parametrize(
    ("end", "advice"),
    [
        (UNKNOWN, "Look for a spelling mistake in it"),
        (FULL, "The mailbox is full."),
        (replace(UNKNOWN, status="5.1.2"), "the part after the @ sign"),
        (replace(UNKNOWN, status="5.3.4"), "too large"),
        (replace(UNKNOWN, status="5.7.1"), "does not want to take this message"),
        (replace(UNKNOWN, status="5.4.6"), "round in a circle"),
        (replace(UNKNOWN, status="4.4.1"), "tried again and again"),
        (replace(UNKNOWN, status="5.6.0"), "ask postmaster@example.test for help"),
    ],
)
def test_the_text_says_what_happened_and_what_to_do(end: Failed, advice: str) -> None:
    text = flat(failure((job_for("bob@far.test"), end)))
    assert "<bob@far.test>" in text
    assert advice in text
    assert end.text in text
    assert f"by this number: {queue_id(4711 << 10)}" in text
    if end.remote_reply:
        assert "The mail server mx.far.test answered:" in text


def test_the_text_is_free_of_the_language_of_mail_servers() -> None:
    reports = [
        failure((job_for("carol@example.test"), FULL)),
        writer().delay_report(message_of(), [(job_for("bob@far.test"), replace(TIMEOUT, text="no answer"))]),
        writer().success_report(message_of(), [(job_for("bob@far.test"), QUEUED)]),
    ]
    for report in reports:
        words = {word.strip(".,:;()").upper() for word in text_of(report).split()}
        assert not words & {"SMTP", "MTA", "DSN", "DNS", "MX", "RCPT", "RFC", "NDR", "BOUNCE", "ENVELOPE", "QUEUE"}


def test_a_forwarded_address_is_explained() -> None:
    text = flat(failure((job_for("carol@example.test", "info@example.test"), FULL)))
    assert "You wrote to info@example.test." in text


def test_addresses_are_not_broken_across_lines() -> None:
    address = f"{'x' * 60}@{'.'.join(['y' * 50] * 3)}.test"
    assert f"<{address}>" in text_of(failure((job_for(address), UNKNOWN)))


# Delays and successes


def test_a_delay_report_says_until_when_it_is_tried() -> None:
    report = writer().delay_report(message_of(), [(job_for("bob@far.test"), TIMEOUT)])
    assert read(report)["Subject"] == "Delayed Mail (still being retried)"
    block = status_blocks(report)[1]
    assert (block["Action"], block["Status"]) == ("delayed", "4.4.1")
    assert parsedate_to_datetime(block["Will-Retry-Until"]).timestamp() == ARRIVED + 5 * DAY
    assert parts(report)[2].get_content_type() == "text/rfc822-headers"
    text = flat(report)
    assert "need not send it again" in text
    assert "No mail server of this address could be reached:" in text
    assert format_datetime(parsedate_to_datetime(block["Will-Retry-Until"])) in text


def test_success_is_delivered_here_and_relayed_elsewhere() -> None:
    jobs = job_for("carol@example.test"), job_for("bob@far.test", number=1)
    report = writer().success_report(message_of(*jobs), [(jobs[0], STORED), (jobs[1], QUEUED)])
    assert read(report)["Subject"] == "Successful Mail Delivery Report"
    _, carol, bob = status_blocks(report)
    assert (carol["Action"], carol["Status"], carol["Diagnostic-Code"]) == (
        "delivered",
        "2.0.0",
        "X-Gatepost; delivered to maildir",
    )
    assert (bob["Action"], bob["Remote-MTA"]) == ("relayed", "dns; mx.far.test")
    assert parts(report)[2].get_content_type() == "text/rfc822-headers"
    assert "It was put into this mailbox." in flat(report)
    assert "handed on to the mail server mx.far.test" in flat(report)


def test_a_forward_to_many_is_reported_once_as_expanded() -> None:
    jobs = [job_for(f"b{n}@far.test", "all@example.test", n) for n in range(3)]
    report = writer().success_report(message_of(*jobs), [(job, QUEUED) for job in jobs[:2]])
    _, block = status_blocks(report)
    assert (block["Final-Recipient"], block["Action"]) == ("rfc822; all@example.test", "expanded")
    assert b"far.test" not in report.partition(b"message/delivery-status")[2]  # the targets stay private


def test_a_forward_to_one_is_relayed() -> None:
    job = job_for("bob@far.test", "info@example.test")
    assert status_blocks(writer().success_report(message_of(job), [(job, QUEUED)]))[1]["Action"] == "relayed"


# Whatever comes


def address_of(text: str) -> Address | None:
    try:
        return parse_address(text)
    except BadAddress:
        return None


quoted_locals = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters='"\\\x7f'), max_size=20
)
addresses = st.one_of(
    st.emails().map(address_of),
    quoted_locals.map(lambda local: address_of(f'"{local}"@far.test')),
).filter(lambda address: address is not None)
words = st.text(max_size=200) | st.text(st.sampled_from("a:é \r\n\t\x00\x0b\x85\u2028<>;=?-_"), max_size=300)


@settings(max_examples=60)
@given(addresses, addresses, words, words, words, st.binary(max_size=200))
def test_nothing_that_others_say_breaks_a_report(
    sender: Address, recipient: Address, said: str, orcpt: str, envid: str, content: bytes
) -> None:
    job = job_for(recipient, orcpt=orcpt)
    end = Failed(f"{said}[{envid}]:25", said, "5.1.1", remote_reply=True)
    message = message_of(job, content=b"Subject: x\r\n\r\n" + content, envelope=Envelope(sender, envid=envid))
    report = writer().failure_report(message, [(job, end)])
    assert len(cast(list[object], email.message_from_bytes(report).get_payload())) == 3
    head, _, rest = report.partition(b"\r\n\r\n")
    names = [line.partition(b":")[0] for line in head.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    assert sorted(set(names)) == sorted(names)
    assert set(names) <= {
        *(b"Date", b"From", b"Subject", b"To", b"Auto-Submitted", b"Message-ID", b"MIME-Version"),
        *(b"Content-Type", b"Content-Transfer-Encoding"),
    }
    part = rest.split(b"--=_token")[2]
    assert b"\n" not in part.replace(b"\r\n", b"")
    fields = [line.partition(b":")[0] for line in part.split(b"\r\n") if line and not line.startswith(b" ")]
    allowed = {
        *("Content-Description", "Content-Type", "Content-Transfer-Encoding", "Reporting-MTA", "Original-Envelope-Id"),
        *(
            "X-Gatepost-Queue-ID",
            "X-Gatepost-Sender",
            "Arrival-Date",
            "Final-Recipient",
            "Original-Recipient",
            "Action",
        ),
        *("Status", "Remote-MTA", "Diagnostic-Code"),
    }
    assert {field.decode() for field in fields} <= allowed
    assert len(fields) == len(set(fields))
    assert max(len(line) for line in (head + b"".join(rest.split(b"--=_token")[:3])).split(b"\r\n")) <= 998


@given(addresses)
def test_any_ascii_address_is_read_back_as_it_is(recipient: Address) -> None:
    if recipient.is_ascii:
        block = status_blocks(failure((job_for(recipient), UNKNOWN)))[1]
        assert block["Final-Recipient"] == f"rfc822; {recipient}"


# Whom to tell


class Door:
    """Takes reports as the queue would."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, Address, str]] = []
        self.events: list[Event] = []
        self.reports = Reports(writer(), self.send, self.events.append)

    async def send(self, report: bytes, to: Address, on: str) -> str:
        self.sent.append((report, to, on))
        return "REPORT"

    def failed(self, message: QueuedMessage, *ends: tuple[Job, Failed]) -> None:
        asyncio.run(self.reports.failed(message, ends))


def wishing(recipient: str, *notify: Notify, number: int = 0) -> Job:
    job = job_for(recipient, number=number)
    job.recipient = replace(job.recipient, notify=frozenset(notify))
    return job


def test_a_failure_is_reported_to_the_sender_and_told() -> None:
    door = Door()
    door.failed(message_of(), (wishing("bob@far.test"), UNKNOWN))
    ((report, to, on),) = door.sent
    assert read(report)["Subject"] == "Undelivered Mail Returned to Sender"
    assert (to, on) == (ALICE, queue_id(4711 << 10))
    assert door.events == [ReportSent(queue_id(4711 << 10), "REPORT", "failed")]


def test_only_those_whose_sender_wants_to_know_are_in_it() -> None:
    door = Door()
    ends = [(wishing("bob@far.test", "NEVER"), UNKNOWN), (wishing("carol@far.test", "SUCCESS", number=1), UNKNOWN)]
    door.failed(message_of(), *ends)
    assert door.sent == []
    assert door.events == []
    door.failed(message_of(), *ends, (wishing("dave@far.test", "FAILURE", number=2), UNKNOWN))
    assert [block["Final-Recipient"] for block in status_blocks(door.sent[0][0])[1:]] == ["rfc822; dave@far.test"]


@pytest.mark.parametrize(("sender", "is_bounce"), [(None, False), (None, True), (ALICE, True)])
def test_no_report_answers_a_report(sender: Address | None, is_bounce: bool) -> None:
    door = Door()
    message = message_of(envelope=Envelope(sender))
    message.is_bounce = is_bounce
    door.failed(message, (wishing("bob@far.test", "FAILURE"), replace(UNKNOWN, text="550 go\r\naway")))
    asyncio.run(door.reports.delayed(message, [(wishing("bob@far.test", "DELAY"), TIMEOUT)]))
    asyncio.run(door.reports.delivered(message, [(wishing("bob@far.test", "SUCCESS"), QUEUED)]))
    assert door.sent == []
    (notice,) = door.events
    assert isinstance(notice, Notice)
    assert "bob@far.test" in notice.text
    assert "\n" not in notice.text and "\r" not in notice.text


def test_a_door_that_is_shut_is_the_callers_trouble() -> None:
    async def shut(*_: Any) -> str:
        raise OSError("disk full")

    events: list[Event] = []
    with pytest.raises(OSError, match="disk full"):
        asyncio.run(Reports(writer(), shut, events.append).failed(message_of(), [(wishing("bob@far.test"), UNKNOWN)]))
    assert events == []


def test_delays_are_told_unless_unwanted() -> None:
    door = Door()
    ends = [(wishing("bob@far.test"), TIMEOUT), (wishing("carol@far.test", "FAILURE", number=1), TIMEOUT)]
    asyncio.run(door.reports.delayed(message_of(), ends))
    assert [block["Final-Recipient"] for block in status_blocks(door.sent[0][0])[1:]] == ["rfc822; bob@far.test"]
    assert door.events == [ReportSent(queue_id(4711 << 10), "REPORT", "delayed")]


def test_success_is_told_where_asked_for_and_nobody_else_tells() -> None:
    door = Door()
    passed_on = replace(QUEUED, dsn_passed_on=True)
    ends = [(wishing("bob@far.test"), QUEUED), (wishing("carol@far.test", "SUCCESS", number=1), passed_on)]
    asyncio.run(door.reports.delivered(message_of(), ends))
    assert door.sent == []
    asyncio.run(door.reports.delivered(message_of(), [*ends, (wishing("x@example.test", "SUCCESS", number=2), STORED)]))
    assert [block["Action"] for block in status_blocks(door.sent[0][0])[1:]] == ["delivered"]
    assert door.events == [ReportSent(queue_id(4711 << 10), "REPORT", "delivered")]
