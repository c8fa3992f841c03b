"""Data sets that are drawn: what they promise, read off the examples themselves."""

import pytest
import torch

from bncore.data import DataSet, load_data
from bncore.spec import SanturkarLinearSpec, VariableLengthSpec


def test_targets_are_one_matrix_times_the_inputs_in_both_parts() -> None:
    data = load_data(SanturkarLinearSpec())
    train, test = (torch.linalg.lstsq(part.inputs.double(), part.targets.double()) for part in (data.train, data.test))
    torch.testing.assert_close(train.solution, test.solution, rtol=1e-5, atol=1e-5)
    assert (data.train.inputs @ train.solution.float() - data.train.targets).abs().max() < 1e-4
    # Standard normal: 1,000 numbers of mean 0, within five standard errors.
    assert data.train.inputs.mean().abs() < 5 / 10_000**0.5
    assert (data.train.inputs.var() - 1).abs() < 5 * (2 / 10_000) ** 0.5


@pytest.fixture
def tagged() -> DataSet:
    return load_data(VariableLengthSpec(tag=True, noise=0.0, examples=500))


def test_a_step_has_the_class_of_the_latest_cue_and_none_behind_the_end(tagged: DataSet) -> None:
    inputs, targets, lengths, _ = tagged.train
    for sequence, labels, length in zip(inputs[:50], targets[:50], lengths[:50].tolist(), strict=True):
        latest = None
        for step in range(len(sequence)):
            if step >= length:
                assert labels[step] == -1
                assert not sequence[step].any()
                continue
            if sequence[step].any():
                latest = sequence[step].argmax()
            assert labels[step] == latest


def test_a_sequence_has_the_class_of_its_last_cue(tagged: DataSet) -> None:
    data = load_data(VariableLengthSpec(noise=0.0, examples=500))
    assert torch.equal(data.train.inputs, tagged.train.inputs)
    last = tagged.train.targets[torch.arange(500), tagged.train.lengths - 1]
    assert torch.equal(data.train.targets, last)


def test_every_length_occurs(tagged: DataSet) -> None:
    assert tagged.train.lengths.unique().tolist() == list(range(5, 21))


def test_the_seed_of_the_data_draws_them() -> None:
    first, again, other = (load_data(VariableLengthSpec(data_seed=seed)).train.inputs for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
