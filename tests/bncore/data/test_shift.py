"""Images resized and shifted: each against numpy, and a function of nothing but image, number and seed."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncore.data import load_data
from bncore.data.shift import Shift
from bncore.spec import SpecError, load_spec
from bncore.spec.data import ShiftSpec
from tests.bncore.data.test_canonical import document
from tests.canonical import images, write_canonical

KINDS = ("contrast", "brightness", "noise", "blur", "inversion", "rotation", "resize")
NUMBERS = [3, 1000, 0, 70_000]


def pixels(channels: int = 2, height: int = 9, width: int = 7) -> np.ndarray:
    return np.random.default_rng(1).random((len(NUMBERS), channels, height, width))


def contrast(x: np.ndarray, severity: int) -> np.ndarray:
    mean = x.mean((2, 3), keepdims=True)
    return mean + {1: 0.75, 2: 0.5, 3: 0.4, 4: 0.3, 5: 0.15}[severity] * (x - mean)


def brightness(x: np.ndarray, severity: int) -> np.ndarray:
    return np.minimum(1, x + severity / 10)


def inversion(x: np.ndarray, severity: int) -> np.ndarray:
    return np.where(x >= 1 - severity / 5, 1 - x, x)


def blur(x: np.ndarray, severity: int) -> np.ndarray:
    """A sum over all pairs of pixels, with the image continued by its edge."""
    deviation = {1: 0.4, 2: 0.6, 3: 0.8, 4: 1.0, 5: 1.5}[severity]
    radius = math.ceil(4 * deviation)
    padded = np.pad(x, ((0, 0), (0, 0), (radius, radius), (radius, radius)), mode="edge")
    total, weights = np.zeros_like(x), 0.0
    for down in range(2 * radius + 1):
        for right in range(2 * radius + 1):
            weight = math.exp(-((down - radius) ** 2 + (right - radius) ** 2) / (2 * deviation**2))
            total += weight * padded[:, :, down : down + x.shape[2], right : right + x.shape[3]]
            weights += weight
    return total / weights


def averaged(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every pixel cut into so many equal ones that the new edges are edges of these."""
    _, _, old_height, old_width = x.shape
    fine = x.repeat(height, 2).repeat(width, 3)
    return fine.reshape(*x.shape[:2], height, old_height, width, old_width).mean((3, 5))


def resize(x: np.ndarray, severity: int) -> np.ndarray:
    share = {1: 0.75, 2: 0.6, 3: 0.5, 4: 0.4, 5: 0.3}[severity]
    height, width = (math.floor(size * share + 0.5) for size in x.shape[2:])
    small = averaged(x, height, width)
    down, right = (
        [int((p + 0.5) * new / old) for p in range(old)] for old, new in zip(x.shape[2:], (height, width), strict=True)
    )
    return small[:, :, down][:, :, :, right]


def keys(kind: str, seed: int, count: int) -> np.ndarray:
    """SplitMix64 over unsigned numbers: of each example `count` of them."""
    from bncore.seeds import derive_seed

    golden = np.uint64(0x9E3779B97F4A7C15)

    def mixed(z: np.ndarray) -> np.ndarray:
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    own = mixed(np.array(NUMBERS, dtype=np.uint64) * golden + np.uint64(derive_seed(seed, "shift", kind)))
    if count == 1:
        return own
    return mixed(own[:, None] + np.arange(1, count + 1, dtype=np.uint64) * golden)


def noise(x: np.ndarray, severity: int) -> np.ndarray:
    bits = keys("noise", 5, 2 * x[0].size) >> np.uint64(11)
    first, second = np.split((bits.astype(np.float64) + 0.5) / 2**53, 2, axis=1)
    normal = np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)
    deviation = {1: 0.04, 2: 0.08, 3: 0.12, 4: 0.18, 5: 0.26}[severity]
    return np.clip(x + deviation * normal.reshape(x.shape), 0, 1)


def rotation(x: np.ndarray, severity: int) -> np.ndarray:
    """Pixel by pixel: where it comes from, and the four around that."""
    degrees = {1: 10, 2: 20, 3: 30, 4: 45, 5: 60}[severity]
    out = np.zeros_like(x)
    _, _, height, width = x.shape
    for n, key in enumerate(keys("rotation", 5, 1)):
        angle = math.radians(-degrees if int(key) & 1 else degrees)
        for i in range(height):
            for j in range(width):
                y, z = i - (height - 1) / 2, j - (width - 1) / 2
                row = math.sin(angle) * z + math.cos(angle) * y + (height - 1) / 2
                column = math.cos(angle) * z - math.sin(angle) * y + (width - 1) / 2
                for r in (math.floor(row), math.floor(row) + 1):
                    for c in (math.floor(column), math.floor(column) + 1):
                        if 0 <= r < height and 0 <= c < width:
                            out[n, :, i, j] += x[n, :, r, c] * (1 - abs(row - r)) * (1 - abs(column - c))
    return out


@pytest.mark.parametrize("severity", [1, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_its_formula_says(kind: str, severity: int) -> None:
    x = pixels()
    shift = Shift(ShiftSpec(kind=kind, severity=severity, seed=5))
    found = shift(torch.from_numpy(x).float(), torch.tensor(NUMBERS))
    np.testing.assert_allclose(found, globals()[kind](x, severity), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_whatever_it_is_in_a_batch_with(kind: str) -> None:
    x, shift = torch.from_numpy(pixels()).float(), Shift(ShiftSpec(kind=kind, severity=4))
    whole = shift(x, torch.tensor(NUMBERS))
    for place, number in enumerate(NUMBERS):
        assert torch.equal(shift(x[place : place + 1], torch.tensor([number])), whole[place : place + 1])


def test_noise_is_standard_normal_and_another_seed_or_number_draws_other() -> None:
    blank = torch.full((2000, 1, 5, 5), 0.5)
    drawn = [
        Shift(ShiftSpec(kind="noise", severity=1, seed=seed))(blank, torch.arange(first, first + 2000))
        for seed, first in ((0, 0), (1, 0), (0, 5000))
    ]
    for one in drawn:
        errors = ((one - 0.5) / 0.04).double()
        assert abs(errors.mean()) < 5 / 50_000**0.5
        assert abs(errors.var() - 1) < 5 * (2 / 50_000) ** 0.5
        assert abs((errors[:-1] * errors[1:]).mean()) < 5 / 50_000**0.5
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def load(**data: Any) -> Any:
    network = {"kind": "mlp"} if data.get("as", "image") == "image" else {"kind": "gru"}
    return load_data(load_spec({"data": {"kind": "digits", **data}, "network": network}).data)


def test_only_the_test_part_is_shifted_unless_all_is_said() -> None:
    plain, shifted = load(validation={"count": 200}), {"kind": "contrast", "severity": 5}
    data = load(validation={"count": 200}, shift=shifted)
    for part in ("train", "validation"):
        assert torch.equal(data.parts[part].inputs, plain.parts[part].inputs)
    np.testing.assert_allclose(data.test.inputs, contrast(plain.test.inputs.numpy(), 5), atol=1e-6)
    every = load(validation={"count": 200}, shift={**shifted, "parts": "all"})
    np.testing.assert_allclose(every.train.inputs, contrast(plain.train.inputs.numpy(), 5), atol=1e-6)


def test_images_are_resized_then_shifted_then_read_as_sequences() -> None:
    plain = load()
    rows = load(resize=5, shift={"kind": "brightness", "severity": 2}, **{"as": "row"})
    assert rows.test.inputs.shape == (597, 5, 5)
    expected = np.minimum(averaged(plain.test.inputs.double().numpy(), 5, 5) + 0.2, 1)
    np.testing.assert_allclose(rows.test.inputs, expected[:, 0], atol=1e-6)


def test_images_of_the_package_are_standardized_where_that_is_said() -> None:
    plain = load(validation={"count": 200})
    seen = load(validation={"count": 200}, standardize=True, **{"as": "row"})
    train = plain.train.inputs.double().numpy()
    expected = (plain.test.inputs.numpy() - train.mean()) / train.std()
    np.testing.assert_allclose(seen.test.inputs, expected[:, 0], rtol=1e-4, atol=1e-5)


def test_mnist_at_8x8_has_signal_and_range_of_the_digits() -> None:
    spec = load_spec({"data": {"kind": "mnist5k", "resize": 8}}).data
    assert spec.shape().signal == load_spec({}).data.shape().signal
    small, whole = load_data(spec).test.inputs, load_data(load_spec({"data": {"kind": "mnist5k"}}).data).test.inputs
    np.testing.assert_allclose(small[:50], averaged(whole[:50].double().numpy(), 8, 8), atol=1e-6)
    assert 0.0 <= small.min() < 0.01 < 0.99 < small.max() < 1.000001


@pytest.mark.parametrize("kind", ["noise", "rotation", "blur"])
def test_images_in_files_are_shifted_by_their_number_as_those_in_memory_are(tmp_path: Path, kind: str) -> None:
    test = images(40, 1, channels=2)
    manifest = write_canonical(
        tmp_path, {"kind": "image", "shape": [2, 8, 8]}, "classification", 3, train=images(30, channels=2), test=test
    )
    asked = document(manifest, shift={"kind": kind, "severity": 2, "seed": 5}, standardize=False)
    data = load_data(load_spec(asked).data, tmp_path)
    stored = torch.from_numpy(test["inputs"]) / 255
    expected = Shift(ShiftSpec(kind=kind, severity=2, seed=5))(stored, torch.arange(40))
    index = torch.tensor([39, 2, 3, 17])
    assert torch.equal(data.test.gather(index).inputs, expected[index])


@pytest.mark.parametrize(
    ("data", "pointer"),
    [
        ({"kind": "digits", "resize": 9}, "/data/resize"),
        ({"kind": "digits", "shift": {"kind": "fog"}}, "/data/shift/kind"),
        ({"kind": "digits", "shift": {"kind": "blur", "severity": 6}}, "/data/shift/severity"),
        ({"kind": "wine", "shift": {"kind": "blur"}}, "/data/shift"),
    ],
)
def test_what_cannot_be_shifted_so_is_refused(data: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"data": data})
    assert [fault.pointer for fault in refused.value.faults] == [pointer]
