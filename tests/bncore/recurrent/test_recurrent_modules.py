"""Recurrent layers as modules: their state, their copies, precision, and forward passes that run again."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from bncore.recurrent import StepBatchNorm
from tests.bncore.recurrent.oracle import (
    ALL,
    BATCH_KINDS,
    KINDS,
    RAGGED,
    call,
    equal_state,
    make,
    padded,
    run,
    sequences,
    states_for,
    step_norms,
    tensors,
    twin,
)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_pickles_and_loaded_states_compute_the_same(kind: str) -> None:
    layer = make(kind, num_layers=2, bidirectional=True)
    x, lengths = padded(sequences(RAGGED))
    layer(x, None, lengths)
    loaded = ALL[kind](3, 2, 2, bidirectional=True, **({"max_length": 8} if "bn" in kind else {})).double()
    loaded.load_state_dict(layer.state_dict(), strict=True)
    with torch.device("meta"):
        assigned = ALL[kind](3, 2, 2, bidirectional=True, **({"max_length": 8} if "bn" in kind else {}))
    assigned.load_state_dict(layer.state_dict(), strict=True, assign=True)
    others = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded]
    expected = call(twin(layer), x, states_for(layer, 5), lengths)
    for other in (*others, assigned):
        for mine, theirs in zip(call(other, x, states_for(layer, 5), lengths), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        equal_state(others[0], other)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("start", ["orthogonal", "identity"])
def test_a_new_layer_is_as_the_papers_start(kind: str, start: str) -> None:
    layer = ALL[kind](3, 4, recurrent_init=start, bidirectional=True)
    with torch.device("meta"):
        other = ALL[kind](3, 4, recurrent_init=start, bidirectional=True)
    other.to_empty(device="cpu")
    for tensor in other.state_dict().values():
        tensor.fill_(7)
    other.reset_parameters()
    for one in (layer, other):
        for cell in (one.cells[0], one.reverse_cells[0]):
            square = cell.weight_hh.T @ cell.weight_hh
            blocks = [block @ block.T for block in cell.weight_hh.split(4)]
            candidate = cell.weight_hh.split(4)[cell.candidate]
            assert torch.equal(candidate, torch.eye(4)) == (start == "identity")
            assert start == "identity" or torch.allclose(square, torch.eye(4), atol=1e-5)
            assert all(block.trace() > 0.1 for block in blocks)
            forget = 1.0 if kind in ("bn-lstm", "sn-lstm") else 0.0
            bias = cell.norm_h.bias if kind == "ln-rnn" else cell.bias
            assert bias.tolist() == [*(0.0,) * 4, *(forget,) * 4, *(0.0,) * 16][: 4 * cell.gates]
        for norm in step_norms(one):
            assert (norm.weight == 0.1).all()
            assert norm.bias is None or (norm.bias == 0).all()
            assert (norm.running_mean == 0).all()
            assert (norm.running_var == 1).all()
            assert (norm.num_batches_tracked == 0).all()
            assert norm.running_mean.shape == (100, norm.num_features)
    assert {name: tensor.shape for name, tensor in layer.state_dict().items()} == {
        name: tensor.shape for name, tensor in other.state_dict().items()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("whole", [False, True], ids=["ragged", "full"])
def test_half_precision_input_keeps_its_type(kind: str, mode: str, whole: bool) -> None:
    layer = make(kind, torch.float32, num_layers=2).train(mode == "training")
    wide = twin(layer)
    x, lengths = padded(sequences((4,) * 5 if whole else RAGGED))
    x = x.bfloat16().requires_grad_()
    given = None if whole else lengths
    y, states = layer(x, None, given)
    expected, _ = wide(x.detach().float(), None, given)
    assert y.dtype == torch.bfloat16
    assert all(state.dtype == torch.bfloat16 for state in tensors(states))
    torch.testing.assert_close(y.float(), expected, rtol=2**-7, atol=2**-9)
    y.float().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())
    half = layer.half()
    assert half(x.detach().half(), None, given)[0].isfinite().all()
    assert all(value.dtype in (torch.float16, torch.int64) for value in half.state_dict().values())


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_for_the_products(kind: str) -> None:
    layer = make(kind, torch.float32)
    wide = twin(layer)
    x, lengths = padded(sequences(RAGGED))
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = layer(x.float(), None, lengths)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, wide(x.float(), None, lengths)[0], rtol=0.1, atol=0.1)
    assert all(parameter.dtype == torch.float32 for parameter in layer.parameters())


def gradients(layer: nn.Module, pair: list[tuple[Tensor, Tensor]], *, at_once: bool, reentrant: bool | None) -> list:
    """Of two micro-batches and of all parameters, with one backward pass each or both at the end."""
    inputs = [x.clone().requires_grad_() for x, _ in pair]
    pending = []
    for x, (_, lengths) in zip(inputs, pair, strict=True):
        if reentrant is None:
            y, _ = layer(x, None, lengths)
        else:
            y, _ = checkpoint(layer, x, None, lengths, use_reentrant=reentrant)
        pending.append(y.sin().sum())
        if at_once:
            pending.pop().backward()
    if pending:
        sum(pending).backward()
    return [x.grad for x in inputs] + [parameter.grad for parameter in layer.parameters()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reentrant", [None, True, False], ids=["stored", "reentrant", "not reentrant"])
@pytest.mark.parametrize("whole", [False, True], ids=["ragged", "full"])
def test_two_forward_passes_before_a_backward_pass(kind: str, reentrant: bool | None, whole: bool) -> None:
    layer = make(kind)
    other = twin(layer)
    # Where they are ragged, the first ends with a sequence alone at a step whose statistics the second moves.
    both = ((4,) * 3, (5,) * 5) if whole else ((3, 5, 1), RAGGED)
    pair = [padded(sequences(lengths, seed)) for seed, lengths in enumerate(both)]
    pair = [(x, None if whole else lengths) for x, lengths in pair]
    expected = gradients(other, pair, at_once=True, reentrant=None)
    actual = gradients(layer, pair, at_once=False, reentrant=reentrant)
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    equal_state(layer, other, 1e-12)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_with_the_guard_on_what_is_not_finite_does_not_stay(kind: str) -> None:
    guarded, bare = make(kind, nan_guard=True), make(kind)
    x, lengths = padded(sequences(RAGGED))
    for poison in (float("nan"), float("inf")):
        spoilt = x.clone()
        spoilt[1, 0] = poison
        guarded(spoilt, None, lengths)
        bare(spoilt, None, lengths)
    assert all(value.isfinite().all() for value in guarded.state_dict().values())
    assert not all(value.isfinite().all() for value in bare.state_dict().values())
    assert guarded(x, None, lengths)[0].isfinite().all()
    assert guarded.eval()(x, None, lengths)[0].isfinite().all()


def test_an_average_of_all_batches_leaves_out_the_steps_that_are_not_finite() -> None:
    layer = StepBatchNorm(4, 3, momentum=None, nan_guard=True).double()
    good = [torch.randn(3, 6, 4, dtype=torch.float64) + 10 for _ in range(3)]
    bad = good[0].clone()
    bad[1, 2, 0] = float("nan")
    for x in (bad, *good):
        layer(x)
    assert layer.num_batches_tracked.tolist() == [4, 3, 4]
    variances = torch.stack([x[1].var(0, correction=1) for x in good])
    torch.testing.assert_close(layer.running_mean[1], torch.stack([x[1].mean(0) for x in good]).mean(0))
    torch.testing.assert_close(layer.running_var[1], variances.mean(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_one_sequence_has_no_variance_and_is_refused_in_training(kind: str) -> None:
    layer = make(kind)
    before = twin(layer)
    x, lengths = padded(sequences((4,)))
    for given in (None, lengths):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            layer(x, None, given)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        layer.cells[0](x[0])
    equal_state(before, layer)
    assert layer.eval()(x)[0].isfinite().all()


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_evaluation_before_training_uses_the_statistics_of_a_new_layer(kind: str) -> None:
    layer = ALL[kind](3, 2).double().eval()
    xs = sequences(RAGGED)
    x, lengths = padded(xs)
    expected, _, _ = run(layer, xs)
    y, _ = layer(x, None, lengths)
    torch.testing.assert_close(y, pad_sequence(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_beyond_the_last_step_of_training_evaluation_goes_on_with_its_statistics(kind: str) -> None:
    layer = ALL[kind](3, 2, max_length=50).double()
    x, _ = padded(sequences((4,) * 6))
    for _ in range(3):
        layer(x)
    layer.eval()
    long, _ = padded(sequences((9,) * 6, seed=2))
    y, _ = layer(long)
    for norm in step_norms(layer):
        assert norm.num_batches_tracked.tolist() == [3] * 4 + [0] * 46
        norm.running_mean[4:] = norm.running_mean[3].clone()
        norm.running_var[4:] = norm.running_var[3].clone()
        norm.num_batches_tracked.fill_(1)
    torch.testing.assert_close(layer(long)[0], y, rtol=0, atol=0)


@pytest.mark.parametrize("kind", BATCH_KINDS)
def test_over_many_epochs_evaluation_approaches_training(kind: str) -> None:
    layer = make(kind, momentum=0.5)
    x, lengths = padded(sequences((5, 3, 5, 4, 3, 5)))
    # The state of zeros at the first step needs the running variance at 0, which is what an average never reaches.
    states = states_for(layer, 6)
    for _ in range(60):
        expected = call(layer, x, states, lengths)[0]
    for norm in step_norms(layer):
        count = (torch.arange(8).unsqueeze(1) < lengths).sum(1, keepdim=True).clamp_min(2)
        norm.running_var.mul_((count - 1) / count)
    y = call(layer.eval(), x, states, lengths)[0]
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=1e-8)
