"""What is measured is what float64 says by hand, of an MLP, a CNN and an LSTM, torch's and ours."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bncore import diagnostics
from bncore.recording import Recording
from tests.bncore.diagnostics.by_hand import EPS, Net

CLOSE = {"rtol": 1e-9, "atol": 1e-13}


def rows(x: Tensor) -> np.ndarray:
    return (x.movedim(1, -1).reshape(-1, x.shape[1]) if x.dim() > 2 else x).detach().numpy()


def of_role(found: Recording, role: str, array: str) -> np.ndarray:
    return found.arrays[array][[site.role == role for site in found.sites]]


def test_moments_are_those_of_each_unit_over_examples_and_positions(net: Net) -> None:
    found = net.measured(diagnostics.activation_moments)
    _, seen = net.by_hand(net.parameters, net)
    for role, letter in (("weights", "w"), ("after_norm", "n"), ("activation", "a")):
        values = [rows(value) for name, value in seen.items() if name[0] == letter]
        assert sum(site.role == role for site in found.sites) == len(values)
        variances = [value.var(0) for value in values]
        fourth = [((value - value.mean(0)) ** 4).mean(0) for value in values]
        expected = {
            "mean": [value.mean(0).mean() for value in values],
            "mean_magnitude": [np.abs(value.mean(0)).mean() for value in values],
            "variance": [variance.mean() for variance in variances],
            "kurtosis": [(four / two**2).mean() for four, two in zip(fourth, variances, strict=True)],
        }
        for name, numbers in expected.items():
            np.testing.assert_allclose(of_role(found, role, name), numbers, **CLOSE)
        if letter == "a":
            flat = [(1 - value**2 < 0.05).mean() for value in values]
            np.testing.assert_allclose(of_role(found, role, "saturated"), flat, **CLOSE)
    depths = [site.depth for site in found.sites if site.role == "weights"]
    slope = np.polyfit(depths, np.log10(of_role(found, "weights", "variance")), 1)[0]
    assert found.scalars["slope_weights"] == pytest.approx(slope, rel=1e-9)


def test_the_heat_map_is_softmax_minus_one_hot(net: Net) -> None:
    found = net.measured(diagnostics.gradient_heatmap)
    logits = net.by_hand(net.parameters, net)[0].detach().numpy()
    odds = np.exp(logits)
    gradient = odds / odds.sum(1, keepdims=True) - np.eye(3)[net.labels.numpy()]
    np.testing.assert_allclose(found.arrays["gradient"], gradient, rtol=1e-6)
    size = np.abs(gradient).sum()
    unit = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
    cosines = [unit[i] @ unit[j] for i in range(len(unit)) for j in range(i)]
    expected = {
        "mode": np.bincount(logits.argmax(1)).max() / len(logits),
        "colcons": np.abs(gradient.sum(0)).sum() / size,
        "cosine": np.mean(cosines),
        "maxcol": np.abs(gradient).sum(0).max() / size,
    }
    for name, value in expected.items():
        assert found.scalars[name] == pytest.approx(value, rel=1e-9), name


def test_the_ratio_of_kernels_is_that_of_products_one_by_one(net: Net) -> None:
    found = net.measured(diagnostics.gradient_heatmap)
    parameters = net.parameters
    logits, seen = net.by_hand(parameters, net)
    loss = (logits.logsumexp(1) - logits[torch.arange(len(logits)), net.labels]).mean()
    layers = [name[1:] for name in seen if name[0] == "u"]
    blames = torch.autograd.grad(loss, [seen[f"w{layer}"] for layer in layers])
    expected = []
    for layer, blame in zip(layers, blames, strict=True):
        products = np.einsum("mo,mi->moi", rows(blame), seen[f"u{layer}"].detach().numpy())
        expected.append(np.abs(products.sum(0)).sum() / np.abs(products).sum())
    np.testing.assert_allclose(found.arrays["ratio"], expected, **CLOSE)
    assert found.scalars["median_ratio"] == pytest.approx(sorted(expected)[(len(expected) - 1) // 2], rel=1e-9)


def test_gradient_norms_are_those_by_each_matrix(net: Net) -> None:
    found = net.measured(diagnostics.gradient_norms)
    gradient = net.gradient(net.parameters)
    norms = [gradient[number].norm().item() for number in net.matrices]
    np.testing.assert_allclose(found.arrays["norm"], norms, **CLOSE)
    assert tuple(site.depth for site in found.sites) == net.depths
    if max(net.depths) == 3:
        assert found.scalars["growth"] == pytest.approx(norms[1] / norms[2], rel=1e-9)
    else:
        assert math.isnan(found.scalars["growth"])
    assert found.scalars["total"] == pytest.approx(math.hypot(*norms), rel=1e-12)


def test_weight_norms(net: Net) -> None:
    found = net.measured(diagnostics.weight_norms, lr=0.3)
    norms = np.array([net.parameters[number].norm().item() for number in net.matrices])
    np.testing.assert_allclose(found.arrays["norm"], norms, **CLOSE)
    np.testing.assert_allclose(found.arrays["effective_lr"], 0.3 / norms**2, **CLOSE)


def moved(net: Net, eta: float) -> list[Tensor]:
    parameters = net.parameters
    return [one.detach() - eta * two for one, two in zip(parameters, net.gradient(parameters), strict=True)]


def test_the_step_probe_walks_down_the_gradient(net: Net) -> None:
    grid = (1e-2, 1.0, 1e4)
    found = net.measured(diagnostics.step_probe, distances=grid)
    losses = [net.loss(moved(net, eta)).item() for eta in grid]
    start = net.loss(net.parameters).item()
    np.testing.assert_allclose(found.arrays["loss"], losses, **CLOSE)
    assert found.scalars["loss_0"] == pytest.approx(start, rel=1e-12)
    assert found.scalars["exploded"] == sum(loss > 1e3 * start for loss in losses) / 3
    assert found.scalars["largest_eta"] == max([eta for eta, loss in zip(grid, losses, strict=True) if loss <= start])
    assert found.scalars["worst_ratio"] == pytest.approx(max(losses) / start, rel=1e-9)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def test_the_landscape_and_its_parts(net: Net) -> None:
    found = net.measured(diagnostics.loss_landscape, lr=0.1, steps=(0.5, 4.0))
    here = flat(net.gradient(net.parameters))
    eta = np.array([0.05, 0.4])
    there = [moved(net, one) for one in eta]
    changes = np.array([(flat(net.gradient(one)) - here).norm().item() for one in there])
    losses = np.array([net.loss(one).item() for one in there])
    smoothness = changes / (eta * here.norm().item())
    for name, expected in (("eta", eta), ("loss", losses), ("gradient_change", changes), ("smoothness", smoothness)):
        np.testing.assert_allclose(found.arrays[name], expected, **CLOSE)
    squares = flat(net.parameters).square().sum().item()
    assert found.scalars["range"] == pytest.approx(losses.max() - losses.min(), rel=1e-9)
    assert found.scalars["predictiveness"] == pytest.approx(changes.max(), rel=1e-9)
    assert found.scalars["scale_free_smoothness"] == pytest.approx(smoothness.max() * squares, rel=1e-9)
    for part in (diagnostics.gradient_predictiveness, diagnostics.effective_smoothness):
        one = net.measured(part, lr=0.1, steps=(0.5, 4.0))
        assert one.kind == part.__name__
        assert {name: found.scalars[name] for name in one.scalars} == one.scalars
        assert all(np.array_equal(found.arrays[name], array) for name, array in one.arrays.items())


def test_percentiles_are_those_of_each_unit_and_their_drift_is_in_widths(net: Net) -> None:
    found = net.measured(diagnostics.covariate_shift)
    _, seen = net.by_hand(net.parameters, net)
    letter = "n" if "n1" in seen else "w"
    units = [np.percentile(rows(value), (15, 50, 85), axis=0).T for name, value in seen.items() if name[0] == letter]
    np.testing.assert_allclose(found.arrays["unit_percentiles"], np.vstack(units), **CLOSE)
    np.testing.assert_allclose(
        of_role(found, "pre_activation", "percentiles"), [unit.mean(0) for unit in units], **CLOSE
    )
    with torch.no_grad():
        for parameter in net.model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    later = net.measured(diagnostics.covariate_shift, earlier=found)
    _, seen = net.by_hand(net.parameters, net)
    now = [np.percentile(rows(value), (15, 50, 85), axis=0).T for name, value in seen.items() if name[0] == letter]
    drift = [
        (np.abs(new[:, 1] - old[:, 1]) / (new[:, 2] - new[:, 0])).mean() for new, old in zip(now, units, strict=True)
    ]
    np.testing.assert_allclose(of_role(later, "pre_activation", "drift"), drift, **CLOSE)
    assert later.scalars["last_drift"] == pytest.approx(drift[-1], rel=1e-9)


def test_gradients_shift_by_what_is_updated_before_them(net: Net) -> None:
    found = net.measured(diagnostics.covariate_shift, lr=0.5)
    parameters = net.parameters
    here = net.gradient(parameters)
    cosine, relative = [], []
    for number, before in zip(net.matrices, net.before, strict=True):
        partly = [one.detach() - 0.5 * here[at] * (at < before) for at, one in enumerate(parameters)]
        one, two = here[number], net.gradient(partly)[number]
        cosine.append(((one * two).sum() / (one.norm() * two.norm())).item())
        relative.append(((one - two).norm() / one.norm()).item())
    np.testing.assert_allclose(of_role(found, "weights", "cosine"), cosine, **CLOSE)
    np.testing.assert_allclose(of_role(found, "weights", "relative"), relative, rtol=1e-8, atol=1e-13)
    behind = [value for value, before in zip(cosine, net.before, strict=True) if before > 0]
    assert found.scalars["mean_cosine"] == pytest.approx(np.mean(behind), rel=1e-9)


def test_the_largest_eigenvalue_is_that_of_the_whole_hessian(net: Net) -> None:
    found = net.measured(diagnostics.hessian_top_eigenvalue, iterations=1000, tolerance=1e-4)
    parameters = net.parameters
    shapes = [one.shape for one in parameters]

    def loss(vector: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        return net.loss([part.view(shape) for part, shape in zip(parts, shapes, strict=True)])

    values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat(parameters).detach()))
    largest = values[values.abs().argmax()].item()
    assert found.scalars["residual"] < 1e-4
    assert found.scalars["eigenvalue"] == pytest.approx(largest, rel=1e-6)


def test_scale_invariance_is_exact_but_for_eps(net: Net) -> None:
    if net.lengths is not None:
        with pytest.raises(ValueError, match="goes straight into a normalization"):
            net.measured(diagnostics.scale_invariance)
        return
    found = net.measured(diagnostics.scale_invariance, factors=(0.01, 100.0))
    for eps in ("eps_zero", "eps_scaled"):
        for error in ("output", "gradient", "input_gradient"):
            assert found.arrays[f"{error}_error_{eps}"].max() < 1e-9
    assert found.arrays["orthogonality_eps_zero"].max() < 1e-9
    assert [site.depth for site in found.sites] == [1, 2]
    for number, layer in enumerate((1, 2)):
        expected = [trained_errors(net, layer, factor) for factor in (0.01, 100.0)]
        for at, name in enumerate(("output_error", "gradient_error", "input_gradient_error", "orthogonality")):
            measured = found.arrays[f"{name}_as_trained"][:, number]
            np.testing.assert_allclose(measured, [errors[at] for errors in expected], rtol=1e-6, atol=1e-13)


def trained_errors(net: Net, layer: int, factor: float) -> list[float]:
    """With eps, of BN(a W u + b): rows of u are the columns that a kernel sees."""
    logits, seen = net.by_hand(net.parameters, net)
    loss = (logits.logsumexp(1) - logits[torch.arange(len(logits)), net.labels]).mean()
    v = torch.as_tensor(rows(torch.autograd.grad(loss, seen[f"n{layer}"])[0]))
    weight, bias, scale, shift = (one.detach() for one in net.parameters[4 * layer - 4 : 4 * layer])
    found = {}
    for a in (1.0, factor):
        w = (weight.flatten(1) * a).requires_grad_()
        u = seen[f"u{layer}"].detach().requires_grad_()
        z = u @ w.T + bias
        mean = z.mean(0)
        y = (z - mean) / (((z - mean) ** 2).mean(0) + EPS).sqrt() * scale + shift
        found[a] = (y.detach(), *torch.autograd.grad((y * v).sum(), [w, u]), w.detach())
    y, by_w, by_u, _ = found[1.0]
    y_a, by_aw, by_its_u, w_a = found[factor]
    if net.inputs.dim() == 4:
        # A pixel is seen by several columns, which add up.
        shape = (net.inputs.shape[0], -1, by_u.shape[1])
        side = 8 if layer == 1 else 4
        by_u, by_its_u = (
            torch.nn.functional.fold(one.view(shape).mT, (side, side), 3, padding=1) for one in (by_u, by_its_u)
        )
    return [
        ((y_a - y).abs().max() / y.abs().max()).item(),
        ((factor * by_aw - by_w).norm() / by_w.norm()).item(),
        ((by_its_u - by_u).norm() / by_u.norm()).item(),
        ((w_a * by_aw).sum().abs() / (w_a.norm() * by_aw.norm())).item(),
    ]
