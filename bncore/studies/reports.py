"""Several verdicts in one report: the more questions, the likelier one is answered wrongly by chance (Holm 1979).

Invariant: the 5 % are for all questions of a report together. A verdict that does not survive that is inconclusive in
the report, and says so; `alone` keeps what it was by itself. Exact verdicts have no chance in them and are not
counted.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bncore.studies.claim import Batch, Claim, Design, Question
from bncore.studies.judging import judge
from bncore.studies.looks import ERROR, Looks
from bncore.studies.results import Results
from bncore.studies.verdict import Verdict


@dataclass(frozen=True)
class Report:
    """The verdicts on the questions of a study, or of several."""

    verdicts: tuple[Verdict, ...]


def answer(
    claim: Claim, design: Design, found: Results, taken: Mapping[str, tuple[int, ...]] | None = None
) -> Batch | Report:
    """What to run next, or the verdicts.

    Args:
        taken: of every question, the pairs that earlier looks had (`Verdict.estimated.looks` of the last one).

    Raises:
        LookRefused: an earlier look had more pairs.
        TuningIncomplete: an arm has nothing to be judged at.
    """
    asked = claim.next_step(design, found)
    if isinstance(asked, Batch):
        return asked
    return report(judged(asked, design.most, taken or {}))


def judged(asked: Sequence[Question], most: int, taken: Mapping[str, Sequence[int]]) -> list[Verdict]:
    """The verdicts by themselves, each a look after those that were taken, at so many pairs at most.

    Raises:
        LookRefused: an earlier look had more pairs.
    """
    return [judge(question, Looks(most, tuple(taken.get(question.name, ())))) for question in asked]


def report(verdicts: Sequence[Verdict]) -> Report:
    """With the p of every decision among those of all."""
    asked = [verdict.estimated.tests.decision for verdict in verdicts if verdict.estimated]
    adjusted = iter(holm(asked))
    return Report(tuple(_corrected(verdict, next(adjusted)) if verdict.estimated else verdict for verdict in verdicts))


def holm(p: Sequence[float]) -> list[float]:
    """p to be compared with the error of all together: the k-th smallest times (m - k + 1), made monotone."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def _corrected(verdict: Verdict, p: float) -> Verdict:
    assert verdict.estimated is not None
    tests = dataclasses.replace(verdict.estimated.tests, decision_holm=p)
    verdict = dataclasses.replace(verdict, estimated=dataclasses.replace(verdict.estimated, tests=tests))
    if verdict.outcome == "inconclusive" or p < ERROR:
        return verdict
    reason = f"By itself it would be decided; among all questions of this report it is not (p = {p:.2g} after Holm)."
    weaker = verdict.sentence.replace("This holds", "This stays open", 1).replace(
        "This does not hold", "This stays open", 1
    )
    return dataclasses.replace(
        verdict,
        outcome="inconclusive",
        label=None,
        reasons=(reason,),
        sentence=f"{weaker} {reason}",
        alone=verdict.outcome,
    )
