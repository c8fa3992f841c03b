"""Every layer between operations that work in place, for plain tensors and for subclasses: as behind torch's layers."""

import pytest
import torch
from torch import Tensor, nn

from tests.bncore.norm.case import Case, sample, twin

LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


class Tagged(Tensor):
    """A subclass such as users bring: by torch's own protocol, what is made of one is one."""


def output_and_gradients(layer: nn.Module, x: Tensor, *, in_place: bool) -> list[Tensor]:
    """Of the layer between a doubling and a ReLU."""
    leaf = x.clone().requires_grad_()
    doubled = (leaf + 0).mul_(2) if in_place else leaf * 2
    y = layer(doubled)
    y = y.mul_(3).relu_() if in_place else (y * 3).relu()
    assert type(y) is type(x)
    inputs = [leaf, *(parameter for parameter in layer.parameters() if parameter.requires_grad)]
    grad = sample(tuple(y.shape), seed=3).as_strided(y.shape, y.stride())
    return [one.as_subclass(Tensor).detach() for one in (y, *torch.autograd.grad(y, inputs, grad))]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_neighbours_may_work_in_place(case: Case, shape: tuple[int, ...], mode: str) -> None:
    layer = case.prepared().train(mode == "training")
    for memory_format in (torch.contiguous_format, *([LAST[len(shape)]] if len(shape) in LAST else [])):
        x = sample(shape).contiguous(memory_format=memory_format)
        expected = output_and_gradients(twin(layer), x, in_place=False)
        assert expected[0].count_nonzero() > 0
        # In channels_last, group norm looks how large means are, and takes them off where it cannot look.
        for of_user, tolerance in ((x, 0.0), (x.as_subclass(Tagged), 1e-12)):
            found = output_and_gradients(twin(layer), of_user, in_place=True)
            for mine, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
