"""The table: what is offered when, and what a client takes."""

from __future__ import annotations

from gatepost.protocols.sasl.exchange import VerifyPassword
from gatepost.protocols.sasl.mechanisms import MECHANISMS, choose, named, offered


def names(**wanted: bool) -> list[str]:
    return [mechanism.name for mechanism in offered({VerifyPassword}, **wanted)]


def test_passwords_are_offered_only_where_they_are_allowed() -> None:
    assert names(passwords_allowed=True) == ["PLAIN", "LOGIN"]
    assert names(passwords_allowed=False) == []


def test_nothing_is_offered_that_the_driver_cannot_answer() -> None:
    assert offered(set(), passwords_allowed=True) == ()


def test_names_are_compared_without_case() -> None:
    found = named("pLaIn")
    assert found is not None
    assert found.name == "PLAIN"
    assert named("PLAIN", offered({VerifyPassword}, passwords_allowed=False)) is None
    assert named("") is None
    assert named("PLAIN LOGIN") is None


def test_a_client_takes_the_best_it_knows() -> None:
    chosen = choose(["GSSAPI", "login", "plain"], passwords_allowed=True)
    assert chosen is not None
    assert chosen.name == "PLAIN"
    only = choose(["LOGIN"], passwords_allowed=True)
    assert only is not None
    assert only.name == "LOGIN"
    assert choose(["GSSAPI"], passwords_allowed=True) is None
    assert choose(["PLAIN", "LOGIN"], passwords_allowed=False) is None


def test_every_name_is_one_that_rfc_4422_allows() -> None:
    assert all(
        1 <= len(row.name) <= 20 and set(row.name) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
        for row in MECHANISMS
    )
    assert len({row.name for row in MECHANISMS}) == len(MECHANISMS)
