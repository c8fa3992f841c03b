"""Tables that come with the package."""

import hashlib
from importlib import resources
from typing import Any

import numpy as np
import pytest

from bncore.data import load_data
from bncore.spec import load_spec


def load(kind: str, **options: Any) -> Any:
    return load_data(load_spec({"data": {"kind": kind, **options}, "train": {"batch_size": 20}}).data)


# The means are those of the makers' descriptions, to the digits that they print.
@pytest.mark.parametrize(
    ("kind", "sizes", "feature", "mean", "tolerance"),
    [("wine", [59, 71, 48], 12, 746, 1), ("breast_cancer", [212, 357], 0, 14.127, 0.001)],
)
def test_it_is_the_set_that_its_makers_describe(
    kind: str, sizes: list[int], feature: int, mean: float, tolerance: float
) -> None:
    data, promised = load(kind, standardize=False), load_spec({"data": {"kind": kind}}).data.shape()
    parts = {name: part.slice(0, 1000) for name, part in data.parts.items()}
    inputs = np.concatenate([part.inputs for part in parts.values()])
    targets = np.concatenate([part.targets for part in parts.values()])
    assert np.bincount(targets).tolist() == sizes
    assert abs(inputs[:, feature].mean() - mean) < tolerance
    assert parts["train"].inputs.shape == (promised.train_examples, *promised.input_shape)
    assert parts["test"].inputs.shape == (promised.test_examples, *promised.input_shape)
    assert tuple(np.bincount(parts["train"].targets)) == promised.class_counts


@pytest.mark.parametrize("kind", ["wine", "breast_cancer"])
def test_features_are_standardized_by_what_is_trained_on(kind: str) -> None:
    plain = load(kind, standardize=False, validation={"share": 0.2})
    seen = load(kind, validation={"share": 0.2})
    train = plain.train.inputs.double().numpy()
    for part in ("train", "validation", "test"):
        expected = (plain.parts[part].inputs.numpy() - train.mean(0)) / train.std(0)
        np.testing.assert_allclose(seen.parts[part].inputs, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["wine", "breast_cancer"])
def test_the_file_is_the_one_that_its_page_names(kind: str) -> None:
    files = resources.files("bncore.data")
    digest = hashlib.sha256(files.joinpath(f"{kind}.csv").read_bytes()).hexdigest()
    assert f"(SHA-256 `{digest}`)" in files.joinpath("tables.md").read_text()
