"""Expansion, whatever the tables hold: it ends, keeps its limits, and agrees with a plain reading of its rules."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.config.settings import ForwardSettings, Settings
from gatepost.mail.address import Address, parse_address
from gatepost.routing.router import FORWARD_FAULT, Resolution, Router
from villages import Village, now

DOMAINS = ["a.test", "b.test", "c.test"]
LOCALS = ["x", "y", "z", "x+t", "y+t", "X"]
ADDRESSES = [f"{local}@{domain}" for local in LOCALS for domain in DOMAINS]
SOURCES = [*ADDRESSES, *(f"@{domain}" for domain in DOMAINS)]
TARGETS = [*SOURCES, "p@far.test", "q@far.test", "@far.test", "no address"]


@st.composite
def villages(draw: st.DrawFn) -> Village:
    village = Village()
    for domain in DOMAINS:
        village.add_domain(domain, active=draw(st.sampled_from([True, True, True, False])))
    yes = st.sampled_from([True, True, False])
    for address in draw(st.lists(st.sampled_from(ADDRESSES), max_size=5)):
        village.add_account(address, active=draw(yes), has_mailbox=draw(yes))
    for source in draw(st.lists(st.sampled_from(SOURCES), max_size=8)):
        targets = draw(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=4))
        village.add_forward(source, *targets, keep_copy=draw(st.booleans()), active=draw(yes))
    return village


SETTINGS = st.builds(
    lambda delimiter, postmaster, recursion, expansion, propagate: Settings(
        recipient_delimiter=delimiter,
        postmaster=postmaster,
        forwards=ForwardSettings(recursion_limit=recursion, expansion_limit=expansion, propagate_extension=propagate),
    ),
    st.sampled_from(["+", "+", ""]),
    st.sampled_from(["", "x@a.test", "p@far.test"]),
    st.sampled_from([1, 3, 20]),
    st.sampled_from([1, 2, 1000]),
    st.booleans(),
)
ASKED = st.sampled_from([*ADDRESSES, "postmaster", "postmaster@a.test", "nobody@b.test", "kay@far.test"])


def resolve(village: Village, settings: Settings, text: str) -> Resolution:
    address = parse_address(text) if "@" in text else Address(text, "")
    return now(Router(village, settings).resolve(address))


@given(villages(), SETTINGS, ASKED)
def test_it_ends_and_every_target_is_good(village: Village, settings: Settings, text: str) -> None:
    resolution = resolve(village, settings, text)
    limits = settings.forwards
    assert village.asked <= 8 * limits.expansion_limit * (limits.recursion_limit + 1) + 20
    assert len(resolution.targets) <= limits.expansion_limit
    assert bool(resolution.targets) == (resolution.refusal is None)
    assert bool(resolution.fault) == (resolution.refusal is FORWARD_FAULT)
    assert len({target.address.key for target in resolution.targets}) == len(resolution.targets)
    for target in resolution.targets:
        domain = village.domains.get(target.address.domain)
        ours = domain is not None and domain.active
        if target.route.transport == "maildir":
            account = village.accounts[target.route.next_hop]
            assert account.active
            assert account.has_mailbox
            assert ours
            own = target.address.split_extension(settings.recipient_delimiter)[0]
            assert target.route.next_hop in (target.address.key, own.key)
        else:
            assert not ours
            assert target.route.next_hop == target.address.domain
        assert parse_address(str(target.address)) == target.address
    assert resolution.steps.lines()


class Circle(Exception):
    """The plain reading found a fault."""


class Nobody(Exception):
    """The plain reading found nobody."""


def read_plainly(village: Village, settings: Settings, address: Address, chain: tuple[str, ...] = ()) -> set[str]:
    """The rules of routing/expansion.py read word by word, without its economies: the keys of all ends."""
    if address.key in chain or len(chain) > settings.forwards.recursion_limit:
        raise Circle
    domain = village.domains.get(address.domain)
    if domain is None or not domain.active:
        return {address.key}
    base, tag = address.split_extension(settings.recipient_delimiter)
    forward = village.forwards.get(f"@{address.domain}")
    source, its_tag = address, ""
    for spelling in [address, base]:
        found = village.forwards.get(spelling.key)
        if found is not None and found.active:
            forward, source, its_tag = found, spelling, tag if spelling == base else ""
            break
        account = village.accounts.get(spelling.key)
        if account is not None and account.has_mailbox:
            if not account.active:
                raise Nobody
            return {address.key}
    if forward is None or not forward.active:
        raise Nobody
    ends: set[str] = set()
    keep = forward.keep_copy
    for text in forward.targets:
        if text == "no address":
            continue
        local, _, name = text.rpartition("@")
        if local and its_tag and settings.forwards.propagate_extension:
            local = f"{local}+{its_tag}"
        target = Address(local or address.local, name)
        if target.key in (address.key, source.key):
            keep = True
            continue
        try:
            ends |= read_plainly(village, settings, target, (*chain, address.key))
        except Nobody:
            continue
    account = village.accounts.get(source.key)
    if keep and account is not None and account.has_mailbox and account.active:
        ends.add(address.key)
    return ends


@given(villages(), SETTINGS, st.sampled_from(ADDRESSES))
def test_it_agrees_with_a_plain_reading_of_its_rules(village: Village, settings: Settings, text: str) -> None:
    address = parse_address(text)
    try:
        expected = read_plainly(village, settings, address)
    except Nobody:
        expected = set()
    except Circle:
        assert resolve(village, settings, text).refusal is FORWARD_FAULT
        return
    resolution = resolve(village, settings, text)
    if len(expected) > settings.forwards.expansion_limit:
        assert resolution.refusal is FORWARD_FAULT
    elif resolution.refusal is not FORWARD_FAULT:  # dead targets beyond the limits are a fault of their own
        assert {target.address.key for target in resolution.targets} == expected
    else:
        assert "dead targets" in resolution.fault
