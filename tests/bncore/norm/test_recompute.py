"""Checkpointed layers find what they used the first time, or refuse where they cannot."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.norm import (
    BatchRenorm,
    CrossIterationBatchNorm,
    MaskedBatchNorm,
    MovingAverageBatchNorm,
    Noise,
    NoisyBatchNorm,
    PowerNorm,
    spectral_norm,
    valid_positions,
)
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


class Repeating(torch.autograd.Function):
    """Checkpointing as others write it: what it is called with is run again by its backward pass."""

    @staticmethod
    def forward(ctx: Any, layer: nn.Module, x: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(x)
        with torch.no_grad():
            return layer(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor]:
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            y = ctx.layer(x)
        y.backward(*grads)
        return None, x.grad


def nested(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return checkpoint(lambda x: checkpoint(layer, x, use_reentrant=False), x, use_reentrant=True)


CHECKPOINTS: dict[str, Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]] = {
    "none": lambda layer, x: layer(x),
    "reentrant": lambda layer, x: checkpoint(layer, x, use_reentrant=True),
    "saved tensors": lambda layer, x: checkpoint(layer, x, use_reentrant=False),
    "of others": Repeating.apply,
    "nested": nested,
}
NOISE = {"mean_jitter": 0.5, "std_jitter": 0.5}
REPEATED: dict[str, Callable[[], nn.Module]] = {
    "renorm": lambda: BatchRenorm(4, momentum=0.3, warmup_steps=0),
    "cross-iteration": lambda: CrossIterationBatchNorm(4),
    "moving average": lambda: MovingAverageBatchNorm(4, warmup_steps=0, r_warmup_steps=0),
    "power": lambda: PowerNorm(4, warmup_steps=0),
    "noisy": lambda: NoisyBatchNorm(4, **NOISE),
    "noise": lambda: Noise(4, **NOISE),
    "spectral norm": lambda: spectral_norm(nn.Linear(4, 4)),
    "masked": lambda: MaskedBatchNorm(4),
}


def gradients_of(kind: str, how: str, forwards: list[int], backwards: list[int], *, twice: bool) -> list[Tensor]:
    """Into the input of each pass, in double precision; `forwards` are the batches, `backwards` the order of losses."""
    torch.manual_seed(0)
    layer = REPEATED[kind]().double()
    inputs = [sample((6, 4), seed).requires_grad_() for seed in forwards]

    def run(x: Tensor) -> Tensor:
        return layer(x).sin() * layer(x) if twice else layer(x)

    losses = [(CHECKPOINTS[how](run, x) * sample((6, 4), 50 + at)).sum() for at, x in enumerate(inputs)]
    for which in backwards:
        losses[which].backward()
    return [*(x.grad for x in inputs if x.grad is not None), *(buffer.clone() for buffer in layer.buffers())]


@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice in it"])
@pytest.mark.parametrize("how", list(CHECKPOINTS)[1:])
@pytest.mark.parametrize("kind", REPEATED)
def test_one_batch_in_several_passes_finds_what_each_of_them_used(kind: str, how: str, twice: bool) -> None:
    forwards = [5, 5, 6, 5]
    for backwards in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3]):
        expected = gradients_of(kind, "none", forwards, backwards, twice=twice)
        for mine, theirs in zip(gradients_of(kind, how, forwards, backwards, twice=twice), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@reentrant
def test_a_graph_that_is_kept_gives_its_gradient_again(reentrant: bool) -> None:
    layer, batch = Noise(4, **NOISE).double(), sample((6, 4)).requires_grad_()
    y = checkpoint(lambda x: layer(x) * layer(x), batch, use_reentrant=reentrant)
    layer(batch.detach())
    found = []
    for _ in range(2):
        batch.grad = None
        y.sin().sum().backward(retain_graph=True)
        found.append(batch.grad)
    assert found[0].count_nonzero() > 0
    assert torch.equal(*found)


@reentrant
def test_each_pass_of_one_batch_has_its_own_mask(reentrant: bool) -> None:
    layer, batch = MaskedBatchNorm(4).double(), sample((6, 4))
    for lengths in ([True] * 6, [True] * 4 + [False] * 2):
        x = batch.clone().requires_grad_()
        mask = torch.tensor(lengths)
        with valid_positions(layer, mask=mask):
            # Another pass of the same batch, with another mask, comes before the first one's gradient.
            y = checkpoint(layer, x, use_reentrant=reentrant)
            with valid_positions(layer, mask=~mask.roll(1)):
                checkpoint(layer, batch.clone().requires_grad_(), use_reentrant=reentrant)
            y.sin().sum().backward()
        assert x.grad is not None
        assert x.grad[mask].count_nonzero() > 0
        assert x.grad[~mask].count_nonzero() == 0
