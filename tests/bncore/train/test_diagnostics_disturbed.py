"""What comes in the middle of a diagnostic: the end of the process, a wish to stop, the end of the disk."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bncore.events import FileSaved
from bncore.recording import from_bytes
from bncore.run_directory import EXIT_DISK_FULL
from bncore.train import run_attempt
from tests.bncore.train.diagnosed import all_of, failures, recordings, spec_of
from tests.bncore.train.small_disk import room, small

SLOW = ("cnn", "lstm", "resnet", "transformer")
KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from bncore.diagnostics import _probe
from bncore.recording import Recording
from bncore.train import diagnosing, run_attempt, run_directory

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def in_the_second_pass(kind, step):
    run, begun, passes = _probe.Probe.run, diagnosing.Diagnosing._measure, []
    def measured(self, asked, progress, *, at_end):
        passes[:] = [] if (asked.kind, progress.step) == (kind, step) else [None] * 9
        begun(self, asked, progress, at_end=at_end)
    def second(self):
        passes.append(run(self))
        return passes[-1] if len(passes) != 2 else kill()
    diagnosing.Diagnosing._measure, _probe.Probe.run = measured, second

def with_half_of_the_file(kind, step):
    def half(path, content):
        whole = not path.name.startswith(f"{kind}-{step:09d}")
        path.write_bytes(content if whole else content[: len(content) // 2])
        whole or kill()
    diagnosing._put = half

def before_the_file_is_announced(kind, step):
    log = run_directory.RunDirectory.log
    def logged(self, event):
        if getattr(event, "name", "").startswith(f"{kind}-{step:09d}"):
            kill()
        log(self, event)
    run_directory.RunDirectory.log = logged

for asked in sys.argv[1:]:
    path, how, kind, step, before, saved = asked.split(":")
    if saved:
        for name in ("weights", "state"):
            end = ".safetensors" if name == "weights" else ".state.safetensors"
            (Path(path) / "restore").mkdir(exist_ok=True)
            shutil.copy(f"{before}/checkpoints/last-{int(saved):09d}{end}", f"{path}/restore/{name}.safetensors")
    child = os.fork()
    if child == 0:
        globals()[how](kind, int(step))
        run_attempt(Path(path))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, asked
"""
MOMENTS = (
    ("before_the_file_is_announced", "gradient_norms", 3, None),
    ("in_the_second_pass", "covariate_shift", 6, None),
    ("with_half_of_the_file", "norm_health", 8, 3),
)
"""How, in which diagnostic after which step, and of which step is the checkpoint that this attempt goes on with."""


@pytest.mark.parametrize("name", ["mlp", *(pytest.param(name, marks=pytest.mark.system) for name in SLOW)])
def test_killed_in_the_middle_of_a_diagnostic_it_ends_as_if_it_had_not_been(
    runs: Any, tmp_path: Path, name: str
) -> None:
    spec = spec_of(name, all_of(name))
    whole = runs.train(spec)
    program = tmp_path / "killed.py"
    program.write_text(KILLED)
    # The first starts anew; each other goes on with the checkpoint that the one before it left.
    left = [runs.prepare(spec) for _ in MOMENTS]
    asked = [
        f"{run.path}:{how}:{kind}:{step}:{before.path}:{saved or ''}"
        for run, before, (how, kind, step, saved) in zip(left, left[:1] + left[:-1], MOMENTS, strict=True)
    ]
    subprocess.run([sys.executable, "-P", program, *asked], check=True)
    for killed, (_, kind, step, _) in zip(left, MOMENTS, strict=True):
        assert f"{kind}-{step:09d}.safetensors" not in recordings(killed)
    resumed = runs.train(spec, after=left[-1], step=6)
    runs.assert_continued(whole, resumed, 6)
    assert recordings(*left, resumed) == recordings(whole)
    joined: dict[str, dict[int, float]] = {}
    for run, until in zip((*left[1:], resumed), (3, 6, 8), strict=True):
        for key, points in run.series(until).items():
            joined.setdefault(key, {}).update(points)
    assert str(joined) == str(whole.series())


def test_told_to_stop_in_the_middle_of_a_diagnostic_it_saves_behind_it_and_goes_on(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cancel, pause and a deadline come to in a trainer. All of the step are measured, and none twice."""
    from bncore import diagnostics

    spec = spec_of("mlp", [{**one, "every_steps": 4} for one in all_of("mlp")])
    whole = runs.train(spec)
    asked: list[int] = []
    measured = diagnostics.activation_moments

    def interrupted(*args: Any, **how: Any) -> Any:
        asked.extend([how["step"]] * (how["step"] == 4))
        return measured(*args, **how)

    monkeypatch.setattr(diagnostics, "activation_moments", interrupted)
    stopped = runs.prepare(spec)
    end = run_attempt(stopped.path, lambda: bool(asked))
    assert (end.kind, end.step) == ("stopped", 4)
    resumed = runs.train(spec, after=stopped, step=4)
    runs.assert_continued(whole, resumed, 4, before=stopped)
    assert not recordings(stopped).keys() & recordings(resumed).keys()
    assert recordings(stopped, resumed) == recordings(whole)


def test_a_disk_that_is_full_in_the_middle_of_a_diagnostic_is_no_failure_of_it(runs: Any, tmp_path: Path) -> None:
    """The run is handed back, to go on where there is room: nothing of the file stays, no measurement is missing."""
    large = {"kind": "gradient_heatmap", "at": [6], "examples": 1200}
    spec = spec_of("mlp", [large, *(one for one in all_of("mlp") if one["kind"] != "gradient_heatmap")])
    whole = runs.train(spec)
    # What is written until then and half of that file have room, and no more: the rest of step 6 is far smaller.
    before = [
        *(whole.path / event.file.file for event in whole.events if isinstance(event, FileSaved) and event.step < 6),
        *(whole.path / file for file in checkpoint_files_before(whole, 6)),
        whole.path / "events.jsonl",
    ]
    size = sum(map(room, before)) + room(whole.path / "files" / "gradient_heatmap-000000006.safetensors") // 2
    assert small(tmp_path, spec, str(size)).returncode == EXIT_DISK_FULL
    failed = type(whole)(tmp_path / "left")
    end = failed.events[-1]
    assert (end.kind, end.code) == ("failed", "disk_full")
    assert "No space left" in end.message
    assert failures(failed) == []
    assert not list(failed.path.rglob("*.tmp"))
    assert {name for name in recordings(failed) if from_bytes(recordings(failed)[name]).step == 6} == {
        "norm_health-000000006.safetensors",
        "activation_moments-000000006.safetensors",
    }
    resumed = runs.train(spec, after=failed, step=3)
    runs.assert_continued(whole, resumed, 3, before=failed)
    assert recordings(failed, resumed) == recordings(whole)
    assert {from_bytes(content).step for content in recordings(resumed).values()} == {6, 8}


def checkpoint_files_before(run: Any, step: int) -> list[str]:
    saved = [event for kind in ("best", "last") for event in run.checkpoints(kind) if event.step < step]
    return [one.file for event in saved for one in (event.weights, event.state) if one is not None]
