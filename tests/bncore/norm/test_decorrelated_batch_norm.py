"""Decorrelated batch norm: the covariance of its output, ZCA among whitenings, derivatives at equal eigenvalues."""

import pytest
import torch
from torch import Tensor

from bncore.norm._whitening import inverse_square_root
from bncore.norm.decorrelated_batch_norm import DecorrelatedBatchNorm
from tests.bncore.norm.cases.whitening import covariance, inverse_root_of_two
from tests.bncore.norm.test_whitening import correlated


@pytest.mark.parametrize("condition", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_covariance_of_the_output_is_the_identity_but_for_eps(condition: float, dtype: torch.dtype) -> None:
    layer = DecorrelatedBatchNorm(8, eps=1e-5).to(dtype)
    x = correlated(256, condition)
    values = torch.linalg.eigvalsh(covariance(x, 1)[0])
    found = torch.linalg.eigvalsh(covariance(layer(x.to(dtype)).detach().double(), 1)[0])
    # What is left of each eigenvalue l is l / (l + eps); rounding grows with the condition number.
    left = (values / (values + layer.eps)).sort().values
    torch.testing.assert_close(found, left, rtol=0, atol=40 * condition * torch.finfo(dtype).eps)


@pytest.mark.parametrize("seed", range(3))
def test_rotating_the_channels_of_the_input_rotates_the_output(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator, dtype=torch.float64))
    layer = DecorrelatedBatchNorm(8).double()
    x = correlated(64, 50.0, seed=seed)
    torch.testing.assert_close(layer(x @ rotation.T), layer(x) @ rotation.T, rtol=1e-9, atol=1e-9)


def test_four_channels_follow_the_eigenvectors_of_the_covariance() -> None:
    layer = DecorrelatedBatchNorm(4).double()
    x, other = correlated(32, 20.0, channels=4).requires_grad_(), correlated(32, 20.0, channels=4).requires_grad_()
    centred = other - other.mean(0)
    # torch differentiates through the eigenvectors themselves, which is right while eigenvalues are far apart.
    values, vectors = torch.linalg.eigh(centred.T @ centred / 32 + layer.eps * torch.eye(4, dtype=torch.float64))
    expected = centred @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
    y = layer(x)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
    for mine, theirs in zip(two_orders(y, x), two_orders(expected, other), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def two_orders(y: Tensor, x: Tensor) -> list[Tensor]:
    (first,) = torch.autograd.grad((y.sin() * y).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sin().sum(), x)
    return [first, second]


@pytest.mark.parametrize("gap", [0.0, 1e-13, 1e-6])
def test_derivatives_of_four_orders_are_right_at_nearly_equal_eigenvalues(gap: float) -> None:
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    direction = direction + direction.T
    weights = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    start = torch.tensor([[1.3, 0.0], [0.0, 1.3 + gap]], dtype=torch.float64)

    def derivatives(function: object) -> list[float]:
        t = torch.zeros((), dtype=torch.float64, requires_grad=True)
        value = (function(start + t * direction) * weights).sum()
        found = []
        for _ in range(4):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
            found.append(value.item())
        return found

    expected = derivatives(inverse_root_of_two)
    assert min(abs(value) for value in expected) > 1e-3
    assert derivatives(lambda matrix: inverse_square_root(matrix, 1e-3)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_white_input_whose_eigenvalues_are_all_equal_has_the_finite_gradient(dtype: torch.dtype) -> None:
    layer = DecorrelatedBatchNorm(8, eps=1e-3).to(dtype)
    x = correlated(64, 1.0).to(dtype).requires_grad_()
    weights = correlated(64, 5.0, seed=3).to(dtype)
    (layer(x) * weights).sum().backward()
    assert x.grad is not None
    # At covariance I the whitening matrix moves by -1/2 (1 + eps)^(-3/2) of what the covariance moves by.
    with torch.no_grad():
        centred, upstream = x - x.mean(0), weights - weights.mean(0)
        into_covariance = -0.5 * (1 + layer.eps) ** -1.5 * (upstream.T @ centred)
        expected = upstream * (1 + layer.eps) ** -0.5 + centred @ (into_covariance + into_covariance.T) / 64
    torch.testing.assert_close(x.grad, expected, rtol=1e-4, atol=1e-4 if dtype == torch.float32 else 1e-9)


def test_what_is_averaged_is_the_covariance() -> None:
    layer = DecorrelatedBatchNorm(8, eps=1e-5, momentum=None).double()
    data = correlated(4096, 30.0)[torch.randperm(4096, generator=torch.Generator().manual_seed(0))]
    for batch in data.split(16):
        layer(batch)
    y = layer.eval()(data)
    # Batches of twice the channels: their inverse roots are far off, while their covariances average out.
    identity = torch.eye(8, dtype=torch.float64)
    assert (covariance(y, 1)[0] - identity).abs().max() <= 0.02
    roots = torch.stack([inverse_square_root(covariance(batch, 1)[0], 1e-9) for batch in data.split(16)]).mean(0)
    assert (roots @ covariance(data, 1)[0] @ roots - identity).abs().max() > 0.5
