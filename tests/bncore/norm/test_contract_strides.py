"""Scales, shifts and statistics that are parts of something larger, as columns of a table are: the same numbers.

torch's kernels read some vectors as if their numbers lay one behind the other. A parameter may be a column of what a
flat parameter, a hypernetwork or a stack of models holds.
"""

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import MaskedBatchNorm
from bncore.recurrent import SequenceBatchNormLSTM
from tests.bncore.norm.case import Case, sample, twin

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def column(tensor: Tensor) -> Tensor:
    """The same numbers, a column of a table whose other numbers are none that anybody would want."""
    table = torch.full((*tensor.shape, 3), 1e3, dtype=tensor.dtype)
    table[..., 1] = tensor.detach()
    return table[..., 1]


def of_columns(layer: nn.Module) -> nn.Module:
    layer = twin(layer)
    for module in layer.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(column(parameter))
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.dim() > 0 and buffer.is_floating_point():
                module._buffers[name] = column(buffer)
    return layer


def everything(layer: nn.Module, x: Tensor, *given: Tensor) -> list[Tensor]:
    """Output, gradients and what the buffers are afterwards."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x, *given)
    y = y[0] if isinstance(y, tuple) else y
    inputs = [x, *(parameter for parameter in layer.parameters())]
    found = torch.autograd.grad(y, inputs, sample(tuple(y.shape), seed=3), allow_unused=True, materialize_grads=True)
    return [y.detach(), *found, *layer.buffers()]


def assert_strides_change_nothing(layer: nn.Module, x: Tensor, *given: Tensor) -> None:
    expected = everything(twin(layer), x, *given)
    for mine, theirs in zip(everything(of_columns(layer), x, *given), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


@modes
def test_a_vector_that_is_a_column_is_read_as_one(case: Case, shape: tuple[int, ...], training: bool) -> None:
    layer = case.prepared().train(training)
    for memory_format in (torch.contiguous_format, *([LAST[len(shape)]] if len(shape) in LAST else [])):
        assert_strides_change_nothing(layer, sample(shape).contiguous(memory_format=memory_format))


@modes
def test_beside_a_mask_too(training: bool) -> None:
    layer = MaskedBatchNorm(4).double().train(training)
    nn.init.normal_(layer.weight)
    x, mask = sample((6, 3, 4)), sample((6, 3), seed=5) > 0
    for laid_out in (x.transpose(1, 2), x.transpose(1, 2).contiguous()):
        assert_strides_change_nothing(layer, laid_out, mask)


@modes
def test_within_a_recurrent_layer_too(training: bool) -> None:
    layer = SequenceBatchNormLSTM(3, 4, dtype=torch.float64).train(training)
    assert_strides_change_nothing(layer, sample((5, 6, 3)))
