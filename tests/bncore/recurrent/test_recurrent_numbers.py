"""Recurrent layers against their papers' equations, walked sequence by sequence in double precision."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from tests.bncore.recurrent.oracle import (
    ALL,
    BATCH_KINDS,
    KINDS,
    RAGGED,
    call,
    equal_state,
    make,
    padded,
    run,
    sequences,
    states_for,
    step_norms,
    twin,
)

FULL = (4, 4, 4, 4)
STACKED = {"num_layers": 2, "bidirectional": True}
CONFIGURATIONS = [
    *((kind, {}, lengths, mode) for kind in ALL for lengths in (FULL, RAGGED) for mode in ("training", "evaluation")),
    *((kind, STACKED, RAGGED, "training") for kind in (*KINDS, "sn-lstm")),
    *((kind, {"max_length": 3}, RAGGED, mode) for kind in BATCH_KINDS for mode in ("training", "evaluation")),
    ("bn-lstm", {"momentum": None, "max_length": 4}, RAGGED, "training"),
]


def derivatives(values: Sequence[Tensor], x: Tensor, layer: nn.Module) -> list[Tensor]:
    """The values, all first derivatives of a weighted sum of their sines, and all derivatives of those once more."""
    inputs = [x, *layer.parameters()]
    loss = torch.zeros((), dtype=torch.float64)
    for value in values:
        loss = loss + (value.sin() * torch.linspace(-1.0, 1.0, value.numel()).double().view(value.shape)).sum()
    unused = {"allow_unused": True, "materialize_grads": True}
    first = torch.autograd.grad(loss, inputs, create_graph=True, **unused)
    second = torch.autograd.grad(sum(grad.cos().sum() for grad in first), inputs, **unused)
    return [one.detach() for one in (*values, *first, *second)]


@pytest.mark.parametrize(("kind", "options", "lengths", "mode"), CONFIGURATIONS, ids=str)
def test_output_derivatives_and_statistics_follow_the_papers(
    kind: str, options: dict[str, object], lengths: tuple[int, ...], mode: str
) -> None:
    layer = make(kind, **options).train(mode == "training")
    reference = twin(layer)
    x, given = padded(sequences(lengths), padding=float("nan"))
    x.requires_grad_()
    states = states_for(layer, len(lengths))
    ys, ends, record = run(reference, [x[:length, n] for n, length in enumerate(lengths)], states)
    expected = derivatives([pad_sequence(ys), *ends], x, reference)
    whole = len(set(lengths)) == 1
    actual = derivatives(call(layer, x, states, None if whole else given), x, layer)
    for mine, theirs in zip(actual, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-10 * theirs.abs().max().clamp_min(1.0)
    if mode == "evaluation":
        equal_state(reference, layer)
        return
    for mine, theirs in zip(step_norms(layer), step_norms(reference), strict=True):
        for name, value in record.statistics(theirs).items():
            torch.testing.assert_close(getattr(mine, name), value, rtol=1e-10, atol=1e-12, msg=name)
