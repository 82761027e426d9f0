"""Steps cost nothing until somebody asks, and are no templates for what peers say."""

from __future__ import annotations

from gatepost.mail.address import Address
from gatepost.mail.steps import Steps


class Unasked:
    def __str__(self) -> str:
        raise AssertionError("nobody asked for the sentence")


def test_sentences_come_in_order() -> None:
    steps = Steps()
    steps.note("forward {} -> {}", "a@b.test", Address("c d", "e.test"))
    steps.note("done")
    assert steps.lines() == ['forward a@b.test -> "c d"@e.test', "done"]
    assert steps.lines() == steps.lines()
    assert steps.count == 2


def test_nothing_is_formatted_before_it_is_asked_for() -> None:
    Steps().note("{}", Unasked())


def test_braces_in_values_mean_nothing() -> None:
    steps = Steps()
    steps.note("{}", Address("{0.__class__}{1}", "e.test"))
    assert steps.lines() == ["{0.__class__}{1}@e.test"]
