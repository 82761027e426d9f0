"""DNS without the internet.

`StaticDns` answers `dns.Dns` from dicts: for unit tests and for trying out what would happen.

`ZoneServer` is a small name server on loopback, UDP and TCP on one port, that a `Resolver`, a whole Gatepost or a
Postfix can be pointed at. It answers from a dict of records, follows CNAMEs, sets TC where UDP is too small, and fails
on demand. It is meant for tests and trials: it has no limits against floods, knows one class (IN) and is no recursor.

    records = {"example.test MX": ["10 mx.example.test"], "mx.example.test A": ["127.0.0.1"], "192.0.2.1 PTR": ["c.test"]}
    with ZoneServer(records, {"broken.test": "servfail"}) as zone:   # in a thread of its own
        DnsSettings(servers=[zone.address])
    async with ZoneServer(records) as zone: ...                      # in the running event loop

Names in records are complete; a trailing dot may be left out.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TypeAlias, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from gatepost.net.dns import UNKNOWN, DnsFailure, MailExchange, NameNotFound

Failure = Literal["servfail", "refused", "nxdomain", "silent"]
"""How a name can be made to fail; "silent" never answers."""

Key: TypeAlias = tuple[dns.name.Name, dns.rdatatype.RdataType]

TTL = 60  # seconds
UDP_SIZE = 512  # bytes a question without EDNS can take (RFC 1035 §2.3.4)
MAX_CHAIN = 8  # CNAMEs followed


class StaticDns:
    """`Dns` from dicts. What stands in none of them does not exist; names in `failing` raise DnsFailure."""

    def __init__(
        self,
        mx: Mapping[str, Sequence[tuple[int, str]]] | None = None,
        addresses: Mapping[str, Sequence[str]] | None = None,
        names: Mapping[str, str] | None = None,
        failing: Sequence[str] = (),
    ) -> None:
        self._mx = dict(mx or {})
        self._addresses = dict(addresses or {})
        self._names = dict(names or {})
        self._failing = set(failing)

    async def mx(self, domain: str) -> list[MailExchange]:
        """The pairs given for the domain, by preference."""
        self._check(domain)
        if domain not in self._mx:
            raise NameNotFound(f"{domain} has no MX record", name_exists=domain in self._addresses)
        return sorted(MailExchange(preference, host) for preference, host in self._mx[domain])

    async def addresses(self, host: str) -> list[str]:
        """The addresses given for the host, in their order; an address is its own answer."""
        self._check(host)
        with suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        if not self._addresses.get(host):
            raise NameNotFound(f"{host} does not exist (NXDOMAIN)")
        return list(self._addresses[host])

    async def client_name(self, ip: str) -> str:
        """The name given for the address, "localhost" for loopback, else "unknown"."""
        if ip in self._names:
            return self._names[ip]
        with suppress(ValueError):
            return "localhost" if ipaddress.ip_address(ip).is_loopback else UNKNOWN
        return UNKNOWN

    def _check(self, name: str) -> None:
        if name in self._failing:
            raise DnsFailure(f"no answer about {name}: SERVFAIL")


class ZoneServer:
    """A name server on loopback. Keys are `name TYPE` for records and `name` or `name TYPE` for failures.

    The name of a PTR record may be the address itself. Records and failures may be changed while it runs.
    `address` is "127.0.0.1:port" once it runs; `questions` lists what was asked, as `name TYPE`.
    """

    def __init__(
        self, records: Mapping[str, Sequence[str]] | None = None, failures: Mapping[str, Failure] | None = None
    ) -> None:
        """Raises ValueError for a record that is none."""
        self.address = ""
        self.questions: list[str] = []
        self._records: dict[Key, dns.rrset.RRset] = {}
        self._failures: dict[str, Failure] = {}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: socket.socket | None = None
        self._accepting: set[asyncio.Task[Any]] = set()
        self._connections: set[asyncio.Transport] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        for key, texts in (records or {}).items():
            name, _, rdtype = key.rpartition(" ")
            self.set(name, rdtype, *texts)
        for key, how in (failures or {}).items():
            self.fail(key, how)

    def set(self, name: str, rdtype: str, *texts: str) -> None:
        """Replace the records of one name and type; without `texts` they go away. Raises ValueError."""
        try:
            owner, kind = _owner(name), dns.rdatatype.from_text(rdtype)
            rdatas = [
                dns.rdata.from_text(dns.rdataclass.IN, kind, text, origin=dns.name.root, relativize=False)
                for text in texts
            ]
        except dns.exception.DNSException as error:
            raise ValueError(f"no DNS record: {name} {rdtype} {' | '.join(texts)}: {error}") from None
        if rdatas:
            self._records[owner, kind] = dns.rrset.from_rdata_list(owner, TTL, rdatas)
        else:
            self._records.pop((owner, kind), None)

    def fail(self, key: str, how: Failure | None) -> None:
        """Let `name` or `name TYPE` fail, or (None) answer again."""
        name, _, rdtype = key.partition(" ")
        place = f"{_owner(name)} {rdtype.upper()}".rstrip()
        if how is None:
            self._failures.pop(place, None)
        else:
            self._failures[place] = how

    def respond(self, query: dns.message.Message) -> dns.message.Message | None:
        """The response to a query, or None for silence."""
        response = dns.message.make_response(query, recursion_available=True)
        if len(query.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return response
        name, kind = query.question[0].name.canonicalize(), query.question[0].rdtype
        asked = f"{name} {dns.rdatatype.to_text(kind)}"
        self.questions.append(f"{name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(kind)}")
        how = self._failures.get(asked) or self._failures.get(str(name))
        if how == "silent":
            return None
        if how:
            response.set_rcode(dns.rcode.from_text(how))
            return response
        self._fill(response, name, kind)
        return response

    def _fill(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(MAX_CHAIN):
            rrset = self._records.get((name, kind))
            if rrset is not None:
                response.answer.append(rrset)
                return
            alias = self._records.get((name, dns.rdatatype.CNAME))
            if alias is None:
                # RFC 8020: a name with names below it exists.
                if not any(owner.is_subdomain(name) for owner, _ in list(self._records)):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                return
            response.answer.append(alias)
            name = alias[0].target.canonicalize()

    def wire_response(self, wire: bytes, *, datagram: bool) -> bytes | None:
        """Bytes in, bytes out; None for silence or for what is no query."""
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return None
        if query.flags & dns.flags.QR:
            return None
        response = self.respond(query)
        if response is None:
            return None
        size = max(UDP_SIZE, query.payload) if datagram else 65535
        return response.to_wire(max_size=size, prefer_truncation=True)

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1. Raises OSError."""
        loop = asyncio.get_running_loop()
        udp_socket, tcp_socket = _bind_both()
        self.address = f"127.0.0.1:{udp_socket.getsockname()[1]}"
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp_socket)
        self._tcp = tcp_socket
        loop.add_reader(tcp_socket, self._accept)

    def _accept(self) -> None:
        # asyncio's own Server leaks a connection that is accepted just before it closes (Python 3.11).
        assert self._tcp is not None
        try:
            accepted, _ = self._tcp.accept()
        except OSError:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(loop.connect_accepted_socket(lambda: _Stream(self, self._connections), accepted))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        if self._tcp:
            asyncio.get_running_loop().remove_reader(self._tcp)
            self._tcp.close()
        if self._udp:
            self._udp.close()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # lets the transports close their sockets
        self._udp = self._tcp = None

    async def __aenter__(self) -> ZoneServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> ZoneServer:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="zone-server", daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self, started: Future[None]) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            try:
                await self.start()
            except OSError as error:
                started.set_exception(error)
                return
            started.set_result(None)
            await self._stop.wait()
            await self.close()

        asyncio.run(serve())


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, zone: ZoneServer) -> None:
        self._zone = zone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        response = self._zone.wire_response(data, datagram=True)
        if response is not None:
            self._transport.sendto(response, addr)


class _Stream(asyncio.Protocol):
    """RFC 1035 §4.2.2: messages with their length in two bytes before them."""

    def __init__(self, zone: ZoneServer, connections: set[asyncio.Transport]) -> None:
        self._zone = zone
        self._connections = connections
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 2:
            end = 2 + int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < end:
                return
            response = self._zone.wire_response(bytes(self._buffer[2:end]), datagram=False)
            del self._buffer[:end]
            if response is not None:
                self._transport.write(len(response).to_bytes(2, "big") + response)


def _owner(name: str) -> dns.name.Name:
    """`example.test`, or an address, whose reverse name it becomes."""
    with suppress(ValueError):
        name = ipaddress.ip_address(name).reverse_pointer
    return dns.name.from_text(name).canonicalize()


def _bind_both() -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same free port of loopback."""
    last: OSError | None = None
    for _ in range(20):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            udp.bind(("127.0.0.1", 0))
            tcp.bind(udp.getsockname())
            tcp.listen()
            tcp.setblocking(False)
        except OSError as error:
            last = error
            udp.close()
            tcp.close()
            continue
        return udp, tcp
    assert last is not None
    raise last
