"""Batches are a pure function of seed and step."""

import pytest
import torch

from bncore.data import Batches, Examples


def batches(seed: int = 5, batch_size: int = 4, drop_last: bool = False) -> Batches:
    inputs = torch.arange(10.0).view(10, 1)
    return Batches(Examples(inputs, torch.arange(10)), batch_size, seed, drop_last)


def test_an_epoch_visits_every_example_once_and_ends_with_the_rest() -> None:
    source = batches()
    labels = [source.batch(step)[1].tolist() for step in (1, 2, 3)]
    assert [len(batch) for batch in labels] == [4, 4, 2]
    assert sorted(label for batch in labels for label in batch) == list(range(10))


def test_inputs_and_labels_stay_together() -> None:
    inputs, labels, *_ = batches().batch(2)
    assert torch.equal(inputs[:, 0].long(), labels)


def test_drop_last_leaves_out_the_smaller_batch() -> None:
    source = batches(drop_last=True)
    assert source.steps_per_epoch == 2
    assert all(len(source.batch(step)[1]) == 4 for step in range(1, 9))


@pytest.mark.parametrize("step", [1, 3, 4, 100])
def test_a_batch_does_not_depend_on_what_was_asked_before(step: int) -> None:
    walked = batches()
    for earlier in range(1, step):
        walked.batch(earlier)
    assert torch.equal(walked.batch(step)[1], batches().batch(step)[1])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    first = [batches().batch(step)[1].tolist() for step in (1, 2, 3)]
    second = [batches().batch(step)[1].tolist() for step in (4, 5, 6)]
    other = [batches(seed=6).batch(step)[1].tolist() for step in (1, 2, 3)]
    assert first != second
    assert first != other


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_size_the_data_cannot_fill_is_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match="batch_size must be in 1"):
        batches(batch_size=batch_size)
