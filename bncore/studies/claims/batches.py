"""What the claims on small and on uniform batches (C7, C8) share: the network, and arms that differ in their batches.

All arms of a claim see the same number of examples, whatever their batches: smaller ones take more steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bncore.studies.claim import Scale, ScaleMissing
from bncore.studies.estimand import Effects, computed
from bncore.studies.results import Metric, Place, Results

ACCURACY = Metric("test/accuracy", when_diverged=0.1)
FULL = 32
"""The batch that small ones are compared with."""
_EXAMPLES: Mapping[Scale, int] = {"tiny": 320, "cpu": 12_000}
"""Shown in training: ten times the digits at `cpu`."""
_STEPS_OF_ONE_CLASS: Mapping[Scale, int] = {"tiny": 20, "cpu": 1500}
NORMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"kind": "none"},
    "bn": {"kind": "batch_norm"},
    "layer_norm": {"kind": "layer_norm"},
}
NORM_WORDS = {"plain": "no normalization", "bn": "batch normalization", "layer_norm": "layer normalization"}


def check(name: str, scale: Scale) -> None:
    """Raises `ScaleMissing` where there is no design."""
    if scale not in _EXAMPLES:
        raise ScaleMissing(f"{name} has no design of scale {scale}: the papers' are ResNets on ImageNet or CIFAR-100")


def template(lr: float = 0.02, momentum: float = 0.5) -> dict[str, Any]:
    """An MLP for the digits, by the recipe that was set for batches of one class."""
    return {
        "data": {"kind": "digits"},
        "network": {"kind": "mlp", "hidden": [100, 100, 100], "activation": "relu", "init": {"kind": "kaiming"}},
        "optimizer": {"kind": "sgd", "lr": lr, "momentum": momentum},
        "checkpoint": {"keep_best": False},
        "diagnostics": [{"kind": "norm_health", "enabled": False}],
    }


def in_batches(scale: Scale, size: int) -> dict[str, Any]:
    """The patch of an arm whose batches have that size."""
    return _steps(_EXAMPLES[scale] // size, size)


def in_as_many_steps(scale: Scale) -> dict[str, Any]:
    """That of an arm with mixed batches beside batches of one class."""
    return _steps(_STEPS_OF_ONE_CLASS[scale], FULL)


def in_batches_of_one_class(scale: Scale) -> dict[str, Any]:
    sampler = {"kind": "classes_per_batch", "classes": 1, "examples": FULL}
    return {**in_as_many_steps(scale), "data": {"sampler": sampler}}


def normalized(norm: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The patch of an arm, with its normalization."""
    return {**patch, "network": {"norm": dict(norm)}}


def between_numbers(found: Results, place: Place, ours: Metric, theirs: Metric, planned: Sequence[int]) -> Effects:
    """By how much one number of a run is larger than another one of the same run."""
    runs = found.at(place)
    seeds = sorted({*runs, *planned})
    pairs = [(ours.of(runs[seed]), theirs.of(runs[seed])) if seed in runs else (None, None) for seed in seeds]
    return computed(seeds, [None if one is None or other is None else one - other for one, other in pairs])


def _steps(steps: int, size: int) -> dict[str, Any]:
    """Measured ten times, saved at the end."""
    return {
        "train": {"steps": steps, "batch_size": size},
        "evaluation": {"every_steps": max(1, steps // 10)},
        "checkpoint": {"every_steps": steps},
    }
