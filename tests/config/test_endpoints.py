from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.endpoints import (
    RelayHost,
    TcpAddress,
    UnixAddress,
    parse_host_name,
    parse_listen_address,
    parse_name_server,
    parse_relayhost,
)
from gatepost.config.values import WrongValue


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:25", TcpAddress("127.0.0.1", 25)),
        ("[::]:25", TcpAddress("::", 25)),
        ("[2001:DB8:0::1]:587", TcpAddress("2001:db8::1", 587)),
        ("[fe80::1%eth0]:25", TcpAddress("fe80::1%eth0", 25)),
        ("0.0.0.0:0", TcpAddress("0.0.0.0", 0)),
        ("unix:run/lmtp", UnixAddress("run/lmtp")),
        ("unix:/run/gatepost/lmtp", UnixAddress("/run/gatepost/lmtp")),
    ],
)
def test_listen_addresses(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_listen_address(text) == address
    assert parse_listen_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no address"),
        ("25", "no address"),
        (":25", '"0.0.0.0:25"'),
        ("*:25", r'"\[::\]:25"'),
        ("127.0.0.1", 'write "127.0.0.1:25"'),
        ("::1", r'write "\[::1\]:25"'),
        ("[::1]", r'write "\[::1\]:25"'),
        ("localhost:25", "names are not looked up"),
        ("127.0.0.1:65536", "between 0 and 65535"),
        ("127.0.0.1:smtp", "no address"),
        ("127.0.0.1:25\n", "no address"),
        ("1.2.3.4:٢٥", "no address"),
        ("unix:", "names no path"),
        ("unix:a\0b", "names no path"),
        ("unix:run/", "names a folder"),
        ("unix:../lmtp", r'holds "\.\."'),
        ("unix:run/../../lmtp", r'holds "\.\."'),
    ],
)
def test_what_is_no_listen_address(text: str, told: str) -> None:
    with pytest.raises(WrongValue, match=told):
        parse_listen_address(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("example.test", RelayHost("example.test", True)),
        ("example.test:587", RelayHost("example.test", True, 587)),
        ("[Mail.Example.test]", RelayHost("mail.example.test", False)),
        ("[mail.example.test]:587", RelayHost("mail.example.test", False, 587)),
        ("[192.0.2.1]", RelayHost("192.0.2.1", False)),
        ("[192.0.2.1]:2525", RelayHost("192.0.2.1", False, 2525)),
        ("[2001:db8::1]:25", RelayHost("2001:db8::1", False, 25)),
        ("[smtp_relay]:25", RelayHost("smtp_relay", False, 25)),
    ],
)
def test_relayhosts(text: str, host: RelayHost) -> None:
    assert parse_relayhost(text) == host
    assert parse_relayhost(str(host)) == host


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no host"),
        ("[]", "no host"),
        ("[mail.example.test", "no host"),
        ("mail.example.test:", "no host"),
        ("mail.example.test:0", "between 1 and 65535"),
        ("smtp:[mail.example.test]", "no host"),
        ("192.0.2.1", r"in brackets: \[192.0.2.1\]"),
        ("192.0.2.1:25", r"in brackets: \[192.0.2.1\]"),
        ("2001:db8::1", "no host"),
        ("[1.2.3.4.5]", "neither a name nor an IP address"),
        ("[300.0.2.1]", "neither a name nor an IP address"),
        ("user@example.test", "malformed domain"),
        ("a b", "malformed domain"),
    ],
)
def test_what_is_no_relayhost(text: str, told: str) -> None:
    with pytest.raises(WrongValue, match=told):
        parse_relayhost(text)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", TcpAddress("192.0.2.53", 53)),
        ("127.0.0.1:5353", TcpAddress("127.0.0.1", 5353)),
        ("2001:db8::53", TcpAddress("2001:db8::53", 53)),
        ("[2001:db8::53]", TcpAddress("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", TcpAddress("2001:db8::53", 5353)),
    ],
)
def test_name_servers(text: str, server: TcpAddress) -> None:
    assert parse_name_server(text) == server


@pytest.mark.parametrize(
    "text", ["", ":53", "dns.example.test", "192.0.2.53:0", "192.0.2.53:99999", "192.0.2.53 ", "1.1"]
)
def test_what_is_no_name_server(text: str) -> None:
    with pytest.raises(WrongValue):
        parse_name_server(text)


@pytest.mark.parametrize(
    "text", ["mail.example.test", "MAIL.example.test", "localhost", "xn--bcher-kva.test", "a-1.2b.test", "3com.test"]
)
def test_host_names(text: str) -> None:
    assert parse_host_name(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no host name"),
        ("-a.test", "no host name"),
        ("a..test", "no host name"),
        ("mail.example.test.", "no host name"),
        ("mail_1.test", "no host name"),
        ("mail.test\r\nX", "no host name"),
        ("[192.0.2.1]", "no host name"),
        ("192.0.2.1", "a number"),
        ("a." * 127 + "test", "no host name"),
        ("a" * 64 + ".test", "no host name"),
        ("bücher.test", "write it as xn--bcher-kva.test"),
        ("bü cher.test", "with ASCII letters"),
    ],
)
def test_what_is_no_host_name(text: str, told: str) -> None:
    with pytest.raises(WrongValue, match=told):
        parse_host_name(text)


@given(st.text() | st.text("[]:.%-*unix/a1f0@", max_size=30))
def test_any_text_gives_a_value_or_wrong_value(text: str) -> None:
    for parse in (parse_listen_address, parse_relayhost, parse_name_server, parse_host_name):
        try:
            value = parse(text)
        except WrongValue as problem:
            assert str(problem).isprintable()
        else:
            assert parse(str(value)) == value
