"""Conversations: a protocol machine tested by a script of C: and S: lines, which reads as the RFCs' own examples do.

    C: EHLO client.test          sent to the machine, CRLF added
    S: 250-mail.test             expected; `...` at the end stands for any rest of the line
    C> raw bytes\\r\\n            sent as they are, escapes decoded
    # remark

A mismatch blames the line of the script. The machine is driven by a `Judge`: what policy would say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from gatepost.mail.reply import Reply
from gatepost.protocols.smtp import commands
from gatepost.protocols.smtp.content import ContentLimits
from gatepost.protocols.smtp.server import Answered, Ask, Content, ContentEnd, LoginResponse, Rules, SmtpServer

LIMITS = ContentLimits(size=100_000, line_length=2_000)


def accept_all(question: Ask) -> Reply | None:
    """A judge that says yes to everything; None where the machine is to be told of a challenge or of TLS."""
    match question:
        case commands.Helo():
            return Reply(250, "", "mail.test")
        case commands.Mail():
            return Reply(250, "2.1.0", "Ok")
        case commands.Rcpt():
            return Reply(250, "2.1.5", "Ok")
        case commands.Data():
            return Reply(354, "", "End data with <CR><LF>.<CR><LF>")
        case commands.StartTls():
            return Reply(220, "2.0.0", "Ready to start TLS")
        case commands.Vrfy():
            return Reply(252, "2.0.0", "Send some mail")
        case ContentEnd():
            return question.fault or Reply(250, "2.0.0", "Ok: queued")
        case commands.Auth() | LoginResponse():
            return Reply(235, "2.7.0", "Authentication successful")


class Conversation:
    """A machine, what it said, and what it took in."""

    def __init__(self, rules: Rules | None = None, judge: Callable[[Ask], Reply | None] = accept_all) -> None:
        self.machine = SmtpServer(rules or Rules(hostname="mail.test", limits=LIMITS))
        self.judge = judge
        self.said = b""
        self.contents: list[bytes] = []
        self.questions: list[Ask] = []
        self.closed = False
        self._content = b""

    def send(self, received: bytes) -> None:
        """Feed the machine and answer everything it asks."""
        self.machine.receive(received)
        while (event := self.machine.next_event()) is not None:
            match event:
                case Answered():
                    self.said += event.reply.encode()
                    self.closed = self.closed or event.closes
                case Content():
                    self._content += event.piece
                case _:
                    self._answer(event)

    def _answer(self, question: Ask) -> None:
        self.questions.append(question)
        if isinstance(question, ContentEnd):
            if question.fault is None:
                self.contents.append(self._content)
            self._content = b""
        reply = self.judge(question)
        assert reply is not None
        if isinstance(question, ContentEnd) and self.machine.rules.lmtp:
            self.said += self.machine.reply_each([reply])
            return
        self.said += self.machine.reply(reply)
        if isinstance(question, commands.StartTls) and reply.is_positive:
            self.machine.tls_started()


def play(script: str, conversation: Conversation | None = None) -> Conversation:
    """Run a script; an AssertionError names the line that did not come true."""
    talk = conversation or Conversation()
    for number, line in enumerate(textwrap.dedent(script).strip("\n").splitlines(), 1):
        mark, text = line[:3], line[3:]
        if mark == "C: ":
            talk.send(text.encode() + b"\r\n")
        elif mark == "C> ":
            talk.send(text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
        elif mark == "S: ":
            _expect(talk, number, text)
        else:
            assert not line.strip() or line.startswith("#"), f"line {number} is no line of a script: {line}"
    assert talk.said == b"", f"said, and the script does not know of it: {talk.said!r}"
    return talk


def _expect(talk: Conversation, number: int, text: str) -> None:
    said, found, talk.said = talk.said.partition(b"\r\n")
    assert found, f"line {number} wants {text!r}; the machine was silent"
    heard = said.decode()
    matches = heard.startswith(text[:-3]) if text.endswith("...") else heard == text
    assert matches, f"line {number} wants {text!r}; the machine said {heard!r}"
