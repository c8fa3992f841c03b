"""Augmentations: what they may do to an example, read off the examples, and that they depend on seed and step alone."""

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from bncore.data import Batches, Examples
from bncore.data.augmentation import augmented
from bncore.spec import SpecError, load_spec
from bncore.spec.data.augment import AugmentSpec
from bncore.train.task import Classification, Regression, descended

ADAPTER: TypeAdapter[Any] = TypeAdapter(AugmentSpec)
EVERY = [
    {"kind": "pad_crop", "padding": 2},
    {"kind": "flip"},
    {"kind": "rotate", "degrees": 30},
    {"kind": "cutout", "size": 3},
    {"kind": "mixup", "alpha": 0.5},
    {"kind": "noise", "std": 0.3},
]


def images(count: int = 200) -> Examples:
    """Different in every pixel, and none of them 0."""
    inputs = torch.from_numpy(np.random.default_rng(0).random((count, 2, 5, 6))).float() + 0.5
    return Examples(inputs, torch.arange(count) % 7)


def change(batch: Examples, *, seed: int = 3, step: int = 11, **one: Any) -> Examples:
    return augmented(batch, [ADAPTER.validate_python(one)], seed, step)


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one["kind"])
def test_it_is_drawn_anew_for_each_step_seed_and_place_and_never_otherwise(one: dict[str, Any]) -> None:
    batch, parsed = images(), ADAPTER.validate_python(one)
    before = batch.inputs.clone()
    first = augmented(batch, [parsed], 3, 11).inputs
    torch.rand(7)
    assert torch.equal(augmented(batch, [parsed], 3, 11).inputs, first)
    assert not torch.equal(augmented(batch, [parsed], 3, 12).inputs, first)
    assert not torch.equal(augmented(batch, [parsed], 4, 11).inputs, first)
    assert torch.equal(batch.inputs, before)
    if one["kind"] != "mixup":
        twice = augmented(batch, [parsed, parsed], 3, 11).inputs
        assert not torch.equal(augmented(batch._replace(inputs=first), [parsed], 3, 11).inputs, twice)


def test_a_crop_is_one_of_the_windows_of_the_padded_image_and_every_window_comes() -> None:
    batch = images(400)
    found = change(batch, kind="pad_crop", padding=1).inputs.numpy()
    padded = np.pad(batch.inputs.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = list(itertools.product(range(3), range(3)))
    chosen = [
        [place for place, (r, c) in enumerate(windows) if np.array_equal(padded[n, :, r : r + 5, c : c + 6], found[n])]
        for n in range(400)
    ]
    assert all(len(places) == 1 for places in chosen)
    assert {place for (place,) in chosen} == set(range(9))


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", 3), ("vertical", 2)])
def test_a_flip_mirrors_the_share_that_it_says(direction: str, axis: int) -> None:
    batch = images(1000)
    found = change(batch, kind="flip", direction=direction, probability=0.3).inputs.numpy()
    before = batch.inputs.numpy()
    mirrored = (found == np.flip(before, axis)).all((1, 2, 3))
    assert ((found == before).all((1, 2, 3)) == ~mirrored).all()
    assert abs(mirrored.mean() - 0.3) < 5 * (0.21 / 1000) ** 0.5


def test_a_rotation_keeps_a_centred_disc_and_turns_what_is_beside_it_within_its_angle() -> None:
    rows = np.arange(33) - 16.0
    blob = np.exp(-((rows[:, None] - 0) ** 2 + (rows[None] - 10) ** 2) / 8)
    batch = Examples(torch.from_numpy(np.tile(blob, (300, 1, 1, 1))).float(), torch.zeros(300, dtype=torch.int64))
    found = change(batch, kind="rotate", degrees=40).inputs.double().numpy()[:, 0]
    total = found.sum((1, 2))
    angles = np.degrees(
        np.arctan2(-(found * rows[:, None]).sum((1, 2)) / total, (found * rows[None]).sum((1, 2)) / total)
    )
    # Where the middle of its mass lies: as far out as before, and at angles spread over all that is allowed.
    assert np.abs(angles).max() < 40.5
    assert angles.min() < -35
    assert angles.max() > 35
    assert abs(np.mean(angles)) < 5 * 40 / (3 * 300) ** 0.5


def test_a_square_is_cut_out_around_every_pixel_and_nothing_else() -> None:
    batch = images(400)
    found = change(batch, kind="cutout", size=3).inputs.numpy()
    before, centres = batch.inputs.numpy(), set()
    for n in range(400):
        rows, columns = np.nonzero(found[n, 0] == 0)
        expected = before[n].copy()
        expected[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 0
        assert np.array_equal(found[n], expected)
        centres.add((rows.min(), rows.max(), columns.min(), columns.max()))
    # 5 rows and 6 columns: that many places, of which the outermost are cut off.
    assert len(centres) == 30


def test_a_mixture_is_of_two_examples_and_so_is_its_loss() -> None:
    batch = images()
    shares = []
    for step in range(30):
        found = change(batch, kind="mixup", alpha=1.0, step=step)
        share = found.mixed.share
        shares.append(share)
        if step < 27:
            continue
        other = (found.inputs - share * batch.inputs) / (1 - share)
        pairs = torch.cdist(other.flatten(1).double(), batch.inputs.flatten(1).double()).argmin(1)
        assert sorted(pairs.tolist()) == list(range(200))
        assert torch.equal(found.mixed.targets, batch.targets[pairs])
        assert torch.equal(found.targets, batch.targets)
    # Beta(1, 1) is uniform, and its larger part uniform from a half to 1.
    assert 0.5 <= min(shares) < 0.65 < 0.85 < max(shares) <= 1
    logits = torch.randn(200, 7)
    probabilities = logits.double().log_softmax(1)
    expected = -(share * probabilities[torch.arange(200), found.targets]).mean()
    expected -= ((1 - share) * probabilities[torch.arange(200), found.mixed.targets]).mean()
    torch.testing.assert_close(descended(Classification(), logits, found).double(), expected)


def test_micro_batches_of_a_mixture_keep_their_partners() -> None:
    batch = images()._replace(targets=torch.randn(200, 3))
    found = change(batch, kind="mixup", alpha=1.0)
    outputs = torch.randn(200, 3)
    parts = [found.slice(first, first + 50) for first in range(0, 200, 50)]
    losses = [descended(Regression(), outputs[50 * n : 50 * n + 50], part) for n, part in enumerate(parts)]
    torch.testing.assert_close(torch.stack(losses).mean(), descended(Regression(), outputs, found))


def test_noise_is_normal_and_leaves_the_padding_of_sequences() -> None:
    lengths = torch.arange(300) % 9 + 1
    batch = Examples(torch.zeros(300, 9, 4), torch.zeros(300, dtype=torch.int64), lengths)
    found = change(batch, kind="noise", std=0.5).inputs
    is_valid = torch.arange(9) < lengths[:, None]
    assert not found[~is_valid].any()
    drawn = found[is_valid].double()
    assert abs(drawn.mean()) < 5 * 0.5 / drawn.numel() ** 0.5
    assert abs(drawn.var() / 0.25 - 1) < 5 * (2 / drawn.numel()) ** 0.5


def test_batches_are_augmented_and_the_examples_are_not() -> None:
    examples = images(20)
    before = examples.inputs.clone()
    one = ADAPTER.validate_python({"kind": "noise", "std": 1.0})
    plain, changed = Batches(examples, 6, 0), Batches(examples, 6, 0, augment=[one])
    for step in (9, 1):
        assert torch.equal(changed.batch(step).targets, plain.batch(step).targets)
        assert torch.equal(changed.batch(step).inputs, augmented(plain.batch(step), [one], 0, step).inputs)
    assert torch.equal(examples.inputs, before)


@pytest.mark.parametrize(
    ("data", "augment", "pointer", "code"),
    [
        ({"kind": "wine"}, [{"kind": "flip"}], "/data/augment/0/kind", "augmentation_does_not_fit"),
        ({}, [{"kind": "noise"}, {"kind": "pad_crop", "padding": 9}], "/data/augment/1/padding", "larger_than_image"),
        ({}, [{"kind": "cutout", "size": 9}], "/data/augment/0/size", "larger_than_image"),
        ({}, [{"kind": "mixup"}, {"kind": "mixup"}], "/data/augment/1/kind", "repeated_mixup"),
        ({}, [{"kind": "mirror"}], "/data/augment/0/kind", "unknown_kind"),
        ({}, [{"kind": "flip", "probability": 0.0}], "/data/augment/0/probability", "greater_than"),
        ({}, ["flip"], "/data/augment/0", "not_an_object"),
        ({"as": "row"}, [{"kind": "rotate"}], "/data/augment/0/kind", "augmentation_does_not_fit"),
        ({"kind": "variable_length"}, [{"kind": "mixup"}], "/data/augment/0/kind", "augmentation_does_not_fit"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_where_it_is_said(
    data: dict[str, Any], augment: list[Any], pointer: str, code: str
) -> None:
    sequences = data.get("as") == "row" or data.get("kind") == "variable_length"
    network = {"kind": "gru"} if sequences else {"kind": "mlp"}
    with pytest.raises(SpecError) as refused:
        load_spec({"data": {**data, "augment": augment}, "network": network})
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


def test_a_list_of_all_of_them_is_stored_as_it_is_meant() -> None:
    spec = load_spec({"data": {"augment": EVERY}})
    assert load_spec(json.loads(spec.canonical_json())) == spec
