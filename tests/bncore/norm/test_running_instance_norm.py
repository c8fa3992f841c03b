"""torch's instance norm with running statistics, which evaluates by them: what looks at models sees what it keeps."""

import copy

import pytest
import torch
from torch import Tensor, nn

from bncore.adapt import adabn, prediction_time, tent
from bncore.diagnostics import diagnose
from bncore.norm import convert, freeze, recalibrate, unfreeze

SHAPE = (4, 3, 5, 6)


def images(seed: int, size: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, *SHAPE[1:], generator=generator, dtype=torch.float64) * (1 + seed) + 3


def network(steps: int = 3) -> nn.Sequential:
    """A norm, a convolution and another norm, trained."""
    torch.manual_seed(1)
    layers = [nn.InstanceNorm2d(3, affine=True, track_running_stats=True), nn.Conv2d(3, 4, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.InstanceNorm2d(4, eps=1e-3, affine=True, track_running_stats=True)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2)
    for step in range(steps):
        model(images(step))
    return model


def by_instance(layer: nn.Module, x: Tensor, alpha: float = 1.0) -> Tensor:
    """Each instance by its own statistics, with a share of the running ones."""
    mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
    mean = alpha * mean + (1 - alpha) * layer.running_mean.view(1, -1, 1, 1)
    var = alpha * var + (1 - alpha) * layer.running_var.view(1, -1, 1, 1)
    return layer.weight.view(-1, 1, 1) * (x - mean) / (var + layer.eps).sqrt() + layer.bias.view(-1, 1, 1)


def moments_of_instances(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean((2, 3)).mean(0), x.var((2, 3), correction=1).mean(0)


def test_frozen_its_statistics_do_not_move() -> None:
    model, x = network(), images(5)
    before, expected = copy.deepcopy(model.state_dict()), copy.deepcopy(model).eval()(x)
    freeze(model).train()
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    unfreeze(model)(x)
    assert not torch.equal(model[0].running_mean, before["0.running_mean"])


@pytest.mark.parametrize("sequential", [False, True])
def test_recalibrated_it_has_the_means_of_its_instances(sequential: bool) -> None:
    model, data = network(), [images(2, 3), images(0, 1), images(1, 4)]
    state = copy.deepcopy(model.state_dict())
    recalibrate(model, data, sequential=sequential)
    whole = torch.cat(data)
    inner = model[:3].eval()(whole) if sequential else model[1:3](by_instance(model[0], whole))
    for layer, x in ((model[0], whole), (model[3], inner.detach())):
        for mine, expected in zip((layer.running_mean, layer.running_var), moments_of_instances(x), strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-11, atol=1e-11)
        assert layer.track_running_stats
    assert model.state_dict().keys() == state.keys()


def test_a_single_position_is_refused_and_nothing_is_measured() -> None:
    layer = nn.InstanceNorm1d(3, track_running_stats=True).double()
    for sequential in (False, True):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            recalibrate(layer, [torch.randn(4, 3, 1).double()], sequential=sequential)
    assert torch.equal(layer.running_mean, torch.zeros(3).double())


@pytest.mark.parametrize("alpha", [1.0, 0.3, 0.0])
def test_adapted_it_normalizes_each_example_by_its_own_and_the_running_statistics(alpha: float) -> None:
    model, x = network().eval()[:1], images(7)
    before = copy.deepcopy(model.state_dict())
    expected = by_instance(model[0], x, alpha)
    with prediction_time(model, alpha):
        torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(model(x[0]), expected[0], rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with adabn(model, [x]):
        torch.testing.assert_close(model[0].running_mean, moments_of_instances(x)[0], rtol=1e-12, atol=1e-12)
    classifier = nn.Sequential(*network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with tent(classifier) as adapted:
        expected = by_instance(classifier[3], classifier[1:3](by_instance(classifier[0], x))).mean((2, 3)).detach()
        torch.testing.assert_close(adapted(x), expected, rtol=1e-9, atol=1e-9)


def test_diagnosed_its_gap_is_that_between_its_instances_and_its_averages() -> None:
    model, x = network(), images(9)
    before = copy.deepcopy(model.state_dict())
    first, second = diagnose(model, x).layers
    for layer, found, given in ((model[0], first, x), (model[3], second, model[1:3](by_instance(model[0], x)))):
        training, evaluation = by_instance(layer, given), by_instance(layer, given, 0.0)
        assert found.gap == pytest.approx(float(((training - evaluation).norm() / training.norm()).detach()), rel=1e-9)
        shift = (moments_of_instances(given)[0] - layer.running_mean).abs() / (layer.running_var + layer.eps).sqrt()
        assert found.mean_shift is not None
        assert found.mean_shift.value == pytest.approx(float(shift.detach().max()), rel=1e-9)
        assert (found.values, found.batches_seen) == (given[0, 0].numel(), None)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_converted_to_batch_norm_it_evaluates_as_before_and_to_what_drops_its_statistics_it_is_refused() -> None:
    model, x = network().eval(), images(3)
    converted = convert(model, {"kind": "batch_norm"}, copy=True)
    torch.testing.assert_close(converted(x), model(x), rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="0 cannot become instance_norm: it evaluates with running statistics"):
        convert(model, {"kind": "instance_norm"})
    assert type(model[0]) is nn.InstanceNorm2d
