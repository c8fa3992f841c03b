"""Forms in which sequences come to a recurrent layer: whatever the form, the numbers are the same."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bncore.recurrent import StepBatchNorm
from tests.bncore.recurrent.oracle import (
    ALL,
    KINDS,
    RAGGED,
    call,
    equal_state,
    make,
    padded,
    run,
    sequences,
    states_for,
    tensors,
    twin,
)


@pytest.mark.parametrize("kind", KINDS)
def test_states_are_zero_where_none_are_given(kind: str) -> None:
    layer = make(kind)
    x, _ = padded(sequences((5, 5, 5)))
    expected, ends, _ = run(twin(layer), list(x.unbind(1)))
    y, states = layer(x)
    torch.testing.assert_close(y, torch.stack(expected, 1), rtol=1e-10, atol=1e-12)
    for mine, theirs in zip(tensors(states), ends, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [(4, 4, 4), RAGGED], ids=["full", "ragged"])
def test_packed_padded_and_batch_first_are_one_and_the_same(kind: str, lengths: tuple[int, ...]) -> None:
    layer = make(kind, num_layers=2, bidirectional=True)
    packs, firsts = twin(layer), twin(layer)
    firsts.batch_first = True
    x, given = padded(sequences(lengths))
    states = states_for(layer, len(lengths))
    expected = call(layer, x, states, given)
    packed = pack_padded_sequence(x, given, enforce_sorted=False)
    y, *ends = call(packs, packed, states, None)
    unpacked, out_lengths = pad_packed_sequence(y)
    assert torch.equal(out_lengths, given)
    assert torch.equal(y.sorted_indices, packed.sorted_indices)
    first = call(firsts, x.transpose(0, 1).contiguous(), states, given)
    for mine, theirs in zip([unpacked, *ends], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip([first[0].transpose(0, 1), *first[1:]], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    equal_state(packs, layer, 1e-12)
    equal_state(firsts, layer, 1e-12)


@pytest.mark.parametrize("kind", [*KINDS, "sn-lstm", "ln-rnn"])
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30], ids=str)
def test_padding_reaches_no_output_no_statistic_and_no_gradient(kind: str, poison: float) -> None:
    clean, spoilt = make(kind, num_layers=2, bidirectional=True), make(kind, num_layers=2, bidirectional=True)
    xs = sequences(RAGGED)
    gradients = []
    for layer, padding in ((clean, 0.0), (spoilt, poison)):
        x, lengths = padded(xs, padding)
        x.requires_grad_()
        y, _ = layer(x, None, lengths)
        y.sin().sum().backward()
        gradients.append([x.grad, y.detach(), *(parameter.grad for parameter in layer.parameters())])
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    valid = torch.arange(6).unsqueeze(1) < torch.tensor(RAGGED)
    assert gradients[1][0][~valid].abs().max() == 0
    assert gradients[1][1][~valid].abs().max() == 0
    equal_state(clean, spoilt)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_permuting_the_sequences_permutes_the_outputs(kind: str, seed: int) -> None:
    layer, other = make(kind, bidirectional=True), make(kind, bidirectional=True)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    x, lengths = padded(sequences(RAGGED, seed))
    y, states = layer(x, None, lengths)
    permuted, others = other(x[:, order], None, lengths[order])
    torch.testing.assert_close(permuted, y[:, order], rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(tensors(others), tensors(states), strict=True):
        torch.testing.assert_close(mine, theirs[:, order], rtol=1e-10, atol=1e-10)
    equal_state(layer, other, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_one_by_one_are_the_layer(kind: str) -> None:
    layer = make(kind)
    cell = twin(layer).cells[0]
    x, lengths = padded(sequences(RAGGED))
    y, states = layer(x, None, lengths)
    state = None
    for step in range(6):
        valid = lengths > step
        state = cell(x[step], state, step=step, valid=valid)
        h = tensors(state)[0]
        torch.testing.assert_close(torch.where(valid.unsqueeze(1), h, 0.0), y[step], rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(tensors(state), tensors(states), strict=True):
        torch.testing.assert_close(mine, theirs[0], rtol=1e-12, atol=1e-12)
    equal_state(cell, layer.cells[0], 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_sequence_without_batch_axis_is_a_batch_of_one_in_evaluation(kind: str) -> None:
    layer = make(kind, num_layers=2).eval()
    (x,) = sequences((4,))
    states = states_for(layer, 1)
    expected = call(layer, x.unsqueeze(1), states)
    actual = call(layer, x, tuple(state.squeeze(1) for state in states))
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs.squeeze(1), rtol=0, atol=0)
    one, many = tensors(layer.cells[0](x[0])), tensors(layer.cells[0](x[:1]))
    for mine, theirs in zip(one, many, strict=True):
        torch.testing.assert_close(mine, theirs.squeeze(0), rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_beyond_the_padding_and_of_nothing(kind: str) -> None:
    layer, other = make(kind, bidirectional=True), make(kind, bidirectional=True)
    x, _ = padded(sequences((4, 4, 4)))
    states = states_for(layer, 3)
    long = call(layer, x, states, torch.tensor([9, 4, 5]))
    for mine, theirs in zip(long, call(other, x, states), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    y, *ends = call(layer, x, states, torch.tensor([4, 0, 3]))
    assert y[:, 1].abs().max() == 0
    for end, start in zip(ends, states, strict=True):
        assert torch.equal(end[:, 1], start[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_padding_alone_and_an_empty_batch_change_nothing(kind: str) -> None:
    layer = make(kind)
    before = twin(layer)
    states = states_for(layer, 3)
    y, *ends = call(layer, torch.full((4, 3, 3), float("nan")).double(), states, torch.zeros(3, dtype=torch.int64))
    assert y.abs().max() == 0
    assert all(torch.equal(end, start) for end, start in zip(ends, states, strict=True))
    empty, end = layer(torch.zeros(4, 0, 3, dtype=torch.float64))
    assert empty.shape == (4, 0, 2)
    assert tensors(end)[0].shape == (1, 0, 2)
    empty.sum().backward()
    equal_state(before, layer)


@pytest.mark.parametrize("kind", KINDS)
def test_input_that_does_not_fit_is_refused(kind: str) -> None:
    layer = make(kind).eval()
    x, lengths = padded(sequences(RAGGED))
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    wrong = torch.zeros(1, 4, 2, dtype=torch.float64)
    refused = {
        "2 or 3 axes": (x[0, 0],),
        "3 inputs": (x[..., :2],),
        "at least one step": (x[:0],),
        "5 lengths": (x, None, lengths[:4]),
        "know their lengths": (packed, None, lengths),
        "5 lengths, which are whole numbers": (x, None, lengths.double()),
        "must be a tensor of whole numbers": (x, None, list(RAGGED)),
        "floating-point type": (x.long(),),
        "state of size": (x, (wrong, wrong) if "lstm" in kind else wrong, None, 0),
        "as the state hx": (x, wrong if "lstm" in kind else (wrong, wrong), None, 0),
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            layer(*arguments)
    with pytest.raises(ValueError, match="lose digits"):
        layer.float()(x)
    with pytest.raises(ValueError, match="hidden_size"):
        ALL[kind](3, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_refuses_what_does_not_fit(kind: str) -> None:
    cell = make(kind).cells[0].eval()
    x, wrong = torch.zeros(5, 3, dtype=torch.float64), torch.zeros(4, 2, dtype=torch.float64)
    refused = {
        "1 or 2 axes": {"input": x.unsqueeze(0)},
        "state of size": {"hx": (wrong, wrong) if "lstm" in kind else wrong, "step": 0},
        "as the state hx": {"hx": (wrong,), "step": 0},
        "valid is bool of shape": {"valid": torch.ones(4, dtype=torch.bool)},
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            cell(**{"input": x, **arguments})


def test_step_batch_norm_refuses_what_does_not_fit() -> None:
    norm, x = StepBatchNorm(3).eval(), torch.zeros(4, 5, 3)
    refused = {
        "3 channels": {"x": x[..., :1]},
        "floating-point type": {"x": x.long()},
        "valid is bool of shape": {"valid": torch.ones(5, 4, dtype=torch.bool)},
        "counted from 0": {"step": -1},
    }
    for message, arguments in refused.items():
        with pytest.raises(ValueError, match=message):
            norm(**{"x": x, **arguments})


@pytest.mark.parametrize("mode", ["training", "evaluation"])
@pytest.mark.parametrize("form", ["padded", "ragged", "packed"])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_say_where_they_begin_are_the_whole(kind: str, form: str, mode: str) -> None:
    layer = make(kind, num_layers=2).train(mode == "training")
    x, lengths = padded(sequences((6, 6, 6, 6, 6) if form == "padded" else (6, 4, 6, 2, 6)))
    whole = twin(layer)
    expected = call(whole, x, states_for(layer, 5), lengths)
    states, outputs = states_for(layer, 5), []
    for first, end in ((0, 1), (1, 4), (4, 6)):
        part, left = x[first:end], (lengths - first).clamp(0, end - first)
        if form == "packed" and first < 2:
            packed = pack_padded_sequence(part, left, enforce_sorted=False)
            y, states = layer(packed, states if len(states) == 2 else states[0], step=first)
            y = pad_packed_sequence(y)[0]
        else:
            y, states = layer(part, states if len(states) == 2 else states[0], left, first)
        states = tuple(state.detach() for state in tensors(states))
        outputs.append(y)
    for mine, theirs in zip([torch.cat(outputs), *states], expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
    equal_state(layer, whole, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_no_state_continues_are_refused(kind: str) -> None:
    x, _ = padded(sequences((4, 4, 4)))
    with pytest.raises(ValueError, match="come as a whole"):
        make(kind, bidirectional=True)(x, step=4)
    with pytest.raises(ValueError, match="counted from 0"):
        make(kind)(x, step=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_without_its_step_is_refused_where_statistics_depend_on_it(kind: str) -> None:
    layer = make(kind).eval()
    x, _ = padded(sequences((4, 4, 4)))
    _, state = layer(x[:2])
    if not kind.startswith("bn"):
        torch.testing.assert_close(layer(x[2:], state)[0], layer(x)[0][2:], rtol=1e-12, atol=1e-12)
        return
    with pytest.raises(ValueError, match="give `step`"):
        layer(x[2:], state)
    cell = layer.cells[0]
    with pytest.raises(ValueError, match="give `step`"):
        cell(x[1], cell(x[0]))
    # With statistics that are one for all steps there is nothing to say.
    layer = make(kind, max_length=1).eval()
    torch.testing.assert_close(layer(x[2:], layer(x[:2])[1])[0], layer(x)[0][2:], rtol=1e-12, atol=1e-12)
