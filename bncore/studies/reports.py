"""Several verdicts in one report: the more questions, the likelier one is answered wrongly by chance.

Outcomes are corrected by Holm's procedure (1979). What is said beyond an outcome, that the effect is the other way
round or that there is none that matters, Holm's procedure does not pay for: it rests on intervals that hold for all
questions of the report at once (Bonferroni), or is not said.

Invariant: the 5 % are for all questions of a report together. A verdict that does not survive that is inconclusive in
the report, and says so; `alone` keeps what it was by itself. Exact verdicts have no chance in them and are not
counted.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bncore.studies import sentences
from bncore.studies.claim import Batch, Claim, Design, Question
from bncore.studies.intervals import t_interval
from bncore.studies.judging import judge
from bncore.studies.looks import ERROR, Looks, level
from bncore.studies.margin import decided, label
from bncore.studies.results import Results
from bncore.studies.verdict import Fractions, Verdict


@dataclass(frozen=True)
class Report:
    """The verdicts on the questions of a study, or of several."""

    verdicts: tuple[Verdict, ...]


def answer(
    claim: Claim, design: Design, found: Results, taken: Mapping[str, tuple[int, ...]] | None = None
) -> Batch | Report:
    """What to run next, or the verdicts.

    Args:
        taken: of every question, the pairs that earlier looks had (`Verdict.looks` of the last one).

    Raises:
        LookRefused: an earlier look had more pairs.
        TuningIncomplete: an arm has nothing to be judged at.
    """
    asked = claim.next_step(design, found)
    if isinstance(asked, Batch):
        return asked
    return report(judged(asked, design, taken or {}))


def judged(asked: Sequence[Question], design: Design, taken: Mapping[str, Sequence[int]]) -> list[Verdict]:
    """The verdicts by themselves, each a look after those that were taken.

    Raises:
        LookRefused: an earlier look had more pairs.
    """
    return [judge(question, Looks(design.most, _taken(question, design, taken))) for question in asked]


def report(verdicts: Sequence[Verdict]) -> Report:
    """With the p of every decision among those of all."""
    asked = [verdict.decision for verdict in verdicts if verdict.decision is not None]
    adjusted = iter(holm(asked))
    return Report(
        tuple(
            verdict if verdict.decision is None else _corrected(verdict, next(adjusted), len(asked))
            for verdict in verdicts
        )
    )


def holm(p: Sequence[float]) -> list[float]:
    """p to be compared with the error of all together: the k-th smallest times (m - k + 1), made monotone."""
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = largest
    return adjusted


def _taken(question: Question, design: Design, taken: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Shares were judged before their looks were kept: then there was one with the seeds before each extension."""
    if question.name not in taken and isinstance(question, Fractions):
        return tuple(itertools.accumulate((design.seeds, *design.extensions)))[:-1]
    return tuple(taken.get(question.name, ()))


def _corrected(verdict: Verdict, p: float, questions: int) -> Verdict:
    """As one of so many questions."""
    verdict = verdict.among(p)
    if verdict.outcome == "inconclusive":
        return verdict
    if p < ERROR:
        return _relabelled(verdict, questions)
    reason = f"By itself it would be decided; among all questions of this report it is not (p = {p:.2g} after Holm)."
    weaker = verdict.sentence.replace("This holds", "This stays open", 1)
    weaker = weaker.replace("This does not hold", "This stays open", 1)
    if said := sentences.meaning(verdict.label, verdict.outcome):
        weaker = weaker.replace(f" {said}", "", 1)
    return dataclasses.replace(
        verdict,
        outcome="inconclusive",
        label=None,
        reasons=(reason,),
        sentence=f"{weaker} {reason}",
        alone=verdict.outcome,
    )


def _relabelled(verdict: Verdict, questions: int) -> Verdict:
    """With the label that it has by the interval that holds for so many questions at once."""
    margin, estimated, effects = verdict.margin, verdict.estimated, verdict.effects
    lost = sentences.meaning(verdict.label, verdict.outcome)
    if not lost or margin is None or estimated is None or effects is None or margin.kind != "superiority":
        # A loss beyond what was allowed is the other way round, whatever it is called.
        return verdict
    together = t_interval(effects.values, level(Looks(estimated.most, estimated.looks), ERROR / questions))
    found = label(margin, decided(margin, together), together, effects.bounds)
    if found == verdict.label:
        return verdict
    alone = f"Taken by itself, {lost[0].lower()}{lost[1:-1]}; among all questions of this report that is not sure."
    said = sentences.meaning(found, verdict.outcome) or alone
    return dataclasses.replace(verdict, label=found, sentence=verdict.sentence.replace(lost, said, 1))
