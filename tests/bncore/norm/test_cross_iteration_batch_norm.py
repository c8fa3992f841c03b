"""Cross-iteration batch norm behind a layer whose weights move: the paper's window, its state, its ties."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.norm import BatchNorm
from bncore.norm.cross_iteration_batch_norm import CrossIterationBatchNorm
from tests.bncore.norm.case import batch_axes, per_channel

FRONTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (6, 5)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (6, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=2), (3, 2, 8)),
    "conv2d": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2), (2, 4, 5, 4)),
    "conv2d, circular": (lambda: nn.Conv2d(2, 4, (3, 2), padding=(1, 0), padding_mode="circular"), (2, 2, 5, 4)),
    "conv2d, same": (lambda: nn.Conv2d(2, 4, 3, padding="same", dilation=2, bias=False), (2, 2, 5, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), (2, 2, 3, 3, 3)),
}


def tied(front: str = "conv2d", dtype: torch.dtype = torch.float64, **options: object) -> tuple[nn.Sequential, Tensor]:
    """A layer and the norm that follows it, and 8 batches for them."""
    torch.manual_seed(5)
    make, shape = FRONTS[front]
    network = nn.Sequential(make(), CrossIterationBatchNorm(4, **options)).to(dtype)
    network[1].follow(network[0])
    return network, torch.randn(8, *shape, dtype=dtype) * 1.5 + 0.7


def step(network: nn.Module, x: Tensor, rate: float = 0.2) -> Tensor:
    """One step of gradient descent; the output before it."""
    y = network(x)
    network.zero_grad()
    (y.sin() * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter -= rate * parameter.grad
    return y.detach()


class PaperWindow(nn.Module):
    """Equations 8 to 13 as they stand, with the derivatives from the graph; a bias in front is taken off and put on."""

    def __init__(self, front: nn.Module, norm: CrossIterationBatchNorm) -> None:
        super().__init__()
        self.front, self.affine = front, nn.ParameterList((norm.weight, norm.bias))
        self.window, self.eps = norm.window, norm.eps
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        offset = self.front.bias.detach() if self.front.bias is not None else torch.zeros(4, dtype=x.dtype)
        linear = x - per_channel(offset, x)
        mean, second = linear.mean(batch_axes(x)), linear.square().mean(batch_axes(x))
        weight = self.front.weight
        (d_mean,) = torch.autograd.grad(mean.sum(), weight, retain_graph=True)
        (d_second,) = torch.autograd.grad(second.sum(), weight, retain_graph=True)
        means, seconds = [mean], [second]
        for old_mean, old_second, old_d_mean, old_d_second, old_weight in self.seen:
            moved = weight.detach() - old_weight
            means.append(old_mean + (old_d_mean * moved).flatten(1).sum(1))
            seconds.append(torch.maximum(old_second + (old_d_second * moved).flatten(1).sum(1), means[-1] ** 2))
        newest = tuple(value.detach().clone() for value in (mean, second, d_mean, d_second, weight))
        self.seen = [newest, *self.seen][: self.window - 1]
        center, moment = torch.stack(means).mean(0), torch.stack(seconds).mean(0)
        y = (linear - per_channel(center, x)) / per_channel(moment - center**2 + self.eps, x).sqrt()
        return y * per_channel(self.affine[0], x) + per_channel(self.affine[1], x)


@pytest.mark.parametrize("rate", [0.02, 3.0], ids=["small steps", "steps that the approximation does not survive"])
@pytest.mark.parametrize("front", FRONTS)
def test_it_follows_the_paper_step_by_step(front: str, rate: float) -> None:
    network, batches = tied(front, window=3)
    reference = PaperWindow(*copy.deepcopy(network))
    smallest = []
    for x in batches:
        with torch.no_grad():
            # Long steps make chaos of rounding: each is compared from the same weights.
            for mine, theirs in zip(network.parameters(), reference.parameters(), strict=True):
                theirs.copy_(mine)
            smallest.append(network[1]._compensated(torch.float64)[1][0].min().item())
        torch.testing.assert_close(step(network, x, rate), step(reference, x, rate), rtol=1e-9, atol=1e-9)
        for mine, theirs in zip(network.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-8)
    # With long steps the bound of the second moment by the squared mean takes part.
    assert min(smallest[1:]) == 0.0 or rate < 1.0


def test_the_mean_of_an_earlier_batch_is_moved_exactly_and_its_variance_to_first_order() -> None:
    network, batches = tied("conv2d", momentum=1.0)
    front, norm = network
    network(batches[0])
    errors = []
    start, move = front.weight.detach().clone(), torch.randn_like(front.weight)
    for size in (0.1, 0.01):
        with torch.no_grad():
            front.weight.copy_(start + size * move)
            means, variances = norm._compensated(torch.float64)
            now = front(batches[0])
        torch.testing.assert_close(means[0], now.mean((0, 2, 3)), rtol=1e-10, atol=1e-12)
        errors.append((variances[0] - now.var((0, 2, 3), correction=0)).abs().max().item())
    assert errors[0] > 1e-4
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.2)


def test_a_window_of_one_is_batch_norm() -> None:
    network, batches = tied("conv2d", window=1)
    plain = nn.Sequential(copy.deepcopy(network[0]), BatchNorm(4).double())
    plain[0]._forward_pre_hooks.clear()
    for round_ in range(50):
        x = batches[round_ % 8]
        torch.testing.assert_close(step(network, x, rate=0.01), step(plain, x, rate=0.01), rtol=1e-9, atol=1e-9)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        torch.testing.assert_close(network[1].get_buffer(name), plain[1].get_buffer(name), rtol=1e-9, atol=1e-9)


def test_the_same_batch_again_and_again_without_steps_is_batch_norm() -> None:
    network, batches = tied("linear")
    expected = BatchNorm(4).double()(network[0](batches[0]))
    for _ in range(5):
        torch.testing.assert_close(network(batches[0]), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("front", ["linear", "conv2d"])
def test_a_run_resumes_bit_for_bit(front: str) -> None:
    network, batches = tied(front)
    for x in batches[:3]:
        step(network, x)
    resumed, _ = tied(front)
    resumed.load_state_dict(copy.deepcopy(network.state_dict()), strict=True)
    copied, unpickled = copy.deepcopy(network), pickle.loads(pickle.dumps(network))
    for x in batches[3:]:
        expected = step(network, x)
        for other in (resumed, copied, unpickled):
            assert torch.equal(step(other, x), expected)
    for other in (resumed, copied, unpickled):
        for name, value in network.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name


def test_the_layer_in_front_is_not_a_part_of_it() -> None:
    network, _ = tied()
    assert len(list(network.modules())) == 3
    assert not any("_followed" in name for name in network.state_dict())
    bare = CrossIterationBatchNorm(4)
    assert set(network[1].state_dict()) - set(bare.state_dict()) == {
        "window_weight",
        "window_mean_slope",
        "window_var_slope",
    }


def test_made_without_memory_a_network_starts_from_its_reset() -> None:
    network, batches = tied()
    with torch.device("meta"):
        other, _ = tied()
    other.to_empty(device="cpu")
    for value in other.state_dict().values():
        value.fill_(3)
    other[1].reset_parameters()
    other[0].load_state_dict(network[0].state_dict())
    for x in batches:
        assert torch.equal(step(other, x), step(network, x))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_counts_each_batch_once_and_sees_the_window_as_it_was(reentrant: bool) -> None:
    stored, batches = tied("conv2d")
    again = copy.deepcopy(stored)
    for network in (stored, again):
        step(network, batches[0])
    pairs = [[x.clone().requires_grad_() for x in batches[1:3]] for _ in range(2)]
    sum(stored(x).sin().sum() for x in pairs[0]).backward()
    sum(checkpoint(again, x, use_reentrant=reentrant).sin().sum() for x in pairs[1]).backward()
    for mine, theirs in zip(pairs[1], pairs[0], strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(again.parameters(), stored.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-10, atol=1e-12)
    for name, value in stored.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_with_the_layer_in_front_it_trains_like_eager() -> None:
    torch._dynamo.reset()
    eager, batches = tied("conv2d")
    other = copy.deepcopy(eager)
    compiled = torch.compile(other, backend="aot_eager_decomp_partition", fullgraph=True)
    for x in batches[:5]:
        expected = step(eager, x, rate=0.05)
        y = compiled(x)
        torch.testing.assert_close(y, expected, rtol=1e-9, atol=1e-9)
        other.zero_grad()
        (y.sin() * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        with torch.no_grad():
            for mine, theirs in zip(other.parameters(), eager.parameters(), strict=True):
                torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-7, atol=1e-9)
                mine -= 0.05 * mine.grad
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-8, atol=1e-9, msg=name)


def test_members_of_an_ensemble_of_networks_run_as_one() -> None:
    members, batches = [tied("conv2d")[0] for _ in range(3)], tied("conv2d")[1]
    for number, member in enumerate(members):
        step(member, batches[number])
    parameters, buffers = torch.func.stack_module_state(members)

    def run(parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(members[0], {**parameters, **buffers}, (x,))

    y = torch.func.vmap(run)(parameters, buffers, batches[3:6])
    for number, member in enumerate(members):
        torch.testing.assert_close(y[number], member(batches[3 + number]), rtol=1e-10, atol=1e-10)
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][number], buffer, rtol=1e-10, atol=1e-11, msg=name)


@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_large_means_cost_no_more_digits_than_one_batch_has(ratio: float) -> None:
    network, batches = tied("linear without bias")
    with torch.no_grad():
        network[0].weight += 0.5 * ratio
    single = copy.deepcopy(network).float()
    for x in batches[:4]:
        expected = network(x)
        y = single(x.float())
        # Rounding of the layer in front, in units of the spread within a batch.
        rounding = 1.2e-7 * network[0](x).abs().max() / network[0](x).std(0).min()
        assert (y.double() - expected).abs().max() <= 20 * rounding + 1e-5
        network[1](network[0](x))
        single[1](single[0](x.float()))


def test_a_spoilt_batch_leaves_no_trace_where_the_guard_is_on() -> None:
    guarded, batches = tied("conv2d", nan_guard=True)
    spoilt = batches[1].clone()
    spoilt[0, 0] = float("nan")
    guarded(batches[0])
    guarded(spoilt)
    assert all(value.isfinite().all() for value in guarded.state_dict().values())
    # The first group of input channels feeds two of the four channels.
    assert guarded[1].window_filled[0].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert guarded(batches[2]).isfinite().all()


def test_autocast_in_front_takes_no_digits_from_the_slopes() -> None:
    network, batches = tied("linear", torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(batches[0])
    assert y.dtype == torch.bfloat16
    x, rounded = batches[0], network[0](batches[0]).bfloat16().float()
    expected = 2 * ((rounded - rounded.mean(0)).T @ (x - x.mean(0))) / len(x)
    torch.testing.assert_close(network[1].window_var_slope[0], expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(network[1].window_mean_slope[0, 0], x.mean(0), rtol=1e-6, atol=1e-6)


def test_evaluation_keeps_no_input_and_moves_nothing() -> None:
    network, batches = tied()
    step(network, batches[0])
    before = copy.deepcopy(network.state_dict())
    network.eval()(batches[1])
    assert network[1]._source is None
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())


def test_what_it_cannot_follow_is_refused() -> None:
    norm = CrossIterationBatchNorm(4)
    with pytest.raises(TypeError, match="linear layers and convolutions"):
        norm.follow(nn.ReLU())
    with pytest.raises(TypeError, match="linear layers and convolutions"):
        norm.follow(nn.ConvTranspose2d(4, 4, 3))
    with pytest.raises(ValueError, match="5 output channels, not 4"):
        norm.follow(nn.Linear(4, 5))
    norm.follow(nn.Linear(3, 4))
    with pytest.raises(RuntimeError, match="already"):
        norm.follow(nn.Linear(3, 4))
    with pytest.raises(RuntimeError, match="has to run right before it"):
        norm(torch.randn(5, 4))
    with pytest.raises(ValueError, match="at least this batch"):
        CrossIterationBatchNorm(4, window=0)
