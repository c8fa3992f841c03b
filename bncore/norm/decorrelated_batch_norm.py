"""Decorrelated batch normalization: ZCA whitening of groups of channels by eigenvectors.

Shapes: N examples, C channels (axis 1) in G groups of D neighbours, any further axes are positions and count as
examples.
"""

import torch
from torch import Tensor

from bncore.norm._whitening import Whitening, inverse_square_root, iterated_inverse_square_root, regularized

_ITERATIONS = 50
"""Enough for all digits in double precision of matrices whose condition number it can tell from infinity."""


class DecorrelatedBatchNorm(Whitening):
    """Batch normalization that also removes the correlation between the channels of a group.

    Training: `y = weight * (W (x - mean)) + bias` with, for each group, the biased covariance S (D, D) of the batch and
    `W = (S + eps * I)^(-1/2)`, the symmetric root (ZCA): of all whitening matrices it moves the channels least.
    Evaluation: the same with the running mean and the running covariance. Input and output: (N, C, ...).

    Differences from `torch.nn.BatchNorm*`: the whitening; `running_covariance` (G, D, D) in place of `running_var`,
    with the unbiased covariance, so the keys are other ones. The covariance is averaged, not the whitening matrix as in
    the authors' code: the mean of inverse roots is not the inverse root of the mean, and is far too large where a batch
    has few more values than a group has channels. Evaluation finds the eigenvectors anew each time; exported to ONNX,
    which has none, it finds the same matrix by Newton's iteration in double precision. Groups of one channel are batch
    norm with `running_covariance` for `running_var`.

    A batch with no more values than a group has channels has a singular covariance; `eps` alone bounds W then. The
    gradient is right at equal eigenvalues; derivatives are right up to the fourth order.

    arXiv 1804.08450, section 3: ZCA whitening, algorithm 1, and group whitening.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G; each group of neighbours is whitened by itself.
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
        num_groups: int = 1,
        eps: float = 1e-3,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(
            num_features, num_groups, "covariance", eps, momentum, affine, nan_guard, device, dtype, bias=bias
        )

    def _whitening_matrix(self, covariance: Tensor) -> Tensor:
        matrix = regularized(covariance, self.eps)
        if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
            return iterated_inverse_square_root(matrix.double(), _ITERATIONS).to(matrix.dtype)
        return inverse_square_root(matrix, self.eps)
