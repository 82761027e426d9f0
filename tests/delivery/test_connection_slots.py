"""The limit on all connections: never exceeded, given in turn, nobody left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.delivery.connection_slots import ConnectionSlots


class Rival:
    """Wants some connections, and has some."""

    def __init__(self, slots: ConnectionSlots, wants: int = 0) -> None:
        self.slots = slots
        self.wants = wants
        self.has = 0
        self.rests = 0

    def claim(self) -> None:
        while self.wants and self.slots.claim(self):
            self.wants -= 1
            self.has += 1

    def slot_free(self) -> None:
        self.claim()

    def give_up_resting(self) -> bool:
        if not self.rests:
            return False
        self.rests -= 1
        return True

    def end_one(self) -> None:
        self.has -= 1
        self.slots.release(self)


def test_the_next_slot_goes_to_the_one_that_waits_longest() -> None:
    slots = ConnectionSlots(1)
    rivals = [Rival(slots, 1) for _ in range(4)]
    order = []
    for rival in rivals:
        rival.claim()
    for _ in range(4):
        (holder,) = (rival for rival in rivals if rival.has)
        order.append(rivals.index(holder))
        holder.end_one()
    assert order == [0, 1, 2, 3]


def test_who_has_more_than_a_share_yields() -> None:
    slots = ConnectionSlots(4)
    rich, poor = Rival(slots, 4), Rival(slots, 1)
    rich.claim()
    assert not slots.must_yield(rich, 4)
    poor.claim()
    assert slots.must_yield(rich, 4) and slots.must_yield(rich, 3)
    assert not slots.must_yield(rich, 2)


def test_more_destinations_than_connections_take_turns() -> None:
    slots = ConnectionSlots(1)
    first, second = Rival(slots, 1), Rival(slots, 1)
    first.claim()
    second.claim()
    assert slots.must_yield(first, 1)


def test_nobody_yields_to_itself() -> None:
    slots = ConnectionSlots(1)
    alone = Rival(slots, 5)
    alone.claim()
    assert slots.is_exhausted and slots.is_wanted
    assert not slots.must_yield(alone, 1)


def test_a_resting_connection_makes_room() -> None:
    slots = ConnectionSlots(1)
    sleeper, eager = Rival(slots, 1), Rival(slots, 1)
    sleeper.claim()
    sleeper.rests = 1
    eager.claim()
    assert sleeper.rests == 0 and eager.has == 0
    sleeper.end_one()
    assert eager.has == 1


def test_who_withdraws_is_not_asked() -> None:
    slots = ConnectionSlots(1)
    first, second = Rival(slots, 1), Rival(slots, 1)
    first.claim()
    second.claim()
    slots.withdraw(second)
    first.end_one()
    assert second.has == 0 and not slots.is_wanted


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["claim", "end"])), max_size=60))
def test_limit_holds_and_no_slot_is_lost(limit: int, moves: list[tuple[int, str]]) -> None:
    slots = ConnectionSlots(limit)
    rivals = [Rival(slots) for _ in range(5)]
    for which, move in moves:
        rival = rivals[which]
        if move == "claim":
            rival.wants += 1
            rival.claim()
        elif rival.has:
            rival.end_one()
        total = sum(each.has for each in rivals)
        assert total <= limit
        assert total == limit or not any(each.wants for each in rivals)
