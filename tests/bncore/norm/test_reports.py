"""What users of other libraries reported, replayed here: on every layer where it can, else on the one that it concerns.

The id of a test is the repository on GitHub and the number of the thread, of an issue or a pull request. Expected
numbers are computed in double precision, from a layer's definition or from the same layer without the trouble.
"""

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bncore.norm import (
    BatchNorm,
    BatchRenorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MaskedBatchNorm,
    NoisyBatchNorm,
    PowerNorm,
    SwitchableNorm,
    convert,
    freeze,
    parameter_groups,
    recalibrate,
    spectral_norm,
    unfreeze,
    weight_norm,
    weight_standardization,
)
from tests.bncore.norm.case import Case, sample, standardized, twin

Situation = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def plainly(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The output, and the gradient of the input of a weighted sum of it."""
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(weights.contiguous())
    return y.detach(), x.grad


def expanded_gradient(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(weights)
    return y.detach(), x.grad


def gradient_in_other_strides(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(weights.transpose(0, -1).contiguous().transpose(0, -1))
    return y.detach(), x.grad


def gradient_in_another_memory_format(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    last = torch.channels_last if x.dim() == 4 else torch.contiguous_format
    x = x.clone(memory_format=last).requires_grad_()
    y = layer(x)
    y.backward(weights.contiguous())
    return y.detach(), x.grad


def a_negative_bit(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The imaginary part of a conjugate."""
    z = torch.complex(x, -x).conj().imag.detach().requires_grad_()
    y = layer(z)
    y.backward(torch.complex(weights, -weights).conj().imag)
    return y.detach(), z.grad


def within(context: Callable[[], contextlib.AbstractContextManager[object]]) -> Situation:
    def run(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        with context():
            return plainly(layer, x, weights)

    return run


def by_functional_call(layer: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    state = dict(layer.named_parameters()) | dict(layer.named_buffers())
    return plainly(lambda batch: torch.func.functional_call(layer, state, (batch,)), x, weights)  # type: ignore[arg-type]


@contextlib.contextmanager
def deterministic() -> contextlib.AbstractContextManager[None]:
    """Memory that nobody has written to is NaN here."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def default_dtype() -> contextlib.AbstractContextManager[None]:
    torch.set_default_dtype(torch.float16)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


EVERYWHERE: dict[str, Situation] = {
    "unslothai/unsloth#10675": expanded_gradient,
    "pytorch/pytorch#186414": gradient_in_other_strides,
    "pytorch/pytorch#92166": gradient_in_another_memory_format,
    "pytorch/pytorch#56058": a_negative_bit,
    "pytorch/pytorch#61928": within(torch.autograd.graph.save_on_cpu),
    "pytorch/executorch#17503": within(deterministic),
    "kyegomez/zeta#197": within(lambda: torch.device("meta")),
    "FluxML/Flux.jl#260": within(default_dtype),
    "pytorch/functorch#445": by_functional_call,
    "NVIDIA/apex#301": within(lambda: torch.autocast("cpu", torch.bfloat16)),
}


@pytest.mark.parametrize("situation", EVERYWHERE.values(), ids=EVERYWHERE)
def test_what_surrounds_a_layer_does_not_change_its_numbers(
    case: Case, shape_of: tuple[int, ...], situation: Situation
) -> None:
    x = sample(shape_of)
    weights = torch.linspace(0.5, 2.0, len(x), dtype=x.dtype).view(-1, *(1,) * (x.dim() - 1)).expand(x.shape)
    for training in (True, False):
        layer = case.prepared().train(training)
        other = twin(layer)
        for mine, theirs in zip(situation(layer, x, weights), plainly(other, x, weights), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)
        gradients = zip(layer.parameters(), other.parameters(), strict=True)
        pairs = [(one.grad, two.grad) for one, two in gradients if two.grad is not None]
        pairs += zip(layer.buffers(), other.buffers(), strict=True)
        for mine, theirs in pairs:
            torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_leondgarse_keras_cv_attention_models_129_zeros_have_a_gradient(case: Case, shape_of: tuple[int, ...]) -> None:
    for zeros in ("all", "channel", "example"):
        layer, x = case.prepared(torch.float32), sample(shape_of).float()
        {"all": x, "channel": x[:, 1], "example": x[1]}[zeros].zero_()
        x.requires_grad_()
        y = layer(x)
        y.sin().sum().backward()
        gradients = [x.grad, *(one.grad for one in layer.parameters() if one.grad is not None)]
        assert all(tensor.isfinite().all() for tensor in (y, *gradients, *layer.buffers())), zeros


@pytest.mark.filterwarnings("ignore:.*buffers")
def test_pytorch_84053_an_average_of_models_averages_the_statistics_too(case: Case, shape_of: tuple[int, ...]) -> None:
    model = nn.Sequential(case.prepared())
    average = AveragedModel(model, use_buffers=True, multi_avg_fn=get_ema_multi_avg_fn(0.75))
    expected: dict[str, Tensor] = {}
    for seed in range(3):
        model(sample(shape_of, seed))
        average.update_parameters(model)
        for name, value in model.state_dict().items():
            expected[name] = value.double().clone() if seed == 0 else 0.75 * expected[name] + 0.25 * value.double()
    for name, value in average.module.state_dict().items():
        assert value.dtype == model.state_dict()[name].dtype
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-12, atol=1e-12)
    assert average.eval()(sample(shape_of)).isfinite().all()


def test_pytorch_126738_shapes_without_numbers_pass(case: Case, shape_of: tuple[int, ...]) -> None:
    with FakeTensorMode():
        x = torch.randn(shape_of, requires_grad=True)
        y = case.make()(x)
        y.sum().backward()
    assert x.grad is not None
    assert y.shape == x.grad.shape == shape_of


@pytest.mark.where(lambda case: isinstance(getattr(case.make(), "weight", None), nn.Parameter))
def test_a_pruned_scale_is_the_scale(case: Case, shape_of: tuple[int, ...]) -> None:
    """pytorch/functorch#445 has the kind: a parameter that a hook replaces by a plain tensor before each pass."""
    layer, x = case.prepared(), sample(shape_of)
    other = twin(layer)
    prune.l1_unstructured(layer, "weight", 0.5)
    with torch.no_grad():
        other.weight.mul_(layer.weight_mask)
    torch.testing.assert_close(layer(x), other(x), rtol=1e-12, atol=1e-12)


def half_input_whose_square_overflows() -> None:
    x = (torch.randn(16, 8, 5, 5) * 900).half()
    for layer, axes in ((BatchNorm(8), (0, 2, 3)), (GroupNorm(8, 1), (1, 2, 3)), (LayerNorm(8), (1, 2, 3))):
        expected = standardized(x.double(), axes, layer.eps)
        torch.testing.assert_close(layer(x).double(), expected, rtol=2**-10, atol=2**-10)


def large_mean_in_bfloat16() -> None:
    x = torch.randn(2, 64, 32, 32) * 0.1
    x = (x + torch.where(torch.arange(64) % 2 == 0, 5.0, -5.0).view(1, -1, 1, 1)).bfloat16()
    torch.testing.assert_close(
        BatchNorm(64)(x).double(), standardized(x.double(), (0, 2, 3), 1e-5), rtol=2**-7, atol=2**-7
    )


def large_values_that_differ_by_one() -> None:
    x = torch.tensor([[4e4, 4e4 + 1, 4e4 + 2, 4e4 + 3], [8e4, 8e4 + 1, 8e4 + 2, 8e4 + 3]])
    torch.testing.assert_close(LayerNorm(4)(x).double(), standardized(x.double(), (1,), 1e-5), rtol=1e-6, atol=1e-6)


def a_constant_row() -> None:
    assert torch.equal(LayerNorm(256)(torch.full((2, 256), 1234.0)), torch.zeros(2, 256))


def a_huge_scale_of_a_constant_row() -> None:
    layer = LayerNorm(3, eps=0.1).double()
    with torch.no_grad():
        layer.weight.fill_(1e16)
        layer.bias.fill_(-1.0)
    assert torch.equal(layer(torch.full((2, 3), -3.0).double()), torch.full((2, 3), -1.0).double())


def a_running_variance_beyond_half_precision() -> None:
    for layer in (BatchNorm(4).eval(), FrozenBatchNorm(4)):
        layer.running_var.fill_(1e6)
        x = (torch.randn(3, 4, 2) * 2000).half()
        torch.testing.assert_close(layer(x).double(), x.double() / (1e6 + 1e-5) ** 0.5, rtol=2**-10, atol=2**-10)


def nothing_in_a_file_changes_nothing() -> None:
    for layer in (BatchNorm(3), FrozenBatchNorm(3), PowerNorm(3), BatchRenorm(3)):
        layer.num_batches_tracked.fill_(77)
        layer.load_state_dict({}, strict=False)
        assert layer.num_batches_tracked == 77


def an_old_file_assigned_leaves_nothing_on_meta() -> None:
    old = {name: value for name, value in nn.BatchNorm1d(3).state_dict().items() if name != "num_batches_tracked"}
    for make in (BatchNorm, FrozenBatchNorm, BatchRenorm, GhostBatchNorm):
        with torch.device("meta"):
            layer = make(3)
        layer.load_state_dict(old, assign=True)
        assert {value.device.type for value in layer.state_dict().values()} == {"cpu"}
        assert layer.num_batches_tracked == 0


def no_inputs_have_a_gradient_of_zero() -> None:
    for dim in (0, None):
        layer = nn.Linear(1, 2)
        layer.weight = nn.Parameter(torch.empty(2, 0))
        weight_norm(layer, dim=dim)
        layer(torch.randn(3, 0)).sum().backward()
        assert torch.equal(layer.bias.grad, torch.full((2,), 3.0))
        for parameter in layer.parametrizations.weight.parameters():
            assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def half_precision_keeps_its_length() -> None:
    for dim in (0, 1, 2, -1, None):
        layer = nn.Conv1d(16, 16, 8, groups=2).half()
        before = layer.weight.clone()
        torch.testing.assert_close(weight_norm(layer, dim=dim).weight, before, rtol=2**-9, atol=0)


def evaluated_first_it_is_normalized() -> None:
    assert abs(torch.linalg.matrix_norm(spectral_norm(nn.Linear(32, 16)).eval().weight, 2) - 1) < 0.05


def one_layer_twice_before_a_backward_pass() -> None:
    layer = spectral_norm(nn.Conv2d(3, 3, 3, padding=1).double())
    x = torch.randn(2, 3, 5, 5).double()
    layer(layer(x)).sin().sum().backward()
    weight = layer.parametrizations.weight
    assert torch.allclose((weight.original.grad * weight.original).sum(), torch.zeros(()).double(), atol=1e-10)


def a_constant_unit_has_a_gradient() -> None:
    layer = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        layer.weight[0] = 0.3
    weight_standardization(layer)(torch.randn(1, 3, 5, 5)).sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


def conversion_keeps_mode_and_flags() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    model[0].eval().requires_grad_(False)
    for kind in ("sync_batch_norm", "group_norm", "batch_norm"):
        convert(model, {"kind": kind} | ({"num_groups": 2} if kind == "group_norm" else {}))
        assert [layer.training for layer in model] == [False, True]
        assert [layer.weight.requires_grad for layer in model] == [False, True]


def frozen_twice_is_thawed_by_one_call() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), BatchNorm(4))
    model[0].weight.requires_grad_(False)
    unfreeze(freeze(freeze(model)))
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True, True, True]
    assert all(layer.training and layer.momentum == 0.1 for layer in model)


def a_loader_that_fails_leaves_all_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())
    before = copy.deepcopy(model.state_dict())

    def batches() -> object:
        yield torch.randn(5, 4)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk"):
        recalibrate(model, batches())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model[1].training
    assert model[0].momentum == 0.1


def tied_parameters_are_in_one_group_once() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), LayerNorm(4), nn.Linear(4, 5))
    model[2].weight = model[0].weight
    assert [[len(parameter) for parameter in group["params"]] for group in parameter_groups(model, 0.1)] == [
        [5],
        [4, 4, 5],
    ]


def one_example_too_many_is_no_group_by_itself() -> None:
    layer, x = GhostBatchNorm(4, virtual_batch_size=10), torch.randn(101, 4).double()
    y = layer.double()(x)
    for own, part in zip(y.tensor_split(11), x.tensor_split(11), strict=True):
        torch.testing.assert_close(own, standardized(part, (0,), layer.eps))
    assert layer.eval()(x[:1]).shape == (1, 4)


def nan_in_the_padding_reaches_no_gradient() -> None:
    mask = torch.arange(10) < torch.tensor([[3], [10], [1], [7]])
    layer = MaskedBatchNorm(4)
    x = torch.where(mask.unsqueeze(1), torch.randn(4, 4, 10), torch.nan).requires_grad_()
    layer(x, mask=mask).masked_fill(~mask.unsqueeze(1), -torch.inf).amax(2).sum().backward()
    assert all(grad.isfinite().all() for grad in (x.grad, layer.weight.grad, layer.bias.grad))


def a_single_position_is_refused_whatever_the_batch() -> None:
    for examples in (1, 2):
        x = torch.rand(examples, 3, 1, 1)
        for layer in (InstanceNorm(3), SwitchableNorm(3)):
            with pytest.raises(ValueError, match="Expected more than 1"):
                layer(x)


def without_statistics_noise_is_refused() -> None:
    model = nn.Sequential(NoisyBatchNorm(4), BatchRenorm(4), BatchNorm(4))
    torch.func.replace_all_batch_norm_modules_(model)
    x = torch.randn(5, 4)
    for mode in (True, False):
        for layer in model.train(mode)[:2]:
            with pytest.raises(ValueError, match="use BatchNorm"):
                layer(x)
    stacked = torch.func.vmap(model[2])(torch.stack((x, 2 * x)))
    torch.testing.assert_close(stacked[0], standardized(x, (0,), 1e-5), rtol=1e-5, atol=1e-5)


SINGLE: dict[str, Callable[[], None]] = {
    "keras-team/keras#22586": half_input_whose_square_overflows,
    "tenstorrent/tt-metal#45968": large_mean_in_bfloat16,
    "microsoft/onnxruntime#28463": large_values_that_differ_by_one,
    "microsoft/onnxruntime#21935": a_constant_row,
    "pytorch/pytorch#98075": a_huge_scale_of_a_constant_row,
    "apple/coreai-torch#54": a_running_variance_beyond_half_precision,
    "pytorch/pytorch#110361": nothing_in_a_file_changes_nothing,
    "pytorch/pytorch#115285": an_old_file_assigned_leaves_nothing_on_meta,
    "pytorch/pytorch#181510": no_inputs_have_a_gradient_of_zero,
    "pytorch/pytorch#80599": half_precision_keeps_its_length,
    "pytorch/pytorch#51800": evaluated_first_it_is_normalized,
    "pytorch/pytorch#66363": one_layer_twice_before_a_backward_pass,
    "joe-siyuan-qiao/WeightStandardization#1": a_constant_unit_has_a_gradient,
    "huggingface/pytorch-image-models#2422": conversion_keeps_mode_and_flags,
    "mlcommons/algorithmic-efficiency#783": frozen_twice_is_thawed_by_one_call,
    "pytorch/pytorch#30559": a_loader_that_fails_leaves_all_as_it_was,
    "autrainer/autrainer#166": tied_parameters_are_in_one_group_once,
    "dreamquark-ai/tabnet#384": one_example_too_many_is_no_group_by_itself,
    "jax-ml/jax#26328": nan_in_the_padding_reaches_no_gradient,
    "switchablenorms/Switchable-Normalization#5": a_single_position_is_refused_whatever_the_batch,
    "pytorch/functorch#505": without_statistics_noise_is_refused,
}


@pytest.mark.parametrize("replay", SINGLE.values(), ids=SINGLE)
def test_what_was_reported_of_others_is_right_here(replay: Callable[[], None]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        replay()
