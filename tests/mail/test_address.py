"""Addresses: what RFC 5321 and 6531 allow, and that nothing else gets in or breaks out."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gatepost.mail import address as module
from gatepost.mail.address import Address, BadAddress, display_domain, parse_address, parse_domain

LITERAL = "a@[IPv6:2001:db8::1]"


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("ann@example.test", "ann", "example.test"),
        ("Ann@Example.TEST", "Ann", "example.test"),
        ("ann+tag@mail.example.test", "ann+tag", "mail.example.test"),
        ("!#$%&'*+/=?^_`{|}~-@example.test", "!#$%&'*+/=?^_`{|}~-", "example.test"),
        ('"ann lee"@example.test', "ann lee", "example.test"),
        ('"ann@home"@example.test', "ann@home", "example.test"),
        (r'"a\"b\\c"@example.test', r'a"b\c', "example.test"),
        (r'"a\nn"@example.test', "ann", "example.test"),  # a quoted pair stands for its second character
        ('"ann"@example.test', "ann", "example.test"),
        ('".a..b."@example.test', ".a..b.", "example.test"),
        ('""@example.test', "", "example.test"),
        ("ann@localhost", "ann", "localhost"),
        ("ann@1and1.test", "ann", "1and1.test"),
        ("ann@a_b.test", "ann", "a_b.test"),
        ("ann@[192.0.2.1]", "ann", "[192.0.2.1]"),
        ("ann@[IPv6:2001:DB8:0::1]", "ann", "[IPv6:2001:db8::1]"),
        ("ann@[ipv6:::1]", "ann", "[IPv6:::1]"),
        ("jürgen@example.test", "jürgen", "example.test"),
        ('"jürgen k"@example.test', "jürgen k", "example.test"),
        ("ann@bücher.test", "ann", "xn--bcher-kva.test"),
        ("ann@BÜCHER.test", "ann", "xn--bcher-kva.test"),
        ("ann@faß.test", "ann", "xn--fa-hia.test"),  # IDNA 2008 keeps ß
        ("ann@bücher。test", "ann", "xn--bcher-kva.test"),  # UTS 46: the ideographic full stop is a dot
        ("用户@例え.test", "用户", "xn--r8jz45g.test"),
    ],
)
def test_good(text: str, local: str, domain: str) -> None:
    assert parse_address(text) == Address(local, domain)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no domain"),
        ("ann", "no domain"),
        ("postmaster", "no domain"),  # the bare form is RCPT's business
        ("@example.test", "no local part"),
        ("ann@", "domain is empty"),
        (".ann@example.test", "local part"),
        ("ann.@example.test", "local part"),
        ("a..b@example.test", "local part"),
        ("ann lee@example.test", "local part"),
        ("a@b@example.test", "local part"),
        ("ann(home)@example.test", "local part"),
        ('"ann@example.test', "local part"),
        ('ann"@example.test', "local part"),
        ('"a"b"@example.test', "local part"),
        ('"a\\"@example.test', "local part"),
        ('"a\tb"@example.test', "local part"),
        ('"a\\\nb"@example.test', "local part"),
        ("a\x00b@example.test", "local part"),
        ("a\x1b[31m@example.test", "local part"),
        ("a\x85b@example.test", "local part"),
        ('"a\x9bb"@example.test', "local part"),
        ("a\u2028b@example.test", "local part"),
        ("a\u202eb@example.test", "local part"),
        ('"a\u2066b"@example.test', "local part"),
        ("ann@example.test.", "domain"),
        ("ann@.example.test", "domain"),
        ("ann@example..test", "domain"),
        ("ann@-example.test", "domain"),
        ("ann@example-.test", "domain"),
        ("ann@exam ple.test", "domain"),
        ("ann@example.test\r\n", "domain"),
        ("ann@" + "a" * 64 + ".test", "domain"),
        ("ann@b\u0000\u00fccher.test", "domain"),
        ("ann@\u200b.test", "domain"),
        ("ann@[192.0.2.1", "bracket"),
        ("ann@[192.0.2.256]", "literal"),
        ("ann@[192.0.2.01]", "literal"),
        ("ann@[192.0.2.1/24]", "literal"),
        ("ann@[１92.0.2.1]", "literal"),
        ("ann@[2001:db8::1]", "literal"),  # RFC 5321 §4.1.3: without the tag it is IPv4
        ("ann@[IPv6:2001:db8::g]", "literal"),
        ("ann@[IPv6:fe80::1%eth0]", "literal"),
        ('ann@[IPv6:fe80::1%"\x1b \u00fc"]', "literal"),
        ("ann@[]", "literal"),
        ("ann@[tag:content]", "literal"),
        ("\ud800@example.test", "UTF-8"),
        ("ann@\udfff.test", "UTF-8"),
    ],
)
def test_bad(text: str, why: str) -> None:
    with pytest.raises(BadAddress, match=why):
        parse_address(text)


def test_limits_are_octets_and_both_included() -> None:
    assert parse_address("a" * 64 + "@example.test").local == "a" * 64
    with pytest.raises(BadAddress, match="64 octets"):
        parse_address("a" * 65 + "@example.test")
    assert parse_address("ü" * 32 + "@example.test").local == "ü" * 32
    with pytest.raises(BadAddress, match="64 octets"):
        parse_address("ü" * 32 + "a@example.test")
    longest = ".".join(["d" * 63, "d" * 63, "d" * 56, "test"])
    assert len(parse_address("a" * 64 + "@" + longest).domain) == 189
    with pytest.raises(BadAddress, match="254 octets"):
        parse_address("a" * 64 + "@" + longest + "t")
    with pytest.raises(BadAddress, match="255 octets"):
        parse_domain(".".join(["d" * 63] * 4) + ".test")
    # Short as people write it, too long in A-labels.
    with pytest.raises(BadAddress):
        parse_domain("".join(chr(0x4E00 + 331 * at) for at in range(40)) + ".test")


TEXTS = (
    st.text(max_size=40)
    | st.text('abcABC.+@"\\<> []:1é\u212a\u3002-_', max_size=30)
    | st.builds("{}@{}".format, st.text(max_size=12), st.text(max_size=20))
    | st.builds('"{}"@{}'.format, st.text(max_size=12), st.sampled_from(["d.test", "bücher.test", "[192.0.2.1]"]))
    | st.builds("a@[{}]".format, st.text("IPv6:%0123456789abcdef./ü ", max_size=24))
    | st.builds("a@xn--{}".format, st.text("abc-0123.\u00fc", max_size=20))
)


@given(TEXTS)
@example("a@\u2488.test")
@example('"\\ "@d')
@example(LITERAL)
def test_any_text_is_an_address_or_bad_and_addresses_are_fit_for_the_wire(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress as bad:
        assert str(bad).isprintable()
        return
    wire = str(address)
    assert parse_address(wire) == address
    assert parse_address(wire).key == address.key
    assert len(wire.encode()) <= 254
    assert address.domain.isascii()
    assert address.domain == address.domain.lower() or address.domain.startswith("[IPv6:")
    assert address.is_ascii == wire.isascii()
    assert not any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in wire)
    assert not set("<>()[]:;@, \\") & set(address.local) or wire.startswith('"')


@given(TEXTS)
def test_any_text_is_a_domain_or_bad_and_can_be_shown(text: str) -> None:
    try:
        domain = parse_domain(text)
    except BadAddress:
        domain = text
    else:
        assert parse_domain(domain) == domain
    assert isinstance(display_domain(domain), str)


PLAIN = st.from_regex(r"[A-Z+=.-]{1,9}@[a-z0-9.-]{1,12}[a-z0-9]{1,3}", fullmatch=True)


@given(PLAIN | st.builds("{}.{}.test".format, PLAIN, st.sampled_from(["d" * 63, "d" * 64, "x-" * 20])))
@example("a" * 60 + "@b.c")
@example("a" * 61 + "@b.c")
def test_the_fast_way_agrees_with_the_slow_one(text: str) -> None:
    if module._FAST.fullmatch(text) is not None:
        assert parse_address(text) == _slowly(text)


def _slowly(text: str) -> Address:
    """The same address written so that the fast way does not take it."""
    local, _, domain = text.rpartition("@")
    assert module._FAST.fullmatch(f"{local}@{domain.upper()}") is None
    return parse_address(f"{local}@{domain.upper()}")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200_000,
        "a." * 100_000,
        "a." * 100_000 + "@",
        "a@" + "a." * 100_000,
        "a@" + "a-" * 100_000,
        "a@" + "ü" * 200_000,
        "a@" + "ü." * 127,
        '"' * 200_000,
        '"' + "\\a" * 100_000,
        '"' + "a" * 200_000 + "@d.test",
        "@" * 200_000,
        "a@[IPv6:" + ":" * 200_000 + "]",
        "a@[" + "1." * 100_000 + "]",
        "a@" + "xn--" * 50_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    with pytest.raises(BadAddress):
        parse_address(text)
    display_domain(text[:2000])
    assert time.process_time() - began < 1.0  # a regex that blows up would take years


def test_key_is_what_spellings_share() -> None:
    assert parse_address("Ann+X@EXAMPLE.test").key == "ann+x@example.test" == parse_address('"ann+x"@example.test').key
    assert parse_address("ÄNN@bücher.test").key == "änn@xn--bcher-kva.test"


@pytest.mark.parametrize(
    ("local", "delimiter", "base", "extension"),
    [
        ("ann+tag", "+", "ann", "tag"),
        ("ann+a+b", "+", "ann", "a+b"),
        ("ann+", "+", "ann", ""),
        ("+tag", "+", "+tag", ""),
        ("+", "+", "+", ""),
        ("ann", "+", "ann", ""),
        ("ann-tag+x", "-", "ann", "tag+x"),
        ("ann+tag", "", "ann+tag", ""),
        ("", "+", "", ""),
    ],
)
def test_split_extension(local: str, delimiter: str, base: str, extension: str) -> None:
    assert Address(local, "d.test").split_extension(delimiter) == (Address(base, "d.test"), extension)


def test_with_domain() -> None:
    assert Address("ann+x", "a.test").with_domain("b.test") == Address("ann+x", "b.test")
    assert str(Address("postmaster", "")) == "postmaster"


@pytest.mark.parametrize(
    ("domain", "shown"),
    [
        ("xn--bcher-kva.test", "bücher.test"),
        ("mail.xn--bcher-kva.test", "mail.bücher.test"),
        ("example.test", "example.test"),
        ("xn--a.test", "xn--a.test"),  # says it is an A-label and is none
        ("xn--.test", "xn--.test"),
        ("xn--bcher-kva.a_b.test", "xn--bcher-kva.a_b.test"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("", ""),
    ],
)
def test_display_domain(domain: str, shown: str) -> None:
    assert display_domain(domain) == shown
