"""Fixup: the paper's factors, and its claim that activations and the first update do not grow with depth."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bncore.norm.fixup import ScalarBias, ScalarMultiplier, fixup_
from bncore.norm.weight_norm import weight_norm

WIDTH = 64


def branch(layers: int, bias: bool = False) -> nn.Sequential:
    """Linear layers with a ReLU before each but the first."""
    parts: list[nn.Module] = [nn.Linear(WIDTH, WIDTH, bias)]
    for _ in range(layers - 1):
        parts += [nn.ReLU(), nn.Linear(WIDTH, WIDTH, bias)]
    return nn.Sequential(*parts)


class Residual(nn.Module):
    """Blocks x + branch(x) on 64 numbers, each layer initialized as by He et al., and one linear layer to 10."""

    def __init__(self, blocks: int, layers: int = 2, bias: bool = False) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.branches = nn.ModuleList(branch(layers, bias) for _ in range(blocks))
            self.classifier = nn.Linear(WIDTH, 10)
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight)

    def features(self, x: Tensor) -> Tensor:
        for one in self.branches:
            x = x + one(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x))


def first_update(network: Residual, lr: float = 1e-3) -> float:
    """How far the outputs move in one step of gradient descent, root mean square."""
    generator = torch.Generator().manual_seed(1)
    x, labels = torch.randn(32, WIDTH, generator=generator), torch.randint(10, (32,), generator=generator)
    before = network(x)
    nn.functional.cross_entropy(before, labels).backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.sub_(lr * parameter.grad)
    return (network(x) - before).square().mean().sqrt().item()


@pytest.mark.parametrize("layers", [1, 2, 3, 5])
def test_layers_are_scaled_by_the_paper_and_the_last_ones_are_0(layers: int) -> None:
    network = Residual(9, layers, bias=True)
    before = copy.deepcopy(network)
    fixup_(network.branches, network.classifier)
    for new, old in zip(network.branches, before.branches, strict=True):
        for index in range(0, 2 * layers - 2, 2):
            torch.testing.assert_close(new[index].weight, old[index].weight * 9 ** (-1 / (2 * layers - 2)))
        assert not new[-1].weight.any()
        assert not new[-1].bias.any()
    assert not network.classifier.weight.any()
    assert not network.classifier.bias.any()


def test_branches_of_different_depth_are_scaled_each_by_its_own_rule_convolutions_too() -> None:
    short, deep = (
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 1)),
        nn.Sequential(*[nn.Conv2d(3, 3, 1) for _ in range(3)]),
    )
    before = copy.deepcopy((short, deep))
    fixup_([short, deep])
    torch.testing.assert_close(short[0].weight, before[0][0].weight / 2**0.5)
    torch.testing.assert_close(deep[1].weight, before[1][1].weight / 2**0.25)
    assert not short[1].weight.any()


def test_activations_do_not_grow_with_depth_as_they_do_without() -> None:
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(2))
    plain, fixed = Residual(64), Residual(64)
    fixup_(fixed.branches)
    assert torch.equal(fixed.features(x), x)
    assert plain.features(x).std() > 1e6


def test_the_first_update_is_of_the_same_size_at_every_depth_and_would_not_be_without_the_scaling() -> None:
    scaled, unscaled = [], []
    for blocks in (4, 16, 64):
        # The classifier keeps its weights: at 0 it would keep every branch still in the first step.
        fixed = Residual(blocks)
        fixup_(fixed.branches)
        scaled.append(first_update(fixed))
        zeroed = Residual(blocks)
        for one in zeroed.branches:
            nn.init.zeros_(one[-1].weight)
        unscaled.append(first_update(zeroed))
    # Each depth draws its own weights: what is left is their spread, without a trend.
    assert max(scaled) / min(scaled) < 2.0
    assert unscaled[2] / unscaled[0] > 5.0
    # By default initialization the step ends in NaN, or nearly.
    assert not first_update(Residual(64)) < 1e6 * scaled[2]


def test_training_a_deep_network_goes_down_where_default_initialization_ends_in_nan() -> None:
    generator = torch.Generator().manual_seed(3)
    x, labels = torch.randn(64, WIDTH, generator=generator), torch.randint(10, (64,), generator=generator)
    losses: dict[bool, list[float]] = {}
    for fixed in (False, True):
        network = Residual(64)
        if fixed:
            fixup_(network.branches, network.classifier)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
        losses[fixed] = []
        for _ in range(15):
            loss = nn.functional.cross_entropy(network(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[fixed].append(loss.item())
    assert not losses[False][-1] < 10.0
    assert losses[True][0] == pytest.approx(2.302585, abs=1e-5)
    assert losses[True] == sorted(losses[True], reverse=True)
    assert losses[True][-1] < 1.8


def test_what_cannot_be_done_is_refused_and_changes_nothing() -> None:
    one, shared = branch(2), branch(2)
    before = copy.deepcopy(one.state_dict())
    for branches, reason in (
        ([one, nn.ReLU()], "no linear or convolutional layer"),
        ([one, nn.Sequential(shared, one)], "two branches"),
        ([one, nn.Sequential(weight_norm(nn.Linear(WIDTH, WIDTH)))], "parametrized"),
    ):
        with pytest.raises(ValueError, match=reason):
            fixup_(branches)
    with pytest.raises(ValueError, match="no linear or convolutional layer"):
        fixup_([one], nn.ReLU())
    assert all(torch.equal(value, before[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(("make", "start"), [(ScalarBias, 0.0), (ScalarMultiplier, 1.0)])
def test_the_scalars_start_without_effect_and_act_on_all_of_their_input(make: type[nn.Module], start: float) -> None:
    layer = make(dtype=torch.float64)
    x = torch.linspace(-1, 1, 24, dtype=torch.float64).view(2, 3, 2, 2).to(memory_format=torch.channels_last)
    (name, parameter), *others = layer.named_parameters()
    assert others == []
    assert parameter.shape == ()
    assert parameter.item() == start
    torch.testing.assert_close(layer(x), x, rtol=0, atol=0)
    nn.init.constant_(parameter, 3.0)
    y = layer(x)
    torch.testing.assert_close(y, x + 3 if name == "bias" else x * 3)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (slope,) = torch.autograd.grad(y.sin().sum(), parameter)
    torch.testing.assert_close(slope, ((x + 3).cos() if name == "bias" else x * (3 * x).cos()).sum())
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    on_meta = make(device="meta").to_empty(device="cpu")
    on_meta.reset_parameters()
    assert on_meta.state_dict() == {name: torch.tensor(start)}
