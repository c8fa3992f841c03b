"""Rows of files, and statistics of more than is held at once."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bncore.data import Examples, InvalidData
from bncore.data.load import load_data
from bncore.data.measuring import measure
from bncore.data.standardize import ROUNDED_AWAY, Standardization
from bncore.data.stored import FileRows
from bncore.spec import load_spec


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
    os.truncate(tmp_path / "array", 13 + 49 * 24)
    rows = FileRows(tmp_path / "array", torch.int32, (50, 3, 2), 13)
    rows.take(torch.tensor([48]))
    with pytest.raises(InvalidData, match="array ends before its last example"):
        rows.take(torch.tensor([48, 49]))
    assert _is_open(tmp_path / "array")
    del rows
    assert not _is_open(tmp_path / "array")


def _is_open(path: Path) -> bool:
    return any(entry.resolve() == path.resolve() for entry in Path("/proc/self/fd").iterdir())


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


@pytest.mark.parametrize(("mean", "sd"), [(1e6, 0.5), (-3e6, 0.4), (1990.0, 10.0), (5e4, 1.0)])
def test_what_is_far_from_zero_is_standardized_as_in_double_precision(mean: float, sd: float) -> None:
    random = np.random.default_rng(1)
    column = (random.normal(size=4000) * sd + mean).astype(np.float32)
    inputs = torch.from_numpy(np.stack([column, random.uniform(size=4000).astype(np.float32)], axis=1))
    found = measure([Examples(inputs, torch.zeros(4000))])
    wide = inputs.double().numpy()
    exact = (wide - wide.mean(0)) / wide.std(0)
    seen = found(inputs)
    # Three roundings: of the distance, of the deviation, of the quotient; and what a mean may lose of its deviation.
    np.testing.assert_allclose(seen.numpy(), exact, rtol=3 * 2.0**-24, atol=ROUNDED_AWAY)
    assert np.abs(seen[:, 0].numpy() - exact[:, 0]).max() < 1.5e-6
    # Of the other column, whose mean is near, not a bit is another.
    plain = (inputs[:, 1] - found.mean[1]) / found.deviation[1]
    assert torch.equal(seen[:, 1], plain)
    # And so they are seen by a checkpoint that has noted mean and deviation as numbers.
    noted = [torch.tensor(one.tolist(), dtype=torch.float64) for one in (found.whole_mean, found.deviation)]
    assert torch.equal(Standardization.of(*noted)(inputs), seen)


def test_ordinary_data_are_standardized_with_the_bits_they_always_had() -> None:
    for kind in ("wine", "breast_cancer", "digits", "mnist5k"):
        spec = load_spec({"data": {"kind": kind, "standardize": True}, "network": {"kind": "mlp"}}).data
        data = load_data(spec)
        assert data.standardization is not None
        assert data.standardization.rest is None
