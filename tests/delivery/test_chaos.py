"""A short run of the chaos script; `make chaos` has the long one."""

import pytest

from bench.chaos.run import Options, run
from bench.chaos.schedule import KINDS, schedule

# Five processes start, four of them several times.
pytestmark = pytest.mark.timeout(400)


def test_the_order_of_actions_depends_on_the_seed_alone():
    assert schedule(3, 600.0, "sqlite") == schedule(3, 600.0, "sqlite")
    assert schedule(3, 600.0, "sqlite") != schedule(4, 600.0, "sqlite")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_round_has_every_kind_of_action(database):
    kinds = [kind.name for kind in KINDS if kind.only_on in (None, database)]
    assert sorted(action.kind for action in schedule(5, 3600.0, database)[: len(kinds)]) == sorted(kinds)


def test_whatever_breaks_nothing_is_lost_nothing_done_twice_and_no_bit_differs():
    said: list[str] = []
    options = Options(2025, "sqlite", seconds=4.0, jobs=4, specs=("dropout",), mean_gap_seconds=0.5)
    faults = run(options, said.append)
    assert faults == 0, "\n".join(said)
