"""Checkpoints that torch's older functions wrote load into the parametrizations of today."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bncore.norm import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")

PAIRS = [
    (torch.nn.utils.weight_norm, weight_norm, remove_weight_norm, lambda: nn.Conv1d(3, 4, 3)),
    (torch.nn.utils.weight_norm, weight_norm, remove_weight_norm, lambda: nn.Linear(3, 4)),
    (
        lambda layer: torch.nn.utils.weight_norm(layer, dim=None),
        lambda layer: weight_norm(layer, dim=None),
        remove_weight_norm,
        lambda: nn.Linear(3, 4),
    ),
    (torch.nn.utils.spectral_norm, spectral_norm, remove_spectral_norm, lambda: nn.Conv2d(3, 4, 3)),
    (torch.nn.utils.spectral_norm, spectral_norm, remove_spectral_norm, lambda: nn.ConvTranspose1d(3, 4, 3)),
]


@pytest.mark.parametrize(
    ("older", "wrap", "remove", "make"),
    PAIRS,
    ids=["conv", "linear", "one length", "spectral", "spectral, transposed"],
)
def test_state_of_torchs_older_function_loads_strictly_and_computes_the_same(
    older: Callable[[nn.Module], nn.Module],
    wrap: Callable[[nn.Module], nn.Module],
    remove: Callable[[nn.Module], nn.Module],
    make: Callable[[], nn.Module],
) -> None:
    torch.manual_seed(0)
    old = nn.Sequential(older(make().double()))
    with torch.no_grad():
        for parameter in old.parameters():
            parameter.mul_(1.0 + 0.3 * torch.rand_like(parameter))
    x = torch.randn(2, 3, *(5,) * (make().weight.dim() - 2), dtype=torch.float64)
    old(x)
    old.eval()
    state = dict(old.state_dict())
    keys = set(state)
    layer = nn.Sequential(wrap(make().double()))
    for new in (layer, copy.deepcopy(layer)):
        new.load_state_dict(state, strict=True)
        assert set(state) == keys
        torch.testing.assert_close(new.eval()(x), old(x), rtol=1e-12, atol=1e-12)
    # Its own state still loads, and what is plain again knows neither.
    layer.load_state_dict(copy.deepcopy(layer).state_dict(), strict=True)
    plain = remove(layer[0])
    assert set(pickle.loads(pickle.dumps(plain)).state_dict()) == {"weight", "bias"}
    with pytest.raises(RuntimeError, match="Missing key"):
        nn.Sequential(plain).load_state_dict(state, strict=True)
