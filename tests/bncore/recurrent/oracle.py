"""What the papers say that recurrent layers compute, sequence by sequence, in double precision.

Sequences are ragged lists here: a step has the rows that are still running, and no mask, padding or table is involved.
Only parameters and statistics are read from the layer under test.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bncore.recurrent import (
    BatchNormGRU,
    BatchNormLSTM,
    BatchNormRNN,
    LayerNormGRU,
    LayerNormLSTM,
    LayerNormRNN,
    SequenceBatchNorm,
    SequenceBatchNormGRU,
    SequenceBatchNormLSTM,
    SequenceBatchNormRNN,
    StepBatchNorm,
)

Ragged = list[Tensor]
"""N sequences (T_n, C)."""


@dataclass
class Record:
    """The values that each step-wise batch norm saw, step by step."""

    seen: dict[int, list[Tensor]] = field(default_factory=dict)

    def statistics(self, norm: StepBatchNorm) -> dict[str, Tensor]:
        """The buffers of `norm`, which is as it was before, after this pass."""
        steps = self.seen[id(norm)]
        expected = {name: buffer.clone() for name, buffer in norm.named_buffers()}
        for row in range(norm.max_length):
            last = row == norm.max_length - 1
            frames = torch.cat([norm.running_mean[:0], *(steps[row:] if last else steps[row : row + 1])])
            if len(frames) < 2:
                continue
            expected["num_batches_tracked"][row] += 1
            weight = norm.momentum if norm.momentum is not None else 1.0 / expected["num_batches_tracked"][row].double()
            for name, newest in (("running_mean", frames.mean(0)), ("running_var", frames.var(0, correction=1))):
                expected[name][row] += weight * (newest.detach() - expected[name][row])
        return expected


def run(layer: nn.Module, xs: Ragged, states: Sequence[Tensor] | None = None) -> tuple[Ragged, list[Tensor], Record]:
    """Outputs and last states (layers x directions, N, H) of a whole stack for ragged input, and what its norms saw."""
    record = Record()
    ends: list[tuple[Tensor, ...]] = []
    for number, forward in enumerate(layer.cells):
        outputs = []
        for cell in (forward, layer.reverse_cells[number]) if layer.bidirectional else (forward,):
            back = len(outputs) == 1
            zero = torch.zeros(len(xs), layer.hidden_size, dtype=torch.float64)
            start = (zero,) * cell.num_states if states is None else tuple(one[len(ends)] for one in states)
            ys, end = _walk(cell, [x.flip(0) if back else x for x in xs], start, record)
            outputs.append([y.flip(0) if back else y for y in ys])
            ends.append(end)
        xs = [torch.cat(parts, -1) for parts in zip(*outputs, strict=True)]
    return xs, [torch.stack(one) for one in zip(*ends, strict=True)], record


def _walk(cell: nn.Module, xs: Ragged, state: tuple[Tensor, ...], record: Record) -> tuple[Ragged, tuple[Tensor, ...]]:
    rows: list[list[Tensor]] = [list(tensor) for tensor in state]
    ys: list[list[Tensor]] = [[] for _ in xs]
    step_of = {4: _lstm, 3: _gru, 1: _rnn}[cell.gates]
    from_input = _from_input(cell, xs)
    for step in range(max(len(x) for x in xs)):
        alive = [n for n, x in enumerate(xs) if len(x) > step]
        before = [torch.stack([tensor[n] for n in alive]) for tensor in rows]
        after = step_of(cell, torch.stack([from_input[n][step] for n in alive]), before, _norm_at(step, record))
        for place, n in enumerate(alive):
            for tensor, newest in zip(rows, after, strict=True):
                tensor[n] = newest[place]
            ys[n].append(after[0][place])
    empty = torch.zeros(0, cell.hidden_size, dtype=torch.float64)
    return [torch.stack(y) if y else empty for y in ys], tuple(torch.stack(tensor) for tensor in rows)


Norm = Callable[[nn.Module, Tensor], Tensor]


def _from_input(cell: nn.Module, xs: Ragged) -> Ragged:
    """What goes up from the input: its projections, normalized where that is over all frames."""
    projected = [x @ cell.weight_ih.T for x in xs]
    norm = cell.norm_ih
    if not isinstance(norm, SequenceBatchNorm):
        return projected
    frames = torch.cat(projected)
    mean, var = frames.mean(0), frames.var(0, correction=0)
    if not norm.training:
        mean, var = norm.running_mean, norm.running_var
    return [norm.weight * (one - mean) / torch.sqrt(var + norm.eps) for one in projected]


def _rnn(cell: nn.Module, x: Tensor, state: list[Tensor], norm: Norm) -> list[Tensor]:
    summed = norm(cell.norm_hh, state[0] @ cell.weight_hh.T) + norm(cell.norm_ih, x)
    return [torch.tanh(norm(cell.norm_h, summed if cell.bias is None else summed + cell.bias))]


def _lstm(cell: nn.Module, x: Tensor, state: list[Tensor], norm: Norm) -> list[Tensor]:
    gates = norm(cell.norm_hh, state[0] @ cell.weight_hh.T) + norm(cell.norm_ih, x) + cell.bias
    i, f, g, o = gates.split(cell.hidden_size, 1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(norm(cell.norm_c, c)), c]


def _gru(cell: nn.Module, x: Tensor, state: list[Tensor], norm: Norm) -> list[Tensor]:
    r, z, n = (norm(cell.norm_ih, x) + cell.bias).split(cell.hidden_size, 1)
    r_hidden, z_hidden, n_hidden = norm(cell.norm_hh, state[0] @ cell.weight_hh.T).split(cell.hidden_size, 1)
    z = torch.sigmoid(z + z_hidden)
    n = torch.tanh(n + torch.sigmoid(r + r_hidden) * (n_hidden + cell.bias_hn))
    return [(1 - z) * n + z * state[0]]


def _norm_at(step: int, record: Record) -> Norm:
    def norm(layer: nn.Module, x: Tensor) -> Tensor:
        if isinstance(layer, nn.Identity | SequenceBatchNorm):
            return x
        if not isinstance(layer, StepBatchNorm):
            return _layer_norm(layer, x)
        if layer.training:
            record.seen.setdefault(id(layer), []).append(x.detach())
        if layer.training and len(x) > 1:
            mean, var = x.mean(0), x.var(0, correction=0)
        else:
            seen = [row for row in range(layer.max_length) if layer.num_batches_tracked[row] > 0]
            row = min(step, max(seen, default=0))
            mean, var = layer.running_mean[row], layer.running_var[row]
        y = layer.weight * (x - mean) / torch.sqrt(var + layer.eps)
        return y if layer.bias is None else y + layer.bias

    return norm


def _layer_norm(layer: nn.Module, x: Tensor) -> Tensor:
    parts = []
    for part in x.split(layer.sizes, 1):
        mean, var = part.mean(1, keepdim=True), part.var(1, correction=0, keepdim=True)
        parts.append((part - mean) / torch.sqrt(var + layer.eps))
    y = torch.cat(parts, 1) * layer.weight
    return y if layer.bias is None else y + layer.bias


ALL: dict[str, type[nn.Module]] = {
    "bn-lstm": BatchNormLSTM,
    "bn-gru": BatchNormGRU,
    "bn-rnn": BatchNormRNN,
    "ln-lstm": LayerNormLSTM,
    "ln-gru": LayerNormGRU,
    "ln-rnn": LayerNormRNN,
    "sn-lstm": SequenceBatchNormLSTM,
    "sn-gru": SequenceBatchNormGRU,
    "sn-rnn": SequenceBatchNormRNN,
}
KINDS = ["bn-lstm", "bn-gru", "ln-lstm", "ln-gru"]
"""Those that between them run every line of what all share: promises that follow from it are tested of them alone."""
BATCH_KINDS = ["bn-lstm", "bn-gru"]
RAGGED = (4, 2, 6, 1, 4)
"""Lengths of which one is alone for its last two steps."""


def make(kind: str, dtype: torch.dtype = torch.float64, **options: object) -> nn.Module:
    """A layer for 3 inputs and 2 hidden units, the same each time; no parameter or statistic hides a mistake."""
    if kind.startswith("bn"):
        options = {"max_length": 8, **options}
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layer = ALL[kind](3, 2, **options).double()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        for name, buffer in layer.named_buffers():
            draw = torch.randn(buffer.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_mean"):
                buffer.add_(0.3 * draw)
            elif name.endswith("running_var"):
                buffer.mul_((0.3 * draw).exp())
            elif buffer.dim():
                # Training has seen all steps but the last two.
                buffer[:-2] = 3
    return layer.to(dtype)


def states_for(layer: nn.Module, batch: int) -> tuple[Tensor, ...]:
    """Random states before the first step, as many as the layer has."""
    generator = torch.Generator().manual_seed(3)
    shape = (layer.num_layers * (2 if layer.bidirectional else 1), batch, layer.hidden_size)
    count = layer.cells[0].num_states
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count))


def call(layer: nn.Module, x: Tensor, states: tuple[Tensor, ...], lengths: Tensor | None = None) -> list[Tensor]:
    """Output and last states in one list."""
    y, ends = layer(x, states if len(states) == 2 else states[0], lengths, 0)
    return [y, *tensors(ends)]


def sequences(lengths: Sequence[int], seed: int = 11) -> Ragged:
    """Float64 sequences (T_n, 3) whose mean and spread are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 3, generator=generator, dtype=torch.float64) * 1.7 + 0.6 for length in lengths]


def padded(xs: Ragged, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    """As (T, N, C), and their lengths."""
    return pad_sequence(xs, padding_value=padding), torch.tensor([len(x) for x in xs])


def twin(layer: nn.Module) -> nn.Module:
    """A copy that shares nothing."""
    return copy.deepcopy(layer)


def tensors(states: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(h,) of a GRU, (h, c) of an LSTM."""
    return states if isinstance(states, tuple) else (states,)


def step_norms(layer: nn.Module) -> list[StepBatchNorm]:
    """Every step-wise batch norm inside."""
    return [module for module in layer.modules() if isinstance(module, StepBatchNorm)]


def equal_state(first: nn.Module, second: nn.Module, tolerance: float = 0.0) -> None:
    """Fail unless all parameters and statistics agree."""
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)
