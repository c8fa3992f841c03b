"""IterNorm: how far T iterations whiten, its stable form, and what it averages."""

import pytest
import torch

from bncore.norm.iter_norm import IterNorm
from tests.bncore.norm.cases.whitening import covariance, newton
from tests.bncore.norm.test_whitening import correlated


@pytest.mark.parametrize("condition", [1.0, 1e1, 1e3])
@pytest.mark.parametrize("iterations", [1, 3, 5, 9])
def test_the_covariance_of_the_output_follows_from_the_iterations_and_the_spectrum(
    iterations: int, condition: float
) -> None:
    layer = IterNorm(8, iterations=iterations, eps=1e-12).double()
    x = correlated(256, condition)
    left = torch.linalg.eigvalsh(covariance(x, 1)[0])
    left = left / left.sum()
    for _ in range(iterations):
        left = left * (3 - left) ** 2 / 4
    found = torch.linalg.eigvalsh(covariance(layer(x).detach(), 1)[0])
    torch.testing.assert_close(found, left.sort().values, rtol=1e-8, atol=1e-10)
    assert found[-1] <= 1 + 1e-9


@pytest.mark.parametrize(("iterations", "tolerance"), [(5, 0.5), (7, 1e-2), (9, 1e-8)])
def test_more_iterations_come_nearer_to_the_identity(iterations: int, tolerance: float) -> None:
    layer = IterNorm(8, iterations=iterations, eps=1e-12).double()
    gap = covariance(layer(correlated(256, 10.0)).detach(), 1)[0] - torch.eye(8, dtype=torch.float64)
    assert 1e-14 < gap.abs().max() <= tolerance


def test_the_coupled_form_gives_the_numbers_of_the_paper_and_does_not_diverge() -> None:
    x = correlated(256, 1e4)
    with_paper = newton(covariance(x, 1), 6)
    layer = IterNorm(8, iterations=6, eps=1e-30, momentum=1.0).double()
    layer(x)
    torch.testing.assert_close(layer.running_projection, with_paper, rtol=1e-9, atol=1e-9)
    # In single precision the paper's form loses everything where the spectrum is wide and iterations are many.
    single = IterNorm(8, iterations=20, eps=1e-7)
    gap = covariance(single(x.float()).detach().double(), 1)[0] - torch.eye(8, dtype=torch.float64)
    assert gap.abs().max() <= 0.02
    uncoupled = newton(covariance(x.float(), 1), 20)
    assert not (uncoupled @ covariance(x.float(), 1) @ uncoupled - torch.eye(8)).abs().max() <= 0.02


def test_the_whitening_matrix_is_what_is_averaged() -> None:
    layer = IterNorm(8, momentum=0.25).double()
    expected = torch.eye(8, dtype=torch.float64)
    for seed in range(4):
        x = correlated(64, 20.0, seed=seed)
        layer(x)
        step = newton(covariance(x, 1)[0] + layer.eps * torch.eye(8, dtype=torch.float64), layer.iterations) - expected
        expected = expected + 0.25 * step
    torch.testing.assert_close(layer.running_projection[0], expected, rtol=1e-10, atol=1e-10)
    y = layer.eval()(x)
    torch.testing.assert_close(y, (x - layer.running_mean) @ expected, rtol=1e-10, atol=1e-10)


def test_no_iteration_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one iteration"):
        IterNorm(8, iterations=0)


@pytest.mark.parametrize("condition", [10.0, 1e4])
@pytest.mark.parametrize("iterations", [5, 20, 200])
def test_in_single_precision_any_number_of_iterations_gives_what_double_precision_gives(
    iterations: int, condition: float
) -> None:
    x = correlated(256, condition)
    double = IterNorm(8, iterations=iterations).double()(x)
    torch.testing.assert_close(IterNorm(8, iterations=iterations)(x.float()).double(), double, rtol=0, atol=2e-3)
