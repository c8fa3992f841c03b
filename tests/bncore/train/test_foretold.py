"""Which series a run leaves is known before it runs, from its spec alone: of every diagnostic, in every network."""

import math
from typing import Any

import pytest

from bncore.spec import SpecError, data_shape, kinds, load_spec
from bncore.spec.recorded import recorded_of
from tests.network_specs import DATA, KINDS, NORMS, SMALL, small_spec
from tests.norm_specs import KINDS as NORM_KINDS
from tests.norm_specs import network_with

EXAMPLES: dict[str, dict[str, Any]] = {
    "weight_norms": {},
    "hessian_top_eigenvalue": {"examples": 16, "iterations": 1},
    "loss_landscape": {"examples": 16, "distances": [1.0]},
    "step_probe": {"examples": 16, "distances": [0.1]},
    "scale_invariance": {"examples": 40, "factors": [10.0]},
}
TRAIN = {"steps": 3, "batch_size": 40}
OF_EACH_HEALTH = ("none", "batch_norm", "batch_renorm", "iter_norm", "power_norm", "layer_norm")
"""One of each set of numbers that `norm_health` may find."""


def with_all(spec: dict[str, Any], only: tuple[str, ...] = (), **cadence: Any) -> dict[str, Any]:
    """With every diagnostic that fits it."""
    asked = [
        {"kind": one.kind, **EXAMPLES.get(one.kind, {"examples": 40}), **cadence}
        for one in kinds("diagnostics")
        if not only or one.kind in only
    ]
    try:
        load_spec({**spec, "diagnostics": asked})
    except SpecError as error:
        misfits = {fault.pointer for fault in error.faults if fault.code == "diagnostic_does_not_fit"}
        asked = [one for place, one in enumerate(asked) if f"/diagnostics/{place}/kind" not in misfits]
    return {**spec, "diagnostics": asked}


def assert_as_foretold(runs: Any, spec: dict[str, Any]) -> None:
    run = runs.train(spec)
    assert run.events[-1].kind == "finished", run.events[-1]
    recorded, series = recorded_of(load_spec(spec)), run.series()
    assert sorted(recorded.series) == sorted(series)
    for kind, moments in recorded.diagnostics.items():
        measured = {step for key in series if key.startswith(f"diagnostics/{kind}/") for step in series[key]}
        assert tuple(sorted(measured)) == moments, kind
    for key in series:
        numbers = {step for step, value in series[key].items() if not math.isnan(value)}
        assert recorded.has(key) == bool(numbers), key
        foretold = {step for step in range(spec["train"]["steps"] + 1) if recorded.has_between(key, step, step)}
        assert foretold == numbers if key.startswith("diagnostics/") else foretold >= numbers, key


@pytest.mark.parametrize(
    ("kind", "norm"),
    [
        pytest.param(kind, norm, marks=[pytest.mark.system] if at else [])
        for kind in KINDS
        for at, norm in enumerate(NORMS[kind])
    ],
)
def test_of_every_diagnostic_in_every_network(runs: Any, kind: str, norm: str) -> None:
    spec = small_spec(kind, norm, train=TRAIN, evaluation={"every_steps": 2})
    assert_as_foretold(runs, with_all(spec, every_steps=2))


@pytest.mark.parametrize(
    "norm", [pytest.param(n, marks=[] if n in OF_EACH_HEALTH else [pytest.mark.system]) for n in NORM_KINDS]
)
def test_of_every_normalization(runs: Any, norm: str) -> None:
    spec: dict[str, Any] = {"network": network_with("cnn", norm, channels=[4, 4]), "train": TRAIN}
    try:
        load_spec(spec)
    except SpecError:
        pytest.skip("is not trained from the first step on")
    assert_as_foretold(runs, with_all(spec, only=("norm_health", "activation_moments"), every_steps=2))


@pytest.mark.parametrize("norm", ["none", "step_batch_norm", "sequence_batch_norm", "layer_norm"])
@pytest.mark.parametrize("kind", ["rnn", *(pytest.param(kind, marks=pytest.mark.system) for kind in ("lstm", "gru"))])
def test_of_every_normalization_inside_of_a_recurrent_layer(runs: Any, kind: str, norm: str) -> None:
    """Where nothing else in the network is normalized."""
    spec = {"data": DATA[kind], "network": {"kind": kind, "norm": {"kind": norm}, **SMALL[kind]}, "train": TRAIN}
    assert_as_foretold(runs, with_all(spec, only=("norm_health", "activation_moments"), every_steps=2))


SHALLOW: dict[str, dict[str, Any]] = {
    **{f"mlp of {depth}": {"kind": "mlp", "hidden": [6] * depth} for depth in (1, 2, 3)},
    "one matrix": {"kind": "deep_linear", "depth": 1},
    "two matrices": {"kind": "deep_linear", "depth": 2},
    "recurrent": {"kind": "rnn", "hidden": [6]},
    "one block": {"kind": "transformer_encoder", "blocks": 1, "width": 8, "heads": 2, "mlp_width": 12},
    "linear": {"kind": "mlp", "hidden": [6, 6, 6], "activation": "identity"},
    # With shortcut A the channels that it fills with zeros would stay 0: a rectifier has no slope there.
    "scales of 0": {"kind": "resnet", "depth": 8, "width": 2, "shortcut": "B", "zero_init_last_gamma": True},
}


@pytest.mark.parametrize("cadence", [{"every_steps": 2}, {"at": [0]}], ids=str)
@pytest.mark.parametrize("norm", ["none", "batch_norm"])
@pytest.mark.parametrize("network", SHALLOW)
def test_of_what_is_no_number_in_a_network(runs: Any, network: str, norm: str, cadence: dict[str, Any]) -> None:
    """Growth takes three layers, a slope two depths, a drift two times: whatever the weights are."""
    kind = SHALLOW[network]["kind"]
    if (kind, norm) == ("rnn", "batch_norm"):
        norm = "step_batch_norm"
    data = DATA["deep_linear"] if kind == "deep_linear" else DATA["lstm"] if kind in DATA else {}
    spec = {"data": data, "network": {**SHALLOW[network], "norm": {"kind": norm}}, "train": TRAIN}
    if (kind, norm) == ("resnet", "none"):
        pytest.skip("without normalizations there are no scales")
    assert_as_foretold(runs, with_all(spec, **cadence))


@pytest.mark.parametrize("cadence", [{"at": [0]}, {"at": [3]}, {"at": [1]}, {}], ids=str)
def test_of_what_is_measured_once(runs: Any, cadence: dict[str, Any]) -> None:
    """Then there is no drift; and accuracies are those of the end."""
    only = () if not cadence else ("norm_health", "covariate_shift", "activation_moments")
    spec = {"network": {"kind": "mlp", "hidden": [6, 5], "norm": {"kind": "batch_norm"}}, "train": TRAIN}
    assert_as_foretold(runs, with_all(spec, only=only, **cadence))


def test_of_evaluations_of_every_kind(runs: Any) -> None:
    spec = {
        "data": {"kind": "digits", "validation": {"share": 0.2}},
        "network": {"kind": "mlp", "hidden": [6], "norm": {"kind": "batch_norm"}},
        "train": {**TRAIN, "ema": {"decay": 0.9}},
        "evaluation": {"every_steps": 2, "statistics": ["running", "batch", "precise"]},
    }
    assert data_shape(load_spec(spec).data).validation_examples
    assert_as_foretold(runs, spec)


@pytest.mark.parametrize(
    ("steps", "health"),
    [(3, {}), (3, {"full": True}), (3, {"every_steps": 2, "full": False}), (250, {}), (2000, {})],
    ids=str,
)
def test_of_runs_that_are_too_short_for_all_of_norm_health(runs: Any, steps: int, health: dict[str, Any]) -> None:
    spec = {
        "network": {"kind": "mlp", "hidden": [6], "norm": {"kind": "batch_norm"}},
        "train": {"steps": steps, "batch_size": 40},
        "diagnostics": [{"kind": "norm_health", **health}],
    }
    assert_as_foretold(runs, spec)
    recorded = recorded_of(load_spec(spec))
    whole = recorded_of(load_spec({**spec, "diagnostics": [{"kind": "norm_health", **health, "full": True}]}))
    assert recorded.left_out == {*whole.scalars["norm_health"]} - {*recorded.scalars["norm_health"]}
    for name in recorded.left_out:
        assert '"full": true' in recorded.cure(f"diagnostics/norm_health/{name}")
