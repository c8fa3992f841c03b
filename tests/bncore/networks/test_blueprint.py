"""What a blueprint says of a network is what is built of it, however deep a layer lies."""

import pytest
import torch
from torch.nn.utils import parametrize

from bncore.networks.build import Builder
from bncore.spec import BatchNormSpec, GroupNormSpec
from bncore.spec.blueprint import Activation, Chain, Conv2d, Flatten, Linear, Norm, Pool, Residual, Signal, lay
from bncore.spec.norm import SpectralNormSpec, WeightNormSpec

IMAGE = Signal((3, 8, 8), "image")


def nested(**weights: object) -> Chain:
    block = (
        ("conv", Conv2d(width=4, kernel_size=3, bias=False, **weights)),
        ("norm", Norm(spec=BatchNormSpec(), stream="block", pointer="/norm")),
        ("activation", Activation(name="relu")),
    )
    return Chain((("stage", Chain((("block", Chain(block)), ("pool", Pool(how="max"))))), ("flatten", Flatten()),
                  ("head", Linear(width=5))))  # fmt: skip


@pytest.mark.parametrize("weight_norm", [None, WeightNormSpec(), SpectralNormSpec()], ids=str)
def test_a_nested_network_is_built_as_it_is_laid_out(weight_norm: object) -> None:
    blueprint = nested(**({} if weight_norm is None else {"weight_norm": weight_norm}))
    laid = lay(blueprint, IMAGE, "/network")
    network = Builder(IMAGE, seed=1, draws=True).chain(blueprint)
    x = torch.randn(2, *IMAGE.shape)
    names = ["stage.block.conv", "stage.block.norm", "stage.block.activation", "stage.pool", "flatten", "head"]
    assert [layer.name for layer in laid.layers] == names
    for layer in laid.layers:
        module = network.get_submodule(layer.name)
        x = module(x)
        assert tuple(x.shape[1:]) == layer.output_shape
        assert sum(parameter.numel() for parameter in module.parameters()) == layer.parameters
    assert laid.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert parametrize.is_parametrized(network.stage.block.conv) == (weight_norm is not None)
    assert not parametrize.is_parametrized(network.head)


def test_layers_of_one_name_in_two_blocks_draw_weights_of_their_own() -> None:
    block = Chain((("linear", Linear(width=8)),))
    network = Builder(Signal((8,), "vector"), seed=1, draws=True).chain(Chain((("first", block), ("second", block))))
    assert not torch.equal(network.first.linear.weight, network.second.linear.weight)


def test_faults_name_the_layer_by_its_whole_name_and_the_field_from_the_root() -> None:
    norm = Norm(spec=GroupNormSpec(num_groups=4), stream=1, pointer="/blocks/0/norm")
    inner = Chain((("norm", norm),))
    [fault] = lay(Chain((("block", inner),)), Signal((6, 4, 4), "image"), "/network").faults
    assert (fault.pointer, fault.code) == ("/network/blocks/0/norm/num_groups", "groups_do_not_divide")
    assert "block.norm" in fault.detail


def test_nothing_is_laid_behind_a_layer_that_does_not_fit() -> None:
    pool = Pool(how="average", pointer="/channels/1", place="Block 2", cure="use fewer blocks")
    laid = lay(Chain((("a", Chain((("pool", pool),))), ("flatten", Flatten()))), Signal((2, 1, 1), "image"), "/network")
    assert [(fault.pointer, fault.code) for fault in laid.faults] == [("/network/channels/1", "image_too_small")]
    assert laid.layers == ()


def test_a_residual_block_is_the_sum_of_its_two_ways() -> None:
    body = Chain((("linear1", Linear(width=6)), ("activation", Activation(name="tanh")), ("linear2", Linear(width=5))))
    vector = Signal((4,), "vector")
    blueprint = Chain((("block", Residual(body=body, shortcut=Chain((("linear", Linear(width=5, bias=False)),)))),))
    laid = lay(blueprint, vector, "/network")
    assert [layer.name.partition(".")[2] for layer in laid.layers] == [
        "body.linear1", "body.activation", "body.linear2", "shortcut.linear", "sum",
    ]  # fmt: skip
    block = Builder(vector, seed=3, draws=True).chain(blueprint).block
    x = torch.randn(7, 4)
    hidden = torch.tanh(x @ block.body.linear1.weight.T + block.body.linear1.bias)
    expected = hidden @ block.body.linear2.weight.T + block.body.linear2.bias + x @ block.shortcut.linear.weight.T
    torch.testing.assert_close(block(x), expected)
    identity = Residual(body=Chain((("linear", Linear(width=4)),)))
    same = Builder(vector, seed=3, draws=True).chain(Chain((("block", identity),))).block
    torch.testing.assert_close(same(x), x + x @ same.body.linear.weight.T + same.body.linear.bias)


def test_two_ways_that_do_not_meet_are_refused_with_both_shapes() -> None:
    body = Chain((("conv", Conv2d(width=4, kernel_size=3)), ("pool", Pool(how="max"))))
    [fault] = lay(Chain((("block", Residual(body=body, pointer="/width")),)), IMAGE, "/network").faults
    assert (fault.pointer, fault.code) == ("/network/width", "shapes_do_not_match")
    assert "4x4x4" in fault.detail
    assert "3x8x8" in fault.detail
