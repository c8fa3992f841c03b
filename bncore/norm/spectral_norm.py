"""Spectral normalization: weights divided by their largest singular value, followed by power iteration.

The class is our own and not torch's because torch draws its start vectors from the global generator, moves its vectors
again when activation checkpointing repeats a forward pass, and cannot run under `vmap`. State keys are torch's.

Invariant: each forward pass in training moves the vectors once, and a repetition of it inside a backward pass gets the
vectors that the first run used.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._dispatch import being_transformed, can_be_asked
from bncore.norm._fold import fold, weight_of
from bncore.norm._moments import statistics_dtype
from bncore.norm._old_names import OldNames
from bncore.norm._recompute import may_run_again, recall, recomputing, remember
from bncore.norm._snapshot import snapshot

_START_ITERATIONS = 15
"""torch's number as well."""

_SETTLED = 1e-6
"""The relative change of the singular value in one step at which vectors count as found."""
_MOST_ITERATIONS = 1000


def spectral_norm(
    module: nn.Module, name: str = "weight", power_iterations: int = 1, eps: float = 1e-12, seed: int = 0
) -> nn.Module:
    """Replace `module.<name>` by itself divided by its largest singular value; returns the module.

    `w / (u^T W v)`, where W (O, I * ...) is the weight with one row per output unit (axis 1 of a transposed
    convolution's weight) and u (O,), v (I * ...,) follow its first singular vectors: each access to the weight in
    training makes `power_iterations` steps `u <- W v / |W v|`, `v <- W^T u / |W^T u|` first, evaluation makes none. u
    and v are constants of the derivative, of every order. A vector is divided by its 2-norm. A convolution's own norm
    as an operator is another one than that of W.

    Difference from `torch.nn.utils.parametrizations.spectral_norm`: the start vectors come from `seed` and not from
    the global generator, on every device alike; a forward pass that activation checkpointing repeats gets the vectors
    of its first run and does not move them (passes are told apart by the input of `module`: of two equal inputs before
    one backward pass, both get the first one's); half-precision weights are measured in float32, also under autocast;
    it runs under `torch.func`, where training has to be given u and v beside the parameters, for `vmap` stacked like
    them, since it writes to them (evaluation does not). Numbers and state keys (`parametrizations.<name>.original`,
    `.0._u`, `.0._v`) are the same, but for averages: where u and v of several models were averaged along with the
    weights (`AveragedModel(use_buffers=True)`), they are of no use, and evaluation finds those of the averaged weight;
    compiled or under `torch.func`, it only divides by their lengths. Where weights alone are averaged or changed, call
    `refresh_spectral_norm`. State of the older `torch.nn.utils.spectral_norm` (`weight_orig`, `weight_u`, `weight_v`)
    loads. As there, a weight of zeros gives NaN, and a parametrized module can be deep-copied, but pickled only after
    `remove_spectral_norm`. In training it can be compiled, and it can be checkpointed, but not both at once.

    arXiv 1802.05957, eq. 8 and algorithm 1 (appendix A).

    Args:
        module: the layer that holds the weight.
        name: the weight's name.
        power_iterations: steps at each access in training, at least 1.
        eps: the smallest norm that the steps divide by.
        seed: of the start vectors.

    Raises:
        ValueError: for less than one step, and where `module` has no such weight.
    """
    weight = weight_of(module, name)
    unit_axis = 1 if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d) else 0
    parametrization = SpectralNorm(weight, power_iterations, eps, unit_axis, seed)
    # `unsafe` spares the check of shapes, which would access the weight and so move the vectors.
    parametrize.register_parametrization(module, name, parametrization, unsafe=True)
    module.register_forward_pre_hook(parametrization.note_input)
    module.register_load_state_dict_pre_hook(OldNames(name, {"_orig": "original", "_u": "0._u", "_v": "0._v"}))
    return module


def refresh_spectral_norm(model: nn.Module) -> nn.Module:
    """Set u and v of all spectral norms in `model` to the singular vectors of their weights as they are now.

    For weights that were not reached by training: an average of several models, or numbers that were assigned. A pass
    over each weight for each step of the iteration, some hundred at most. The model is changed in place and returned.
    """
    for chain in model.modules():
        if not isinstance(chain, parametrize.ParametrizationList):
            continue
        names = ["original"] if chain.is_tensor else [f"original{number}" for number in range(chain.ntensors)]
        values: tuple[Tensor, ...] = tuple(getattr(chain, name) for name in names)
        for parametrization in chain:
            if isinstance(parametrization, SpectralNorm):
                parametrization.settle(*values)
            values = (parametrization(*values),)
    return model


def remove_spectral_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    """Make `module.<name>` a plain parameter again, with the value that it has in evaluation; returns the module."""
    return fold(module, name)


class SpectralNorm(nn.Module):
    """The parametrization that `spectral_norm` registers; it describes the numbers.

    Args:
        weight: what is normalized; the vectors get its device and type, and start by following it.
        power_iterations: steps at each access in training.
        eps: the smallest norm that the steps divide by.
        unit_axis: the axis of output units.
        seed: of the start vectors.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, power_iterations: int, eps: float, unit_axis: int, seed: int) -> None:
        if power_iterations < 1:
            raise ValueError(f"at least one power iteration is needed, got {power_iterations}")
        super().__init__()
        self.power_iterations = power_iterations
        self.eps = eps
        self.unit_axis = unit_axis
        self._input: Tensor | None = None
        if weight.dim() > 1:
            matrix = self._matrix(weight.detach().to(statistics_dtype(weight.dtype)))
            generator = torch.Generator().manual_seed(seed)
            start = torch.randn(matrix.shape[1], generator=generator, device="cpu").to(matrix)
            u, v = _iterate(matrix, start, _START_ITERATIONS, eps)
            self.register_buffer("_u", u.to(weight.dtype))
            self.register_buffer("_v", v.to(weight.dtype))
        # Which writing of the vectors left them with length 1, and what was found for some that were not.
        self._of_length_one: tuple[int, ...] = ()
        self._found: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        wide = weight.to(statistics_dtype(weight.dtype))
        if weight.dim() == 1:
            return _unit(wide, self.eps).to(weight.dtype)
        matrix = self._matrix(wide)
        u, v = self._vectors(matrix.detach(), weight)
        return (wide / (_times(matrix, v) * u).sum()).to(weight.dtype)

    def right_inverse(self, value: Tensor) -> Tensor:
        """An assigned value is what gets normalized."""
        return value

    def note_input(self, _module: nn.Module, inputs: tuple[object, ...]) -> None:
        """Before the layer's forward pass: what tells it from others, should it run again."""
        if torch.compiler.is_compiling():
            return
        self._input = None
        x = inputs[0] if inputs and self.training and (recomputing() or may_run_again()) else None
        if isinstance(x, Tensor) and not being_transformed(x):
            self._input = _fingerprint(x)

    @torch.no_grad()
    def settle(self, weight: Tensor) -> None:
        """Set u and v to the singular vectors of `weight`."""
        if weight.dim() > 1:
            matrix = self._matrix(weight.to(statistics_dtype(weight.dtype)))
            u, v = _settled(matrix, self._v.to(matrix.dtype), self.eps)
            self._u.copy_(u)
            self._v.copy_(v)

    def extra_repr(self) -> str:
        return f"power_iterations={self.power_iterations}, eps={self.eps}"

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.unit_axis, 0).flatten(1)

    def _vectors(self, matrix: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training or recomputing():
            return self._kept(matrix, weight)
        with torch.no_grad():
            u, v = _iterate(matrix, self._v.to(matrix.dtype), self.power_iterations, self.eps)
            self._u.copy_(u)
            self._v.copy_(v)
        if torch.compiler.is_compiling():
            if not torch.compiler.is_exporting():
                # A backward pass that ran this again would go on from the vectors that this pass leaves.
                u, v = snapshot(torch.cat((u, v))).split(list(matrix.shape))
            return u, v
        if self._input is not None:
            remember(self, self._input, torch.cat((u, v)))
        if can_be_asked(matrix) and not being_transformed(matrix):
            self._of_length_one = _last_written(self._u, self._v)
        return u, v

    def _kept(self, matrix: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors as they are, or in a pass that runs again, as they were."""
        if self.training and self._input is not None:
            u, v = recall(self, self._input)[0].split(list(matrix.shape))
            return u, v
        # Copies: a later pass in training moves them before this one's backward pass has read them.
        u, v = self._u.to(matrix.dtype, copy=True), self._v.to(matrix.dtype, copy=True)
        if not can_be_asked(matrix) or being_transformed(matrix):
            # Nothing can be asked here: averages are brought to their length, but may point a little elsewhere.
            lengths = _length(u) * _length(v)
            return u, torch.where((lengths - 1.0).abs() <= self._tolerance(), v, v / lengths.clamp_min(self.eps))
        return self._anew(matrix, weight, u, v) if self._are_averages(u, v) else (u, v)

    def _are_averages(self, u: Tensor, v: Tensor) -> bool:
        """Whether the vectors are not of length 1, as they are where all tensors of several models were averaged."""
        written = _last_written(self._u, self._v)
        if u.device.type != "cpu" and written and written == self._of_length_one:
            # Else a number is read back from the device, which would stall it.
            return False
        averages = not bool((_length(u) * _length(v) - 1.0).abs() <= self._tolerance())
        self._of_length_one = () if averages else written
        return averages

    def _anew(self, matrix: Tensor, weight: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The singular vectors of averaged weights, which the averages `u` and `v` of vectors are not."""
        written, averages = _last_written(weight), torch.cat((u, v))
        if self._found is None or not written or self._found[0] != written or not self._found[1].equal(averages):
            with torch.no_grad():
                self._found = written, averages, torch.cat(_settled(matrix, v, self.eps))
        u, v = self._found[2].split(list(matrix.shape))
        return u, v

    def _tolerance(self) -> float:
        """Of the product of two lengths that are 1 but for rounding."""
        return max(1e-4, 2.0 * torch.finfo(self._v.dtype).eps)


def _iterate(matrix: Tensor, v: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor]:
    u = v
    for _ in range(steps):
        u = _unit(_times(matrix, v), eps)
        v = _unit(_times(matrix.T, u), eps)
    return u, v


def _settled(matrix: Tensor, v: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    value = matrix.new_zeros(())
    for _ in range(_MOST_ITERATIONS):
        last = value
        u, v = _iterate(matrix, v, 1, eps)
        value = (_times(matrix, v) * u).sum()
        if not bool((value - last).abs() > _SETTLED * value):
            break
    return u, v


def _last_written(*tensors: Tensor) -> tuple[int, ...]:
    """What is another one after somebody wrote to them; empty where that cannot be told."""
    if any(tensor.is_inference() for tensor in tensors):
        return ()
    return tuple(number for tensor in tensors for number in (tensor.data_ptr(), tensor._version))


def _length(vector: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vector)
    return length


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Their product; autocast would take `torch.mv` in half precision."""
    product: Tensor = (matrix * vector).sum(1)
    return product


def _unit(vector: Tensor, eps: float) -> Tensor:
    unit: Tensor = vector / _length(vector).clamp_min(eps)
    return unit


def _fingerprint(x: Tensor) -> Tensor:
    """Three numbers (3,) that hardly two batches share; the last depends on the order of the examples."""
    flat = x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32).flatten()
    place = torch.linspace(0.0, 1.0, flat.numel(), dtype=flat.dtype, device=flat.device)
    return torch.stack((flat.mean(), flat.square().mean(), (flat * place).mean()))
