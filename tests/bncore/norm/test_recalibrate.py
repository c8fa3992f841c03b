"""Recalibration against statistics taken at once of everything that a layer sees."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from bncore.norm import convert, recalibrate
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from bncore.norm.domain_batch_norm import DomainBatchNorm
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.ghost_batch_norm import GhostBatchNorm
from bncore.norm.iter_norm import IterNorm
from bncore.norm.l1_batch_norm import L1BatchNorm
from bncore.norm.lp_batch_norm import LpBatchNorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.moving_average_batch_norm import MovingAverageBatchNorm
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.power_norm import PowerNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm
from bncore.recurrent.sequence_batch_norm import SequenceBatchNorm

SIZES = (7, 2, 5, 1)


def batches(*shape: int, sizes: tuple[int, ...] = SIZES, mean: float = 3.0) -> list[Tensor]:
    """Each batch around a mean of its own, so that the spread of means counts."""
    generator = torch.Generator().manual_seed(2)
    return [
        torch.randn(size, *shape, generator=generator, dtype=torch.float64) * (1 + number) + mean * number
        for number, size in enumerate(sizes)
    ]


def per_channel(data: list[Tensor]) -> Tensor:
    """All values, (C, n)."""
    return torch.cat([x.transpose(0, 1).flatten(1) for x in data], 1)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 1), BatchNorm(5)]
    return nn.Sequential(*layers).double()


def train_mode_inputs(model: nn.Module, index: int, data: list[Tensor]) -> list[Tensor]:
    """What layer `index` sees in training without dropout."""
    twin = copy.deepcopy(model).train()
    twin[3].eval()
    return [twin[:index](x).detach() for x in data]


PLAIN = [
    *(nn.BatchNorm2d, nn.SyncBatchNorm, BatchNorm, SyncBatchNorm, NoisyBatchNorm, MaskedBatchNorm, DomainBatchNorm),
    *(lambda channels: GhostBatchNorm(channels, 2), lambda channels: BatchNorm(channels, momentum=None)),
]


@pytest.mark.parametrize("make", PLAIN)
def test_it_stores_the_mean_and_the_unbiased_variance_of_all_values(make: Callable[[int], nn.Module]) -> None:
    data, layer = batches(4, 3, 3), make(4).double()
    assert recalibrate(layer, data) is layer
    values = per_channel(data)
    torch.testing.assert_close(layer.running_mean, values.mean(1), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer.running_var, values.var(1, correction=1), rtol=1e-13, atol=1e-13)


def test_batch_renorm_keeps_the_square_of_its_standard_deviation() -> None:
    data, layer = batches(4, 3, 3), BatchRenorm(4).double()
    recalibrate(layer, data)
    values = per_channel(data)
    sigma = (values.var(1, correction=0) + layer.eps).sqrt()
    torch.testing.assert_close(layer.running_var, sigma**2 - layer.eps, rtol=1e-12, atol=1e-12)
    whole = torch.cat(data)
    wide_open = BatchRenorm(4, r_max=1e6, d_max=1e6, warmup_steps=0).double()
    recalibrate(wide_open, data)
    torch.testing.assert_close(wide_open.eval()(whole), nn.BatchNorm2d(4).double()(whole), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (LpBatchNorm(4, 1), lambda values: values.abs().mean(1)),
        (LpBatchNorm(4, 2), lambda values: values.square().mean(1).sqrt()),
        (LpBatchNorm(4, float("inf")), lambda values: values.abs().amax(1)),
        (L1BatchNorm(4), lambda v: (torch.pi / 2) ** 0.5 * (v - v.mean(1, keepdim=True)).abs().mean(1)),
    ],
    ids=["1", "2", "inf", "L1"],
)
def test_norms_are_those_of_all_values(layer: nn.Module, norm: Callable[[Tensor], Tensor]) -> None:
    data = batches(4, 3, 3)
    recalibrate(layer.double(), data)
    torch.testing.assert_close(layer.running_mean, per_channel(data).mean(1), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(layer.running_var, norm(per_channel(data)).square(), rtol=1e-12, atol=1e-12)


def test_whitening_takes_the_covariance_of_all_values() -> None:
    data = batches(6, 3, 3)
    whole = torch.cat(data)
    by_eigenvectors, by_iteration = DecorrelatedBatchNorm(6, 2).double(), IterNorm(6, 2).double()
    recalibrate(by_eigenvectors, data)
    covariance = torch.stack([torch.cov(part) for part in per_channel(data).view(2, 3, -1)])
    torch.testing.assert_close(by_eigenvectors.running_covariance, covariance, rtol=1e-12, atol=1e-12)
    recalibrate(by_iteration, data)
    expected = copy.deepcopy(by_iteration).train()(whole)
    torch.testing.assert_close(by_iteration.eval()(whole), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("make", [PowerNorm, MovingAverageBatchNorm])
def test_layers_without_a_mean_take_the_mean_square_of_all_values(make: Callable[[int], nn.Module]) -> None:
    data, layer = batches(4, 3, 3), make(4).double()
    recalibrate(layer, data)
    torch.testing.assert_close(layer.running_square, per_channel(data).square().mean(1), rtol=1e-13, atol=1e-13)


def test_inputs_are_those_of_training_but_without_dropout() -> None:
    model, data = network(), batches(3, 6, 6)
    recalibrate(model, data)
    for index in (1, 5):
        values = per_channel(train_mode_inputs(model, index, data))
        torch.testing.assert_close(model[index].running_mean, values.mean(1), rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(model[index].running_var, values.var(1, correction=1), rtol=1e-10, atol=1e-10)


def test_what_a_variant_adds_in_training_does_not_reach_the_layers_behind() -> None:
    model, data = network(), batches(3, 6, 6)
    others = {"noisy_batch_norm": {}, "batch_renorm": {"momentum": 0.5}, "ghost_batch_norm": {"virtual_batch_size": 2}}
    variants = [convert(model, {"kind": kind, **extra}, copy=True) for kind, extra in others.items()]
    recalibrate(model, data)
    for variant in variants:
        before = variant[1].num_batches_tracked.clone()
        recalibrate(variant, data)
        torch.testing.assert_close(variant[5].running_mean, model[5].running_mean, rtol=1e-12, atol=1e-12)
        assert torch.equal(variant[1].num_batches_tracked, before)


def test_sequential_outputs_have_the_moments_that_scale_and_shift_say_however_the_data_are_divided() -> None:
    model, data = network(), batches(3, 6, 6)
    nn.init.uniform_(model[5].weight)
    nn.init.uniform_(model[5].bias)
    other = copy.deepcopy(model)
    recalibrate(model, data, sequential=True)
    outputs = per_channel([model.eval()(x) for x in data])
    torch.testing.assert_close(outputs.mean(1), model[5].bias, rtol=1e-9, atol=1e-9)
    expected = model[5].weight.abs() * (model[5].running_var / (model[5].running_var + 1e-5)).sqrt()
    torch.testing.assert_close(outputs.std(1, correction=1), expected, rtol=1e-9, atol=1e-9)
    recalibrate(other, torch.cat(data).flip(0).split(4), sequential=True)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-10, atol=1e-10)


def test_a_large_mean_costs_no_digits() -> None:
    # swa_utils.update_bn averages variances of batches; fvcore subtracts squares, and gets variances below 0 here.
    data = [(x + 1e6).float() for x in batches(4, 3, 3, mean=0.5)]
    layer = nn.BatchNorm2d(4)
    recalibrate(layer, data)
    expected = per_channel([x.double() for x in data]).var(1, correction=1).float()
    torch.testing.assert_close(layer.running_var, expected, rtol=1e-6, atol=0)


def test_the_spread_of_the_means_of_batches_counts_unlike_in_update_bn() -> None:
    data = [torch.full((5, 4), 1.0) + torch.randn(5, 4) * 1e-3, torch.full((5, 4), -1.0) + torch.randn(5, 4) * 1e-3]
    exact, averaged = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    recalibrate(exact, data)
    torch.optim.swa_utils.update_bn(data, averaged)
    assert (averaged.running_var < 1e-4).all()
    torch.testing.assert_close(exact.running_var, torch.full((4,), 10 / 9), rtol=1e-2, atol=0)


def test_everything_but_the_statistics_stays_and_they_stay_in_their_memory() -> None:
    model, data = network(), batches(3, 6, 6)
    model[5].eval()
    model[1].num_batches_tracked.fill_(7)
    memory = [tensor.data_ptr() for tensor in model.state_dict().values()]
    modes, weights = [module.training for module in model.modules()], [p.clone() for p in model.parameters()]
    model(data[0]).sum().backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    recalibrate(model, data)
    assert [tensor.data_ptr() for tensor in model.state_dict().values()] == memory
    assert [module.training for module in model.modules()] == modes
    assert model[1].num_batches_tracked == 8
    for parameter, weight, gradient in zip(model.parameters(), weights, gradients, strict=True):
        assert torch.equal(parameter, weight)
        assert torch.equal(parameter.grad, gradient)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_batches_may_be_pairs_or_what_forward_takes() -> None:
    data = batches(4, 3, 3)
    expected = recalibrate(nn.BatchNorm2d(4).double(), data).state_dict()
    pairs = recalibrate(nn.BatchNorm2d(4).double(), ((x, None) for x in data)).state_dict()
    named = [{"image": x} for x in data]
    by_name = recalibrate(nn.BatchNorm2d(4).double(), named, forward=lambda model, batch: model(batch["image"]))
    for name, value in expected.items():
        assert torch.equal(pairs[name], value)
        assert torch.equal(by_name.state_dict()[name], value)


def test_batches_of_one_value_are_as_good_as_any_where_they_normalize_nothing() -> None:
    data = batches(4, sizes=(1, 1, 1, 4))
    layer = recalibrate(nn.BatchNorm1d(4).double(), data)
    torch.testing.assert_close(layer.running_var, per_channel(data).var(1, correction=1), rtol=1e-12, atol=1e-12)
    torch.manual_seed(0)
    layers = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.BatchNorm1d(3)
    model = recalibrate(nn.Sequential(*layers).double(), data, sequential=True).eval()
    values = per_channel([model[:4](torch.cat(data)).detach()])
    torch.testing.assert_close(model[4].running_mean, values.mean(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model[4].running_var, values.var(1, correction=1), rtol=1e-12, atol=1e-12)


def test_a_layer_that_runs_twice_gets_the_statistics_of_both_inputs() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(3 * x + 1)

    data, model = batches(4, sizes=(7, 2, 5)), Twice().double()
    recalibrate(model, data)
    values = per_channel([part for x in data for part in (x, 3 * x + 1)])
    torch.testing.assert_close(model.norm.running_var, values.var(1, correction=1), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="norm runs twice"):
        recalibrate(model, data, sequential=True)


def test_padding_does_not_count() -> None:
    data = [x for x in batches(4, 6) if len(x) > 1]
    lengths = [torch.arange(len(x)) % 6 + 1 for x in data]
    valid = [x[row, :, :length] for x, of in zip(data, lengths, strict=True) for row, length in enumerate(of.tolist())]
    masked, packed = MaskedBatchNorm(4).double(), SequenceBatchNorm(4).double()
    pairs = list(zip(data, lengths, strict=True))
    recalibrate(masked, pairs, forward=lambda layer, pair: layer(pair[0], lengths=pair[1]))
    recalibrate(packed, [pack_sequence([v.t() for v in valid], enforce_sorted=False)])
    padded = recalibrate(
        SequenceBatchNorm(4, batch_first=True).double(),
        pairs,
        forward=lambda layer, pair: layer(pair[0].transpose(1, 2), pair[1]),
    )
    values = torch.cat(valid, 1)
    for layer in (masked, packed, padded):
        torch.testing.assert_close(layer.running_mean, values.mean(1), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.running_var, values.var(1, correction=1), rtol=1e-12, atol=1e-12)


def test_only_the_chosen_domain_is_measured_and_fixed_statistics_stay() -> None:
    data, layer = batches(4), DomainBatchNorm(4, 2).double()
    layer.domain = 1
    recalibrate(layer, data)
    torch.testing.assert_close(layer.running_mean, per_channel(data).mean(1))
    layer.domain = 0
    assert torch.equal(layer.running_mean, torch.zeros(4).double())
    frozen = FrozenBatchNorm(4).double()
    assert torch.equal(recalibrate(frozen, data).running_mean, torch.zeros(4).double())


class Failing(nn.Module):
    """Fails from the third batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 3:
            raise RuntimeError("no memory")
        return x


class Unknown(nn.Module):
    """Counts batches, as a layer does that averages over them."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.long))


def spoilt(data: list[Tensor]) -> list[Tensor]:
    data[1][0, 0, 0, 0] = float("nan")
    return data


def refusals() -> Iterator[tuple[Any, ...]]:
    data = batches(3, 6, 6)
    yield [*network(), Failing()], data, RuntimeError, "no memory", {}
    yield network(), spoilt(batches(3, 6, 6)), ValueError, "1 has seen values that are not finite", {}
    yield network(), [], ValueError, "no batches", {}
    yield network(), iter(data), ValueError, "more than one pass", {"sequential": True}
    yield network(), spoilt(batches(3, 6, 6)), ValueError, "1 has seen values that are not finite", {"sequential": True}
    yield [L1BatchNorm(3)], iter(data), ValueError, "more than one pass", {}
    single = data[0][:1, :, :1, :1]
    yield [nn.BatchNorm2d(3)], [single], ValueError, "0 has seen one value", {}
    erased = "0 was given a batch of one value per channel, .* sequential=True"
    yield [nn.BatchNorm2d(3), nn.ReLU(), BatchRenorm(3)], [single] * 3, ValueError, erased, {}
    yield [nn.BatchNorm2d(3), L1BatchNorm(3)], [data[0], single], ValueError, erased, {}
    yield [nn.BatchNorm2d(3), Unknown()], data, ValueError, "1: what statistics a Unknown keeps", {}


@pytest.mark.parametrize(("layers", "data", "error", "reason", "options"), list(refusals()))
def test_after_an_error_nothing_has_changed(
    layers: Any, data: Any, error: type[Exception], reason: str, options: dict[str, Any]
) -> None:
    model = nn.Sequential(*layers).double()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=reason):
        recalibrate(model, data, **options)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_compiled_model_is_measured_although_it_ran_on_such_batches_before() -> None:
    model, data = network().eval(), batches(3, 6, 6, sizes=(4, 4))
    expected = recalibrate(copy.deepcopy(model), data)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        compiled(data[0])
    recalibrate(compiled, data)
    for buffer, theirs in zip(model.buffers(), expected.buffers(), strict=True):
        assert torch.equal(buffer, theirs)


def test_a_variance_too_large_for_half_precision_is_refused() -> None:
    layer = nn.BatchNorm1d(2).half()
    with pytest.raises(ValueError, match="too large"):
        recalibrate(layer, [torch.tensor([[-400.0, 1.0], [400.0, 2.0]]).half()])
    assert torch.equal(layer.running_var, torch.ones(2).half())


def test_batches_without_a_valid_position_are_refused_and_one_among_others_is_not() -> None:
    model = nn.Sequential(MaskedBatchNorm(3))
    before = model[0].running_mean.clone()
    x = torch.randn(2, 3, 5)

    def masked(model: nn.Module, batch: Tensor) -> Tensor:
        y: Tensor = model[0](batch, mask=batch[:, 0] > 100.0)
        return y

    with pytest.raises(ValueError, match="0 has seen no value"):
        recalibrate(model, [x, x], forward=masked)
    assert torch.equal(model[0].running_mean, before)
    recalibrate(model, [x, x + 200.0], forward=masked)
    torch.testing.assert_close(model[0].running_mean, (x + 200.0).mean((0, 2)))
