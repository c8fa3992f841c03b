"""What must hold of every layer whatever the batch: invariances of the definition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bncore.norm.case import Case, affine, batch_axes, per_channel, sample, twin

SEEDS = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.mark.where(lambda case: case.permutes)
@given(seed=SEEDS)
@few
def test_permuting_the_samples_permutes_the_outputs(case: Case, shape_of: tuple[int, ...], seed: int) -> None:
    layer, x = case.prepared(), sample(shape_of, seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    expected = twin(layer)(x)[order]
    torch.testing.assert_close(layer(x[order]), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.where(lambda case: case.ignores_scale)
@given(seed=SEEDS, scale=st.floats(0.1, 10.0), sign=st.sampled_from([-1.0, 1.0]), offset=st.floats(-10.0, 10.0))
@few
def test_scale_and_offset_of_the_input_do_not_matter(
    case: Case, shape_of: tuple[int, ...], seed: int, scale: float, sign: float, offset: float
) -> None:
    layer, x = case.prepared(), sample(shape_of, seed)
    layer.eps = 1e-30
    torch.nn.init.zeros_(layer.bias)
    expected = sign * twin(layer)(x)
    torch.testing.assert_close(layer(sign * scale * x + offset), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.where(lambda case: case.ignores_offset)
@given(seed=SEEDS, offset=st.floats(-10.0, 10.0))
@few
def test_a_constant_added_to_the_input_does_not_matter(
    case: Case, shape_of: tuple[int, ...], seed: int, offset: float
) -> None:
    layer, x = case.prepared(), sample(shape_of, seed)
    expected = twin(layer)(x)
    torch.testing.assert_close(layer(x + offset), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.where(lambda case: case.ignores_scale)
@given(seed=SEEDS)
@few
def test_the_gradient_is_orthogonal_to_one_and_to_the_standardized_input(
    case: Case, shape_of: tuple[int, ...], seed: int
) -> None:
    layer = case.prepared()
    layer.eps = 1e-30
    x = sample(shape_of, seed).requires_grad_()
    y = layer(x)
    (y * sample(shape_of, seed + 1)).sum().backward()
    assert x.grad is not None
    standard = (y.detach() - per_channel(layer.bias.detach(), y)) / per_channel(layer.weight.detach(), y)
    assert affine(layer, standard).allclose(y)
    assert x.grad.sum(batch_axes(x)).abs().max() <= 1e-9
    assert (x.grad * standard).sum(batch_axes(x)).abs().max() <= 1e-9
