"""Routes are written and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.mail.route import TRANSPORTS, Route, parse_route


@given(st.sampled_from(TRANSPORTS), st.text(max_size=40))
def test_what_is_written_is_read_back(transport: str, next_hop: str) -> None:
    for known in TRANSPORTS:
        if known == transport:
            assert parse_route(str(Route(known, next_hop))) == Route(known, next_hop)


def test_ports_and_literals_stay_in_the_next_hop() -> None:
    assert parse_route("smtp:[IPv6:2001:db8::1]:2526") == Route("smtp", "[IPv6:2001:db8::1]:2526")
    assert parse_route("maildir:ann@example.test") == Route("maildir", "ann@example.test")


@pytest.mark.parametrize("text", ["", "smtp", "SMTP:x", ":x", "pipe:rm", " smtp:x", "maildirx:y"])
def test_what_is_no_route(text: str) -> None:
    with pytest.raises(ValueError, match="starts with one of maildir, smtp and a colon"):
        parse_route(text)


@given(st.text(max_size=40))
def test_any_text_is_a_route_or_a_value_error(text: str) -> None:
    try:
        route = parse_route(text)
    except ValueError:
        return
    assert str(route) == text
