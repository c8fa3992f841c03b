"""What users of other libraries reported of state that changes at the wrong time, replayed on every layer.

The id of a test is the repository on GitHub and the number of the thread, as in `test_reports.py`.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from bncore.norm import GhostBatchNorm, MaskedBatchNorm, freeze, spectral_norm
from tests.bncore.norm.case import Case, sample, twin


def gradients(y: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(y.sin().sum(), inputs, allow_unused=True, materialize_grads=True)


def write_as_a_broadcast_does(layer: nn.Module) -> None:
    with torch.no_grad():
        for buffer in layer.buffers():
            buffer.copy_(buffer.clone())


@pytest.mark.parametrize("between", ["pytorch/pytorch#13402: training", "pytorch/pytorch#22095: broadcast"])
def test_what_comes_between_does_not_change_the_gradient_of_an_evaluation(
    case: Case, shape_of: tuple[int, ...], between: str
) -> None:
    layer, x = case.prepared().eval(), sample(shape_of).requires_grad_()
    inputs = [x, *layer.parameters()]
    expected = gradients(layer(x), inputs)
    y = layer(x)
    if between.endswith("training"):
        layer.train()(sample(shape_of, seed=3))
    else:
        write_as_a_broadcast_does(layer)
    for mine, theirs in zip(gradients(y, inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("make", [nn.BatchNorm1d, nn.SyncBatchNorm, nn.InstanceNorm1d], ids=lambda make: make.__name__)
def test_pytorch_22095_a_frozen_layer_of_torch_runs_twice_before_its_gradient(make: type[nn.Module]) -> None:
    layer = make(4, affine=True, track_running_stats=True).double()
    layer(sample((6, 4, 3), seed=3)) if make is not nn.SyncBatchNorm else layer.running_var.fill_(2.0)
    freeze(layer.train(), affine=False)
    x = sample((6, 4, 3)).requires_grad_()
    inputs = [x, *layer.parameters()]
    expected = gradients(layer(x), inputs)
    y = layer(x)
    write_as_a_broadcast_does(layer)
    for mine, theirs in zip(gradients(y, inputs), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-11)


def test_pytorch_126525_a_layer_in_half_precision_measures_in_single(case: Case, shape_of: tuple[int, ...]) -> None:
    half, x = case.prepared(torch.float16), (sample(shape_of) * 400).half()
    wide = case.make().double()
    wide.load_state_dict(half.state_dict())
    torch.testing.assert_close(half(x).double(), wide(x.double()), rtol=2**-8, atol=2**-8)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_pytorch_126738_shapes_without_numbers_pass_a_spectral_norm(training: bool) -> None:
    with FakeTensorMode():
        layer = spectral_norm(nn.Linear(4, 3)).train(training)
        x = torch.randn(2, 4, requires_grad=True)
        layer(x).sum().backward()
    assert x.grad.shape == (2, 4)


def test_pytorch_126738_shapes_without_numbers_pass_outside_of_their_mode_too() -> None:
    with FakeTensorMode():
        layer, x, mask = MaskedBatchNorm(4), torch.randn(3, 4, 6), torch.ones(3, 6, dtype=torch.bool)
    assert layer(x, mask=mask).shape == (3, 4, 6)


def traced(function: Callable[..., Tensor], *given: Tensor) -> Callable[..., Tensor]:
    # Traced twice, it would have moved its statistics in between.
    program: Callable[..., Tensor] = torch.jit.trace(function, given, check_trace=False)
    return program


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("write_down", [lambda function, *given: make_fx(function)(*given), traced], ids=["fx", "jit"])
@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 6)], ids=["rows", "sequences"])
def test_pytorch_126738_a_program_written_down_with_one_mask_is_right_for_another(
    shape: tuple[int, ...], write_down: Callable[..., Callable[..., Tensor]]
) -> None:
    layer = MaskedBatchNorm(4, momentum=None).double()
    other = twin(layer)
    masks = [torch.rand((shape[0], *shape[2:]), generator=torch.Generator().manual_seed(s)) > 0.4 for s in range(2)]
    program = write_down(layer, sample(shape), masks[0])
    layer.reset_running_stats()
    torch.testing.assert_close(program(sample(shape, 3), masks[1]), other(sample(shape, 3), mask=masks[1]))
    torch.testing.assert_close(layer.running_var, other.running_var)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit.trace:DeprecationWarning")
@pytest.mark.parametrize("of_each", [(4,), (4, 3)], ids=["rows", "sequences"])
def test_a_traced_ghost_batch_norm_trains_batches_of_every_size(of_each: tuple[int, ...]) -> None:
    layer = GhostBatchNorm(4, virtual_batch_size=3).double()
    other = twin(layer)
    program = traced(layer, sample((12, *of_each)))
    layer.reset_running_stats()
    for examples in (7, 3, 20):
        x = sample((examples, *of_each), seed=examples)
        torch.testing.assert_close(program(x), other(x), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(layer.running_var, other.running_var, rtol=1e-12, atol=1e-12)
