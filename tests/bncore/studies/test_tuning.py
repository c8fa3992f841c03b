"""Each arm at its own best, over one grid, by validation data."""

import itertools
import random

import pytest

from bncore.studies.guards import bar, baseline_trains, control_trains, treatment_trains, winner_inside_grid
from bncore.studies.results import Metric, Place, Results, Run
from bncore.studies.tuning import Axis, Grid, TuningIncomplete, confirmations, gained, matched, widened, winners

ACCURACY = Metric("validation/accuracy", when_diverged=0.1)
LR = Axis("optimizer.lr", (0.03, 0.1, 0.3, 1.0, 3.0))
SEEDS = (100, 101)


def table(**means: list[float | None]) -> list[Run]:
    """Two seeds around each mean; None diverged."""
    return [
        Run(
            arm,
            seed,
            {"validation/accuracy": 0.99 if mean is None else mean + (-1) ** seed * 2**-6},
            (("optimizer.lr", lr),),
            diverged=mean is None,
        )
        for arm, row in means.items()
        for lr, mean in zip(LR.values, row, strict=True)
        for seed in SEEDS
    ]


def at(arm: str, lr: float) -> Place:
    return Place(arm, (("optimizer.lr", lr),))


def test_each_arm_wins_at_its_own_setting_whatever_the_order_of_the_rows() -> None:
    rows = table(plain=[0.5, 0.75, 0.625, None, None], bn=[0.25, 0.5, 0.75, 0.875, 0.5])
    for order in range(3):
        found = Results(tuple(random.Random(order).sample(rows, len(rows))))
        best = winners(found, ("plain", "bn"), Grid((LR,)), ACCURACY, SEEDS)
        assert (best["plain"].place, best["plain"].mean, best["plain"].edges) == (at("plain", 0.1), 0.75, {})
        assert (best["bn"].place, best["bn"].mean, best["bn"].seeds) == (at("bn", 1.0), 0.875, 2)
    assert widened(Grid((LR,)), best) is None
    assert winner_inside_grid(best).passed


def test_of_equal_means_the_one_nearest_the_middle_wins() -> None:
    rows = table(flat=[0.75] * 5, high=[0.5, 0.5, 0.5, 0.75, 0.75], pair=[0.5, 0.75, 0.5, 0.75, 0.5])
    best = winners(Results(tuple(rows)), ("flat", "high", "pair"), Grid((LR,)), ACCURACY, SEEDS)
    assert [best[arm].place for arm in best] == [at("flat", 0.3), at("high", 1.0), at("pair", 0.1)]


def test_a_winner_at_the_edge_widens_the_grid_for_all_once() -> None:
    rows = table(plain=[0.75, 0.5, 0.5, 0.5, 0.5], bn=[0.25, 0.5, 0.5, 0.5, 0.75])
    best = winners(Results(tuple(rows)), ("plain", "bn"), Grid((LR,)), ACCURACY, SEEDS)
    assert best["plain"].edges == {"optimizer.lr": 0.03}
    guard = winner_inside_grid(best)
    assert not guard.passed
    assert "plain at optimizer.lr = 0.03, bn at optimizer.lr = 3.0" in guard.sentence
    wider = widened(Grid((LR,)), best)
    assert wider is not None
    assert wider.axes[0].values == (0.0027, 0.009, 0.03, 0.1, 0.3, 1.0, 3.0, 9.0, 27.0)
    assert widened(wider, best) is None


@pytest.mark.parametrize(
    ("axis", "winner", "expected"),
    [
        (Axis("p", (0.0, 0.25, 0.5), "linear", least=0.0, largest=1.0), 0.0, None),
        (Axis("p", (0.0, 0.25, 0.5), "linear", least=0.0, largest=0.8), 0.5, (0.0, 0.25, 0.5, 0.75)),
        (Axis("p", (0, 1e-5, 1e-4)), 0, None),
        (Axis("p", (0, 1e-5, 1e-4)), 1e-4, (0, 1e-5, 1e-4, 1e-3, 1e-2)),
        (Axis("p", (8, 16, 32)), 8, (2, 4, 8, 16, 32)),
        (Axis("p", (1, 2, 4), least=1), 1, None),
        (Axis("p", ("relu", "tanh"), "choice"), "tanh", None),
        (Axis("p", (0.1,)), 0.1, None),
    ],
)
def test_an_edge_is_where_something_could_lie_beyond(axis: Axis, winner: object, expected: tuple[float, ...]) -> None:
    runs = [Run("bn", 0, {"validation/accuracy": 0.5 + (v == winner) / 4}, (("p", v),)) for v in axis.values]
    best = winners(Results(tuple(runs)), ("bn",), Grid((axis,)), ACCURACY, (0,))
    wider = widened(Grid((axis,)), best)
    assert (wider and wider.axes[0].values) == expected
    assert winner_inside_grid(best).passed == (expected is None)


def test_a_setting_without_all_its_seeds_is_left_out_and_named() -> None:
    rows = table(bn=[0.5, 0.75, 0.625, 0.5, 0.5])
    left = [run for run in rows if (run.setting, run.seed) != (at("bn", 0.1).setting, 100)]
    best = winners(Results(tuple(left)), ("bn",), Grid((LR,)), ACCURACY, SEEDS)["bn"]
    assert (best.place, best.left_out) == (at("bn", 0.3), (at("bn", 0.1).setting,))
    with pytest.raises(TuningIncomplete, match="bn"):
        winners(Results(tuple(run for run in rows if run.seed == 100)), ("bn",), Grid((LR,)), ACCURACY, SEEDS)


def test_the_test_set_chooses_nothing() -> None:
    for key in ("test/accuracy", "steps until test/accuracy >= 0.9"):
        with pytest.raises(ValueError, match="validation data"):
            winners(Results(), ("bn",), Grid((LR,)), Metric(key), SEEDS)


def test_nothing_is_gained_beyond_what_a_float_holds() -> None:
    wide = Axis("optimizer.weight_decay", (1e-200, 1.0))
    assert gained(wide, 1.0) == (1e200,)
    assert gained(Axis("x", (-1e308, 1e308), "linear"), 1e308) == ()
    assert gained(Axis("x", (1, 10**200)), 10**200) == ()
    # Values as near to each other as their sixth digit stay in their order.
    near = Axis("x", (0.10000001, 0.10000002), "linear")
    assert gained(near, 0.10000002) == pytest.approx((0.10000003, 0.10000004), abs=1e-12)
    assert gained(near, 0.10000001) == pytest.approx((0.1, 0.09999999), abs=1e-12)
    assert gained(Axis("x", (1, 2)), 1) == (0,)


def test_matched_settings_stand_beside_best_versus_best() -> None:
    rows = table(plain=[0.5, 0.75, 0.5, 0.5, 0.5], bn=[0.5, 0.5, 0.5, 0.75, 0.5])
    best = winners(Results(tuple(rows)), ("plain", "bn"), Grid((LR,)), ACCURACY, SEEDS)
    both = set(itertools.starmap(at, itertools.product(("plain", "bn"), (0.1, 1.0))))
    assert set(confirmations(best, [("bn", "plain")])) == both
    assert len(confirmations(best, [("bn", "plain")])) == 4
    assert matched(best, "bn", "plain") == {
        "best_versus_best": (at("bn", 1.0), at("plain", 0.1)),
        "at_best_of_baseline": (at("bn", 0.1), at("plain", 0.1)),
        "at_best_of_treatment": (at("bn", 1.0), at("plain", 1.0)),
    }


def test_what_trains_is_well_above_chance() -> None:
    assert [bar(1 / classes) for classes in (2, 3, 10, 100)] == pytest.approx([0.75, 2 / 3, 0.3, 0.03])
    # One of two seeds diverges: (.55 + .1) / 2 is enough, (.45 + .1) / 2 is not.
    for accuracy, trains in ((0.55, True), (0.45, False)):
        runs = [Run("plain", 0, {"validation/accuracy": accuracy}), Run("plain", 1, {}, diverged=True)]
        found = Results(tuple(runs))
        for guard in (treatment_trains, control_trains):
            checked = guard(found, Place("plain"), ACCURACY)
            assert (checked.name, checked.passed) == (guard.__name__, trains)
            assert f"{(accuracy + 0.1) / 2:.3f}, 0.300 is asked for" in checked.sentence
        assert baseline_trains(found, Place("plain"), ACCURACY).passed is trains
    assert not treatment_trains(Results(), Place("bn"), ACCURACY).passed
