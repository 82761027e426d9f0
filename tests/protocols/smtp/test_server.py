from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversations import LIMITS, Conversation, play
from gatepost.mail.address import Address
from gatepost.mail.reply import Reply
from gatepost.protocols.smtp import commands
from gatepost.protocols.smtp.content import ContentLimits
from gatepost.protocols.smtp.server import Rules
from gatepost.protocols.smtp.states import NOT_MAIL, TABLE, State


def rules(**changes: object) -> Rules:
    return Rules(**{"hostname": "mail.test", "limits": LIMITS, **changes})  # type: ignore[arg-type]


def begin_message(talk: Conversation) -> None:
    talk.send(b"EHLO c.test\r\n")
    talk.send(b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mail.test>\r\nDATA\r\n")


def test_a_message_in_an_ordinary_session() -> None:
    talk = play(
        """
        C: EHLO client.test
        S: 250-mail.test
        S: 250-PIPELINING
        S: 250-SIZE 100000
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250-SMTPUTF8
        S: 250 CHUNKING
        C: MAIL FROM:<alice@client.test> SIZE=12 BODY=8BITMIME
        S: 250 2.1.0 Ok
        C: RCPT TO:<bob@mail.test>
        S: 250 2.1.5 Ok
        C: DATA
        S: 354 End data with <CR><LF>.<CR><LF>
        C: Subject: x
        C:
        C: ..dots
        C: .
        S: 250 2.0.0 Ok: queued
        C: QUIT
        S: 221 2.0.0 Bye
    """.replace("C:\n", "C: \n")
    )
    assert talk.contents == [b"Subject: x\r\n\r\n.dots\r\n"]
    assert talk.closed


def test_commands_in_the_wrong_order() -> None:
    play("""
        C: MAIL FROM:<a@c.test>
        S: 503 5.5.1 Send HELO or EHLO first
        C: HELO c.test
        S: 250 mail.test
        C: RCPT TO:<b@mail.test>
        S: 503 5.5.1 Need MAIL first
        C: DATA
        S: 503 5.5.1 Need MAIL first
        C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: MAIL FROM:<a@c.test>
        S: 503 5.5.1 Nested MAIL command
        C: DATA
        S: 554 5.5.1 No valid recipients
        C: AUTH PLAIN
        S: 503 5.5.1 Authentication not enabled
        C: RSET
        S: 250 2.0.0 Ok
        C: RCPT TO:<b@mail.test>
        S: 503 5.5.1 Need MAIL first
        C: VRFY bob
        S: 502 5.5.1 VRFY command is disabled
        C: LHLO c.test
        S: 500 5.5.1 This is SMTP: send EHLO
        C: HELP
        S: 214 2.0.0 Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP HELP QUIT
        C: STARTTLS
        S: 502 5.5.1 TLS is not offered
        C: EXPN list
        S: 500 5.5.2 Command not recognized
    """)


@pytest.mark.parametrize("verb", sorted(TABLE))
@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_the_table_has_an_answer_for_every_verb_in_every_state(verb: str, state: State) -> None:
    row = TABLE[verb]
    assert (state in row.legal) != (state in row.refusals)


@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("MAIL FROM:a@c.test", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("MAIL FROM: <a@c.test>", "250 2.1.0 Ok"),
        ("MAIL FROM:<@relay.test,@other.test:a@c.test>", "250 2.1.0 Ok"),
        ("MAIL FROM:<a@@c.test>", "501 5.1.7 Bad sender address: ..."),
        ("MAIL FROM:<a@c.test> SIZE=9999999", "552 5.3.4 Message size exceeds fixed limit"),
        ("MAIL FROM:<a@c.test> SIZE=x", "501 5.5.4 Bad value for parameter SIZE"),
        ("MAIL FROM:<a@c.test> SIZE=1 SIZE=1", "501 5.5.4 Parameter SIZE is given twice"),
        ("MAIL FROM:<a@c.test> HOLDFOR=1", "555 5.5.4 Unknown parameter HOLDFOR"),
        ("MAIL FROM:<a@c.test> RET=HDRS ENVID=QQ+2B1", "250 2.1.0 Ok"),
        ("MAIL FROM:<a@c.test> ENVID=+0A", "501 5.5.4 Bad value for parameter ENVID"),
        ("MAIL FROM:<a@c.test> AUTH=<>", "250 2.1.0 Ok"),
        ("MAIL FROM:<j\u00fcrgen@c.test>", "553 5.6.7 ..."),
        ("MAIL FROM:<j\u00fcrgen@c.test> SMTPUTF8", "250 2.1.0 Ok"),
        ('MAIL FROM:<"a b"@c.test>', "250 2.1.0 Ok"),
        ("MAIL FROM:<a@[192.0.2.1]>", "250 2.1.0 Ok"),
        ("MAIL FROM:<a@[IPv6:2001:db8::1]>", "250 2.1.0 Ok"),
        ("MAIL FROM:<a@[300.0.2.1]>", "501 5.1.7 ..."),
        ("MAIL", "501 5.5.4 Syntax: MAIL FROM:<address>"),
        ("NOOP anything", "250 2.0.0 Ok"),
        ("RSET now", "501 5.5.4 Syntax: RSET"),
        ("EHLO", "501 5.5.4 Syntax: EHLO hostname"),
        ("EHLO two words", "501 5.5.4 Syntax: EHLO hostname"),
    ],
)
def test_forms(line: str, reply: str) -> None:
    play(f"C: HELO c.test\nS: 250 mail.test\nC: {line}\nS: {reply}\n")


def test_recipients() -> None:
    talk = Conversation()
    play(
        """
        C: HELO c.test
        S: 250 mail.test
        C: MAIL FROM:<>
        S: 250 2.1.0 Ok
        C: RCPT TO:<Postmaster>
        S: 250 2.1.5 Ok
        C: RCPT TO:<b@m\u00fcnchen.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+40x
        S: 250 2.1.5 Ok
        C: RCPT TO:<b@mail.test> NOTIFY=NEVER,DELAY
        S: 501 5.5.4 Bad value for parameter NOTIFY
        C: RCPT TO:<nobody>
        S: 501 5.1.3 Bad recipient address: address has no domain
        """,
        talk,
    )
    asked = [question for question in talk.questions if isinstance(question, commands.Rcpt)]
    assert [question.recipient for question in asked] == [
        Address("postmaster", ""),
        Address("b", "xn--mnchen-3ya.test"),
    ]
    assert asked[1].parameters.orcpt == "rfc822;Bob@x"
    assert asked[1].parameters.notify == {"SUCCESS", "DELAY"}


def test_bare_newlines_in_commands_end_the_session() -> None:
    for line in (b"EHLO c.test\n", b"EHLO c\r.test\r\n"):
        talk = Conversation()
        talk.send(line)
        assert talk.said.startswith(b"500 5.5.2 A command ends in a bare")
        assert talk.closed


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n\x00.\r\n", b"\r.\r\n"])
def test_nothing_but_crlf_dot_crlf_ends_data(end: bytes) -> None:
    talk = Conversation()
    begin_message(talk)
    talk.said = b""
    talk.send(b"a: b\r\n\r\nfirst" + end + b"MAIL FROM:<smuggled@c.test>\r\n")
    assert talk.said == b""
    talk.send(b"\r\n.\r\n")
    assert talk.said.startswith((b"550 5.5.2 A line ends in a bare CR or LF", b"250 2.0.0 Ok: queued"))
    assert (talk.contents == []) == (talk.said[:3] == b"550")
    for content in talk.contents:
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", content) is None


def test_normalised_content_has_crlf_only_and_never_ends_early() -> None:
    limits = ContentLimits(size=100_000, line_length=2_000, normalize=True)
    talk = Conversation(rules(limits=limits))
    begin_message(talk)
    talk.said = b""
    talk.send(b"a: b\n\none\rtwo\n.\nMAIL FROM:<x@c.test>\n..three\r\n.\r\n")
    assert talk.said == b"250 2.0.0 Ok: queued\r\n"
    assert talk.contents == [b"a: b\r\n\r\none two\r\n\r\nMAIL FROM:<x@c.test>\r\n.three\r\n"]


def test_bdat() -> None:
    talk = Conversation()
    play(
        """
        C: EHLO c.test
        S: 250-mail.test
        S: 250-PIPELINING
        S: 250-SIZE 100000
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250-SMTPUTF8
        S: 250 CHUNKING
        C: BDAT 6
        S: 503 5.5.1 Need MAIL first
        # the six bytes of the refused chunk are no command
        C> QUIT\\r\\nMAIL FROM:<a@c.test>\\r\\nRCPT TO:<b@mail.test>\\r\\nBDAT 8\\r\\na: b\\r\\n.\\r
        S: 250 2.1.0 Ok
        S: 250 2.1.5 Ok
        S: 250 2.0.0 Ok, 7 bytes so far
        C: DATA
        S: 503 5.5.1 Send BDAT, RSET or QUIT
        C> BDAT 4 LAST\\r\\n\\n.\\r\\n
        S: 250 2.0.0 Ok: queued
        C> MAIL FROM:<a@c.test>\\r\\nRCPT TO:<b@mail.test>\\r\\nBDAT 0 LAST\\r\\n
        S: 250 2.1.0 Ok
        S: 250 2.1.5 Ok
        S: 250 2.0.0 Ok: queued
        C: BDAT x
        S: 503 5.5.1 Need MAIL first
        """,
        talk,
    )
    assert talk.contents == [b"a: b\r\n.\r\n.\r\n", b""]


def test_a_faulty_chunk_ends_the_transaction() -> None:
    talk = Conversation()
    talk.send(b"EHLO c.test\r\n")
    talk.send(b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mail.test>\r\n")
    talk.said = b""
    talk.send(b"BDAT 3\r\na\nbBDAT 1 LAST\r\nx")
    assert talk.said.startswith(b"550 5.5.2 A line ends in a bare CR or LF")
    assert b"503 5.5.1 Need MAIL first" in talk.said
    assert talk.contents == []


def test_size_and_line_limits_are_told_at_the_end_of_the_message() -> None:
    for content, reply in ((b"x" * 70 + b"\r\n", b"554 5.6.0"), (b"x\r\n" * 50, b"552 5.3.4")):
        talk = Conversation(rules(limits=ContentLimits(size=100, line_length=60)))
        begin_message(talk)
        talk.said = b""
        talk.send(content)
        assert talk.said == b""
        talk.send(b".\r\n")
        assert talk.said.startswith(reply)


def test_starttls_throws_away_what_came_with_it() -> None:
    talk = Conversation(rules(tls=True, tls_required=True, mechanisms=("PLAIN", "LOGIN")))
    play(
        """
        C: EHLO c.test
        S: 250-mail.test
        S: 250-PIPELINING
        S: 250-SIZE 100000
        S: 250-STARTTLS
        S: 250-ENHANCEDSTATUSCODES
        S: 250-8BITMIME
        S: 250-DSN
        S: 250-SMTPUTF8
        S: 250 CHUNKING
        C: MAIL FROM:<a@c.test>
        S: 530 5.7.0 Must issue a STARTTLS command first
        C: AUTH PLAIN AGEAYg==
        S: 530 5.7.0 Must issue a STARTTLS command first
        C> STARTTLS\\r\\nRSET\\r\\nMAIL FROM:<injected@c.test>\\r\\n
        S: 220 2.0.0 Ready to start TLS
        C: STARTTLS
        S: 554 5.5.1 TLS is already active
        C: MAIL FROM:<a@c.test>
        S: 503 5.5.1 Send HELO or EHLO first
        """,
        talk,
    )
    talk.send(b"EHLO c.test\r\n")
    assert b"250-AUTH PLAIN LOGIN\r\n" in talk.said
    assert b"STARTTLS" not in talk.said


def test_login_lines() -> None:
    talk = Conversation(rules(mechanisms=("PLAIN", "LOGIN"), auth_without_tls=True, auth_required=True))
    talk.send(b"EHLO c.test\r\n")
    talk.said = b""
    play(
        """
        C: MAIL FROM:<a@c.test>
        S: 530 5.7.0 Authentication required
        C: AUTH CRAM-MD5
        S: 504 5.5.4 Unrecognized authentication mechanism
        C: AUTH
        S: 501 5.5.4 Syntax: AUTH mechanism [initial-response]
        C: AUTH PLAIN AGEAYg==
        S: 235 2.7.0 Authentication successful
        C: AUTH PLAIN AGEAYg==
        S: 503 5.5.1 Already authenticated
        C: MAIL FROM:<a@c.test>
        S: 250 2.1.0 Ok
        """,
        talk,
    )


def test_a_login_can_be_given_up() -> None:
    talk = Conversation(rules(mechanisms=("PLAIN",), auth_without_tls=True))
    talk.send(b"EHLO c.test\r\n")
    talk.said = b""
    machine = talk.machine
    machine.receive(b"AUTH PLAIN\r\n")
    assert isinstance(machine.next_event(), commands.Auth)
    assert machine.challenge(b"") == b"334 \r\n"
    play("C: *\nS: 501 5.7.0 Authentication aborted\nC: NOOP\nS: 250 2.0.0 Ok", talk)
    assert not machine.authenticated


def test_bytes_behind_data_end_the_session() -> None:
    talk = Conversation()
    talk.send(b"EHLO c.test\r\n")
    talk.send(b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mail.test>\r\nDATA\r\nSubject: early\r\n\r\n.\r\n")
    assert talk.said.endswith(b"554 5.5.0 Improper use of SMTP command pipelining\r\n")
    assert talk.closed
    assert talk.contents == []


@pytest.mark.parametrize("word", ["GET / HTTP/1.1", "Host: x", "POST /", "CAPABILITY"])
def test_other_protocols_are_shown_the_door(word: str) -> None:
    talk = play(f"C: {word}\nS: 221 2.7.0 This is a mail server; good-bye\n")
    assert talk.closed


def test_lmtp_answers_each_recipient() -> None:
    talk = Conversation(rules(lmtp=True))
    talk.send(b"EHLO c.test\r\n")
    assert talk.said == b"500 5.5.1 This is LMTP: send LHLO\r\n"
    talk.send(b"LHLO c.test\r\n")
    talk.send(b"MAIL FROM:<a@c.test>\r\nRCPT TO:<b@mail.test>\r\nRCPT TO:<c@mail.test>\r\nDATA\r\n")
    machine = talk.machine
    machine.receive(b"x: y\r\n\r\n.\r\n")
    while machine.next_event():
        pass
    said = machine.reply_each([Reply(250, "2.0.0", "Ok"), Reply(452, "4.2.2", "Full")])
    assert said == b"250 2.0.0 Ok\r\n452 4.2.2 Full\r\n"
    assert machine.state is State.READY


def test_a_long_line_is_thrown_away_and_the_session_goes_on() -> None:
    talk = Conversation()
    for _ in range(1000):
        talk.send(b"x" * 1000)
        assert talk.machine.buffered <= 4096
    talk.send(b"\r\nHELO c.test\r\n")
    assert talk.said == b"500 5.5.2 Command line too long\r\n250 mail.test\r\n"


DICTIONARY = [verb.encode() for verb in [*TABLE, *sorted(NOT_MAIL)]] + [
    b" ", b"\r\n", b"\n", b"\r", b".", b"\r\n.\r\n", b"FROM:<a@b.test>", b"TO:<c@mail.test>", b" SIZE=5", b" 5 LAST", b" 3",
    b"\x00", b"\xff", b"=", b"PLAIN AGEAYg==", b"<>", b"x" * 3000,
]  # fmt: skip

SETUPS = [
    b"",
    b"EHLO c.test\r\n",
    b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\n",
    b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@mail.test>\r\n",
]


@given(
    st.sampled_from(SETUPS),
    st.lists(st.sampled_from(DICTIONARY) | st.binary(max_size=20), max_size=30),
    st.booleans(),
)
def test_any_bytes_in_any_state_give_replies_and_nothing_else(
    setup: bytes, pieces: list[bytes], normalize: bool
) -> None:
    limits = ContentLimits(size=5_000, line_length=500, normalize=normalize)
    received = b"".join(pieces)

    def run(*parts: bytes) -> Conversation:
        talk = Conversation(rules(limits=limits, tls=True, mechanisms=("PLAIN",), auth_without_tls=True))
        for line in setup.splitlines(keepends=True):
            talk.send(line)
        for part in parts:
            talk.send(part)
        return talk

    whole = run(received)
    assert re.fullmatch(rb"(?:[2-5][0-9]{2}[ -][^\r\n]*\r\n)*", whole.said)
    for content in whole.contents:
        assert len(content) <= limits.size
        assert re.search(rb"\r(?!\n)|(?<!\r)\n", content) is None
    # Byte by byte the same content comes out, unless being in one packet was what was wrong with it.
    single = run(*(received[at : at + 1] for at in range(len(received))))
    if b"554 5.5.0" not in whole.said and b"220 2.0.0" not in whole.said:
        assert single.said == whole.said
        assert single.contents == whole.contents
