"""The server machine: SMTP (RFC 5321), submission (RFC 6409) and LMTP (RFC 2033), without IO.

Whoever drives it does this until `next_event` gives None, then writes what came out, and waits for more bytes:

    machine.receive(bytes from the socket)
    event = machine.next_event()
    bytes for the socket = machine.reply(judgement on the event)     # for Ask events
                         = event.reply.encode()                     # for Answered: the machine knew the answer

The machine keeps the session's state and the transaction's form; it knows no policy, no time and no recipient. An
event of class Ask is open until `reply` (or `challenge`) is called; meanwhile `next_event` gives None, so a slow judgement holds
up its own session only.

Bounds: a command line has at most LINE_LIMIT bytes, a login line AUTH_LINE_LIMIT; content is never kept here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gatepost.mail.reply import Reply
from gatepost.protocols.smtp import commands
from gatepost.protocols.smtp.content import ChunkReader, ContentLimits, DataReader
from gatepost.protocols.smtp.lines import LineBuffer, LineFault
from gatepost.protocols.smtp.states import BEFORE_TLS, NOT_MAIL, TABLE, State

LINE_LIMIT = 2048  # Postfix line_length_limit; RFC 5321 §4.5.3.1.4 asks for 512 and its extensions for more
AUTH_LINE_LIMIT = 12288  # RFC 4954 §4

NOT_AUTHENTICATED = Reply(530, "5.7.0", "Authentication required")
_TLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
_OUT_OF_STEP = Reply(554, "5.5.0", "Improper use of SMTP command pipelining")
_BARE = Reply(500, "5.5.2", "A command ends in a bare CR or LF; lines end in CR LF")
_LINE_TOO_LONG = Reply(500, "5.5.2", "Command line too long")
_LOGIN_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")  # RFC 4954 §4
_LOGIN_ABORTED = Reply(501, "5.7.0", "Authentication aborted")
_NOT_UTF8 = Reply(500, "5.5.2", "Command is not valid UTF-8")
_UNKNOWN = Reply(500, "5.5.2", "Command not recognized")
_NO_MAIL_CLIENT = Reply(221, "2.7.0", "This is a mail server; good-bye")
_SAY_LHLO = Reply(500, "5.5.1", "This is LMTP: send LHLO")  # RFC 2033 §4.1
_SAY_EHLO = Reply(500, "5.5.1", "This is SMTP: send EHLO")
_TLS_ACTIVE = Reply(554, "5.5.1", "TLS is already active")
_NO_TLS = Reply(502, "5.5.1", "TLS is not offered")
_NO_AUTH = Reply(503, "5.5.1", "Authentication not enabled")
_AUTHENTICATED = Reply(503, "5.5.1", "Already authenticated")
_UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication mechanism")  # RFC 4954 §4
_NO_VRFY = Reply(502, "5.5.1", "VRFY command is disabled")
_TOO_BIG = Reply(552, "5.3.4", "Message size exceeds fixed limit")
_BYE = Reply(221, "2.0.0", "Bye")
_OK = Reply(250, "2.0.0", "Ok")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the listener is: facts the machine needs and never changes. `tls` and `auth` say what is offered at all."""

    hostname: str
    limits: ContentLimits
    lmtp: bool = False
    tls: bool = False
    tls_required: bool = False
    mechanisms: tuple[str, ...] = ()
    auth_without_tls: bool = False
    auth_required: bool = False
    helo_required: bool = True
    vrfy: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """A command that needed no judgement: `reply` is the answer, and all that is left to do is to send it."""

    verb: str
    reply: Reply
    closes: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the message, ready to be kept. Needs no answer."""

    piece: bytes


@dataclass(frozen=True, slots=True)
class ContentEnd:
    """The message is complete, or refused by the machine because of `fault`. Asks for a reply: for LMTP one per recipient."""

    verb: str
    size: int
    fault: Reply | None


@dataclass(frozen=True, slots=True)
class LoginResponse:
    """A line of the login exchange, base64 as it came. Asks for a challenge or a reply."""

    text: bytes


Ask: TypeAlias = (
    commands.Helo
    | commands.Mail
    | commands.Rcpt
    | commands.Data
    | commands.Auth
    | commands.StartTls
    | commands.Vrfy
    | ContentEnd
    | LoginResponse
)
ServerEvent: TypeAlias = Ask | Answered | Content


class SmtpServer:
    """One session's machine. Its public attributes may be looked at, never set."""

    __slots__ = (
        "_chunk_is_last",
        "_chunks",
        "_data",
        "_lines",
        "_login",
        "_open",
        "_ready",
        "_skip",
        "authenticated",
        "extended",
        "rules",
        "state",
        "tls_active",
        "verb",
    )

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = State.GREETED
        self.tls_active = False
        self.authenticated = False
        self.extended = False  # EHLO or LHLO, not HELO
        self.verb = "CONNECT"  # the last verb, for "lost connection after …"
        self._lines = LineBuffer()
        self._ready: ServerEvent | None = None  # follows the piece of content just given
        self._open: Ask | None = None
        self._login = False
        self._data: DataReader | None = None
        self._chunks: ChunkReader | None = None  # lives as long as the BDATs of one message
        self._chunk_is_last = False
        self._skip = 0  # bytes of a refused chunk still to be thrown away

    # -- bytes in --

    def receive(self, received: bytes) -> None:
        """Bytes from the socket, any number."""
        if self.state is not State.CLOSED:
            self._lines.append(received)

    @property
    def buffered(self) -> int:
        """Bytes received and not yet looked at."""
        return self._lines.unread

    @property
    def reading_content(self) -> bool:
        """Whether a message is on its way, so that the time limit for content holds."""
        return self._data is not None or (self._chunks is not None and self._chunks.missing > 0)

    # -- events out --

    def next_event(self) -> ServerEvent | None:
        """The next thing that happened; None until more bytes, or an answer to the open question, have come."""
        if self._open is not None:
            return None
        event = self._ready
        if event is not None:
            self._ready = None
        elif self.state is State.CLOSED:
            return None
        else:
            event = self._read()
        if event is not None and not isinstance(event, (Answered, Content)):
            self._open = event
        return event

    def _read(self) -> ServerEvent | None:
        if self._skip:
            self._skip -= len(self._lines.take(self._skip))
        if not self._lines.unread:
            return None
        if self._data is not None:
            return self._read_data(self._data)
        if self._chunks is not None and self._chunks.missing:
            return self._read_chunk(self._chunks)
        limit = AUTH_LINE_LIMIT if self._login else LINE_LIMIT
        line = self._lines.next_line(limit, lenient=self.rules.limits.normalize)
        if line is None:
            return None
        if isinstance(line, LineFault):
            return self._line_fault(line)
        return self._login_line(line) if self._login else self._command(line)

    def _line_fault(self, fault: LineFault) -> ServerEvent:
        if fault is LineFault.BARE_NEWLINE:
            return self._close(self.verb, _BARE)
        if self._login:
            self._login = False
            return Answered("AUTH", _LOGIN_LINE_TOO_LONG)
        return Answered("UNKNOWN", _LINE_TOO_LONG)

    def _login_line(self, line: bytes) -> ServerEvent:
        if line == b"*":  # RFC 4954 §4: the client gives up
            self._login = False
            return Answered("AUTH", _LOGIN_ABORTED)
        return LoginResponse(line)

    # -- commands: is it one, may it come now, has it the right form --

    def _command(self, line: bytes) -> ServerEvent | None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            return Answered("UNKNOWN", _NOT_UTF8)
        verb, _, argument = text.partition(" ")
        verb = verb.upper()
        row = TABLE.get(verb)
        if row is None:
            if verb in NOT_MAIL or (verb.endswith(":") and len(verb) > 1):
                return self._close("UNKNOWN", _NO_MAIL_CLIENT)
            return Answered("UNKNOWN", _UNKNOWN)
        self.verb = verb
        if row.ends_group and self._lines.unread and verb not in ("STARTTLS", "QUIT"):
            # RFC 2920 §3.1. Bytes behind DATA, EHLO or AUTH were sent without waiting: by a spammer in a hurry, or to be
            # taken for something else than they are. (Behind STARTTLS they are thrown away.)
            return self._close(verb, _OUT_OF_STEP)
        refusal = self._listener_refuses(verb) or row.refusal(self._state_for_commands())
        try:
            command = commands.parse_command(verb, argument)
        except commands.BadCommand as bad:
            return Answered(verb, refusal or bad.reply)
        if refusal is None:
            return self._dispatch(verb, command)
        if isinstance(command, commands.Bdat):
            self._skip = command.size  # RFC 3030 §2: the bytes come no matter what we say, and are no commands
        return Answered(verb, refusal)

    def _state_for_commands(self) -> State:
        """Without helo_required, a session that said nothing is as ready as one that did."""
        silent = self.state is State.GREETED and not self.rules.helo_required and not self.rules.lmtp
        return State.READY if silent else self.state

    def _listener_refuses(self, verb: str) -> Reply | None:
        """What the facts about the listener and the session's TLS and login forbid."""
        rules = self.rules
        if verb in ("HELO", "EHLO", "LHLO"):
            if rules.lmtp != (verb == "LHLO"):
                return _SAY_LHLO if rules.lmtp else _SAY_EHLO
            return None
        if verb == "STARTTLS":
            return _TLS_ACTIVE if self.tls_active else None if rules.tls else _NO_TLS
        if rules.tls_required and not self.tls_active and verb not in BEFORE_TLS:
            return _TLS_FIRST
        if verb == "AUTH":
            return _AUTHENTICATED if self.authenticated else None if self.offered_mechanisms() else _NO_AUTH
        if verb == "MAIL" and rules.auth_required and not self.authenticated:
            return NOT_AUTHENTICATED  # RFC 4954 §6, RFC 6409 §4.3
        return _NO_VRFY if verb == "VRFY" and not rules.vrfy else None

    def _dispatch(self, verb: str, command: commands.Command) -> ServerEvent | None:
        match command:
            case commands.Rset():
                self._end_transaction()
                return Answered(verb, _OK)
            case commands.Noop():
                return Answered(verb, _OK)
            case commands.Help():
                return Answered(verb, Reply(214, "2.0.0", "Commands: " + " ".join(self.verbs())))
            case commands.Quit():
                return self._close(verb, _BYE)
            case commands.Auth() if command.mechanism not in self.offered_mechanisms():
                return Answered(verb, _UNKNOWN_MECHANISM)
            case commands.Mail() if command.parameters.size > self.rules.limits.size:
                return Answered(verb, _TOO_BIG)  # RFC 1870 §6.1
            case commands.Bdat():
                return self._begin_chunk(command)
            case commands.StartTls():
                self._lines.clear()  # CVE-2011-0411: what came before the handshake is not the client's word
                return command
            case _:
                return command

    def _close(self, verb: str, reply: Reply) -> Answered:
        self.state = State.CLOSED
        self._lines.clear()
        return Answered(verb, reply, closes=True)

    # -- content --

    def _read_data(self, data: DataReader) -> ServerEvent | None:
        piece, rest = data.feed(self._lines.take_all())
        if not data.is_complete:
            return Content(piece) if piece else None
        self._lines.put_back(rest)
        self._data = None
        return self._after(piece, ContentEnd("DATA", data.size, data.fault))

    def _begin_chunk(self, bdat: commands.Bdat) -> ServerEvent | None:
        if self._chunks is None:
            self._chunks = ChunkReader(self.rules.limits)
        self.state = State.BDAT
        self._chunk_is_last = bdat.last
        self._chunks.begin(bdat.size)
        return self._end_chunk(b"", self._chunks) if bdat.size == 0 else self._read()

    def _read_chunk(self, chunks: ChunkReader) -> ServerEvent | None:
        piece = chunks.feed(self._lines.take(chunks.missing))
        if chunks.missing:
            return Content(piece) if piece else None
        return self._end_chunk(piece, chunks)

    def _end_chunk(self, piece: bytes, chunks: ChunkReader) -> ServerEvent:
        if self._chunk_is_last:
            piece += chunks.finish()
            self._chunks = None
            return self._after(piece, ContentEnd("BDAT", chunks.size, chunks.fault))
        if chunks.fault is not None:
            self._end_transaction()
            return Answered("BDAT", chunks.fault)
        return self._after(piece, Answered("BDAT", Reply(250, "2.0.0", f"Ok, {chunks.size} bytes so far")))

    def _after(self, piece: bytes, event: ServerEvent) -> ServerEvent:
        """The piece first, where there is one; the event at the next call."""
        if not piece:
            return event
        self._ready = event
        return Content(piece)

    # -- answers --

    def greeting(self) -> bytes:
        """What the server says first (RFC 5321 §4.2: no enhanced status here)."""
        return Reply(220, "", f"{self.rules.hostname} {'LMTP' if self.rules.lmtp else 'ESMTP'} Gatepost").encode()

    def reply(self, reply: Reply) -> bytes:
        """The answer to the open question; moves the state if it is positive."""
        question, self._open = self._open, None
        if question is None:
            raise RuntimeError("there is no open question to answer")
        if isinstance(question, ContentEnd):
            self._end_transaction()
        elif isinstance(question, (commands.Auth, LoginResponse)):
            self._login = False
            self.authenticated = reply.is_positive
        elif reply.is_positive:
            reply = self._accept(question, reply)
        return reply.encode()

    def reply_each(self, replies: list[Reply]) -> bytes:
        """The answers to ContentEnd in LMTP: one per accepted recipient, in order (RFC 2033 §4.2)."""
        assert isinstance(self._open, ContentEnd) and self.rules.lmtp
        self._open = None
        self._end_transaction()
        return b"".join(reply.encode() for reply in replies)

    def challenge(self, text: bytes) -> bytes:
        """Goes on with a login: `text` is base64 already. The next line is a LoginResponse."""
        assert isinstance(self._open, (commands.Auth, LoginResponse))
        self._open = None
        self._login = True
        return b"334 %s\r\n" % text

    def _accept(self, question: Ask, reply: Reply) -> Reply:
        match question:
            case commands.Helo():
                self._end_transaction()  # RFC 5321 §4.1.4
                self.state = State.READY
                self.extended = question.extended
                if question.extended:
                    return Reply(reply.code, "", "\n".join([reply.text, *self.extensions()]))
                return Reply(reply.code, "", reply.text)
            case commands.Mail():
                self.state = State.MAIL
            case commands.Rcpt():
                self.state = State.RCPT
            case commands.Data():
                self._data = DataReader(self.rules.limits)
        return reply

    def tls_started(self) -> None:
        """The handshake is done: everything known from before is forgotten (RFC 3207 §4.2)."""
        self.tls_active = True
        self.authenticated = False
        self.extended = False
        self._end_transaction()
        self.state = State.GREETED
        self._lines.clear()

    def close(self) -> None:
        """The session is over; whatever arrives is thrown away."""
        self.state = State.CLOSED
        self._lines.clear()
        self._open = self._ready = None

    def _end_transaction(self) -> None:
        if self.state in (State.MAIL, State.RCPT, State.BDAT):
            self.state = State.READY
        self._chunks = None

    # -- what is offered --

    def offered_mechanisms(self) -> tuple[str, ...]:
        """SASL mechanisms a client may use now. None before TLS unless the listener says so."""
        return self.rules.mechanisms if self.tls_active or self.rules.auth_without_tls else ()

    def extensions(self) -> list[str]:
        """The lines of the EHLO reply after the first, in Postfix's order."""
        rules = self.rules
        mechanisms = self.offered_mechanisms()
        lines = ["PIPELINING", f"SIZE {rules.limits.size}"]
        lines += ["VRFY"] * rules.vrfy + ["STARTTLS"] * (rules.tls and not self.tls_active)
        lines += [f"AUTH {' '.join(mechanisms)}"] if mechanisms and not self.authenticated else []
        return [*lines, "ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"]

    def verbs(self) -> list[str]:
        """What HELP names: every verb this listener serves now."""
        return [verb for verb in TABLE if self._listener_refuses(verb) in (None, NOT_AUTHENTICATED)]
