"""A command line -> one frozen value per verb (RFC 5321 §4.1). Parsing is about form only: whether a command may come now is
`states`, whether it may happen is policy's.

A blank after `FROM:` and `TO:` is taken, as many clients send one; missing angle brackets are not. Source routes are taken off
(RFC 5321 §4.1.1.3, appendix F.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from gatepost.mail.address import Address, BadAddress, parse_address
from gatepost.mail.reply import Reply
from gatepost.protocols.smtp.parameters import (
    BadParameter,
    MailParameters,
    RcptParameters,
    parse_mail_parameters,
    parse_rcpt_parameters,
)

_PATH = re.compile(
    r' ?<((?:@[^<>,:"\s]{1,255}(?:,@[^<>,:"\s]{1,255}){0,20}:)?)((?:"(?:[^"\\]|\\.)*"|[^"<>\s])*)>(?: +(.*))?'
)
_HELO_NAME = re.compile(r'[^\x00-\x20\x7f()<>@,;\\"]{1,255}')
_MECHANISM = re.compile(r"[A-Za-z0-9_-]{1,20}")  # RFC 4422 §3.1


@dataclass(frozen=True, slots=True)
class Helo:
    """HELO, EHLO or LHLO. `extended` for the latter two."""

    name: str
    extended: bool


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL; `sender` None is the null sender."""

    sender: Address | None
    parameters: MailParameters


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT. The domain is empty only for the bare `postmaster` (RFC 5321 §4.1.1.3)."""

    recipient: Address
    parameters: RcptParameters


@dataclass(frozen=True, slots=True)
class Data:
    """DATA."""


@dataclass(frozen=True, slots=True)
class Bdat:
    """BDAT: so many bytes follow; `last` ends the message (RFC 3030 §2)."""

    size: int
    last: bool


@dataclass(frozen=True, slots=True)
class Auth:
    """AUTH; `initial` is the base64 text of the initial response, None where there is none, "=" for an empty one."""

    mechanism: str
    initial: bytes | None


@dataclass(frozen=True, slots=True)
class StartTls:
    """STARTTLS (RFC 3207)."""


@dataclass(frozen=True, slots=True)
class Rset:
    """RSET."""


@dataclass(frozen=True, slots=True)
class Noop:
    """NOOP."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT."""


@dataclass(frozen=True, slots=True)
class Vrfy:
    """VRFY and what it asks for."""

    argument: str


@dataclass(frozen=True, slots=True)
class Help:
    """HELP."""


Command: TypeAlias = Helo | Mail | Rcpt | Data | Bdat | Auth | StartTls | Rset | Noop | Quit | Vrfy | Help


class BadCommand(ValueError):
    """The command's form is wrong; `reply` says how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def _syntax(usage: str) -> BadCommand:
    return BadCommand(Reply(501, "5.5.4", f"Syntax: {usage}"))


def parse_command(verb: str, argument: str) -> Command:
    """The command with this upper-case verb and what follows it. Raises BadCommand, also for verbs that are none of ours."""
    parse = _PARSERS.get(verb)
    if parse is None:
        raise BadCommand(Reply(500, "5.5.2", "Command not recognized"))
    try:
        return parse(verb, argument)
    except BadParameter as refused:
        raise BadCommand(refused.reply) from None


def _helo(verb: str, argument: str) -> Helo:
    name = argument.strip(" ")
    # Whatever name is given is taken (RFC 5321 §4.1.4), as long as it can stand in a Received field.
    if not _HELO_NAME.fullmatch(name) or not name.isprintable():
        raise _syntax(f"{verb} hostname")
    if len(name.encode()) > 255:  # octets, RFC 5321 §4.5.3.1.2
        raise _syntax(f"{verb} hostname")
    return Helo(name, verb != "HELO")


def _mail(verb: str, argument: str) -> Mail:
    found = _PATH.fullmatch(argument, 5) if argument[:5].upper() == "FROM:" else None
    if found is None:
        raise _syntax("MAIL FROM:<address>")
    parameters = parse_mail_parameters(found[3]) if found[3] else MailParameters()
    if not found[2] and not found[1]:
        return Mail(None, parameters)  # RFC 5321 §4.5.5
    try:
        sender = parse_address(found[2])
    except BadAddress as bad:
        raise BadCommand(Reply(501, "5.1.7", f"Bad sender address: {bad}")) from None
    if not found[2].isascii() and not parameters.smtputf8:
        raise BadCommand(
            Reply(553, "5.6.7", "A sender with non-ASCII characters needs the SMTPUTF8 parameter")
        )  # RFC 6531 §3.5
    return Mail(sender, parameters)


def _rcpt(verb: str, argument: str) -> Rcpt:
    found = _PATH.fullmatch(argument, 3) if argument[:3].upper() == "TO:" else None
    if found is None:
        raise _syntax("RCPT TO:<address>")
    parameters = parse_rcpt_parameters(found[3]) if found[3] else RcptParameters()
    if found[2].lower() == "postmaster":  # RFC 5321 §4.5.1
        return Rcpt(Address("postmaster", ""), parameters)
    try:
        return Rcpt(parse_address(found[2]), parameters)
    except BadAddress as bad:
        raise BadCommand(Reply(501, "5.1.3", f"Bad recipient address: {bad}")) from None


def _bdat(verb: str, argument: str) -> Bdat:
    size, *last = argument.split()[:3] or [""]
    if not (size.isascii() and size.isdigit() and len(size) <= 12) or [word.upper() for word in last] not in (
        [],
        ["LAST"],
    ):
        raise _syntax("BDAT size [LAST]")
    return Bdat(int(size), bool(last))


def _auth(verb: str, argument: str) -> Auth:
    words = argument.split()
    if not 1 <= len(words) <= 2 or not _MECHANISM.fullmatch(words[0]):
        raise _syntax("AUTH mechanism [initial-response]")
    return Auth(words[0].upper(), words[1].encode() if len(words) == 2 else None)


def _vrfy(verb: str, argument: str) -> Vrfy:
    if not argument.strip():
        raise _syntax("VRFY address")
    return Vrfy(argument.strip())


def _without_argument(value: Command, verb: str, argument: str) -> Command:
    if argument.strip():
        raise _syntax(verb)
    return value


_PARSERS: dict[str, Callable[[str, str], Command]] = {
    "HELO": _helo,
    "EHLO": _helo,
    "LHLO": _helo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": lambda verb, argument: _without_argument(Data(), verb, argument),
    "BDAT": _bdat,
    "AUTH": _auth,
    "STARTTLS": lambda verb, argument: _without_argument(StartTls(), verb, argument),
    "RSET": lambda verb, argument: _without_argument(Rset(), verb, argument),
    "NOOP": lambda verb, argument: Noop(),  # RFC 5321 §4.1.1.9: its argument means nothing
    "QUIT": lambda verb, argument: _without_argument(Quit(), verb, argument),
    "VRFY": _vrfy,
    "HELP": lambda verb, argument: Help(),
}
