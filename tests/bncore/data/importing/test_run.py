"""An import as a job of a run directory: its events, its files, and what is left however it ends."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from bncore.data import load_data
from bncore.data.importing import import_file
from bncore.events import Event, decode
from bncore.job import run_job
from bncore.spec.data import DataSpec
from bncore.spec.data.dataset import complete
from bncore.spec.importing import ImportSpec
from tests.bncore.data.importing.made import as_npz, as_zip, picture_files


def run_directory(path: Path, content: bytes, options: dict | None = None) -> Path:
    (path / "source").mkdir(parents=True)
    (path / "source" / "upload.bin").write_bytes(content)
    (path / "import.json").write_text(json.dumps(options or {}))
    return path


def events(path: Path) -> list[Event]:
    return [decode(line) for line in (path / "events.jsonl").read_bytes().splitlines()]


def test_a_job_announces_each_file_and_ends_with_the_report(tmp_path: Path) -> None:
    path = run_directory(tmp_path / "run", as_zip(picture_files()))
    outcome = run_job(path)
    *first, last = events(path)
    assert last == outcome
    report = import_file(path / "source" / "upload.bin", ImportSpec(), tmp_path / "again")
    assert outcome.kind == "concluded"
    assert outcome.result == report.model_dump(mode="json")
    assert [event.phase for event in first if event.kind == "phase"] == ["reading", "checking", "writing"]
    saved = [event for event in first if event.kind == "file"]
    assert [(event.name, event.file_kind) for event in saved] == [
        ("contact.png", "contact_sheet"),
        ("report.json", "report"),
        ("test-inputs.npy", "array"),
        ("test-targets.npy", "array"),
        ("train-inputs.npy", "array"),
        ("train-targets.npy", "array"),
        ("dataset.json", "dataset"),
    ]
    for event in saved:
        assert (path / event.file.file).read_bytes() == (tmp_path / "again" / event.name).read_bytes()
    assert sorted(left.name for left in path.iterdir()) == ["events.jsonl", "files", "import.json", "lock", "source"]


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"", {}, "upload.bin is empty"),
        (as_npz(x=np.full((4, 2), np.nan), y=np.arange(4) % 2), {}, "say impute"),
        (as_npz(x=np.full((4, 2), np.nan), y=np.arange(4) % 2), {"impute": "mean"}, "no value in the training part"),
        (b"a,b\n", {"colour": "red"}, "import.json: /colour: Unknown field"),
    ],
)
def test_a_refusal_is_invalid_data_and_leaves_no_file(tmp_path: Path, content, options, words) -> None:
    path = run_directory(tmp_path / "run", content, options)
    outcome = run_job(path)
    assert (outcome.kind, outcome.code) == ("failed", "invalid_data")
    assert words in outcome.message
    assert events(path)[-1] == outcome
    assert sorted(left.name for left in path.iterdir()) == ["events.jsonl", "import.json", "lock", "source"]


def test_asked_to_stop_it_leaves_nothing_and_can_begin_again(tmp_path: Path) -> None:
    path = run_directory(tmp_path / "run", as_zip(picture_files()))
    calls = itertools.count()
    assert run_job(path, lambda: next(calls) >= 30).kind == "stopped"
    assert [event.kind for event in events(path)] == ["phase", "stopped"]
    assert sorted(left.name for left in path.iterdir()) == ["events.jsonl", "import.json", "lock", "source"]
    (path / "events.jsonl").unlink()
    assert run_job(path).kind == "concluded"


def test_what_an_import_left_is_what_training_reads(tmp_path: Path) -> None:
    steps, lengths = np.random.default_rng(0).normal(size=(40, 5, 2)), np.arange(40) % 5 + 1
    path = run_directory(tmp_path / "run", as_npz(x=steps, y=np.arange(40) % 4 // 2, lengths=lengths))
    outcome = run_job(path)
    assert outcome.kind == "concluded"
    manifest = json.loads((path / "files" / "dataset.json").read_bytes())
    asked = {"kind": "dataset", "id": "dat_1", "standardize": False, "test": {"count": 10}}
    data = complete({"data": asked}, manifest)["data"]
    assert data["sha256"] == outcome.result["sha256"]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / data["sha256"]).symlink_to(path / "files")
    loaded = load_data(TypeAdapter(DataSpec).validate_python(data), tmp_path / "data")
    assert (loaded.train.size, loaded.test.size) == (30, 10)
    for batch in loaded.train.as_stored():
        found = {row.numpy().tobytes() for row in batch.inputs}
        inside = np.arange(5) < lengths[:, np.newaxis]
        assert found < {row.tobytes() for row in np.where(inside[..., np.newaxis], steps, 0).astype(np.float32)}
