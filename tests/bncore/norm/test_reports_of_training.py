"""What users of other libraries reported of gradients, masks, statistics and weights in training, replayed here.

The id of a test is the repository on GitHub and the number of the thread, as in `test_reports.py`.
"""

import copy
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from bncore.norm import (
    BatchNorm,
    FrozenBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MaskedBatchNorm,
    RMSNorm,
    convert,
    recalibrate,
    spectral_norm,
    weight_norm,
)
from bncore.recurrent import BatchNormLSTM
from tests.bncore.norm.case import sample, standardized, twin


def with_gradients(run: Callable[[Tensor], Tensor], layer: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = run(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], grad)]


def assert_all_close(found: list[Tensor], expected: list[Tensor]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def a_single_position_whose_gradient_has_another_layout() -> None:
    x = sample((1, 12, 6, 1)).permute(1, 2, 0, 3)
    layer = GroupNorm(6, 3).double()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        grad = sample((12, 6, 1, 1), seed=2).contiguous(memory_format=memory_format)
        expected = with_gradients(lambda x: F.group_norm(x, 3, layer.weight, layer.bias), layer, x.contiguous(), grad)
        assert_all_close(with_gradients(layer, layer, x, grad), expected)


def a_volume_of_millions_of_values() -> None:
    x = torch.rand(1, 4, 64, 128, 72)
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        y = GroupNorm(4, 1)(x.contiguous(memory_format=memory_format))
        assert (y.double() - standardized(x.double(), (1, 2, 3, 4), 1e-5)).abs().max() <= 2e-6


LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    lambda x: torch.stack((x, -x), -1)[..., 0],
    lambda x: x.flip(0).contiguous().flip(0),
    lambda x: torch.cat((x, x), 1)[:, : x.shape[1]],
]


def the_last_axis_in_any_layout() -> None:
    x, grad = sample((5, 4, 6)), sample((5, 4, 6), seed=2)
    for torchs in (nn.LayerNorm(6), nn.RMSNorm(6)):
        layer = convert(torchs, {"kind": "layer_norm" if isinstance(torchs, nn.LayerNorm) else "rms_norm"}).double()
        nn.init.normal_(layer.weight)
        expected = with_gradients(layer, layer, x, grad)
        for lay_out in LAYOUTS:
            assert_all_close(with_gradients(layer, layer, lay_out(x), lay_out(grad)), expected)


def a_gradient_that_is_expanded() -> None:
    layer = RMSNorm(4).double()
    for shape in ((6, 4), (6, 4, 3)):
        whole = torch.ones((), dtype=torch.float64).expand(shape)
        expected = with_gradients(layer, layer, sample(shape), whole.contiguous())
        assert_all_close(with_gradients(layer, layer, sample(shape), whole), expected)


def gradients_of_more_than_two_axes() -> None:
    layer, x, grad = LayerNorm(4).double(), sample((3, 4, 2, 5)), sample((3, 4, 2, 5), seed=2)
    found = with_gradients(layer, layer, x, grad)
    z = standardized(x, (1, 2, 3), layer.eps)
    assert_all_close(found[2:], [(grad * z).sum((0, 2, 3)), grad.sum((0, 2, 3))])
    variance = x.var((1, 2, 3), correction=0, keepdim=True) + layer.eps
    centred = grad - grad.mean((1, 2, 3), keepdim=True) - z * (grad * z).mean((1, 2, 3), keepdim=True)
    assert_all_close([found[1]], [centred / variance.sqrt()])


def an_old_file_assigned_to_what_was_made_on_meta() -> None:
    old = nn.utils.weight_norm(nn.Conv1d(3, 4, 2))
    new = nn.Sequential(weight_norm(nn.Conv1d(3, 4, 2, device="meta")))
    new.load_state_dict({f"0.{name}": value for name, value in old.state_dict().items()}, assign=True)
    x = torch.randn(2, 3, 5)
    torch.testing.assert_close(new(x), old(x))


def normalized_weights_are_not_written_back() -> None:
    for normalize in (spectral_norm, weight_norm):
        layer = normalize(nn.Linear(4, 5))
        before = [parameter.clone() for parameter in layer.parameters()]
        for _ in range(3):
            layer.train()(torch.randn(2, 4))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(layer.parameters(), before, strict=True))


def averaged_weights_get_averages_of_all_batches() -> None:
    batches = [sample((6, 4), seed) for seed in range(5)]
    for layer in (BatchNorm(4).double(), GhostBatchNorm(4, 3).double()):
        layer(sample((6, 4), 9) + 100.0)
        update_bn(batches, layer)
        torch.testing.assert_close(layer.running_mean, torch.stack(batches).mean((0, 1)))
        assert layer.momentum == 0.1


def a_flag_set_afterwards_stops_averages_and_nothing_else() -> None:
    layer = BatchNorm(4).double()
    layer(sample((6, 4)))
    expected = layer.eval()(sample((6, 4), 2))
    layer.track_running_stats = False
    torch.testing.assert_close(layer(sample((6, 4), 2)), expected, rtol=0, atol=0)
    before = twin(layer)
    layer.train()(sample((6, 4), 3))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(layer.buffers(), before.buffers(), strict=True))


def instances_are_normalized_alike_in_both_modes() -> None:
    layer, x = InstanceNorm(3).double(), sample((2, 3, 4, 5))
    for training in (True, False):
        torch.testing.assert_close(layer.train(training)(x), standardized(x, (2, 3), layer.eps))


def frozen_is_what_batch_norm_evaluates_to() -> None:
    theirs, mine = nn.BatchNorm2d(4), FrozenBatchNorm(4)
    theirs(torch.randn(6, 4, 3, 2))
    mine.load_state_dict(theirs.eval().state_dict())
    x = torch.rand(2, 4, 3, 2)
    with torch.no_grad():
        assert torch.equal(mine(x), theirs(x))


def a_mask_that_would_broadcast_is_refused() -> None:
    for shape in ((6, 1, 5), (6, 5), (1, 5), (6, 3, 5), (6, 5, 2, 1)):
        with pytest.raises(ValueError, match="the mask of a batch"):
            MaskedBatchNorm(3)(torch.ones(6, 3, 5, 2), torch.ones(shape, dtype=torch.bool))


def padding_enters_neither_mean_nor_variance() -> None:
    x = torch.tensor([[[1.0, 5.0, 0.0, 0.0]], [[2.0, 4.0, 0.0, 0.0]]])
    layer = MaskedBatchNorm(1, momentum=1.0)
    layer(x, lengths=torch.tensor([2, 2]))
    values = torch.tensor([1.0, 5.0, 2.0, 4.0])
    torch.testing.assert_close(layer.running_mean, values.mean().view(1))
    torch.testing.assert_close(layer.running_var, values.var().view(1))


def a_repeated_pass_counts_once_and_at_first() -> None:
    for reentrant in (True, False):
        plain, again = BatchNorm(4).double(), BatchNorm(4).double()
        for seed in range(3):
            x = sample((6, 4), seed).requires_grad_()
            y = checkpoint(again, x, use_reentrant=reentrant)
            plain(x.detach())
            assert torch.equal(again.running_mean, plain.running_mean)
            y.sin().sum().backward()
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(again.buffers(), plain.buffers(), strict=True))


def variances_far_from_zero_do_not_come_out_negative() -> None:
    layer = BatchNorm(4)
    batches = [torch.randn(16, 4, 5) * 1e-2 + 1e4 for _ in range(3)]
    recalibrate(layer, batches)
    everything = torch.cat(batches).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(layer.running_var.double(), everything.var(1), rtol=1e-5, atol=0.0)


def groups_are_said_or_divide_the_channels() -> None:
    model = nn.Sequential(nn.Linear(3, 72), nn.BatchNorm1d(72))
    with pytest.raises(ValueError, match="1 cannot become group_norm: 32 groups do not divide 72 channels"):
        convert(model, {"kind": "group_norm"})
    convert(model, {"kind": "group_norm", "num_groups": math.gcd(32, 72)})
    assert model(sample((1, 3)).float()).count_nonzero() > 0
    for groups in (0, -2):
        with pytest.raises(ValueError, match="groups do not divide"):
            GroupNorm(4, groups)


def half_precision_goes_with_single_precision() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = sample((8, 4, 6)).to(dtype)
        layer = BatchNorm(4)
        y = layer(x)
        assert y.dtype is dtype
        assert layer.running_mean.dtype is torch.float32
        expected = standardized(x.double(), (0, 2), layer.eps)
        assert (y.double() - expected).abs().max() <= 4.0 * torch.finfo(dtype).eps


def a_scale_in_single_precision_has_its_gradient_from_half() -> None:
    for shape in ((64, 8), (16, 8, 4)):
        x, grad = sample(shape).to(torch.bfloat16), sample(shape, seed=2).to(torch.bfloat16)
        layer, exact = RMSNorm(8), RMSNorm(8).double()
        found = with_gradients(layer, layer, x, grad)[2]
        expected = with_gradients(exact, exact, x.double(), grad.double())[2]
        assert (found.double() - expected).abs().max() <= 0.05 * expected.abs().max()


def axes_in_another_order() -> None:
    x, grad = sample((5, 6, 4, 3)).permute(0, 2, 1, 3), sample((5, 4, 6, 3), seed=2)
    one, other = BatchNorm(4).double(), BatchNorm(4).double()
    expected = with_gradients(one, one, x.contiguous(), grad)
    assert_all_close([*with_gradients(other, other, x, grad), *other.buffers()], [*expected, *one.buffers()])


def padding_of_a_batch_normalized_lstm_does_not_matter() -> None:
    layer, lengths = BatchNormLSTM(3, 4).double(), torch.tensor([2, 6, 4])
    found = []
    for padding in (0.0, float("nan")):
        own, x = copy.deepcopy(layer), sample((6, 3, 3))
        for sequence, length in enumerate(lengths):
            x[length:, sequence] = padding
        y, state = own(x, lengths=lengths)
        found.append([y.detach(), *(one.detach() for one in state), *own.buffers()])
    assert_all_close(*found)


def lengths_of_another_number_are_refused() -> None:
    layer = weight_norm(nn.Linear(3, 4))
    state = layer.state_dict()
    state["parametrizations.weight.original0"] = torch.ones(2, 1)
    with pytest.raises(RuntimeError, match="size mismatch"):
        layer.load_state_dict(state)


REPORTS: dict[str, Callable[[], None]] = {
    "pytorch/pytorch#115940": a_single_position_whose_gradient_has_another_layout,
    "pytorch/pytorch#54293": a_volume_of_millions_of_values,
    "ELS-RD/kernl#193, microsoft/DirectML#588, NVIDIA/TransformerEngine#417": the_last_axis_in_any_layout,
    "unslothai/unsloth#10617, Dao-AILab/quack#88": a_gradient_that_is_expanded,
    "flagos-ai/FlagGems#5392": gradients_of_more_than_two_axes,
    "huggingface/transformers#31970": an_old_file_assigned_to_what_was_made_on_meta,
    "google/flax#5576": normalized_weights_are_not_written_back,
    "Lightning-AI/pytorch-lightning#14866": averaged_weights_get_averages_of_all_batches,
    "pytorch/pytorch#16793": a_flag_set_afterwards_stops_averages_and_nothing_else,
    "pytorch/pytorch#4348, junyanz/pytorch-CycleGAN-and-pix2pix#395": instances_are_normalized_alike_in_both_modes,
    "pytorch/vision#2169, pytorch/pytorch#43614": frozen_is_what_batch_norm_evaluates_to,
    "keras-team/keras#19818, keras-team/keras#19848": a_mask_that_would_broadcast_is_refused,
    "tensorflow/tensorflow#30161, keras-team/keras#14281": padding_enters_neither_mean_nor_variance,
    "facebookresearch/fairscale#1035, pytorch/pytorch#62471": a_repeated_pass_counts_once_and_at_first,
    "timgaripov/swa#8": variances_far_from_zero_do_not_come_out_negative,
    "meta-pytorch/opacus#390, pytorch/pytorch#184280": groups_are_said_or_divide_the_channels,
    "pytorch/pytorch#75478, Lightning-AI/pytorch-lightning#18802": half_precision_goes_with_single_precision,
    "NVIDIA/apex#1652": a_scale_in_single_precision_has_its_gradient_from_half,
    "pytorch/pytorch#62967": axes_in_another_order,
    "cooijmanstim/recurrent-batch-normalization#2": padding_of_a_batch_normalized_lstm_does_not_matter,
    "pytorch/pytorch#194805": lengths_of_another_number_are_refused,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated:FutureWarning")
@pytest.mark.parametrize("replay", REPORTS.values(), ids=REPORTS)
def test_what_was_reported_of_others_is_right_here(replay: Callable[[], None]) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        replay()
