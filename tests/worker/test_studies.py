"""Studies through real workers: whatever is killed meanwhile, the verdict is that of an undisturbed one."""

from typing import Any

import pytest

from bncore.spec.study import load_study
from bncore.studies.asking import checked
from store import studies
from store.jobs.states import TERMINAL, State
from store.jobs.wishes import By
from store.queueing import Limits, Submitter
from store.studies import StudySubmission

SPEC: dict[str, Any] = {
    "network": {"kind": "mlp", "hidden": [16]},
    "train": {"steps": 40, "batch_size": 60},
    "evaluation": {"every_steps": 10},
}
ASKED: dict[str, Any] = {
    "compare": {"baseline": {**SPEC, "network": {**SPEC["network"], "norm": {"kind": "none"}}}, "bn": SPEC},
    "delta": 0.01,
    "seeds": 6,
}


def submit(stack: Any) -> str:
    spec, asked = checked(load_study(ASKED), lambda document: document)
    with stack.database.write() as session:
        made = StudySubmission(spec, asked, studies.request_fingerprint(spec))
        return str(studies.submit(session, made, Submitter("own_tests", "cpu"), Limits()).id)


def ended(stack: Any, study_id: str) -> int:
    """How many of its experiments have."""
    with stack.database.read() as session:
        return studies.standing(session, study_id).experiments.counts.get(State.SUCCEEDED, 0)


def judged(stack: Any, study_id: str) -> Any:
    def get() -> Any:
        with stack.database.read() as session:
            return studies.get(session, study_id)

    stack.until(f"{study_id} is judged", lambda: get().state in TERMINAL, 400)
    row = get()
    assert row.state == "succeeded", (row.failure_code, row.failure_message)
    with stack.database.read() as session:
        return studies.verdict(session, study_id)


def numbers_of(verdict: Any) -> Any:
    """All that was judged, and what from; neither who ran it nor how long it took."""
    rows = [{key: run[key] for key in ("arm", "setting", "seed", "stage", "metrics")} for run in verdict.runs]
    return verdict.verdicts, verdict.taken, rows


@pytest.mark.system
@pytest.mark.timeout(900)
def test_a_study_killed_at_half_time_of_each_stage_ends_as_an_undisturbed_one(small_stack: Any) -> None:
    small_stack.start("api")
    undisturbed = submit(small_stack)
    first = judged(small_stack, undisturbed)
    extend(small_stack, undisturbed)
    study_id = submit(small_stack)
    kill_all(small_stack, study_id, at=6)
    assert numbers_of(judged(small_stack, study_id)) == numbers_of(first)
    extend(small_stack, study_id)
    kill_all(small_stack, study_id, at=13)
    second = judged(small_stack, study_id)
    assert numbers_of(second) == numbers_of(judged(small_stack, undisturbed))
    assert (second.number, second.taken["bn"], len(second.runs)) == (2, [6, 7], 14)
    small_stack.terminate("api")


def extend(stack: Any, study_id: str) -> None:
    with stack.database.write() as session:
        studies.extend(session, studies.get(session, study_id), 1, By("own_tests"), Limits())


def kill_all(stack: Any, study_id: str, at: int) -> None:
    """Once so many of its experiments have ended; what was killed is started again."""
    stack.until(f"{at} experiments have ended", lambda: ended(stack, study_id) >= at, 400)
    for name in ("worker", "relay", "api"):
        stack.kill(name)
    stack.start("api")
    stack.start_warm("relay", "worker")
