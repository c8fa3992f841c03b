"""Conversion: every normalization into every other, with all that a module is besides its formula."""

import copy
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm import convert, freeze, recalibrate
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.build import build_norm
from bncore.norm.group_norm import GroupNorm
from bncore.norm.model.overlay import own_class
from bncore.spec.catalog import members
from bncore.spec.norm import NormSpec

KINDS = [member() for member in members(NormSpec) if build_norm(member(), 64, device="meta") is not None]
TORCH: list[nn.Module] = [
    *(nn.BatchNorm2d(32), nn.SyncBatchNorm(32), nn.GroupNorm(4, 32), nn.InstanceNorm2d(32, affine=True)),
    *(nn.BatchNorm2d(32, affine=False), nn.InstanceNorm2d(32), nn.BatchNorm2d(32, track_running_stats=False)),
]
FAMILY = ["batch_norm", "batch_renorm", "ghost_batch_norm", "sync_batch_norm", "noisy_batch_norm", "lp_batch_norm"]
FAMILY += ["l1_batch_norm", "domain_batch_norm", "masked_batch_norm", "cross_iteration_batch_norm"]


def moved(layer: nn.Module, seed: int = 5) -> nn.Module:
    """The layer in double precision, no parameter or statistic at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    layer.double()
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        else:
            tensor.fill_(7)
    return layer


def images(channels: int = 32, count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, channels, 3, 3, generator=generator, dtype=torch.float64) * 2 + 1


def equal_state(first: nn.Module, second: nn.Module) -> None:
    mine, theirs = first.state_dict(), second.state_dict()
    assert list(mine) == list(theirs)
    for name, value in mine.items():
        assert torch.equal(value, theirs[name]), name


class Block(nn.Module):
    """Norms in a list, in a dict, inside a block, and one in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(8)
        self.last = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(8))
        self.listed = nn.ModuleList([nn.BatchNorm2d(8), nn.Identity(), self.first])
        self.named = nn.ModuleDict({"norm": nn.BatchNorm2d(8), "other": nn.Tanh()})

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.last, *self.listed, self.named["norm"]):
            x = layer(x)
        return x


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.kind)
def test_every_layer_of_torch_becomes_any_other_and_that_one_any_layer_again(spec: Any) -> None:
    for layer in TORCH:
        model = nn.Sequential(nn.Conv2d(32, 32, 1), moved(copy.deepcopy(layer))).double()
        convert(model, spec)
        expected = build_norm(spec.model_copy(update={"affine": layer.affine}), 32)
        assert own_class(model[1]) is type(expected)
        assert {tensor.dtype for tensor in model.state_dict().values()} <= {torch.float64, torch.int64}
        model.eval()(images())
        made = model[1]
        assert convert(model, spec)[1] is made
        convert(convert(model, {"kind": "batch_norm"}), spec)
        assert own_class(model[1]) is type(expected)
        assert model(images()).isfinite().all()


def test_names_order_and_shared_modules_stay() -> None:
    model = Block()
    names, keys = [name for name, _ in model.named_modules()], list(model.state_dict())
    assert convert(model, {"kind": "batch_renorm"}) is model
    assert [name for name, _ in model.named_modules()] == names
    assert list(model.state_dict()) == keys
    assert model.listed[2] is model.first
    assert sum(isinstance(module, BatchRenorm) for module in model.modules()) == 4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("kind", FAMILY)
def test_within_the_batch_norm_family_evaluation_stays_and_the_way_back_restores_every_bit(kind: str) -> None:
    plain = moved(BatchNorm(32, eps=1e-3, momentum=0.03)).eval()
    before, numbers = copy.deepcopy(plain), plain(images())
    memory = {name: tensor.data_ptr() for name, tensor in plain.state_dict().items()}
    new = convert(plain, {"kind": kind})
    assert kind == "batch_norm" or type(new) is not BatchNorm
    assert not new.training
    assert torch.equal(new(images()), numbers)
    back = convert(new, {"kind": "batch_norm"})
    equal_state(back, before)
    assert {name: tensor.data_ptr() for name, tensor in back.state_dict().items()} == memory
    assert (back.eps, back.momentum, back.num_batches_tracked) == (1e-3, 0.03, 7)


def test_what_the_spec_names_counts_for_more_than_what_the_layer_has() -> None:
    new = convert(nn.BatchNorm1d(4, eps=1e-3), {"kind": "batch_renorm", "momentum": 0.01, "affine": False})
    assert (new.eps, new.momentum, new.weight) == (1e-3, 0.01, None)


def test_frozen_batch_norm_takes_the_numbers_of_the_parameters_and_gives_them_back() -> None:
    plain = moved(nn.BatchNorm2d(32, eps=1e-3)).eval()
    before, numbers = copy.deepcopy(plain), plain(images())
    frozen = convert(plain, {"kind": "frozen_batch_norm"})
    assert list(frozen.parameters()) == []
    torch.testing.assert_close(frozen.train()(images()), numbers, rtol=1e-12, atol=1e-12)
    back = convert(frozen, {"kind": "batch_norm"})
    assert all(parameter.requires_grad for parameter in back.parameters())
    equal_state(back, before)


def test_an_optimizer_still_holds_the_parameters() -> None:
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model[1].bias.requires_grad_(False)
    kept = list(model.parameters())
    convert(model, {"kind": "group_norm", "num_groups": 8})
    assert all(one is other for one, other in zip(model.parameters(), kept, strict=True))
    assert [parameter.requires_grad for parameter in model[1].parameters()] == [True, False]
    before = model[1].weight.detach().clone()
    model(torch.randn(2, 3, 4, 4)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight, before)


def test_a_parameter_that_was_not_there_starts_fresh_and_asks_for_gradients_as_the_others_did() -> None:
    rms = build_norm({member().kind: member() for member in members(NormSpec)}["rms_norm"], 4)
    assert rms is not None
    rms.weight.requires_grad_(False)
    new = convert(rms, {"kind": "batch_norm"})
    assert new.weight is rms.weight
    assert torch.equal(new.bias, torch.zeros(4))
    assert not new.bias.requires_grad


def test_the_scale_of_global_response_norm_is_no_scale_of_others() -> None:
    grn = convert(moved(nn.BatchNorm2d(8)), {"kind": "global_response_norm"})
    assert torch.equal(grn.weight, torch.zeros(8, dtype=torch.float64))
    assert torch.equal(convert(grn, {"kind": "batch_norm"}).weight, torch.ones(8, dtype=torch.float64))


def test_hooks_fire_and_their_handles_remove_them() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8))
    seen: list[str] = []
    handles = [
        model[0].register_forward_pre_hook(lambda *_: seen.append("pre")),
        model[0].register_forward_hook(lambda layer, args, kwargs, y: seen.append("post"), with_kwargs=True),
        model[0].register_full_backward_hook(lambda *_: seen.append("backward")),
        model[0].register_state_dict_post_hook(lambda *_: seen.append("state_dict")),
        model[0].register_load_state_dict_pre_hook(lambda layer, *_: seen.append(type(layer).__name__)),
    ]
    convert(model, {"kind": "batch_renorm"})
    x = torch.randn(2, 8, 3, 3, requires_grad=True)
    model(x).sum().backward()
    model.load_state_dict(model.state_dict())
    assert seen == ["pre", "post", "backward", "state_dict", "BatchRenorm"]
    for handle in handles:
        handle.remove()
    model(x).sum().backward()
    model.load_state_dict(model.state_dict())
    assert len(seen) == 5


def test_device_type_and_mode_are_kept_and_a_layer_without_numbers_takes_those_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4, elementwise_affine=False))
    model.to("meta", torch.bfloat16)
    model[1].eval()
    convert(model, {"kind": "batch_renorm"})
    assert [layer.training for layer in model] == [True, False, True]
    assert all(buffer.is_meta for buffer in model.buffers())
    assert {buffer.dtype for buffer in model.buffers()} == {torch.bfloat16, torch.int64}


def test_converting_again_changes_nothing() -> None:
    model = convert(Block(), {"kind": "batch_renorm", "r_max": 2.0})
    layers = list(model.modules())
    convert(model, {"kind": "batch_renorm", "r_max": 2.0})
    assert all(one is other for one, other in zip(model.modules(), layers, strict=True))
    convert(model, {"kind": "batch_renorm", "r_max": 4.0})
    assert model.first is not layers[1]
    assert model.first.weight is layers[1].weight


def test_where_and_copy_leave_the_rest_alone() -> None:
    model = Block()
    asked: list[str] = []

    def where(name: str, layer: nn.Module) -> bool:
        asked.append(name)
        return name.startswith("l")

    new = convert(model, {"kind": "batch_renorm"}, where=where, copy=True)
    assert asked == ["first", "last.1", "listed.0", "named.norm"]
    assert not any(isinstance(module, BatchRenorm) for module in model.modules())
    assert [name for name, layer in new.named_modules() if isinstance(layer, BatchRenorm)] == ["last.1", "listed.0"]
    assert new.first.weight is not model.first.weight


def test_none_removes_the_layers() -> None:
    model = convert(Block(), {"kind": "none"})
    assert list(model.state_dict()) == []
    assert torch.equal(model(torch.ones(2, 8, 3, 3)), torch.ones(2, 8, 3, 3))
    assert isinstance(convert(nn.BatchNorm2d(3), {"kind": "none"}), nn.Identity)


def test_without_running_statistics_batch_norm_stays_without() -> None:
    new = convert(nn.BatchNorm2d(8, track_running_stats=False), {"kind": "batch_norm"}).eval()
    assert list(new.state_dict()) == ["weight", "bias"]
    torch.testing.assert_close(new(images(8).float()), nn.BatchNorm2d(8)(images(8).float()))


@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8), (2, 3, 4, 8)], ids=str)
@pytest.mark.parametrize("layer", [nn.LayerNorm(8, eps=0.1), nn.RMSNorm(8, eps=0.1), nn.RMSNorm(8)], ids=str)
def test_channels_on_the_last_axis_stay_there(layer: nn.Module, shape: tuple[int, ...]) -> None:
    old = moved(copy.deepcopy(layer))
    x = torch.randn(shape, dtype=torch.float64) * 1e-6
    same = convert(old, {"kind": "layer_norm" if isinstance(layer, nn.LayerNorm) else "rms_norm"}, copy=True)
    torch.testing.assert_close(same(x), old(x), rtol=1e-12, atol=1e-12)
    tanh = convert(same, {"kind": "dynamic_tanh", "alpha": 0.5}, copy=True)
    shift = old.bias if isinstance(layer, nn.LayerNorm) else 0.0
    torch.testing.assert_close(tanh(x), torch.tanh(0.5 * x) * old.weight + shift)
    by_batch = convert(tanh, {"kind": "batch_norm"})
    expected = nn.functional.batch_norm(x.reshape(-1, 8), None, None, old.weight, by_batch.bias, True)
    for twin in (by_batch, copy.deepcopy(by_batch), pickle.loads(pickle.dumps(by_batch))):
        torch.testing.assert_close(twin(x), expected.view(shape))
        assert isinstance(twin, BatchNorm)
    assert list(by_batch.state_dict()) == list(BatchNorm(8).state_dict())


def test_statistics_of_domains_start_from_those_of_the_batch_norm_and_return_as_the_chosen_ones() -> None:
    plain = moved(BatchNorm(8))
    before = copy.deepcopy(plain)
    domains = convert(plain, {"kind": "domain_batch_norm", "num_domains": 3})
    domains.domain = 2
    equal_state(convert(domains, {"kind": "batch_norm"}, copy=True), before)
    domains.running_mean.zero_()
    assert torch.equal(convert(domains, {"kind": "batch_norm"}).running_mean, torch.zeros(8, dtype=torch.float64))


def test_a_parametrization_goes_along() -> None:
    class Positive(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight.abs()

    model = nn.Sequential(nn.BatchNorm2d(8))
    parametrize.register_parametrization(model[0], "weight", Positive())
    original = model[0].parametrizations.weight.original
    convert(model, {"kind": "batch_renorm"})
    assert isinstance(model[0], BatchRenorm)
    assert model[0].parametrizations.weight.original is original
    original.data.fill_(-2.0)
    assert torch.equal(model[0].weight, torch.full((8,), 2.0))
    with pytest.raises(ValueError, match="0 cannot become frozen_batch_norm: its weight is parametrized"):
        convert(model, {"kind": "frozen_batch_norm"})


def test_noise_differs_from_layer_to_layer() -> None:
    model = convert(nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4)), {"kind": "noisy_batch_norm"})
    assert model[0].seed != model[1].seed


def test_cross_iteration_batch_norm_follows_the_layer_in_front_and_lets_go_of_it() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.BatchNorm1d(8))
    convert(model, {"kind": "cross_iteration_batch_norm"})
    assert "window_weight" in model[1].state_dict()
    assert "window_weight" not in model[3].state_dict()
    for _ in range(2):
        model(torch.randn(6, 4))
    window = model[1].window_weight.clone()
    convert(model, {"kind": "cross_iteration_batch_norm"})
    assert torch.equal(model[1].window_weight, window)
    convert(model, {"kind": "batch_norm"})
    assert not model[0]._forward_pre_hooks
    model(torch.randn(6, 4))


class Activated(nn.BatchNorm2d):
    """As other libraries have them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


BY_BATCH = {"kind": "batch_norm"}
REFUSALS = [
    (nn.BatchNorm2d(8), {"kind": "group_norm", "num_groups": 3}, r"last\.0 cannot become group_norm: 3 groups do not"),
    (Activated(8), BY_BATCH, r"last\.0: Activated changes what"),
    (nn.LazyBatchNorm2d(), BY_BATCH, r"last\.0 is lazy"),
    (freeze(nn.BatchNorm2d(8)), BY_BATCH, r"last\.0 is frozen"),
    (nn.LayerNorm((8, 2)), BY_BATCH, r"last\.0 .*\(8, 2\)"),
    (nn.LayerNorm(8), {"kind": "instance_norm"}, r"last\.0 .*one position"),
    (nn.LayerNorm(2), {"kind": "group_norm", "num_groups": 2}, r"last\.0 .*single value"),
    (nn.BatchNorm2d(8), {"kind": "batch_norms"}, "did you mean batch_norm"),
    (nn.BatchNorm2d(8), {"kind": "weight_norm"}, "weights"),
]


@pytest.mark.parametrize(("layer", "spec", "reason"), REFUSALS)
def test_where_one_layer_cannot_be_converted_none_is(layer: nn.Module, spec: dict[str, Any], reason: str) -> None:
    model = nn.Sequential()
    model.add_module("first", nn.BatchNorm2d(6))
    model.add_module("last", nn.Sequential(layer))
    model.first.register_forward_hook(lambda *_: None)
    before, hooks = list(model.modules()), model.first._forward_hooks
    with pytest.raises(ValueError, match=reason):
        convert(model, spec)
    assert all(one is other for one, other in zip(model.modules(), before, strict=True))
    assert model.first._forward_hooks is hooks
    assert len(hooks) == 1


@dataclass
class Counting:
    """Equal by value, as a data class is, and so without a hash."""

    calls: int = 0

    def see(self, _module: nn.Module, _inputs: tuple[Tensor, ...]) -> None:
        self.calls += 1


def test_hooks_may_be_methods_of_objects_without_a_hash() -> None:
    model, counting = nn.Sequential(nn.BatchNorm2d(32)), Counting()
    for module in model.modules():
        module.register_forward_pre_hook(counting.see)
    convert(model, {"kind": "instance_norm"})(images().float())
    assert counting.calls == 2


def test_a_spec_may_be_a_dict_for_a_single_layer_too() -> None:
    layer = build_norm({"kind": "group_norm", "num_groups": 4}, 32)
    assert isinstance(layer, GroupNorm)
    assert layer.num_groups == 4
    with pytest.raises(ValueError, match="did you mean batch_norm"):
        build_norm({"kind": "batchnorm"}, 32)


RANKED = {nn.InstanceNorm1d: (4, 4), nn.InstanceNorm2d: (4, 4, 7), nn.InstanceNorm3d: (4, 4, 3, 2)}


@pytest.mark.parametrize("kind", RANKED, ids=lambda kind: kind.__name__)
def test_what_replaces_an_instance_norm_takes_one_example_for_one(kind: type[nn.Module]) -> None:
    old, example = kind(4, affine=True).double(), torch.randn(RANKED[kind], dtype=torch.float64)
    new = pickle.loads(pickle.dumps(convert(old, {"kind": "instance_norm"}, copy=True)))
    for x in (example, torch.stack([example, example + 1])):
        torch.testing.assert_close(new(x), old(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="expected"):
        new(torch.zeros(2, 4, *example.shape[1:], 3))
    groups = convert(new, {"kind": "group_norm", "num_groups": 2})
    torch.testing.assert_close(groups(example), nn.GroupNorm(2, 4).double()(example[None])[0], rtol=1e-12, atol=1e-12)
    batch = convert(groups, {"kind": "batch_norm"})
    batch(example)
    torch.testing.assert_close(batch.running_mean, 0.1 * example.flatten(1).mean(1), rtol=1e-12, atol=1e-12)
    recalibrate(batch, [example, example + 1])
    torch.testing.assert_close(batch.running_mean, example.flatten(1).mean(1) + 0.5, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["batch_norm", "sync_batch_norm", "batch_renorm", "layer_norm", "none"])
def test_pytorch_43592_what_others_hung_on_a_layer_goes_along(kind: str) -> None:
    old = BatchRenorm(8, r_max=3.0)
    old.qconfig, old.keep_in_float32, old.affine_part, old._private = "as prepared", True, torch.ones(2), 1
    new = convert(nn.Sequential(old), {"kind": kind})[0]
    assert (new.qconfig, new.keep_in_float32, new.affine_part) == ("as prepared", True, old.affine_part)
    assert kind == "batch_renorm" or not {"r_max", "d_max", "_private"} & set(vars(new))
    assert (new is old) is (kind == "batch_renorm")


def test_a_layer_that_is_as_asked_stays_with_what_others_hung_on_it() -> None:
    layer = BatchNorm(8)
    layer.qconfig = "as prepared"
    assert convert(nn.Sequential(layer), {"kind": "batch_norm"})[0] is layer


def test_a_forward_pass_that_was_replaced_on_the_object_is_not_dropped() -> None:
    layer = nn.BatchNorm2d(8)
    layer.forward = torch.relu
    with pytest.raises(ValueError, match=r"^0: its forward pass"):
        convert(nn.Sequential(layer), {"kind": "batch_norm"})
