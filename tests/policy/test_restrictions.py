"""Each restriction alone, with Postfix's codes and words."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gatepost.config.settings import ListenerSettings
from gatepost.policy.restrictions import RESTRICTIONS
from villages import Village
from villages.gates import Asking, Gate


@pytest.fixture(scope="module")
def village() -> Village:
    village = Village()
    village.add_domain("example.test")
    village.add_domain("intranet")
    village.add_account("ann@example.test")
    village.add_account("bob@example.test")
    village.add_account("ann@intranet")
    village.add_forward("sales@example.test", "ann@example.test")
    return village


def refusals(village: Village, name: str, asking: Asking) -> set[str]:
    """What is said with this restriction alone, in each of the lists where it may stand."""
    found = set()
    for where in RESTRICTIONS[name].lists:
        listener = ListenerSettings(
            mynetworks=[ip_network("192.0.2.0/24")],
            relay_restrictions=["permit_mynetworks"],
            helo_restrictions=[name] * (where == "helo"),
            sender_restrictions=[name] * (where == "sender"),
            recipient_restrictions=[name] * (where == "recipient"),
        )
        found.add(Gate(village, listener).refusal(asking))
    return found


HOME = "192.0.2.7"
ANN = "ann@example.test"
INVALID = "Helo command rejected: Invalid name"
NON_FQDN = "Helo command rejected: need fully-qualified hostname"


@pytest.mark.parametrize(
    ("name", "asking", "reply"),
    [
        ("permit", Asking(), ""),
        ("permit_mynetworks", Asking(), ""),
        ("permit_sasl_authenticated", Asking(), ""),
        ("reject", Asking(), f"554 5.7.1 <{ANN}>: Recipient address rejected: Access denied"),
        ("reject", Asking(peer=HOME, login=ANN), f"554 5.7.1 <{ANN}>: Recipient address rejected: Access denied"),
        ("defer", Asking(), f"450 4.3.2 <{ANN}>: Recipient address rejected: Try again later"),
        ("reject_invalid_helo_hostname", Asking(helo="mail.far.test"), ""),
        ("reject_invalid_helo_hostname", Asking(helo="localhost"), ""),
        ("reject_invalid_helo_hostname", Asking(helo="under_score.test"), ""),
        ("reject_invalid_helo_hostname", Asking(helo="[192.0.2.7]"), ""),
        ("reject_invalid_helo_hostname", Asking(helo="192.0.2.7"), ""),
        ("reject_invalid_helo_hostname", Asking(helo=""), ""),
        ("reject_invalid_helo_hostname", Asking(helo="-far.test"), f"501 5.5.2 <-far.test>: {INVALID}"),
        ("reject_invalid_helo_hostname", Asking(helo="a..b"), f"501 5.5.2 <a..b>: {INVALID}"),
        ("reject_invalid_helo_hostname", Asking(helo="a!b"), f"501 5.5.2 <a!b>: {INVALID}"),
        ("reject_invalid_helo_hostname", Asking(helo="bücher.test"), f"501 5.5.2 <bücher.test>: {INVALID}"),
        ("reject_invalid_helo_hostname", Asking(helo="x" * 64), f"501 5.5.2 <{'x' * 64}>: {INVALID}"),
        ("reject_non_fqdn_helo_hostname", Asking(helo="mail.far.test"), ""),
        ("reject_non_fqdn_helo_hostname", Asking(helo="[192.0.2.7]"), ""),
        ("reject_non_fqdn_helo_hostname", Asking(helo=""), ""),
        ("reject_non_fqdn_helo_hostname", Asking(helo="localhost"), f"504 5.5.2 <localhost>: {NON_FQDN}"),
        ("reject_non_fqdn_helo_hostname", Asking(helo="192.0.2.7"), f"504 5.5.2 <192.0.2.7>: {NON_FQDN}"),
        ("reject_non_fqdn_helo_hostname", Asking(helo="a..b"), f"504 5.5.2 <a..b>: {NON_FQDN}"),
        ("reject_non_fqdn_sender", Asking(), ""),
        ("reject_non_fqdn_sender", Asking(sender=""), ""),
        ("reject_non_fqdn_sender", Asking(sender="kay@[192.0.2.7]"), ""),
        ("reject_non_fqdn_sender", Asking(sender="kay@[IPv6:2001:db8::1]"), ""),
        (
            "reject_non_fqdn_sender",
            Asking(sender="kay@far"),
            "504 5.5.2 <kay@far>: Sender address rejected: need fully-qualified address",
        ),
        ("reject_non_fqdn_recipient", Asking(), ""),
        ("reject_non_fqdn_recipient", Asking(peer=HOME, recipient="kay@[IPv6:2001:db8::1]"), ""),
        (
            "reject_non_fqdn_recipient",
            Asking(recipient="ann@intranet"),
            "504 5.5.2 <ann@intranet>: Recipient address rejected: need fully-qualified address",
        ),
        ("reject_authenticated_sender_login_mismatch", Asking(sender="bob@example.test"), ""),
        ("reject_authenticated_sender_login_mismatch", Asking(login=ANN, sender=""), ""),
        ("reject_authenticated_sender_login_mismatch", Asking(login=ANN, sender="Ann+x@example.test"), ""),
        ("reject_authenticated_sender_login_mismatch", Asking(login=ANN, sender="sales@example.test"), ""),
        (
            "reject_authenticated_sender_login_mismatch",
            Asking(login=ANN, sender="bob@example.test"),
            "553 5.7.1 <bob@example.test>: Sender address rejected: not owned by user ann@example.test",
        ),
        (
            "reject_authenticated_sender_login_mismatch",
            Asking(login=ANN, sender="kay@far.test"),
            "553 5.7.1 <kay@far.test>: Sender address rejected: not owned by user ann@example.test",
        ),
        ("reject_unauthenticated_sender_login_mismatch", Asking(sender=""), ""),
        ("reject_unauthenticated_sender_login_mismatch", Asking(sender="kay@far.test"), ""),
        ("reject_unauthenticated_sender_login_mismatch", Asking(sender="nobody@example.test"), ""),
        ("reject_unauthenticated_sender_login_mismatch", Asking(login=ANN, sender="bob@example.test"), ""),
        (
            "reject_unauthenticated_sender_login_mismatch",
            Asking(peer=HOME, sender="bob@example.test"),
            "553 5.7.1 <bob@example.test>: Sender address rejected: not logged in",
        ),
        (
            "reject_sender_login_mismatch",
            Asking(sender="bob@example.test"),
            "553 5.7.1 <bob@example.test>: Sender address rejected: not logged in",
        ),
        (
            "reject_sender_login_mismatch",
            Asking(login=ANN, sender="bob@example.test"),
            "553 5.7.1 <bob@example.test>: Sender address rejected: not owned by user ann@example.test",
        ),
        ("reject_sender_login_mismatch", Asking(login=ANN, sender=ANN), ""),
        ("reject_unlisted_recipient", Asking(), ""),
        (
            "reject_unlisted_recipient",
            Asking(recipient="nobody@example.test"),
            "550 5.1.1 <nobody@example.test>: Recipient address rejected: User unknown",
        ),
    ],
)
def test_alone(village: Village, name: str, asking: Asking, reply: str) -> None:
    assert refusals(village, name, asking) == {reply}


def test_every_restriction_is_tried_here_and_says_what_it_is() -> None:
    marks = getattr(test_alone, "pytestmark", [])
    assert {case[0] for mark in marks for case in mark.args[1]} == set(RESTRICTIONS)
    for name, restriction in RESTRICTIONS.items():
        assert restriction.name == name
        assert restriction.sentence.endswith(".")
        assert restriction.lists


def test_a_login_that_was_disabled_since_sends_as_nobody() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_account("ann@example.test", active=False)
    village.add_account("bob@example.test")
    gate = Gate(village, ListenerSettings())
    asking = Asking(login=ANN, sender=ANN, recipient="bob@example.test")
    assert gate.refusal(asking).startswith("553 5.7.1")
