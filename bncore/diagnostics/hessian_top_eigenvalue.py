"""The sharpest curvature of the loss."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from bncore.diagnostics._along import square_of
from bncore.diagnostics._on_host import numbers
from bncore.diagnostics._probe import How, Probe, gradients, probing
from bncore.diagnostics._recorded import recorded
from bncore.recording import Recording


def hessian_top_eigenvalue(
    model: nn.Module,
    inputs: Any,
    labels: Tensor | None = None,
    *,
    iterations: int = 50,
    tolerance: float = 1e-3,
    **how: Unpack[How],
) -> Recording:
    """The eigenvalue of the Hessian of the loss that is largest in magnitude, by power iteration.

    v <- H v / |H v| from a random v (of `seed`), with products of the Hessian and a vector by two backward passes; the
    eigenvalue is v'Hv, with its sign. It ends when the residual is below `tolerance` or after `iterations`. The Hessian
    is by all parameters that learn, of a training pass: through the statistics of the batch, with the same noise in
    each product.

    Scalars: `eigenvalue` ("loss / weight^2"), `residual` ("1"), |Hv - eigenvalue v| / |eigenvalue|, and `iterations`.
    An eigenvalue of a symmetric matrix lies within residual * |eigenvalue| of the one found. There are no arrays.

    Source: arXiv 1611.07476 (spectrum of the loss), arXiv 1901.10159 (with batch norm). Traps: two eigenvalues of like
    magnitude and unlike sign converge slowly, and the residual says so; under normalization weights have a free scale,
    and the eigenvalue falls with |w|^2; a ReLU network's Hessian leaves out the kinks.

    Raises:
        ValueError: all is frozen, there are no labels, or `iterations` is below 1.
        RuntimeError: a function of the model has no second derivative.
    """
    if iterations < 1:
        raise ValueError(f"at least one iteration is needed, got {iterations}")
    with probing(model, inputs, labels, how) as probe, _twice_differentiable():
        found = _iterate(probe, iterations, tolerance, how.get("seed", 0))
    return recorded("hessian_top_eigenvalue", how, {}, scalars=found._asdict(), units={"eigenvalue": "loss / weight^2"})


class _Found(NamedTuple):
    eigenvalue: float
    residual: float
    iterations: int


def _iterate(probe: Probe, iterations: int, tolerance: float, seed: int) -> _Found:
    learning = list(probe.learning.values())
    slope = gradients(probe.loss(), learning, create_graph=True)
    found = _Found(math.nan, math.nan, 0)
    v = _start(learning, seed)
    for iteration in range(1, iterations + 1):
        product = _product(slope, learning, v)
        along = [(one.double() * two.double()).sum() for one, two in zip(product, v, strict=True)]
        square, *parts = numbers([square_of(product), *along])
        length, eigenvalue = math.sqrt(square), sum(parts)
        rest = math.sqrt(square_of([one - eigenvalue * two for one, two in zip(product, v, strict=True)]).item())
        found = _Found(eigenvalue, rest / abs(eigenvalue) if eigenvalue else math.nan, iteration)
        if not math.isfinite(length) or length == 0.0 or found.residual < tolerance:
            break
        v = [one / length for one in product]
    return found


def _product(slope: list[Tensor], by: list[nn.Parameter], v: list[Tensor]) -> list[Tensor]:
    """H v, (w.r.t. each parameter its part)."""
    if not any(one.requires_grad for one in slope):
        # The loss is linear in all of them.
        return [torch.zeros_like(one) for one in v]
    along = torch.stack([(one * two).sum() for one, two in zip(slope, v, strict=True)]).sum()
    found = torch.autograd.grad(along, by, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(one) if value is None else value for one, value in zip(by, found, strict=True)]


def _start(learning: list[nn.Parameter], seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(one.shape, generator=generator).to(one) for one in learning]
    length = math.sqrt(square_of(drawn).item())
    return [one / length for one in drawn]


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Within it, torch takes the implementations whose backward passes can be differentiated."""
    with ExitStack() as until:
        until.enter_context(sdpa_kernel([SDPBackend.MATH]))
        # cuDNN's recurrent layers have no second derivative.
        until.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
