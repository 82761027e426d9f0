"""The resolver against a name server on loopback that answers, fails and keeps silent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import pytest
import uvloop

from gatepost.config.settings import DnsSettings, Seconds
from gatepost.config.values import WrongValue
from gatepost.mail.clock import FakeClock
from gatepost.net.dns import UNKNOWN, DnsFailure, MailExchange, NameNotFound, Resolver
from gatepost.net.dns_zone import Failure, ZoneServer

T = TypeVar("T")

RECORDS = {
    "example.test MX": ["20 backup.example.test", "10 MX1.example.test", "10 mx0.example.test"],
    "example.test A": ["127.0.0.1"],
    "mx1.example.test A": ["192.0.2.2", "192.0.2.1"],
    "mx1.example.test AAAA": ["2001:DB8:0:0::1"],
    "v6.example.test AAAA": ["2001:db8::6"],
    "alias.example.test CNAME": ["mx1.example.test"],
    "null.test MX": ["0 ."],
    "mixed.test MX": ["0 .", "5 mx1.example.test"],
    "text.test TXT": ['"nothing else"'],
    "192.0.2.1 PTR": ["mx1.example.test"],
    "2001:db8::1 PTR": ["mx1.example.test"],
    "192.0.2.7 PTR": ["elsewhere.test", "several.test"],
    "several.test A": ["192.0.2.7"],
    "192.0.2.8 PTR": ["liar.test"],
    "liar.test A": ["192.0.2.1"],
    "192.0.2.9 PTR": [r"bad\010name.test"],
    r"bad\010name.test A": ["192.0.2.9"],
    "192.0.2.10 PTR": ["192.0.2.10"],
}


def ask(
    question: Callable[[Resolver, ZoneServer], Awaitable[T]],
    failures: Mapping[str, Failure] | None = None,
    clock: FakeClock | None = None,
    timeout: float = 2.0,
    run: Callable[[Coroutine[Any, Any, T]], T] = asyncio.run,
) -> T:
    async def main() -> T:
        async with ZoneServer(RECORDS, failures) as zone:
            resolver = Resolver(DnsSettings(servers=[zone.address], timeout=Seconds(timeout)), clock)
            return await question(resolver, zone)

    return run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_mx_comes_sorted_in_lower_case_without_dots(run: Callable[[Any], Any]) -> None:
    found = ask(lambda resolver, _: resolver.mx("Example.test"), run=run)
    assert found == [
        MailExchange(10, "mx0.example.test"),
        MailExchange(10, "mx1.example.test"),
        MailExchange(20, "backup.example.test"),
    ]


def test_null_mx_is_told_and_ignored_beside_others() -> None:
    assert ask(lambda resolver, _: resolver.mx("null.test")) == [MailExchange(0, "")]
    assert ask(lambda resolver, _: resolver.mx("mixed.test")) == [MailExchange(5, "mx1.example.test")]


def test_no_name_and_no_record_are_told_apart() -> None:
    with pytest.raises(NameNotFound, match=r"nowhere\.test does not exist") as missing:
        ask(lambda resolver, _: resolver.mx("nowhere.test"))
    assert not missing.value.name_exists
    with pytest.raises(NameNotFound, match=r"text\.test has no MX record") as bare:
        ask(lambda resolver, _: resolver.mx("text.test"))
    assert bare.value.name_exists
    with pytest.raises(NameNotFound, match=r"text\.test has no A or AAAA record"):
        ask(lambda resolver, _: resolver.addresses("text.test"))
    with pytest.raises(NameNotFound, match=r"nowhere\.test does not exist"):
        ask(lambda resolver, _: resolver.addresses("nowhere.test"))


def test_addresses_ipv4_first_each_family_complete() -> None:
    found = ask(lambda resolver, _: resolver.addresses("mx1.example.test"))
    assert sorted(found[:2]) == ["192.0.2.1", "192.0.2.2"]
    assert found[2:] == ["2001:db8::1"]
    assert ask(lambda resolver, _: resolver.addresses("v6.example.test")) == ["2001:db8::6"]
    assert sorted(ask(lambda resolver, _: resolver.addresses("alias.example.test"))) == sorted(found)


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("192.0.2.9", ["192.0.2.9"]), ("2001:DB8::0", ["2001:db8::"]), ("localhost", ["127.0.0.1", "::1"])],
)
def test_some_addresses_are_known_without_asking(host: str, addresses: list[str]) -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> tuple[list[str], list[str]]:
        return await resolver.addresses(host), zone.questions

    assert ask(question) == (addresses, [])


@pytest.mark.parametrize(("how", "told"), [("servfail", "SERVFAIL"), ("refused", "REFUSED"), ("silent", r"0\.3 s")])
def test_failures_are_temporary_and_say_what_happened(how: Failure, told: str) -> None:
    with pytest.raises(DnsFailure, match=rf"example\.test MX.*{told}"):
        ask(lambda resolver, _: resolver.mx("example.test"), {"example.test": how}, timeout=0.3)


def test_one_family_found_is_enough_though_the_other_fails() -> None:
    found = ask(lambda resolver, _: resolver.addresses("v6.example.test"), {"v6.example.test A": "servfail"})
    assert found == ["2001:db8::6"]


def test_nothing_found_and_one_family_unanswered_is_a_failure() -> None:
    with pytest.raises(DnsFailure, match=r"text\.test AAAA"):
        ask(lambda resolver, _: resolver.addresses("text.test"), {"text.test AAAA": "servfail"})


def test_a_failed_server_is_passed_over() -> None:
    async def main() -> list[MailExchange]:
        async with ZoneServer(RECORDS) as good, ZoneServer(RECORDS, {"example.test": "servfail"}) as bad:
            return await Resolver(DnsSettings(servers=[bad.address, good.address])).mx("example.test")

    assert len(asyncio.run(main())) == 3


def test_answers_too_long_for_udp_are_fetched_over_tcp() -> None:
    addresses = [f"10.0.{number // 200}.{number % 200}" for number in range(400)]

    async def question(resolver: Resolver, zone: ZoneServer) -> list[str]:
        zone.set("long.test", "A", *addresses)
        return await resolver.addresses("long.test")

    assert sorted(ask(question)) == sorted(addresses)


def test_names_that_cannot_be_are_not_asked_for() -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> list[str]:
        for name in ("a" * 64 + ".test", "a..test", "x." * 130, "\\", "\udcff.test"):
            with pytest.raises(NameNotFound, match="not a possible DNS name"):
                await resolver.mx(name)
        return zone.questions

    assert ask(question) == []


def test_answers_are_kept_for_their_ttl_positive_and_negative() -> None:
    clock = FakeClock()

    async def question(resolver: Resolver, zone: ZoneServer) -> list[list[str]]:
        asked = []
        for _ in range(3):
            zone.questions.clear()
            for _ in range(2):
                await resolver.mx("example.test")
                await resolver.addresses("mx1.example.test")
                with pytest.raises(NameNotFound):
                    await resolver.mx("nowhere.test")
            asked.append(list(zone.questions))
            clock.advance(31)
        return asked

    first, second, third = ask(question, clock=clock)
    assert sorted(first) == ["example.test MX", "mx1.example.test A", "mx1.example.test AAAA", "nowhere.test MX"]
    assert second == []
    assert set(third) >= {"example.test MX", "mx1.example.test A"}


def test_failures_are_not_kept() -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> int:
        with pytest.raises(DnsFailure):
            await resolver.mx("example.test")
        zone.fail("example.test", None)
        return len(await resolver.mx("example.test"))

    assert ask(question, {"example.test": "servfail"}) == 3


def test_those_who_ask_together_share_one_question_and_survive_a_cancellation() -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> tuple[list[str], int]:
        tasks = [asyncio.create_task(resolver.mx("example.test")) for _ in range(20)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        return zone.questions, sum(isinstance(result, list) for result in results)

    assert ask(question) == (["example.test MX"], 19)


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.1", "mx1.example.test"),
        ("::ffff:192.0.2.1", "mx1.example.test"),
        ("2001:db8::1", "mx1.example.test"),
        ("192.0.2.7", "several.test"),  # the second of two names points back
        ("192.0.2.8", UNKNOWN),  # its name points elsewhere
        ("192.0.2.9", UNKNOWN),  # its name has a line feed
        ("192.0.2.10", UNKNOWN),  # its name is a number
        ("192.0.2.99", UNKNOWN),  # no PTR
        ("", UNKNOWN),
        ("nonsense", UNKNOWN),
    ],
)
def test_client_names_must_point_back(ip: str, name: str) -> None:
    assert ask(lambda resolver, _: resolver.client_name(ip)) == name


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_localhost_without_asking(ip: str) -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> tuple[str, list[str]]:
        return await resolver.client_name(ip), zone.questions

    assert ask(question) == ("localhost", [])


@pytest.mark.parametrize("place", ["1.2.0.192.in-addr.arpa", "mx1.example.test"])
@pytest.mark.parametrize("how", ["silent", "servfail", "nxdomain"])
def test_a_client_name_that_cannot_be_found_is_unknown_in_time(place: str, how: Failure) -> None:
    async def question(resolver: Resolver, zone: ZoneServer) -> float:
        before = asyncio.get_running_loop().time()
        assert await resolver.client_name("192.0.2.1") == UNKNOWN
        return asyncio.get_running_loop().time() - before

    assert ask(question, {place: how}, timeout=0.3) < 0.6


def test_client_names_are_kept_briefly() -> None:
    clock = FakeClock()

    async def question(resolver: Resolver, zone: ZoneServer) -> Sequence[str]:
        names = [await resolver.client_name("192.0.2.1")]
        zone.fail("1.2.0.192.in-addr.arpa", None)
        names.append(await resolver.client_name("192.0.2.1"))
        clock.advance(61)
        names.append(await resolver.client_name("192.0.2.1"))
        return names

    names = ask(question, {"1.2.0.192.in-addr.arpa": "servfail"}, clock=clock)
    assert names == [UNKNOWN, UNKNOWN, "mx1.example.test"]


def test_a_server_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(WrongValue, match=r"dns\.example\.test"):
        Resolver(DnsSettings(servers=["dns.example.test"]))


def test_importing_the_room_does_not_import_dnspython_or_cryptography() -> None:
    code = (
        "import sys, gatepost.net.dns, gatepost.net.tls_contexts; "
        "sys.exit('dns' in sys.modules or 'cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
