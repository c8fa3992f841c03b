"""Spectral norm: formula and derivatives, torch's numbers and keys, its seeds, and vectors that move once a pass."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from bncore.norm.spectral_norm import refresh_spectral_norm, remove_spectral_norm, spectral_norm

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(5, 4),
    "conv1d": lambda: nn.Conv1d(6, 4, 3, groups=2),
    "conv2d": lambda: nn.Conv2d(3, 4, 3),
    "conv3d": lambda: nn.Conv3d(2, 4, 2),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 2),
}
ORIGINAL, U, V = (f"parametrizations.weight.{key}" for key in ("original", "0._u", "0._v"))


def made(name: str = "linear", seed: int = 3, **options: float) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return spectral_norm(LAYERS[name]().double(), seed=seed, **options)


def batch(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (8, 5), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moved(matrix: Tensor, v: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    for _ in range(steps):
        u = matrix @ v / (matrix @ v).norm()
        v = matrix.T @ u / (matrix.T @ u).norm()
    return u, v


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_weight_vectors_and_derivatives_are_those_of_the_formula(name: str, steps: int) -> None:
    layer = made(name, power_iterations=steps)
    original = layer.parametrizations.weight.original
    with torch.no_grad():
        original.add_(0.3)
    matrix = (original.transpose(0, 1) if name == "transposed" else original).flatten(1)
    u, v = moved(matrix.detach(), layer.state_dict()[V].clone(), steps)
    results = []
    for weight in (layer.weight, original / (u @ matrix @ v)):
        (first,) = torch.autograd.grad(weight.sin().sum(), original, create_graph=True)
        (second,) = torch.autograd.grad(first.cos().sum(), original)
        results.append((weight, first, second))
    for mine, expected in zip(*results, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer.state_dict()[U], u, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.state_dict()[V], v, rtol=1e-12, atol=1e-12)


def test_after_many_passes_the_largest_singular_value_is_1() -> None:
    layer = made("conv2d")
    for _ in range(200):
        layer.weight  # noqa: B018
    torch.testing.assert_close(torch.linalg.svdvals(layer.weight.flatten(1))[0].item(), 1.0, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_it_trains_like_torchs_and_their_states_are_exchangeable(name: str) -> None:
    mine = made(name)
    theirs = parametrizations.spectral_norm(LAYERS[name]().double())
    theirs.load_state_dict(mine.state_dict(), strict=True)
    shape = {"linear": (8, 5), "conv1d": (2, 6, 5), "conv3d": (2, 2, 3, 3, 3)}.get(name, (2, 3, 5, 5))
    for layer in (mine, theirs):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        for seed in range(5):
            optimizer.zero_grad()
            (layer(batch(seed, *shape)).sin().sum() + layer(batch(-seed, *shape)).sum()).backward()
            optimizer.step()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=1e-10, atol=1e-10)
    mine.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(mine.eval().weight, theirs.eval().weight, rtol=1e-12, atol=1e-12)


def test_start_vectors_depend_on_the_seed_alone_and_the_global_generator_is_left_alone() -> None:
    def start(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
        layer = nn.Linear(5, 4, device="meta").to_empty(device="cpu").to(dtype)
        # Many equal singular values: what the vectors become is decided by where they start.
        nn.init.eye_(layer.weight)
        return spectral_norm(layer, seed=seed).state_dict()[V]

    before = torch.get_rng_state()
    assert torch.equal(start(1), start(1))
    torch.testing.assert_close(start(1, torch.float32).double(), start(1), rtol=1e-6, atol=1e-6)
    assert (start(1) - start(2)).abs().max() > 0.1
    assert torch.equal(torch.get_rng_state(), before)


def test_evaluation_and_registration_move_no_vector() -> None:
    layer = made()
    registered = copy.deepcopy(layer.state_dict())
    matrix = layer.parametrizations.weight.original.detach()
    u, _ = moved(matrix, registered[V], 1)
    layer.eval()
    torch.testing.assert_close(layer.weight, matrix / (registered[U] @ matrix @ registered[V]), rtol=1e-12, atol=1e-12)
    assert torch.equal(layer.state_dict()[U], registered[U])
    layer.train()(batch(0))
    torch.testing.assert_close(layer.state_dict()[U], u, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reentrant", [None, True, False], ids=["stored", "reentrant", "not reentrant"])
@pytest.mark.parametrize("apart", [False, True], ids=["one backward pass", "one each"])
def test_passes_that_run_again_get_the_vectors_of_their_first_run(reentrant: bool | None, apart: bool) -> None:
    inputs = [batch(1).requires_grad_(), batch(2).requires_grad_(), batch(3).requires_grad_()]
    plain = nn.Sequential(made(seed=1), nn.Tanh(), spectral_norm(nn.Linear(4, 3).double(), seed=2))
    with torch.no_grad():
        # One step of iteration is far from the end, so that each pass has other vectors.
        for layer in (plain[0], plain[2]):
            torch.nn.init.orthogonal_(layer.parametrizations.weight.original)
            layer.parametrizations.weight.original.mul_(torch.linspace(1.0, 1.2, layer.out_features).view(-1, 1))
            layer.parametrizations.weight[0]._v.copy_(batch(9, layer.in_features).abs())
    other = copy.deepcopy(plain)

    def gradients(network: nn.Module, run: Callable[[Tensor], Tensor]) -> list[Tensor]:
        losses = [run(x).sin().sum() for x in inputs]
        for loss in losses if apart else [sum(losses)]:
            loss.backward()
        found = [tensor.grad.clone() for tensor in (*inputs, *network.parameters())]
        for x in inputs:
            x.grad = None
        return found

    expected = gradients(plain, plain)
    if reentrant is None:
        actual = gradients(other, other)
    else:
        actual = gradients(other, lambda x: checkpoint(other, x, use_reentrant=reentrant))
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=0, atol=0)


def test_a_hook_of_a_backward_pass_reads_and_runs_it_as_anybody_does() -> None:
    layer = made()
    x = batch(0).requires_grad_()
    y = layer(x)
    other, seen = copy.deepcopy(layer), []
    x.register_hook(lambda _: seen.extend((layer.weight.detach(), layer(batch(1)).detach())))
    y.sum().backward()
    assert torch.equal(seen[0], other.weight.detach())
    assert torch.equal(seen[1], other(batch(1)).detach())
    assert torch.equal(layer.state_dict()[U], other.state_dict()[U])


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_as_one_graph_it_gives_the_eager_gradients_and_vectors() -> None:
    eager = made("linear").float()
    with torch.no_grad():
        # Far from the end of the iteration, old and new vectors differ.
        eager.parametrizations.weight[0]._v.copy_(torch.linspace(-1.0, 0.5, 5))
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
    for seed in range(3):
        x = batch(seed).float()
        eager.zero_grad()
        other.zero_grad()
        eager(x).sin().sum().backward()
        compiled(x).sin().sum().backward()
        for mine, expected in zip(other.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-4, atol=1e-5)
        for key, value in eager.state_dict().items():
            torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(other.eval()(x), eager.eval()(x))


@pytest.mark.parametrize("training", [True, False])
def test_members_of_an_ensemble_run_as_one(training: bool) -> None:
    first = made("conv2d").train(training)
    members = [copy.deepcopy(first) for _ in range(3)]
    with torch.no_grad():
        for number, member in enumerate(members):
            member.parametrizations.weight.original.add_(0.2 * number)
    x = batch(0, 3, 2, 3, 5, 5)
    parameters, buffers = torch.func.stack_module_state(members)

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(first, {**parameters, **buffers}, (x,))

    y = torch.func.vmap(run)(parameters, buffers, x)
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(x[number]), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(buffers[U][number], member.state_dict()[U], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_under_transforms_the_vectors_are_constants_of_every_order() -> None:
    layer = made("conv2d")
    state = {key: value.clone() for key, value in layer.state_dict().items()}
    direction, x = batch(5, *state[ORIGINAL].shape), batch(6, 2, 3, 4, 4)
    u, v = moved((state[ORIGINAL] + 0.2 * direction).flatten(1), state[V], 1)

    def mine(t: Tensor) -> Tensor:
        here = {key: value.clone() for key, value in state.items()} | {ORIGINAL: state[ORIGINAL] + t * direction}
        return torch.func.functional_call(layer, here, (x,)).sin().sum()

    def expected(t: Tensor) -> Tensor:
        weight = state[ORIGINAL] + t * direction
        return nn.functional.conv2d(x, weight / (u @ weight.flatten(1) @ v), state["bias"]).sin().sum()

    t = torch.tensor(0.2, dtype=torch.float64)
    for derivative in (
        lambda function: torch.func.jvp(function, (t,), (torch.ones_like(t),))[1],
        lambda function: torch.func.jacfwd(torch.func.jacfwd(function))(t),
        lambda function: torch.func.grad(torch.func.grad(torch.func.grad(function)))(t),
    ):
        torch.testing.assert_close(derivative(mine), derivative(expected), rtol=1e-9, atol=1e-9)


def test_half_precision_and_autocast_measure_in_float32() -> None:
    exact = made().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = copy.deepcopy(exact).weight
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, copy.deepcopy(exact).weight, rtol=1e-6, atol=1e-6)
    low = copy.deepcopy(exact).bfloat16()
    assert low.weight.dtype == torch.bfloat16
    torch.testing.assert_close(low.weight.float(), exact.weight, rtol=0.02, atol=0.02)


def test_a_vector_is_divided_by_its_norm_and_has_no_state() -> None:
    layer = spectral_norm(nn.Linear(5, 4).double(), "bias")
    torch.testing.assert_close(
        layer.bias, layer.parametrizations.bias.original / layer.parametrizations.bias.original.norm()
    )
    assert [*layer.state_dict()] == ["weight", "parametrizations.bias.original"]


@pytest.mark.parametrize("name", LAYERS)
def test_state_copies_and_the_way_back(name: str) -> None:
    layer = made(name)
    assert {ORIGINAL, U, V} <= layer.state_dict().keys()
    fresh = made(name, seed=99)
    fresh.load_state_dict(layer.state_dict(), strict=True)
    copied = copy.deepcopy(layer)
    expected = copy.deepcopy(layer).eval().weight.detach()
    plain = remove_spectral_norm(copied)
    assert type(plain) is type(LAYERS[name]())
    assert not plain._forward_pre_hooks
    LAYERS[name]().load_state_dict(plain.state_dict(), strict=True)
    for weight in (plain.weight, pickle.loads(pickle.dumps(plain)).weight, layer.eval().weight, fresh.eval().weight):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0)
    assert parametrize.is_parametrized(layer, "weight")


def test_on_meta_it_has_the_shapes_of_its_state() -> None:
    with torch.device("meta"):
        layer = spectral_norm(nn.ConvTranspose2d(3, 4, 2))
        assert layer(torch.empty(2, 3, 4, 4)).shape == (2, 4, 5, 5)
    assert (layer.state_dict()[U].shape, layer.state_dict()[V].shape) == ((4,), (12,))
    with pytest.raises(ValueError, match="at least one power iteration"):
        spectral_norm(nn.Linear(2, 2), power_iterations=0)
    with pytest.raises(ValueError, match="has no parameter 'weight'"):
        spectral_norm(nn.ReLU())


def averaged(name: str, buffers: bool) -> tuple[nn.Module, nn.Module]:
    """A model whose weights wander, and the average of what they were."""
    model = nn.Sequential(made(name))
    average = AveragedModel(model, use_buffers=buffers, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        with torch.no_grad():
            original = model[0].parametrizations.weight.original
            original.add_(torch.randn(original.shape, generator=generator, dtype=original.dtype))
            assert model[0].weight.isfinite().all()
        average.update_parameters(model)
    return model[0].eval(), average.module[0].eval()


def largest(layer: nn.Module, name: str) -> float:
    matrix = (layer.weight.transpose(0, 1) if name == "transposed" else layer.weight).flatten(1)
    return float(torch.linalg.svdvals(matrix.detach())[0])


@pytest.mark.parametrize("name", LAYERS)
def test_averaged_with_its_vectors_a_weight_still_has_norm_one(name: str) -> None:
    trained, average = averaged(name, buffers=True)
    before = {key: value.clone() for key, value in average.state_dict().items()}
    assert (before[U].norm() * before[V].norm() - 1).abs() > 1e-2
    for _ in range(2):
        assert abs(largest(average, name) - 1.0) < 1e-4
        with torch.no_grad():
            # Written past autograd, as many averages are.
            average.parametrizations.weight[0]._u.data.mul_(0.9)
            average.parametrizations.weight.original.add_(0.1)
    # Vectors of length 1 are left alone, to the last bit.
    u, v = trained.state_dict()[U], trained.state_dict()[V]
    original = trained.parametrizations.weight.original.detach()
    matrix = (original.transpose(0, 1) if name == "transposed" else original).flatten(1)
    assert torch.equal(trained.weight.detach(), original / ((matrix * v).sum(1) * u).sum())


@pytest.mark.parametrize("how", ["functional", "compiled"])
@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")
def test_where_nothing_can_be_asked_averages_are_divided_by_their_lengths(how: str) -> None:
    _, average = averaged("linear", buffers=True)
    u, v = average.state_dict()[U], average.state_dict()[V]
    original, x = average.parametrizations.weight.original.detach(), batch(5)
    expected = x @ (original / ((u / u.norm()) @ original @ (v / v.norm()))).T + average.bias.detach()
    if how == "functional":
        state = dict(average.state_dict())
        y = torch.func.vmap(lambda x: torch.func.functional_call(average, state, (x,)))(x)
    else:
        y = torch.compile(average, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(y, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_vectors_of_weights_that_others_averaged_are_refreshed(name: str) -> None:
    _, average = averaged(name, buffers=False)
    assert abs(largest(average, name) - 1.0) > 1e-3
    assert refresh_spectral_norm(average) is average
    assert abs(largest(average, name) - 1.0) < 1e-4
    other = parametrizations.weight_norm(nn.Linear(3, 3))
    assert refresh_spectral_norm(other) is other
