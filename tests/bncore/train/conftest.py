"""Run directories to train in, and what their events add up to."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bncore.events import CheckpointSaved, Event, MetricsBlock, decode
from bncore.train import run_attempt


@dataclass(frozen=True)
class Run:
    """One attempt's directory, read by what a supervisor would read."""

    path: Path

    @property
    def events(self) -> list[Event]:
        return [decode(line) for line in (self.path / "events.jsonl").read_bytes().splitlines()]

    def whole_events(self) -> list[Event]:
        """The events whose line is finished, of a run that may be going on."""
        file = self.path / "events.jsonl"
        text = file.read_bytes() if file.exists() else b""
        return [decode(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def checkpoints(self, kind: str) -> list[CheckpointSaved]:
        return [event for event in self.events if event.kind == "checkpoint" and event.checkpoint_kind == kind]

    def series(self, last_step: int | None = None) -> dict[str, dict[int, float]]:
        """Every series that must be reproducible, step by step; a step that comes twice is an error."""
        series: dict[str, dict[int, float]] = {}
        for event in self.whole_events():
            if isinstance(event, MetricsBlock):
                for key, values in event.values.items():
                    assert len(values) == event.count
                    for step, value in enumerate(values, start=event.first_step):
                        if key.startswith(("system/", "diagnostics/seconds")) or (
                            last_step is not None and step > last_step
                        ):
                            continue
                        assert step not in series.setdefault(key, {}), f"{key} has step {step} twice"
                        series[key][step] = value
        return series

    def tensors(self, checkpoint: CheckpointSaved) -> dict[str, torch.Tensor]:
        """Weights, buffers, optimizer and random states."""
        tensors = load_file(self.path / checkpoint.weights.file)
        if checkpoint.state is not None:
            tensors |= load_file(self.path / checkpoint.state.file)
        return tensors


class Runs:
    """Makes run directories under one folder, and trains in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def prepare(self, spec: dict[str, object], after: Run | None = None, step: int | None = None) -> Run:
        """A directory with the spec, and with the `last` checkpoint of `step` of another run to go on from."""
        self._count += 1
        path = self._folder / f"run-{self._count}"
        path.mkdir()
        (path / "spec.json").write_text(json.dumps(spec))
        if after is not None:
            (path / "restore").mkdir()
            name = f"{after.path}/checkpoints/last-{step:09d}"
            shutil.copy(f"{name}.safetensors", path / "restore" / "weights.safetensors")
            shutil.copy(f"{name}.state.safetensors", path / "restore" / "state.safetensors")
        return Run(path)

    def train(self, spec: dict[str, object], after: Run | None = None, step: int | None = None) -> Run:
        """A run trained to its end in this process."""
        return self.attempt(self.prepare(spec, after, step))

    @staticmethod
    def attempt(run: Run) -> Run:
        """The same for a directory that was prepared."""
        run_attempt(run.path)
        return run

    @staticmethod
    def assert_continued(whole: Run, resumed: Run, step: int, before: Run | None = None) -> None:
        """`resumed` from `step` ended with the bits of `whole`, and its series join those before without a seam."""
        first, second = whole.checkpoints("last")[-1], resumed.checkpoints("last")[-1]
        assert first.weights.sha256 == second.weights.sha256
        expected, actual = whole.tensors(first), resumed.tensors(second)
        assert expected.keys() == actual.keys()
        assert all(torch.equal(expected[key].cpu(), actual[key].cpu()) for key in expected)
        joined = (before or whole).series(last_step=step)
        for key, points in resumed.series().items():
            assert not joined.setdefault(key, {}).keys() & points.keys()
            joined[key] |= points
        assert str(joined) == str(whole.series())
        kept, again = whole.events[-1].summary, resumed.events[-1].summary
        assert kept.model_dump(exclude={"seconds"}) == again.model_dump(exclude={"seconds"})


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture(autouse=True)
def process_as_it_was() -> Iterator[None]:
    """A trainer sets up its process for itself; here the process is shared."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
