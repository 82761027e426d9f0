"""Events as lines in Postfix 3.7's own log format, so that pflogsumm, fail2ban and operators' scripts go on working.

`PostfixLines` gives for one event its lines (one, or three for a received message), each ending in LF. Promises:
- a line holds no control, format or line-separating character: they become `?` (a line break within a text, a space);
- what stands between `<` and `>` holds neither of them and is at most MAX_BRACKETED characters; texts are at most
  MAX_TEXT; so no peer can break a line, or forge the fields that come before or after its own.

Where it differs from Postfix: every program has the process ID of the worker that told; `submissions` is called
`smtps` and LMTP sessions are plain `smtpd`, since pflogsumm counts mail from no other names.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from gatepost.mail.outcome import Deferred, Delivered, Outcome
from gatepost.mail.peer import Peer
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

MAX_BRACKETED = 512  # characters between "<" and ">"
MAX_TEXT = 2000  # characters of a reply or reason
MAX_TOKEN = 255  # characters of a bare word: a host name, a login

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # never localised
_PROGRAMS: Final = {"submissions/smtpd": "smtps/smtpd", "lmtpd": "smtpd"}
_TRANSPORT_PROGRAMS: Final = {"maildir": "virtual", "smtp": "smtp"}
_MAX_PROGRAMS = 64  # names come from our own code; the bound is for a mistake in it
_BEFORE_MAIL: Final = frozenset({"CONNECT", "HELO", "EHLO", "LHLO", "STARTTLS", "AUTH"})  # no sender yet
_REPORTS: Final = {
    "failed": "sender non-delivery notification",
    "delayed": "sender delay notification",
    "delivered": "sender delivery status notification",
}
_PREFIXES: Final = {"note": "", "warning": "warning: ", "error": "error: "}


class PostfixLines:
    """Renders events for one process. Times are local, as syslog's; `pid` is this process's."""

    def __init__(self, hostname: str, syslog_name: str, pid: int) -> None:
        self._host = _token(hostname or "localhost")
        self._syslog_name = _token(syslog_name or "postfix")
        self._pid = pid
        self._second = -1
        self._stamp = ""
        self._prefixes: dict[str, str] = {}
        self._lines: dict[type, Callable[[Any], str]] = {
            ClientConnected: self._client_connected,
            ClientDisconnected: self._client_disconnected,
            TlsEstablished: self._tls_established,
            SessionBroken: self._session_broken,
            LoginFailed: self._login_failed,
            CommandRejected: self._command_rejected,
            MessageReceived: self._message_received,
            RecipientAttempted: self._recipient_attempted,
            MessageExpired: self._message_expired,
            ReportSent: self._report_sent,
            MessageRemoved: self._message_removed,
            Notice: self._notice,
        }

    def __call__(self, now: float, event: Event) -> str:
        """The event's lines. `now`: seconds since 1970."""
        if int(now) != self._second:
            self._turn_to(int(now))
        return self._lines[type(event)](event)

    def _turn_to(self, second: int) -> None:
        """Prefixes are made once a second for each program: no time is formatted on the hot path."""
        local = time.localtime(second)
        self._second = second
        self._stamp = (
            f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d} {local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
        )
        self._prefixes = {}

    def _prefix(self, service: str) -> str:
        """`Nov 20 15:38:10 host postfix/smtpd[123]: `."""
        prefix = self._prefixes.get(service)
        if prefix is None:
            program = _token(_PROGRAMS.get(service, service))
            prefix = f"{self._stamp} {self._host} {self._syslog_name}/{program}[{self._pid}]: "
            if len(self._prefixes) < _MAX_PROGRAMS:
                self._prefixes[service] = prefix
        return prefix

    def _client_connected(self, event: ClientConnected) -> str:
        return f"{self._prefix(event.service)}connect from {_client(event.peer)}\n"

    def _client_disconnected(self, event: ClientDisconnected) -> str:
        counts = []
        accepted_in_all = in_all = 0
        for verb, (accepted, total) in event.commands.items():
            accepted_in_all += accepted
            in_all += total
            counts.append(f" {_token(verb.lower())}={_ratio(accepted, total)}")
        what = "".join(counts)[:MAX_TEXT]
        return (
            f"{self._prefix(event.service)}disconnect from {_client(event.peer)}{what}"
            f" commands={_ratio(accepted_in_all, in_all)}\n"
        )

    def _tls_established(self, event: TlsEstablished) -> str:
        tls = event.tls  # "Anonymous" because no client certificate was asked for
        return (
            f"{self._prefix(event.service)}Anonymous TLS connection established from {_client(event.peer)}: "
            f"{_token(tls.version)} with cipher {_token(tls.cipher)} ({tls.bits}/{tls.bits} bits)\n"
        )

    def _session_broken(self, event: SessionBroken) -> str:
        return (
            f"{self._prefix(event.service)}{_text(event.what)} after {_text(event.after)} from {_client(event.peer)}\n"
        )

    def _login_failed(self, event: LoginFailed) -> str:
        return (
            f"{self._prefix(event.service)}warning: {_client(event.peer)}: SASL {_token(event.mechanism)[:100]} "
            f"authentication failed: {_text(event.reason) or '(reason unavailable)'}, "
            f"sasl_username={_token(event.login)[:100] or '(unavailable)'}\n"
        )

    def _command_rejected(self, event: CommandRejected) -> str:
        facts = ""
        if event.sender or event.stage not in _BEFORE_MAIL:
            facts = f" from=<{_bracketed(event.sender)}>"
        if event.recipient:
            facts = f"{facts} to=<{_bracketed(event.recipient)}>"
        if event.protocol:
            facts = f"{facts} proto={_token(event.protocol)}"
        if event.helo:
            facts = f"{facts} helo=<{_bracketed(event.helo)}>"
        if event.login:
            facts = f"{facts} sasl_username=<{_bracketed(event.login)}>"
        return (
            f"{self._prefix(event.service)}{_queue_id(event.queue_id) or 'NOQUEUE'}: reject: {_token(event.stage)} "
            f"from {_client(event.peer)}: {_reply_text(event)};{facts}\n"
        )

    def _message_received(self, event: MessageReceived) -> str:
        queue_id = _queue_id(event.queue_id)
        peer = event.peer
        if peer is None:
            first = ""
        elif event.login:
            first = (
                f"{self._prefix(event.service)}{queue_id}: client={_client(peer)}, "
                f"sasl_method={_token(event.mechanism)}, sasl_username={_token(event.login)}\n"
            )
        else:
            first = f"{self._prefix(event.service)}{queue_id}: client={_client(peer)}\n"
        message_id = event.message_id
        if message_id[:1] == "<" and message_id[-1:] == ">":
            message_id = message_id[1:-1]
        return (
            f"{first}{self._prefix('cleanup')}{queue_id}: message-id=<{_bracketed(message_id)}>\n"
            f"{self._prefix('qmgr')}{queue_id}: from=<{_bracketed(event.sender)}>, size={event.size}, "
            f"nrcpt={event.recipients} (queue active)\n"
        )

    def _recipient_attempted(self, event: RecipientAttempted) -> str:
        outcome = event.outcome
        recipient = event.recipient
        before, waiting, connecting, sending = event.delays
        original = ""
        if event.original != recipient and event.original and event.original.lower() != recipient.lower():
            original = f", orig_to=<{_bracketed(event.original)}>"
        relay = "virtual" if event.transport == "maildir" else _token(outcome.relay) or "none"
        status = (
            "sent" if isinstance(outcome, Delivered) else "deferred" if isinstance(outcome, Deferred) else "bounced"
        )
        return (
            f"{self._prefix(_TRANSPORT_PROGRAMS[event.transport])}{_queue_id(event.queue_id)}: "
            f"to=<{_bracketed(recipient)}>{original}, relay={relay}, delay={_delay(event.delay)}, "
            f"delays={_delay(before)}/{_delay(waiting)}/{_delay(connecting)}/{_delay(sending)}, "
            f"dsn={_token(outcome.status)}, status={status} ({_outcome_text(event.transport, outcome)})\n"
        )

    def _message_expired(self, event: MessageExpired) -> str:
        return (
            f"{self._prefix('qmgr')}{_queue_id(event.queue_id)}: from=<{_bracketed(event.sender)}>, "
            "status=expired, returned to sender\n"
        )

    def _report_sent(self, event: ReportSent) -> str:
        return (
            f"{self._prefix('bounce')}{_queue_id(event.queue_id)}: {_REPORTS[event.action]}: "
            f"{_queue_id(event.report_id)}\n"
        )

    def _message_removed(self, event: MessageRemoved) -> str:
        return f"{self._prefix('qmgr')}{_queue_id(event.queue_id)}: removed\n"

    def _notice(self, event: Notice) -> str:
        return f"{self._prefix(event.room)}{_PREFIXES[event.severity]}{_text(event.text)}\n"


def _queue_id(text: str) -> str:
    return text if text.isalnum() and len(text) <= MAX_TOKEN else _token(text)


def _bracketed(text: str) -> str:
    """What may stand between `<` and `>`."""
    if len(text) <= MAX_BRACKETED and text.isprintable() and "<" not in text and ">" not in text:
        return text
    return _text(text, MAX_BRACKETED).replace("<", "?").replace(">", "?")


def _text(text: str, limit: int = MAX_TEXT) -> str:
    """Printable and bounded. Line breaks (a reply of several lines) become spaces, as Postfix joins them."""
    if len(text) <= limit and text.isprintable():
        return text
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    text = text.replace("\r\n", " ").replace("\n", " ")
    return "".join(character if character.isprintable() else "?" for character in text)


def _token(text: str) -> str:
    """A word that stands without brackets: nothing in it may look like the next field."""
    return _clean_token(text if len(text) <= MAX_TOKEN else text[: MAX_TOKEN - 3] + "...")


@lru_cache(maxsize=1024)
def _clean_token(text: str) -> str:
    return "".join(character if character.isprintable() and character not in " ,;<>()" else "?" for character in text)


def _client(peer: Peer) -> str:
    return _name_and_address(peer.name, peer.address)


@lru_cache(maxsize=4096)
def _name_and_address(name: str, address: str) -> str:
    """`mail.example.test[192.0.2.1]`. The name came out of somebody's DNS: it may hold no bracket either."""
    clean_name, clean_address = (_token(text).replace("[", "?").replace("]", "?") for text in (name, address))
    return str(Peer(clean_address, 0, clean_name))


def _ratio(accepted: int, total: int) -> str:
    return f"{total}" if accepted == total else f"{accepted}/{total}"


def _reply_text(event: CommandRejected) -> str:
    """The reply, with addresses it quotes cleaned as they are in their own fields."""
    text = str(event.reply)
    for quoted in (event.recipient, event.sender, event.helo):
        if "<" in quoted or ">" in quoted:
            text = text.replace(quoted, _bracketed(quoted))
    return _text(text)


def _outcome_text(transport: str, outcome: Outcome) -> str:
    text = outcome.text
    if isinstance(outcome, Delivered):
        return _text(text) if text or transport != "maildir" else "delivered to maildir"
    if outcome.remote_reply:  # as Postfix's smtp(8) tells another host's refusal
        host = outcome.relay[: outcome.relay.rfind("]") + 1] or outcome.relay
        return f"host {_token(host)} said: {_text(text)}"
    return _text(text)


_HUNDREDTHS = tuple(f"{number / 100:g}" for number in range(101))
_TENTHS = tuple(f"{number / 10:g}" for number in range(101))


def _delay(seconds: float) -> str:
    """Two significant digits and nothing finer than 0.01 s, as Postfix has it: 0, 0.03, 0.5, 1.2, 15, 3600."""
    if seconds < 1:
        return _HUNDREDTHS[int(seconds * 100 + 0.5)] if seconds > 0 else "0"
    if seconds < 10:
        return _TENTHS[int(seconds * 10 + 0.5)]
    return f"{int(seconds + 0.5)}"
