"""Masks for layers inside a model: as if each layer had been called with them, or refused."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bncore.diagnostics import diagnose
from bncore.norm import MaskedBatchNorm, convert, recalibrate, valid_positions
from bncore.recurrent import SequenceBatchNorm
from tests.bncore.norm.case import affine, sample, standardized

LENGTHS = torch.tensor([5, 7, 2, 7])
VALID = torch.arange(7) < LENGTHS.unsqueeze(1)


def transformer() -> nn.Module:
    """A padded encoder (N, L, C) whose layer norms became masked batch norms."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    return convert(nn.TransformerEncoder(layer, 2), {"kind": "masked_batch_norm"}).double()


def on_last_axis() -> nn.Module:
    return convert(nn.Sequential(nn.LayerNorm(4)), {"kind": "masked_batch_norm"}).double()


def state_of(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("said", [{"mask": VALID}, {"lengths": LENGTHS}], ids=["mask", "lengths"])
def test_in_a_padded_transformer_the_content_of_padding_does_not_matter(said: dict[str, Tensor], mode: str) -> None:
    x, found = sample((4, 7, 16)), []
    for padding in (None, 50.0):
        model = transformer().train(mode == "training")
        given = x if padding is None else torch.where(VALID.unsqueeze(-1), x, padding)
        with valid_positions(model, **said):
            y = model(given, src_key_padding_mask=~VALID)
        found.append([y[VALID], *state_of(model)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("said", [{"mask": VALID}, {"lengths": LENGTHS}], ids=["mask", "lengths"])
def test_along_the_last_axis_a_layer_takes_the_mask_of_its_input(said: dict[str, Tensor]) -> None:
    model, x = on_last_axis(), sample((4, 7, 4))
    expected = torch.zeros_like(x)
    expected[VALID] = affine(model[0], standardized(x[VALID], (0,), 1e-5))
    torch.testing.assert_close(copy.deepcopy(model)[0](x, **said), expected, rtol=1e-12, atol=1e-12)
    with valid_positions(model, **said):
        torch.testing.assert_close(model(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model[0].running_mean, 0.1 * x[VALID].mean(0), rtol=1e-12, atol=1e-12)
    # A batch of another rank has a mask of another rank.
    turned = x.view(2, 2, 7, 4)
    with valid_positions(model, mask=VALID.view(2, 2, 7)):
        torch.testing.assert_close(model(turned).view_as(x), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model(x), expected)


@pytest.mark.parametrize("batch_first", [False, True])
def test_sequences_take_it_in_either_order_of_their_axes(batch_first: bool) -> None:
    model = nn.Sequential(SequenceBatchNorm(4, batch_first=batch_first)).double()
    x = sample((4, 7, 4)) if batch_first else sample((7, 4, 4))
    expected = copy.deepcopy(model)[0](x, LENGTHS)
    for said in ({"mask": VALID}, {"lengths": LENGTHS}):
        with valid_positions(model, **said):
            torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first, enforce_sorted=False)
    expected = model[0](packed).data
    with valid_positions(model, lengths=LENGTHS):
        torch.testing.assert_close(model[0](packed).data, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("layer", "shape", "said"),
    [
        (lambda: MaskedBatchNorm(4), (4, 4, 3), {"mask": VALID}),
        (lambda: MaskedBatchNorm(4), (4, 4), {"mask": VALID}),
        (lambda: MaskedBatchNorm(4), (4, 4, 7), {"mask": VALID.double()}),
        (lambda: MaskedBatchNorm(4), (3, 4, 7), {"lengths": LENGTHS}),
        (lambda: MaskedBatchNorm(4), (4, 4, 7), {"lengths": LENGTHS.double()}),
        (on_last_axis, (4, 3, 4), {"mask": VALID}),
        (on_last_axis, (7, 4, 4), {"mask": VALID}),
        (on_last_axis, (3, 7, 4), {"lengths": LENGTHS}),
        (lambda: SequenceBatchNorm(4), (6, 4, 4), {"mask": VALID}),
    ],
)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
def test_what_does_not_fit_is_refused_by_the_path_of_the_layer(
    layer: Callable[[], nn.Module], shape: tuple[int, ...], said: dict[str, Tensor], mode: str
) -> None:
    model = nn.ModuleDict({"stem": nn.Sequential(layer())})
    model.double().train(mode == "training")
    before = state_of(model)
    with valid_positions(model, **said), pytest.raises(ValueError, match=r"handed to stem\.0"):
        model["stem"](sample(shape))
    assert all(torch.equal(one, other) for one, other in zip(state_of(model), before, strict=True))


def test_what_says_nothing_or_reaches_nobody_is_refused() -> None:
    model = nn.Sequential(MaskedBatchNorm(4))
    refused: list[tuple[nn.Module, dict[str, Any], str]] = [
        (model, {}, "have to say"),
        (model, {"mask": VALID, "lengths": LENGTHS}, "one of them"),
        (model, {"lengths": LENGTHS.tolist()}, "must be a tensor"),
        (nn.Sequential(nn.BatchNorm1d(4)), {"mask": VALID}, "no layer that takes a mask"),
    ]
    for given, said, message in refused:
        with pytest.raises(ValueError, match=message), valid_positions(given, **said):
            pass


def test_parts_of_a_model_have_masks_of_their_own_and_arguments_come_first() -> None:
    model = nn.Sequential(MaskedBatchNorm(4), nn.AvgPool1d(7), MaskedBatchNorm(4)).double()
    alone, x = copy.deepcopy(model), sample((4, 4, 7))
    coarse = torch.tensor([[True], [True], [False], [True]])
    expected = alone[2](alone[1](alone[0](x, VALID)), coarse)
    with valid_positions(model, VALID), valid_positions(model[2], coarse):
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
        torch.testing.assert_close(model[0](x, VALID.roll(1, 0)), alone[0](x, VALID.roll(1, 0)), rtol=0, atol=0)
    with valid_positions(model, VALID, where=lambda path, layer: path == "0"):
        torch.testing.assert_close(model(x), alone[2](alone[1](alone[0](x, VALID))), rtol=0, atol=0)
    torch.testing.assert_close(model(x), alone(x), rtol=0, atol=0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_pass_that_runs_again_runs_with_the_mask_or_is_refused(reentrant: bool) -> None:
    model, x = on_last_axis(), sample((4, 7, 4)).requires_grad_()
    plain = copy.deepcopy(model)
    with valid_positions(plain, VALID):
        expected = torch.autograd.grad(plain(x).sin().sum(), x)[0]
    with valid_positions(model, VALID):
        checkpoint(model, x, use_reentrant=reentrant).sin().sum().backward()
        torch.testing.assert_close(x.grad, expected, rtol=1e-12, atol=1e-12)
        y = checkpoint(model, x, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="call `backward` within it"):
        y.sin().sum().backward()
    x.grad = None
    checkpoint(model, x, use_reentrant=reentrant).sin().sum().backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(plain(x).sin().sum(), x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "layer", [on_last_axis, lambda: nn.Sequential(SequenceBatchNorm(4, batch_first=True)).double()]
)
@pytest.mark.parametrize("after", [VALID.roll(1, 0), None], ids=["another mask", "no mask"])
def test_a_pass_that_runs_again_among_others_runs_with_its_own_mask_or_is_refused(
    after: Tensor | None, layer: Callable[[], nn.Module], reentrant: bool
) -> None:
    model = layer()
    plain, x, x2 = copy.deepcopy(model), sample((4, 7, 4)).requires_grad_(), sample((4, 7, 4), 1).requires_grad_()

    def later() -> AbstractContextManager[None]:
        return nullcontext() if after is None else valid_positions(model, after)

    with valid_positions(model, VALID):
        y = checkpoint(model, x, use_reentrant=reentrant)
    with later():
        y2 = checkpoint(model, x2, use_reentrant=reentrant)
        with pytest.raises(RuntimeError, match="call `backward` within it"):
            y.sin().sum().backward()
        y2.sin().sum().backward()
    with nullcontext() if after is None else valid_positions(plain, after):
        torch.testing.assert_close(x2.grad, torch.autograd.grad(plain(x2).sin().sum(), x2)[0], rtol=1e-12, atol=1e-12)
    with valid_positions(model, VALID):
        y = checkpoint(model, x, use_reentrant=reentrant)
    with later():
        model(x2)
    # The same again counts as the same.
    with valid_positions(model, VALID.clone()):
        y.sin().sum().backward()
    with valid_positions(plain, VALID):
        torch.testing.assert_close(x.grad, torch.autograd.grad(plain(x).sin().sum(), x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_layers_are_told_of_each_mask_and_programs_of_none() -> None:
    torch._dynamo.reset()
    model = on_last_axis()
    other, x = copy.deepcopy(model), sample((4, 7, 4))
    compiled = torch.compile(other, backend="aot_eager", fullgraph=True)
    for mask in (VALID, VALID.roll(1, 0), ~VALID):
        with valid_positions(model, mask), valid_positions(other, mask):
            torch.testing.assert_close(compiled(x), model(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(compiled(x), model(x), rtol=1e-12, atol=1e-12)
    with valid_positions(model, VALID), pytest.raises(RuntimeError, match="pass it as an argument"):
        torch.export.export(model, (x,))


def test_recalibration_and_diagnosis_see_the_valid_values() -> None:
    model, batches = on_last_axis(), [(sample((4, 7, 4), seed), VALID.roll(seed, 0)) for seed in range(3)]

    def forward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        with valid_positions(model, batch[1]):
            return model(batch[0])

    recalibrate(model, batches, forward=forward)
    seen = torch.cat([x[mask] for x, mask in batches])
    torch.testing.assert_close(model[0].running_mean, seen.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model[0].running_var, seen.var(0), rtol=1e-12, atol=1e-12)
    (layer,) = diagnose(model, batches[0], forward=forward).layers
    assert layer.values == VALID.sum()
