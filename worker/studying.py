"""From what a step of a study says to what is stored of it.

Invariant: specs are completed and judged here, before the transaction that stores them; the numbers that were judged
are stored with the verdict.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from bncore.spec import SpecError
from bncore.spec.evaluation import load_evaluation
from bncore.studies.asking import asked_of, specs_of
from bncore.studies.claim import Batch, evaluations, experiments
from bncore.studies.results import Place, setting
from store import evaluations as stored
from store.errors import DatasetUnusable, QuotaExceeded
from store.experiments import Submission
from store.jobs.failures import QUOTA
from store.queueing import Limits
from store.studies.working import Judged, Member, NextStage, Rest, Step, ToEvaluate
from store.work import Failed, Outcome, Stepped
from worker.device import versions

_MESSAGE_CHARS = 500


def outcome_of(study_id: str, found: Mapping[str, Any], said: Mapping[str, Any], limits: Limits) -> Outcome:
    """What the step of a study comes to, given what it had found and what its process made of that.

    Want of room says nothing of a setting: nothing is chosen without those that failed for it.
    """
    lacking = [row for row in found.get("rows", ()) if row["missing"] == QUOTA]
    if "batch" in said and lacking:
        chosen = f"what comes next would be chosen without {len(lacking)} of its experiments"
        return Failed(QUOTA, f"There was no room for checkpoints, and {chosen}. Delete what is not needed, and retry.")
    try:
        return Stepped(_step(study_id, found, said, limits))
    except SpecError as error:
        return Failed("invalid_data", f"An experiment of the study cannot be trained: {error}"[:_MESSAGE_CHARS])


def refused(error: QuotaExceeded | DatasetUnusable, outcome: Outcome) -> Failed:
    """What a step comes to that could not be stored: a full queue empties, unless the stage is larger than it."""
    if isinstance(error, DatasetUnusable):
        return Failed("invalid_data", str(error))
    step = outcome.step if isinstance(outcome, Stepped) else None
    count = len(step.submissions) if isinstance(step, NextStage) else 1
    if error.passes and count <= error.limit:
        return Failed("queue_full", str(error))
    return Failed(QUOTA, f"{error} The next stage has {count} experiments.")


def _step(study_id: str, found: Mapping[str, Any], said: Mapping[str, Any], limits: Limits) -> Step:
    if "verdicts" in said:
        return Judged(said["verdicts"], said["taken"], _runs(found), _facts(found))
    if "batch" in said:
        return _next_stage(study_id, found, said["batch"], limits)
    if "evaluate" in said:
        return _to_evaluate(found, said["evaluate"], limits)
    return Rest()


def _next_stage(study_id: str, found: Mapping[str, Any], batch: Mapping[str, Any], limits: Limits) -> NextStage:
    """Seed by seed, so that what is compared trains side by side."""
    asked = asked_of(found["asked"], found["extensions"])
    places = tuple(Place(each["arm"], setting(each["setting"])) for each in batch["places"])
    seeds = tuple(batch["seeds"])
    tags = {**found["asked"]["tags"], "study": study_id, "stage": batch["stage"]}
    first = experiments(asked.design, Batch(batch["stage"], places, seeds[:1]))
    named = {"name": found["asked"]["name"]} if found["asked"]["name"] else {}
    of_first = {
        one.place: Submission.of(spec.model_copy(update={"tags": {**tags, "arm": one.place.arm}, **named}))
        for one, spec in zip(first, specs_of(first), strict=True)
    }
    order = [(seed, place) for seed, place in itertools.product(seeds, places)]
    members = [Member(place.arm, dict(place.setting), seed) for seed, place in order]
    return NextStage(batch["stage"], members, [of_first[place].with_seed(seed) for seed, place in order], limits)


def _to_evaluate(found: Mapping[str, Any], experiment_ids: Sequence[str], limits: Limits) -> ToEvaluate:
    """Those that its arm has, of each of these."""
    design = asked_of(found["asked"], found["extensions"]).design
    arms = {row["experiment"]: row["arm"] for row in found["rows"]}
    wanted = {
        (one, name): stored.Submission.of(one, load_evaluation({**asked, "checkpoint": "last"}))
        for one in experiment_ids
        for name, asked in evaluations(design, arms[one]).items()
    }
    return ToEvaluate(experiment_ids, wanted, limits)


def _runs(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of an article none: its parts have them."""
    return list(found.get("rows", ()))


def _facts(found: Mapping[str, Any]) -> dict[str, Any]:
    rows = [row for part in (found.get("parts") or [found]) for row in part["rows"]]
    left_out = [part["study"] for part in found.get("parts", ()) if not part["judged"]]
    return {
        "seconds": sum(float(row["seconds"] or 0.0) for row in rows),
        "runs": len(rows),
        "missing": [row["experiment"] for row in rows if row["missing"] is not None],
        "devices": sorted({row["device"] for row in rows if row["device"]}),
        "versions": {**versions(), "torch": ", ".join(sorted({row["torch"] for row in rows if row["torch"]}))},
        "left_out": left_out,
    }
