"""What torch does to a batch norm by its attributes alone is right for ours, or refused."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, fuse_linear_bn_eval

from bncore.adapt import prediction_time
from bncore.norm import BatchInstanceNorm, BatchNorm, DecorrelatedBatchNorm, EvoNormB0, IterNorm, SwitchableNorm
from tests.bncore.norm.case import Case, sample

CONVOLUTIONS = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


def adapted() -> nn.Module:
    layer = BatchNorm(4)
    prediction_time(nn.Sequential(layer).eval())
    return layer


# Padding is the caller's, and no part of the layer.
@pytest.mark.where(lambda case: "padded" not in case.name)
def test_folded_into_the_layer_in_front_it_computes_the_same_or_is_refused(case: Case, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = case.prepared().eval(), sample(shape)
    front = nn.Linear(4, 4) if len(shape) == 2 else CONVOLUTIONS[len(shape)](4, 4, 1)
    front.double().eval()
    fuse = fuse_linear_bn_eval if len(shape) == 2 else fuse_conv_bn_eval
    try:
        fused = fuse(front, layer)  # type: ignore[type-var]
    except (AssertionError, AttributeError, TypeError):
        assert not case.loads_into_torch
        return
    torch.testing.assert_close(fused(x), layer(front(x)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "make",
    [EvoNormB0, SwitchableNorm, BatchInstanceNorm, DecorrelatedBatchNorm, IterNorm, lambda _channels: adapted()],
    ids=["evo_norm_b0", "switchable", "batch_instance", "decorrelated", "iter_norm", "adapted"],
)
def test_what_evaluates_by_another_formula_is_not_taken_for_a_batch_norm(make: Callable[[int], nn.Module]) -> None:
    layer = make(4).eval()
    with pytest.raises(TypeError, match="does not evaluate as a plain batch norm"):
        fuse_conv_bn_eval(nn.Conv2d(4, 4, 1).eval(), layer)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="convert_sync_batchnorm"):
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(layer))
    running = layer.running_var
    assert running is None or running.shape == (4,)
