"""Spectral normalization: weights divided by their largest singular value, followed by power iteration.

The class is our own and not torch's because torch draws its start vectors from the global generator, moves its vectors
again when activation checkpointing repeats a forward pass, and cannot run under `vmap`. State keys are torch's.

Invariant: each forward pass in training moves the vectors once, and a repetition of it inside a backward pass gets the
vectors that the first run used.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bncore.norm._dispatch import being_transformed
from bncore.norm._fold import fold, weight_of
from bncore.norm._moments import statistics_dtype
from bncore.norm._recompute import may_run_again, recall, recomputing, remember

_START_ITERATIONS = 15
"""torch's number as well."""


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
    `.0._u`, `.0._v`) are the same. As there, a weight of zeros gives NaN, and a parametrized module can be deep-copied,
    but pickled only after `remove_spectral_norm`.

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
    return module


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

    def forward(self, weight: Tensor) -> Tensor:
        wide = weight.to(statistics_dtype(weight.dtype))
        if weight.dim() == 1:
            return _unit(wide, self.eps).to(weight.dtype)
        matrix = self._matrix(wide)
        u, v = self._vectors(matrix.detach())
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

    def extra_repr(self) -> str:
        return f"power_iterations={self.power_iterations}, eps={self.eps}"

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.movedim(self.unit_axis, 0).flatten(1)

    def _vectors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training or recomputing():
            return self._kept(matrix)
        with torch.no_grad():
            u, v = _iterate(matrix, self._v.to(matrix.dtype), self.power_iterations, self.eps)
            self._u.copy_(u)
            self._v.copy_(v)
        if not torch.compiler.is_compiling() and self._input is not None:
            remember(self, self._input, torch.cat((u, v)))
        return u, v

    def _kept(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors as they are, or in a pass that runs again, as they were."""
        if self.training and self._input is not None:
            u, v = recall(self, self._input)[0].split(list(matrix.shape))
            return u, v
        # Copies: a later pass in training moves them before this one's backward pass has read them.
        return self._u.to(matrix.dtype, copy=True), self._v.to(matrix.dtype, copy=True)


def _iterate(matrix: Tensor, v: Tensor, steps: int, eps: float) -> tuple[Tensor, Tensor]:
    u = v
    for _ in range(steps):
        u = _unit(_times(matrix, v), eps)
        v = _unit(_times(matrix.T, u), eps)
    return u, v


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Their product; autocast would take `torch.mv` in half precision."""
    product: Tensor = (matrix * vector).sum(1)
    return product


def _unit(vector: Tensor, eps: float) -> Tensor:
    unit: Tensor = vector / torch.linalg.vector_norm(vector).clamp_min(eps)
    return unit


def _fingerprint(x: Tensor) -> Tensor:
    """Three numbers (3,) that hardly two batches share; the last depends on the order of the examples."""
    flat = x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32).flatten()
    place = torch.linspace(0.0, 1.0, flat.numel(), dtype=flat.dtype, device=flat.device)
    return torch.stack((flat.mean(), flat.square().mean(), (flat * place).mean()))
