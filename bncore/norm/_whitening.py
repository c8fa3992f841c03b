"""What layers share that whiten groups of channels, whichever way they find the whitening matrix.

Shapes: N examples, C channels (axis 1) in G groups of D neighbours, any further axes are positions; M values a channel.
Covariances come from centred values, in float32 at least. All is made of primitive operations, so that every transform
of `torch.func` applies.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from bncore.norm._affine import scale_and_shift
from bncore.norm._autocast import without_autocast
from bncore.norm._dispatch import blend, may_use_native
from bncore.norm._moments import statistics_dtype
from bncore.norm._other_formula import OtherFormula
from bncore.norm._snapshot import as_of_now
from bncore.norm.batch_norm import BatchNorm

_EXACT_ORDERS = 4
"""Hessians take two orders, the third-order checks three; each costs two products of D x D matrices."""


class Whitening(OtherFormula, BatchNorm, ABC):
    """`y = weight * (W (x - mean)) + bias` with one matrix W (D, D) for each group of channels.

    A subclass says how W follows from the covariance of a batch, and which of the two is averaged for evaluation.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G.
        averaged: what the buffer `running_covariance` or `running_projection` (G, D, D) averages: the unbiased
            covariance, or W.
        eps: added to the diagonal of the covariance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a group as they are where the batch's are not finite.

    Raises:
        ValueError: where the groups do not divide the channels; from the forward pass as `BatchNorm`.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int,
        averaged: Literal["covariance", "projection"],
        eps: float,
        momentum: float | None,
        affine: bool,
        nan_guard: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_features % num_groups:
            raise ValueError(f"{num_groups} groups do not divide {num_features} channels")
        super().__init__(
            num_features, eps, momentum, affine, nan_guard=nan_guard, device=device, dtype=dtype, bias=bias
        )
        self.num_groups = num_groups
        self._averaged = averaged
        # A variance per channel takes no part here, and would be a key that says nothing.
        self.running_var = None
        width = num_features // num_groups
        matrix = torch.empty(num_groups, width, width, device=device, dtype=dtype)
        self.register_buffer(f"running_{averaged}", matrix)
        self.reset_running_stats()

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, num_groups={self.num_groups}"

    def reset_running_stats(self) -> None:
        """Mean 0, matrix identity, no batch seen."""
        # The constructor of the superclass calls this before there is a matrix.
        if not hasattr(self, "_averaged"):
            return
        assert self.running_mean is not None
        assert self.num_batches_tracked is not None
        self.running_mean.zero_()
        self.num_batches_tracked.zero_()
        matrix = self._running_matrix()
        matrix.zero_()
        matrix.diagonal(dim1=-2, dim2=-1).fill_(1.0)

    def _normalize_with_batch(self, x: Tensor) -> Tensor:
        with without_autocast(x):
            rows = _rows(x, self.num_groups)
            mean = rows.mean(-1, keepdim=True)
            centred = rows - mean
            count = rows.shape[-1]
            covariance = centred @ centred.mT / count
            matrix = self._whitening_matrix(covariance)
            if self._updates():
                newest = matrix if self._averaged == "projection" else covariance * (count / (count - 1))
                self._average(mean.detach(), newest.detach())
            return self._batch(matrix @ centred, x)

    def _normalize_with_running(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None
        with without_autocast(x):
            rows = _rows(x, self.num_groups)
            mean = self.running_mean.to(rows.dtype).view(self.num_groups, -1, 1)
            (matrix,) = as_of_now(self._running_matrix())
            matrix = matrix.to(rows.dtype)
            if self._averaged == "covariance":
                matrix = self._whitening_matrix(matrix)
            return self._batch(matrix @ (rows - mean), x)

    @abstractmethod
    def _whitening_matrix(self, covariance: Tensor) -> Tensor:
        """W of each group from covariances (G, D, D); differentiable."""

    def _running_matrix(self) -> Tensor:
        return self.get_buffer(f"running_{self._averaged}")

    def _average(self, mean: Tensor, matrix: Tensor) -> None:
        """Count this batch and average its mean (G, D, 1) and matrix (G, D, D)."""
        assert self.running_mean is not None
        with torch.no_grad():
            newest = self._count(mean, matrix)
            kept_mean, kept_matrix = self.running_mean.view(mean.shape), self._running_matrix()
            if self.nan_guard:
                # A matrix of which only some entries move need not stay positive definite: a group moves as a whole.
                finite = matrix.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
                mean = torch.where(finite, mean, kept_mean.to(mean.dtype))
                matrix = torch.where(finite, matrix, kept_matrix.to(matrix.dtype))
            blend(kept_mean, mean, newest)
            blend(kept_matrix, matrix, newest)

    def _batch(self, rows: Tensor, x: Tensor) -> Tensor:
        """Rows (G, D, M) in the shape, type and memory layout of `x`, scaled and shifted."""
        y = rows.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)
        return scale_and_shift(_laid_out_like(y, x), self.weight, self.bias).to(x.dtype)


def regularized(covariance: Tensor, eps: float) -> Tensor:
    """`covariance + eps * I`."""
    return covariance + eps * torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)


def inverse_square_root(matrix: Tensor, floor: float) -> Tensor:
    """The symmetric inverse square root of symmetric matrices (..., D, D) whose eigenvalues are at least `floor`.

    Derivatives up to the fourth order are right, whatever the eigenvalues; equal ones are nothing special. The
    derivative of eigenvectors, which divides by differences of eigenvalues, does not enter: with the eigenvectors V
    held constant, `R = V' matrix V` is diagonal, and W with `W R W = 1` is found by Newton's method with its Jacobian
    held constant at the solution. The first step gives the first derivative in its closed form (Daleckii and Krein
    1965), `dW_ij = -dR_ij / (s_i s_j (s_i + s_j))` with s the roots of the eigenvalues. Each further step makes one
    more order right.
    """
    constant = matrix.detach()
    # LAPACK refuses what is not finite. The output is not finite then either: R still is not.
    finite = constant.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    values, vectors = torch.linalg.eigh(torch.where(finite, constant, identity))
    root = values.clamp_min(floor).sqrt()
    rotated = vectors.mT @ matrix @ vectors
    # Rounding must not enter the steps, which a nearly singular matrix would amplify: at the solution they add zero.
    rotated = rotated - rotated.detach() + torch.diag_embed(root.square())
    sums = root.unsqueeze(-1) + root.unsqueeze(-2)
    whitened = torch.diag_embed(root.reciprocal())
    for _ in range(_EXACT_ORDERS):
        whitened = whitened - (whitened @ rotated @ whitened - identity) / sums
    root_inverse: Tensor = vectors @ whitened @ vectors.mT
    return root_inverse


def iterated_inverse_square_root(matrix: Tensor, iterations: int) -> Tensor:
    """What Newton's iteration in its coupled form has found of the inverse square root, from products alone.

    Of an eigenvalue that is a share e of the trace, it has found all digits when (9/4)^iterations is some times 1 / e.
    """
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    # Not `diagonal`, which the default compiler lowers with a warning.
    trace = (matrix * identity).sum((-2, -1), keepdim=True)
    root, inverse_root = matrix / trace, identity
    for step in range(iterations):
        factor = 1.5 * identity - 0.5 * (inverse_root @ root)
        inverse_root = factor @ inverse_root
        # The last root is not needed.
        root = root @ factor if step + 1 < iterations else root
    return inverse_root * trace.rsqrt()


def _rows(x: Tensor, groups: int) -> Tensor:
    """(G, D, M), in the type in which statistics are taken."""
    wide = x.to(statistics_dtype(x.dtype))
    return wide.transpose(0, 1).reshape(groups, x.shape[1] // groups, -1)


def _laid_out_like(y: Tensor, x: Tensor) -> Tensor:
    """`y` in the memory format of `x`; contiguous under transforms, which do not know formats."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    # By its name, the format cannot be asked for where vmap is compiled.
    last = x.dim() in formats and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()
    if last and may_use_native(x):
        return y.contiguous(memory_format=formats[x.dim()])
    return y.contiguous()
