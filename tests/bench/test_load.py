"""The load: how it is shared among smtp-source, and how the sink's counters are read."""

from __future__ import annotations

from bench.contender import forwards
from bench.scenarios import FORWARDS, KINDS, SESSIONS, SIZES, scenarios
from bench.sink import last_count
from hypothesis import given
from hypothesis import strategies as st
from pytest import MonkeyPatch

from bench import source


def option(command: list[str], name: str) -> int:
    return int(command[command.index(name) + 1])


@given(st.integers(0, 100_000), st.integers(1, 100))
def test_shares_are_all_of_it_and_about_equal(total: int, parts: int) -> None:
    shares = source.shares(total, parts)
    assert len(shares) == parts
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_all_messages_are_sent_by_all_sessions_and_to_no_forward_beyond_the_table(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(source, "program", lambda name: f"/usr/sbin/{name}")
    for load in (0.1, 1.0, 10.0):
        for scenario in scenarios(KINDS, SESSIONS, SIZES, load):
            for one in (scenario, scenario.warm_up()):
                commands = source.commands(one, 2525, keep_connections=False)
                assert sum(option(command, "-m") for command in commands) == one.messages
                assert sum(option(command, "-s") for command in commands) == one.sessions
                assert all(option(command, "-l") == one.size * 1024 for command in commands)
                assert one.kind != "forward" or all(option(command, "-m") <= FORWARDS for command in commands)


def test_the_table_of_forwards_holds_what_smtp_source_numbers() -> None:
    table = forwards()
    assert len(table) == FORWARDS
    assert table["1u@ours.test"] == "1u@dest.test"
    assert f"{FORWARDS}u@ours.test" in table


def test_the_last_complete_counter_counts() -> None:
    text = b"sess=0 quit=0 mesg=9\rsess=1 quit=1 mesg=10\rsess=1 quit=1 mesg=1"
    assert last_count(text) == 10
    assert last_count(b"sess=1 quit=1 mesg=1") is None
