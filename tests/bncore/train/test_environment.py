"""What a run sets is what the same calls of torch set."""

import pytest
import torch

from bncore.seeds import derive_seed
from bncore.spec import load_spec
from bncore.train.environment import prepare


@pytest.mark.parametrize("seed", [0, 3, 2**31])
def test_on_a_cpu_the_random_state_is_that_of_manual_seed(seed: int) -> None:
    torch.rand(5)
    prepare(load_spec({"train": {"seed": seed}, "resources": {"device": "cpu", "threads": 1}}))
    mine, drawn = torch.get_rng_state(), torch.rand(4)
    torch.manual_seed(derive_seed(seed, "training"))
    assert torch.equal(mine, torch.get_rng_state())
    assert torch.equal(drawn, torch.rand(4))
