"""Where a next hop is: the text of `Route.next_hop` -> addresses in the order they are tried (RFC 5321 §5.1).

  example.test           its MX hosts; its own address where it has none
  example.test:2525      the same, at another port
  [mx.example.test]      that host, no MX look-up; also with `:port`
  [192.0.2.1] [2001:db8::1] [IPv6:2001:db8::1]     that address; also with `:port`

MX hosts come by preference, equal ones shuffled; at most `address_limit` addresses in all. What cannot be reached ends in
`Unreachable` with the outcome for all its mail, in Postfix's words:

  name does not exist, or has no address   Failed 5.4.4        null MX (RFC 7505)    Failed 5.1.10
  DNS gave no answer                       Deferred 4.4.3      it is ourselves       Failed 5.4.6

Ourselves: addresses and ports in `Ourselves.listeners` (concrete addresses: whoever listens on 0.0.0.0 lists those of its
interfaces), and MX hosts that bear our own name. MX hosts no better than ourselves are left out (RFC 5321 §5.1: the list
is cut at our own preference).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from itertools import groupby
from random import Random

from gatepost.mail.outcome import Deferred, Failed
from gatepost.net.dns import Dns, DnsFailure, MailExchange, NameNotFound

SMTP_PORT = 25
MAX_EXCHANGES = 20  # MX hosts looked at

_FORM = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]{1,5}))?")


class BadNextHop(ValueError):
    """Not a next hop. The text says why."""


class Unreachable(Exception):
    """No address can be tried; `outcome` is how all mail for the next hop ends this time."""

    def __init__(self, outcome: Deferred | Failed) -> None:
        super().__init__(outcome.text)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class NextHop:
    """A parsed next hop; `uses_mx` is false for the forms in brackets."""

    name: str
    port: int
    uses_mx: bool


@dataclass(frozen=True, slots=True)
class HostAddress:
    """One address to try. `host` is the name it belongs to, or the address itself."""

    host: str
    ip: str
    port: int

    def __str__(self) -> str:
        """As Postfix names a host in its texts: `mx.example.test[192.0.2.1]`."""
        return f"{self.host}[{self.ip}]"

    @property
    def relay(self) -> str:
        """As Postfix logs `relay=`: `mx.example.test[192.0.2.1]:25`."""
        return f"{self.host}[{self.ip}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Ourselves:
    """What mail must not be sent to: our listeners as (address, port), and our own host name as an MX host."""

    name: str = ""
    listeners: frozenset[tuple[str, int]] = field(default_factory=frozenset)

    def is_at(self, address: HostAddress) -> bool:
        """Whether connecting there would reach us."""
        return (address.ip, address.port) in self.listeners


def parse_next_hop(text: str) -> NextHop:
    """The next hop in any of the forms above. Raises BadNextHop."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadNextHop(
            f"{text!r} is no next hop: write example.test, [mx.example.test] or [192.0.2.1], each with :port"
        )
    port = int(found[3]) if found[3] else SMTP_PORT
    if not 0 < port < 65536:
        raise BadNextHop(f"{text!r} is no next hop: the port is a number from 1 to 65535")
    if found[2] is not None:
        return NextHop(found[2].lower(), port, uses_mx=True)
    inside = found[1].lower()
    if ":" in inside:
        try:
            inside = str(ipaddress.IPv6Address(inside.removeprefix("ipv6:")))
        except ValueError:
            raise BadNextHop(f"{text!r} is no next hop: {inside!r} is no IPv6 address") from None
    return NextHop(inside, port, uses_mx=False)


class NextHops:
    """Finds the addresses of next hops. `ourselves` may be replaced when listeners change."""

    def __init__(self, dns: Dns, random: Random, ourselves: Ourselves, address_limit: int) -> None:
        self._dns = dns
        self._random = random
        self.ourselves = ourselves
        self._limit = address_limit

    async def addresses(self, text: str) -> list[HostAddress]:
        """At least one address, best first. Raises Unreachable."""
        try:
            hop = parse_next_hop(text)
        except BadNextHop as error:
            raise Unreachable(Deferred("none", f"configuration error: {error}", "4.3.5")) from None
        if not hop.uses_mx:
            return await self._of_one_host(hop)
        try:
            exchanges = await self._dns.mx(hop.name)
        except NameNotFound as error:
            if error.name_exists:  # RFC 5321 §5.1: no MX, then the domain itself
                return await self._of_one_host(hop)
            raise Unreachable(_not_found(hop.name, "MX", error)) from None
        except DnsFailure as error:
            raise Unreachable(_no_answer(hop.name, "MX", error)) from None
        if not exchanges:
            return await self._of_one_host(hop)
        if exchanges[0].host in ("", "."):  # RFC 7505 §4.1
            raise Unreachable(Failed("none", f"Domain {hop.name} does not accept mail (nullMX)", "5.1.10"))
        return await self._of_exchanges(hop, exchanges)

    async def _of_one_host(self, hop: NextHop) -> list[HostAddress]:
        try:
            ips = await self._dns.addresses(hop.name)
        except NameNotFound as error:
            raise Unreachable(_not_found(hop.name, "A", error)) from None
        except DnsFailure as error:
            raise Unreachable(_no_answer(hop.name, "A", error)) from None
        found = [HostAddress(hop.name, ip, hop.port) for ip in ips]
        if any(map(self.ourselves.is_at, found)):
            raise Unreachable(_loop(hop.name))
        return found[: self._limit]

    async def _of_exchanges(self, hop: NextHop, exchanges: list[MailExchange]) -> list[HostAddress]:
        found: list[HostAddress] = []
        trouble: Deferred | Failed | None = None
        for _, group in groupby(exchanges[:MAX_EXCHANGES], key=lambda exchange: exchange.preference):
            equals = list(group)
            self._random.shuffle(equals)
            of_group: list[HostAddress] = []
            for exchange in equals:
                try:
                    ips = await self._dns.addresses(exchange.host)
                except NameNotFound as error:
                    trouble = trouble or _not_found(exchange.host, "A", error)
                    continue
                except DnsFailure as error:
                    trouble = _no_answer(exchange.host, "A", error)
                    continue
                of_group += [HostAddress(exchange.host, ip, hop.port) for ip in ips]
            if any(self.ourselves.is_at(address) or self._bears_our_name(address) for address in of_group):
                if not found and not isinstance(trouble, Deferred):
                    raise Unreachable(_loop(hop.name))
                break  # RFC 5321 §5.1: hosts no better than ourselves would send it back to us
            found += of_group
            if len(found) >= self._limit:
                break
        if not found:
            raise Unreachable(trouble or _loop(hop.name))
        return found[: self._limit]

    def _bears_our_name(self, address: HostAddress) -> bool:
        return address.port == SMTP_PORT and address.host == self.ourselves.name


def _not_found(name: str, kind: str, error: NameNotFound) -> Failed:
    return Failed(
        "none", f"Host or domain name not found. Name service error for name={name} type={kind}: {error}", "5.4.4"
    )


def _no_answer(name: str, kind: str, error: DnsFailure) -> Deferred:
    # Not a failure of the site in Postfix's sense, but no other mail for it can do better just now.
    text = f"Host or domain name not found. Name service error for name={name} type={kind}: {error}"
    return Deferred("none", text, "4.4.3", site_failed=True)


def _loop(name: str) -> Failed:
    return Failed("none", f"mail for {name} loops back to myself", "5.4.6")
