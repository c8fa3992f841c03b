"""What all recurrent cells here share: two normalized projections, and the walk along a sequence.

Shapes: T steps, N sequences, I inputs, H hidden units, G gates. A sequence that is over keeps its state, and its output
is zero.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bncore.norm._batches import check_floating_point
from bncore.norm._moments import statistics_dtype
from bncore.recurrent._masked import check_valid, without_padding
from bncore.recurrent._step_pass import Pass, PlainPass, SequencePass
from bncore.recurrent.sequence_batch_norm import SequenceBatchNorm
from bncore.recurrent.step_batch_norm import StepBatchNorm

State = tuple[Tensor, ...]
Normalize = Callable[[Tensor], Tensor]
RecurrentInit = Literal["orthogonal", "identity"]


class RecurrentCell(nn.Module, ABC):
    """A cell whose input and hidden projections are normalized by `norm_ih` and `norm_hh` before they are added.

    Subclasses say what happens then. Any layer that maps (T, N, G H) to itself can stand in the place of a norm.
    """

    gates: int
    candidate: int
    """Number of the gate through tanh."""
    num_states: int
    bias: nn.Parameter | None
    norm_ih: nn.Module
    norm_hh: nn.Module

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        recurrent_init: RecurrentInit,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        if recurrent_init not in ("orthogonal", "identity"):
            raise ValueError(f"recurrent_init must be 'orthogonal' or 'identity', got {recurrent_init!r}")
        if hidden_size < 1:
            raise ValueError(f"hidden_size must be at least 1, got {hidden_size}")
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.recurrent_init = recurrent_init
        rows = self.gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size, device=device, dtype=dtype))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size, device=device, dtype=dtype))
        shift = nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", shift)

    def reset_parameters(self) -> None:
        """Orthogonal matrices (the candidate's block of `weight_hh` the identity if so asked), zero biases."""
        _orthogonal(self.weight_ih)
        _orthogonal(self.weight_hh)
        if self.recurrent_init == "identity":
            nn.init.eye_(self._block(self.weight_hh, self.candidate))
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        for layer in self.children():
            reset = getattr(layer, "reset_parameters", None)
            if callable(reset):
                reset()

    def run(self, x: Tensor, state: State, valid: Tensor | None = None, step: int = 0) -> tuple[Tensor, State]:
        """Walk along `x` (T, N, I) from `state`, tensors (N, H).

        Args:
            x: zero wherever `valid` is False.
            state: before the first step.
            valid: (T, N), False at padding.
            step: number of the first step, which chooses the statistics.

        Returns:
            Outputs (T, N, H) and the last state, both in the precision in which statistics are taken.
        """
        over_input, over_hidden, *others = (_follow(layer, x, valid, step) for layer in self._norms())
        projected = over_input.normalize(0, _project(x, self.weight_ih))
        if self.bias is not None:
            projected = projected + self.bias
        outputs = []
        for at in range(x.shape[0]):
            hidden = over_hidden.normalize(at, _project(state[0].unsqueeze(0), self.weight_hh))
            normalize_others = [partial(one.normalize, at) for one in others]
            newest = self._advance(projected[at], hidden.squeeze(0), state, normalize_others)
            if valid is None:
                state = newest
                outputs.append(state[0])
            else:
                here = valid[at].unsqueeze(-1)
                state = tuple(torch.where(here, new, old) for new, old in zip(newest, state, strict=True))
                outputs.append(without_padding(newest[0], valid[at]))
        for one in (over_input, over_hidden, *others):
            one.finish()
        return torch.stack(outputs), state

    def _norms(self) -> tuple[nn.Module, ...]:
        """Those of the input and the hidden projection, and any others that `_advance` uses."""
        return self.norm_ih, self.norm_hh

    @abstractmethod
    def _advance(self, projected: Tensor, hidden: Tensor, state: State, others: Sequence[Normalize]) -> State:
        """The next state from both normalized projections (N, G H), of which the first includes the bias.

        `others` are the norms beyond those two at this step, on (1, N, ...).
        """

    def _block(self, matrix: Tensor, gate: int) -> Tensor:
        """The rows of one gate."""
        return matrix[gate * self.hidden_size : (gate + 1) * self.hidden_size]

    def step_once(self, given: Tensor, state: State | None, step: int | None, valid: Tensor | None) -> State:
        """One step for `given` (N, I) or (I,); the state comes back in its shape and type."""
        if given.dim() not in (1, 2):
            raise ValueError(f"expected 1 or 2 axes, got input size {tuple(given.shape)}")
        batched = given.dim() == 2
        x = given if batched else given.unsqueeze(0)
        check_input(x, self.weight_ih)
        first = self.first_step(step, state is not None)
        if state is None:
            state = self.zeros(x)
        else:
            check_kind(state, self.num_states)
            state = tuple(tensor if batched else tensor.unsqueeze(0) for tensor in state)
        wide = statistics_dtype(self.weight_hh.dtype)
        state = tuple(tensor.to(wide) for tensor in state)
        check_state(state, (x.shape[0], self.hidden_size))
        check_valid(valid, (x.shape[0],))
        mask = None if valid is None else valid.unsqueeze(0)
        _, state = self.run(without_padding(x, valid).unsqueeze(0), state, mask, first)
        return tuple((tensor if batched else tensor.squeeze(0)).to(given.dtype) for tensor in state)

    def first_step(self, step: int | None, has_state: bool) -> int:
        """The number of the first step, as it is given. Raises ValueError where a state comes without it and needs it.

        That is where statistics depend on it: those of step 0 are for sequences that begin.
        """
        depends = any(isinstance(norm, StepBatchNorm) and norm.max_length > 1 for norm in self._norms())
        if step is None and has_state and depends:
            raise ValueError(
                "the statistics of a step depend on its number, which a state does not say: give `step`, the number of "
                "steps before this input (0 where its sequences begin)"
            )
        return step or 0

    def zeros(self, x: Tensor) -> State:
        """The state before the first step for input (..., N, I)."""
        wide = statistics_dtype(self.weight_hh.dtype)
        zero = torch.zeros(x.shape[-2], self.hidden_size, device=x.device, dtype=wide)
        return (zero,) * self.num_states

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, bias={self.bias is not None}"


def check_input(x: Tensor, weight: Tensor) -> None:
    """Raise ValueError unless `x` (..., I) fits `weight` (G H, I), and its type is as wide or loses nothing."""
    check_floating_point(x)
    if x.shape[-1] != weight.shape[1]:
        raise ValueError(f"expected {weight.shape[1]} inputs, got input size {tuple(x.shape)}")
    if torch.promote_types(x.dtype, weight.dtype) != weight.dtype:
        raise ValueError(f"input of type {x.dtype} would lose digits in parameters of type {weight.dtype}")


def check_kind(states: object, count: int) -> None:
    """Raise ValueError unless so many tensors were given as the state; in a tuple, where it is more than one."""
    given = states if isinstance(states, tuple | list) else (states,)
    if len(given) != count or not all(isinstance(one, Tensor) for one in given):
        wanted = "a tensor" if count == 1 else f"a tuple of {count} tensors"
        raise ValueError(f"expected {wanted} as the state hx")


def check_state(states: State, wanted: tuple[int, ...]) -> None:
    """Raise ValueError unless all of them have this shape."""
    for state in states:
        if state.shape != wanted:
            raise ValueError(f"expected a state of size {wanted}, got {tuple(state.shape)}")


def _follow(layer: nn.Module, x: Tensor, valid: Tensor | None, step: int) -> Pass:
    if isinstance(layer, StepBatchNorm):
        return layer.begin(x, valid, step)
    if isinstance(layer, SequenceBatchNorm) and valid is not None:
        return SequencePass(layer, valid)
    return PlainPass(layer)


def _project(x: Tensor, weight: Tensor) -> Tensor:
    y = F.linear(x.to(weight.dtype), weight)
    return y.to(statistics_dtype(y.dtype))


def _orthogonal(weight: Tensor) -> None:
    """There is no decomposition in half precision."""
    wide = torch.empty(weight.shape, device=weight.device, dtype=statistics_dtype(weight.dtype))
    with torch.no_grad():
        weight.copy_(nn.init.orthogonal_(wide))
