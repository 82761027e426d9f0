"""Lines as Postfix 3.7 writes them: golden lines for every event, what fail2ban reads, and forgery."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.mail.peer import Peer
from gatepost.mail.reply import Reply
from gatepost.observe.events import CommandRejected, Event, MessageReceived
from gatepost.observe.postfix_lines import MAX_BRACKETED, MAX_TEXT, PostfixLines
from observe.sample_events import (
    BROKEN,
    CONNECTED,
    DISCONNECTED,
    EVENT_KINDS,
    EXPIRED,
    LOGIN_FAILED,
    NOTICE,
    ONE_OF_EACH,
    PEER,
    QUEUE_ID,
    RECEIVED,
    REJECTED,
    REMOVED,
    REPORT_ID,
    REPORTED,
    SENT,
    STRANGER,
    TLS,
    hostile_events,
)

NOON = 1_795_176_000.0  # 2026-11-20 12:00:00 UTC
STAMP = "Nov 20 12:00:00 host"
NAME = "mail.sender.test[192.0.2.17]"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def lines(event: Event, now: float = NOON) -> list[str]:
    """The event's lines, without the time and host, which must stand before each."""
    text = PostfixLines("host", "postfix", 77)(now, event)
    assert text.endswith("\n")
    found = text[:-1].split("\n")
    assert all(line.startswith(f"{STAMP} postfix/") for line in found)
    return [line.removeprefix(f"{STAMP} postfix/") for line in found]


GOLDEN: list[tuple[Event, list[str]]] = [
    (CONNECTED, [f"smtpd[77]: connect from {NAME}"]),
    (replace(CONNECTED, peer=STRANGER), ["smtpd[77]: connect from unknown[2001:db8::17]"]),
    (replace(CONNECTED, peer=Peer("", 0), service="lmtpd"), ["smtpd[77]: connect from unknown[local]"]),
    (replace(CONNECTED, service="submission/smtpd"), [f"submission/smtpd[77]: connect from {NAME}"]),
    (replace(CONNECTED, service="submissions/smtpd"), [f"smtps/smtpd[77]: connect from {NAME}"]),
    (DISCONNECTED, [f"smtpd[77]: disconnect from {NAME} ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4"]),
    (replace(DISCONNECTED, commands={"QUIT": (1, 1)}), [f"smtpd[77]: disconnect from {NAME} quit=1 commands=1"]),
    (replace(DISCONNECTED, commands={}), [f"smtpd[77]: disconnect from {NAME} commands=0"]),
    (
        TLS,
        [
            f"smtpd[77]: Anonymous TLS connection established from {NAME}: "
            "TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)"
        ],
    ),
    (BROKEN, ["smtpd[77]: lost connection after RCPT from unknown[2001:db8::17]"]),
    (
        replace(BROKEN, what="timeout", after="DATA (17 bytes)"),
        ["smtpd[77]: timeout after DATA (17 bytes) from unknown[2001:db8::17]"],
    ),
    (
        LOGIN_FAILED,
        [
            f"submission/smtpd[77]: warning: {NAME}: SASL PLAIN authentication failed: wrong password, "
            "sasl_username=bob@example.test"
        ],
    ),
    (
        replace(LOGIN_FAILED, login="", reason=""),
        [
            f"submission/smtpd[77]: warning: {NAME}: SASL PLAIN authentication failed: (reason unavailable), "
            "sasl_username=(unavailable)"
        ],
    ),
    (
        REJECTED,
        [
            f"smtpd[77]: NOQUEUE: reject: RCPT from {NAME}: 554 5.7.1 <x@y.test>: Relay access denied; "
            "from=<a@sender.test> to=<x@y.test> proto=ESMTP helo=<mail.sender.test>"
        ],
    ),
    (
        replace(REJECTED, stage="END-OF-MESSAGE", queue_id=QUEUE_ID, sender="", recipient="", login="u@example.test"),
        [
            f"smtpd[77]: {QUEUE_ID}: reject: END-OF-MESSAGE from {NAME}: 554 5.7.1 <x@y.test>: Relay access denied; "
            "from=<> proto=ESMTP helo=<mail.sender.test> sasl_username=<u@example.test>"
        ],
    ),
    (
        replace(REJECTED, stage="EHLO", sender="", recipient="", reply=Reply(501, "", "Syntax: EHLO\nhostname")),
        [
            f"smtpd[77]: NOQUEUE: reject: EHLO from {NAME}: 501 Syntax: EHLO hostname; proto=ESMTP helo=<mail.sender.test>"
        ],
    ),
    (
        RECEIVED,
        [
            f"smtpd[77]: {QUEUE_ID}: client={NAME}",
            f"cleanup[77]: {QUEUE_ID}: message-id=<1.2@sender.test>",
            f"qmgr[77]: {QUEUE_ID}: from=<a@sender.test>, size=4213, nrcpt=2 (queue active)",
        ],
    ),
    (
        replace(
            RECEIVED, service="submission/smtpd", login="a@sender.test", mechanism="PLAIN", message_id="no-brackets"
        ),
        [
            f"submission/smtpd[77]: {QUEUE_ID}: client={NAME}, sasl_method=PLAIN, sasl_username=a@sender.test",
            f"cleanup[77]: {QUEUE_ID}: message-id=<no-brackets>",
            f"qmgr[77]: {QUEUE_ID}: from=<a@sender.test>, size=4213, nrcpt=2 (queue active)",
        ],
    ),
    (
        MessageReceived("bounce", REPORT_ID, None, "", "", 2900, 1),
        [
            f"cleanup[77]: {REPORT_ID}: message-id=<>",
            f"qmgr[77]: {REPORT_ID}: from=<>, size=2900, nrcpt=1 (queue active)",
        ],
    ),
    (
        SENT,
        [
            f"smtp[77]: {QUEUE_ID}: to=<bob@far.test>, orig_to=<bob@example.test>, relay=mx.far.test[192.0.2.9]:25, "
            "delay=0.1, delays=0.01/0/0.05/0.04, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 7)"
        ],
    ),
    (
        replace(SENT, transport="maildir", original="BOB@far.test", outcome=Delivered("maildir", "")),
        [
            f"virtual[77]: {QUEUE_ID}: to=<bob@far.test>, relay=virtual, delay=0.1, delays=0.01/0/0.05/0.04, "
            "dsn=2.0.0, status=sent (delivered to maildir)"
        ],
    ),
    (
        replace(
            SENT, original="bob@far.test", outcome=Deferred("none", "connect to mx[192.0.2.9]:25: refused", "4.4.1")
        ),
        [
            f"smtp[77]: {QUEUE_ID}: to=<bob@far.test>, relay=none, delay=0.1, delays=0.01/0/0.05/0.04, "
            "dsn=4.4.1, status=deferred (connect to mx[192.0.2.9]:25: refused)"
        ],
    ),
    (
        replace(
            SENT,
            original="",
            outcome=Failed("mx[192.0.2.9]:25", "550 5.1.1 <bob@far.test>:\nno such user", "5.1.1", remote_reply=True),
        ),
        [
            f"smtp[77]: {QUEUE_ID}: to=<bob@far.test>, relay=mx[192.0.2.9]:25, delay=0.1, delays=0.01/0/0.05/0.04, "
            "dsn=5.1.1, status=bounced (host mx[192.0.2.9] said: 550 5.1.1 <bob@far.test>: no such user)"
        ],
    ),
    (EXPIRED, [f"qmgr[77]: {QUEUE_ID}: from=<a@sender.test>, status=expired, returned to sender"]),
    (REPORTED, [f"bounce[77]: {QUEUE_ID}: sender non-delivery notification: {REPORT_ID}"]),
    (replace(REPORTED, action="delayed"), [f"bounce[77]: {QUEUE_ID}: sender delay notification: {REPORT_ID}"]),
    (
        replace(REPORTED, action="delivered"),
        [f"bounce[77]: {QUEUE_ID}: sender delivery status notification: {REPORT_ID}"],
    ),
    (REMOVED, [f"qmgr[77]: {QUEUE_ID}: removed"]),
    (NOTICE, ["master[77]: daemon started"]),
    (replace(NOTICE, room="tls", severity="warning", text="a.crt expires"), ["tls[77]: warning: a.crt expires"]),
    (replace(NOTICE, severity="error", text="worker 2 died"), ["master[77]: error: worker 2 died"]),
]


@pytest.mark.parametrize(("event", "expected"), GOLDEN)
def test_golden(event: Event, expected: list[str]) -> None:
    assert lines(event) == expected


def test_every_event_has_a_golden_line() -> None:
    assert {type(event) for event, _ in GOLDEN} == set(EVENT_KINDS)
    assert [type(event) for event in ONE_OF_EACH] == list(EVENT_KINDS)


def test_the_second_turns_and_days_are_padded() -> None:
    render = PostfixLines("mx.example.test", "gate", 5)
    assert render(NOON, REMOVED).startswith("Nov 20 12:00:00 mx.example.test gate/qmgr[5]: ")
    assert render(NOON + 0.999, REMOVED).startswith("Nov 20 12:00:00 ")
    assert render(NOON + 1, REMOVED).startswith("Nov 20 12:00:01 ")
    assert render(NOON - 1, REMOVED).startswith("Nov 20 11:59:59 ")  # a clock set back
    assert render(NOON + 15 * 86400, REMOVED).startswith("Dec  5 12:00:00 ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.5, "0"), (0, "0"), (0.004, "0"), (0.006, "0.01"), (0.03, "0.03"), (0.1, "0.1"), (0.125001, "0.13"),
        (0.994, "0.99"), (0.996, "1"), (1.04, "1"), (1.06, "1.1"), (9.94, "9.9"), (9.96, "10"), (12.4, "12"),
        (12.6, "13"), (99.4, "99"), (3661.4, "3661"),
    ],
)  # fmt: skip
def test_delays_have_two_digits_that_count(seconds: float, text: str) -> None:
    found = re.search(
        r"delay=([^,]+), delays=([^/]+)/", lines(replace(SENT, delay=seconds, delays=(seconds, 0, 0, 0)))[0]
    )
    assert found is not None
    assert found.groups() == (text, text)


@given(st.floats(0, 1e6))
def test_delays_are_near_the_truth(seconds: float) -> None:
    found = re.search(r"delay=([0-9.]+),", PostfixLines("h", "postfix", 1)(NOON, replace(SENT, delay=seconds)))
    assert found is not None
    finest = 0.01 if seconds < 1 else 0.1 if seconds < 10 else 1
    assert abs(float(found[1]) - seconds) <= finest / 2 + 1e-6


# fail2ban's filter wants, after the daemon, "warning: …[HOST]: SASL … authentication failed:" and
# "NOQUEUE: reject: WORD from …[HOST]: CODE STATUS <…>: reason".
FAIL2BAN_DAEMON = re.compile(r"postfix(-\w+)?/\w+(?:/smtp[ds])?\[\d+\]: (.+)$")
FAIL2BAN_LOGIN = re.compile(r"warning: [^[]*\[(?P<host>[0-9a-f:.]+)\]: SASL (?:LOGIN|PLAIN) authentication failed:")
FAIL2BAN_REJECT = re.compile(
    r"\w+: reject: [A-Z]{4} from [^[]*\[(?P<host>[0-9a-f:.]+)\]: [45][50][04] [45]\.\d\.\d+ (?:<[^>]*>: )?"
    r"(?:Recipient address rejected: )?(?:Relay access denied|User unknown)\b"
)


def banned(event: Event, pattern: re.Pattern[str]) -> str | None:
    found = FAIL2BAN_DAEMON.match(PostfixLines("host", "postfix", 77)(NOON, event).rstrip("\n").split(" ", 4)[4])
    assert found is not None
    host = pattern.match(found[2])
    return host and host["host"]


def test_fail2ban_finds_the_client() -> None:
    assert banned(LOGIN_FAILED, FAIL2BAN_LOGIN) == "192.0.2.17"
    assert banned(replace(LOGIN_FAILED, peer=STRANGER), FAIL2BAN_LOGIN) == "2001:db8::17"
    for service in ("smtpd", "submission/smtpd", "submissions/smtpd", "lmtpd"):
        assert banned(replace(REJECTED, service=service), FAIL2BAN_REJECT) == "192.0.2.17"
    unknown = Reply(550, "5.1.1", "<x@y.test>: Recipient address rejected: User unknown in virtual mailbox table")
    assert banned(replace(REJECTED, reply=unknown), FAIL2BAN_REJECT) == "192.0.2.17"


@pytest.mark.parametrize(
    "name", ["a[203.0.113.5]: SASL PLAIN authentication failed: x", "a[203.0.113.5]", "203.0.113.5]:"]
)
def test_a_forged_host_name_gets_nobody_else_banned(name: str) -> None:
    peer = replace(PEER, name=name)
    assert banned(replace(LOGIN_FAILED, peer=peer), FAIL2BAN_LOGIN) == "192.0.2.17"
    assert banned(replace(REJECTED, peer=peer), FAIL2BAN_REJECT) == "192.0.2.17"


def test_an_address_cannot_forge_the_fields_after_it() -> None:
    crafted = '"a>, relay=none, delay=1, status=sent (x"@far.test'
    (line,) = lines(replace(SENT, recipient=crafted, original="b<\n>c@x.test", outcome=Failed("none", "no", "5.1.1")))
    assert 'to=<"a?, relay=none, delay=1, status=sent (x"@far.test>, orig_to=<b? ?c@x.test>, relay=none,' in line
    found = re.search(r"to=<([^>]*)>, (?:orig_to=<[^>]*>, )?relay=([^,]+),.*status=(\S+) \(([^)]*)\)$", line)
    assert found is not None
    assert found[3] == "bounced"


def test_a_quoted_address_in_a_reply_is_cleaned_too() -> None:
    crafted = '"a>: ok; from=<victim@v.test> to=<w@w.test>"@y.test'
    event = CommandRejected(
        "smtpd", PEER, "RCPT", Reply(550, "5.1.1", f"<{crafted}>: no"), "real@s.test", crafted, "h", "SMTP"
    )
    found = re.search(r"from=<([^>]+)>", lines(event)[0])
    assert found is not None
    assert found[1].startswith("real@s.test")


def test_lengths_are_bounded() -> None:
    long = "y" * 10_000
    event = replace(
        REJECTED, sender=long, recipient=long, helo=long, reply=Reply(550, "", long), peer=replace(PEER, name=long)
    )
    (line,) = lines(event)
    assert len(line) < 3 * (MAX_BRACKETED + 20) + MAX_TEXT + 400
    assert f"from=<{'y' * (MAX_BRACKETED - 3)}...>" in line


@given(hostile_events)
def test_whatever_is_in_an_event_its_lines_are_whole(event: Event) -> None:
    text = PostfixLines("host", "postfix", 77)(NOON, event)
    text.encode()
    found = text.split("\n")
    assert found.pop() == ""
    assert len(found) == (1 if not isinstance(event, MessageReceived) else 2 if event.peer is None else 3)
    for line in found:
        assert line.isprintable()
        assert re.match(r"Nov 20 12:00:00 host postfix/[^ ]*\[77\]: .", line) or line.endswith("[77]: ")
        assert len(line) < 8000


@given(st.text(max_size=60))
def test_nothing_in_a_bracket_ends_it(text: str) -> None:
    first = PostfixLines("h", "postfix", 1)(NOON, replace(RECEIVED, sender=text, message_id=f"<{text}>"))
    assert re.search(r"\]: \w+: message-id=<[^<>]*>\n", first)
    assert re.search(r"\]: \w+: from=<[^<>]*>, size=4213, nrcpt=2 \(queue active\)\n$", first)


def test_the_hostname_and_syslog_name_are_one_word() -> None:
    assert PostfixLines("my host\n", "post fix", 1)(NOON, REMOVED).startswith(
        "Nov 20 12:00:00 my?host? post?fix/qmgr[1]: "
    )


def test_programs_are_postfix_programs() -> None:
    """Where Postfix is installed, every program the log names is one of its own."""
    programs = Path("/usr/lib/postfix/sbin")
    if not programs.is_dir():
        pytest.skip("Postfix is not installed: /usr/lib/postfix/sbin is missing")
    named = {line.split("[")[0].rpartition("/")[2] for event in ONE_OF_EACH for line in lines(event)}
    assert named <= {path.name for path in programs.iterdir()}
