"""The short way of a plain batch gives torch's bits, refuses what torch refuses, and is left where it is another."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.norm import (
    BatchNorm,
    DomainBatchNorm,
    GhostBatchNorm,
    MaskedBatchNorm,
    SyncBatchNorm,
    valid_positions,
)
from tests.bncore.norm.case import sample

C = 5
KINDS: dict[str, Callable[..., BatchNorm]] = {
    "plain": BatchNorm,
    "sync": SyncBatchNorm,
    "masked": MaskedBatchNorm,
    "ghost": lambda channels, **given: GhostBatchNorm(channels, 16, **given),
    "domain": lambda channels, **given: DomainBatchNorm(channels, 2, **given),
}
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "every second": lambda x: torch.stack((x, x), -1).flatten(-2)[..., ::2],
    "vectors": lambda x: x[:, :, 0, 0],
    "a row": lambda x: x[:1],
}
VECTORS = ("weight", "bias", "running_mean", "running_var")


def shown(layer: nn.Module) -> dict[str, Tensor]:
    """What torch's layer has, of the first domain."""
    state = layer.statistics_of(0) if isinstance(layer, DomainBatchNorm) else layer.state_dict()
    return {name: value.clone() for name, value in state.items()}


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_batch_gives_torchs_bits_and_moves_what_torch_moves(
    kind: str, layout: str, dtype: torch.dtype, affine: bool
) -> None:
    options = {"affine": affine, "dtype": dtype, "momentum": 0.3}
    ours, torchs = KINDS[kind](C, **options), (nn.BatchNorm1d if layout == "vectors" else nn.BatchNorm2d)(C, **options)
    if affine:
        for layer in (ours, torchs):
            nn.init.uniform_(layer.weight, generator=torch.Generator().manual_seed(0))
    for step in range(6):
        x = LAYOUTS[layout](sample((6, C, 3, 4), step).to(dtype))
        ours.train(step % 3 < 2)
        torchs.train(step % 3 < 2)
        found = []
        for layer in (ours, torchs):
            given = x.detach().requires_grad_()
            y = layer(given)
            y.sin().sum().backward()
            found.append((y, given.grad, *(parameter.grad for parameter in layer.parameters())))
            with torch.no_grad():
                found[-1] += (layer(x),)
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
        assert found[0][0].stride() == found[1][0].stride()
        states = shown(ours), shown(torchs)
        assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert ours.train()._train_at_once(x) is not None
    assert ours.eval()._train_at_once(x) is None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_of_another_size_are_refused(kind: str, name: str, training: bool) -> None:
    layer = KINDS[kind](C).train(training)
    # In front of other numbers, where a kernel would read on.
    shorter = torch.ones(2, 2 * C)[:, : C - 1] if kind == "domain" and "running" in name else torch.ones(2 * C)[: C - 1]
    (layer._parameters if name in layer._parameters else layer._buffers)[name] = shorter
    with torch.no_grad(), pytest.raises(RuntimeError, match=str(C)):
        layer(torch.ones(6, C))


@pytest.mark.parametrize("kind", [BatchNorm, SyncBatchNorm, MaskedBatchNorm, GhostBatchNorm, DomainBatchNorm])
def test_a_subclass_with_a_formula_of_its_own_takes_the_long_way(kind: type[BatchNorm]) -> None:
    class Doubled(kind):
        def _normalize_with_batch(self, x: Tensor) -> Tensor:
            return 2.0 * super()._normalize_with_batch(x)

    class Below(Doubled):
        pass

    x = sample((6, C)).float()
    for layer in (Doubled(C), Below(C)):
        assert torch.equal(layer(x), 2.0 * nn.BatchNorm1d(C)(x))


@pytest.mark.parametrize("kind", [SyncBatchNorm, MaskedBatchNorm, GhostBatchNorm, DomainBatchNorm])
def test_a_forward_pass_of_another_class_is_called_before_and_between(kind: type[BatchNorm]) -> None:
    seen: list[int] = []

    class Seen(BatchNorm):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(len(x))
            return super().forward(x) + 1.0

    class Before(Seen, kind):
        pass

    class Between(kind, Seen):
        pass

    x = sample((6, C)).float()
    for layer in (Before(C), Between(C)):
        assert torch.equal(layer(x), nn.BatchNorm1d(C)(x) + 1.0)
    assert seen == [6, 6]


def test_of_two_kinds_at_once_each_is_asked() -> None:
    class Domains(GhostBatchNorm, DomainBatchNorm):
        def __init__(self, channels: int, virtual_batch_size: int) -> None:
            DomainBatchNorm.__init__(self, channels, 2)
            self.virtual_batch_size = virtual_batch_size

    class Together(SyncBatchNorm, MaskedBatchNorm):
        pass

    x, mask = sample((6, C, 4)).float(), sample((6, 4), 1) < 0.5
    for size in (6, 3):
        layer, ghost = Domains(C, size), GhostBatchNorm(C, size)
        layer.domain = 1
        assert torch.equal(layer(x), ghost(x))
        assert torch.equal(layer.running_mean, ghost.running_mean)
        assert not layer.state_dict()["running_mean"][0].any()
    together, masked = Together(C), MaskedBatchNorm(C)
    with valid_positions(nn.ModuleList([together, masked]), mask=mask):
        assert torch.equal(together(x), masked(x))
    assert torch.equal(together.running_mean, masked.running_mean)


@pytest.mark.parametrize("name", ["momentum", "eps"])
def test_what_a_subclass_makes_of_an_attribute_is_seen(name: str) -> None:
    value = {"momentum": 0.5, "eps": 0.25}[name]

    class Fixed(BatchNorm):
        pass

    setattr(Fixed, name, property(lambda self: value, lambda self, _: None))

    class Changed(Fixed):
        pass

    x = sample((6, C)).float()
    layer, plain = Changed(C), nn.BatchNorm1d(C, **{name: value})
    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer.running_mean, plain.running_mean)


@pytest.mark.parametrize("given", [torch.nn.Buffer, lambda value: nn.Parameter(value, requires_grad=False)])
@pytest.mark.parametrize("name", ["momentum", "eps", "num_features"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_number_that_became_a_buffer_or_a_parameter_is_that_number(
    kind: str, name: str, given: Callable[[Tensor], Tensor]
) -> None:
    value = {"momentum": 0.5, "eps": 0.25, "num_features": C}[name]
    layer, plain = KINDS[kind](C), nn.BatchNorm1d(C)
    delattr(layer, name)
    setattr(layer, name, given(torch.tensor(value)))
    setattr(plain, name, value)
    x = sample((6, C)).float()
    assert torch.equal(layer(x), plain(x))
    assert all(torch.equal(shown(layer)[key], moved) for key, moved in plain.state_dict().items())


@pytest.mark.parametrize("kind", [BatchNorm, SyncBatchNorm, MaskedBatchNorm, GhostBatchNorm, DomainBatchNorm])
def test_what_a_subclass_answers_for_an_attribute_is_seen_also_from_a_class_behind(kind: type[BatchNorm]) -> None:
    class Answers(kind):
        def __getattribute__(self, name: str) -> object:
            return 0.25 if name == "eps" else super().__getattribute__(name)

    class Quarter:
        @property
        def eps(self) -> float:
            return vars(self)["eps"] and 0.25

        @eps.setter
        def eps(self, value: float) -> None:
            vars(self)["eps"] = value

    class Behind(kind, Quarter):
        pass

    x = sample((6, C)).float()
    for layer in (Answers(C), Behind(C)):
        assert torch.equal(layer(x), nn.BatchNorm1d(C, 0.25)(x))


def test_a_size_that_changes_and_a_mask_that_is_handed_later_are_seen() -> None:
    x, mask = sample((8, C, 4)).float(), sample((8, 4), 1) < 0.5
    ghost = GhostBatchNorm(C, 8)
    assert torch.equal(ghost(x), nn.BatchNorm1d(C)(x))
    ghost.virtual_batch_size = 4
    assert torch.equal(ghost(x), torch.cat([nn.BatchNorm1d(C)(part) for part in x.split(4)]))
    masked = MaskedBatchNorm(C)
    assert torch.equal(masked(x), nn.BatchNorm1d(C)(x))
    fresh = copy.deepcopy(masked)
    with valid_positions(masked, mask=mask):
        assert torch.equal(masked(x), fresh(x, mask))
    assert torch.equal(masked(x), fresh(x))
    with valid_positions(masked, mask=mask):
        y = checkpoint(masked, x.requires_grad_(), use_reentrant=False)
    with pytest.raises(RuntimeError, match="was not the same when this ran first"):
        y.sum().backward()
