"""One step of a study: what it has found in, as JSON; what follows, as JSON.

It is run in a process of its own, since the last step judges and so imports SciPy, which takes longer than any other
step. Invariant: a pure function, as `answer` is.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bncore.studies.asking import Asked, asked_of
from bncore.studies.claim import Batch, Question
from bncore.studies.results import Results, ResultsUnfit, results
from bncore.studies.tuning import TuningIncomplete
from bncore.studies.verdict import Verdict, document


class DesignChanged(ValueError):
    """The study was begun by a version of BNLab that had another design of the claim."""


class Stuck(ValueError):
    """There is neither anything to run next nor anything to judge: results are missing, or fewer than were judged."""


def step(found: Mapping[str, Any]) -> dict[str, Any]:
    """What follows from what a study has found.

    Args:
        found: `rests`; or of an article `parts`; or `asked`, `extensions`, `changed`, `rows`, `done`, `taken`,
            `to_evaluate`.

    Returns:
        `rests`; or `evaluate`, the experiments whose checkpoints are to be; or `batch`, a stage with its places and
        seeds; or `verdicts`, with the looks that are `taken` with them, by question.

    Raises:
        DesignChanged
        Stuck
        ModuleNotFoundError: SciPy is not installed.
    """
    if found.get("rests"):
        return {"rests": True}
    if "parts" in found:
        return _article(found["parts"])
    if found["changed"]:
        raise DesignChanged("The design of this claim is another one by now; delete the study and submit it anew.")
    if found["to_evaluate"]:
        return {"evaluate": list(found["to_evaluate"])}
    asked = asked_of(found["asked"], found["extensions"])
    try:
        said = asked.claim.next_step(asked.design, _results(found))
    except (TuningIncomplete, ResultsUnfit) as error:
        raise Stuck(str(error)) from None
    if isinstance(said, Batch):
        places = [{"arm": place.arm, "setting": dict(place.setting)} for place in said.places]
        return {"batch": {"stage": said.stage, "places": places, "seeds": list(said.seeds)}}
    from bncore.studies.reports import report

    return _said(report(_judged(asked, said, found)).verdicts, {})


def _article(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All questions of all parts, judged alone and then corrected together; a part that has no verdict has none."""
    alone: list[Verdict] = []
    of: list[Mapping[str, Any]] = []
    for part in parts:
        verdicts = _alone(part)
        alone += verdicts
        of += [part] * len(verdicts)
    named = [f"{part['asked']['claim']}/{verdict.name}" for part, verdict in zip(of, alone, strict=True)]
    from bncore.studies.reports import report

    together = report([dataclasses.replace(each, name=name) for each, name in zip(alone, named, strict=True)])
    return _said(
        together.verdicts,
        {name: {"claim": part["asked"]["claim"], "study": part["study"]} for name, part in zip(named, of, strict=True)},
    )


def _alone(part: Mapping[str, Any]) -> list[Verdict]:
    """As its own study judged them, but for the correction."""
    if part["changed"] or not part["judged"]:
        return []
    asked = asked_of(part["asked"], part["extensions"])
    questions = asked.claim.next_step(asked.design, _results(part))
    if isinstance(questions, Batch):
        return []
    return _judged(asked, questions, part)


def _judged(asked: Asked, questions: Sequence[Question], found: Mapping[str, Any]) -> list[Verdict]:
    """Each by itself, as a look after those that were taken."""
    from bncore.studies.looks import LookRefused
    from bncore.studies.reports import judged

    try:
        return judged(questions, asked.design, found["taken"])
    except LookRefused as error:
        raise Stuck(str(error)) from None


def _said(verdicts: Sequence[Verdict], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    looks = {each.name: list(each.looks) for each in verdicts if each.looks}
    return {"verdicts": [{**document(each), **facts.get(each.name, {})} for each in verdicts], "taken": looks}


def _results(found: Mapping[str, Any]) -> Results:
    there = [{**row, "metrics": _numbers(row["metrics"])} for row in found["rows"] if row["missing"] is None]
    return results(there, found["done"])


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: they come as words."""
    return {name: None if value is None else float(value) for name, value in metrics.items()}
