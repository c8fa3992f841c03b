"""What diagnostics find where papers and small trials have found something, and what each costs.

`python -m bench.diagnostics` prints means over seeds beside the numbers they are to be of the order of. At
initialization, on the digits; it is no test, and no verdict on a claim.
"""

import functools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from bncore import diagnostics
from bncore.data import Examples
from bncore.data.load import load_data
from bncore.networks import build_network
from bncore.recording import Recording
from bncore.spec import load_spec
from bncore.spec.blueprint import Signal

SEEDS = range(10)


def network(depth: int, norm: str, seed: int, init: str = "kaiming", activation: str = "relu") -> nn.Module:
    """A plain network of linear layers of which the last one is not normalized."""
    spec = {
        "kind": "mlp",
        "hidden": [100] * (depth - 1),
        "norm": {"kind": norm},
        "init": {"kind": init},
        "activation": activation,
    }
    return build_network(spec, Signal((64,), "vector"), 10, seed)


def digits(count: int) -> Examples:
    """So many, with pixels from 0 to 1."""
    return load_data(load_spec({}).data).train.slice(0, count)


def findings() -> Iterator[tuple[str, str, float, float]]:
    """What, what was expected, with batch norm, without."""
    batch = digits(256)
    inputs, labels = batch.inputs.flatten(1), batch.targets

    def both(find: Callable[[nn.Module], float], depth: int, init: str = "kaiming") -> tuple[float, float]:
        bn, plain = (
            statistics.fmean(find(network(depth, norm, seed, init)) for seed in SEEDS)
            for norm in ("batch_norm", "none")
        )
        return bn, plain

    def scalar(measure: Any, name: str, count: int = 256, **options: Any) -> Callable[[nn.Module], float]:
        def find(model: nn.Module) -> float:
            found: Recording = measure(model, inputs[:count], labels[:count], **options)
            return found.scalars[name]

        return find

    growth = scalar(diagnostics.gradient_norms, "growth")
    yield ("C18 gradient growth per layer, 20 layers", "1.15 to 1.25; .9 to 1.05", *both(growth, 20))
    hidden = scalar(diagnostics.gradient_norms, "hidden_growth")
    yield ("C18 the same without the last layer", "1.21; 1", *both(hidden, 20))
    slope = scalar(diagnostics.activation_moments, "slope")
    yield ("C13 slope of log10 variance, He", "|.| < .01; flat", *both(slope, 20))
    yield ("C13 the same, Glorot", "|.| < .01; decays", *both(slope, 20, "xavier"))
    for name, said in (("mode", "larger without"), ("colcons", "larger without"), ("cosine", ""), ("maxcol", "")):
        measure = scalar(diagnostics.gradient_heatmap, name, 128)
        yield (f"C14 {name}, 20 layers", said, *both(measure, 20))
    ratio = scalar(diagnostics.gradient_heatmap, "median_ratio", 128)
    yield ("C14 kernel ratio b/a, 20 layers", "< .05; .4 to .6 (ResNet-110)", *both(ratio, 20))
    for depth in (5, 10, 20):

        def relative(model: nn.Module) -> float:
            found = diagnostics.step_probe(model, inputs, labels, distances=(10.0,))
            return math.log10(found.arrays["loss"][0] / found.scalars["loss_0"])

        expected = {5: "log10 of 3.6; of 2e3", 10: "of 2.6; of 4e6", 20: "of 2.8; of 8e10"}[depth]
        yield (f"C2 loss after eta = 10, {depth} layers", expected, *both(relative, depth))
    for name, said in (("range", ".21; 2.6"), ("predictiveness", "2.3; 17"), ("effective_smoothness", "12; 24")):
        measure = scalar(diagnostics.loss_landscape, name, lr=0.1)
        yield (f"C16 {name}, 8 layers, lr .1", said, *both(measure, 8))
    cosine = scalar(diagnostics.covariate_shift, "mean_cosine", lr=0.1)
    yield ("C15b cosine of G and G', 8 layers, lr .1", ".73; .60", *both(cosine, 8))


def invariance() -> Iterator[tuple[str, str, float]]:
    """Of a layer with weights from N(0, 0.1^2), with its eps."""
    batch = digits(256)
    for factor, output, gradient in ((10.0, "1.3e-3", "1.6e-4"), (0.1, ".12", ".015"), (0.01, "1.9", ".46")):
        errors = []
        for seed in SEEDS:
            spec = {"kind": "mlp", "init": {"kind": "normal", "std": 0.1}, "activation": "sigmoid"}
            model = build_network(spec, Signal((64,), "vector"), 10, seed)
            found = diagnostics.scale_invariance(model, batch.inputs.flatten(1), batch.targets, factors=(factor,))
            errors.append([found.arrays[f"{name}_error_as_trained"][0, 0] for name in ("output", "gradient")])
        for name, said, values in zip(
            ("output", "gradient"), (output, gradient), zip(*errors, strict=True), strict=True
        ):
            yield f"C5 {name} error, a = {factor:g}, layer 1", said, statistics.fmean(values)


def costs() -> Iterator[tuple[str, float]]:
    """Of each diagnostic on the default network, in steps of training."""
    batch, model = digits(60), build_network(load_spec({}).network, Signal((1, 8, 8), "image"), 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch.inputs), batch.targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    one = seconds(step, 200)
    measures: tuple[tuple[Any, dict[str, float]], ...] = (
        (diagnostics.norm_health, {}),
        (diagnostics.activation_moments, {}),
        (diagnostics.gradient_heatmap, {}),
        (diagnostics.gradient_norms, {}),
        (diagnostics.weight_norms, {}),
        (diagnostics.step_probe, {}),
        (diagnostics.scale_invariance, {}),
        (diagnostics.covariate_shift, {"lr": 0.1}),
        (diagnostics.loss_landscape, {"lr": 0.1}),
        (diagnostics.hessian_top_eigenvalue, {}),
    )
    for measure, options in measures:
        call = functools.partial(measure, model, batch.inputs, batch.targets, **options)
        yield measure.__name__, seconds(call, 5) / one


def seconds(call: Callable[[], object], times: int) -> float:
    """Of CPU time, of one call."""
    call()
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def main() -> None:
    torch.set_num_threads(1)
    print(f"{'':46}{'expected (BN; plain)':32}{'BN':>10}{'plain':>10}")
    for what, expected, bn, plain in findings():
        print(f"{what:46}{expected:32}{bn:10.3g}{plain:10.3g}")
    for what, expected, found in invariance():
        print(f"{what:46}{expected:32}{found:10.3g}")
    print("\ncost in training steps")
    for name, steps in costs():
        print(f"{name:46}{steps:10.1f}")


if __name__ == "__main__":
    main()
