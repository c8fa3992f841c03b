"""Iterative normalization: whitening of groups of channels by Newton's iteration, without eigenvectors.

Shapes: N examples, C channels (axis 1) in G groups of D neighbours, any further axes are positions and count as
examples.
"""

import torch
from torch import Tensor

from bncore.norm._whitening import Whitening, iterated_inverse_square_root, regularized


class IterNorm(Whitening):
    """Whitening of groups of channels that stops short of full decorrelation where that would amplify noise.

    Training: `y = weight * (W (x - mean)) + bias` with, for each group, the biased covariance of the batch plus
    `eps * I`, called S (D, D), its trace t, and `W = P_T / sqrt(t)`, where `P_0 = I` and
    `P_(k+1) = (3 P_k - P_k^3 S / t) / 2`. Evaluation: the same with the running mean and the running mean of W.
    Input and output: (N, C, ...).

    The iteration runs in its coupled form, `Y_(k+1) = Y_k Q_k`, `P_(k+1) = Q_k P_k` with `Q_k = (3 I - P_k Y_k) / 2`
    and `Y_0 = S / t`: the same numbers, since all are polynomials of S, but rounding does not grow with T. What S
    stretches most is whitened first: an eigenvalue of S becomes `e_T` in the covariance of the output (but for eps),
    where `e_0` is its share of t and `e_(k+1) = e_k (3 - e_k)^2 / 4`; small ones grow 9/4-fold with each iteration.

    Differences from `torch.nn.BatchNorm*`: the whitening; `running_projection` (G, D, D) in place of `running_var`: as
    in the paper it is the whitening matrix that is averaged, so evaluation costs one product. Groups of one channel are
    batch norm in training; evaluation averages 1 / sigma instead of the variance. A batch with no more values than a
    group has channels has a singular covariance; the iteration leaves its null space small.

    arXiv 1904.03441, section 3: Newton's iteration, algorithm 1, and its running averages.

    Args:
        num_features: C, a multiple of `num_groups`.
        num_groups: G; each group of neighbours is whitened by itself.
        iterations: T; 5 in the paper.
        eps: added to the diagonal of the covariance.
        momentum: weight of the newest batch in the running statistics; None averages all batches equally.
        affine: learn `weight` and `bias` (C,).
        bias: learn `bias` too, where `affine` does; it is None otherwise.
        nan_guard: leave the running statistics of a group as they are where the batch's are not finite.

    Raises:
        ValueError: where the groups do not divide the channels or `iterations` is below 1; from the forward pass as
            `BatchNorm`.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: int = 1,
        iterations: int = 5,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        nan_guard: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        bias: bool = True,
    ) -> None:
        if iterations < 1:
            raise ValueError(f"at least one iteration is needed, got {iterations}")
        super().__init__(
            num_features, num_groups, "projection", eps, momentum, affine, nan_guard, device, dtype, bias=bias
        )
        self.iterations = iterations

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, iterations={self.iterations}"

    def _whitening_matrix(self, covariance: Tensor) -> Tensor:
        return iterated_inverse_square_root(regularized(covariance, self.eps), self.iterations)
