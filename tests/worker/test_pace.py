"""News is stored at once while that is cheap, and never for more than its share of the time."""

from hypothesis import given
from hypothesis import strategies as st

from worker.pace import _ALLOWANCE_SECONDS, _SHARE, Pace

BEGAN = 1000.0


@given(st.lists(st.floats(0.0001, 0.5), min_size=1, max_size=50))
def test_storing_takes_its_share_of_the_time_and_no_more(costs: list[float]) -> None:
    pace, now, spent = Pace(BEGAN), BEGAN, 0.0
    for cost in costs:
        now = max(now, pace.soonest())
        assert spent <= _ALLOWANCE_SECONDS + _SHARE * (now - BEGAN) + 1e-9
        pace.took(cost)
        spent += cost
        now += cost


def test_the_first_news_waits_for_nothing() -> None:
    pace = Pace(BEGAN)
    assert pace.soonest() == BEGAN
    pace.took(_ALLOWANCE_SECONDS / 2)
    assert pace.soonest() == BEGAN
    pace.took(_ALLOWANCE_SECONDS)
    assert pace.soonest() > BEGAN
