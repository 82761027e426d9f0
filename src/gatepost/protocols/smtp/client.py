"""The client machine of SMTP: bytes in, events out. It opens no socket and reads no clock.

Whoever drives it hands what arrives to `receive`, and writes what `take_output` gives before more is received. The course:

  Greeted -> `hello()` -> Introduced [-> `start_tls()` -> TlsAccepted -> handshake -> `hello()` -> Introduced]
          -> `begin(transaction)` -> ContentWanted -> `content(piece)`…, `end_content()` -> TransactionEnded
          -> `begin(transaction)` … -> `quit()` -> Farewell

Where PIPELINING is offered, MAIL, RCPT and DATA go out as one group (RFC 2920 §3.1), and the group of the next transaction may
follow the end of content before its reply is in. Elsewhere each command waits for the reply to the one before.
RSET goes out by itself where a transaction was left open. If DATA is accepted although no recipient was (RFC 2920 §3.1 warns
of it), a lone dot ends it.

Extensions are used only where they are offered: SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461).
Without 8BITMIME a message with 8-bit text is sent as it is: converting it would break its signatures.

A 421 is the end at any time (RFC 5321 §3.8): ShuttingDown. Anything that is no reply, or no reply that can be meant here,
raises ProtocolError; events before it were given. One machine serves one connection.

LMTP differs in two places only, LHLO for EHLO and one final reply for each accepted recipient; `hello` and `_final` are the
places.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

from gatepost.mail.address import Address
from gatepost.mail.envelope import Envelope, Recipient
from gatepost.mail.reply import Reply
from gatepost.protocols.smtp.client_events import (
    Capabilities,
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
    parse_capabilities,
)
from gatepost.protocols.smtp.parameters import encode_xtext
from gatepost.protocols.smtp.replies import ProtocolError, ReplyParser

_Answered: TypeAlias = Callable[[Reply, Transaction], Event | None]

_NONE = Transaction(Envelope(None), (), 0)  # stands where a reply belongs to no transaction; never written to


class ClientMachine:
    """One connection, seen from the client. `our_name` is what EHLO tells."""

    def __init__(self, our_name: str) -> None:
        self._our_name = our_name
        self._parser = ReplyParser()
        self._output: list[bytes] = []
        self._awaited: deque[tuple[Stage, Transaction]] = deque([(Stage.GREETING, _NONE)])
        self._stuffer = DotStuffer()
        self._open_transaction = False  # RSET has to come before the next MAIL
        self.capabilities = Capabilities()
        self.is_over = False  # nothing more can be sent
        self.replies = 0  # how many came, so that a driver can tell progress from dribble
        self._answered: dict[Stage, _Answered] = {
            Stage.GREETING: self._greeting,
            Stage.EHLO: self._ehlo,
            Stage.HELO: self._helo,
            Stage.STARTTLS: self._starttls,
            Stage.RSET: self._rset,
            Stage.MAIL: self._mail,
            Stage.RCPT: self._rcpt,
            Stage.DATA: self._data,
            Stage.CONTENT: self._early,
            Stage.END: self._end,
            Stage.QUIT: self._quit,
        }

    # What the driver does

    @property
    def stage(self) -> Stage:
        """What the peer owes an answer to first; IDLE where it owes none."""
        return self._awaited[0][0] if self._awaited else Stage.IDLE

    def receive(self, received: bytes) -> Iterator[Event]:
        """What the bytes mean, event by event; act on each before taking the next. Raises ProtocolError."""
        owed = len(self._awaited)  # what is asked while these bytes are read was not yet heard by the peer
        for reply in self._parser.feed(received):
            self.replies += 1
            owed -= 1
            if owed < 0 and reply.code != 421:
                raise ProtocolError(f"reply to nothing: {reply.code}")
            stage, transaction = self._awaited.popleft() if self._awaited else (Stage.IDLE, _NONE)
            if reply.code == 421 and stage is not Stage.QUIT:  # RFC 5321 §3.8
                self.is_over = True
                yield ShuttingDown(stage, reply)
                return
            event = self._answered[stage](reply, transaction)
            if event is not None:
                yield event
            if self.is_over or stage is Stage.STARTTLS:
                # Bytes behind the reply to STARTTLS were not protected: dropped (RFC 3207 §4.2, CVE-2011-0411).
                self._parser.clear()
                return

    def take_output(self) -> bytes:
        """Bytes to write now."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def hello(self) -> None:
        """Introduce ourselves: after the greeting, and again once TLS stands (RFC 3207 §4.2)."""
        self.capabilities = Capabilities()
        self._ask(b"EHLO %s\r\n" % self._our_name.encode(), Stage.EHLO)

    def start_tls(self) -> None:
        """Ask for TLS."""
        self._ask(b"STARTTLS\r\n", Stage.STARTTLS)

    def begin(self, transaction: Transaction) -> None:
        """Start a transaction: when nothing is awaited, or (pipelined) right after `end_content`."""
        if not self.capabilities.pipelining:
            if self._open_transaction:
                self._open_transaction = False
                self._ask(b"RSET\r\n", Stage.RSET, transaction)
            else:
                self._ask(self._mail_line(transaction), Stage.MAIL, transaction)
            return
        awaited = self._awaited
        if self._open_transaction:
            self._open_transaction = False
            self._ask(b"RSET\r\n", Stage.RSET)
        self._output.append(self._mail_line(transaction))
        awaited.append((Stage.MAIL, transaction))
        for recipient in transaction.recipients:
            self._output.append(self._rcpt_line(transaction, recipient))
            awaited.append((Stage.RCPT, transaction))
        self._output.append(b"DATA\r\n")
        awaited.append((Stage.DATA, transaction))

    def content(self, piece: bytes) -> bytes:
        """A piece of content as it crosses the wire, to be written after `take_output`."""
        return self._stuffer.feed(piece)

    def end_content(self) -> bytes:
        """What ends the content, to be written after its last piece."""
        _, transaction = self._awaited.popleft()
        self._awaited.append((Stage.END, transaction))
        transaction.content_complete = True
        return self._stuffer.finish()

    def quit(self) -> None:
        """Say goodbye; when nothing is awaited."""
        self._ask(b"QUIT\r\n", Stage.QUIT)

    # What an answer leads to

    def _greeting(self, reply: Reply, _: Transaction) -> Event | None:
        if reply.code == 220:
            return Greeted()
        return self._refused(Stage.GREETING, reply)

    def _ehlo(self, reply: Reply, _: Transaction) -> Event | None:
        if reply.code == 250:
            self.capabilities = parse_capabilities(reply)
            return Introduced(self.capabilities)
        if reply.is_permanent:  # RFC 5321 §3.2: a server that does not know EHLO
            self._ask(b"HELO %s\r\n" % self._our_name.encode(), Stage.HELO)
            return None
        return self._refused(Stage.EHLO, reply)

    def _helo(self, reply: Reply, _: Transaction) -> Event | None:
        return Introduced(self.capabilities) if reply.code == 250 else self._refused(Stage.HELO, reply)

    def _starttls(self, reply: Reply, _: Transaction) -> Event | None:
        return TlsAccepted() if reply.code == 220 else self._refused(Stage.STARTTLS, reply)

    def _refused(self, stage: Stage, reply: Reply) -> Refused:
        _must(reply.code >= 400, stage, reply)
        return Refused(stage, reply)

    def _rset(self, reply: Reply, transaction: Transaction) -> Event | None:
        _must(reply.code < 300, Stage.RSET, reply)
        if transaction is not _NONE:
            self._ask(self._mail_line(transaction), Stage.MAIL, transaction)
        return None

    def _mail(self, reply: Reply, transaction: Transaction) -> Event | None:
        _must(not 300 <= reply.code < 400, Stage.MAIL, reply)
        transaction.mail = reply
        if self.capabilities.pipelining:
            return None
        if reply.code >= 400:
            return TransactionEnded(transaction)
        self._ask(self._rcpt_line(transaction, transaction.recipients[0]), Stage.RCPT, transaction)
        return None

    def _rcpt(self, reply: Reply, transaction: Transaction) -> Event | None:
        _must(not 300 <= reply.code < 400, Stage.RCPT, reply)
        transaction.rcpt.append(reply)
        if self.capabilities.pipelining:
            return None
        if len(transaction.rcpt) < len(transaction.recipients):
            recipient = transaction.recipients[len(transaction.rcpt)]
            self._ask(self._rcpt_line(transaction, recipient), Stage.RCPT, transaction)
            return None
        if transaction.has_accepted_recipient:
            self._ask(b"DATA\r\n", Stage.DATA, transaction)
            return None
        self._open_transaction = True
        return TransactionEnded(transaction)

    def _data(self, reply: Reply, transaction: Transaction) -> Event | None:
        _must(reply.code >= 300, Stage.DATA, reply)
        transaction.data = reply
        if reply.code >= 400:
            self._open_transaction = transaction.mail is not None and transaction.mail.code < 300
            return TransactionEnded(transaction)
        if transaction.has_accepted_recipient:
            self._stuffer = DotStuffer()
            self._awaited.append((Stage.CONTENT, transaction))
            return ContentWanted(transaction)
        self._ask(b".\r\n", Stage.END, transaction)
        return None

    def _early(self, reply: Reply, transaction: Transaction) -> Event | None:
        # Refused while we were still sending. Nobody can have accepted what was not sent to its end.
        _must(reply.code >= 400, Stage.CONTENT, reply)
        self.is_over = True
        return self._end(reply, transaction)

    def _end(self, reply: Reply, transaction: Transaction) -> Event | None:
        _must(not 300 <= reply.code < 400, Stage.END, reply)
        transaction.end = reply
        return TransactionEnded(transaction)

    def _quit(self, _reply: Reply, _transaction: Transaction) -> Event | None:
        self.is_over = True
        return Farewell()

    # Commands

    def _ask(self, line: bytes, stage: Stage, transaction: Transaction = _NONE) -> None:
        self._output.append(line)
        self._awaited.append((stage, transaction))

    def _mail_line(self, transaction: Transaction) -> bytes:
        envelope, offered = transaction.envelope, self.capabilities
        line = f"MAIL FROM:<{_path(envelope.sender)}>"
        if offered.size:
            line += f" SIZE={transaction.size}"  # RFC 1870 §3
        if offered.eight_bit and (envelope.eight_bit or transaction.smtputf8):
            line += " BODY=8BITMIME"
        if offered.smtputf8 and transaction.smtputf8:
            line += " SMTPUTF8"
        if offered.dsn:
            if envelope.ret:
                line += f" RET={envelope.ret}"  # RFC 3461 §4.3
            if envelope.envid:
                line += f" ENVID={encode_xtext(envelope.envid)}"  # RFC 3461 §4.4
        return line.encode() + b"\r\n"

    def _rcpt_line(self, transaction: Transaction, recipient: Recipient) -> bytes:
        line = f"RCPT TO:<{_path(recipient.address)}>"
        if self.capabilities.dsn:
            if recipient.notify:
                line += f" NOTIFY={','.join(sorted(recipient.notify))}"  # RFC 3461 §4.1
            if recipient.orcpt:
                line += f" ORCPT={_orcpt(recipient.orcpt)}"  # RFC 3461 §4.2
        return line.encode() + b"\r\n"


class DotStuffer:
    """Content with its leading dots hidden (RFC 5321 §4.5.2), piece by piece. Lines end in CRLF."""

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the last two bytes; as if a line had just ended

    def feed(self, piece: bytes) -> bytes:
        """The piece with a dot put before each dot that begins a line, whichever piece the line began in."""
        tail = self._tail
        stuffed = piece.replace(b"\r\n.", b"\r\n..")
        if tail == b"\r\n" and piece.startswith(b"."):
            stuffed = b"." + stuffed
        elif tail.endswith(b"\r") and piece.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = piece[-2:] if len(piece) > 1 else (tail + piece)[-2:]
        return stuffed

    def finish(self) -> bytes:
        """The end of data; a last line without CRLF gets one."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


_PLAIN = re.compile(r"[^\x00-\x1f\x7f]*")
_EMBEDDED = re.compile(r"\\x\{[0-9A-Fa-f]{2,6}\}|.", re.DOTALL)


def _path(address: Address | None) -> str:
    text = str(address) if address is not None else ""
    if not _PLAIN.fullmatch(text):  # parse_address lets none through; a command line shall not depend on it
        raise ValueError("control character in an address")
    return text


def _orcpt(orcpt: str) -> str:
    """`addr-type;address` encoded: xtext, or for type utf-8 the `\\x{…}` form that any server takes (RFC 6533 §3)."""
    kind, _, address = orcpt.partition(";")
    if kind != "utf-8":
        return f"{kind};{encode_xtext(address)}"
    return f"{kind};" + "".join(map(_embedded, _EMBEDDED.findall(address)))


def _embedded(character: str) -> str:
    if len(character) > 1 or ("!" <= character <= "~" and character not in "+=\\"):
        return character
    return f"\\x{{{ord(character):02X}}}"


def _must(holds: bool, stage: Stage, reply: Reply) -> None:
    if not holds:
        raise ProtocolError(f"unexpected reply {reply.code} to {stage.command}")
