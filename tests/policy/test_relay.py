"""The relay rule: there is no way around it, whatever the settings say."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.config.load import parse_settings
from gatepost.config.settings import ListenerSettings, Settings
from gatepost.mail.address import Address
from gatepost.mail.peer import Identity, Peer
from gatepost.policy.chain import check_restrictions
from gatepost.policy.relay import in_networks, may_relay
from gatepost.policy.restrictions import RESTRICTIONS
from villages import Village
from villages.gates import Asking, Gate

ANN = Identity(Address("ann", "example.test"), "ann", "PLAIN")

# Which peers lie in which networks: written down, not computed.
NETWORKS = {
    "192.0.2.0/24": {"192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"},
    "192.0.2.7": {"192.0.2.7", "::ffff:192.0.2.7", "::ffff:c000:207"},
    "198.51.100.0/25": set(),
    "2001:db8::/32": {"2001:db8::1"},
    "fe80::/16": {"fe80::1", "fe80::1%eth0"},
    "127.0.0.0/8": {"127.0.0.1"},
    "::1": {"::1"},
}
PEERS = sorted(
    {"203.0.113.9", "198.51.100.200", "2001:db9::1", "", *(peer for peers in NETWORKS.values() for peer in peers)}
)

# Recipient -> (whether its domain is ours, whether anybody there has it). Written down as well.
RECIPIENTS = {
    "ann@example.test": (True, True),
    "ANN+tag@Example.Test": (True, True),
    "outside@example.test": (True, True),  # forwarded to a domain that is not ours
    "anybody@catch.test": (True, True),
    "nobody@example.test": (True, False),
    "gone@example.test": (True, False),
    "loop@example.test": (True, False),
    "dead@example.test": (True, False),
    '""@example.test': (True, False),
    "ann%far.test@example.test": (True, False),  # no source routes by another door
    '"kay@far.test"@example.test': (True, False),
    "far.test!kay@example.test": (True, False),
    "postmaster": (True, True),
    "kay@far.test": (False, True),
    "kay@sub.example.test": (False, True),
    "kay@test": (False, True),
    "ann@closed.test": (False, True),
    "ann@[127.0.0.1]": (False, True),
    "ann@[IPv6:::1]": (False, True),
    '"ann@example.test"@far.test': (False, True),
    "ann%example.test@far.test": (False, True),
}
SENDERS = ["", "kay@far.test", "ann@example.test", "bob@example.test", "kay@localhost", "postmaster@example.test"]
HELOS = ["client.far.test", "localhost", "[192.0.2.7]", "-bad-", "", "example.test"]
LOGINS = ["", "", "ann@example.test", "bob@example.test", "gone@example.test"]


def village() -> Village:
    village = Village()
    village.add_domain("example.test")
    village.add_domain("catch.test")
    village.add_domain("closed.test", active=False)
    for account in ("ann@example.test", "bob@example.test", "postmaster@example.test", "ann@closed.test"):
        village.add_account(account)
    village.add_account("gone@example.test", active=False)
    village.add_forward("outside@example.test", "kay@far.test")
    village.add_forward("loop@example.test", "pool@example.test")
    village.add_forward("pool@example.test", "loop@example.test")
    village.add_forward("dead@example.test", "nobody@example.test")
    village.add_forward("@catch.test", "ann@example.test")
    return village


VILLAGE = village()


def names_in(where: str) -> list[str]:
    return [restriction.name for restriction in RESTRICTIONS.values() if where in restriction.lists]


@st.composite
def listeners(draw: st.DrawFn) -> dict[str, list[str] | str]:
    def some(names: list[str]) -> list[str]:
        return draw(st.lists(st.sampled_from(names), max_size=4))

    table: dict[str, list[str] | str] = {"role": draw(st.sampled_from(["mx", "submission", "submissions", "lmtp"]))}
    table["mynetworks"] = some(sorted(NETWORKS))
    table["relay_restrictions"] = some(
        ["permit_mynetworks", "permit_sasl_authenticated", "permit_mynetworks", "reject_unauth_destination"]
    )
    quiet = draw(st.booleans())
    for where in ("helo", "sender", "recipient"):
        # Permits come often: they are what would open a badly made gate.
        permits = [name for name in names_in(where) if name.startswith("permit")]
        table[f"{where}_restrictions"] = some(permits if quiet else names_in(where) + permits)
    for name in draw(st.sets(st.sampled_from(sorted(set(table) - {"role"})), max_size=2)):
        del table[name]  # the role's default
    return table


def load(table: dict[str, list[str] | str]) -> ListenerSettings:
    text = 'hostname = "mail.test"\n[[listener]]\naddress = "127.0.0.1:0"\n'
    text += "".join(f"{name} = {value!r}\n" for name, value in table.items())
    loaded = parse_settings(text, file="gatepost.toml", home=Path("/"), checks=[check_restrictions])
    return loaded.listener[0]


def may_be_accepted(listener: ListenerSettings, asking: Asking) -> bool:
    """The rule in a few lines: who may send there, if no restriction is against it."""
    ours, exists = RECIPIENTS[asking.recipient]
    if ours:
        return exists
    for rule in listener.relay_restrictions:
        if rule == "reject_unauth_destination":
            return False
        if rule == "permit_sasl_authenticated" and asking.login:
            return True
        if rule == "permit_mynetworks":
            for network in listener.mynetworks:
                name = str(network).removesuffix("/32").removesuffix("/128")
                if asking.peer in NETWORKS[str(network) if str(network) in NETWORKS else name]:
                    return True
    return False


ASKING = st.builds(
    Asking,
    st.sampled_from(PEERS),
    st.sampled_from(HELOS),
    st.sampled_from(LOGINS),
    st.sampled_from(SENDERS),
    st.sampled_from(sorted(RECIPIENTS)),
)


@settings(max_examples=250)
@given(listeners(), st.lists(ASKING, min_size=1, max_size=15))
def test_nobody_relays_who_may_not_and_nobody_who_does_not_exist_gets_mail(
    table: dict[str, list[str] | str], many: list[Asking]
) -> None:
    listener = load(table)
    gate = Gate(VILLAGE, listener)
    lists = [listener.helo_restrictions, listener.sender_restrictions, listener.recipient_restrictions]
    refuses_nobody = all(name.startswith("permit") for names in lists for name in names)
    for asking in many:
        verdict = gate.judge(asking)
        if verdict.refusal is None:
            assert may_be_accepted(listener, asking)
        else:
            assert verdict.refusal.code >= 400
        if refuses_nobody:
            assert (verdict.refusal is None) == may_be_accepted(listener, asking)
            if not RECIPIENTS[asking.recipient][0] and verdict.refusal is not None:
                assert str(verdict.refusal).startswith("554 5.7.1 <")
                assert str(verdict.refusal).endswith(">: Relay access denied")


def test_the_defaults_of_every_role_are_closed() -> None:
    for role in ("mx", "submission", "submissions", "lmtp"):
        gate = Gate(VILLAGE, load({"role": role}))
        for recipient, (ours, exists) in RECIPIENTS.items():
            for peer in PEERS:
                asking = Asking(peer=peer, recipient=recipient)
                assert (gate.refusal(asking) == "") == (ours and exists)
            asking = Asking(login="ann@example.test", sender="ann@example.test", recipient=recipient)
            assert (gate.refusal(asking) == "") == exists


def test_a_domain_opened_while_the_server_runs_opens_the_gate_and_closes_it() -> None:
    changed = village()
    gate = Gate(changed, ListenerSettings())
    assert gate.refusal(Asking(recipient="ann@closed.test")) == "554 5.7.1 <ann@closed.test>: Relay access denied"
    changed.add_domain("closed.test")
    assert gate.refusal(Asking(recipient="ann@closed.test")) == ""
    changed.add_domain("example.test", active=False)
    assert gate.refusal(Asking(recipient="ann@example.test")) == "554 5.7.1 <ann@example.test>: Relay access denied"


def test_bare_postmaster_is_taken_from_anybody_wherever_it_goes() -> None:
    gate = Gate(VILLAGE, ListenerSettings(), Settings(postmaster="root@far.test"))
    assert gate.refusal(Asking(recipient="postmaster")) == ""
    assert gate.refusal(Asking(recipient="root@far.test")).startswith("554 5.7.1")


@pytest.mark.parametrize("network", sorted(NETWORKS))
@pytest.mark.parametrize("peer", PEERS)
def test_in_networks(network: str, peer: str) -> None:
    assert in_networks(Peer(peer, 1), [ip_network(network)]) == (peer in NETWORKS[network])
    assert not in_networks(Peer(peer, 1), [])


def test_networks_of_both_kinds_together() -> None:
    networks = [ip_network("2001:db8::/32"), ip_network("192.0.2.0/24")]
    assert in_networks(Peer("192.0.2.1", 1), networks)
    assert in_networks(Peer("2001:db8::1", 1), networks)
    assert not in_networks(Peer("", 0, "localhost"), networks)  # a UNIX socket


@pytest.mark.parametrize(
    ("rules", "allowed", "rule"),
    [
        ([], False, "reject_unauth_destination"),
        (["permit_sasl_authenticated"], True, "permit_sasl_authenticated"),
        (["permit_mynetworks"], True, "permit_mynetworks"),
        (["permit_mynetworks", "permit_sasl_authenticated"], True, "permit_mynetworks"),
        (["reject_unauth_destination", "permit_mynetworks"], False, "reject_unauth_destination"),
    ],
)
def test_may_relay_names_its_rule(rules: list[str], allowed: bool, rule: str) -> None:
    listener = ListenerSettings(relay_restrictions=rules, mynetworks=[ip_network("192.0.2.0/24")])
    verdict = may_relay(listener, Peer("192.0.2.7", 1), ANN, is_ours=False)
    assert (verdict.allowed, verdict.rule) == (allowed, rule)
    assert may_relay(listener, Peer("192.0.2.7", 1), ANN, is_ours=True).rule == "the domain is ours"
