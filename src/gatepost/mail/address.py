"""Addresses as the envelope means them (RFC 5321 §4.1.2, RFC 6531 §3.3 for UTF-8).

`parse_address` takes what stands between the angle brackets and gives an `Address` or raises `BadAddress`; it never
guesses. Header addresses (RFC 5322 comments, groups, folding) are not its business: `email.utils.parseaddr` has been
confused by crafted input (CVE-2023-27043), so nothing that decides about mail uses it.

Limits: local part 64 octets, domain 255 octets, whole address 254 octets (RFC 5321 §4.5.3.1), measured in UTF-8.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

import idna

MAX_LOCAL = 64  # RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # RFC 5321 §4.5.3.1.2
MAX_ADDRESS = 254  # RFC 5321 §4.5.3.1.3: a path has 256 octets, two of them the angle brackets

# RFC 6532 §3.1 UTF8-non-ascii, without the C1 controls, the two line separators and what turns the direction of writing
# round: terminals and logs obey those.
_NON_ASCII = r"\u00a0-\u2027\u202f-\u2065\u206a-\U0010ffff"
_ATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~{_NON_ASCII}-]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")  # RFC 5321 §4.1.2 Dot-string, RFC 6531 §3.3
_QUOTED_STRING = re.compile(rf'"((?:[\x20\x21\x23-\x5b\x5d-\x7e{_NON_ASCII}]|\\[\x20-\x7e])*)"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_FAST = re.compile(
    r"([A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*)@((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z][a-z0-9]{0,62})"
)


class BadAddress(ValueError):
    """Not an address. The text says why and may be shown to the peer."""


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox name: `local` without its quotes, `domain` in lower case A-label form or as `[literal]`.

    `domain` is empty only for the bare `postmaster` of RFC 5321 §4.1.1.3.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        """The form for the wire: the local part is quoted only where it must be."""
        local = self.local if _DOT_STRING.fullmatch(self.local) else _quoted(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def key(self) -> str:
        """What two spellings of one address share: everything in lower case (local parts too, as mail hosts do)."""
        return f"{self.local.lower()}@{self.domain}"

    @property
    def is_ascii(self) -> bool:
        """Whether the next hop can take it without SMTPUTF8 (RFC 6531 §3.2). The domain always is."""
        return self.local.isascii()

    def split_extension(self, delimiter: str) -> tuple[Address, str]:
        """`user+tag@d` as (`user@d`, `tag`); the tag is empty where there is none (Postfix recipient_delimiter)."""
        base, found, extension = self.local.partition(delimiter) if delimiter else (self.local, "", "")
        return (Address(base, self.domain), extension) if found and base else (self, "")

    def with_domain(self, domain: str) -> Address:
        """The same local part elsewhere."""
        return Address(self.local, domain)


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """What stands between `<` and `>` (without a source route), as an Address. Raises BadAddress."""
    if _FAST.fullmatch(text) and len(text) <= MAX_LOCAL:
        local, _, domain = text.rpartition("@")
        return Address(local, domain)
    local, domain = _split(text)
    if len(local.encode()) > MAX_LOCAL:
        raise BadAddress(f"local part is longer than {MAX_LOCAL} octets")
    unquoted = local
    if not _DOT_STRING.fullmatch(local):
        quoted = _QUOTED_STRING.fullmatch(local)
        if quoted is None:
            raise BadAddress("malformed local part")
        unquoted = _QUOTED_PAIR.sub(r"\1", quoted[1])
    address = Address(unquoted, parse_domain(domain))
    if len(str(address).encode()) > MAX_ADDRESS:
        raise BadAddress(f"address is longer than {MAX_ADDRESS} octets")
    return address


def _split(text: str) -> tuple[str, str]:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadAddress("address is not valid UTF-8") from None
    # A quoted local part may hold "@"; a domain never does.
    local, at, domain = text.rpartition("@")
    if not at:
        raise BadAddress("address has no domain")
    if not local:
        raise BadAddress("address has no local part")
    return local, domain


@lru_cache(maxsize=4096)
def parse_domain(text: str) -> str:
    """A domain or literal in normal form: lower-case A-labels, or `[1.2.3.4]`, `[IPv6:…]`. Raises BadAddress."""
    if text.startswith("["):
        return _parse_literal(text)
    if not text or len(text) > MAX_DOMAIN:
        raise BadAddress("domain is empty" if not text else f"domain is longer than {MAX_DOMAIN} octets")
    domain = text.lower()
    if not domain.isascii():
        domain = _to_ascii(text)
    if not all(_LABEL.fullmatch(label) for label in domain.split(".")) or len(domain) > MAX_DOMAIN:
        raise BadAddress("malformed domain")
    return domain


def _to_ascii(text: str) -> str:
    try:
        # RFC 5891 §4: U-labels become A-labels. UTS 46 maps case and width as browsers do.
        return idna.encode(text, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        raise BadAddress("malformed internationalised domain") from None


def _parse_literal(text: str) -> str:
    if not text.endswith("]"):
        raise BadAddress("address literal has no closing bracket")
    inside = text[1:-1]
    if "%" in inside:  # a scope (RFC 4007 §11) is for one machine, and the rest of it could be any text
        raise BadAddress("malformed address literal")
    try:
        if inside[:5].lower() == "ipv6:":  # RFC 5321 §4.1.3
            return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        raise BadAddress("malformed address literal") from None


def display_domain(domain: str) -> str:
    """The domain as people write it: A-labels as U-labels where they decode, else unchanged."""
    if "xn--" not in domain:
        return domain
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return domain


def _quoted(local: str) -> str:
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
