"""Samplers, counted by hand from what they give."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncore.data import Batches, Examples, InvalidData, load_data
from bncore.spec import SpecError, load_spec, plan
from bncore.spec.data.sampler import BalancedClassesSampler, ClassesPerBatchSampler, ClassOrderedSampler, ImbalanceSpec
from tests.bncore.data.test_canonical import document
from tests.canonical import vectors, write_canonical

SIZES = {0: 20, 2: 6, 3: 37}
"""Of classes; of class 1 there is nothing."""


def examples() -> Examples:
    labels = torch.tensor([label for label, size in SIZES.items() for _ in range(size)])
    labels = labels[torch.randperm(63, generator=torch.Generator().manual_seed(1))]
    return Examples(torch.arange(63.0).view(63, 1), labels)


def epoch(batches: Batches, number: int = 0) -> list[Examples]:
    first = number * batches.steps_per_epoch + 1
    return [batches.batch(step) for step in range(first, first + batches.steps_per_epoch)]


def numbers(batches: list[Examples]) -> list[int]:
    return [int(number) for batch in batches for number in batch.inputs[:, 0]]


def test_ordered_classes_come_one_after_the_other_each_example_once() -> None:
    source = Batches(examples(), 10, 0, sampler=ClassOrderedSampler())
    first, second = epoch(source), epoch(source, 1)
    labels = [int(label) for batch in first for label in batch.targets]
    assert labels == [0] * 20 + [2] * 6 + [3] * 37
    assert sorted(numbers(first)) == sorted(numbers(second)) == list(range(63))
    assert numbers(first) != numbers(second)
    assert [len(batch.targets) for batch in first] == [10] * 6 + [3]


def test_balanced_batches_have_as_many_of_each_class_or_one_more() -> None:
    source = Batches(examples(), 10, 0, sampler=BalancedClassesSampler())
    assert source.steps_per_epoch == 6
    extra = Counter()
    for number in range(50):
        for batch in epoch(source, number):
            counts = Counter(batch.targets.tolist())
            assert sorted(counts.values()) == [3, 3, 4]
            extra[max(counts, key=counts.__getitem__)] += 1
    # Which class has one more is drawn: 300 times, each as likely.
    assert all(abs(extra[label] - 100) < 5 * (300 * 2 / 9) ** 0.5 for label in SIZES)


def test_a_class_gives_all_of_its_examples_before_one_comes_again() -> None:
    source = Batches(examples(), 9, 0, sampler=BalancedClassesSampler())
    given = Counter(numbers(epoch(source)))
    labels = examples().targets
    for label, size in SIZES.items():
        counts = [given[int(number)] for number in (labels == label).nonzero().flatten()]
        # 7 batches of 3 of each class.
        assert sum(counts) == 21
        assert set(counts) <= {21 // size, 21 // size + 1}


def test_batches_of_few_classes_have_so_many_of_each() -> None:
    source = Batches(examples(), 10, 0, sampler=ClassesPerBatchSampler(classes=2, examples=5))
    pairs, in_order = Counter(), 0
    for number in range(50):
        for batch in epoch(source, number):
            counts = Counter(batch.targets.tolist())
            assert list(counts.values()) == [5, 5]
            pairs[frozenset(counts)] += 1
            in_order += batch.targets.tolist() == sorted(batch.targets.tolist())
    assert len(pairs) == 3
    # One in 252 by chance: parts of a batch are alike.
    assert in_order < 10
    assert all(abs(count - 100) < 5 * (300 * 2 / 9) ** 0.5 for count in pairs.values())


@pytest.mark.parametrize(
    "sampler", [BalancedClassesSampler(), ClassesPerBatchSampler(classes=2, examples=5), ClassOrderedSampler()]
)
def test_a_batch_does_not_depend_on_what_was_asked_before(sampler: Any) -> None:
    walked = Batches(examples(), 10, 4, sampler=sampler)
    for step in range(1, 17):
        batch = walked.batch(step)
    fresh = Batches(examples(), 10, 4, sampler=sampler)
    assert torch.equal(fresh.batch(16).inputs, batch.inputs)
    assert not torch.equal(Batches(examples(), 10, 5, sampler=sampler).batch(16).inputs, batch.inputs)


def test_fewer_classes_than_a_batch_is_to_have_is_said() -> None:
    with pytest.raises(InvalidData, match="of 4 classes, and there are 3"):
        Batches(examples(), 8, 0, sampler=ClassesPerBatchSampler(classes=4, examples=2))


def test_the_plan_knows_how_long_an_epoch_is() -> None:
    for sampler, steps in (
        ({"kind": "class_ordered"}, 17),
        ({"kind": "balanced_classes"}, 16),
        ({"kind": "classes_per_batch", "classes": 5, "examples": 14}, 17),
    ):
        size = 70 if sampler["kind"] == "classes_per_batch" else 73
        spec = load_spec({"data": {"sampler": sampler}, "train": {"batch_size": size, "epochs": 1}})
        source = Batches(load_data(spec.data).train, size, 0, sampler=spec.data.sampler)
        assert plan(spec).steps_per_epoch == source.steps_per_epoch == steps


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        ({"kind": "santurkar_linear", "sampler": {"kind": "balanced_classes"}}, "/data/sampler/kind", "does_not_fit"),
        ({"sampler": {"kind": "classes_per_batch", "classes": 2, "examples": 40}}, "/train/batch_size", "samplers"),
        ({"sampler": {"kind": "classes_per_batch", "classes": 12, "examples": 5}}, "/data/sampler/classes", "classes"),
        ({"kind": "santurkar_linear", "imbalance": {}}, "/data/imbalance", "does_not_fit"),
        ({"kind": "variable_length", "imbalance": {}}, "/data/imbalance", "does_not_fit"),
        ({"imbalance": {"factor": 1.0}}, "/data/imbalance/factor", "greater_than"),
        ({"imbalance": {"factor": 1e6}, "validation": {"count": 1100}}, "/train/batch_size", "larger_than_data"),
    ],
)
def test_what_the_data_have_no_batches_for_is_refused(data: dict[str, Any], pointer: str, code: str) -> None:
    kinds = {"santurkar_linear": "mlp", "variable_length": "gru"}
    with pytest.raises(SpecError) as refused:
        load_spec({"data": data, "network": {"kind": kinds.get(data.get("kind", ""), "mlp")}})
    (fault,) = refused.value.faults
    assert fault.pointer == pointer
    assert code in fault.code


def test_a_long_tail_is_what_is_left_of_the_training_part_alone() -> None:
    spec = load_spec({"data": {"imbalance": {"factor": 50}, "validation": {"share": 0.1}}}).data
    whole = load_data(load_spec({"data": {"validation": {"share": 0.1}}}).data)
    data = load_data(spec)
    counts = whole.train.targets.bincount()
    expected = [max(1, int(count * 50 ** (-label / 9))) for label, count in enumerate(counts.tolist())]
    assert data.train.targets.bincount().tolist() == expected == list(spec.shape().class_counts)
    assert plan(load_spec({"data": spec.model_dump(mode="json")})).train_examples == sum(expected)
    assert torch.equal(data.test.inputs, whole.test.inputs)
    assert torch.equal(data.validation.inputs, whole.validation.inputs)
    rows = {tuple(row) for row in whole.train.inputs.flatten(1).tolist()}
    assert all(tuple(row) in rows for row in data.train.inputs.flatten(1).tolist())
    other = load_spec({"data": {"imbalance": {"factor": 50, "seed": 1}, "validation": {"share": 0.1}}}).data
    assert not torch.equal(load_data(other).train.inputs, data.train.inputs)


def test_a_data_set_in_files_has_a_long_tail_too_and_statistics_of_it(tmp_path: Path) -> None:
    train = vectors(300)
    manifest = write_canonical(tmp_path, {"kind": "vector", "shape": [4]}, "classification", 3, train=train)
    spec = load_spec(document(manifest, imbalance={"factor": 4}, standardize=False)).data
    plain = load_data(spec, tmp_path).train
    assert tuple(plain.all_targets().bincount().tolist()) == spec.shape().class_counts
    kept = plain.slice(0, 300).inputs.double().numpy()
    seen = load_data(load_spec(document(manifest, imbalance={"factor": 4})).data, tmp_path).train.slice(0, 300)
    np.testing.assert_allclose(seen.inputs, (kept - kept.mean(0)) / kept.std(0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("factor", "counts", "kept"),
    [
        # 343 / 49 = 7 and 4900 / 49 = 100; in binary both are a little less.
        (49.0, [343, 343], [343, 7]),
        (49.0, [4900, 4900, 4900], [4900, 700, 100]),
        (1000.0, [5000] * 4, [5000, 500, 50, 5]),
        (2.5, [100, 100, 99], [100, 63, 39]),
    ],
)
def test_a_long_tail_is_rounded_down_as_written(factor: float, counts: list[int], kept: list[int]) -> None:
    assert ImbalanceSpec(factor=factor).kept(counts) == kept
