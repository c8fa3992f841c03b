"""Every layer in graphs of `torch.fx`, as torch's own are: one node, whose numbers are the layer's."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

from bncore.adapt import prediction_time
from bncore.norm import BatchNorm, MaskedBatchNorm, convert, freeze
from bncore.recurrent import BatchNormGRU, BatchNormLSTM, SequenceBatchNorm, StepBatchNorm
from tests.bncore.norm.case import Case, sample

# Of what torch's optimizations import.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


def fused(model: nn.Module) -> nn.Module:
    from torch.fx.experimental.optimization import fuse

    return fuse(model)


# That layer of the suite asks for values itself, to make a mask of them.
@pytest.mark.where(lambda case: "padded" not in case.name)
def test_a_model_with_it_is_traced_to_one_node_of_the_same_numbers(case: Case, shape_of: tuple[int, ...]) -> None:
    model, x = nn.Sequential(nn.Tanh(), case.prepared()), sample(shape_of)
    traced = symbolic_trace(copy.deepcopy(model))
    assert [node.target for node in traced.graph.nodes if node.op == "call_module"] == ["0", "1"]
    for mode in (True, False):
        torch.testing.assert_close(traced.train(mode)(x), model.train(mode)(x), rtol=0, atol=0)
    for name, value in model.state_dict().items():
        assert torch.equal(traced.state_dict()[name], value), name
    torch.testing.assert_close(fused(model)(x), model(x), rtol=0, atol=0)


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        y: Tensor = self.norm(x, None, lengths)
        return y


def test_arguments_besides_the_batch_go_into_the_graph() -> None:
    model, x, lengths = Masked().double(), sample((3, 4, 5)), torch.tensor([5, 2, 3])
    torch.testing.assert_close(symbolic_trace(model)(x, lengths), model(x, lengths), rtol=0, atol=0)


class Outputs(nn.Module):
    """The first of what a recurrent layer returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(x)[0]
        return outputs


@pytest.mark.parametrize("layer", [BatchNormLSTM(4, 2), BatchNormGRU(4, 2), StepBatchNorm(4), SequenceBatchNorm(4)])
def test_recurrent_layers_are_one_node_too(layer: nn.Module) -> None:
    model, x = Outputs(layer.double()), sample((3, 5, 4))
    torch.testing.assert_close(symbolic_trace(model)(x), model(x), rtol=0, atol=0)


def test_frozen_adapted_and_converted_layers_are_too() -> None:
    x = sample((5, 4, 3, 3))
    for arranged in (freeze, prediction_time, lambda model: convert(model, {"kind": "batch_renorm"})):
        model = nn.Sequential(nn.InstanceNorm2d(4), BatchNorm(4), nn.LayerNorm(3)).double().eval()
        convert(model, {"kind": "group_norm", "num_groups": 1}, where=lambda name, _: name != "1")
        arranged(model)
        torch.testing.assert_close(symbolic_trace(model)(x), model(x), rtol=0, atol=0)


def test_a_layer_that_is_the_model_says_that_it_is_one_node() -> None:
    with pytest.raises(ValueError, match="trace a model that holds it"):
        symbolic_trace(BatchNorm(4))
