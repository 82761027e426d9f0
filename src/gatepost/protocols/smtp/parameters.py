"""Parameters of MAIL and RCPT, as their extensions define them.

SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531 §3.4), AUTH (RFC 4954 §5), RET and ENVID, NOTIFY and ORCPT (RFC 3461 §4).
Each may come once. An unknown one is refused with 555 (RFC 5321 §4.1.1.11). Values are strict; xtext is decoded here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from gatepost.mail.envelope import Notify
from gatepost.mail.reply import Reply

MAX_XTEXT = 500  # RFC 3461 §4.2 lets ORCPT be 500 octets, §4.4 ENVID 100

_XTEXT = re.compile(r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})*")  # RFC 3461 §4
_HEX = re.compile(r"\+([0-9A-F]{2})")
_ORCPT = re.compile(r"([A-Za-z0-9-]{1,40});(.+)")
_NOTIFY: frozenset[str] = frozenset(("SUCCESS", "FAILURE", "DELAY"))


class BadParameter(ValueError):
    """A parameter is refused; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


@dataclass(slots=True)
class MailParameters:
    """What MAIL may carry. `size` is bytes, 0 where not said."""

    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""


@dataclass(slots=True)
class RcptParameters:
    """What RCPT may carry."""

    notify: frozenset[Notify] = frozenset()
    orcpt: str = ""


def parse_mail_parameters(text: str) -> MailParameters:
    """What follows `MAIL FROM:<…>`. Raises BadParameter."""
    found = MailParameters()
    for name, value in _pairs(text):
        match name:
            case "SIZE":
                if not (value.isascii() and value.isdigit() and len(value) <= 20):  # RFC 1870 §4
                    raise _bad("SIZE")
                found.size = int(value)
            case "BODY":
                if value.upper() not in ("7BIT", "8BITMIME"):
                    raise _bad("BODY")
                found.eight_bit = value.upper() == "8BITMIME"
            case "SMTPUTF8":
                if value:
                    raise _bad("SMTPUTF8")
                found.smtputf8 = True
            case "RET":
                if value.upper() not in ("FULL", "HDRS"):
                    raise _bad("RET")
                found.ret = cast(Literal["FULL", "HDRS"], value.upper())
            case "ENVID":
                found.envid = _decode_xtext("ENVID", value, 100)
            case "AUTH":
                # RFC 4954 §5: who submitted it first. We vouch for nobody, so it is checked and not passed on.
                _decode_xtext("AUTH", value, MAX_XTEXT)
            case _:
                raise _unknown(name)
    return found


def parse_rcpt_parameters(text: str) -> RcptParameters:
    """What follows `RCPT TO:<…>`. Raises BadParameter."""
    found = RcptParameters()
    for name, value in _pairs(text):
        match name:
            case "NOTIFY":
                found.notify = _parse_notify(value)
            case "ORCPT":
                found.orcpt = _parse_orcpt(value)
            case _:
                raise _unknown(name)
    return found


def encode_xtext(text: str) -> str:
    """Text as xtext (RFC 3461 §4); each byte of its UTF-8 that is not printable ASCII, `+` or `=` becomes `+XX`."""
    return "".join(
        chr(byte) if 0x21 <= byte <= 0x7E and byte not in (0x2B, 0x3D) else f"+{byte:02X}" for byte in text.encode()
    )


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    seen = set()
    for word in text.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if name in seen:
            raise BadParameter(Reply(501, "5.5.4", f"Parameter {name[:20]} is given twice"))
        if equals and not value:
            raise _bad(name)
        seen.add(name)
        pairs.append((name, value))
    return pairs


def _parse_notify(value: str) -> frozenset[Notify]:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return frozenset(("NEVER",))
    # RFC 3461 §4.1: NEVER stands alone, the others once each.
    if len(set(words)) != len(words) or not _NOTIFY.issuperset(words):
        raise _bad("NOTIFY")
    return cast(frozenset[Notify], frozenset(words))


def _parse_orcpt(value: str) -> str:
    found = _ORCPT.fullmatch(value)
    if found is None:
        raise _bad("ORCPT")
    address = found[2]
    if address.isascii():
        address = _decode_xtext("ORCPT", address, MAX_XTEXT)
    elif found[1].lower() != "utf-8" or len(address) > MAX_XTEXT or not address.isprintable():  # RFC 6533 §3
        raise _bad("ORCPT")
    return f"{found[1].lower()};{address}"


def _decode_xtext(name: str, value: str, most: int) -> str:
    if not value or len(value) > most or not _XTEXT.fullmatch(value):
        raise _bad(name)
    decoded = _HEX.sub(lambda found: chr(int(found[1], 16)), value)
    # RFC 3461 §4.2, §4.4: printable ASCII. A control character would travel into headers of reports.
    if not (decoded.isascii() and decoded.isprintable()):
        raise _bad(name)
    return decoded


def _bad(name: str) -> BadParameter:
    return BadParameter(Reply(501, "5.5.4", f"Bad value for parameter {name[:20]}"))


def _unknown(name: str) -> BadParameter:
    return BadParameter(Reply(555, "5.5.4", f"Unknown parameter {name[:20]}"))
