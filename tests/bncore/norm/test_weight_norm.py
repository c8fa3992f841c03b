"""Weight norm: its formula and derivatives, torch's numbers and keys, and the way back to a plain weight."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from bncore.norm.weight_norm import remove_weight_norm, weight_norm

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 4),
    "conv1d": lambda: nn.Conv1d(6, 4, 3, groups=2),
    "conv2d": lambda: nn.Conv2d(3, 4, 3),
    "conv3d": lambda: nn.Conv3d(2, 4, 2),
}


def made(name: str, dim: int | None = 0) -> nn.Module:
    """A layer whose lengths and directions are not those of a plain weight."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layer = weight_norm(LAYERS[name]().double(), dim=dim)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(1.0 + 0.3 * torch.randn_like(parameter))
    return layer


def by_the_paper(g: Tensor, v: Tensor, dim: int | None) -> Tensor:
    axes = [axis for axis in range(v.dim()) if axis != dim]
    return g * v / (v**2).sum(axes, keepdim=dim is not None) ** 0.5


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("name", LAYERS)
def test_weight_and_first_and_second_derivatives_are_those_of_the_formula(name: str, dim: int | None) -> None:
    layer = made(name, dim)
    g, v = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    assert g.numel() == (1 if dim is None else v.shape[dim])
    results = []
    for weight in (layer.weight, by_the_paper(g, v, dim)):
        first = torch.autograd.grad(weight.sin().sum(), (g, v), create_graph=True)
        second = torch.autograd.grad(sum(part.cos().sum() for part in first), (g, v))
        results.append((weight, *first, *second))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dim", [0, 1, None])
def test_forward_mode_and_third_derivatives_are_right(dim: int | None) -> None:
    layer = made("conv2d", dim)
    state = {key: value.detach() for key, value in layer.state_dict().items()}
    key = "parametrizations.weight.original1"
    x = torch.linspace(-1, 1, 75, dtype=torch.float64).view(1, 3, 5, 5)

    def mine(t: Tensor) -> Tensor:
        moved = {**state, key: state[key] * (1 + t * torch.linspace(0, 1, 4).double().view(4, 1, 1, 1))}
        return torch.func.functional_call(layer, moved, (x,)).sin().sum()

    def expected(t: Tensor) -> Tensor:
        v = state[key] * (1 + t * torch.linspace(0, 1, 4).double().view(4, 1, 1, 1))
        weight = by_the_paper(state["parametrizations.weight.original0"], v, dim)
        return nn.functional.conv2d(x, weight, state["bias"]).sin().sum()

    t = torch.tensor(0.2, dtype=torch.float64)
    for derivative in (
        lambda function: torch.func.jvp(function, (t,), (torch.ones_like(t),))[1],
        lambda function: torch.func.jacfwd(torch.func.jacfwd(function))(t),
        lambda function: torch.func.grad(torch.func.grad(torch.func.grad(function)))(t),
    ):
        torch.testing.assert_close(derivative(mine), derivative(expected), rtol=1e-9, atol=1e-9)


def test_the_weight_is_at_first_what_it_was() -> None:
    for make in LAYERS.values():
        layer = make().double()
        before = layer.weight.detach().clone()
        torch.testing.assert_close(weight_norm(layer).weight, before, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_it_trains_like_torchs_and_their_states_are_exchangeable(dim: int | None) -> None:
    mine = made("linear", dim)
    theirs = parametrizations.weight_norm(nn.Linear(5, 4).double(), dim=dim)
    theirs.load_state_dict(mine.state_dict(), strict=True)
    for layer in (mine, theirs):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for seed in range(5):
            x = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            layer(x).sin().sum().backward()
            optimizer.step()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=1e-12, atol=1e-12)
    mine.load_state_dict(theirs.state_dict(), strict=True)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_as_one_graph_it_gives_the_eager_gradients() -> None:
    eager = made("conv2d").float()
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    eager(x).sin().sum().backward()
    compiled(x).sin().sum().backward()
    for mine, expected in zip(other.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-4, atol=1e-5)


def test_members_of_an_ensemble_run_as_one() -> None:
    # torch gives each parametrized layer a class of its own, but its copies share it, which stacking wants.
    first = made("linear")
    members = [copy.deepcopy(first) for _ in range(3)]
    with torch.no_grad():
        for number, member in enumerate(members):
            member.parametrizations.weight.original0.mul_(1 + number)
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).view(3, 2, 5)
    parameters, buffers = torch.func.stack_module_state(members)

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(first, {**parameters, **buffers}, (x,))

    y = torch.func.vmap(run)(parameters, buffers, x)
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(x[number]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_removed_it_leaves_a_plain_layer_and_its_copies_alone(name: str) -> None:
    layer = made(name)
    expected = layer.weight.detach().clone()
    plain = remove_weight_norm(copy.deepcopy(layer))
    assert type(plain) is type(LAYERS[name]())
    assert isinstance(plain.weight, nn.Parameter)
    LAYERS[name]().load_state_dict(plain.state_dict(), strict=True)
    for weight in (plain.weight, pickle.loads(pickle.dumps(plain)).weight, layer.weight):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0)
    assert parametrize.is_parametrized(layer, "weight")
    with pytest.raises(ValueError, match="not parametrized"):
        remove_weight_norm(plain)


@pytest.mark.parametrize("dim", [-1, -2, -3, -4, 3])
def test_axes_are_counted_as_in_torch(dim: int) -> None:
    plain = LAYERS["conv2d"]()
    before = plain.weight.detach().clone()
    layer, theirs = weight_norm(plain, dim=dim), parametrizations.weight_norm(LAYERS["conv2d"](), dim=dim)
    torch.testing.assert_close(layer.weight, before)
    theirs.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(layer.weight, theirs.weight)


@pytest.mark.parametrize("dim", [0, None])
def test_a_vector_is_at_first_what_it_was_and_has_torchs_numbers(dim: int | None) -> None:
    layer = nn.Linear(5, 4)
    before = layer.bias.detach().clone()
    weight_norm(layer, "bias", dim)
    torch.testing.assert_close(layer.bias, before)
    with torch.no_grad():
        layer.parametrizations.bias.original0.mul_(3.0)
    theirs = parametrizations.weight_norm(nn.Linear(5, 4), "bias", dim)
    theirs.load_state_dict(layer.state_dict(), strict=True)
    torch.testing.assert_close(layer.bias, theirs.bias)


def test_what_cannot_be_normalized_is_refused() -> None:
    for arguments in ((nn.ReLU(),), (nn.Linear(2, 2), "other"), (nn.Linear(2, 2, bias=False), "bias")):
        with pytest.raises(ValueError, match="has no parameter"):
            weight_norm(*arguments)
    with pytest.raises(ValueError, match="dim must be an axis"):
        weight_norm(nn.Linear(2, 2), dim=2)
    with pytest.raises(ValueError, match="parametrized already"):
        weight_norm(weight_norm(nn.Linear(2, 2)))


def test_on_meta_it_has_the_shapes_of_its_parameters() -> None:
    layer = weight_norm(nn.Conv2d(3, 4, 3, device="meta"))
    assert layer(torch.empty(2, 3, 5, 5, device="meta")).shape == (2, 4, 3, 3)
    assert [tuple(value.shape) for value in layer.parametrizations.parameters()] == [(4, 1, 1, 1), (4, 3, 3, 3)]
