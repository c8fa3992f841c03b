"""The training loop: one step, and what is due after it.

Whatever happens at a step, the order is: training metrics, evaluation, best weights, diagnostics, last checkpoint: what
a run that is set back to a checkpoint does not do again is stored before it. Everything that
decides the result is a function of the spec and the step or is part of the training state, so that a run resumed from
any `last` checkpoint ends with the bits it would have had.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from bncore.data import DataSet
from bncore.events import (
    CheckpointSaved,
    Finished,
    FirstStep,
    Note,
    Rested,
    Started,
    Stopped,
    StopReason,
    StoredFile,
    TargetReached,
)
from bncore.norm import first_derivatives_only
from bncore.spec import ExperimentSpec, plan
from bncore.train.checkpoint import HostState
from bncore.train.diagnosing import Diagnosing
from bncore.train.environment import Environment
from bncore.train.goal import goals_of
from bncore.train.learner import Learner
from bncore.train.progress import DRAIN_STEPS, TEST_ACCURACY, Measured, Progress
from bncore.train.recorder import Recorder
from bncore.train.run_directory import RunDirectory
from bncore.train.solo import Solo


class Trainer:
    """Trains one spec, from the start or from a restored checkpoint."""

    def __init__(self, directory: RunDirectory, spec: ExperimentSpec, environment: Environment, data: DataSet) -> None:
        self._directory = directory
        self._spec = spec
        self._environment = environment
        self._plan = plan(spec)
        self._learner: Learner = Solo(spec, self._plan, torch.device(environment.device), data)
        part = "test" if data.validation is None else "validation"
        self._goals = goals_of(self._learner.task, spec.train.target, part)
        self._progress = Progress()
        self._start = 0
        self._saved_step: int | None = None
        self._rest_step = directory.rest_step()
        self._newest: tuple[int, StoredFile] | None = None
        """The step and file of the weights that were written last."""

    def begin_from(self, weights: Path) -> None:
        """Begin with the weights of another run's checkpoint, instead of new ones."""
        self._learner.begin_from(weights)

    def restore(self) -> None:
        """Go on from the checkpoint in the run directory, if there is one."""
        found = self._directory.restorable()
        if found is None:
            return
        host = self._learner.restore(*found)
        self._progress = host.progress
        self._start = self._saved_step = host.progress.step
        changes = self._environment.changes_since(host.environment)
        if changes:
            message = f"resumed in another environment: {', '.join(changes)}"
            self._directory.log(Note(code="not_bit_exact", message=message))

    def run(self, stop_asked: Callable[[], bool]) -> Finished | Stopped | Rested:
        """Train until there is a reason to end, the step at which to rest, or somebody asks to stop; the last event of
        the attempt."""
        self._recorder = Recorder(self._directory, self._learner.task, self._progress)
        self._recorder.log(
            Started(
                step=self._start,
                total_steps=self._plan.total_steps,
                **self._environment.model_dump(include={"device", "device_model", "torch_version", "threads"}),
            )
        )
        self._diagnosing = Diagnosing(self._spec, self._plan, self._learner, self._recorder, self._directory)
        if self._start == 0:
            self._diagnosing.run(self._progress, at_end=False)
        self._counted_until = time.perf_counter()
        with first_derivatives_only():
            while (reason := self._reason_to_end()) is None:
                if self._progress.step == self._rest_step:
                    return Rested(step=self._leave())
                if stop_asked():
                    return Stopped(step=self._leave())
                self._take_step()
        return self._finish(reason)

    def _reason_to_end(self) -> StopReason | None:
        return self._progress.reason_to_end(self._plan.total_steps, self._goals)

    def _take_step(self) -> None:
        step = self._progress.step + 1
        stepped = self._learner.take_step(step)
        self._progress.step = step
        self._recorder.add(stepped)
        self._do_what_is_due(step)

    def _do_what_is_due(self, step: int) -> None:
        if step == self._start + 1:
            self._learner.wait()
            self._recorder.log(FirstStep(step=step))
        evaluates = step % self._spec.evaluation.every_steps == 0
        saves = step % self._spec.checkpoint.every_steps == 0
        if evaluates or saves or self._diagnosing.is_due(step):
            self._write_metrics()
            if evaluates:
                self._evaluate()
            self._diagnosing.run(self._progress, at_end=self._reason_to_end() is not None)
            if saves:
                self._save("last")
            self._counted_until = time.perf_counter()
        elif self._recorder.is_due():
            self._write_metrics()
        elif step % DRAIN_STEPS == 0:
            self._recorder.drain()

    def _write_metrics(self) -> None:
        """Also brings the training seconds up to date; evaluating and saving are not counted."""
        self._recorder.drain()
        now = time.perf_counter()
        self._progress.seconds += now - self._counted_until
        self._counted_until = now
        self._recorder.write()

    def _evaluate(self) -> None:
        step = self._progress.step
        with self._recorder.phase("evaluating"):
            values = self._learner.evaluate()
            self._recorder.write_point(step, values)
        news = self._progress.note_evaluation(Measured(step=step, values=values), self._goals)
        target = self._goals.target
        if "target" in news and target is not None:
            accuracy = values[target.metric] if target.metric == TEST_ACCURACY else None
            value = values[target.metric]
            self._recorder.log(TargetReached(step=step, test_accuracy=accuracy, metric=target.metric, value=value))
        if "best" in news and self._spec.checkpoint.keep_best:
            self._save("best")

    def _save(self, kind: Literal["best", "last"]) -> None:
        step, learner = self._progress.step, self._learner
        name = f"{kind}-{step:09d}"
        state = None
        with self._recorder.phase("saving"):
            weights = self._weights(f"{name}.safetensors")
            if kind == "last":
                host = HostState(progress=self._progress, environment=self._environment)
                state = self._directory.store(f"{name}.state.safetensors", lambda path: learner.write_state(path, host))
                self._saved_step = step
        measured = self._progress.evaluation
        metrics = measured.values if measured is not None and measured.step == step else {}
        epoch = step // self._plan.steps_per_epoch
        self._recorder.log(
            CheckpointSaved(checkpoint_kind=kind, step=step, epoch=epoch, weights=weights, state=state, metrics=metrics)
        )

    def _weights(self, name: str) -> StoredFile:
        """The file of the weights as they are; those of a step that is the best and the last are written once."""
        step, learner = self._progress.step, self._learner
        again = None
        if self._newest is not None and self._newest[0] == step:
            again = self._directory.store_again(name, self._newest[1])
        stored = again or self._directory.store(name, lambda path: learner.write_weights(path, step))
        self._newest = (step, stored)
        return stored

    def _leave(self) -> int:
        """Save what there is, to go on from; the step."""
        step = self._progress.step
        self._write_metrics()
        if step > self._start and self._saved_step != step:
            self._save("last")
        return step

    def _finish(self, reason: StopReason) -> Finished:
        step = self._progress.step
        self._write_metrics()
        measured = self._progress.evaluation
        if measured is None or measured.step != step:
            self._evaluate()
            # The final evaluation is one like any other: it may be the first at the target.
            reason = self._reason_to_end() or reason
        if not self._progress.diagnosed_at_end:
            self._diagnosing.run(self._progress, at_end=True)
        if self._saved_step != step:
            self._save("last")
        return Finished(stop_reason=reason, step=step, summary=self._progress.summary())
