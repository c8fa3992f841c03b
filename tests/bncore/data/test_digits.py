"""Digits in one fixed split, the same on every machine."""

import dataclasses
import hashlib
from importlib import resources

import pytest
import torch

from bncore.data import Examples, InvalidData, load_data
from bncore.data.dataset import DataSet, check
from bncore.data.digits import read_pixels
from bncore.spec import DigitsSpec, data_shape


@pytest.fixture
def digits() -> DataSet:
    return load_data(DigitsSpec())


def test_sizes_and_types_are_those_the_spec_promises(digits: DataSet) -> None:
    promised = data_shape(DigitsSpec())
    assert digits.train.inputs.shape == (promised.train_examples, *promised.input_shape)
    assert digits.test.inputs.shape == (promised.test_examples, *promised.input_shape)
    assert digits.outputs == promised.classes
    assert digits.train.inputs.dtype == torch.float32
    assert digits.train.inputs.min() == 0.0
    assert digits.train.inputs.max() == 1.0


def test_each_class_has_its_share_of_both_parts(digits: DataSet) -> None:
    train = torch.bincount(digits.train.targets, minlength=10)
    whole = train + torch.bincount(digits.test.targets, minlength=10)
    assert ((train - whole * 1200 / 1797).abs() < 1).all()


def test_the_images_are_those_of_the_test_set_that_its_makers_describe() -> None:
    # https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits
    images, labels = read_pixels()
    assert images.shape == (1797, 64)
    assert set(images.ravel().tolist()) == set(range(17))
    assert [int((labels == digit).sum()) for digit in range(10)] == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_file_is_the_one_that_its_page_names() -> None:
    data = resources.files("bncore.data")
    named = hashlib.sha256(data.joinpath("digits.csv.gz").read_bytes()).hexdigest()
    assert f"(SHA-256 `{named}`)" in data.joinpath("digits.md").read_text()


def test_the_split_never_changes(digits: DataSet) -> None:
    content = hashlib.sha256()
    for part in (digits.train.inputs, digits.train.targets, digits.test.inputs, digits.test.targets):
        content.update(part.numpy().tobytes())
    assert content.hexdigest() == "18bab90665a63586fa023779bb5c42c417192ac9215a8c374399223c965554af"


@pytest.mark.parametrize("fault", ["not finite", "outside 0 to 9", "1200 inputs and 1199 targets"])
def test_data_that_cannot_be_trained_on_is_refused(digits: DataSet, fault: str) -> None:
    inputs, labels = digits.train.inputs.clone(), digits.train.targets.clone()
    if fault == "not finite":
        inputs[7, 0, 3, 3] = float("nan")
    elif fault == "outside 0 to 9":
        labels[7] = 10
    else:
        labels = labels[1:]
    with pytest.raises(InvalidData, match=fault):
        check(dataclasses.replace(digits, train=Examples(inputs, labels)))
