"""Data sets that are drawn from a random stream of their own, on the CPU, so that every device sees the same."""

import torch
from torch import Tensor

from bncore.data.dataset import IGNORED, DataSet, Examples
from bncore.seeds import derive_seed
from bncore.spec.data import SanturkarLinearSpec, VariableLengthSpec

CUE_PROBABILITY = 0.2


def draw_santurkar_linear(spec: SanturkarLinearSpec) -> DataSet:
    """Inputs (N, features), and A times them as targets; A is the same for both parts."""
    matrix = torch.randn(spec.features, spec.features, generator=_stream(spec.data_seed, "matrix"))

    def draw(part: str, count: int) -> Examples:
        inputs = torch.randn(count, spec.features, generator=_stream(spec.data_seed, part))
        return Examples(inputs, inputs @ matrix.T)

    return DataSet(draw("train", spec.examples), draw("test", spec.test_examples), spec.features)


def draw_variable_length(spec: VariableLengthSpec) -> DataSet:
    """Inputs (N, T, classes) with zeros behind the end, and lengths; targets (N,), or (N, T) with `tag`."""
    train = _draw_cues(spec, spec.examples, _stream(spec.data_seed, "train"))
    test = _draw_cues(spec, spec.test_examples, _stream(spec.data_seed, "test"))
    return DataSet(train, test, spec.classes)


def _stream(seed: int, part: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, "data", part))


def _draw_cues(spec: VariableLengthSpec, count: int, stream: torch.Generator) -> Examples:
    steps, classes = spec.max_length, spec.classes
    lengths = torch.randint(spec.min_length, steps + 1, (count,), generator=stream)
    is_cue = torch.rand(count, steps, generator=stream) < CUE_PROBABILITY
    is_cue[:, 0] = True
    shown = torch.randint(0, classes, (count, steps), generator=stream)
    noise = torch.randn(count, steps, classes, generator=stream)
    cues = torch.nn.functional.one_hot(shown, classes) * is_cue.unsqueeze(2)
    is_valid = torch.arange(steps) < lengths.unsqueeze(1)
    inputs = torch.where(is_valid.unsqueeze(2), cues + spec.noise * noise, 0.0)
    latest = shown.gather(1, _latest(is_cue))
    if spec.tag:
        return Examples(inputs, torch.where(is_valid, latest, IGNORED), lengths)
    return Examples(inputs, latest.gather(1, lengths.unsqueeze(1) - 1).squeeze(1), lengths)


def _latest(is_cue: Tensor) -> Tensor:
    """At each step the step of the latest cue, (N, T)."""
    steps = torch.arange(is_cue.shape[1])
    return torch.where(is_cue, steps, 0).cummax(1).values
