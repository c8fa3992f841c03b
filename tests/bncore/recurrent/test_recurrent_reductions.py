"""What recurrent layers become at the ends of their definitions: torch's LSTM, GRU and batch norm."""

import pytest
import torch
from torch import Tensor, nn

from bncore.recurrent import BatchNormGRU, BatchNormLSTM, SequenceBatchNorm, StepBatchNorm
from tests.bncore.recurrent.oracle import ALL, RAGGED, make, padded, sequences, states_for, tensors, twin


def as_in_torch(layer: nn.Module) -> dict[str, Tensor]:
    """The parameters of `layer` but for its norms, under torch's names."""
    found = {}
    for suffix, cells in (("", layer.cells), ("_reverse", layer.reverse_cells or [])):
        for number, cell in enumerate(cells):
            bias = torch.zeros(len(cell.weight_ih)) if cell.bias is None else cell.bias.detach()
            hidden = torch.zeros_like(bias)
            if hasattr(cell, "bias_hn"):
                hidden[4:] = cell.bias_hn.detach()
            values = {"weight_ih": cell.weight_ih, "weight_hh": cell.weight_hh, "bias_ih": bias, "bias_hh": hidden}
            found |= {f"{name}_l{number}{suffix}": value.detach() for name, value in values.items()}
    return found


@pytest.mark.parametrize("kind", [kind for kind in ALL if not kind.startswith("sn")])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_the_identity_for_every_norm_it_is_torch(kind: str, bidirectional: bool) -> None:
    layer = make(kind, num_layers=2, bidirectional=bidirectional)
    classes = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    theirs = classes[kind.partition("-")[2]](3, 2, 2, bidirectional=bidirectional).double()
    for name, value in as_in_torch(layer).items():
        theirs.get_parameter(name).data.copy_(value)
    for module in list(layer.modules()):
        for name in [name for name, _ in module.named_children() if name.startswith("norm_")]:
            setattr(module, name, nn.Identity())
    x, lengths = padded(sequences(RAGGED))
    states = states_for(layer, 5)
    states = states if len(states) == 2 else states[0]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    for given, arguments in ((x, (x, states)), (packed, (x, states, lengths))):
        expected, ends = theirs(given, states)
        if given is packed:
            expected, _ = nn.utils.rnn.pad_packed_sequence(expected)
        y, last = layer(*arguments)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        for mine, end in zip(tensors(last), tensors(ends), strict=True):
            torch.testing.assert_close(mine, end, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_each_step_of_step_batch_norm_is_a_batch_norm_of_its_own(momentum: float | None) -> None:
    norm = StepBatchNorm(4, max_length=3, momentum=momentum, gamma=1.0).double()
    theirs = [nn.BatchNorm1d(4, momentum=momentum).double() for _ in range(3)]
    for seed in range(50):
        x = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2 + 1
        y = norm(x)
        for step, one in enumerate(theirs):
            torch.testing.assert_close(y[step], one(x[step]), rtol=1e-12, atol=1e-12)
    for step, one in enumerate(theirs):
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(norm, name)[step], getattr(one, name), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(norm.eval()(x)[step], one.eval()(x[step]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ragged", [False, True])
def test_with_one_row_the_statistics_are_those_of_all_frames(ragged: bool) -> None:
    one_row, sequence_wise = StepBatchNorm(3, max_length=1).double(), SequenceBatchNorm(3).double()
    x, lengths = padded(sequences(RAGGED if ragged else (4,) * 5))
    valid = torch.arange(x.shape[0]).unsqueeze(1) < lengths
    for _ in range(3):
        one_row(x, valid)
        sequence_wise(x, lengths)
    torch.testing.assert_close(one_row.running_mean[0], sequence_wise.running_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(one_row.running_var[0], sequence_wise.running_var, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormGRU])
def test_the_scale_of_what_is_projected_does_not_matter(kind: type[nn.Module]) -> None:
    layer = kind(3, 2, eps=1e-20).double()
    x, lengths = padded(sequences(RAGGED))
    expected, _ = twin(layer)(x, None, lengths)
    scaled = twin(layer)
    with torch.no_grad():
        scaled.cells[0].weight_ih.mul_(7.0)
        scaled.cells[0].weight_hh.mul_(0.3)
    # The two steps at which one sequence is alone use the running statistics, to which scales do matter.
    torch.testing.assert_close(scaled(x, None, lengths)[0][:4], expected[:4], rtol=1e-9, atol=1e-9)


def test_a_state_of_zeros_stays_finite_both_ways() -> None:
    layer = BatchNormLSTM(3, 2).double()
    x, _ = padded(sequences((4,) * 5))
    start = torch.zeros(1, 5, 2, dtype=torch.float64, requires_grad=True)
    y, _ = layer(x, (start, torch.zeros(1, 5, 2, dtype=torch.float64)), step=0)
    y.sum().backward()
    assert y.isfinite().all()
    assert start.grad is not None
    assert start.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert (layer.cells[0].norm_hh.running_mean[0] == 0).all()
    assert torch.allclose(layer.cells[0].norm_hh.running_var[0], torch.tensor(0.9).double())
