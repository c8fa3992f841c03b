"""Scale and shift are two things: each layer works with either alone, can be made without a shift, and converts so."""

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import bncore.norm
from bncore.norm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, Noise, RMSNorm, convert
from tests.bncore.norm.case import Case, cases, sample
from tests.bncore.norm.test_contract_numbers import derivatives
from tests.bncore.norm.test_convert import FAMILY, images, moved

LAYERS = [
    getattr(bncore.norm, name)
    for name in bncore.norm.__all__
    if name in {type(case.make()).__name__ for case in cases()}
]
TORCH: list[tuple[Any, Any]] = [
    (BatchNorm, nn.BatchNorm1d),
    (GroupNorm, lambda channels, **options: nn.GroupNorm(32, channels, **options)),
    (InstanceNorm, lambda channels, **options: nn.InstanceNorm1d(channels, affine=True, **options)),
]


@pytest.mark.parametrize("dropped", ["weight", "bias"])
def test_with_one_of_them_alone_it_follows_the_paper(case: Case, shape_of: tuple[int, ...], dropped: str) -> None:
    layer = case.prepared()
    if dropped == "weight" and "affine" not in inspect.signature(type(layer)).parameters:
        # Without a scale, there is no formula of that name.
        return
    setattr(layer, dropped, None)
    for mode in (True, False):
        layer.train(mode)
        x = sample(shape_of).requires_grad_()
        expected = derivatives(case.expected(layer, x), x, layer, case.orders)
        for mine, theirs in zip(derivatives(layer(x), x, layer, case.orders), expected, strict=True):
            assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)
def test_without_a_bias_it_is_made_and_reset_as_torch_does(layer: Any) -> None:
    if layer in (Noise, RMSNorm):
        assert "bias" not in inspect.signature(layer).parameters
        return
    made = layer(64, bias=False)
    assert "bias" not in made.state_dict()
    assert made.weight is not None
    assert "bias=False" in repr(made)
    made.reset_parameters()
    made.load_state_dict(made.state_dict(), strict=True)
    if "affine" in inspect.signature(layer).parameters:
        none = layer(64, affine=False, bias=True)
        assert (none.weight, none.bias) == (None, None)
    assert inspect.signature(layer).parameters["bias"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize(("ours", "theirs"), TORCH)
def test_state_without_a_bias_goes_both_ways(ours: Any, theirs: Any) -> None:
    plain = moved(theirs(64, bias=False))
    layer = ours(64, bias=False).double()
    layer.load_state_dict(plain.state_dict(), strict=True)
    plain.load_state_dict(layer.state_dict(), strict=True)
    x = sample((5, 64, 3))
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [*FAMILY, "frozen_batch_norm"])
@pytest.mark.parametrize("missing", ["weight", "bias"])
def test_a_batch_norm_with_one_of_them_keeps_it_and_gets_no_other(kind: str, missing: str) -> None:
    plain = moved(nn.BatchNorm2d(32, eps=1e-3)).eval()
    setattr(plain, missing, None)
    kept = "bias" if missing == "weight" else "weight"
    before, numbers = getattr(plain, kept), plain(images())
    new = convert(plain, {"kind": kind})
    assert torch.equal(new(images()), numbers)
    if kind != "frozen_batch_norm":
        assert getattr(new, missing) is None
        assert getattr(new, kept) is before
        assert convert(new, {"kind": kind}) is new


@pytest.mark.parametrize("kind", [*FAMILY, "frozen_batch_norm", "layer_norm", "rms_norm"])
def test_a_tensor_in_the_place_of_a_parameter_is_carried_as_it_is(kind: str) -> None:
    plain = moved(nn.BatchNorm2d(32)).eval()
    shift = torch.linspace(-1, 1, 32, dtype=torch.float64)
    del plain.bias
    plain.bias = shift  # type: ignore[assignment]
    weight, numbers = plain.weight, plain(images())
    new = convert(nn.Sequential(plain), {"kind": kind})[0]  # type: ignore[index]
    if kind in (*FAMILY, "frozen_batch_norm"):
        assert torch.equal(new(images()), numbers)
    if kind == "frozen_batch_norm":
        return
    assert new.weight is weight
    if kind != "rms_norm":
        assert new.bias is shift
        assert "bias" not in new.state_dict()
    assert type(convert(copy.deepcopy(new), {"kind": "batch_norm"})) is BatchNorm


def test_what_a_hook_computes_is_refused_and_what_an_rms_norm_lacks_is_new() -> None:
    pruned = prune.l1_unstructured(nn.BatchNorm2d(4), "weight", amount=2)
    with pytest.raises(ValueError, match="computed from its weight_orig"):
        convert(pruned, {"kind": "batch_renorm"})
    made = convert(nn.RMSNorm(4), {"kind": "layer_norm"})
    assert isinstance(made, LayerNorm)
    assert isinstance(made.bias, Tensor)
