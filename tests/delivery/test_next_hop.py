"""Next hops: their forms, MX order, and every way not to find one."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.delivery.next_hop import (
    BadNextHop,
    HostAddress,
    NextHop,
    NextHops,
    Ourselves,
    Unreachable,
    parse_next_hop,
)
from gatepost.mail.outcome import Deferred, Failed
from gatepost.net.dns_zone import StaticDns

DNS = StaticDns(
    mx={
        "equal.test": [(10, "a.test"), (10, "b.test"), (10, "c.test"), (20, "last.test")],
        "null.test": [(0, "")],
        "nowhere.test": [(10, "gone.test")],
        "half.test": [(10, "broken.test"), (20, "a.test")],
        "broken-mx-host.test": [(10, "broken.test")],
        "ours.test": [(5, "a.test"), (10, "us.test"), (10, "b.test"), (20, "c.test")],
        "only-ours.test": [(10, "us.test"), (20, "a.test")],
        "perhaps-ours.test": [(5, "broken.test"), (10, "us.test")],
        "named-ours.test": [(10, "mail.us.test")],
        "empty.test": [],
    },
    addresses={
        "a.test": ["192.0.2.1"],
        "b.test": ["192.0.2.2", "2001:db8::2"],
        "c.test": ["192.0.2.3"],
        "last.test": ["192.0.2.9"],
        "plain.test": ["192.0.2.20"],
        "empty.test": ["192.0.2.21"],
        "us.test": ["198.51.100.1"],
        "mail.us.test": ["203.0.113.1"],
    },
    failing=["broken.test", "silent.test"],
)
US = Ourselves("mail.us.test", frozenset({("198.51.100.1", 25), ("198.51.100.1", 2525)}))


def find(text: str, *, limit: int = 5, seed: int = 1) -> list[HostAddress]:
    return asyncio.run(NextHops(DNS, Random(seed), US, limit).addresses(text))


def fail(text: str) -> Deferred | Failed:
    with pytest.raises(Unreachable) as caught:
        find(text)
    assert str(caught.value) == caught.value.outcome.text
    return caught.value.outcome


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("Example.test", NextHop("example.test", 25, uses_mx=True)),
        ("example.test:2525", NextHop("example.test", 2525, uses_mx=True)),
        ("[mx.example.test]", NextHop("mx.example.test", 25, uses_mx=False)),
        ("[mx.example.test]:587", NextHop("mx.example.test", 587, uses_mx=False)),
        ("[192.0.2.1]:26", NextHop("192.0.2.1", 26, uses_mx=False)),
        ("[2001:DB8::1]", NextHop("2001:db8::1", 25, uses_mx=False)),
        ("[IPv6:2001:db8::1]:26", NextHop("2001:db8::1", 26, uses_mx=False)),
    ],
)
def test_forms(text: str, hop: NextHop) -> None:
    assert parse_next_hop(text) == hop


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "[a]b", "a:b", "a:", "a:0", "a:65536", "2001:db8::1", "[a]:", "[1::2::3]", "a:٢٥٢"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(BadNextHop):
        parse_next_hop(text)


@given(st.text(max_size=40))
def test_any_text_is_a_next_hop_or_none(text: str) -> None:
    try:
        hop = parse_next_hop(text)
    except BadNextHop:
        return
    assert hop.name and 0 < hop.port < 65536


def test_preference_first_and_equals_shuffled() -> None:
    orders = set()
    for seed in range(30):
        hosts = [address.host for address in find("equal.test", seed=seed)]
        assert hosts[-1] == "last.test"
        orders.add(tuple(dict.fromkeys(hosts[:-1])))
    assert len(orders) == 6


def test_limit_of_addresses() -> None:
    assert len(find("equal.test", limit=2)) == 2
    assert {address.host for address in find("equal.test", limit=3)} <= {"a.test", "b.test", "c.test"}


def test_port_goes_with_every_address() -> None:
    assert {address.port for address in find("equal.test:2525")} == {2525}


@pytest.mark.parametrize("text", ["plain.test", "[plain.test]"])
def test_without_mx_the_domain_itself(text: str) -> None:
    assert find(text) == [HostAddress("plain.test", "192.0.2.20", 25)]


def test_no_mx_among_the_answers() -> None:
    assert find("empty.test") == [HostAddress("empty.test", "192.0.2.21", 25)]


def test_address_needs_no_dns() -> None:
    (found,) = find("[192.0.2.77]:26")
    assert (str(found), found.relay) == ("192.0.2.77[192.0.2.77]", "192.0.2.77[192.0.2.77]:26")


def test_brackets_mean_no_mx() -> None:
    assert find("[b.test]") == [HostAddress("b.test", "192.0.2.2", 25), HostAddress("b.test", "2001:db8::2", 25)]


def test_other_mx_serves_where_one_cannot_be_looked_up() -> None:
    assert [address.host for address in find("half.test")] == ["a.test"]


@pytest.mark.parametrize(
    ("text", "kind", "status", "words"),
    [
        ("unknown.test", Failed, "5.4.4", "name=unknown.test type=MX"),
        ("[unknown.test]", Failed, "5.4.4", "name=unknown.test type=A"),
        ("nowhere.test", Failed, "5.4.4", "name=gone.test type=A"),
        ("null.test", Failed, "5.1.10", "Domain null.test does not accept mail (nullMX)"),
        ("silent.test", Deferred, "4.4.3", "name=silent.test type=MX"),
        ("[silent.test]", Deferred, "4.4.3", "name=silent.test type=A"),
        ("broken-mx-host.test", Deferred, "4.4.3", "name=broken.test type=A"),
        ("a:b:c", Deferred, "4.3.5", "is no next hop"),
        ("only-ours.test", Failed, "5.4.6", "mail for only-ours.test loops back to myself"),
        ("[us.test]", Failed, "5.4.6", "mail for us.test loops back to myself"),
        ("[198.51.100.1]:2525", Failed, "5.4.6", "mail for 198.51.100.1 loops back to myself"),
        ("named-ours.test", Failed, "5.4.6", "mail for named-ours.test loops back to myself"),
        ("perhaps-ours.test", Deferred, "4.4.3", "name=broken.test type=A"),
    ],
)
def test_unreachable(text: str, kind: type, status: str, words: str) -> None:
    outcome = fail(text)
    assert isinstance(outcome, kind)
    assert outcome.status == status
    assert words in outcome.text
    assert outcome.relay == "none"


def test_mx_hosts_no_better_than_ourselves_are_cut() -> None:
    assert [address.host for address in find("ours.test")] == ["a.test"]


def test_another_port_of_our_host_is_not_ourselves() -> None:
    assert find("[us.test]:2626") == [HostAddress("us.test", "198.51.100.1", 2626)]
