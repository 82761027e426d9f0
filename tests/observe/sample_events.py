"""Events for tests: one known event of each kind, and hypothesis strategies for hostile ones."""

from __future__ import annotations

from typing import get_args

from hypothesis import strategies as st

from gatepost.mail.outcome import Deferred, Delivered, Failed
from gatepost.mail.peer import Peer, TlsFacts
from gatepost.mail.reply import Reply
from gatepost.observe.events import (
    ClientConnected,
    ClientDisconnected,
    CommandRejected,
    Event,
    LoginFailed,
    MessageExpired,
    MessageReceived,
    MessageRemoved,
    Notice,
    RecipientAttempted,
    ReportSent,
    SessionBroken,
    TlsEstablished,
)

EVENT_KINDS: tuple[type, ...] = get_args(Event)
QUEUE_ID = "4dK2Bz1f9Xc0"
REPORT_ID = "4dK2Bz1f9Xc1"
PEER = Peer("192.0.2.17", 33123, "mail.sender.test")
STRANGER = Peer("2001:db8::17", 33123)

CONNECTED = ClientConnected("smtpd", PEER)
DISCONNECTED = ClientDisconnected("smtpd", PEER, {"EHLO": (1, 1), "MAIL": (1, 1), "RCPT": (0, 1), "QUIT": (1, 1)})
TLS = TlsEstablished("smtpd", PEER, TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, "mx.example.test"))
BROKEN = SessionBroken("smtpd", STRANGER, "lost connection", "RCPT")
LOGIN_FAILED = LoginFailed("submission/smtpd", PEER, "PLAIN", "bob@example.test", "wrong password")
REJECTED = CommandRejected(
    service="smtpd",
    peer=PEER,
    stage="RCPT",
    reply=Reply(554, "5.7.1", "<x@y.test>: Relay access denied"),
    sender="a@sender.test",
    recipient="x@y.test",
    helo="mail.sender.test",
    protocol="ESMTP",
    restriction="reject_unauth_destination",
)
RECEIVED = MessageReceived("smtpd", QUEUE_ID, PEER, "<1.2@sender.test>", "a@sender.test", 4213, 2)
SENT = RecipientAttempted(
    QUEUE_ID,
    "smtp",
    "bob@far.test",
    "bob@example.test",
    Delivered("mx.far.test[192.0.2.9]:25", "250 2.0.0 Ok: queued as 7"),
    0.104,
    (0.011, 0.001, 0.052, 0.04),
)
EXPIRED = MessageExpired(QUEUE_ID, "a@sender.test")
REPORTED = ReportSent(QUEUE_ID, REPORT_ID, "failed")
REMOVED = MessageRemoved(QUEUE_ID)
NOTICE = Notice("master", "note", "daemon started")

ONE_OF_EACH: tuple[Event, ...] = (
    CONNECTED, DISCONNECTED, TLS, BROKEN, LOGIN_FAILED, REJECTED,
    RECEIVED, SENT, EXPIRED, REPORTED, REMOVED, NOTICE,
)  # fmt: skip

_hostile = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from("\r\n\t\x00\x1b\x7f\x85\u2028\u2029\u202e\ud800<>()[],; =:a@.\xe9"), max_size=40),
    st.just("x" * 6000),
    st.sampled_from(["", "<>", "a>, relay=none, status=sent (", "h[192.0.2.1]: SASL PLAIN authentication failed:"]),
)
_peers = st.builds(Peer, _hostile, st.integers(0, 65535), _hostile)
_replies = st.builds(Reply, st.integers(200, 599), st.sampled_from(["", "5.7.1"]), _hostile)
_outcomes = st.one_of(
    st.builds(Delivered, _hostile, _hostile, _hostile),
    st.builds(Deferred, _hostile, _hostile, _hostile, st.booleans(), st.booleans()),
    st.builds(Failed, _hostile, _hostile, _hostile, st.booleans()),
)
_seconds = st.floats(-1, 1e7)
_counts = st.tuples(st.integers(0, 9), st.integers(0, 9))

hostile_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(ClientConnected, _hostile, _peers),
    st.builds(ClientDisconnected, _hostile, _peers, st.dictionaries(_hostile, _counts, max_size=5)),
    st.builds(
        TlsEstablished, _hostile, _peers, st.builds(TlsFacts, _hostile, _hostile, st.integers(0, 512), _hostile)
    ),
    st.builds(SessionBroken, _hostile, _peers, _hostile, _hostile),
    st.builds(LoginFailed, _hostile, _peers, _hostile, _hostile, _hostile),
    st.builds(
        CommandRejected,
        _hostile, _peers, _hostile, _replies, _hostile, _hostile, _hostile, _hostile, _hostile, _hostile, _hostile,
    ),
    st.builds(
        MessageReceived,
        _hostile, _hostile, st.none() | _peers, _hostile, _hostile,
        st.integers(0, 10**10), st.integers(1, 1000), _hostile, _hostile,
    ),
    st.builds(
        RecipientAttempted,
        _hostile, st.sampled_from(["maildir", "smtp"]), _hostile, _hostile, _outcomes,
        _seconds, st.tuples(_seconds, _seconds, _seconds, _seconds),
    ),
    st.builds(MessageExpired, _hostile, _hostile),
    st.builds(ReportSent, _hostile, _hostile, st.sampled_from(["failed", "delayed", "delivered"])),
    st.builds(MessageRemoved, _hostile),
    st.builds(Notice, _hostile, st.sampled_from(["note", "warning", "error"]), _hostile),
)  # fmt: skip
