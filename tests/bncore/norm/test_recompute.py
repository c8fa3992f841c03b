"""Checkpointed layers find what they used the first time, or refuse where they cannot."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.norm import BatchRenorm, CrossIterationBatchNorm, MovingAverageBatchNorm, NoisyBatchNorm, PowerNorm
from tests.bncore.norm.case import sample

reentrant = pytest.mark.parametrize("reentrant", [True, False])


def assert_checkpointing_changes_nothing(batches: list[Tensor], reentrant: bool) -> None:
    plain = BatchRenorm(4, momentum=0.2, warmup_steps=0, nan_guard=True).double()
    again = copy.deepcopy(plain)
    for batch in batches:
        x, other = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        plain(x).sin().sum().backward()
        checkpoint(again, other, use_reentrant=reentrant).sin().sum().backward()
        torch.testing.assert_close(other.grad, x.grad, rtol=1e-12, atol=1e-12, equal_nan=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@reentrant
def test_training_on_one_batch_over_and_over_repeats_the_newest_pass(reentrant: bool) -> None:
    assert_checkpointing_changes_nothing([2 * sample((6, 4)) + 3] * 4, reentrant)


@reentrant
@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_batch_that_is_not_finite_spoils_no_gradient_of_later_ones(spoilt: float, reentrant: bool) -> None:
    batches = [2 * sample((6, 4), seed) + seed for seed in range(4)]
    batches[1][2, 3] = spoilt
    assert_checkpointing_changes_nothing(batches, reentrant)


DEPENDS_ON_BUFFERS = [BatchRenorm, CrossIterationBatchNorm, MovingAverageBatchNorm, NoisyBatchNorm, PowerNorm]
"""Layers whose output in training depends on what earlier batches left behind."""


def compiled(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    torch._dynamo.reset()
    return torch.compile(run, backend="aot_eager")


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "how",
    [
        "compiled in it",
        pytest.param("compiled in it, reentrant", marks=pytest.mark.system),
        pytest.param("compiled around it", marks=pytest.mark.system),
    ],
)
@pytest.mark.parametrize("kind", DEPENDS_ON_BUFFERS, ids=lambda kind: kind.__name__)
def test_checkpointed_and_compiled_it_refuses_where_gradients_would_be_wrong(kind: type[nn.Module], how: str) -> None:
    layer, x = kind(4), sample((6, 4)).float().requires_grad_()
    run = {
        "compiled in it": lambda x: checkpoint(compiled(layer), x, use_reentrant=False),
        "compiled in it, reentrant": lambda x: checkpoint(compiled(layer), x, use_reentrant=True),
        "compiled around it": compiled(lambda x: checkpoint(layer, x, use_reentrant=False)),
    }[how]
    y = run(x)
    with pytest.raises(RuntimeError, match="cannot be run again"):
        y.sum().backward()
