"""A diagnosis finds what was put there, and leaves the model as it was."""

import copy
import inspect
import math
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore.diagnostics import LayerDiagnosis, activation_moments, diagnose
from bncore.norm import convert, freeze, recalibrate
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.build import build_norm
from bncore.norm.dynamic_tanh import DynamicTanh
from bncore.norm.frozen_batch_norm import FrozenBatchNorm
from bncore.norm.power_norm import PowerNorm
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec

KINDS = [member() for member in members(NormSpec) if build_norm(member(), 64, device="meta") is not None]


def values(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 + 1


def trained(layer: nn.Module, steps: int = 200) -> nn.Module:
    layer.double()
    for step in range(steps):
        layer(values(64, layer.num_features, seed=step))
    return layer


def only(layer: nn.Module, batch: Tensor) -> LayerDiagnosis:
    (one,) = diagnose(layer, batch).layers
    return one


def test_the_gap_is_the_relative_distance_of_training_and_evaluation_outputs() -> None:
    layer, x = (
        trained(nn.BatchNorm1d(4)),
        values(64, 4) * torch.tensor([1.0, 1.0, 3.0, 1.0]) + torch.tensor([0, 1, 0, 0]),
    )
    training, evaluation = copy.deepcopy(layer).train()(x), copy.deepcopy(layer).eval()(x)
    found = only(layer, x)
    assert found.gap == pytest.approx(((training - evaluation).norm() / training.norm()).item(), rel=1e-12)
    sigma = (layer.running_var + layer.eps).sqrt()
    shift = (x.mean(0) - layer.running_mean).abs() / sigma
    ratio = ((x.var(0, correction=0) + layer.eps) / (layer.running_var + layer.eps)).log().abs()
    assert (found.mean_shift.value, found.mean_shift.channel) == (
        pytest.approx(shift.max().item()),
        int(shift.argmax()),
    )
    assert (found.log_variance_ratio.value, found.log_variance_ratio.channel) == (pytest.approx(ratio.max().item()), 2)
    assert (found.values, found.batches_seen) == (64, 200)
    assert "differ by" in found.findings[0]


def test_after_recalibration_nothing_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 5), BatchNorm(5))
    x = values(64, 4)
    model.double()
    assert not diagnose(model, x).healthy
    recalibrate(model, [x])
    diagnosis = diagnose(model, x)
    assert diagnosis.healthy
    assert all(layer.gap < 0.01 for layer in diagnosis.layers)
    assert "nothing found" in str(diagnosis)


def test_each_layer_is_seen_with_the_inputs_of_training_so_that_only_the_culprit_is_named() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Tanh(), nn.BatchNorm1d(4), nn.Tanh(), nn.BatchNorm1d(4)).double()
    x = values(64, 4)
    recalibrate(model, [x])
    model[0].running_mean.add_(2.0)
    first, second, third = diagnose(model, x).layers
    assert first.gap > 0.5
    assert max(second.gap, third.gap) < 0.01


def test_a_momentum_too_small_for_the_run_is_named_unless_the_statistics_are_not_what_it_would_leave() -> None:
    slow = trained(BatchNorm(4, momentum=0.01), steps=20)
    found = only(slow, values(64, 4))
    assert found.cold_start == pytest.approx(0.99**20)
    assert "after 20 batches, 82% of its running statistics are initial values" in found.findings[0]
    recalibrate(slow, [values(64, 4)])
    assert only(slow, values(64, 4)).findings == ()
    assert only(trained(BatchNorm(4, momentum=None), steps=1), values(64, 4, seed=0)).cold_start == 0.0
    assert only(BatchNorm(4).double(), values(64, 4)).cold_start == 1.0


def test_behind_a_layer_that_one_value_would_be_erased_by_nothing_is_made_up() -> None:
    x, model = values(1, 4), nn.Sequential(trained(nn.BatchNorm1d(4)), nn.Linear(4, 4), nn.BatchNorm1d(4)).double()
    behind = diagnose(model, x).layers[1]
    mean = model[1](model[0].eval()(x))[0].detach()
    assert behind.mean_shift is not None
    assert behind.mean_shift.value == pytest.approx(float(mean.abs().max()) / (1 + 1e-5) ** 0.5, rel=1e-10)


def test_dead_channels_small_scales_few_values_and_numbers_that_are_not_finite_are_found() -> None:
    layer, x = trained(nn.BatchNorm1d(4)), values(8, 4)
    x[:, 1] = 1e4
    with torch.no_grad():
        layer.weight[2] = 1e-5
    found = only(layer, x)
    assert (found.dead, found.small_scales, found.values, found.not_finite) == ((1,), (2,), 8, ())
    assert "1 channels do not vary over the batch: 1" in found.findings
    assert "1 channels have a scale near 0: 2" in found.findings
    assert "its statistics are of 8 values per channel" in found.findings
    layer.running_var[3] = float("nan")
    layer.bias.data[0] = float("inf")
    x[0, 0] = float("nan")
    found = only(layer, x)
    assert found.not_finite == ("bias", "running_var")
    assert not found.finite_input
    assert found.findings[:2] == ("not finite: bias, running_var", "its input is not finite")


def test_layers_without_batch_statistics_are_looked_at_too() -> None:
    model = nn.Sequential(
        nn.LayerNorm(4), nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4, affine=False)
    ).double()
    with torch.no_grad():
        model[2].weight.zero_()
    norm, group, plain = diagnose(model, values(64, 4)).layers
    assert (norm.kind, norm.gap, norm.values, norm.findings) == ("LayerNorm", None, None, ())
    assert group.small_scales == (0, 1, 2, 3)
    assert plain.dead == (0, 1, 2, 3)


def test_batch_renorm_has_no_gap_within_its_bounds_and_a_frozen_layer_none_at_all() -> None:
    wide, x = trained(BatchRenorm(4, r_max=50.0, d_max=50.0, warmup_steps=0)), values(64, 4) * 2
    assert only(wide, x).gap < 1e-10
    assert only(trained(BatchNorm(4)), x).gap > 0.3
    assert only(freeze(trained(BatchNorm(4))), x).gap == 0.0


def test_a_second_run_of_a_layer_is_looked_at_with_its_statistics_from_before_the_batch() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = PowerNorm(4, warmup_steps=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x) + self.norm(2 * x)

    # Training counts its batch, and would be past the warm-up the second time.
    model, x = Twice().double(), values(64, 4)
    training = torch.cat([copy.deepcopy(model.norm).train()(part) for part in (x, 2 * x)])
    evaluation = torch.cat([copy.deepcopy(model.norm).eval()(part) for part in (x, 2 * x)])
    found = only(model, x)
    assert found.gap == pytest.approx(((training - evaluation).norm() / training.norm()).item(), rel=1e-12)
    assert found.values == 128


def test_what_the_batch_does_not_reach_and_a_single_value_are_said() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    used, unused = diagnose(Half().double(), values(1, 4)).layers
    assert (used.reached, used.gap, used.values) == (True, None, 1)
    assert (unused.reached, unused.findings) == (False, ("the batch does not reach it",))


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_nothing_changes_whatever_the_layer(spec: Any) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), nn.Dropout(), nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)
    )
    convert(model.double(), spec, where=lambda name, _: name == "4")
    model[1].eval()
    x = values(6, 3, 3, 3)
    model(x).square().mean().backward()
    model(x)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    memory = [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    random = torch.get_rng_state()
    diagnosis = diagnose(model, (x, None))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in model.modules()] == modes
    assert [tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())] == memory
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(model.parameters(), gradients, strict=True))
    assert not any(module._forward_pre_hooks for module in (model[1], model[4]))
    assert [layer.name for layer in diagnosis.layers] == ["1", "4"]
    assert diagnosis.layers[1].kind == type(model[4]).__name__
    assert diagnosis.layers[1].gap is None or math.isfinite(diagnosis.layers[1].gap)


def test_the_table_names_each_layer_once_and_then_what_was_found() -> None:
    lines = str(diagnose(nn.Sequential(nn.BatchNorm1d(4), nn.LayerNorm(4)).double(), values(64, 4))).splitlines()
    assert lines[0].split() == ["layer", "kind", "values", "gap", "mean", "shift", "log", "var", "ratio", "batches"]
    assert lines[1].split()[:3] == ["0", "BatchNorm1d", "64"]
    assert lines[2].split() == ["1", "LayerNorm"]
    assert lines[4].startswith("0: after 0 batches, 100%")


class Logging:
    """What hooks may hold, and cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def keep(self, layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with self.lock:
            layer.last_output = output


def test_what_others_hang_on_a_layer_need_not_be_copied() -> None:
    layer = trained(nn.BatchNorm1d(4))
    layer.register_forward_hook(Logging().keep)
    layer(values(64, 4))
    assert not layer.last_output.is_leaf
    assert only(layer, values(64, 4)).findings == ()


def test_a_compiled_model_is_looked_at_although_it_ran_on_such_a_batch_before() -> None:
    layer, x = trained(nn.BatchNorm1d(4)).eval(), values(64, 4)
    compiled = torch.compile(layer, backend="eager")
    with torch.no_grad():
        compiled(x)
    (found,) = diagnose(compiled, x).layers
    assert found.gap == only(layer, x).gap
    assert activation_moments(compiled, x).to_bytes() == activation_moments(layer, x).to_bytes()


def test_a_negative_variance_is_found_as_evaluation_without_numbers() -> None:
    layer = trained(nn.BatchNorm1d(4))
    layer.running_var[1] = -1.0
    (finding,) = only(layer, values(64, 4)).findings
    assert "output is not finite" in finding
    assert not math.isfinite(only(layer, values(64, 4)).gap)


def test_noise_that_is_meant_to_be_there_is_no_gap() -> None:
    plain = trained(BatchNorm(4))
    noisy = convert(nn.Sequential(plain), {"kind": "noisy_batch_norm"})[0]
    assert only(noisy, values(64, 4)).gap == pytest.approx(only(plain, values(64, 4)).gap, rel=1e-12)


@pytest.mark.parametrize("layer", [nn.LayerNorm(4), nn.SyncBatchNorm(4)], ids=["last axis", "by name"])
def test_layers_for_several_processes_are_looked_at_wherever_their_channels_are(layer: nn.Module) -> None:
    model = convert(ByName(layer).double(), {"kind": "sync_batch_norm"})
    plain = convert(copy.deepcopy(model), {"kind": "batch_norm"})
    x = values(64, 3, 4) if isinstance(layer, nn.LayerNorm) else values(64, 4)
    assert diagnose(model, x).layers[0].gap == pytest.approx(diagnose(plain, x).layers[0].gap, rel=1e-12)


class ByName(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        # What layers call their input differs.
        return self.layer(**{next(iter(inspect.signature(self.layer.forward).parameters)): x})


@pytest.mark.parametrize("layer", [nn.GroupNorm(4, 4), nn.LayerNorm(1)], ids=["group", "layer"])
def test_a_layer_that_erases_its_input_is_found(layer: nn.Module) -> None:
    layer.double()
    channels = layer.weight.numel()
    said = only(layer, values(6, channels))
    assert said.erases
    assert "does not depend on its input" in said.findings[0]
    wide = values(6, channels, 5) if isinstance(layer, nn.GroupNorm) else values(6, 2)
    other = layer if isinstance(layer, nn.GroupNorm) else nn.LayerNorm(2).double()
    assert not only(other, wide).findings


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_pytorch_162489_input_whose_squares_overflow_is_seen_where_it_is_erased(spec: Any) -> None:
    layer, x = build_norm(spec, 64), values(6, 64, 3, 2).float() * 1e25
    assert layer is not None
    kept = DynamicTanh, FrozenBatchNorm
    assert diagnose(layer, x).layers[0].overflows is not isinstance(layer, kept)
    assert not diagnose(layer.double(), x.double()).layers[0].overflows
    if not isinstance(layer, kept):
        y, expected = layer.float()(x), copy.deepcopy(layer).double()(x.double())
        assert not torch.allclose(y.double(), expected, rtol=0.1, atol=0.1)
