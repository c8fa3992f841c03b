"""Both weight standardizations: formulas, derivatives of every order, units of transposed layers, the way back."""

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm.weight_standardization import (
    ScaledWeightStandardization,
    WeightStandardization,
    remove_weight_standardization,
    scaled_weight_standardization,
    weight_standardization,
)
from bncore.spec.norm import ScaledWeightStandardizationSpec

RELU_LOSES = math.sqrt(2 / (1 - 1 / math.pi))

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(6, 4, 3, groups=2), (2, 6, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (2, 3, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), (2, 2, 3, 3, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 2), (2, 3, 4, 4)),
    "transposed, groups": (lambda: nn.ConvTranspose1d(6, 4, 3, groups=2), (2, 6, 5)),
}
KINDS = {"plain": weight_standardization, "scaled": scaled_weight_standardization}


def made(name: str, kind: str, **options: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layer = KINDS[kind](LAYERS[name][0]().double(), **options)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(1.0 + 0.3 * torch.randn_like(parameter))
    return layer


def units(weight: Tensor, layer: nn.Module) -> list[tuple[int, ...] | tuple[object, ...]]:
    """The index of each output unit's weights, in the order of the outputs."""
    if not isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d):
        return [(unit,) for unit in range(weight.shape[0])]
    inputs, outputs = weight.shape[0] // layer.groups, weight.shape[1]
    return [
        (slice(group * inputs, (group + 1) * inputs), unit) for group in range(layer.groups) for unit in range(outputs)
    ]


def by_the_paper(layer: nn.Module, original: Tensor, eps: float, gain: Tensor | None, gamma: float) -> Tensor:
    """Unit by unit, with loops."""
    weight = original.clone()
    for number, index in enumerate(units(original, layer)):
        own = original[index]
        mean = own.sum() / own.numel()
        var = ((own - mean) ** 2).sum() / own.numel()
        if gain is None:
            weight[index] = (own - mean) / (var + eps) ** 0.5
        else:
            weight[index] = gamma * gain[number] * (own - mean) / torch.clamp(var * own.numel(), min=eps) ** 0.5
    return weight


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_weight_and_first_and_second_derivatives_are_those_of_the_formula(name: str, kind: str) -> None:
    options = {"eps": 0.02} if kind == "plain" else {"eps": 0.02, "gain": 1.7}
    layer = made(name, kind, **options)
    learned = list(layer.parametrizations.parameters())
    gain = learned[1] if kind == "scaled" else None
    results = []
    for weight in (layer.weight, by_the_paper(layer, learned[0], 0.02, gain, 1.7)):
        first = torch.autograd.grad(weight.sin().sum(), learned, create_graph=True)
        second = torch.autograd.grad(sum(part.cos().sum() for part in first), learned)
        results.append((weight, *first, *second))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["linear", "transposed, groups"])
def test_under_transforms_it_is_right_beyond_the_second_order(name: str, kind: str) -> None:
    layer = made(name, kind)
    original = layer.parametrizations.weight.original.detach()
    parametrization = layer.parametrizations.weight[0]
    direction = torch.linspace(-1, 2, original.numel(), dtype=torch.float64).view_as(original)
    gain = parametrization.gain.detach() if kind == "scaled" else None

    def mine(t: Tensor) -> Tensor:
        return parametrization(original + t * direction).sin().sum()

    def expected(t: Tensor) -> Tensor:
        own = original + t * direction
        return by_the_paper(layer, own, parametrization.eps, gain, 1.0).sin().sum()

    t = torch.tensor(0.2, dtype=torch.float64)
    slow = t.clone().requires_grad_()
    value = expected(slow)
    orders = []
    for _ in range(3):
        (value,) = torch.autograd.grad(value, slow, create_graph=True)
        orders.append(value.detach())
    forward = torch.func.jacfwd(torch.func.jacfwd(mine))(t)
    torch.testing.assert_close(torch.func.jvp(mine, (t,), (torch.ones_like(t),))[1], orders[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(forward, orders[1], rtol=1e-9, atol=1e-9)
    third = torch.func.grad(torch.func.grad(torch.func.grad(mine)))(t)
    torch.testing.assert_close(third, orders[2], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_an_ensemble_run_as_one(kind: str) -> None:
    # torch gives each parametrized layer a class of its own, but its copies share it, which stacking wants.
    first = made("conv2d", kind)
    members = [copy.deepcopy(first) for _ in range(3)]
    with torch.no_grad():
        for number, member in enumerate(members):
            member.parametrizations.weight.original[0].add_(0.2 * number)
    x = torch.linspace(-1, 1, 450, dtype=torch.float64).view(3, 2, 3, 5, 5)
    parameters, _ = torch.func.stack_module_state(members)
    y = torch.func.vmap(lambda state, x: torch.func.functional_call(first, state, (x,)))(parameters, x)
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(x[number]), rtol=1e-12, atol=1e-12)


def test_units_have_mean_0_and_the_promised_variance() -> None:
    plain = made("conv2d", "plain", eps=1e-12).weight.flatten(1)
    torch.testing.assert_close(plain.mean(1), torch.zeros(4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(plain.var(1, correction=0), torch.ones(4).double(), rtol=1e-6, atol=0)
    layer = scaled_weight_standardization(nn.Conv2d(3, 4, 3), gain=RELU_LOSES)
    torch.testing.assert_close(layer.weight.flatten(1).norm(dim=1), torch.full((4,), RELU_LOSES))


def test_what_relu_loses_is_said_as_it_is() -> None:
    # One over the standard deviation of relu(z) for a standard normal z, by the trapezoid rule.
    z = torch.linspace(0.0, 12.0, 200_001, dtype=torch.float64)
    density = (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
    mean, square = (torch.trapezoid(z**power * density, z).item() for power in (1, 2))
    assert pytest.approx((square - mean**2) ** -0.5, rel=1e-9) == RELU_LOSES
    said = [ScaledWeightStandardization.__doc__, ScaledWeightStandardizationSpec.model_fields["gain"].description]
    assert all(f"= {RELU_LOSES:.4f} for ReLU" in text for text in said)


def test_with_the_gain_of_relu_a_deep_stack_keeps_its_variance_and_without_it_loses_it() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 256, generator=generator)
    spreads = {}
    for gain in (RELU_LOSES, 1.0):
        y = x
        for _ in range(20):
            layer = nn.Linear(256, 256, bias=False, device="meta").to_empty(device="cpu")
            nn.init.normal_(layer.weight, 0.3, 2.0, generator=generator)
            y = scaled_weight_standardization(layer, gain=gain)(y.relu() if y is not x else y)
        spreads[gain] = y.std().item()
    kept, lost = spreads.values()
    assert kept == pytest.approx(RELU_LOSES, rel=0.2)
    assert lost < 1e-3


def test_a_unit_of_equal_weights_gives_zeros_and_finite_gradients() -> None:
    for kind in KINDS:
        layer = made("linear", kind)
        with torch.no_grad():
            layer.parametrizations.weight.original[1] = 0.5
        assert (layer.weight[1] == 0).all()
        layer.weight.sin().sum().backward()
        assert all(value.grad.isfinite().all() for value in layer.parametrizations.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_one_weight_are_refused(kind: str) -> None:
    for layer in (nn.Linear(1, 4), nn.Conv2d(4, 4, 1, groups=4), nn.ConvTranspose2d(4, 4, 1, groups=4)):
        with pytest.raises(ValueError, match="one weight each"):
            KINDS[kind](layer)
        assert not parametrize.is_parametrized(layer)
    with pytest.raises(ValueError, match="has no parameter 'weight'"):
        KINDS[kind](nn.ReLU())
    KINDS[kind](nn.ConvTranspose2d(4, 1, 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_in_lower_precision_it_is_measured_in_float32_and_keeps_type_and_layout(kind: str, dtype: torch.dtype) -> None:
    layer = made("conv2d", kind)
    expected = layer.weight.detach()
    low = copy.deepcopy(layer).to(dtype)
    assert low.weight.dtype == dtype
    precision = 2 * torch.finfo(dtype).eps * 8
    torch.testing.assert_close(low.weight.double(), expected, rtol=precision, atol=precision)
    last = low.to(memory_format=torch.channels_last)
    assert last.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.weight.double(), expected, rtol=precision, atol=precision)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_as_one_graph_it_gives_the_eager_gradients(kind: str) -> None:
    eager = made("conv2d", kind).float()
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    eager(x).sin().sum().backward()
    compiled(x).sin().sum().backward()
    for mine, expected in zip(other.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", LAYERS)
def test_state_copies_and_the_way_back(name: str, kind: str) -> None:
    layer = made(name, kind)
    keys = {"bias", "parametrizations.weight.original"} | ({"parametrizations.weight.0.gain"} & {*layer.state_dict()})
    assert layer.state_dict().keys() == keys
    assert ("parametrizations.weight.0.gain" in keys) == (kind == "scaled")
    fresh = KINDS[kind](LAYERS[name][0]().double())
    fresh.load_state_dict(layer.state_dict(), strict=True)
    expected = layer.weight.detach().clone()
    plain = remove_weight_standardization(copy.deepcopy(layer))
    assert type(plain) is type(LAYERS[name][0]())
    for weight in (fresh.weight, plain.weight, pickle.loads(pickle.dumps(plain)).weight, layer.weight):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0)
    x = torch.ones(LAYERS[name][1], dtype=torch.float64)
    torch.testing.assert_close(plain(x), layer(x), rtol=0, atol=0)


def test_on_meta_it_has_the_shapes_of_its_parameters() -> None:
    for name, (make, shape) in LAYERS.items():
        with torch.device("meta"):
            layer = scaled_weight_standardization(make())
            assert layer(torch.empty(shape)).shape == LAYERS[name][0]()(torch.empty(shape)).shape
        assert layer.parametrizations.weight[0].gain.shape == (4,)


def test_reset_sets_all_gains_to_1_and_a_parametrization_says_what_it_is() -> None:
    scaled = ScaledWeightStandardization(4, gain=1.5)
    nn.init.zeros_(scaled.gain)
    scaled.reset_parameters()
    assert (scaled.gain == 1).all()
    assert repr(scaled) == "ScaledWeightStandardization(eps=0.0001, gamma=1.5)"
    assert repr(WeightStandardization()) == "WeightStandardization(eps=1e-05)"
