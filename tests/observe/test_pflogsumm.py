"""pflogsumm, the program operators run each night, counts a journal of known events right."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from gatepost.config.settings import LogSettings
from gatepost.mail.clock import FakeClock
from gatepost.mail.outcome import Deferred, Delivered, Failed, Outcome
from gatepost.mail.peer import Peer
from gatepost.mail.reply import Reply
from gatepost.observe.events import (
    ClientConnected,
    ClientDisconnected,
    CommandRejected,
    Event,
    LoginFailed,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientAttempted,
    ReportSent,
)
from gatepost.observe.journal import open_journal

PFLOGSUMM = Path("/usr/sbin/pflogsumm")
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not PFLOGSUMM.exists(), reason="pflogsumm is not installed: /usr/sbin/pflogsumm is missing"),
]

ALICE = Peer("192.0.2.17", 40001, "mail.sender.test")
BOT = Peer("2001:db8::bad", 40002)
RELAY = "mx.far.test[192.0.2.9]:25"
SENT = Delivered(RELAY, "250 2.0.0 Ok: queued as 7")
STORED = Delivered("maildir", "delivered to maildir")
DEFERRED = Deferred("none", "connect to mx.far.test[192.0.2.9]:25: Connection refused", "4.4.1", site_failed=True)
BOUNCED = Failed(RELAY, "550 5.1.1 <nobody@far.test>: no such user", "5.1.1", remote_reply=True)


def received(service: str, queue_id: str, sender: str, size: int, recipients: int) -> MessageReceived:
    login = sender if service != "smtpd" else ""
    return MessageReceived(
        service, queue_id, ALICE, f"<{queue_id}@sender.test>", sender, size, recipients, login, "PLAIN" if login else ""
    )


def attempted(queue_id: str, recipient: str, outcome: Outcome, delay: float = 0.5) -> RecipientAttempted:
    return RecipientAttempted(
        queue_id,
        "maildir" if outcome is STORED else "smtp",
        recipient,
        "orig@example.test",
        outcome,
        delay,
        (0.1, 0, 0.2, 0.2),
    )


def rejected(service: str, reply: Reply, recipient: str) -> CommandRejected:
    return CommandRejected(service, BOT, "RCPT", reply, "spam@bot.test", recipient, "bot", "ESMTP")


RELAY_DENIED = Reply(554, "5.7.1", "<x@elsewhere.test>: Relay access denied")
USER_UNKNOWN = Reply(
    550, "5.1.1", "<who@example.test>: Recipient address rejected: User unknown in virtual mailbox table"
)

STORY: list[Event] = [
    Notice("master", "note", "daemon started"),
    ClientConnected("smtpd", ALICE),
    received("smtpd", "4dK2Bz1f9XA1", "alice@sender.test", 1000, 2),
    attempted("4dK2Bz1f9XA1", "bob@example.test", STORED),
    attempted("4dK2Bz1f9XA1", "carol@far.test", SENT, 2.5),
    MessageRemoved("4dK2Bz1f9XA1"),
    ClientDisconnected("smtpd", ALICE, {"EHLO": (1, 1), "MAIL": (1, 1), "RCPT": (2, 2), "DATA": (1, 1), "QUIT": (1, 1)}),
    # Users, by both submission ports: one delivered after a deferral, one that bounces.
    received("submission/smtpd", "4dK2Bz1f9XA2", "dave@example.test", 300, 1),
    attempted("4dK2Bz1f9XA2", "carol@far.test", DEFERRED),
    attempted("4dK2Bz1f9XA2", "carol@far.test", DEFERRED),
    attempted("4dK2Bz1f9XA2", "carol@far.test", SENT, 900.0),
    MessageRemoved("4dK2Bz1f9XA2"),
    received("submissions/smtpd", "4dK2Bz1f9XA3", "dave@example.test", 70, 1),
    attempted("4dK2Bz1f9XA3", "nobody@far.test", BOUNCED),
    MessageReceived("bounce", "4dK2Bz1f9XA4", None, "<4dK2Bz1f9XA4@mx.example.test>", "", 5000, 1),
    ReportSent("4dK2Bz1f9XA3", "4dK2Bz1f9XA4", "failed"),
    MessageRemoved("4dK2Bz1f9XA3"),
    attempted("4dK2Bz1f9XA4", "dave@example.test", STORED),
    MessageRemoved("4dK2Bz1f9XA4"),
    # From one of our own hosts by LMTP.
    received("lmtpd", "4dK2Bz1f9XA5", "alice@sender.test", 4, 1),
    attempted("4dK2Bz1f9XA5", "bob@example.test", STORED),
    MessageRemoved("4dK2Bz1f9XA5"),
    # Strangers.
    rejected("smtpd", RELAY_DENIED, "x@elsewhere.test"),
    rejected("submissions/smtpd", RELAY_DENIED, "x@elsewhere.test"),
    rejected("smtpd", USER_UNKNOWN, "who@example.test"),
    LoginFailed("smtpd", BOT, "PLAIN", "root", "wrong password"),
    LoginFailed("smtpd", BOT, "PLAIN", "root", "wrong password"),
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    home = tmp_path_factory.mktemp("home")
    clock = FakeClock()
    journal = open_journal(LogSettings(), home=home, hostname="mx.example.test", clock=clock)
    for event in STORY:
        journal.record(event)
        clock.advance(0.25)
    journal.close()
    done = subprocess.run(
        [PFLOGSUMM, home / "log" / "mail.log"],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def section(report: str, title: str) -> list[list[str]]:
    """The rows of a table, in words."""
    body = report.split(f"\n{title}\n", 1)[1].split("\n\n", 1)[0]
    return [line.split() for line in body.splitlines() if line.strip() and not re.fullmatch(r"[ -]+", line)]


def totals(report: str) -> dict[str, str]:
    head = report.split("Per-Hour", 1)[0]
    return {
        name.split("(")[0].strip(): number
        for number, name in re.findall(r"^ +(\d+[km]?) +([a-z].*)$", head, re.MULTILINE)
    }


def test_grand_totals(report: str) -> None:
    found = totals(report)
    assert {
        name: int(found[name])
        for name in ("received", "delivered", "deferred", "bounced", "rejected", "bytes received", "bytes delivered")
    } == {
        "received": 4,  # bounces come from no client
        "delivered": 5,
        "deferred": 1,
        "bounced": 1,
        "rejected": 3,
        "bytes received": 1000 + 300 + 70 + 4,
        "bytes delivered": 2 * 1000 + 300 + 5000 + 4,
    }
    assert "(2  deferrals)" in report
    assert (found["senders"], found["recipients"]) == ("2", "3")
    assert (found["sending hosts/domains"], found["recipient hosts/domains"]) == ("2", "2")


def test_senders_and_recipients(report: str) -> None:
    assert section(report, "Senders by message count") == [["2", "dave@example.test"], ["2", "alice@sender.test"]]
    assert section(report, "Recipients by message count") == [
        ["2", "bob@example.test"],
        ["2", "carol@far.test"],
        ["1", "dave@example.test"],
    ]
    assert section(report, "Senders by message size") == [["1004", "alice@sender.test"], ["370", "dave@example.test"]]
    assert section(report, "Recipients by message size") == [
        ["5000", "dave@example.test"],
        ["1300", "carol@far.test"],
        ["1004", "bob@example.test"],
    ]
    assert "Messages with no size data" not in report


def test_domains_and_delays(report: str) -> None:
    rows = section(report, "Host/Domain Summary: Message Delivery ")
    far = next(row for row in rows if row[-1] == "far.test")
    assert far == ["2", "1300", "2", "7.5", "m", "15.0", "m", "far.test"]  # (2.5 s + 900 s) / 2


def test_details_name_the_reasons(report: str) -> None:
    assert re.search(r"smtp \(total: 2\)\n +2 +mx\.far\.test\[192\.0\.2\.9\]:25: Connection refused\n", report)
    assert re.search(r":25 \(total: 1\)\n +1 +5\.1\.1 <nobody@far\.test>: no such user\n", report)
    assert re.search(r"\n +Relay access denied \(total: 2\)\n +2 +2001:db8::bad\n", report)
    assert re.search(r"User unknown in virtual mailbox table \(total: 1\)\n +1 +who@example\.test\n", report)
    assert re.search(r"smtpd \(total: 2\)\n +2 +unknown\[2001:db8::bad\]: SASL PLAIN authentication failed", report)
    assert re.search(r"Master daemon messages\n-+\n +1 +daemon started\n", report)
