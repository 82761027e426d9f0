"""The name server on loopback, asked by dnspython's own client, and the fake resolver."""

from __future__ import annotations

import asyncio
import socket

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.net.dns import Dns, DnsFailure, MailExchange, NameNotFound
from gatepost.net.dns_zone import StaticDns, ZoneServer


def query(zone: ZoneServer, name: str, rdtype: str, *, tcp: bool = False) -> dns.message.Message:
    host, port = zone.address.split(":")
    question = dns.message.make_query(name, rdtype)
    send = dns.query.tcp if tcp else dns.query.udp
    return send(question, host, port=int(port), timeout=2)


def texts(message: dns.message.Message) -> list[str]:
    return sorted(rrset.to_text().lower() for rrset in message.answer)


def test_it_answers_from_a_thread_over_udp_and_tcp() -> None:
    with ZoneServer({"Example.test MX": ["10 mx.example.test"]}) as zone:
        for tcp in (False, True):
            assert texts(query(zone, "example.TEST", "MX", tcp=tcp)) == ["example.test. 60 in mx 10 mx.example.test."]
        assert zone.questions == ["example.test MX"] * 2


def test_rcodes_tell_no_name_from_no_record_from_failure() -> None:
    records = {"a.b.example.test A": ["192.0.2.1"]}
    with ZoneServer(records, {"bad.test": "servfail", "shy.test A": "refused", "gone.test": "nxdomain"}) as zone:
        assert query(zone, "a.b.example.test", "MX").rcode() == dns.rcode.NOERROR
        assert query(zone, "b.example.test", "A").rcode() == dns.rcode.NOERROR  # RFC 8020
        assert query(zone, "x.example.test", "A").rcode() == dns.rcode.NXDOMAIN
        assert query(zone, "bad.test", "A").rcode() == dns.rcode.SERVFAIL
        assert query(zone, "shy.test", "A").rcode() == dns.rcode.REFUSED
        assert query(zone, "gone.test", "A").rcode() == dns.rcode.NXDOMAIN
        zone.fail("bad.test", None)
        zone.set("bad.test", "A", "192.0.2.5")
        assert texts(query(zone, "bad.test", "A")) == ["bad.test. 60 in a 192.0.2.5"]
        zone.set("bad.test", "A")
        assert query(zone, "bad.test", "A").rcode() == dns.rcode.NXDOMAIN


def test_cnames_are_followed_and_rings_end() -> None:
    records = {"www.test CNAME": ["web.test."], "web.test A": ["192.0.2.1"], "ring.test CNAME": ["ring.test"]}
    with ZoneServer(records) as zone:
        assert texts(query(zone, "www.test", "A")) == ["web.test. 60 in a 192.0.2.1", "www.test. 60 in cname web.test."]
        assert query(zone, "ring.test", "A").rcode() == dns.rcode.NOERROR


def test_long_answers_are_truncated_over_udp_only() -> None:
    with ZoneServer({"long.test A": [f"10.0.0.{number}" for number in range(200)]}) as zone:
        assert query(zone, "long.test", "A").flags & dns.flags.TC
        assert len(query(zone, "long.test", "A", tcp=True).answer[0]) == 200


def test_a_record_that_is_none_is_refused() -> None:
    for records in ({"a.test A": ["nonsense"]}, {"a.test WHAT": ["x"]}, {"a..test A": ["192.0.2.1"]}):
        with pytest.raises(ValueError, match=r"no DNS record: a"):
            ZoneServer(records)


def test_closing_drops_open_connections_and_leaves_the_port() -> None:
    with ZoneServer() as zone:
        host, port = zone.address.split(":")
        peer = socket.create_connection((host, int(port)), timeout=2)
        peer.sendall(b"\0\x10half")
    with peer:
        try:
            assert peer.recv(1) == b""
        except ConnectionResetError:
            pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind((host, int(port)))


@given(st.binary(max_size=80))
def test_any_bytes_give_a_response_or_silence(wire: bytes) -> None:
    zone = ZoneServer({"a.test A": ["192.0.2.1"]})
    response = zone.wire_response(wire, datagram=True)
    assert response is None or response[:2] == wire[:2]


@given(st.integers(0, 60), st.integers(0, 255))
def test_damaged_questions_give_a_response_or_silence(place: int, value: int) -> None:
    wire = bytearray(dns.message.make_query("a.example.test", "MX", use_edns=True, id=258).to_wire())
    wire[place % len(wire)] = value
    response = ZoneServer({"a.example.test MX": ["1 b.test"]}).wire_response(bytes(wire), datagram=True)
    assert response is None or response[:2] == wire[:2]


def test_static_dns_answers_as_dns_would() -> None:
    fake: Dns = StaticDns(
        mx={"example.test": [(20, "b.test"), (10, "a.test")], "null.test": [(0, "")]},
        addresses={"a.test": ["127.0.0.1"]},
        names={"192.0.2.1": "client.test"},
        failing=["broken.test"],
    )

    async def main() -> None:
        assert await fake.mx("example.test") == [MailExchange(10, "a.test"), MailExchange(20, "b.test")]
        assert await fake.mx("null.test") == [MailExchange(0, "")]
        assert await fake.addresses("a.test") == ["127.0.0.1"]
        assert await fake.addresses("192.0.2.1") == ["192.0.2.1"]
        assert await fake.client_name("192.0.2.1") == "client.test"
        assert await fake.client_name("127.0.0.1") == "localhost"
        assert await fake.client_name("192.0.2.2") == "unknown"
        for question in (fake.mx, fake.addresses):
            with pytest.raises(DnsFailure, match=r"broken\.test"):
                await question("broken.test")
            with pytest.raises(NameNotFound, match=r"nowhere\.test"):
                await question("nowhere.test")

    asyncio.run(main())
