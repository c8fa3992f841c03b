"""Pooling without gradients is torch's, to the bit."""

import pytest
import torch
from torch import nn

from bncore.networks.pooling import MaxPool2d


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 5, 7), (3, 8, 8)])
def test_halves_are_those_of_torch(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    with torch.no_grad():
        for values in (x, x.relu(), x.bfloat16(), torch.full(shape, torch.nan)):
            torch.testing.assert_close(MaxPool2d(2)(values), nn.MaxPool2d(2)(values), rtol=0, atol=0, equal_nan=True)
    with pytest.raises(RuntimeError, match="too small"), torch.no_grad():
        MaxPool2d(2)(torch.randn(1, 3, 1, 4))
