"""Recurrent layers of a network: torch's own where nothing is normalized, cells with norms inside where something is.

Shapes: N sequences, T steps, F features, H hidden units, G gates. Matrices are drawn from a stream of their own each,
so that a layer with norms and torch's, which have different parameters, start from the same matrices.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, assert_never

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from bncore.networks.init import initialize
from bncore.norm._moments import statistics_dtype
from bncore.norm._valid import TakesValid
from bncore.norm.model.overlay import Overlay, lay_over
from bncore.recurrent import SequenceBatchNorm, StepBatchNorm
from bncore.recurrent._gate_layer_norm import GateLayerNorm
from bncore.recurrent._lstm import LSTM
from bncore.recurrent._placed import placed_layer
from bncore.seeds import derive_seed
from bncore.spec.blueprint import Recurrent, Signal
from bncore.spec.blueprint.recurrent import GATES, Cell, Inside
from bncore.spec.init import DefaultInit
from bncore.spec.norm.recurrent import (
    RecurrentLayerNormSpec,
    SequenceBatchNormSpec,
    StepBatchNormSpec,
)

_PLAIN: dict[Cell, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class OutputsOfTorch(Overlay, TakesValid):
    """Of `torch.nn.RNN`, `LSTM` and `GRU`: (N, T, F) to their outputs (N, T, H), without the last states.

    Padding comes behind the valid steps and so reaches none of them, but in the backward direction. There sequences
    are packed, for which lengths are read back from the device.
    """

    wants_lengths: ClassVar[bool] = True

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = super()
        lengths = _lengths_for(self)
        if lengths is None or not self.bidirectional:
            y: Tensor = layer.forward(x)[0]
            return y
        on_cpu = lengths.clamp(1, x.shape[1]).cpu()
        packed = pack_padded_sequence(x, on_cpu, batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(layer.forward(packed)[0], batch_first=True, total_length=x.shape[1])
        return y


class OutputsOfCells(Overlay, TakesValid):
    """Of the layers of `bncore.recurrent`: (N, T, F) to their outputs (N, T, H), without the last states.

    In training, sequences begin with a state h that is normal around 0 with a standard deviation of `initial_noise`
    (arXiv 1603.09025).
    """

    wants_lengths: ClassVar[bool] = True
    initial_noise: float = 0.0

    def forward(self, x: Tensor) -> Tensor:
        layer: Any = super()
        noisy = self.training and self.initial_noise > 0.0
        given = {"hx": self._noise(x), "step": 0} if noisy else {}
        y: Tensor = layer.forward(x, lengths=_lengths_for(self), **given)[0]
        return y

    def _noise(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        layer: Any = self
        shape = (2 if layer.bidirectional else 1, x.shape[0], layer.hidden_size)
        h = torch.randn(shape, device=x.device, dtype=statistics_dtype(x.dtype)) * self.initial_noise
        return (h, torch.zeros_like(h)) if isinstance(self, LSTM) else h


def recurrent_module(layer: Recurrent, signal: Signal) -> nn.Module:
    """The module of a layer for such a signal; its matrices are yet to be drawn."""
    options: dict[str, Any] = {
        "input_size": signal.channels,
        "hidden_size": layer.hidden,
        "bias": layer.bias,
        "batch_first": True,
        "bidirectional": layer.bidirectional,
    }
    if layer.cell == "rnn":
        options["nonlinearity"] = layer.nonlinearity
    if not layer.norms:
        module: nn.Module = _PLAIN[layer.cell](**options)
        lay_over(module, OutputsOfTorch)
        return module
    made: dict[str, Callable[[], nn.Module]] = {norm.place: _maker(norm, layer, signal.steps) for norm in layer.norms}
    module = placed_layer(layer.cell, made, **options)
    lay_over(module, OutputsOfCells)
    vars(module)["initial_noise"] = layer.initial_noise
    return module


def _maker(norm: Inside, layer: Recurrent, steps: int) -> Callable[[], nn.Module]:
    """What makes that normalization, for sequences of at most so many steps."""
    spec, channels, has_shift = norm.spec, layer.channels(norm.place), layer.has_shift(norm.place)
    match spec:
        case SequenceBatchNormSpec():
            return partial(SequenceBatchNorm, channels, spec.eps, spec.momentum, spec.affine, bias=has_shift)
        case StepBatchNormSpec():
            return partial(
                StepBatchNorm, channels, spec.rows(steps), spec.eps, spec.momentum, spec.gamma, bias=has_shift
            )
        case RecurrentLayerNormSpec():
            # As in the paper's supplement, the gates of a GRU are normalized together, and its candidate by itself.
            parts = (2 * layer.hidden, layer.hidden) if layer.cell == "gru" else (channels,)
            return partial(GateLayerNorm, parts, spec.eps, bias=has_shift)
        case _:
            assert_never(spec)


def draw_recurrent(module: nn.Module, layer: Recurrent, seed: int) -> None:
    """Set the matrices and biases of what `recurrent_module` has made.

    Where there are two biases that add up, one has what a single one would have, and the other is 0.
    """
    for direction, parameters in zip(layer.directions, _parameters(module, layer), strict=True):
        with torch.no_grad():
            for name, parameter in parameters.items():
                own = derive_seed(seed, direction, name)
                if name.startswith("weight"):
                    parameter.copy_(_matrix(parameter.shape, name, layer, own))
                else:
                    parameter.zero_()
            bias = parameters.get("bias_ih", parameters.get("bias"))
            if bias is not None:
                _draw_bias(bias, layer, derive_seed(seed, direction, "bias"))


def _draw_bias(bias: Tensor, layer: Recurrent, seed: int) -> None:
    if isinstance(layer.init, DefaultInit):
        bound = layer.init_scale / math.sqrt(layer.hidden)
        bias.uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    if layer.cell == "lstm":
        bias[layer.hidden : 2 * layer.hidden] += layer.forget_bias


def _lengths_for(layer: TakesValid) -> Tensor | None:
    if layer._handed is None:
        return None
    if layer._handed.mask is not None:
        raise ValueError("a recurrent layer has to know where sequences end: give lengths instead of a mask")
    return layer._handed.lengths


def _parameters(module: nn.Module, layer: Recurrent) -> list[dict[str, Tensor]]:
    """Of each direction, matrices and biases by their names without number and direction."""
    names = ("weight_ih", "weight_hh", "bias", "bias_ih", "bias_hh", "bias_hn")
    found = []
    for direction in layer.directions:
        if not layer.norms:
            suffix = "_l0" if direction == "forward" else "_l0_reverse"
            owner = module
        else:
            suffix = ""
            owner = module.get_submodule("cells.0" if direction == "forward" else "reverse_cells.0")
        own = {name: getattr(owner, name + suffix, None) for name in names}
        if hasattr(owner, "norm_h") and owner.bias is None:
            own["bias"] = getattr(owner.norm_h, "bias", None)
        found.append({name: value for name, value in own.items() if isinstance(value, Tensor)})
    return found


def _matrix(shape: torch.Size, name: str, layer: Recurrent, seed: int) -> Tensor:
    rows, columns = shape
    matrix = nn.Linear(columns, rows, bias=False)
    if name == "weight_ih" or layer.recurrent_init == "as_init":
        initialize(matrix, layer.init, seed, layer.init_scale)
        return matrix.weight
    nn.init.orthogonal_(matrix.weight, generator=torch.Generator().manual_seed(seed))
    if layer.recurrent_init == "identity":
        # The block of the candidate: the only one of an rnn, the third of the others in torch's order.
        candidate = 0 if GATES[layer.cell] == 1 else 2
        nn.init.eye_(matrix.weight[candidate * layer.hidden : (candidate + 1) * layer.hidden])
    return matrix.weight
