"""Loops, limits, and what only tables written by hand can hold."""

from __future__ import annotations

from dataclasses import fields

import pytest

from gatepost.config.settings import ForwardSettings
from gatepost.routing.router import FORWARD_FAULT
from villages import Village
from villages.questions import resolve, settings, targets


def test_an_address_among_its_own_targets_keeps_a_copy() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_account("ann@example.test")
    village.add_forward("ann@example.test", "ANN@example.test", "kay@far.test")
    assert targets(village, "ann@example.test") == [
        "kay@far.test smtp:far.test",
        "ann@example.test maildir:ann@example.test",
    ]
    assert targets(village, "ann+t@example.test") == [
        "kay+t@far.test smtp:far.test",
        "ann+t@example.test maildir:ann@example.test",
    ]


def test_a_target_that_is_no_address_is_dropped() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_forward("x@example.test", "no address", "", "@", "kay@far.test")
    resolution = resolve(village, "x@example.test")
    assert [str(target.address) for target in resolution.targets] == ["kay@far.test"]
    assert "target no address is dropped: it is no address" in resolution.steps.lines()


def test_loops_are_named() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_account("ann@example.test")
    village.add_forward("x@example.test", "ann@example.test", "a@example.test")
    village.add_forward("a@example.test", "B@example.test")
    village.add_forward("b@example.test", "c@example.test")
    village.add_forward("c@example.test", "a@example.test")
    for start in "xabc":
        resolution = resolve(village, f"{start}@example.test")
        assert (resolution.refusal, resolution.targets, resolution.is_ours) == (FORWARD_FAULT, (), True)
        assert resolution.fault.startswith("forwards go in a circle: ")
        circle = resolution.fault.partition(": ")[2].split(" -> ")
        assert circle[0] == circle[-1]
        assert set(circle) == {f"{name}@example.test" for name in "abc"}


def test_a_loop_through_a_catch_all_and_tags_that_grow() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_domain("other.test")
    village.add_forward("@example.test", "@other.test")
    village.add_forward("@other.test", "@example.test")
    assert "circle" in resolve(village, "x@example.test").fault
    village.add_forward("y@example.test", "y+a@example.test", "y+b@example.test")
    resolution = resolve(village, "y@example.test")
    assert resolution.refusal is FORWARD_FAULT
    assert village.asked < 1000


def chain(village: Village, length: int) -> None:
    """a0 is forwarded `length` times until it comes to ann."""
    village.add_domain("example.test")
    village.add_account("ann@example.test")
    for at in range(length):
        to = f"a{at + 1}" if at + 1 < length else "ann"
        village.add_forward(f"a{at}@example.test", f"{to}@example.test")


@pytest.mark.parametrize("limit", [1, 5, 20])
def test_recursion_limit(limit: int) -> None:
    village = Village()
    chain(village, limit + 1)
    told = settings(forwards=ForwardSettings(recursion_limit=limit))
    assert targets(village, "a1@example.test", told) == ["ann@example.test maildir:ann@example.test"]
    resolution = resolve(village, "a0@example.test", told)
    assert resolution.refusal is FORWARD_FAULT
    assert resolution.fault.startswith(f"more than {limit} forwards in a row: a0@example.test -> ")


def test_the_longest_chain_that_settings_allow_can_be_followed() -> None:
    [declared] = [one for one in fields(ForwardSettings) if one.name == "recursion_limit"]
    longest = int(declared.metadata["most"])
    village = Village()
    chain(village, longest)
    told = settings(forwards=ForwardSettings(recursion_limit=longest))
    assert targets(village, "a0@example.test", told) == ["ann@example.test maildir:ann@example.test"]


def test_recursion_limit_does_not_depend_on_the_order_of_targets() -> None:
    for first in (True, False):
        village = Village()
        chain(village, 3)
        ways = ["a0@example.test", "a2@example.test"]
        village.add_forward("x@example.test", *(ways if first else reversed(ways)))
        told = settings(forwards=ForwardSettings(recursion_limit=3))
        assert resolve(village, "x@example.test", told).refusal is FORWARD_FAULT
        assert resolve(village, "a0@example.test", told).refusal is None


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_expansion_limit(limit: int) -> None:
    village = Village()
    village.add_domain("example.test")
    told = settings(forwards=ForwardSettings(expansion_limit=limit))
    everybody = [f"u{at}@far.test" for at in range(limit)]
    village.add_forward("all@example.test", *everybody, "U0@far.test")
    assert len(targets(village, "all@example.test", told)) == limit
    village.add_forward("all@example.test", *everybody, "one-more@far.test")
    resolution = resolve(village, "all@example.test", told)
    assert resolution.refusal is FORWARD_FAULT
    assert f"may become {limit} recipients" in resolution.fault


def test_forwards_that_meet_again_cost_each_address_once() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_account("ann@example.test")
    for at in range(18):
        both = (f"a{at + 1}@example.test", f"b{at + 1}@example.test")
        village.add_forward(f"a{at}@example.test", *both)
        village.add_forward(f"b{at}@example.test", *both)
    village.add_forward("a18@example.test", "ann@example.test")
    village.add_forward("b18@example.test", "ann@example.test")
    assert targets(village, "a0@example.test") == ["ann@example.test maildir:ann@example.test"]
    assert village.asked < 200  # followed by every way there is, it would be a million


def test_a_flood_of_dead_targets_ends() -> None:
    village = Village()
    village.add_domain("example.test")
    village.add_forward("x@example.test", *(f"dead{at}@example.test" for at in range(10_000)))
    told = settings(forwards=ForwardSettings(expansion_limit=10, recursion_limit=5))
    assert "dead targets" in resolve(village, "x@example.test", told).fault
    assert village.asked < 1000
