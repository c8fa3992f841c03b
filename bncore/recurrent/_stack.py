"""Layers of cells over whole sequences, with the arguments, shapes and return values of `torch.nn.LSTM` and `GRU`."""

from collections.abc import Callable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from bncore.norm._moments import statistics_dtype
from bncore.recurrent._cell import RecurrentCell, State, check_input, check_kind, check_state
from bncore.recurrent._sequences import Sequences


class RecurrentStack(nn.Module):
    """`num_layers` layers of cells, two cells a layer if bidirectional.

    The cells are `cells` and, for the other direction, `reverse_cells`, one a layer. In states, the two directions of a
    layer follow each other, as in torch.
    """

    def __init__(
        self,
        make_cell: Callable[[int], RecurrentCell],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
    ) -> None:
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"dropout must be a probability, got {dropout}")
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        above = hidden_size * (2 if bidirectional else 1)
        sizes = [input_size, *(above,) * (num_layers - 1)]
        self.cells = nn.ModuleList(make_cell(size) for size in sizes)
        self.reverse_cells = nn.ModuleList(make_cell(size) for size in sizes) if bidirectional else None

    def reset_parameters(self) -> None:
        """Of every cell."""
        for pair in self._layers():
            for cell in pair:
                cell.reset_parameters()

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, batch_first={self.batch_first}, "
            f"dropout={self.dropout}, bidirectional={self.bidirectional}"
        )

    def run(
        self,
        given: Tensor | PackedSequence,
        states: tuple[Tensor, ...] | None,
        lengths: Tensor | None,
        step: int | None,
    ) -> tuple[Tensor | PackedSequence, tuple[Tensor, ...]]:
        """Output and last states (layers x directions, N, H) in the form and type of the input."""
        first = self._first.first_step(step, states is not None)
        if first < 0 or (first and self.bidirectional):
            raise ValueError(
                f"steps are counted from 0, got {first}; in the backward direction from the end of each sequence, "
                "which has to come as a whole then"
            )
        sequences = Sequences.of(given, lengths, self.batch_first)
        x = sequences.x
        check_input(x, self._first.weight_ih)
        starts = self._starts(sequences, states)
        ends: list[State] = []
        for number, layer in enumerate(self._layers()):
            if number > 0 and self.dropout > 0.0:
                x = F.dropout(x, self.dropout, self.training)
            outputs = []
            for direction, cell in enumerate(layer):
                y, end = cell.run(sequences.reversed(x) if direction else x, next(starts), sequences.valid, first)
                outputs.append(sequences.reversed(y) if direction else y)
                ends.append(end)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        last = (sequences.returned(torch.stack(one)).to(sequences.x.dtype) for one in zip(*ends, strict=True))
        return sequences.restored(x.to(sequences.x.dtype)), tuple(last)

    def _starts(self, sequences: Sequences, states: tuple[Tensor, ...] | None) -> Iterator[State]:
        """The state of each cell before the first step, cell by cell."""
        cells = [cell for layer in self._layers() for cell in layer]
        if states is None:
            return iter([cell.zeros(sequences.x) for cell in cells])
        check_kind(states, self._first.num_states)
        wide = statistics_dtype(self._first.weight_hh.dtype)
        states = tuple(sequences.arranged(state).to(wide) for state in states)
        check_state(states, (len(cells), sequences.x.shape[1], self.hidden_size))
        return zip(*states, strict=True)

    @property
    def _first(self) -> RecurrentCell:
        return cast(RecurrentCell, self.cells[0])

    def _layers(self) -> list[tuple[RecurrentCell, ...]]:
        directions = [self.cells] if self.reverse_cells is None else [self.cells, self.reverse_cells]
        return cast(list[tuple[RecurrentCell, ...]], list(zip(*directions, strict=True)))
