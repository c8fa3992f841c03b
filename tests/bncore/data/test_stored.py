"""Rows of files, and statistics of more than is held at once."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bncore.data import Examples, InvalidData
from bncore.data.measuring import measure
from bncore.data.stored import FileRows


@pytest.fixture
def array(tmp_path: Path) -> np.ndarray:
    """Also in a file, behind 13 bytes of something else."""
    numbers = np.random.default_rng(0).integers(-(2**31), 2**31, (50, 3, 2)).astype(np.int32)
    (tmp_path / "array").write_bytes(b"something and" + numbers.tobytes())
    return numbers


@pytest.mark.parametrize(
    "asked", [[0], [49, 0, 49], [7, 8, 9, 10, 3, 4, 4, 5], list(range(50)), list(range(49, -1, -1))]
)
def test_rows_are_those_that_are_asked_for_in_their_order(tmp_path: Path, array: np.ndarray, asked: list[int]) -> None:
    rows = FileRows(tmp_path / "array", torch.int32, (50, 3, 2), 13)
    assert torch.equal(rows.take(torch.tensor(asked)), torch.from_numpy(array[asked]))
    assert torch.equal(rows.held(torch.tensor(asked), torch.device("cpu")), torch.from_numpy(array[asked]))


def test_a_file_that_ends_early_is_said_and_no_descriptor_stays_open(tmp_path: Path, array: np.ndarray) -> None:
    before = len(os.listdir("/proc/self/fd"))
    os.truncate(tmp_path / "array", 13 + 49 * 24)
    rows = FileRows(tmp_path / "array", torch.int32, (50, 3, 2), 13)
    rows.take(torch.tensor([48]))
    with pytest.raises(InvalidData, match="array ends before its last example"):
        rows.take(torch.tensor([48, 49]))
    del rows
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("shape", [(1000, 3), (1000, 5, 3), (1000, 3, 2, 4)])
def test_statistics_of_pieces_are_those_of_the_whole(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    wide = (1, 3, 1, 1) if len(shape) == 4 else (3,)
    scale, mean = (np.array(numbers).reshape(wide) for numbers in ([1.0, 1e-3, 100.0], [1e5, 0.0, -3.0]))
    inputs = (random.normal(size=shape) * scale + mean).astype(np.float32)
    lengths = random.integers(1, 6, 1000) if len(shape) == 3 else None
    ends = [0, 1, 300, 301, 777, 1000]
    found = measure(
        Examples(
            torch.from_numpy(inputs[first:end]),
            torch.zeros(end - first),
            None if lengths is None else torch.from_numpy(lengths[first:end]),
        )
        for first, end in itertools.pairwise(ends)
    )
    values = inputs.astype(np.float64)
    rows = np.moveaxis(values, 1, -1).reshape(-1, 3) if len(shape) == 4 else values.reshape(-1, 3)
    if lengths is not None:
        rows = values[np.arange(5) < lengths[:, None]]
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.deviation, rows.std(0), rtol=1e-6)
