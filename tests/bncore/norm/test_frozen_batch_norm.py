"""Frozen batch norm: nothing moves it, state goes both ways, and the backward pass keeps no copy of the input."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bncore.norm import convert, to_torch
from bncore.norm.frozen_batch_norm import FrozenBatchNorm


def batch() -> Tensor:
    return torch.randn(6, 5, 4, 4, generator=torch.Generator().manual_seed(2)) * 2 + 1


def trained() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(5, eps=1e-3)
    nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
    nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        layer(batch())
    return layer.eval()


def frozen() -> FrozenBatchNorm:
    layer = FrozenBatchNorm(5, eps=1e-3)
    layer.load_state_dict(trained().state_dict(), strict=True)
    return layer


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_the_layer_it_was_loaded_from_evaluates(grad: bool, training: bool) -> None:
    x = batch().requires_grad_(grad)
    torch.testing.assert_close(frozen().train(training)(x), trained()(x), rtol=1e-5, atol=1e-6)


def test_a_new_one_is_a_new_batch_norm_in_evaluation() -> None:
    torch.testing.assert_close(FrozenBatchNorm(5)(batch()), nn.BatchNorm2d(5).eval()(batch()), rtol=1e-6, atol=1e-6)
    assert (FrozenBatchNorm(5).running_var == 1).all()


def test_training_moves_nothing_in_it() -> None:
    layer = frozen().train()
    assert list(layer.parameters()) == []
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    model = nn.Sequential(nn.Conv2d(5, 5, 1), layer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(batch()).square().mean().backward()
        optimizer.step()
    for name, value in before.items():
        assert torch.equal(layer.state_dict()[name], value)


def test_the_backward_pass_keeps_the_scale_and_not_the_input() -> None:
    layer, x = frozen(), batch().requires_grad_()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        y = layer(x)
    assert [tensor.numel() for tensor in kept] == [5]
    y.sum().backward()
    k = layer.weight / (layer.running_var + layer.eps).sqrt()
    torch.testing.assert_close(x.grad, k.view(1, 5, 1, 1).expand_as(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_half_precision_layer_folds_in_single_precision(dtype: torch.dtype) -> None:
    layer, x = frozen().to(dtype), batch().to(dtype).requires_grad_()
    wide = FrozenBatchNorm(5, eps=1e-3)
    wide.load_state_dict(layer.state_dict())
    y = layer(x)
    assert y.dtype == dtype
    # All that is lost is the last rounding: to the nearest number of the type.
    assert torch.equal(y, wide(x.float()).to(dtype))


@pytest.mark.parametrize("prefix", ["", "0."])
def test_the_number_of_batches_may_be_missing_and_nothing_else(prefix: str) -> None:
    model = FrozenBatchNorm(5) if not prefix else nn.Sequential(FrozenBatchNorm(5))
    state = {prefix + name: value for name, value in trained().state_dict().items()}
    assert prefix + "num_batches_tracked" in state
    del state[prefix + "num_batches_tracked"]
    model.load_state_dict(state, strict=True)
    assert torch.equal(model.state_dict()[prefix + "running_mean"], trained().running_mean)
    del state[prefix + "weight"]
    with pytest.raises(RuntimeError, match="weight"):
        model.load_state_dict(state, strict=True)


def test_the_number_of_batches_is_kept_on_the_way_through() -> None:
    back = nn.BatchNorm2d(5, eps=1e-3)
    back.load_state_dict(frozen().state_dict(), strict=True)
    assert back.num_batches_tracked == 3


@pytest.mark.parametrize("shape", [(0, 5, 4, 4), (1, 5), (1, 5, 1, 1), (3, 5, 2, 2, 2)], ids=str)
@pytest.mark.parametrize("grad", [True, False])
def test_every_shape_with_a_batch_axis_is_admitted(shape: tuple[int, ...], grad: bool) -> None:
    assert frozen()(torch.ones(shape).requires_grad_(grad)).shape == shape


def test_it_folds_into_the_convolution_before_it() -> None:
    convolution, layer = nn.Conv2d(5, 5, 3).eval(), frozen().eval()
    folded = fuse_conv_bn_eval(convolution, layer)
    torch.testing.assert_close(folded(batch()), layer(convolution(batch())), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lacks", [("weight",), ("bias",), ("weight", "bias")])
def test_where_there_was_no_scale_or_no_shift_it_has_none_and_gives_none_back(lacks: tuple[str, ...]) -> None:
    plain, x = trained(), batch()
    for name in lacks:
        setattr(plain, name, None)
    frozen = convert(plain, {"kind": "frozen_batch_norm"}, copy=True)
    for grad in (True, False):
        torch.testing.assert_close(frozen.train()(x.clone().requires_grad_(grad)), plain(x), rtol=1e-5, atol=1e-6)
    plain.load_state_dict(frozen.state_dict(), strict=True)
    frozen.load_state_dict(plain.state_dict(), strict=True)
    for back in (convert(frozen, {"kind": "batch_norm"}, copy=True), to_torch(frozen, copy=True)):
        assert [name for name in ("weight", "bias") if getattr(back, name) is None] == list(lacks)
        torch.testing.assert_close(back.eval()(x), plain(x), rtol=1e-5, atol=1e-6)


def test_without_an_affine_part_state_goes_both_ways_too() -> None:
    x, layer = batch(), FrozenBatchNorm(5, affine=False)
    plain = nn.BatchNorm2d(5, affine=False)
    plain(x)
    layer.load_state_dict(plain.state_dict(), strict=True)
    for grad in (True, False):
        torch.testing.assert_close(layer(x.clone().requires_grad_(grad)), plain.eval()(x), rtol=1e-5, atol=1e-6)
