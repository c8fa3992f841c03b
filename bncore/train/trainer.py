"""The training loop: one step, and what is due after it.

Whatever happens at a step, the order is: training metrics, evaluation, best weights, last checkpoint. Everything that
decides the result is a function of the spec and the step or is part of the training state, so that a run resumed from
any `last` checkpoint ends with the bits it would have had.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from bncore.data import Batches, DataSet
from bncore.events import CheckpointSaved, Finished, FirstStep, Note, Started, Stopped, StopReason, TargetReached
from bncore.networks import build_network
from bncore.norm import first_derivatives_only
from bncore.norm.adaptive_clipping import adaptive_clip_grad_
from bncore.spec import ExperimentSpec, data_shape, plan
from bncore.train.checkpoint import HostState, read_state, read_weights, write_state, write_weights
from bncore.train.environment import Environment
from bncore.train.evaluate import evaluate
from bncore.train.optim import LearningRate, build_optimizer
from bncore.train.progress import DRAIN_STEPS, Measured, Progress
from bncore.train.recorder import Recorder
from bncore.train.run_directory import RunDirectory


class Trainer:
    """Trains one spec, from the start or from a restored checkpoint."""

    def __init__(self, directory: RunDirectory, spec: ExperimentSpec, environment: Environment, data: DataSet) -> None:
        self._directory = directory
        self._spec = spec
        self._environment = environment
        self._plan = plan(spec)
        device = torch.device(environment.device)
        self._data = data.to(device)
        seed = spec.train.seed
        self._network = build_network(spec.network, data_shape(spec.data).signal, self._plan.outputs, seed, device)
        self._parameters = list(self._network.parameters())
        # As in arXiv 2102.06171, adaptive clipping leaves the last, linear layer alone.
        self._hidden = [value for name, value in self._network.named_parameters() if not name.startswith("output.")]
        self._optimizer = build_optimizer(spec.optimizer, self._parameters)
        self._rate = LearningRate(self._optimizer, spec.optimizer, spec.schedule, self._plan.total_steps)
        train = spec.train
        self._batches = Batches(self._data.train, train.batch_size, seed, train.drop_last)
        self._autocast: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if train.precision == "bf16":
            self._autocast = torch.autocast(device.type, torch.bfloat16)
        self._progress = Progress()
        self._start = 0
        self._saved_step: int | None = None

    def restore(self) -> None:
        """Go on from the checkpoint in the run directory, if there is one."""
        found = self._directory.restorable()
        if found is None:
            return
        weights, state = found
        read_weights(weights, self._network)
        host = read_state(state, self._network, self._optimizer)
        self._progress = host.progress
        self._start = self._saved_step = host.progress.step
        changes = self._environment.changes_since(host.environment)
        if changes:
            message = f"resumed in another environment: {', '.join(changes)}"
            self._directory.log(Note(code="not_bit_exact", message=message))

    def run(self, stop_asked: Callable[[], bool]) -> Finished | Stopped:
        """Train until there is a reason to end or somebody asks to stop; the last event of the attempt."""
        self._recorder = Recorder(self._directory, self._progress)
        self._recorder.log(
            Started(
                step=self._start,
                total_steps=self._plan.total_steps,
                **self._environment.model_dump(include={"device", "device_model", "torch_version", "threads"}),
            )
        )
        self._network.train()
        self._counted_until = time.perf_counter()
        with first_derivatives_only():
            while (reason := self._reason_to_end()) is None:
                if stop_asked():
                    return self._stop()
                self._take_step()
        return self._finish(reason)

    def _reason_to_end(self) -> StopReason | None:
        return self._progress.reason_to_end(self._plan.total_steps, self._spec.train.target)

    def _take_step(self) -> None:
        train = self._spec.train
        step = self._progress.step + 1
        inputs, labels, _ = self._batches.batch(step)
        lr = self._rate.set(step)
        # What `zero_grad` does, without the 10 us that it takes for its profiling.
        for parameter in self._parameters:
            parameter.grad = None
        with self._autocast:
            logits = self._network(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self._spec.loss.label_smoothing)
        loss.backward()
        if train.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, train.clip_grad_norm)
        if train.adaptive_clipping is not None:
            adaptive_clip_grad_(self._hidden, train.adaptive_clipping)
        self._optimizer.step()
        self._progress.step = step
        self._recorder.add(loss, logits, labels, lr)
        self._do_what_is_due(step)

    def _do_what_is_due(self, step: int) -> None:
        if step == self._start + 1:
            if self._environment.device == "cuda":
                torch.cuda.synchronize()
            self._recorder.log(FirstStep(step=step))
        evaluates = step % self._spec.evaluation.every_steps == 0
        saves = step % self._spec.checkpoint.every_steps == 0
        if evaluates or saves:
            self._write_metrics()
            if evaluates:
                self._evaluate()
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
            batch_size = self._spec.evaluation.batch_size
            loss, accuracy = evaluate(self._network, self._data.test, batch_size)
            measured = Measured(step=step, loss=loss, accuracy=accuracy)
            self._recorder.write_evaluation(measured)
        news = self._progress.note_evaluation(measured, self._spec.train.target)
        if "target" in news:
            self._recorder.log(TargetReached(step=step, test_accuracy=accuracy))
        if "best" in news and self._spec.checkpoint.keep_best:
            self._save("best")

    def _save(self, kind: Literal["best", "last"]) -> None:
        step, network, optimizer = self._progress.step, self._network, self._optimizer
        name = f"{kind}-{step:09d}"
        state = None
        with self._recorder.phase("saving"):
            weights = self._directory.store(
                f"{name}.safetensors", lambda path: write_weights(path, network, self._spec, step)
            )
            if kind == "last":
                host = HostState(progress=self._progress, environment=self._environment)
                state = self._directory.store(
                    f"{name}.state.safetensors", lambda path: write_state(path, network, optimizer, host)
                )
                self._saved_step = step
        measured = self._progress.evaluation
        metrics = {}
        if measured is not None and measured.step == step:
            metrics = {"test/loss": measured.loss, "test/accuracy": measured.accuracy}
        epoch = step // self._plan.steps_per_epoch
        self._recorder.log(
            CheckpointSaved(checkpoint_kind=kind, step=step, epoch=epoch, weights=weights, state=state, metrics=metrics)
        )

    def _stop(self) -> Stopped:
        step = self._progress.step
        self._write_metrics()
        if step > self._start and self._saved_step != step:
            self._save("last")
        return Stopped(step=step)

    def _finish(self, reason: StopReason) -> Finished:
        step = self._progress.step
        self._write_metrics()
        measured = self._progress.evaluation
        if measured is None or measured.step != step:
            self._evaluate()
            # The final evaluation is one like any other: it may be the first at the target.
            reason = self._reason_to_end() or reason
        if self._saved_step != step:
            self._save("last")
        return Finished(stop_reason=reason, step=step, summary=self._progress.summary())
