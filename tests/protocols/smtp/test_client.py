"""The client machine by C:/S: scripts, each played whole and byte by byte."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.address import Address, parse_address
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.protocols.smtp.client import ClientMachine, DotStuffer
from gatepost.protocols.smtp.client_events import (
    ContentWanted,
    Event,
    Farewell,
    Greeted,
    Introduced,
    Refused,
    ShuttingDown,
    Stage,
    TlsAccepted,
    Transaction,
    TransactionEnded,
)
from gatepost.protocols.smtp.content import ContentLimits, DataReader
from gatepost.protocols.smtp.replies import ProtocolError

SENDER = parse_address("alice@src.test")
U1, U2 = (Recipient(parse_address(f"u{n}@dest.test")) for n in (1, 2))
BODY = b"Subject: x\r\n\r\n.hidden\r\n"


def transaction(*recipients: Recipient, **envelope: object) -> Transaction:
    return Transaction(Envelope(SENDER, **envelope), recipients or (U1,), len(BODY))  # type: ignore[arg-type]


class Talk:
    """A machine with a driver that does the next sensible thing. `ahead`: begin the next right behind the content."""

    def __init__(self, *transactions: Transaction, ahead: bool = False, tls: bool = False) -> None:
        self.machine = ClientMachine("me.test")
        self.todo = list(transactions)
        self.ahead = ahead
        self.tls = tls
        self.events: list[Event] = []
        self.said = b""

    def hear(self, received: bytes) -> None:
        for event in self.machine.receive(received):
            self.events.append(event)
            self.said += self.machine.take_output()
            self.act(event)
        self.said += self.machine.take_output()

    def act(self, event: Event) -> None:
        match event:
            case Greeted():
                self.machine.hello()
            case Introduced() if self.tls:
                self.tls = False
                self.machine.start_tls()
            case TlsAccepted():
                self.machine.hello()
            case Introduced() | TransactionEnded() if self.machine.stage is Stage.IDLE:
                if self.todo:
                    self.machine.begin(self.todo.pop(0))
                elif not self.machine.is_over:
                    self.machine.quit()
            case ContentWanted():
                self.said += self.machine.content(BODY) + self.machine.end_content()
                if self.ahead and self.todo:
                    self.machine.begin(self.todo.pop(0))


def play(script: str, make: Callable[[], Talk], *, byte_by_byte: bool) -> Talk:
    talk = make()
    for number, line in enumerate(textwrap.dedent(script).strip("\n").splitlines(), 1):
        if line.startswith("S: "):
            reply = line[3:].encode() + b"\r\n"
            for piece in [reply[at : at + 1] for at in range(len(reply))] if byte_by_byte else [reply]:
                talk.hear(piece)
        else:
            said, _, talk.said = talk.said.partition(b"\r\n")
            assert said.decode() == line[3:], f"line {number} wants {line[3:]!r}; the machine said {said!r}"
    assert talk.said == b""
    return talk


EHLO = """\
S: 220 mx.test ESMTP
C: EHLO me.test
"""

SCRIPTS: dict[str, tuple[str, Callable[[], Talk]]] = {
    "pipelined": (
        EHLO
        + """\
S: 250-mx.test
S: 250-PIPELINING
S: 250 SIZE 10000
C: MAIL FROM:<alice@src.test> SIZE=23
C: RCPT TO:<u1@dest.test>
C: RCPT TO:<u2@dest.test>
C: DATA
S: 250 2.1.0 Ok
S: 250 2.1.5 Ok
S: 550 5.1.1 no such user
S: 354 go on
C: Subject: x
C:
C: ..hidden
C: .
S: 250 2.0.0 queued
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1, U2)),
    ),
    "one by one": (
        EHLO
        + """\
S: 250 mx.test
C: MAIL FROM:<alice@src.test>
S: 250 Ok
C: RCPT TO:<u1@dest.test>
S: 450 4.2.0 later
C: RCPT TO:<u2@dest.test>
S: 250 Ok
C: DATA
S: 354 go on
C: Subject: x
C:
C: ..hidden
C: .
S: 250 queued
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1, U2)),
    ),
    "HELO where EHLO is unknown": (
        EHLO
        + """\
S: 500 what?
C: HELO me.test
S: 250 mx.test
C: MAIL FROM:<alice@src.test>
S: 550 5.7.1 not you
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1, ret="FULL", envid="x")),
    ),
    "the next group right behind the content": (
        EHLO
        + """\
S: 250-mx.test
S: 250 PIPELINING
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u1@dest.test>
C: DATA
S: 250 Ok
S: 250 Ok
S: 354 go on
C: Subject: x
C:
C: ..hidden
C: .
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u2@dest.test>
C: DATA
S: 250 first queued
S: 250 Ok
S: 250 Ok
S: 354 go on
C: Subject: x
C:
C: ..hidden
C: .
S: 250 second queued
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1), transaction(U2), ahead=True),
    ),
    "nobody accepted but DATA is: a lone dot": (
        EHLO
        + """\
S: 250-mx.test
S: 250 PIPELINING
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u1@dest.test>
C: DATA
S: 250 Ok
S: 550 5.1.1 no
S: 354 go on
C: .
S: 554 5.5.1 no valid recipients
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u2@dest.test>
C: DATA
S: 250 Ok
S: 250 Ok
S: 451 4.3.0 later
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1), transaction(U2)),
    ),
    "RSET where a transaction was left open, pipelined": (
        EHLO
        + """\
S: 250-mx.test
S: 250 PIPELINING
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u1@dest.test>
C: DATA
S: 250 Ok
S: 550 5.1.1 no
S: 554 5.5.1 no valid recipients
C: RSET
C: MAIL FROM:<alice@src.test>
C: RCPT TO:<u2@dest.test>
C: DATA
S: 250 reset
S: 450 4.1.1 later
S: 503 5.5.1 MAIL first
S: 503 5.5.1 MAIL first
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1), transaction(U2)),
    ),
    "RSET one by one": (
        EHLO
        + """\
S: 250 mx.test
C: MAIL FROM:<alice@src.test>
S: 250 Ok
C: RCPT TO:<u1@dest.test>
S: 550 no
C: RSET
S: 250 Ok
C: MAIL FROM:<alice@src.test>
S: 250 Ok
C: RCPT TO:<u2@dest.test>
S: 550 no
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1), transaction(U2)),
    ),
    "STARTTLS, and what was learned before is void": (
        EHLO
        + """\
S: 250-mx.test
S: 250-PIPELINING
S: 250 STARTTLS
C: STARTTLS
S: 220 go on
C: EHLO me.test
S: 250 mx.test
C: MAIL FROM:<alice@src.test>
S: 250 Ok
C: RCPT TO:<u1@dest.test>
S: 550 no
C: QUIT
S: 221 bye
""",
        lambda: Talk(transaction(U1), tls=True),
    ),
    "all that DSN, SMTPUTF8 and 8BITMIME have": (
        EHLO
        + """\
S: 250-mx.test
S: 250-8BITMIME
S: 250-SMTPUTF8
S: 250-SIZE
S: 250 DSN
C: MAIL FROM:<alice@src.test> SIZE=23 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+20b+2Bc
S: 250 Ok
C: RCPT TO:<bjørn@dest.test> NOTIFY=DELAY,FAILURE ORCPT=rfc822;bob+2Bx@dest.test
S: 250 Ok
C: RCPT TO:<"two words"@dest.test> ORCPT=utf-8;bj\\x{F8}rn\\x{2B}@dest.test
S: 550 no
C: DATA
S: 554 no
C: QUIT
S: 221 bye
""",
        lambda: Talk(
            Transaction(
                Envelope(SENDER, eight_bit=True, smtputf8=True, ret="HDRS", envid="a b+c"),
                (
                    Recipient(
                        parse_address("bjørn@dest.test"), frozenset(("FAILURE", "DELAY")), "rfc822;bob+x@dest.test"
                    ),
                    Recipient(parse_address('"two words"@dest.test'), orcpt="utf-8;bjørn+@dest.test"),
                ),
                len(BODY),
                smtputf8=True,
            )
        ),
    ),
    "nothing that is not offered": (
        EHLO
        + """\
S: 250 mx.test
C: MAIL FROM:<>
S: 250 Ok
C: RCPT TO:<u1@dest.test>
S: 550 no
C: QUIT
S: 221 bye
""",
        lambda: Talk(
            Transaction(
                Envelope(None, eight_bit=True, ret="FULL", envid="x"),
                (Recipient(U1.address, frozenset(("NEVER",)), "rfc822;u@dest.test"),),
                len(BODY),
            )
        ),
    ),
}


@pytest.mark.parametrize("byte_by_byte", [False, True])
@pytest.mark.parametrize("name", SCRIPTS)
def test_conversation(name: str, byte_by_byte: bool) -> None:
    talk = play(*SCRIPTS[name], byte_by_byte=byte_by_byte)
    assert talk.machine.is_over
    assert isinstance(talk.events[-1], Farewell)


def test_replies_are_kept_with_their_transaction() -> None:
    talk = play(*SCRIPTS["pipelined"], byte_by_byte=False)
    ended = next(event.transaction for event in talk.events if isinstance(event, TransactionEnded))
    assert ended.mail is not None and ended.data is not None and ended.end is not None
    assert [reply.code for reply in ended.rcpt] == [250, 550]
    assert (ended.mail.code, ended.data.code, str(ended.end)) == (250, 354, "250 2.0.0 queued")
    assert ended.content_complete


def test_lone_dot_is_no_content() -> None:
    talk = play(*SCRIPTS["nobody accepted but DATA is: a lone dot"], byte_by_byte=False)
    first = next(event.transaction for event in talk.events if isinstance(event, TransactionEnded))
    assert not first.content_complete
    assert not any(isinstance(event, ContentWanted) for event in talk.events)


def test_bytes_behind_the_reply_to_starttls_are_dropped() -> None:
    talk = Talk(transaction(), tls=True)
    talk.hear(b"220 mx\r\n")
    talk.hear(b"250-mx\r\n250 STARTTLS\r\n")
    talk.hear(b"220 go on\r\n250-injected\r\n250 PIPELINING\r\n250-unfinished")
    assert isinstance(talk.events[-1], TlsAccepted)
    assert talk.machine.stage is Stage.EHLO  # still waiting for the reply to the EHLO inside TLS
    talk.hear(b"250 mx\r\n")
    assert not talk.machine.capabilities.pipelining


@pytest.mark.parametrize(
    ("heard", "stage"),
    [
        (b"554 5.7.1 go away\r\n", Stage.GREETING),
        (b"220 mx\r\n|450 later\r\n", Stage.EHLO),
        (b"220 mx\r\n|502 no\r\n|501 bad name\r\n", Stage.HELO),
        (b"220 mx\r\n|250-mx\r\n250 STARTTLS\r\n|454 4.7.0 not now\r\n", Stage.STARTTLS),
    ],
)
def test_refused(heard: bytes, stage: Stage) -> None:
    talk = Talk(tls=True)
    for piece in heard.split(b"|"):
        talk.hear(piece)
    assert isinstance(talk.events[-1], Refused)
    assert talk.events[-1].stage is stage


READY = [b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n"]


@pytest.mark.parametrize(
    ("pieces", "stage"),
    [
        ([b"421 busy\r\n"], Stage.GREETING),
        ([*READY, b"421 closing\r\n"], Stage.MAIL),
        ([*READY, b"250 ok\r\n421 closing\r\n"], Stage.RCPT),
        ([*READY, b"250 ok\r\n250 ok\r\n354 go\r\n", b"421 closing\r\n"], Stage.END),
    ],
)
def test_421_ends_it_at_any_time(pieces: list[bytes], stage: Stage) -> None:
    talk = Talk(transaction())
    for piece in pieces:
        talk.hear(piece)
    assert isinstance(talk.events[-1], ShuttingDown)
    assert talk.events[-1].stage is stage
    assert talk.machine.is_over


@pytest.mark.parametrize(
    "pieces",
    [
        [b"250 not a greeting\r\n"],
        [b"220 mx\r\n250 unasked\r\n", b"250 mx\r\n"],
        [b"220 mx\r\n", b"354 what\r\n"],
        [*READY, b"354 early\r\n"],
        [*READY, b"250 ok\r\n354 early\r\n"],
        [*READY, b"250 ok\r\n250 ok\r\n250 no intermediate\r\n"],
        [*READY, b"250 ok\r\n250 ok\r\n354 go\r\n", b"354 again\r\n"],
        [*READY, b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 queued\r\n250 twice\r\n", b"250 thrice\r\n"],
    ],
)
def test_replies_that_cannot_be_meant(pieces: list[bytes]) -> None:
    talk = Talk(transaction())
    with pytest.raises(ProtocolError):
        for piece in pieces:
            talk.hear(piece)


def test_positive_reply_before_the_end_of_content_is_not_believed() -> None:
    machine = ClientMachine("me.test")
    for piece, act in ((b"220 mx\r\n", machine.hello), (b"250 PIPELINING\r\n", lambda: machine.begin(transaction()))):
        list(machine.receive(piece))
        act()
    for piece in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        list(machine.receive(piece))
    machine.content(BODY)
    with pytest.raises(ProtocolError):
        list(machine.receive(b"250 queued\r\n"))


def test_refusal_before_the_end_of_content_ends_the_connection() -> None:
    machine = ClientMachine("me.test")
    tried = transaction()
    for piece, act in ((b"220 mx\r\n", machine.hello), (b"250 PIPELINING\r\n", lambda: machine.begin(tried))):
        list(machine.receive(piece))
        act()
    for piece in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"):
        list(machine.receive(piece))
    machine.content(BODY)
    assert [type(event) for event in machine.receive(b"552 5.3.4 too big\r\n")] == [TransactionEnded]
    assert machine.is_over
    assert tried.end is not None and tried.end.code == 552


def test_capabilities() -> None:
    talk = Talk()
    talk.hear(b"220 mx\r\n")
    talk.hear(
        b"250-mx greets\r\n250-size 1000\r\n250-AUTH plain LOGIN\r\n250-AUTH=CRAM-MD5\r\n250-CHUNKING\r\n250-X-NEW 1 2\r\n"
        b"250-\r\n250 ENHANCEDSTATUSCODES\r\n"
    )
    offered = talk.machine.capabilities
    assert offered.size and offered.size_limit == 1000
    assert offered.auth == {"PLAIN", "LOGIN", "CRAM-MD5"}
    assert offered.chunking and offered.enhanced_status_codes and offered.extended
    assert not (offered.pipelining or offered.dsn or offered.starttls or offered.eight_bit or offered.smtputf8)


def test_the_first_line_of_the_ehlo_reply_offers_nothing() -> None:
    talk = Talk()
    talk.hear(b"220 mx\r\n")
    talk.hear(b"250-DSN\r\n250 SIZE 99999999999999999999999999\r\n")
    assert not talk.machine.capabilities.dsn
    assert talk.machine.capabilities.size_limit == 0


def test_no_address_can_bring_a_command_of_its_own() -> None:
    machine = ClientMachine("me.test")
    list(machine.receive(b"220 mx\r\n"))
    with pytest.raises(ValueError, match="control character"):
        machine.begin(transaction(Recipient(Address("x>\r\nRCPT TO:<victim", "dest.test"))))
        for reply in (b"250 mx\r\n", b"250 ok\r\n"):
            list(machine.receive(reply))


@pytest.mark.parametrize(
    ("content", "wire"),
    [
        (b"", b".\r\n"),
        (b"a\r\n", b"a\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n..c\r\n", b"a\r\n..b\r\n...c\r\n.\r\n"),
        (b"a.\r\nb\r\n", b"a.\r\nb\r\n.\r\n"),
    ],
)
def test_dot_stuffing(content: bytes, wire: bytes) -> None:
    stuffer = DotStuffer()
    assert stuffer.feed(content) + stuffer.finish() == wire
    stuffer = DotStuffer()
    pieces = [stuffer.feed(content[at : at + 1]) for at in range(len(content))]
    assert b"".join(pieces) + stuffer.finish() == wire


@given(
    st.lists(st.sampled_from([b".", b"\r\n", b"a", b"..", b"b.c"]), max_size=30).map(b"".join),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_stuffed_content_is_read_back_whatever_the_pieces(content: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(content), *(min(cut, len(content)) for cut in cuts)})
    stuffer = DotStuffer()
    pieces = [stuffer.feed(content[a:b]) for a, b in pairwise(places)]
    wire = b"".join(pieces) + stuffer.finish()
    read, rest = DataReader(ContentLimits(1000, 1000)).feed(wire + b"MAIL")
    assert read == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")
    assert rest == b"MAIL"
