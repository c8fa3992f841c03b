"""How long a study takes: what runs, what waits, and what has yet to be submitted, each at its own pace."""

from bncore.studies.foreseeing import Ahead
from store.jobs.states import State
from store.studies.ahead import eta_seconds
from store.sweeps.standing import Standing


def standing(*rows: tuple[State, int, int, int, float]) -> Standing:
    """Of rows (state, how many, steps done, steps in all, seconds)."""
    found = Standing()
    for state, count, steps, total, seconds in rows:
        reason = "budget" if state is State.SUCCEEDED else None
        found.add((state, reason, count, 0, steps, total, 1, seconds, 0, 0, 0))
    return found


DONE = (State.SUCCEEDED, 4, 400, 400, 40.0)
"""0.1 seconds a step."""
HALF = (State.RUNNING, 2, 100, 200, 0.0)
WAITING = (State.QUEUED, 3, 0, 300, 0.0)


def test_what_is_ahead_takes_as_long_as_what_was() -> None:
    stage = standing(DONE, HALF, WAITING)
    # 400 steps are left of the stage, and 500 of the next: 90 seconds, two at a time.
    assert eta_seconds([({"tune": stage}, [Ahead("confirm", 5, 500)])], stage) == 45.0
    assert eta_seconds([({"tune": stage}, [])], stage) == stage.eta_seconds == 20.0


def test_each_part_of_an_article_has_a_pace_of_its_own_and_one_that_has_none_yet_that_of_all() -> None:
    slow = standing((State.SUCCEEDED, 1, 100, 100, 100.0), HALF)
    rows = [DONE, (State.SUCCEEDED, 1, 100, 100, 100.0), HALF, HALF]
    together = standing(*rows)
    quick, begun = standing(DONE, HALF), [Ahead("confirm", 1, 1000)]
    # 100 steps at 1 s, 100 at 0.1 s, and 1000 of which nothing is known at (40 + 100) / 500 s; four at a time.
    expected = (100 * 1.0 + 100 * 0.1 + 1000 * 0.28) / 4
    assert eta_seconds([({"tune": slow}, []), ({"tune": quick}, []), ({}, begun)], together) == expected


def test_nothing_is_said_where_nothing_runs_or_has_ended() -> None:
    for rows in ([DONE, WAITING], [HALF, WAITING]):
        stage = standing(*rows)
        assert eta_seconds([({"tune": stage}, [])], stage) is None


def test_what_has_failed_is_not_waited_for() -> None:
    stage = standing(DONE, HALF, (State.FAILED, 1, 10, 100, 3.0))
    assert eta_seconds([({"tune": stage}, [])], stage) == 100 * 0.1 / 2
