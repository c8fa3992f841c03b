"""Looking leaves a network of any kind as it was, also where it breaks off in the middle."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore import diagnostics
from bncore.data import Examples
from bncore.data.load import load_data
from bncore.networks import build_network
from bncore.norm import freeze, weight_norm
from bncore.norm._recompute import _told, _used
from bncore.spec import data_shape, load_spec
from tests.network_specs import KINDS, NORMS, small_spec

ALL: dict[str, Callable[..., Any]] = {
    "activation_moments": diagnostics.activation_moments,
    "gradient_heatmap": diagnostics.gradient_heatmap,
    "gradient_norms": diagnostics.gradient_norms,
    "scale_invariance": lambda *of, **how: diagnostics.scale_invariance(*of, factors=(10.0,), **how),
    "step_probe": lambda *of, **how: diagnostics.step_probe(*of, distances=(0.1,), **how),
    "covariate_shift": lambda *of, **how: diagnostics.covariate_shift(*of, lr=0.1, layers=2, **how),
    "loss_landscape": lambda *of, **how: diagnostics.loss_landscape(*of, lr=0.1, steps=(1.0,), **how),
    "hessian_top_eigenvalue": lambda *of, **how: diagnostics.hessian_top_eigenvalue(*of, iterations=1, **how),
    "weight_norms": diagnostics.weight_norms,
    "norm_health": lambda *of, **how: diagnostics.norm_health(*of, **how).recording,
}
SMALLER = {"transformer_encoder": {"blocks": 1}, "vgg": {"width": 2}}


def network_and_batch(kind: str, norm: str) -> tuple[nn.Module, Examples]:
    spec = small_spec(kind, norm)
    spec["network"] |= SMALLER.get(kind, {})
    parsed = load_spec(spec)
    shape = data_shape(parsed.data)
    network = build_network(parsed.network, shape.signal, shape.outputs)
    batch = load_data(parsed.data).train.slice(0, 12)
    # As in the middle of training: one step of gradients, statistics that moved.
    outputs = network(batch.inputs) if batch.lengths is None else network(batch.inputs, batch.lengths)
    outputs.square().mean().backward()
    return network, batch


def state(network: nn.Module) -> Iterator[Any]:
    """All that could be moved, as things that compare equal."""

    def bits(tensor: Tensor | None) -> Any:
        if tensor is None:
            return None
        return tensor.dtype, tensor.detach().numpy().tobytes(), tensor._version, tensor.data_ptr()

    for name, module in network.named_modules():
        yield name, type(module), module.training, id(module)
        yield {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
        yield sorted(vars(module)), *(len(known[module].passes) if module in known else 0 for known in (_used, _told))
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        yield name, id(tensor), bits(tensor), bits(tensor.grad), tensor.requires_grad, bool(tensor._backward_hooks)
    yield bits(torch.get_rng_state())[:2], torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    yield torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled(), torch.get_default_dtype()


CASES = [(kind, NORMS[kind][0]) for kind in KINDS] + [
    (kind, "spectral_norm") for kind in ("cnn", "transformer_encoder")
]


@pytest.mark.parametrize(("kind", "norm"), [*CASES, ("gru", "sequence_batch_norm")])
def test_every_diagnostic_measures_every_network_or_says_why_not_and_changes_nothing(kind: str, norm: str) -> None:
    network, batch = network_and_batch(kind, norm)
    network[0].train(False)
    before = list(state(network))
    refused = {}
    for name, measure in ALL.items():
        try:
            found = measure(network, batch.inputs, batch.targets, lengths=batch.lengths)
        except ValueError as error:
            refused[name] = str(error)
        else:
            assert found.kind == name
            assert found.arrays or found.scalars
        assert list(state(network)) == before, name
    assert all(name == "scale_invariance" and "goes straight into" in words for name, words in refused.items())


class Breaks(nn.Module):
    """Runs so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = [times]

    def __deepcopy__(self, memo: Any) -> "Breaks":
        # The copies count together.
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self.left[0] == 0:
            raise ZeroDivisionError
        self.left[0] -= 1
        return x


@pytest.mark.parametrize("name", ALL)
def test_an_error_in_the_middle_leaves_no_trace_either(name: str) -> None:
    torch.manual_seed(0)
    breaks = Breaks(-1)
    layers = [nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(inplace=True), nn.Dropout(), weight_norm(nn.Linear(6, 5))]
    network = nn.Sequential(*layers, nn.BatchNorm1d(5), nn.Tanh(), breaks, nn.Linear(5, 3))
    x, labels = torch.randn(9, 4), torch.randint(3, (9,))
    ALL[name](network, x, labels)
    passes = -1 - breaks.left[0]
    before = list(state(network))
    for times in range(passes):
        breaks.left[0] = times
        with pytest.raises(ZeroDivisionError), torch.autocast("cpu", torch.bfloat16):
            ALL[name](network, x, labels)
        assert list(state(network)) == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_callers_mode_is_neither_in_the_way_nor_changed(mode: Callable[[], Any]) -> None:
    network, batch = network_and_batch("mlp", "batch_renorm")
    expected = {name: measure(network, batch.inputs, batch.targets).to_bytes() for name, measure in ALL.items()}
    with mode():
        inside = copy.copy(batch.inputs)
        modes = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for name, measure in ALL.items():
            assert measure(network, inside, batch.targets).to_bytes() == expected[name]
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == modes


def test_noise_is_the_same_at_every_point_and_by_the_seed() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 40), nn.Dropout(0.5), nn.Linear(40, 3))
    x, labels = torch.randn(9, 4), torch.randint(3, (9,))
    along = diagnostics.step_probe(network, x, labels, distances=(0.0, 0.0, 1e-9))
    assert set(along.arrays["loss"][:2]) == {along.scalars["loss_0"]}
    assert along.arrays["loss"][2] == pytest.approx(along.scalars["loss_0"], rel=1e-6)
    torch.rand(100)
    assert (
        diagnostics.step_probe(network, x, labels).to_bytes() == diagnostics.step_probe(network, x, labels).to_bytes()
    )
    other = diagnostics.step_probe(network, x, labels, seed=1)
    assert other.scalars["loss_0"] != along.scalars["loss_0"]


def test_what_is_frozen_stays_frozen_while_it_is_measured() -> None:
    network, batch = network_and_batch("cnn", "batch_norm")
    freeze(network)
    network[1].requires_grad_(False)
    before = list(state(network))
    found = diagnostics.gradient_norms(network, batch.inputs, batch.targets)
    assert [bool(value) for value in torch.isnan(torch.tensor(found.arrays["norm"]))] == [True, False, False]
    for measure in ALL.values():
        measure(network, batch.inputs, batch.targets)
    assert list(state(network)) == before
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="all is frozen"):
        diagnostics.gradient_norms(network, batch.inputs, batch.targets)
    diagnostics.activation_moments(network, batch.inputs)


def test_inputs_may_be_several_and_are_not_overwritten() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    pair = {"one": torch.randn(9, 4), "more": [torch.randn(9, 4)]}
    before = copy.deepcopy(pair)

    def forward(network: nn.Module, given: Any) -> Tensor:
        return network(given["one"].sub_(1)) + network(given["more"][0])

    expected = F.cross_entropy(forward(copy.deepcopy(model), copy.deepcopy(pair)), torch.zeros(9, dtype=torch.long))
    with torch.inference_mode():
        found = diagnostics.gradient_heatmap(model, pair, torch.zeros(9, dtype=torch.long), forward=forward)
        along = diagnostics.step_probe(model, pair, torch.zeros(9, dtype=torch.long), forward=forward)
    assert found.arrays["gradient"].shape == (9, 3)
    assert torch.equal(pair["one"], before["one"])
    assert torch.equal(pair["more"][0], before["more"][0])
    assert along.scalars["loss_0"] == pytest.approx(expected.item(), rel=1e-6)
    assert (along.arrays["loss"][:3] < along.scalars["loss_0"]).all()
