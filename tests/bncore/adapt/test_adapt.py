"""Test-time adaptation: its numbers against their definitions, and its end without a trace."""

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bncore.adapt import Adaptation, Tent, adabn, prediction_time, tent
from bncore.norm import convert, freeze
from bncore.norm.batch_norm import BatchNorm
from bncore.norm.batch_renorm import BatchRenorm
from bncore.norm.masked_batch_norm import MaskedBatchNorm
from bncore.norm.noisy_batch_norm import NoisyBatchNorm
from bncore.norm.sync_batch_norm import SyncBatchNorm

LAYERS: list[tuple[Callable[[int], nn.Module], tuple[int, ...]]] = [
    *((nn.BatchNorm1d, (6, 4)), (nn.BatchNorm1d, (6, 4, 3)), (nn.BatchNorm2d, (6, 4, 3, 2))),
    *((nn.BatchNorm3d, (6, 4, 2, 2, 2)), (nn.SyncBatchNorm, (6, 4, 3, 2)), (BatchNorm, (6, 4, 3, 2))),
    *((BatchRenorm, (6, 4, 3)), (SyncBatchNorm, (6, 4)), (NoisyBatchNorm, (6, 4, 3)), (MaskedBatchNorm, (6, 4))),
]


def moved(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(5)
    for tensor in (*layer.parameters(), *layer.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return layer.double()


def values(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2 + 1


def network() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 1), BatchRenorm(5)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )
    return moved(model).eval()


def images(count: int = 8, seed: int = 1) -> Tensor:
    return values(count, 3, 6, 6, seed=seed)


class Everything:
    """All that an adaptation must leave as it was, by identity and by value."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = self._now(), {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def is_unchanged(self) -> bool:
        state = self.model.state_dict()
        return self._now() == self.before[0] and all(torch.equal(state[name], self.before[1][name]) for name in state)

    def _now(self) -> list[Any]:
        modules = [
            (id(m), type(m), m.training, sorted(vars(m)), len(m._forward_pre_hooks)) for m in self.model.modules()
        ]
        memory = [(name, tensor.data_ptr()) for name, tensor in self.model.state_dict().items()]
        return [
            modules,
            memory,
            [(p.requires_grad, None if p.grad is None else id(p.grad)) for p in self.model.parameters()],
        ]


ADAPTATIONS: list[Callable[[nn.Module], Adaptation]] = [
    lambda model: adabn(model, [images(5), images(3)]),
    lambda model: adabn(model, iter([images(5), images(3)]), sequential=False),
    lambda model: prediction_time(model, 0.3),
    prediction_time,
    tent,
]


@pytest.mark.parametrize("adapt", ADAPTATIONS, ids=["adabn", "adabn, one pass", "blend", "batch", "tent"])
@pytest.mark.parametrize("training", [False, True])
def test_a_reset_leaves_no_trace(adapt: Callable[[nn.Module], Adaptation], training: bool) -> None:
    model, x = network(), images()
    model[1].train(training)
    model[8].bias.requires_grad_(False)
    model(x).sum().backward()
    everything, before = Everything(model), copy.deepcopy(model)
    adaptation = adapt(model)
    for seed in (1, 2):
        adaptation(images(seed=seed)) if callable(adaptation) else None
    assert not everything.is_unchanged()
    assert not torch.equal(model(x), copy.deepcopy(before).eval()(x))
    adaptation.reset()
    if training and not isinstance(adaptation, Tent):
        # In training mode the layer goes on averaging by itself, which is not the adaptation's to undo.
        model[1].load_state_dict(before[1].state_dict())
    assert everything.is_unchanged()
    assert torch.equal(model.eval()(x), before.eval()(x))
    model[1].running_mean.add_(1.0)
    everything = Everything(model)
    adaptation.reset()
    assert everything.is_unchanged()


@pytest.mark.parametrize("adapt", ADAPTATIONS, ids=["adabn", "adabn, one pass", "blend", "batch", "tent"])
def test_a_with_block_ends_with_a_reset_even_by_an_exception(adapt: Callable[[nn.Module], Adaptation]) -> None:
    model = network()
    everything = Everything(model)
    with suppress(RuntimeError), adapt(model) as adaptation:
        assert isinstance(adaptation, Adaptation)
        assert not everything.is_unchanged()
        raise RuntimeError
    assert everything.is_unchanged()


@pytest.mark.parametrize(("make", "shape"), LAYERS)
def test_alpha_1_is_training_mode_and_alpha_0_evaluation_bit_for_bit(
    make: Callable[[int], nn.Module], shape: tuple[int, ...]
) -> None:
    for dtype in (torch.float32, torch.float64):
        layer, x = moved(make(4)).to(dtype).eval(), values(*shape).to(dtype)
        plain = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[len(shape)](4).to(dtype)
        plain.load_state_dict(layer.state_dict())
        with prediction_time(layer, 1.0):
            assert torch.equal(layer(x), plain(x))
        plain.load_state_dict(layer.state_dict())
        with prediction_time(layer, 0.0):
            assert torch.equal(layer(x), plain.eval()(x))


@pytest.mark.parametrize(("make", "shape"), LAYERS)
@pytest.mark.parametrize("gradients", [True, False])
def test_a_blend_has_the_biased_variance_of_the_batch_and_is_differentiated_through_it(
    make: Callable[[int], nn.Module], shape: tuple[int, ...], gradients: bool
) -> None:
    layer, x = moved(make(4)).eval(), values(*shape).requires_grad_(gradients)
    along = (1, -1, *(1,) * (len(shape) - 2))
    axes = tuple(axis for axis in range(len(shape)) if axis != 1)
    mean = 0.7 * layer.running_mean + 0.3 * x.mean(axes)
    var = 0.7 * layer.running_var + 0.3 * x.var(axes, correction=0)
    expected = (x - mean.view(along)) / (var.view(along) + layer.eps).sqrt() * layer.weight.view(along)
    expected = expected + layer.bias.view(along)
    with prediction_time(layer, 0.3):
        actual = layer(x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    if gradients:
        wanted = torch.autograd.grad(expected.sin().sum(), x)[0]
        torch.testing.assert_close(torch.autograd.grad(actual.sin().sum(), x)[0], wanted, rtol=1e-10, atol=1e-10)


OTHERS = ["lp_batch_norm", "l1_batch_norm", "decorrelated_batch_norm", "iter_norm", "batch_instance_norm"]
OTHERS += ["switchable_norm", "evo_norm_b0"]


@pytest.mark.parametrize("kind", OTHERS)
def test_with_other_statistics_alpha_1_is_training_as_well_and_so_is_its_gradient(kind: str) -> None:
    layer = convert(nn.BatchNorm2d(4).double(), {"kind": kind})
    training, x = copy.deepcopy(layer).train(), values(6, 4, 3, 2).requires_grad_()
    wanted = torch.autograd.grad(training(x).sin().sum(), [x, *training.parameters()])
    with prediction_time(layer.eval()):
        torch.testing.assert_close(layer(x), training(x), rtol=1e-9, atol=1e-9)
        actual = torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()])
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_masks_and_last_axes_are_respected() -> None:
    masked, x = moved(MaskedBatchNorm(4)).eval(), values(3, 4, 5)
    lengths = torch.tensor([5, 2, 1])
    expected = copy.deepcopy(masked).train()(x, lengths=lengths)
    with prediction_time(masked):
        torch.testing.assert_close(masked(x, lengths=lengths), expected, rtol=1e-12, atol=1e-12)
    tokens = convert(nn.LayerNorm(4).double(), {"kind": "batch_norm"}).eval()
    with prediction_time(tokens):
        y = tokens(x.transpose(1, 2))
    torch.testing.assert_close(y, nn.BatchNorm1d(4).double()(x).transpose(1, 2), rtol=1e-12, atol=1e-12)


def test_a_blend_compiles_as_one_graph() -> None:
    model, x = nn.Sequential(moved(nn.BatchNorm1d(4)), moved(BatchRenorm(4))).eval(), values(6, 4)
    with prediction_time(model, 0.5):
        assert torch.equal(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))


def test_a_batch_given_by_name_is_the_same() -> None:
    layer, x = moved(nn.BatchNorm1d(4)).eval(), values(6, 4).requires_grad_()
    with prediction_time(layer, 0.5):
        assert torch.equal(layer(input=x), layer(x))


class Activated(nn.BatchNorm1d):
    """As other libraries have them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).relu()


class Doubled(BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize(("make", "besides"), [(Activated, torch.relu), (Doubled, lambda y: 2 * y)])
def test_what_a_derived_class_does_besides_it_goes_on_doing(
    make: Callable[[int], nn.Module], besides: Callable[[Tensor], Tensor]
) -> None:
    layer, plain = moved(make(4)).eval(), moved(nn.BatchNorm1d(4)).eval()
    x, before = values(6, 4).requires_grad_(), copy.deepcopy(layer.state_dict())
    for alpha in (1.0, 0.5):
        with prediction_time(layer, alpha), prediction_time(plain, alpha):
            torch.testing.assert_close(layer(x), besides(plain(x)), rtol=1e-12, atol=1e-12)
            if alpha == 1.0:
                actual, wanted = (torch.autograd.grad(y.sin().sum(), x)[0] for y in (layer(x), besides(plain(x))))
                torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert not layer.training


def test_layers_in_training_mode_and_layers_that_where_leaves_out_are_as_ever() -> None:
    model, x = nn.Sequential(moved(nn.BatchNorm1d(4)), moved(nn.BatchNorm1d(4)).eval()), values(6, 4)
    twin = copy.deepcopy(model)
    with prediction_time(model, where=lambda name, _: name == "0"):
        assert torch.equal(model(x), twin(x))
    assert model[0].num_batches_tracked == twin[0].num_batches_tracked


def test_what_cannot_be_adapted_is_refused_and_stays() -> None:
    model = network()
    everything = Everything(model)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            prediction_time(model, alpha)
    with pytest.raises(ValueError, match="no batch norm layer of the model has a scale"):
        tent(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False)))
    with prediction_time(model), pytest.raises(ValueError, match="1 is being adapted already"):
        tent(model)
    with pytest.raises(ValueError, match="not finite"):
        adabn(model, [images() * float("nan")])
    assert everything.is_unchanged()


def test_adabn_takes_the_moments_of_the_whole_target_set_whatever_the_order_and_the_batches() -> None:
    # By forward passes in training mode, the last batches would count most.
    data = torch.cat([images(5), images(7, seed=2) * 3 - 2])
    model = network()
    with adabn(model, [data]):
        for index in (1, 5):
            seen = model[:index](data).transpose(0, 1).flatten(1)
            torch.testing.assert_close(model[index].running_mean, seen.mean(1), rtol=1e-10, atol=1e-10)
        expected = model(data)
    with adabn(model, list(data.flip(0).split(5))):
        torch.testing.assert_close(model(data), expected, rtol=1e-9, atol=1e-9)


def tent_by_hand(model: nn.Module, batches: list[Tensor], lr: float) -> tuple[list[Tensor], nn.Module]:
    """The authors' procedure on plain torch layers, but with dropout off."""
    twin = convert(model, {"kind": "batch_norm", "momentum": 0.1}, copy=True).train()
    twin[3].eval()
    scales = [parameter for index in (1, 5) for parameter in twin[index].parameters()]
    outputs = []
    for x in batches:
        logits = twin(x)
        outputs.append(logits.detach())
        shares = logits.softmax(1)
        loss = -(shares * shares.log()).sum(1).mean()
        with torch.no_grad():
            for parameter, gradient in zip(scales, torch.autograd.grad(loss, scales), strict=True):
                parameter.sub_(lr * gradient)
    return outputs, twin


def test_tent_takes_a_step_down_the_entropy_for_each_batch_and_keeps_dropout_off() -> None:
    model, data = network().train(), [images(), images(seed=2), images(seed=3)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected, twin = tent_by_hand(model, data, lr=0.5)
    adapted = tent(model, lambda parameters: torch.optim.SGD(parameters, lr=0.5))
    for x, logits in zip(data, expected, strict=True):
        torch.testing.assert_close(adapted(x), logits, rtol=1e-9, atol=1e-9)
    for name, value in model.state_dict().items():
        if name in ("1.weight", "1.bias", "5.weight", "5.bias"):
            torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-9, atol=1e-9)
        else:
            assert torch.equal(value, before[name]), name
    adapted.reset()
    assert model.training


def test_after_a_reset_tent_gives_the_same_numbers_once_more_optimizer_included() -> None:
    model, data = network(), [images(), images(seed=2)]
    adapted = tent(model, lambda parameters: torch.optim.Adam(parameters, lr=0.1))
    first = [adapted((x, None)) for x in data]
    assert adapted.optimizer.state
    for _ in range(2):
        adapted.reset()
        assert not adapted.optimizer.state
        assert all(torch.equal(adapted(x), logits) for x, logits in zip(data, first, strict=True))


def test_an_optimizer_that_begins_with_state_begins_with_it_after_each_reset() -> None:
    def warm(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.ones_like(parameter)
        return optimizer

    adapted, data = tent(network(), warm), [images(), images(seed=2)]
    first = [adapted(x) for x in data]
    for _ in range(2):
        adapted.reset()
        assert all(torch.equal(adapted(x), logits) for x, logits in zip(data, first, strict=True))


def test_tent_works_under_no_grad_leaves_gradients_alone_and_reduces_the_entropy() -> None:
    model, x = freeze(network()), images()
    model[1].weight.grad = torch.ones_like(model[1].weight)
    everything = Everything(model)
    adapted = tent(
        model, lambda parameters: torch.optim.SGD(parameters, lr=0.3), forward=lambda m, batch: m(batch["x"])
    )
    with torch.no_grad():
        entropies = [torch.distributions.Categorical(logits=adapted({"x": x})).entropy().mean() for _ in range(10)]
    assert entropies[-1] < entropies[0]
    assert [p.requires_grad for p in model.parameters()] == [n[0] not in "15" for n, _ in model.named_parameters()]
    assert torch.equal(model[1].weight.grad, torch.ones_like(model[1].weight))
    adapted.reset()
    assert everything.is_unchanged()


def test_statistics_come_back_to_a_model_that_was_moved_meanwhile() -> None:
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adaptation = adabn(model, [images()])
    # There and back, as between devices: the buffers are other tensors then.
    model.float().double()
    adaptation.reset()
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def test_a_step_that_fails_leaves_gradients_alone() -> None:
    model = network()
    # It wants a closure.
    adapted = tent(model, torch.optim.LBFGS)
    with pytest.raises(TypeError, match="closure"):
        adapted(images())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tent_works_in_inference_mode_and_goes_on_outside_of_it() -> None:
    inside, outside = tent(network()), tent(network())
    with torch.inference_mode():
        inside(images())
    outside(images())
    assert torch.equal(inside(images(seed=2)), outside(images(seed=2)))


def test_pytorch_40553_a_class_that_is_out_of_the_question_adds_no_entropy() -> None:
    first, second = network(), network()
    x, makes = images(), lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    closed = torch.tensor([False, False, True])
    tent(first, makes, forward=lambda model, batch: model(batch).masked_fill(closed, -torch.inf))(x)
    tent(second, makes, forward=lambda model, batch: model(batch)[:, :2])(x)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-13, atol=1e-13)


def test_trl_7221_half_precision_logits_that_lie_far_apart_are_sure() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    tent(model, forward=lambda model, batch: (model(batch) * 0 + 6e4 * torch.tensor([1.0, -1.0, -1.0])).half())(
        images()
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
