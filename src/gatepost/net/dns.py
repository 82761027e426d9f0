"""The questions mail asks of DNS, with answers cached as long as their TTL allows.

`Resolver` asks the operator's servers, or those of /etc/resolv.conf, through dnspython. Names are taken as complete:
no search list, no /etc/hosts. One question takes at most `DnsSettings.timeout` seconds in all, retries over the
servers and over TCP included. Those who ask the same thing at the same time share one question.

There are two ways to fail: `NameNotFound` is an answer (asking again won't help), `DnsFailure` is the lack of one
(try later). Their texts name the name and what happened and are meant for logs and bounces.

The cache is our own: dnspython's keeps whole response messages (5 KB each) and takes 50 µs to look into.
dnspython costs 7 MB and 70 ms to import; that is paid at the first question, not when a worker starts.

Limits: the cache holds CACHE_SIZE answers, a day at most (an hour for "there is none"). A client's name is kept for
minutes. Of the names a client's address points to, the first MAX_POINTERS are checked.

RFC 5321 §5.1 (MX), RFC 7505 (null MX), RFC 2308 (negative answers), RFC 6761 §6.3 (localhost).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from gatepost.config.endpoints import TcpAddress, parse_name_server
from gatepost.config.settings import DnsSettings
from gatepost.mail.clock import Clock, SystemClock

if TYPE_CHECKING:
    import dns.asyncresolver
    import dns.resolver

K = TypeVar("K")
V = TypeVar("V")

UNKNOWN = "unknown"
"""The name of a client that has none or whose name does not point back, as Postfix logs it."""

CACHE_SIZE = 10_000  # answers
MAX_TTL = 86400.0  # seconds
MAX_NEGATIVE_TTL = 3600.0  # seconds; RFC 2308 §5 advises one to three hours
CLIENT_NAME_TIME = 300.0  # seconds a client's confirmed name is kept
UNKNOWN_TIME = 60.0  # seconds the lack of one is kept
CLIENT_NAMES = 4000  # clients
MAX_POINTERS = 5  # names of one client
ATTEMPT_TIME = 2.0  # seconds until a silent server is given up for the next one
EDNS_PAYLOAD = 1232  # bytes; fits every path unfragmented

_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_-]*[a-z][a-z0-9_-]*")


class NameNotFound(Exception):
    """DNS says that there is no such name, or no such record. `name_exists` tells the second from the first."""

    def __init__(self, text: str, *, name_exists: bool = False) -> None:
        super().__init__(text)
        self.name_exists = name_exists


class DnsFailure(Exception):
    """DNS gave no answer: SERVFAIL, REFUSED, timeout, no server. Temporary."""


@dataclass(frozen=True, slots=True, order=True)
class MailExchange:
    """One MX record: lower `preference` first. `host` has no trailing dot; it is "" for a null MX (RFC 7505)."""

    preference: int
    host: str


class Dns(Protocol):
    """What other rooms ask. `Resolver` answers from DNS, `dns_zone.StaticDns` from a dict."""

    async def mx(self, domain: str) -> list[MailExchange]:
        """The domain's MX records by preference, not shuffled. [MailExchange(0, "")] says: takes no mail (RFC 7505).

        Raises NameNotFound where there is no MX record, whether or not the domain has addresses (RFC 5321 §5.1 then
        makes the domain its own mail exchange), and DnsFailure.
        """

    async def addresses(self, host: str) -> list[str]:
        """The host's addresses: IPv4 first, then IPv6, each in the order DNS gave them. An address is its own answer.

        Raises NameNotFound where it has neither, DnsFailure where nothing was found and one of the two went unanswered.
        """

    async def client_name(self, ip: str) -> str:
        """The name the address points to, if that name points back; else "unknown". Never raises for want of DNS."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What DNS said to one question: records as (preference or 0, host or address), or why there are none."""

    records: tuple[tuple[int, str], ...]
    ttl: float  # seconds
    missing: str = ""
    name_exists: bool = True


class Resolver:
    """DNS through dnspython's asyncio resolver. Belongs to one event loop."""

    def __init__(self, settings: DnsSettings, clock: Clock | None = None) -> None:
        """Raises config.values.WrongValue for a server that is not an address with an optional port."""
        self._servers = [parse_name_server(text) for text in settings.servers]
        self._timeout = float(settings.timeout)
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._asking: dict[tuple[str, str], asyncio.Task[_Answer]] = {}
        clock = clock or SystemClock()
        self._answers: _Kept[tuple[str, str], _Answer] = _Kept(CACHE_SIZE, clock)
        self._client_names: _Kept[str, str] = _Kept(CLIENT_NAMES, clock)

    async def mx(self, domain: str) -> list[MailExchange]:
        """See `Dns.mx`."""
        exchanges = sorted(MailExchange(*record) for record in await self._ask(domain, "MX"))
        named = [exchange for exchange in exchanges if exchange.host]
        return named or [MailExchange(0, "")]  # RFC 7505 §3: beside other MX records a null MX means nothing

    async def addresses(self, host: str) -> list[str]:
        """See `Dns.addresses`. A and AAAA are asked at the same time."""
        known = _address_without_asking(host)
        if known:
            return known
        answers: list[_Answer | BaseException | None] = [self._kept(host, "A"), self._kept(host, "AAAA")]
        if None in answers:
            asked = (self._answer(host, "A"), self._answer(host, "AAAA"))
            answers = list(await asyncio.gather(*asked, return_exceptions=True))
        found = [text for answer in answers if isinstance(answer, _Answer) for _, text in answer.records]
        if found:
            return found
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        for answer in answers:
            if isinstance(answer, _Answer) and not answer.name_exists:
                raise NameNotFound(answer.missing)
        raise NameNotFound(f"{host} has no A or AAAA record", name_exists=True)

    async def client_name(self, ip: str) -> str:
        """See `Dns.client_name`. Takes at most the timeout of one question in all; loopback is "localhost"."""
        if ip.startswith("127.") or ip == "::1":
            return "localhost"
        try:
            address: IPv4Address | IPv6Address = ipaddress.ip_address(ip)
        except ValueError:
            return UNKNOWN
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address.is_loopback:
            return "localhost"
        kept = self._client_names.get(str(address))
        if kept:
            return kept
        try:
            async with asyncio.timeout(self._timeout):
                name = await self._confirmed_name(address)
        except (NameNotFound, DnsFailure, TimeoutError):
            name = UNKNOWN
        self._client_names.keep(str(address), name, UNKNOWN_TIME if name == UNKNOWN else CLIENT_NAME_TIME)
        return name

    async def _confirmed_name(self, address: IPv4Address | IPv6Address) -> str:
        pointers = await self._ask(address.reverse_pointer, "PTR")
        for _, name in pointers[:MAX_POINTERS]:
            if not _HOST_NAME.fullmatch(name):  # it goes into logs and Received
                continue
            try:
                found = await self._ask(name, "A" if address.version == 4 else "AAAA")
            except (NameNotFound, DnsFailure):
                continue
            if (0, str(address)) in found:
                return name
        return UNKNOWN

    async def _ask(self, name: str, rdtype: str) -> tuple[tuple[int, str], ...]:
        answer = self._kept(name, rdtype) or await self._answer(name, rdtype)
        if answer.missing:
            raise NameNotFound(answer.missing, name_exists=answer.name_exists)
        return answer.records

    def _kept(self, name: str, rdtype: str) -> _Answer | None:
        return self._answers.get(_question(name, rdtype))

    async def _answer(self, name: str, rdtype: str) -> _Answer:
        """One question, shared by all who ask it now. If one of them is cancelled, the others still get the answer."""
        question = _question(name, rdtype)
        task = self._asking.get(question)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._resolve(*question))
            self._asking[question] = task
            task.add_done_callback(partial(self._answered, question))
        return await asyncio.shield(task)

    def _answered(self, question: tuple[str, str], task: asyncio.Task[_Answer]) -> None:
        del self._asking[question]
        if not task.cancelled() and not task.exception():  # looked at, even where all who asked have gone
            answer = task.result()
            limit = MAX_NEGATIVE_TTL if answer.missing else MAX_TTL
            self._answers.keep(question, answer, min(answer.ttl, limit))

    async def _resolve(self, name: str, rdtype: str) -> _Answer:
        resolver = self._ready()
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            complete = dns.name.from_text(name)
        except (dns.exception.DNSException, UnicodeError):
            return _Answer((), MAX_NEGATIVE_TTL, f"{name} is not a possible DNS name", name_exists=False)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await resolver.resolve(
                    complete, rdtype, lifetime=self._timeout, search=False, raise_on_no_answer=False
                )
        except dns.resolver.NXDOMAIN as error:
            ttl = error.response(complete).resolve_chaining().minimum_ttl  # type: ignore[no-untyped-call]
            return _Answer((), ttl, f"{name} does not exist (NXDOMAIN)", name_exists=False)
        except (dns.exception.Timeout, TimeoutError):
            raise DnsFailure(f"no answer about {name} {rdtype} within {self._timeout:g} s") from None
        except dns.resolver.NoNameservers as error:
            raise DnsFailure(f"no answer about {name} {rdtype}: {_reasons(error)}") from None
        except (dns.exception.DNSException, OSError) as error:
            raise DnsFailure(f"no answer about {name} {rdtype}: {error}") from None
        records = tuple(_record(rdata) for rdata in answer)
        return _Answer(records, answer.chaining_result.minimum_ttl, "" if records else f"{name} has no {rdtype} record")

    def _ready(self) -> dns.asyncresolver.Resolver:
        """dnspython's resolver, made at the first question. Raises DnsFailure where no server is known."""
        if self._resolver is None:
            self._resolver = _make_resolver(self._servers, min(ATTEMPT_TIME, self._timeout))
        return self._resolver


class _Kept(Generic[K, V]):
    """At most `size` values, each for its time; the longest unused goes first."""

    def __init__(self, size: int, clock: Clock) -> None:
        self._size = size
        self._clock = clock
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def get(self, key: K) -> V | None:
        value, until = self._values.get(key, (None, 0.0))
        if value is None or self._clock.monotonic() >= until:
            return None
        self._values.move_to_end(key)
        return value

    def keep(self, key: K, value: V, seconds: float) -> None:
        self._values[key] = (value, self._clock.monotonic() + seconds)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)


def _make_resolver(servers: list[TcpAddress], attempt_time: float) -> dns.asyncresolver.Resolver:
    import dns.asyncresolver
    import dns.nameserver
    import dns.resolver

    try:
        resolver = dns.asyncresolver.Resolver(configure=not servers)
    except dns.resolver.NoResolverConfiguration as error:
        raise DnsFailure(f"no name server is known: {error}; set dns.servers in gatepost.toml") from None
    if servers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(server.host, server.port) for server in servers]
    resolver.timeout = attempt_time
    resolver.use_edns(0, 0, EDNS_PAYLOAD)
    return resolver


def _address_without_asking(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    if host.lower().rstrip(".").rpartition(".")[2] == "localhost":  # RFC 6761 §6.3
        return ["127.0.0.1", "::1"]
    return []


def _question(name: str, rdtype: str) -> tuple[str, str]:
    return name.lower().removesuffix("."), rdtype


def _record(rdata: Any) -> tuple[int, str]:
    """An MX, PTR, A or AAAA record as preference and host, or 0 and text."""
    if hasattr(rdata, "address"):
        return 0, str(ipaddress.ip_address(rdata.address))
    if hasattr(rdata, "exchange"):
        return rdata.preference, _host(rdata.exchange)
    return 0, _host(rdata.target)


def _host(name: Any) -> str:
    text: str = name.to_text(omit_final_dot=True)
    return "" if text == "." else text.lower()


def _reasons(error: dns.resolver.NoNameservers) -> str:
    """What each server said: `SERVFAIL from 127.0.0.1 port 53`."""
    reasons = []
    for server, _, port, what, _ in error.kwargs.get("errors", []):
        address = str(server).removeprefix("Do53:").partition("@")[0]
        said = what if isinstance(what, str) else (str(what) or type(what).__name__)
        reasons.append(f"{said} from {address} port {port}")
    return ", ".join(dict.fromkeys(reasons)) or "no name server"
