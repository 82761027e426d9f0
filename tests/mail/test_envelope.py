"""What senders wish to be told (RFC 3461)."""

from __future__ import annotations

import pytest

from gatepost.mail.address import Address
from gatepost.mail.envelope import Envelope, Notify, Recipient

ANN = Address("ann", "example.test")


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ([], ["FAILURE", "DELAY"]),
        (["NEVER"], []),
        (["SUCCESS"], ["SUCCESS"]),
        (["FAILURE"], ["FAILURE"]),
        (["SUCCESS", "DELAY"], ["SUCCESS", "DELAY"]),
    ],
)
def test_wishes(notify: list[Notify], told: list[Notify]) -> None:
    recipient = Recipient(ANN, frozenset(notify))
    asked: tuple[Notify, ...] = ("SUCCESS", "FAILURE", "DELAY")
    assert [what for what in asked if recipient.wants(what)] == told


def test_the_null_sender_is_written_as_nothing() -> None:
    assert Envelope(None).sender_text == ""
    assert Envelope(ANN).sender_text == "ann@example.test"
