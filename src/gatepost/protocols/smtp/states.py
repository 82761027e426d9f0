"""State × command: the protocol on one page. Which verb is legal when, what is said when it is not, and whether other
commands may follow it in one go. HELP, the tests and the fuzz dictionary are made from this table; nothing repeats it.

    GREETED   nothing said yet; a new session, or after STARTTLS
    READY     HELO, EHLO or LHLO was accepted
    MAIL      a transaction has a sender
    RCPT      it has at least one recipient
    BDAT      its content comes in chunks
    CLOSED    QUIT, or told to go away

Content and the lines of a login are no commands: while they last, the table is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gatepost.mail.reply import Reply


class State(Enum):
    """Where a session stands."""

    __hash__ = object.__hash__  # there is one of each; Enum's own is slower, and this is asked with every command

    GREETED = "greeted"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    BDAT = "bdat"
    CLOSED = "closed"


_ANY = frozenset(State) - {State.CLOSED}
_HELLO_FIRST = Reply(503, "5.5.1", "Send HELO or EHLO first")
_NO_MAIL = Reply(503, "5.5.1", "Need MAIL first")
_NESTED = Reply(503, "5.5.1", "Nested MAIL command")
_IN_TRANSACTION = Reply(503, "5.5.1", "Not during a mail transaction")
_NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")
_IN_BDAT = Reply(503, "5.5.1", "Send BDAT, RSET or QUIT")


@dataclass(frozen=True, slots=True)
class Row:
    """One verb. `refusals` are for the states where it is not legal; `ends_group`: the client must wait for its reply
    before it sends anything else (RFC 2920 §3.1)."""

    usage: str
    legal: frozenset[State]
    refusals: Mapping[State, Reply]
    ends_group: bool = False

    def refusal(self, state: State) -> Reply | None:
        """What is said to it in this state; None where it is legal."""
        return None if state in self.legal else self.refusals[state]


_HELLO = Row("hostname", _ANY, {}, ends_group=True)

TABLE: Mapping[str, Row] = {
    "HELO": _HELLO,
    "EHLO": _HELLO,
    "LHLO": _HELLO,
    "MAIL": Row(
        "FROM:<address> [parameters]",
        frozenset({State.READY}),
        {State.GREETED: _HELLO_FIRST, State.MAIL: _NESTED, State.RCPT: _NESTED, State.BDAT: _NESTED},
    ),
    "RCPT": Row(
        "TO:<address> [parameters]",
        frozenset({State.MAIL, State.RCPT}),
        {State.GREETED: _HELLO_FIRST, State.READY: _NO_MAIL, State.BDAT: _IN_BDAT},
    ),
    "DATA": Row(
        "",
        frozenset({State.RCPT}),
        {State.GREETED: _HELLO_FIRST, State.READY: _NO_MAIL, State.MAIL: _NO_RECIPIENTS, State.BDAT: _IN_BDAT},
        ends_group=True,
    ),
    "BDAT": Row(
        "size [LAST]",
        frozenset({State.RCPT, State.BDAT}),
        {State.GREETED: _HELLO_FIRST, State.READY: _NO_MAIL, State.MAIL: _NO_RECIPIENTS},
    ),
    "AUTH": Row(
        "mechanism [initial-response]",
        frozenset({State.READY}),
        {
            State.GREETED: _HELLO_FIRST,
            State.MAIL: _IN_TRANSACTION,  # RFC 4954 §4
            State.RCPT: _IN_TRANSACTION,
            State.BDAT: _IN_TRANSACTION,
        },
        ends_group=True,
    ),
    "STARTTLS": Row("", _ANY - {State.BDAT}, {State.BDAT: _IN_TRANSACTION}, ends_group=True),
    "RSET": Row("", _ANY, {}),
    "NOOP": Row("[text]", _ANY, {}, ends_group=True),
    "VRFY": Row("address", _ANY, {}, ends_group=True),
    "HELP": Row("", _ANY, {}, ends_group=True),
    "QUIT": Row("", _ANY, {}, ends_group=True),
}

BEFORE_TLS = frozenset({"HELO", "EHLO", "LHLO", "STARTTLS", "NOOP", "QUIT", "HELP", "RSET"})
"""What is served where the listener demands TLS and there is none yet (RFC 3207 §4)."""

JUNK = frozenset({"RSET", "NOOP", "VRFY", "HELP", "HELO", "EHLO", "LHLO"})
"""Verbs that bring no mail; too many of them count as errors (Postfix smtpd_junk_command_limit)."""

NOT_MAIL = frozenset({"GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "PATCH", "DELETE", "USER", "CAPABILITY"})
"""Words of other protocols: who says them is no mail client, and is shown the door (Postfix smtpd_forbidden_commands)."""
