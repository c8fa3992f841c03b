"""Decorrelated batch norm (arXiv 1804.08450) and iterative normalization (arXiv 1904.03441), in groups of two channels.

For two channels the inverse square root has a closed form, which no eigenvectors enter: it is the oracle for ZCA.
"""

import torch
from torch import Tensor, nn

from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from bncore.norm.iter_norm import IterNorm
from tests.bncore.norm.case import Case, affine, batch_axes, per_channel


def inverse_root_of_two(matrix: Tensor) -> Tensor:
    """Of symmetric positive definite matrices (..., 2, 2), by Cayley and Hamilton."""
    a, b, c = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
    root_of_determinant = (a * c - b * b).sqrt()
    scale = 1 / (root_of_determinant * (a + c + 2 * root_of_determinant).sqrt())
    first = torch.stack((c + root_of_determinant, -b), dim=-1)
    second = torch.stack((-b, a + root_of_determinant), dim=-1)
    return torch.stack((first, second), dim=-2) * scale[..., None, None]


def newton(matrix: Tensor, iterations: int) -> Tensor:
    """The paper's iteration for the inverse square root, in its own form."""
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    approximation = torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand_as(matrix)
    for _ in range(iterations):
        cube = approximation @ approximation @ approximation
        approximation = (3 * approximation - cube @ (matrix / trace)) / 2
    return approximation / trace.sqrt()


def groups_of(x: Tensor, groups: int) -> Tensor:
    """(G, C / G, values)."""
    return x.transpose(0, 1).reshape(groups, x.shape[1] // groups, -1)


def covariance(x: Tensor, groups: int, correction: int = 0) -> Tensor:
    """(G, C / G, C / G)."""
    rows = groups_of(x, groups)
    centred = rows - rows.mean(-1, keepdim=True)
    return centred @ centred.transpose(-1, -2) / (rows.shape[-1] - correction)


def project(layer: nn.Module, x: Tensor, mean: Tensor, matrix: Tensor) -> Tensor:
    """The matrix of each group times its centred channels, then scale and shift."""
    rows = matrix @ groups_of(x - per_channel(mean, x), layer.num_groups)
    return affine(layer, rows.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1))


def _regular(layer: nn.Module, matrix: Tensor) -> Tensor:
    return matrix + layer.eps * torch.eye(matrix.shape[-1], dtype=matrix.dtype)


def _zca(layer: nn.Module, x: Tensor) -> Tensor:
    matrix = inverse_root_of_two(_regular(layer, covariance(x, layer.num_groups)))
    return project(layer, x, x.mean(batch_axes(x)), matrix)


def _zca_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return project(layer, x, layer.running_mean, inverse_root_of_two(_regular(layer, layer.running_covariance)))


def _running_mean(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    mean = layer.running_mean + layer.momentum * (x.mean(batch_axes(x)) - layer.running_mean)
    return {"running_mean": mean, "num_batches_tracked": layer.num_batches_tracked + 1}


def _zca_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    step = covariance(x, layer.num_groups, correction=1) - layer.running_covariance
    return {**_running_mean(layer, x), "running_covariance": layer.running_covariance + layer.momentum * step}


def _batch_newton(layer: nn.Module, x: Tensor) -> Tensor:
    return newton(_regular(layer, covariance(x, layer.num_groups)), layer.iterations)


def _iter_norm(layer: nn.Module, x: Tensor) -> Tensor:
    return project(layer, x, x.mean(batch_axes(x)), _batch_newton(layer, x))


def _iter_norm_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    return project(layer, x, layer.running_mean, layer.running_projection)


def _iter_norm_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    step = _batch_newton(layer, x) - layer.running_projection
    return {**_running_mean(layer, x), "running_projection": layer.running_projection + layer.momentum * step}


_MATRICES = torch.tensor([[[1.5, 0.6], [0.6, 0.9]], [[0.7, -0.3], [-0.3, 2.0]]], dtype=torch.float64)


def _set_covariance(layer: nn.Module) -> None:
    layer.running_covariance.copy_(_MATRICES)


def _set_projection(layer: nn.Module) -> None:
    layer.running_projection.copy_(_MATRICES)


CASES = [
    Case(
        "decorrelated_batch_norm",
        lambda: DecorrelatedBatchNorm(4, num_groups=2),
        _zca,
        _zca_evaluation,
        _zca_statistics,
        _set_covariance,
    ),
    Case(
        "iter_norm",
        lambda: IterNorm(4, num_groups=2),
        _iter_norm,
        _iter_norm_evaluation,
        _iter_norm_statistics,
        _set_projection,
    ),
]
