"""What may not be meant is said, and keeps nothing from being run."""

from typing import Any

import pytest

from bncore.spec import cautions, load_spec
from bncore.spec.norm.cold_start import COLD_START, initial_share


def said(spec: dict[str, Any]) -> list[tuple[str, str]]:
    return [(one.pointer, one.code) for one in cautions(load_spec(spec))]


def with_norm(norm: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {"network": {"kind": "mlp", "hidden": [8, 8], "norm": norm}, "train": {"steps": 100, **train}}


def test_the_default_spec_gives_no_cause() -> None:
    assert said({}) == []


@pytest.mark.parametrize(
    ("norm", "field"),
    [
        ({"kind": "batch_renorm"}, "momentum"),
        ({"kind": "batch_norm", "momentum": 0.01}, "momentum"),
        ({"kind": "power_norm", "forward_momentum": 0.01}, "forward_momentum"),
    ],
)
def test_statistics_that_stay_cold_are_named_once_with_a_momentum_that_is_enough(
    norm: dict[str, Any], field: str
) -> None:
    (caution,) = cautions(load_spec(with_norm(norm)))
    assert (caution.pointer, caution.code) == (f"/network/norm/{field}", "cold_statistics")
    assert "37%" in caution.detail
    momentum = float(caution.detail.partition("; use ")[2].split()[0])
    assert initial_share(momentum, 100) <= COLD_START < initial_share(0.9 * momentum, 100)
    assert said(with_norm({**norm, field: momentum})) == []


@pytest.mark.parametrize(
    "spec",
    [
        with_norm({"kind": "batch_renorm", "momentum": None}),
        with_norm({"kind": "batch_renorm"}, steps=300),
        with_norm({"kind": "batch_renorm"}, accumulate=3),
        with_norm({"kind": "layer_norm"}),
    ],
)
def test_statistics_that_are_warm_in_time_are_not(spec: dict[str, Any]) -> None:
    assert said(spec) == []


def test_a_last_batch_of_one_is_named_where_it_comes() -> None:
    alone = {"network": {"kind": "mlp", "norm": {"kind": "layer_norm"}}, "train": {"batch_size": 109}}
    assert said(alone) == [("/train/batch_size", "last_batch_of_one")]
    assert said({**alone, "train": {"batch_size": 109, "drop_last": True}}) == []
    assert said({**alone, "train": {"batch_size": 109, "steps": 11}}) == []
    assert said({**alone, "train": {"batch_size": 1}}) == []


def test_a_learning_rate_at_its_bound_is_named() -> None:
    assert said({"optimizer": {"kind": "adam", "lr": 1e4}}) == [("/optimizer/lr", "lr_at_bound")]


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ({"kind": "mlp", "placement": "before_activation"}, "linear1"),
        ({"kind": "mlp", "placement": "after_activation"}, None),
        ({"kind": "cnn", "norm": {"kind": "layer_norm"}}, None),
        ({"kind": "residual_mlp"}, "linear"),
    ],
    ids=str,
)
def test_a_bias_that_was_asked_for_and_does_nothing_is_named(network: dict[str, Any], name: str | None) -> None:
    assert said({"network": network}) == []
    assert said({"network": {**network, "bias": "auto"}}) == []
    found = cautions(load_spec({"network": {**network, "bias": True}}))
    assert [(one.pointer, one.code) for one in found] == ([("/network/bias", "dead_bias")] if name else [])
    assert all(f"behind {name} cancels" in one.detail for one in found)


@pytest.mark.parametrize(
    ("network", "pointer"),
    [
        ({"norm": {"kind": "step_batch_norm"}}, None),
        ({"norm": {"kind": "step_batch_norm", "initial_noise": 0.0}}, "/network/norm/initial_noise"),
        ({"norm": {"kind": "layer_norm"}}, None),
        ({"norm": {"kind": "layer_norm"}, "init": {"kind": "orthogonal"}}, "/network/init"),
        ({"norm": {"kind": "layer_norm"}, "bias": False}, "/network/bias"),
        ({"norm": {"kind": "none"}, "bias": False}, None),
    ],
    ids=str,
)
def test_a_recurrence_that_sees_nothing_at_first_is_named(network: dict[str, Any], pointer: str | None) -> None:
    spec = {"data": {"kind": "digits", "as": "row"}, "network": {"kind": "gru", **network}}
    assert said(spec) == ([(pointer, "blank_start")] if pointer else [])
    assert said({**spec, "data": {"kind": "variable_length"}}) == []


def test_statistics_of_steps_that_stay_cold_are_named() -> None:
    spec = {"data": {"kind": "digits", "as": "row"}, "network": {"kind": "lstm"}, "train": {"steps": 5}}
    assert said(spec) == [("/network/norm/momentum", "cold_statistics")]
