"""Sweeps expand to the experiments that they say, and to no others."""

import itertools
import math

import pytest

from bncore.spec import SpecError, load_spec
from bncore.spec.sweep import Extension, expand, extended, load_sweep
from bncore.spec.sweep.axes import values_of

TEMPLATE = {"network": {"kind": "mlp", "hidden": [20, 10]}, "train": {"steps": 100, "seed": 9}, "name": "t"}


def points(**said):
    return expand(load_sweep({"template": TEMPLATE, **said}))


def refusals(**said):
    with pytest.raises(SpecError) as refused:
        points(**said)
    return [(fault.pointer, fault.detail, fault.code) for fault in refused.value.faults]


def test_every_value_meets_every_other_in_each_arm_with_each_seed():
    found = points(
        axes={"optimizer.lr": [0.1, 0.2], "network.hidden.1": [5, 6, 7]},
        arms={"bn": {}, "brn": {"network.norm.kind": "batch_renorm", "network.norm.r_max": 2.0}},
        seeds=[4, 8],
    )
    said = [(point.seed, *point.at.values(), point.arm) for point in found]
    assert said == list(itertools.product([4, 8], [0.1, 0.2], [5, 6, 7], ["bn", "brn"]))
    assert [point.number for point in found] == [*range(12), *range(12)]
    for point in found:
        norm = {"kind": "batch_renorm", "r_max": 2.0} if point.arm == "brn" else {"kind": "batch_norm"}
        by_hand = {
            "name": "t",
            "network": {"kind": "mlp", "hidden": [20, point.at["network.hidden.1"]], "norm": norm},
            "optimizer": {"kind": "sgd", "lr": point.at["optimizer.lr"]},
            "train": {"steps": 100, "seed": point.seed},
        }
        assert point.spec == load_spec(by_hand)


def test_without_axes_and_arms_a_sweep_is_the_template_by_seeds():
    assert [point.spec for point in points(seeds=3)] == [
        load_spec({**TEMPLATE, "train": {"steps": 100, "seed": seed}}) for seed in range(3)
    ]
    assert [point.spec.train.seed for point in points()] == [0]


def test_drawn_values_keep_to_their_bounds_come_again_and_depend_on_seed_and_path():
    def drawn(kind, low, high, count=2000, seed=0, path="optimizer.weight_decay"):
        axis = {"kind": kind, "low": low, "high": high, "count": count, "seed": seed}
        return [point.at[path] for point in points(axes={path: axis})]

    uniform = drawn("uniform", 0.2, 0.6)
    assert 0.2 <= min(uniform) < max(uniform) <= 0.6
    assert abs(sum(uniform) / 2000 - 0.4) < 0.01
    logs = [math.log10(value) for value in drawn("log_uniform", 1e-4, 1.0)]
    assert -4 <= min(logs) < max(logs) <= 0
    assert abs(sum(logs) / 2000 + 2) < 0.1
    assert sorted(drawn("integer", 2, 9, 8, path="train.batch_size")) == list(range(2, 10))
    assert drawn("uniform", 0.2, 0.6) == uniform != drawn("uniform", 0.2, 0.6, seed=1)
    other = drawn("uniform", 0.2, 0.6, path="optimizer.lr")
    assert other[0] != uniform[0]


def test_a_grid_has_its_ends_and_whole_numbers_where_they_are():
    def grid(path, **said):
        return [point.at[path] for point in points(axes={path: {"kind": "grid", **said}})]

    assert grid("optimizer.lr", low=0.001, high=1.0, count=4, scale="log") == [0.001, 0.01, 0.1, 1.0]
    sizes = grid("train.batch_size", low=16, high=256, count=5, scale="log")
    assert sizes == [16, 32, 64, 128, 256]
    assert all(isinstance(size, int) for size in sizes)
    assert grid("optimizer.lr", low=0.1, high=0.3, count=3) == [0.1, 0.2, 0.3]
    # Values that differ behind the twelfth digit, and whole numbers that no float holds.
    near = grid("optimizer.lr", low=0.1, high=0.1000000000001, count=5)
    assert near == sorted(set(near))
    assert (near[0], near[-1]) == (0.1, 0.1000000000001)
    huge = {"kind": "grid", "low": 2**62, "high": 2**62 + 10, "count": 3}
    (axis,) = load_sweep({"template": TEMPLATE, "axes": {"train.steps": huge}}).axes.values()
    assert values_of("train.steps", axis) == [2**62, 2**62 + 5, 2**62 + 10]


def test_a_grid_without_so_many_numbers_is_refused():
    (fault,) = refusals(axes={"optimizer.lr": {"kind": "grid", "low": 0.1, "high": math.nextafter(0.1, 1), "count": 3}})
    assert (fault[0], fault[2]) == ("/axes/optimizer.lr/count", "repeated_value")


def test_whole_numbers_are_drawn_from_more_than_fit_an_index():
    whole = {"kind": "integer", "low": -(2**63), "high": 2**63 - 1, "count": 50, "seed": 3}
    axis = load_sweep({"template": TEMPLATE, "axes": {"train.steps": whole}}).axes["train.steps"]
    drawn = values_of("train.steps", axis)
    assert drawn == values_of("train.steps", axis)
    assert len(set(drawn)) == 50
    assert -(2**63) <= min(drawn) < -(2**61) < 2**61 < max(drawn) < 2**63


def test_axes_together_advance_in_step():
    axes = {"optimizer.lr": [0.1, 0.2], "train.batch_size": [30, 60], "optimizer.momentum": [0.0, 0.9]}
    found = points(axes=axes, together=[["optimizer.lr", "train.batch_size"]])
    assert [tuple(point.at.values()) for point in found] == [
        (0.1, 30, 0.0), (0.1, 30, 0.9), (0.2, 60, 0.0), (0.2, 60, 0.9)
    ]  # fmt: skip


def test_an_extension_has_the_same_points_with_seeds_that_there_were_not():
    sweep = load_sweep({"template": TEMPLATE, "axes": {"optimizer.lr": [0.1, 0.2]}, "seeds": [0, 2]})
    more = extended(sweep, [0, 2], Extension(seeds=2))
    assert [(point.number, point.seed) for point in more] == [(0, 1), (1, 1), (0, 3), (1, 3)]
    with pytest.raises(SpecError, match="/seeds/1: The sweep has this seed"):
        extended(sweep, [0, 2], Extension(seeds=[5, 2]))
    with pytest.raises(SpecError, match="a sweep has at most 10,000"):
        extended(sweep, [0, 2], Extension(seeds=4999))


@pytest.mark.parametrize(
    ("said", "pointer", "text", "code"),
    [
        ({"axes": {"optimizer.lrr": [1.0]}}, "/axes/optimizer.lrr", "did you mean optimizer.lr", "no_such_path"),
        ({"axes": {"train.target.value": [1.0]}}, "/axes/train.target.value", "train.target is null", "no_such_path"),
        ({"axes": {"network.hidden.2": [1]}}, "/axes/network.hidden.2", "Is no path", "no_such_path"),
        ({"axes": {"train.seed": [1]}}, "/axes/train.seed", "given as `seeds`", "not_an_axis"),
        ({"axes": {"optimizer.lr": [0.1, 0.2, 0.1]}}, "/axes/optimizer.lr/2", "as value 0", "same_spec"),
        ({"axes": {"optimizer.lr": [0.1, -1.0]}}, "/axes/optimizer.lr/1", "optimizer.lr = -1.0", "greater_than"),
        ({"axes": {"optimizer.lr": []}}, "/axes/optimizer.lr", "at least 1 item", "too_short"),
        ({"arms": {"a": {}, "b": {"optimizer.kind": "sgd"}}}, "/arms/b", "from the arm a", "same_spec"),
        ({"arms": {"a": {"optimizer.lr": "x"}}}, "/arms/a/optimizer.lr", "arm a", "float_type"),
        ({"arms": {"a": {"optimiser.lr": 1.0}}}, "/arms/a/optimiser.lr", "did you mean optimizer?", "unknown_field"),
        ({"arms": {"a": {"train.target.value": 0.9}}}, "/arms/a/train.target.value", "arm a", "unknown_field"),
        ({"arms": {"a": {"optimizer.lr.x": 1}}, }, "/arms/a/optimizer.lr.x", "no object", "no_such_path"),
        ({"template": {"train": {"stepz": 1}}}, "/template/train/stepz", "did you mean steps", "unknown_field"),
        ({"seeds": [1, 2, 1]}, "/seeds/2", "given twice", "repeated_seed"),
        ({"seeds": 0}, "/seeds", "greater than or equal to 1", "greater_than_equal"),
        ({"axis": {}}, "/axis", "did you mean axes", "unknown_field"),
        ({"together": [["optimizer.lr", "train.steps"]]}, "/together/0/0", "Is no axis", "no_axis"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_where_it_stands(said, pointer, text, code):
    found = refusals(**said)
    assert found[0][0] == pointer, found
    assert text in found[0][1]
    assert found[0][2] == code


@pytest.mark.parametrize("kind", ["grid", "uniform", "log_uniform", "integer"])
def test_swapped_bounds_are_refused(kind):
    found = refusals(axes={"optimizer.lr": {"kind": kind, "low": 3, "high": 1, "count": 2}})
    assert found == [
        (
            "/axes/optimizer.lr/high",
            "Must be greater than low; swap them, or give one value as a list",
            "bounds_swapped",
        )
    ]


def test_a_product_of_a_billion_is_refused_before_anything_is_made():
    axis = {"kind": "uniform", "low": 0.0, "high": 1.0, "count": 1000}
    found = refusals(axes={f"optimizer.{name}": axis for name in ("lr", "momentum", "weight_decay")})
    assert found[0][0] == "/axes"
    assert "1,000,000,000 points" in found[0][1]
    assert "at most 10,000" in found[0][1]


def test_an_axis_that_an_arm_sets_too_is_refused():
    found = refusals(axes={"network.norm": [{"kind": "none"}]}, arms={"a": {"network.norm.kind": "layer_norm"}})
    assert found[0][0] == "/arms/a/network.norm.kind"
    assert "axis network.norm sets this" in found[0][1]


def test_a_fault_of_many_points_is_said_once_with_the_values_of_the_first():
    axes = {"optimizer.momentum": [0.0, 0.5, 0.9], "train.batch_size": [60, 5000]}
    found = refusals(axes=axes)
    assert [(pointer, code) for pointer, _, code in found] == [("/axes/train.batch_size/1", "batch_larger_than_data")]
    assert "(at optimizer.momentum = 0.0, train.batch_size = 5000)" in found[0][1]
