"""Chains: the order of the lists, what a permit ends, and the names that may stand in settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatepost.config.load import parse_settings
from gatepost.config.problems import SettingsError
from gatepost.config.settings import ListenerSettings
from gatepost.mail.steps import Steps
from gatepost.policy.chain import check_restrictions
from villages import Village
from villages.gates import Asking, Gate


def gate(
    helo: tuple[str, ...] = (), sender: tuple[str, ...] = (), relay: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()
) -> Gate:
    village = Village()
    village.add_domain("example.test")
    village.add_account("ann@example.test")
    listener = ListenerSettings(
        helo_restrictions=list(helo),
        sender_restrictions=list(sender),
        relay_restrictions=list(relay),
        recipient_restrictions=list(rcpt),
    )
    return Gate(village, listener)


def test_helo_before_sender_before_relay_before_recipient() -> None:
    stranger = Asking(helo="localhost", sender="kay@far", recipient="kay@far")
    for refused, restrictions in [
        ("504 5.5.2 <localhost>", (("reject_non_fqdn_helo_hostname",), ("reject_non_fqdn_sender",))),
        ("504 5.5.2 <kay@far>: Sender", ((), ("reject_non_fqdn_sender",))),
        ("554 5.7.1 <kay@far>: Relay", ((), ())),
    ]:
        assert gate(*restrictions, rcpt=("reject_non_fqdn_recipient",)).refusal(stranger).startswith(refused)
    member = Asking(helo="localhost", recipient="kay@far", login="ann@example.test")
    allowed = gate(relay=("permit_sasl_authenticated",), rcpt=("reject_non_fqdn_recipient",))
    assert allowed.refusal(member).startswith("504 5.5.2 <kay@far>: Recipient")


def test_within_a_list_the_first_that_has_something_to_say_decides() -> None:
    assert gate(helo=("reject_invalid_helo_hostname", "reject", "defer")).refusal(Asking()).startswith("554")
    assert gate(helo=("defer", "reject")).refusal(Asking()).startswith("450")
    assert gate(helo=("permit", "reject")).refusal(Asking()) == ""


def test_a_permit_ends_its_own_list_only() -> None:
    open_wide = gate(helo=("permit",), sender=("permit",), rcpt=("permit",))
    assert open_wide.refusal(Asking()) == ""
    assert open_wide.refusal(Asking(recipient="kay@far.test")).startswith("554 5.7.1")
    assert open_wide.refusal(Asking(recipient="nobody@example.test")).startswith("550 5.1.1")
    assert gate(helo=("permit",), sender=("reject",)).refusal(Asking()).startswith("554")
    assert gate(sender=("permit",), rcpt=("reject",)).refusal(Asking()).startswith("554")


def test_a_fault_of_a_forward_is_not_told_as_unknown() -> None:
    broken = gate(rcpt=("permit",))
    broken.village.add_forward("x@example.test", "y@example.test")
    broken.village.add_forward("y@example.test", "x@example.test")
    said = broken.refusal(Asking(recipient="x@example.test"))
    assert said.startswith("451 4.3.5 <x@example.test>: Recipient address rejected: ")
    assert "y@example.test" not in said  # the peer is told nothing of our tables


@pytest.mark.parametrize(
    ("restrictions", "asking", "decided", "steps"),
    [
        (gate(), Asking(), "the domain is ours", ["relay: the domain is ours"]),
        (
            gate(helo=("permit",), sender=("reject_non_fqdn_sender",)),
            Asking(sender="kay@far"),
            "reject_non_fqdn_sender",
            [
                "permit permits",
                "reject_non_fqdn_sender refuses: 504 5.5.2 <kay@far>: Sender address rejected: need fully-qualified address",
            ],
        ),
        (
            gate(),
            Asking(recipient="kay@far.test"),
            "reject_unauth_destination",
            ["relay: reject_unauth_destination refuses"],
        ),
        (
            gate(relay=("permit_sasl_authenticated",)),
            Asking(login="ann@example.test", recipient="kay@far.test"),
            "permit_sasl_authenticated",
            ["relay: permit_sasl_authenticated"],
        ),
        (
            gate(rcpt=("permit",)),
            Asking(recipient="nobody@example.test"),
            "reject_unlisted_recipient",
            [
                "relay: the domain is ours",
                "permit permits",
                "reject_unlisted_recipient refuses: "
                "550 5.1.1 <nobody@example.test>: Recipient address rejected: User unknown",
            ],
        ),
    ],
)
def test_the_check_that_decided_is_named(restrictions: Gate, asking: Asking, decided: str, steps: list[str]) -> None:
    noted = Steps()
    assert restrictions.judge(asking, noted).restriction == decided
    assert noted.lines() == steps


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as wrong:
        parse_settings(text, file="gatepost.toml", home=Path("/"), checks=[check_restrictions])
    return [str(problem) for problem in wrong.value.problems]


HEAD = 'hostname = "mail.test"\n[[listener]]\naddress = "127.0.0.1:0"\n'


def test_names_nobody_knows_are_told_with_file_and_line() -> None:
    text = HEAD + 'helo_restrictions = ["reject_invalid_hostname"]\n'
    text += 'sender_restrictions = [\n"permit",\n"reject_foo_bar_baz_quux",\n]\n'
    first, second = problems(text)
    assert first == (
        "gatepost.toml:4: listener.helo_restrictions: 'reject_invalid_hostname' is no restriction that may stand here; "
        "did you mean reject_invalid_helo_hostname?"
    )
    assert second.startswith(
        "gatepost.toml:7: listener.sender_restrictions: 'reject_foo_bar_baz_quux' is no restriction"
    )


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("relay_restrictions", "permit"),  # the one word that would open the relay has no place in the list
        ("relay_restrictions", "reject"),
        ("relay_restrictions", "defer_unauth_destination"),
        ("sender_restrictions", "reject_unlisted_recipient"),
        ("helo_restrictions", "reject_unauth_destination"),
        ("recipient_restrictions", "Permit"),
        ("recipient_restrictions", ""),
    ],
)
def test_names_in_the_wrong_list(name: str, word: str) -> None:
    [problem] = problems(f'{HEAD}{name} = ["{word}"]\n')
    assert problem.startswith(f"gatepost.toml:4: listener.{name}: '{word}' is no restriction that may stand here; ")


def test_the_second_listener_is_checked_too() -> None:
    [problem] = problems(f'{HEAD}[[listener]]\naddress = "127.0.0.2:0"\nrelay_restrictions = ["permit_mynetwork"]\n')
    assert problem == (
        "gatepost.toml:6: listener.relay_restrictions: 'permit_mynetwork' is no restriction that may stand here; "
        "did you mean permit_mynetworks?"
    )
