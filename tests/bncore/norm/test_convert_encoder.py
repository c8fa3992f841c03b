"""torch's transformer encoder has a kernel for evaluation that contains layer norm: converted, it must not be taken."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore.norm import convert

KINDS = ["batch_norm", "frozen_batch_norm", "rms_norm", "dynamic_tanh", "global_response_norm", "none"]
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 5])


def encoder(norm_first: bool = False, bias: bool = True) -> nn.TransformerEncoder:
    torch.manual_seed(2)
    layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=norm_first, bias=bias)
    made = nn.TransformerEncoder(layer, 2, enable_nested_tensor=not norm_first and bias).double()
    for parameter in made.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return made.eval()


def both_ways(model: nn.Module, **options: Any) -> tuple[Tensor, Tensor]:
    """Its output with gradients, for which it runs its layers, and without."""
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ordinary = model(x, **options).detach()
    with torch.no_grad():
        return ordinary, model(x, **options)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_evaluates_with_the_layers_that_it_holds(kind: str, norm_first: bool) -> None:
    model = convert(encoder(norm_first), {"kind": kind})
    torch.testing.assert_close(*both_ways(model), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(*both_ways(copy.deepcopy(model)), rtol=1e-10, atol=1e-10)
    ordinary, fast = both_ways(model, src_key_padding_mask=PADDED)
    torch.testing.assert_close(fast[~PADDED], ordinary[~PADDED], rtol=1e-10, atol=1e-10)


def test_with_layer_norms_again_it_is_what_it_was() -> None:
    model = encoder()
    before = [dict(vars(module)) for module in (model, *model.layers)]
    convert(convert(model, {"kind": "rms_norm"}), {"kind": "layer_norm"})
    assert model.use_nested_tensor
    for module, flags in zip((model, *model.layers), before, strict=True):
        plain = {name: value for name, value in flags.items() if isinstance(value, bool | int)}
        assert {name: value for name, value in vars(module).items() if isinstance(value, bool | int)} == plain
    torch.testing.assert_close(*both_ways(model), rtol=1e-10, atol=1e-10)


def test_without_a_shift_there_is_nothing_for_the_kernel_to_take() -> None:
    torch.testing.assert_close(*both_ways(convert(encoder(bias=False), {"kind": "rms_norm"})), rtol=1e-10, atol=1e-10)
