"""What runs amount to, and what the tables say of it."""

from __future__ import annotations

import pytest
from bench.figures import Comparison, Run, Spread
from bench.report import race_record, speed_table, table
from bench.scenarios import KINDS, SESSIONS, SIZES, Kind, Scenario, scenarios


def run(seconds: float, *, messages: int = 1000, cpu: float = 1.0, others: float = 0.0) -> Run:
    return Run(messages, seconds, seconds + 0.1, cpu, others)


def comparison(ours: list[Run], theirs: list[Run], kind: Kind = "relay") -> Comparison:
    return Comparison(Scenario(kind, 20, 4, 1000), {"Postfix": theirs, "Gatepost": ours})


def test_a_run_is_measured_until_the_last_message_arrived() -> None:
    measured = run(2.0, messages=500, cpu=0.75)
    assert measured.rate == 250
    assert measured.cpu_milliseconds == 1.5


def test_the_median_is_not_moved_by_one_bad_round() -> None:
    spread = Spread.of([run(1.0), run(100.0), run(2.0)], lambda one: one.rate)
    assert (spread.median, spread.least, spread.most) == (500, 10, 1000)


def test_the_ratio_is_how_many_times_as_fast_we_are() -> None:
    found = comparison([run(0.5), run(0.4), run(0.6)], [run(1.0), run(2.0), run(3.0)])
    assert found.ratio("Gatepost", "Postfix") == pytest.approx(4.0)
    assert found.ratio("Postfix", "Gatepost") == pytest.approx(0.25)


@pytest.mark.parametrize(("kind", "reached"), [("relay", False), ("forward", False), ("maildir", True)])
def test_a_goal_is_reached_from_its_value_on(kind: Kind, reached: bool) -> None:
    assert comparison([run(0.4)], [run(1.0)], kind).goal_reached("Gatepost", "Postfix") is reached
    assert comparison([run(0.25)], [run(1.0)], kind).goal_reached("Gatepost", "Postfix") is True


def test_the_table_marks_missed_goals_and_disturbed_runs() -> None:
    lines = speed_table(
        [comparison([run(1.0)], [run(1.0)]), comparison([run(0.1, others=0.3)], [run(1.0)])]
    ).splitlines()
    assert "NO" in lines[2] and "!" not in lines[2]
    assert "yes" in lines[3] and lines[3].endswith("30% !")


def test_columns_stand_below_one_another() -> None:
    lines = table(["name", "n"], [["a", "1"], ["longer", "1000"]]).splitlines()
    assert lines == ["name       n", "------  ----", "a          1", "longer  1000"]


def test_one_server_alone_has_no_ratio() -> None:
    alone = Comparison(Scenario("relay", 1, 4, 1000), {"Gatepost": [run(1.0)]})
    [scenario] = race_record([alone], [])["scenarios"]
    assert scenario["ratio"] is None
    assert scenario["runs"]["Gatepost"][0]["seconds"] == 1.0


def test_the_whole_course_has_every_combination_and_a_goal_where_the_house_set_one() -> None:
    course = list(scenarios(KINDS, SESSIONS, SIZES, 1.0))
    assert len(course) == len(set(course)) == len(KINDS) * len(SESSIONS) * len(SIZES)
    goals = {(one.kind, one.sessions, one.size): one.goal for one in course}
    assert goals["relay", 20, 4] == goals["forward", 20, 4] == 3.0
    assert goals["maildir", 20, 4] == 2.0
    assert goals["maildir", 1, 4] == goals["relay", 100, 200] == 1.0
    assert goals["relay", 100, 4] is None
