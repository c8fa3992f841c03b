"""What diagnostics do after a step: which are due, in which order, and what of each becomes a file, a point, a word.

Invariant: what is due is a function of the spec, the step and whether training ends there; each leaves one file and one
point of each of its scalars. One that fails costs its own measurement, said in a note, and not the run.
"""

import logging
import re
import time
from collections.abc import Sequence
from pathlib import Path

# Recordings are written by it: imported with all else by whoever forks trainers, and not by each of them.
import safetensors.numpy  # noqa: F401

from bncore.data import InvalidData
from bncore.events import NormsChecked, Note
from bncore.recording import FILE_KIND
from bncore.spec import ExperimentSpec, Plan, data_shape, members
from bncore.spec.diagnostics import DiagnosticSpec, NormHealthSpec
from bncore.spec.plan import laid_network
from bncore.train.learner import Found, Learner
from bncore.train.progress import Progress
from bncore.train.recorder import Recorder
from bncore.train.run_directory import RunDirectory

SECONDS = "diagnostics/seconds"
"""The series of what diagnostics took so far, over all attempts."""
MOST_WARNINGS = 20
_ORDER = members(DiagnosticSpec)
# One by itself: what stands in a name says which layer it is.
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.]\d+)?(?![\d:])")

_logger = logging.getLogger(__name__)


class Diagnosing:
    """The diagnostics of one run, in the order of the union whatever the order of the spec."""

    def __init__(
        self, spec: ExperimentSpec, planned: Plan, learner: Learner, recorder: Recorder, directory: RunDirectory
    ) -> None:
        laid = laid_network(spec.network, data_shape(spec.data).signal, planned.outputs)
        asked = [one for one in spec.diagnostics if laid.norms or not isinstance(one, NormHealthSpec)]
        self._asked = sorted(asked, key=lambda one: _ORDER.index(type(one)))
        self._total_steps = total = planned.total_steps
        # Asked at each step, of which some take half a millisecond.
        self._moments = frozenset(step for one in asked for step in one.at or ())
        self._intervals = frozenset(one.interval(total) for one in asked if one.at is None)
        self._learner = learner
        self._recorder = recorder
        self._directory = directory

    def is_due(self, step: int) -> bool:
        """Whether any may be after that many steps, the end of training apart."""
        return step in self._moments or any(step % interval == 0 for interval in self._intervals)

    def run(self, progress: Progress, *, at_end: bool) -> None:
        """Measure what is due after the steps that are done, and `at_end` what belongs to the end of training."""
        step = progress.step
        progress.diagnosed_at_end = at_end
        due = [one for one in self._asked if one.is_due(step, self._total_steps) or (at_end and one.is_due_at_end)]
        if not due:
            return
        began = time.perf_counter()
        with self._recorder.phase("diagnosing", " ".join(one.kind for one in due)):
            for one in due:
                self._measure(one, progress, at_end=at_end)
        progress.diagnostic_seconds += time.perf_counter() - began
        self._recorder.write_point(step, {SECONDS: progress.diagnostic_seconds})

    def _measure(self, asked: DiagnosticSpec, progress: Progress, *, at_end: bool) -> None:
        step, last = progress.step, progress.evaluation
        evaluated = last.values if last is not None and last.step == step else {}
        try:
            found = self._learner.diagnose(asked, step, evaluated, at_end=at_end)
        except (OSError, InvalidData):
            raise
        except Exception as error:
            _logger.exception("%s failed", asked.kind)
            first = (str(error).strip().splitlines() or [""])[0][:300]
            message = f"{asked.kind} was not measured at step {step}: {type(error).__name__}: {first}"
            self._recorder.log(Note(code="diagnostic_failed", message=message))
            return
        recording = found.recording
        content = recording.to_bytes()
        self._directory.save(recording.file_name, FILE_KIND, lambda path: _put(path, content), step)
        points = {f"diagnostics/{asked.kind}/{name}": value for name, value in recording.scalars.items()}
        if points:
            self._recorder.write_point(step, points)
        if isinstance(asked, NormHealthSpec):
            self._warn(found, progress, at_end=at_end)

    def _warn(self, found: Found, progress: Progress, *, at_end: bool) -> None:
        """In words, where they are not those that were said last; before the end, numbers apart: these change each time
        they are measured, and a log of many measurements would be full of them.
        """
        said = found.warnings[:MOST_WARNINGS]
        if len(found.warnings) > MOST_WARNINGS:
            said = (*said, f"And {len(found.warnings) - MOST_WARNINGS} more.")
        last = progress.norm_warnings
        if said != last and (at_end or _wordings(said) != _wordings(last)):
            progress.norm_warnings = said
            self._recorder.log(NormsChecked(step=progress.step, warnings=said))


def _wordings(warnings: Sequence[str]) -> list[str]:
    return [_NUMBER.sub("#", one) for one in warnings]


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)
