"""Domain batch norm: batch norm (arXiv 1502.03167) with statistics for each domain (arXiv 1603.04779)."""

from torch import Tensor, nn

from bncore.norm.domain_batch_norm import DomainBatchNorm
from tests.bncore.norm.case import (
    Case,
    affine,
    batch_axes,
    batch_norm_evaluation,
    batch_norm_statistics,
    per_channel,
    standardized,
)


def _training(layer: nn.Module, x: Tensor) -> Tensor:
    return affine(layer, standardized(x, batch_axes(x), layer.eps))


def _second(layer: nn.Module) -> dict[str, Tensor]:
    return {name: buffer[1] for name, buffer in layer.named_buffers()}


def _second_evaluation(layer: nn.Module, x: Tensor) -> Tensor:
    statistics = _second(layer)
    deviation = (statistics["running_var"] + layer.eps) ** 0.5
    return affine(layer, (x - per_channel(statistics["running_mean"], x)) / per_channel(deviation, x))


def _second_statistics(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    newest = {
        "running_mean": x.mean(batch_axes(x)),
        "running_var": x.var(batch_axes(x), correction=1),
    }
    after = {name: buffer.clone() for name, buffer in layer.named_buffers()}
    for name, value in newest.items():
        after[name][1] = 0.9 * after[name][1] + 0.1 * value
    after["num_batches_tracked"][1] += 1
    return after


def _choose_the_second(layer: nn.Module) -> None:
    layer.domain = 1


CASES = [
    Case(
        "domain_batch_norm, one domain",
        lambda: DomainBatchNorm(4),
        _training,
        batch_norm_evaluation,
        batch_norm_statistics,
        loads_into_torch=True,
        ignores_scale=True,
    ),
    Case(
        "domain_batch_norm, second of three",
        lambda: DomainBatchNorm(4, num_domains=3),
        _training,
        _second_evaluation,
        _second_statistics,
        _choose_the_second,
        ignores_scale=True,
    ),
]
