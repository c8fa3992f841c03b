"""Results of every kind, as a network with and one without normalization might have them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bncore.figures import Result
from bncore.recording import Recording, Site

FEW, MANY = (0, 100, 500, 1000, 2000), tuple(range(0, 2001, 100))


def spec(norm: str = "batch_norm", seed: int = 0, lr: float = 0.5, name: str | None = None) -> dict[str, Any]:
    state = {} if norm == "none" else {"momentum": 0.1}
    return {
        "name": name,
        "network": {"kind": "mlp", "hidden": [100, 100], "norm": {"kind": norm, **state}},
        "optimizer": {"kind": "sgd", "lr": lr},
        "train": {"seed": seed, "steps": 2000},
    }


def series(tau: float, seed: int = 0, steps: int = 2000) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curves that fall or rise within `tau` steps."""
    noise = np.random.default_rng(seed)
    every, evaluated = np.arange(1, steps + 1), np.arange(100, steps + 1, 100)
    loss = np.abs(2.3 * np.exp(-every / tau) + 0.05 + 0.05 * noise.standard_normal(steps))
    accuracy = 0.97 - 0.87 * np.exp(-evaluated / tau) + 0.01 * noise.standard_normal(len(evaluated))
    return {"train/loss": (every, loss), "test/accuracy": (evaluated, accuracy)}


def recordings(norm: bool, seed: int = 0) -> dict[str, Sequence[Recording]]:
    """Of every kind at a few steps, or at many where it is drawn over steps."""
    noise = np.random.default_rng(seed)
    roles = ("before_norm", "after_norm", "activation") if norm else ("weights", "activation")
    return {
        "activation_moments": [_moments(step, noise, roles) for step in FEW],
        "gradient_heatmap": [_heat_map(step, noise) for step in FEW],
        "gradient_norms": [_per_site("gradient_norms", step, noise, ("norm",), 12) for step in FEW],
        "weight_norms": [_per_site("weight_norms", step, noise, ("norm", "effective_lr"), 12) for step in FEW],
        "covariate_shift": [_percentiles(step, noise) for step in MANY],
        "loss_landscape": [_landscape(step, noise) for step in MANY],
        "gradient_predictiveness": [
            _landscape(step, noise, "gradient_predictiveness", "gradient_change") for step in MANY
        ],
        "effective_smoothness": [_landscape(step, noise, "effective_smoothness", "smoothness") for step in MANY],
        "step_probe": [_probe(step, norm) for step in FEW],
        "scale_invariance": [_scale(noise)],
        "norm_health": [_per_site("norm_health", step, noise, HEALTH, 5, "norm") for step in FEW],
    }


HEALTH = (
    "gap",
    "mean_gap",
    "variance_gap",
    "mean_drift",
    "variance_drift",
    "dead",
    "clipped_r",
    "clipped_d",
    "updates",
)


def of_one() -> dict[str, Result]:
    return {"exp_1": Result(spec(name="digits-bn"), series(150), recordings(True))}


def of_two() -> dict[str, Result]:
    return {
        "exp_1": Result(spec(), series(150), recordings(True)),
        "exp_2": Result(spec("none"), series(700), recordings(False)),
    }


def of_seeds(count: int = 5) -> dict[str, Result]:
    return {
        f"exp_{norm}_{seed}": Result(spec(norm, seed), series(700 if norm == "none" else 150, seed))
        for norm in ("batch_norm", "batch_renorm", "none")
        for seed in range(count)
    }


def _sites(count: int, roles: Sequence[str]) -> tuple[Site, ...]:
    return tuple(Site(f"hidden.{at}.{role}", at + 1, role) for at in range(count) for role in roles)


def _per_site(kind: str, step: int, noise: Any, names: Sequence[str], count: int, role: str = "weights") -> Recording:
    arrays = {name: noise.random(count) + 1e-3 for name in names}
    return Recording(kind, step, arrays, dict.fromkeys(names, ("site",)), {}, _sites(count, (role,)))


def _moments(step: int, noise: Any, roles: Sequence[str]) -> Recording:
    sites = _sites(8, roles)
    names = ("mean_magnitude", "variance", "kurtosis", "dead", "saturated")
    arrays = {name: noise.random(len(sites)) + 1e-3 for name in names}
    return Recording("activation_moments", step, arrays, dict.fromkeys(names, ("site",)), {}, sites, {"slope": 0.1})


def _heat_map(step: int, noise: Any) -> Recording:
    arrays = {"gradient": noise.standard_normal((64, 10)), "ratio": noise.random(4) + 1e-3}
    axes = {"gradient": ("image", "class"), "ratio": ("site",)}
    return Recording("gradient_heatmap", step, arrays, axes, {}, _sites(4, ("weights",)), {"mode": 0.9})


def _percentiles(step: int, noise: Any) -> Recording:
    # Places of distributions, and behind them those of gradients, where there is none.
    sites = (*_sites(3, ("activation",)), Site("output", 4, "output"), *_sites(4, ("weights",)))
    values = np.full((len(sites), 3), np.nan)
    values[:4] = np.sort(noise.standard_normal((4, 3)), axis=1)
    cosine = np.concatenate([np.full(4, np.nan), noise.random(4)])
    arrays = {
        "percentile": np.array([15.0, 50.0, 85.0]),
        "percentiles": values,
        "cosine": cosine,
        "relative": 1 - cosine,
    }
    axes = {
        "percentile": ("percentile",),
        "percentiles": ("site", "percentile"),
        "cosine": ("site",),
        "relative": ("site",),
    }
    return Recording("covariate_shift", step, arrays, axes, {}, sites)


def _landscape(step: int, noise: Any, kind: str = "loss_landscape", *only: str) -> Recording:
    names = ("eta", *(only or ("loss", "gradient_change", "smoothness")))
    arrays = {name: noise.random(8) + 0.1 for name in names}
    return Recording(kind, step, arrays, dict.fromkeys(names, ("distance",)), {"smoothness": "loss / weight^2"})


def _probe(step: int, norm: bool) -> Recording:
    eta = np.geomspace(1e-4, 10, 26)
    loss = 1.0 + 1.0 / (step + 1) + eta ** (1 if norm else 4)
    if not norm:
        loss[-3:] = np.inf
    return Recording("step_probe", step, {"eta": eta, "loss": loss}, {"eta": ("distance",), "loss": ("distance",)})


ERRORS = ("output_error", "gradient_error", "input_gradient_error", "orthogonality")


def _scale(noise: Any) -> Recording:
    names = [f"{error}_{eps}" for error in ERRORS for eps in ("as_trained", "eps_scaled", "eps_zero")]
    arrays = {name: noise.random((4, 3)) + 1e-12 for name in names} | {"factor": np.array([0.01, 0.1, 10.0, 100.0])}
    axes: dict[str, tuple[str, ...]] = dict.fromkeys(names, ("factor", "site")) | {"factor": ("factor",)}
    return Recording("scale_invariance", 0, arrays, axes, {}, _sites(3, ("weights",)))
