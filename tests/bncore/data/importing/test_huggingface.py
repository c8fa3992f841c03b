"""Import by reference through the library of Hugging Face, offline, from what an operator put into a folder."""

from pathlib import Path

import datasets
import numpy as np
import pytest

from bncore.data.dataset import InvalidData
from bncore.data.importing import import_huggingface
from bncore.spec.importing import load_import
from tests.bncore.data.importing.made import Imported, as_image
from tests.bncore.data.importing.test_formats import PIXELS

LABELS = np.arange(len(PIXELS)) % 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits of images, in the form in which their library saves them, and as Parquet."""
    features = datasets.Features(
        {"img": datasets.Image(), "label": datasets.ClassLabel(names=["dog", "cat"]), "note": datasets.Value("string")}
    )
    columns = {"img": [{"bytes": as_image(pixels), "path": None} for pixels in PIXELS], "label": LABELS}
    columns["note"] = [f"note {number}" for number in LABELS]
    split = datasets.Dataset.from_dict(columns, features=features)
    splits = {"train": split, "test": split.select(range(4)), "unsupervised": split}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "hub" / "us" / "pets")
    (tmp_path / "hub" / "plain").mkdir()
    (tmp_path / "hub" / "nothing").mkdir()
    for name, rows in splits.items():
        rows.to_parquet(tmp_path / "hub" / "plain" / f"{name}.parquet")
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["us/pets", "plain"])
def test_splits_become_parts_and_classes_keep_their_names(tmp_path: Path, folder: Path, name: str) -> None:
    options = load_import({"huggingface": {"name": name, "columns": ["img", "label"]}})
    made = Imported(tmp_path / "out", import_huggingface(options, folder, tmp_path / "out"))
    assert (made.report.format, made.described["classes"]) == ("huggingface", ["cat", "dog"])
    np.testing.assert_array_equal(made.array("train", "inputs"), PIXELS[:, np.newaxis])
    assert made.names("train") == [["dog", "cat"][label] for label in LABELS]
    assert made.report.parts["test"].duplicates_of_train == 4
    assert any("unsupervised" in note for note in made.report.notes) == (name == "us/pets")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "us/pets", "columns": ["img", "labels"]}, "no column 'labels'; it has img, label, note"),
        ({"name": "us/pets"}, "images and numbers|numbers and"),
        ({"name": "nothing"}, "the data set nothing"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path: Path, folder: Path, options, words) -> None:
    with pytest.raises(InvalidData, match=words):
        import_huggingface(load_import({"huggingface": options}), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
