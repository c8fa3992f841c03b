"""The way back to torch's own layers: equal in evaluation, or refused; and what only torch's layers are taken by."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

from bncore.norm import (
    BatchNorm,
    BatchRenorm,
    DomainBatchNorm,
    GhostBatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    convert,
    freeze,
    to_torch,
)
from tests.bncore.norm.test_convert import KINDS, moved

PLAIN = {"batch_norm", "batch_renorm", "ghost_batch_norm", "sync_batch_norm", "noisy_batch_norm", "lp_batch_norm"}
PLAIN |= {"l1_batch_norm", "domain_batch_norm", "cross_iteration_batch_norm", "frozen_batch_norm"}
BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
OTHERS = {"instance_norm": nn.InstanceNorm2d, "group_norm": nn.GroupNorm, "layer_norm": nn.GroupNorm}


def images(channels: int = 3, rank: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(5, channels, *(6, 5, 3)[: rank - 2], generator=generator, dtype=torch.float64) * 2 + 1


def network(kind: str) -> nn.Sequential:
    """Converted from torch's layers, and trained for a step."""
    torch.manual_seed(2)
    layers = nn.Conv2d(3, 32, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32, affine=False)
    model = convert(nn.Sequential(*layers).double(), {"kind": kind})
    for layer in (model[1], model[4]):
        moved(layer)
    return model.eval()


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_a_model_evaluates_as_before_or_is_refused_as_a_whole(spec: Any) -> None:
    model, x = network(spec.kind), images()
    before, classes = copy.deepcopy(model), [type(layer) for layer in model]
    if spec.kind not in PLAIN | OTHERS.keys():
        with pytest.raises(ValueError, match=r"1, a \w+, has no like in torch"):
            to_torch(model, x)
        assert [type(layer) for layer in model] == classes
        return
    expected = model(x)
    memory = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert to_torch(model) is model
    for layer in (model[1], model[4]):
        assert type(layer) is OTHERS.get(spec.kind, nn.BatchNorm2d)
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(symbolic_trace(model)(x), expected, rtol=1e-12, atol=1e-12)
    if spec.kind != "frozen_batch_norm":
        after = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
        assert all(after[name] == memory[name] for name in after)
    again = convert(model, spec, copy=True)
    torch.testing.assert_close(again(x), before(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", BATCH_NORMS)
def test_the_number_of_axes_is_seen_in_a_batch_where_it_is_not_known(rank: int) -> None:
    model, x = nn.Sequential(nn.Tanh(), moved(BatchRenorm(3)), moved(DomainBatchNorm(3, 2))).eval(), images(3, rank)
    model[2].domain = 1
    expected = model(x)
    with pytest.raises(ValueError, match=r"1, a BatchRenorm, has no like in torch: .* give a batch that reaches it"):
        to_torch(model)
    to_torch(model, [x, None])
    assert type(model[1]) is type(model[2]) is BATCH_NORMS[rank]
    torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)


def test_layers_over_samples_become_those_that_compute_the_same() -> None:
    for layer, kind, x in (
        (InstanceNorm(4), nn.InstanceNorm3d, images(4, 5)),
        (GroupNorm(4, 2), nn.GroupNorm, images(4, 3)),
        (LayerNorm(4), nn.GroupNorm, images(4)),
        (LayerNorm(4), nn.GroupNorm, images(4, 2)),
        (RMSNorm(4), nn.RMSNorm, images(4, 2)),
        (convert(nn.LayerNorm(5), {"kind": "layer_norm"}), nn.LayerNorm, images()),
        (convert(nn.RMSNorm(5), {"kind": "rms_norm"}), nn.RMSNorm, images()),
        (BatchNorm(4, track_running_stats=False), nn.BatchNorm2d, images(4)),
        (BatchNorm(4, affine=False), nn.BatchNorm2d, images(4)),
    ):
        expected = moved(layer).eval()(x)
        new = to_torch(layer, x)
        assert type(new) is kind
        torch.testing.assert_close(new(x), expected, rtol=1e-12, atol=1e-12)


def test_what_torch_computes_otherwise_or_cannot_be_told_is_refused() -> None:
    x = images(4)
    for layer, reason in (
        (RMSNorm(4), "another formula"),
        (GhostBatchNorm(4, 2, track_running_stats=False), "another formula"),
        (convert(nn.LayerNorm(5), {"kind": "batch_norm"}), "the last axis"),
        (convert(nn.InstanceNorm2d(4), {"kind": "group_norm", "num_groups": 2}), "single examples"),
        (freeze(BatchNorm(4)), "frozen"),
    ):
        with pytest.raises(ValueError, match=reason):
            to_torch(layer.double(), None if reason == "single examples" else x)
    layer = convert(nn.InstanceNorm2d(4), {"kind": "group_norm", "num_groups": 2}).double()
    torch.testing.assert_close(to_torch(layer, x, copy=True)(x), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore:torch.ao.quantization:DeprecationWarning")
@pytest.mark.parametrize("kind", ["batch_renorm", "frozen_batch_norm"])
def test_convolutions_take_it_in(kind: str) -> None:
    from torch.ao.quantization import fuse_modules
    from torch.fx.experimental.optimization import fuse

    model, x = network(kind), images()
    expected = model(x)
    to_torch(model)
    fused = fuse(model)
    assert not any("BatchNorm" in type(layer).__name__ for layer in fused.modules())
    torch.testing.assert_close(fused(x), expected, rtol=1e-10, atol=1e-10)
    eager = fuse_modules(model, [["0", "1"], ["3", "4"]])
    torch.testing.assert_close(eager(x), expected, rtol=1e-10, atol=1e-10)


def test_parameters_hooks_modes_and_choice_stay() -> None:
    model, seen = network("batch_renorm").train(), []
    model[1].register_forward_hook(lambda *_: seen.append(1))
    weight = model[1].weight
    model[1].momentum = 0.03
    to_torch(model, where=lambda name, _: name == "1")
    assert model[1].weight is weight
    assert (model[1].training, model[1].momentum, type(model[4])) == (True, 0.03, BatchRenorm)
    model(images())
    assert seen == [1]
    frozen = to_torch(network("frozen_batch_norm"))
    assert not any(parameter.requires_grad for parameter in frozen[1].parameters())
