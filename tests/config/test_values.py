from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.values import (
    LARGEST_SIZE,
    LONGEST_DURATION,
    WrongValue,
    check_duration,
    format_duration,
    format_network,
    format_size,
    parse_duration,
    parse_network,
    parse_size,
    quoted,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5d", 432000),
        ("4h30m", 16200),
        ("4h 30m", 16200),
        ("90s", 90),
        ("90", 90),
        ("0", 0),
        ("1w2d3h4m5s", 788645),
        ("1.5h", 5400),
        ("1.1h", 3960),
        ("0.25s", 0.25),
        (" 5 m ", 300),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "d", "5 days", "5x", "30m4h", "5d5d", "-1s", "1e3", "1.s", "٣s", "5d\n", "11000d", "9" * 500]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(WrongValue, match="; write"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4000, "1h6m40s"), (432000, "5d"), (0, "0s"), (-0.0, "0s"), (0.25, "0.25s"), (1e-6, "0.000001s")],
)
def test_durations_are_written_in_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, LONGEST_DURATION) | st.floats(0, 1e-3) | st.integers(0, LONGEST_DURATION))
def test_a_written_duration_is_read_as_the_same(seconds: float) -> None:
    kept = check_duration(seconds)
    assert abs(kept - seconds) <= 1e-6
    assert parse_duration(format_duration(kept)) == kept


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("50 MiB", 52428800),
        ("50MB", 52428800),
        ("50M", 52428800),
        ("64k", 65536),
        ("64K", 65536),
        ("64 KiB", 65536),
        ("998", 998),
        ("998 B", 998),
        ("1.5 GiB", 1610612736),
        ("1T", 1 << 40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "5 bytes", "5 m", "-1", "0.1", "1e3", "64kk", "٣", "99999999999 T", "9" * 500]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(WrongValue, match=r"; (write|round)"):
        parse_size(text)


@given(st.integers(0, LARGEST_SIZE))
def test_a_written_size_is_read_as_the_same(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", IPv4Network("192.0.2.0/24")),
        ("192.0.2.1", IPv4Network("192.0.2.1/32")),
        ("2001:db8::/32", IPv6Network("2001:db8::/32")),
        ("[2001:db8::]/32", IPv6Network("2001:db8::/32")),
        ("[::1]/128", IPv6Network("::1/128")),
        ("::1", IPv6Network("::1/128")),
    ],
)
def test_networks(text: str, network: IPv4Network | IPv6Network) -> None:
    assert parse_network(text) == network


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no network"),
        ("example.test", "no network"),
        ("10.0.0.0/255.0.0.0", "no network"),
        ("10.0.0.0/0.255.255.255", "no network"),
        ("10/8", "no IP address"),
        ("10.0.0.0/33", "at most /32"),
        ("2001:db8::/129", "at most /128"),
        ("[10.0.0.0/8", "no network"),
        ("fe80::1%eth0", "no network"),
        ("1.2.3.256", "no IP address"),
        ("010.0.0.1", "no IP address"),
        ("192.168.1.5/24", "write 192.168.1.0/24 or 192.168.1.5/32"),
        ("::ffff:10.0.0.0/104", "write them as IPv4"),
        ("::ffff:0:0/96", "write them as IPv4"),
        ("::/16", "write them as IPv4"),
    ],
)
def test_what_is_no_network(text: str, told: str) -> None:
    with pytest.raises(WrongValue, match=told):
        parse_network(text)


@given(st.ip_addresses(), st.integers(0, 32))
def test_a_written_network_is_read_as_the_same(address: object, cut: int) -> None:
    host = ip_network(f"{address}")
    network = host.supernet(prefixlen_diff=min(cut, host.prefixlen))
    if isinstance(network, IPv4Network) or not network.overlaps(IPv6Network("::ffff:0:0/96")):
        assert parse_network(format_network(network)) == network


@given(st.text() | st.text("0123456789dhmswkMGTiB ./:[]%abcdef", max_size=20))
def test_any_text_gives_a_value_or_wrong_value(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_network):
        try:
            parse(text)
        except WrongValue as problem:
            assert str(problem).isprintable()


def test_what_is_quoted_fits_on_a_line() -> None:
    assert quoted("a\nb\x00") == '"a\\u000ab\\u0000"'
    assert len(quoted("x" * 1000)) == 102
