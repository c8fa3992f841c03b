"""Whether what a run leaves outlasts a power cut is for whoever reads its directory afterwards to say."""

import os
from pathlib import Path

import pytest

from bncore.run_directory import RunLayout
from bncore.spec import load_spec
from bncore.train import run_attempt

SPEC = {
    "network": {"kind": "mlp", "hidden": [8], "norm": {"kind": "batch_norm"}},
    "train": {"steps": 4},
    "evaluation": {"every_steps": 2},
    "checkpoint": {"every_steps": 2},
    "resources": {"device": "cpu", "threads": 1},
}


def left(
    path: Path, synced: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, *, durable: bool
) -> dict[str, bytes]:
    """The files of a run, and in `synced` which of them and which folders it waited for."""
    path.mkdir()
    (path / "spec.json").write_text(load_spec(SPEC).canonical_json())
    really = os.fsync

    def sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced.append((found.st_dev, found.st_ino))
        really(descriptor)

    with monkeypatch.context() as changed:
        changed.setattr(os, "fsync", sync)
        run_attempt(path, durable=durable)
    layout = RunLayout(path)
    return {
        str(file.relative_to(path)): file.read_bytes()
        for folder in (layout.checkpoints, layout.files)
        for file in folder.iterdir()
    }


def test_by_itself_a_run_waits_for_the_disk_and_under_a_supervisor_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[tuple[int, int]] = []
    none: list[tuple[int, int]] = []
    one = left(tmp_path / "one", waits, monkeypatch, durable=True)
    other = left(tmp_path / "other", none, monkeypatch, durable=False)
    assert none == []
    for name in one:
        for there in (tmp_path / "one" / name, (tmp_path / "one" / name).parent):
            assert (there.stat().st_dev, there.stat().st_ino) in waits, name
    # States hold seconds, which differ.
    alike = {name for name in one if ".state." not in name}
    assert one.keys() == other.keys()
    assert {name: one[name] for name in alike} == {name: other[name] for name in alike}
