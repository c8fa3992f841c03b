"""Statistics of single samples: digits that hang on how many values there are."""

import pytest
import torch

from bncore.norm._sample_statistics import instances, mean_square


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
@pytest.mark.parametrize("side", [3, 250, 1500])
def test_the_number_of_positions_costs_no_digits(side: int, memory_format: torch.memory_format) -> None:
    torch.manual_seed(1)
    x = (torch.randn(1, 2, side, side) + 2.0).to(memory_format=memory_format)
    exact, found = instances(x.double()), instances(x)
    torch.testing.assert_close(found.var.double(), exact.var, rtol=4e-6, atol=0.0)
    torch.testing.assert_close(found.mean.double(), exact.mean, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(mean_square(x).double(), mean_square(x.double()), rtol=4e-6, atol=0.0)
