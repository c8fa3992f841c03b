"""Weights of a step that is the best and the last lie in one file of two names, each of which may go first."""

import json
from pathlib import Path

from bncore.events import CheckpointSaved, decode
from bncore.run_directory import RunLayout
from bncore.spec import load_spec
from bncore.train import run_attempt

SPEC = {
    "network": {"kind": "mlp", "hidden": [8]},
    "train": {"steps": 4},
    "evaluation": {"every_steps": 2},
    "checkpoint": {"every_steps": 2},
    "resources": {"device": "cpu", "threads": 1},
}


def saved(path: Path, **said: object) -> list[CheckpointSaved]:
    """What a run leaves."""
    path.mkdir()
    (path / "spec.json").write_text(load_spec({**SPEC, **said}).canonical_json())
    run_attempt(path)
    events = [decode(line) for line in RunLayout(path).events.read_bytes().splitlines()]
    return [event for event in events if isinstance(event, CheckpointSaved)]


def test_weights_of_the_best_and_last_step_are_written_once(tmp_path: Path) -> None:
    found = saved(tmp_path / "a")
    alone = {
        each.step: each.weights for each in saved(tmp_path / "b", checkpoint={"every_steps": 2, "keep_best": False})
    }
    bests = {each.step: each.weights for each in found if each.checkpoint_kind == "best"}
    assert bests
    for each in found:
        if each.checkpoint_kind == "last":
            weights = tmp_path / "a" / each.weights.file
            both = each.step in bests
            assert weights.stat().st_nlink == 1 + both
            if both:
                assert weights.samefile(tmp_path / "a" / bests[each.step].file)
                assert bests[each.step].sha256 == each.weights.sha256
            # What the same step has where nothing else was written before it; but for the spec, which is in it.
            mine, other = weights.read_bytes(), (tmp_path / "b" / alone[each.step].file).read_bytes()
            assert tensors(mine) == tensors(other)


def tensors(content: bytes) -> bytes:
    """Of a safetensors file, what is behind its head."""
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])
    return content[8 + size :]
