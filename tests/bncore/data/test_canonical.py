"""Data sets that were brought in: completed, read, checked to the byte, and trained on."""

import copy
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bncore.data import DataSet, InvalidData, load_data
from bncore.spec import ManifestInvalid, SpecError, complete, load_spec, named_dataset, plan
from tests.canonical import images, sha256, vectors, write_canonical

IMAGE = {"kind": "image", "shape": [1, 8, 8]}
VECTOR = {"kind": "vector", "shape": [4]}


def document(manifest: dict[str, Any], **options: Any) -> dict[str, Any]:
    data = {"kind": "dataset", "id": "dat_01", **options}
    return complete({"data": data, "train": {"batch_size": 5, "steps": 4}}, manifest)


def load(folder: Path, manifest: dict[str, Any], **options: Any) -> DataSet:
    return load_data(load_spec(document(manifest, **options)).data, folder)


def everything(data: DataSet, part: str) -> Any:
    return data.parts[part].slice(0, 10**6)


def test_a_document_is_completed_with_all_that_decides_and_stays_what_it_says(tmp_path: Path) -> None:
    manifest = write_canonical(tmp_path, IMAGE, "classification", 3, train=images(30), test=images(12, 1))
    asked = {"data": {"kind": "dataset", "id": "dat_01", "standardize": False}, "train": {"batch_size": 7}}
    assert named_dataset(asked) == "dat_01"
    assert named_dataset({"data": {"kind": "digits"}}) is named_dataset({}) is named_dataset([]) is None
    completed = complete(asked, manifest)
    assert "sha256" not in asked["data"]
    assert completed["data"] == {
        **asked["data"],
        "sha256": sha256(manifest),
        "signal": {"kind": "image", "shape": [1, 8, 8], "lengths": False},
        "task": "classification",
        "outputs": 3,
        "examples": {"train": 30, "validation": None, "test": 12},
        "class_counts": [10, 10, 10],
    }
    spec = load_spec(completed)
    # What is stored is complete, and stays what it is when it is sent again.
    assert load_spec(complete(spec.model_dump(mode="json"), manifest)) == spec
    planned = plan(spec)
    assert (planned.input_shape, planned.classes) == ((1, 8, 8), 3)
    assert (planned.train_examples, planned.validation_examples, planned.test_examples) == (30, 0, 12)


@pytest.mark.parametrize(
    ("options", "pointer", "code"),
    [
        ({"sha256": "0" * 64}, "/data/sha256", "another_dataset"),
        ({"examples": {"train": 31}}, "/data/examples", "another_dataset"),
        ({"test": {"count": 3}}, "/data/test", "part_exists"),
        ({"validation": {"count": 30}}, "/data/validation/count", "nothing_left"),
        ({"validation": {"count": 26}}, "/train/batch_size", "batch_larger_than_data"),
        ({"as": "row"}, "/data/as", "not_one_channel"),
        ({"standardise": True}, "/data/standardise", "unknown_field"),
    ],
)
def test_what_the_data_cannot_be_is_refused(tmp_path: Path, options: Any, pointer: str, code: str) -> None:
    signal = {"kind": "image", "shape": [3, 8, 8]}
    parts = {"train": images(30, channels=3), "test": images(12, 1, channels=3)}
    manifest = write_canonical(tmp_path, signal, "classification", 3, **parts)
    with pytest.raises(SpecError) as refused:
        load_spec(document(manifest, **options))
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [(pointer, code)]


def test_an_uncompleted_one_is_refused_with_who_completes_it() -> None:
    with pytest.raises(SpecError) as refused:
        load_spec({"data": {"kind": "dataset", "id": "dat_01"}})
    (fault,) = refused.value.faults
    assert (fault.pointer, fault.code) == ("/data/id", "not_completed")
    assert "the service, which completes it" in fault.detail


@pytest.mark.parametrize("fault", ["shape", "dtype", "lengths", "version", "path"])
def test_a_manifest_that_is_none_is_told_from_a_wrong_spec(tmp_path: Path, fault: str) -> None:
    manifest = copy.deepcopy(write_canonical(tmp_path, IMAGE, "classification", 3, train=images(30)))
    train = manifest["parts"]["train"]
    match fault:
        case "shape":
            train["inputs"]["shape"][0] = 29
        case "dtype":
            train["targets"]["dtype"] = "int32"
        case "lengths":
            train["lengths"] = train["targets"]
        case "version":
            manifest["version"] = 2
        case "path":
            train["inputs"]["file"] = "../train.npy"
    with pytest.raises(ManifestInvalid, match=r"dataset\.json: /"):
        document(manifest)


def test_images_are_bytes_over_255_standardized_by_the_training_part(tmp_path: Path) -> None:
    train, test = images(30, channels=3), images(12, 1, channels=3)
    signal = {"kind": "image", "shape": [3, 8, 8]}
    manifest = write_canonical(tmp_path, signal, "classification", 3, train=train, test=test)
    seen, plain = load(tmp_path, manifest), load(tmp_path, manifest, standardize=False)
    pixels = train["inputs"].astype(np.float64) / 255
    mean, deviation = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    expected = (test["inputs"] / 255 - mean[:, None, None]) / deviation[:, None, None]
    np.testing.assert_allclose(everything(seen, "test").inputs, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(everything(plain, "test").inputs, torch.from_numpy(test["inputs"] / np.float32(255)))
    assert everything(plain, "test").targets.tolist() == test["targets"].tolist()
    assert plain.standardization is None


def test_features_are_standardized_by_what_is_left_for_training(tmp_path: Path) -> None:
    train = vectors(200)
    train["inputs"][:, 2] = 0.1
    manifest = write_canonical(tmp_path, VECTOR, "classification", 3, train=train)
    data = load(tmp_path, manifest, validation={"share": 0.25})
    plain = load(tmp_path, manifest, validation={"share": 0.25}, standardize=False)
    kept = everything(plain, "train").inputs.numpy().astype(np.float64)
    # A constant one is only centred.
    scale = np.where(np.arange(4) == 2, 1.0, kept.std(0))
    for part in ("train", "validation", "test"):
        raw = everything(plain, part).inputs.numpy()
        expected = (raw - kept.mean(0)) / scale
        np.testing.assert_allclose(everything(data, part).inputs, expected, rtol=1e-4, atol=1e-5)
    assert [data.parts[part].size for part in ("train", "validation", "test")] == [120, 40, 40]


def test_parts_that_are_drawn_have_their_share_of_each_class_and_nothing_twice(tmp_path: Path) -> None:
    train = vectors(203)
    manifest = write_canonical(tmp_path, VECTOR, "classification", 3, train=train)
    data = load(tmp_path, manifest, test={"count": 60, "seed": 4}, validation={"count": 30}, standardize=False)
    rows = {part: [tuple(row) for row in everything(data, part).inputs.tolist()] for part in data.parts}
    assert sorted(itertools.chain(*rows.values())) == sorted(tuple(row) for row in train["inputs"].tolist())
    expected = np.bincount(train["targets"]) * 60 / 203
    assert (abs(np.bincount(everything(data, "test").targets) - expected) < 1).all()
    label = {tuple(row): target for row, target in zip(train["inputs"].tolist(), train["targets"], strict=True)}
    assert [label[row] for row in rows["test"]] == everything(data, "test").targets.tolist()
    other = load(tmp_path, manifest, test={"count": 60, "seed": 5}, validation={"count": 30}, standardize=False)
    assert not torch.equal(everything(data, "test").inputs, everything(other, "test").inputs)


def test_sequences_keep_zeros_behind_their_end_and_statistics_leave_them_out(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 6, 40).astype(np.int32)
    is_valid = np.arange(5) < lengths[:, None]
    inputs = np.where(is_valid[..., None], random.normal(5, 3, (40, 5, 2)), 0).astype(np.float32)
    targets = np.where(is_valid, random.integers(0, 4, (40, 5)), -1)
    arrays = {"inputs": inputs, "targets": targets, "lengths": lengths}
    signal = {"kind": "sequence", "shape": [5, 2], "lengths": True}
    manifest = write_canonical(tmp_path, signal, "tagging", 4, train=arrays, test=arrays)
    spec = load_spec({**document(manifest), "network": {"kind": "lstm", "output": "each_step"}})
    seen = everything(load_data(spec.data, tmp_path), "test")
    steps = inputs[is_valid].astype(np.float64)
    expected = np.where(is_valid[..., None], (inputs - steps.mean(0)) / steps.std(0), 0)
    np.testing.assert_allclose(seen.inputs, expected, rtol=1e-5, atol=1e-6)
    assert seen.lengths.dtype == torch.int64
    assert seen.lengths.tolist() == lengths.tolist()
    assert torch.equal(seen.targets, torch.from_numpy(targets))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("missing", "is not here"),
        ("manifest", "is not that of the data set"),
        ("byte", "its SHA-256 is another one"),
        ("short", "its size is another one"),
        ("gone", "cannot be read"),
        ("spec", "another examples than"),
        ("format", r"of the \.npy format 2\.0"),
        ("order", "not in C order"),
        ("class", "train part: a class is outside 0 to 2"),
        ("nan", "test part: an input is not finite"),
    ],
)
def test_what_is_not_the_data_set_is_said(tmp_path: Path, damage: str, said: str) -> None:
    manifest = _with_wrong_numbers(tmp_path, damage)
    folder = tmp_path / sha256(manifest)
    asked = document(manifest)
    file = folder / "train-inputs.npy"
    match damage:
        case "missing":
            (folder / "dataset.json").unlink()
        case "manifest":
            (folder / "dataset.json").write_text((folder / "dataset.json").read_text() + " ")
        case "byte":
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        case "short":
            file.write_bytes(file.read_bytes()[:-1])
        case "gone":
            file.unlink()
        case "spec":
            asked["data"]["examples"]["test"] = 13
    with pytest.raises(InvalidData, match=said):
        load_data(load_spec(asked).data, tmp_path)


def _with_wrong_numbers(tmp_path: Path, damage: str) -> dict[str, Any]:
    """A data set whose files are those that its manifest names, whatever is in them."""
    train, test = vectors(30), vectors(12, 1)
    if damage == "nan":
        test["inputs"][7, 1] = np.nan
    if damage == "class":
        train["targets"][29] = 3
    manifest = write_canonical(tmp_path, VECTOR, "classification", 3 + (damage == "class"), train=train, test=test)
    if damage in ("format", "order", "class"):
        folder, manifest = tmp_path / sha256(manifest), copy.deepcopy(manifest)
        _rewrite(folder, manifest, damage)
    return manifest


def _rewrite(folder: Path, manifest: dict[str, Any], damage: str) -> None:
    """Another file, or number of classes, and a manifest that names it."""
    record = manifest["parts"]["train"]["inputs"]
    array = np.load(folder / record["file"])
    with (folder / record["file"]).open("wb") as file:
        np.lib.format.write_array(
            file, np.asfortranarray(array) if damage == "order" else array, (2, 0) if damage == "format" else (1, 0)
        )
    content = (folder / record["file"]).read_bytes()
    record |= {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    if damage == "class":
        manifest["outputs"] = 3
        for part in manifest["parts"].values():
            part["class_counts"] = None
    (folder / "dataset.json").write_text(json.dumps(manifest, sort_keys=True, separators=(",", ":")) + "\n")
    folder.rename(folder.parent / sha256(manifest))
